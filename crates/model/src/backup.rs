//! What a backup holds: a list by which everything else in it is known, and the rules of what it may be restored to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::UnitName;
use crate::release::Version;
use crate::release::ledger::Applied;

/// The version of the format of backups.
pub const FORMAT: u32 = 1;
/// What a backup is, for registries.
pub const ARTIFACT: &str = "application/vnd.setpoint.backup.v1+json";
/// What its list is.
pub const CONFIG: &str = "application/vnd.setpoint.backup.config.v1+json";
/// What a part is that holds the files of a volume.
pub const VOLUME: &str = "application/vnd.setpoint.backup.volume.v1.tar+zstd";
/// What a part is that holds what a command of the service wrote.
pub const DUMP: &str = "application/vnd.setpoint.backup.dump.v1+zstd";

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The version of the format.
    pub format: u32,
    /// The name of the project.
    pub project: String,
    /// The version of it that was in effect.
    pub version: Option<String>,
    /// The generation that was in effect.
    pub generation: u64,
    /// When it was made, as RFC 3339 has it.
    pub at: String,
    /// The engine that the data was on.
    pub engine: String,
    /// The services whose data it is.
    pub units: BTreeMap<UnitName, OfUnit>,
    /// Its parts, each of which is a layer.
    pub parts: Vec<Part>,
}

/// What is told of a service whose data is in a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfUnit {
    /// What it was built on, as far as that is known.
    pub image: Option<String>,
    /// The steps of its first boot that were done for the data.
    pub first_boot: Vec<String>,
}

/// A part of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is.
    #[serde(flatten)]
    pub what: What,
    /// The services that the data belongs to.
    pub units: Vec<UnitName>,
    /// The migrations that the data has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<Applied>,
    /// How many bytes it has.
    pub bytes: u64,
    /// The digest of these bytes.
    pub digest: String,
    /// How many bytes the layer has.
    pub stored: u64,
    /// The digest of the layer.
    pub layer: String,
}

/// What a part of a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum What {
    /// The files of a volume, read while nobody wrote to it.
    Volume {
        /// The volume, without the name of its project.
        volume: String,
        /// What tells its data from other data of its name.
        id: String,
        /// The digest of its tree: names, kinds, owners, rights, times in whole seconds, links and content.
        tree: String,
        /// How many files and folders it has.
        files: u64,
    },
    /// What the service's own command wrote.
    Dump,
}

/// Why a text is not the list of a backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadContents {
    /// It is none.
    #[error("its list cannot be read: {0}")]
    Text(String),
    /// A newer version wrote it.
    #[error("its format is {0}, and this version knows {FORMAT}")]
    Format(u32),
}

/// Why a backup is not restored to a project.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is of another project.
    #[error("it is a backup of the project `{theirs}`, and this one is `{own}`")]
    OtherProject {
        /// That of the backup.
        theirs: String,
        /// This one.
        own: String,
    },
    /// It is of a later version.
    #[error("it is a backup of version {theirs}, and {own} is in effect, which need not know such data")]
    Newer {
        /// That of the backup.
        theirs: String,
        /// The one in effect.
        own: String,
    },
    /// It has nothing of a service.
    #[error("it has no data of `{unit}`")]
    NoUnit {
        /// The service.
        unit: UnitName,
        /// The services that it has data of.
        has: Vec<UnitName>,
    },
}

impl Contents {
    /// Reads the list of a backup.
    ///
    /// # Errors
    /// [`BadContents`] if it is none, or a newer version wrote it.
    pub fn parse(json: &[u8]) -> Result<Self, BadContents> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let text = |error: serde_json::Error| BadContents::Text(error.to_string());
        let format = serde_json::from_slice::<Versioned>(json).map_err(text)?.format;
        if format != FORMAT {
            return Err(BadContents::Format(format));
        }
        serde_json::from_slice(json).map_err(text)
    }

    /// The list as it is written: the same bytes for the same list.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // It has text keys only, and nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The parts that are restored of it: those of a service, if one is named.
    ///
    /// # Errors
    /// [`Unfit::NoUnit`] if it has none.
    pub fn chosen(&self, unit: Option<&UnitName>) -> Result<Vec<&Part>, Unfit> {
        let Some(unit) = unit else { return Ok(self.parts.iter().collect()) };
        let parts: Vec<&Part> = self.parts.iter().filter(|part| part.units.contains(unit)).collect();
        match parts.is_empty() {
            true => Err(Unfit::NoUnit { unit: unit.clone(), has: self.units.keys().cloned().collect() }),
            false => Ok(parts),
        }
    }

    /// Whether it may be restored to a project: of its name, or of the name that is said (`of`), and not of a later
    /// version than the one in effect.
    ///
    /// # Errors
    /// Why it may not.
    pub fn fits(&self, project: &str, version: Option<&str>, of: Option<&str>) -> Result<(), Unfit> {
        if self.project != of.unwrap_or(project) {
            return Err(Unfit::OtherProject { theirs: self.project.clone(), own: project.to_owned() });
        }
        let read = |text: Option<&str>| text.and_then(|text| Version::parse(text).ok());
        match (read(self.version.as_deref()), read(version)) {
            (Some(theirs), Some(own)) if theirs > own => {
                Err(Unfit::Newer { theirs: theirs.to_string(), own: own.to_string() })
            }
            _ => Ok(()),
        }
    }
}

