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
    let mut log = Log::open(folder);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match written.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => log.add(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// What is being written.
struct Log<'a> {
    folder: &'a Path,
    file: Option<File>,
    /// How many bytes the file has.
    kept: u64,
    /// How many bytes could not be written since the last one that could.
    lost: u64,
}

impl<'a> Log<'a> {
    fn open(folder: &'a Path) -> Self {
        let mut log = Self { folder, file: None, kept: 0, lost: 0 };
        log.open_file();
        log
    }

    fn open_file(&mut self) {
        let path = self.folder.join(NOW);
        self.file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).ok();
        let metadata = self.file.as_ref().and_then(|file| file.metadata().ok());
        self.kept = metadata.map_or(0, |metadata| metadata.len());
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.kept + bytes.len() as u64 > LONGEST
            && fs::rename(self.folder.join(NOW), self.folder.join(BEFORE)).is_ok()
        {
            self.open_file();
        }
        if self.file.is_none() {
            self.open_file();
        }
        if self.lost > 0 && !self.tell_loss() {
            self.lost += bytes.len() as u64;
            return;
        }
        self.lost = (bytes.len() - self.write(bytes)) as u64;
    }

    /// Says where something is missing, and how much. Says nothing at all rather than a part of it.
    fn tell_loss(&mut self) -> bool {
        let told = format!("\nsetpoint: {} bytes are missing here, the disk was full\n", self.lost);
        let before = self.kept;
        let is_told = self.write(told.as_bytes()) == told.len();
        if let Some(file) = self.file.as_ref().filter(|_| !is_told)
            && file.set_len(before).is_ok()
        {
            self.kept = before;
        }
        is_told
    }

    /// How much of it could be written. On a disk that is full, what was put aside gives way.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        let mut gave_way = false;
        while let Some(file) = self.file.as_mut().filter(|_| done < bytes.len()) {
            match file.write(&bytes[done..]) {
                Ok(written @ 1..) => {
                    done += written;
                    self.kept += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull && !gave_way => {
                    gave_way = true;
                    let _ = fs::remove_file(self.folder.join(BEFORE));
                }
                Ok(_) | Err(_) => break,
            }
        }
        done
    }
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
    // The newer first: what is put aside in between is found twice rather than not at all.
    let (now, before) = (open(NOW)?, open(BEFORE)?);
    let is_same = match (&now, &before) {
        (Some(now), Some(before)) => now.metadata()?.ino() == before.metadata()?.ino(),
        _ => false,
    };
    let files = now.into_iter().chain(before.filter(|_| !is_same)).collect();
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
                // What was written to the old one before it was put aside is read first.
                Some(newer) => self.files.insert(0, newer),
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
