//! The JSON of images: indexes, manifests and configurations, read as leniently as they are written.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use setpoint_model::container::{Health, HealthTest};

use super::Config;
use super::error::ImageError;
use super::stream::sha256_hex;

/// What one JSON document may have at most.
pub(super) const MOST_JSON: u64 = 8 << 20;

/// Points to a blob.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
}

impl Descriptor {
    /// The digits of its digest.
    pub(super) fn hex(&self, origin: &str) -> Result<&str, ImageError> {
        sha256_hex(&self.digest).ok_or_else(|| ImageError::UnsupportedDigest {
            origin: origin.to_owned(),
            digest: self.digest.chars().take(100).collect(),
        })
    }
}

/// What a manifest is for.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Platform {
    fn name(&self) -> String {
        let variant = self.variant.as_deref().filter(|v| !v.is_empty());
        format!("{}/{}{}", self.os, self.architecture, variant.map(|v| format!("/{v}")).unwrap_or_default())
    }

    fn fits(&self) -> bool {
        self.os == "linux" && self.architecture == host_architecture()
    }
}

/// This machine's architecture as images call it.
fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => as_images_have_it(other),
    }
}

/// An architecture as images call it, by what kernels and emulators do.
fn as_images_have_it(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "x86" | "i386" | "i686" => "386",
        "aarch64" => "arm64",
        "armv6l" | "armv7l" => "arm",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Where the kernel lists who runs programs for other processors.
const EMULATORS: &str = "/proc/sys/fs/binfmt_misc";

/// The architectures whose programs this machine runs: its own first.
pub(crate) fn architectures() -> Vec<String> {
    architectures_of(std::env::consts::ARCH)
}

/// The same of an engine on this machine that says what it is.
pub(crate) fn architectures_of(own: &str) -> Vec<String> {
    let emulators = std::fs::read_dir(EMULATORS).into_iter().flatten().filter_map(Result::ok);
    let emulated = emulators.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(as_images_have_it(name.strip_prefix("qemu-")?).to_owned())
    });
    let own = if own == std::env::consts::ARCH { host_architecture() } else { as_images_have_it(own) };
    std::iter::once(own.to_owned()).chain(emulated).collect()
}

#[derive(Deserialize)]
struct Either {
    #[serde(rename = "schemaVersion", default)]
    schema: u32,
    manifests: Option<Vec<Descriptor>>,
    layers: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
}

/// An index or the manifest of one image.
pub(super) enum Document {
    /// Of several images.
    Index(Vec<Descriptor>),
    /// Of one.
    Manifest(Manifest),
}

/// The manifest of one image.
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

impl Document {
    /// Reads the one or the other.
    pub(super) fn parse(json: &[u8], origin: &str) -> Result<Document, ImageError> {
        let bad = |reason: String| ImageError::NotAnImage { origin: origin.to_owned(), reason };
        let either: Either = serde_json::from_slice(json).map_err(|e| bad(format!("its manifest: {e}")))?;
        match either {
            Either { manifests: Some(list), .. } => Ok(Document::Index(list)),
            Either { config: Some(config), layers: Some(layers), .. } => {
                if let Some(layer) = layers.iter().find(|l| l.media_type.contains("encrypted")) {
                    return Err(bad(format!("layer {} is encrypted", layer.digest)));
                }
                Ok(Document::Manifest(Manifest { config, layers }))
            }
            Either { schema: 1, .. } => Err(bad("its manifest is of the old schema 1".to_owned())),
            _ => Err(bad("its manifest has neither layers nor manifests".to_owned())),
        }
    }
}

/// Chooses the one for this machine.
pub(super) fn choose(list: &[Descriptor], origin: &str) -> Result<Descriptor, ImageError> {
    if let Some(fits) = list.iter().find(|d| d.platform.as_ref().is_some_and(Platform::fits)) {
        return Ok(fits.clone());
    }
    let mut open: Vec<&Descriptor> = list.iter().filter(|d| d.platform.is_none()).collect();
    open.dedup_by(|a, b| a.digest == b.digest);
    match open[..] {
        [] => {}
        [one] => return Ok(one.clone()),
        _ => {
            let reason = format!("it holds {} images and does not say for which platforms", open.len());
            return Err(ImageError::NotAnImage { origin: origin.to_owned(), reason });
        }
    }
    let known = list.iter().filter_map(|d| d.platform.as_ref()).filter(|p| p.os != "unknown");
    Err(no_platform(origin, known.map(Platform::name).collect()))
}

