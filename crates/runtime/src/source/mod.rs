//! The source of a run: a copy of the project's files, by content, as layers that overlays are mounted over.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use setpoint_model::digest::{Digest, Encoder};
use setpoint_model::pipeline::ir::Input;

use crate::cas::Globs;
use crate::lock::Lease;
use crate::paths::{Roots, make_private_folder};

/// Why the source could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file could not be read or written.
    #[error("cannot take the source: {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SourceError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// How to take the source.
#[derive(Debug, Clone, Copy)]
pub struct TakeOptions {
    /// Whether `.git` is part of it.
    pub git: bool,
    /// How long a file system may not answer.
    pub patience: Duration,
}

/// Trees below a state root.
#[derive(Debug, Clone)]
pub struct SourceStore {
    roots: Roots,
}

/// The source of a run.
#[derive(Debug)]
pub struct Source {
    store: SourceStore,
    entries: BTreeMap<PathBuf, Digest>,
    whole: Tree,
}

/// A tree of files, as layers, the lowest first. It is leased as long as this value.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The digest of the tree.
    pub digest: Digest,
    /// Its layers.
    pub layers: Vec<PathBuf>,
    _lease: Option<Arc<Lease>>,
}

/// What patterns of inputs come to.
#[derive(Debug, Clone)]
pub struct InputsDigest {
    /// The digest of the tree that they make.
    pub digest: Digest,
    /// The patterns that have to fit something, and do not.
    pub unmatched: Vec<String>,
}

impl Tree {
    /// The digest of the tree without files.
    #[must_use]
    pub fn empty_digest() -> Digest {
        digest(&BTreeMap::new())
    }
}

fn digest(entries: &BTreeMap<PathBuf, Digest>) -> Digest {
    let mut encoder = Encoder::new("setpoint.tree", 1);
    encoder.list(entries.len());
    for (path, entry) in entries {
        encoder.bytes(path.as_os_str().as_encoded_bytes()).digest(*entry);
    }
    encoder.finish()
}

impl SourceStore {
    /// The trees below a state root.
    #[must_use]
    pub fn new(roots: &Roots) -> Self {
        Self { roots: roots.clone() }
    }

    /// Takes the source.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn take(
        &self,
        root: &Path,
        options: TakeOptions,
        _cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Source, SourceError> {
        let mut entries = BTreeMap::new();
        walk(root, Path::new(""), options.git, &mut entries)?;
        let whole = self.make(&entries, root)?;
        Ok(Source { store: self.clone(), entries, whole })
    }

    fn make(&self, entries: &BTreeMap<PathBuf, Digest>, from: &Path) -> Result<Tree, SourceError> {
        let digest = digest(entries);
        let trees = self.roots.state.join("source/v1");
        let folder = trees.join(digest.to_hex());
        let io = |source| SourceError::Io { path: folder.clone(), source };
        if !folder.is_dir() {
            make_private_folder(&trees).map_err(io)?;
            let new = tempfile::tempdir_in(&trees).map_err(io)?;
            fs::set_permissions(new.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .map_err(io)?;
            for path in entries.keys() {
                let (source, target) = (from.join(path), new.path().join(path));
                let metadata = fs::symlink_metadata(&source).map_err(io)?;
                fs::create_dir_all(target.parent().unwrap_or(&target)).map_err(io)?;
                if metadata.is_dir() {
                    fs::create_dir_all(&target).map_err(io)?;
                } else if metadata.is_symlink() {
                    std::os::unix::fs::symlink(fs::read_link(&source).map_err(io)?, &target).map_err(io)?;
                } else {
                    fs::copy(&source, &target).map_err(io)?;
                }
            }
            let _ = fs::rename(new.path(), &folder);
        }
        Ok(Tree { digest, layers: vec![folder], _lease: None })
    }
}

fn walk(
    root: &Path,
    path: &Path,
    git: bool,
    entries: &mut BTreeMap<PathBuf, Digest>,
) -> Result<(), SourceError> {
    let folder = root.join(path);
    let io = |source| SourceError::Io { path: folder.clone(), source };
    for entry in fs::read_dir(&folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if (name == ".git" && !git) || name == "target" {
            continue;
        }
        let path = path.join(&name);
        let metadata = entry.metadata().map_err(io)?;
        let digest = if metadata.is_dir() {
            walk(root, &path, git, entries)?;
            Digest::of_bytes(b"dir")
        } else if metadata.is_symlink() {
            Digest::of_bytes(fs::read_link(entry.path()).map_err(io)?.as_os_str().as_encoded_bytes())
        } else if metadata.is_file() {
            let content = Digest::of_bytes(&fs::read(entry.path()).map_err(io)?);
            Encoder::new("file", 1).flag(metadata.mode() & 0o111 != 0).digest(content).finish()
        } else {
            continue;
        };
        entries.insert(path, digest);
    }
    Ok(())
}

impl Source {
    /// The digest of all of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.whole.digest
    }

    /// How many files it has.
    #[must_use]
    pub fn files(&self) -> usize {
        self.entries.len()
    }

    /// All of it.
    #[must_use]
    pub fn all(&self) -> &Tree {
        &self.whole
    }

    fn filtered(&self, inputs: &[Input]) -> (BTreeMap<PathBuf, Digest>, Vec<String>) {
        let patterns: Vec<&str> = inputs.iter().map(Input::glob).collect();
        let Ok(globs) = Globs::new(&patterns) else { return (BTreeMap::new(), Vec::new()) };
        let mut unmatched: Vec<bool> = inputs.iter().map(|input| !input.is_optional()).collect();
        let mut found = BTreeMap::new();
        for (path, digest) in &self.entries {
            let fitting = globs.fitting(path);
            if !fitting.is_empty() {
                found.insert(path.clone(), *digest);
            }
            fitting.into_iter().for_each(|at| unmatched[at] = false);
        }
        let unmatched = patterns.iter().zip(unmatched).filter(|(_, is)| *is).map(|(p, _)| (*p).to_owned());
        (found, unmatched.collect())
    }

    /// What patterns come to.
    ///
    /// # Errors
    /// If what is remembered cannot be read.
    pub fn inputs(&self, inputs: &[Input]) -> Result<InputsDigest, SourceError> {
        let (found, unmatched) = self.filtered(inputs);
        Ok(InputsDigest { digest: digest(&found), unmatched })
    }

    /// The tree that patterns make.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn view(&self, inputs: &[Input]) -> Result<Tree, SourceError> {
        self.store.make(&self.filtered(inputs).0, &self.whole.layers[0])
    }
}
