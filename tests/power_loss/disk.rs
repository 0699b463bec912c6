//! A disk that loses its power: what was written to it and not synced may be there afterwards, in part or not at all.
//!
//! What is in a file is sure after a sync of the file; that it has a name, after one of its folder, and so on up to the
//! root. More is not promised by POSIX, and not taken for granted here, although most file systems keep more.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// The size of a sector where writes are not torn.
const WHOLE: usize = usize::MAX;

/// Something that was done to files. Paths are below the root of the disk.
#[derive(Debug, Clone)]
pub enum Change {
    File(PathBuf),
    Folder(PathBuf),
    Link { path: PathBuf, target: PathBuf },
    Write { path: PathBuf, at: usize, bytes: Vec<u8> },
    Resize { path: PathBuf, to: usize },
    Rename { from: PathBuf, to: PathBuf },
    Remove(PathBuf),
    Sync(PathBuf),
}

#[derive(Debug)]
enum Data {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Debug)]
enum Name {
    Put(String, usize),
    Remove(String),
    Rename(String, String),
}

type Names = BTreeMap<String, usize>;

/// A file, a folder or a link: what is sure of it, and what came since.
#[derive(Debug)]
enum Node {
    File {
        sure: Vec<u8>,
        since: Vec<Data>,
    },
    /// What came since bears its place in the order of all changes.
    Folder {
        sure: Names,
        since: Vec<(usize, Name)>,
    },
    Link(PathBuf),
}

#[derive(Debug)]
pub struct Disk {
    nodes: Vec<Node>,
    changes: usize,
}

/// How much is kept of what is not sure.
#[derive(Debug, Clone, Copy)]
pub enum Kept {
    Nothing,
    /// Of data any sectors; of names those up to a moment, which is the same for all folders or one for each.
    Some {
        together: bool,
    },
    All,
}

impl Kept {
    fn any(rng: &mut Rng) -> Self {
        match rng.u8(0..4) {
            0 => Self::Nothing,
            1 => Self::All,
            more => Self::Some { together: more == 2 },
        }
    }
}

/// A loss of power.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    data: Kept,
    names: Kept,
    /// What is written whole or not at all, in bytes.
    sector: usize,
    seed: u64,
}

impl Loss {
    pub const NONE: Self = Self { data: Kept::All, names: Kept::All, sector: 512, seed: 0 };
    pub const ALL: Self = Self { data: Kept::Nothing, names: Kept::Nothing, sector: 512, seed: 0 };

    pub fn any(rng: &mut Rng) -> Self {
        let sector = if rng.bool() { 512 } else { 4096 };
        Self { data: Kept::any(rng), names: Kept::any(rng), sector, seed: rng.u64(..) }
    }
}

/// How many changes were lost.
#[derive(Debug, Default, Clone, Copy)]
pub struct Lost {
    pub sectors: usize,
    pub names: usize,
}

impl Disk {
    /// An empty one.
    pub fn new() -> Self {
        Self { nodes: vec![Node::Folder { sure: Names::new(), since: Vec::new() }], changes: 0 }
    }

    pub fn change(&mut self, change: &Change) {
        self.changes += 1;
        match change {
            Change::File(path) => {
                self.put(path, Node::File { sure: Vec::new(), since: Vec::new() });
            }
            Change::Folder(path) => {
                self.put(path, Node::Folder { sure: Names::new(), since: Vec::new() });
            }
            Change::Link { path, target } => self.put(path, Node::Link(target.clone())),
            Change::Write { path, at, bytes } => {
                self.data(path).push(Data::Write { at: *at, bytes: bytes.clone() });
            }
            Change::Resize { path, to } => self.data(path).push(Data::Resize(*to)),
            Change::Rename { from, to } => {
                assert_eq!(from.parent(), to.parent(), "only renames within a folder are known here");
                self.name(from, |name| Name::Rename(name, file_name(to)));
            }
            Change::Remove(path) => self.name(path, Name::Remove),
            Change::Sync(path) => {
                let found = self.find(path).unwrap_or_else(|| panic!("no {}", path.display()));
                match &mut self.nodes[found] {
                    Node::File { sure, since } => {
                        since.drain(..).for_each(|data| apply(sure, &data, WHOLE, || true));
                    }
                    Node::Folder { sure, since } => {
                        since.drain(..).for_each(|(_, name)| rename(sure, &name));
                    }
                    Node::Link(_) => panic!("{} is a link", path.display()),
                }
            }
        }
    }

