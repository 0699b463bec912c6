//! One file over another, and a service over the one that it extends.

use super::node::{Data, Entry, Node, Over};

/// How a value goes over an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Maps merge, lists are appended, all else is replaced.
    Usual,
    /// It takes the place of the earlier one.
    Replace,
    /// Both are lists of `NAME=value` or maps; they merge by name.
    Pairs,
    /// Both are lists of names or maps; they merge by name.
    Names,
    /// Both are one text or lists; they are appended.
    Lists,
    /// Both are lists of `name:address` or maps; they are appended.
    Hosts,
    /// A text is the context of a build.
    Build,
    /// Options go along with the driver that they are for.
    Logging,
    /// Lists of maps, of which those with the same subnet merge.
    Pools,
}

fn rule(path: &[&str]) -> Rule {
    match path {
        ["services", _, "command" | "entrypoint"]
        | ["services", _, "healthcheck", "test"]
        | ["services", _, "ulimits", _] => Rule::Replace,
        ["services", _, "environment" | "labels" | "annotations" | "sysctls"]
        | ["services", _, "build", "args" | "labels" | "additional_contexts"]
        | ["services", _, "deploy", "labels"]
        | ["networks" | "volumes" | "configs" | "secrets", _, "labels"] => Rule::Pairs,
        ["services", _, "depends_on" | "networks"] => Rule::Names,
        ["services", _, "dns" | "dns_search" | "dns_opt" | "tmpfs" | "env_file" | "label_file"] => {
            Rule::Lists
        }
        ["services", _, "extra_hosts"] | ["services", _, "build", "extra_hosts"] => Rule::Hosts,
        ["services", _, "build"] => Rule::Build,
        ["services", _, "logging"] => Rule::Logging,
        ["networks", _, "ipam", "config"] => Rule::Pools,
        _ => Rule::Usual,
    }
}

/// The later value over the earlier one, at this path. What is reset stays in as such: [`prune`] takes it out when
/// nothing more is to come.
pub(super) fn merge(earlier: Node, later: Node, path: &[&str]) -> Node {
    if later.over != Over::Merge {
        return later;
    }
    // Over what was reset, only what comes now counts, and still takes the place of what it is laid over.
    if earlier.over == Over::Reset {
        return Node { over: Over::Replace, ..later };
    }
    let over = earlier.over;
    let rule = rule(path);
    let (earlier, later) = match rule {
        Rule::Replace if !later.is_null() => return Node { over, ..later },
        Rule::Pairs => (as_pairs(earlier), as_pairs(later)),
        Rule::Names => (as_names(earlier, path), as_names(later, path)),
        Rule::Lists => (as_list(earlier), as_list(later)),
        Rule::Hosts => (as_hosts(earlier), as_hosts(later)),
        Rule::Build => (as_build(earlier), as_build(later)),
        Rule::Logging if other_driver(&earlier, &later) => return Node { over, ..later },
        _ => (earlier, later),
    };
    let Node { at, data, .. } = earlier;
    let (at, data) = match (data, later.data) {
        (data, Data::Null) => (at, data),
        (Data::Map(earlier), Data::Map(later)) => (at, Data::Map(merge_maps(earlier, later, path, rule))),
        (Data::List(earlier), Data::List(later)) if rule == Rule::Pools => {
            (at, Data::List(merge_pools(earlier, later, path)))
        }
        (Data::List(mut earlier), Data::List(later)) => {
            for item in later {
                if !earlier.iter().any(|known| known.same(&item)) {
                    earlier.push(item);
                }
            }
            (at, Data::List(earlier))
        }
        (_, data) => (later.at, data),
    };
    Node { at, over, data }
}

