//! Images: from a reference, a folder or an archive to verified, unpacked layers.
//!
//! A layer is a folder named by the digest of its unpacked bytes; it is written beside its place and moved there
//! once every digest was found right, so a folder that is there is whole. A record remembers what each source
//! was when it was last fetched, so that what is here needs no network.

mod archive;
mod bundle;
mod credentials;
mod error;
mod job;
mod layout;
mod manifest;
mod record;
mod registry;
mod remote;
mod saved;
mod source;
mod stream;
mod tree;
mod trouble;
mod unpack;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use setpoint_model::container::Health;

pub(crate) use bundle::Bundle;
pub use credentials::Credentials;
pub(crate) use credentials::{PREFIX as LOGINS, VARIABLES};
pub use error::{Bound, ImageError, Rule};
pub(crate) use manifest::{architectures, architectures_of};
pub use remote::Remote;
pub use source::Source;
pub(crate) use source::missing;
pub(crate) use stream::{Counted, sha256_hex, sha256_name, sha256_of};
pub(crate) use trouble::deepest;
pub(crate) use unpack::{lawful, volume};

use crate::remove::remove_tree;
use job::Job;
use record::{Record, Stat};

/// An image that is ready to be a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its manifest; of the file for a tar of a root; `dir:` and the path for a folder.
    pub digest: String,
    /// The digest that registries know it by, which is that of all its platforms where there are several.
    pub named: String,
    /// The unpacked layers, lowest first, each once.
    pub layers: Vec<PathBuf>,
    /// What its author set for processes in it.
    pub config: Config,
}

/// What an image's author set for processes in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Variables as `NAME=value`.
    pub env: Vec<String>,
    /// Name or id, and maybe a group after a colon.
    pub user: Option<String>,
    /// The working folder.
    pub workdir: Option<String>,
    /// What a container runs, before its command.
    pub entrypoint: Vec<String>,
    /// What a container runs, or the arguments of its entrypoint.
    pub command: Vec<String>,
    /// The signal that asks a container to end.
    pub stop_signal: Option<String>,
    /// How it is found out whether a container is well.
    pub health: Option<Health>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where it keeps its data; nothing is known of what an earlier version fetched.
    #[serde(default)]
    pub volumes: Vec<String>,
}

/// Bounds on what is unpacked and waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Unpacked bytes of one layer.
    pub bytes: u64,
    /// Entries of one layer.
    pub entries: u64,
    /// Unpacked bytes for each compressed one, once 64 MiB are unpacked.
    pub ratio: u64,
    /// Bytes of one path.
    pub path: u64,
    /// Bytes of the headers of one entry.
    pub headers: u64,
    /// How long to wait for a connection.
    pub connect: Duration,
    /// How long to wait for an answer, or for more of one.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 64 << 30,
            entries: 4_000_000,
            ratio: 1000,
            path: 4096,
            headers: 4 << 20,
            connect: Duration::from_secs(8),
            answer: Duration::from_secs(30),
        }
    }
}

/// The unpacked layers of a state root and the records of where they are from.
#[derive(Debug, Clone)]
pub struct ImageStore {
    layers: PathBuf,
    images: PathBuf,
    blobs: PathBuf,
    limits: Limits,
}

impl ImageStore {
    /// The store below a state root. Nothing is made until the first image is.
    pub fn new(state_root: &Path) -> ImageStore {
        ImageStore::with_limits(state_root, Limits::default())
    }

    /// The same with other bounds.
    pub fn with_limits(state_root: &Path, limits: Limits) -> ImageStore {
        ImageStore {
            layers: state_root.join("layers/v1"),
            images: state_root.join("images/v1"),
            blobs: state_root.join("blobs/v1"),
            limits,
        }
    }

    /// What a source was when last fetched, if all of it is still here. Never uses the network.
    ///
    /// # Errors
    /// For a malformed reference, or a path that cannot be read.
    pub fn local(&self, source: &Source) -> Result<Option<Image>, ImageError> {
        if let Source::RootfsDir(path) = source {
            return source::rootfs_dir(path).map(Some);
        }
        let key = source.key()?;
        let stat = Stat::of(source)?;
        Ok(Record::read(&self.images, &key).filter(|r| r.stat == stat).and_then(|r| self.image(&r)))
    }

