//! What artifacts of our own are in OCI's terms: their documents, and the lists of layouts that hold them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::sha256_of;

/// What kind of document it is.
pub(crate) const DOCUMENT: &str = "application/vnd.oci.image.manifest.v1+json";
/// The file by which a layout is known.
pub(crate) const MARK: &str = "oci-layout";
/// What is in that.
pub(crate) const MARK_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The file that lists what a layout has.
pub(crate) const INDEX: &str = "index.json";
/// The folder of what it has.
pub(crate) const BLOBS: &str = "blobs/sha256";
/// What an entry of the list is called.
pub(crate) const NAME: &str = "org.opencontainers.image.ref.name";

/// The document of an artifact.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    schema_version: u32,
    media_type: String,
    #[serde(default)]
    pub(crate) artifact_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A part of an artifact.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(crate) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: sha256_of(bytes),
            size: bytes.len() as u64,
            annotations: BTreeMap::new(),
        }
    }
}

impl Document {
    /// The document of an artifact, as it is written.
    pub(crate) fn written(
        artifact: &str,
        config: Descriptor,
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Vec<u8> {
        let document = Self {
            schema_version: 2,
            media_type: DOCUMENT.to_owned(),
            artifact_type: artifact.to_owned(),
            config,
            layers,
            annotations,
        };
        // It has text keys only, and nothing that could fail.
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

/// The list of a layout.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    pub(crate) manifests: Vec<Entry>,
    /// What else somebody has written there.
    #[serde(flatten)]
    pub(crate) more: BTreeMap<String, serde_json::Value>,
}

impl Index {
    pub(crate) fn of(manifests: Vec<Entry>) -> Self {
        Self { schema_version: 2, manifests, more: BTreeMap::new() }
    }

    /// The list as it is written.
    pub(crate) fn written(&self) -> Vec<u8> {
        // It has text keys only, and nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// An entry of it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// What else somebody has written there.
    #[serde(flatten)]
    pub(crate) more: BTreeMap<String, serde_json::Value>,
}

impl Entry {
    pub(crate) fn new(media_type: &str, artifact: Option<&str>, name: &str, document: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: sha256_of(document),
            size: document.len() as u64,
            artifact_type: artifact.map(str::to_owned),
            annotations: BTreeMap::from([(NAME.to_owned(), name.to_owned())]),
            more: BTreeMap::new(),
        }
    }
}
