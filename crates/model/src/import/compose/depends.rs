//! What a service needs of others, and whether that can be had.

use std::collections::{BTreeMap, BTreeSet};

use super::names;
use super::node::{Data, Node};
use super::report::Report;
use super::source::Place;
use super::types::{Condition, Dependency};

/// Reads `depends_on`: a list of names, or a map.
pub(super) fn read(report: &mut Report, node: &Node) -> BTreeMap<String, (Dependency, Place)> {
    let mut all = BTreeMap::new();
    if let Data::Map(entries) = &node.data {
        for entry in entries {
            let Some(fields) = report.fields(&entry.value, "services.*.depends_on.*", &entry.key) else {
                continue;
            };
            let mut truth = |key| fields.get(key).and_then(|node| report.truth(node, key));
            let (restart, required) = (truth("restart") == Some(true), truth("required") != Some(false));
            let condition = match fields.get("condition") {
                Some(node) => condition(report, node),
                None => Some(Condition::Started),
            };
            if let Some(condition) = condition {
                let dependency = Dependency { condition, restart, required };
                all.insert(entry.key.clone(), (dependency, entry.key_at.clone()));
            }
        }
        return all;
    }
    if !matches!(node.data, Data::List(_)) {
        report.wrong(node, "depends_on", "a list of services, or a map");
        return all;
    }
    for (name, at) in report.texts(node, "depends_on") {
        all.insert(name, (STARTED, at.clone()));
    }
    all
}

/// The other one has been started, and is needed.
pub(super) const STARTED: Dependency =
    Dependency { condition: Condition::Started, restart: false, required: true };

fn condition(report: &mut Report, node: &Node) -> Option<Condition> {
    match report.text(node, "condition")?.as_str() {
        "service_started" => Some(Condition::Started),
        "service_healthy" => Some(Condition::Healthy),
        "service_completed_successfully" => Some(Condition::Completed),
        other => {
            let problem = node.at.problem("bad-condition", format!("there is no condition `{other}`"));
            report.problem(
                problem.hint(
                    "there are `service_started`, `service_healthy` and `service_completed_successfully`",
                ),
            );
            None
        }
    }
}

/// What every service needs, with where it says so.
pub(super) type Needs = BTreeMap<String, BTreeMap<String, (Dependency, Place)>>;

/// Whether all that is needed is there, and nothing needs itself. `active` are the services whose profiles are.
/// What is not needed for certain and is not there is taken out.
pub(super) fn check(
    report: &mut Report,
    needs: &mut Needs,
    known: &BTreeSet<String>,
    active: &BTreeSet<String>,
) {
    for (service, needed) in needs.iter_mut().filter(|(service, _)| active.contains(*service)) {
        needed.retain(|name, (dependency, at)| {
            if active.contains(name) {
                return true;
            }
            if known.contains(name) && dependency.required {
                let what = format!("`{service}` needs `{name}`, whose profiles are not active");
                let problem = at.part(name).problem("inactive-dependency", what);
                report.problem(problem.hint(format!(
                    "activate a profile of `{name}`, or say `required: false` where it is needed"
                )));
            } else if !known.contains(name) && dependency.required {
                report.problem(names::unknown(at, "service", name, known, "services"));
            }
            false
        });
    }
    let mut done = BTreeSet::new();
    for service in needs.keys() {
        let mut way = Vec::new();
        if let Some(cycle) = cycle(needs, service, &mut way, &mut done) {
            let at = &needs[&cycle[0]][cycle.get(1).unwrap_or(&cycle[0])].1;
            let chain = cycle.join(" → ");
            report.problem(
                at.problem(
                    "dependency-cycle",
                    format!("these services need each other: {chain} → {}", cycle[0]),
                )
                .why("none of them could be the first to start")
                .hint("remove one of these dependencies"),
            );
        }
    }
}

/// The services that need each other in a circle, if one is reached from here. It is looked for without recursion,
/// since a chain may be as long as there are services.
fn cycle(
    needs: &Needs,
    from: &str,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if done.contains(from) {
        return None;
    }
    let next = |name: &str| {
        needs.get(name).map(|needed| needed.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    let mut open = vec![next(from)];
    way.push(from.to_owned());
    while let Some(rest) = open.last_mut() {
        let Some(name) = rest.pop() else {
            open.pop();
            done.extend(way.pop());
            continue;
        };
        if let Some(begin) = way.iter().position(|earlier| *earlier == name) {
            let cycle = way[begin..].to_vec();
            done.extend(way.iter().cloned());
            return Some(cycle);
        }
        if !done.contains(&name) {
            open.push(next(&name));
            way.push(name);
        }
    }
    None
}
