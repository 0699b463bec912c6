//! The commit that a release is made of.

use std::path::Path;

use setpoint_model::release::Version;

use super::error::ReleaseError;
use super::publish::LOCK;
use crate::git;

/// A project's folder in a repository of git.
pub(super) struct Checkout<'a> {
    pub(super) root: &'a Path,
    /// The commit that is checked out.
    pub(super) head: String,
}

fn git(root: &Path, what: &'static str, arguments: &[&str]) -> Result<String, ReleaseError> {
    git::git(root, arguments).map_err(|why| ReleaseError::Git { what, why })
}

impl<'a> Checkout<'a> {
    /// The folder's repository, in which everything is committed but the file that a release itself writes.
    pub(super) fn clean(root: &'a Path) -> Result<Self, ReleaseError> {
        let head = git(root, "the commit", &["rev-parse", "--verify", "HEAD"])?.trim().to_owned();
        let lock = format!(
            ":(exclude,top){}{LOCK}",
            git(root, "the folder", &["rev-parse", "--show-prefix"])?.trim()
        );
        let changes = git(root, "what is changed", &["status", "--porcelain", "-z", "--", ":/", &lock])?;
        // Each is two letters, a blank and a path.
        let changes: Vec<String> =
            changes.split('\0').filter_map(|line| line.get(3..)).map(str::to_owned).collect();
        if changes.is_empty() { Ok(Self { root, head }) } else { Err(ReleaseError::Dirty(changes)) }
    }

    /// The tag of a version, if it is there. It stands on the commit that is released.
    pub(super) fn tag(&self, version: &Version) -> Result<Option<String>, ReleaseError> {
        for tag in [format!("v{version}"), version.to_string()] {
            let reference = format!("refs/tags/{tag}^{{commit}}");
            let Ok(on) = git(self.root, "a tag", &["rev-parse", "--verify", "--quiet", &reference]) else {
                continue;
            };
            let on = on.trim().to_owned();
            if on != self.head {
                let short = |commit: &str| commit.chars().take(12).collect();
                return Err(ReleaseError::Tag { tag, on: short(&on), head: short(&self.head) });
            }
            return Ok(Some(tag));
        }
        Ok(None)
    }

    /// Makes the tag of a version, here only.
    pub(super) fn make_tag(&self, version: &Version) -> Result<String, ReleaseError> {
        let tag = format!("v{version}");
        git(self.root, "whether it made the tag", &["tag", &tag, &self.head])?;
        Ok(tag)
    }

    /// The files that git has of these, by their paths from the project's folder.
    pub(super) fn files(&self, patterns: &[String]) -> Result<Vec<String>, ReleaseError> {
        if patterns.is_empty() {
            return Ok(Vec::new());
        }
        let arguments = ["ls-files", "-z", "--cached", "--"].into_iter();
        let arguments: Vec<&str> = arguments.chain(patterns.iter().map(String::as_str)).collect();
        let found = git(self.root, "its files", &arguments)?;
        Ok(found.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
    }
}
