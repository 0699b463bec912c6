//! Migrations: what changes data from one version to the next, each exactly once, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::host_paths::normal;
use super::version::Version;
use super::way_back::{DOWN, Down};
use crate::manifest::parse_duration;
use crate::names::UnitName;

/// The folder of migrations, from the project's.
pub const FOLDER: &str = "migrations";
/// What a migration says (`in`) that runs on the machine itself.
pub const HOST: &str = "host";
/// How long a migration may take that says nothing of it.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Which migration, in the order in which they run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MigrationId {
    version: Version,
    ordinal: u32,
    name: String,
}

impl std::fmt::Display for MigrationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}-{}", self.version, self.ordinal, self.name)
    }
}

impl From<MigrationId> for String {
    fn from(id: MigrationId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for MigrationId {
    type Error = MigrationError;

    fn try_from(text: String) -> Result<Self, MigrationError> {
        match File::of(&format!("{FOLDER}/{text}.x"))? {
            Some(file) => Ok(file.id),
            None => {
                Err(MigrationError::Path { path: text, why: "it is in no folder of a version".to_owned() })
            }
        }
    }
}

/// What the path of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File<'a> {
    /// The migration that it is, or takes back.
    pub id: MigrationId,
    /// The ending of its name.
    pub ending: &'a str,
    /// Whether it takes it back.
    pub is_down: bool,
}

impl<'a> File<'a> {
    /// What a path from the project's folder says: `migrations/0.4.0/1-orders.sql`, `migrations/0.4.0/1-orders.down.sql`. A
    /// leading `v` of the version means nothing. Nothing for what lies in no folder of a version, which is somebody else's.
    ///
    /// # Errors
    /// [`MigrationError::Path`] if it is in such a folder and not called as migrations are.
    pub fn of(path: &'a str) -> Result<Option<Self>, MigrationError> {
        let within = path.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/'));
        let Some((folder, file)) = within.and_then(|within| within.split_once('/')) else { return Ok(None) };
        let Ok(version) = Version::parse(folder) else { return Ok(None) };
        if file.starts_with('.') {
            return Ok(None);
        }
        let bad = |why: &str| MigrationError::Path { path: path.to_owned(), why: why.to_owned() };
        if file.contains('/') {
            return Err(bad("it lies deeper than the folder of its version"));
        }
        let (stem, ending) = file.rsplit_once('.').ok_or_else(|| bad("its name has no ending"))?;
        let (stem, is_down) = stem.strip_suffix(DOWN).map_or((stem, false), |stem| (stem, true));
        let number = "its name does not begin with a number and a `-`";
        let (ordinal, name) = stem.split_once('-').ok_or_else(|| bad(number))?;
        let ordinal = ordinal.parse().map_err(|_| bad(number))?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
            return Err(bad("its name may have letters, digits, `-` and `_`"));
        }
        let id = MigrationId { version, ordinal, name: name.to_owned() };
        Ok(Some(Self { id, ending, is_down }))
    }
}

impl MigrationId {
    /// The version that brings it.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Whether nothing says which of two comes first.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        (&self.version, self.ordinal) == (&other.version, other.ordinal)
    }
}

