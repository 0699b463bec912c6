//! Trees, kept: each a stack of layers, the lowest with everything, those above it with what differs.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode};
use serde::{Deserialize, Serialize};
use setpoint_model::digest::{Digest, Encoder};

use super::error::SourceError;
use super::index::{self, Entry, Kind};
use crate::flatten::flatten;
use crate::host::boot_id;
use crate::lock::Lease;
use crate::paths::{Roots, make_private_folder};
use crate::remove::remove_tree;

/// How many layers a tree has at most before those above the lowest are made one.
const DEEPEST: usize = 8;
/// Below this many differences a layer above is always worth it.
const FEW: usize = 64;

/// A tree of files that overlays are mounted over. It stays as long as this value.
#[derive(Debug, Clone)]
pub struct Tree {
    /// What it holds.
    pub digest: Digest,
    /// Its layers, the lowest first; none for the tree without files.
    pub layers: Vec<PathBuf>,
    _lease: Option<Arc<Lease>>,
}

impl Tree {
    /// The tree without files.
    #[must_use]
    pub fn empty() -> Self {
        Self { digest: Self::empty_digest(), layers: Vec::new(), _lease: None }
    }

    /// The digest of the tree without files.
    #[must_use]
    pub fn empty_digest() -> Digest {
        index::digest(std::iter::empty())
    }

    /// Where the file of this path lies in it.
    fn locate(&self, path: &Path) -> Option<PathBuf> {
        self.layers.iter().rev().map(|layer| layer.join(path)).find(|at| at.symlink_metadata().is_ok())
    }
}

/// What is known of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The names of its layers, the lowest first.
    layers: Vec<String>,
    files: u64,
    bytes: u64,
    /// The boot in which it was made, until it is known to be on the disk.
    not_durable_since: Option<String>,
}

/// A tree that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeUsage {
    /// What it holds.
    pub digest: Digest,
    /// How many files.
    pub files: u64,
    /// The bytes of its own top layer.
    pub bytes: u64,
    /// When it was used last.
    pub used_at: std::time::SystemTime,
}

/// Where the files of a new tree come from.
pub(super) enum Origin<'a> {
    /// The user's own folder: they are copied, and have to be what they were when they were digested.
    Project(&'a Path),
    /// Trees that are kept: linked.
    Trees(&'a [&'a Tree]),
}

/// The trees below a state root.
#[derive(Debug, Clone)]
pub(super) struct Trees {
    roots: Roots,
    folder: PathBuf,
}

