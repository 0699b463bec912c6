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
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Rc<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Rc::new(Self { name: name.to_owned(), text: text.to_owned() })
    }
}

/// A piece of a file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) source: Rc<Source>,
    pub(super) bytes: Range<usize>,
}

impl Place {
    /// The place as a person is told it.
    pub(super) fn location(&self) -> Location {
        Text::new(&self.source.name, &self.source.text).location(self.bytes.clone())
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
