mod found;
mod propose;
mod released;
mod tart;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use setpoint_runtime::project::MANIFEST;

use self::found::Found;
use self::propose::{propose, remarks};
use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// Write a setpoint.toml that fits what is in this folder; or make of the folder what was released
///
/// With the address of a release, the folder gets a setpoint.toml that says only where the project comes from. `setpoint up`
/// then brings it up as it was released: nothing is built, and neither git nor the source is needed.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The release that the project comes from, such as `oci://ghcr.io/acme/shop:v0.3.0`
    #[arg(value_name = "oci://REGISTRY/REPO:VERSION")]
    from: Option<String>,
    /// What is this machine's own: it is laid over the manifest of the release, as setpoint.local.toml
    #[arg(long, value_name = "FILE", requires = "from")]
    config: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Overwrite the setpoint.toml that is there
    #[arg(long)]
    force: bool,
}

/// `init`.
#[derive(Debug, Serialize)]
struct Written {
    setpoint: u32,
    path: String,
    manifest: String,
    remarks: Vec<String>,
}

/// What `init` would write for a folder, with this file of remo-tart.
pub(super) fn of_folder(folder: &Path, tart: Option<&Path>) -> Result<String, Failure> {
    let found = Found::in_folder(folder, tart).map_err(|error| {
        Failure::new(Exit::NotFound, "no-folder", format!("cannot read {}: {error}", folder.display()))
    })?;
    if let (None, Some(file)) = (&found.tart, tart) {
        let message = format!("{} is not a project.toml of remo-tart", file.display());
        return Err(Failure::new(Exit::Manifest, "unknown-file", message)
            .hint("one has a section `vm`, `packs` or `scripts`"));
    }
    Ok(propose(&found))
}

impl Init {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        if let Some(from) = &self.from {
            return self.take_release(context, from);
        }
        let output = context.output;
        let path = context.folder.join(MANIFEST);
        let shown = path.display().to_string();
        if path.symlink_metadata().is_ok() && !self.force {
            return Err(Failure::new(Exit::Usage, "exists", format!("{shown} is there already"))
                .hint("`setpoint init --force` overwrites it"));
        }
        let found = Found::in_folder(&context.folder, None).map_err(|error| {
            Failure::new(
                Exit::NotFound,
                "no-folder",
                format!("cannot read {}: {error}", context.folder.display()),
            )
        })?;
        let (manifest, remarks) = (propose(&found), remarks(&found));
        if !self.dry_run {
            std::fs::write(&path, &manifest).map_err(|error| {
                Failure::new(Exit::Engine, "init", format!("cannot write {shown}: {error}"))
            })?;
        }
        if output.json {
            output.value(&Written { setpoint: json::VERSION, path: shown, manifest, remarks });
            return Ok(SUCCESS);
        }
        let wrote = if self.dry_run { "Would write" } else { "Wrote" };
        output.note(format!("{wrote} {shown}:\n"));
        for line in manifest.lines() {
            output.note(format!("  {line}").trim_end());
        }
        output.note("");
        remarks.iter().for_each(|remark| output.note(remark));
        output.note(if self.dry_run { "Next: the same without --dry-run" } else { "Next: setpoint up" });
        Ok(SUCCESS)
    }
}
