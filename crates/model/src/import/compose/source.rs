//! The files that a project is read from, and places in them.

use std::ops::Range;
use std::rc::Rc;

use crate::import::Text;
use crate::manifest::{Location, Problem};

/// A file that was read.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path from the project's folder.
    pub(super) name: String,
    /// Its text, without a byte order mark.
    pub(super) text: String,
    /// Where its lines begin.
    lines: Vec<usize>,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Rc<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Rc::new(Self { name: name.to_owned(), text: text.to_owned(), lines })
    }
}

/// A piece of a file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) source: Rc<Source>,
    pub(super) bytes: Range<usize>,
}

impl Place {
    /// The place as a person is told it. Only its line is looked at: a large file has many places.
    pub(super) fn location(&self) -> Location {
        let Source { name, text, lines } = &*self.source;
        let line = lines.partition_point(|begin| *begin <= self.bytes.start).saturating_sub(1);
        let begin = lines[line];
        let end = lines.get(line + 1).map_or(text.len(), |next| next - 1);
        let within = self.bytes.start - begin..self.bytes.end - begin;
        let at = Text::new(name, &text[begin..end]).location(within);
        Location { line: u32::try_from(line).map_or(u32::MAX, |line| line + 1), ..at }
    }

    /// What stands there.
    pub(super) fn raw(&self) -> &str {
        self.source.text.get(self.bytes.clone()).unwrap_or_default()
    }

    /// The first occurrence of `part` within; the whole where it is not written like that.
    pub(super) fn part(&self, part: &str) -> Self {
        match self.raw().find(part) {
            Some(found) if !part.is_empty() => {
                let start = self.bytes.start + found;
                Self { source: Rc::clone(&self.source), bytes: start..start + part.len() }
            }
            _ => self.clone(),
        }
    }

    /// A problem here.
    pub(super) fn problem(&self, code: &'static str, what: impl Into<String>) -> Problem {
        Problem::new(code, what).at(self.location())
    }
}
