//! Signatures of releases, by ed25519: over the repository, the version and the digest, so that a release cannot be passed
//! off as another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use setpoint_model::release::Bundle;

use super::error::ReleaseError;
use crate::artifact::{Descriptor, Document};
use crate::paths::Roots;

/// What a signature is, for registries.
pub(super) const ARTIFACT: &str = "application/vnd.setpoint.signature.v1+json";
/// What a signature's own document has for a configuration: nothing.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// That nothing, as it is written.
pub(super) const EMPTY_TEXT: &[u8] = b"{}";
/// What comes before the 32 bytes of a public key, in the form in which keys are exchanged.
const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The folder of the configuration that holds the keys that count.
const KEYS: &str = "keys";

/// A signature as it lies beside a release.
#[derive(Serialize, Deserialize)]
struct Signature {
    /// The public key, so that it is told which one is missing.
    key: String,
    signature: String,
}

/// The document of a signature, as it lies beside a release.
pub(super) fn document(signature: &[u8]) -> Vec<u8> {
    let of = Descriptor::of;
    Document::written(ARTIFACT, of(EMPTY, EMPTY_TEXT), vec![of(ARTIFACT, signature)], BTreeMap::new())
}

/// What is signed.
fn message(bundle: &Bundle, digest: &str) -> Vec<u8> {
    // None of these can hold a line end.
    format!("setpoint release 1\n{}\n{}\n{digest}\n", bundle.repository, bundle.version).into_bytes()
}

/// A key that signs.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads a private key, PKCS#8 in PEM.
    ///
    /// # Errors
    /// If it cannot be read, or is another kind of key.
    pub fn read(path: &Path) -> Result<Self, ReleaseError> {
        let bad = |why: String| ReleaseError::Key { path: path.to_owned(), why };
        let text = fs::read(path).map_err(|error| bad(error.to_string()))?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&text)
            .map_err(|_| bad("it is no private key in PEM (PKCS#8)".to_owned()))?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map(Self)
            .map_err(|_| bad("it is no key for ed25519".to_owned()))
    }

    /// The signature of a release, as it is pushed.
    #[must_use]
    pub fn sign(&self, bundle: &Bundle, digest: &str) -> Vec<u8> {
        let signature = Signature {
            key: STANDARD.encode(self.0.public_key()),
            signature: STANDARD.encode(self.0.sign(&message(bundle, digest))),
        };
        // It has text keys only, and nothing that could fail.
        serde_json::to_vec(&signature).unwrap_or_default()
    }
}

/// The keys whose signatures count.
pub struct Keys {
    folder: PathBuf,
    keys: Vec<(String, Vec<u8>)>,
}

impl Keys {
    /// Reads those of the configuration: the files `keys/*.pub`.
    ///
    /// # Errors
    /// If one of them cannot be used: nothing is let in because of a file that nobody can read.
    pub fn of(roots: &Roots) -> Result<Self, ReleaseError> {
        let folder = roots.config.join(KEYS);
        let mut keys = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self { folder, keys }),
            other => other.map_err(ReleaseError::io("read", &folder))?,
        };
        for entry in entries {
            let path = entry.map_err(ReleaseError::io("read", &folder))?.path();
            if path.extension().is_none_or(|ending| ending != "pub") {
                continue;
            }
            let bad = |why: String| ReleaseError::Key { path: path.clone(), why };
            let text = fs::read(&path).map_err(|error| bad(error.to_string()))?;
            let der = SubjectPublicKeyInfoDer::from_pem_slice(&text)
                .map_err(|_| bad("it is no public key in PEM".to_owned()))?;
            let key = der.as_ref().strip_prefix(&PREFIX).filter(|key| key.len() == 32);
            let key = key.ok_or_else(|| bad("it is no public key for ed25519".to_owned()))?;
            keys.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), key.to_vec()));
        }
        keys.sort();
        Ok(Self { folder, keys })
    }

    /// Whether none is configured, so that signatures do not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The file of the key that signed a release; nothing where no key is configured.
    ///
    /// # Errors
    /// If keys are configured, and none of them signed it.
    pub fn check(
        &self,
        origin: &str,
        bundle: &Bundle,
        digest: &str,
        signature: Option<&[u8]>,
    ) -> Result<Option<&str>, ReleaseError> {
        if self.is_empty() {
            return Ok(None);
        }
        let bad = |why: String| ReleaseError::Signature { origin: origin.to_owned(), why };
        let signature = signature.ok_or_else(|| bad("it is not signed".to_owned()))?;
        let read: Signature =
            serde_json::from_slice(signature).map_err(|_| bad("its signature is none".to_owned()))?;
        let bytes = STANDARD.decode(&read.signature).unwrap_or_default();
        let message = message(bundle, digest);
        let signed_it = |key: &&(String, Vec<u8>)| {
            UnparsedPublicKey::new(&ED25519, &key.1).verify(&message, &bytes).is_ok()
        };
        let is_known = self.keys.iter().any(|(_, key)| STANDARD.encode(key) == read.key);
        self.keys.iter().find(signed_it).map(|(name, _)| Some(name.as_str())).ok_or_else(|| match is_known {
            true => bad("its signature does not fit it".to_owned()),
            false => bad(format!(
                "it is signed by {}, which is none of the keys in {}",
                read.key,
                self.folder.display()
            )),
        })
    }
}
