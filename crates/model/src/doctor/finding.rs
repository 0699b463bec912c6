//! What the doctor says.

use serde::Serialize;

use super::row::{Purpose, Row};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It was looked at, and is as it should be.
    Ok,
    /// Good to know; nothing is wrong.
    Info,
    /// Something is wrong, and what runs goes on.
    Repairable,
    /// Nobody should build on this: some commands refuse to.
    Refuse,
}

impl Level {
    /// The level in a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Repairable => "repairable",
            Self::Refuse => "refuse",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind of trouble; nothing where there is none.
    pub row: Option<Row>,
    /// How much it matters.
    pub level: Level,
    /// What it is about: `disk`, a unit, a file.
    pub subject: String,
    /// What was found, where, and why it matters. Its first line stands for itself.
    pub what: String,
    /// What to do next.
    pub fix: Option<String>,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn ok(subject: &str, what: impl Into<String>) -> Self {
        Self { row: None, level: Level::Ok, subject: subject.to_owned(), what: what.into(), fix: None }
    }

    /// Something that is good to know.
    #[must_use]
    pub fn info(subject: &str, what: impl Into<String>) -> Self {
        Self { level: Level::Info, ..Self::ok(subject, what) }
    }

    /// A row that was met, and what to do about it.
    #[must_use]
    pub fn of(row: Row, subject: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        let level = row.about().level;
        Self { row: Some(row), level, fix: Some(fix.into()), ..Self::ok(subject, what) }
    }

    /// The same with what to do next.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// Whether something is not done over it.
    #[must_use]
    pub fn refuses(&self, purpose: Purpose) -> bool {
        self.row.is_some_and(|row| row.about().refuses.contains(&purpose))
    }
}
