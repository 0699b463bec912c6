//! The files of a project: which ones are read, with which variables, and how they become one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use super::dotenv::{self, Variables};
use super::interpolate::{Malformed, interpolate};
use super::node::{Data, Node};
use super::paths;
use super::report::Report;
use super::source::{Place, Source};
use super::yaml;
use crate::manifest::Problem;

/// Gives a file by its path from the project's folder; `None` if it is not there.
pub(super) type Files<'f> = &'f dyn Fn(&str) -> Result<Option<String>, String>;

/// Variables by name.
pub(super) type Environment = BTreeMap<String, String>;

/// How many files a project may be read from.
const MOST_FILES: usize = 1000;

/// What reads files, and remembers what was found.
pub(super) struct Loader<'f> {
    files: Files<'f>,
    pub(super) report: Report,
    /// Every path that was asked for.
    pub(super) asked: BTreeSet<String>,
    reads: usize,
}

impl<'f> Loader<'f> {
    pub(super) fn new(files: Files<'f>) -> Self {
        Self { files, report: Report::default(), asked: BTreeSet::new(), reads: 0 }
    }

    /// A file, or nothing if it is not there; what cannot be read is a problem.
    pub(super) fn read(&mut self, path: &str, at: Option<&Place>) -> Option<Rc<Source>> {
        self.asked.insert(path.to_owned());
        self.reads += 1;
        let read = if self.reads > MOST_FILES {
            Err(format!("a project is read from at most {MOST_FILES} files"))
        } else {
            (self.files)(path)
        };
        match read {
            Ok(text) => text.map(|text| Source::new(path, &text)),
            Err(why) => {
                let problem = Problem::new("unreadable-file", format!("`{path}` cannot be read")).why(why);
                self.report.problem(match at {
                    Some(at) => problem.at(at.location()),
                    None => problem,
                });
                None
            }
        }
    }

    /// A file that must be there.
    pub(super) fn need(&mut self, path: &str, at: &Place) -> Option<Rc<Source>> {
        let before = self.report.problems.len();
        let source = self.read(path, Some(at));
        if source.is_none() && self.report.problems.len() == before {
            let problem = at.problem("missing-file", format!("there is no file `{path}`"));
            self.report.problem(problem.hint("paths are from the folder of the file that names them"));
        }
        source
    }

    /// The variables of a file, as they are read with these around them.
    pub(super) fn variables(&mut self, source: &Rc<Source>, outer: &Environment) -> Environment {
        let place = |bytes: Range<usize>| Place { source: Rc::clone(source), bytes };
        match dotenv::parse(&source.text, &|name| outer.get(name).cloned()) {
            Ok(Variables { values, unset }) => {
                for (name, range) in unset {
                    self.report.note(&place(range), unset_note(&name));
                }
                values
            }
            Err(malformed) => {
                self.report.problem(malformed_problem(&place(malformed.range.clone()), malformed));
                Environment::new()
            }
        }
    }

    /// A file as values, with no variables put in.
    pub(super) fn parse(&mut self, source: &Rc<Source>) -> Option<Node> {
        match yaml::parse(source) {
            Ok(node) if matches!(node.data, Data::Map(_)) => return Some(node),
            Ok(node) => self.report.wrong(&node, &source.name, "a map"),
            Err(problem) => self.report.problem(problem),
        }
        None
    }

    /// A file with its variables put in, and its paths from the project's folder.
    pub(super) fn document(&mut self, source: &Rc<Source>, env: &Environment, folder: &str) -> Option<Node> {
        let mut node = self.parse(source)?;
        self.put_in(&mut node, env);
        paths::rebase(&mut node, folder);
        Some(node)
    }

    /// Puts the variables into a file, but for what is of its own kind.
    pub(super) fn put_in(&mut self, file: &mut Node, env: &Environment) {
        for entry in file.entries_mut().into_iter().flatten() {
            if !entry.key.starts_with("x-") {
                self.put_in_value(&mut entry.value, env);
            }
        }
    }

    pub(super) fn put_in_value(&mut self, node: &mut Node, env: &Environment) {
        let Node { at, data, .. } = node;
        match data {
            Data::Text(text) if text.contains('$') => {
                match interpolate(text, &|name| env.get(name).cloned()) {
                    Ok(done) => {
                        for (name, range) in done.unset {
                            self.report.note(&at.part(&text[range]), unset_note(&name));
                        }
                        *text = done.text;
                    }
                    Err(malformed) => {
                        let at = at.part(&text[malformed.range.clone()]);
                        self.report.problem(malformed_problem(&at, malformed));
                    }
                }
            }
            Data::List(items) => items.iter_mut().for_each(|item| self.put_in_value(item, env)),
            Data::Map(entries) => {
                entries.iter_mut().for_each(|entry| self.put_in_value(&mut entry.value, env))
            }
            _ => {}
        }
    }
}

fn unset_note(name: &str) -> String {
    format!("the variable `{name}` is not set, and is empty here")
}

fn malformed_problem(at: &Place, malformed: Malformed) -> Problem {
    at.problem("bad-interpolation", malformed.what).hint(malformed.hint)
}
