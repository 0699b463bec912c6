//! The source of a run: what of the project's folder its steps see, taken once, by content.
//!
//! A tree that is known copies nothing; one that differs in a few files from one that is known costs a few files.
//! The manifest and the folder `.setpoint` say what is to be done with the source and are no part of it, unless a
//! step names them among its inputs: so an edit of one command changes the key of one step.

mod error;
mod index;
mod rules;
mod trees;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use setpoint_model::digest::{Digest, Encoder};
use setpoint_model::pipeline::ir::Input;

pub use error::SourceError;
pub use trees::{Tree, TreeUsage};

use crate::cas::{CasError, Globs, Progress, content, now, watch};
use crate::paths::{Roots, make_private_folder, project_key};
use crate::project::{LOCAL, MANIFEST, PIPELINES};
use index::{Entry, Index, Kind, NOTHING};
use trees::{Origin, Trees};
use walk::{Found, Walked, What};

/// How often the source is looked at again that changes while it is copied.
const ATTEMPTS: usize = 5;

/// How to take the source.
#[derive(Debug, Clone, Copy)]
pub struct TakeOptions {
    /// Whether the history of the repository is part of it.
    pub git: bool,
    /// How long a file system may not answer.
    pub patience: Duration,
}

/// The sources below a state root.
#[derive(Debug, Clone)]
pub struct SourceStore {
    trees: Trees,
    folder: PathBuf,
}

/// The source of a run.
#[derive(Debug)]
pub struct Source {
    trees: Trees,
    /// Where what is remembered of views lies.
    views: PathBuf,
    entries: Vec<Entry>,
    /// What steps see that do not say what they see.
    whole: Tree,
    /// What describes the project to Setpoint.
    aside: Tree,
    /// The views that were looked at in this run.
    seen: Mutex<BTreeMap<Vec<Input>, InputsDigest>>,
}

/// What patterns of inputs come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputsDigest {
    /// The digest of the tree that they make.
    pub digest: Digest,
    /// The patterns that have to fit something, and do not.
    pub unmatched: Vec<String>,
}

/// What is remembered of a view: in which source, what it came to.
#[derive(Debug, Serialize, Deserialize)]
struct View {
    of: Digest,
    aside: Digest,
    came_to: InputsDigest,
}

