//! A manifest while it is read: its tree, and what is wrong with it so far.

use super::problem::{Location, Problem};
use super::source::{Sources, Span};
use super::structure::{self, Later};
use super::tree::{Data, Node, Step};

/// The merged layers and the problems found in them.
pub(crate) struct Document<'a> {
    pub(crate) sources: Sources<'a>,
    pub(crate) tree: Node,
    /// What was found faulty, and is left out of what is read.
    pruned: Vec<Vec<Step>>,
    problems: Vec<(Span, Problem)>,
}

/// A path from its steps: `steps!["env", name, "packs", 2]`.
macro_rules! steps {
    ($($step:expr),* $(,)?) => { [$($crate::manifest::tree::Step::from($step)),*] };
}
pub(crate) use steps;

impl<'a> Document<'a> {
    pub(crate) fn new(sources: Sources<'a>, tree: Node) -> Self {
        Self { sources, tree, pruned: Vec::new(), problems: Vec::new() }
    }

    /// Notes a problem at a span.
    pub(crate) fn report(&mut self, span: Span, problem: Problem) {
        self.problems.push((span, problem));
    }

    /// Notes a problem at the value of a path.
    pub(crate) fn at_value(&mut self, path: &[Step], problem: Problem) {
        self.report(self.value_span(path), problem);
    }

    /// Notes a problem at the key of a path.
    pub(crate) fn at_key(&mut self, path: &[Step], problem: Problem) {
        self.report(self.key_span(path), problem);
    }

    /// Leaves out what is at this path from what is read: the nearest key above it, since the places in a list must
    /// stay what they are.
    pub(crate) fn prune(&mut self, mut path: Vec<Step>) {
        if let Some(list) = path.iter().position(|step| matches!(step, Step::Index(_))) {
            path.truncate(list);
        }
        self.pruned.push(path);
    }

    /// Whether something was left out at or below this path, so that it cannot be blamed for what it lacks.
    pub(crate) fn lacks(&self, path: &[Step]) -> bool {
        self.pruned.iter().any(|pruned| pruned.starts_with(path))
    }

    /// Reads it into the types of its shape. Where it does not fit, the schema of those types says why, all of it at
    /// once, and what fits is read; nothing is where even that cannot be.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(
        &mut self,
        schema: fn() -> serde_json::Value,
        later: Later,
    ) -> Option<T> {
        if let Ok(read) = serde_json::from_value(self.to_json()) {
            return Some(read);
        }
        structure::check(self, &schema(), later);
        match serde_json::from_value(self.to_json()) {
            Ok(read) => Some(read),
            Err(error) => {
                if self.is_good() {
                    self.at_key(&[], Problem::new("unreadable", error.to_string()));
                }
                None
            }
        }
    }

    /// What is read, without what was left out.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        self.tree.to_json(&self.pruned)
    }

    /// Where the value of a path stands; the nearest value above it, if it is not there.
    pub(crate) fn value_span(&self, path: &[Step]) -> Span {
        match self.tree.find(path) {
            Some(node) => node.span,
            None => path.split_last().map_or(self.tree.span, |(_, above)| self.key_span(above)),
        }
    }

    /// Where the key of a path stands; an item of a list has no key, and is taken itself.
    pub(crate) fn key_span(&self, path: &[Step]) -> Span {
        let Some((last, above)) = path.split_last() else { return self.tree.span };
        match (last, self.tree.find(above)) {
            (Step::Key(key), Some(parent)) => match parent.entry(key) {
                Some(entry) => entry.key,
                None => self.key_span(above),
            },
            _ => self.value_span(path),
        }
    }

    /// The place of the key of a path.
    pub(crate) fn key_location(&self, path: &[Step]) -> Location {
        self.sources.visible(self.key_span(path))
    }

    /// The place of the value of a path.
    pub(crate) fn value_location(&self, path: &[Step]) -> Location {
        self.sources.visible(self.value_span(path))
    }

    /// Whether the table at this path has this key, supported or not.
    pub(crate) fn has(&self, table: &[Step], key: &str) -> bool {
        self.tree.find(table).is_some_and(|node| node.entry(key).is_some())
    }

    /// The keys of the table at this path.
    pub(crate) fn keys(&self, table: &[Step]) -> Vec<String> {
        match self.tree.find(table).map(|node| &node.data) {
            Some(Data::Table(entries)) => entries.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// All problems with their places, in the order of the layers and of their lines.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        located(&self.sources, self.problems)
    }
}

/// Problems with their places, in the order of the layers and of their lines, each once.
pub(crate) fn located(sources: &Sources<'_>, mut problems: Vec<(Span, Problem)>) -> Vec<Problem> {
    problems.sort_by_key(|(span, _)| *span);
    let mut located: Vec<Problem> = problems
        .into_iter()
        .map(|(span, problem)| {
            let missing = problem.code.starts_with("missing-") && span.start == span.end;
            let at = if missing { sources.location(span) } else { sources.visible(span) };
            problem.at(at)
        })
        .collect();
    located.dedup();
    located
}

/// A path as a person writes it: `env.dev.packs[1]`.
pub(crate) fn written(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                let bare =
                    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
                text.push_str(&if bare { key.clone() } else { format!("{key:?}") });
            }
        }
    }
    text
}

/// Where something stands, for the end of a sentence: ` in [env.dev]`, or nothing at the top.
pub(crate) fn inside(path: &[Step]) -> String {
    match path {
        [] => String::new(),
        _ if path.iter().any(|step| matches!(step, Step::Index(_))) => format!(" in `{}`", written(path)),
        _ => format!(" in [{}]", written(path)),
    }
}
