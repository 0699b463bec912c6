//! A folder that is written entry by entry without ever leaving it, whatever links it holds.
//!
//! Names are resolved with `openat2(RESOLVE_IN_ROOT)` from the folder's descriptor, so that an absolute or `..`
//! link means what it will mean once the folder is somebody's root.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::Rule;
use crate::remove::remove_tree_at;

/// How owners and privileges of a layer are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// As in the archive: for root.
    Keep,
    /// Everything is the caller's, and no file is setuid.
    Caller,
}

impl Owners {
    /// What this process may do: [`Owners::Keep`] only for root with all ids.
    pub(super) fn here() -> Owners {
        let whole = std::fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
        if whole && rustix::process::geteuid().is_root() { Owners::Keep } else { Owners::Caller }
    }

    fn opaque_name(self) -> &'static str {
        match self {
            Owners::Keep => "trusted.overlay.opaque",
            Owners::Caller => "user.overlay.opaque",
        }
    }
}

/// What an entry carries beside its content.
#[derive(Debug, Clone)]
pub(super) struct Attrs {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

impl Attrs {
    /// Those of a folder that no entry speaks of.
    fn implied() -> Attrs {
        Attrs { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() }
    }

    fn times(&self) -> Timestamps {
        let at = Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1.into() };
        Timestamps { last_access: at, last_modification: at }
    }
}

/// Why an entry was not written.
#[derive(Debug)]
pub(super) enum Fail {
    /// It broke a rule.
    Rule(Rule),
    /// The system refused.
    Io(io::Error),
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Fail {
        Fail::Io(errno.into())
    }
}

impl From<Rule> for Fail {
    fn from(rule: Rule) -> Fail {
        Fail::Rule(rule)
    }
}

/// What stood at a name before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    Nothing,
    Folder,
    Whiteout,
    Other,
}

/// The folder being written.
pub(super) struct Tree {
    root: OwnedFd,
    owners: Owners,
    last: Option<(PathBuf, Rc<OwnedFd>)>,
    folders: BTreeMap<PathBuf, Attrs>,
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const PRIVATE: Mode = Mode::RWXU;

impl Tree {
    /// Over an empty folder.
    pub(super) fn new(root: &Path, owners: Owners) -> io::Result<Tree> {
        let root = rustix::fs::open(root, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Tree { root, owners, last: None, folders: BTreeMap::from([(PathBuf::new(), Attrs::implied())]) })
    }

    /// Opens a path below the root as a process would that has it as its root.
    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // The kernel answers EAGAIN when somebody renames anything while `..` is resolved.
        for _ in 0..1000 {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The folder that holds an entry, made where it is missing.
    fn parent(&mut self, parts: &[&OsStr]) -> Result<Rc<OwnedFd>, Fail> {
        let path: PathBuf = parts.iter().collect();
        if let Some((last, fd)) = &self.last
            && *last == path
        {
            return Ok(Rc::clone(fd));
        }
        let fd = match self.open(&path, FOLDER) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(parts)?,
            Err(Errno::LOOP) => return Err(Rule::LinkLoop.into()),
            Err(errno) => return Err(errno.into()),
        };
        let fd = Rc::new(fd);
        self.last = Some((path, Rc::clone(&fd)));
        Ok(fd)
    }

    fn make_parents(&mut self, parts: &[&OsStr]) -> Result<OwnedFd, Fail> {
        let mut at = self.open(Path::new(""), FOLDER)?;
        let mut path = PathBuf::new();
        for part in parts {
            path.push(part);
            match self.open(&path, FOLDER) {
                Ok(fd) => {
                    at = fd;
                    continue;
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(Errno::LOOP) => return Err(Rule::LinkLoop.into()),
                Err(errno) => return Err(errno.into()),
            }
            let mut opaque = false;
            match rustix::fs::statat(&at, *part, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
                Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Symlink => return Err(Rule::ThroughLink.into()),
                    kind => {
                        opaque = kind == FileType::CharacterDevice;
                        rustix::fs::unlinkat(&at, *part, AtFlags::empty())?;
                    }
                },
            }
            rustix::fs::mkdirat(&at, *part, PRIVATE)?;
            self.folders.entry(path.clone()).or_insert_with(Attrs::implied);
            if opaque {
                self.set_opaque(at.as_fd(), part)?;
            }
            at = rustix::fs::openat(&at, *part, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(at)
    }

    fn set_opaque(&self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Fail> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        Ok(rustix::fs::fsetxattr(&folder, self.owners.opaque_name(), b"y", XattrFlags::empty())?)
    }

    /// What is at a name, without following it.
    fn look(&self, parent: &OwnedFd, name: &OsStr) -> Result<Was, Fail> {
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(Was::Nothing),
            Err(errno) => Err(errno.into()),
            Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Was::Folder,
                FileType::CharacterDevice => Was::Whiteout,
                _ => Was::Other,
            }),
        }
    }

