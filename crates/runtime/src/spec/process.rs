//! Running a tool on the host to its end, with what it says heard as it comes. It dies with this process, as hooks do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use setpoint_model::spec::Runner;

use super::{Event, SpecError, Surroundings};
use crate::engine::{Ended, ExecSpec, Io};
use crate::secrets::Mask;
use crate::{host, lines};

/// How often it is looked whether it has ended.
const TICK: Duration = Duration::from_millis(10);
/// How long it may take to end once it is asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long is waited for what it said last, where something that it left behind could still say more.
const DRAIN: Duration = Duration::from_millis(200);
/// The lines that are shown of a tool that failed.
const LINES: usize = 15;
const SIGTERM: u8 = 15;
/// What a shell ends with that does not find a program.
const NOT_FOUND: i32 = 127;

/// What of a tool's output is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Its results, from what else it says.
    Apart,
    /// Nothing: all of it is its result, in the order in which it was said.
    Together,
}

/// A tool, and what it is told.
#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) runner: Runner,
    pub(super) argv: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) folder: PathBuf,
}

impl Invocation {
    /// Tells it more.
    pub(super) fn args<S: AsRef<str>>(&mut self, words: impl IntoIterator<Item = S>) -> &mut Self {
        self.argv.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }
}

/// How a tool ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) ended: Ended,
    /// Its results.
    pub(super) results: String,
    /// What it said besides.
    pub(super) said: String,
    /// The command, as a person would write it.
    command: String,
    pub(super) runner: Runner,
}

impl Ran {
    /// Its exit code, if it ended by itself.
    pub(super) fn code(&self) -> Option<i32> {
        if let Ended::Code(code) = self.ended { Some(code) } else { None }
    }

    /// The error that it did not do what was asked.
    pub(super) fn failed(&self) -> SpecError {
        self.failed_as(&self.ended.to_string())
    }

    /// The error that it did something else than what was asked.
    pub(super) fn failed_as(&self, how: &str) -> SpecError {
        SpecError::Runner {
            runner: self.runner,
            command: self.command.clone(),
            how: how.to_owned(),
            said: self.last_words(),
        }
    }

    /// The end of what it said.
    pub(super) fn last_words(&self) -> String {
        let said = if self.said.trim().is_empty() { &self.results } else { &self.said };
        let lines: Vec<&str> = said.trim_end().lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// Runs a tool to its end.
pub(super) fn run(
    invocation: Invocation,
    said: Said,
    surroundings: Surroundings<'_>,
) -> Result<Ran, SpecError> {
    let Invocation { runner, argv, env, folder } = invocation;
    let no_runner =
        |why: String| SpecError::NoRunner { runner, command: argv.first().cloned().unwrap_or_default(), why };
    if !folder.is_dir() {
        return Err(no_runner(format!("there is no folder {}", folder.display())));
    }
    let place = super::report_folder()?;
    let results = place.path().join("results");
    let shown = shown(&argv);
    let spec = ExecSpec {
        argv: match said {
            Said::Together => argv.clone(),
            Said::Apart => {
                let shell = ["/bin/sh", "-c", "exec \"$@\" >\"$0\""].map(str::to_owned);
                let file = results.to_string_lossy().into_owned();
                shell.into_iter().chain([file]).chain(argv.iter().cloned()).collect()
            }
        },
        env,
        cwd: None,
        user: None,
        io: Io::Captured,
    };
    let mut process = host::spawn(&spec, &folder).map_err(|error| no_runner(error.to_string()))?;
    let (sender, heard) = mpsc::channel();
    if let Some(output) = process.output() {
        std::thread::spawn(move || {
            // Nobody listens any more once it has ended.
            lines::read(output, &Mask::default(), |line| drop(sender.send(line)));
        });
    }
    let mut words = String::new();
    let mut hear = |line: String| {
        words.push_str(&line);
        words.push('\n');
        (surroundings.told)(Event::Said(&line));
    };
    let mut asked: Option<Instant> = None;
    let ended = loop {
        match heard.recv_timeout(TICK) {
            Ok(line) => hear(line),
            // Who says nothing more has mostly ended.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                if let Some(ended) = process.wait(TICK).map_err(|error| no_runner(error.to_string()))? {
                    break ended;
                }
            }
        }
        match asked {
            None if surroundings.cancel.asked() => {
                process.signal(SIGTERM);
                asked = Some(Instant::now());
            }
            Some(since) if surroundings.cancel.insisted() || since.elapsed() > GRACE => process.kill(),
            _ => {}
        }
    };
    let until = Instant::now() + DRAIN;
    while let Ok(line) = heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
        hear(line);
    }
    if surroundings.cancel.asked() {
        return Err(SpecError::Cancelled);
    }
    let (results, said) = match said {
        Said::Together => (words, String::new()),
        Said::Apart => (std::fs::read(&results).map(lossy).unwrap_or_default(), words),
    };
    let ran = Ran { ended, results, said, command: shown, runner };
    if ran.code() == Some(NOT_FOUND) && runner != Runner::Command {
        let words = ran.last_words();
        let why = words.lines().last().unwrap_or_default();
        return Err(no_runner(why.rsplit_once("exec: ").map_or(why, |(_, why)| why).to_owned()));
    }
    Ok(ran)
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A command as a person would write it, in a length that can be read.
fn shown(words: &[String]) -> String {
    const LONGEST: usize = 160;
    let text = shell_words::join(words);
    match text.len() > LONGEST {
        true => format!("{}...", &text[..text.floor_char_boundary(LONGEST)]),
        false => text,
    }
}