fn merge_maps(mut earlier: Vec<Entry>, later: Vec<Entry>, path: &[&str], rule: Rule) -> Vec<Entry> {
    for entry in later {
        match earlier.iter_mut().find(|known| known.key == entry.key) {
            // A name without a value says that the value comes from outside, which is a value too.
            Some(known) if rule == Rule::Pairs => *known = entry,
            Some(known) => {
                let mut path = path.to_vec();
                path.push(&entry.key);
                let hole = Node::new(known.value.at.clone(), Data::Null);
                let value = std::mem::replace(&mut known.value, hole);
                known.value = merge(value, entry.value, &path);
            }
            None => earlier.push(entry),
        }
    }
    earlier
}

fn merge_pools(mut earlier: Vec<Node>, later: Vec<Node>, path: &[&str]) -> Vec<Node> {
    for pool in later {
        let subnet = pool.get("subnet").and_then(Node::as_text).map(str::to_owned);
        let known = earlier.iter().position(|known| {
            subnet.is_some() && known.get("subnet").and_then(Node::as_text) == subnet.as_deref()
        });
        match known {
            Some(known) => earlier[known] = merge(earlier[known].clone(), pool, &[path, &["*"]].concat()),
            None => earlier.push(pool),
        }
    }
    earlier
}

fn other_driver(earlier: &Node, later: &Node) -> bool {
    let driver = |node: &Node| node.get("driver").and_then(Node::as_text).map(str::to_owned);
    matches!((driver(earlier), driver(later)), (Some(earlier), Some(later)) if earlier != later)
}

/// A list of `NAME=value` as a map.
fn as_pairs(node: Node) -> Node {
    let Data::List(items) = &node.data else { return node };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let Some(text) = item.as_text() else { return node };
        let (key, data) = match text.split_once('=') {
            Some((key, value)) => (key, Data::Text(value.to_owned())),
            None => (text, Data::Null),
        };
        let value = Node { data, ..item.clone() };
        let entry = Entry { key: key.to_owned(), key_at: item.at.clone(), value };
        match entries.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
    }
    Node { data: Data::Map(entries), ..node }
}

/// A list of names as a map of them.
fn as_names(node: Node, path: &[&str]) -> Node {
    let Data::List(items) = &node.data else { return node };
    let mut entries = Vec::new();
    for item in items {
        let Some(name) = item.as_text() else { return node };
        let data = match path.last() {
            Some(&"depends_on") => Data::Map(vec![Entry {
                key: "condition".to_owned(),
                key_at: item.at.clone(),
                value: Node::new(item.at.clone(), Data::Text("service_started".to_owned())),
            }]),
            _ => Data::Null,
        };
        let value = Node { data, ..item.clone() };
        entries.push(Entry { key: name.to_owned(), key_at: item.at.clone(), value });
    }
    Node { data: Data::Map(entries), ..node }
}

/// One value as a list of it.
fn as_list(node: Node) -> Node {
    match node.data {
        Data::Null | Data::List(_) => node,
        _ => Node { at: node.at.clone(), over: node.over, data: Data::List(vec![node]) },
    }
}

/// A map of names and addresses as a list.
fn as_hosts(node: Node) -> Node {
    let Data::Map(entries) = &node.data else { return node };
    let mut items = Vec::new();
    for entry in entries {
        let addresses = if entry.value.items().is_empty() {
            std::slice::from_ref(&entry.value)
        } else {
            entry.value.items()
        };
        for address in addresses {
            let text = format!("{}={}", entry.key, address.scalar().unwrap_or_default());
            items.push(Node { data: Data::Text(text), ..address.clone() });
        }
    }
    Node { data: Data::List(items), ..node }
}

/// The context of a build as a map of it.
fn as_build(node: Node) -> Node {
    if node.as_text().is_none() {
        return node;
    }
    let (at, over) = (node.at.clone(), node.over);
    let entry =
        Entry { key: "context".to_owned(), key_at: at.clone(), value: Node { over: Over::Merge, ..node } };
    Node { at, over, data: Data::Map(vec![entry]) }
}

