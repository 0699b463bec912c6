//! Steps of pipelines: a sandbox of its own for one process, over what other steps left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use setpoint_model::digest::{Digest, Encoder};
use setpoint_model::pipeline::ir::WORKSPACE;
use setpoint_model::pipeline::key::Base;
use setpoint_sandbox as sandbox;

use super::super::{Account, BaseSource, EngineError, Io, Process, StepSpec};
use super::{Embedded, PATH, Running, identity, mounts, network, networks};
use crate::accounts;

/// The version of how steps are run: what they see of the engine itself. It is part of their keys.
pub(super) const BEHAVIOUR: &str = "embedded 1";

const BASES: &str = "bases/v1";
/// In a state: what keeps the changes of the workspace.
const WORKSPACE_STATE: &str = "workspace";

impl Embedded {
    pub(super) fn step_base(&self, base: &BaseSource) -> Result<Option<Base>, EngineError> {
        match base {
            BaseSource::Host => Ok(Some(Base::Host(self.host()?))),
            other => Ok(self.image(other)?.map(|image| Base::Image {
                reference: match other {
                    BaseSource::Image { reference } => reference.clone(),
                    other => other.to_string(),
                },
                digest: image.digest,
            })),
        }
    }

    /// The parts of the host's identity, looked at once.
    fn host(&self) -> Result<BTreeMap<String, Digest>, EngineError> {
        if let Some(known) = self.host.get() {
            return Ok(known.clone());
        }
        let parts = identity::host().map_err(EngineError::io("look at", Path::new("/")))?;
        Ok(self.host.get_or_init(|| parts).clone())
    }

    /// The lowest state of the host's view. It holds copies of files of the host, so it is made anew when those
    /// change.
    fn host_base(&self) -> Result<PathBuf, EngineError> {
        if let Some(known) = self.host_base.get() {
            return Ok(known.clone());
        }
        let host = self.host()?;
        let top = fs::read_dir("/").map_err(EngineError::io("read", Path::new("/")))?;
        let mut names: Vec<_> = top.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        names.sort_unstable();
        let mut encoder = Encoder::new("setpoint.host.base", 1);
        host.get("/etc").into_iter().for_each(|etc| {
            encoder.digest(*etc);
        });
        for name in names {
            encoder.bytes(name.as_encoded_bytes());
        }
        let base = self.made_once(&encoder.finish().short(), |folder| {
            sandbox::prepare_host_base(folder)?;
            let place = folder.join("fs/rest/upper").join(WORKSPACE.trim_start_matches('/'));
            fs::create_dir(&place).map_err(EngineError::io("make", &place))
        })?;
        Ok(self.host_base.get_or_init(|| base).clone())
    }

    /// The layer above those of an image: the places where things of ours appear.
    fn image_base(&self) -> Result<PathBuf, EngineError> {
        self.made_once("image", |folder| {
            let place = folder.join("fs/upper").join(WORKSPACE.trim_start_matches('/'));
            fs::create_dir_all(&place).map_err(EngineError::io("make", &place))
        })
    }

    /// A folder with nothing in it: an overlay needs something to lie on.
    fn empty(&self) -> Result<PathBuf, EngineError> {
        let folder = self.made_once("empty", |folder| {
            let place = folder.join("upper");
            fs::create_dir(&place).map_err(EngineError::io("make", &place))
        })?;
        Ok(folder.join("upper"))
    }

    /// A folder among the bases, made whole or not at all.
    fn made_once(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<(), EngineError>,
    ) -> Result<PathBuf, EngineError> {
        let bases = self.roots.state.join(BASES);
        let folder = bases.join(name);
        if folder.is_dir() {
            return Ok(folder);
        }
        crate::paths::make_private_folder(&bases).map_err(EngineError::io("make", &bases))?;
        let new = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&bases)
            .map_err(EngineError::io("make", &bases))?;
        make(new.path())?;
        // Overlays show the mode of their lowest folder.
        fs::set_permissions(new.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(EngineError::io("make", &folder))?;
        match fs::rename(new.path(), &folder) {
            Ok(()) => Ok(folder),
            // Another process was first.
            Err(_) if folder.is_dir() => Ok(folder),
            Err(error) => Err(EngineError::io("make", &folder)(error)),
        }
    }

