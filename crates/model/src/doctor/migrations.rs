//! What was applied to the data, against the migrations that are declared.

use super::finding::Finding;
use super::row::Row;
use crate::release::{MigrationError, MigrationId};

const SUBJECT: &str = "migrations";

/// Why migrations and data do not belong together. An upgrade refuses by the same words.
#[must_use]
pub fn mismatch(error: &MigrationError) -> Finding {
    Finding::of(error.row(), SUBJECT, error.to_string(), error.hint())
}

/// A migration that was begun, or was to be, has not ended, and may be run.
#[must_use]
pub fn unfinished_migration(id: &MigrationId) -> Finding {
    let what = format!("{id} was to run on data that is in effect, and has not ended");
    let fix = "`setpoint upgrade` runs it, to its end; it says of itself that it may be run again";
    Finding::of(Row::MigrationUnfinished, SUBJECT, what, fix)
}

impl MigrationError {
    /// What the doctor calls it.
    #[must_use]
    pub fn row(&self) -> Row {
        match self {
            Self::Unknown { .. } => Row::LedgerNewer,
            Self::Changed { .. } => Row::MigrationChanged,
            Self::HalfApplied { .. } => Row::MigrationHalf,
            Self::Gap { .. } | Self::Partly { .. } => Row::MigrationGap,
            Self::Unverified { .. } => Row::MigrationUnverified,
            Self::Path { .. }
            | Self::Head { .. }
            | Self::SamePlace { .. }
            | Self::NotRepeatable { .. }
            | Self::HostPath { .. }
            | Self::HostIsService { .. }
            | Self::AfterForwardOnly { .. }
            | Self::Nameless { .. } => Row::Manifest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_in_which_data_and_migrations_differ_has_its_row() {
        let id = || "1.0.0/1-a".to_owned();
        let (was, is) = ("0".repeat(64), "1".repeat(64));
        for (error, row) in [
            (MigrationError::Unknown { id: id() }, "ledger-newer"),
            (MigrationError::Changed { id: id(), was, is }, "migration-changed"),
            (MigrationError::HalfApplied { id: id() }, "migration-half"),
            (MigrationError::Gap { id: id(), later: id() }, "migration-gap"),
            (MigrationError::Partly { id: id(), to: id(), not_to: id() }, "migration-gap"),
            (MigrationError::Unverified { id: id() }, "migration-unverified"),
            (MigrationError::NotRepeatable { id: id() }, "manifest"),
        ] {
            let found = mismatch(&error);
            assert_eq!(found.row.map(Row::id), Some(row));
            assert!(found.what.contains("1.0.0/1-a") && found.fix.is_some(), "{found:?}");
        }
    }
}
