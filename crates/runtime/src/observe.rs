//! Looking: what is declared, what was recorded, what the engine sees, and the plan that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use setpoint_model::container::MountSource;
use setpoint_model::desired::{Facts, FileDigest, desired};
use setpoint_model::digest::Digest;
use setpoint_model::fingerprint::LeafKey;
use setpoint_model::manifest::{Data, Env, EnvValue, HoldsFor, OfService};
use setpoint_model::names::{HookName, SecretName};
use setpoint_model::plan::{
    Desired, Observed, Options, PhaseOutcome, Plan, Recorded, RecordedPhase, Report, plan,
};

use crate::apply::{ApplyError, STOP_GRACE};
use crate::cancel::Cancel;
use crate::cas::StatCache;
use crate::engine::{BaseSource, Engine, EngineError, Pull, Seen, UnitId};
use crate::events::Watcher;
use crate::facts::{Reader, base_source};
use crate::logs;
use crate::paths::{Roots, expand_home};
use crate::project::Project;
use crate::secrets::{SecretError, Secrets, Sources};
use crate::store::{self, Store};
use crate::tracked::Tracked;

/// A unit of a project, with the rooms that know something of it.
pub struct Unit<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// The engine that holds it.
    pub engine: &'a dyn Engine,
    /// Its project.
    pub project: &'a Project,
    /// The folder that it belongs to, in the state and on the engine: the project's, or that of a run that has it for
    /// a step. Units of different folders have nothing in common.
    pub owner: &'a Path,
    /// Its declaration.
    pub env: &'a Env,
    /// Its id on the engine.
    pub id: UnitId,
    /// The caller's environment variables, for secrets.
    pub variables: &'a BTreeMap<String, String>,
    /// The caller's home, for paths that begin with `~/`.
    pub home: Option<PathBuf>,
    /// Whether a look also reads files and runs commands that secrets come from.
    pub refresh_secrets: bool,
}

/// All that a look at a unit gives.
#[derive(Debug)]
pub struct Look {
    /// What is declared.
    pub desired: Desired,
    /// The facts that it was made of.
    pub facts: Facts,
    /// The files that they were made of.
    pub tracked: Tracked,
    /// What was recorded.
    pub recorded: Recorded,
    /// What the engine sees.
    pub seen: Seen,
    /// The unit's row, if it has one.
    pub row: Option<store::Unit>,
    /// What is to be done.
    pub plan: Plan,
    /// Why.
    pub report: Report,
    /// How many files were looked at, and how long that took.
    pub checked: (usize, Duration),
}

impl Look {
    /// Whether what the unit is built on is another than what it was made of.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.report.differences.iter().any(|differs| self.desired.is_of_base(&differs.key, differs.class))
    }

    /// What it was made of, as people are told.
    pub(crate) fn made_of(&self) -> Option<String> {
        let base = LeafKey::new(self.desired.base_digest.path.clone());
        self.recorded.fingerprint.get(&base).and_then(|leaf| leaf.shown.clone())
    }
}