    /// Makes room at a name for something that is not a folder.
    fn clear(&mut self, parts: &[&OsStr], parent: &OwnedFd) -> Result<(), Fail> {
        let Some(name) = parts.last() else { return Ok(()) };
        match self.look(parent, name)? {
            Was::Nothing => Ok(()),
            Was::Folder => {
                self.last = None;
                // What was to be set on it and on what lay below goes with it.
                let gone: PathBuf = parts.iter().collect();
                self.folders.retain(|path, _| !path.starts_with(&gone));
                remove_tree_at(parent.as_fd(), name).map_err(Fail::Io)
            }
            Was::Whiteout | Was::Other => {
                self.last = None;
                Ok(rustix::fs::unlinkat(parent, *name, AtFlags::empty())?)
            }
        }
    }

    /// A folder; all its attributes but the extended ones are set by [`Tree::finish`].
    pub(super) fn folder(&mut self, parts: &[&OsStr], mut attrs: Attrs) -> Result<(), Fail> {
        let mut parent = None;
        if let Some((name, parents)) = parts.split_last() {
            let at = self.parent(parents)?;
            let was = self.look(&at, name)?;
            if was != Was::Folder {
                self.clear(parts, &at)?;
                rustix::fs::mkdirat(&at, *name, PRIVATE)?;
                if was == Was::Whiteout {
                    self.set_opaque(at.as_fd(), name)?;
                }
            }
            parent = Some((at, *name));
        }
        // At once, so that they need not be remembered: an archive may hold very many.
        let xattrs = std::mem::take(&mut attrs.xattrs);
        if !xattrs.is_empty() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = match parent {
                Some((at, name)) => rustix::fs::openat(&at, name, flags, Mode::empty())?,
                None => self.open(Path::new(""), flags)?,
            };
            set_xattrs(folder.as_fd(), &xattrs)?;
        }
        self.folders.insert(parts.iter().collect(), attrs);
        Ok(())
    }

    /// An empty file, to be written and then given to [`Tree::seal`].
    pub(super) fn file(&mut self, parts: &[&OsStr]) -> Result<File, Fail> {
        let (name, parents) = parts.split_last().ok_or(Rule::BadName)?;
        let parent = self.parent(parents)?;
        self.clear(parts, &parent)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&parent, *name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Gives a written file its attributes.
    pub(super) fn seal(&self, file: &File, attrs: &Attrs) -> Result<(), Fail> {
        self.set_attrs(file.as_fd(), attrs, 0o400)
    }

    fn set_attrs(&self, fd: BorrowedFd<'_>, attrs: &Attrs, least: u32) -> Result<(), Fail> {
        let mode = match self.owners {
            Owners::Keep => {
                rustix::fs::fchown(fd, Some(Uid::from_raw(attrs.uid)), Some(Gid::from_raw(attrs.gid)))?;
                attrs.mode & 0o7777
            }
            Owners::Caller => attrs.mode & 0o1777 | least,
        };
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?;
        set_xattrs(fd, &attrs.xattrs)?;
        Ok(rustix::fs::futimens(fd, &attrs.times())?)
    }

    /// A symlink; any target is fine, for nothing here follows it out.
    pub(super) fn symlink(&mut self, parts: &[&OsStr], target: &[u8], attrs: &Attrs) -> Result<(), Fail> {
        let (name, parents) = parts.split_last().ok_or(Rule::BadName)?;
        if target.is_empty() || target.len() > 4095 || target.contains(&0) {
            return Err(Rule::BadLinkTarget.into());
        }
        let parent = self.parent(parents)?;
        self.clear(parts, &parent)?;
        rustix::fs::symlinkat(OsStr::from_bytes(target), &parent, *name)?;
        self.set_attrs_at(&parent, name, attrs)
    }

    /// A fifo.
    pub(super) fn fifo(&mut self, parts: &[&OsStr], attrs: &Attrs) -> Result<(), Fail> {
        let (name, parents) = parts.split_last().ok_or(Rule::BadName)?;
        let parent = self.parent(parents)?;
        self.clear(parts, &parent)?;
        rustix::fs::mknodat(&parent, *name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        self.set_attrs_at(&parent, name, attrs)?;
        Ok(rustix::fs::chmodat(&parent, *name, Mode::from_raw_mode(attrs.mode & 0o777), AtFlags::empty())?)
    }

    fn set_attrs_at(&self, parent: &OwnedFd, name: &OsStr, attrs: &Attrs) -> Result<(), Fail> {
        if self.owners == Owners::Keep {
            let (uid, gid) = (Uid::from_raw(attrs.uid), Gid::from_raw(attrs.gid));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(rustix::fs::utimensat(parent, name, &attrs.times(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// A hard link to an earlier entry.
    pub(super) fn hard_link(&mut self, parts: &[&OsStr], target: &[&OsStr]) -> Result<(), Fail> {
        let (name, parents) = parts.split_last().ok_or(Rule::BadName)?;
        let (target_name, target_parents) = target.split_last().ok_or(Rule::HardLinkKind)?;
        let path: PathBuf = target_parents.iter().collect();
        let from = match self.open(&path, FOLDER) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(Rule::HardLinkMissing.into()),
            Err(errno) => return Err(errno.into()),
        };
        match self.look(&from, target_name)? {
            Was::Nothing => return Err(Rule::HardLinkMissing.into()),
            Was::Folder | Was::Whiteout => return Err(Rule::HardLinkKind.into()),
            Was::Other => {}
        }
        let parent = self.parent(parents)?;
        if self.same(&from, target_name, &parent, name)? {
            return Ok(());
        }
        self.clear(parts, &parent)?;
        match rustix::fs::linkat(&from, *target_name, &parent, *name, AtFlags::empty()) {
            // Making room removed the target with it.
            Err(Errno::NOENT) => Err(Rule::HardLinkMissing.into()),
            other => Ok(other?),
        }
    }

    fn same(&self, a: &OwnedFd, a_name: &OsStr, b: &OwnedFd, b_name: &OsStr) -> Result<bool, Fail> {
        let a = rustix::fs::statat(a, a_name, AtFlags::SYMLINK_NOFOLLOW)?;
        match rustix::fs::statat(b, b_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(b) => Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Hides a name of the layers below. What this layer itself has there stays.
    pub(super) fn whiteout(&mut self, parents: &[&OsStr], name: &OsStr) -> Result<(), Fail> {
        let parent = self.parent(parents)?;
        match self.look(&parent, name)? {
            Was::Nothing => {
                Ok(rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0)?)
            }
            Was::Folder => self.set_opaque(parent.as_fd(), name),
            Was::Whiteout | Was::Other => Ok(()),
        }
    }

    /// Hides all that the layers below have in a folder.
    pub(super) fn opaque(&mut self, folder: &[&OsStr]) -> Result<(), Fail> {
        let parent = self.parent(folder)?;
        self.set_opaque(parent.as_fd(), OsStr::new("."))
    }

    /// Sets the attributes of all folders, deepest first, and writes everything to the disk.
    pub(super) fn finish(self) -> Result<(), Fail> {
        for (path, attrs) in self.folders.iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            match self.open(path, flags) {
                Ok(folder) => self.set_attrs(folder.as_fd(), attrs, 0o700)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let root = self.open(Path::new(""), OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(rustix::fs::syncfs(&root)?)
    }
}

fn set_xattrs(fd: BorrowedFd<'_>, xattrs: &[(String, Vec<u8>)]) -> Result<(), Fail> {
    for (name, value) in xattrs {
        match rustix::fs::fsetxattr(fd, name.as_str(), value, XattrFlags::empty()) {
            Err(Errno::NOTSUP) if name.starts_with("user.") => {}
            other => other?,
        }
    }
    Ok(())
}
