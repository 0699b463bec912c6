//! Files of variables: `.env` and what `env_file` names.

use std::collections::BTreeMap;
use std::ops::Range;

use super::interpolate::{Malformed, interpolate};

/// The variables of a file, with which of those they refer to had no value, and where.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Variables {
    pub(super) values: BTreeMap<String, String>,
    pub(super) unset: Vec<(String, Range<usize>)>,
}

/// Reads a file. What `outer` gives goes over what the file itself says, where the file refers to a variable; a bare
/// name takes its value from `outer`.
pub(super) fn parse(text: &str, outer: &dyn Fn(&str) -> Option<String>) -> Result<Variables, Malformed> {
    let mut variables = Variables::default();
    let mut at = 0;
    while at < text.len() {
        let line_end = text[at..].find('\n').map_or(text.len(), |length| at + length);
        let line = &text[at..line_end];
        let indent = line.len() - line.trim_start().len();
        let mut start = at + indent;
        let mut rest = line.trim();
        if rest.is_empty() || rest.starts_with('#') {
            at = line_end + 1;
            continue;
        }
        if let Some(name) = rest.strip_prefix("export").filter(|name| name.starts_with([' ', '\t'])) {
            start += rest.len() - name.trim_start().len();
            rest = name.trim_start();
        }
        let length = rest.find(|c: char| !c.is_alphanumeric() && !"_.-[]".contains(c)).unwrap_or(rest.len());
        let name = &rest[..length];
        let after = rest[length..].trim_start();
        if name.is_empty() || !(after.is_empty() || after.starts_with(['=', ':', '#'])) {
            return Err(bad(start..start + rest.len(), "this line is not `NAME=value`"));
        }
        if after.is_empty() || after.starts_with('#') {
            if let Some(value) = outer(name) {
                variables.values.insert(name.to_owned(), value);
            }
            at = line_end + 1;
            continue;
        }
        let value_at = start + rest.len() - after.len() + 1;
        let (value, end) = value(text, value_at, line_end, outer, &mut variables)?;
        variables.values.insert(name.to_owned(), value);
        at = end;
    }
    Ok(variables)
}

/// Reads a file in which every line is `NAME=value` to the letter.
pub(super) fn parse_raw(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().into(), value.into()))
        .collect()
}

/// The value that begins at `from`, and where the next line begins.
fn value(
    text: &str,
    from: usize,
    line_end: usize,
    outer: &dyn Fn(&str) -> Option<String>,
    variables: &mut Variables,
) -> Result<(String, usize), Malformed> {
    let line = &text[from..line_end];
    let start = from + line.len() - line.trim_start().len();
    let quote = text[start..line_end].chars().next().filter(|c| matches!(c, '"' | '\''));
    let Some(quote) = quote else {
        let line = &text[start..line_end];
        let comment = line
            .char_indices()
            .find(|(at, c)| *c == '#' && line[..*at].chars().next_back().is_none_or(char::is_whitespace));
        let written = line[..comment.map_or(line.len(), |(at, _)| at)].trim_end();
        return Ok((put_in(written, start, outer, variables)?, line_end + 1));
    };
    let Some(length) = closing(&text[start + 1..], quote) else {
        return Err(bad(start..line_end, format!("this `{quote}` is never closed")));
    };
    let close = start + 1 + length;
    let end = text[close..].find('\n').map_or(text.len(), |length| close + length);
    let after = text[close + 1..end].trim();
    if !(after.is_empty() || after.starts_with('#')) {
        return Err(bad(close + 1..end, "there is more after the value"));
    }
    let written = &text[start + 1..close];
    let value = match quote {
        '\'' => written.to_owned(),
        _ => put_in(&unescape(written), start, outer, variables)?,
    };
    Ok((value, end + 1))
}

/// Where the quote ends that a text is in; a backslash takes the next character out of it.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped && quote == '"';
        closes.then_some(at)
    })
}

/// The text within double quotes; a dollar that is escaped stays one.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match characters.next() {
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('t') => plain.push('\t'),
            Some('$') => plain.push_str("$$"),
            Some(c @ ('"' | '\\' | '\'')) => plain.push(c),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}

/// The variables put into a value; those of the file come after those from outside.
fn put_in(
    written: &str,
    start: usize,
    outer: &dyn Fn(&str) -> Option<String>,
    variables: &mut Variables,
) -> Result<String, Malformed> {
    let whole = start..start + written.len();
    let done = interpolate(written, &|name| outer(name).or_else(|| variables.values.get(name).cloned()))
        .map_err(|malformed| Malformed { range: whole.clone(), ..malformed })?;
    variables.unset.extend(done.unset.into_iter().map(|(name, _)| (name, whole.clone())));
    Ok(done.text)
}

fn bad(range: Range<usize>, what: impl Into<String>) -> Malformed {
    Malformed { range, what: what.into(), hint: "such as `NAME=value` or `NAME=\"some value\"`".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outer(name: &str) -> Option<String> {
        (name == "OUTER").then(|| "o".to_owned())
    }

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text, &outer).expect(text).values.into_iter().collect()
    }

    #[test]
    fn lines_are_read_as_compose_reads_them() {
        for (text, value) in [
            ("A=b", "b"),
            ("A = b ", "b"),
            ("export A=b", "b"),
            ("  A: b", "b"),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A=", ""),
            ("A= # c", ""),
            ("A='$B \\n' # c", "$B \\n"),
            ("A=\"x\\ty\\\"z\"", "x\ty\"z"),
            ("A=\"one\ntwo\"\nB=c", "one\ntwo"),
            ("A=${OUTER}${X:-d}", "od"),
            ("A=\"\\$OUTER\"", "$OUTER"),
            ("A=$$x", "$x"),
            ("A=it's", "it's"),
            ("\r\nA=b\r\n", "b"),
            ("# A=x\nA=y", "y"),
            ("A=1\nA=2", "2"),
        ] {
            assert_eq!(read(text).first().map(|(_, value)| value.as_str()), Some(value), "{text}");
        }
    }

    #[test]
    fn a_file_refers_to_itself_and_to_what_is_outside() {
        let all = read("A=1\nOUTER=mine\nB=$A$OUTER\nOUTER\nNOT\n");
        let all: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(all, [("A", "1"), ("B", "1o"), ("OUTER", "o")]);
        assert_eq!(parse("A=$GONE", &outer).expect("read").unset, [("GONE".to_owned(), 2..7)]);
    }

    #[test]
    fn what_is_no_line_says_where() {
        for (text, range) in
            [("A=1\nwhat is this", 4..16), ("=x", 0..2), ("A=\"x", 2..4), ("A=\"x\" y", 5..7), ("A=${", 2..4)]
        {
            assert_eq!(parse(text, &outer).expect_err(text).range, range, "{text}");
        }
    }

    #[test]
    fn a_raw_file_is_taken_to_the_letter() {
        let raw = parse_raw("# c\nA=\"$B\" # x\nno\nB= y\n");
        assert_eq!(
            raw.into_iter().collect::<Vec<_>>(),
            [("A".to_owned(), "\"$B\" # x".to_owned()), ("B".to_owned(), " y".to_owned())]
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "([A=\"'$#{}\n \\\\é]|export |\r\n){0,30}") {
            if let Err(malformed) = parse(&text, &outer) {
                prop_assert!(text.get(malformed.range).is_some());
            }
        }
    }
}
