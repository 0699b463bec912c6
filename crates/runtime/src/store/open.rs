//! Opening: the shared lock, the link to the current version, and the checks on the way.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{Store, StoreError, migrate};
use crate::paths::make_lasting_folder;

/// The link to the current version of the database.
pub(super) const LINK: &str = "state.db";

/// `Setp`: marks the database as ours in its header.
pub(super) const APPLICATION_ID: i32 = 0x5365_7470;

/// How long a write waits for the one of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a process waits for a migration by another, or for others to end so that it can migrate.
#[cfg(not(test))]
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
#[cfg(test)]
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// What lies at the link.
pub(super) enum Found {
    /// Nothing: a new state folder, or one whose database was moved away.
    Nothing,
    /// A database of this schema.
    Schema(u32, Connection, PathBuf),
}

/// Opens the database in a folder, with the numbered migrations that lead to the current schema.
pub(super) fn open(folder: &Path, migrations: &[&str]) -> Result<Store, StoreError> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    let presence = Presence::file(folder)?;
    loop {
        presence.wait_for(File::try_lock_shared, false)?;
        match look(folder)? {
            Found::Schema(found, connection, path) if found == known => {
                return Ok(Store { connection, path, wrote: false, _presence: presence.file });
            }
            Found::Schema(found, _, path) if found > known => {
                return Err(StoreError::Newer { found, known, path });
            }
            Found::Schema(..) | Found::Nothing => {
                presence.let_go()?;
                presence.wait_for(File::try_lock, true)?;
                migrate::to_newest(folder, migrations)?;
                // A lock cannot be turned from exclusive to shared without letting go: look again.
                presence.let_go()?;
            }
        }
    }
}

/// Looks what is there, without changing it.
pub(super) fn look(folder: &Path) -> Result<Found, StoreError> {
    let link = folder.join(LINK);
    let path = match std::fs::read_link(&link) {
        Ok(target) => folder.join(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(StoreError::Damaged {
                path: link,
                what: "it is not a link to a database".to_owned(),
            });
        }
        Err(error) => return Err(StoreError::io(&link, error)),
    };
    opened(path)
}

/// The database in a file, if there is one.
pub(super) fn opened(path: PathBuf) -> Result<Found, StoreError> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(Found::Nothing),
        Err(error) => return Err(StoreError::io(&path, error)),
    }
    let connection = connect(&path, OpenFlags::empty())?;
    let header = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let read = header("application_id").and_then(|id| Ok((id, header("user_version")?)));
    let (application_id, schema) = read.map_err(|error| StoreError::sql(&path, error))?;
    if application_id != APPLICATION_ID {
        return Err(StoreError::Damaged { path, what: "it is not a database of setpoint's".to_owned() });
    }
    let schema = u32::try_from(schema)
        .map_err(|_| StoreError::Damaged { path: path.clone(), what: format!("its schema is {schema}") })?;
    Ok(Found::Schema(schema, connection, path))
}

/// Connects to a database file and says how to treat it.
pub(super) fn connect(path: &Path, more: OpenFlags) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let prepare = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Closing must not write: a run that changed nothing leaves the files as they are.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    };
    prepare().map_err(|error| StoreError::sql(path, error))
}

/// The file beside the database whose lock says who is there: shared for use, exclusive for a change of schema.
struct Presence {
    path: PathBuf,
    file: File,
}

impl Presence {
    fn file(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("state.lock");
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_lasting_folder(folder).map_err(|error| StoreError::io(folder, error))?;
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)
            }
            other => other,
        };
        Ok(Self { file: file.map_err(|error| StoreError::io(&path, error))?, path })
    }

    fn wait_for(
        &self,
        attempt: fn(&File) -> Result<(), TryLockError>,
        for_migration: bool,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match attempt(&self.file) {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Busy { path: self.path.clone(), for_migration });
                }
                Err(TryLockError::Error(error)) => return Err(StoreError::io(&self.path, error)),
            }
        }
    }

    fn let_go(&self) -> Result<(), StoreError> {
        self.file.unlock().map_err(|error| StoreError::io(&self.path, error))
    }
}
