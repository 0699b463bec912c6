//! What a test needs of the machine that it runs on.

use serde::{Deserialize, Serialize};

use crate::manifest::format::{Format, Malformed, in_schema};
use crate::manifest::nearest;

/// What a criterion's tests need. Where it is not there, they are skipped, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Requirement {
    /// A Docker daemon that answers.
    Docker,
    /// Podman's service, and that it answers.
    Podman,
    /// A way out of this machine.
    Network,
    /// The rights of root.
    Root,
    /// A program that can be found.
    Program(String),
}

const WORDS: [(&str, Requirement); 4] = [
    ("docker", Requirement::Docker),
    ("podman", Requirement::Podman),
    ("network", Requirement::Network),
    ("root", Requirement::Root),
];
const PROGRAM: &str = "program:";

impl Format for Requirement {
    const NAME: &'static str = "requirement";
    const PATTERN: Option<&'static str> = Some("^(docker|podman|network|root|program:[^\\s/]+)$");
    const DESCRIPTION: &'static str = "What tests need: `docker`, `podman`, `network`, `root`, or a program.";
    const EXAMPLE: &'static str = "docker";
    fn parse(text: &str) -> Result<Self, Malformed> {
        if let Some((_, known)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(known.clone());
        }
        let program = text.strip_prefix(PROGRAM).filter(|name| !name.is_empty());
        if let Some(program) =
            program.filter(|name| !name.contains(|c: char| c.is_whitespace() || c == '/' || c == '\0'))
        {
            return Ok(Self::Program(program.to_owned()));
        }
        let hint = match nearest(text, WORDS.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "a program is required by its name: `program:{}`",
                text.rsplit([':', '/']).next().unwrap_or_default()
            ),
        };
        Err(Malformed::new("bad-requirement", format!("`{text}` cannot be required"))
            .why("what can be is `docker`, `podman`, `network`, `root`, and `program:NAME`")
            .hint(hint))
    }
}

impl TryFrom<String> for Requirement {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<Requirement> for String {
    fn from(requirement: Requirement) -> Self {
        requirement.to_string()
    }
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self, WORDS.iter().find(|(_, known)| known == self)) {
            (Self::Program(name), _) => f.pad(&format!("{PROGRAM}{name}")),
            (_, known) => f.pad(known.map_or("", |(word, _)| word)),
        }
    }
}

in_schema!(Requirement);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_a_word_or_a_program() {
        for text in ["docker", "podman", "network", "root", "program:chromium"] {
            assert_eq!(Requirement::parse(text).map(|known| known.to_string()).as_deref(), Ok(text));
        }
        for (text, hint) in [
            ("dokcer", "did you mean `docker`?"),
            ("chromium", "a program is required by its name: `program:chromium`"),
            ("program:/usr/bin/x", "a program is required by its name: `program:x`"),
        ] {
            assert_eq!(
                Requirement::parse(text).map_err(|bad| bad.hint),
                Err(Some(hint.to_owned())),
                "{text}"
            );
        }
    }
}
