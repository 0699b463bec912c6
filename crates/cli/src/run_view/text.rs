//! Text of others on one line: without what would move the cursor, and no wider than there is room.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::output::RESET;

/// What a terminal would be told by a text, apart from colours, is left out; a colour ends with the line.
///
/// Steps print what they like, and what they print may be somebody else's: a title, a cursor position or a link are
/// not for the terminal of whoever runs the step. Only the orders are dropped, never the words around them.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '\x1b' {
            let order = order(rest);
            if is_colour(order) {
                clean.push_str(order);
                coloured = true;
            }
            rest = &rest[order.len()..];
            continue;
        }
        match c {
            '\t' => clean.push_str("    "),
            c if c.is_control() || moves_text(c) => {}
            c => clean.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    if coloured {
        clean.push_str(RESET);
    }
    clean
}

/// A text without colours too, and of what overwrote itself by carriage returns only what was seen last.
pub(crate) fn bare(text: &str) -> String {
    let seen = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
    anstream::adapter::strip_str(&clean(seen)).to_string()
}

/// A line that a step said, as lines to show: what overwrote itself by carriage returns stands on lines of its own.
pub(crate) fn shown(line: &str) -> impl Iterator<Item = String> {
    line.strip_suffix('\r').unwrap_or(line).split('\r').map(clean)
}

/// What a step said with its name before it; nothing stands after the mark if it said an empty line.
pub(crate) fn prefixed(step: &str, line: &str) -> String {
    if line.is_empty() { format!("{step} |") } else { format!("{step} | {line}") }
}

/// The escape sequence that a text begins with; of one that does not end, only its first character.
fn order(text: &str) -> &str {
    let bytes = text.as_bytes();
    let end = match bytes.get(1) {
        Some(b'[') => {
            bytes.iter().skip(2).position(|byte| !(0x20..0x40).contains(byte)).map(|at| (at + 2, 1))
        }
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let bell = text.find('\x07').map(|at| (at, 1));
            let ended = text.find("\x1b\\").map(|at| (at, 2));
            bell.into_iter().chain(ended).min()
        }
        Some(_) => bytes.iter().skip(1).position(|byte| !(0x20..0x30).contains(byte)).map(|at| (at + 1, 1)),
        None => None,
    };
    let end = end.map_or(1, |(at, len)| at + len);
    // A final byte that is part of a wider character is none.
    text.get(..end).unwrap_or(&text[..1])
}

fn is_colour(order: &str) -> bool {
    let inner = order.strip_prefix("\x1b[").and_then(|order| order.strip_suffix('m'));
    inner.is_some_and(|inner| inner.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':')))
}

/// Marks that turn the direction of what follows, and separators of lines and paragraphs.
fn moves_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many columns a text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// A text in at most so many columns; `...` stands for what was cut.
pub(crate) fn cut(text: &str, at_most: usize) -> String {
    if columns(text) <= at_most {
        return text.to_owned();
    }
    let dots = ".".repeat(at_most.min(3));
    let room = at_most - dots.len();
    let mut used = 0;
    let kept = text.chars().take_while(|c| {
        used += c.width().unwrap_or(0);
        used <= room
    });
    kept.collect::<String>() + &dots
}

/// A text in exactly so many columns.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let spaces = " ".repeat(width.saturating_sub(columns(&text)));
    text + &spaces
}

/// Words with commas between them, on lines of at most this width; the first begins with `lead`, the others below
/// what follows it.
pub(crate) fn list(lead: &str, words: &[String], width: usize) -> Vec<String> {
    let indent = columns(lead);
    let room = width.saturating_sub(indent).max(12);
    let mut lines: Vec<String> = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let word = cut(&format!("{word}{}", if place + 1 == words.len() { "" } else { "," }), room);
        match lines.last_mut() {
            Some(line) if columns(line) - indent + 1 + columns(&word) <= room => {
                line.push(' ');
                line.push_str(&word);
            }
            Some(_) => lines.push(" ".repeat(indent) + &word),
            None => lines.push(lead.to_owned() + &word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_reach_the_terminal() {
        for (text, expected) in [
            ("plain äöü 漢字 🦀", "plain äöü 漢字 🦀"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"),
            ("\x1b[38:2::1:2:3mrgb", "\x1b[38:2::1:2:3mrgb\x1b[0m"),
            ("a\x1b[2J\x1b[Hb\x1b[1Ac", "abc"),
            ("a\x1b[?25lb\x1b[>4;1mc", "abc"),
            ("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", "abc"),
            ("a\x1bPq#0\x1b\\b\x1b_x\x1b\\c", "abc"),
            ("a\x1b(Bb\x1bcc", "abc"),
            ("never ends \x1b]0;title", "never ends ]0;title"),
            ("cut off \x1b[31", "cut off [31"),
            ("cut off \x1b", "cut off "),
            ("wide \x1b漢 \x1b[漢", "wide 漢 [漢"),
            ("a\x07b\x08c\x7fd\u{9b}31me\u{85}", "abcd31me"),
            ("a\tb\rc\nd", "a    bcd"),
            ("abc\u{202e}def\u{2028}", "abcdef"),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn of_what_overwrote_itself_the_last_is_seen() {
        assert_eq!(bare("10%\r50%\r\x1b[32m100%\x1b[0m"), "100%");
        assert_eq!(bare("100%\r"), "100%");
        assert_eq!(bare("\r\r"), "");
    }

    #[test]
    fn a_text_is_cut_by_columns() {
        for (text, at_most, expected) in [
            ("short", 5, "short"),
            ("longer", 5, "lo..."),
            ("漢字漢字", 8, "漢字漢字"),
            ("漢字漢字", 7, "漢字..."),
            ("漢字漢字", 6, "漢..."),
            ("abc", 2, ".."),
            ("abc", 0, ""),
        ] {
            assert_eq!(cut(text, at_most), expected, "{text} {at_most}");
        }
        assert_eq!(fit("漢字漢字", 6), "漢... ");
        assert_eq!(fit("a", 3), "a  ");
    }

    #[test]
    fn lists_are_wrapped_below_their_lead() {
        let words = ["one 1.0s", "two 2.0s", "three 3.0s"].map(str::to_owned);
        assert_eq!(list("ran ", &words, 80), ["ran one 1.0s, two 2.0s, three 3.0s"]);
        assert_eq!(list("ran ", &words, 24), ["ran one 1.0s, two 2.0s,", "    three 3.0s"]);
        assert_eq!(list("ran ", &words, 2), ["ran one 1.0s,", "    two 2.0s,", "    three 3.0s"]);
        assert!(list("ran ", &[], 80).is_empty());
    }
}
