//! The text of an imported file, and how a piece of it becomes a place that a person can find.

use std::ops::Range;

use crate::manifest::source::{Sources, Span};
use crate::manifest::{Layer, Location};

/// The text of a file, with its name.
pub struct Text<'a> {
    name: &'a str,
    text: &'a str,
    sources: Sources<'a>,
}

impl<'a> Text<'a> {
    /// A text by the name that problems show: the file's path from the project's folder.
    #[must_use]
    pub fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text, sources: Sources::new(&[Layer { name, text }]) }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The text itself.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The place of these bytes, at least one character wide. A range of several lines ends with the first.
    #[must_use]
    pub fn location(&self, bytes: Range<usize>) -> Location {
        self.sources.visible(Span { layer: 0, start: bytes.start, end: bytes.end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_by_the_files_name_line_and_column() {
        let text = Text::new(".devcontainer.json", "{\n  \"image\": 1\n}");
        let at = text.location(13..14);
        assert_eq!((at.to_string().as_str(), at.length), (".devcontainer.json:2:12", 1));
        assert_eq!(at.source_line, "  \"image\": 1");
    }
}
