//! What the main process of a sandbox writes: kept in its folder, within bounds, and read again.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::unit::{self, Observed};

/// What is being written, and what was written before that.
const NOW: &str = "output.log";
const BEFORE: &str = "output.log.1";
/// A file of more bytes is put aside, and what was put aside before is lost.
const LONGEST: u64 = 10 * 1024 * 1024;
/// How often is looked whether there is more.
const PAUSE: Duration = Duration::from_millis(100);

/// Keeps what comes through a pipe until nobody can write to it. Whatever happens to the file, the pipe is emptied:
/// nobody who writes has to wait for a disk that is full.
pub(crate) fn keep(mut written: PipeReader, folder: &Path) {
    let mut file = open(folder);
    let mut kept = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match written.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if kept + read as u64 > LONGEST && fs::rename(folder.join(NOW), folder.join(BEFORE)).is_ok() {
            file = open(folder);
            kept = 0;
        }
        if let Some(file) = &mut file
            && file.write_all(&buffer[..read]).is_ok()
        {
            kept += read as u64;
        }
    }
}

fn open(folder: &Path) -> Option<File> {
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join(NOW)).ok()
}

/// What the main process of the sandbox in this folder wrote, the oldest first, over all its starts; with `follow`,
/// what it writes from now on as well, until it has ended.
///
/// # Errors
/// If what is kept cannot be read.
pub fn output(folder: &Path, follow: bool) -> io::Result<Output> {
    let open = |name: &str| match File::open(folder.join(name)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let mut files: Vec<File> = Vec::new();
    // The newer first: what is put aside in between is read twice rather than not at all.
    let now = open(NOW)?;
    files.extend(open(BEFORE)?);
    files.extend(now);
    files.reverse();
    Ok(Output { folder: folder.to_owned(), files, follow })
}

/// Reads what is kept of a sandbox's output.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    /// What is left to be read, the next last.
    files: Vec<File>,
    follow: bool,
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Asked before the file is read: what was written before the end is in it.
            let runs = self.follow && matches!(unit::observe(&self.folder), Observed::Running(_));
            if let Some(file) = self.files.last_mut() {
                match file.read(buffer)? {
                    0 if self.files.len() > 1 => {
                        self.files.pop();
                        continue;
                    }
                    0 => {}
                    read => return Ok(read),
                }
            }
            match self.newer()? {
                Some(newer) => self.files = vec![newer],
                None if !runs => return Ok(0),
                None => std::thread::sleep(PAUSE),
            }
        }
    }
}

impl Output {
    /// The file that is written now, if it is another one than what was read.
    fn newer(&self) -> io::Result<Option<File>> {
        if !self.follow {
            return Ok(None);
        }
        let file = match File::open(self.folder.join(NOW)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let read = self.files.last().map(File::metadata).transpose()?;
        let is_new = read.is_none_or(|read| file.metadata().is_ok_and(|now| now.ino() != read.ino()));
        Ok(is_new.then_some(file))
    }
}