/// What is wrong with a migration, or between those that are declared and those that were applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// Its path is not one.
    #[error("`{path}` is not the path of a migration: {why}")]
    Path {
        /// As it was found.
        path: String,
        /// Which part is wrong.
        why: String,
    },
    /// What its head says cannot be.
    #[error("{path}:{line}: {why}")]
    Head {
        /// The file.
        path: String,
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Nobody knows which of two comes first.
    #[error("{one} and {other} have the same place in the order")]
    SamePlace {
        /// The one.
        one: String,
        /// The other.
        other: String,
    },
    /// One that was applied has another text by now.
    #[error("{id} was changed after it was applied: its checksum was {}, and is {}", short(was), short(is))]
    Changed {
        /// Which.
        id: String,
        /// The checksum of what was applied.
        was: String,
        /// The checksum of what is there.
        is: String,
    },
    /// One was applied that nobody knows here.
    #[error("{id} was applied to the data and is not in this version: the data is of a later one")]
    Unknown {
        /// Which.
        id: String,
    },
    /// One comes before another that was applied, and was not.
    #[error("{id} was not applied, and {later} was, which comes after it")]
    Gap {
        /// Which.
        id: String,
        /// What was applied.
        later: String,
    },
    /// One was applied to some of the data that it touches.
    #[error("{id} was applied to {to}, and not to {not_to}, which it touches, too")]
    Partly {
        /// Which.
        id: String,
        /// A volume that it was applied to.
        to: String,
        /// One that it was not.
        not_to: String,
    },
    /// One was begun and never ended, on data that was not copied.
    #[error("{id} was begun and not ended, and does not say that it may be run again")]
    HalfApplied {
        /// Which.
        id: String,
    },
    /// Its data is not copied, and it does not say that it may be run again.
    #[error("{id} cannot run on data that is not copied: it does not say that it may be run again")]
    NotRepeatable {
        /// Which.
        id: String,
    },
    /// Nothing tells whether it was applied to data that was there before there was a ledger.
    #[error("nothing tells whether {id} was applied to the data that is there")]
    Unverified {
        /// Which.
        id: String,
    },
    /// A path that it declares cannot be saved and put back.
    #[error("{id} changes {path}, which cannot be saved and put back: {why}")]
    HostPath {
        /// Which.
        id: String,
        /// As it is declared.
        path: String,
        /// Why.
        why: String,
    },
    /// It says that it runs on the machine, and a service is called so.
    #[error("{id} runs on `{HOST}`, which is this machine, and this project has a service of that name")]
    HostIsService {
        /// Which.
        id: String,
    },
    /// It comes after one that runs only when the change is committed, and does itself run before that.
    #[error("{id} comes after {earlier}, which runs only after the commit")]
    AfterForwardOnly {
        /// Which.
        id: String,
        /// What comes before it.
        earlier: String,
    },
    /// It names what is not declared.
    #[error("{id} names {what}, and there is: {known}")]
    Nameless {
        /// Which.
        id: String,
        /// `the service web`, `the volume data`.
        what: String,
        /// What is declared.
        known: String,
    },
}

impl MigrationError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Path { .. } => "migrations are files such as `migrations/0.4.0/1-orders.sql`",
            Self::Head { .. } => "the head of a migration is comments such as `# setpoint: in = \"db\"`",
            Self::SamePlace { .. } => "give one of them another number",
            Self::Changed { .. } => {
                "put back what was applied, and write what is to be changed into a new migration"
            }
            Self::Unknown { .. } => "use that version; `setpoint rollback` goes back with the data as it was",
            Self::Gap { .. } => "give it a number, or a version, after what was applied",
            Self::Partly { .. } => {
                "a volume was removed, or restored, without the others: bring back what belongs to them, or remove those, too"
            }
            Self::HalfApplied { .. } => {
                "put back the data of before it: `setpoint restore`, or `setpoint rollback --discard-writes`"
            }
            Self::NotRepeatable { .. } => {
                "`idempotent = true` in its head says that it may; without `lane = \"compatible\"` data is copied"
            }
            Self::Unverified { .. } => {
                "`check` in its head tells, or `baseline = \"VERSION\"` in [release.migrations] says up to which \
                 version the data has all of them"
            }
            Self::HostPath { .. } => {
                "`paths` in its head are those that it makes, moves or changes, and nothing above them"
            }
            Self::HostIsService { .. } => {
                "call the service something else, or name it in [release.migrations] (`in`), where it is always a service"
            }
            Self::AfterForwardOnly { .. } => {
                "upgrade to the version of the earlier one first; without `lane = \"compatible\"` data is copied, and both run on that"
            }
            Self::Nameless { .. } => "mend its head, or [release.migrations]",
        }
    }
}

/// Where a migration runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a service: with its image, its variables, secrets, networks and volumes.
    Service(UnitName),
    /// On the machine itself, in the project's folder, as who runs the upgrade.
    Host {
        /// What it makes, moves or changes there. It is saved before, and put back if the change is undone.
        paths: Vec<String>,
    },
}

impl Place {
    /// The service, if it is one.
    #[must_use]
    pub fn service(&self) -> Option<&UnitName> {
        match self {
            Self::Service(unit) => Some(unit),
            Self::Host { .. } => None,
        }
    }

