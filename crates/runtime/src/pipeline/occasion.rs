//! What conditions of steps are about: the branch, the tags, the event, the caller's variables.

use std::path::Path;

use setpoint_model::pipeline::when::Occasion;

use super::error::RunError;
use super::{Options, Runner};

/// The occasion of a run; git is asked only if a step asks for what it knows.
pub(super) fn occasion(runner: &Runner<'_>, options: &Options, ask_git: bool) -> Result<Occasion, RunError> {
    let mut occasion = Occasion {
        branch: None,
        tags: Vec::new(),
        event: if options.event.is_empty() { "manual".to_owned() } else { options.event.clone() },
        env: runner.variables.clone(),
    };
    if ask_git {
        // A commit that is checked out by itself is on no branch.
        let branch = git(&runner.project.root, "the branch", &["branch", "--show-current"])?;
        occasion.branch = branch.lines().next().filter(|name| !name.is_empty()).map(str::to_owned);
        let tags = git(&runner.project.root, "tags", &["tag", "--points-at", "HEAD"]).unwrap_or_default();
        occasion.tags = tags.lines().map(str::to_owned).collect();
    }
    Ok(occasion)
}

fn git(folder: &Path, what: &'static str, arguments: &[&str]) -> Result<String, RunError> {
    crate::git::git(folder, arguments).map_err(|why| RunError::Git { what, why })
}
