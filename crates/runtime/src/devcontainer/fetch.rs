//! Features from registries: an archive each, kept by its digest.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use setpoint_model::digest::Digest;
use sha2::{Digest as _, Sha256};

use crate::cancel::Cancel;
use crate::image::Credentials;
use crate::image::is_loopback;
use crate::paths::{Roots, make_private_folder};

/// How large an archive may be, and what comes out of it.
const MOST: u64 = 256 << 20;
/// How long a registry may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The features that were fetched.
pub(super) struct Store {
    folder: PathBuf,
}

/// A feature that was fetched.
pub(super) struct Fetched {
    /// Its folder.
    pub(super) folder: PathBuf,
    /// The digest of its manifest: `sha256:...`.
    pub(super) digest: String,
}

impl Store {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { folder: roots.state.join("features/v1") }
    }

    /// What a reference meant when it was last fetched, if that is still here.
    pub(super) fn known(&self, reference: &str) -> Option<Fetched> {
        let digest = match reference.split_once('@') {
            Some((_, digest)) => digest.to_owned(),
            None => fs::read_to_string(self.pointer(reference)).ok()?,
        };
        let folder = self.of_digest(&digest);
        folder.is_dir().then_some(Fetched { folder, digest })
    }

    fn pointer(&self, reference: &str) -> PathBuf {
        self.folder.join("references").join(Digest::of_bytes(reference.as_bytes()).to_hex())
    }

    fn of_digest(&self, digest: &str) -> PathBuf {
        self.folder.join(digest.replace(':', "-"))
    }

    /// Fetches what a reference means now.
    pub(super) fn fetch(
        &self,
        reference: &str,
        variables: &BTreeMap<String, String>,
        cancel: &Cancel,
    ) -> Result<Fetched, String> {
        let parsed: Reference = reference.parse().map_err(|error| format!("{error}"))?;
        let (digest, archive) = pull(&parsed, variables, cancel)?;
        let io = |error: std::io::Error| format!("it cannot be kept: {error}");
        let folder = self.of_digest(&digest);
        if !folder.is_dir() {
            make_private_folder(&self.folder).map_err(io)?;
            let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.folder).map_err(io)?;
            unpack(&archive, new.path()).map_err(|error| format!("its archive is damaged: {error}"))?;
            match fs::rename(new.path(), &folder) {
                // Somebody else was faster.
                Err(_) if folder.is_dir() => {}
                other => other.map_err(io)?,
            }
        }
        let pointer = self.pointer(reference);
        if let Some(parent) = pointer.parent() {
            make_private_folder(parent).map_err(io)?;
        }
        crate::secrets::write_private(&pointer, digest.as_bytes(), false).map_err(io)?;
        Ok(Fetched { folder, digest })
    }
}

/// The digest of a feature's manifest, and its archive.
fn pull(
    reference: &Reference,
    variables: &BTreeMap<String, String>,
    cancel: &Cancel,
) -> Result<(String, Vec<u8>), String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = reference.resolve_registry();
    let login = Credentials::from_env(variables).login(registry).map_err(|error| error.to_string())?;
    let auth = login.map_or(RegistryAuth::Anonymous, |(user, password)| RegistryAuth::Basic(user, password));
    let protocol = if is_loopback(registry) { ClientProtocol::Http } else { ClientProtocol::Https };
    let config = ClientConfig {
        protocol,
        connect_timeout: Some(PATIENCE),
        read_timeout: Some(PATIENCE),
        user_agent: concat!("setpoint/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    let client = Client::try_from(config).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let work = async {
        let (json, digest) = client
            .pull_manifest_raw(reference, &auth, &[OCI_IMAGE_MEDIA_TYPE])
            .await
            .map_err(|error| error.to_string())?;
        if reference.digest().is_some_and(|wanted| wanted != digest) {
            return Err(format!("the registry gave {digest}"));
        }
        let manifest: OciImageManifest = serde_json::from_slice(&json)
            .map_err(|error| format!("its manifest is no feature's: {error}"))?;
        let [layer] = manifest.layers.as_slice() else {
            return Err(format!("it has {} layers, and a feature has one", manifest.layers.len()));
        };
        if u64::try_from(layer.size).is_ok_and(|size| size > MOST) {
            return Err(format!("it is larger than {MOST} bytes"));
        }
        let mut archive = Vec::new();
        client.pull_blob(reference, layer, &mut archive).await.map_err(|error| error.to_string())?;
        let found: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
        if layer.digest != format!("sha256:{found}") {
            return Err(format!("its archive has the digest sha256:{found}, and not {}", layer.digest));
        }
        Ok((digest, archive))
    };
    runtime.block_on(async {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(Duration::from_millis(100)) => {
                    if cancel.asked() {
                        return Err("stopped".to_owned());
                    }
                }
            }
        }
    })
}

/// Unpacks an archive, maybe compressed; what leads out of the folder is refused.
fn unpack(archive: &[u8], to: &std::path::Path) -> std::io::Result<()> {
    let reader: Box<dyn Read + '_> = if archive.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::GzDecoder::new(archive))
    } else {
        Box::new(archive)
    };
    let mut archive = tar::Archive::new(reader.take(MOST));
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.unpack_in(to)? {
            let path = entry.path()?.display().to_string();
            return Err(std::io::Error::other(format!("`{path}` leads out of it")));
        }
    }
    Ok(())
}
