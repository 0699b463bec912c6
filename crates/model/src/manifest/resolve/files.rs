//! Files of a service: secrets, and what is made of templates.

use super::super::document::Document;
use super::super::env::{FileSource, ServiceFile};
use super::super::problem::Problem;
use super::super::shape::FileEntry;
use super::super::tree::Step;
use super::{duplicate, secret};
use crate::names::SecretName;

/// Where secrets appear, as with Compose.
const SECRETS: &str = "/run/secrets";
/// The access rights of what may hold a secret.
const PRIVATE: u32 = 0o400;

/// All files that are put into a service.
pub(super) fn files(
    secrets: Vec<SecretName>,
    entries: Vec<FileEntry>,
    place: &[Step],
    document: &mut Document<'_>,
) -> Vec<ServiceFile> {
    let at = |list: &str, index: usize| [place, &[list.into(), index.into()]].concat();
    let mut files: Vec<ServiceFile> = Vec::new();
    for (index, name) in secrets.into_iter().enumerate() {
        let place = at("secrets", index);
        if let Some(problem) = secret::undeclared(&name, document) {
            document.at_value(&place, problem);
        }
        let file = ServiceFile {
            name: format!("secret {name}"),
            target: format!("{SECRETS}/{name}"),
            source: FileSource::Secret(name),
            mode: Some(PRIVATE),
            owner: None,
        };
        add(file, &mut files, &place, document);
    }
    for (index, entry) in entries.into_iter().enumerate() {
        let place = at("files", index);
        let file = ServiceFile {
            name: format!("file {}", entry.target.0),
            target: entry.target.0,
            source: FileSource::Template { path: entry.template.0, at: document.value_location(&place) },
            mode: Some(entry.mode.map_or(PRIVATE, |mode| mode.0)),
            owner: entry.owner.map(|owner| owner.0),
        };
        add(file, &mut files, &place, document);
    }
    files
}

/// Adds a file, unless there is one in its place.
fn add(file: ServiceFile, files: &mut Vec<ServiceFile>, place: &[Step], document: &mut Document<'_>) {
    if files.iter().any(|other| other.target == file.target) {
        let problem: Problem = duplicate(format!("two files appear on `{}`", file.target));
        return document.at_value(place, problem);
    }
    files.push(file);
}
