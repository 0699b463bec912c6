//! What is wrong with a value, before it is known where it stands.

use crate::manifest::Problem;

/// What is wrong with the text of a setting: why, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) why: String,
    pub(super) hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The problem that this is.
    pub(super) fn problem(self, code: &'static str, what: String) -> Problem {
        let problem = Problem::new(code, what).why(self.why);
        match self.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}
