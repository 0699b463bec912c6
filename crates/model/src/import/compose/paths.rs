//! Paths in a file, made relative to the project's folder where the file is for another one.

use super::node::{Data, Entry, Node};
use super::source::Place;

/// The path without `.` and needless `..`; the folder itself is `.`.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => {}
            _ => parts.push(part),
        }
    }
    match (path.starts_with('/'), parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// A path from a folder.
pub(super) fn join(folder: &str, path: &str) -> String {
    match (is_relative(path), folder) {
        (true, "") | (false, _) => clean(path),
        (true, folder) => clean(&format!("{folder}/{path}")),
    }
}

/// The folder of a file; that of the project is empty.
pub(super) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether a path begins at the folder that it is written for.
pub(super) fn is_relative(path: &str) -> bool {
    !path.starts_with(['/', '~'])
}

/// Whether a build context is a place on the network, or something else that is no folder.
pub(super) fn is_remote(context: &str) -> bool {
    context.contains("://")
        || ["git@", "github.com/", "service:", "target:"].iter().any(|begin| context.starts_with(begin))
}

/// Makes every path of a file that is for another folder one from the project's folder.
pub(super) fn rebase(file: &mut Node, folder: &str) {
    if folder.is_empty() {
        return;
    }
    let sections: [(&str, fn(&mut Node, &str)); 5] = [
        ("services", service),
        ("configs", |stored, folder| at_key(stored, "file", folder)),
        ("secrets", |stored, folder| at_key(stored, "file", folder)),
        ("volumes", device),
        ("include", include),
    ];
    for (section, rebase) in sections {
        match file.get_mut(section).map(|node| &mut node.data) {
            Some(Data::Map(entries)) => entries.iter_mut().for_each(|entry| rebase(&mut entry.value, folder)),
            Some(Data::List(items)) => items.iter_mut().for_each(|item| rebase(item, folder)),
            _ => {}
        }
    }
}

fn service(service: &mut Node, folder: &str) {
    if let Some(build) = service.get_mut("build") {
        match &mut build.data {
            Data::Text(_) => context(build, folder),
            Data::Map(entries) => {
                let at = build.at.clone();
                complete_build(entries, &at, folder);
            }
            _ => {}
        }
    }
    for key in ["env_file", "label_file"] {
        match service.get_mut(key) {
            Some(Node { data: Data::List(items), .. }) => items.iter_mut().for_each(|item| one(item, folder)),
            Some(node) => one(node, folder),
            None => {}
        }
    }
    if let Some(Node { data: Data::List(items), .. }) = service.get_mut("volumes") {
        items.iter_mut().for_each(|item| volume(item, folder));
    }
    if let Some(extends) = service.get_mut("extends") {
        at_key(extends, "file", folder);
    }
}

fn complete_build(entries: &mut Vec<Entry>, at: &Place, folder: &str) {
    match entries.iter_mut().find(|entry| entry.key == "context") {
        Some(entry) => context(&mut entry.value, folder),
        None => {
            let value = Node::new(at.clone(), Data::Text(folder.to_owned()));
            entries.push(Entry { key: "context".to_owned(), key_at: at.clone(), value });
        }
    }
    let contexts = entries.iter_mut().find(|entry| entry.key == "additional_contexts");
    match contexts.map(|entry| &mut entry.value.data) {
        Some(Data::Map(entries)) => entries.iter_mut().for_each(|entry| context(&mut entry.value, folder)),
        Some(Data::List(items)) => {
            for text in items.iter_mut().filter_map(text_mut) {
                if let Some((name, path)) = text.split_once('=').filter(|(_, path)| !is_remote(path)) {
                    *text = format!("{name}={}", join(folder, path));
                }
            }
        }
        _ => {}
    }
}

fn text_mut(node: &mut Node) -> Option<&mut String> {
    if let Data::Text(text) = &mut node.data { Some(text) } else { None }
}

fn context(node: &mut Node, folder: &str) {
    if let Some(text) = text_mut(node).filter(|text| !is_remote(text)) {
        *text = join(folder, text);
    }
}

/// A path, or a map with one under `path`.
fn one(node: &mut Node, folder: &str) {
    match text_mut(node) {
        Some(text) => *text = join(folder, text),
        None => at_key(node, "path", folder),
    }
}

fn at_key(node: &mut Node, key: &str, folder: &str) {
    if let Some(text) = node.get_mut(key).and_then(text_mut) {
        *text = join(folder, text);
    }
}

fn volume(node: &mut Node, folder: &str) {
    if let Some(text) = text_mut(node) {
        if text.starts_with('.') {
            let (source, rest) = text.split_once(':').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
            let source = format!("./{}", join(folder, source));
            *text = rest.map_or(source.clone(), |rest| format!("{source}:{rest}"));
        }
    } else if node.get("type").and_then(Node::as_text) == Some("bind") {
        at_key(node, "source", folder);
    }
}

/// The folder that a volume is bound to.
fn device(volume: &mut Node, folder: &str) {
    let Some(options) = volume.get_mut("driver_opts") else { return };
    if options.get("o").and_then(Node::as_text).is_some_and(|o| o.contains("bind")) {
        at_key(options, "device", folder);
    }
}

fn include(node: &mut Node, folder: &str) {
    if let Some(text) = text_mut(node) {
        *text = join(folder, text);
        return;
    }
    at_key(node, "project_directory", folder);
    for key in ["path", "env_file"] {
        match node.get_mut(key) {
            Some(Node { data: Data::List(items), .. }) => items.iter_mut().for_each(|item| one(item, folder)),
            Some(node) => one(node, folder),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_no_needless_parts() {
        for (path, expected) in [
            ("./data", "data"),
            (".", "."),
            ("./", "."),
            ("../x/../y", "../y"),
            ("a//b/./c/..", "a/b"),
            ("/etc/../x", "/x"),
            ("/..", "/"),
            ("../..", "../.."),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_from_a_folder() {
        assert_eq!(join("", "./x"), "x");
        assert_eq!(join("app", "../x"), "x");
        assert_eq!(join("../up", "x/y"), "../up/x/y");
        assert_eq!(join("app", "/x"), "/x");
        assert_eq!(join("app", "~/x"), "~/x");
        assert_eq!(join("/abs", "x"), "/abs/x");
        assert_eq!(folder("a/b/c.yaml"), "a/b");
        assert_eq!(folder("compose.yaml"), "");
    }
}
