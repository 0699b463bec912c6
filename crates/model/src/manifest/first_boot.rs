//! What is done once for the data of a service, after it began for the first time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::problem::Location;
use crate::container::HealthTest;

/// A step of a service's first boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstBootStep {
    /// What it is called: one that succeeded is known by it.
    pub name: String,
    /// Where it is declared.
    pub at: Location,
    /// What it does.
    pub act: Act,
    /// What the service must have come to before.
    pub after: After,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// What a step of a first boot does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Runs a command in the service.
    Run {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Who runs it; nobody said is who runs the service.
        user: Option<String>,
    },
    /// Runs a command on the host, in the project's folder.
    Host {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// Does the same in the service, or asks it the same, again and again until that goes well.
    Wait {
        /// What is run or asked.
        test: HealthTest,
    },
    /// Gives a volume to somebody, with all that is in it.
    Owner {
        /// What the service calls the volume.
        volume: String,
        /// Where it lies in the service.
        target: String,
        /// Whose it is from then on: a name or number of the image, perhaps with a group: `postgres`, `999:999`.
        user: String,
    },
}

impl Act {
    /// The program that is run, and its arguments; nothing where somebody is asked.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Run { argv, .. } | Self::Host { argv } | Self::Wait { test: HealthTest::Exec(argv) } => {
                argv.clone()
            }
            Self::Wait { .. } => Vec::new(),
            Self::Owner { target, user, .. } => {
                ["chown", "-R", "-h", user, target].map(str::to_owned).to_vec()
            }
        }
    }

    /// What it does, as it is written.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Wait { test: HealthTest::Http { port, path, .. } } => format!("GET {path} on port {port}"),
            Self::Wait { test: HealthTest::Tcp { port } } => format!("port {port}"),
            Self::Owner { volume, user, .. } => format!("{volume} is {user}'s"),
            _ => match self.argv().as_slice() {
                [shell, option, text] if shell == "/bin/sh" && option == "-c" => text.clone(),
                argv => argv.join(" "),
            },
        }
    }
}

/// What a service must have come to before a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It has been started.
    Started,
    /// Its health check has passed.
    Healthy,
}

/// The data that a step was done for: what it is done once for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// The named volumes, each with what tells it from a later one of its name.
    pub volumes: BTreeMap<String, String>,
    /// The instance of the unit.
    pub instance: String,
}

/// How long what was done holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldsFor {
    /// For as long as the volumes are there.
    Volumes,
    /// For this instance of the unit.
    Instance,
}

impl Data {
    /// Whether what was done for this data was done for that which is there now, and for how long that holds. `declared`
    /// are the volumes that the unit has by now: one more, or one less, makes no other data of the rest.
    #[must_use]
    pub fn holds(&self, declared: &BTreeSet<&str>, now: &Data) -> Option<HoldsFor> {
        let kept = || self.volumes.iter().filter(|(name, _)| declared.contains(name.as_str()));
        if kept().next().is_none() {
            let same = self.instance == now.instance && !now.instance.is_empty();
            return same.then_some(HoldsFor::Instance);
        }
        kept().all(|(name, id)| now.volumes.get(name) == Some(id)).then_some(HoldsFor::Volumes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(volumes: &[(&str, &str)], instance: &str) -> Data {
        let volumes = volumes.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect();
        Data { volumes, instance: instance.to_owned() }
    }

    #[test]
    fn what_was_done_holds_as_long_as_its_data() {
        use HoldsFor::{Instance, Volumes};
        let (one, two) = ([("a", "1")], [("a", "1"), ("b", "2")]);
        for (done, declared, now, holds) in [
            (data(&one, "i"), "a", data(&one, "i"), Some(Volumes)),
            (data(&one, "i"), "a", data(&one, "j"), Some(Volumes)),
            (data(&one, "i"), "a", data(&[], "i"), None),
            (data(&one, "i"), "a", data(&[("a", "9")], "i"), None),
            (data(&one, "i"), "a b", data(&two, "j"), Some(Volumes)),
            (data(&two, "i"), "a", data(&one, "j"), Some(Volumes)),
            (data(&two, "i"), "a b", data(&one, "i"), None),
            (data(&one, "i"), "b", data(&[("b", "1")], "j"), None),
            (data(&[], "i"), "", data(&[], "i"), Some(Instance)),
            (data(&[], "i"), "", data(&[], "j"), None),
            (data(&[], ""), "", data(&[], ""), None),
            (data(&[], "i"), "a", data(&one, "j"), None),
        ] {
            let declared = declared.split_whitespace().collect();
            assert_eq!(done.holds(&declared, &now), holds, "{done:?} {declared:?} {now:?}");
        }
    }
}
