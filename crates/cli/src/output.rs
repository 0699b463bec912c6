//! The only room that prints. Results go to standard output, progress and errors to standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;
use setpoint_model::manifest::ByteSize;

use crate::error::Failure;

/// How to speak.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// JSON instead of words.
    pub(crate) json: bool,
    /// Only results and errors.
    pub(crate) quiet: bool,
    /// More than usual, and the output of hooks as it comes.
    pub(crate) verbose: u8,
}

impl Output {
    /// A line of the result.
    pub(crate) fn line(self, text: impl AsRef<str>) {
        // A reader that went away is no error of ours.
        let _ = writeln!(anstream::stdout(), "{}", text.as_ref());
    }

    /// A line that is left out when quiet.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            self.line(text);
        }
    }

    /// A line about progress.
    pub(crate) fn progress(self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            let _ = writeln!(anstream::stderr(), "{}", text.as_ref());
        }
    }

    /// Lines of a run for people to read, at once and even when quiet: whoever calls has left out what is too much.
    pub(crate) fn told(self, lines: &str) {
        let _ = anstream::stderr().lock().write_all(lines.as_bytes());
    }

    /// A line of JSON on standard output, at once.
    pub(crate) fn event(self, line: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(line.as_bytes());
        let _ = out.flush();
    }

    /// The result as JSON.
    pub(crate) fn value(self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string_pretty(value) {
            self.line(text);
        }
    }

    /// Text as it is, such as a completion script.
    pub(crate) fn raw(self, bytes: &[u8]) {
        let _ = std::io::stdout().write_all(bytes);
    }

    /// Why a command did not end well, and what to do next.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            let value = crate::json::Error::from(failure);
            if let Ok(text) = serde_json::to_string(&value) {
                let _ = writeln!(anstream::stderr(), "{text}");
            }
            return;
        }
        let mut out = anstream::stderr().lock();
        for problem in &failure.problems {
            let _ = writeln!(out, "{problem}\n");
        }
        let _ = writeln!(out, "{ERROR}error{RESET}: {}", failure.message);
        if let Some(hint) = &failure.hint {
            let _ = writeln!(out, "{HINT}hint{RESET}: {hint}");
        }
    }
}

/// Colours; left out where the output is no terminal or `NO_COLOR` is set.
pub(crate) const ERROR: &str = "\x1b[1;31m";
pub(crate) const HINT: &str = "\x1b[36m";
pub(crate) const GOOD: &str = "\x1b[32m";
pub(crate) const RESET: &str = "\x1b[0m";

/// The columns and rows of the terminal that progress is shown on.
pub(crate) fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// Whether somebody sits in front of this process who can be asked.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks, and takes anything but a yes for a no.
pub(crate) fn ask(question: &str) -> bool {
    let _ = write!(anstream::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes")
}

/// A time span in a few characters: `6ms`, `3.1s`, `2m 05s`.
pub(crate) fn span(took: std::time::Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 0.1 {
        format!("{}ms", took.as_millis())
    } else if seconds < 60.0 {
        format!("{seconds:.1}s")
    } else {
        format!("{}m {:02}s", took.as_secs() / 60, took.as_secs() % 60)
    }
}

/// A size in a few characters: `0`, `512B`, `1.5MiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).rounded()
}

/// How long ago, in a few characters: `3s`, `5m`, `2h`, `6d`.
pub(crate) fn ago(since: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn spans_are_short() {
        let told = [6, 3_100, 60_000, 125_000].map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(told, ["6ms", "3.1s", "1m 00s", "2m 05s"]);
    }

    #[test]
    fn sizes_are_short() {
        let told = [0, 1023, 1536, 20 << 20, 5 << 40].map(size);
        assert_eq!(told, ["0", "1023B", "1.5KiB", "20MiB", "5.0TiB"]);
    }

    #[test]
    fn a_clock_that_went_back_is_now() {
        let now = jiff::Timestamp::from_second(1_000_000).unwrap();
        let later = jiff::Timestamp::from_second(1_000_090).unwrap();
        assert_eq!(ago(later, now), "0s");
        assert_eq!(ago(now, later), "1m");
    }
}
