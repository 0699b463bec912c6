//! Images from a registry.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use oci_client::client::{BlobResponse, Client, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, manifest};
use setpoint_model::names::is_loopback;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use super::credentials::Credentials;
use super::error::ImageError;
use super::job::{Blobs, Fetched, Job};
use super::layout::verify;
use super::manifest::{Descriptor, MOST_JSON};
use super::record::Record;
use super::source;
use super::stream::{sha256_hex, sha256_name, sha256_of};
use super::trouble::Asked;

/// What a manifest may come as.
const KINDS: &[&str] = &[
    manifest::OCI_IMAGE_INDEX_MEDIA_TYPE,
    manifest::OCI_IMAGE_MEDIA_TYPE,
    manifest::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    manifest::IMAGE_MANIFEST_MEDIA_TYPE,
];

/// How often a layer whose connection breaks is taken up again.
const ATTEMPTS: u32 = 4;

/// How often the caller is asked whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// The image that a reference means now.
pub(super) fn pull(
    job: &Job<'_>,
    text: &str,
    credentials: &Credentials,
    before: Option<&Record>,
) -> Result<Fetched, ImageError> {
    let reference = source::reference(text)?;
    let before = before.filter(|record| job.store.image(record).is_some());
    let unchanged = |record: &Record| Fetched {
        digest: record.digest.clone(),
        named: record.named.clone(),
        diff_ids: record.diff_ids.clone(),
        config: record.config.clone(),
    };
    if let Some(digest) = reference.digest() {
        if sha256_hex(digest).is_none() {
            return Err(ImageError::UnsupportedDigest { origin: text.to_owned(), digest: digest.to_owned() });
        }
        // A digest means the same for ever.
        if let Some(record) = before {
            return Ok(unchanged(record));
        }
    }
    let registry = Registry::new(job, reference, text, credentials)?;
    let mut blobs = &registry;
    let top = registry.reference.clone();
    let json = registry.document(&top)?;
    if let Some(digest) = top.digest() {
        verify(format!("manifest of `{text}`"), digest, sha256_of(&json))?;
    }
    let named = sha256_of(&json);
    let (digest, manifest) = job.resolve(json, text, &mut blobs)?;
    if let Some(record) = before.filter(|record| record.digest == digest) {
        return Ok(Fetched { named, ..unchanged(record) });
    }
    Ok(Fetched { named, ..job.assemble(digest, &manifest, text, &mut blobs)? })
}

/// A registry, asked for one reference.
pub(super) struct Registry<'a, 'b> {
    pub(super) job: &'a Job<'b>,
    /// Always there but while dropped.
    runtime: Option<Runtime>,
    pub(super) client: Client,
    pub(super) reference: Reference,
    pub(super) origin: &'a str,
    pub(super) auth: RegistryAuth,
}

