//! Health checks.

use super::node::{Data, Node};
use super::report::Report;
use crate::container::{Health, HealthTest};

/// Reads `healthcheck`.
pub(super) fn read(report: &mut Report, node: &Node) -> Option<Health> {
    let fields = report.fields(node, "services.*.healthcheck", "healthcheck")?;
    let disabled = fields.get("disable").and_then(|node| report.truth(node, "disable")) == Some(true);
    let test = fields.get("test").and_then(|node| test(report, node));
    let mut time = |key| fields.get(key).and_then(|node| report.duration(node, key));
    let (interval, timeout) = (time("interval"), time("timeout"));
    let (start_period, start_interval) = (time("start_period"), time("start_interval"));
    Some(Health {
        test: if disabled { Some(HealthTest::Off) } else { test },
        interval,
        timeout,
        retries: fields.get("retries").and_then(|node| report.whole(node, "retries")),
        start_period,
        start_interval,
    })
}

fn test(report: &mut Report, node: &Node) -> Option<HealthTest> {
    if let Data::Text(command) = &node.data {
        return Some(HealthTest::Shell(command.clone()));
    }
    let words: Vec<String> = report.texts(node, "test").into_iter().map(|(word, _)| word).collect();
    if words.len() < node.items().len() {
        return None;
    }
    match words.split_first().map(|(kind, rest)| (kind.as_str(), rest)) {
        Some(("NONE", _)) => Some(HealthTest::Off),
        Some(("CMD", command)) if !command.is_empty() => Some(HealthTest::Exec(command.to_vec())),
        Some(("CMD-SHELL", command)) if !command.is_empty() => Some(HealthTest::Shell(command.join(" "))),
        None if !matches!(node.data, Data::List(_)) => None,
        _ => {
            let problem = node.at.problem("bad-health-test", "this list does not say how the test is run");
            report.problem(
                problem.hint(
                    "begin it with `CMD` and a program, with `CMD-SHELL` and a command, or with `NONE`",
                ),
            );
            None
        }
    }
}