    /// The paths of the machine that are saved before.
    #[must_use]
    pub fn paths(&self) -> &[String] {
        match self {
            Self::Service(_) => &[],
            Self::Host { paths } => paths,
        }
    }
}

/// When a migration runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Before its service starts, when what that depends on is well: in an instance of its own in the service's place. On
    /// the host: before any service starts.
    #[default]
    Pre,
    /// When its service is well: inside it. On the host: when all services are well.
    Post,
    /// After the commit, when the new version has stayed well: inside its service. Nothing leads back from there.
    ForwardOnly,
}

/// A command of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Words {
    /// For a shell.
    Text(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

/// What the head of a migration may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Head {
    pub(super) r#in: Option<UnitName>,
    pub(super) stage: Option<Stage>,
    run: Option<Vec<String>>,
    pub(super) user: Option<String>,
    pub(super) touches: Option<Vec<String>>,
    pub(super) paths: Option<Vec<String>>,
    pub(super) idempotent: bool,
    pub(super) check: Option<Words>,
    timeout: Option<String>,
}

impl Head {
    /// What runs a text whose name ends so.
    pub(super) fn program(&self, ending: &str, defaults: &Defaults) -> Result<Vec<String>, String> {
        let shell = || (ending == "sh").then(|| vec!["/bin/sh".to_owned()]);
        let run = self.run.clone().or_else(|| defaults.run.get(ending).cloned()).or_else(shell);
        let nothing = || format!("nothing says which program runs what ends in `.{ending}` (`run`)");
        run.filter(|run| !run.is_empty()).ok_or_else(nothing)
    }

    /// How long it may take.
    pub(super) fn limit(&self, defaults: &Defaults) -> Result<Duration, String> {
        match &self.timeout {
            Some(text) => parse_duration(text).map_err(|bad| bad.what),
            None => Ok(defaults.timeout.unwrap_or(TIMEOUT)),
        }
    }

