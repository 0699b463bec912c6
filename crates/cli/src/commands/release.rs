use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use setpoint_model::doctor::Purpose;
use setpoint_model::release::{Bundle, Repository, Version};
use setpoint_runtime::observe::Unit;
use setpoint_runtime::project::Project;
use setpoint_runtime::release::{LOCK, Published, Publishing, Registry, SigningKey};

use super::upgrade::no_service;
use super::{SUCCESS, doctor};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;

/// The variable that names the key which signs.
const KEY: &str = "SETPOINT_SIGNING_KEY";

/// Make a version of this project that other machines can take into use: its images and a bundle of all that its services
/// need, in a registry
///
/// It is made of the present commit, and that gets the version's tag. A version is released once: the same again changes
/// nothing, and something else by the same name is refused.
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The version, such as `v0.3.0`
    version: String,
    /// Where it goes, if not to the repository that the manifest names
    #[arg(long, value_name = "REGISTRY/REPO")]
    push: Option<String>,
    /// The private key that signs it (ed25519, PKCS#8 in PEM); else the one that SETPOINT_SIGNING_KEY names
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// `release`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    setpoint: u32,
    /// Whether it was there before, just so.
    was_there: bool,
    digest: &'a str,
    /// The tag of git.
    tag: &'a str,
    signed: bool,
    #[serde(flatten)]
    bundle: &'a Bundle,
}

impl Release {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        context.stop_on_signals()?;
        let version = Version::parse(&self.version)?;
        // What is this machine's own is in no commit: it only says which engine builds.
        let declared = context.declared()?;
        if let Some(from) = &declared.from {
            let what =
                format!("this folder comes from {}: there is nothing of its own to release", from.address());
            return Err(Failure::new(Exit::Usage, "pinned", what)
                .hint("releases are made where the project itself lies, in git"));
        }
        let engine = context.engine(declared.manifest.engine);
        let project = Project::committed(&context.roots, &context.folder)?;
        let repository = self.repository(&project)?;
        let key = self.key.clone().or_else(|| context.variables.get(KEY).map(PathBuf::from));
        let key = key.map(|path| SigningKey::read(&path)).transpose()?;
        let services = project.manifest.envs.values().filter(|env| env.is_service());
        let units: Vec<Unit<'_>> = services.map(|env| context.unit(engine.as_ref(), &project, env)).collect();
        if units.is_empty() {
            return Err(no_service("a release carries services; declare one as `[service.NAME]`"));
        }
        doctor::refuse(context, Purpose::Release, engine.as_ref(), &project.root, &project, None)?;
        let list = LiveList::new(context.output);
        let registry = registry(context, &list);
        let (version, repository, key) = (&version, &repository, key.as_ref());
        let publishing = Publishing { registry, project: &project, units: &units, repository, version, key };
        let published = publishing.publish()?;
        tell(context, &published);
        Ok(SUCCESS)
    }

    fn repository(&self, project: &Project) -> Result<Repository, Failure> {
        match (&self.push, &project.manifest.release.repository) {
            (Some(text), _) => Ok(Repository::parse(text)?),
            (None, Some(declared)) => Ok(declared.clone()),
            (None, None) => {
                let what = "nothing says where releases of this project go";
                Err(Failure::new(Exit::Usage, "no-repository", what)
                    .hint("`--push ghcr.io/acme/shop`, or `repository` in [release]"))
            }
        }
    }
}

/// What releases are fetched by.
pub(super) fn registry<'a>(context: &'a Context, watcher: &'a LiveList) -> Registry<'a> {
    Registry { roots: &context.roots, variables: &context.variables, watcher, cancel: &context.cancel }
}

fn tell(context: &Context, published: &Published) {
    let Published { digest, bundle, tag, was_there, signed } = published;
    if context.output.json {
        let (was_there, signed) = (*was_there, *signed);
        let setpoint = json::VERSION;
        context.output.value(&Report { setpoint, was_there, digest, tag, signed, bundle });
        return;
    }
    let origin = format!("{}:{}", bundle.repository, bundle.version);
    let signature = if *signed { ", signed" } else { "" };
    context.output.note(match was_there {
        true => format!("{origin} is there already, with the same content{signature}"),
        false => format!("Released {origin}{signature}"),
    });
    context.output.note(format!("  {digest}"));
    for (unit, image) in &bundle.images {
        context.output.note(format!("  {unit}: {}", image.reference));
    }
    context.output.note(format!("The commit has the tag {tag}; {LOCK} says what it is made of."));
    context.output.note(format!("Next: git push origin {tag}, and elsewhere: setpoint init oci://{origin}"));
}
