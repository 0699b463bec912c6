//! Reads values out of JSON with comments, and keeps what is wrong with them and what is worth knowing.

use std::ops::Range;

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::ParseErrorKind;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::import::Text;
use crate::manifest::{Location, Note, Problem, nearest};

/// A value, with the place where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: Location,
}

/// A member of an object: its key, where that stands, and its value.
pub(super) struct Member<'v, 'a> {
    pub(super) key: &'v str,
    pub(super) at: Range<usize>,
    pub(super) value: &'v Value<'a>,
}

/// What reads a text: the values come out as they are asked for, the rest is gathered.
pub(super) struct Reader<'t> {
    text: &'t Text<'t>,
    /// The text without the mark that some editors put first.
    json: &'t str,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Note>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t Text<'t>) -> Self {
        let json = text.text().strip_prefix('\u{feff}').unwrap_or(text.text());
        Self { text, json, problems: Vec::new(), notes: Vec::new() }
    }

    /// The JSON of a text, which may hold comments and commas before a closing bracket.
    pub(super) fn json(&mut self) -> Option<Value<'t>> {
        let options = ParseOptions {
            allow_comments: true,
            allow_trailing_commas: true,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        match parse_to_ast(self.json, &CollectOptions::default(), &options) {
            Ok(parsed) if parsed.value.is_some() => parsed.value,
            Ok(_) => {
                let name = self.text.name();
                self.problems
                    .push(Problem::new("empty-file", format!("`{name}` is empty")).at(self.at(0..0)));
                None
            }
            Err(error) => {
                let range = error.range();
                let (why, hint) = syntax(error.kind());
                let mut problem = Problem::new("json-syntax", "this is not JSON")
                    .at(self.at(range.start..range.end.max(range.start)))
                    .why(why);
                problem.hint = hint.map(str::to_owned);
                self.problems.push(problem);
                None
            }
        }
    }

    /// What was read if nothing is wrong, with the notes.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Note>), Vec<Problem>> {
        match value {
            Some(value) if self.problems.is_empty() => Ok((value, self.notes)),
            _ => Err(self.problems),
        }
    }

    /// The place of these bytes of the JSON.
    pub(super) fn at(&self, bytes: Range<usize>) -> Location {
        let mark = self.text.text().len() - self.json.len();
        self.text.location(bytes.start + mark..bytes.end + mark)
    }

    /// The place of this value.
    pub(super) fn place(&self, value: &Value<'_>) -> Location {
        self.at(bytes(value))
    }

    /// Adds a problem with this value.
    pub(super) fn problem(&mut self, value: &Value<'_>, problem: Problem) {
        let at = self.place(value);
        self.problems.push(problem.at(at));
    }

    /// Adds a note.
    pub(super) fn note(&mut self, at: Location, text: impl Into<String>) {
        self.notes.push(Note { at, text: text.into() });
    }

    /// A value is of the wrong type.
    pub(super) fn wrong_type(&mut self, path: &str, value: &Value<'_>, expected: &str) {
        let what = format!("`{path}` is {}, and not {expected}", kind(value));
        let mut problem = Problem::new("wrong-type", what);
        problem.hint = instead(value, expected);
        self.problem(value, problem);
    }

    /// The whole of a file is no object.
    pub(super) fn not_an_object(&mut self, value: &Value<'_>) {
        let what = format!("`{}` is {}, and not an object", self.text.name(), kind(value));
        self.problem(value, Problem::new("wrong-type", what).hint("it begins with `{` and ends with `}`"));
    }

    /// Notes a key that nothing is known of; `known` are the keys that may stand there.
    fn unknown(&mut self, path: &str, member: &Member<'_, '_>, known: &[&str]) {
        let meant = nearest(member.key, known.iter().copied())
            .map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        let at = self.at(member.at.clone());
        let path = below(path, member.key);
        self.note(at, format!("`{path}` is not known, and nothing is done with it{meant}"));
    }

    /// The members of an object, each key once, and without those that are null, which is as good as absent.
    pub(super) fn members<'v, 'a>(&mut self, path: &str, value: &'v Value<'a>) -> Vec<Member<'v, 'a>> {
        let Value::Object(object) = value else {
            self.wrong_type(path, value, "an object");
            return Vec::new();
        };
        let members = self.all_members(path, object);
        let (null, given): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| matches!(member.value, Value::NullKeyword(_)));
        for member in null {
            let at = self.at(member.at);
            self.note(at, format!("`{}` is null, which is as if it were not there", below(path, member.key)));
        }
        given
    }

    /// The members of an object, each key once, also those that are null. A key that is given twice with the same
    /// value is only noted: there is no doubt about what is meant.
    pub(super) fn all_members<'v, 'a>(&mut self, path: &str, object: &'v Object<'a>) -> Vec<Member<'v, 'a>> {
        let mut members: Vec<Member<'v, 'a>> = Vec::new();
        for property in &object.properties {
            let key = property.name.as_str();
            let range = match &property.name {
                jsonc_parser::ast::ObjectPropName::String(name) => name.range,
                jsonc_parser::ast::ObjectPropName::Word(name) => name.range,
            };
            let at = range.start..range.end;
            if let Some(first) = members.iter().find(|member| member.key == key) {
                let line = self.at(first.at.clone()).line;
                if opaque(first.value) == opaque(&property.value) {
                    let path = below(path, key);
                    let at = self.at(at);
                    self.note(at, format!("`{path}` already stands on line {line}, and says the same"));
                    continue;
                }
                let problem = Problem::new("duplicate-key", format!("`{}` is given twice", below(path, key)))
                    .at(self.at(at))
                    .why(format!(
                        "it already stands on line {line} with another value, and only one can be meant"
                    ))
                    .hint("remove one of them");
                self.problems.push(problem);
            } else {
                members.push(Member { key, at, value: &property.value });
            }
        }
        members
    }

    /// The members of an object whose keys are known; others are noted.
    pub(super) fn known_members<'v, 'a>(
        &mut self,
        path: &str,
        known: &[&str],
        value: &'v Value<'a>,
    ) -> Vec<Member<'v, 'a>> {
        let members = self.members(path, value);
        let (known_ones, others): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| known.contains(&member.key));
        for member in others {
            self.unknown(path, &member, known);
        }
        known_ones
    }

    /// A text.
    pub(super) fn string(&mut self, path: &str, value: &Value<'_>) -> Option<Placed<String>> {
        match value {
            Value::StringLit(text) => Some(Placed { value: text.value.to_string(), at: self.place(value) }),
            _ => {
                self.wrong_type(path, value, "a text");
                None
            }
        }
    }

    /// A text that says something.
    pub(super) fn filled(&mut self, path: &str, value: &Value<'_>) -> Option<Placed<String>> {
        let text = self.string(path, value)?;
        if text.value.trim().is_empty() {
            self.problem(
                value,
                Problem::new("empty-text", format!("`{path}` is empty"))
                    .hint("give it a value, or remove the key"),
            );
            return None;
        }
        Some(text)
    }

    /// A yes or a no.
    pub(super) fn boolean(&mut self, path: &str, value: &Value<'_>) -> Option<bool> {
        match value {
            Value::BooleanLit(boolean) => Some(boolean.value),
            _ => {
                self.wrong_type(path, value, "true or false");
                None
            }
        }
    }

    /// A list, each item read by `read`.
    pub(super) fn list<'a, T>(
        &mut self,
        path: &str,
        value: &Value<'a>,
        mut read: impl FnMut(&mut Self, &str, &Value<'a>) -> Option<T>,
    ) -> Vec<T> {
        let Value::Array(array) = value else {
            self.wrong_type(path, value, "a list");
            return Vec::new();
        };
        let items = array.elements.iter().enumerate();
        items.filter_map(|(index, item)| read(self, &format!("{path}[{index}]"), item)).collect()
    }

    /// A list of texts.
    pub(super) fn strings(&mut self, path: &str, value: &Value<'_>) -> Vec<Placed<String>> {
        self.list(path, value, Self::string)
    }

    /// A text, or a list of them.
    pub(super) fn one_or_more(&mut self, path: &str, value: &Value<'_>) -> Vec<Placed<String>> {
        match value {
            Value::Array(_) => self.list(path, value, Self::filled),
            Value::StringLit(_) => self.filled(path, value).into_iter().collect(),
            _ => {
                self.wrong_type(path, value, "a text or a list of texts");
                Vec::new()
            }
        }
    }

    /// One of these words.
    pub(super) fn word<T: Copy>(&mut self, path: &str, value: &Value<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(path, value)?;
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*meant);
        }
        let all = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let hint = match nearest(&text.value, words.iter().map(|(word, _)| *word)) {
            Some(meant) => format!("did you mean `{meant}`? it can be {all}"),
            None => format!("it can be {all}"),
        };
        let what = format!("`{path}` cannot be `{}`", text.value);
        self.problem(value, Problem::new("unknown-word", what).hint(hint));
        None
    }
}

