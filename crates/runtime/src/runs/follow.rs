//! Reading what the steps of a run said, to the end or while it goes on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use setpoint_model::names::StepName;

use super::kept::{EVENTS, Entry, Line};
use super::{Runs, RunsError, is_running};

/// Reads the output of a run's steps, in the order in which it came.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    only: Option<StepName>,
    events: Option<BufReader<File>>,
    /// The beginning of an entry that is not written whole yet.
    partial: Vec<u8>,
    logs: BTreeMap<StepName, BufReader<File>>,
}

impl Follower {
    /// Reads from the beginning of a run, all steps or only one.
    #[must_use]
    pub fn new(runs: &Runs, run: u64, only: Option<StepName>) -> Self {
        Self { folder: runs.folder_of(run), only, events: None, partial: Vec::new(), logs: BTreeMap::new() }
    }

    /// Hands out the lines that have come since the last call, each with its step; says whether more may come.
    ///
    /// Of a run whose record of the order is damaged, or was cut off, the lines that nothing speaks of come last,
    /// step by step: no line that is there is left out.
    ///
    /// # Errors
    /// [`RunsError::Io`] if a file is there and cannot be read.
    pub fn poll(&mut self, tell: &mut dyn FnMut(&StepName, &str)) -> Result<bool, RunsError> {
        // Asked first: what a run writes before it ends is read below.
        let running = is_running(&self.folder);
        while let Some(entry) = self.next_entry()? {
            if let Ok(Line { entry: Entry::Output { step, lines }, .. }) = serde_json::from_slice(&entry) {
                self.lines(&step, lines, tell)?;
            }
        }
        if running {
            return Ok(true);
        }
        for step in self.steps_with_logs()? {
            self.lines(&step, u64::MAX, tell)?;
        }
        Ok(false)
    }

    /// The next whole entry, if there is one by now.
    fn next_entry(&mut self) -> Result<Option<Vec<u8>>, RunsError> {
        let path = self.folder.join(EVENTS);
        let unreadable = |source| RunsError::Io { what: "read", path: path.clone(), source };
        if self.events.is_none() {
            self.events = open(&path).map_err(unreadable)?;
        }
        let Some(events) = &mut self.events else { return Ok(None) };
        events.read_until(b'\n', &mut self.partial).map_err(unreadable)?;
        let whole = self.partial.last() == Some(&b'\n');
        Ok(whole.then(|| std::mem::take(&mut self.partial)))
    }

    fn lines(
        &mut self,
        step: &StepName,
        at_most: u64,
        tell: &mut dyn FnMut(&StepName, &str),
    ) -> Result<(), RunsError> {
        if self.only.as_ref().is_some_and(|only| only != step) {
            return Ok(());
        }
        let path = self.folder.join(format!("{step}.log"));
        let unreadable = |source| RunsError::Io { what: "read", path: path.clone(), source };
        if !self.logs.contains_key(step) {
            let Some(log) = open(&path).map_err(unreadable)? else { return Ok(()) };
            self.logs.insert(step.clone(), log);
        }
        let Some(log) = self.logs.get_mut(step) else { return Ok(()) };
        for _ in 0..at_most {
            let mut line = Vec::new();
            if log.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            tell(step, &String::from_utf8_lossy(&line));
        }
        Ok(())
    }

    fn steps_with_logs(&self) -> Result<Vec<StepName>, RunsError> {
        let unreadable = |source| RunsError::Io { what: "read", path: self.folder.clone(), source };
        let mut steps = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let step = name.to_str().and_then(|name| name.strip_suffix(".log"));
            steps.extend(step.and_then(|step| StepName::new(step).ok()));
        }
        steps.sort();
        Ok(steps)
    }
}

/// Opens a file; one that is not there yet is none.
fn open(path: &Path) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
