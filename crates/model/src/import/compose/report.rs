//! What is wrong and what is worth knowing, gathered while values are read for what they should be.

use std::time::Duration;

use super::node::{Data, Node};
use super::source::Place;
use super::support::keys_below;
use super::{quantity, words};
use crate::import::Level;
use crate::manifest::{ByteSize, Note, Problem, nearest};

/// Everything that was found so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Note>,
}

/// A value of a list of `NAME=value` or of a map.
pub(super) struct Pair {
    pub(super) key: String,
    /// Absent where only the name is given.
    pub(super) value: Option<String>,
    pub(super) at: Place,
}

/// The keys of a map, all of them known.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n> {
    pub(super) node: &'n Node,
    /// The path of the map in the table of keys.
    pub(super) path: &'n str,
}

impl<'n> Fields<'n> {
    /// What is under a key, unless it is empty.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        debug_assert!(
            keys_below(self.path).any(|(known, _)| known == key),
            "{}.{key} is in no table",
            self.path
        );
        self.node.get(key).filter(|node| !node.is_null())
    }
}

impl Report {
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn note(&mut self, at: &Place, text: impl Into<String>) {
        self.notes.push(Note { at: at.location(), text: text.into() });
    }

    /// A value is not what it must be.
    pub(super) fn wrong(&mut self, node: &Node, name: &str, wanted: &str) {
        let problem =
            node.at.problem("wrong-type", format!("`{name}` must be {wanted}, not {}", node.kind()));
        let scalar = matches!(node.data, Data::Number(_) | Data::Bool(_)) && wanted.starts_with("text");
        self.problem(match node.scalar() {
            Some(text) if scalar => problem.hint(format!("put it in quotes: `\"{text}\"`")),
            Some(text) if !node.is_null() && wanted.starts_with("a list") => {
                problem.hint(format!("put it in a list: `{name}: [\"{text}\"]`"))
            }
            _ => problem,
        });
    }

