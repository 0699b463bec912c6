//! A release with all its images in one file: a layout of OCI in a tar, for machines that reach no registry.
//!
//! The file is always written in the same way. So it is verified by writing it once more, against itself: not one byte of
//! it can be another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use setpoint_model::release::bundle::{ARTIFACT, MANIFEST};

use super::error::ReleaseError;
use super::fetch::Registry;
use super::kept::{Kept, Releases};
use super::parcel::Parcel;
use super::scratch::Scratch;
use super::sign::{self, Keys};
use crate::artifact::{BLOBS, DOCUMENT, Document, Entry, INDEX, Index, MARK, MARK_TEXT};
use crate::engine::Engine;
use crate::image::{ImageStore, sha256_hex, sha256_of};

/// What is in a file, spread out.
struct Spread {
    scratch: Scratch,
    parcel: Parcel,
    signature: Option<Vec<u8>>,
    /// The images, each with the digest of its document.
    images: BTreeMap<String, String>,
}

/// Writes a release, which is kept here, with all its images to a file: whole, or not at all.
///
/// # Errors
/// If an image cannot be had, or the file cannot be written.
pub fn save(registry: &Registry<'_>, kept: &Kept, file: &Path) -> Result<(), ReleaseError> {
    let scratch = Scratch::take(registry.roots)?;
    let blobs = scratch.path().join(BLOBS);
    fs::create_dir_all(&blobs).map_err(ReleaseError::io("make the folder", &blobs))?;
    let mut images = BTreeMap::new();
    for image in kept.bundle.images.values() {
        let digest = registry.at(&image.reference, |remote| Ok(remote.save(&blobs)?))?;
        images.insert(image.reference.clone(), digest);
    }
    let (parcel, signature) = (kept.parcel()?, kept.signature()?);
    let spread = Spread { scratch, parcel, signature, images };
    spread.put()?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".setpoint-")
        .tempfile_in(folder)
        .map_err(ReleaseError::io("write in", folder))?;
    spread.write(&mut temporary)?;
    temporary.as_file().sync_all().map_err(ReleaseError::io("write", file))?;
    temporary.persist(file).map_err(|error| ReleaseError::io("write", file)(error.error))?;
    Ok(())
}

/// Verifies a file to its last byte, and gives what it holds.
///
/// # Errors
/// If it is none, or one byte of it is another.
pub fn verify(registry: &Registry<'_>, file: &Path) -> Result<Parcel, ReleaseError> {
    Ok(read(registry, file)?.parcel)
}

/// Takes the release of a file in, and its images into the engine that fits its manifest: from then on neither needs a
/// registry here.
///
/// # Errors
/// If the file is not what it should be, or the engine does not take an image.
pub fn load(
    registry: &Registry<'_>,
    engine: &dyn Fn(&str) -> Box<dyn Engine>,
    file: &Path,
) -> Result<Kept, ReleaseError> {
    let spread = read(registry, file)?;
    let files = spread.scratch.path().join("files");
    spread.parcel.unpack(&file.display().to_string(), &files)?;
    let manifest = files.join(MANIFEST);
    let text = fs::read_to_string(&manifest).map_err(ReleaseError::io("read", &manifest))?;
    let engine = engine(&text);
    for (reference, digest) in &spread.images {
        engine.load(reference, digest, spread.scratch.path(), registry.watcher, registry.cancel)?;
    }
    // The release comes last: who finds it here finds its images, too.
    Releases::of(registry.roots).keep(&spread.parcel, spread.signature.as_deref())
}

/// Spreads a file, and verifies all of it.
fn read(registry: &Registry<'_>, file: &Path) -> Result<Spread, ReleaseError> {
    let origin = file.display().to_string();
    let refused = |why: String| ReleaseError::Refused { origin: origin.clone(), why };
    let scratch = Scratch::take(registry.roots)?;
    let store = ImageStore::new(&registry.roots.state);
    store.spread(file, scratch.path(), &|| registry.cancel.asked())?;
    let place = |name: &str| scratch.path().join(name);
    let json = fs::read(place(INDEX)).map_err(|_| ReleaseError::NotARelease(origin.clone()))?;
    let index: Index =
        serde_json::from_slice(&json).map_err(|_| ReleaseError::NotARelease(origin.clone()))?;
    let blobs = place(BLOBS);
    let blob = |digest: &str| {
        let path = blobs.join(sha256_hex(digest).unwrap_or("none"));
        fs::read(&path).map_err(|_| refused(format!("it lacks {digest}")))
    };
    let of = |kind: &str| {
        let is_it = |entry: &&Entry| entry.artifact_type.as_deref() == Some(kind);
        index.manifests.iter().find(is_it).map(|entry| blob(&entry.digest)).transpose()
    };
    let document = of(ARTIFACT)?.ok_or_else(|| ReleaseError::NotARelease(origin.clone()))?;
    let parcel = Parcel::read(&origin, document, |digest, _| blob(digest))?;
    let signature = match of(sign::ARTIFACT)? {
        Some(document) => {
            let read: Document =
                serde_json::from_slice(&document).map_err(|error| refused(error.to_string()))?;
            let layer = read.layers.first().ok_or_else(|| refused("its signature is empty".to_owned()))?;
            Some(blob(&layer.digest)?)
        }
        None => None,
    };
    let named = |reference: &String| reference.rsplit_once('@').map(|(_, digest)| digest.to_owned());
    let images: BTreeMap<String, String> = parcel
        .bundle
        .images
        .values()
        .filter_map(|image| Some((image.reference.clone(), named(&image.reference)?)))
        .collect();
    let spread = Spread { scratch, parcel, signature, images };
    let mut reachable = spread.own();
    for digest in spread.images.values() {
        reachable.extend(store.parts_of(spread.scratch.path(), &origin, digest)?);
    }
    let here = spread.blobs()?;
    if let Some(more) = here.difference(&reachable).next() {
        return Err(refused(format!("it holds {more}, which nothing in it refers to")));
    }
    let mut compared = Compared { file: File::open(file).map_err(ReleaseError::io("read", file))? };
    spread.write(&mut compared).and_then(|()| match compared.file.read(&mut [0]) {
        Ok(0) => Ok(()),
        _ => Err(refused("there is more in it than it says".to_owned())),
    })?;
    Keys::of(registry.roots)?.check(
        &origin,
        &spread.parcel.bundle,
        &spread.parcel.digest,
        spread.signature.as_deref(),
    )?;
    Ok(spread)
}

