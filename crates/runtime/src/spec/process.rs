//! Running a tool to its end, with what it says kept, in a process group that ends with the command.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use setpoint_model::spec::Runner;

use super::SpecError;
use crate::cancel::Cancel;

/// How often it is looked whether it has ended.
const TICK: Duration = Duration::from_millis(10);
/// How long it may take to end once it is asked to.
const GRACE: Duration = Duration::from_secs(10);
/// The lines that are shown of a tool that failed.
const LINES: usize = 15;

/// Where what a tool says goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Its results are kept; the rest is kept too, or shown as it comes.
    Apart {
        /// Whether it is shown.
        shown: bool,
    },
    /// All of it is kept, in the order in which it was said.
    Together,
}

/// How a tool ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) status: ExitStatus,
    /// Its results.
    pub(super) stdout: String,
    /// What it said besides.
    pub(super) stderr: String,
    /// The command, as a person would write it.
    pub(super) command: String,
    pub(super) runner: Runner,
}

impl Ran {
    /// The error that it did not do what was asked.
    pub(super) fn failed(&self) -> SpecError {
        self.failed_as(&self.status.to_string())
    }

    /// The error that it did something else than what was asked.
    pub(super) fn failed_as(&self, how: &str) -> SpecError {
        SpecError::Runner {
            runner: self.runner,
            command: self.command.clone(),
            how: format!("ended with {how}"),
            said: self.last_words(),
        }
    }

    /// The end of what it said.
    pub(super) fn last_words(&self) -> String {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let lines: Vec<&str> = said.trim_end().lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// Runs a tool to its end.
pub(super) fn run(
    runner: Runner,
    command: &mut Command,
    said: Said,
    cancel: &Cancel,
) -> Result<Ran, SpecError> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let written = shown(&words);
    let failed = |error: std::io::Error| SpecError::NoRunner {
        runner,
        command: words.first().cloned().unwrap_or_default(),
        why: error.to_string(),
    };
    if let Some(folder) = command.get_current_dir().filter(|folder| !folder.is_dir()) {
        let why = std::io::Error::new(
            std::io::ErrorKind::NotFound,
            format!("there is no folder {}", folder.display()),
        );
        return Err(failed(why));
    }
    // Files, not pipes: what it leaves running must not keep us waiting for their end.
    let mut out = tempfile::tempfile().map_err(failed)?;
    let mut err = tempfile::tempfile().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(out.try_clone().map_err(failed)?).process_group(0);
    match said {
        Said::Apart { shown: true } => command.stderr(Stdio::inherit()),
        Said::Apart { shown: false } => command.stderr(err.try_clone().map_err(failed)?),
        Said::Together => command.stderr(out.try_clone().map_err(failed)?),
    };
    let mut child = command.spawn().map_err(failed)?;
    let status = wait(&mut child, cancel).map_err(failed)?;
    if cancel.asked() {
        return Err(SpecError::Cancelled);
    }
    let (stdout, stderr) = (text(&mut out).map_err(failed)?, text(&mut err).map_err(failed)?);
    Ok(Ran { status, stdout, stderr, command: written, runner })
}

/// Waits for its end, and sees to it when somebody asks for that.
fn wait(child: &mut Child, cancel: &Cancel) -> std::io::Result<ExitStatus> {
    let group = Pid::from_child(child);
    let mut asked = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match asked {
            None if cancel.asked() => {
                let _ = kill_process_group(group, Signal::TERM);
                asked = Some(Instant::now());
            }
            Some(since) if cancel.insisted() || Instant::now().duration_since(since) > GRACE => {
                let _ = kill_process_group(group, Signal::KILL);
            }
            _ => {}
        }
        std::thread::sleep(TICK);
    }
}

fn text(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
