//! Who is told when a unit needs a person.

use serde::{Deserialize, Serialize};

use super::env_value::EnvValue;

/// Who is told when a unit needs a person. Each of them is told, each by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alerts {
    /// The address that it is sent to by HTTP. Secrets in it stay references.
    pub webhook: Option<EnvValue>,
    /// The program that is run with it, and its arguments.
    pub command: Option<Vec<String>>,
}

impl Alerts {
    /// Whether there is nobody to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
