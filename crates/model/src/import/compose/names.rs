//! Named things at the top of a file, and what is known by its name.

use super::node::{Data, Entry, Node};
use super::report::{Fields, Report};
use super::source::Place;
use crate::manifest::{Problem, nearest};

/// The entries of a section, each by a name that may be one.
pub(super) fn section<'n>(report: &mut Report, model: &'n Node, name: &str) -> Vec<&'n Entry> {
    let Some(section) = model.get(name).filter(|node| !node.is_null()) else { return Vec::new() };
    let Data::Map(entries) = &section.data else {
        report.wrong(section, name, "a map");
        return Vec::new();
    };
    let mut named = Vec::new();
    for entry in entries {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if entry.key.is_empty() || !entry.key.chars().all(fits) {
            let problem = entry.key_at.problem("bad-name", format!("`{}` cannot be a name here", entry.key));
            report.problem(problem.hint("names are made of letters, digits, `.`, `_` and `-`"));
        } else {
            named.push(entry);
        }
    }
    named
}

/// Something that is there already.
pub(super) struct External {
    pub(super) name: Option<String>,
}

/// Whether something is there already, and its name in the old way.
pub(super) fn external(report: &mut Report, fields: Fields<'_>) -> Option<External> {
    let node = fields.get("external")?;
    if let Data::Map(_) = node.data {
        let path = format!("{}.external", fields.path);
        let name = report.fields(node, &path, "external")?.node.get("name")?;
        return Some(External { name: report.text(name, "name") });
    }
    (report.truth(node, "external")?).then_some(External { name: None })
}

/// Something is named that is not declared.
pub(super) fn unknown<'k>(
    at: &Place,
    kind: &str,
    name: &str,
    known: impl IntoIterator<Item = &'k String>,
    section: &str,
) -> Problem {
    let problem = at.part(name).problem(
        match kind {
            "network" => "unknown-network",
            "config" => "unknown-config",
            "secret" => "unknown-secret",
            _ => "unknown-service",
        },
        format!("no {kind} `{name}` is declared"),
    );
    match nearest(name, known.into_iter().map(String::as_str)) {
        Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
        None => problem.hint(format!("declare it at the top level, under `{section}`")),
    }
}
