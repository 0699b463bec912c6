//! The context of an image's build: which of its files the Dockerfile takes, and what they hold.
//!
//! Only what the Dockerfile takes is digested, and only that is sent to the builder: so a file that is in the image is
//! in its fingerprint, and what is in neither can change at will.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use setpoint_model::container::Build;
use setpoint_model::desired::{FileDigest, build_inputs};
use setpoint_model::digest::{Digest, Encoder};
use setpoint_model::dockerfile::{Copied, copied};
use setpoint_model::dockerignore::DockerIgnore;

use crate::cas::{self, CasError, Files, StatCache};
use crate::facts::PATIENCE;
use crate::tracked::Tracked;

/// More files than this are told folder by folder.
const MANY: usize = 1000;

/// Why a context cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}, which {}: {source}", path.display(), whose)]
pub struct ContextError {
    /// Which file or folder.
    pub path: PathBuf,
    /// What it is: `is the Dockerfile`.
    pub whose: &'static str,
    /// What the system said.
    pub source: io::Error,
}

/// The context of a build.
#[derive(Debug)]
pub struct Context {
    /// The folder.
    pub root: PathBuf,
    /// The Dockerfile's text, and its path as a person would look for it.
    pub dockerfile: (String, PathBuf),
    /// The files that the build takes, by their paths from the folder, sorted.
    pub files: Vec<PathBuf>,
    /// What to watch: the files that say what is taken, and the folders in which that may lie.
    pub tracked: Tracked,
}

/// Whether a context is a folder; it may also be the address of a repository.
#[must_use]
pub fn is_folder(build: &Build) -> bool {
    !build.context.contains("://") && !build.context.starts_with("git@")
}

impl Context {
    /// Looks at the context of a build, whose folder lies in the project's, or is absolute.
    ///
    /// # Errors
    /// If the Dockerfile, or a folder of the context, cannot be read.
    pub fn open(build: &Build, project: &Path) -> Result<Self, ContextError> {
        // Without what leads nowhere: it is shown.
        let root: PathBuf = project.join(&build.context).components().collect();
        let name = build.dockerfile.as_deref().unwrap_or("Dockerfile");
        let path = root.join(name);
        let text = match &build.inline {
            Some(text) => text.clone(),
            None => fs::read(&path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .map_err(|source| ContextError { path: path.clone(), whose: "is the Dockerfile", source })?,
        };
        let mut tracked = Tracked::default();
        tracked.file(&path);
        let ignore = ignored(&root, &path, &mut tracked);
        let arguments = build.args.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        let taken = copied(&text, &arguments.collect());
        let mut files = Vec::new();
        if taken != Copied::Patterns(Vec::new()) {
            let (taken, mut folders) = (taken.matcher(), BTreeSet::new());
            let mut walk = Walk {
                root: &root,
                ignore: &ignore,
                taken: &taken,
                files: &mut files,
                folders: &mut folders,
            };
            walk.folder(Path::new(""))?;
            folders.extend(files.iter().flat_map(|file| file.ancestors().skip(1).map(Path::to_owned)));
            folders.iter().for_each(|folder| tracked.folder(&root.join(folder)));
        }
        files.sort();
        Ok(Self { root, dockerfile: (text, path), files, tracked })
    }

    /// The digests of what the image is built from: the Dockerfile, then the files that it takes.
    pub(crate) fn digests(&self, project: &Path, files: &mut Files<'_>) -> Result<Vec<FileDigest>, CasError> {
        let shown = |path: &Path| path.strip_prefix(project).unwrap_or(path).to_string_lossy().into_owned();
        let (text, path) = &self.dockerfile;
        let dockerfile = FileDigest { path: shown(path), digest: Digest::of_bytes(text.as_bytes()) };
        let mut found = vec![dockerfile];
        for file in &self.files {
            let whole = self.root.join(file);
            found.push(FileDigest { path: shown(&whole), digest: files.file_digest(&whole)?.digest });
        }
        Ok(if found.len() > MANY { by_folder(&found) } else { found })
    }

    /// The digest of all that the image is built from, read anew.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn inputs_now(
        build: &Build,
        project: &Path,
    ) -> Result<Result<Digest, ContextError>, CasError> {
        let (build, project) = (build.clone(), project.to_owned());
        cas::look(&mut StatCache::in_memory(), PATIENCE, move |files| {
            let context = match Self::open(&build, &project) {
                Ok(context) => context,
                Err(error) => return Ok(Err(error)),
            };
            Ok(Ok(build_inputs(&build, &context.digests(&project, files)?)))
        })
    }
}

/// What keeps files out: the file beside the Dockerfile comes before that of the context.
fn ignored(root: &Path, dockerfile: &Path, tracked: &mut Tracked) -> DockerIgnore {
    let mut beside = dockerfile.as_os_str().to_owned();
    beside.push(".dockerignore");
    let (beside, usual) = (PathBuf::from(beside), root.join(".dockerignore"));
    [&beside, &usual].into_iter().for_each(|path| tracked.file(path));
    let text = fs::read_to_string(beside).or_else(|_| fs::read_to_string(usual));
    DockerIgnore::new(&text.unwrap_or_default())
}

struct Walk<'a> {
    root: &'a Path,
    ignore: &'a DockerIgnore,
    taken: &'a dyn Fn(&str) -> bool,
    files: &'a mut Vec<PathBuf>,
    /// Those of which everything is taken, also what is not there yet.
    folders: &'a mut BTreeSet<PathBuf>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path) -> Result<(), ContextError> {
        let whole = self.root.join(folder);
        let failed =
            |source| ContextError { path: whole.clone(), whose: "is in the context of the build", source };
        for entry in fs::read_dir(&whole).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = folder.join(entry.file_name());
            let text = path.to_string_lossy().into_owned();
            let kept_out = self.ignore.keeps_out(&text);
            if entry.file_type().map_err(failed)?.is_dir() {
                if !(kept_out && self.ignore.is_final()) {
                    self.folder(&path)?;
                }
                if !kept_out && (self.taken)(&text) {
                    self.folders.insert(path);
                }
            } else if !kept_out && (self.taken)(&text) {
                self.files.push(path);
            }
        }
        Ok(())
    }
}

/// One digest for each folder at the top, and for what lies there itself.
fn by_folder(files: &[FileDigest]) -> Vec<FileDigest> {
    let mut folders: Vec<(String, Encoder)> = Vec::new();
    for file in files {
        let folder = file.path.split_once('/').map_or(&*file.path, |(folder, _)| folder).to_owned();
        match folders.iter_mut().find(|(name, _)| *name == folder) {
            Some((_, encoder)) => {
                encoder.text(&file.path).digest(file.digest);
            }
            None => {
                let mut encoder = Encoder::new("setpoint.build.folder", 1);
                encoder.text(&file.path).digest(file.digest);
                folders.push((folder, encoder));
            }
        }
    }
    folders.into_iter().map(|(path, encoder)| FileDigest { path, digest: encoder.finish() }).collect()
}
