//! Devices of the host, and limits of processes.

use std::collections::BTreeMap;

use super::node::{Data, Node};
use super::report::Report;
use crate::container::{Device, Ulimit};

/// Reads `devices`: `SOURCE[:TARGET[:PERMISSIONS]]` or a map in each item.
pub(super) fn read(report: &mut Report, node: &Node) -> Vec<Device> {
    let Data::List(items) = &node.data else {
        report.wrong(node, "devices", "a list");
        return Vec::new();
    };
    let mut devices: Vec<Device> = Vec::new();
    for item in items {
        let (source, target, permissions) = match &item.data {
            Data::Text(text) => {
                let mut parts = text.splitn(3, ':').map(str::to_owned);
                (parts.next().unwrap_or_default(), parts.next(), parts.next())
            }
            _ => {
                let Some(fields) = report.fields(item, "services.*.devices.*", "devices") else { continue };
                let mut text = |key| fields.get(key).and_then(|node| report.text(node, key));
                (text("source").unwrap_or_default(), text("target"), text("permissions"))
            }
        };
        if source.contains('=') {
            report.note(&item.at, format!("`{source}` is left out: devices are given by their paths"));
            continue;
        }
        if !source.starts_with('/') {
            let problem = item.at.problem("bad-device", "this is not a device of the host");
            report.problem(problem.hint("such as `/dev/ttyUSB0:/dev/ttyUSB0`"));
            continue;
        }
        // A device that is named with rights alone keeps its path.
        let rights = |text: &String| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
        let (target, permissions) = match (target, permissions) {
            (Some(target), None) if rights(&target) => (None, Some(target)),
            both => both,
        };
        let target = target.filter(|target| !target.is_empty()).unwrap_or_else(|| source.clone());
        let device = Device { source, target, permissions: permissions.unwrap_or_else(|| "rwm".to_owned()) };
        match devices.iter_mut().find(|known| known.target == device.target) {
            Some(known) => *known = device,
            None => devices.push(device),
        }
    }
    devices
}

/// Reads `ulimits`: a number, or a soft and a hard one.
pub(super) fn ulimits(report: &mut Report, node: &Node) -> BTreeMap<String, Ulimit> {
    let Data::Map(entries) = &node.data else {
        report.wrong(node, "ulimits", "a map");
        return BTreeMap::new();
    };
    let mut limits = BTreeMap::new();
    for entry in entries {
        let (soft, hard) = match &entry.value.data {
            Data::Map(_) => {
                let path = "services.*.ulimits.*";
                let Some(fields) = report.fields(&entry.value, path, &entry.key) else { continue };
                let mut number = |key| fields.get(key).map(|node| report.whole(node, key));
                let (soft, hard) = (number("soft"), number("hard"));
                if soft.is_none() || hard.is_none() {
                    let what = format!("`{}` needs both `soft` and `hard`", entry.key);
                    report.problem(entry.key_at.problem("bad-ulimit", what).hint("one number alone is both"));
                }
                (soft.flatten(), hard.flatten())
            }
            _ => {
                let both = report.whole(&entry.value, &entry.key);
                (both, both)
            }
        };
        if let (Some(soft), Some(hard)) = (soft, hard) {
            limits.insert(entry.key.clone(), Ulimit { soft, hard });
        }
    }
    limits
}
