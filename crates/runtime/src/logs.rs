//! The kept output of hooks and packs: a file a phase, the last few runs of each.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::events::{Event, Watcher};
use crate::paths::Roots;

/// Where the logs of units lie, a folder each.
const LOGS: &str = "logs/v1";
/// How many older runs of a phase are kept beside the last one.
const KEPT: usize = 2;
/// The bytes after which the output of one run is no longer kept.
const LARGEST: u64 = 16 * 1024 * 1024;

/// The folder of what is kept of a unit, or of what else runs on the host, by its id.
pub(crate) fn folder(roots: &Roots, of: &str) -> PathBuf {
    roots.state.join(LOGS).join(of)
}

/// The log of one run of a phase, while it is written.
#[derive(Debug)]
pub struct Log {
    file: File,
    written: u64,
}

impl Log {
    /// Begins the log of a run; the run before it becomes the first of the older ones.
    ///
    /// # Errors
    /// If the folder or the file cannot be made.
    pub fn begin(folder: &Path, phase: &str) -> std::io::Result<Self> {
        fs::create_dir_all(folder)?;
        for age in (0..KEPT).rev() {
            let _ = fs::rename(path(folder, phase, age), path(folder, phase, age + 1));
        }
        Ok(Self { file: File::create(path(folder, phase, 0))?, written: 0 })
    }

    /// Adds a line. What cannot be written, or is too much, is left out.
    pub fn line(&mut self, line: &str) {
        let before = self.written;
        self.written += line.len() as u64 + 1;
        if self.written <= LARGEST {
            let _ = writeln!(self.file, "{line}");
        } else if before <= LARGEST {
            let _ = writeln!(self.file, "[more than {LARGEST} bytes; the rest is not kept]");
        }
    }
}

/// A watcher that also keeps the output of one phase.
pub(crate) struct Logged<'a> {
    folder: &'a Path,
    phase: &'static str,
    log: Mutex<Option<Log>>,
    watcher: &'a dyn Watcher,
}

impl<'a> Logged<'a> {
    /// Keeps the output of this phase in this folder, from its first line on.
    pub(crate) fn new(folder: &'a Path, phase: &'static str, watcher: &'a dyn Watcher) -> Self {
        Self { folder, phase, log: Mutex::new(None), watcher }
    }
}

impl Watcher for Logged<'_> {
    fn event(&self, event: &Event) {
        if let Event::Output { line, .. } = event
            && let Ok(mut log) = self.log.lock()
        {
            if log.is_none() {
                // A log that cannot be written is no reason to fail the work that it would tell of.
                *log = Log::begin(self.folder, self.phase).ok();
            }
            if let Some(log) = log.as_mut() {
                log.line(line);
            }
        }
        self.watcher.event(event);
    }
}

fn path(folder: &Path, phase: &str, age: usize) -> PathBuf {
    match age {
        0 => folder.join(format!("{phase}.log")),
        age => folder.join(format!("{phase}.{age}.log")),
    }
}

/// The phases that have a log, the one written last first.
///
/// # Errors
/// If the folder cannot be read; an absent one holds none.
pub fn phases(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let is_older = |name: &str| (1..=KEPT).any(|age| name.ends_with(&format!(".{age}")));
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(phase) = name.strip_suffix(".log").filter(|phase| !is_older(phase)) {
            found.push((entry.metadata()?.modified()?, phase.to_owned()));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, phase)| phase).collect())
}

/// The lines of a phase's last run.
///
/// # Errors
/// If there is no such log or it cannot be read.
pub fn read(folder: &Path, phase: &str) -> std::io::Result<Vec<String>> {
    BufReader::new(File::open(path(folder, phase, 0))?).lines().collect()
}
