use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use setpoint_model::manifest::{EngineKind, Layer, parse};
use setpoint_model::release::{Bundle, Origin, Version};
use setpoint_runtime::project::MANIFEST;
use setpoint_runtime::release;

use super::SUCCESS;
use super::release::registry;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;

/// Take a release with all its images to machines that reach no registry
#[derive(Debug, Args)]
#[command(name = "bundle")]
pub(crate) struct BundleCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a release and its images to a file, an archive in OCI's layout
    Save {
        /// The file
        file: PathBuf,
        /// Which release, such as `oci://ghcr.io/acme/shop:v0.3.0`; the version that this project is at, if none is named
        #[arg(long, value_name = "ADDRESS")]
        release: Option<String>,
    },
    /// Take in the release of a file: `init` and `upgrade` need no registry for it then
    Load {
        /// The file
        file: PathBuf,
        /// The engine that gets the images, if not the one that the release declares
        #[arg(long)]
        engine: Option<String>,
    },
    /// Verify a file to its last byte
    Verify {
        /// The file
        file: PathBuf,
    },
}

/// `bundle`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    setpoint: u32,
    file: String,
    digest: &'a str,
    #[serde(flatten)]
    bundle: &'a Bundle,
}

impl BundleCommand {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        context.stop_on_signals()?;
        let list = LiveList::new(context.output);
        let registry = registry(context, &list);
        let file = match &self.what {
            What::Save { file, .. } | What::Load { file, .. } | What::Verify { file } => file.clone(),
        };
        let shown = file.display();
        let tell = |digest: &str, bundle: &Bundle, text: String| {
            let (setpoint, file) = (json::VERSION, shown.to_string());
            context.output.note(text);
            context.output.note(format!("  {digest}"));
            if context.output.json {
                context.output.value(&Report { setpoint, file, digest, bundle });
            }
        };
        match self.what {
            What::Save { file, release } => {
                let kept = registry.fetch(&origin(context, release.as_deref())?)?;
                release::save(&registry, &kept, &file)?;
                let text = format!("Wrote {} with {} to {shown}", kept.origin(), images(&kept.bundle));
                tell(&kept.digest, &kept.bundle, text);
            }
            What::Verify { file } => {
                let parcel = release::verify(&registry, &file)?;
                let (name, version) = (&parcel.bundle.repository, &parcel.bundle.version);
                let text = format!("{shown} is {name}:{version} with {}, whole", images(&parcel.bundle));
                tell(&parcel.digest, &parcel.bundle, text);
            }
            What::Load { file, engine } => {
                let given = engine.map(|name| {
                    EngineKind::named(&name).ok_or_else(|| {
                        Failure::new(Exit::Usage, "no-engine", format!("there is no engine `{name}`"))
                            .hint("there is: embedded, docker, podman")
                    })
                });
                let choose = |manifest: &str| {
                    let layer = Layer { name: MANIFEST, text: manifest };
                    let declared = parse(&[layer], "").map(|manifest| manifest.engine).unwrap_or_default();
                    context.engine(declared)
                };
                let kept = match given.transpose()? {
                    Some(kind) => release::load(&registry, &|_| context.engine(kind), &file)?,
                    None => release::load(&registry, &choose, &file)?,
                };
                let text = format!("Took in {} with {}", kept.origin(), images(&kept.bundle));
                tell(&kept.digest, &kept.bundle, text);
                context.output.note(format!(
                    "Next: setpoint init oci://{0}, or setpoint upgrade {1}",
                    kept.origin(),
                    kept.bundle.version
                ));
            }
        }
        Ok(SUCCESS)
    }
}

fn images(bundle: &Bundle) -> String {
    match bundle.images.len() {
        1 => "1 image".to_owned(),
        many => format!("{many} images"),
    }
}

/// The release that is meant.
fn origin(context: &Context, given: Option<&str>) -> Result<Origin, Failure> {
    if let Some(given) = given {
        return Ok(Origin::parse(given)?);
    }
    let project = context.declared()?;
    let repository = project.from.as_ref().or(project.manifest.release.repository.as_ref());
    let (Some(repository), Some(version)) = (repository, &project.manifest.project.version) else {
        let what = "nothing says which release is meant: this project has no `repository` in [release], or no version";
        return Err(Failure::new(Exit::Usage, "no-repository", what)
            .hint("`--release oci://ghcr.io/acme/shop:v0.3.0` names one"));
    };
    Ok(Origin { repository: repository.clone(), version: Version::parse(version)? })
}
