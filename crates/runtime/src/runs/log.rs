//! Keeping a run while it goes on.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use setpoint_model::names::{PipelineName, StepName, UnitName};
use setpoint_model::pipeline::outcome::Outcome;

use super::kept::{EVENTS, End, Entry, Head, Line, Plan, RECORD, service_log};
use super::{Runs, RunsError, retention};
use crate::paths::{Roots, make_private_folder};
use crate::pipeline::events::{Event, Listener};

/// The bytes after which the output of a step is no longer kept.
const LARGEST: u64 = 16 * 1024 * 1024;
/// The bytes that are held back at most.
const BUFFER: usize = 64 * 1024;
/// How long a line is held back at most when others follow it.
const HOLD: Duration = Duration::from_millis(100);

/// Keeps what happens in a run. It is a run's listener like any other; what it cannot write it leaves out, and
/// [`RunLog::trouble`] says so at the end, for a full disk must not fail a step.
#[derive(Debug)]
pub struct RunLog {
    runs: Runs,
    number: u64,
    folder: PathBuf,
    head: Head,
    /// Locked for as long as this run goes on.
    events: File,
    /// Entries that are not written yet.
    held: Vec<u8>,
    /// Lines that are in a step's log, or held back for it, and that no entry speaks of yet.
    untold: Option<(StepName, u64)>,
    logs: BTreeMap<StepName, StepLog>,
    /// Those of the services of steps.
    service_logs: BTreeMap<(StepName, UnitName), StepLog>,
    flushed: Instant,
    trouble: Option<RunsError>,
}

/// The log of a step that runs.
#[derive(Debug)]
struct StepLog {
    path: PathBuf,
    file: File,
    held: Vec<u8>,
    written: u64,
}

impl RunLog {
    /// Begins to keep a run, under the next number of its project.
    ///
    /// # Errors
    /// [`RunsError::Io`] if the run's folder cannot be made.
    pub fn begin(roots: &Roots, project_root: &Path, pipeline: &PipelineName) -> Result<Self, RunsError> {
        let runs = Runs::of(roots, project_root);
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| RunsError::Io { what: "write", path, source }
        };
        make_private_folder(&runs.folder).map_err(unwritable(&runs.folder))?;
        let mut number = runs.numbers()?.last().map_or(1, |last| last + 1);
        let folder = loop {
            let folder = runs.folder_of(number);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => break folder,
                // Another run began at the same moment.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(unwritable(&folder)(source)),
            }
        };
        let path = folder.join(EVENTS);
        let events = append(&path).map_err(unwritable(&path))?;
        events.lock().map_err(unwritable(&path))?;
        let head = Head {
            pipeline: pipeline.clone(),
            project: project_root.to_string_lossy().into_owned(),
            began_at: Timestamp::now(),
            pid: std::process::id(),
            plan: Vec::new(),
            end: None,
        };
        write_head(&folder, &head)?;
        Ok(Self {
            runs,
            number,
            folder,
            head,
            events,
            held: Vec::new(),
            untold: None,
            logs: BTreeMap::new(),
            service_logs: BTreeMap::new(),
            flushed: Instant::now(),
            trouble: None,
        })
    }

    /// The number of the run.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Why what is kept of this run is not all that happened, if it is not.
    #[must_use]
    pub fn trouble(&self) -> Option<&RunsError> {
        self.trouble.as_ref()
    }

    fn line(&mut self, step: &StepName, line: &str) -> Result<(), RunsError> {
        if !self.logs.contains_key(step) {
            let log = StepLog::open(self.folder.join(format!("{step}.log")))?;
            self.logs.insert(step.clone(), log);
        }
        let Some(log) = self.logs.get_mut(step) else { return Ok(()) };
        if !log.line(line) {
            return Ok(());
        }
        let full = log.held.len() >= BUFFER;
        match &mut self.untold {
            Some((of, lines)) if of == step => *lines += 1,
            _ => {
                self.tell_lines();
                self.untold = Some((step.clone(), 1));
            }
        }
        if full || self.flushed.elapsed() >= HOLD {
            return self.flush();
        }
        Ok(())
    }

    fn service_line(&mut self, step: &StepName, service: &UnitName, line: &str) -> Result<(), RunsError> {
        let of = (step.clone(), service.clone());
        if !self.service_logs.contains_key(&of) {
            let log = StepLog::open(self.folder.join(service_log(step, service)))?;
            self.service_logs.insert(of.clone(), log);
        }
        let Some(log) = self.service_logs.get_mut(&of) else { return Ok(()) };
        log.line(line);
        if log.held.len() >= BUFFER { log.flush() } else { Ok(()) }
    }

    /// Makes an entry of the lines that none speaks of yet.
    fn tell_lines(&mut self) {
        if let Some((step, lines)) = self.untold.take() {
            self.entry(Entry::Output { step, lines });
        }
    }

    fn entry(&mut self, entry: Entry) {
        let line = Line { at: Timestamp::now(), entry };
        if serde_json::to_writer(&mut self.held, &line).is_ok() {
            self.held.push(b'\n');
        }
    }

    /// Writes what is held back: the logs first, so that no entry speaks of lines that are not there yet.
    fn flush(&mut self) -> Result<(), RunsError> {
        for log in self.logs.values_mut().chain(self.service_logs.values_mut()) {
            log.flush()?;
        }
        self.tell_lines();
        if !self.held.is_empty() {
            self.events.write_all(&self.held).map_err(|source| RunsError::Io {
                what: "write",
                path: self.folder.join(EVENTS),
                source,
            })?;
            self.held.clear();
        }
        self.flushed = Instant::now();
        Ok(())
    }

    fn keep(&mut self, event: &Event) -> Result<(), RunsError> {
        if let Event::Output { step, line } = event {
            return self.line(step, line);
        }
        if let Event::ServiceOutput { step, service, line } = event {
            return self.service_line(step, service, line);
        }
        if let Some(entry) = Entry::of(event) {
            self.tell_lines();
            self.entry(entry);
        }
        match event {
            Event::RunBegan { steps, .. } => {
                self.head.plan = steps.iter().map(Plan::from).collect();
                write_head(&self.folder, &self.head)?;
                self.flush()
            }
            // Many of these come at once, and something else comes after them.
            Event::StepEnded { report }
                if matches!(report.outcome, Outcome::Cached | Outcome::Skipped { .. })
                    && self.held.len() < BUFFER =>
            {
                Ok(())
            }
            Event::StepEnded { report } => {
                self.flush()?;
                self.logs.remove(&report.step);
                self.service_logs.retain(|(step, _), _| *step != report.step);
                Ok(())
            }
            _ => self.flush(),
        }
    }
}

