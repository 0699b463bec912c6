//! Projects that a file includes.

use super::extends::Extends;
use super::load::{Environment, Loader};
use super::merge::merge;
use super::node::{Data, Entry, Node};
use super::paths;

/// The sections whose entries an included project brings in.
const SECTIONS: [&str; 5] = ["services", "networks", "volumes", "configs", "secrets"];

/// A file with what its services extend and what it includes. `chain` is the files that led here.
pub(super) fn complete(
    loader: &mut Loader<'_>,
    file: Node,
    path: &str,
    env: &Environment,
    chain: &mut Vec<String>,
) -> Node {
    let mut file = Extends::new(loader, env).resolve(file, path);
    let position = file.entries().iter().position(|entry| entry.key == "include");
    let Some(include) = position.and_then(|at| file.entries_mut().map(|entries| entries.remove(at))) else {
        return file;
    };
    match &include.value.data {
        Data::List(items) => {
            chain.push(path.to_owned());
            for item in items {
                if let Some(included) = project(loader, item, env, chain) {
                    bring_in(loader, &mut file, included, item);
                }
            }
            chain.pop();
        }
        Data::Null => {}
        _ => loader.report.wrong(&include.value, "include", "a list"),
    }
    file
}

/// One included project, of one file or of several that go over each other.
fn project(loader: &mut Loader<'_>, item: &Node, env: &Environment, chain: &mut Vec<String>) -> Option<Node> {
    let (files, folder, env_files) = match &item.data {
        Data::Text(path) => (vec![path.clone()], None, None),
        _ => {
            let fields = loader.report.fields(item, "include.*", "include")?;
            let files =
                fields.get("path").map(|node| loader.report.one_or_more(node, "path")).unwrap_or_default();
            let folder = fields.get("project_directory");
            let folder = folder.and_then(|node| loader.report.text(node, "project_directory"));
            (files, folder, fields.get("env_file"))
        }
    };
    let Some(first) = files.first() else {
        loader.report.problem(item.at.problem("wrong-type", "this `include` does not say which `path`"));
        return None;
    };
    let folder = folder.unwrap_or_else(|| paths::folder(&paths::clean(first)).to_owned());
    let folder = if paths::clean(&folder) == "." { String::new() } else { paths::clean(&folder) };
    let env = environment(loader, item, env_files, &folder, env);
    let mut whole: Option<Node> = None;
    for path in &files {
        let path = paths::clean(path);
        if chain.contains(&path) {
            let what = format!("`{path}` includes itself: {} → {path}", chain.join(" → "));
            loader.report.problem(item.at.problem("include-cycle", what));
            return None;
        }
        let source = loader.need(&path, &item.at)?;
        let file = loader.document(&source, &env, &folder)?;
        let file = complete(loader, file, &path, &env, chain);
        whole = Some(match whole {
            None => file,
            Some(earlier) => merge(earlier, file, &[]),
        });
    }
    whole
}

/// The variables of an included project: those around it, over those of its own files.
fn environment(
    loader: &mut Loader<'_>,
    item: &Node,
    files: Option<&Node>,
    folder: &str,
    outer: &Environment,
) -> Environment {
    let mut env = Environment::new();
    match files {
        Some(files) => {
            for path in loader.report.one_or_more(files, "env_file") {
                if let Some(source) = loader.need(&paths::clean(&path), &files.at) {
                    env.extend(loader.variables(&source, outer));
                }
            }
        }
        None if folder.is_empty() => {}
        None => {
            if let Some(source) = loader.read(&paths::join(folder, ".env"), Some(&item.at)) {
                env = loader.variables(&source, outer);
            }
        }
    }
    env.extend(outer.clone());
    env
}

/// Adds what an included project declares; a name that is taken by something else is a problem.
fn bring_in(loader: &mut Loader<'_>, file: &mut Node, included: Node, item: &Node) {
    loader.report.fields(&included, "", "");
    let Data::Map(sections) = included.data else { return };
    for section in sections {
        if !SECTIONS.contains(&section.key.as_str()) || section.value.is_null() {
            continue;
        }
        let Some(own) = file.entries_mut() else { return };
        let Some(known) = own.iter_mut().find(|entry| entry.key == section.key && !entry.value.is_null())
        else {
            own.retain(|entry| entry.key != section.key);
            own.push(section);
            continue;
        };
        let Data::Map(entries) = section.value.data else { continue };
        for entry in entries {
            match known.value.get(&entry.key) {
                Some(own) if own.same(&entry.value) => {}
                Some(_) => loader.report.problem(conflict(&section.key, &entry, item)),
                None => known.value.entries_mut().into_iter().for_each(|known| known.push(entry.clone())),
            }
        }
    }
}

fn conflict(section: &str, entry: &Entry, item: &Node) -> crate::manifest::Problem {
    let kind = section.strip_suffix('s').unwrap_or(section);
    let name = &entry.key;
    let from = &entry.key_at.source.name;
    entry
        .key_at
        .problem("include-conflict", format!("the {kind} `{name}` of `{from}` is declared elsewhere too"))
        .why(format!(
            "`{}` includes this file, and what is included cannot change what is there",
            item.at.source.name
        ))
        .hint("give one of them another name; to change it, use a `compose.override.yaml`")
}