impl Spread {
    /// The documents and parts of the release itself and of its signature, by their digests.
    fn texts(&self) -> Vec<Vec<u8>> {
        let Parcel { document, config, files, .. } = &self.parcel;
        let mut texts = vec![document.clone(), config.clone(), files.clone()];
        if let Some(signature) = &self.signature {
            texts.extend([sign::EMPTY_TEXT.to_vec(), signature.clone(), sign::document(signature)]);
        }
        texts
    }

    fn own(&self) -> BTreeSet<String> {
        self.texts().iter().map(|text| sha256_of(text)).collect()
    }

    fn place(&self, digest: &str) -> PathBuf {
        self.scratch.path().join(BLOBS).join(sha256_hex(digest).unwrap_or("none"))
    }

    /// Puts what is the release's own among the blobs.
    fn put(&self) -> Result<(), ReleaseError> {
        for text in self.texts() {
            let place = self.place(&sha256_of(&text));
            fs::write(&place, &text).map_err(ReleaseError::io("write", &place))?;
        }
        Ok(())
    }

    /// The blobs that are there.
    fn blobs(&self) -> Result<BTreeSet<String>, ReleaseError> {
        let folder = self.scratch.path().join(BLOBS);
        let failed = || ReleaseError::io("read", &folder);
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&folder).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            found.insert(format!("sha256:{}", name.to_string_lossy()));
        }
        Ok(found)
    }

    fn index(&self) -> Result<Vec<u8>, ReleaseError> {
        let bundle = &self.parcel.bundle;
        let origin = format!("{}:{}", bundle.repository, bundle.version);
        let mut manifests = vec![Entry::new(DOCUMENT, Some(ARTIFACT), &origin, &self.parcel.document)];
        if let Some(signature) = &self.signature {
            manifests.push(Entry::new(DOCUMENT, Some(sign::ARTIFACT), &origin, &sign::document(signature)));
        }
        for (reference, digest) in &self.images {
            let place = self.place(digest);
            let document = fs::read(&place).map_err(ReleaseError::io("read", &place))?;
            let kind: serde_json::Value = serde_json::from_slice(&document).unwrap_or_default();
            let kind = kind["mediaType"].as_str().unwrap_or(DOCUMENT);
            manifests.push(Entry::new(kind, None, reference, &document));
        }
        Ok(Index::of(manifests).written())
    }

    /// Writes all of it, always in the same way.
    fn write(&self, to: &mut dyn Write) -> Result<(), ReleaseError> {
        let mut archive = tar::Builder::new(to);
        let mark = MARK_TEXT.as_bytes().to_vec();
        for (name, text) in [(MARK, mark), (INDEX, self.index()?)] {
            archive
                .append_data(&mut header(text.len() as u64), name, text.as_slice())
                .map_err(|error| self.unequal(name, error))?;
        }
        for digest in self.blobs()? {
            let place = self.place(&digest);
            let file = File::open(&place).map_err(ReleaseError::io("read", &place))?;
            let size = file.metadata().map_err(ReleaseError::io("read", &place))?.len();
            let name = format!("{BLOBS}/{}", sha256_hex(&digest).unwrap_or_default());
            archive
                .append_data(&mut header(size), name, file)
                .map_err(|error| self.unequal(&digest, error))?;
        }
        archive.finish().map_err(|error| self.unequal("its end", error))
    }

    fn unequal(&self, what: &str, error: io::Error) -> ReleaseError {
        match error.kind() {
            io::ErrorKind::InvalidData => {
                let bundle = &self.parcel.bundle;
                let origin = format!("{}:{}", bundle.repository, bundle.version);
                ReleaseError::Refused { origin, why: format!("{error}, at {what}") }
            }
            _ => ReleaseError::io("write what is in", self.scratch.path())(error),
        }
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header
}

/// Takes what is written only if it is what is in a file already.
struct Compared {
    file: File,
}

impl Write for Compared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut there = vec![0; bytes.len()];
        let is_equal = self.file.read_exact(&mut there).is_ok() && there == bytes;
        let other = || io::Error::new(io::ErrorKind::InvalidData, "it is not as it was written");
        if is_equal { Ok(bytes.len()) } else { Err(other()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
