//! A repository of a registry, to read documents and blobs from, and to write them to.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use oci_client::errors::OciDistributionError;
use oci_client::{Reference, RegistryOperation};

use super::bundle::Bundle;
use super::credentials::Credentials;
use super::error::ImageError;
use super::job::{Blobs as _, Job};
use super::layout::verify;
use super::manifest::{Descriptor, Document, choose};
use super::registry::Registry;
use super::stream::{sha256_hex, sha256_of};
use super::{ImageStore, source};

/// How long one blob may take on its way there; what does not come on at all is noticed much sooner.
const A_BLOB: Duration = Duration::from_secs(24 * 60 * 60);
/// How many bytes of a blob are read at once.
const PIECE: usize = 1 << 20;
/// How many tags are asked for at once.
const PAGE: usize = 1000;

/// A repository of a registry.
pub struct Remote<'a, 'b> {
    store: &'a ImageStore,
    registry: Registry<'a, 'b>,
}

impl ImageStore {
    /// Works with the repository of a reference.
    ///
    /// # Errors
    /// If there is no login that could be used, and what the work gives.
    pub fn at_registry<T, E: From<ImageError>>(
        &self,
        reference: &str,
        credentials: &Credentials,
        progress: &(dyn Fn(u64, Option<u64>) + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
        work: impl FnOnce(&Remote<'_, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let job = Job::new(self, progress, cancelled);
        let registry = Registry::new(&job, source::reference(reference)?, reference, credentials)?;
        work(&Remote { store: self, registry })
    }
}

impl Remote<'_, '_> {
    /// A tag or a digest of this repository.
    fn at(&self, name: &str) -> Reference {
        let reference = &self.registry.reference;
        match name.contains(':') {
            true => reference.clone_with_digest(name.to_owned()),
            false => {
                let (registry, repository) = (reference.registry(), reference.repository());
                Reference::with_tag(registry.to_owned(), repository.to_owned(), name.to_owned())
            }
        }
    }

    /// What the reference means now, by its digest, which means the same for ever.
    ///
    /// # Errors
    /// If the registry has it not, or cannot be asked.
    pub fn pinned(&self) -> Result<String, ImageError> {
        let reference = &self.registry.reference;
        let document = self.registry.document(reference)?;
        let digest = sha256_of(&document);
        if let Some(expected) = reference.digest() {
            verify(format!("manifest of `{}`", self.registry.origin), expected, digest.clone())?;
        }
        Ok(format!("{}/{}@{digest}", reference.registry(), reference.repository()))
    }

    /// Asks for what the reference means, and takes none of it: whether the registry gives it to who asks.
    ///
    /// # Errors
    /// If it has it not, does not give it, or cannot be asked.
    pub fn answers(&self) -> Result<(), ImageError> {
        let registry = &self.registry;
        let exchange = registry.client.fetch_manifest_digest(&registry.reference, &registry.auth);
        registry.run(registry.patience(), exchange)?.map(drop).map_err(|error| registry.trouble(error))
    }

    /// The tags of the repository; none if there is no such repository.
    ///
    /// # Errors
    /// If the registry cannot be asked.
    pub fn tags(&self) -> Result<Vec<String>, ImageError> {
        let mut tags: Vec<String> = Vec::new();
        loop {
            let (registry, last) = (&self.registry, tags.last().cloned());
            let page =
                registry.client.list_tags(&registry.reference, &registry.auth, Some(PAGE), last.as_deref());
            let page = registry.run(registry.patience(), page)?.map_err(|error| registry.trouble(error));
            let page = match page {
                Err(ImageError::NotFound { .. }) => return Ok(tags),
                other => other?.tags,
            };
            let is_last = page.len() < PAGE;
            tags.extend(page);
            if is_last {
                return Ok(tags);
            }
        }
    }

    /// The document of a tag or digest; nothing if there is none.
    ///
    /// # Errors
    /// If the registry cannot be asked, or gives something else than what a digest means.
    pub fn document(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let at = self.at(name);
        match self.registry.document(&at) {
            Err(ImageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(document) => {
                if let Some(expected) = at.digest() {
                    verify(format!("manifest {name}"), expected, sha256_of(&document))?;
                }
                Ok(Some(document))
            }
        }
    }

    /// A blob, verified, of this many bytes.
    ///
    /// # Errors
    /// If the registry has it not, or gives something else.
    pub fn blob(&self, digest: &str, size: u64) -> Result<Vec<u8>, ImageError> {
        let at = Descriptor { media_type: String::new(), digest: digest.to_owned(), size, platform: None };
        let job = self.registry.job;
        let _lock = self.store.lock(job.cancelled)?;
        let mut registry = &self.registry;
        let mut file = registry.layer(&at)?;
        let mut bytes = Vec::new();
        let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
        registry.done(&at);
        read.map_err(ImageError::io("read a blob below", &self.store.blobs))?;
        Ok(bytes)
    }

    /// A blob, verified, of this many bytes, put into a file. What a try that was cut off has had is not fetched again.
    ///
    /// # Errors
    /// If the registry has it not, gives something else, or the disk is full.
    pub(crate) fn blob_to(&self, digest: &str, size: u64, place: &Path) -> Result<(), ImageError> {
        let at = Descriptor { media_type: String::new(), digest: digest.to_owned(), size, platform: None };
        let _lock = self.store.lock(self.registry.job.cancelled)?;
        self.put(&at, place)
    }

    fn put(&self, part: &Descriptor, place: &Path) -> Result<(), ImageError> {
        let mut registry = &self.registry;
        let mut from = registry.layer(part)?;
        from.rewind().map_err(ImageError::io("read a blob below", &self.store.blobs))?;
        let mut to = File::create(place).map_err(ImageError::io("write", place))?;
        std::io::copy(&mut from, &mut to).map_err(ImageError::io("write", place))?;
        registry.done(part);
        Ok(())
    }

    /// Writes to a folder all of the image that the reference is which a machine like this one needs, each blob by its
    /// digest; and gives the digest of the whole.
    ///
    /// # Errors
    /// If the registry has not all of it, or it cannot be written.
    pub(crate) fn save(&self, blobs: &Path) -> Result<String, ImageError> {
        let registry = &self.registry;
        let origin = registry.origin;
        let put = |digest: &str, bytes: &[u8]| {
            let place = blobs.join(sha256_hex(digest).unwrap_or_default());
            std::fs::write(&place, bytes).map_err(ImageError::io("write", place))
        };
        let mut document = registry.document(&registry.reference)?;
        let top = sha256_of(&document);
        if let Some(expected) = registry.reference.digest() {
            verify(format!("manifest of `{origin}`"), expected, top.clone())?;
        }
        put(&top, &document)?;
        while let Document::Index(list) = Document::parse(&document, origin)? {
            let chosen = choose(&list, origin)?;
            let mut registry = registry;
            document = registry.manifest(&chosen)?;
            put(&chosen.digest, &document)?;
        }
        let Document::Manifest(manifest) = Document::parse(&document, origin)? else { return Ok(top) };
        let _lock = self.store.lock(registry.job.cancelled)?;
        for part in manifest.layers.iter().chain([&manifest.config]) {
            self.put(part, &blobs.join(part.hex(origin)?))?;
        }
        Ok(top)
    }

    /// Asks to be let write to the repository.
    ///
    /// # Errors
    /// If the registry lets nobody, or not this login.
    pub(crate) fn to_write(&self) -> Result<(), ImageError> {
        let registry = &self.registry;
        let exchange = registry.client.auth(&registry.reference, &registry.auth, RegistryOperation::Push);
        registry.run(registry.patience(), exchange)?.map_err(|error| registry.trouble(error))?;
        Ok(())
    }

    fn lacks(&self, digest: &str) -> Result<bool, ImageError> {
        let registry = &self.registry;
        let exchange = registry.client.blob_exists(&registry.reference, digest);
        match registry.run(registry.patience(), exchange)? {
            Ok(is_there) => Ok(!is_there),
            // Some registries do not say so of a repository that is not there yet.
            Err(OciDistributionError::RequestError(error)) if error.status().is_some() => Ok(true),
            Err(error) => Err(registry.trouble(error)),
        }
    }

    /// Writes a blob, unless it is there.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub fn push_blob(&self, bytes: &[u8]) -> Result<String, ImageError> {
        self.to_write()?;
        let (registry, digest) = (&self.registry, sha256_of(bytes));
        if self.lacks(&digest)? {
            let body = Bytes::copy_from_slice(bytes);
            let exchange = registry.client.push_blob(&registry.reference, body, &digest);
            registry.run(A_BLOB, exchange)?.map_err(|error| registry.trouble(error))?;
        }
        Ok(digest)
    }

    /// Writes a blob that lies in a file, unless it is there.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub(crate) fn push_file(&self, digest: &str, path: &Path) -> Result<(), ImageError> {
        let registry = &self.registry;
        let file = File::open(path).map_err(ImageError::io("read", path))?;
        let size = file.metadata().map_err(ImageError::io("look at", path))?.len();
        if self.lacks(digest)? {
            let pieces = futures_util::stream::unfold(file, |mut file| async move {
                let mut piece = Vec::new();
                match file.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                    Ok(0) => None,
                    Ok(_) => Some((Ok(Bytes::from(piece)), file)),
                    Err(error) => Some((Err(OciDistributionError::IoError(error)), file)),
                }
            });
            let exchange = registry.client.push_blob_stream(&registry.reference, pieces, digest, Some(size));
            registry.run(A_BLOB, exchange)?.map_err(|error| registry.trouble(error))?;
        }
        registry.job.advance(size)
    }