/// A volume as backups call it: by what the manifest calls it, so that a project of another name finds it.
#[must_use]
pub fn volume_name<'a>(project: &str, declared: &'a str) -> &'a str {
    declared.strip_prefix(project).and_then(|rest| rest.strip_prefix('_')).unwrap_or(declared)
}

/// What a backup is called: its project, its service if it is of one, and when it was made, in digits that sort as times
/// do (`20261121-234300`). One of the same second gets a number.
#[must_use]
pub fn name(project: &str, unit: Option<&UnitName>, at: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let of = unit.map(|unit| format!("-{unit}")).unwrap_or_default();
    let plain = format!("{project}{of}-{at}");
    if !is_taken(&plain) {
        return plain;
    }
    (2_u32..).map(|number| format!("{plain}-{number}")).find(|name| !is_taken(name)).unwrap_or(plain)
}

/// Whether a name is one that [`name`] gives to backups of a project.
#[must_use]
pub fn is_of_project(name: &str, project: &str) -> bool {
    let rest = name.strip_prefix(project).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| when(rest).is_some())
}

/// The end of a name that tells when the backup was made: it sorts as times do.
#[must_use]
pub fn when(name: &str) -> Option<&str> {
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = |text: &str| {
        let mut parts = text.splitn(3, '-');
        parts.next().is_some_and(|day| digits(day, 8))
            && parts.next().is_some_and(|time| digits(time, 6))
            && parts.next().is_none_or(|number| !number.is_empty() && digits(number, number.len()))
    };
    let starts = std::iter::once(0).chain(name.match_indices('-').map(|(at, _)| at + 1));
    starts.filter_map(|at| name.get(at..)).find(|rest| is_time(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> UnitName {
        UnitName::new(name).unwrap()
    }

    fn contents(version: Option<&str>) -> Contents {
        let part = Part {
            what: What::Volume {
                volume: "data".to_owned(),
                id: "1".to_owned(),
                tree: "t".to_owned(),
                files: 3,
            },
            migrations: Vec::new(),
            units: vec![unit("db")],
            bytes: 10,
            digest: "sha256:1".to_owned(),
            stored: 5,
            layer: "sha256:2".to_owned(),
        };
        Contents {
            format: FORMAT,
            project: "shop".to_owned(),
            version: version.map(str::to_owned),
            generation: 2,
            at: "2026-11-21T23:43:00Z".to_owned(),
            engine: "embedded".to_owned(),
            units: BTreeMap::from([(unit("db"), OfUnit::default())]),
            parts: vec![part],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let contents = contents(Some("1.0.0"));
        assert_eq!(Contents::parse(&contents.to_json()), Ok(contents.clone()));
        let newer = Contents { format: 2, ..contents };
        assert_eq!(Contents::parse(&newer.to_json()), Err(BadContents::Format(2)));
        assert!(matches!(Contents::parse(b"{}"), Err(BadContents::Text(_))));
    }

    #[test]
    fn a_backup_fits_its_project_at_its_version_or_a_later_one() {
        for (theirs, project, own, of, fits) in [
            (Some("1.0.0"), "shop", Some("1.0.0"), None, true),
            (Some("1.0.0"), "shop", Some("2.0.0"), None, true),
            (Some("2.0.0"), "shop", Some("1.0.0"), None, false),
            (None, "shop", Some("1.0.0"), None, true),
            (Some("1.0.0"), "shop", None, None, true),
            (Some("1.0.0"), "other", Some("1.0.0"), None, false),
            (Some("1.0.0"), "other", Some("1.0.0"), Some("shop"), true),
            (Some("1.0.0"), "shop", Some("1.0.0"), Some("other"), false),
        ] {
            let found = contents(theirs).fits(project, own, of);
            assert_eq!(found.is_ok(), fits, "{theirs:?} {project} {own:?} {of:?}: {found:?}");
        }
    }

    #[test]
    fn parts_are_chosen_by_their_service() {
        let contents = contents(None);
        assert_eq!(contents.chosen(None).unwrap().len(), 1);
        assert_eq!(contents.chosen(Some(&unit("db"))).unwrap().len(), 1);
        let refused = contents.chosen(Some(&unit("web")));
        assert_eq!(refused, Err(Unfit::NoUnit { unit: unit("web"), has: vec![unit("db")] }));
    }

    #[test]
    fn names_are_never_given_twice_and_tell_when() {
        let taken = ["shop-20261121-234300", "shop-20261121-234300-2"];
        let is_taken = |name: &str| taken.contains(&name);
        assert_eq!(name("shop", None, "20261121-234300", is_taken), "shop-20261121-234300-3");
        assert_eq!(name("shop", Some(&unit("db")), "20261121-234300", is_taken), "shop-db-20261121-234300");
        for (name, of_shop, told) in [
            ("shop-20261121-234300", true, Some("20261121-234300")),
            ("shop-db-20261121-234300-2", true, Some("20261121-234300-2")),
            ("shop-1-20261121-234300", true, Some("20261121-234300")),
            ("shops-20261121-234300", false, Some("20261121-234300")),
            ("shop-latest", false, None),
            ("shop-20261121", false, None),
            ("1.0.0", false, None),
        ] {
            assert_eq!((is_of_project(name, "shop"), when(name)), (of_shop, told), "{name}");
        }
    }

    #[test]
    fn volumes_are_called_as_their_manifest_does() {
        assert_eq!(volume_name("shop", "shop_data"), "data");
        assert_eq!(volume_name("shop", "shopdata"), "shopdata");
        assert_eq!(volume_name("shop", "other_data"), "other_data");
    }
}
