//! Processes on the host itself: `initialize`, and nothing else.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use setpoint_sandbox as sandbox;

use crate::engine::{Ended, EngineError, ExecSpec, Process};

/// Whether a file may be executed by somebody.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}
