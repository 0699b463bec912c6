//! Names that are added to `/etc/hosts`.

use super::node::{Data, Node};
use super::report::Report;
use crate::container::ExtraHost;

/// A list of `name=address` or `name:address`, or a map.
pub(super) fn read(report: &mut Report, node: &Node) -> Vec<ExtraHost> {
    let mut hosts = Vec::new();
    let mut add = |name: &str, address: &str| {
        let address = address.trim();
        let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        hosts.push(ExtraHost { name: name.trim().to_owned(), address: address.to_owned() });
    };
    if let Data::Map(entries) = &node.data {
        for entry in entries {
            for address in report.one_or_more(&entry.value, &entry.key) {
                add(&entry.key, &address);
            }
        }
        return hosts;
    }
    for (text, at) in report.texts(node, "extra_hosts") {
        match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((name, address)) if !name.is_empty() && !address.is_empty() => add(name, address),
            _ => {
                let problem = at.problem("bad-host", format!("`{text}` is not a name with its address"));
                report.problem(
                    problem.hint("such as `db.local=10.0.0.7` or `host.docker.internal=host-gateway`"),
                );
            }
        }
    }
    hosts
}
