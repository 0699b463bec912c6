//! One fetch under way: its progress, and the way from blobs to layers that all sources share.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};

use super::error::ImageError;
use super::manifest::{Descriptor, Document, Manifest, choose, configuration};
use super::stream::{sha256_hex, sha256_of};
use super::{Config, ImageStore, unpack};
use crate::remove::remove_tree;

/// What a fetch found.
pub(super) struct Fetched {
    pub(super) digest: String,
    /// The digest of what was asked for.
    pub(super) named: String,
    pub(super) diff_ids: Vec<String>,
    pub(super) config: Config,
}

/// Where blobs are from. What they give is verified.
pub(super) trait Blobs {
    /// A manifest or index.
    fn manifest(&mut self, at: &Descriptor) -> Result<Vec<u8>, ImageError>;
    /// A configuration.
    fn config(&mut self, at: &Descriptor) -> Result<Vec<u8>, ImageError>;
    /// A layer, its reader at the start.
    fn layer(&mut self, at: &Descriptor) -> Result<File, ImageError>;
    /// The layer is not needed any more.
    fn done(&mut self, at: &Descriptor);
}

/// One fetch under way.
pub(super) struct Job<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) cancelled: &'a (dyn Fn() -> bool + Sync),
    progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
    done: Cell<u64>,
    total: Cell<Option<u64>>,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        store: &'a ImageStore,
        progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
        cancelled: &'a (dyn Fn() -> bool + Sync),
    ) -> Job<'a> {
        Job { store, cancelled, progress, done: Cell::new(0), total: Cell::new(None) }
    }

    /// The total is known.
    pub(super) fn expect(&self, total: u64) {
        self.total.set(Some(total));
        (self.progress)(self.done.get(), Some(total));
    }

    /// So much more is done.
    pub(super) fn advance(&self, bytes: u64) -> Result<(), ImageError> {
        if (self.cancelled)() {
            return Err(ImageError::Cancelled);
        }
        self.done.set(self.done.get() + bytes);
        (self.progress)(self.done.get(), self.total.get());
        Ok(())
    }

    /// So much has to be done again.
    pub(super) fn retreat(&self, bytes: u64) {
        self.done.set(self.done.get().saturating_sub(bytes));
    }

    /// From a document to the manifest for this machine, with its digest.
    pub(super) fn resolve(
        &self,
        json: Vec<u8>,
        origin: &str,
        blobs: &mut dyn Blobs,
    ) -> Result<(String, Manifest), ImageError> {
        let mut json = json;
        // Layouts may have an index in their index; no more is of any use.
        for _ in 0..4 {
            match Document::parse(&json, origin)? {
                Document::Manifest(manifest) => return Ok((sha256_of(&json), manifest)),
                Document::Index(list) => json = blobs.manifest(&choose(&list, origin)?)?,
            }
        }
        let reason = "it is an index of an index of an index".to_owned();
        Err(ImageError::NotAnImage { origin: origin.to_owned(), reason })
    }

    /// Fetches and unpacks the layers that are not here.
    pub(super) fn assemble(
        &self,
        digest: String,
        manifest: &Manifest,
        origin: &str,
        blobs: &mut dyn Blobs,
    ) -> Result<Fetched, ImageError> {
        for descriptor in manifest.layers.iter().chain([&manifest.config]) {
            descriptor.hex(origin)?;
        }
        let json = blobs.config(&manifest.config)?;
        let (config, diff_ids) = configuration(&json, manifest.layers.len(), origin)?;
        let here = |id: &str| self.store.layer(id).is_some_and(|folder| folder.is_dir());
        let pairs = || manifest.layers.iter().zip(&diff_ids).filter(|(_, id)| !here(id));
        self.expect(self.done.get() + pairs().map(|(at, _)| at.size).fold(0, u64::saturating_add));
        for (at, diff_id) in pairs() {
            let unpacked =
                blobs.layer(at).and_then(|file| self.unpack(file, &at.digest, Some(diff_id)).map(drop));
            // What is there of it is kept for the next fetch, but not where everybody else needs the room.
            if unpacked.as_ref().err().is_none_or(ImageError::is_full) {
                blobs.done(at);
            }
            unpacked?;
        }
        Ok(Fetched { named: digest.clone(), digest, diff_ids, config })
    }

    /// Unpacks one layer beside its place and moves it there, if it is what it should be. Gives the digest of its
    /// unpacked bytes.
    pub(super) fn unpack(
        &self,
        blob: impl Read,
        label: &str,
        expected: Option<&str>,
    ) -> Result<String, ImageError> {
        let limits = &self.store.limits;
        let temporary = tempfile::Builder::new()
            .prefix(".unpacking-")
            .tempdir_in(&self.store.layers)
            .map_err(ImageError::io("make a folder in", &self.store.layers))?
            .keep();
        let unpacked = unpack::unpack(blob, &temporary, label, expected.is_none(), limits, self.cancelled);
        let placed = unpacked.and_then(|found| match expected {
            Some(expected) if expected != found => Err(ImageError::DiffIdMismatch {
                layer: label.to_owned(),
                expected: expected.to_owned(),
                found,
            }),
            _ => Ok(found),
        });
        let placed = placed.and_then(|found| {
            let hex = sha256_hex(&found).unwrap_or_default();
            let place = self.store.layers.join(hex);
            if place.is_dir() {
                return Ok((found, false));
            }
            let moved =
                std::fs::rename(&temporary, &place).and_then(|()| File::open(&self.store.layers)?.sync_all());
            moved.map_err(ImageError::io("move a layer to", &place)).map(|()| (found, true))
        });
        if let Ok((found, true)) = placed {
            return Ok(found);
        }
        let removed = remove_tree(&temporary).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(ImageError::Io { what: "remove", path: temporary, source: e }),
        });
        // Why it failed says more than that its remains could not be removed.
        placed.and_then(|(found, _)| removed.map(|()| found))
    }
}
