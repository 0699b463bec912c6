//! The first boot of a service: its steps, each of one kind, in the order in which they are written.

use std::collections::BTreeMap;

use super::super::document::Document;
use super::super::env::Network;
use super::super::first_boot::{Act, After, FirstBootStep};
use super::super::format::Named;
use super::super::nearest::nearest;
use super::super::problem::Problem;
use super::super::shape::{AfterWord, FirstBootSection, HealthSection, OwnerSection, WaitSection};
use super::super::tree::Step;
use super::service::argv;
use super::{health, only_one};
use crate::names::UnitName;

/// What a step can be.
const KINDS: [&str; 4] = ["run", "host", "wait", "owner"];

/// What of its service a step depends on.
pub(super) struct Of<'a> {
    /// Its network.
    pub(super) network: Network,
    /// Its volumes, each with where it lies.
    pub(super) volumes: &'a BTreeMap<UnitName, String>,
}

/// The steps of a section.
pub(super) fn steps(
    section: Named<UnitName, FirstBootSection>,
    service: &Of<'_>,
    place: &[Step],
    document: &mut Document<'_>,
) -> Vec<FirstBootStep> {
    let of = |name: &UnitName| [place, &[name.as_str().into()]].concat();
    let mut named: Vec<_> = section.0.into_iter().collect();
    named.sort_by_key(|(name, _)| document.key_span(&of(name)));
    named
        .into_iter()
        .filter_map(|(name, section)| step(&name, section, service, &of(&name), document))
        .collect()
}

fn step(
    name: &UnitName,
    section: FirstBootSection,
    service: &Of<'_>,
    place: &[Step],
    document: &mut Document<'_>,
) -> Option<FirstBootStep> {
    let key = |key: &str| [place, &[key.into()]].concat();
    let given = only_one(place, &KINDS, document, |first, second| {
        Problem::new("two-kinds", format!("the step `{name}` is two things: `{first}` and `{second}`"))
    });
    if given == 0 && !document.lacks(place) {
        let problem = Problem::new("missing-key", format!("nothing says what the step `{name}` does"));
        document.at_key(place, problem.hint("add `run`, `host`, `wait` or `owner`"));
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
    } else if let Some(OwnerSection { volume, user }) = section.owner {
        let Some(target) = service.volumes.get(&volume) else {
            let problem = Problem::new("unknown-volume", format!("the service has no volume `{volume}`"));
            let known: Vec<&str> = service.volumes.keys().map(UnitName::as_str).collect();
            let hint = match nearest(volume.as_str(), known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "declare it in `volumes` of the service".to_owned(),
            };
            document.at_value(&[place, &["owner".into(), "volume".into()]].concat(), problem.hint(hint));
            return None;
        };
        Act::Owner { volume: volume.to_string(), target: target.clone(), user: user.0 }
    } else {
        let WaitSection { exec, http, port, status, tcp } = section.wait?;
        // It waits for what a check would find.
        let check = HealthSection { exec, http, port, status, tcp, ..HealthSection::default() };
        Act::Wait { test: health::check(check, service.network, &key("wait"), document).test? }
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
