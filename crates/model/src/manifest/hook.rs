//! Lifecycle hooks: what they run, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::env_value::EnvValue;
use super::format::{Malformed, text_format};
use super::paths::{goes_up, tidy};
use super::problem::Location;

/// A hook of an environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// Where it is declared.
    pub at: Location,
    /// What is run before it, one after the other: what an image or a feature brings with it, or what a service has
    /// more of.
    pub before: Vec<Before>,
    /// What it runs.
    pub run: Run,
    /// Files of the project that it depends on, as patterns.
    pub inputs: Vec<String>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Variables of its own, over those of the environment.
    pub env: BTreeMap<String, EnvValue>,
    /// Who runs it, if not the environment's user.
    pub user: Option<String>,
    /// Where it starts, if not in the workspace: an absolute path inside.
    pub folder: Option<String>,
    /// What a change of it, or of its inputs, leads to.
    pub when_changed: WhenChanged,
    /// Whether every `up` runs it, also one that has nothing else to do.
    pub always: bool,
}

impl Hook {
    /// The users that it names.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        let before = self.before.iter().map(|before| &before.user);
        before.chain([&self.user]).filter_map(Option::as_deref)
    }
}

/// What is run before a hook, as itself says.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    /// What is run.
    pub run: Run,
    /// Variables of its own, over those of the environment.
    pub env: BTreeMap<String, EnvValue>,
    /// Who runs it, if not the environment's user.
    pub user: Option<String>,
    /// Where it starts, if not in the workspace: an absolute path inside.
    pub folder: Option<String>,
}

impl From<Run> for Before {
    fn from(run: Run) -> Self {
        Self { run, env: BTreeMap::new(), user: None, folder: None }
    }
}

/// What a change of a hook leads to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum WhenChanged {
    /// It runs again.
    #[default]
    Run,
    /// The environment is made anew.
    Recreate,
    /// It is told, and nothing is done.
    Report,
}

/// What a hook runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// One command.
    One(Command),
    /// Several commands side by side, by name, which fail as a whole; never empty.
    Parallel(BTreeMap<String, Command>),
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Command {
    /// A script of the project.
    Script {
        /// Its path from the project's folder.
        path: String,
    },
    /// A command for the shell.
    Shell {
        /// The command.
        text: String,
    },
    /// A program with its arguments, without a shell.
    Argv {
        /// The program, and its arguments; never empty.
        argv: Vec<String>,
    },
}

impl Run {
    /// Its commands, with their names where they run side by side.
    pub fn commands(&self) -> impl Iterator<Item = (Option<&str>, &Command)> {
        let (one, parts) = match self {
            Self::One(command) => (Some((None, command)), None),
            Self::Parallel(parts) => {
                (None, Some(parts.iter().map(|(name, part)| (Some(name.as_str()), part))))
            }
        };
        one.into_iter().chain(parts.into_iter().flatten())
    }

    /// The scripts of the project that it runs.
    pub fn scripts(&self) -> impl Iterator<Item = &str> {
        self.commands().filter_map(|(_, command)| match command {
            Command::Script { path } => Some(path.as_str()),
            Command::Shell { .. } | Command::Argv { .. } => None,
        })
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Script { path } => f.write_str(path),
            Self::Shell { text } => f.write_str(text),
            Self::Argv { argv } => f.write_str(&argv.join(" ")),
        }
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, command)) in self.commands().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match name {
                Some(name) => write!(f, "{comma}{name}: {command}")?,
                None => write!(f, "{command}")?,
            }
        }
        Ok(())
    }
}

text_format!(
    /// A script of the project, if it is one word with a `/`, else a command for the shell.
    CommandText, "command", pattern: Some(r"^[\s\S]*\S[\s\S]*$"), example: ".setpoint/setup.sh",
    |text: &str| {
        if text.trim().is_empty() {
            return Err(Malformed::new("empty-command", "this command is empty")
                .hint("name a script or a command, or remove the key"));
        }
        if text.contains('\0') {
            return Err(Malformed::new("empty-command", "a command cannot hold a NUL character"));
        }
        if is_path(text) && (text.starts_with(['/', '~']) || goes_up(text)) {
            return Err(Malformed::new("script-outside", format!("the script `{text}` does not lie in the project"))
                .why("one word with a `/` is the path of a script, from the project's folder")
                .hint(if text.starts_with('/') {
                    format!("to run a program of the environment, write it as a list: `[\"{text}\"]`")
                } else {
                    "put the script into the project, such as `.setpoint/setup.sh`".to_owned()
                }));
        }
        Ok(text.to_owned())
    }
);

/// Whether a command is the path of a script: one word with a `/`.
fn is_path(text: &str) -> bool {
    text.contains('/') && !text.contains(char::is_whitespace)
}

impl From<CommandText> for Command {
    fn from(CommandText(text): CommandText) -> Self {
        if is_path(&text) { Self::Script { path: tidy(&text) } } else { Self::Shell { text } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::format::Format;

    #[test]
    fn one_word_with_a_slash_is_a_script() {
        let command = |text| Command::from(CommandText::parse(text).expect(text));
        let script = |path: &str| Command::Script { path: path.to_owned() };
        let shell = |text: &str| Command::Shell { text: text.to_owned() };
        assert_eq!(command(".setpoint/on-create.sh"), script(".setpoint/on-create.sh"));
        assert_eq!(command("./report.sh"), script("report.sh"));
        assert_eq!(command("make"), shell("make"));
        assert_eq!(command("cat /etc/motd"), shell("cat /etc/motd"));
        assert_eq!(command("a/b.sh\n"), shell("a/b.sh\n"));
    }

    #[test]
    fn a_script_lies_in_the_project() {
        for text in ["/usr/bin/true", "../x.sh", "~/x.sh", "a/../../x"] {
            assert!(CommandText::parse(text).is_err(), "{text}");
        }
    }
}