    /// What runs after the commit is not put back, and may be cut off there.
    fn check_forward_only(&self, place: &Place) -> Result<(), String> {
        match (place, self.idempotent) {
            (Place::Host { .. }, _) => {
                Err("what runs on the host is put back, so it is not `forward_only`".to_owned())
            }
            (_, false) => Err(
                "what is `forward_only` is run again where it was cut off: it has to say `idempotent = true`"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// Where it runs.
    fn place(&self, defaults: &Defaults) -> Result<Place, String> {
        let on_host = self.r#in.as_ref().is_some_and(|unit| unit.as_str() == HOST);
        let text = match &self.paths {
            Some(_) if !on_host => return Err("only what runs on the host has `paths`".to_owned()),
            None if !on_host => {
                let unit = self.r#in.as_ref().or(defaults.r#in.as_ref()).cloned();
                let nobody = || "nothing says in which service it runs (`in`)".to_owned();
                return unit.map(Place::Service).ok_or_else(nobody);
            }
            None => return Err("nothing says what it changes on the host (`paths`)".to_owned()),
            Some(paths) if paths.is_empty() => {
                return Err("`paths` names nothing that it changes on the host".to_owned());
            }
            Some(paths) => paths,
        };
        if self.touches.is_some() {
            return Err("what runs on the host reaches no volume (`touches`)".to_owned());
        }
        if self.user.is_some() {
            return Err("what runs on the host does so as who runs the upgrade (`user`)".to_owned());
        }
        if self.check.is_none() {
            return Err("what runs on the host says how it is told that it was applied (`check`)".to_owned());
        }
        let path = |path: &String| normal(path).map_err(|why| format!("`{path}` cannot be saved: {why}"));
        Ok(Place::Host { paths: text.iter().map(path).collect::<Result<_, _>>()? })
    }
}

/// What migrations have in common that do not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The service that they run in.
    pub r#in: Option<UnitName>,
    /// When they run.
    pub stage: Option<Stage>,
    /// The programs that run them, by the endings of their names.
    pub run: BTreeMap<String, Vec<String>>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// The version up to which data that no ledger tells of has them all.
    pub baseline: Option<Version>,
}

/// A migration as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Which.
    pub id: MigrationId,
    /// Its file, from the project's folder.
    pub path: String,
    /// The SHA-256 of its text, in hex.
    pub sha256: String,
    /// Where.
    pub r#in: Place,
    /// When.
    pub stage: Stage,
    /// The program that runs it, to which the path of its text is added.
    pub run: Vec<String>,
    /// As whom; the service's user if absent.
    pub user: Option<String>,
    /// The volumes that it changes, where it says so: else those of its service, and of what that depends on.
    pub touches: Option<Vec<String>>,
    /// Whether it may be run again where it was cut off.
    pub idempotent: bool,
    /// What succeeds where it was applied, and fails where it was not.
    pub check: Option<Vec<String>>,
    /// How long it may take.
    pub timeout: Duration,
    /// What takes it back, where there is such.
    pub down: Option<Down>,
}

impl Migration {
    /// Reads a migration: its path from the project's folder, its text, and the digest of that. Nothing for a file that is
    /// none, or takes one back.
    ///
    /// # Errors
    /// What is wrong with its path or its head.
    pub fn parse(
        path: &str,
        text: &str,
        sha256: String,
        defaults: &Defaults,
    ) -> Result<Option<Self>, MigrationError> {
        let Some(File { id, ending, .. }) = File::of(path)?.filter(|file| !file.is_down) else {
            return Ok(None);
        };
        let at = |(line, why)| MigrationError::Head { path: path.to_owned(), line, why };
        let (head, line) = head(text).map_err(at)?;
        let wrong = |why: String| at((line, why));
        let r#in = head.place(defaults).map_err(wrong)?;
        // What is said of all of them is of services.
        let usual = r#in.service().and(defaults.stage);
        let stage = head.stage.or(usual).unwrap_or_default();
        if stage == Stage::ForwardOnly {
            head.check_forward_only(&r#in).map_err(wrong)?;
        }
        let run = head.program(ending, defaults).map_err(wrong)?;
        let timeout = head.limit(defaults).map_err(wrong)?;
        let check = head.check.map(|check| match check {
            Words::Argv(argv) => argv,
            Words::Text(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text],
        });
        if check.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong("`check` names no program".to_owned()));
        }
        Ok(Some(Self {
            id,
            path: path.to_owned(),
            sha256,
            r#in,
            stage,
            run,
            user: head.user,
            touches: head.touches,
            idempotent: head.idempotent,
            check,
            timeout,
            down: None,
        }))
    }

    /// Adds what takes it back.
    ///
    /// # Errors
    /// What is wrong with its path or its head.
    pub fn add_down(
        &mut self,
        path: &str,
        text: &str,
        sha256: String,
        defaults: &Defaults,
    ) -> Result<(), MigrationError> {
        let Some(file) = File::of(path)?.filter(|file| file.is_down) else { return Ok(()) };
        if let Some(other) = &self.down {
            let (one, other) = (other.path.clone(), path.to_owned());
            return Err(MigrationError::SamePlace { one, other });
        }
        let at = |(line, why)| MigrationError::Head { path: path.to_owned(), line, why };
        if self.stage == Stage::ForwardOnly {
            return Err(at((1, format!("nothing takes {} back: it is `forward_only`", self.id))));
        }
        self.down = Some(Down::parse((path, text), sha256, file.ending, defaults).map_err(at)?);
        Ok(())
    }
}

/// What stands behind `setpoint:` in the comments that a text begins with, and the last line of it; or what is wrong with that.
pub(super) fn head(text: &str) -> Result<(Head, usize), (usize, String)> {
    let mut said = Vec::new();
    let mut last = 1;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let comment = ["#", "--", "//"].into_iter().find_map(|sign| line.strip_prefix(sign));
        match comment {
            Some(comment) => {
                if let Some(words) = comment.trim().strip_prefix("setpoint:") {
                    said.push(words.trim());
                    last = index + 1;
                }
            }
            None if line.is_empty() => {}
            None => break,
        }
    }
    let bad = |error: toml::de::Error| (last, error.message().to_owned());
    Ok((toml::from_str(&said.join("\n")).map_err(bad)?, last))
}

/// The first characters of a checksum.
fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}
