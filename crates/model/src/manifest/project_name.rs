//! The name of a project, and the forms of all names as the manifest writes them.

use serde::{Deserialize, Serialize};

use super::format::{Format, Malformed, in_schema};
use crate::names::{InvalidName, PackName, PipelineName, SecretName, StepName, UnitName};

/// The name of a project: `[a-z][a-z0-9-]{0,62}`, like that of a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectName(UnitName);

impl ProjectName {
    /// The name for a project in a folder of this name: what fits of it, and `project` if nothing does.
    #[must_use]
    pub fn from_folder(folder: &str) -> Self {
        let fitted = fit(folder).unwrap_or_else(|| "project".to_owned());
        Self(UnitName::new(fitted).expect("what `fit` returns is a name"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl std::fmt::Display for ProjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What fits of a text into the rule for names, if anything does.
fn fit(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(63);
    let name = name.trim_end_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

fn malformed(error: &InvalidName, kind: &str) -> Malformed {
    let article = if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    if error.text.is_empty() {
        return Malformed::new("bad-name", format!("the name of {article} {kind} cannot be empty"));
    }
    let malformed =
        Malformed::new("bad-name", format!("`{}` cannot be the name of {article} {kind}", error.text))
            .why(error.why);
    match fit(&error.text).filter(|fitted| *fitted != error.text) {
        Some(fitted) => malformed.hint(format!("for example `{fitted}`")),
        None => malformed.hint("a name is a lower-case letter, then letters, digits and `-`, 63 at most"),
    }
}

macro_rules! name_format {
    ($($type:ident, $format:literal, $kind:literal, $example:literal;)+) => {$(
        impl Format for $type {
            const NAME: &'static str = $format;
            const PATTERN: Option<&'static str> = Some("^[a-z][a-z0-9-]{0,62}$");
            const DESCRIPTION: &'static str = concat!("The name of a ", $kind, ".");
            const EXAMPLE: &'static str = $example;
            fn parse(text: &str) -> Result<Self, Malformed> {
                Self::new(text).map_err(|error| malformed(&error, $kind))
            }
        }
        in_schema!($type);
    )+};
}

name_format! {
    UnitName, "unit-name", "unit", "dev";
    PackName, "pack-name", "pack", "uv";
    SecretName, "secret-name", "secret", "api-token";
    PipelineName, "pipeline-name", "pipeline", "ci";
    StepName, "step-name", "step", "test";
    ProjectName, "project-name", "project", "shop";
}

impl ProjectName {
    /// Checks the text against the rule for names.
    ///
    /// # Errors
    /// [`InvalidName`] says which part of the rule it breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        UnitName::new(text).map(Self).map_err(|error| InvalidName { kind: "project", ..error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_folder_gives_the_name_that_a_person_would_give() {
        for (folder, name) in [
            ("shop", "shop"),
            ("My Shop", "my-shop"),
            ("shop_v2", "shop-v2"),
            (".dotfiles", "dotfiles"),
            ("2048", "project"),
            ("3d-viewer", "d-viewer"),
            ("…", "project"),
            ("a---b!", "a-b"),
            ("", "project"),
        ] {
            assert_eq!(ProjectName::from_folder(folder).as_str(), name, "{folder}");
        }
    }

    proptest! {
        #[test]
        fn every_folder_has_a_name(folder in ".{0,90}") {
            prop_assert!(ProjectName::new(ProjectName::from_folder(&folder).as_str()).is_ok());
        }
    }
}
