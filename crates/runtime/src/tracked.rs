//! Which files what is declared was read from, so that somebody can watch them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What of a folder counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Whatever lies in it.
    All,
    /// These, whether or not they are there.
    These(BTreeSet<OsString>),
}

impl Names {
    /// Whether this name counts.
    #[must_use]
    pub fn have(&self, name: &OsStr) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.contains(name),
        }
    }
}

/// Folders, each with what of it counts; what lies deeper is a folder of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracked(BTreeMap<PathBuf, Names>);

impl Tracked {
    /// A file, whether or not it is there.
    pub fn file(&mut self, path: &Path) {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
        match self.0.get_mut(folder) {
            Some(Names::All) => {}
            Some(Names::These(names)) => drop(names.insert(name.to_owned())),
            None => drop(self.0.insert(folder.to_owned(), Names::These([name.to_owned()].into()))),
        }
    }

    /// A folder, with whatever comes to lie in it.
    pub fn folder(&mut self, path: &Path) {
        match self.0.get_mut(path) {
            Some(names) => *names = Names::All,
            None => drop(self.0.insert(path.to_owned(), Names::All)),
        }
    }

    /// What another one has, too.
    pub fn add(&mut self, other: Self) {
        for (folder, names) in other.0 {
            match names {
                Names::All => self.folder(&folder),
                Names::These(names) => names.iter().for_each(|name| self.file(&folder.join(name))),
            }
        }
    }

    /// It, with what its links lead to.
    #[must_use]
    pub fn with_targets(mut self) -> Self {
        let files = self.0.iter().flat_map(|(folder, names)| match names {
            Names::All => Vec::new(),
            Names::These(names) => names.iter().map(|name| folder.join(name)).collect(),
        });
        let targets: Vec<_> = files.filter_map(|file| file.canonicalize().ok()).collect();
        targets.iter().for_each(|target| self.file(target));
        self
    }

    /// The folders, by their paths.
    #[must_use]
    pub fn folders(&self) -> &BTreeMap<PathBuf, Names> {
        &self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_folder_as_a_whole_holds_each_of_its_files() {
        let mut one = Tracked::default();
        one.file(Path::new("/p/a"));
        one.file(Path::new("/p/b"));
        one.folder(Path::new("/p/src"));
        one.file(Path::new("/p/src/main.rs"));
        let mut other = Tracked::default();
        other.file(Path::new("/p/c"));
        other.folder(Path::new("/q"));
        one.add(other);
        let folders: Vec<_> = one.folders().keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(folders, ["/p", "/p/src", "/q"]);
        let has = |folder: &str, name: &str| one.folders()[Path::new(folder)].have(OsStr::new(name));
        assert!(
            has("/p", "a") && has("/p", "c") && !has("/p", "d") && has("/p/src", "new.rs") && has("/q", "x")
        );
    }

    #[test]
    fn what_a_link_leads_to_counts_too() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        std::fs::create_dir(at.join("far")).unwrap();
        std::fs::write(at.join("far/real"), "").unwrap();
        std::os::unix::fs::symlink("far/real", at.join("link")).unwrap();
        let mut tracked = Tracked::default();
        tracked.file(&at.join("link"));
        tracked.file(&at.join("missing"));
        let tracked = tracked.with_targets();
        assert!(tracked.folders()[&at.join("far")].have(OsStr::new("real")));
        assert_eq!(tracked.folders().len(), 2);
    }
}
