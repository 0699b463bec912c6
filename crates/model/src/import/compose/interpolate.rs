//! Variables within values: `$NAME`, `${NAME}`, `${NAME:-default}` and their kin.

use std::ops::Range;

/// A text with its variables put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interpolated {
    /// The text.
    pub(super) text: String,
    /// Variables that have no value and no default, with where they are.
    pub(super) unset: Vec<(String, Range<usize>)>,
}

/// What cannot be put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Where, in bytes of the text.
    pub(super) range: Range<usize>,
    /// What is wrong.
    pub(super) what: String,
    /// What to do about it.
    pub(super) hint: String,
}

/// How deeply defaults may hold variables with defaults.
const DEEPEST: usize = 50;

/// Puts the variables into a text.
pub(super) fn interpolate(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Interpolated, Malformed> {
    let mut done = Interpolated { text: String::with_capacity(text.len()), unset: Vec::new() };
    Scan { whole: text, lookup }.run(0..text.len(), 0, &mut done)?;
    Ok(done)
}

struct Scan<'a> {
    whole: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl Scan<'_> {
    fn run(&self, range: Range<usize>, depth: usize, done: &mut Interpolated) -> Result<(), Malformed> {
        let end = range.end;
        let mut at = range.start;
        while let Some(found) = self.whole[at..end].find('$') {
            let dollar = at + found;
            done.text.push_str(&self.whole[at..dollar]);
            let rest = &self.whole[dollar + 1..end];
            at = dollar + 1;
            if rest.starts_with('$') {
                done.text.push('$');
                at += 1;
            } else if rest.starts_with('{') {
                let close = self.closing(dollar, end)?;
                self.braced(dollar..close, depth, done)?;
                at = close;
            } else {
                let length = name_length(rest);
                if length == 0 {
                    let shown = 1 + rest.chars().next().map_or(0, char::len_utf8);
                    return Err(bad(
                        dollar..dollar + shown,
                        "this `$` is followed by no name",
                        "a `$` that is meant as it is, is `$$`",
                    ));
                }
                at += length;
                let name = &rest[..length];
                match (self.lookup)(name) {
                    Some(value) => done.text.push_str(&value),
                    None => done.unset.push((name.to_owned(), dollar..at)),
                }
            }
        }
        done.text.push_str(&self.whole[at..end]);
        Ok(())
    }

    /// Where the brace that is opened at `dollar` ends.
    fn closing(&self, dollar: usize, end: usize) -> Result<usize, Malformed> {
        let bytes = self.whole.as_bytes();
        let mut open = 0;
        let mut at = dollar;
        while at < end {
            match (bytes[at], bytes.get(at + 1).filter(|_| at + 1 < end)) {
                (b'$', Some(b'{')) => {
                    open += 1;
                    at += 2;
                }
                (b'$', Some(b'$')) => at += 2,
                (b'}', _) => {
                    at += 1;
                    open -= 1;
                    if open == 0 {
                        return Ok(at);
                    }
                }
                _ => at += 1,
            }
        }
        Err(bad(dollar..end, "this `${` is never closed", "a `$` that is meant as it is, is `$$`"))
    }

    /// `${NAME…}` as a whole.
    fn braced(&self, range: Range<usize>, depth: usize, done: &mut Interpolated) -> Result<(), Malformed> {
        let inner = &self.whole[range.start + 2..range.end - 1];
        let length = name_length(inner);
        let (name, operator) = inner.split_at(length);
        if depth > DEEPEST {
            return Err(bad(range, "variables are nested too deeply here", "give the default directly"));
        }
        if length == 0 {
            let what = format!("`{}` names no variable", &self.whole[range.clone()]);
            return Err(bad(
                range,
                what,
                "such as `${NAME}` or `${NAME:-default}`; a `$` that is meant is `$$`",
            ));
        }
        let value = (self.lookup)(name);
        if operator.is_empty() {
            match value {
                Some(value) => done.text.push_str(&value),
                None => done.unset.push((name.to_owned(), range)),
            }
            return Ok(());
        }
        let (colon, operator) = operator.strip_prefix(':').map_or((false, operator), |rest| (true, rest));
        // `:` says that an empty value is as good as none.
        let value = value.filter(|value| !colon || !value.is_empty());
        let argument = range.end - 1 - operator.len() + 1..range.end - 1;
        match (operator.as_bytes().first(), value) {
            (Some(b'-' | b'?'), Some(value)) => done.text.push_str(&value),
            (Some(b'-'), None) | (Some(b'+'), Some(_)) => self.run(argument, depth + 1, done)?,
            (Some(b'+'), None) => {}
            (Some(b'?'), None) => {
                let message = self.whole[argument].trim();
                let what = match message {
                    "" => format!("the variable `{name}` is needed and has no value"),
                    _ => format!("the variable `{name}` is needed and has no value: {message}"),
                };
                return Err(bad(range, what, format!("set `{name}` in the environment or in `.env`")));
            }
            _ => {
                let what = format!("`{}` is no way to put in a variable", &self.whole[range.clone()]);
                return Err(bad(
                    range,
                    what,
                    "after the name comes `}`, or one of `:-` `-` `:?` `?` `:+` `+` with a text",
                ));
            }
        }
        Ok(())
    }
}

