//! Which files of a project's folder are its source: what git tracks or does not ignore, less what
//! `.setpointignore` says. Outside of a repository only the latter counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The file of patterns that are no part of the source, in git's own syntax; it may stand in any folder.
pub(super) const OWN: &[u8] = b".setpointignore";
const GIT: &[u8] = b".gitignore";
/// What builds and tests make where they run.
const MADE: [&str; 5] = ["target/", "node_modules/", "__pycache__/", ".pytest_cache/", ".venv/"];

/// The rules of a folder: its own, and those of the folders above it.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    above: Option<Arc<Rules>>,
    git: Option<Arc<Gitignore>>,
    own: Option<Arc<Gitignore>>,
    /// Whether git's rules of the folders above end here: at the top of a repository.
    is_top: bool,
}

/// Whether a name is that of a file of rules.
pub(super) fn is_rule_file(name: &[u8]) -> bool {
    name == OWN || name == GIT
}

impl Rules {
    /// The rules that hold in a project's folder by what lies above it: the repository that it is in, if it is in
    /// one, and the caller's own excludes.
    pub(super) fn of_project(root: &Path) -> Self {
        let nothing = Self { above: None, git: None, own: None, is_top: false };
        let Some(top) = root.ancestors().find(|folder| folder.join(".git").exists()) else { return nothing };
        let mut rules = Self::of_repository(top, None);
        let below: Vec<&Path> = root.ancestors().take_while(|folder| *folder != top).collect();
        for folder in std::iter::once(top).chain(below.into_iter().rev()).filter(|folder| *folder != root) {
            let git = read(folder, &folder.join(".gitignore"));
            rules = Self { above: Some(Arc::new(rules)), git, own: None, is_top: false };
        }
        rules
    }

    /// The rules of a folder that is in no repository, and in which what usual tools make does not count.
    pub(super) fn without_made(root: &Path) -> Self {
        let mut builder = GitignoreBuilder::new(root);
        for pattern in MADE {
            let _ = builder.add_line(None, pattern);
        }
        let own = builder.build().ok().map(Arc::new);
        Self { above: None, git: None, own, is_top: false }
    }

    /// The rules of a repository as a whole.
    fn of_repository(top: &Path, above: Option<Arc<Self>>) -> Self {
        let (global, _) = Gitignore::global();
        let exclude = git_folder(top).and_then(|git| read(top, &git.join("info/exclude")));
        let global = Some(Arc::new(global)).filter(|global| !global.is_empty());
        let outer = Self { above, git: global, own: None, is_top: true };
        Self { above: Some(Arc::new(outer)), git: exclude, own: None, is_top: false }
    }

    /// The rules of a folder below: with its own files of rules, and anew where another repository begins.
    pub(super) fn below(
        self: &Arc<Self>,
        folder: &Path,
        has_git: bool,
        has_own: bool,
        is_repository: bool,
    ) -> Arc<Self> {
        // Outside of a repository git's rules are none.
        let has_git = has_git && (is_repository || self.knows_git());
        if !has_git && !has_own && !is_repository {
            return Arc::clone(self);
        }
        let above = if is_repository {
            Arc::new(Self::of_repository(folder, Some(Arc::clone(self))))
        } else {
            Arc::clone(self)
        };
        let git = if has_git { read(folder, &folder.join(".gitignore")) } else { None };
        let own = if has_own { read(folder, &folder.join(".setpointignore")) } else { None };
        Arc::new(Self { above: Some(above), git, own, is_top: false })
    }

    /// Whether git's rules count here.
    pub(super) fn knows_git(&self) -> bool {
        let mut rules = Some(self);
        while let Some(here) = rules {
            if here.is_top {
                return true;
            }
            rules = here.above.as_deref();
        }
        false
    }

    /// Whether `.setpointignore` leaves out a file, or a folder that leads to it. These are the rules of the root.
    pub(super) fn leave_out_on_the_way(self: &Arc<Self>, root: &Path, file: &Path) -> bool {
        let mut rules = self.below(root, false, true, false);
        let mut at = root.to_owned();
        let last = file.components().count();
        for (depth, part) in file.components().enumerate() {
            at.push(part);
            let is_folder = depth + 1 < last;
            if rules.says(&at, is_folder, |rules| (rules.own.as_deref(), false)) == Some(true) {
                return true;
            }
            rules = rules.below(&at, false, is_folder, false);
        }
        false
    }

    /// Whether a file or folder is left out. The nearest rule that says something about it wins.
    pub(super) fn leave_out(&self, path: &Path, is_folder: bool) -> bool {
        match self.says(path, is_folder, |rules| (rules.own.as_deref(), false)) {
            Some(ignored) => ignored,
            None => self.is_ignored_by_git(path, is_folder),
        }
    }

    fn is_ignored_by_git(&self, path: &Path, is_folder: bool) -> bool {
        self.says(path, is_folder, |rules| (rules.git.as_deref(), rules.is_top)).unwrap_or(false)
    }

    fn says(
        &self,
        path: &Path,
        is_folder: bool,
        of: impl Fn(&Self) -> (Option<&Gitignore>, bool),
    ) -> Option<bool> {
        let mut rules = Some(self);
        while let Some(here) = rules {
            let (matcher, is_last) = of(here);
            match matcher.map(|matcher| matcher.matched(path, is_folder)) {
                Some(Match::Ignore(_)) => return Some(true),
                Some(Match::Whitelist(_)) => return Some(false),
                Some(Match::None) | None => {}
            }
            if is_last {
                return None;
            }
            rules = here.above.as_deref();
        }
        None
    }
}

/// The folder that holds a repository: `.git`, or where a file of that name leads.
pub(super) fn git_folder(top: &Path) -> Option<PathBuf> {
    let git = top.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = std::fs::read_to_string(&git).ok()?;
    let folder = top.join(text.strip_prefix("gitdir:")?.trim());
    // A linked worktree shares the excludes of the repository that it is of.
    let common = std::fs::read_to_string(folder.join("commondir")).ok();
    Some(common.map_or(folder.clone(), |common| folder.join(common.trim())))
}

/// A file of rules; one that cannot be read has none, and a line that is no pattern is none, as with git.
fn read(folder: &Path, file: &Path) -> Option<Arc<Gitignore>> {
    let mut builder = GitignoreBuilder::new(folder);
    let _ = builder.add(file);
    builder.build().ok().filter(|rules| !rules.is_empty()).map(Arc::new)
}
