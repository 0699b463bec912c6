//! A bundle as it lies in a registry: its document, its list and the archive of its files, each known by its digest.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use setpoint_model::release::Bundle;
use setpoint_model::release::bundle::{ARTIFACT, CONFIG, FILES, MOST_BYTES};

use super::error::ReleaseError;
use crate::artifact::{Descriptor, Document};
use crate::image::{sha256_hex, sha256_of};

/// How many bytes the list of a bundle may have.
const MOST_JSON: u64 = 8 << 20;
/// How much of the archive is no content: its headers and padding, for each file.
const OVERHEAD: u64 = 16 << 10;
/// How well the archive is compressed.
const LEVEL: i32 = 9;

/// A bundle, whole and verified.
pub struct Parcel {
    /// The digest of its document: the release's own.
    pub digest: String,
    /// What it holds.
    pub bundle: Bundle,
    pub(super) document: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) files: Vec<u8>,
}

impl Parcel {
    /// Makes the parcel of a bundle, whose files are given with what is in them.
    pub(super) fn make(bundle: Bundle, contents: &BTreeMap<String, Vec<u8>>) -> io::Result<Self> {
        let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), LEVEL)?);
        for (path, bytes) in contents {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            let executable = bundle.files.get(path).is_some_and(|file| file.executable);
            header.set_mode(if executable { 0o755 } else { 0o644 });
            archive.append_data(&mut header, path, bytes.as_slice())?;
        }
        let files = archive.into_inner()?.finish()?;
        let config = bundle.to_json();
        let annotations = [("title", &bundle.project), ("version", &bundle.version)];
        let annotations =
            annotations.map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.clone()));
        let of = Descriptor::of;
        let document =
            Document::written(ARTIFACT, of(CONFIG, &config), vec![of(FILES, &files)], annotations.into());
        Ok(Self { digest: sha256_of(&document), bundle, document, config, files })
    }

    /// Reads a parcel by its document; `blob` gives its parts by their digests and sizes.
    ///
    /// # Errors
    /// If it is no release, or something of it is not what it should be.
    pub(super) fn read(
        origin: &str,
        document: Vec<u8>,
        mut blob: impl FnMut(&str, u64) -> Result<Vec<u8>, ReleaseError>,
    ) -> Result<Self, ReleaseError> {
        let not = || ReleaseError::NotARelease(origin.to_owned());
        let read: Document = serde_json::from_slice(&document).map_err(|_| not())?;
        if read.artifact_type != ARTIFACT {
            return Err(not());
        }
        let refused = |why: String| ReleaseError::Refused { origin: origin.to_owned(), why };
        let [archive] = read.layers.as_slice() else {
            return Err(refused("it has not exactly one archive".to_owned()));
        };
        let mut part = |part: &Descriptor, most: u64| {
            if part.size > most || sha256_hex(&part.digest).is_none() {
                return Err(refused(format!("its part {} is too large, or has no digest", part.digest)));
            }
            let bytes = blob(&part.digest, part.size)?;
            match sha256_of(&bytes) {
                found if found == part.digest => Ok(bytes),
                found => Err(refused(format!("its part {} has the digest {found}", part.digest))),
            }
        };
        let config = part(&read.config, MOST_JSON)?;
        let files = part(archive, MOST_BYTES)?;
        let bundle = Bundle::parse(&config).map_err(ReleaseError::refused(&origin))?;
        Ok(Self { digest: sha256_of(&document), bundle, document, config, files })
    }

    /// Unpacks the files into a new folder: those that are listed, each as it is listed, and no other.
    pub(super) fn unpack(&self, origin: &str, into: &Path) -> Result<(), ReleaseError> {
        let refused = |why: String| ReleaseError::Refused { origin: origin.to_owned(), why };
        let unreadable = |error: io::Error| refused(format!("its archive cannot be read: {error}"));
        let listed = &self.bundle.files;
        let content = listed.values().map(|file| file.size).sum::<u64>();
        let bound = content + OVERHEAD * (listed.len() as u64 + 1);
        let plain = zstd::Decoder::new(self.files.as_slice()).map_err(unreadable)?.take(bound);
        let mut archive = tar::Archive::new(plain);
        let mut missing: BTreeMap<_, _> = listed.iter().collect();
        let folder = |path: &Path| {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(ReleaseError::io("make the folder", path))
        };
        folder(into)?;
        for entry in archive.entries().map_err(unreadable)? {
            let mut entry = entry.map_err(unreadable)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(file) = missing.remove(&name).filter(|_| entry.header().entry_type().is_file()) else {
                return Err(refused(format!("its archive has `{name}`, which is not listed")));
            };
            if entry.size() != file.size {
                return Err(refused(format!("`{name}` has {} bytes instead of {}", entry.size(), file.size)));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(unreadable)?;
            if sha256_of(&bytes) != format!("sha256:{}", file.sha256) {
                return Err(refused(format!("`{name}` is not what is listed")));
            }
            let place = into.join(&name);
            folder(place.parent().unwrap_or(into))?;
            write(&place, &bytes, if file.executable { 0o555 } else { 0o444 })?;
        }
        match missing.keys().next() {
            Some(name) => Err(refused(format!("its archive lacks `{name}`"))),
            None => Ok(()),
        }
    }
}