/// The bytes of a value.
pub(super) fn bytes(value: &Value<'_>) -> Range<usize> {
    let range = value.range();
    range.start..range.end
}

/// The path of a key below another.
pub(super) fn below(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-$".contains(c));
    match (path.is_empty(), plain) {
        (true, _) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (false, false) => format!("{path}[\"{key}\"]"),
    }
}

/// What to write instead of a value of the wrong type, where that is plain.
fn instead(value: &Value<'_>, expected: &str) -> Option<String> {
    match value {
        Value::StringLit(text) => match (text.value.as_ref(), expected) {
            (word @ ("true" | "false"), "true or false") => Some(format!("write `{word}`, without quotes")),
            (number, "a number") if number.parse::<f64>().is_ok() => {
                Some(format!("write `{number}`, without quotes"))
            }
            (_, "a list") => Some(format!("write it as `[{}]`", opaque(value))),
            _ => None,
        },
        Value::NumberLit(_) | Value::BooleanLit(_) => match expected {
            "a list" => Some(format!("write it as `[{}]`", opaque(value))),
            "a text" if matches!(value, Value::NumberLit(_)) => {
                Some(format!("write it as `\"{}\"`", opaque(value)))
            }
            _ => None,
        },
        Value::Array(list) => match (list.elements.as_slice(), expected) {
            ([text @ Value::StringLit(_)], "a text") => {
                Some(format!("write `{}`, without the list", opaque(text)))
            }
            _ => None,
        },
        Value::Object(_) | Value::NullKeyword(_) => None,
    }
}

