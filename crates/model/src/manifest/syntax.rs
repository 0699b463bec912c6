//! What is not TOML, in words that help.

use super::problem::Problem;
use super::source::Span;

/// What the parser says, and what we say of it.
struct Words {
    /// How its message begins.
    theirs: &'static str,
    /// What is wrong.
    ours: &'static str,
    /// What to do.
    hint: Option<&'static str>,
    /// Whether what follows in the text can still be judged, or would be blamed for this mistake.
    goes_on: bool,
}

const fn words(theirs: &'static str, ours: &'static str, hint: &'static str) -> Words {
    Words { theirs, ours, hint: Some(hint), goes_on: false }
}

const UNQUOTED: &str = "string values must be quoted";
const DUPLICATE: &str = "duplicate key";
const BAD_KEY: &str = "invalid unquoted key";

const WORDS: &[Words] = &[
    Words { goes_on: true, ..words(UNQUOTED, "a text must stand in quotes", "") },
    Words { goes_on: true, ..words(DUPLICATE, "this is there twice", "keep one of them") },
    Words {
        goes_on: true,
        ..words(
            "unexpected leading zero",
            "a number cannot begin with a zero",
            "a mode is a text: `\"0640\"`",
        )
    },
    Words {
        goes_on: true,
        ..words("invalid boolean", "this is neither `true` nor `false`", "a text must stand in quotes")
    },
    words("unclosed table", "the name of this table is never closed", "add the `]`"),
    words("unclosed array", "this list is never closed", "add the `]`"),
    words("unexpected `=` in array", "a list is still open here", "close it with `]` before the next key"),
    Words {
        hint: None,
        ..words("missing comma between array", "a list needs a `,` or its closing `]` here", "")
    },
    words("unclosed inline table", "this table is never closed", "add the `}`"),
    Words {
        hint: None,
        ..words("missing comma between key", "a table needs a `,` or its closing `}` here", "")
    },
    words("invalid basic string", "this text is never closed", "add the closing `\"`"),
    words("invalid literal string", "this text is never closed", "add the closing `'`"),
    words("invalid multi-line basic string", "this text is never closed", "add the closing `\"\"\"`"),
    words("invalid multi-line literal string", "this text is never closed", "add the closing `'''`"),
    words("key with no value", "this key has no value", "a key and its value are `key = \"value\"`"),
    words(
        BAD_KEY,
        "a key cannot hold this character",
        "keys are letters, digits, `-` and `_`, or stand in quotes",
    ),
    words("cannot recurse further", "this is nested too deep", "nothing in a manifest is nested so deep"),
    words("missing escaped value", ESCAPE, ESCAPE_HINT),
    words("too few unicode value digits", ESCAPE, ESCAPE_HINT),
];

const ESCAPE: &str = "there is no such escape in a text";
const ESCAPE_HINT: &str = "a `\\` as it is, is `\\\\`, or the text stands in single quotes: `'a\\b'`";

/// The problems of a layer that is not TOML: up to the first after which nothing can be judged.
pub(super) fn problems(layer: usize, text: &str, errors: &[toml::de::Error]) -> Vec<(Span, Problem)> {
    let mut errors: Vec<_> =
        errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    errors.sort_by_key(|(span, _)| span.start);
    let mut problems: Vec<(Span, Problem)> = Vec::new();
    for (range, message) in errors {
        let word = text.get(range.clone()).unwrap_or_default();
        let header = line_of(text, range.start).trim_start().starts_with('[');
        let known = WORDS.iter().find(|words| message.starts_with(words.theirs));
        let problem = match known {
            Some(known) => told(known, word, header),
            None => Problem::new("syntax", format!("not TOML: {message}")),
        };
        let goes_on = known.is_some_and(|words| words.goes_on) && !(header && message == DUPLICATE);
        let span = Span { layer, start: range.start, end: range.end };
        if !goes_on {
            // What was said of the same line came of this.
            problems.retain(|(before, _)| {
                text.get(before.start..span.start).is_none_or(|gap| gap.contains('\n'))
            });
        }
        problems.push((span, problem));
        if !goes_on {
            break;
        }
    }
    problems
}

/// A mistake in our words, with the word that it is about.
fn told(known: &Words, word: &str, header: bool) -> Problem {
    let problem = |ours: &str| Problem::new("syntax", format!("not TOML: {ours}"));
    match (known.theirs, word) {
        (UNQUOTED, "") => problem("a value is missing here"),
        (UNQUOTED, word) => problem(known.ours).hint(format!("write `\"{word}\"`")),
        (DUPLICATE, word) if header => problem(&format!("the table `{word}` is there twice"))
            .hint("put all of its keys under one of them"),
        (DUPLICATE, word) => problem(&format!("the key `{word}` is there twice")).hint("keep one of them"),
        (BAD_KEY, ":") => problem("a `:` does not part a key from its value").hint("write `key = \"value\"`"),
        _ => Problem { hint: known.hint.map(str::to_owned), ..problem(known.ours) },
    }
}

/// The line that a byte is on.
fn line_of(text: &str, at: usize) -> &str {
    let at = at.min(text.len());
    let begin =
        text.as_bytes()[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    text.get(begin..).and_then(|rest| rest.lines().next()).unwrap_or_default()
}
