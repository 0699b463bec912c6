//! Opening the records of the cache, or beginning them anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::StoreError;
use super::CacheDb;
use crate::lock;

/// The version of the records. Another one is begun anew.
const VERSION: i32 = 1;
const SCHEMA: &str = include_str!("../schema/cache.sql");
/// `Setc`: marks the database as ours in its header.
const APPLICATION_ID: i32 = 0x5365_7463;
/// How long a write waits for the one of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn open(state: &Path) -> Result<CacheDb, StoreError> {
    let path = state.join("cache.db");
    let boot = crate::host::boot_id();
    if let Some(connection) = known(&path)? {
        return ready(connection, path, boot);
    }
    // One process at a time begins anew; those who waited find what it made.
    let lock = state.join("cache.lock");
    let held = lock::open_at(&lock).map_err(|error| StoreError::io(&lock, error))?;
    held.lock().map_err(|error| StoreError::io(&lock, error))?;
    if let Some(connection) = known(&path)? {
        return ready(connection, path, boot);
    }
    for ending in ["", "-wal", "-shm"] {
        let file = PathBuf::from(format!("{}{ending}", path.display()));
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io(&file, error));
            }
            _ => {}
        }
    }
    let make = || -> rusqlite::Result<Connection> {
        let connection = connect(&path, OpenFlags::SQLITE_OPEN_CREATE)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        connection.execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"))?;
        Ok(connection)
    };
    let connection = make().map_err(|error| StoreError::sql(&path, error))?;
    ready(connection, path, boot)
}

/// The database, if there is one of this version that can be read.
fn known(path: &Path) -> Result<Option<Connection>, StoreError> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => return Err(StoreError::io(path, error)),
    }
    let look = || -> rusqlite::Result<Option<Connection>> {
        let connection = connect(path, OpenFlags::empty())?;
        let header = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        Ok((header("application_id")? == APPLICATION_ID && header("user_version")? == VERSION)
            .then_some(connection))
    };
    match look().map_err(|error| StoreError::sql(path, error)) {
        Err(StoreError::Damaged { .. }) => Ok(None),
        other => other,
    }
}

fn connect(path: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

/// Forgets the results on layers that may have lost their content when the machine went down.
fn ready(connection: Connection, path: PathBuf, boot: String) -> Result<CacheDb, StoreError> {
    let mut cache = CacheDb { connection, path, boot };
    let unsure: bool = cache
        .connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM layers WHERE durable = 0 AND boot <> ?1)",
            [&cache.boot],
            |row| row.get(0),
        )
        .map_err(|error| StoreError::sql(&cache.path, error))?;
    if unsure {
        cache.write(|writer| {
            writer.sql(|sql| {
                sql.execute(
                    "DELETE FROM results WHERE id IN (SELECT result FROM chains JOIN layers ON layers.id = layer
                     WHERE durable = 0 AND boot <> ?1)",
                    [writer.boot],
                )?;
                sql.execute("DELETE FROM layers WHERE durable = 0 AND boot <> ?1", [writer.boot])
            })
        })?;
    }
    Ok(cache)
}
