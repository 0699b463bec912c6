//! What the manifest will hold one day, and this version does not support. It is refused by name: an entry here goes
//! when its part of Setpoint comes.

use super::document::Document;
use super::problem::Problem;
use super::tree::{Data, Node, Step};

/// Something that is known and not supported.
struct NotYet {
    /// Its path; `*` is any key.
    path: &'static [&'static str],
    /// The value that is meant, where others are supported.
    value: Option<&'static str>,
    /// The code of the problem.
    code: &'static str,
    /// What is not supported, or what is needed.
    what: &'static str,
    /// What to do instead.
    hint: Option<&'static str>,
}

const fn later(path: &'static [&'static str], what: &'static str) -> NotYet {
    NotYet { path, value: None, code: "not-supported-yet", what, hint: None }
}

const NOT_YET: &[NotYet] = &[NotYet {
    hint: Some("what an agent's socket or a setting needs can come by `mounts` and `env`"),
    ..later(&["env", "*", "forward"], "`forward` is not supported by this version yet")
}];

/// Reports what is not supported yet, and takes it out of the document.
pub(super) fn refuse(document: &mut Document<'_>) {
    for not_yet in NOT_YET {
        let mut found = Vec::new();
        search(&document.tree, not_yet.path, &mut Vec::new(), &mut found);
        for path in found {
            let text = |node: &Node| matches!((&node.data, not_yet.value), (Data::Text(text), Some(value)) if text == value);
            if not_yet.value.is_some() && !document.tree.find(&path).is_some_and(text) {
                continue;
            }
            let span =
                if not_yet.value.is_some() { document.value_span(&path) } else { document.key_span(&path) };
            let hint = not_yet.hint.map(str::to_owned);
            document.report(span, Problem { hint, ..Problem::new(not_yet.code, not_yet.what) });
            document.prune(path);
        }
    }
}

/// The keys that are known in the table at this path and not supported yet.
pub(super) fn keys(path: &[Step]) -> Vec<&'static str> {
    let of_this = NOT_YET.iter().filter(|not_yet| not_yet.value.is_none()).filter_map(|not_yet| {
        let (last, parents) = not_yet.path.split_last()?;
        let matches =
            |(step, name): (&Step, &&str)| matches!(step, Step::Key(key) if *name == "*" || key == name);
        (parents.len() == path.len() && path.iter().zip(parents).all(matches)).then_some(*last)
    });
    of_this.collect()
}

/// The paths in the tree that match.
fn search(node: &Node, rest: &[&str], path: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    let Some((first, rest)) = rest.split_first() else {
        found.push(path.clone());
        return;
    };
    for (key, entry) in node.entries().filter(|(key, _)| *first == "*" || key == first) {
        path.push(key.into());
        search(&entry.node, rest, path, found);
        path.pop();
    }
}