    /// The image of a source, fetched and unpacked where needed.
    ///
    /// With `always`, the registry is asked what the reference means now; without, only if it is not here.
    /// `progress` gets the bytes done and, once known, in all.
    ///
    /// # Errors
    /// One [`ImageError`] a cause; then nothing was added but whole layers.
    pub fn ensure(
        &self,
        source: &Source,
        always: bool,
        credentials: &Credentials,
        progress: &(dyn Fn(u64, Option<u64>) + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Image, ImageError> {
        let here = || if always { Ok(None) } else { self.local(source) };
        if let Source::RootfsDir(path) = source {
            return source::rootfs_dir(path);
        }
        if let Some(image) = here()? {
            return Ok(image);
        }
        let _lock = self.lock(cancelled)?;
        if let Some(image) = here()? {
            return Ok(image);
        }
        self.tidy()?;
        let key = source.key()?;
        let before = Record::read(&self.images, &key);
        let stat = Stat::of(source)?;
        let job = Job::new(self, progress, cancelled);
        let fetched = match source {
            Source::Reference(text) => registry::pull(&job, text, credentials, before.as_ref())?,
            Source::Layout(path) => layout::load(&job, path, path)?,
            Source::Archive(path) => archive::load(&job, path)?,
            Source::RootfsTar(path) => source::rootfs_tar(&job, path, before.as_ref())?,
            Source::RootfsDir(path) => return source::rootfs_dir(path),
        };
        let record = Record {
            source: key,
            stat,
            digest: fetched.digest,
            named: fetched.named,
            diff_ids: fetched.diff_ids,
            config: fetched.config,
        };
        record.write(&self.images)?;
        self.image(&record).ok_or_else(|| ImageError::Io {
            what: "find the layers in",
            path: self.layers.clone(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// Takes an image in that lies in the folder of a layout, by its digest, as what a reference means: no registry is
    /// asked for it any more.
    ///
    /// # Errors
    /// As [`ImageStore::ensure`].
    pub(crate) fn take_in(
        &self,
        reference: &str,
        digest: &str,
        layout: &Path,
        progress: &(dyn Fn(u64, Option<u64>) + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), ImageError> {
        let source = Source::parse_image(reference, layout)?;
        let _lock = self.lock(cancelled)?;
        let job = Job::new(self, progress, cancelled);
        let mut found = layout::by_digest(&job, layout, reference, digest)?;
        let fetched = job.assemble(found.digest, &found.manifest, reference, &mut found.folder)?;
        let record = Record {
            source: source.key()?,
            stat: Stat::of(&source)?,
            digest: fetched.digest,
            named: digest.to_owned(),
            diff_ids: fetched.diff_ids,
            config: fetched.config,
        };
        record.write(&self.images)
    }

    /// The digests of all that the folder of a layout has of an image, each of which is verified. `origin` is what the
    /// layout is to people.
    ///
    /// # Errors
    /// If something of it is missing, or is not what it should be.
    pub(crate) fn parts_of(
        &self,
        layout: &Path,
        origin: &str,
        digest: &str,
    ) -> Result<Vec<String>, ImageError> {
        layout::parts(&Job::new(self, &|_, _| {}, &|| false), layout, origin, digest)
    }

    /// Spreads the archive of a layout in a folder. Nothing of it is verified.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than the bounds.
    pub(crate) fn spread(
        &self,
        path: &Path,
        into: &Path,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), ImageError> {
        archive::spread_into(&Job::new(self, &|_, _| {}, cancelled), path, into)
    }

    /// The folder of a layer.
    fn layer(&self, diff_id: &str) -> Option<PathBuf> {
        stream::sha256_hex(diff_id).map(|hex| self.layers.join(hex))
    }

    /// The image of a record, if all its layers are here.
    fn image(&self, record: &Record) -> Option<Image> {
        let mut layers = Vec::new();
        for (at, diff_id) in record.diff_ids.iter().enumerate() {
            // A layer that comes again further up hides all of its lower self; overlayfs refuses both.
            if record.diff_ids[at + 1..].contains(diff_id) {
                continue;
            }
            let folder = self.layer(diff_id)?;
            if !folder.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                return None;
            }
            layers.push(folder);
        }
        let (digest, config) = (record.digest.clone(), record.config.clone());
        // One that an earlier version fetched may be one of several platforms'.
        let named = Some(&record.named).filter(|named| !named.is_empty()).unwrap_or(&digest).clone();
        Some(Image { digest, named, layers, config })
    }

    /// One process at a time changes the store.
    fn lock(&self, cancelled: &(dyn Fn() -> bool + Sync)) -> Result<File, ImageError> {
        for folder in [&self.layers, &self.images, &self.blobs] {
            // Private: layers may hold setuid files of root.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(ImageError::io("make the folder", folder))?;
        }
        let path = self.images.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(ImageError::io("open", &path))?;
        loop {
            if cancelled() {
                return Err(ImageError::Cancelled);
            }
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
                Err(TryLockError::Error(source)) => {
                    return Err(ImageError::Io { what: "lock", path, source });
                }
            }
        }
    }

    /// Removes what crashed processes left behind. The lock is held.
    fn tidy(&self) -> Result<(), ImageError> {
        for folder in [&self.layers, &self.images, &self.blobs] {
            for entry in std::fs::read_dir(folder).map_err(ImageError::io("read", folder))? {
                let entry = entry.map_err(ImageError::io("read", folder))?;
                let name = entry.file_name();
                if name == ".lock" || !name.as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                let path = entry.path();
                let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let removed = if folder { remove_tree(&path) } else { std::fs::remove_file(&path) };
                removed.map_err(ImageError::io("remove", &path))?;
            }
        }
        Ok(())
    }
}
