//! The first boot of a service: its steps, each of one kind, in the order in which they are written.

use super::super::document::Document;
use super::super::first_boot::{Act, After, FirstBootStep};
use super::super::format::Named;
use super::super::problem::Problem;
use super::super::shape::{AfterWord, FirstBootSection};
use super::super::tree::Step;
use super::only_one;
use super::service::argv;
use crate::names::UnitName;

/// What a step can be.
const KINDS: [&str; 3] = ["run", "host", "wait"];

/// The steps of a section.
pub(super) fn steps(
    section: Named<UnitName, FirstBootSection>,
    place: &[Step],
    document: &mut Document<'_>,
) -> Vec<FirstBootStep> {
    let of = |name: &UnitName| [place, &[name.as_str().into()]].concat();
    let mut named: Vec<_> = section.0.into_iter().collect();
    named.sort_by_key(|(name, _)| document.key_span(&of(name)));
    named.into_iter().filter_map(|(name, section)| step(&name, section, &of(&name), document)).collect()
}

fn step(
    name: &UnitName,
    section: FirstBootSection,
    place: &[Step],
    document: &mut Document<'_>,
) -> Option<FirstBootStep> {
    let key = |key: &str| [place, &[key.into()]].concat();
    let given = only_one(place, &KINDS, document, |first, second| {
        Problem::new("two-kinds", format!("the step `{name}` is two things: `{first}` and `{second}`"))
    });
    if given == 0 && !document.lacks(place) {
        let problem = Problem::new("missing-key", format!("nothing says what the step `{name}` does"));
        document.at_key(place, problem.hint("add `run`, `host` or `wait`"));
    }
    if section.user.is_some() && section.run.is_none() {
        let problem = Problem::new("no-user-here", "`user` is for a `run` only");
        document.at_key(&key("user"), problem.hint("take it out"));
    }
    let user = section.user.map(|user| user.0);
    let act = if let Some(run) = section.run {
        Act::Run { argv: argv(run, &key("run"), document), user }
    } else if let Some(run) = section.host {
        Act::Host { argv: argv(run, &key("host"), document) }
    } else {
        let place = key("wait");
        let wait = section.wait?;
        if wait.exec.is_none() && !document.lacks(&place) {
            let problem = Problem::new("missing-key", "this says nothing of what is waited for");
            document.at_key(&place, problem.hint("add `exec`"));
        }
        Act::Wait { argv: argv(wait.exec?, &[place.as_slice(), &["exec".into()]].concat(), document) }
    };
    let after = match section.after {
        Some(AfterWord::Healthy) => After::Healthy,
        Some(AfterWord::Started) | None => After::Started,
    };
    let at = document.key_location(place);
    Some(FirstBootStep {
        name: name.to_string(),
        at,
        act,
        after,
        timeout: section.timeout.map(|time| time.0),
    })
}
