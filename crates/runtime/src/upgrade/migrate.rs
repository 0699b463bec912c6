//! Carrying out a migration: in an instance of its own in the place of its service, inside what runs, or on the host.

use std::time::Duration;

use jiff::Timestamp;
use setpoint_model::manifest::Env;
use setpoint_model::release::ledger::{Applied, Due, Planned, Progress, is_volume};
use setpoint_model::release::migration::Stage;
use setpoint_model::release::stand_in::beside;
use setpoint_model::release::way_back::Down;
use setpoint_model::release::{Migration, MigrationId};

use super::act::made;
use super::{Cause, Change, UpgradeError, migrations, own};
use crate::engine::Seen;
use crate::failpoints;
use crate::guest::Guest;
use crate::hooks::Runner;
use crate::logs;
use crate::observe::Unit;
use crate::project::Project;
use crate::store::{LedgerOf, LedgerRow};
use crate::supervise::{Failed, Failure};

/// How long a question may take whether one was applied.
pub(super) const CHECK: Duration = Duration::from_secs(60);
/// How many bytes of a text are passed at once: an argument of a program cannot be longer than 128 KiB.
const PIECE: usize = 96 << 10;
/// Where the text of one lies inside while it runs.
const INSIDE: &str = "/dev/shm/setpoint-migration";
/// Puts a piece of text (`$2`) behind what a file (`$1`) has.
const APPEND: &str = r#"umask 077; printf %s "$2" >>"$1""#;

/// A text that is run for a migration, with what is asked about it.
pub(super) struct Errand<'m> {
    /// What its log is called.
    pub(super) phase: String,
    /// Its file, from the project's folder.
    pub(super) path: &'m str,
    pub(super) text: &'m str,
    /// The program that runs it.
    pub(super) run: &'m [String],
    user: Option<&'m str>,
    pub(super) timeout: Duration,
    /// What succeeds where the migration was applied.
    pub(super) check: Option<&'m [String]>,
    /// Whether that is asked first.
    asks: bool,
    /// Whether the migration is taken back.
    is_down: bool,
}

impl<'m> Errand<'m> {
    /// Carrying a migration out.
    fn up(migration: &'m Migration, text: &'m str, due: Due) -> Self {
        Self {
            phase: format!("migrate-{}", migration.id).replace('/', "-"),
            path: &migration.path,
            text,
            run: &migration.run,
            user: migration.user.as_deref(),
            timeout: migration.timeout,
            check: migration.check.as_deref(),
            asks: due == Due::Ask,
            is_down: false,
        }
    }

    /// Taking it back.
    fn down(migration: &'m Migration, down: &'m Down, text: &'m str) -> Self {
        Self {
            phase: format!("down-{}", migration.id).replace('/', "-"),
            path: &down.path,
            text,
            run: &down.run,
            user: down.user.as_deref(),
            timeout: down.timeout,
            check: migration.check.as_deref(),
            asks: false,
            is_down: true,
        }
    }

    /// The name of its file.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Runs it, unless a question says that it is done, and asks whether it is done then.
    pub(super) fn carried_out(
        &self,
        check: impl Fn(&str) -> Option<Result<(), Failed>>,
        run: impl FnOnce() -> Result<(), Cause>,
        words: impl Fn(Failed) -> String,
    ) -> Result<(), Cause> {
        if self.asks && matches!(check("-before"), Some(Ok(()))) {
            return Ok(());
        }
        run()?;
        match (check("-after"), self.is_down) {
            (None, _) | (Some(Ok(())), false) => Ok(()),
            (Some(Err(failed)), true) if matches!(failed.failure, Failure::Ended(_)) => Ok(()),
            (Some(Err(failed)), _) => {
                Err(format!("its check does not hold after it: {}", words(failed)).into())
            }
            (Some(Ok(())), true) => Err("its check still holds after it was taken back".into()),
        }
    }
}

