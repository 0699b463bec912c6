//! What is wrong with a manifest, where, why, and what to do about it.

use serde::Serialize;
use unicode_width::UnicodeWidthChar;

/// A place in one of the texts that make up a manifest, with the line itself, so that it can be shown without
/// reading the file again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Location {
    /// The name of the layer: `setpoint.toml`, `setpoint.local.toml`, `--set env.dev.user=root`.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// The column, counted from 1, in characters.
    pub column: u32,
    /// The whole line, without its end.
    pub source_line: String,
    /// How many characters are meant, on this line; 0 where something is missing and there is nothing to show.
    pub length: u32,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Location {
    /// The line with its number, and carets under what is meant; nothing where there is nothing to show.
    fn excerpt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.length == 0 {
            return Ok(());
        }
        let number = self.line.to_string();
        let before = (self.column as usize).saturating_sub(1);
        let shown: Vec<char> = self.source_line.trim_end().chars().map(printable).collect();
        let padding: String = shown.iter().take(before).map(|&c| blank(c)).collect();
        let marked = shown.iter().skip(before).take(self.length as usize);
        let carets = marked.map(|&c| width(c)).sum::<usize>().max(1);
        let gutter = number.len();
        write!(f, "\n  {number} | {}", shown.iter().collect::<String>())?;
        write!(f, "\n  {:gutter$} | {padding}{}", "", "^".repeat(carets))
    }
}

/// A control character would let a manifest write to the terminal; all but the tab are shown as a placeholder.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}

/// How many columns a character takes.
fn width(c: char) -> usize {
    if c == '\t' { 1 } else { c.width().unwrap_or(0) }
}

/// What takes the same room as the character, but is blank. A tab stays a tab: both lines have the same gutter,
/// so that it ends at the same column in both, whatever the width of tabs.
fn blank(c: char) -> String {
    if c == '\t' { "\t".to_owned() } else { " ".repeat(width(c)) }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
pub struct Problem {
    /// A stable name for this kind of problem, in kebab-case.
    pub code: &'static str,
    /// Where it is, if it is in a text.
    pub at: Option<Box<Location>>,
    /// What is wrong, in one line.
    pub what: String,
    /// Why that is wrong, where it is not plain.
    pub why: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of this kind, so far without a place, a reason or a hint.
    #[must_use]
    pub fn new(code: &'static str, what: impl Into<String>) -> Self {
        Self { code, at: None, what: what.into(), why: None, hint: None }
    }

    /// Says where it is.
    #[must_use]
    pub fn at(mut self, at: Location) -> Self {
        self.at = Some(Box::new(at));
        self
    }

    /// Says why it is wrong.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error: {}", one_line(&self.what))?;
        if let Some(at) = &self.at {
            write!(f, "\n  at {}", one_line(&at.to_string()))?;
            at.excerpt(f)?;
        }
        if let Some(why) = &self.why {
            write!(f, "\n  why: {}", one_line(why))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {}", one_line(hint))?;
        }
        Ok(())
    }
}

/// A text that quotes the manifest stays on its line and sends nothing to the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source_line: &str, column: u32, length: u32) -> String {
        let at = Location {
            file: "setpoint.toml".into(),
            line: 12,
            column,
            source_line: source_line.into(),
            length,
        };
        Problem::new("test", "x").at(at).to_string()
    }

    #[test]
    fn carets_stand_under_what_is_meant() {
        assert_eq!(shown("ab = 1", 6, 1), "error: x\n  at setpoint.toml:12:6\n  12 | ab = 1\n     |      ^");
    }

    #[test]
    fn wide_characters_take_two_columns_and_combining_ones_none() {
        assert!(shown("\"日本\" = 1", 8, 1).ends_with("\n  12 | \"日本\" = 1\n     |          ^"));
        assert!(shown("日本", 1, 2).ends_with("| ^^^^"));
        assert!(shown("e\u{301}x", 3, 1).ends_with("|  ^"));
    }

    #[test]
    fn a_tab_before_the_caret_stays_a_tab() {
        assert!(shown("\tx = 1", 2, 1).ends_with("\n  12 | \tx = 1\n     | \t^"));
    }

    #[test]
    fn nothing_is_sent_to_the_terminal() {
        assert!(!shown("x = \u{1b}[31m", 5, 1).contains('\u{1b}'));
        assert_eq!(Problem::new("test", "a\u{1b}b\nc").to_string(), "error: a\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn a_place_where_something_is_missing_shows_no_line() {
        assert_eq!(shown("x", 1, 0), "error: x\n  at setpoint.toml:12:1");
    }
}