    /// The map at a path of the table of keys, or an empty one. Keys that are not known are problems, those that are
    /// not taken over are notes.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, path: &'n str, name: &str) -> Option<Fields<'n>> {
        if node.is_null() {
            return Some(Fields { node, path });
        }
        let Data::Map(entries) = &node.data else {
            self.wrong(node, name, "a map");
            return None;
        };
        for entry in entries {
            if entry.key.starts_with("x-") {
                continue;
            }
            let known = keys_below(path).find(|(key, _)| *key == entry.key);
            match known {
                None => {
                    let place = if path.is_empty() { "a compose file" } else { &format!("`{name}`") };
                    let problem =
                        entry.key_at.problem("unknown-key", format!("`{}` is no key of {place}", entry.key));
                    self.problem(match nearest(&entry.key, keys_below(path).map(|(key, _)| key)) {
                        Some(key) => problem.hint(format!("did you mean `{key}`?")),
                        None => problem.hint("keys of your own begin with `x-`"),
                    });
                }
                Some((key, support)) if support.level == Level::NotSupported && !entry.value.is_null() => {
                    self.note(&entry.key_at, format!("`{key}` is left out: {}", support.note));
                }
                Some(_) => {}
            }
        }
        Some(Fields { node, path })
    }

    /// A text.
    pub(super) fn text(&mut self, node: &Node, name: &str) -> Option<String> {
        let text = node.as_text();
        if text.is_none() {
            self.wrong(node, name, "text");
        }
        text.map(str::to_owned)
    }

    /// A text, number or truth value, as text.
    pub(super) fn scalar(&mut self, node: &Node, name: &str) -> Option<String> {
        let text = node.scalar();
        if text.is_none() {
            self.wrong(node, name, "one value");
        }
        text
    }

    /// Yes or no, also in quotes.
    pub(super) fn truth(&mut self, node: &Node, name: &str) -> Option<bool> {
        match &node.data {
            Data::Bool(value) => return Some(*value),
            Data::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "y" | "on" | "1" => return Some(true),
                "false" | "no" | "n" | "off" | "0" => return Some(false),
                _ => {
                    let what = format!("`{name}` must be `true` or `false`, not `{text}`");
                    self.problem(node.at.problem("wrong-type", what));
                    return None;
                }
            },
            _ => {}
        }
        self.wrong(node, name, "`true` or `false`");
        None
    }

    /// A whole number, also in quotes.
    pub(super) fn whole<T: TryFrom<i64>>(&mut self, node: &Node, name: &str) -> Option<T> {
        let (Data::Number(text) | Data::Text(text)) = &node.data else {
            self.wrong(node, name, "a whole number");
            return None;
        };
        let number = text.trim().parse::<i64>().ok().and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let what = format!("`{name}` must be a whole number within its range, not `{text}`");
            self.problem(node.at.problem("bad-number", what));
        }
        number
    }

    /// A number, decimals allowed, also in quotes.
    pub(super) fn decimal(&mut self, node: &Node, name: &str) -> Option<f64> {
        let (Data::Number(text) | Data::Text(text)) = &node.data else {
            self.wrong(node, name, "a number");
            return None;
        };
        let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            let what = format!("`{name}` must be a number that is not negative, not `{text}`");
            self.problem(node.at.problem("bad-number", what));
        }
        number
    }

    /// A size in bytes.
    pub(super) fn size(&mut self, node: &Node, name: &str) -> Option<ByteSize> {
        let (Data::Number(text) | Data::Text(text)) = &node.data else {
            self.wrong(node, name, "a size");
            return None;
        };
        let size = quantity::bytes(text);
        if size.is_none() {
            let problem = node.at.problem("bad-size", not_a(text, name, "a size"));
            self.problem(
                problem.hint("sizes are a number and a unit: `512m`, `1.5g`; without a unit they are bytes"),
            );
        }
        size.map(ByteSize)
    }

    /// A time.
    pub(super) fn duration(&mut self, node: &Node, name: &str) -> Option<Duration> {
        let (Data::Number(text) | Data::Text(text)) = &node.data else {
            self.wrong(node, name, "a time");
            return None;
        };
        let duration = quantity::duration(text);
        if duration.is_none() {
            let problem = node.at.problem("bad-duration", not_a(text, name, "a time"));
            self.problem(match text.parse::<f64>() {
                Ok(_) => {
                    problem.why("the unit is missing").hint(format!("write `{text}s` if seconds are meant"))
                }
                Err(_) => problem.hint("times are numbers with units: `30s`, `1m30s`, `500ms`"),
            });
        }
        duration
    }

    /// A list of texts, with their places.
    pub(super) fn texts<'n>(&mut self, node: &'n Node, name: &str) -> Vec<(String, &'n Place)> {
        let Data::List(items) = &node.data else {
            if !node.is_null() {
                self.wrong(node, name, "a list");
            }
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match item.as_text() {
                Some(text) => texts.push((text.to_owned(), &item.at)),
                None => self.wrong(item, name, "text in every item"),
            }
        }
        texts
    }

    /// A list of texts and numbers, as texts.
    pub(super) fn scalars(&mut self, node: &Node, name: &str) -> Vec<(String, Place)> {
        let Data::List(items) = &node.data else {
            self.wrong(node, name, "a list");
            return Vec::new();
        };
        items.iter().filter_map(|item| Some((self.scalar(item, name)?, item.at.clone()))).collect()
    }

    /// A text or a list of texts.
    pub(super) fn one_or_more(&mut self, node: &Node, name: &str) -> Vec<String> {
        match node.as_text() {
            Some(text) => vec![text.to_owned()],
            None => self.texts(node, name).into_iter().map(|(text, _)| text).collect(),
        }
    }

    /// A list of `NAME=value`, or a map.
    pub(super) fn pairs(&mut self, node: &Node, name: &str) -> Vec<Pair> {
        match &node.data {
            Data::List(_) => {
                let split = |(text, at): (String, &Place)| match text.split_once('=') {
                    Some((key, value)) => {
                        Pair { key: key.to_owned(), value: Some(value.to_owned()), at: at.clone() }
                    }
                    None => Pair { key: text, value: None, at: at.clone() },
                };
                self.texts(node, name).into_iter().map(split).collect()
            }
            Data::Map(entries) => {
                let mut pairs = Vec::new();
                for entry in entries {
                    let value = match &entry.value.data {
                        Data::Null => None,
                        _ => match self.scalar(&entry.value, &entry.key) {
                            Some(text) => Some(text),
                            None => continue,
                        },
                    };
                    pairs.push(Pair { key: entry.key.clone(), value, at: entry.key_at.clone() });
                }
                pairs
            }
            Data::Null => Vec::new(),
            _ => {
                self.wrong(node, name, "a map, or a list of `NAME=value`");
                Vec::new()
            }
        }
    }

    /// A list of `NAME=value` or a map, with nothing for a value that is missing.
    pub(super) fn named(&mut self, node: &Node, name: &str) -> std::collections::BTreeMap<String, String> {
        self.pairs(node, name).into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect()
    }

    /// A command: a list, or one text that is split as a shell would.
    pub(super) fn command(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        if let Some(text) = node.as_text() {
            return match words::split(text) {
                Ok(words) => Some(words),
                Err(why) => {
                    let problem =
                        node.at.problem("bad-command", format!("`{name}` cannot be split into words"));
                    self.problem(problem.why(why).hint("write it as a list"));
                    None
                }
            };
        }
        match node.data {
            Data::Null => None,
            Data::List(_) => Some(self.texts(node, name).into_iter().map(|(text, _)| text).collect()),
            _ => {
                self.wrong(node, name, "text, or a list of texts");
                None
            }
        }
    }

    /// Whether a variable can have this name and value.
    pub(super) fn is_variable(&mut self, at: &Place, name: &str, value: &str) -> bool {
        let fits = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
        if !fits {
            let problem =
                at.problem("bad-variable", format!("`{name}` cannot be a variable with this value"));
            self.problem(problem.hint("names are not empty, and nothing holds a NUL character"));
        }
        fits
    }
}

/// What is wrong with a text that should be something else.
fn not_a(text: &str, name: &str, wanted: &str) -> String {
    if text.is_empty() {
        format!("`{name}` is empty, and must be {wanted}")
    } else {
        format!("`{text}` is not {wanted}")
    }
}
