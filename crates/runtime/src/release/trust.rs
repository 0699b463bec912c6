//! What a person has said that a release may do on this machine.

use std::path::PathBuf;

use setpoint_model::manifest::Manifest;
use setpoint_model::release::on_host;

use super::error::ReleaseError;
use super::kept::Kept;
use super::sign::Keys;
use crate::image::sha256_hex;
use crate::paths::Roots;
use crate::secrets::write_private;
use crate::upgrade::migrations_on_host;

/// The folder of the configuration that holds a file for each release that is trusted.
const TRUST: &str = "trust";

fn place(roots: &Roots, digest: &str) -> Option<PathBuf> {
    Some(roots.config.join(TRUST).join(sha256_hex(digest)?))
}

/// Lets a release, by its digest, run things on this machine. Whether that is one is told by the text alone; gives
/// `false` for what is no digest.
///
/// # Errors
/// If it cannot be kept.
pub fn trust(roots: &Roots, digest: &str) -> Result<bool, ReleaseError> {
    let Some(place) = place(roots, digest) else { return Ok(false) };
    write_private(&place, b"", true).map_err(ReleaseError::io("write", &place))?;
    Ok(true)
}

/// Lets a release in: it is signed by a key that counts, where there are such; and what it would run on this machine is
/// signed for, or trusted by its digest.
///
/// # Errors
/// [`ReleaseError::Signature`] or [`ReleaseError::Untrusted`] if it is not.
pub fn admit(roots: &Roots, kept: &Kept, manifest: &Manifest) -> Result<(), ReleaseError> {
    let (origin, digest) = (kept.origin(), kept.digest.as_str());
    let signature = kept.signature()?;
    let signer =
        Keys::of(roots)?.check(&origin, &kept.bundle, digest, signature.as_deref())?.map(str::to_owned);
    let mut what = on_host(manifest);
    what.extend(migrations_on_host(&kept.files(), &manifest.release.migrations)?);
    let is_trusted = place(roots, digest).is_some_and(|place| place.exists());
    if what.is_empty() || signer.is_some() || is_trusted {
        return Ok(());
    }
    Err(ReleaseError::Untrusted { origin, digest: digest.to_owned(), what })
}
