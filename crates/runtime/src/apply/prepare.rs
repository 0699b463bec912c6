//! Before anything is touched: what the engine is told, the secrets' values, the unit's row.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use setpoint_model::container::{Container, MountSource, NetworkMode, PublishedPort};
use setpoint_model::desired::Facts;
use setpoint_model::fingerprint::{Class, Fingerprint};
use setpoint_model::import::compose::{self, RestartPolicy};
use setpoint_model::manifest::{Hook, Location, Network, Problem};
use setpoint_model::names::UnitName;
use setpoint_model::plan::{Plan, Step};

use super::ApplyError;
use crate::engine::{FirstProcess, LabelledLeaf, Labels, Mount, Seen, UnitId, UnitSpec};
use crate::facts::base_source;
use crate::observe::{Look, Unit};
use crate::paths::expand_home;
use crate::random;
use crate::secrets::Values;
use crate::store::{self, NewUnit, Store, UnitKind};

/// Where ports are published that name no address.
const LOOPBACK: &str = "127.0.0.1";

impl Unit<'_> {
    /// What the engine is told to make and start. Everything that can be wrong with it is found here, before
    /// anything is touched.
    pub(super) fn spec(&self, look: &Look) -> Result<UnitSpec, ApplyError> {
        let root = &self.project.root;
        let mut container = self.container();
        for mount in &mut container.mounts {
            if let MountSource::Volume { name: Some(name), .. } = &mut mount.source {
                *name = self.project.active.volume(name).to_owned();
            }
        }
        let mut mounts = Vec::new();
        if self.env.devcontainer.is_none() && self.env.service.is_none() {
            let target = PathBuf::from(&self.env.workspace);
            mounts.push(Mount { source: root.clone(), target, read_only: false });
        }
        // What of the host appears inside is said in one place, whoever asked for it.
        for mount in std::mem::take(&mut container.mounts) {
            match &mount.source {
                MountSource::Bind { source, create, propagation: None } => {
                    let source = PathBuf::from(source);
                    ensure_source(&source, *create, || self.env.at.clone())?;
                    let target = PathBuf::from(&mount.target);
                    mounts.push(Mount { source, target, read_only: mount.read_only });
                }
                _ => container.mounts.push(mount),
            }
        }
        mounts.extend(self.service_files()?);
        // The history of a git worktree lies elsewhere; where git looks for it, it has to be inside as well.
        let shows_project = mounts.iter().any(|mount| mount.source == *root);
        if let Some(history) = worktree_history(root).filter(|_| shows_project) {
            mounts.push(Mount { source: history.clone(), target: history, read_only: false });
        }
        for (declared, source) in self.env.mounts.iter().zip(self.mount_sources()) {
            ensure_source(&source, false, || declared.at.clone())?;
            mounts.push(Mount {
                source,
                target: PathBuf::from(&declared.target),
                read_only: declared.read_only,
            });
        }
        for path in &self.env.host_paths {
            let path = expand_home(path, self.home.as_deref());
            if path.exists() {
                mounts.push(Mount { source: path.clone(), target: path, read_only: true });
            }
        }
        let instance = match &look.seen {
            Seen::Stopped(labels) | Seen::Running(labels) if !makes_an_instance(&look.plan) => {
                labels.instance.clone()
            }
            _ => random::hex(),
        };
        let made_of = made_of(&look.desired.fingerprint);
        Ok(UnitSpec {
            labels: Labels {
                project_root: self.owner.to_owned(),
                project: self.project.manifest.project.name.to_string(),
                unit: self.env.name.clone(),
                instance,
                made_of,
            },
            base: base_source(self.env, &self.project.files, &look.facts),
            first: match (&self.env.devcontainer, &self.env.service) {
                (Some(of), _) if of.keeps_command => FirstProcess::Declared,
                (None, Some(_)) => FirstProcess::Declared,
                _ => FirstProcess::Idle,
            },
            is_withheld: false,
            comes_back: self.env.service.as_ref().is_some_and(|of| of.restart != RestartPolicy::No),
            holds_ports: self.engine.capabilities().holds_ports(self.env),
            networks: self.env.service.iter().flat_map(|of| of.networks.clone()).collect(),
            volumes: self.env.volumes().map(|volume| self.held(volume)).collect(),
            entrypoints: self.env.devcontainer.iter().flat_map(|of| of.entrypoints.clone()).collect(),
            secret_env: if self.env.is_service() { self.env.env.clone() } else { BTreeMap::new() },
            container,
            mounts,
            workspace: PathBuf::from(&self.env.workspace),
            user: look.facts.user.clone(),
            hook_users: self.env.hooks.values().flat_map(Hook::users).map(str::to_owned).collect(),
            network: self.env.network,
            limits: self.env.limits,
        })
    }

    /// The volume that holds the data of a declared one.
    fn held(&self, declared: &compose::Volume) -> compose::Volume {
        let name = self.project.active.volume(&declared.name).to_owned();
        compose::Volume { name, ..declared.clone() }
    }

    /// Makes those secrets that are generated, and keeps them for whoever is made of the same.
    pub(crate) fn generate_secrets(&self, store: &mut Store) -> Result<(), ApplyError> {
        let (facts, _) = self.facts()?;
        self.resolve_secrets(store, &facts).map(drop)
    }

    /// The values of the secrets that the unit needs, kept for what comes after: those that are generated are made now.
    pub(super) fn resolve_secrets(&self, store: &mut Store, facts: &Facts) -> Result<Values, ApplyError> {
        let (secrets, sources) = (self.secrets(), self.secret_sources());
        let wanted = self.wanted_secrets(facts);
        let root = self.owner;
        let before = store.generated(root)?;
        let generated = secrets.generate(sources.declared, wanted.iter().copied(), &before)?;
        let new: Vec<_> = generated.into_iter().filter(|(name, _)| !before.contains(name)).collect();
        if !new.is_empty() {
            let at = Timestamp::now();
            store.write(|writer| {
                new.iter().try_for_each(|(name, digest)| writer.record_generated(root, name, *digest, at))
            })?;
        }
        let values = secrets.resolve(&sources, wanted)?;
        secrets.keep(&values)?;
        Ok(values)
    }

    /// What else the engine makes the container with: as declared, with paths of the host in full, and the ports.
    fn container(&self) -> Container {
        let mut container = self.env.container.clone();
        for mount in &mut container.mounts {
            if let MountSource::Bind { source, .. } = &mut mount.source {
                let whole = self.project.place(&expand_home(source, self.home.as_deref()));
                *source = whole.to_string_lossy().into_owned();
            }
        }
        let id = |unit: &str| {
            let name = UnitName::new(unit).ok()?;
            Some(UnitId::new(self.owner, &name).as_str().to_owned())
        };
        if let Some(NetworkMode::Unit(unit)) = &container.network {
            container.network = id(unit).map(NetworkMode::Unit);
        }
        for shared in [&mut container.ipc, &mut container.pid].into_iter().flatten() {
            if let Some(unit) = shared.strip_prefix("unit:").and_then(id) {
                *shared = format!("unit:{unit}");
            }
        }
        if self.env.network == Network::Private {
            container.ports.extend(self.env.ports.iter().map(|port| PublishedPort {
                container: port.port,
                protocol: "tcp".to_owned(),
                address: Some(
                    port.address.map_or_else(|| LOOPBACK.to_owned(), |address| address.to_string()),
                ),
                host: Some(port.host.unwrap_or(port.port)),
            }));
        }
        container
    }

    /// The unit's row; one is made for a unit that is new, or that was found by its labels.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn row(&self, store: &mut Store, look: &Look) -> Result<store::UnitId, ApplyError> {
        if let Some(row) = &look.row {
            return Ok(row.id);
        }
        let instance = match &look.seen {
            Seen::Absent => None,
            Seen::Stopped(labels) | Seen::Running(labels) => Some(labels.instance.clone()),
        };
        let new = NewUnit {
            project_root: self.owner.to_owned(),
            project_name: self.project.manifest.project.name.to_string(),
            name: self.env.name.clone(),
            kind: UnitKind::Env,
            engine: self.engine.capabilities().engine.to_owned(),
            instance: instance.clone(),
            labels: BTreeMap::new(),
        };
        let known: Vec<_> =
            look.recorded.fingerprint.iter().map(|(key, leaf)| crate::record::leaf(key, leaf)).collect();
        let now = Timestamp::now();
        Ok(store.write(|writer| match instance {
            None => writer.insert_unit(&new, now),
            Some(_) => {
                let id = writer.adopt_unit(&new, now)?;
                writer.record_leaves(id, &known, now)?;
                Ok(id)
            }
        })?)
    }
}

