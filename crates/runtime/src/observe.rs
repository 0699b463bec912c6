//! Looking: what is declared, what was recorded, what the engine sees, and the plan that follows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use setpoint_model::desired::{Facts, desired};
use setpoint_model::manifest::Env;
use setpoint_model::names::HookName;
use setpoint_model::plan::{
    Desired, Observed, Options, PhaseOutcome, Plan, Recorded, RecordedPhase, Report, plan,
};

use crate::apply::ApplyError;
use crate::cas::Inputs;
use crate::engine::{Engine, Seen, UnitId};
use crate::facts::Reader;
use crate::paths::Roots;
use crate::project::Project;
use crate::secrets::Secrets;
use crate::store::{Store, UnitRow};

/// A unit of a project, with the rooms that know something of it.
pub struct Unit<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// The store.
    pub store: &'a Store,
    /// The engine that holds it.
    pub engine: &'a dyn Engine,
    /// Its project.
    pub project: &'a Project,
    /// Its declaration.
    pub env: &'a Env,
    /// Its id on the engine.
    pub id: UnitId,
    /// The caller's environment variables, for secrets.
    pub variables: &'a BTreeMap<String, String>,
}

/// All that a look at a unit gives.
#[derive(Debug)]
pub struct Look {
    /// What is declared.
    pub desired: Desired,
    /// The facts that it was made of.
    pub facts: Facts,
    /// What was recorded.
    pub recorded: Recorded,
    /// What the engine sees.
    pub seen: Seen,
    /// The unit's row, if it has one.
    pub row: Option<UnitRow>,
    /// What is to be done.
    pub plan: Plan,
    /// Why.
    pub report: Report,
    /// How many files were looked at, and how long that took.
    pub checked: (usize, Duration),
}

impl Unit<'_> {
    /// Looks at the unit and plans.
    ///
    /// # Errors
    /// If a declared file, the state or the engine cannot be read.
    pub fn look(&self, options: &Options) -> Result<Look, ApplyError> {
        let began = Instant::now();
        let mut inputs = Inputs::open(self.roots, &self.project.root);
        let secrets = self.secrets();
        let values = secrets.from_environment(&self.project.manifest.secrets, self.variables);
        let facts = Reader {
            root: &self.project.root,
            engine: self.engine,
            inputs: &mut inputs,
            secrets: &secrets,
            declared: &self.project.manifest.secrets,
            values: &values,
        }
        .read(self.env, self.user())?;
        inputs.save();
        let desired = desired(self.env, &facts, &self.engine.capabilities());
        let checked = (inputs.len(), began.elapsed());
        let seen = self.engine.observe(&self.id)?;
        let (row, recorded) = self.recorded(&seen)?;
        let observed = match &seen {
            Seen::Absent => Observed::Absent,
            Seen::Stopped(labels) => Observed::Stopped { instance: labels.instance.clone() },
            Seen::Running(labels) => Observed::Running { instance: labels.instance.clone() },
        };
        let (plan, report) = plan(&desired, &recorded, &observed, options);
        Ok(Look { desired, facts, recorded, seen, row, plan, report, checked })
    }

    /// The project's secrets.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        Secrets::new(self.roots, &self.project.root)
    }

    /// The folder of the unit's logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.roots.state.join("logs/v1").join(self.id.as_str())
    }

    /// Who hooks and shells run as: as declared, else the owner of the project's folder.
    fn user(&self) -> String {
        self.env.user.clone().unwrap_or_else(|| self.engine.default_user(&self.project.root))
    }

    /// The record, or, where the state was lost and the engine still has the unit, what its labels tell.
    fn recorded(&self, seen: &Seen) -> Result<(Option<UnitRow>, Recorded), ApplyError> {
        if let Some(row) = self.store.unit(&self.project.root, &self.env.name)? {
            let recorded = self.store.recorded(row.id)?;
            return Ok((Some(row), recorded));
        }
        let recorded = match seen {
            Seen::Absent => Recorded::default(),
            Seen::Stopped(labels) | Seen::Running(labels) => rebuilt(labels),
        };
        Ok((None, recorded))
    }
}

/// What a unit's labels tell of a record that was lost: what it was made of, and that nobody knows whether the
/// hooks that run once did.
fn rebuilt(labels: &crate::engine::Labels) -> Recorded {
    let unknown = || RecordedPhase { instance: labels.instance.clone(), outcome: PhaseOutcome::Unknown };
    Recorded {
        fingerprint: labels.made_of.iter().filter_map(crate::engine::LabelledLeaf::to_leaf).collect(),
        phases: [HookName::OnCreate, HookName::PostCreate].map(|hook| (hook, unknown())).into(),
    }
}
