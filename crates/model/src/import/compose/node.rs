//! A value of a file, with its place.

use super::source::Place;

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it is.
    pub(super) at: Place,
    /// How it goes over an earlier value of the same key.
    pub(super) over: Over,
    /// What it is.
    pub(super) data: Data,
}

/// How a value goes over an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// By the rules of its key.
    Merge,
    /// `!reset`: the earlier value goes, and nothing takes its place.
    Reset,
    /// `!override`: it takes the place of the earlier value.
    Replace,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it is written: `1.10` stays `1.10`.
    Number(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in order.
    Map(Vec<Entry>),
}

/// A value of a map with its key.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Place,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn new(at: Place, data: Data) -> Self {
        Self { at, over: Over::Merge, data }
    }

    /// The entries of a map; of anything else, none.
    pub(super) fn entries(&self) -> &[Entry] {
        if let Data::Map(entries) = &self.data { entries } else { &[] }
    }

    /// The entries of a map, to change them.
    pub(super) fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        if let Data::Map(entries) = &mut self.data { Some(entries) } else { None }
    }

    /// The items of a list; of anything else, none.
    pub(super) fn items(&self) -> &[Self] {
        if let Data::List(items) = &self.data { items } else { &[] }
    }

    /// What is under a key of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// What is under a key of a map, to change it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.entries_mut()?.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    /// The text, if it is text.
    pub(super) fn as_text(&self) -> Option<&str> {
        if let Data::Text(text) = &self.data { Some(text) } else { None }
    }

    /// A text, number or truth value as text; nothing is empty text.
    pub(super) fn scalar(&self) -> Option<String> {
        match &self.data {
            Data::Null => Some(String::new()),
            Data::Bool(value) => Some(value.to_string()),
            Data::Number(text) | Data::Text(text) => Some(text.clone()),
            Data::List(_) | Data::Map(_) => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "empty",
            Data::Bool(_) => "true or false",
            Data::Number(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }

    /// Whether two values are the same, wherever they stand.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (&self.data, &other.data) {
            (Data::Null, Data::Null) => true,
            (Data::Bool(a), Data::Bool(b)) => a == b,
            (Data::Number(a), Data::Number(b)) | (Data::Text(a), Data::Text(b)) => a == b,
            (Data::List(a), Data::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Data::Map(a), Data::Map(_)) => {
                a.len() == other.entries().len()
                    && a.iter()
                        .all(|entry| other.get(&entry.key).is_some_and(|value| entry.value.same(value)))
            }
            _ => false,
        }
    }
}