/// Takes out what is reset.
pub(super) fn prune(node: &mut Node) {
    node.over = Over::Merge;
    match &mut node.data {
        Data::Map(entries) => {
            entries.retain(|entry| entry.value.over != Over::Reset);
            entries.iter_mut().for_each(|entry| prune(&mut entry.value));
        }
        Data::List(items) => {
            items.retain(|item| item.over != Over::Reset);
            items.iter_mut().for_each(prune);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::super::yaml::parse;
    use super::*;

    /// A value in short.
    fn shown(node: &Node) -> String {
        match &node.data {
            Data::Map(entries) => {
                let all: Vec<_> = entries.iter().map(|e| format!("{}: {}", e.key, shown(&e.value))).collect();
                format!("{{{}}}", all.join(", "))
            }
            Data::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
            Data::Null => "~".to_owned(),
            _ => node.scalar().unwrap_or_default(),
        }
    }

    /// What is under a service when one file goes over another.
    fn merged(earlier: &str, later: &str) -> String {
        let read = |text: &str| {
            let text = format!("services:\n  a:\n    {}\n", text.replace('\n', "\n    "));
            parse(&Source::new("compose.yaml", &text)).expect("YAML")
        };
        let mut node = merge(read(earlier), read(later), &[]);
        prune(&mut node);
        shown(node.get("services").and_then(|services| services.get("a")).expect("a service"))
    }

    #[test]
    fn maps_merge_and_lists_are_appended() {
        for (earlier, later, expected) in [
            ("x: 1\ny: 2", "y: 3\nz: 4", "{x: 1, y: 3, z: 4}"),
            ("dns_opt: [a]", "dns_opt: [b, a]", "{dns_opt: [a, b]}"),
            ("command: [a, b]", "command: [c]", "{command: [c]}"),
            (
                "healthcheck: {test: [a], retries: 1}",
                "healthcheck: {test: [b]}",
                "{healthcheck: {test: [b], retries: 1}}",
            ),
            ("environment: [A=1, B=2]", "environment: {B: 3, C: }", "{environment: {A: 1, B: 3, C: ~}}"),
            (
                "depends_on: [a]",
                "depends_on: {b: {condition: x}}",
                "{depends_on: {a: {condition: service_started}, b: {condition: x}}}",
            ),
            ("networks: [a]", "networks: {b: {priority: 1}}", "{networks: {a: ~, b: {priority: 1}}}"),
            ("dns: a", "dns: [b]", "{dns: [a, b]}"),
            (
                "extra_hosts: {a: 1.1.1.1}",
                "extra_hosts: ['b:2.2.2.2']",
                "{extra_hosts: [a=1.1.1.1, b:2.2.2.2]}",
            ),
            ("build: ./x", "build: {target: t}", "{build: {context: ./x, target: t}}"),
            ("logging: {driver: a, options: {x: 1}}", "logging: {driver: b}", "{logging: {driver: b}}"),
            (
                "logging: {driver: a, options: {x: 1}}",
                "logging: {options: {y: 2}}",
                "{logging: {driver: a, options: {x: 1, y: 2}}}",
            ),
            ("ulimits: {n: 1}", "ulimits: {n: {soft: 1, hard: 2}}", "{ulimits: {n: {soft: 1, hard: 2}}}"),
            ("image: a", "image:", "{image: a}"),
        ] {
            assert_eq!(merged(earlier, later), expected, "{later}");
        }
    }

    #[test]
    fn what_is_reset_or_replaced_does_not_merge() {
        for (earlier, later, expected) in [
            ("ports: [a, b]", "ports: !reset []", "{}"),
            ("ports: [a, b]", "ports: !override\n  - c", "{ports: [c]}"),
            ("environment: {A: 1, B: 2}", "environment: {A: !reset null}", "{environment: {B: 2}}"),
            ("image: !reset x", "image: y", "{image: y}"),
        ] {
            assert_eq!(merged(earlier, later), expected, "{later}");
        }
    }
}
