//! Variables in texts: `${localEnv:HOME}`, `${containerWorkspaceFolder}` and their like.
//!
//! They become known at three times: those of the host before anything is made, the folder inside once it is
//! decided, and the environment inside once the container runs. What is not known yet stays as it is.

use std::collections::{BTreeMap, BTreeSet};

/// What is known so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// What the host knows.
    pub local: Option<Local<'a>>,
    /// Where the project is inside.
    pub container_workspace_folder: Option<&'a str>,
    /// The environment of the running container.
    pub container_env: Option<&'a BTreeMap<String, String>>,
}

/// What the host knows.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// The environment of the caller.
    pub env: &'a BTreeMap<String, String>,
    /// Where the project is on the host.
    pub workspace_folder: &'a str,
    /// What tells this dev container from all others of the host: [`id_of_hash`](super::id_of_hash) of the SHA-256 of
    /// [`id_input`](super::id_input).
    pub id: &'a str,
}

/// A text with what is known put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substituted {
    /// The text.
    pub text: String,
    /// The variables in it that there are none of, as they are written between the braces.
    pub unknown: Vec<String>,
}

/// The variables without an argument.
pub(super) const NAMES: [&str; 8] = [
    "localWorkspaceFolder",
    "localWorkspaceFolderBasename",
    "containerWorkspaceFolder",
    "containerWorkspaceFolderBasename",
    "devcontainerId",
    "localEnv",
    "containerEnv",
    "env",
];

/// Puts what is known into a text. A variable of an environment that is not set is its default
/// (`${localEnv:NAME:default}`), or empty.
#[must_use]
pub fn substitute(text: &str, context: &Context<'_>) -> Substituted {
    let mut done = Substituted { text: String::with_capacity(text.len()), unknown: Vec::new() };
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => done.text.push_str(text),
            Piece::Variable { raw, inner } => match value(inner, context) {
                Value::Known(value) => done.text.push_str(&value),
                Value::NotYet => done.text.push_str(raw),
                Value::Unknown => {
                    done.text.push_str(raw);
                    done.unknown.push(inner.to_owned());
                }
            },
        }
    }
    done
}

/// The variables of the caller's environment that a text asks for.
#[must_use]
pub fn local_env_names(text: &str) -> BTreeSet<String> {
    pieces(text)
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Variable { inner, .. } => match inner.split_once(':')? {
                ("localEnv" | "env", rest) => Some(name_and_default(rest).0.to_owned()),
                _ => None,
            },
            Piece::Text(_) => None,
        })
        .collect()
}

/// Whether a text asks for the environment of the running container.
pub(super) fn asks_for_container_env(text: &str) -> bool {
    pieces(text)
        .iter()
        .any(|piece| matches!(piece, Piece::Variable { inner, .. } if inner.starts_with("containerEnv:")))
}

enum Piece<'t> {
    Text(&'t str),
    Variable { raw: &'t str, inner: &'t str },
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        pieces.push(Piece::Text(&rest[..start]));
        let raw = &rest[start..=start + length];
        pieces.push(Piece::Variable { raw, inner: &raw[2..raw.len() - 1] });
        rest = &rest[start + length + 1..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

enum Value {
    Known(String),
    NotYet,
    Unknown,
}

fn value(variable: &str, context: &Context<'_>) -> Value {
    let local = |value: for<'l> fn(&Local<'l>) -> &'l str| {
        context.local.as_ref().map_or(Value::NotYet, |local| Value::Known(value(local).to_owned()))
    };
    let inside = |value: fn(&str) -> &str| {
        let folder = context.container_workspace_folder;
        folder.map_or(Value::NotYet, |folder| Value::Known(value(folder).to_owned()))
    };
    match variable.split_once(':') {
        Some(("localEnv" | "env", rest)) => of_env(rest, context.local.map(|local| local.env)),
        Some(("containerEnv", rest)) => of_env(rest, context.container_env),
        Some(_) => Value::Unknown,
        None => match variable {
            "localWorkspaceFolder" => local(|local| local.workspace_folder),
            "localWorkspaceFolderBasename" => local(|local| base_name(local.workspace_folder)),
            "devcontainerId" => local(|local| local.id),
            "containerWorkspaceFolder" => inside(|folder| folder),
            "containerWorkspaceFolderBasename" => inside(base_name),
            _ => Value::Unknown,
        },
    }
}

