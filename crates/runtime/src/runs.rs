//! The runs of a project, kept.

use std::fs;
use std::path::{Path, PathBuf};

use setpoint_model::names::PipelineName;

use crate::paths::{Roots, make_private_folder, project_key};
use crate::pipeline::events::{Event, Listener};

/// What the runs of a project are kept under.
#[must_use]
pub fn project_id(project_root: &Path) -> String {
    project_key(project_root, None).to_hex()[..16].to_owned()
}

/// The log of a run, while it goes on.
#[derive(Debug)]
pub struct RunLog {
    project: String,
    number: u64,
    _folder: PathBuf,
}

impl RunLog {
    /// Begins the log of a run.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub fn begin(roots: &Roots, project_root: &Path, _pipeline: &PipelineName) -> std::io::Result<Self> {
        let project = project_id(project_root);
        let runs = roots.state.join("runs/v1").join(&project);
        make_private_folder(&runs)?;
        let mut number = 1;
        loop {
            let folder = runs.join(number.to_string());
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                other => return other.map(|()| Self { project, number, _folder: folder }),
            }
        }
    }

    /// The number of the run in its project.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What the project's runs are kept under.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }
}

impl Listener for RunLog {
    fn hear(&mut self, _event: &Event) {}
}
