//! Images in OCI's folder layout.

use std::fs::File;
use std::io::{Read, Seek as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::ImageError;
use super::job::{Blobs, Fetched, Job};
use super::manifest::{Descriptor, Document, MOST_JSON, Manifest, choose};
use super::source::open_regular;
use super::stream::{sha256_hex, sha256_name, sha256_of};

/// The file by which a layout is known.
pub(super) const MARK: &str = "oci-layout";
/// The file that says which images a layout has.
pub(super) const INDEX: &str = "index.json";

/// The blobs of a layout.
pub(super) struct Folder<'a, 'b> {
    job: &'a Job<'b>,
    path: &'a Path,
    origin: String,
}

/// The image of a layout that is for this machine.
pub(super) struct Found<'a, 'b> {
    /// The digest of its manifest.
    pub(super) digest: String,
    pub(super) manifest: Manifest,
    /// Where its blobs are.
    pub(super) folder: Folder<'a, 'b>,
}

/// The image of a layout, unpacked; `shown` is its name in errors.
pub(super) fn load(job: &Job<'_>, path: &Path, shown: &Path) -> Result<Fetched, ImageError> {
    let Found { digest, manifest, mut folder } = find(job, path, shown)?;
    job.assemble(digest, &manifest, &shown.display().to_string(), &mut folder)
}

/// Finds the image of a layout; `shown` is its name in errors.
pub(super) fn find<'a, 'b>(
    job: &'a Job<'b>,
    path: &'a Path,
    shown: &Path,
) -> Result<Found<'a, 'b>, ImageError> {
    let origin = shown.display().to_string();
    let not = |reason: &str| ImageError::NotALayout { path: shown.to_owned(), reason: reason.to_owned() };
    if !path.join(MARK).is_file() {
        return Err(not("it has no file `oci-layout`"));
    }
    let index = path.join(INDEX);
    if !index.is_file() {
        return Err(not("it has no file `index.json`"));
    }
    let index = read_small(open_regular(&index)?, &index)?;
    let mut folder = Folder { job, path, origin: origin.clone() };
    let first = match Document::parse(&index, &origin)? {
        Document::Index(list) if list.is_empty() => return Err(not("its index is empty")),
        Document::Index(list) => folder.manifest(&choose(&list, &origin)?)?,
        Document::Manifest(_) => return Err(not("its `index.json` is no index")),
    };
    let (digest, manifest) = job.resolve(first, &origin, &mut folder)?;
    Ok(Found { digest, manifest, folder })
}

/// Finds an image of a layout by its digest, whatever else is there.
pub(super) fn by_digest<'a, 'b>(
    job: &'a Job<'b>,
    path: &'a Path,
    origin: &str,
    digest: &str,
) -> Result<Found<'a, 'b>, ImageError> {
    let mut folder = Folder { job, path, origin: origin.to_owned() };
    let first = folder.document(digest)?;
    let (digest, manifest) = job.resolve(first, origin, &mut folder)?;
    Ok(Found { digest, manifest, folder })
}

/// The digests of all that is in a layout of an image: its documents, and the blobs that they refer to, each of which is
/// verified.
pub(super) fn parts(
    job: &Job<'_>,
    path: &Path,
    origin: &str,
    digest: &str,
) -> Result<Vec<String>, ImageError> {
    let Found { digest: own, manifest, mut folder } = by_digest(job, path, origin, digest)?;
    let mut parts = vec![digest.to_owned(), own];
    folder.config(&manifest.config)?;
    for layer in &manifest.layers {
        folder.layer(layer)?;
    }
    parts.extend(manifest.layers.iter().chain([&manifest.config]).map(|part| part.digest.clone()));
    Ok(parts)
}

/// Reads a document, but never a huge one.
pub(super) fn read_small(file: impl Read, path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    file.take(MOST_JSON + 1).read_to_end(&mut bytes).map_err(ImageError::io("read", path))?;
    if bytes.len() as u64 > MOST_JSON {
        let what = path.display().to_string();
        return Err(ImageError::SizeMismatch { what, expected: MOST_JSON, found: bytes.len() as u64 });
    }
    Ok(bytes)
}

impl Folder<'_, '_> {
    fn open(&self, at: &Descriptor, what: &str) -> Result<(File, PathBuf, String), ImageError> {
        let path = self.path.join("blobs/sha256").join(at.hex(&self.origin)?);
        let what = format!("{what} {} of `{}`", at.digest, self.origin);
        let file = match open_regular(&path) {
            Err(ImageError::NoSuchPath { .. }) => {
                let path = PathBuf::from(&self.origin);
                return Err(ImageError::NotALayout { path, reason: format!("it lacks blob {}", at.digest) });
            }
            other => other?,
        };
        let found = file.metadata().map_err(ImageError::io("look at", &path))?.len();
        if found != at.size {
            return Err(ImageError::SizeMismatch { what, expected: at.size, found });
        }
        Ok((file, path, what))
    }

    /// A document whose size is told by nobody.
    fn document(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        let lacks = || ImageError::NotALayout {
            path: PathBuf::from(&self.origin),
            reason: format!("it lacks blob {digest}"),
        };
        let path = self.path.join("blobs/sha256").join(sha256_hex(digest).ok_or_else(lacks)?);
        let bytes = read_small(open_regular(&path).map_err(|_| lacks())?, &path)?;
        verify(format!("document {digest} of `{}`", self.origin), digest, sha256_of(&bytes))?;
        Ok(bytes)
    }

    fn small(&self, at: &Descriptor, what: &str) -> Result<Vec<u8>, ImageError> {
        let (file, path, what) = self.open(at, what)?;
        let bytes = read_small(file, &path)?;
        verify(what, &at.digest, sha256_of(&bytes))?;
        Ok(bytes)
    }
}

/// The digest is as promised.
pub(super) fn verify(what: String, expected: &str, found: String) -> Result<(), ImageError> {
    if expected == found {
        Ok(())
    } else {
        Err(ImageError::DigestMismatch { what, expected: expected.to_owned(), found })
    }
}

impl Blobs for Folder<'_, '_> {
    fn manifest(&mut self, at: &Descriptor) -> Result<Vec<u8>, ImageError> {
        self.small(at, "manifest")
    }

    fn config(&mut self, at: &Descriptor) -> Result<Vec<u8>, ImageError> {
        self.small(at, "configuration")
    }

    fn layer(&mut self, at: &Descriptor) -> Result<File, ImageError> {
        let (mut file, path, what) = self.open(at, "layer")?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = file.read(&mut buffer).map_err(ImageError::io("read", &path))?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            self.job.advance(count as u64)?;
        }
        verify(what, &at.digest, sha256_name(hash))?;
        file.rewind().map_err(ImageError::io("read", &path))?;
        Ok(file)
    }

    fn done(&mut self, _: &Descriptor) {}
}
