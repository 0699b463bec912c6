//! The environment of a feature's `install.sh`: its options, and who the users of the container are.

use std::collections::BTreeMap;

use super::{FeatureMetadata, OptionDecl, OptionValue, Options};
use crate::manifest::{Location, Note, Problem, nearest};

/// What a feature is told about the users of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Users<'a> {
    /// Who commands and tools run as.
    pub remote: &'a str,
    /// The home of that user.
    pub remote_home: &'a str,
    /// Who the first process runs as.
    pub container: &'a str,
    /// The home of that user.
    pub container_home: &'a str,
}

/// The environment of an `install.sh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallEnv {
    /// Its variables.
    pub variables: BTreeMap<String, String>,
    /// What a user should know.
    pub notes: Vec<Note>,
}

/// The environment of a feature's `install.sh`: the options that are given, the defaults of the others, and the
/// users. An option that the feature does not have is passed on too, and noted.
///
/// # Errors
/// Every option that is none of what it can be.
pub fn install_env(
    feature: &FeatureMetadata,
    given: &Options,
    at: &Location,
    users: Users<'_>,
) -> Result<InstallEnv, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let mut variables = BTreeMap::new();
    for (name, decl) in &feature.options {
        let value = given.get(name).or(decl.default.as_ref());
        variables.insert(variable(name), value.map(ToString::to_string).unwrap_or_default());
    }
    for (name, value) in given {
        match feature.options.get(name) {
            Some(decl) => {
                problems.extend(wrong(feature, name, decl, value).map(|problem| problem.at(at.clone())))
            }
            None => {
                let meant = nearest(name, feature.options.keys().map(String::as_str))
                    .map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
                let text = format!("the feature `{}` has no option `{name}`{meant}", feature.id);
                notes.push(Note { at: at.clone(), text });
                variables.insert(variable(name), value.to_string());
            }
        }
    }
    for (name, value) in [
        ("_REMOTE_USER", users.remote),
        ("_REMOTE_USER_HOME", users.remote_home),
        ("_CONTAINER_USER", users.container),
        ("_CONTAINER_USER_HOME", users.container_home),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    if problems.is_empty() { Ok(InstallEnv { variables, notes }) } else { Err(problems) }
}

/// What is wrong with the value of an option.
fn wrong(feature: &FeatureMetadata, name: &str, decl: &OptionDecl, value: &OptionValue) -> Option<Problem> {
    let what = format!("the option `{name}` of the feature `{}` cannot be `{value}`", feature.id);
    let problem = Problem::new("feature-option", what);
    let text = value.to_string();
    if decl.boolean {
        return (text != "true" && text != "false").then(|| problem.hint("it is `true` or `false`"));
    }
    let allowed = decl.one_of.as_ref()?;
    if allowed.contains(&text) {
        return None;
    }
    let all = allowed.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    Some(match nearest(&text, allowed.iter().map(String::as_str)) {
        Some(meant) => problem.hint(format!("did you mean `{meant}`? it can be {all}")),
        None => problem.hint(format!("it can be {all}")),
    })
}

/// The variable of an option: what is no letter, digit or `_` becomes `_`, digits and `_` at the beginning become
/// one `_`, and all letters are capital.
#[must_use]
pub fn variable(option: &str) -> String {
    let plain: String =
        option.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    let rest = plain.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
    let begin = if rest.len() < plain.len() { "_" } else { "" };
    format!("{begin}{rest}").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::import::Text;

    const USERS: Users<'_> =
        Users { remote: "dev", remote_home: "/home/dev", container: "root", container_home: "/root" };

    fn at() -> Location {
        Location { file: "x".into(), line: 1, column: 1, source_line: String::new(), length: 1 }
    }

    fn feature() -> FeatureMetadata {
        let text = r#"{ "id": "node", "version": "1", "options": {
            "version": { "type": "string", "default": "lts", "proposals": ["lts", "22"] },
            "installTools": { "type": "boolean", "default": true },
            "manager": { "type": "string", "enum": ["nvm", "fnm"], "default": "nvm" },
            "no-default": { "type": "string" }
        } }"#;
        FeatureMetadata::parse(&Text::new("devcontainer-feature.json", text)).unwrap()
    }

    fn text(value: &str) -> OptionValue {
        OptionValue::Text(value.to_owned())
    }

    #[test]
    fn what_is_given_stands_over_the_defaults() {
        let given = Options::from([
            ("version".to_owned(), text("22")),
            ("installTools".to_owned(), OptionValue::Boolean(false)),
        ]);
        let env = install_env(&feature(), &given, &at(), USERS).unwrap();
        let variables: Vec<String> =
            env.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            variables,
            [
                "INSTALLTOOLS=false",
                "MANAGER=nvm",
                "NO_DEFAULT=",
                "VERSION=22",
                "_CONTAINER_USER=root",
                "_CONTAINER_USER_HOME=/root",
                "_REMOTE_USER=dev",
                "_REMOTE_USER_HOME=/home/dev",
            ]
        );
    }

    #[test]
    fn an_option_that_there_is_none_of_is_passed_on_and_told() {
        let given = Options::from([("verzion".to_owned(), text("22"))]);
        let env = install_env(&feature(), &given, &at(), USERS).unwrap();
        assert_eq!(env.variables["VERZION"], "22");
        assert_eq!(env.notes[0].text, "the feature `node` has no option `verzion`; did you mean `version`?");
    }

    #[test]
    fn a_value_that_it_cannot_have_is_refused() {
        let given =
            Options::from([("manager".to_owned(), text("nmv")), ("installTools".to_owned(), text("yes"))]);
        let problems = install_env(&feature(), &given, &at(), USERS).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(told[0].contains("cannot be `yes`"), "{told:?}");
        assert!(told[1].contains("did you mean `nvm`?"), "{told:?}");
    }

    #[test]
    fn the_variable_of_an_option_follows_the_specification() {
        for (option, name) in [
            ("version", "VERSION"),
            ("install-tools", "INSTALL_TOOLS"),
            ("nodeGypDependencies", "NODEGYPDEPENDENCIES"),
            ("1st", "_ST"),
            ("__x", "_X"),
            ("_", "_"),
            ("a.b c", "A_B_C"),
            ("ü", "_"),
        ] {
            assert_eq!(variable(option), name, "{option}");
        }
    }

    proptest! {
        #[test]
        fn every_option_has_a_variable_that_a_shell_knows(option in ".+") {
            let name = variable(&option);
            prop_assert!(name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_'));
            prop_assert!(name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        }
    }
}