    /// Writes a document, under a tag or its digest. What it refers to is there.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub fn push_document(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<String, ImageError> {
        self.to_write()?;
        let (registry, digest) = (&self.registry, sha256_of(bytes));
        let kind = media_type.parse().map_err(|_| ImageError::NotAnImage {
            origin: name.to_owned(),
            reason: "its kind has letters that cannot be sent".to_owned(),
        })?;
        let body = Bytes::copy_from_slice(bytes);
        let at = self.at(name);
        let exchange = registry.client.push_manifest_raw(&at, body, kind);
        registry.run(registry.patience(), exchange)?.map_err(|error| registry.trouble(error))?;
        Ok(digest)
    }

    /// Writes an image under a tag, and gives it by its digest.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub(crate) fn push_image(&self, tag: &str, image: &Bundle) -> Result<String, ImageError> {
        self.to_write()?;
        let parts: Vec<_> = image.parts().collect();
        let sizes = parts.iter().filter_map(|(_, path)| Some(path.metadata().ok()?.len()));
        self.registry.job.expect(sizes.fold(0, u64::saturating_add));
        for (digest, path) in parts {
            self.push_file(&digest, path)?;
        }
        let digest = self.push_document(tag, &image.media_type, &image.document)?;
        let reference = &self.registry.reference;
        Ok(format!("{}/{}@{digest}", reference.registry(), reference.repository()))
    }
}
