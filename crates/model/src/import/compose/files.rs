//! Configs and secrets: where they come from, and where they appear.

use std::collections::BTreeMap;

use super::load::Environment;
use super::node::{Data, Node};
use super::report::Report;
use super::types::{FileUse, Stored};
use super::{names, paths};

/// The two kinds, which differ in little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Config,
    Secret,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Secret => "secret",
        }
    }

    fn section(self) -> &'static str {
        match self {
            Self::Config => "configs",
            Self::Secret => "secrets",
        }
    }

    /// Where one appears that is not given an absolute path.
    fn target(self, name: &str) -> String {
        match self {
            _ if name.starts_with('/') => paths::clean(name),
            Self::Config => paths::clean(&format!("/{name}")),
            Self::Secret => paths::clean(&format!("/run/secrets/{name}")),
        }
    }
}

/// The configs or secrets that a project declares.
pub(super) fn declared(report: &mut Report, model: &Node, kind: Kind) -> BTreeMap<String, Stored> {
    let mut declared = BTreeMap::new();
    for entry in names::section(report, model, kind.section()) {
        let path = if kind == Kind::Config { "configs.*" } else { "secrets.*" };
        let Some(fields) = report.fields(&entry.value, path, &entry.key) else { continue };
        let name = fields.get("name").and_then(|node| report.text(node, "name"));
        if let Some(external) = names::external(report, fields) {
            let name = name.or(external.name).unwrap_or_else(|| entry.key.clone());
            declared.insert(entry.key.clone(), Stored::External(name));
            continue;
        }
        let ways = ["file", "environment", "content"].map(|key| (key, fields.get(key)));
        let mut given = ways.iter().filter_map(|(key, node)| Some((*key, (*node)?)));
        let stored = match (given.next(), given.next()) {
            (Some((key, node)), None) => report.text(node, key).map(|text| match key {
                "file" => Stored::File(paths::clean(&text)),
                "environment" => Stored::Environment(text),
                _ => Stored::Content(text),
            }),
            (first, _) => {
                let word = kind.word();
                let what = match first {
                    None => format!("nothing says where the {word} `{}` comes from", entry.key),
                    Some(_) => format!("the {word} `{}` comes from more than one place", entry.key),
                };
                let problem = entry.key_at.problem("bad-file", what);
                report.problem(
                    problem.hint("give one of `file`, `environment`, `content` or `external: true`"),
                );
                // It is declared all the same: who uses it is not wrong about that.
                Some(Stored::External(entry.key.clone()))
            }
        };
        if let Some(stored) = stored {
            declared.insert(entry.key.clone(), stored);
        }
    }
    declared
}

/// The configs or secrets that a service uses, each target once.
pub(super) fn used(
    report: &mut Report,
    node: &Node,
    known: &BTreeMap<String, Stored>,
    kind: Kind,
) -> Vec<FileUse> {
    let Data::List(items) = &node.data else {
        report.wrong(node, kind.section(), "a list");
        return Vec::new();
    };
    let mut uses: Vec<FileUse> = Vec::new();
    for item in items {
        let Some((found, at)) = one(report, item, kind) else { continue };
        if !known.contains_key(&found.source) {
            report.problem(names::unknown(at, kind.word(), &found.source, known.keys(), kind.section()));
            continue;
        }
        match uses.iter_mut().find(|known| known.target == found.target) {
            Some(known) => *known = found,
            None => uses.push(found),
        }
    }
    uses
}

fn one<'n>(report: &mut Report, item: &'n Node, kind: Kind) -> Option<(FileUse, &'n super::source::Place)> {
    if let Data::Text(source) = &item.data {
        let target = kind.target(source);
        return Some((
            FileUse { source: source.clone(), target, uid: None, gid: None, mode: None },
            &item.at,
        ));
    }
    let path = if kind == Kind::Config { "services.*.configs.*" } else { "services.*.secrets.*" };
    let fields = report.fields(item, path, kind.section())?;
    let Some(source) = fields.get("source") else {
        report.problem(
            item.at
                .problem("bad-file", format!("this does not say which {}: `source` is missing", kind.word())),
        );
        return None;
    };
    let name = report.text(source, "source")?;
    let target = fields.get("target").and_then(|node| report.text(node, "target"));
    let mut number = |key| fields.get(key).and_then(|node| report.scalar(node, key));
    let (uid, gid) = (number("uid"), number("gid"));
    let mode = fields.get("mode").and_then(|node| mode(report, node));
    let target = kind.target(target.as_deref().unwrap_or(&name));
    Some((FileUse { source: name, target, uid, gid, mode }, &source.at))
}

/// Access rights: in quotes or with a zero before it octal, else the number that it is.
pub(super) fn mode(report: &mut Report, node: &Node) -> Option<u32> {
    let mode = match &node.data {
        Data::Text(text) => octal(text),
        Data::Number(text) if text.starts_with('0') => octal(text),
        Data::Number(text) => text.parse().ok(),
        _ => None,
    };
    if mode.is_none() {
        let shown = node.scalar().unwrap_or_else(|| node.kind().to_owned());
        report.problem(
            node.at.problem("bad-mode", format!("`{shown}` are no access rights")).hint("such as `0440`"),
        );
    }
    mode
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8).ok()
}

/// The values of files of variables, later ones over earlier ones.
pub(super) fn variables(
    loader: &mut super::load::Loader<'_>,
    node: &Node,
    key: &'static str,
    env: &Environment,
) -> Environment {
    let items = match &node.data {
        Data::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut values = Environment::new();
    for item in items {
        let (path, required, raw) = match &item.data {
            Data::Map(_) if key == "env_file" => {
                let Some(fields) = loader.report.fields(item, "services.*.env_file.*", key) else { continue };
                let required = fields.get("required").and_then(|node| loader.report.truth(node, "required"));
                let format = fields.get("format").and_then(|node| loader.report.text(node, "format"));
                let Some(path) = fields.get("path").and_then(|node| loader.report.text(node, "path")) else {
                    loader
                        .report
                        .problem(item.at.problem("wrong-type", "`env_file` does not say which `path`"));
                    continue;
                };
                (path, required != Some(false), format.as_deref() == Some("raw"))
            }
            Data::Text(path) => (path.clone(), true, false),
            _ => {
                loader.report.wrong(item, key, "a path, or a list of paths");
                continue;
            }
        };
        let path = paths::clean(&path);
        let source = if required { loader.need(&path, &item.at) } else { loader.read(&path, Some(&item.at)) };
        let Some(source) = source else { continue };
        if raw {
            values.extend(super::dotenv::parse_raw(&source.text));
        } else {
            let mut outer = env.clone();
            outer.extend(values.clone());
            values.extend(loader.variables(&source, &outer));
        }
    }
    values
}
