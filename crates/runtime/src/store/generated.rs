//! Secrets that were generated: that there are some, never their values.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::params;
use setpoint_model::digest::Digest;
use setpoint_model::names::SecretName;

use super::{Store, StoreError, Writer, nonsense};

impl Store {
    /// The secrets that were generated for a project.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn generated(&self, project_root: &Path) -> Result<BTreeSet<SecretName>, StoreError> {
        let all = self.all_generated()?;
        Ok(all.into_iter().filter(|(root, _)| root == project_root).map(|(_, name)| name).collect())
    }

    /// All secrets that were generated, with the folders of their projects.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn all_generated(&self) -> Result<Vec<(PathBuf, SecretName)>, StoreError> {
        self.read(|view| {
            view.prepare_cached("SELECT project_root, name FROM generated ORDER BY project_root, name")?
                .query_map([], |row| {
                    let name: String = row.get(1)?;
                    let name =
                        SecretName::new(name).map_err(|error| nonsense(1, "secret's name", error.text))?;
                    Ok((OsString::from_vec(row.get(0)?).into(), name))
                })?
                .collect()
        })
    }
}

impl Writer<'_> {
    /// Records that a secret was generated, with the keyed digest of its value.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn record_generated(
        &self,
        project_root: &Path,
        name: &SecretName,
        digest: Digest,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT OR REPLACE INTO generated (project_root, name, digest, at) VALUES (?1, ?2, ?3, ?4)",
            params![
                project_root.as_os_str().as_bytes(),
                name.as_str(),
                digest.as_bytes(),
                at.as_millisecond()
            ],
        )?;
        Ok(())
    }
}