/// How long the name is that a text begins with.
fn name_length(text: &str) -> usize {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

fn bad(range: Range<usize>, what: impl Into<String>, hint: impl Into<String>) -> Malformed {
    Malformed { range, what: what.into(), hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn every_form_is_put_in() {
        for (text, expected) in [
            ("x", "x"),
            ("$A-$A", "a-a"),
            ("${A}b", "ab"),
            ("$$A $${A}", "$A ${A}"),
            ("${NO:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NO-d}", "d"),
            ("${A:-d}", "a"),
            ("${A:?e}", "a"),
            ("${EMPTY?e}", ""),
            ("${A:+yes}", "yes"),
            ("${EMPTY:+yes}", ""),
            ("${EMPTY+yes}", "yes"),
            ("${NO+yes}", ""),
            ("${NO:-${ALSO:-$A}}!", "a!"),
            ("${NO:-a:b/$$c}", "a:b/$c"),
            ("${NO:-}", ""),
            ("é${A}é", "éaé"),
        ] {
            assert_eq!(
                interpolate(text, &lookup).map(|done| done.text).ok().as_deref(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_has_no_value_is_empty_and_told() {
        let done = interpolate("a${NO}b$NO", &lookup).expect("well formed");
        assert_eq!(done.text, "ab");
        assert_eq!(done.unset, [("NO".to_owned(), 1..6), ("NO".to_owned(), 7..10)]);
        assert!(interpolate("${A:+x}${NO:-}", &lookup).expect("well formed").unset.is_empty());
    }

    #[test]
    fn a_bad_form_says_where() {
        for (text, range) in [
            ("a $", 2..3),
            ("$1", 0..2),
            ("x $(date)", 2..4),
            ("${A", 0..3),
            ("${}", 0..3),
            ("${A!}", 0..5),
            ("${1A}", 0..5),
            ("${NO:?please}", 0..13),
            ("${NO:-${X}", 0..10),
            ("${NO:-x$é}", 7..10),
        ] {
            assert_eq!(interpolate(text, &lookup).expect_err(text).range, range, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_without_a_dollar_stays_as_it_is(text in "[^$]{0,40}") {
            let done = interpolate(&text, &lookup).expect("nothing to put in");
            prop_assert_eq!(done.text, text);
        }

        #[test]
        fn nothing_panics_and_places_are_within_the_text(text in "([$é{}A:?+-]|\\$\\{|NO){0,24}") {
            match interpolate(&text, &lookup) {
                Ok(done) => prop_assert!(done.unset.iter().all(|(_, range)| text.get(range.clone()).is_some())),
                Err(malformed) => prop_assert!(text.get(malformed.range).is_some()),
            }
        }

        #[test]
        fn a_text_with_its_dollars_doubled_is_the_text(text in "[a-z${}:-]{0,30}") {
            let doubled = text.replace('$', "$$");
            prop_assert_eq!(interpolate(&doubled, &lookup).map(|done| done.text), Ok(text));
        }
    }
}
