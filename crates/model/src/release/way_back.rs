//! The way back: what takes migrations back on the data of today, so that a version before can work on it.

use std::time::Duration;

use super::ledger::{Due, ON_HOST, Planned, is_volume};
use super::migration::{Defaults, Migration, MigrationId};
use super::upgrade::{Kind, Upgrade};

/// What the name of a file says that takes a migration back: `1-orders.down.sql`.
pub const DOWN: &str = ".down";

/// What takes a migration back. It runs where the migration does, and at the same stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// Its file, from the project's folder.
    pub path: String,
    /// The SHA-256 of its text, in hex.
    pub sha256: String,
    /// The program that runs it, to which the path of its text is added.
    pub run: Vec<String>,
    /// As whom; the service's user if absent.
    pub user: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Why nothing leads today's data back to what a version before can work on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWayBack {
    /// Data came to where it is by another way than by migrations.
    #[error("since then, data was restored or gone back to")]
    Elsewhere,
    /// One of them has none.
    #[error("{0} has nothing that takes it back (`{DOWN}` in the name of a file beside it)")]
    Without(MigrationId),
    /// It is not in the version that is left, or has another text there.
    #[error("{0} is not what was applied any more")]
    Unknown(MigrationId),
    /// Nobody knows whether it was run, or was there before.
    #[error("{0} may have been in the data before: it was asked, and not only run")]
    Asked(MigrationId),
    /// It did something to what is not copied.
    #[error("{0} changed what is in no volume, which cannot be tried on a copy")]
    NoVolume(MigrationId),
    /// An image may have changed the data as it liked.
    #[error("no migration says what became of the data in {0}")]
    Silent(String),
}

impl Down {
    /// Reads the text of what takes a migration back.
    ///
    /// # Errors
    /// In words, what is wrong with its head, and in which line.
    pub(super) fn parse(
        (path, text): (&str, &str),
        sha256: String,
        ending: &str,
        defaults: &Defaults,
    ) -> Result<Self, (usize, String)> {
        let (head, line) = super::migration::head(text)?;
        let own = [
            ("in", head.r#in.is_some()),
            ("stage", head.stage.is_some()),
            ("touches", head.touches.is_some()),
            ("paths", head.paths.is_some()),
            ("check", head.check.is_some()),
            ("idempotent", head.idempotent),
        ];
        if let Some((key, _)) = own.into_iter().find(|(_, is_said)| *is_said) {
            return Err((line, format!("`{key}` is said by the migration that it takes back")));
        }
        let run = head.program(ending, defaults).map_err(|why| (line, why))?;
        let timeout = head.limit(defaults).map_err(|why| (line, why))?;
        Ok(Self { path: path.to_owned(), sha256, run, user: head.user, timeout })
    }
}

/// What takes back what these changes did, the newest first, to the data that is in effect: in the order in which it runs.
/// `declared` is what the version that is left says, `moved` the volumes that the version before had in another place.
///
/// # Errors
/// The first reason why it cannot be taken back.
pub fn way_back(
    undone: &[&Upgrade],
    declared: &[(Migration, Vec<String>)],
    moved: &[String],
) -> Result<Vec<Planned>, NoWayBack> {
    if undone.iter().any(|change| change.kind != Kind::Upgrade) {
        return Err(NoWayBack::Elsewhere);
    }
    let mut ran: Vec<&Planned> = undone.iter().flat_map(|change| &change.migrations).collect();
    ran.retain(|planned| planned.leads_there());
    ran.sort_by(|one, other| other.id.cmp(&one.id));
    let taken = ran.into_iter().map(|planned| taken_back(planned, declared));
    let taken = taken.collect::<Result<Vec<Planned>, NoWayBack>>()?;
    let is_told = |volume: &&String| taken.iter().any(|planned| planned.touches.contains(volume));
    match moved.iter().find(|volume| !is_told(volume)) {
        Some(volume) => Err(NoWayBack::Silent(volume.clone())),
        None => Ok(taken),
    }
}

/// What takes a migration back, as it is planned.
fn taken_back(ran: &Planned, declared: &[(Migration, Vec<String>)]) -> Result<Planned, NoWayBack> {
    let id = || ran.id.clone();
    let is_it = |of: &&(Migration, Vec<String>)| of.0.id == ran.id && of.0.sha256 == ran.sha256;
    let (migration, _) = declared.iter().find(is_it).ok_or_else(|| NoWayBack::Unknown(id()))?;
    if ran.due == Due::Ask {
        return Err(NoWayBack::Asked(id()));
    }
    if ran.touches.iter().any(|name| !is_volume(name) && name != ON_HOST) {
        return Err(NoWayBack::NoVolume(id()));
    }
    let down = migration.down.as_ref().ok_or_else(|| NoWayBack::Without(id()))?;
    Ok(Planned {
        sha256: down.sha256.clone(),
        stage: migration.stage,
        unit: migration.r#in.service().cloned(),
        paths: migration.r#in.paths().to_vec(),
        ..ran.clone()
    })
}
