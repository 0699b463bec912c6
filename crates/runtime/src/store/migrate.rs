//! Changing the schema: into a copy of its own name, and then one link is turned.
//!
//! All of it happens under the exclusive lock. Killed at any point, the link leads to the old database or to
//! the new one, both whole.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::open::{APPLICATION_ID, Found, LINK, connect, look, opened};
use super::{StoreError, remains};

/// What leads from schema n to n + 1, from nothing on. Those that were released never change.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001.sql"),
    include_str!("schema/0002.sql"),
    include_str!("schema/0003.sql"),
    include_str!("schema/0004.sql"),
    include_str!("schema/0005.sql"),
    include_str!("schema/0006.sql"),
];

/// Brings the folder's database to the newest schema, if nobody else has done so meanwhile.
pub(super) fn to_newest(folder: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let newest = migrations.len();
    let (from, old) = match look(folder)? {
        Found::Schema(found, _, _) if found as usize >= newest => return Ok(()),
        Found::Schema(found, connection, path) => (found as usize, Some((connection, path))),
        // The caller looks again, and migrates what it then finds if need be.
        Found::Nothing if link_again(folder, newest)? => return Ok(()),
        Found::Nothing => remains_of(folder, newest)?,
    };
    let draft = folder.join("state.draft.db");
    remove_database(&draft)?;
    if let Some((connection, path)) = &old {
        let target = draft.to_str().ok_or_else(|| {
            StoreError::io(&draft, io::Error::new(io::ErrorKind::InvalidFilename, "the path is not UTF-8"))
        })?;
        connection.execute("VACUUM INTO ?1", [target]).map_err(|error| StoreError::sql(path, error))?;
    }
    let written = write_schema(&draft, migrations.get(from..).unwrap_or_default(), newest);
    written.map_err(|error| match (error, &old) {
        // The draft is of no use to anybody; what counts is the database that it was made of.
        (StoreError::Database { source, .. }, Some((_, path))) => {
            let (found, known) = (number(from), number(newest));
            StoreError::Unfit { path: path.clone(), found, known, source }
        }
        (error, _) => error,
    })?;
    drop(old);
    let name = file_name(newest);
    put(&draft, &folder.join(&name))?;
    turn_link(folder, &name)?;
    forget_older(folder, from);
    remove_database(&remains::path(folder))
}

/// What a new state begins with: what is known of data from one that was removed.
fn remains_of(folder: &Path, newest: usize) -> Result<(usize, Option<(Connection, PathBuf)>), StoreError> {
    match opened(remains::path(folder))? {
        Found::Schema(found, _, path) if found as usize > newest => {
            Err(StoreError::Newer { found, known: number(newest), path })
        }
        Found::Schema(found, connection, path) => Ok((found as usize, Some((connection, path)))),
        Found::Nothing => Ok((0, None)),
    }
}

/// Puts a database that is whole in its place.
pub(super) fn put(draft: &Path, target: &Path) -> Result<(), StoreError> {
    remove_beside(draft)?;
    sync(draft)?;
    // A log without its database would be read into the new one.
    remove_database(target)?;
    rename(draft, target)?;
    sync(target.parent().unwrap_or(Path::new("/")))
}

/// Runs migrations on a database that nobody else sees yet.
pub(super) fn write_schema(draft: &Path, migrations: &[&str], newest: usize) -> Result<(), StoreError> {
    let mut connection = connect(draft, OpenFlags::SQLITE_OPEN_CREATE)?;
    let mut migrate = || -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        for migration in migrations {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", newest as u32)?;
        transaction.commit()?;
        // The mode is kept in the file: who opens it later need not ask for it.
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    };
    migrate().map_err(|error| StoreError::sql(draft, error))?;
    drop(connection);
    remove_beside(draft)
}

fn number(schema: usize) -> u32 {
    u32::try_from(schema).unwrap_or(u32::MAX)
}

fn file_name(schema: usize) -> String {
    format!("state.v{schema}.db")
}

fn turn_link(folder: &Path, name: &str) -> Result<(), StoreError> {
    let new = folder.join("state.db.new");
    remove(&new)?;
    std::os::unix::fs::symlink(name, &new).map_err(|error| StoreError::io(&new, error))?;
    sync(folder)?;
    rename(&new, &folder.join(LINK))?;
    sync(folder)
}

/// Where the link is gone and a database is there, turns the link to it: never makes a new one over it. A link
/// that leads nowhere is left alone: its database was moved away on purpose.
fn link_again(folder: &Path, newest: usize) -> Result<bool, StoreError> {
    if folder.join(LINK).is_symlink() {
        return Ok(false);
    }
    match (1..=newest).rev().map(file_name).find(|name| folder.join(name).exists()) {
        Some(name) => turn_link(folder, &name).map(|()| true),
        None => Ok(false),
    }
}

/// The version before the current one stays, as a way back; what is older goes. A file that cannot be removed
/// now is removed the next time.
fn forget_older(folder: &Path, previous: usize) {
    for schema in 1..previous {
        let _ = remove_database(&folder.join(file_name(schema)));
    }
}

pub(super) fn remove_database(path: &Path) -> Result<(), StoreError> {
    remove(path)?;
    remove_beside(path)
}

/// Removes the log and the index that SQLite keeps beside a database.
fn remove_beside(path: &Path) -> Result<(), StoreError> {
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        remove(&PathBuf::from(name))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path, error)),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::rename(from, to).map_err(|error| StoreError::io(to, error))
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| StoreError::io(path, error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "migrate_tests.rs"]
mod tests;