impl Drop for Registry<'_, '_> {
    fn drop(&mut self) {
        // A name that is still being looked up must not hold up the caller.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl<'a, 'b> Registry<'a, 'b> {
    pub(super) fn new(
        job: &'a Job<'b>,
        reference: Reference,
        origin: &'a str,
        credentials: &Credentials,
    ) -> Result<Registry<'a, 'b>, ImageError> {
        // Fails only where it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let limits = &job.store.limits;
        let registry = reference.resolve_registry();
        let local = is_loopback(registry);
        let config = ClientConfig {
            protocol: if local { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(limits.connect),
            read_timeout: Some(limits.answer),
            user_agent: concat!("setpoint/", env!("CARGO_PKG_VERSION")),
            // Naming a proxy and excepting this machine from it keeps those of the environment off this machine.
            http_proxy: local.then(|| "http://127.0.0.1:9".to_owned()),
            no_proxy: local.then(|| "localhost,127.0.0.0/8,::1".to_owned()),
            ..ClientConfig::default()
        };
        let failed = |reason: String| ImageError::Registry {
            registry: registry.to_owned(),
            reference: origin.to_owned(),
            reason,
        };
        let auth = credentials.of(registry)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| failed(format!("no runtime: {e}")))?;
        let client = Client::try_from(config).map_err(|e| failed(e.to_string()))?;
        Ok(Registry { job, runtime: Some(runtime), client, reference, origin, auth })
    }

    fn registry(&self) -> String {
        self.reference.registry().to_owned()
    }

    /// Runs one exchange, looking now and then whether to stop.
    pub(super) fn run<T>(
        &self,
        patience: Duration,
        exchange: impl Future<Output = T>,
    ) -> Result<T, ImageError> {
        let Some(runtime) = &self.runtime else { return Err(ImageError::Cancelled) };
        let until = Instant::now() + patience;
        runtime.block_on(async {
            let mut exchange = pin!(exchange);
            loop {
                match tokio::time::timeout(LOOK, exchange.as_mut()).await {
                    Ok(outcome) => return Ok(outcome),
                    Err(_) if (self.job.cancelled)() => return Err(ImageError::Cancelled),
                    Err(_) if Instant::now() >= until => {
                        return Err(ImageError::Timeout {
                            registry: self.registry(),
                            seconds: patience.as_secs(),
                        });
                    }
                    Err(_) => {}
                }
            }
        })
    }

    /// How long a whole exchange may take: the greeting, the login and the answer.
    pub(super) fn patience(&self) -> Duration {
        let limits = &self.job.store.limits;
        limits.connect + limits.answer
    }

    /// Gives one of the library's errors its name.
    pub(super) fn trouble(&self, error: OciDistributionError) -> ImageError {
        Asked {
            registry: self.registry(),
            reference: self.origin,
            known: self.auth != RegistryAuth::Anonymous,
            limits: &self.job.store.limits,
        }
        .trouble(error)
    }

    pub(super) fn document(&self, at: &Reference) -> Result<Vec<u8>, ImageError> {
        let exchange = self.client.pull_manifest_raw(at, &self.auth, KINDS);
        let (json, _) = self.run(self.patience(), exchange)?.map_err(|e| self.trouble(e))?;
        if json.len() as u64 > MOST_JSON {
            let what = format!("manifest of `{}`", self.origin);
            return Err(ImageError::SizeMismatch { what, expected: MOST_JSON, found: json.len() as u64 });
        }
        Ok(json.to_vec())
    }

    /// Fetches a blob into its file, going on from what `got` says is there. Gives false when the connection broke
    /// and another try may go on.
    fn stream(
        &self,
        at: &Descriptor,
        file: &mut File,
        path: &Path,
        got: &mut Got,
    ) -> Result<bool, ImageError> {
        let descriptor = OciDescriptor {
            digest: at.digest.clone(),
            size: i64::try_from(at.size).unwrap_or(i64::MAX),
            media_type: at.media_type.clone(),
            ..OciDescriptor::default()
        };
        let exchange = self.client.pull_blob_stream_partial(&self.reference, &descriptor, got.bytes, None);
        let answer = match self.run(self.patience(), exchange)? {
            Err(OciDistributionError::RequestError(e)) if !e.is_builder() && !e.is_connect() => {
                return Ok(false);
            }
            other => other.map_err(|e| match self.trouble(e) {
                ImageError::NotFound { registry, reference } => {
                    ImageError::NotFound { registry, reference: format!("blob {} of {reference}", at.digest) }
                }
                trouble => trouble,
            })?,
        };
        let mut stream = match answer {
            BlobResponse::Partial(stream) => stream,
            BlobResponse::Full(stream) => {
                self.job.retreat(got.bytes);
                got.restart(file, path)?;
                stream
            }
        };
        loop {
            let chunk = match self.run(self.patience(), stream.next()) {
                Ok(None) => return Ok(true),
                Ok(Some(Ok(chunk))) => chunk,
                // The digest is checked by the caller, which names it.
                Ok(Some(Err(e))) if e.get_ref().is_some_and(|e| e.is::<DigestError>()) => return Ok(true),
                Ok(Some(Err(_))) | Err(ImageError::Timeout { .. }) => return Ok(false),
                Err(e) => return Err(e),
            };
            got.bytes += chunk.len() as u64;
            if got.bytes > at.size {
                return Ok(true);
            }
            got.hash.update(&chunk);
            file.write_all(&chunk).map_err(ImageError::io("write", path))?;
            self.job.advance(chunk.len() as u64)?;
        }
    }

    fn part(&self, at: &Descriptor) -> Result<PathBuf, ImageError> {
        Ok(self.job.store.blobs.join(at.hex(self.origin)?).with_extension("part"))
    }

    fn fetch(&self, at: &Descriptor, path: &Path) -> Result<File, ImageError> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(ImageError::io("open", path))?;
        let mut got = Got::read(&mut file, path, self.job)?;
        if got.bytes > at.size {
            self.job.retreat(got.bytes);
            got.restart(&mut file, path)?;
        }
        let resumed = got.bytes > 0;
        let mut attempt = 0;
        while got.bytes < at.size || attempt == 0 && at.size == 0 {
            attempt += 1;
            if self.stream(at, &mut file, path, &mut got)? {
                break;
            }
            if attempt == ATTEMPTS {
                let reason = format!("the connection broke {ATTEMPTS} times, last at byte {}", got.bytes);
                return Err(ImageError::Unreachable { registry: self.registry(), reason });
            }
        }
        let what = format!("blob {} of `{}`", at.digest, self.origin);
        let (found, digest) = (got.bytes, got.digest());
        if resumed && digest != at.digest {
            // What was there from before may be the wrong part.
            self.job.retreat(found);
            file.set_len(0).map_err(ImageError::io("write", path))?;
            return self.fetch(at, path);
        }
        if found != at.size {
            return Err(ImageError::SizeMismatch { what, expected: at.size, found });
        }
        verify(what, &at.digest, digest)?;
        file.rewind().map_err(ImageError::io("read", path))?;
        Ok(file)
    }
}

