//! Files that a run hands out.

use std::path::{Path, PathBuf};

use setpoint_model::pipeline::ir::Step;

use super::error::RunError;
use crate::cas::Globs;
use crate::workspace;

/// Copies a step's artifacts to a folder of its name; gives how many files.
pub(super) fn hand_out(step: &Step, layers: &[PathBuf], output: &Path) -> Result<usize, RunError> {
    let globs = Globs::new(&step.artifacts)
        .map_err(|source| RunError::Pattern { step: step.name.clone(), source })?;
    let folder = output.join(step.name.as_str());
    let io = |source| RunError::Io { what: "hand out artifacts to", path: folder.clone(), source };
    let found = workspace::find(layers, &globs).map_err(io)?;
    workspace::copy_out(&found.files, &folder).map_err(io)?;
    Ok(found.files.len())
}
