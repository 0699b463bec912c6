//! What a release holds: a list that everything else in it is compared with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::repository::Repository;
use super::upgrade::Lane;
use super::version::Version;
use crate::digest::{Digest, Encoder};
use crate::names::UnitName;

/// The version of the format of bundles.
pub const FORMAT: u32 = 1;
/// What a bundle is, for registries.
pub const ARTIFACT: &str = "application/vnd.setpoint.release.v1+json";
/// What its list is.
pub const CONFIG: &str = "application/vnd.setpoint.release.config.v1+json";
/// What the archive of its files is.
pub const FILES: &str = "application/vnd.setpoint.release.files.v1.tar+zstd";
/// How many bytes the files of a bundle may have in all.
pub const MOST_BYTES: u64 = 256 << 20;
/// How many files a bundle may have.
pub const MOST_FILES: usize = 20_000;
/// The manifest, among the files.
pub const MANIFEST: &str = "setpoint.toml";

/// What a release holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The version of the format.
    pub format: u32,
    /// The name of the project.
    pub project: String,
    /// Its version, without a leading `v`.
    pub version: String,
    /// Where it was released to.
    pub repository: Repository,
    /// What an upgrade to it does to data, where it is said.
    pub lane: Option<Lane>,
    /// What its services are built on.
    pub images: BTreeMap<UnitName, PinnedImage>,
    /// Its files, by their paths from the project's folder, the manifest among them.
    pub files: BTreeMap<String, BundledFile>,
}

/// An image that means the same for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedImage {
    /// The image, by its digest.
    pub reference: String,
    /// What it was made of: `image postgres:16`, `build` and the digest of what it was built from.
    pub from: String,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledFile {
    /// The SHA-256 of its content, in hex.
    pub sha256: String,
    /// How many bytes it has.
    pub size: u64,
    /// Whether it can be executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// What is wrong with the list of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBundle {
    /// It was written by a later version.
    #[error("it has the format {0}, and this Setpoint reads format {FORMAT}")]
    Newer(u64),
    /// It is none.
    #[error("its list cannot be read: {0}")]
    Unreadable(String),
    /// A path would lead out of its folder, or is no path.
    #[error("it lists `{0}`, which is no path within a folder")]
    Path(String),
    /// A path is that of a file and of a folder.
    #[error("it lists `{0}` as a file and as a folder")]
    Twice(String),
    /// There is too much of it.
    #[error("it lists more than {MOST_FILES} files, or more than {MOST_BYTES} bytes")]
    TooLarge,
    /// It has no manifest.
    #[error("it has no {MANIFEST}")]
    NoManifest,
    /// It is another version than the one that was asked for.
    #[error("it is {found}, and {wanted} was asked for")]
    Other {
        /// What was asked for.
        wanted: String,
        /// What it says that it is.
        found: String,
    },
}

impl Bundle {
    /// Reads and checks the list of a bundle.
    ///
    /// # Errors
    /// [`BadBundle`] says what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, BadBundle> {
        let unreadable = |error: serde_json::Error| BadBundle::Unreadable(error.to_string());
        let value: serde_json::Value = serde_json::from_slice(json).map_err(unreadable)?;
        match value["format"].as_u64() {
            Some(newer) if newer > u64::from(FORMAT) => return Err(BadBundle::Newer(newer)),
            _ => {}
        }
        let bundle: Self = serde_json::from_value(value).map_err(unreadable)?;
        bundle.check()?;
        Ok(bundle)
    }

    /// Its list, always in the same bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // It has text keys only, and nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn check(&self) -> Result<(), BadBundle> {
        let bytes = self.files.values().map(|file| file.size).fold(0, u64::saturating_add);
        if self.files.len() > MOST_FILES || bytes > MOST_BYTES {
            return Err(BadBundle::TooLarge);
        }
        for path in self.files.keys() {
            if !is_within(path) {
                return Err(BadBundle::Path(path.clone()));
            }
            let mut above = path.as_str();
            while let Some((folder, _)) = above.rsplit_once('/') {
                if self.files.contains_key(folder) {
                    return Err(BadBundle::Twice(folder.to_owned()));
                }
                above = folder;
            }
        }
        if !self.files.contains_key(MANIFEST) {
            return Err(BadBundle::NoManifest);
        }
        Ok(())
    }

    /// A digest of the file at a path, or of all files below it; nothing if there is none.
    #[must_use]
    pub fn carried(&self, path: &str) -> Option<Digest> {
        let is_it =
            |file: &str| file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let found: Vec<_> = self.files.iter().filter(|(file, _)| is_it(file)).collect();
        if found.is_empty() {
            return None;
        }
        let mut encoder = Encoder::new("setpoint.carried", FORMAT);
        encoder.list(found.len());
        for (file, of) in found {
            encoder.text(file).text(&of.sha256).text(if of.executable { "executable" } else { "" });
        }
        Some(encoder.finish())
    }

    /// Checks that it is what was asked for.
    ///
    /// # Errors
    /// [`BadBundle::Other`] if it is not.
    pub fn expect(&self, repository: &Repository, version: &Version) -> Result<(), BadBundle> {
        let (wanted, found) =
            (format!("{repository}:{version}"), format!("{}:{}", self.repository, self.version));
        if wanted == found { Ok(()) } else { Err(BadBundle::Other { wanted, found }) }
    }
}

