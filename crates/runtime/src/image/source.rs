//! Where an image is from.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use oci_client::Reference;
use sha2::{Digest as _, Sha256};

use super::error::ImageError;
use super::job::{Fetched, Job};
use super::record::Record;
use super::stream::sha256_name;
use super::{Config, Image};

/// Where an image is from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A registry, by name and tag or digest.
    Reference(String),
    /// A folder in OCI's layout.
    Layout(PathBuf),
    /// A tar of such a folder, maybe compressed.
    Archive(PathBuf),
    /// A root file system, used where it is.
    RootfsDir(PathBuf),
    /// A tar of a root file system, maybe compressed.
    RootfsTar(PathBuf),
}

impl Source {
    /// Reads what a manifest says as `image`: a path begins with `.` or `/` and is taken from `base`, and what is
    /// there tells a layout from an archive; anything else is a reference.
    ///
    /// # Errors
    /// When the path is not there or the reference is malformed.
    pub fn parse_image(text: &str, base: &Path) -> Result<Source, ImageError> {
        if text.starts_with(['.', '/']) {
            let path = base.join(text);
            return Ok(if is_dir(&path)? { Source::Layout(path) } else { Source::Archive(path) });
        }
        reference(text)?;
        Ok(Source::Reference(text.to_owned()))
    }

    /// Reads what a manifest says as `rootfs`: a folder is used in place, a file is a tar.
    ///
    /// # Errors
    /// When the path is not there.
    pub fn parse_rootfs(text: &str, base: &Path) -> Result<Source, ImageError> {
        let path = base.join(text);
        Ok(if is_dir(&path)? { Source::RootfsDir(path) } else { Source::RootfsTar(path) })
    }

    /// The path, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::Reference(_) => None,
            Source::Layout(path)
            | Source::Archive(path)
            | Source::RootfsDir(path)
            | Source::RootfsTar(path) => Some(path),
        }
    }

    /// What its record is found by.
    pub(super) fn key(&self) -> Result<String, ImageError> {
        let at = |kind: &str, path: &Path| Ok(format!("{kind}:{}", canonical(path)?.display()));
        match self {
            // As it is written: reading it would take longer than all else that a look without changes does.
            Source::Reference(text) => Ok(format!("reference:{text}")),
            Source::Layout(path) => at("layout", path),
            Source::Archive(path) => at("archive", path),
            Source::RootfsDir(path) => at("dir", path),
            Source::RootfsTar(path) => at("rootfs", path),
        }
    }
}

/// Reads a reference.
pub(super) fn reference(text: &str) -> Result<Reference, ImageError> {
    text.parse().map_err(|e: oci_client::ParseError| ImageError::BadReference {
        text: text.to_owned(),
        reason: e.to_string(),
    })
}

fn is_dir(path: &Path) -> Result<bool, ImageError> {
    match path.metadata() {
        Ok(meta) => Ok(meta.is_dir()),
        Err(e) => Err(missing(path, e)),
    }
}

fn canonical(path: &Path) -> Result<PathBuf, ImageError> {
    path.canonicalize().map_err(|e| missing(path, e))
}

/// The error for a path that may not be there.
pub(crate) fn missing(path: &Path, error: io::Error) -> ImageError {
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
        ImageError::NoSuchPath { path: path.to_owned() }
    } else {
        ImageError::Io { what: "look at", path: path.to_owned(), source: error }
    }
}

/// A root file system where it is.
pub(super) fn rootfs_dir(path: &Path) -> Result<Image, ImageError> {
    let path = canonical(path)?;
    if !path.is_dir() {
        return Err(ImageError::Io {
            what: "use as a root",
            path,
            source: io::ErrorKind::NotADirectory.into(),
        });
    }
    let digest = format!("dir:{}", path.display());
    Ok(Image { named: digest.clone(), digest, layers: vec![path], config: Config::default() })
}

/// A tar of a root file system, as the one layer of an image.
pub(super) fn rootfs_tar(job: &Job<'_>, path: &Path, before: Option<&Record>) -> Result<Fetched, ImageError> {
    let mut file = open_regular(path)?;
    let length = file.metadata().map_err(ImageError::io("look at", path))?.len();
    job.expect(length.saturating_mul(2));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut buffer).map_err(ImageError::io("read", path))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        job.advance(count as u64)?;
    }
    let digest = sha256_name(hash);
    if let Some(record) = before.filter(|r| r.digest == digest && job.store.image(r).is_some()) {
        let diff_ids = record.diff_ids.clone();
        return Ok(Fetched { named: digest.clone(), digest, diff_ids, config: Config::default() });
    }
    file.rewind().map_err(ImageError::io("read", path))?;
    let label = path.display().to_string();
    let diff_id = job.unpack(file, &label, None)?;
    Ok(Fetched { named: digest.clone(), digest, diff_ids: vec![diff_id], config: Config::default() })
}

/// Opens a regular file, without waiting on a fifo.
pub(super) fn open_regular(path: &Path) -> Result<File, ImageError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| missing(path, e.into()))?.into();
    if file.metadata().map_err(ImageError::io("look at", path))?.is_file() {
        return Ok(file);
    }
    let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    Err(ImageError::Io { what: "read", path: path.to_owned(), source })
}