    /// Whether something of this name is there, as long as the power is.
    pub fn has(&self, path: &Path) -> bool {
        self.find(path).is_some()
    }

    fn find(&self, path: &Path) -> Option<usize> {
        path.iter().try_fold(0, |at, name| match &self.nodes[at] {
            Node::Folder { sure, since } => {
                let mut names = sure.clone();
                since.iter().for_each(|(_, name)| rename(&mut names, name));
                names.get(&*name.to_string_lossy()).copied()
            }
            _ => None,
        })
    }

    fn data(&mut self, path: &Path) -> &mut Vec<Data> {
        let found = self.find(path).unwrap_or_else(|| panic!("no {}", path.display()));
        match &mut self.nodes[found] {
            Node::File { since, .. } => since,
            _ => panic!("{} is no file", path.display()),
        }
    }

    fn put(&mut self, path: &Path, node: Node) {
        let id = self.nodes.len();
        self.nodes.push(node);
        self.name(path, |name| Name::Put(name, id));
    }

    fn name(&mut self, path: &Path, change: impl FnOnce(String) -> Name) {
        let (order, parent) = (self.changes, path.parent().unwrap());
        let found = self.find(parent).unwrap_or_else(|| panic!("no {}", parent.display()));
        match &mut self.nodes[found] {
            Node::Folder { since, .. } => since.push((order, change(file_name(path)))),
            _ => panic!("{} is no folder", parent.display()),
        }
    }

    /// Makes files of what is there after a loss of power.
    pub fn lose(&self, loss: &Loss, into: &Path) -> Lost {
        let mut rng = Rng::with_seed(loss.seed);
        let mut lost = Lost::default();
        let moment = rng.usize(0..=self.changes);
        self.write(0, into, loss, moment, &mut rng, &mut lost);
        lost
    }

    fn write(&self, at: usize, path: &Path, loss: &Loss, moment: usize, rng: &mut Rng, lost: &mut Lost) {
        match &self.nodes[at] {
            Node::File { sure, since } => {
                let mut bytes = sure.clone();
                for data in since {
                    apply(&mut bytes, data, loss.sector, || {
                        let is_kept = match loss.data {
                            Kept::Nothing => false,
                            Kept::Some { .. } => rng.bool(),
                            Kept::All => true,
                        };
                        lost.sectors += usize::from(!is_kept);
                        is_kept
                    });
                }
                fs::write(path, bytes).unwrap();
            }
            Node::Folder { sure, since } => {
                let until = match loss.names {
                    Kept::Nothing => 0,
                    Kept::Some { together: true } => moment,
                    Kept::Some { together: false } => rng.usize(0..=self.changes),
                    Kept::All => self.changes,
                };
                let mut names = sure.clone();
                for (order, name) in since {
                    if *order <= until {
                        rename(&mut names, name);
                    } else {
                        lost.names += 1;
                    }
                }
                fs::create_dir_all(path).unwrap();
                for (name, id) in names {
                    self.write(id, &path.join(name), loss, moment, rng, lost);
                }
            }
            Node::Link(target) => symlink(target, path).unwrap(),
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn rename(names: &mut Names, change: &Name) {
    match change {
        Name::Put(name, id) => {
            names.insert(name.clone(), *id);
        }
        Name::Remove(name) => {
            names.remove(name);
        }
        Name::Rename(from, to) => {
            let id = names.remove(from).unwrap();
            names.insert(to.clone(), id);
        }
    }
}

/// Does to what is in a file what was done to it, as far as it is kept: sector by sector.
fn apply(file: &mut Vec<u8>, data: &Data, sector: usize, mut is_kept: impl FnMut() -> bool) {
    match data {
        Data::Resize(to) => {
            if is_kept() {
                file.resize(*to, 0);
            }
        }
        Data::Write { at, bytes } => {
            let (mut at, mut rest) = (*at, &bytes[..]);
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(sector - at % sector));
                if is_kept() {
                    file.resize(file.len().max(at + now.len()), 0);
                    file[at..at + now.len()].copy_from_slice(now);
                }
                (at, rest) = (at + now.len(), later);
            }
        }
    }
}