impl Trees {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { roots: roots.clone(), folder: roots.state.join("source/v1") }
    }

    fn record(&self, digest: Digest) -> PathBuf {
        self.folder.join("trees").join(digest.to_hex())
    }

    fn layer(&self, name: &str) -> PathBuf {
        self.folder.join("layers").join(name)
    }

    /// A tree that is kept, leased.
    pub(super) fn find(&self, digest: Digest) -> Result<Option<Tree>, SourceError> {
        if digest == Tree::empty_digest() {
            return Ok(Some(Tree::empty()));
        }
        let path = self.record(digest);
        if !path.exists() {
            return Ok(None);
        }
        let lease = Lease::take(&self.roots, &lease_name(digest))?;
        let Some(record) = read(&path) else { return Ok(None) };
        // The machine may have stopped before it was written out.
        if record.not_durable_since.is_some_and(|boot| boot != boot_id()) {
            return Ok(None);
        }
        let layers: Vec<PathBuf> = record.layers.iter().map(|name| self.layer(name)).collect();
        if !layers.iter().all(|layer| layer.is_dir()) {
            return Ok(None);
        }
        // When it was used last; that it cannot be said is no reason to fail.
        let _ = File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(std::time::SystemTime::now()));
        Ok(Some(Tree { digest, layers, _lease: Some(Arc::new(lease)) }))
    }

    /// Makes a tree, over one that it differs little from if there is such.
    pub(super) fn make(
        &self,
        entries: &[&Entry],
        over: Option<(&Tree, &[&Entry])>,
        from: &Origin<'_>,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Tree, SourceError> {
        let digest = index::digest(entries.iter().copied());
        if let Some(tree) = self.find(digest)? {
            return Ok(tree);
        }
        let layers = self.folder.join("layers");
        make_private_folder(&layers).map_err(SourceError::write(&layers))?;
        let new = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&layers)
            .map_err(SourceError::write(&layers))?;
        fs::set_permissions(new.path(), fs::Permissions::from_mode(0o755))
            .map_err(SourceError::write(new.path()))?;
        let maker = Maker { place: new.path(), from, cancelled };
        let below = match over {
            Some((tree, known)) if !tree.layers.is_empty() => {
                let delta = Delta::between(known, entries);
                let is_worth_it = delta.len() <= FEW.max(entries.len() / 8);
                if is_worth_it && maker.delta(&delta)? { Some(tree) } else { None }
            }
            _ => None,
        };
        if below.is_none() {
            maker.whole(entries, over)?;
        }
        let mut names: Vec<String> = below.map_or_else(Vec::new, |tree| {
            tree.layers.iter().filter_map(|layer| Some(layer.file_name()?.to_str()?.to_owned())).collect()
        });
        let mut place = new.path().to_owned();
        if names.len() >= DEEPEST {
            // All that differs from the lowest layer becomes one, of links.
            let mut above: Vec<PathBuf> = names.split_off(1).iter().map(|name| self.layer(name)).collect();
            above.push(place);
            place = new.path().with_extension("flat");
            flatten(&above, &place).map_err(SourceError::write(&place))?;
        }
        // Two trees may differ from others by equal layers.
        let name = Encoder::new("setpoint.layer", 1)
            .digest(digest)
            .number(u64::from(std::process::id()))
            .bytes(new.path().as_os_str().as_bytes())
            .finish()
            .to_hex();
        let layer = self.layer(&name);
        let lease = Lease::take(&self.roots, &lease_name(digest))?;
        fs::rename(&place, &layer).map_err(SourceError::write(&layer))?;
        let files = entries.iter().filter(|entry| entry.kind != Kind::Folder).count() as u64;
        let bytes = entries.iter().map(|entry| entry.stamp.size).sum();
        names.push(name);
        let record = Record { layers: names, files, bytes, not_durable_since: Some(boot_id()) };
        self.write(digest, &record)?;
        let layers = record.layers.iter().map(|name| self.layer(name)).collect();
        Ok(Tree { digest, layers, _lease: Some(Arc::new(lease)) })
    }

    fn write(&self, digest: Digest, record: &Record) -> Result<(), SourceError> {
        let path = self.record(digest);
        let trees = self.folder.join("trees");
        make_private_folder(&trees).map_err(SourceError::write(&trees))?;
        let text = serde_json::to_vec(record).map_err(|error| SourceError::write(&path)(error.into()))?;
        let mut file = tempfile::NamedTempFile::new_in(&trees).map_err(SourceError::write(&trees))?;
        file.write_all(&text).map_err(SourceError::write(&path))?;
        file.persist(&path).map_err(|error| SourceError::write(&path)(error.error))?;
        Ok(())
    }

    /// Writes out the trees of this boot that may not be on the disk yet, and records that they are.
    pub(super) fn sync(&self) -> Result<(), SourceError> {
        let boot = boot_id();
        let records = self.usage().into_iter().map(|tree| (tree.digest, read(&self.record(tree.digest))));
        let new: Vec<(Digest, Record)> = records
            .filter_map(|(digest, record)| Some((digest, record?)))
            .filter(|(_, record)| record.not_durable_since.as_ref().is_some_and(|since| *since == boot))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let folder = File::open(&self.folder).map_err(SourceError::write(&self.folder))?;
        rustix::fs::syncfs(&folder).map_err(|error| SourceError::write(&self.folder)(error.into()))?;
        new.into_iter().try_for_each(|(digest, record)| {
            self.write(digest, &Record { not_durable_since: None, ..record })
        })
    }

    /// All trees.
    pub(super) fn usage(&self) -> Vec<TreeUsage> {
        let entries = fs::read_dir(self.folder.join("trees")).into_iter().flatten().filter_map(Result::ok);
        let usage = entries.filter_map(|entry| {
            let digest = Digest::parse(entry.file_name().to_str()?).ok()?;
            let record = read(&entry.path())?;
            let used_at = entry.metadata().ok()?.modified().ok()?;
            Some(TreeUsage { digest, files: record.files, bytes: record.bytes, used_at })
        });
        usage.collect()
    }

    /// Removes trees that are not to be kept and that nobody leases, and every layer that no tree lies on.
    pub(super) fn collect(&self, keep: impl Fn(&TreeUsage) -> bool) -> Result<usize, SourceError> {
        use crate::lock::Retirement;
        let mut removed = 0;
        for tree in self.usage().iter().filter(|tree| !keep(tree)) {
            if let Some(_retired) = Retirement::begin(&self.roots, &lease_name(tree.digest))? {
                removed += usize::from(fs::remove_file(self.record(tree.digest)).is_ok());
            }
        }
        // Nobody makes a tree meanwhile: a layer is moved to its place before its record is.
        let Some(_making) = self.making(false)? else { return Ok(removed) };
        let alive: std::collections::BTreeSet<String> = fs::read_dir(self.folder.join("trees"))
            .into_iter()
            .flatten()
            .filter_map(|entry| read(&entry.ok()?.path()))
            .flat_map(|record| record.layers)
            .collect();
        for entry in fs::read_dir(self.folder.join("layers")).into_iter().flatten().filter_map(Result::ok) {
            if !entry.file_name().to_str().is_some_and(|name| alive.contains(name)) {
                let _ = remove_tree(&entry.path());
            }
        }
        Ok(removed)
    }

    /// The right to make trees, which many may have at once, or to sweep, which excludes all others and is not
    /// waited for.
    pub(super) fn making(&self, shared: bool) -> Result<Option<File>, SourceError> {
        let path = self.folder.join("making.lock");
        let file = crate::lock::open_at(&path).map_err(SourceError::write(&path))?;
        if shared {
            file.lock_shared().map_err(SourceError::write(&path))?;
            return Ok(Some(file));
        }
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(source)) => Err(SourceError::Write { path, source }),
        }
    }
}

