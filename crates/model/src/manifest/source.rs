//! The texts of a manifest's layers, and how a span in one of them becomes a place that a person can find.

use super::Layer;
use super::problem::Location;

/// A piece of one layer's text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// Which layer, counted from 0.
    pub(crate) layer: usize,
    /// Where it begins.
    pub(crate) start: usize,
    /// Where it ends.
    pub(crate) end: usize,
}

impl Span {
    /// A place in a layer where nothing is.
    pub(crate) const fn point(layer: usize, at: usize) -> Self {
        Self { layer, start: at, end: at }
    }
}

/// The texts of all layers, with the beginnings of their lines.
pub(crate) struct Sources<'a> {
    sources: Vec<(Layer<'a>, Vec<usize>)>,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(layers: &[Layer<'a>]) -> Self {
        let lines = |text: &str| {
            let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
        };
        Self { sources: layers.iter().map(|layer| (*layer, lines(layer.text))).collect() }
    }

    /// The text of a layer from `start` to `end`, if these are boundaries of characters in it.
    pub(super) fn slice(&self, span: Span) -> Option<&'a str> {
        self.sources.get(span.layer)?.0.text.get(span.start..span.end)
    }

    /// The place of a span, with its line. A span of several lines ends with the first of them.
    pub(super) fn location(&self, span: Span) -> Location {
        let Some((layer, lines)) = self.sources.get(span.layer) else {
            return Location {
                file: String::new(),
                line: 1,
                column: 1,
                source_line: String::new(),
                length: 0,
            };
        };
        let text = layer.text;
        let start = boundary(text, span.start);
        let line = lines.partition_point(|&begin| begin <= start).saturating_sub(1);
        let begin = lines[line];
        let end = lines.get(line + 1).map_or(text.len(), |next| next - 1);
        let source_line = text[begin..end].strip_suffix('\r').unwrap_or(&text[begin..end]);
        let stop = boundary(text, span.end).clamp(start, (begin + source_line.len()).max(start));
        Location {
            file: layer.name.to_owned(),
            line: count(line) + 1,
            column: count(text[begin..start].chars().count()) + 1,
            source_line: source_line.to_owned(),
            length: count(text[start..stop].chars().count()),
        }
    }

    /// The place of a span that is meant to be seen: at least one character of it.
    pub(crate) fn visible(&self, span: Span) -> Location {
        let location = self.location(span);
        Location { length: location.length.max(1), ..location }
    }

    /// The span of a part of a text value, where the text stands in the source as it is: between quotes, with no
    /// escapes. Else the whole value.
    pub(super) fn within(&self, span: Span, value: &str, part: std::ops::Range<usize>) -> Span {
        let quoted = self.slice(span).and_then(|raw| {
            let inner = raw.strip_prefix(['"', '\''])?;
            (inner.strip_suffix(['"', '\''])? == value).then_some(())
        });
        match quoted {
            Some(()) => {
                let at = |offset: usize| span.start + 1 + offset.min(value.len());
                Span { layer: span.layer, start: at(part.start), end: at(part.end) }
            }
            None => span,
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The nearest boundary of characters at or before a byte.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted_in_characters_and_lines_from_one() {
        let sources = Sources::new(&[Layer { name: "a", text: "x = 1\r\nß = \"é\"\n" }]);
        let location = sources.location(Span { layer: 0, start: 12, end: 16 });
        assert_eq!((location.line, location.column, location.length), (2, 5, 3));
        assert_eq!(location.source_line, "ß = \"é\"");
    }

    #[test]
    fn the_end_of_a_text_is_a_place_too() {
        let sources = Sources::new(&[Layer { name: "a", text: "" }, Layer { name: "b", text: "x\n" }]);
        let place = |span| {
            let location = sources.location(span);
            (location.line, location.column, location.length)
        };
        assert_eq!(place(Span::point(0, 0)), (1, 1, 0));
        assert_eq!(place(Span { layer: 1, start: 2, end: 9 }), (2, 1, 0));
    }

    #[test]
    fn a_part_of_a_quoted_value_is_found_unless_it_has_escapes() {
        let sources = Sources::new(&[Layer { name: "a", text: r#"a = "x${y", b = "\tz""# }]);
        let whole = Span { layer: 0, start: 4, end: 10 };
        assert_eq!(sources.within(whole, "x${y", 1..3), Span { layer: 0, start: 6, end: 8 });
        let escaped = Span { layer: 0, start: 16, end: 21 };
        assert_eq!(sources.within(escaped, "\tz", 1..2), escaped);
    }
}
