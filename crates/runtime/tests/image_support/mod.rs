//! Makes tars and images for the tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use setpoint_runtime::image::{Credentials, Image, ImageError, ImageStore, Limits, Source};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

pub(crate) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// A state root with its store.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: ImageStore,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Home {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::with_limits(&folder.path().join("state"), limits);
        Home { folder, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn ensure(&self, source: &Source) -> Result<Image, ImageError> {
        self.store.ensure(source, false, &Credentials::none(), &|_, _| {}, &|| false)
    }

    pub(crate) fn always(&self, source: &Source) -> Result<Image, ImageError> {
        self.store.ensure(source, true, &Credentials::none(), &|_, _| {}, &|| false)
    }

    /// All that is in the store's folders but the records and the lock.
    pub(crate) fn remains(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["state/layers/v1", "state/blobs/v1"] {
            for entry in std::fs::read_dir(self.path(folder)).into_iter().flatten() {
                names.push(entry.unwrap().file_name().into_string().unwrap());
            }
        }
        names
    }
}

/// A tar, entry by entry, with whatever names and fields.
#[derive(Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub(crate) fn raw(mut self, kind: EntryType, name: &str, link: &str, mode: u32, data: &[u8]) -> Tar {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1234);
        header.set_gid(4321);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_device_major(if mode == 0o7 { 1 } else { 0 }).unwrap();
        header.set_device_minor(if mode == 0o7 { 3 } else { 0 }).unwrap();
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Tar {
        self.raw(EntryType::Regular, name, "", 0o644, data)
    }

    pub(crate) fn dir(self, name: &str, mode: u32) -> Tar {
        self.raw(EntryType::Directory, name, "", mode, b"")
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Tar {
        self.raw(EntryType::Symlink, name, target, 0o777, b"")
    }

    pub(crate) fn hard(self, name: &str, target: &str) -> Tar {
        self.raw(EntryType::Link, name, target, 0o644, b"")
    }

    /// Extended headers for the next entry.
    pub(crate) fn pax(self, pairs: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in pairs {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(EntryType::XHeader, "PaxHeaders/x", "", 0o644, &data)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    /// Without the mark at the end.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.bytes
    }
}

/// A root file system around busybox, with a note in it.
pub(crate) fn busybox(note: &str) -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("apt-get install busybox-static");
    Tar::default()
        .dir("./", 0o755)
        .dir("bin/", 0o755)
        .raw(EntryType::Regular, "bin/busybox", "", 0o755, &busybox)
        .link("bin/sh", "busybox")
        // With the mode of what it links, which Docker gives to both.
        .raw(EntryType::Link, "bin/ls", "bin/busybox", 0o755, b"")
        .dir("tmp", 0o1777)
        .file("note", note.as_bytes())
        .end()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut name = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(name, "{byte:02x}").unwrap();
    }
    name
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// How a tar is packed.
pub(crate) type Pack = fn(&[u8]) -> Vec<u8>;

/// Blobs, manifests and configurations, ready to be written or pushed.
#[derive(Default, Clone)]
pub(crate) struct Blobs {
    pub(crate) all: BTreeMap<String, Vec<u8>>,
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Blobs {
    pub(crate) fn add(&mut self, bytes: Vec<u8>, kind: &str) -> Value {
        let descriptor = json!({"mediaType": kind, "digest": digest(&bytes), "size": bytes.len()});
        self.all.insert(digest(&bytes), bytes);
        descriptor
    }

    /// An image of blobs, with the digests that its configuration claims for them unpacked.
    pub(crate) fn claimed(&mut self, layers: &[(Vec<u8>, String)], architecture: &str) -> Value {
        let settings = json!({"Env": ["PATH=/bin", "A=b"], "User": "7:8", "WorkingDir": "/tmp"});
        self.configured(layers, architecture, &settings)
    }

    /// The same with these settings of its author's.
    pub(crate) fn configured(
        &mut self,
        layers: &[(Vec<u8>, String)],
        architecture: &str,
        settings: &Value,
    ) -> Value {
        let diff_ids: Vec<&String> = layers.iter().map(|(_, id)| id).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config =
            self.add(serde_json::to_vec(&config).unwrap(), "application/vnd.oci.image.config.v1+json");
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let layers: Vec<Value> = layers.iter().map(|(blob, _)| self.add(blob.clone(), tar)).collect();
        self.manifest(&config, &layers)
    }

    pub(crate) fn manifest(&mut self, config: &Value, layers: &[Value]) -> Value {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.add(serde_json::to_vec(&manifest).unwrap(), MANIFEST)
    }

    /// An honest image of tars, packed as given.
    pub(crate) fn image(&mut self, layers: &[(Vec<u8>, Pack)]) -> Value {
        let layers: Vec<_> = layers.iter().map(|(tar, pack)| (pack(tar), digest(tar))).collect();
        self.claimed(&layers, ARCHITECTURE)
    }

    pub(crate) fn index(&mut self, manifests: &[(Value, &str)]) -> Value {
        let list: Vec<Value> = manifests
            .iter()
            .map(|(manifest, architecture)| {
                let mut entry = manifest.clone();
                entry["platform"] = json!({"os": "linux", "architecture": architecture});
                entry
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": list});
        self.add(serde_json::to_vec(&index).unwrap(), INDEX)
    }

    fn files(&self, entry: &Value) -> Vec<(String, Vec<u8>)> {
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), serde_json::to_vec(&index).unwrap()),
        ];
        for (digest, bytes) in &self.all {
            files.push((digest.replace("sha256:", "blobs/sha256/"), bytes.clone()));
        }
        files
    }

    pub(crate) fn layout(&self, entry: &Value, into: &Path) -> Source {
        std::fs::create_dir_all(into.join("blobs/sha256")).unwrap();
        for (name, bytes) in self.files(entry) {
            std::fs::write(into.join(name), bytes).unwrap();
        }
        Source::Layout(into.to_owned())
    }

    pub(crate) fn archive(&self, entry: &Value) -> Vec<u8> {
        let mut tar = Tar::default().dir("blobs/", 0o755).dir("blobs/sha256/", 0o755);
        for (name, bytes) in self.files(entry) {
            tar = tar.file(&name, &bytes);
        }
        tar.end()
    }
}

/// A plain copy, for layers that are not packed.
pub(crate) fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// Ensures a layout with this one layer.
pub(crate) fn one_layer(home: &Home, tar: Vec<u8>) -> Result<Image, ImageError> {
    let mut blobs = Blobs::default();
    let image = blobs.image(&[(tar, gzip)]);
    home.ensure(&blobs.layout(&image, &home.path("layout")))
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

pub(crate) fn is_opaque(path: &Path) -> bool {
    let name = if is_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
    xattr(path, name).as_deref() == Some(b"y")
}
