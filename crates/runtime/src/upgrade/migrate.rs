//! Carrying out a migration: in an instance of its own in the place of its service, or inside what runs.

use std::time::Duration;

use jiff::Timestamp;
use setpoint_model::manifest::Env;
use setpoint_model::plan::Options;
use setpoint_model::release::ledger::{Applied, Due, Planned, Progress};
use setpoint_model::release::migration::Stage;
use setpoint_model::release::{Migration, MigrationId};

use super::{Cause, Change, UpgradeError, migrations};
use crate::apply::Settings;
use crate::engine::Seen;
use crate::events::Deaf;
use crate::failpoints;
use crate::guest::Guest;
use crate::hooks::Failed;
use crate::observe::Unit;
use crate::store::{LedgerOf, LedgerRow};

/// How long a question may take whether one was applied.
const CHECK: Duration = Duration::from_secs(60);
/// How many bytes of a text are passed at once: an argument of a program cannot be longer than 128 KiB.
const PIECE: usize = 96 << 10;
/// Where the text of one lies inside while it runs.
const INSIDE: &str = "/dev/shm/setpoint-migration";
/// Puts a piece of text (`$2`) behind what a file (`$1`) has.
const APPEND: &str = r#"umask 077; printf %s "$2" >>"$1""#;

impl Change<'_> {
    /// Carries a migration out, and writes that down.
    pub(super) fn migrate(&mut self, id: &MigrationId) -> Result<(), Cause> {
        let planned = self.upgrade.migrations.iter().find(|planned| planned.id == *id).cloned();
        let Some(planned) = planned else { return Ok(()) };
        if planned.due == Due::Cover {
            return Ok(self.enter(&planned, Progress::Covered)?);
        }
        let declared = self.declared.ok_or("nothing is known of it any more")?;
        let (migration, text) = migrations::planned(declared.project, &planned)?;
        let env = declared.project.manifest.envs.get(&planned.unit).ok_or("its service is not declared")?;
        let idle = match planned.stage {
            Stage::Pre => Some(idle(env)),
            Stage::Post => None,
        };
        let unit = self.unit(idle.as_ref().unwrap_or(env)).ok_or("its service is not declared")?;
        match &idle {
            Some(_) => self.stand_in(&unit)?,
            None if !matches!(self.place.engine.observe(&unit.id), Ok(Seen::Running(_))) => {
                return Err(format!("{} does not run", unit.env.name).into());
            }
            None => {}
        }
        failpoints::at("migrate.ready");
        self.enter(&planned, Progress::Begun)?;
        failpoints::at("migrate.begun");
        self.run_inside(&unit, &migration, &text, planned.due)?;
        failpoints::at("migrate.ran");
        self.enter(&planned, Progress::Done)?;
        failpoints::at("migrate.noted");
        if idle.is_some() {
            self.place.engine.stop(&unit.id, Duration::ZERO, self.place.cancel)?;
            self.place.engine.remove(&unit.id)?;
        }
        Ok(())
    }

    /// Writes into the ledger how far a migration came.
    pub(super) fn enter(&mut self, planned: &Planned, progress: Progress) -> Result<(), UpgradeError> {
        let held: Vec<String> =
            planned.touches.iter().map(|name| self.upgrade.to.volume(name).to_owned()).collect();
        let ids = self.place.engine.volume_ids(&held)?;
        let applied = Applied { id: planned.id.clone(), sha256: planned.sha256.clone(), progress };
        let root = self.root.clone();
        let of = LedgerOf { project_root: &root, engine: self.place.engine.capabilities().engine };
        let rows = held.into_iter().map(|volume| LedgerRow {
            volume_id: ids.get(&volume).cloned().unwrap_or_default(),
            volume,
            applied: applied.clone(),
            at: Timestamp::now(),
        });
        let rows: Vec<LedgerRow> = rows.collect();
        self.store.write(|writer| rows.iter().try_for_each(|row| writer.note_migration(of, row)))?;
        Ok(())
    }

    /// Makes the instance that a migration runs in, in the place of its service. One that was there, with another migration
    /// of it, was removed.
    fn stand_in(&mut self, unit: &Unit<'_>) -> Result<(), UpgradeError> {
        let settings = Settings {
            watcher: &Deaf,
            cancel: self.place.cancel,
            command: format!("upgrade {}", unit.env.name),
            is_withheld: true,
            idles: true,
        };
        let look = unit.look(self.store, &Options::default())?;
        unit.apply(self.store, look, &settings)?;
        Ok(())
    }

    fn run_inside(&self, unit: &Unit<'_>, migration: &Migration, text: &str, due: Due) -> Result<(), String> {
        let guest = Guest::new(unit, migration.user.as_deref()).map_err(|error| error.to_string())?;
        let runner = guest.runner(unit, self.place.watcher, self.place.cancel);
        let phase = format!("migrate-{}", migration.id).replace('/', "-");
        let check = |name: &str| {
            let argv = migration.check.clone()?;
            Some(runner.inside(&format!("{phase}{name}"), argv, CHECK))
        };
        if due == Due::Ask && matches!(check("-before"), Some(Ok(()))) {
            return Ok(());
        }
        let words = |failed: Failed| {
            let said = failed.tail.last().map(|line| format!(": {line}")).unwrap_or_default();
            format!("{}{said} (all of it: `setpoint logs {} {phase}`)", failed.failure, unit.env.name)
        };
        let file = format!("{INSIDE}-{}", crate::random::hex());
        let file = format!("{file}-{}", migration.path.rsplit('/').next().unwrap_or_default());
        let shell = |script: &str, arguments: &[&str]| {
            let argv = ["/bin/sh", "-c", script, "sh", &file].into_iter().chain(arguments.iter().copied());
            runner.inside(&format!("{phase}-text"), argv.map(str::to_owned).collect(), CHECK).map_err(words)
        };
        for piece in pieces(text) {
            shell(APPEND, &[piece])?;
        }
        let argv = migration.run.iter().cloned().chain([file.clone()]).collect();
        let done = runner.inside(&phase, argv, migration.timeout).map_err(words);
        let removed = shell("rm -f \"$1\"", &[]);
        done.and(removed)?;
        match check("-after") {
            Some(Err(failed)) => Err(format!("its check does not hold after it: {}", words(failed))),
            _ => Ok(()),
        }
    }
}

/// A service as it is while a migration of it runs: its first process does nothing, and nobody comes to it.
fn idle(env: &Env) -> Env {
    let mut env = env.clone();
    env.ports.clear();
    env.container.ports.clear();
    if let Some(of) = &mut env.service {
        of.first_boot.clear();
    }
    env
}

/// A text in pieces that an argument can be; an empty text is one, too.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let mut at = rest.len().min(PIECE);
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (piece, left) = rest.split_at(at);
        pieces.push(piece);
        rest = left;
        if rest.is_empty() {
            return pieces;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_passed_in_pieces_between_its_characters() {
        let text = "äöü\n".repeat(PIECE / 4);
        let found = pieces(&text);
        assert_eq!(found.concat(), text);
        assert!(found.len() > 1 && found.iter().all(|piece| piece.len() <= PIECE));
        assert_eq!(pieces(""), [""]);
    }
}
