//! Migrations: what changes data from one version to the next, each exactly once, in order.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::names::UnitName;

/// Which migration, in the order in which they run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MigrationId {
    /// The version that brings it.
    pub version: Version,
    /// Its place within that version.
    pub ordinal: u32,
    /// What it is called.
    pub name: String,
}

impl std::fmt::Display for MigrationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}-{}", self.version, self.ordinal, self.name)
    }
}

/// What is wrong with a migration.
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
    /// Two have the same place in the order.
    #[error("{one} and {other} have the same place in the order")]
    SamePlace {
        /// The one.
        one: String,
        /// The other.
        other: String,
    },
    /// One that was applied has another text by now.
    #[error("{id} was changed after it was applied: its checksum was {was}, and is {is}")]
    Changed {
        /// Which.
        id: String,
        /// The checksum of what was applied.
        was: String,
        /// The checksum of what is there.
        is: String,
    },
    /// One was applied that nobody knows here: the data is of a later version.
    #[error("{id} was applied to the data and is not in this version: the data is of a later one")]
    Unknown {
        /// Which.
        id: String,
    },
    /// One comes before others that were applied, and was not.
    #[error("{id} was not applied, and {later} was, which comes after it")]
    Gap {
        /// Which.
        id: String,
        /// What was applied.
        later: String,
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
            Self::HalfApplied { .. } | Self::NotRepeatable { .. } => {
                "`idempotent = true` in its head says that it may; without `lane = \"compatible\"` data is copied"
            }
        }
    }
}

impl MigrationId {
    /// Reads `0.4.0/1-orders.sql`; a leading `v` of the version counts for nothing. Gives the ending of the name, too.
    ///
    /// # Errors
    /// [`MigrationError::Path`] says which part is wrong.
    pub fn parse(path: &str) -> Result<(Self, String), MigrationError> {
        let bad = |why: &str| MigrationError::Path { path: path.to_owned(), why: why.to_owned() };
        let (version, file) = path.split_once('/').ok_or_else(|| bad("it is in no folder of a version"))?;
        if file.contains('/') {
            return Err(bad("it lies deeper than one folder"));
        }
        let version = version.strip_prefix('v').unwrap_or(version);
        let version =
            Version::parse(version).map_err(|error| bad(&format!("`{version}` is no version ({error})")))?;
        let (stem, ending) = file.rsplit_once('.').ok_or_else(|| bad("its name has no ending"))?;
        let (ordinal, name) = stem.split_once('-').ok_or_else(|| bad("its name has no number in front"))?;
        let ordinal = ordinal.parse().map_err(|_| bad("its name has no number in front"))?;
        let is_fit = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(is_fit) {
            return Err(bad("its name may have letters, digits and `-_.`"));
        }
        Ok((Self { version, ordinal, name: name.to_owned() }, ending.to_owned()))
    }
}

/// What the head of a migration may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Head {
    r#in: Option<UnitName>,
    run: Option<Vec<String>>,
    after: Option<UnitName>,
    idempotent: bool,
}

/// A migration as it is declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Which.
    pub id: MigrationId,
    /// The digest of its text.
    pub checksum: String,
    /// The service as which it runs: with its image, its variables, secrets and networks, and its volumes.
    pub r#in: UnitName,
    /// The program that runs it, to which the path of its text is added.
    pub run: Vec<String>,
    /// The service that has to be well before. Default: those that the service depends on.
    pub after: Option<UnitName>,
    /// Whether it may be run again where it was cut off.
    pub idempotent: bool,
}

/// What migrations have in common that do not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The service as which they run.
    pub r#in: Option<UnitName>,
    /// The programs that run them, by the endings of their names.
    pub run: BTreeMap<String, Vec<String>>,
}