/// Whether a path is what describes the project to Setpoint.
fn is_aside(path: &[u8]) -> bool {
    let folder = PIPELINES.as_bytes();
    path == MANIFEST.as_bytes()
        || path == LOCAL.as_bytes()
        || path == folder
        || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

impl SourceStore {
    /// The sources below a state root. Nothing is made until the first is taken.
    #[must_use]
    pub fn new(roots: &Roots) -> Self {
        Self { trees: Trees::new(roots), folder: roots.state.join("source/v1/projects") }
    }

    /// Takes the source of a project as it is now.
    ///
    /// # Errors
    /// One [`SourceError`] a cause; then nothing half-made is kept.
    pub fn take(
        &self,
        project_root: &Path,
        options: TakeOptions,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Source, SourceError> {
        if options.git && project_root.join(".git").is_file() {
            return Err(SourceError::NoRepository(project_root.join(".git")));
        }
        let kind = if options.git { "with-git" } else { "plain" };
        let folder = self.folder.join(project_key(project_root, Some(kind)).to_hex());
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.attempt(project_root, options, &folder, cancelled) {
                Err(SourceError::Changing(path)) => last = Some(path),
                other => return other,
            }
        }
        Err(SourceError::Changing(last.unwrap_or_else(|| project_root.to_owned())))
    }

    fn attempt(
        &self,
        root: &Path,
        options: TakeOptions,
        folder: &Path,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Source, SourceError> {
        let path = folder.join("index");
        let (known, is_new, index) = {
            let (root, path) = (root.to_owned(), path.clone());
            let what = What { git: options.git, is_made: true };
            watch(options.patience, move |progress| look(&root, &path, what, progress))
                .map_err(SourceError::Read)??
        };
        if cancelled() {
            return Err(SourceError::Cancelled);
        }
        let _making = self.trees.making(true)?;
        let of = |entries: &[Entry], aside: bool| -> Vec<Entry> {
            entries.iter().filter(|entry| is_aside(&entry.path) == aside).cloned().collect()
        };
        let mut made = Vec::new();
        for (aside, digest, before) in
            [(false, index.trees[0], known.trees[0]), (true, index.trees[1], known.trees[1])]
        {
            let tree = match self.trees.find(digest)? {
                Some(tree) => tree,
                None => {
                    let below = self.trees.find(before)?;
                    let (entries, before) = (of(&index.entries, aside), of(&known.entries, aside));
                    let before: Vec<&Entry> = before.iter().collect();
                    let over = below.as_ref().map(|tree| (tree, before.as_slice()));
                    let entries: Vec<&Entry> = entries.iter().collect();
                    self.trees.make(&entries, over, &Origin::Project(root), cancelled)?
                }
            };
            made.push(tree);
        }
        if is_new {
            index.write(&path).map_err(SourceError::write(&path))?;
        }
        let (Some(aside), Some(whole)) = (made.pop(), made.pop()) else {
            return Err(SourceError::Changing(root.to_owned()));
        };
        Ok(Source {
            trees: self.trees.clone(),
            views: folder.join("views"),
            entries: index.entries,
            whole,
            aside,
            seen: Mutex::new(BTreeMap::new()),
        })
    }

    /// The digest of a project's folder as it is now, without these folders of it, and outside of a repository without
    /// what usual tools make. Nothing is copied; from the second time on, only what looks different is read.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn digest(
        &self,
        project_root: &Path,
        without: &[&str],
        patience: Duration,
    ) -> Result<Digest, SourceError> {
        let path = self.folder.join(project_key(project_root, Some("digest")).to_hex()).join("index");
        let (root, file) = (project_root.to_owned(), path.clone());
        let (_, is_new, index) = watch(patience, move |progress| {
            look(&root, &file, What { git: false, is_made: false }, progress)
        })
        .map_err(SourceError::Read)??;
        if is_new {
            index.write(&path).map_err(SourceError::write(&path))?;
        }
        let is_left = |entry: &&Entry| {
            let path = Path::new(OsStr::from_bytes(&entry.path));
            !without.iter().any(|folder| path.starts_with(folder))
        };
        Ok(index::digest(index.entries.iter().filter(is_left)))
    }

    /// Makes durable what was taken: what is not when the machine stops is taken again.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn sync(&self) -> Result<(), SourceError> {
        self.trees.sync()
    }

    /// All trees that are kept.
    #[must_use]
    pub fn usage(&self) -> Vec<TreeUsage> {
        self.trees.usage()
    }

    /// Removes the trees that nobody uses: all but these many, and all that were not used for so long. Gives how many.
    ///
    /// # Errors
    /// If a lease cannot be looked at.
    pub fn collect(&self, keep: usize, age: Duration) -> Result<usize, SourceError> {
        let mut usage = self.trees.usage();
        usage.sort_by_key(|tree| std::cmp::Reverse(tree.used_at));
        let is_young = |tree: &TreeUsage| tree.used_at.elapsed().is_ok_and(|since| since < age);
        let kept: Vec<Digest> =
            usage.iter().take(keep).filter(|tree| is_young(tree)).map(|tree| tree.digest).collect();
        if kept.len() == usage.len() {
            return Ok(0);
        }
        self.trees.collect(|tree| kept.contains(&tree.digest))
    }
}

/// Looks at a project's folder. Gives what was known of it, whether that has to be written anew, and what is there.
fn look(
    root: &Path,
    index_file: &Path,
    what: What,
    progress: &Progress,
) -> Result<(Index, bool, Index), SourceError> {
    // The index is read while the folder is walked over.
    let (walked, mut known) = std::thread::scope(|scope| {
        let index = scope.spawn(|| Index::read(index_file));
        let walked = walk::walk(root, what, progress);
        (walked, index.join().unwrap_or_default())
    });
    let mut walked = walked.map_err(SourceError::Read)?;
    let asked = asked_git(root, &walked);
    let is_asked_anew = asked != known.asked_git;
    if is_asked_anew {
        known.tracked = if asked.is_some() { tracked_but_ignored(root)? } else { Vec::new() };
    }
    walk::add(root, &mut walked, &known.tracked).map_err(SourceError::Read)?;
    let found = std::mem::take(&mut walked.found);
    let is_same = !is_asked_anew
        && found.len() == known.entries.len()
        && found.iter().zip(&known.entries).all(|(found, known)| is_known(found, known));
    if is_same {
        return Ok((Index::default(), false, Index { asked_git: asked, ..known }));
    }
    let entries = digests(root, found, &known.entries, progress).map_err(SourceError::Read)?;
    let trees = [false, true]
        .map(|aside| index::digest(entries.iter().filter(|entry| is_aside(&entry.path) == aside)));
    let tracked = std::mem::take(&mut known.tracked);
    Ok((known, true, Index { entries, trees, asked_git: asked, tracked }))
}

