//! What an evaluation came to, kept with all that it depended on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, statat};
use serde::{Deserialize, Serialize};
use setpoint_model::digest::{Digest, Encoder};

use super::{Answer, Declared, DslError, package};
use crate::cas::{self, Stamp, StatCache};
use crate::paths::{Roots, project_key};
use crate::secrets::{Secrets, write_private};

/// How long a file system may take to answer about one file.
const PATIENCE: Duration = Duration::from_secs(5);

/// An evaluation, kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    package: Digest,
    /// The files that may declare pipelines.
    files: Vec<String>,
    /// The interpreter, and how it looked: its inode, size and time of change.
    python: (PathBuf, u64, u64, i64),
    /// The files that were imported or opened and the folders that were listed, each with the digest of its content
    /// or names; none where there was nothing.
    read: BTreeMap<PathBuf, Option<Digest>>,
    /// The variables that were asked for, each with the keyed digest of its value.
    pub(super) variables: BTreeMap<String, Option<Digest>>,
    /// Whether the pipeline's own code has to be asked at every run.
    predicates: bool,
    pub(super) pipelines: Vec<Declared>,
    pub(super) ir: Option<serde_json::Value>,
}

/// What an evaluation depends on, as it is now.
pub(super) struct Surroundings<'a> {
    pub(super) project_root: &'a Path,
    pub(super) files: &'a [String],
    pub(super) python: &'a Path,
    pub(super) variables: &'a BTreeMap<String, String>,
    pub(super) secrets: &'a Secrets,
}

/// Where the evaluation of a pipeline is kept, or, without a name, the list of pipelines.
pub(super) fn place(roots: &Roots, project_root: &Path, pipeline: Option<&str>) -> PathBuf {
    let project = roots.state.join("dsl/v1").join(project_key(project_root, None).to_hex());
    project.join(pipeline.map_or_else(|| "list.json".to_owned(), |name| format!("pipeline-{name}.json")))
}

/// What there is at a path: the digest of a file's content, or of a folder's names.
fn content(path: &Path) -> Option<Digest> {
    let owned = path.to_owned();
    let file = cas::look(&mut StatCache::in_memory(), PATIENCE, move |files| files.script_digest(&owned));
    file.map(|file| file.digest).ok().or_else(|| names(path))
}

fn names(folder: &Path) -> Option<Digest> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut names: Vec<OsString> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    let mut encoder = Encoder::new("names", 1);
    encoder.list(names.len());
    names.iter().for_each(|name| {
        encoder.bytes(name.as_bytes());
    });
    Some(encoder.finish())
}

/// Whether what is at the path was there before this time. For what is not there, its folder has to be as old.
fn is_older(path: &Path, time: i64) -> bool {
    let found = path.ancestors().find_map(|path| statat(CWD, path, AtFlags::empty()).ok());
    found.is_some_and(|stat| Stamp::new(&stat).is_settled(time))
}

fn interpreter(path: &Path) -> (PathBuf, u64, u64, i64) {
    let metadata = std::fs::metadata(path).ok();
    let stamp = metadata.map_or((0, 0, 0), |metadata| (metadata.ino(), metadata.size(), metadata.mtime()));
    (path.to_owned(), stamp.0, stamp.1, stamp.2)
}

impl Kept {
    pub(super) fn read(place: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(place).ok()?).ok()
    }

    /// What an answer came to that was asked for at `began`, and whether all that it depended on is older: else it
    /// may have been read before it changed.
    pub(super) fn of(
        answer: Answer,
        around: &Surroundings<'_>,
        began: i64,
    ) -> Result<(Self, bool), DslError> {
        // The code might have forged what its answer names: only what it can see is looked at.
        let is_inside = |path: &PathBuf| {
            path.starts_with(around.project_root)
                && path.components().all(|part| part != Component::ParentDir)
        };
        let read = answer.imports.into_iter().chain(answer.reads).filter(is_inside);
        let read: BTreeMap<_, _> = read.map(|path| (path.clone(), content(&path))).collect();
        let settled = read.keys().all(|path| is_older(path, began));
        let digest = |value: Option<String>| value.map(|value| around.secrets.digest(&value)).transpose();
        let variables = answer
            .variables
            .into_iter()
            .map(|(name, value)| Ok((name, digest(value)?)))
            .collect::<Result<_, DslError>>()?;
        let kept = Self {
            package: package::digest(),
            files: around.files.to_vec(),
            python: interpreter(around.python),
            read,
            variables,
            predicates: answer.predicates,
            pipelines: answer.pipelines,
            ir: answer.ir,
        };
        Ok((kept, settled))
    }

    /// Whether nothing of what it depended on has changed.
    pub(super) fn is_good(&self, around: &Surroundings<'_>) -> bool {
        let same_value = |(name, known): (&String, &Option<Digest>)| {
            let now = around.variables.get(name).map(|value| around.secrets.digest(value).ok());
            now.flatten() == *known && around.variables.contains_key(name) == known.is_some()
        };
        !self.predicates
            && self.package == package::digest()
            && self.files == around.files
            && self.python == interpreter(around.python)
            && self.read.iter().all(|(path, digest)| content(path) == *digest)
            && self.variables.iter().all(same_value)
    }

    pub(super) fn write(&self, place: &Path) -> std::io::Result<()> {
        write_private(place, &serde_json::to_vec(self)?, false)
    }
}