/// Sees to it that there is something to mount.
pub(super) fn ensure_source(
    source: &Path,
    create: bool,
    at: impl Fn() -> Location,
) -> Result<(), ApplyError> {
    if source.exists() || (create && std::fs::create_dir_all(source).is_ok()) {
        return Ok(());
    }
    let problem = Problem::new("mount-missing", format!("there is no {}", source.display()))
        .at(at())
        .hint("make the folder, or take the mount out");
    Err(ApplyError::Problem(Box::new(problem)))
}

/// The folder of the repository that a git worktree belongs to.
fn worktree_history(root: &Path) -> Option<PathBuf> {
    let pointer = std::fs::read_to_string(root.join(".git")).ok()?;
    let own = root.join(pointer.trim().strip_prefix("gitdir:")?.trim());
    let common = std::fs::read_to_string(own.join("commondir")).ok()?;
    own.join(common.trim()).canonicalize().ok()
}

fn makes_an_instance(plan: &Plan) -> bool {
    plan.find(&Step::Create).is_some()
}

pub(super) fn made_of(fingerprint: &Fingerprint) -> Vec<LabelledLeaf> {
    fingerprint
        .iter()
        .filter(|(_, leaf)| matches!(leaf.class, Class::Recreate | Class::Rebuild | Class::Restart))
        .map(|(key, leaf)| LabelledLeaf::new(key, leaf))
        .collect()
}