fn no_platform(origin: &str, available: Vec<String>) -> ImageError {
    let wanted = format!("linux/{}", host_architecture());
    ImageError::NoPlatform { origin: origin.to_owned(), wanted, available }
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(flatten)]
    platform: Platform,
    config: Option<Process>,
    rootfs: Option<Rootfs>,
}

#[derive(Deserialize, Default)]
struct Process {
    #[serde(rename = "Env", default)]
    env: Option<Vec<String>>,
    #[serde(rename = "User", default)]
    user: Option<String>,
    #[serde(rename = "WorkingDir", default)]
    workdir: Option<String>,
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "Entrypoint", default)]
    entrypoint: Option<Vec<String>>,
    #[serde(rename = "Cmd", default)]
    command: Option<Vec<String>>,
    #[serde(rename = "Volumes", default)]
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(rename = "StopSignal", default)]
    stop_signal: Option<String>,
    #[serde(rename = "Healthcheck", default)]
    health: Option<Check>,
}

/// A health check; durations are nanoseconds, and 0 is the usual one.
#[derive(Deserialize)]
struct Check {
    #[serde(rename = "Test", default)]
    test: Option<Vec<String>>,
    #[serde(rename = "Interval", default)]
    interval: u64,
    #[serde(rename = "Timeout", default)]
    timeout: u64,
    #[serde(rename = "Retries", default)]
    retries: u32,
    #[serde(rename = "StartPeriod", default)]
    start_period: u64,
    #[serde(rename = "StartInterval", default)]
    start_interval: u64,
}

impl Check {
    /// The check, if it says what is run.
    fn health(self) -> Option<Health> {
        let test = self.test?;
        let test = match test.split_first()? {
            (kind, []) if kind == "NONE" => HealthTest::Off,
            (kind, [text]) if kind == "CMD-SHELL" => HealthTest::Shell(text.clone()),
            (kind, argv) if kind == "CMD" && !argv.is_empty() => HealthTest::Exec(argv.to_vec()),
            _ => return None,
        };
        let some = |nanos: u64| (nanos > 0).then(|| Duration::from_nanos(nanos));
        Some(Health {
            test: Some(test),
            interval: some(self.interval),
            timeout: some(self.timeout),
            retries: (self.retries > 0).then_some(self.retries),
            start_period: some(self.start_period),
            start_interval: some(self.start_interval),
        })
    }
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

/// Reads a configuration: what processes get, and the digests of the unpacked layers.
pub(super) fn configuration(
    json: &[u8],
    layers: usize,
    origin: &str,
) -> Result<(Config, Vec<String>), ImageError> {
    let bad = |reason: String| ImageError::NotAnImage { origin: origin.to_owned(), reason };
    let read: Configuration =
        serde_json::from_slice(json).map_err(|e| bad(format!("its configuration: {e}")))?;
    let Some(Rootfs { diff_ids }) = read.rootfs else {
        return Err(bad("its configuration lists no layers".to_owned()));
    };
    if diff_ids.len() != layers {
        let count = diff_ids.len();
        return Err(bad(format!("its configuration lists {count} layers, its manifest {layers}")));
    }
    if let Some(odd) = diff_ids.iter().find(|id| sha256_hex(id).is_none()) {
        let digest = odd.chars().take(100).collect();
        return Err(ImageError::UnsupportedDigest { origin: origin.to_owned(), digest });
    }
    let known = !read.platform.os.is_empty() && !read.platform.architecture.is_empty();
    if known && !read.platform.fits() {
        return Err(no_platform(origin, vec![read.platform.name()]));
    }
    let process = read.config.unwrap_or_default();
    let filled = |text: Option<String>| text.filter(|t| !t.is_empty());
    let config = Config {
        env: process.env.unwrap_or_default(),
        user: filled(process.user),
        workdir: filled(process.workdir),
        labels: process.labels.unwrap_or_default(),
        entrypoint: process.entrypoint.unwrap_or_default(),
        command: process.command.unwrap_or_default(),
        volumes: process.volumes.unwrap_or_default().into_keys().collect(),
        stop_signal: filled(process.stop_signal),
        health: process.health.and_then(Check::health),
    };
    Ok((config, diff_ids))
}