    pub(super) fn start_step(&self, step: &StepSpec) -> Result<Box<dyn Process>, EngineError> {
        let image = self.image(&step.base)?;
        let (root, seen) = match &image {
            None => {
                sandbox::prepare_host_layer(&step.state)?;
                let below: Vec<PathBuf> =
                    std::iter::once(self.host_base()?).chain(step.below.clone()).collect();
                let seen = below.iter().map(|state| state.join("fs/etc/upper")).collect();
                (sandbox::Root::HostLayers { below, state: step.state.clone() }, seen)
            }
            Some(image) => {
                let ours = std::iter::once(self.image_base()?).chain(step.below.clone());
                let uppers = ours.map(|state| state.join("fs/upper")).filter(|upper| upper.is_dir());
                let layers: Vec<PathBuf> = image.layers.iter().cloned().chain(uppers).collect();
                let top = image.layers.last().map(PathBuf::as_path);
                sandbox::prepare_overlay(&step.state.join("fs"), top)?;
                let seen: Vec<PathBuf> = layers.iter().map(|layer| layer.join("etc")).collect();
                (sandbox::Root::Layers { layers, state: step.state.clone() }, seen)
            }
        };
        let host_etc = image.is_none().then(|| PathBuf::from("/etc"));
        let etc: Vec<PathBuf> = host_etc.into_iter().chain(seen).collect();
        let account = account(&etc, step.user.as_deref())?;
        let groups = match step.user {
            None => Vec::new(),
            Some(_) => accounts::groups(&read(&etc, "group"), &account.name),
        };
        let workspace = step.state.join(WORKSPACE_STATE);
        sandbox::prepare_overlay(&workspace, None)?;
        if step.user.is_some() && !sandbox::is_rootless() {
            // So that he can write there at all; what others made stays theirs.
            let upper = workspace.join("upper");
            std::os::unix::fs::chown(&upper, Some(account.uid), Some(account.gid))
                .map_err(EngineError::io("give away", &upper))?;
        }
        let mut env: BTreeMap<String, String> = BTreeMap::new();
        if let Some(image) = &image {
            let entries = image.config.env.iter().filter_map(|entry| entry.split_once('='));
            env.extend(entries.map(|(key, value)| (key.to_owned(), value.to_owned())));
        }
        env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
        env.insert("HOME".to_owned(), account.home.to_string_lossy().into_owned());
        env.extend(step.env.clone());
        let (network, names) = match &step.joins {
            None => (network(step.network)?, sandbox::Names::default()),
            Some(joined) => networks::visit(self, joined, &step.state.with_extension("names"))?,
        };
        let spec = sandbox::SandboxSpec {
            root,
            hostname: "setpoint".to_owned(),
            mounts: mounts(&step.mounts).collect(),
            overlays: vec![sandbox::Overlay {
                target: WORKSPACE.into(),
                layers: if step.workspace.is_empty() { vec![self.empty()?] } else { step.workspace.clone() },
                state: workspace,
            }],
            memory: Vec::new(),
            volatile: true,
            home: step.user.as_ref().map(|_| sandbox::Home {
                path: account.home.clone(),
                uid: account.uid,
                gid: account.gid,
            }),
            network,
            names,
            limits: sandbox::Limits::default(),
            cgroup: String::new(),
            main: None,
        };
        let exec = sandbox::ExecSpec {
            argv: step.argv.clone(),
            env: env.into_iter().collect(),
            cwd: step.cwd.clone(),
            user: sandbox::User { uid: account.uid, gid: account.gid, groups },
            io: match step.io {
                Io::Inherit => sandbox::Io::Inherit,
                Io::Captured => sandbox::Io::Captured,
                Io::Piped => sandbox::Io::Piped,
                Io::Terminal => {
                    let (rows, columns) = sandbox::window();
                    sandbox::Io::Terminal { rows, columns }
                }
            },
        };
        Ok(Box::new(Running::new(sandbox::run(&spec, &step.scratch, &exec)?)))
    }
}

/// Who a step runs as: root, if nobody is named.
fn account(etc: &[PathBuf], user: Option<&str>) -> Result<Account, EngineError> {
    let Some(user) = user else {
        let (name, home, shell) = ("root".to_owned(), PathBuf::from("/root"), "/bin/sh".to_owned());
        return Ok(Account { name, uid: 0, gid: 0, home, shell });
    };
    if sandbox::is_rootless() && !matches!(user.split(':').next(), Some("root" | "0")) {
        return Err(EngineError::SingleUser { user: user.to_owned() });
    }
    accounts::find(&read(etc, "passwd"), &read(etc, "group"), user).map_err(|why| EngineError::NoAccount {
        user: user.to_owned(),
        unit: "the step's system".to_owned(),
        why,
    })
}

/// A file of the topmost folder that has it.
fn read(folders: &[PathBuf], name: &str) -> String {
    folders.iter().rev().find_map(|folder| fs::read_to_string(folder.join(name)).ok()).unwrap_or_default()
}
