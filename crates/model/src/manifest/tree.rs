//! The layers of a manifest as one tree that knows of every key and value where it came from.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use super::Layer;
use super::problem::Problem;
use super::source::Span;
use super::syntax;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) data: Data,
}

/// What a value can be.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Entry>),
}

/// A value under its key.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Where the key stands.
    pub(crate) key: Span,
    pub(crate) node: Node,
}

/// A step from a value to one within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Node {
    /// The empty table, at the beginning of the first layer.
    pub(crate) fn empty() -> Self {
        Self { span: Span::point(0, 0), data: Data::Table(BTreeMap::new()) }
    }

    /// Reads the text of a layer.
    pub(crate) fn read(number: usize, layer: &Layer<'_>) -> Result<Self, Vec<(Span, Problem)>> {
        let (table, errors) = DeTable::parse_recoverable(layer.text);
        if !errors.is_empty() {
            return Err(syntax::problems(number, layer.text, &errors));
        }
        let mut reader = Reader { layer: number, problems: Vec::new() };
        let data = reader.table(table.into_inner());
        let node = Self { span: Span::point(number, 0), data };
        if reader.problems.is_empty() { Ok(node) } else { Err(reader.problems) }
    }

    /// Lays another layer over this one: tables merge, everything else is replaced.
    pub(crate) fn merge(&mut self, over: Self) {
        match (&mut self.data, over.data) {
            (Data::Table(below), Data::Table(above)) => {
                for (key, entry) in above {
                    match below.get_mut(&key) {
                        Some(old) if old.is_table() && entry.is_table() => old.node.merge(entry.node),
                        _ => {
                            below.insert(key, entry);
                        }
                    }
                }
            }
            (_, data) => *self = Self { span: over.span, data },
        }
    }

    /// The entries of a table; none if this is no table.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let table = if let Data::Table(table) = &self.data { Some(table) } else { None };
        table.into_iter().flatten().map(|(key, entry)| (key.as_str(), entry))
    }

    /// The entry of this key, if this is a table that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        if let Data::Table(table) = &self.data { table.get(key) } else { None }
    }

    /// The value at the end of a path of keys and indices.
    pub(crate) fn find(&self, path: &[Step]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match (step, &node.data) {
            (Step::Key(key), _) => node.entry(key).map(|entry| &entry.node),
            (Step::Index(index), Data::List(items)) => items.get(*index),
            (Step::Index(_), _) => None,
        })
    }

    /// The same as JSON, without what lies at the paths of `without`.
    pub(crate) fn to_json(&self, without: &[Vec<Step>]) -> Json {
        match &self.data {
            Data::Text(text) => text.as_str().into(),
            Data::Integer(number) => (*number).into(),
            Data::Float(number) => (*number).into(),
            Data::Flag(flag) => (*flag).into(),
            Data::List(items) => items.iter().map(|item| item.to_json(&[])).collect(),
            Data::Table(table) => {
                let keep = |(key, entry): (&String, &Entry)| {
                    let here =
                        |path: &&Vec<Step>| matches!(path.first(), Some(Step::Key(first)) if first == key);
                    let below: Vec<Vec<Step>> =
                        without.iter().filter(here).map(|path| path[1..].to_vec()).collect();
                    let gone = below.iter().any(Vec::is_empty);
                    (!gone).then(|| (key.clone(), entry.node.to_json(&below)))
                };
                Json::Object(table.iter().filter_map(keep).collect())
            }
        }
    }
}

impl Entry {
    fn is_table(&self) -> bool {
        matches!(self.node.data, Data::Table(_))
    }
}

/// Turns what the TOML parser found into nodes, and notes what no manifest can use.
struct Reader {
    layer: usize,
    problems: Vec<(Span, Problem)>,
}

impl Reader {
    fn span(&self, range: &std::ops::Range<usize>) -> Span {
        Span { layer: self.layer, start: range.start, end: range.end }
    }

    fn table(&mut self, table: DeTable<'_>) -> Data {
        let entries = table.into_iter().map(|(key, value)| {
            let span = self.span(&key.span());
            let node_span = self.span(&value.span());
            let node = Node { span: node_span, data: self.value(value.into_inner(), node_span) };
            (key.into_inner().into_owned(), Entry { key: span, node })
        });
        Data::Table(entries.collect())
    }

    fn value(&mut self, value: DeValue<'_>, span: Span) -> Data {
        match value {
            DeValue::String(text) => Data::Text(text.into_owned()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Data::Integer(number),
                Err(_) => self.refuse(span, format!("`{number}` is larger than a 64-bit number"), None),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Data::Float(number),
                _ => self.refuse(span, format!("`{}` is not a number to count with", number.as_str()), None),
            },
            DeValue::Boolean(flag) => Data::Flag(flag),
            DeValue::Datetime(date) => {
                let hint = format!("as a text: `\"{date}\"`");
                self.refuse(span, format!("`{date}` is a date, and nothing in a manifest is one"), Some(hint))
            }
            DeValue::Array(items) => {
                let node = |item: toml::Spanned<DeValue<'_>>| {
                    let span = self.span(&item.span());
                    Node { span, data: self.value(item.into_inner(), span) }
                };
                Data::List(items.into_iter().map(node).collect())
            }
            DeValue::Table(table) => self.table(table),
        }
    }

    fn refuse(&mut self, span: Span, what: String, hint: Option<String>) -> Data {
        self.problems.push((span, Problem { hint, ..Problem::new("bad-value", what) }));
        Data::Flag(false)
    }
}
