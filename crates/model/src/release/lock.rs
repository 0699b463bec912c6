//! What was released last, for people and for whoever looks at a commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bundle::Bundle;

/// The file, as it is written.
#[derive(Serialize)]
struct Lock<'a> {
    version: &'a str,
    /// The release by its digest.
    bundle: String,
    /// What services are built on, by their digests.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    image: BTreeMap<&'a str, &'a str>,
}

/// What the file says that units were built on, by their digests; nothing of a text that is no such file.
#[must_use]
pub fn locked(text: &str) -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct Images {
        #[serde(default)]
        image: BTreeMap<String, String>,
    }
    toml::from_str::<Images>(text).map(|lock| lock.image).unwrap_or_default()
}

/// The text of the file that says what a release is made of.
#[must_use]
pub fn lock(bundle: &Bundle, digest: &str) -> String {
    let lock = Lock {
        version: &bundle.version,
        bundle: format!("{}@{digest}", bundle.repository),
        image: bundle.images.iter().map(|(unit, of)| (unit.as_str(), of.reference.as_str())).collect(),
    };
    // It has text keys only, and nothing that could fail.
    let text = toml::to_string(&lock).unwrap_or_default();
    format!("# Written by `setpoint release`. What it was made of is fixed in the release itself.\n{text}")
}