/// How much of a layer is here.
struct Got {
    bytes: u64,
    hash: Sha256,
}

impl Got {
    fn read(file: &mut File, path: &Path, job: &Job<'_>) -> Result<Got, ImageError> {
        let mut got = Got { bytes: 0, hash: Sha256::new() };
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = file.read(&mut buffer).map_err(ImageError::io("read", path))?;
            if count == 0 {
                return Ok(got);
            }
            got.hash.update(&buffer[..count]);
            got.bytes += count as u64;
            job.advance(count as u64)?;
        }
    }

    fn restart(&mut self, file: &mut File, path: &Path) -> Result<(), ImageError> {
        *self = Got { bytes: 0, hash: Sha256::new() };
        file.set_len(0).map_err(ImageError::io("write", path))?;
        file.seek(SeekFrom::Start(0)).map_err(ImageError::io("write", path))?;
        Ok(())
    }

    fn digest(&self) -> String {
        sha256_name(self.hash.clone())
    }
}

impl Blobs for &Registry<'_, '_> {
    fn manifest(&mut self, at: &Descriptor) -> Result<Vec<u8>, ImageError> {
        at.hex(self.origin)?;
        let json = self.document(&self.reference.clone_with_digest(at.digest.clone()))?;
        let what = format!("manifest {} of `{}`", at.digest, self.origin);
        let found = json.len() as u64;
        verify(what.clone(), &at.digest, sha256_of(&json))?;
        if found != at.size {
            return Err(ImageError::SizeMismatch { what, expected: at.size, found });
        }
        Ok(json)
    }

    fn config(&mut self, at: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if at.size > MOST_JSON {
            let what = format!("configuration {} of `{}`", at.digest, self.origin);
            return Err(ImageError::SizeMismatch { what, expected: MOST_JSON, found: at.size });
        }
        let mut file = self.layer(at)?;
        let mut json = Vec::new();
        file.read_to_end(&mut json).map_err(ImageError::io("read", self.part(at)?))?;
        self.done(at);
        Ok(json)
    }

    fn layer(&mut self, at: &Descriptor) -> Result<File, ImageError> {
        let path = self.part(at)?;
        let fetched = self.fetch(at, &path);
        // Only what a later try can go on with is kept.
        let kept = matches!(
            fetched,
            Ok(_) | Err(ImageError::Cancelled | ImageError::Unreachable { .. } | ImageError::Timeout { .. })
        );
        if !kept {
            self.done(at);
        }
        fetched
    }

    fn done(&mut self, at: &Descriptor) {
        if let Ok(path) = self.part(at) {
            // What stays is only found whole again by the next fetch.
            let _ = std::fs::remove_file(path);
        }
    }
}
