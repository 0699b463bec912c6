//! Services that extend others, of the same file or of another one.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::load::{Environment, Loader};
use super::merge::merge;
use super::node::{Data, Node};
use super::paths;
use crate::manifest::nearest;

/// How long a chain of services that extend each other may be.
const LONGEST: usize = 100;

/// The services of one file and of those that they extend.
pub(super) struct Extends<'l, 'f, 'e> {
    pub(super) loader: &'l mut Loader<'f>,
    pub(super) env: &'e Environment,
    /// The files that were read for this, by path.
    files: BTreeMap<String, Option<Rc<Node>>>,
    /// Services, by file and name, that cannot be had and have been told.
    refused: BTreeSet<(String, String)>,
}

impl<'l, 'f, 'e> Extends<'l, 'f, 'e> {
    pub(super) fn new(loader: &'l mut Loader<'f>, env: &'e Environment) -> Self {
        Self { loader, env, files: BTreeMap::new(), refused: BTreeSet::new() }
    }

    /// The file with all that its services take from others.
    pub(super) fn resolve(&mut self, file: Node, path: &str) -> Node {
        let mut done = file.clone();
        let file = Rc::new(file);
        self.files.insert(path.to_owned(), Some(Rc::clone(&file)));
        for entry in done.get_mut("services").and_then(Node::entries_mut).into_iter().flatten() {
            if entry.value.get("extends").is_none() {
                continue;
            }
            if let Some(service) = self.service(&file, path, &entry.key, &mut Vec::new()) {
                entry.value = service;
            }
        }
        done
    }

    fn service(
        &mut self,
        file: &Rc<Node>,
        path: &str,
        name: &str,
        chain: &mut Vec<(String, String)>,
    ) -> Option<Node> {
        let mut own = file.get("services")?.get(name)?.clone();
        let Some(position) = own.entries().iter().position(|entry| entry.key == "extends") else {
            return Some(own);
        };
        let entry = own.entries_mut()?.remove(position);
        let step = (path.to_owned(), name.to_owned());
        if self.refused.contains(&step) {
            return None;
        }
        if let Some(begin) = chain.iter().position(|earlier| *earlier == step) {
            self.refused.extend(chain.iter().cloned());
            let names: Vec<&str> =
                chain[begin..].iter().map(|(_, name)| name.as_str()).chain([name]).collect();
            let what = format!("`{name}` extends itself: {}", names.join(" → "));
            self.loader.report.problem(entry.value.at.problem("extends-cycle", what));
            return None;
        }
        chain.push(step);
        if chain.len() > LONGEST {
            self.refused.extend(chain.iter().cloned());
            let what = format!("more than {LONGEST} services extend each other");
            self.loader.report.problem(entry.value.at.problem("extends-too-long", what));
            return None;
        }
        let Some(base) = self.base(file, path, &entry.value, chain) else {
            self.refused.insert((path.to_owned(), name.to_owned()));
            return None;
        };
        Some(merge(base, own, &["services", name]))
    }

    /// The service that `extends` names, with all that it takes from others.
    fn base(
        &mut self,
        file: &Rc<Node>,
        path: &str,
        extends: &Node,
        chain: &mut Vec<(String, String)>,
    ) -> Option<Node> {
        let report = &mut self.loader.report;
        let (service, other) = match &extends.data {
            Data::Text(_) => (Some(extends), None),
            _ => {
                let fields = report.fields(extends, "services.*.extends", "extends")?;
                (fields.get("service"), fields.get("file"))
            }
        };
        let Some(service) = service else {
            let problem = extends.at.problem("wrong-type", "`extends` does not say which `service`");
            report.problem(problem.hint("such as `extends: { file: common.yaml, service: app }`"));
            return None;
        };
        let name = report.text(service, "service")?;
        let (file, path) = match other {
            None => (Rc::clone(file), path.to_owned()),
            Some(other) => {
                let path = paths::clean(&report.text(other, "file")?);
                (self.file(&path, other)?, path)
            }
        };
        let services = file.get("services");
        if services.and_then(|services| services.get(&name)).is_none() {
            let problem =
                service.at.problem("unknown-service", format!("there is no service `{name}` in `{path}`"));
            let known =
                services.map(Node::entries).unwrap_or_default().iter().map(|entry| entry.key.as_str());
            self.loader.report.problem(match nearest(&name, known) {
                Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                None => problem,
            });
            return None;
        }
        self.service(&file, &path, &name, chain)
    }

    fn file(&mut self, path: &str, named: &Node) -> Option<Rc<Node>> {
        if let Some(known) = self.files.get(path) {
            return known.clone();
        }
        let source = self.loader.need(path, &named.at);
        let file = source.and_then(|source| self.loader.document(&source, self.env, paths::folder(path)));
        let file = file.map(Rc::new);
        self.files.insert(path.to_owned(), file.clone());
        file
    }
}