/// Whether a path leads to something within the folder that it is taken from, whatever links there are not.
#[must_use]
pub fn is_within(path: &str) -> bool {
    let is_name = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255 && !part.contains('\0');
    path.len() <= 4096 && path.split('/').all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(paths: &[&str]) -> Bundle {
        let file = |path: &&str| {
            ((*path).to_owned(), BundledFile { sha256: "00".repeat(32), size: 1, executable: false })
        };
        Bundle {
            format: FORMAT,
            project: "shop".to_owned(),
            version: "0.3.0".to_owned(),
            repository: Repository::parse("ghcr.io/acme/shop").unwrap(),
            lane: None,
            images: BTreeMap::new(),
            files: paths.iter().map(file).collect(),
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let bundle = bundle(&["setpoint.toml", "deploy/app.conf"]);
        assert_eq!(Bundle::parse(&bundle.to_json()), Ok(bundle));
    }

    #[test]
    fn what_would_lead_out_of_its_folder_is_refused() {
        for path in ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "", "a/", "a\0b"] {
            let found = Bundle::parse(&bundle(&["setpoint.toml", path]).to_json());
            assert_eq!(found, Err(BadBundle::Path(path.to_owned())));
        }
        let both = bundle(&["setpoint.toml", "a", "a/b"]);
        assert_eq!(Bundle::parse(&both.to_json()), Err(BadBundle::Twice("a".to_owned())));
    }

    #[test]
    fn what_is_too_new_too_large_or_another_is_told() {
        let good = bundle(&["setpoint.toml"]);
        let newer = Bundle { format: 2, ..good.clone() };
        assert_eq!(Bundle::parse(&newer.to_json()), Err(BadBundle::Newer(2)));
        let mut large = good.clone();
        large.files.get_mut("setpoint.toml").unwrap().size = u64::MAX;
        assert_eq!(Bundle::parse(&large.to_json()), Err(BadBundle::TooLarge));
        assert_eq!(Bundle::parse(&bundle(&["x"]).to_json()), Err(BadBundle::NoManifest));
        assert!(matches!(Bundle::parse(b"{}"), Err(BadBundle::Unreadable(_))));
        let version = Version::parse("0.4.0").unwrap();
        let other = good.expect(&good.repository, &version).unwrap_err().to_string();
        assert_eq!(other, "it is ghcr.io/acme/shop:0.3.0, and ghcr.io/acme/shop:0.4.0 was asked for");
    }

    #[test]
    fn what_is_carried_of_a_folder_is_told_by_all_that_is_in_it() {
        let one = bundle(&["setpoint.toml", "static/a", "static/b", "statics"]);
        let mut two = one.clone();
        two.files.get_mut("static/b").unwrap().sha256 = "11".repeat(32);
        assert!(one.carried("static").is_some());
        assert_ne!(one.carried("static"), two.carried("static"));
        for same in ["static/a", "statics", "setpoint.toml"] {
            assert!(one.carried(same).is_some() && one.carried(same) == two.carried(same), "{same}");
        }
        assert_eq!(one.carried("uploads"), None);
    }
}
