//! Validated names. A name that exists as a type has been checked once, at the manifest's edge.

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} name: {why}")]
pub struct InvalidName {
    /// What the name was for: `unit`, `pack`, `secret`.
    pub kind: &'static str,
    /// The text as it was given.
    pub text: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

/// The rule for names of units, pipelines, steps, packs and secrets: `[a-z][a-z0-9-]{0,62}`.
fn check(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let why = if text.is_empty() {
        "it is empty"
    } else if text.len() > 63 {
        "it is longer than 63 characters"
    } else if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        "it must begin with a lower-case letter (a to z)"
    } else if !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        "only lower-case letters, digits and `-` are allowed"
    } else {
        return Ok(());
    };
    Err(InvalidName { kind, text: text.to_owned(), why })
}

/// Whether a host, maybe with a port, is this machine, and so spoken to in plain HTTP.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the text against the rule for names.
            ///
            /// # Errors
            /// [`InvalidName`] says which part of the rule it breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                check($kind, &text)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
    };
}

name!(
    /// The name of an environment or a service within its project.
    UnitName,
    "unit"
);
name!(
    /// The name of a pack: `.setpoint/packs/<name>.sh`.
    PackName,
    "pack"
);
name!(
    /// The name of a secret: `[secret.<name>]`.
    SecretName,
    "secret"
);

name!(
    /// The name of a pipeline: `[pipeline.<name>]`.
    PipelineName,
    "pipeline"
);
name!(
    /// The name of a step within its pipeline: `[pipeline.ci.step.<name>]`.
    StepName,
    "step"
);

/// A lifecycle hook of an environment. The order of the variants is the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookName {
    /// On the host, before anything else.
    Initialize,
    /// Once, after the unit was made.
    OnCreate,
    /// When the content that it depends on changes.
    UpdateContent,
    /// Once, after the content is there.
    PostCreate,
    /// After every start.
    PostStart,
    /// After every `up` that did something, and before every session.
    PostAttach,
    /// By `setpoint check`, and after a unit was made.
    Verify,
}

impl HookName {
    /// All hooks, in the order in which they run.
    pub const ALL: [Self; 7] = [
        Self::Initialize,
        Self::OnCreate,
        Self::UpdateContent,
        Self::PostCreate,
        Self::PostStart,
        Self::PostAttach,
        Self::Verify,
    ];

    /// The hook's key in the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::OnCreate => "on_create",
            Self::UpdateContent => "update_content",
            Self::PostCreate => "post_create",
            Self::PostStart => "post_start",
            Self::PostAttach => "post_attach",
            Self::Verify => "verify",
        }
    }

    /// The hook of this key, if there is one.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.as_str() == key)
    }
}

impl std::fmt::Display for HookName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_lower_case_letter_and_then_letters_digits_and_dashes() {
        for good in ["a", "dev", "node-20", &"a".repeat(63)] {
            assert!(UnitName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "Dev", "1st", "-x", "a_b", "a b", "é", &"a".repeat(64)] {
            assert!(UnitName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_plain() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.3.2.1", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.org", "10.0.0.1:5000", "registry.example.org", "[::2]:1", "127.x"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn every_hook_is_found_by_its_own_key() {
        for hook in HookName::ALL {
            assert_eq!(HookName::parse(hook.as_str()), Some(hook));
        }
    }
}
