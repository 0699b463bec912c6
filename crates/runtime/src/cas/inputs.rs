//! Declared inputs: from patterns to files and their digests.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType};

use super::glob::Pattern;
use super::stat_cache::describe;
use super::tree::{kind_of, next_entry, open_folder, open_root, present, stamp_at};
use super::{CasError, FileDigest, Files, Globs};

/// A file or symbolic link that a pattern fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Relative to the project's folder. Names need not be UTF-8.
    pub path: PathBuf,
    /// Its digest.
    pub digest: FileDigest,
}

/// What patterns came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The files, sorted by the bytes of their paths.
    pub files: Vec<InputFile>,
    /// The patterns that fit nothing, in the order in which they were given.
    pub unmatched: Vec<String>,
}

impl Files<'_> {
    /// The files in a project's folder that the patterns fit.
    ///
    /// A walk enters only folders below a pattern's literal names, and no deeper than the pattern can fit.
    /// Pipes, sockets and devices do not count, unless a pattern names one: that is an error.
    ///
    /// # Errors
    /// [`CasError`] if the project's folder is missing, a file or folder may not be read, or a file keeps
    /// changing.
    pub fn inputs(&mut self, root: &Path, globs: &Globs) -> Result<Inputs, CasError> {
        let patterns = globs.patterns();
        let mut walk = Walk {
            files: self,
            patterns,
            path: root.to_owned(),
            prefix: root.join("").as_os_str().len(),
            matched: vec![false; patterns.len()],
            found: Vec::new(),
        };
        let active: Vec<usize> = (0..patterns.len()).collect();
        walk.files.look_at(root);
        let everything = walk.fit(&active, 0).is_some();
        walk.folder(open_root(root)?, 0, &active, everything)?;
        let Walk { mut found, matched, .. } = walk;
        found.sort_unstable_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        let unmatched = patterns.iter().zip(matched).filter(|(_, matched)| !matched);
        Ok(Inputs { files: found, unmatched: unmatched.map(|(pattern, _)| pattern.text.clone()).collect() })
    }
}

struct Walk<'a, 'f> {
    files: &'a mut Files<'f>,
    patterns: &'a [Pattern],
    /// Where the walk is.
    path: PathBuf,
    /// The length of the part of the path that leads to the project's folder.
    prefix: usize,
    matched: Vec<bool>,
    found: Vec<InputFile>,
}

/// The strongest way in which patterns fit a path.
enum Fit {
    /// One names it.
    Named,
    /// Some have a wildcard.
    Wildcard,
}

impl Walk<'_, '_> {
    /// Visits a folder at a depth where the active patterns led. With `everything`, all in it is wanted, and
    /// patterns are followed only to know which of them fit something.
    fn folder(
        &mut self,
        mut folder: Dir,
        depth: usize,
        active: &[usize],
        everything: bool,
    ) -> Result<(), CasError> {
        let patterns = self.patterns;
        let mut named: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
        let mut wild = Vec::new();
        for &index in active {
            let Some(pattern) = patterns.get(index) else { continue };
            match pattern.literal.get(depth) {
                Some(name) => named.entry(name.as_bytes()).or_default().push(index),
                None if pattern.reaches_below(depth) => wild.push(index),
                None => {}
            }
        }
        if everything || !wild.is_empty() {
            self.files.tracked().folder(&self.path);
            while let Some(entry) = next_entry(&mut folder, &self.path)? {
                let name = entry.file_name();
                let here = folder.fd().map_err(|error| CasError::new(&self.path, error))?;
                let mut led = named.get(name.to_bytes()).cloned().unwrap_or_default();
                led.extend_from_slice(&wild);
                self.below(name.to_bytes(), |walk| {
                    let kind = kind_of(here, &entry, &walk.path)?;
                    walk.child(here, name, kind, depth + 1, &led, everything)
                })?;
            }
        } else {
            // Nothing but names to look for: no need to list the folder.
            for (name, led) in named {
                let here = folder.fd().map_err(|error| CasError::new(&self.path, error))?;
                let Ok(c_name) = CString::new(name) else { continue };
                if name == b".git" {
                    continue;
                }
                self.files.tracked().file(&self.path.join(OsStr::from_bytes(name)));
                self.below(name, |walk| {
                    let kind = stamp_at(here, &c_name, &walk.path)?.file_type();
                    walk.child(here, &c_name, kind, depth + 1, &led, false)
                })?;
            }
        }
        Ok(())
    }

    /// Does something with the path one name longer. What is not there is left out.
    fn below(
        &mut self,
        name: &[u8],
        work: impl FnOnce(&mut Self) -> Result<(), CasError>,
    ) -> Result<(), CasError> {
        self.path.push(OsStr::from_bytes(name));
        self.files.look_at(&self.path);
        let result = present(work(self));
        self.path.pop();
        result.map(|_| ())
    }

    fn child(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        kind: FileType,
        depth: usize,
        led: &[usize],
        everything: bool,
    ) -> Result<(), CasError> {
        let fit = self.fit(led, depth);
        let wanted = everything || fit.is_some();
        match kind {
            FileType::Directory => {
                let leads_on =
                    |index: &usize| self.patterns.get(*index).is_some_and(|p| p.reaches_below(depth));
                if wanted || led.iter().any(leads_on) {
                    self.folder(open_folder(folder, name, &self.path)?, depth, led, wanted)?;
                }
            }
            FileType::RegularFile | FileType::Symlink if wanted => {
                let stamp = stamp_at(folder, name, &self.path)?;
                let digest = self.files.leaf(folder, name, &stamp, &self.path)?;
                self.found.push(InputFile { path: self.relative().to_owned(), digest });
            }
            FileType::RegularFile | FileType::Symlink => {}
            other if matches!(fit, Some(Fit::Named)) => {
                return Err(CasError::NotRegular { path: self.path.clone(), what: describe(other) });
            }
            _ => {}
        }
        Ok(())
    }

    /// Which patterns, of those that led here, fit the path; they are marked.
    fn fit(&mut self, led: &[usize], depth: usize) -> Option<Fit> {
        let mut strongest = None;
        for &index in led {
            let Some(pattern) = self.patterns.get(index) else { continue };
            if pattern.fits(self.relative(), depth) {
                if let Some(matched) = self.matched.get_mut(index) {
                    *matched = true;
                }
                if pattern.is_literal() {
                    strongest = Some(Fit::Named);
                } else if strongest.is_none() {
                    strongest = Some(Fit::Wildcard);
                }
            }
        }
        strongest
    }

    fn relative(&self) -> &Path {
        let path = self.path.as_os_str().as_bytes();
        Path::new(OsStr::from_bytes(path.get(self.prefix..).unwrap_or_default()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "inputs_tests.rs"]
mod tests;
