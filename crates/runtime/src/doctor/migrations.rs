//! What was applied to the data, against the migrations that are declared.

use setpoint_model::doctor::{Finding, Row, mismatch, unfinished_migration};
use setpoint_model::release::{Kind, Lane, MigrationError, ledger};

use super::Patient;
use super::state::unreadable;
use crate::store::{Store, UpgradeOutcome};
use crate::upgrade::{Migrations, MigrationsError};

impl Patient<'_> {
    /// What an upgrade would refuse over by itself, before it plans anything; and what was cut off.
    pub(super) fn migrations(&self) -> Vec<Finding> {
        let (Some(project), Some(store)) = (self.project, self.store) else { return Vec::new() };
        if self.is_on_its_way() {
            return Vec::new();
        }
        let all = match Migrations::of(self.roots, project, &project.active, self.engine, store) {
            Ok(all) => all,
            Err(MigrationsError::Bad(error)) => return vec![mismatch(&error)],
            Err(MigrationsError::Store(error)) => return vec![unreadable(&error)],
            Err(error @ MigrationsError::Io { .. }) => {
                let fix = "make it a file that this user can read, in UTF-8";
                return vec![Finding::of(Row::Manifest, "migrations", error.to_string(), fix)];
            }
            // An engine that does not answer was told already.
            Err(MigrationsError::Engine(_)) => return Vec::new(),
        };
        let data = all.data(project.manifest.release.lane);
        let shares = self.goes_back_without_data(store);
        let told = |error: &MigrationError| match error {
            MigrationError::Unknown { id } if shares => {
                let what = format!(
                    "the data has {id}, of the version that was gone back from, which leaves it to both"
                );
                Finding::info("migrations", what)
            }
            error => mismatch(error),
        };
        let wrong = ledger::wrong(&all.declared, &data).iter().map(told).collect::<Vec<_>>();
        let unfinished = ledger::unfinished(&all.declared, &data).into_iter().map(unfinished_migration);
        wrong.into_iter().chain(unfinished).collect()
    }

    /// Whether what is in effect came about by a rollback to the code alone.
    fn goes_back_without_data(&self, store: &Store) -> bool {
        let rows = store.upgrades(self.root).unwrap_or_default().into_iter();
        let mut committed = rows.filter(|row| matches!(row.ended, Some((UpgradeOutcome::Committed, _))));
        let last = committed.next().map(|row| row.upgrade);
        last.is_some_and(|last| last.kind == Kind::Rollback && last.lane == Lane::Compatible)
    }
}