/// A variable of an environment, if that is known.
fn of_env(rest: &str, env: Option<&BTreeMap<String, String>>) -> Value {
    let (name, default) = name_and_default(rest);
    match env {
        _ if name.is_empty() => Value::Unknown,
        Some(env) => Value::Known(env.get(name).map_or(default, String::as_str).to_owned()),
        None => Value::NotYet,
    }
}

fn name_and_default(rest: &str) -> (&str, &str) {
    rest.split_once(':').unwrap_or((rest, ""))
}

/// The last part of a path, of whichever kind of host.
fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches(['/', '\\']);
    path.rfind(['/', '\\']).map_or(path, |slash| &path[slash + 1..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env() -> BTreeMap<String, String> {
        BTreeMap::from([
            ("HOME".to_owned(), "/home/mo".to_owned()),
            ("LOOP".to_owned(), "${localEnv:HOME}".to_owned()),
        ])
    }

    fn first(text: &str) -> Substituted {
        let env = env();
        let local = Local { env: &env, workspace_folder: "/home/mo/shop/", id: "0abc" };
        substitute(text, &Context { local: Some(local), ..Context::default() })
    }

    #[test]
    fn the_host_is_known_first() {
        for (text, done) in [
            ("${localEnv:HOME}/x", "/home/mo/x"),
            ("${env:HOME}", "/home/mo"),
            ("a${localEnv:NONE}b", "ab"),
            ("${localEnv:NONE:dflt}", "dflt"),
            ("${localEnv:NONE:http://x}", "http://x"),
            ("${localEnv:HOME:dflt}", "/home/mo"),
            ("${localWorkspaceFolder}|${localWorkspaceFolderBasename}", "/home/mo/shop/|shop"),
            ("vol-${devcontainerId}", "vol-0abc"),
            ("${localEnv:LOOP}", "${localEnv:HOME}"),
            ("${containerWorkspaceFolder}/y", "${containerWorkspaceFolder}/y"),
            ("${containerEnv:PATH}", "${containerEnv:PATH}"),
            ("${unclosed", "${unclosed"),
            ("$HOME $$ {x}", "$HOME $$ {x}"),
        ] {
            assert_eq!(first(text), Substituted { text: done.to_owned(), unknown: vec![] }, "{text}");
        }
    }

    #[test]
    fn what_there_is_none_of_stays_and_is_told() {
        let done = first("${HOME} ${input:x} ${localEnv:} ${localEnv:HOME}");
        assert_eq!(done.text, "${HOME} ${input:x} ${localEnv:} /home/mo");
        assert_eq!(done.unknown, ["HOME", "input:x", "localEnv:"]);
    }

    #[test]
    fn the_folder_and_the_environment_inside_follow() {
        let folder = Context { container_workspace_folder: Some("/workspaces/shop"), ..Context::default() };
        let text = "${containerWorkspaceFolder} ${containerWorkspaceFolderBasename} ${localEnv:HOME}";
        assert_eq!(substitute(text, &folder).text, "/workspaces/shop shop ${localEnv:HOME}");
        let env = env();
        let running = Context { container_env: Some(&env), ..Context::default() };
        assert_eq!(substitute("${containerEnv:HOME}:${containerEnv:X:y}", &running).text, "/home/mo:y");
    }

    #[test]
    fn the_variables_that_are_asked_of_the_caller_are_known_by_name() {
        let names = local_env_names("${localEnv:A}${env:B:b}${containerEnv:C}${localWorkspaceFolder}");
        assert_eq!(names, BTreeSet::from(["A".to_owned(), "B".to_owned()]));
    }

    proptest! {
        #[test]
        fn nothing_known_changes_nothing(text in ".*") {
            prop_assert_eq!(substitute(&text, &Context::default()).text, text);
        }

        #[test]
        fn a_text_without_variables_stays(text in "[^$]*") {
            prop_assert_eq!(first(&text).text, text);
        }
    }
}
