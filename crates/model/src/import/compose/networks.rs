//! Networks, those that a project declares and those that a service is in.

use std::collections::{BTreeMap, BTreeSet};

use super::names;
use super::node::{Data, Node};
use super::report::Report;
use super::types::{AddressPool, Network, Volume};
use crate::container::{Attachment, NetworkMode};

/// The networks that a project declares.
pub(super) fn declared(report: &mut Report, model: &Node, project: &str) -> BTreeMap<String, Network> {
    let mut networks = BTreeMap::new();
    for entry in names::section(report, model, "networks") {
        let Some(fields) = report.fields(&entry.value, "networks.*", &entry.key) else { continue };
        let mut truth = |key| fields.get(key).and_then(|node| report.truth(node, key)) == Some(true);
        let (internal, attachable, enable_ipv6) =
            (truth("internal"), truth("attachable"), truth("enable_ipv6"));
        let external = names::external(report, fields);
        let name = fields.get("name").and_then(|node| report.text(node, "name"));
        let pools = fields.get("ipam").map(|node| pools(report, node)).unwrap_or_default();
        let network = Network {
            name: on_engine(project, &entry.key, name, external.as_ref()),
            external: external.is_some(),
            driver: fields.get("driver").and_then(|node| report.text(node, "driver")),
            driver_opts: fields
                .get("driver_opts")
                .map(|node| report.named(node, "driver_opts"))
                .unwrap_or_default(),
            internal,
            attachable,
            enable_ipv6,
            pools,
            labels: fields.get("labels").map(|node| report.named(node, "labels")).unwrap_or_default(),
        };
        networks.insert(entry.key.clone(), network);
    }
    networks
}

/// The volumes that a project declares.
pub(super) fn volumes(report: &mut Report, model: &Node, project: &str) -> BTreeMap<String, Volume> {
    let mut volumes = BTreeMap::new();
    for entry in names::section(report, model, "volumes") {
        let Some(fields) = report.fields(&entry.value, "volumes.*", &entry.key) else { continue };
        let external = names::external(report, fields);
        let name = fields.get("name").and_then(|node| report.text(node, "name"));
        let volume = Volume {
            name: on_engine(project, &entry.key, name, external.as_ref()),
            external: external.is_some(),
            driver: fields.get("driver").and_then(|node| report.text(node, "driver")),
            driver_opts: fields
                .get("driver_opts")
                .map(|node| report.named(node, "driver_opts"))
                .unwrap_or_default(),
            labels: fields.get("labels").map(|node| report.named(node, "labels")).unwrap_or_default(),
        };
        volumes.insert(entry.key.clone(), volume);
    }
    volumes
}

/// The name on the engine: the one that is given, or that of the project and the key.
fn on_engine(project: &str, key: &str, name: Option<String>, external: Option<&names::External>) -> String {
    match external {
        Some(external) => name.or_else(|| external.name.clone()).unwrap_or_else(|| key.to_owned()),
        None => name.unwrap_or_else(|| format!("{project}_{key}")),
    }
}

fn pools(report: &mut Report, node: &Node) -> Vec<AddressPool> {
    let config = report.fields(node, "networks.*.ipam", "ipam").and_then(|fields| fields.get("config"));
    let Some(config) = config else { return Vec::new() };
    let Data::List(items) = &config.data else {
        report.wrong(config, "config", "a list");
        return Vec::new();
    };
    let mut pools = Vec::new();
    for item in items {
        let Some(fields) = report.fields(item, "networks.*.ipam.config.*", "config") else { continue };
        let mut text = |key| fields.get(key).and_then(|node| report.text(node, key));
        pools.push(AddressPool {
            subnet: text("subnet"),
            ip_range: text("ip_range"),
            gateway: text("gateway"),
        });
    }
    pools
}

/// The networks of a service, by their names on the engine.
pub(super) fn attachments(
    report: &mut Report,
    node: &Node,
    service: &str,
    known: &BTreeMap<String, Network>,
) -> BTreeMap<String, Attachment> {
    let named: Vec<(&str, &super::source::Place, Option<&Node>)> = match &node.data {
        Data::List(items) => {
            report.texts(node, "networks");
            items.iter().filter_map(|item| Some((item.as_text()?, &item.at, None))).collect()
        }
        Data::Map(entries) => {
            entries.iter().map(|entry| (entry.key.as_str(), &entry.key_at, Some(&entry.value))).collect()
        }
        _ => {
            report.wrong(node, "networks", "a list or a map");
            return BTreeMap::new();
        }
    };
    let mut attachments = BTreeMap::new();
    for (name, at, options) in named {
        let Some(network) = known.get(name) else {
            report.problem(names::unknown(at, "network", name, known.keys(), "networks"));
            continue;
        };
        let mut attachment =
            Attachment { aliases: BTreeSet::from([service.to_owned()]), ..Attachment::default() };
        if let Some(node) = options
            && let Some(fields) = report.fields(node, "services.*.networks.*", name)
        {
            let mut text = |key| fields.get(key).and_then(|node| report.text(node, key));
            attachment.ipv4 = text("ipv4_address");
            attachment.ipv6 = text("ipv6_address");
            attachment.mac = text("mac_address");
            if let Some(aliases) = fields.get("aliases") {
                attachment
                    .aliases
                    .extend(report.texts(aliases, "aliases").into_iter().map(|(alias, _)| alias));
            }
            let priority = fields.get("gw_priority").or(fields.get("priority"));
            attachment.priority = priority.and_then(|node| report.whole(node, "priority"));
        }
        attachments.insert(network.name.clone(), attachment);
    }
    attachments
}

/// What `network_mode` says.
pub(super) fn mode(text: &str) -> NetworkMode {
    match text.split_once(':') {
        Some(("service", name)) => NetworkMode::Unit(name.to_owned()),
        Some(("container", name)) => NetworkMode::Container(name.to_owned()),
        _ if text == "none" => NetworkMode::None,
        _ if text == "host" => NetworkMode::Host,
        _ => {
            let name = if text == "default" { "bridge" } else { text };
            NetworkMode::Networks(BTreeMap::from([(name.to_owned(), Attachment::default())]))
        }
    }
}