fn is_known(found: &Found, known: &Entry) -> bool {
    found.path == known.path
        && match known.kind {
            Kind::Folder => found.stamp.file_type() == FileType::Directory,
            _ => known.settled && found.stamp == known.stamp,
        }
}

/// The digests of what was found; what is known and looks the same is not read.
fn digests(
    root: &Path,
    found: Vec<Found>,
    before: &[Entry],
    progress: &Progress,
) -> Result<Vec<Entry>, CasError> {
    let known: HashMap<&[u8], &Entry> = before.iter().map(|entry| (entry.path.as_slice(), entry)).collect();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    let share = found.len().div_ceil(threads).max(1);
    let parts: Vec<Result<Vec<Option<Entry>>, CasError>> = std::thread::scope(|scope| {
        let parts: Vec<_> = found
            .chunks(share)
            .map(|part| {
                let known = &known;
                scope.spawn(move || {
                    part.iter()
                        .map(|found| match known.get(found.path.as_slice()) {
                            Some(known) if is_known(found, known) => Ok(Some((*known).clone())),
                            _ => digest(root, found, progress),
                        })
                        .collect()
                })
            })
            .collect();
        parts
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut entries = Vec::with_capacity(found.len());
    for part in parts {
        entries.extend(part?.into_iter().flatten());
    }
    Ok(entries)
}

/// A file, link or folder with its digest; nothing if it has vanished.
fn digest(root: &Path, found: &Found, progress: &Progress) -> Result<Option<Entry>, CasError> {
    let path = root.join(found.path());
    progress.look_at(&path);
    let begin = now();
    let entry = |kind, digest, stamp: crate::cas::Stamp| {
        Some(Entry { path: found.path.clone(), kind, digest, settled: stamp.is_settled(begin), stamp })
    };
    let read = match found.stamp.file_type() {
        FileType::Directory => return Ok(entry(Kind::Folder, NOTHING, found.stamp)),
        FileType::Symlink => std::fs::read_link(&path)
            .map(|target| entry(Kind::Symlink, Digest::of_bytes(target.as_os_str().as_bytes()), found.stamp))
            .map_err(|error| CasError::new(&path, error)),
        _ => {
            let flags = rustix::fs::OFlags::RDONLY
                | rustix::fs::OFlags::NOFOLLOW
                | rustix::fs::OFlags::CLOEXEC
                | rustix::fs::OFlags::NONBLOCK;
            rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
                .map_err(|error| CasError::new(&path, error))
                .and_then(|file| content(file.into(), &path, progress))
                .map(|(stamp, digest)| {
                    let kind = if stamp.executable() { Kind::Executable } else { Kind::File };
                    entry(kind, digest, stamp)
                })
        }
    };
    match read {
        Err(error) if error.is_missing() => Ok(None),
        other => other,
    }
}

/// What git's answer depends on: its index, and every file of rules, those outside of the project too. Nothing where
/// there is no repository.
fn asked_git(root: &Path, walked: &Walked) -> Option<Digest> {
    if !walked.knows_git {
        return None;
    }
    let top = root.ancestors().find(|folder| folder.join(".git").exists())?;
    let mut encoder = Encoder::new("setpoint.git", 1);
    let git = top.join(".git");
    let index = match std::fs::read_to_string(&git) {
        Ok(text) => top.join(text.trim_start_matches("gitdir:").trim()).join("index"),
        Err(_) => git.join("index"),
    };
    let mut stamp = |path: &Path, stamp: &crate::cas::Stamp| {
        encoder.bytes(path.as_os_str().as_bytes()).number(stamp.key.1).number(stamp.size);
        encoder.number(stamp.mtime.cast_unsigned()).number(stamp.ctime.cast_unsigned());
    };
    let above = root.ancestors().skip(1).take_while(|folder| folder.starts_with(top));
    let outside = above.map(|folder| folder.join(".gitignore"));
    let excludes = rules::git_folder(top).map(|git| git.join("info/exclude"));
    let global = ignore::gitignore::gitconfig_excludes_path();
    for path in std::iter::once(index).chain(outside).chain(excludes).chain(global) {
        if let Ok(stat) = rustix::fs::stat(&path) {
            stamp(&path, &crate::cas::Stamp::new(&stat));
        }
    }
    walked.rule_files.iter().for_each(|(path, how)| stamp(path, how));
    Some(encoder.finish())
}

/// The files that git tracks although its rules ignore them. Where git is not installed there are none.
fn tracked_but_ignored(root: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let output = Command::new("git")
        // Whose repository it is does not matter to who only reads its index, and starts nothing that it names.
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"])
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--ignored", "--exclude-standard"])
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| SourceError::Git(error.to_string()))?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(SourceError::Git(said.trim().trim_start_matches("fatal: ").to_owned()));
    }
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect())
}

