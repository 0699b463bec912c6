//! Images in OCI's layout, made ready for engines that load images themselves.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::error::ImageError;
use super::job::{Blobs as _, Job};
use super::layout::{self, Found};
use super::manifest::{Descriptor, configuration};
use super::source::open_regular;
use super::stream::sha256_of;
use super::{ImageStore, archive, saved};

/// What a manifest is whose text does not say it.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// One image of a layout, chosen for this machine and verified, as the files of an archive.
///
/// The archive has two tables of contents over the same blobs: that of OCI's layout, by which the manifest keeps its
/// digest, and that of `docker save`, for engines that know no other.
pub(crate) struct Bundle {
    /// The image's manifest, and what kind of document that is.
    pub(super) document: Vec<u8>,
    pub(super) media_type: String,
    tables: Vec<(&'static str, Vec<u8>)>,
    blobs: Vec<(String, PathBuf)>,
    /// Where an archive was spread, and the lock that keeps others from tidying it away.
    _spread: Option<(TempDir, File)>,
}

impl ImageStore {
    /// The image of a file that an engine saved it to.
    ///
    /// # Errors
    /// If it is none, or its parts are not what it says that they are.
    pub(crate) fn saved(
        &self,
        path: &Path,
        progress: &(dyn Fn(u64, Option<u64>) + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Bundle, ImageError> {
        let job = Job::new(self, progress, cancelled);
        let lock = self.lock(cancelled)?;
        self.tidy()?;
        let folder = saved::spread(&job, path)?;
        let layout = folder.path().to_owned();
        bundle(&job, &layout, path, Some((folder, lock)))
    }

    /// An image of a layout's folder, by its digest.
    ///
    /// # Errors
    /// If it is not there, or its parts are not what it says that they are.
    pub(crate) fn bundle_of(
        &self,
        path: &Path,
        digest: &str,
        progress: &(dyn Fn(u64, Option<u64>) + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Bundle, ImageError> {
        let job = Job::new(self, progress, cancelled);
        let found = layout::by_digest(&job, path, &path.display().to_string(), digest)?;
        bundled(&job, found, path, path, None)
    }

    /// The image of a layout's folder, or of an archive of one; nothing for an archive in another form.
    ///
    /// # Errors
    /// As [`ImageStore::ensure`], besides what only unpacking layers would find.
    pub(crate) fn bundle(
        &self,
        path: &Path,
        progress: &(dyn Fn(u64, Option<u64>) + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Bundle>, ImageError> {
        let job = Job::new(self, progress, cancelled);
        if path.is_dir() {
            return bundle(&job, path, path, None).map(Some);
        }
        let lock = self.lock(cancelled)?;
        self.tidy()?;
        let folder = archive::spread(&job, path)?;
        if !folder.path().join(layout::MARK).is_file() {
            return Ok(None);
        }
        let layout = folder.path().to_owned();
        bundle(&job, &layout, path, Some((folder, lock))).map(Some)
    }
}

fn bundle(
    job: &Job<'_>,
    path: &Path,
    shown: &Path,
    spread: Option<(TempDir, File)>,
) -> Result<Bundle, ImageError> {
    bundled(job, layout::find(job, path, shown)?, path, shown, spread)
}

fn bundled(
    job: &Job<'_>,
    found: Found<'_, '_>,
    path: &Path,
    shown: &Path,
    spread: Option<(TempDir, File)>,
) -> Result<Bundle, ImageError> {
    let Found { digest, manifest, mut folder } = found;
    let origin = shown.display().to_string();
    let config = folder.config(&manifest.config)?;
    configuration(&config, manifest.layers.len(), &origin)?;
    job.expect(manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add));
    for layer in &manifest.layers {
        folder.layer(layer)?;
    }
    let name = |digest: &str| format!("blobs/{}", digest.replacen(':', "/", 1));
    let text = read(&path.join(name(&digest)))?;
    let said: Value = serde_json::from_slice(&text).unwrap_or_default();
    let kind = said["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{ "mediaType": kind, "digest": digest, "size": text.len() }],
    });
    let of = |at: &Descriptor| name(&at.digest);
    let layers: Vec<String> = manifest.layers.iter().map(of).collect();
    let saved = json!([{ "Config": of(&manifest.config), "RepoTags": null, "Layers": layers }]);
    let names: BTreeSet<String> =
        layers.iter().cloned().chain([name(&digest), of(&manifest.config)]).collect();
    Ok(Bundle {
        document: text,
        media_type: kind,
        tables: vec![
            (layout::MARK, read(&path.join(layout::MARK))?),
            (layout::INDEX, index.to_string().into_bytes()),
            ("manifest.json", saved.to_string().into_bytes()),
        ],
        blobs: names.into_iter().map(|name| (name.clone(), path.join(name))).collect(),
        _spread: spread,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    layout::read_small(open_regular(path)?, path)
}

impl Bundle {
    /// The blobs that its manifest refers to: their digests, and the files that hold them.
    pub(super) fn parts(&self) -> impl Iterator<Item = (String, &Path)> {
        let own = sha256_of(&self.document);
        self.blobs.iter().filter_map(move |(name, path)| {
            let digest = name.strip_prefix("blobs/")?.replacen('/', ":", 1);
            (digest != own).then_some((digest, path.as_path()))
        })
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// If a blob has gone, or what takes the archive ends.
    pub(crate) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(to);
        for (name, text) in &self.tables {
            let mut header = header(text.len() as u64);
            archive.append_data(&mut header, name, text.as_slice())?;
        }
        for (name, path) in &self.blobs {
            let file = File::open(path)?;
            let mut header = header(file.metadata()?.len());
            archive.append_data(&mut header, name, file)?;
        }
        archive.finish()
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header
}