/// What kind of value this is, as a person says it.
fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::BooleanLit(boolean) if boolean.value => "`true`",
        Value::BooleanLit(_) => "`false`",
        Value::StringLit(_) => "a text",
        Value::NumberLit(_) => "a number",
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::NullKeyword(_) => "null",
    }
}

/// A value as it is, for whoever it is meant for. A number that JSON does not have becomes a text.
pub(super) fn opaque(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::StringLit(text) => serde_json::Value::String(text.value.to_string()),
        Value::NumberLit(number) => number
            .value
            .parse()
            .map_or_else(|_| serde_json::Value::String(number.value.to_owned()), serde_json::Value::Number),
        Value::BooleanLit(boolean) => serde_json::Value::Bool(boolean.value),
        Value::NullKeyword(_) => serde_json::Value::Null,
        Value::Array(array) => serde_json::Value::Array(array.elements.iter().map(opaque).collect()),
        Value::Object(object) => serde_json::Value::Object(
            object
                .properties
                .iter()
                .map(|property| (property.name.as_str().to_owned(), opaque(&property.value)))
                .collect(),
        ),
    }
}

/// Why a text is no JSON, and what to do about it.
fn syntax(kind: &ParseErrorKind) -> (String, Option<&'static str>) {
    use ParseErrorKind as E;
    match kind {
        E::ExpectedComma => ("a comma is missing here".into(), None),
        E::UnterminatedObject => ("this object is not closed".into(), Some("add the missing `}`")),
        E::UnterminatedArray => ("this list is not closed".into(), Some("add the missing `]`")),
        E::UnterminatedCommentBlock => ("this comment is not closed".into(), Some("add the missing `*/`")),
        E::ExpectedColonAfterObjectKey => ("there is no `:` after this key".into(), None),
        E::ExpectedObjectValue => ("there is no value after this key".into(), None),
        E::ExpectedStringObjectProperty | E::UnexpectedWord => {
            ("this word is not in quotes".into(), Some("put it into double quotes"))
        }
        E::SingleQuotedStringsNotAllowed => {
            ("texts stand in double quotes".into(), Some("write `\"` instead of `'`"))
        }
        E::UnexpectedCloseBrace => ("there is no object that this `}` closes".into(), None),
        E::UnexpectedCloseBracket => ("there is no list that this `]` closes".into(), None),
        E::MultipleRootJsonValues => ("the file ended before this".into(), Some("a file holds one object")),
        E::UnexpectedToken => ("nothing in JSON begins like this".into(), None),
        E::NestingDepthExceeded => ("it is nested too deeply".into(), None),
        other => (lower(&other.to_string()), None),
    }
}

/// The text with a small first letter.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
