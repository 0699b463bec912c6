//! What an evaluation came to, kept with all that it depended on.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use setpoint_model::digest::Digest;

use super::{Answer, Declared, DslError, package};
use crate::paths::{Roots, project_key};
use crate::secrets::{Secrets, write_private};

/// An evaluation, kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    package: Digest,
    /// The files that may declare pipelines.
    files: Vec<String>,
    /// The interpreter, and how it looked: its inode, size and time of change.
    python: (PathBuf, u64, u64, i64),
    /// The files that were imported or read, each with the digest of its content.
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

fn content(path: &Path) -> Option<Digest> {
    std::fs::read(path).ok().map(|bytes| Digest::of_bytes(&bytes))
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

    pub(super) fn of(answer: Answer, around: &Surroundings<'_>) -> Result<Self, DslError> {
        let read = answer.imports.into_iter().chain(answer.reads);
        let digest = |value: Option<String>| value.map(|value| around.secrets.digest(&value)).transpose();
        let variables = answer
            .variables
            .into_iter()
            .map(|(name, value)| Ok((name, digest(value)?)))
            .collect::<Result<_, DslError>>()?;
        Ok(Self {
            package: package::digest(),
            files: around.files.to_vec(),
            python: interpreter(around.python),
            read: read.map(|path| (path.clone(), content(&path))).collect(),
            variables,
            predicates: answer.predicates,
            pipelines: answer.pipelines,
            ir: answer.ir,
        })
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