fn lease_name(digest: Digest) -> String {
    format!("source-{digest}")
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// How a tree differs from another.
struct Delta<'a> {
    /// What is new or other.
    changed: Vec<&'a Entry>,
    /// What is gone, without what lies in a folder that is gone, or is none any more.
    gone: Vec<&'a Entry>,
}

impl<'a> Delta<'a> {
    fn between(old: &[&'a Entry], new: &[&'a Entry]) -> Self {
        let was: HashMap<&[u8], &Entry> = old.iter().map(|entry| (entry.path.as_slice(), *entry)).collect();
        let is: HashMap<&[u8], &Entry> = new.iter().map(|entry| (entry.path.as_slice(), *entry)).collect();
        let same = |entry: &Entry| {
            was.get(entry.path.as_slice())
                .is_some_and(|old| old.kind == entry.kind && old.digest == entry.digest)
        };
        let changed = new.iter().copied().filter(|entry| !same(entry)).collect();
        let mut gone: Vec<&Entry> = Vec::new();
        for entry in old.iter().copied().filter(|entry| !is.contains_key(entry.path.as_slice())) {
            let parent =
                Path::new(OsStr::from_bytes(&entry.path)).parent().map(|path| path.as_os_str().as_bytes());
            let parent = parent.unwrap_or_default();
            // Its folder is there still, as a folder: then it has to be said that it is not.
            if parent.is_empty() || is.get(parent).is_some_and(|parent| parent.kind == Kind::Folder) {
                gone.push(entry);
            }
        }
        Self { changed, gone }
    }

    fn len(&self) -> usize {
        self.changed.len() + self.gone.len()
    }
}

