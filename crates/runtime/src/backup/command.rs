//! A service's own commands: the one that writes its data, and the one that reads it.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::time::Duration;

use setpoint_model::manifest::BackupCommands;
use tempfile::NamedTempFile;

use super::error::BackupError;
use super::part::{self, Written};
use crate::cancel::Cancel;
use crate::engine::{Ended, ExecSpec, Io, Pipes, Process};
use crate::guest::Guest;
use crate::observe::Unit;
use crate::secrets::Mask;

/// How many of the last lines of a command's errors are told.
const TAIL: usize = 12;
/// How often is looked whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Has a service write its data, and stores that in a file.
pub(super) fn dump(
    unit: &Unit<'_>,
    commands: &BackupCommands,
    file: &NamedTempFile,
    heard: &dyn Fn(u64),
    cancel: &Cancel,
) -> Result<Written, BackupError> {
    let (mut process, mask) = start(unit, &commands.run, commands)?;
    let Pipes { input, mut output, errors } = pipes(process.as_mut())?;
    drop(input);
    let said = std::thread::spawn(move || tail(errors));
    let written = part::store(&mut output, None, (file.as_file(), file.path()), heard, cancel);
    if written.is_err() {
        process.kill();
    }
    let ended = wait(process.as_mut(), cancel);
    let written = written?;
    judge(unit, "backup", ended?, mask, said.join().unwrap_or_default())?;
    Ok(written)
}

/// Has a service read its data.
pub(crate) fn load(
    unit: &Unit<'_>,
    commands: &BackupCommands,
    from: Box<dyn Read + Send>,
    cancel: &Cancel,
) -> Result<(), BackupError> {
    let (mut process, mask) = start(unit, &commands.restore, commands)?;
    let Pipes { mut input, output, errors } = pipes(process.as_mut())?;
    let said = std::thread::spawn(move || tail(errors));
    // What it says of its work is of no use to anybody.
    std::thread::spawn(move || {
        let mut output = output;
        let _ = io::copy(&mut output, &mut io::sink());
    });
    let fed = std::thread::spawn(move || {
        let mut from = from;
        let fed = io::copy(&mut from, &mut input).and_then(|_| input.flush());
        // Who needs no more of it may end.
        fed.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
    });
    let ended = wait(process.as_mut(), cancel)?;
    drop(process);
    judge(unit, "restore", ended, mask, said.join().unwrap_or_default())?;
    match fed.join() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(BackupError::io("read", Path::new("what is restored"))(error)),
        Err(_) => Err(BackupError::Cancelled),
    }
}

/// Starts a command as a session would.
fn start(
    unit: &Unit<'_>,
    argv: &[String],
    commands: &BackupCommands,
) -> Result<(Box<dyn Process>, Mask), BackupError> {
    let guest = Guest::new(unit, commands.user.as_deref())?;
    let spec = ExecSpec {
        argv: argv.to_vec(),
        env: guest.variables.clone(),
        cwd: None,
        user: Some(guest.account.name.clone()),
        io: Io::Piped,
    };
    Ok((unit.engine.exec(&unit.id, &spec)?, guest.mask()))
}

fn pipes(process: &mut dyn Process) -> Result<Pipes, BackupError> {
    let lost = || io::Error::other("it has none");
    process.pipes().ok_or_else(|| BackupError::io("open", Path::new("the pipes of the command"))(lost()))
}

fn wait(process: &mut dyn Process, cancel: &Cancel) -> Result<Ended, BackupError> {
    loop {
        if let Some(ended) = process.wait(LOOK)? {
            return Ok(ended);
        }
        if cancel.asked() {
            process.kill();
            return Err(BackupError::Cancelled);
        }
    }
}

fn judge(
    unit: &Unit<'_>,
    what: &'static str,
    ended: Ended,
    mask: Mask,
    tail: Vec<String>,
) -> Result<(), BackupError> {
    if ended.success() {
        return Ok(());
    }
    let tail = tail.iter().map(|line| mask.apply(line)).collect();
    Err(BackupError::Command { unit: unit.env.name.clone(), what, how: ended.to_string(), tail })
}

/// The last lines of what is read.
fn tail(errors: Box<dyn Read + Send>) -> Vec<String> {
    let mut last = VecDeque::new();
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    while errors.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        if last.len() == TAIL {
            last.pop_front();
        }
        last.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    last.into()
}
