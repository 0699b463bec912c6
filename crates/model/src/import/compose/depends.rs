//! What a service needs of others, and whether that can be had.

use std::collections::{BTreeMap, BTreeSet};

use super::names;
use super::node::{Data, Node};
use super::report::Report;
use super::source::Place;
use super::types::{Condition, Dependency};
use crate::circle::circles;

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
    let needed = |name: &String| needs.get(name).into_iter().flat_map(BTreeMap::keys).collect();
    for circle in circles(needs.keys(), needed) {
        let at = &needs[circle[0]][*circle.get(1).unwrap_or(&circle[0])].1;
        let chain: String = circle.iter().map(|name| format!("{name} → ")).collect();
        report.problem(
            at.problem("dependency-cycle", format!("these services need each other: {chain}{}", circle[0]))
                .why("none of them could be the first to start")
                .hint("remove one of these dependencies"),
        );
    }
}