impl Migration {
    /// Reads a migration: its path below the folder of migrations, its text, and the digest of that.
    ///
    /// # Errors
    /// What is wrong with its path or its head.
    pub fn parse(
        path: &str,
        text: &str,
        checksum: String,
        defaults: &Defaults,
    ) -> Result<Self, MigrationError> {
        let (id, ending) = MigrationId::parse(path)?;
        let (head, line) = head(path, text)?;
        let missing = |why: String| MigrationError::Head { path: path.to_owned(), line, why };
        let r#in = head
            .r#in
            .or_else(|| defaults.r#in.clone())
            .ok_or_else(|| missing("nobody says as which service it runs (`in`)".to_owned()))?;
        let shell = || (ending == "sh").then(|| vec!["/bin/sh".to_owned()]);
        let run = head.run.or_else(|| defaults.run.get(&ending).cloned()).or_else(shell);
        let run = run.filter(|run| !run.is_empty()).ok_or_else(|| {
            missing(format!("nobody says what runs a migration that ends in `.{ending}` (`run`)"))
        })?;
        Ok(Self { id, checksum, r#in, run, after: head.after, idempotent: head.idempotent })
    }
}

/// What stands behind `setpoint:` in the comments that a text begins with, and the last line of it.
fn head(path: &str, text: &str) -> Result<(Head, usize), MigrationError> {
    let mut lines = Vec::new();
    let mut last = 1;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let comment = ["#", "--", "//"].into_iter().find_map(|sign| line.strip_prefix(sign));
        let Some(comment) = comment else {
            if line.is_empty() {
                continue;
            }
            break;
        };
        if let Some(said) = comment.trim().strip_prefix("setpoint:") {
            lines.push(said.trim());
            last = index + 1;
        }
    }
    let bad = |error: toml::de::Error| MigrationError::Head {
        path: path.to_owned(),
        line: last,
        why: error.message().to_owned(),
    };
    Ok((toml::from_str(&lines.join("\n")).map_err(bad)?, last))
}

/// How far a migration came on a set of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// It was begun.
    Begun,
    /// It was done.
    Done,
}

/// A migration as it was applied to a set of data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Which.
    pub id: MigrationId,
    /// The digest of what ran.
    pub checksum: String,
    /// How far it came.
    pub progress: Progress,
}

