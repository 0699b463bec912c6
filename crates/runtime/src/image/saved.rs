//! What an engine saved an image to, in the form of `docker save`, which all of them know: made a layout of OCI, its
//! layers compressed, the same bytes for the same image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::error::ImageError;
use super::job::Job;
use super::layout::{INDEX, MARK, read_small};
use super::manifest::configuration;
use super::source::open_regular;
use super::stream::{Counted, sha256_name, sha256_of};

/// What the archive says that it holds.
#[derive(Deserialize)]
struct Saved {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// A blob that was written.
struct Written {
    digest: String,
    size: u64,
    /// The digest of what it holds before it was compressed.
    plain: String,
}

/// The archive as a layout, in a folder of the store. Its lock is held.
pub(super) fn spread(job: &Job<'_>, path: &Path) -> Result<TempDir, ImageError> {
    let folder = tempfile::Builder::new()
        .prefix(".archive-")
        .tempdir_in(&job.store.blobs)
        .map_err(ImageError::io("make a folder in", &job.store.blobs))?;
    let blobs = folder.path().join("blobs/sha256");
    DirBuilder::new().recursive(true).create(&blobs).map_err(ImageError::io("make the folder", &blobs))?;
    let not = |reason: &str| ImageError::NotALayout { path: path.to_owned(), reason: reason.to_owned() };

    let (list, links) = contents(job, path)?;
    let list = list.ok_or_else(|| not("it has no `manifest.json`"))?;
    let saved: Vec<Saved> = serde_json::from_slice(&list).map_err(|error| not(&error.to_string()))?;
    let [saved] = saved.as_slice() else { return Err(not("it holds not exactly one image")) };
    // Layers that are there twice are links to the first.
    let real = |name: &str| links.get(name).cloned().unwrap_or_else(|| name.to_owned());
    let layers: Vec<String> = saved.layers.iter().map(|name| real(name)).collect();
    let wanted: BTreeSet<&str> = layers.iter().map(String::as_str).collect();

    let mut config = None;
    let mut written: BTreeMap<String, Written> = BTreeMap::new();
    each(job, path, |name, entry| {
        if name == saved.config {
            config = Some(read_small(entry, path)?);
        } else if wanted.contains(name) {
            written.insert(name.to_owned(), compressed(job, entry, &blobs)?);
        }
        Ok(())
    })?;
    let config = config.ok_or_else(|| not("it lacks its configuration"))?;
    let origin = path.display().to_string();
    let (_, diff_ids) = configuration(&config, layers.len(), &origin)?;
    let mut descriptors = Vec::new();
    for (name, expected) in layers.iter().zip(diff_ids) {
        let layer = written.get(name).ok_or_else(|| not(&format!("it lacks `{name}`")))?;
        if layer.plain != expected {
            let (layer, found) = (name.clone(), layer.plain.clone());
            return Err(ImageError::DiffIdMismatch { layer, expected, found });
        }
        descriptors.push(descriptor(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            &layer.digest,
            layer.size,
        ));
    }
    let put = |bytes: &[u8]| {
        let digest = sha256_of(bytes);
        let place = blobs.join(digest.trim_start_matches("sha256:"));
        fs::write(&place, bytes).map_err(ImageError::io("write", place)).map(|()| digest)
    };
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let config_digest = put(&config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config.len() as u64),
        "layers": descriptors,
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = put(&manifest)?;
    let index =
        json!({ "schemaVersion": 2, "manifests": [descriptor(kind, &digest, manifest.len() as u64)] });
    for (name, text) in [(MARK, json!({ "imageLayoutVersion": "1.0.0" })), (INDEX, index)] {
        let place = folder.path().join(name);
        fs::write(&place, text.to_string()).map_err(ImageError::io("write", place))?;
    }
    Ok(folder)
}

fn descriptor(kind: &str, digest: &str, size: u64) -> Value {
    json!({ "mediaType": kind, "digest": digest, "size": size })
}

/// The list of the archive, and its links with what they lead to.
fn contents(job: &Job<'_>, path: &Path) -> Result<(Option<Vec<u8>>, BTreeMap<String, String>), ImageError> {
    let (mut list, mut links) = (None, BTreeMap::new());
    let mut archive = tar::Archive::new(open_regular(path)?);
    for entry in archive.entries().map_err(ImageError::io("read", path))? {
        job.advance(0)?;
        let entry = entry.map_err(ImageError::io("read", path))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if let Some(target) = entry.link_name_bytes() {
            let target = String::from_utf8_lossy(&target).into_owned();
            let is_from_root = entry.header().entry_type().is_hard_link();
            links.insert(name.clone(), if is_from_root { target } else { beside(&name, &target) });
        } else if name == "manifest.json" {
            list = Some(read_small(entry, path)?);
        }
    }
    Ok((list, links))
}

/// What a link leads to that stands beside `name`.
fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn each(
    job: &Job<'_>,
    path: &Path,
    mut take: impl FnMut(&str, &mut dyn Read) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let mut archive = tar::Archive::new(open_regular(path)?);
    for entry in archive.entries().map_err(ImageError::io("read", path))? {
        job.advance(0)?;
        let mut entry = entry.map_err(ImageError::io("read", path))?;
        if entry.header().entry_type().is_file() {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            take(&name, &mut entry)?;
        }
    }
    Ok(())
}

/// Writes a layer, compressed, by its digest.
fn compressed(job: &Job<'_>, from: &mut dyn Read, blobs: &Path) -> Result<Written, ImageError> {
    fn failed(path: &Path) -> impl FnOnce(io::Error) -> ImageError {
        ImageError::io("write", path)
    }
    let place = tempfile::NamedTempFile::new_in(blobs).map_err(failed(blobs))?;
    let (mut plain, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    let mut to = GzEncoder::new(Counted::new(place.as_file()), Compression::default());
    loop {
        job.advance(0)?;
        let count = from.read(&mut buffer).map_err(ImageError::io("read a layer for", place.path()))?;
        if count == 0 {
            break;
        }
        plain.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(failed(place.path()))?;
    }
    let Counted { hash, size, .. } = to.finish().map_err(failed(place.path()))?;
    let digest = sha256_name(hash);
    let target: PathBuf = blobs.join(digest.trim_start_matches("sha256:"));
    place.persist(&target).map_err(|error| error.error).map_err(failed(&target))?;
    Ok(Written { digest, size, plain: sha256_name(plain) })
}
