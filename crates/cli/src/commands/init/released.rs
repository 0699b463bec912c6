//! A folder whose project comes from a release.

use std::fs;
use std::path::Path;

use serde::Serialize;
use setpoint_model::doctor::Purpose;
use setpoint_model::release::{Active, Origin};
use setpoint_runtime::project::{LOCAL, MANIFEST, Project};
use setpoint_runtime::release::{self, Install, InstallError, Kept};
use setpoint_runtime::upgrade;

use super::Init;
use crate::commands::release::registry;
use crate::commands::{SUCCESS, doctor};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;

/// `init oci://...`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    setpoint: u32,
    /// Whether nothing was written, because it was only to be told.
    dry_run: bool,
    project: &'a str,
    version: &'a str,
    digest: &'a str,
    root: String,
    services: Vec<&'a str>,
}

impl Init {
    /// Makes the folder a project that comes from a release.
    pub(super) fn take_release(&self, context: &Context, from: &str) -> Result<u8, Failure> {
        context.stop_on_signals()?;
        let origin = Origin::parse(from)?;
        let config = self.config.as_deref().map(settings).transpose()?;
        let root = context.folder.canonicalize().map_err(|error| {
            let what = format!("cannot read {}: {error}", context.folder.display());
            Failure::new(Exit::NotFound, "no-folder", what)
        })?;
        let list = LiveList::new(context.output);
        let _lock = match self.dry_run {
            true => None,
            false => Some(context.project_lock(&root, "init", &list)?),
        };
        let config = config.as_deref();
        let (roots, force) = (&context.roots, self.force);
        let install = Install { roots, root: &root, origin: &origin, config, force };
        let store = context.store()?;
        install.check(&store)?;
        let kept = registry(context, &list).fetch(&origin)?;
        let project = read(context, &root, &origin, &kept, config)?;
        release::admit(roots, &kept, &project.manifest)?;
        let engine = context.engine(project.manifest.engine);
        doctor::refuse(context, Purpose::Init, engine.as_ref(), &root, &project, Some(&store))?;
        if !self.dry_run {
            install.install(&kept)?;
        }
        self.tell(context, &root, &kept, &project);
        Ok(SUCCESS)
    }

    fn tell(&self, context: &Context, root: &Path, kept: &Kept, project: &Project) {
        let output = context.output;
        let (name, version) = (kept.bundle.project.as_str(), kept.bundle.version.as_str());
        let services: Vec<&str> = project.manifest.envs.keys().map(|name| name.as_str()).collect();
        if output.json {
            let (setpoint, dry_run, root) = (json::VERSION, self.dry_run, root.display().to_string());
            let digest = kept.digest.as_str();
            output.value(&Report { setpoint, dry_run, project: name, version, digest, root, services });
            return;
        }
        let root = root.display();
        output.note(match self.dry_run {
            true => format!("{root} would become {name} {version}. Nothing has been changed."),
            false => format!("{root} is {name} {version} now."),
        });
        output.note(format!("  {}", kept.digest));
        output.note(format!("  services: {}", services.join(", ")));
        let files = if self.config.is_some() { format!("{MANIFEST}, {LOCAL}") } else { MANIFEST.to_owned() };
        output.note(format!("  files of this folder: {files}"));
        output.note(if self.dry_run { "Next: the same without --dry-run" } else { "Next: setpoint up" });
    }
}

fn settings(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        let what = format!("cannot read {}: {error}", path.display());
        Failure::new(Exit::NotFound, "no-settings", what)
            .hint("`--config` names a file that is laid over the manifest")
    })
}

/// The project as it will be, so that whatever is wrong with its settings is told before anything is written.
fn read(
    context: &Context,
    root: &Path,
    origin: &Origin,
    kept: &Kept,
    config: Option<&str>,
) -> Result<Project, Failure> {
    let (roots, active) = (&context.roots, upgrade::active(&context.roots, root)?);
    let active = Active { release: Some(kept.digest.clone()), ..active };
    let (root, from) = (root.to_owned(), origin.repository.clone());
    Ok(Project::of_release(roots, root, from, active, config, &context.assignments)?)
}

impl From<InstallError> for Failure {
    fn from(error: InstallError) -> Self {
        let message = error.to_string();
        match error {
            InstallError::Exists { .. } => Self::new(Exit::Usage, "exists", message)
                .hint("begin in an empty folder, or `setpoint init --force` overwrites it"),
            InstallError::InEffect { .. } => Self::new(Exit::Usage, "in-effect", message)
                .hint("`setpoint upgrade VERSION` takes another version into use, with the data"),
            InstallError::Settings(_) => Self::new(Exit::Usage, "settings", message)
                .hint("edit that file; or `setpoint init --force` overwrites it"),
            InstallError::Release(error) => error.into(),
            InstallError::Active(error) => error.into(),
            InstallError::Store(error) => error.into(),
        }
    }
}