impl Change<'_> {
    /// Carries a migration out, and writes that down.
    pub(super) fn migrate(&mut self, id: &MigrationId) -> Result<(), Cause> {
        let planned = self.upgrade.migrations.iter().find(|planned| planned.id == *id).cloned();
        let Some(planned) = planned else { return Ok(()) };
        if planned.due == Due::Cover {
            return Ok(self.enter(&planned, Progress::Covered)?);
        }
        let declared = self.declared.ok_or("nothing is known of it any more")?;
        if planned.is_forward_only() {
            self.expect_well()?;
        }
        let (migration, text) = migrations::planned(declared.project, &planned, false)?;
        let errand = Errand::up(&migration, &text, planned.due);
        self.carry_out(declared.project, &planned, &errand)
    }

    /// Takes a migration back, and strikes it from what is written down.
    pub(super) fn take_back(&mut self, id: &MigrationId) -> Result<(), Cause> {
        let planned = self.upgrade.downs.iter().find(|planned| planned.id == *id).cloned();
        let Some(planned) = planned else { return Ok(()) };
        let left = self.declared.and_then(|declared| declared.leaves);
        let left = left.ok_or("nothing is known of it any more")?;
        let (migration, text) = migrations::planned(left, &planned, true)?;
        let down = migration.down.as_ref().ok_or("nothing takes it back any more")?;
        self.carry_out(left, &planned, &Errand::down(&migration, down, &text))
    }

    /// Runs a text where its migration runs.
    fn carry_out(&mut self, project: &Project, planned: &Planned, errand: &Errand<'_>) -> Result<(), Cause> {
        let Some(name) = &planned.unit else {
            return self.noted(planned, errand, |change| change.run_here(planned, errand));
        };
        let env = project.manifest.envs.get(name).ok_or("its service is not declared")?;
        // Nobody replaces it meanwhile, who may if it is no part, or has just done so.
        let _lock = match self.upgrade.part(name) {
            Some(_) => None,
            None => {
                let lock = own(self.place, &self.root, name).map_err(UpgradeError::from)?;
                self.verify(name)?;
                Some(lock)
            }
        };
        // Where an instance stands in for the service, that is where the new version is.
        let is_beside = self.upgrade.stands_in(name) && !planned.is_forward_only();
        let owner = if is_beside { self.owner_beside() } else { project.root.clone() };
        let idles = planned.stage == Stage::Pre;
        let env = if is_beside { beside(env) } else { env.clone() };
        let env = if idles { idle(env) } else { env };
        let unit = self.unit(project, &owner, &env).ok_or("its service is not declared")?;
        match (idles, is_beside) {
            (true, true) => self.make_beside(&unit, true)?,
            // One that was there, with another migration of it, was removed.
            (true, false) => made(self.place, self.store, &unit, "upgrade", true)?,
            (false, _) if !matches!(self.place.engine.observe(&unit.id), Ok(Seen::Running(_))) => {
                return Err(format!("{name} does not run").into());
            }
            (false, _) => {}
        }
        self.noted(planned, errand, |change| change.run_inside(&unit, planned, errand))?;
        if idles {
            self.place.engine.stop(&unit.id, Duration::ZERO, self.place.cancel)?;
            self.place.engine.remove(&unit.id)?;
        }
        Ok(())
    }

    /// Writes into the ledger that a migration begins: nothing is left but to run it.
    pub(super) fn begin(&mut self, planned: &Planned, errand: &Errand<'_>) -> Result<(), Cause> {
        failpoints::at("migrate.ready");
        if !errand.is_down {
            self.enter(planned, Progress::Begun)?;
        }
        failpoints::at("migrate.begun");
        Ok(())
    }

    /// Runs something for a migration, and writes into the ledger that it is done.
    fn noted(
        &mut self,
        planned: &Planned,
        errand: &Errand<'_>,
        run: impl FnOnce(&mut Self) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        run(self)?;
        failpoints::at("migrate.ran");
        match errand.is_down {
            true => self.strike(planned)?,
            false => self.enter(planned, Progress::Done)?,
        }
        failpoints::at("migrate.noted");
        Ok(())
    }

    /// Writes into the ledger how far a migration came.
    pub(super) fn enter(&mut self, planned: &Planned, progress: Progress) -> Result<(), UpgradeError> {
        let held: Vec<String> =
            planned.touches.iter().map(|name| self.upgrade.to.volume(name).to_owned()).collect();
        let volumes: Vec<String> = held.iter().filter(|name| is_volume(name)).cloned().collect();
        let ids = self.place.engine.volume_ids(&volumes)?;
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

    /// Whether the ledger has a migration of any of the data that it touches.
    pub(super) fn is_entered(&self, planned: &Planned) -> Result<bool, UpgradeError> {
        let of = LedgerOf { project_root: &self.root, engine: self.place.engine.capabilities().engine };
        let held: Vec<&str> = planned.touches.iter().map(|name| self.upgrade.to.volume(name)).collect();
        let rows = self.store.ledger(of)?;
        Ok(rows.iter().any(|row| row.applied.id == planned.id && held.contains(&row.volume.as_str())))
    }

    /// Takes what was taken back out of the ledger.
    fn strike(&mut self, planned: &Planned) -> Result<(), UpgradeError> {
        let of = LedgerOf { project_root: &self.root, engine: self.place.engine.capabilities().engine };
        let held = planned.touches.iter().map(|name| self.upgrade.to.volume(name));
        let mut held = held.collect::<Vec<_>>().into_iter();
        let id = &planned.id;
        Ok(self.store.write(|writer| held.try_for_each(|volume| writer.strike_migration(of, volume, id)))?)
    }

    /// Runs it in an instance of a service, among whose logs is what it says.
    fn run_inside(&mut self, unit: &Unit<'_>, planned: &Planned, errand: &Errand<'_>) -> Result<(), Cause> {
        let place = self.place;
        let guest = Guest::new(unit, errand.user).map_err(|error| error.to_string())?;
        let runner = guest.runner(unit, place.watcher, place.cancel);
        let name = &unit.env.name;
        let runner = Runner { logs: logs::folder(place.roots, self.id(name).as_str()), ..runner };
        let phase = &errand.phase;
        let check = |name: &str| {
            let argv = errand.check?.to_vec();
            Some(runner.inside(&format!("{phase}{name}"), argv, CHECK))
        };
        let words = |failed: Failed| {
            let said = failed.tail.last().map(|line| format!(": {line}")).unwrap_or_default();
            format!("{}{said} (all of it: `setpoint logs {name} {phase}`)", failed.failure)
        };
        let file = format!("{INSIDE}-{}", crate::random::hex());
        let file = format!("{file}-{}", errand.name());
        let shell = |script: &str, arguments: &[&str]| {
            let argv = ["/bin/sh", "-c", script, "sh", &file].into_iter().chain(arguments.iter().copied());
            runner.inside(&format!("{phase}-text"), argv.map(str::to_owned).collect(), CHECK).map_err(words)
        };
        let run = || {
            for piece in pieces(errand.text) {
                shell(APPEND, &[piece])?;
            }
            let argv = errand.run.iter().cloned().chain([file.clone()]).collect();
            let done = match self.begin(planned, errand) {
                Ok(()) => runner.inside(phase, argv, errand.timeout).map_err(|failed| words(failed).into()),
                Err(error) => Err(error),
            };
            let removed = shell("rm -f \"$1\"", &[]);
            done.and(removed.map_err(Cause::from))
        };
        errand.carried_out(check, run, words)
    }
}

/// A service as it is while a migration of it runs: its first process does nothing, and nobody comes to it.
fn idle(mut env: Env) -> Env {
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