impl Source {
    /// The digest of what steps see that do not say what they see.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.whole.digest
    }

    /// How many files and links it has.
    #[must_use]
    pub fn files(&self) -> usize {
        self.entries.iter().filter(|entry| entry.kind != Kind::Folder).count()
    }

    /// What steps see that do not say what they see.
    #[must_use]
    pub fn all(&self) -> &Tree {
        &self.whole
    }

    /// What patterns come to, without making anything.
    ///
    /// # Errors
    /// For a pattern that cannot be used.
    pub fn inputs(&self, inputs: &[Input]) -> Result<InputsDigest, SourceError> {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = seen.get(inputs) {
            return Ok(known.clone());
        }
        let path = self.remembered(inputs);
        let remembered: Option<View> =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let came_to = match remembered {
            Some(view) if view.of == self.whole.digest && view.aside == self.aside.digest => view.came_to,
            _ => {
                let (entries, unmatched) = self.filtered(inputs)?;
                let came_to = InputsDigest { digest: index::digest(entries.into_iter()), unmatched };
                self.remember(&path, &came_to);
                came_to
            }
        };
        seen.insert(inputs.to_vec(), came_to.clone());
        Ok(came_to)
    }

    fn remembered(&self, inputs: &[Input]) -> PathBuf {
        let mut encoder = Encoder::new("setpoint.view", 1);
        for input in inputs {
            encoder.text(input.glob()).flag(input.is_optional());
        }
        self.views.join(encoder.finish().to_hex())
    }

    /// Keeps what a view came to. If that cannot be written, it is found again.
    fn remember(&self, path: &Path, came_to: &InputsDigest) {
        let view = View { of: self.whole.digest, aside: self.aside.digest, came_to: came_to.clone() };
        let write = || -> std::io::Result<()> {
            make_private_folder(&self.views)?;
            let file = tempfile::NamedTempFile::new_in(&self.views)?;
            serde_json::to_writer(&file, &view)?;
            file.persist(path)?;
            Ok(())
        };
        let _ = write();
    }

    /// The files that patterns fit, with the folders that lead to them, and the patterns that fit nothing.
    fn filtered(&self, inputs: &[Input]) -> Result<(Vec<&Entry>, Vec<String>), SourceError> {
        let patterns: Vec<&str> = inputs.iter().map(Input::glob).collect();
        let globs = Globs::new(&patterns)?;
        let mut missing: Vec<bool> = inputs.iter().map(|input| !input.is_optional()).collect();
        let mut wanted = vec![false; self.entries.len()];
        // The folders that lead to where the walk is, by their places.
        let mut above: Vec<usize> = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let is_below = |folder: &Entry| {
                entry.path.strip_prefix(folder.path.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
            };
            while above.last().is_some_and(|folder| !is_below(&self.entries[*folder])) {
                above.pop();
            }
            let path = Path::new(OsStr::from_bytes(&entry.path));
            let fitting = globs.fitting(path);
            if !fitting.is_empty() {
                fitting.into_iter().for_each(|glob| missing[glob] = false);
                wanted[at] = true;
                above.iter().for_each(|folder| wanted[*folder] = true);
            }
            if entry.kind == Kind::Folder {
                above.push(at);
            }
        }
        let unmatched = patterns.iter().zip(missing).filter(|(_, missing)| *missing);
        let unmatched = unmatched.map(|(pattern, _)| (*pattern).to_owned()).collect();
        Ok((
            self.entries.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(entry, _)| entry).collect(),
            unmatched,
        ))
    }

    /// The tree that patterns make, made where it is not there yet: of links to what was taken.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn view(&self, inputs: &[Input]) -> Result<Tree, SourceError> {
        let digest = self.inputs(inputs)?.digest;
        if let Some(tree) = self.trees.find(digest)? {
            return Ok(tree);
        }
        let _making = self.trees.making(true)?;
        let (entries, _) = self.filtered(inputs)?;
        self.trees.make(&entries, None, &Origin::Trees(&[&self.whole, &self.aside]), &|| false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "source_tests.rs"]
mod tests;
