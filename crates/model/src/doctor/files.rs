//! Files: those that are made here, and those with secrets.

use similar::{ChangeTag, TextDiff};

use super::finding::Finding;
use super::row::Row;

/// How many lines of a difference are told.
const LINES: usize = 20;

/// A file that is made here, as it should be and as it is. `again` is what makes it anew.
#[must_use]
pub fn edited(path: &str, made: &str, found: &str, again: &str) -> Option<Finding> {
    if made == found {
        return None;
    }
    let diff = TextDiff::from_lines(made, found);
    let changed = diff.iter_all_changes().filter_map(|change| {
        let sign = match change.tag() {
            ChangeTag::Equal => return None,
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        Some(format!("  {sign} {}", change.value().trim_end_matches('\n')))
    });
    let changed: Vec<String> = changed.collect();
    let more = changed.len().saturating_sub(LINES);
    let mut lines = vec![format!("{path} is made by setpoint, and was edited by hand since:")];
    lines.extend(changed.into_iter().take(LINES));
    if more > 0 {
        lines.push(format!("  and {more} more lines"));
    }
    Some(Finding::of(Row::EditedFile, "files", lines.join("\n"), again))
}

/// A file with a secret, by its access rights.
#[must_use]
pub fn readable(path: &str, mode: u32) -> Option<Finding> {
    const OTHERS: u32 = 0o007;
    let mode = mode & 0o777;
    (mode & OTHERS != 0).then(|| {
        let what =
            format!("{path} holds a secret, and everybody on this machine has rights to it ({mode:03o})");
        Finding::of(Row::SecretReadable, "secrets", what, format!("`chmod o-rwx {path}`"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_shown_line_by_line() {
        assert_eq!(edited("f", "a\nb\n", "a\nb\n", ""), None);
        let finding = edited("setpoint.toml", "a\nb\nc\n", "a\nB\nc\nd\n", "make it").unwrap();
        assert_eq!(
            finding.what,
            "setpoint.toml is made by setpoint, and was edited by hand since:\n  - b\n  + B\n  + d"
        );
        let long: String = (0..50).map(|line| format!("{line}\n")).collect();
        let finding = edited("f", "", &long, "make it").unwrap();
        assert_eq!(finding.what.lines().count(), LINES + 2);
        assert!(finding.what.ends_with("and 30 more lines"), "{}", finding.what);
    }

    #[test]
    fn only_what_everybody_reads_is_told() {
        for (mode, is_told) in
            [(0o100_600, false), (0o640, false), (0o660, false), (0o644, true), (0o604, true), (0o602, true)]
        {
            assert_eq!(readable("f", mode).is_some(), is_told, "{mode:o}");
        }
    }
}