/// Writes a new file, to the disk.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ReleaseError> {
    let written = fs::File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    });
    written.map_err(ReleaseError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use setpoint_model::release::bundle::FORMAT;
    use setpoint_model::release::{BundledFile, Repository};

    fn bundled(bytes: &[u8], executable: bool) -> BundledFile {
        let sha256 = sha256_of(bytes).trim_start_matches("sha256:").to_owned();
        BundledFile { sha256, size: bytes.len() as u64, executable }
    }

    fn contents() -> BTreeMap<String, Vec<u8>> {
        [("setpoint.toml", "setpoint = 1\n"), ("deploy/seed.sh", "#!/bin/sh\n")]
            .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
            .into()
    }

    fn bundle(contents: &BTreeMap<String, Vec<u8>>) -> Bundle {
        let file = |(path, bytes): (&String, &Vec<u8>)| (path.clone(), bundled(bytes, path.ends_with(".sh")));
        Bundle {
            format: FORMAT,
            project: "shop".to_owned(),
            version: "1.0.0".to_owned(),
            repository: Repository::parse("localhost/shop").unwrap(),
            lane: None,
            images: BTreeMap::new(),
            files: contents.iter().map(file).collect(),
        }
    }

    fn refusal(parcel: &Parcel) -> String {
        let folder = tempfile::tempdir().unwrap();
        parcel.unpack("shop", &folder.path().join("files")).unwrap_err().to_string()
    }

    #[test]
    fn a_parcel_is_read_and_unpacked_as_it_was_made() {
        let contents = contents();
        let made = Parcel::make(bundle(&contents), &contents).unwrap();
        let parts = [made.config.clone(), made.files.clone()];
        let blob =
            |digest: &str, _: u64| Ok(parts.iter().find(|part| sha256_of(part) == digest).unwrap().clone());
        let read = Parcel::read("shop", made.document.clone(), blob).unwrap();
        assert_eq!((read.digest.as_str(), &read.bundle), (made.digest.as_str(), &made.bundle));
        assert_eq!(Parcel::make(bundle(&contents), &contents).unwrap().digest, made.digest);
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("files");
        read.unpack("shop", &into).unwrap();
        assert_eq!(fs::read(into.join("setpoint.toml")).unwrap(), b"setpoint = 1\n");
        let mode = fs::metadata(into.join("deploy/seed.sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o555);
    }

    #[test]
    fn every_flipped_byte_is_refused() {
        let contents = contents();
        let made = Parcel::make(bundle(&contents), &contents).unwrap();
        for flipped in 0..made.files.len() {
            let mut files = made.files.clone();
            files[flipped] ^= 1;
            let blob = |digest: &str, _: u64| {
                Ok(if digest == sha256_of(&made.config) { made.config.clone() } else { files.clone() })
            };
            let error = Parcel::read("shop", made.document.clone(), blob).err().unwrap().to_string();
            assert!(error.contains("has the digest"), "{error}");
        }
    }

    #[test]
    fn an_archive_that_is_not_what_is_listed_is_refused() {
        let contents = contents();
        let with = |path: &str, text: &str| {
            let mut other = contents.clone();
            other.insert(path.to_owned(), text.as_bytes().to_vec());
            let parcel = Parcel::make(bundle(&contents), &other).unwrap();
            refusal(&parcel)
        };
        assert!(with("more", "x").contains("has `more`, which is not listed"));
        assert!(with("setpoint.toml", "setpoint = 2\n").contains("is not what is listed"));
        assert!(with("setpoint.toml", "longer than before").contains("bytes instead of"));
        let mut fewer = contents.clone();
        fewer.remove("deploy/seed.sh");
        assert!(
            refusal(&Parcel::make(bundle(&contents), &fewer).unwrap()).contains("lacks `deploy/seed.sh`")
        );
    }

    #[test]
    fn links_and_what_swells_are_refused() {
        let contents = contents();
        let mut made = Parcel::make(bundle(&contents), &contents).unwrap();
        let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "setpoint.toml", "/etc/passwd").unwrap();
        made.files = archive.into_inner().unwrap().finish().unwrap();
        assert!(refusal(&made).contains("has `setpoint.toml`, which is not listed"));
        let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
        bomb.write_all(&vec![0; 64 << 20]).unwrap();
        made.files = bomb.finish().unwrap();
        assert!(refusal(&made).contains("lacks"));
    }
}