/// Makes a layer.
struct Maker<'a> {
    place: &'a Path,
    from: &'a Origin<'a>,
    cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Maker<'_> {
    /// A layer with what differs; false if this user cannot make one that says what is gone.
    fn delta(&self, delta: &Delta<'_>) -> Result<bool, SourceError> {
        for entry in &delta.gone {
            let path = self.place.join(OsStr::from_bytes(&entry.path));
            self.parents(&path)?;
            // An overlay takes a character device 0:0 for "there is nothing here".
            match rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0) {
                Err(rustix::io::Errno::PERM) => {
                    let io = |error| SourceError::write(self.place)(error);
                    for entry in fs::read_dir(self.place).map_err(io)? {
                        remove_tree(&entry.map_err(io)?.path()).map_err(io)?;
                    }
                    return Ok(false);
                }
                other => other.map_err(|error| SourceError::write(&path)(error.into()))?,
            }
        }
        for entry in &delta.changed {
            self.parents(&self.place.join(OsStr::from_bytes(&entry.path)))?;
            self.put(entry)?;
        }
        Ok(true)
    }

    fn parents(&self, path: &Path) -> Result<(), SourceError> {
        let above: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| *folder != self.place).collect();
        above.into_iter().rev().try_for_each(make_folder)
    }

    /// A layer with everything; files are put by several threads.
    fn whole(&self, entries: &[&Entry], over: Option<(&Tree, &[&Entry])>) -> Result<(), SourceError> {
        let known: HashMap<&[u8], &Entry> = over
            .iter()
            .flat_map(|(_, known)| known.iter())
            .map(|entry| (entry.path.as_slice(), *entry))
            .collect();
        let tree = over.map(|(tree, _)| tree);
        let (folders, files): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().copied().partition(|entry| entry.kind == Kind::Folder);
        folders.iter().try_for_each(|entry| self.put(entry))?;
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
        let share = files.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let parts: Vec<_> = files
                .chunks(share)
                .map(|part| {
                    let known = &known;
                    scope.spawn(move || {
                        part.iter().try_for_each(|entry| match (tree, known.get(entry.path.as_slice())) {
                            (Some(tree), Some(known))
                                if known.kind == entry.kind && known.digest == entry.digest =>
                            {
                                self.link(entry, &[tree])
                            }
                            _ => self.put(entry),
                        })
                    })
                })
                .collect();
            parts.into_iter().try_for_each(|part| match part.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    fn put(&self, entry: &Entry) -> Result<(), SourceError> {
        if (self.cancelled)() {
            return Err(SourceError::Cancelled);
        }
        let path = Path::new(OsStr::from_bytes(&entry.path));
        let target = self.place.join(path);
        if entry.kind == Kind::Folder {
            return make_folder(&target);
        }
        match self.from {
            Origin::Project(root) => copy(entry, &root.join(path), &target),
            Origin::Trees(trees) => self.link(entry, trees),
        }
    }

    /// Takes a file from a tree that is kept, without copying it: what is kept never changes.
    fn link(&self, entry: &Entry, trees: &[&Tree]) -> Result<(), SourceError> {
        let path = Path::new(OsStr::from_bytes(&entry.path));
        let at = trees.iter().find_map(|tree| tree.locate(path));
        let at = at.ok_or_else(|| SourceError::Changing(path.to_owned()))?;
        let target = self.place.join(path);
        fs::hard_link(&at, &target).map_err(SourceError::write(&target))
    }
}

/// Makes a folder that everybody may read, whatever the mask of the process, if there is none.
fn make_folder(path: &Path) -> Result<(), SourceError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(SourceError::write(path)(error)),
        Ok(()) => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(SourceError::write(path))
        }
    }
}

/// Copies a file, which has to hold what it held when it was digested.
fn copy(entry: &Entry, source: &Path, target: &Path) -> Result<(), SourceError> {
    let changing = || SourceError::Changing(source.to_owned());
    if entry.kind == Kind::Symlink {
        let text = fs::read_link(source).map_err(|_| changing())?;
        if Digest::of_bytes(text.as_os_str().as_bytes()) != entry.digest {
            return Err(changing());
        }
        return std::os::unix::fs::symlink(text, target).map_err(SourceError::write(target));
    }
    let mode = if entry.kind == Kind::Executable { 0o755 } else { 0o644 };
    let mut from = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(source)
        .map_err(|_| changing())?;
    let mut to = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(target)
        .map_err(SourceError::write(target))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0_u8; 32 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(changing()),
        };
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(SourceError::write(target))?;
    }
    if Digest::from_bytes(*hasher.finalize().as_bytes()) != entry.digest {
        return Err(changing());
    }
    // The mask of the process may have taken bits away.
    to.set_permissions(fs::Permissions::from_mode(mode)).map_err(SourceError::write(target))?;
    let since = std::time::Duration::from_nanos(entry.stamp.mtime.max(0).cast_unsigned());
    to.set_modified(std::time::UNIX_EPOCH + since).map_err(SourceError::write(target))
}
