//! Folders that are watched for changes, by inotify: one watch a folder, never a tree.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::Roots;
use crate::json::TrackedFolder;

/// How many folders are watched at most, of all projects together. What is beyond that is looked at now and then.
const MOST: usize = 16_384;
/// What is read at once: more than a hundred changes.
const ROOM: usize = 8192;
/// How many changes wait to be looked at.
const AHEAD: usize = 256;
/// The stack of the thread that hears of changes.
const STACK: usize = 64 * 1024;

/// The number of a watch.
type Watch = i32;

/// What of a watched folder counts; nothing if everything does.
type Names = Option<Vec<OsString>>;

/// What has come of watching a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// All of it is watched that was before.
    AsBefore,
    /// Something is watched that was not: it may have changed before it was.
    New,
    /// It cannot be watched as a whole.
    Unwatched,
}

/// Something that happened in a folder, as the kernel tells it.
struct Change {
    watch: Watch,
    what: ReadFlags,
    /// Nothing where it is about the folder itself.
    name: Option<OsString>,
}

/// Folders that are watched.
pub(super) struct Watches {
    /// Nothing where the kernel gives none: then everything is looked at now and then.
    inotify: Option<Arc<OwnedFd>>,
    changes: Receiver<Change>,
    by_watch: BTreeMap<Watch, BTreeMap<PathBuf, Names>>,
}

/// What adds watches, on a thread where that may take its time.
#[derive(Clone)]
pub(super) struct Watcher {
    inotify: Option<Arc<OwnedFd>>,
}

impl Watches {
    pub(super) fn new() -> Self {
        let (send, changes) = mpsc::channel(AHEAD);
        let inotify = inotify::init(CreateFlags::CLOEXEC).ok().map(Arc::new);
        let inotify = inotify.filter(|inotify| {
            let inotify = Arc::clone(inotify);
            let thread = std::thread::Builder::new().name("api-watch".to_owned()).stack_size(STACK);
            thread.spawn(move || listen(&inotify, &send)).is_ok()
        });
        Self { inotify, changes, by_watch: BTreeMap::new() }
    }

    pub(super) fn watcher(&self) -> Watcher {
        Watcher { inotify: self.inotify.clone() }
    }

    /// Remembers what is watched for a project, instead of what was, or beside it.
    pub(super) fn set(&mut self, root: &PathBuf, watched: Option<Vec<(Watch, Names)>>, instead: bool) -> Set {
        let mut set = if watched.is_some() { Set::AsBefore } else { Set::Unwatched };
        let mut before = BTreeMap::new();
        for (watch, of) in &mut self.by_watch {
            if let Some(names) = of.get(root).cloned() {
                before.insert(*watch, names);
            }
            if instead {
                of.remove(root);
            }
        }
        for (watch, names) in watched.unwrap_or_default() {
            if before.get(&watch) != Some(&names) {
                set = Set::New;
            }
            self.by_watch.entry(watch).or_default().insert(root.clone(), names);
        }
        self.leave_unused();
        set
    }

    /// Forgets all other projects.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&PathBuf) -> bool) {
        self.by_watch.values_mut().for_each(|of| of.retain(|root, _| keep(root)));
        self.leave_unused();
    }

    fn leave_unused(&mut self) {
        let inotify = self.inotify.as_ref();
        self.by_watch.retain(|watch, of| {
            if of.is_empty()
                && let Some(inotify) = inotify
            {
                // A folder that is gone has taken its watch along.
                let _ = inotify::remove_watch(inotify, *watch);
            }
            !of.is_empty()
        });
    }

    /// Waits until something changes that counts: for which projects.
    pub(super) async fn changed(&mut self) -> Roots {
        loop {
            let Some(first) = self.changes.recv().await else { return std::future::pending().await };
            let mut changed = Roots::new();
            let mut next = Some(first);
            while let Some(change) = next {
                concerns(&mut self.by_watch, &change, &mut changed);
                next = self.changes.try_recv().ok();
            }
            if !changed.is_empty() {
                return changed;
            }
        }
    }
}

/// Passes on what the kernel tells, for as long as somebody listens. Who is slow makes the kernel wait, and in the end
/// say that it has forgotten something.
fn listen(inotify: &OwnedFd, to: &Sender<Change>) {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut reader = inotify::Reader::new(inotify, &mut room);
    loop {
        let change = match reader.next() {
            Ok(event) => Change {
                watch: event.wd(),
                what: event.events(),
                name: event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()),
            },
            Err(Errno::INTR) => continue,
            Err(_) => return,
        };
        if to.blocking_send(change).is_err() {
            return;
        }
    }
}

/// Adds the projects that a change concerns.
fn concerns(by_watch: &mut BTreeMap<Watch, BTreeMap<PathBuf, Names>>, change: &Change, changed: &mut Roots) {
    let Change { watch, what, name } = change;
    if what.contains(ReadFlags::QUEUE_OVERFLOW) {
        changed.extend(by_watch.values().flat_map(BTreeMap::keys).cloned());
        return;
    }
    // Where the folder itself is gone, there is no name.
    let counts = |names: &Names| match (names, name) {
        (Some(names), Some(name)) => names.iter().any(|known| known == name),
        (None, _) | (_, None) => true,
    };
    let of = by_watch.get(watch).into_iter().flatten();
    changed.extend(of.filter(|(_, names)| counts(names)).map(|(root, _)| root.clone()));
    if what.contains(ReadFlags::IGNORED) {
        by_watch.remove(watch);
    }
}

impl Watcher {
    /// Watches folders; nothing if not all of them can be. In the place of one that is not there its parent is watched for
    /// it.
    pub(super) fn watch(&self, tracked: &[TrackedFolder]) -> Option<Vec<(Watch, Names)>> {
        let inotify = self.inotify.as_ref()?;
        if tracked.is_empty() || tracked.len() > MOST {
            return None;
        }
        let flags = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::EXCL_UNLINK
            | WatchFlags::ONLYDIR;
        let mut watched: BTreeMap<Watch, Names> = BTreeMap::new();
        for TrackedFolder { folder, names } in tracked {
            let mut folder = folder.clone();
            let mut names: Names =
                names.as_ref().map(|names| names.iter().map(OsString::from).collect::<Vec<_>>());
            let watch = loop {
                match inotify::add_watch(inotify, &folder, flags) {
                    Ok(watch) => break watch,
                    Err(Errno::NOENT | Errno::NOTDIR) => {
                        names = Some(vec![folder.file_name()?.to_owned()]);
                        folder.pop();
                    }
                    Err(_) => return None,
                }
            };
            let known = watched.entry(watch).or_insert_with(|| Some(Vec::new()));
            match (known, names) {
                (Some(known), Some(more)) => known.extend(more),
                (known, _) => *known = None,
            }
        }
        Some(watched.into_iter().collect())
    }
}
