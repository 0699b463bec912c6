//! Features that are fetched, from registries or as archives at an address: kept by their digests.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use setpoint_model::digest::Digest;
use setpoint_model::import::devcontainer::features::{OciReference, Reference, Version};
use setpoint_model::names::is_loopback;

use super::download;
use super::features::METADATA;
use crate::cancel::Cancel;
use crate::image::{Credentials, ImageError, sha256_hex, sha256_of};
use crate::paths::{Roots, make_private_folder};

/// How large an archive may be, and what comes out of it.
pub(super) const MOST: u64 = 256 << 20;
/// How long one answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Why a feature cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Its registry does not give it.
    #[error("{0}")]
    Registry(String),
    /// There is a login for its registry, and it cannot be used.
    #[error(transparent)]
    Login(#[from] ImageError),
    /// The server of its archive says no.
    #[error("the server answers {0}")]
    Answer(reqwest::StatusCode),
    /// The server of its archive does not answer to the end.
    #[error("{0}")]
    Unreachable(String),
    /// It is too large.
    #[error("its archive is larger than {MOST} bytes")]
    TooLarge,
    /// It is not what is locked.
    #[error("its archive was changed: it has the digest {found}, and {locked} is locked")]
    Changed {
        /// What is there.
        found: String,
        /// What is locked.
        locked: String,
    },
    /// What is there cannot be unpacked.
    #[error("what is there is not the archive of a feature: {0}")]
    NotAnArchive(std::io::Error),
    /// What is there is no feature.
    #[error("its archive has no {METADATA}")]
    NotAFeature,
    /// It cannot be written down here.
    #[error("it cannot be kept: {0}")]
    Kept(#[from] std::io::Error),
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
}

impl FetchError {
    /// What to do next.
    pub(super) fn hint(&self) -> String {
        let next = match self {
            Self::Registry(_) => "check its name, and the way to its registry",
            Self::Login(error) => return error.hint().unwrap_or_default(),
            Self::Answer(status) if status.is_server_error() => "try again later",
            Self::Answer(_) => "check its address; it has to be readable without a login",
            Self::Unreachable(_) => "check its address, the network and HTTPS_PROXY, then try again",
            Self::TooLarge | Self::NotAnArchive(_) | Self::NotAFeature => {
                "check its address: there has to be a tar, maybe gzipped, with devcontainer-feature.json and \
                 install.sh at its top"
            }
            Self::Changed { .. } => {
                "if the change is wanted, remove the feature from the lock file, and it is locked anew"
            }
            Self::Kept(_) => "see what is wrong with the folder of Setpoint's state",
            Self::Stopped => "run `setpoint up` again to go on",
        };
        next.to_owned()
    }
}

/// The features that were fetched.
pub(super) struct Store {
    folder: PathBuf,
}

/// A feature that was fetched.
pub(super) struct Fetched {
    /// Its folder.
    pub(super) folder: PathBuf,
    /// The digest of its manifest in a registry, or of its archive: `sha256:...`.
    pub(super) digest: String,
}

impl Store {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { folder: roots.state.join("features/v1") }
    }

    /// What is locked, or what a reference meant when it was last fetched, if that is still here.
    pub(super) fn known(&self, reference: &Reference, locked: Option<&str>) -> Option<Fetched> {
        let digest = match (locked, reference) {
            (Some(digest), _) => digest.to_owned(),
            (None, Reference::Oci(OciReference { version: Version::Digest(digest), .. })) => digest.clone(),
            (None, _) => fs::read_to_string(self.pointer(reference)).ok()?,
        };
        let folder = self.folder.join(format!("sha256-{}", sha256_hex(&digest)?));
        folder.is_dir().then_some(Fetched { folder, digest })
    }

    fn pointer(&self, reference: &Reference) -> PathBuf {
        self.folder.join("references").join(Digest::of_bytes(reference.to_string().as_bytes()).to_hex())
    }

    /// Fetches what is locked, or what a reference means now.
    pub(super) fn fetch(
        &self,
        reference: &Reference,
        locked: Option<&str>,
        variables: &BTreeMap<String, String>,
        cancel: &Cancel,
    ) -> Result<Fetched, FetchError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (digest, archive) = match reference {
            Reference::Oci(oci) => pull(oci, locked, variables, cancel)?,
            Reference::Tarball { url } => {
                let archive = run(download::archive(url), cancel)?;
                (sha256_of(&archive), archive)
            }
            Reference::Local { .. } => return Err(FetchError::NotAFeature),
        };
        if let Some(locked) = locked.filter(|locked| *locked != digest) {
            return Err(FetchError::Changed { found: digest, locked: locked.to_owned() });
        }
        let folder = self.folder.join(digest.replace(':', "-"));
        if !folder.is_dir() {
            self.keep(&archive, &folder)?;
        }
        if locked.is_none() {
            let pointer = self.pointer(reference);
            if let Some(parent) = pointer.parent() {
                make_private_folder(parent)?;
            }
            crate::secrets::write_private(&pointer, digest.as_bytes(), false)?;
        }
        Ok(Fetched { folder, digest })
    }

    /// Unpacks an archive to its place, where it is whole or not at all.
    fn keep(&self, archive: &[u8], folder: &Path) -> Result<(), FetchError> {
        make_private_folder(&self.folder)?;
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.folder)?;
        unpack(archive, new.path()).map_err(FetchError::NotAnArchive)?;
        if !new.path().join(METADATA).is_file() {
            return Err(FetchError::NotAFeature);
        }
        match fs::rename(new.path(), folder) {
            // Somebody else was faster.
            Err(_) if folder.is_dir() => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Runs an exchange to its end, looking now and then whether to stop.
fn run<T>(exchange: impl Future<Output = Result<T, FetchError>>, cancel: &Cancel) -> Result<T, FetchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut exchange = std::pin::pin!(exchange);
        loop {
            tokio::select! {
                done = &mut exchange => return done,
                () = tokio::time::sleep(Duration::from_millis(100)) => {
                    if cancel.asked() {
                        return Err(FetchError::Stopped);
                    }
                }
            }
        }
    });
    // A name that is still being looked up must not hold up the caller.
    runtime.shutdown_background();
    done
}

