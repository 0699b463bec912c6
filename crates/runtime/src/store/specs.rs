//! What is known of a project's specs: the tests that there are, how they ended, and how criteria stood.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use setpoint_model::digest::Digest;
use setpoint_model::spec::{Listing, Outcome, Reference, Runner, Verdict};

use super::{Store, StoreError, Writer, digest_at, nonsense, time_at};

/// How a criterion stood when it was last verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictRow {
    /// How it stood, and why.
    pub verdict: Verdict,
    /// The source that its tests ran on; nothing where a report told of them, which says nothing of that.
    pub source: Option<Digest>,
    /// When.
    pub at: Timestamp,
}

fn read<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    column: usize,
    what: &'static str,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|_| nonsense(column, what, text))
}

fn written(value: &impl serde::Serialize) -> String {
    serde_json::json!(value).to_string()
}

impl Store {
    /// The tests that a runner listed last, and the key of what that was found in.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn listing(&self, root: &Path, runner: Runner) -> Result<Option<(Digest, Listing)>, StoreError> {
        self.read(|view| {
            view.prepare_cached("SELECT key, tests FROM listings WHERE project_root = ?1 AND runner = ?2")?
                .query_row(params![root.as_os_str().as_bytes(), runner.name()], |row| {
                    Ok((digest_at(row, 0)?, read(row, 1, "list of tests")?))
                })
                .optional()
        })
    }

    /// How tests ended on this source.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn test_outcomes(
        &self,
        root: &Path,
        source: Digest,
    ) -> Result<BTreeMap<Reference, Outcome>, StoreError> {
        self.read(|view| {
            view.prepare_cached(
                "SELECT test, outcome FROM test_outcomes WHERE project_root = ?1 AND source = ?2",
            )?
            .query_map(params![root.as_os_str().as_bytes(), source.as_bytes()], |row| {
                let test: String = row.get(0)?;
                let test = Reference::try_from(test).map_err(|error| nonsense(0, "test", error.what))?;
                Ok((test, read(row, 1, "outcome")?))
            })?
            .collect()
        })
    }

    /// How criteria stood when they were last verified, by their names.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn verdicts(&self, root: &Path) -> Result<BTreeMap<String, VerdictRow>, StoreError> {
        self.read(|view| {
            view.prepare_cached(
                "SELECT criterion, verdict, source, at FROM verdicts WHERE project_root = ?1",
            )?
            .query_map([root.as_os_str().as_bytes()], |row| {
                let source = row.get::<_, Option<[u8; 32]>>(2)?.map(Digest::from_bytes);
                Ok((
                    row.get(0)?,
                    VerdictRow { verdict: read(row, 1, "verdict")?, source, at: time_at(row, 3)? },
                ))
            })?
            .collect()
        })
    }

    /// What criteria said when their tests last passed, by their names.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn proofs(&self, root: &Path) -> Result<BTreeMap<String, String>, StoreError> {
        self.read(|view| {
            view.prepare_cached("SELECT criterion, text FROM proofs WHERE project_root = ?1")?
                .query_map([root.as_os_str().as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }
}

impl Writer<'_> {
    /// Keeps the tests that a runner lists.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn keep_listing(
        &self,
        root: &Path,
        runner: Runner,
        key: Digest,
        listing: &Listing,
    ) -> Result<(), StoreError> {
        let row = params![root.as_os_str().as_bytes(), runner.name(), key.as_bytes(), written(listing)];
        self.execute("INSERT OR REPLACE INTO listings VALUES (?1, ?2, ?3, ?4)", row).map(drop)
    }

    /// Records how tests ended on a source. What is known of others is of no use to anybody, and goes.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn record_tests<'t>(
        &self,
        root: &Path,
        source: Digest,
        outcomes: impl IntoIterator<Item = (&'t Reference, &'t Outcome)>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let root = root.as_os_str().as_bytes();
        self.execute(
            "DELETE FROM test_outcomes WHERE project_root = ?1 AND source <> ?2",
            params![root, source.as_bytes()],
        )?;
        for (test, outcome) in outcomes {
            self.execute(
                "INSERT OR REPLACE INTO test_outcomes VALUES (?1, ?2, ?3, ?4, ?5)",
                params![root, test.to_string(), written(outcome), source.as_bytes(), at.as_millisecond()],
            )?;
        }
        Ok(())
    }

    /// Records how a criterion stands.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn record_verdict(&self, root: &Path, criterion: &str, row: &VerdictRow) -> Result<(), StoreError> {
        let source = row.source.as_ref().map(Digest::as_bytes);
        let (root, verdict) = (root.as_os_str().as_bytes(), written(&row.verdict));
        self.execute(
            "INSERT OR REPLACE INTO verdicts VALUES (?1, ?2, ?3, ?4, ?5)",
            params![root, criterion, verdict, source, row.at.as_millisecond()],
        )?;
        Ok(())
    }

    /// Records what a criterion says, whose tests have just passed.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn record_proof(
        &self,
        root: &Path,
        criterion: &str,
        text: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let row = params![root.as_os_str().as_bytes(), criterion, text, at.as_millisecond()];
        self.execute("INSERT OR REPLACE INTO proofs VALUES (?1, ?2, ?3, ?4)", row).map(drop)
    }
}
