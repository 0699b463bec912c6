//! What tests of changes begin with.

use super::Part;
use crate::names::UnitName;

pub(super) fn unit(name: &str) -> UnitName {
    UnitName::new(name).unwrap()
}

/// A unit that runs, and is replaced.
pub(super) fn part(name: &str) -> Part {
    Part {
        unit: unit(name),
        is_there: true,
        runs: true,
        stays: true,
        from: None,
        to: None,
        completes: false,
        grace: 0,
        restores: None,
        stands_in: false,
    }
}
