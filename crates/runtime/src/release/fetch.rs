//! Releases from a registry.

use std::collections::BTreeMap;

use setpoint_model::release::{Origin, Repository, Version, latest, near, versions};

use super::error::ReleaseError;
use super::kept::{Kept, Releases};
use super::parcel::Parcel;
use super::sign::Keys;
use crate::artifact::Document;
use crate::cancel::Cancel;
use crate::events::{Event, Watcher};
use crate::image::{Credentials, ImageError, ImageStore, Remote, sha256_of};
use crate::paths::Roots;

/// How many bytes a signature may have.
const MOST_SIGNATURE: u64 = 64 << 10;

/// Which version is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This one.
    Version(Version),
    /// The latest that is not one to try.
    Latest,
}

/// Where releases are fetched from: a repository of a registry, and what is on this machine already.
pub struct Registry<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// The caller's environment variables, for the login.
    pub variables: &'a BTreeMap<String, String>,
    /// Hears what happens.
    pub watcher: &'a dyn Watcher,
    /// Stops it.
    pub cancel: &'a Cancel,
}

/// Whether the registry could not be asked at all.
fn is_away(error: &ReleaseError) -> bool {
    matches!(error, ReleaseError::Image(ImageError::Unreachable { .. } | ImageError::Timeout { .. }))
}

impl Registry<'_> {
    /// Works with a repository.
    pub(super) fn at<T>(
        &self,
        reference: &str,
        work: impl FnOnce(&Remote<'_, '_>) -> Result<T, ReleaseError>,
    ) -> Result<T, ReleaseError> {
        let progress = |done, total| self.watcher.event(&Event::Bytes { done, total });
        let credentials = Credentials::from_env(self.variables);
        ImageStore::new(&self.roots.state).at_registry(
            reference,
            &credentials,
            &progress,
            &|| self.cancel.asked(),
            work,
        )
    }

    /// The versions of a repository, in order: those of the registry, or, where that cannot be reached, those that are
    /// on this machine.
    ///
    /// # Errors
    /// If the registry refuses, or there is nothing to go by.
    pub fn versions(&self, repository: &Repository) -> Result<Vec<Version>, ReleaseError> {
        let asked = self.at(repository.as_str(), |remote| Ok(remote.tags()?));
        match asked {
            Ok(tags) => Ok(versions(tags.iter().map(String::as_str))),
            Err(error) if is_away(&error) => match Releases::of(self.roots).versions(repository) {
                here if here.is_empty() => Err(error),
                here => Ok(here),
            },
            Err(error) => Err(error),
        }
    }

    /// The address of the version that is asked for.
    ///
    /// # Errors
    /// If there is none, or the registry cannot be asked.
    pub fn origin(&self, repository: &Repository, wanted: &Wanted) -> Result<Origin, ReleaseError> {
        let version = match wanted {
            Wanted::Version(version) => version.clone(),
            Wanted::Latest => {
                let known = self.versions(repository)?;
                latest(&known).cloned().ok_or_else(|| ReleaseError::Empty(repository.to_string()))?
            }
        };
        Ok(Origin { repository: repository.clone(), version })
    }

    /// A release, verified and kept. One that is on this machine needs no registry, but where that can be asked, both
    /// have to be the same.
    ///
    /// # Errors
    /// If there is no such version, or it is not what it should be.
    pub fn fetch(&self, origin: &Origin) -> Result<Kept, ReleaseError> {
        let releases = Releases::of(self.roots);
        let here = releases.named(origin)?;
        let wants_signature = !Keys::of(self.roots)?.is_empty();
        let asked = self.at(origin.repository.as_str(), |remote| {
            let Some(document) = remote.document(&origin.version.to_string())? else { return Ok(None) };
            let digest = sha256_of(&document);
            if let Some(here) = here.as_ref().filter(|here| **here != digest) {
                let why = format!("it came here as {here}, and there it is {digest} now");
                return Err(ReleaseError::Refused { origin: origin.to_string(), why });
            }
            let signature = if wants_signature { signature(remote, &digest)? } else { None };
            if here.is_some() && signature.is_none() {
                return Ok(Some(releases.open(&digest)?));
            }
            let blob = |digest: &str, size| Ok(remote.blob(digest, size)?);
            let parcel = Parcel::read(&origin.to_string(), document, blob)?;
            parcel
                .bundle
                .expect(&origin.repository, &origin.version)
                .map_err(ReleaseError::refused(origin))?;
            Ok(Some(releases.keep(&parcel, signature.as_deref())?))
        });
        match (asked, here) {
            (Ok(Some(kept)), _) => Ok(kept),
            (Ok(None), Some(here)) => releases.open(&here),
            (Err(error), Some(here)) if is_away(&error) => releases.open(&here),
            (Ok(None), None) => {
                let known = self.versions(&origin.repository)?;
                let near = near(&origin.version, &known).iter().map(ToString::to_string).collect();
                Err(ReleaseError::Unknown { origin: origin.clone(), near })
            }
            (Err(error), _) => Err(error),
        }
    }
}

/// The tag that the signature of a release has.
pub(super) fn signature_tag(digest: &str) -> String {
    format!("{}.sig", digest.replacen(':', "-", 1))
}

/// The signature that lies beside a release.
fn signature(remote: &Remote<'_, '_>, digest: &str) -> Result<Option<Vec<u8>>, ReleaseError> {
    let Some(document) = remote.document(&signature_tag(digest))? else { return Ok(None) };
    let read: Option<Document> = serde_json::from_slice(&document).ok();
    // What is no signature is none.
    let layer = read.and_then(|read| read.layers.into_iter().next());
    match layer.filter(|layer| layer.size <= MOST_SIGNATURE) {
        Some(layer) => Ok(Some(remote.blob(&layer.digest, layer.size)?)),
        None => Ok(None),
    }
}
