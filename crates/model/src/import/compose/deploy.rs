//! What `deploy` and `gpus` say about limits, restarts and how many there are.

use super::node::{Data, Node};
use super::report::Report;
use super::types::RestartPolicy;
use crate::container::Resources;

/// What is taken of `deploy`.
#[derive(Debug, Default)]
pub(super) struct Deploy {
    pub(super) resources: Resources,
    pub(super) restart: Option<RestartPolicy>,
    pub(super) replicas: Option<u32>,
}

/// Reads `deploy`.
pub(super) fn read(report: &mut Report, node: &Node) -> Option<Deploy> {
    let fields = report.fields(node, "services.*.deploy", "deploy")?;
    Some(Deploy {
        resources: fields.get("resources").map(|node| resources(report, node)).unwrap_or_default(),
        restart: fields.get("restart_policy").and_then(|node| restart(report, node)),
        replicas: fields.get("replicas").and_then(|node| report.whole(node, "replicas")),
    })
}

fn resources(report: &mut Report, node: &Node) -> Resources {
    let mut all = Resources::default();
    let path = "services.*.deploy.resources";
    let Some(fields) = report.fields(node, path, "resources") else { return all };
    if let Some(node) = fields.get("limits")
        && let Some(limits) = report.fields(node, "services.*.deploy.resources.limits", "limits")
    {
        all.cpus = limits.get("cpus").and_then(|node| report.decimal(node, "cpus"));
        all.memory = limits.get("memory").and_then(|node| report.size(node, "memory"));
        all.pids = limits.get("pids").and_then(|node| report.whole(node, "pids"));
    }
    if let Some(node) = fields.get("reservations")
        && let Some(kept) = report.fields(node, "services.*.deploy.resources.reservations", "reservations")
    {
        all.memory_reservation = kept.get("memory").and_then(|node| report.size(node, "memory"));
        let path = "services.*.deploy.resources.reservations.devices.*";
        all.gpus = kept.get("devices").and_then(|node| graphics(report, node, path));
    }
    all
}

/// Graphic processors: `all`, or a list of devices.
pub(super) fn graphics(report: &mut Report, node: &Node, path: &str) -> Option<String> {
    let items = match &node.data {
        Data::Text(text) if text == "all" => return Some(text.clone()),
        Data::List(items) => items,
        _ => {
            report.wrong(node, "gpus", "`all`, or a list of devices");
            return None;
        }
    };
    let mut total: Option<u32> = None;
    for item in items {
        let Some(fields) = report.fields(item, path, "devices") else { continue };
        let capabilities = fields.get("capabilities").map(|node| report.texts(node, "capabilities"));
        let is_graphic = |(word, _): &(String, _)| matches!(word.as_str(), "gpu" | "compute" | "utility");
        if path.contains(".devices.") && !capabilities.is_some_and(|words| words.iter().any(is_graphic)) {
            report.note(&item.at, "this device is left out: it is no graphic processor");
            continue;
        }
        if let Some(ids) = fields.get("device_ids") {
            report.note(&ids.at, "as many graphic processors are taken, not these ones");
            let many = u32::try_from(report.texts(ids, "device_ids").len()).unwrap_or(u32::MAX);
            total = Some(total.unwrap_or(0).saturating_add(many));
            continue;
        }
        match fields.get("count") {
            None => return Some("all".to_owned()),
            Some(count) if count.scalar().is_some_and(|text| text == "all" || text == "-1") => {
                return Some("all".to_owned());
            }
            Some(count) => {
                let many = report.whole::<u32>(count, "count")?;
                total = Some(total.unwrap_or(0).saturating_add(many));
            }
        }
    }
    total.map(|total| total.to_string())
}

fn restart(report: &mut Report, node: &Node) -> Option<RestartPolicy> {
    let fields = report.fields(node, "services.*.deploy.restart_policy", "restart_policy")?;
    let max = fields.get("max_attempts").and_then(|node| report.whole(node, "max_attempts"));
    let Some(condition) = fields.get("condition") else { return Some(RestartPolicy::Always) };
    match report.text(condition, "condition")?.as_str() {
        "none" => Some(RestartPolicy::No),
        "any" => Some(RestartPolicy::Always),
        "on-failure" => Some(RestartPolicy::OnFailure { max }),
        // What `restart` calls them is taken too, as Compose does.
        "no" => Some(RestartPolicy::No),
        "always" => Some(RestartPolicy::Always),
        "unless-stopped" => Some(RestartPolicy::UnlessStopped),
        other => {
            let problem = condition.at.problem("bad-restart", format!("there is no condition `{other}`"));
            report.problem(problem.hint("there are `none`, `on-failure` and `any`"));
            None
        }
    }
}

/// What `restart` says.
pub(super) fn policy(report: &mut Report, node: &Node) -> Option<RestartPolicy> {
    let text = report.text(node, "restart")?;
    let (name, max) = text.split_once(':').map_or((text.as_str(), None), |(name, max)| (name, Some(max)));
    let policy = match (name, max.map(str::parse::<u32>)) {
        ("no" | "", None) => RestartPolicy::No,
        ("always", None) => RestartPolicy::Always,
        ("unless-stopped", None) => RestartPolicy::UnlessStopped,
        ("on-failure", None) => RestartPolicy::OnFailure { max: None },
        ("on-failure", Some(Ok(max))) => RestartPolicy::OnFailure { max: Some(max) },
        _ => {
            let problem = node.at.problem("bad-restart", format!("`{text}` is no way to restart"));
            report.problem(
                problem
                    .hint("there are `\"no\"`, `always`, `on-failure`, `on-failure:5` and `unless-stopped`"),
            );
            return None;
        }
    };
    Some(policy)
}
