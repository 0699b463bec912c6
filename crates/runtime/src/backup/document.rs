//! The document of a backup, and the list that it refers to.

use std::collections::BTreeMap;

use setpoint_model::backup::{ARTIFACT, CONFIG, Contents, DUMP, Part, VOLUME, What};

use super::error::BackupError;
use crate::artifact::{Descriptor, Document};
use crate::image::sha256_of;

/// What our own annotations begin with.
const OURS: &str = "dev.setpoint.backup";

/// The list of a backup and its document, as they are written.
pub(super) fn written(contents: &Contents) -> (Vec<u8>, Vec<u8>) {
    let config = contents.to_json();
    let layers = contents.parts.iter().map(descriptor).collect();
    let document =
        Document::written(ARTIFACT, Descriptor::of(CONFIG, &config), layers, annotations(contents));
    (config, document)
}

/// What is told of a backup to those who only look at lists.
pub(super) fn annotations(contents: &Contents) -> BTreeMap<String, String> {
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let version = contents.version.iter().map(|version| of("org.opencontainers.image.version", version));
    [
        of("org.opencontainers.image.title", &contents.project),
        of("org.opencontainers.image.created", &contents.at),
        of(&format!("{OURS}.generation"), &contents.generation.to_string()),
        of(&format!("{OURS}.engine"), &contents.engine),
    ]
    .into_iter()
    .chain(version)
    .collect()
}

fn descriptor(part: &Part) -> Descriptor {
    let units = part.units.iter().map(|unit| unit.as_str()).collect::<Vec<_>>().join(",");
    let mut annotations = BTreeMap::from([(format!("{OURS}.units"), units)]);
    let (media_type, consistent) = match &part.what {
        What::Volume { volume, .. } => {
            annotations.insert(format!("{OURS}.volume"), volume.clone());
            (VOLUME, "pause")
        }
        What::Dump => (DUMP, "command"),
    };
    annotations.insert(format!("{OURS}.consistent-by"), consistent.to_owned());
    Descriptor {
        media_type: media_type.to_owned(),
        digest: part.layer.clone(),
        size: part.stored,
        annotations,
    }
}

/// Reads what a backup holds, by the digest of its document; `blob` gives what has a digest.
pub(super) fn read(
    name: &str,
    digest: &str,
    mut blob: impl FnMut(&str) -> Result<Vec<u8>, BackupError>,
) -> Result<Contents, BackupError> {
    let mut verified = |digest: &str| {
        let bytes = blob(digest)?;
        match sha256_of(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(BackupError::refused(name, format!("its part {digest} has the digest {found}"))),
        }
    };
    let document: Document = serde_json::from_slice(&verified(digest)?)
        .map_err(|error| BackupError::refused(name, format!("its document cannot be read: {error}")))?;
    if document.artifact_type != ARTIFACT {
        return Err(BackupError::refused(name, "it is no backup of Setpoint"));
    }
    let contents = Contents::parse(&verified(&document.config.digest)?)
        .map_err(|bad| BackupError::refused(name, bad))?;
    let listed = contents.parts.iter().map(|part| (&part.layer, part.stored));
    if !document.layers.iter().map(|layer| (&layer.digest, layer.size)).eq(listed) {
        return Err(BackupError::refused(name, "its list is of other parts than its document"));
    }
    Ok(contents)
}