/// The digest of a feature's manifest, and its archive.
fn pull(
    oci: &OciReference,
    locked: Option<&str>,
    variables: &BTreeMap<String, String>,
    cancel: &Cancel,
) -> Result<(String, Vec<u8>), FetchError> {
    fn failed(why: impl ToString) -> FetchError {
        FetchError::Registry(why.to_string())
    }
    let reference = match locked {
        Some(digest) => format!("{}@{digest}", oci.resource()),
        None => Reference::Oci(oci.clone()).to_string(),
    };
    let reference: oci_client::Reference = reference.parse().map_err(failed)?;
    let registry = reference.resolve_registry();
    let login = Credentials::from_env(variables).login(registry)?;
    let auth = login.map_or(RegistryAuth::Anonymous, |(user, password)| RegistryAuth::Basic(user, password));
    let protocol = if is_loopback(registry) { ClientProtocol::Http } else { ClientProtocol::Https };
    let config = ClientConfig {
        protocol,
        connect_timeout: Some(PATIENCE),
        read_timeout: Some(PATIENCE),
        user_agent: concat!("setpoint/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    let client = Client::try_from(config).map_err(failed)?;
    let work = async {
        let (json, digest) =
            client.pull_manifest_raw(&reference, &auth, &[OCI_IMAGE_MEDIA_TYPE]).await.map_err(failed)?;
        if reference.digest().is_some_and(|wanted| wanted != digest) {
            return Err(failed(format!("the registry gave {digest}")));
        }
        let manifest: OciImageManifest = serde_json::from_slice(&json)
            .map_err(|error| failed(format!("its manifest is no feature's: {error}")))?;
        let [layer] = manifest.layers.as_slice() else {
            return Err(failed(format!("it has {} layers, and a feature has one", manifest.layers.len())));
        };
        if u64::try_from(layer.size).is_ok_and(|size| size > MOST) {
            return Err(FetchError::TooLarge);
        }
        let mut stream = client.pull_blob_stream(&reference, layer).await.map_err(failed)?.stream;
        let mut archive = Vec::new();
        while let Some(chunk) = stream.next().await {
            archive.extend_from_slice(&chunk.map_err(failed)?);
            if archive.len() as u64 > MOST {
                return Err(FetchError::TooLarge);
            }
        }
        let found = sha256_of(&archive);
        if layer.digest != found {
            return Err(failed(format!("its archive has the digest {found}, and not {}", layer.digest)));
        }
        Ok((digest, archive))
    };
    run(work, cancel)
}

/// Unpacks an archive, maybe compressed; what leads out of the folder is refused.
fn unpack(archive: &[u8], to: &Path) -> std::io::Result<()> {
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
