//! The version of the manifest's format, which says by which rules the rest is read.

use super::document::{Document, steps};
use super::problem::Problem;
use super::shape::VERSION;
use super::source::Span;
use super::tree::{Data, Entry, Node};

/// Checks `setpoint = 1`. A wrong one is reported and read as if it were right; nothing more can be said of a
/// manifest of a later version, so then this returns `false`.
pub(super) fn check(document: &mut Document<'_>) -> bool {
    let key = "setpoint";
    let span = document.value_span(&steps![key]);
    let found = document.tree.entry(key).map(|entry| &entry.node.data);
    let problem = match found {
        Some(Data::Integer(VERSION)) => return true,
        Some(Data::Integer(later)) if *later > VERSION => {
            let what = format!("this manifest has version {later}; this Setpoint reads version {VERSION}");
            document
                .report(span, Problem::new("unsupported-version", what).hint("a newer Setpoint reads it"));
            return false;
        }
        Some(Data::Integer(other)) => {
            Problem::new("unsupported-version", format!("there is no version {other} of the manifest"))
        }
        Some(_) => {
            Problem::new("wrong-type", "`setpoint`, the version of the manifest, must be a whole number")
        }
        None => Problem::new("missing-version", "`setpoint`, the version of the manifest, is missing"),
    };
    let hint = match found {
        None => format!("begin with `setpoint = {VERSION}`"),
        Some(_) => format!("write `setpoint = {VERSION}`"),
    };
    document.report(span, problem.hint(hint));
    if let Data::Table(table) = &mut document.tree.data {
        let start = Span::point(0, 0);
        let entry = table
            .entry(key.to_owned())
            .or_insert(Entry { key: start, node: Node { span: start, data: Data::Integer(VERSION) } });
        entry.node.data = Data::Integer(VERSION);
    }
    true
}
