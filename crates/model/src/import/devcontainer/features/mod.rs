//! Features: what is installed over the image of a dev container.

mod lockfile;
mod metadata;
mod options;
mod order;
mod reference;

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;

pub use lockfile::{Difference, Locked, Lockfile};
pub use metadata::{FeatureMetadata, OptionDecl};
pub use options::{InstallEnv, Users, install_env, variable};
pub use order::{InstallOrder, ResolvedFeature, install_order, unresolved};
pub use reference::{OciReference, Reference, Version};

use super::reader::{Reader, below, opaque};
use crate::manifest::Location;

/// A feature that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureUse {
    /// What it is called there, as it is written.
    pub text: String,
    /// What that means.
    pub reference: Reference,
    /// The options that are given; others keep their defaults.
    pub options: Options,
    /// Where it is asked for.
    pub at: Location,
}

impl FeatureUse {
    /// What it is called in a lock file; folders of the project are in none.
    #[must_use]
    pub fn lock_key(&self) -> Option<String> {
        (!matches!(self.reference, Reference::Local { .. })).then(|| self.text.to_lowercase())
    }
}

/// Options of a feature, by name.
pub type Options = BTreeMap<String, OptionValue>;

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OptionValue {
    /// A yes or a no.
    Boolean(bool),
    /// A text.
    Text(String),
}

impl std::fmt::Display for OptionValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean(boolean) => write!(f, "{boolean}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The features of an object: `features` of a devcontainer.json, or `dependsOn` of a feature.
pub(super) fn uses(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Vec<FeatureUse> {
    let mut uses = Vec::new();
    let Value::Object(object) = value else {
        reader.wrong_type(path, value, "an object");
        return uses;
    };
    for member in reader.all_members(path, object) {
        let at = reader.at(member.at.clone());
        let options = given_options(reader, &below(path, member.key), member.value);
        match Reference::parse(member.key) {
            Ok(_) if matches!(member.value, Value::BooleanLit(on) if !on.value) => {
                reader.note(at, format!("`{}` is false, and not installed", member.key));
            }
            Ok(reference) => {
                uses.push(FeatureUse { text: member.key.to_owned(), reference, options, at });
            }
            Err(problem) => reader.problems.push(problem.at(at)),
        }
    }
    uses
}

/// The options that are given: an object of them, or the one text that is the option `version`. True and null are
/// none.
fn given_options(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Options {
    match value {
        Value::StringLit(text) => {
            Options::from([("version".to_owned(), OptionValue::Text(text.value.to_string()))])
        }
        Value::BooleanLit(_) | Value::NullKeyword(_) => Options::new(),
        Value::Object(_) => reader
            .members(path, value)
            .into_iter()
            .filter_map(|member| {
                let option = option(reader, &below(path, member.key), member.value)?;
                Some((member.key.to_owned(), option))
            })
            .collect(),
        _ => {
            reader.wrong_type(path, value, "an object of options, or the text of a version");
            Options::new()
        }
    }
}

/// The value of an option. A number is as good as its text: versions are often written so.
fn option(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Option<OptionValue> {
    match value {
        Value::StringLit(text) => Some(OptionValue::Text(text.value.to_string())),
        Value::BooleanLit(boolean) => Some(OptionValue::Boolean(boolean.value)),
        Value::NumberLit(_) => Some(OptionValue::Text(opaque(value).to_string())),
        _ => {
            reader.wrong_type(path, value, "a text or true or false");
            None
        }
    }
}