impl Unit<'_> {
    /// Looks at the unit and plans.
    ///
    /// # Errors
    /// If a declared file, the state or the engine cannot be read.
    pub fn look(&self, store: &Store, options: &Options) -> Result<Look, ApplyError> {
        let began = Instant::now();
        let (facts, tracked) = self.facts()?;
        let engine = self.engine;
        let desired = desired(self.env, &facts, &engine.capabilities());
        let of_phases = facts.packs.values().chain(facts.hooks.values()).map(Vec::len).sum::<usize>();
        let files = of_phases + facts.build.len();
        let checked = (files + usize::from(facts.pack_library.is_some()), began.elapsed());
        let seen = engine.observe(&self.id)?;
        let (row, mut recorded) = self.recorded(store, &seen)?;
        recorded.first_boot = self.first_boot(store, &seen)?;
        let observed = match &seen {
            Seen::Absent => Observed::Absent,
            // What others wait for to end, and that has ended well, is as it should be.
            Seen::Stopped(labels) if self.has_completed()? => {
                Observed::Running { instance: labels.instance.clone() }
            }
            Seen::Stopped(labels) => Observed::Stopped { instance: labels.instance.clone() },
            Seen::Running(labels) => Observed::Running { instance: labels.instance.clone() },
        };
        let (plan, report) = plan(&desired, &recorded, &observed, options);
        Ok(Look { desired, facts, tracked, recorded, seen, row, plan, report, checked })
    }

    /// Whether it is one that others wait for to end, and has ended well.
    fn has_completed(&self) -> Result<bool, EngineError> {
        let completes = self.env.service.as_ref().is_some_and(|of| of.completes);
        Ok(completes && self.engine.progress(&self.id)?.ended == Some(0))
    }

    /// How long it may take to stop before it is killed.
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        self.env.container.stop_grace.unwrap_or(STOP_GRACE)
    }

    /// All that it sees of the host, without links on the way to it.
    pub(crate) fn seen_of_host(&self) -> Vec<PathBuf> {
        let binds = self.env.container.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Bind { source, .. } => Some(PathBuf::from(source)),
            _ => None,
        });
        let shown = self.env.host_paths.iter().map(|path| expand_home(path, self.home.as_deref()));
        let all = self.mount_sources().into_iter().chain(binds).chain(shown);
        all.map(|path| path.canonicalize().unwrap_or(path)).collect()
    }

    /// Where its mounts come from.
    pub(crate) fn mount_sources(&self) -> Vec<PathBuf> {
        let sources = self.env.mounts.iter().map(|mount| expand_home(&mount.source, self.home.as_deref()));
        sources.map(|source| self.project.place(&source)).collect()
    }

    /// What the declaration is completed with, and the files that it was read from.
    pub(crate) fn facts(&self) -> Result<(Facts, Tracked), ApplyError> {
        let mut cache = StatCache::open(self.roots, &self.project.root);
        let (root, engine) = (&self.project.files, self.engine);
        let mut reader = Reader { root, engine, cache: &mut cache };
        let (mut facts, tracked) = reader.read(self.env, self.user())?;
        facts.secrets = self.secret_digests(&facts)?;
        // Where they lie is told by the release: another one is another folder.
        if let Some(bundle) = &self.project.bundle {
            let sources = self.env.mounts.iter().map(|mount| mount.source.clone());
            let carried =
                sources.filter_map(|path| Some(FileDigest { digest: bundle.carried(&path)?, path }));
            facts.files.extend(carried);
        }
        if facts.templates.values().any(|file| file.template.asks_version()) {
            facts.version = self.project.manifest.project.version.clone();
        }
        // A cache that cannot be kept costs time at the next look, and nothing else.
        let _ = cache.save();
        Ok((facts, tracked))
    }

    /// What the unit is built on.
    pub(crate) fn base(&self) -> Result<BaseSource, ApplyError> {
        let (facts, _) = self.facts()?;
        Ok(base_source(self.env, &self.project.files, &facts))
    }

    /// Asks the registry what the base is now, and fetches what moved.
    ///
    /// # Errors
    /// If it cannot be asked, or what it gives is wrong.
    pub fn ask_registry(&self, watcher: &dyn Watcher, cancel: &Cancel) -> Result<(), ApplyError> {
        self.engine.prepare(&self.base()?, Pull::Always, watcher, cancel)?;
        Ok(())
    }

    /// Makes available what the unit is built on, without asking whether what is here has moved.
    ///
    /// # Errors
    /// If it cannot be fetched, verified, built or unpacked.
    pub fn fetch_base(&self, watcher: &dyn Watcher, cancel: &Cancel) -> Result<(), ApplyError> {
        self.engine.prepare(&self.base()?, Pull::Missing, watcher, cancel)?;
        Ok(())
    }

    /// The digests that files of the project have now.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn digests_now(&self, paths: Vec<String>) -> Result<Vec<Digest>, ApplyError> {
        let mut cache = StatCache::open(self.roots, &self.project.root);
        let (root, engine) = (&self.project.files, self.engine);
        let mut reader = Reader { root, engine, cache: &mut cache };
        Ok(reader.digests(paths)?)
    }

    /// The secrets that the unit, its hooks and its files refer to.
    pub(crate) fn wanted_secrets<'f>(&'f self, facts: &'f Facts) -> BTreeSet<&'f SecretName> {
        let of_hooks = self.env.hooks.values().flat_map(|hook| hook.env.values());
        let of_variables = self.env.env.values().chain(of_hooks).flat_map(EnvValue::secrets);
        let of_files = self.env.service.iter().flat_map(OfService::secrets);
        let of_templates = facts.templates.values().flat_map(|file| file.template.secrets());
        of_variables.chain(of_files).chain(of_templates).collect()
    }

    /// What the values of secrets come from.
    pub(crate) fn secret_sources(&self) -> Sources<'_> {
        let declared = &self.project.manifest.secrets;
        Sources { declared, variables: self.variables, home: self.home.as_deref() }
    }

    /// Keyed digests of the secrets that may be looked at now. Nothing is generated.
    fn secret_digests(&self, facts: &Facts) -> Result<BTreeMap<SecretName, Digest>, SecretError> {
        let (secrets, sources) = (self.secrets(), self.secret_sources());
        let mut values = secrets.at_hand(&sources)?;
        if self.refresh_secrets {
            for name in self.wanted_secrets(facts) {
                match secrets.resolve(&sources, [name]) {
                    Ok(found) => values.extend(found),
                    Err(SecretError::NotGenerated { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        secrets.digests(sources.declared, &values)
    }

    /// The secrets of its owner.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        Secrets::new(self.roots, self.owner)
    }

    /// The folder of the unit's logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        logs::folder(self.roots, self.id.as_str())
    }

    /// Who hooks and shells run as: as declared, else the owner of the project's folder.
    fn user(&self) -> String {
        self.env.user.clone().unwrap_or_else(|| self.engine.default_user(&self.project.root))
    }

    /// The data that a first boot is done for, as it is there.
    pub(crate) fn data(&self, instance: &str) -> Result<Data, EngineError> {
        let active = &self.project.active;
        let held: BTreeMap<&str, &str> = self.volumes().map(|name| (active.volume(name), name)).collect();
        let names: Vec<_> = held.keys().map(|name| (*name).to_owned()).collect();
        let ids = self.engine.volume_ids(&names)?;
        // What was done for data was done for it wherever it is.
        let as_declared = |(name, id): (String, String)| {
            (held.get(name.as_str()).map_or(name.clone(), |of| (*of).to_owned()), id)
        };
        Ok(Data { volumes: ids.into_iter().map(as_declared).collect(), instance: instance.to_owned() })
    }

    fn volumes(&self) -> impl Iterator<Item = &str> {
        self.env.volumes().map(|volume| volume.name.as_str())
    }

    /// The steps of the first boot that were done for the data that is there.
    fn first_boot(&self, store: &Store, seen: &Seen) -> Result<BTreeMap<String, HoldsFor>, ApplyError> {
        if self.env.service.iter().all(|of| of.first_boot.is_empty()) {
            return Ok(BTreeMap::new());
        }
        let done = store.first_boot(self.owner, &self.env.name)?;
        let instance = seen.labels().map(|labels| labels.instance.as_str()).unwrap_or_default();
        let (declared, now) = (self.volumes().collect(), self.data(instance)?);
        let holds = |(name, data): (String, Data)| Some((name, data.holds(&declared, &now)?));
        Ok(done.into_iter().filter_map(holds).collect())
    }

    /// The record, or, where the state was lost and the engine still has the unit, what its labels tell.
    fn recorded(&self, store: &Store, seen: &Seen) -> Result<(Option<store::Unit>, Recorded), ApplyError> {
        if let Some(row) = store.unit(self.owner, &self.env.name)? {
            let recorded = crate::record::recorded(&store.recorded(row.id)?);
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
        first_boot: BTreeMap::new(),
    }
}
