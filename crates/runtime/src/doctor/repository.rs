//! The repository of git that the project lies in. Its index is not refreshed: that would be a change.

use setpoint_model::doctor::{Finding, credential, dirty};

use super::Patient;
use crate::git::git;
use crate::project::{LOCAL, MANIFEST};

impl Patient<'_> {
    /// Remotes with logins in them, and, in a clone, what is in no commit.
    pub(super) fn repository(&self) -> Vec<Finding> {
        if !self.root.ancestors().any(|folder| folder.join(".git").exists()) {
            return Vec::new();
        }
        // Without git, or in a repository that it does not trust, there is nothing to tell.
        let remotes =
            git(self.root, &["config", "--get-regexp", r"^remote\..*\.(push)?url$"]).unwrap_or_default();
        let remotes: Vec<(&str, &str)> = remotes.lines().filter_map(|line| line.split_once(' ')).collect();
        let name = |key: &str| {
            let name = key.strip_prefix("remote.").and_then(|key| Some(key.rsplit_once('.')?.0.to_owned()));
            name.unwrap_or_else(|| key.to_owned())
        };
        let mut found: Vec<Finding> =
            remotes.iter().filter_map(|(key, url)| credential(&name(key), url)).collect();
        if !remotes.is_empty() {
            found.extend(dirty(&self.root.display().to_string(), &self.changes()));
        }
        found
    }

    /// What git has of the project's folder, and is not as it has it. What is made of a release is left out.
    fn changes(&self) -> Vec<String> {
        let own = [format!(":(exclude){MANIFEST}"), format!(":(exclude){LOCAL}")];
        let own = own
            .iter()
            .map(String::as_str)
            .filter(|_| self.project.is_some_and(|project| project.from.is_some()));
        let mut arguments =
            vec!["--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--", "."];
        arguments.extend(own);
        let changes = git(self.root, &arguments).unwrap_or_default();
        changes.lines().map(str::to_owned).collect()
    }
}
