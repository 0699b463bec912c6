//! The commands of the life of a dev container.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;

use super::reader::{Placed, Reader, below};
use crate::manifest::{Command, Problem, Run};

/// When a command is run. The order is that of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// On the host, before anything is made.
    Initialize,
    /// Inside, once it is made.
    OnCreate,
    /// Inside, once there are new files of the project.
    UpdateContent,
    /// Inside, once it belongs to its user.
    PostCreate,
    /// Inside, at each start.
    PostStart,
    /// Inside, whenever a tool attaches to it.
    PostAttach,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Initialize,
        Self::OnCreate,
        Self::UpdateContent,
        Self::PostCreate,
        Self::PostStart,
        Self::PostAttach,
    ];

    /// The key that stands for it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Initialize => "initializeCommand",
            Self::OnCreate => "onCreateCommand",
            Self::UpdateContent => "updateContentCommand",
            Self::PostCreate => "postCreateCommand",
            Self::PostStart => "postStartCommand",
            Self::PostAttach => "postAttachCommand",
        }
    }

    /// The one that this key stands for.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.key() == key)
    }
}

/// What is run, in any of the three forms: a text for the shell, a list of a program and its arguments, or an
/// object of several of these, which run side by side. Files often keep the key with nothing in it, so that this is
/// no problem; nothing within a list or an object is one.
pub(super) fn run(reader: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Option<Placed<Run>> {
    let at = reader.place(value);
    let says_nothing = match value {
        Value::StringLit(text) => text.value.trim().is_empty(),
        Value::Array(words) => words.elements.is_empty(),
        Value::Object(parts) => parts.properties.is_empty(),
        _ => false,
    };
    if says_nothing {
        reader.note(at, format!("`{key}` is empty, and nothing is run"));
        return None;
    }
    let run = match value {
        Value::Object(_) => {
            let parts: BTreeMap<String, Command> = reader
                .members(key, value)
                .into_iter()
                .filter_map(|part| {
                    Some((part.key.to_owned(), command(reader, &below(key, part.key), part.value)?))
                })
                .collect();
            if parts.is_empty() {
                return None;
            }
            Run::Parallel(parts)
        }
        _ => Run::One(command(reader, key, value)?),
    };
    Some(Placed { value: run, at })
}

/// One command.
fn command(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Option<Command> {
    match value {
        Value::StringLit(text) if text.value.trim().is_empty() => {
            reader.problem(value, empty(path));
            None
        }
        Value::StringLit(text) => Some(Command::Shell { text: text.value.to_string() }),
        Value::Array(array) => {
            let argv: Vec<String> = array
                .elements
                .iter()
                .enumerate()
                .filter_map(|(index, word)| reader.string(&format!("{path}[{index}]"), word))
                .map(|word| word.value)
                .collect();
            match argv.first() {
                _ if argv.len() < array.elements.len() => None,
                None => {
                    reader.problem(value, empty(path));
                    None
                }
                Some(program) if program.trim().is_empty() => {
                    let problem =
                        Problem::new("empty-command", format!("`{path}` begins with an empty word"));
                    reader.problem(value, problem.why("the first word of a list is the program that is run"));
                    None
                }
                Some(_) => Some(Command::Argv { argv }),
            }
        }
        _ => {
            reader.wrong_type(path, value, "a command: a text, a list of words, or an object of these");
            None
        }
    }
}

fn empty(path: &str) -> Problem {
    Problem::new("empty-command", format!("`{path}` is an empty command"))
        .hint("give it a command, or remove the key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::Text;
    use crate::import::devcontainer::parse;

    fn read(hook: &str) -> Option<Run> {
        let text = format!(r#"{{ "image": "x", "postStartCommand": {hook} }}"#);
        let mut hooks = parse(&Text::new("devcontainer.json", &text)).unwrap().settings.hooks;
        hooks.remove(&Phase::PostStart).map(|run| run.value)
    }

    fn shell(text: &str) -> Command {
        Command::Shell { text: text.to_owned() }
    }

    fn argv(words: &[&str]) -> Command {
        Command::Argv { argv: words.iter().map(|word| (*word).to_owned()).collect() }
    }

    #[test]
    fn a_command_has_three_forms() {
        assert_eq!(read(r#""a && b""#), Some(Run::One(shell("a && b"))));
        assert_eq!(read(r#"["a", "", "$B"]"#), Some(Run::One(argv(&["a", "", "$B"]))));
        let parts = [("one".to_owned(), shell("a")), ("two".to_owned(), argv(&["b"]))].into();
        assert_eq!(read(r#"{ "one": "a", "two": ["b"] }"#), Some(Run::Parallel(parts)));
    }

    #[test]
    fn nothing_is_run_where_nothing_is_said() {
        for nothing in ["null", r#""""#, r#"" ""#, "[]", "{}"] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_phases_are_in_the_order_of_life() {
        assert!(Phase::ALL.is_sorted());
        assert!(Phase::ALL.iter().all(|phase| Phase::of_key(phase.key()) == Some(*phase)));
    }
}
