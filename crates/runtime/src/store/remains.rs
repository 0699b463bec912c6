//! What is known of data, which stays when the state goes: the next state in the folder begins with it, so that no
//! migration and no first boot meets the same data twice.

use std::path::{Path, PathBuf};

use super::migrate::{self, MIGRATIONS, remove_database};
use super::{Store, StoreError};

/// The database that only has what is known of data. Its schema is that of the state that it is from.
const REMAINS: &str = "data.db";
/// What outlives units, as data does.
const TABLES: [&str; 2] = ["ledger", "first_boot"];

/// Where it lies in the folder of a state.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(REMAINS)
}

impl Store {
    /// Keeps what is known of data beside the state, which is about to be removed. Gives the file; nothing where nothing is
    /// known.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or written.
    pub fn keep_remains(&self) -> Result<Option<PathBuf>, StoreError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let (draft, target) = (folder.join("state.remains.db"), path(folder));
        let known = TABLES.map(|table| format!("SELECT 1 FROM {table}")).join(" UNION ALL ");
        let is_known = self.read(|view| view.prepare(&known)?.exists([]))?;
        if !is_known {
            return remove_database(&target).map(|()| None);
        }
        remove_database(&draft)?;
        migrate::write_schema(&draft, MIGRATIONS, MIGRATIONS.len())?;
        let copies = TABLES.map(|table| format!("INSERT INTO kept.{table} SELECT * FROM main.{table};"));
        let copy = || {
            self.connection.execute("ATTACH ?1 AS kept", [draft.to_string_lossy()])?;
            self.connection.execute_batch(&format!("BEGIN; {} COMMIT;", copies.concat()))?;
            self.connection.query_row("PRAGMA kept.wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            self.connection.execute_batch("DETACH kept")
        };
        copy().map_err(|error| StoreError::sql(&draft, error))?;
        migrate::put(&draft, &target)?;
        Ok(Some(target))
    }
}
