//! Why a step failed, and what can be done about that.

use crate::apply::ApplyError;
use crate::engine::EngineError;
use crate::facts::FactsError;
use crate::room;

use super::{ActiveError, UpgradeError};

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// What went wrong.
    pub what: String,
    /// What can be done about it, where that is known.
    pub hint: Option<String>,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<String> for Cause {
    fn from(what: String) -> Self {
        Self { what, hint: None }
    }
}

impl From<&str> for Cause {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}

impl From<UpgradeError> for Cause {
    fn from(error: UpgradeError) -> Self {
        Self { what: error.to_string(), hint: error.hint() }
    }
}

impl From<EngineError> for Cause {
    fn from(error: EngineError) -> Self {
        Self { what: error.to_string(), hint: error.hint() }
    }
}

impl UpgradeError {
    /// What can be done about it, where that is known: for the disk, the engine and the state.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Dropped { why, .. }
            | Self::RolledBack { why, .. }
            | Self::Rehearsal { why, .. }
            | Self::Unwell { why, .. }
            | Self::NeedsOperator { why, .. } => why.hint.clone(),
            Self::Active(ActiveError::Io { source, path, .. }) => room::hint(source, path),
            Self::NoRoom(no_room) => Some(no_room.hint()),
            Self::Store(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Apply(error) => of_applying(error),
            Self::Backup(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::Active(ActiveError::Damaged { .. }) | Self::Changed { .. } | Self::Release(_) => None,
        }
    }
}

fn of_applying(error: &ApplyError) -> Option<String> {
    match error {
        ApplyError::Store(error) => error.hint(),
        ApplyError::Engine(error) | ApplyError::Facts(FactsError::Engine(error)) => error.hint(),
        ApplyError::Secret(error) | ApplyError::Facts(FactsError::Secret(error)) => error.hint(),
        ApplyError::Phase(_) | ApplyError::Problem(_) | ApplyError::Facts(_) | ApplyError::Session(_) => None,
    }
}
