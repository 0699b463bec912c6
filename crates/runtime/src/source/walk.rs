//! A walk over a project's folder: what is there that is its source, and how it looks. One `lstat` a file, on as
//! many threads as there are processors; nothing is opened but folders and files of rules.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, statat};

use super::rules::{self, Rules};
use crate::cas::{CasError, Progress, Stamp};

/// What is found of the source.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Everything but the root, each folder before what is in it, by name within a folder.
    pub(super) found: Vec<Found>,
    /// How the files of rules look, and whether git's count: what git is asked for depends on them.
    pub(super) rule_files: Vec<(PathBuf, Stamp)>,
    pub(super) knows_git: bool,
}

/// A file, a link or a folder of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// From the project's folder, as bytes.
    pub(super) path: Vec<u8>,
    pub(super) stamp: Stamp,
}

impl Found {
    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

/// One folder, read.
#[derive(Debug, Default)]
struct Folder {
    children: Vec<(Vec<u8>, Stamp)>,
    rule_files: Vec<(PathBuf, Stamp)>,
}

/// What the threads share.
struct Work {
    left: Vec<(Vec<u8>, Arc<Rules>)>,
    /// How many folders are being read.
    busy: usize,
    folders: BTreeMap<Vec<u8>, Folder>,
    failed: Option<CasError>,
}

/// What of a project's folder is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct What {
    /// Whether its `.git` is part of it, less what changes by being looked at.
    pub(super) git: bool,
    /// Whether what usual tools make is, outside of a repository, which would say so itself.
    pub(super) is_made: bool,
}

/// Walks over a project's folder.
pub(super) fn walk(root: &Path, what: What, progress: &Progress) -> Result<Walked, CasError> {
    let rules = Rules::of_project(root);
    let git = what.git;
    let rules = if what.is_made || rules.knows_git() { rules } else { Rules::without_made(root) };
    let rules = Arc::new(rules);
    let knows_git = rules.knows_git() || root.join(".git").exists();
    let work =
        Mutex::new(Work { left: vec![(Vec::new(), rules)], busy: 0, folders: BTreeMap::new(), failed: None });
    let changed = Condvar::new();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| take_part(root, git, progress, &work, &changed));
        }
        take_part(root, git, progress, &work, &changed);
    });
    let mut work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = work.failed {
        return Err(error);
    }
    let mut walked = Walked { knows_git, ..Walked::default() };
    flatten(&[], &mut work.folders, &mut walked);
    Ok(walked)
}

