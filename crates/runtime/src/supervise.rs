//! Waiting for processes that do something and end: their output, their deadline, their end.

use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::engine::{Ended, EngineError, Process};
use crate::events::{Event, Watcher};
use crate::lines;
use crate::logs::Log;
use crate::secrets::Mask;

/// Asks a process to end.
const SIGTERM: u8 = 15;
/// How long a phase may take to end after it was asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How long the output, or the end, of a phase is waited for before cancellation and deadlines are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How many of the last lines of a failed phase are shown.
const TAIL: usize = 12;
/// How long the output of a phase that ended is still waited for; what it left in the background may hold it open.
const DRAIN: Duration = Duration::from_millis(200);

/// Why a phase did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// It ended badly.
    Ended(Ended),
    /// It ran past its deadline and was stopped.
    TimedOut(Duration),
    /// It was stopped on request.
    Cancelled,
    /// The service did not come to what it needs.
    NotReady(String),
    /// It could not be run.
    Engine(EngineError),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(ended) => ended.fmt(f),
            Self::TimedOut(limit) => write!(f, "timed out after {}s", limit.as_secs_f64()),
            Self::Cancelled => f.write_str("stopped"),
            Self::NotReady(why) => f.write_str(why),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

/// A phase that did not succeed, with the end of what it said.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub failure: Failure,
    /// Its last lines, masked.
    pub tail: Vec<String>,
}

/// Who waits for the processes of phases.
pub(crate) struct Supervisor<'a> {
    /// Hides secrets in what they say.
    pub(crate) mask: &'a Mask,
    /// Hears it.
    pub(crate) watcher: &'a dyn Watcher,
    /// Stops them.
    pub(crate) cancel: &'a Cancel,
    /// The folder of their logs.
    pub(crate) logs: &'a Path,
}

impl Supervisor<'_> {
    /// Waits for the one process of a phase, in a log of its own.
    pub(crate) fn alone(
        &self,
        phase: &str,
        started: Result<Box<dyn Process>, EngineError>,
        limit: Option<Duration>,
    ) -> Result<(), Failed> {
        let process = started.map_err(not_run)?;
        let log = Log::begin(self.logs, phase).ok();
        self.supervise(phase, log, vec![(None, process)], limit).map(drop)
    }

    /// Waits for processes, and gives back their log for those that follow.
    pub(crate) fn supervise(
        &self,
        phase: &str,
        log: Option<Log>,
        mut running: Vec<(Option<String>, Box<dyn Process>)>,
        limit: Option<Duration>,
    ) -> Result<Option<Log>, Failed> {
        let began = Instant::now();
        let mut output = Output::new(self, phase, log);
        for (part, process) in &mut running {
            output.follow(part.clone(), process.output());
        }
        output.sender = None;
        let mut failure: Option<Failure> = None;
        let mut stopping: Option<Instant> = None;
        while !running.is_empty() {
            // Who writes nothing more has mostly ended: then his end is what to wait for.
            let silent = output.pump(TICK);
            let mut index = 0;
            while index < running.len() {
                match running[index].1.wait(if silent { TICK } else { Duration::ZERO }) {
                    Ok(None) => index += 1,
                    Ok(Some(ended)) => {
                        running.remove(index);
                        if !ended.success() && failure.is_none() {
                            failure = Some(Failure::Ended(ended));
                        }
                    }
                    Err(error) => {
                        running.remove(index);
                        failure.get_or_insert(Failure::Engine(error));
                    }
                }
            }
            if failure.is_none() {
                failure = match limit {
                    _ if self.cancel.asked() => Some(Failure::Cancelled),
                    Some(limit) if began.elapsed() > limit && !running.is_empty() => {
                        Some(Failure::TimedOut(limit))
                    }
                    _ => None,
                };
            }
            if failure.is_some() {
                let since = *stopping.get_or_insert_with(|| {
                    running.iter_mut().for_each(|(_, process)| process.signal(SIGTERM));
                    Instant::now()
                });
                if since.elapsed() > GRACE || self.cancel.insisted() {
                    running.iter_mut().for_each(|(_, process)| process.kill());
                }
            }
        }
        output.finish();
        match failure {
            None => Ok(output.log),
            Some(failure) => Err(Failed { failure, tail: output.tail.into() }),
        }
    }
}

pub(crate) fn not_run(error: EngineError) -> Failed {
    Failed { failure: Failure::Engine(error), tail: Vec::new() }
}

/// Collects the lines of one or several processes: to the log, to the watcher, and the last few for an error.
struct Output<'a> {
    supervisor: &'a Supervisor<'a>,
    phase: String,
    log: Option<Log>,
    tail: VecDeque<String>,
    sender: Option<mpsc::Sender<(Option<String>, String)>>,
    lines: mpsc::Receiver<(Option<String>, String)>,
}

impl<'a> Output<'a> {
    fn new(supervisor: &'a Supervisor<'a>, phase: &str, log: Option<Log>) -> Self {
        let (sender, lines) = mpsc::channel();
        Self { supervisor, phase: phase.to_owned(), log, tail: VecDeque::new(), sender: Some(sender), lines }
    }

    fn follow(&self, part: Option<String>, output: Option<Box<dyn Read + Send>>) {
        let (Some(output), Some(sender)) = (output, self.sender.clone()) else { return };
        let mask = self.supervisor.mask.clone();
        std::thread::spawn(move || {
            lines::read(output, &mask, |line| {
                // Nobody listens any more once the phase has ended.
                let _ = sender.send((part.clone(), line));
            });
        });
    }

    fn line(&mut self, part: Option<String>, line: String) {
        let line = part.map_or_else(|| line.clone(), |part| format!("[{part}] {line}"));
        if let Some(log) = &mut self.log {
            log.line(&line);
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        self.supervisor.watcher.event(&Event::Output { phase: self.phase.clone(), line });
    }

    /// Takes lines for this long at most; returns early when one came and no more wait. Tells whether nothing
    /// more can come.
    fn pump(&mut self, at_most: Duration) -> bool {
        match self.lines.recv_timeout(at_most) {
            Err(error) => return error == RecvTimeoutError::Disconnected,
            Ok((part, line)) => self.line(part, line),
        }
        while let Ok((part, line)) = self.lines.try_recv() {
            self.line(part, line);
        }
        false
    }

    fn finish(&mut self) {
        let until = Instant::now() + DRAIN;
        let left = || until.saturating_duration_since(Instant::now());
        while let Ok((part, line)) = self.lines.recv_timeout(left()) {
            self.line(part, line);
        }
    }
}