/// The migrations that have to run on a set of data, in order. `is_copied` says whether they run on a copy, which is thrown
/// away if one fails.
///
/// # Errors
/// Why what was applied and what is declared do not belong together.
pub fn pending<'a>(
    declared: &'a [Migration],
    applied: &[Applied],
    is_copied: bool,
) -> Result<Vec<&'a Migration>, MigrationError> {
    let mut declared: Vec<&Migration> = declared.iter().collect();
    declared.sort_by(|a, b| a.id.cmp(&b.id));
    for pair in declared.windows(2) {
        let place = |of: &MigrationId| (of.version.clone(), of.ordinal);
        if place(&pair[0].id) == place(&pair[1].id) {
            return Err(MigrationError::SamePlace {
                one: pair[0].id.to_string(),
                other: pair[1].id.to_string(),
            });
        }
    }
    for was in applied {
        let Some(is) = declared.iter().find(|migration| migration.id == was.id) else {
            return Err(MigrationError::Unknown { id: was.id.to_string() });
        };
        if is.checksum != was.checksum {
            let (id, was, is) = (was.id.to_string(), was.checksum.clone(), is.checksum.clone());
            return Err(MigrationError::Changed { id, was, is });
        }
    }
    let progress = |id: &MigrationId| applied.iter().find(|was| was.id == *id).map(|was| was.progress);
    let last_done = applied.iter().filter(|was| was.progress == Progress::Done).map(|was| &was.id).max();
    let mut pending = Vec::new();
    for migration in declared {
        match progress(&migration.id) {
            Some(Progress::Done) => continue,
            Some(Progress::Begun) if !is_copied && !migration.idempotent => {
                return Err(MigrationError::HalfApplied { id: migration.id.to_string() });
            }
            _ => {}
        }
        if let Some(later) = last_done.filter(|later| **later > migration.id) {
            return Err(MigrationError::Gap { id: migration.id.to_string(), later: later.to_string() });
        }
        if !is_copied && !migration.idempotent {
            return Err(MigrationError::NotRepeatable { id: migration.id.to_string() });
        }
        pending.push(migration);
    }
    Ok(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MigrationId {
        MigrationId::parse(&format!("{text}.sh")).unwrap().0
    }

    fn migration(text: &str) -> Migration {
        Migration::parse(
            &format!("{text}.sh"),
            "# setpoint: in = \"db\"\n",
            text.to_owned(),
            &Defaults::default(),
        )
        .unwrap()
    }

    fn applied(text: &str, progress: Progress) -> Applied {
        Applied { id: id(text), checksum: text.to_owned(), progress }
    }

    fn names(pending: &[&Migration]) -> Vec<String> {
        pending.iter().map(|migration| migration.id.to_string()).collect()
    }

    #[test]
    fn a_path_says_version_place_and_name() {
        let (parsed, ending) = MigrationId::parse("v0.4.0/10-orders-by-day.up.sql").unwrap();
        assert_eq!(parsed.to_string(), "0.4.0/10-orders-by-day.up");
        assert_eq!(ending, "sql");
        assert!(id("0.4.0/2-b") < id("0.4.0/10-a") && id("0.9.0/1-a") < id("0.10.0/1-a"));
        for bad in [
            "1-a.sql",
            "0.4/1-a.sql",
            "0.4.0/a.sql",
            "0.4.0/1.sql",
            "0.4.0/1-a",
            "0.4.0/x/1-a.sh",
            "0.4.0/1-a b.sh",
        ] {
            assert!(matches!(MigrationId::parse(bad), Err(MigrationError::Path { .. })), "{bad}");
        }
    }

    #[test]
    fn a_head_says_how_it_runs() {
        let text = "#!/bin/sh\n# Orders.\n# setpoint: in = \"web\"\n# setpoint: idempotent = true\n\necho\n# setpoint: in = \"no\"\n";
        let read = Migration::parse("1.0.0/1-a.sh", text, "c".to_owned(), &Defaults::default()).unwrap();
        assert_eq!((read.r#in.as_str(), read.idempotent), ("web", true));
        assert_eq!(read.run, ["/bin/sh"]);
        let defaults = Defaults {
            r#in: Some(UnitName::new("db").unwrap()),
            run: [("sql".to_owned(), vec!["psql".to_owned(), "-f".to_owned()])].into(),
        };
        let read = |text: &str| Migration::parse("1.0.0/1-a.sql", text, "c".to_owned(), &defaults);
        let sql = read("-- setpoint: after = \"db\"\nSELECT 1;\n").unwrap();
        assert_eq!((sql.run.join(" "), sql.after.unwrap().as_str()), ("psql -f".to_owned(), "db"));
        for (text, says) in
            [("-- setpoint: inn = 1\n", "unknown field"), ("-- setpoint: in = \"X\"\n", "lower-case")]
        {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(says) && error.starts_with("1.0.0/1-a.sql:1:"), "{error}");
        }
        let nobody = Migration::parse("1.0.0/1-a.sql", "", "c".to_owned(), &Defaults::default());
        assert!(nobody.unwrap_err().to_string().contains("as which service"));
    }

    #[test]
    fn what_was_not_applied_runs_in_order() {
        let declared = ["0.2.0/1-b", "0.1.0/2-x", "0.1.0/1-a", "0.10.0/1-z"].map(migration);
        let done = |text: &str| applied(text, Progress::Done);
        let all = names(&pending(&declared, &[], true).unwrap());
        assert_eq!(all, ["0.1.0/1-a", "0.1.0/2-x", "0.2.0/1-b", "0.10.0/1-z"]);
        let rest = pending(&declared, &[done("0.1.0/1-a"), done("0.1.0/2-x")], true).unwrap();
        assert_eq!(names(&rest), ["0.2.0/1-b", "0.10.0/1-z"]);
        let begun = pending(&declared[2..3], &[applied("0.1.0/1-a", Progress::Begun)], true).unwrap();
        assert_eq!(names(&begun), ["0.1.0/1-a"]);
    }

    #[test]
    fn what_does_not_belong_together_is_named() {
        let declared = ["0.1.0/1-a", "0.2.0/1-b"].map(migration);
        let done = |text: &str| applied(text, Progress::Done);
        assert_eq!(
            pending(&declared, &[done("0.2.0/1-b")], true),
            Err(MigrationError::Gap { id: "0.1.0/1-a".to_owned(), later: "0.2.0/1-b".to_owned() })
        );
        assert_eq!(
            pending(&declared, &[done("0.1.0/1-a"), done("0.3.0/1-c")], true),
            Err(MigrationError::Unknown { id: "0.3.0/1-c".to_owned() })
        );
        let other = Applied { checksum: "other".to_owned(), ..done("0.1.0/1-a") };
        let changed = pending(&declared, &[other], true).unwrap_err();
        assert_eq!(
            changed,
            MigrationError::Changed {
                id: "0.1.0/1-a".to_owned(),
                was: "other".to_owned(),
                is: "0.1.0/1-a".to_owned()
            }
        );
        let same = ["0.1.0/1-a", "0.1.0/1-b"].map(migration);
        assert!(matches!(pending(&same, &[], true), Err(MigrationError::SamePlace { .. })));
    }

    #[test]
    fn on_data_that_is_not_copied_only_what_may_be_repeated_runs() {
        let mut declared = ["0.1.0/1-a"].map(migration);
        let begun = [applied("0.1.0/1-a", Progress::Begun)];
        assert!(matches!(pending(&declared, &[], false), Err(MigrationError::NotRepeatable { .. })));
        assert!(matches!(pending(&declared, &begun, false), Err(MigrationError::HalfApplied { .. })));
        declared[0].idempotent = true;
        assert_eq!(pending(&declared, &begun, false).unwrap().len(), 1);
    }
}
