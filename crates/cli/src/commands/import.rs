use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use setpoint_model::import::Text;
use setpoint_model::import::devcontainer::variables::Context as Known;
use setpoint_model::import::devcontainer::{self as file, Place};
use setpoint_runtime::project::{MANIFEST, ProjectError};
use setpoint_runtime::{compose, devcontainer};

use super::SUCCESS;
use super::init::of_folder;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// Write a setpoint.toml that says what a file of another tool says
///
/// What has no equal is a comment in it. The file stays; it can also be used as it is.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A devcontainer.json, a compose.yaml or a remo-tart project.toml; what is found, if none is named
    file: Option<PathBuf>,
    /// Overwrite the setpoint.toml that is there
    #[arg(long)]
    force: bool,
    /// Print it instead of writing it
    #[arg(long)]
    stdout: bool,
}

/// `import`.
#[derive(Debug, Serialize)]
struct Imported {
    setpoint: u32,
    from: String,
    manifest: String,
}

impl Import {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let output = context.output;
        let from = self.file.clone().or_else(|| usual(&context.folder)).ok_or_else(|| {
            let message = "there is no devcontainer.json, compose.yaml or project.toml in this folder";
            Failure::new(Exit::NotFound, "no-file", message).hint("name the file: `setpoint import FILE`")
        })?;
        let manifest = manifest(context, &from)?;
        let path = context.folder.join(MANIFEST);
        if output.json {
            let from = from.display().to_string();
            output.value(&Imported { setpoint: json::VERSION, from, manifest: manifest.clone() });
        }
        if self.stdout {
            if !output.json {
                output.line(manifest.trim_end());
            }
            return Ok(SUCCESS);
        }
        if path.symlink_metadata().is_ok() && !self.force {
            return Err(Failure::new(Exit::Usage, "exists", format!("{} is there already", path.display()))
                .hint("`setpoint import --force` overwrites it, `--stdout` prints it"));
        }
        fs::write(&path, &manifest).map_err(|error| {
            Failure::new(Exit::Engine, "import", format!("cannot write {}: {error}", path.display()))
        })?;
        let without = manifest.lines().filter(|line| line.starts_with("# no equal:")).count();
        output.note(format!("Wrote {} from {}.", path.display(), from.display()));
        match without {
            0 => {}
            1 => output.note("1 thing has no equal; a comment says which."),
            many => output.note(format!("{many} things have no equal; comments say which.")),
        }
        output.note("Next: setpoint plan");
        Ok(SUCCESS)
    }
}

/// The file that is imported when none is named.
fn usual(folder: &Path) -> Option<PathBuf> {
    let tart = [".tart/project.toml", "project.toml"].map(PathBuf::from);
    let found = devcontainer::find(folder).into_iter().chain(compose::find(folder)).next();
    found.or_else(|| tart.into_iter().find(|file| folder.join(file).is_file()))
}

fn manifest(context: &Context, from: &Path) -> Result<String, Failure> {
    let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let whole = context.folder.join(from);
    if name == "project.toml" {
        return of_folder(&context.folder, Some(&whole));
    }
    let text = fs::read_to_string(&whole).map_err(|error| {
        Failure::new(Exit::NotFound, "no-file", format!("cannot read {}: {error}", whole.display()))
    })?;
    let shown = from.strip_prefix(&context.folder).unwrap_or(from).to_string_lossy().into_owned();
    if name.ends_with(".json") {
        let said = file::parse(&Text::new(&shown, &text)).map_err(ProjectError::Problems)?;
        let project = context.folder.to_string_lossy();
        let folder = Path::new(&shown).parent().unwrap_or(Path::new("")).to_string_lossy().into_owned();
        // What the host knows differs from host to host; where the project is inside does not.
        let inside = said.folder_inside(&project);
        let known = Known { container_workspace_folder: Some(&inside), ..Known::default() };
        return Ok(file::to_manifest(
            &said.substitute(&known),
            &shown,
            Place { project: &project, folder: &folder },
        ));
    }
    if name.ends_with(".yaml") || name.ends_with(".yml") {
        let path = serde_json::Value::from(shown);
        return Ok(format!(
            "# Services are declared where they are: a manifest has no form of its own for them yet.\nsetpoint = 1\n\n\
             [engine]\ndefault = \"docker\"\n\n[stack]\ncompose = {path}\n"
        ));
    }
    let message = format!("nobody knows what {} is", from.display());
    Err(Failure::new(Exit::Usage, "unknown-file", message)
        .hint("a devcontainer.json, a compose.yaml, or a project.toml of remo-tart"))
}