fn lock(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_part(root: &Path, git: bool, progress: &Progress, work: &Mutex<Work>, changed: &Condvar) {
    let mut path = PathBuf::new();
    loop {
        let (folder, rules) = {
            let mut shared = lock(work);
            loop {
                if shared.failed.is_some() {
                    return;
                }
                if let Some(next) = shared.left.pop() {
                    shared.busy += 1;
                    break next;
                }
                if shared.busy == 0 {
                    return;
                }
                shared = changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
            }
        };
        path.clear();
        path.push(root);
        path.push(OsStr::from_bytes(&folder));
        progress.look_at(&path);
        let read = read(&path, &folder, &rules, git);
        let mut shared = lock(work);
        shared.busy -= 1;
        match read {
            Ok((read, below)) => {
                shared.left.extend(below);
                shared.folders.insert(folder, read);
            }
            // A folder that vanished since it was listed is not there.
            Err(error) if error.is_missing() && !folder.is_empty() => {}
            Err(error) => shared.failed = Some(error),
        }
        changed.notify_all();
    }
}

type Below = Vec<(Vec<u8>, Arc<Rules>)>;

fn read(path: &Path, folder: &[u8], rules: &Arc<Rules>, git: bool) -> Result<(Folder, Below), CasError> {
    let failed = |error: rustix::io::Errno| CasError::new(path, error);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let mut names: Vec<CString> = Vec::new();
    for entry in Dir::read_from(&opened).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    let has = |wanted: &[u8]| names.iter().any(|name| name.to_bytes() == wanted);
    let in_git = folder == b".git" || folder.starts_with(b".git/");
    let is_repository = !in_git && !folder.is_empty() && has(b".git");
    // At the top of the project's own repository its rules begin, and lie in its `.gitignore` too.
    let rules = if in_git {
        Arc::clone(rules)
    } else {
        rules.below(path, has(b".gitignore"), has(rules::OWN), is_repository)
    };
    let mut read = Folder::default();
    let mut below = Vec::new();
    for name in names {
        let bytes = name.to_bytes();
        if bytes == b".git" && !(git && folder.is_empty()) {
            continue;
        }
        if in_git && left_out_of_git(folder, bytes) {
            continue;
        }
        let stat = match statat(&opened, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => continue,
            other => other.map_err(|error| CasError::new(&path.join(OsStr::from_bytes(bytes)), error))?,
        };
        let stamp = Stamp::new(&stat);
        let kind = stamp.file_type();
        let is_folder = kind == FileType::Directory;
        if !is_folder && !matches!(kind, FileType::RegularFile | FileType::Symlink) {
            continue;
        }
        let inside = join(folder, bytes);
        let is_git = in_git || bytes == b".git";
        if !is_git {
            let full = path.join(OsStr::from_bytes(bytes));
            if rules::is_rule_file(bytes) {
                read.rule_files.push((full.clone(), stamp));
            }
            if rules.leave_out(&full, is_folder) {
                continue;
            }
        }
        if is_folder {
            below.push((inside, Arc::clone(&rules)));
        }
        read.children.push((bytes.to_owned(), stamp));
    }
    Ok((read, below))
}

/// What of a repository changes by being looked at, or is of no use to a copy of it.
fn left_out_of_git(folder: &[u8], name: &[u8]) -> bool {
    let top = folder == b".git";
    name.ends_with(b".lock")
        || (top
            && matches!(
                name,
                b"index"
                    | b"logs"
                    | b"hooks"
                    | b"FETCH_HEAD"
                    | b"ORIG_HEAD"
                    | b"COMMIT_EDITMSG"
                    | b"gc.log"
                    | b"worktrees"
            ))
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    if !folder.is_empty() {
        path.extend_from_slice(folder);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Puts a folder and all below it in order.
fn flatten(folder: &[u8], folders: &mut BTreeMap<Vec<u8>, Folder>, walked: &mut Walked) {
    let Some(read) = folders.remove(folder) else { return };
    walked.rule_files.extend(read.rule_files);
    for (name, stamp) in read.children {
        let path = join(folder, &name);
        let is_folder = stamp.file_type() == FileType::Directory;
        walked.found.push(Found { path: path.clone(), stamp });
        if is_folder {
            flatten(&path, folders, walked);
        }
    }
}

/// Adds files that git's rules left out and that have to be there, with the folders that lead to them; what
/// `.setpointignore` leaves out stays out.
pub(super) fn add(root: &Path, walked: &mut Walked, paths: &[PathBuf]) -> Result<(), CasError> {
    if paths.is_empty() {
        return Ok(());
    }
    let known: BTreeSet<Vec<u8>> = walked.found.iter().map(|found| found.path.clone()).collect();
    let mut added = BTreeSet::new();
    let rules = Arc::new(Rules::of_project(root));
    for path in paths.iter().filter(|path| !rules.leave_out_on_the_way(root, path)) {
        for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
            let bytes = part.as_os_str().as_bytes().to_vec();
            if known.contains(&bytes) || added.contains(&bytes) {
                break;
            }
            let full = root.join(part);
            let stat = match rustix::fs::lstat(&full) {
                // A tracked file that was deleted is not there.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => break,
                other => other.map_err(|error| CasError::new(&full, error))?,
            };
            walked.found.push(Found { path: bytes.clone(), stamp: Stamp::new(&stat) });
            added.insert(bytes);
        }
    }
    // A slash comes before everything else, so that a folder stays together.
    let key = |found: &Found| {
        found.path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect::<Vec<u8>>()
    };
    walked.found.sort_by_cached_key(key);
    Ok(())
}
