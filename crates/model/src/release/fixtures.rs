//! What tests of changes begin with.

use super::ledger::{Due, Planned};
use super::migration::Stage;
use super::{Active, Copy, Holds, Kind, Lane, MigrationId, Part, Upgrade};
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

/// An upgrade of nothing, on data that stays where it is.
pub(super) fn change() -> Upgrade {
    Upgrade {
        kind: Kind::Upgrade,
        lane: Lane::Compatible,
        engine: "embedded".to_owned(),
        from: Active::default(),
        to: Active { generation: 1, ..Active::default() },
        parts: Vec::new(),
        copies: Vec::new(),
        makes: Vec::new(),
        saves: Vec::new(),
        puts: Vec::new(),
        migrations: Vec::new(),
        downs: Vec::new(),
        loads: Vec::new(),
        keep: 1,
    }
}

/// The data of a service, which is copied for a generation.
pub(super) fn copy(declared: &str, of: &str, generation: u64) -> Copy {
    Copy {
        declared: declared.to_owned(),
        from: declared.to_owned(),
        to: format!("{declared}.{generation}"),
        of: unit(of),
        holds: Holds::Copied,
        bytes: 0,
    }
}

/// A migration that is to be run in a service.
pub(super) fn planned(id: &str, name: &str, stage: Stage, touches: &[&str]) -> Planned {
    Planned {
        id: MigrationId::try_from(id.to_owned()).unwrap(),
        sha256: String::new(),
        unit: Some(unit(name)),
        stage,
        due: Due::Run,
        touches: touches.iter().map(|&name| name.to_owned()).collect(),
        paths: Vec::new(),
    }
}