impl Listener for RunLog {
    fn hear(&mut self, event: &Event) {
        if self.trouble.is_none() {
            self.trouble = self.keep(event).err();
        }
        if let Event::RunEnded { report } = event {
            self.head.end = Some(End::from(report));
            // Tried whatever happened before: how it ended is what is asked for most.
            let written = write_head(&self.folder, &self.head);
            self.trouble = self.trouble.take().or(written.err());
            retention::trim(&self.runs, self.number);
        }
    }

    fn settle(&mut self) {
        if self.trouble.is_none() {
            self.trouble = self.flush().err();
        }
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        self.settle();
    }
}

impl StepLog {
    fn open(path: PathBuf) -> Result<Self, RunsError> {
        let open = append(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (written, file) =
            open.map_err(|source| RunsError::Io { what: "write", path: path.clone(), source })?;
        Ok(Self { path, file, held: Vec::new(), written })
    }

    /// Adds a line; says whether a line was added.
    fn line(&mut self, line: &str) -> bool {
        if self.written > LARGEST {
            return false;
        }
        self.written += line.len() as u64 + 1;
        if self.written > LARGEST {
            self.held
                .extend_from_slice(format!("[more than {LARGEST} bytes; the rest is not kept]\n").as_bytes());
            return true;
        }
        // Lines are counted: one that holds an end of line would be two.
        self.held.extend(line.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
        self.held.push(b'\n');
        true
    }

    fn flush(&mut self) -> Result<(), RunsError> {
        if !self.held.is_empty() {
            let path = &self.path;
            self.file.write_all(&self.held).map_err(|source| RunsError::Io {
                what: "write",
                path: path.clone(),
                source,
            })?;
            self.held.clear();
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Writes the record anew; whoever reads it meets the old one or the new one.
fn write_head(folder: &Path, head: &Head) -> Result<(), RunsError> {
    let path = folder.join(RECORD);
    let new = folder.join(format!("{RECORD}.new"));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(head)?)?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|source| RunsError::Io { what: "write", path: path.clone(), source })
}
