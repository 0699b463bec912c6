//! What has to be read of the world to know what is declared: the digests of scripts, inputs, bases, secrets.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpoint_model::container::Build;
use setpoint_model::desired::{Facts, FileDigest, TemplateFile, build_inputs};
use setpoint_model::digest::Digest;
use setpoint_model::import::compose::Stored;
use setpoint_model::manifest::{Base, Env, FileSource, Location, OfService, Problem};
use setpoint_model::names::{HookName, PackName};
use setpoint_model::template::{Template, TemplateError};

use crate::build::{self, Context, ContextError};
use crate::cas::{self, CasError, Files, Globs, InvalidPattern, StatCache};
use crate::engine::{BaseSource, Engine, EngineError};
use crate::secrets::SecretError;
use crate::tracked::Tracked;

/// Why the facts could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A tracked file could not be read.
    #[error(transparent)]
    Content(#[from] CasError),
    /// A pack's file could not be read.
    #[error("cannot read the pack {}: {source}", path.display())]
    Pack {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A pack's header says something else than a list of inputs.
    #[error("{path}:{line}: the header `# setpoint: inputs = [...]` is not a list of strings: {why}")]
    Header {
        /// The pack's file.
        path: String,
        /// The line of the header.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A pack's header holds a pattern that is none.
    #[error(transparent)]
    Pattern(InvalidPattern),
    /// The engine could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The files of an image's build could not be looked at.
    #[error(transparent)]
    Build(#[from] ContextError),
    /// A template of a service's file could not be read.
    #[error("cannot read the template {}: {source}", path.display())]
    Template {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something is wrong with a file that is declared.
    #[error("{}", .0.what)]
    Problem(#[from] Box<Problem>),
    /// A secret could not be digested.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// How long a file system may be silent before it is called hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The folder of packs within a project.
pub const PACKS: &str = ".setpoint/packs";
/// What tells of an OCI layout which images are in it.
const LAYOUT_INDEX: &str = "index.json";
/// The library that every pack is run with.
pub const PACK_LIBRARY: &str = ".setpoint/packs/_lib.sh";

/// Reads facts of one project.
pub struct Reader<'a> {
    /// The project's folder.
    pub root: &'a Path,
    /// The engine, for what a base resolves to.
    pub engine: &'a dyn Engine,
    /// Digests of files that were read before.
    pub cache: &'a mut StatCache,
}

impl Reader<'_> {
    /// Reads all facts of an environment, and says of which files they are made.
    ///
    /// # Errors
    /// If a file that is declared cannot be read.
    pub fn read(&mut self, env: &Env, user: String) -> Result<(Facts, Tracked), FactsError> {
        let wanted = Wanted::of(env);
        let root = self.root.to_owned();
        // All files in one go: the thread that guards against a hung file system is paid for once.
        let (files, tracked) = cas::look(self.cache, PATIENCE, move |files| {
            Ok((wanted.read(&root, files)?, std::mem::take(files.tracked())))
        })?;
        let mut facts = Facts { user, ..files? };
        let base = base_source(env, self.root, &facts);
        if base == BaseSource::Host {
            facts.host_identity = Some(host_identity());
        } else {
            if let BaseSource::Features { on, .. } = &base {
                facts.under_features = self.engine.base_digest(on)?;
            }
            facts.base_digest = self.engine.base_digest(&base)?;
        }
        Ok((facts, tracked))
    }

    /// The digests that these files have now.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn digests(&mut self, paths: Vec<String>) -> Result<Vec<Digest>, FactsError> {
        let root = self.root.to_owned();
        let read = move |files: &mut Files<'_>| {
            paths.iter().map(|path| digest_of(&root, path, files)).collect::<Result<_, CasError>>()
        };
        Ok(cas::look(self.cache, PATIENCE, read)?)
    }
}

/// A file's digest as it was found: of a symbolic link itself, where an input is one, or of the script it leads to.
fn digest_of(root: &Path, path: &str, files: &mut Files<'_>) -> Result<Digest, CasError> {
    Ok(files.script_digest(&root.join(path))?.digest)
}

/// Which files the facts of an environment are made of.
struct Wanted {
    packs: Vec<PackName>,
    hooks: Vec<(HookName, Vec<String>, Vec<String>)>,
    build: Option<Build>,
    image: Option<String>,
    files: Vec<(String, PathBuf)>,
    templates: Vec<String>,
}

impl Wanted {
    fn of(env: &Env) -> Self {
        let base = match &env.base {
            Base::Features { on, .. } => on,
            base => base,
        };
        let build = match base {
            Base::Build { build } if build::is_folder(build) => Some(build.as_ref().clone()),
            _ => None,
        };
        let image = match base {
            Base::Image { reference } if is_path(reference) => Some(reference.clone()),
            Base::Rootfs { path } => Some(path.clone()),
            _ => None,
        };
        let hooks = env.hooks.iter().map(|(name, hook)| {
            (*name, hook.run.scripts().map(str::to_owned).collect(), hook.inputs.clone())
        });
        let packs = env.packs.iter().map(|pack| pack.name.clone()).collect();
        let files = env.service.iter().flat_map(|of| &of.files).filter_map(|file| match &file.source {
            FileSource::Stored(Stored::File(path)) => Some((file.name.clone(), PathBuf::from(path))),
            _ => None,
        });
        let templates = env.service.iter().flat_map(OfService::templates).map(|(path, _)| path.to_owned());
        let templates = templates.collect();
        Self { packs, hooks: hooks.collect(), build, image, files: files.collect(), templates }
    }

    fn read(&self, root: &Path, files: &mut Files<'_>) -> Result<Result<Facts, FactsError>, CasError> {
        let mut facts = Facts::default();
        files.tracked().file(&root.join(PACK_LIBRARY));
        if root.join(PACK_LIBRARY).exists() {
            let digest = digest_of(root, PACK_LIBRARY, files)?;
            facts.pack_library = Some(FileDigest { path: PACK_LIBRARY.to_owned(), digest });
        }
        if let Some(build) = &self.build {
            let context = match Context::open(build, root) {
                Ok(context) => context,
                Err(error) => return Ok(Err(error.into())),
            };
            files.tracked().add(context.tracked.clone());
            facts.build = context.digests(root, files)?;
        }
        if let Some(path) = &self.image {
            let file = root.join(path);
            let file = if file.is_dir() { file.join(LAYOUT_INDEX) } else { file };
            files.tracked().file(&file);
            // One that is not there is the engine's to tell, and a root file system in a folder has none.
            if file.exists() {
                let digest = files.script_digest(&file)?.digest;
                facts.image_file = Some(FileDigest { path: path.clone(), digest });
            }
        }
        for (name, path) in &self.files {
            let digest = files.script_digest(&root.join(path))?.digest;
            facts.files.push(FileDigest { path: format!("{name} ({})", path.display()), digest });
        }
        for path in &self.templates {
            files.tracked().file(&root.join(path));
            match read_template(root, path) {
                Ok(template) => facts.templates.insert(path.clone(), template),
                Err(error) => return Ok(Err(error)),
            };
        }
        for name in &self.packs {
            let path = format!("{PACKS}/{name}.sh");
            let inputs = match pack_inputs(root, &path) {
                Ok(inputs) => inputs,
                Err(error) => return Ok(Err(error)),
            };
            match tracked(root, std::slice::from_ref(&path), &inputs, files)? {
                Ok(found) => facts.packs.insert(name.clone(), found),
                Err(error) => return Ok(Err(error)),
            };
        }
        for (name, scripts, inputs) in &self.hooks {
            match tracked(root, scripts, inputs, files)? {
                Ok(found) => facts.hooks.insert(*name, found),
                Err(error) => return Ok(Err(error)),
            };
        }
        Ok(Ok(facts))
    }
}

/// A template of a service's file.
fn read_template(root: &Path, path: &str) -> Result<TemplateFile, FactsError> {
    let file = root.join(path);
    let text = fs::read_to_string(&file).map_err(|source| FactsError::Template { path: file, source })?;
    let template = Template::parse(&text).map_err(|error| in_template(path, &text, &error))?;
    Ok(TemplateFile { digest: Digest::of_bytes(text.as_bytes()), template, text })
}

/// What is wrong with a template, with its place.
pub(crate) fn in_template(path: &str, text: &str, error: &TemplateError) -> Box<Problem> {
    let source_line = text.lines().nth(error.line.saturating_sub(1) as usize).unwrap_or_default();
    let length = u32::try_from(source_line.chars().count()).unwrap_or_default();
    let (file, source_line) = (path.to_owned(), source_line.to_owned());
    let at = Location { file, line: error.line, column: 1, length, source_line };
    let problem = Problem::new("bad-template", format!("this template cannot be filled in: {error}")).at(at);
    Box::new(
        problem.hint("it knows `secret.NAME`, `env.NAME` of the service, `project`, `version` and `unit`"),
    )
}

/// Scripts first, then what the patterns fit.
fn tracked(
    root: &Path,
    scripts: &[String],
    inputs: &[String],
    files: &mut Files<'_>,
) -> Result<Result<Vec<FileDigest>, FactsError>, CasError> {
    let mut found = Vec::new();
    for path in scripts {
        found.push(FileDigest { path: path.clone(), digest: digest_of(root, path, files)? });
    }
    if !inputs.is_empty() {
        let globs = match Globs::new(inputs) {
            Ok(globs) => globs,
            Err(error) => return Ok(Err(FactsError::Pattern(error))),
        };
        found.extend(files.inputs(root, &globs)?.files.into_iter().map(|file| FileDigest {
            path: file.path.to_string_lossy().into_owned(),
            digest: file.digest.digest,
        }));
    }
    Ok(Ok(found))
}

/// The inputs that a pack declares in its header.
fn pack_inputs(root: &Path, path: &str) -> Result<Vec<String>, FactsError> {
    let file = root.join(path);
    let text = fs::read(&file).map_err(|source| FactsError::Pack { path: file, source })?;
    for (index, line) in String::from_utf8_lossy(&text).lines().enumerate() {
        let Some(comment) = line.strip_prefix('#') else {
            if line.trim().is_empty() {
                continue;
            }
            break;
        };
        let Some(list) = comment
            .trim_start()
            .strip_prefix("setpoint:")
            .and_then(|rest| rest.trim_start().strip_prefix("inputs"))
            .and_then(|rest| rest.trim_start().strip_prefix('='))
        else {
            continue;
        };
        // A list of strings is written alike in TOML and JSON.
        return serde_json::from_str(list.trim()).map_err(|error| FactsError::Header {
            path: path.to_owned(),
            line: index + 1,
            why: error.to_string(),
        });
    }
    Ok(Vec::new())
}

/// Where an environment's file system comes from, with paths made absolute.
#[must_use]
pub fn base_source(env: &Env, root: &Path, facts: &Facts) -> BaseSource {
    source_of(&env.base, root, facts)
}

/// Whether an image is one of this machine's files, and not of a registry.
fn is_path(reference: &str) -> bool {
    reference.starts_with(['.', '/'])
}

/// The image that a declaration means; a path is taken from the project's folder.
pub(crate) fn image_source(reference: &str, root: &Path) -> BaseSource {
    let path = || root.join(reference).to_string_lossy().into_owned();
    BaseSource::Image { reference: if is_path(reference) { path() } else { reference.to_owned() } }
}

/// Where a base's file system comes from, with paths made absolute.
pub(crate) fn source_of(base: &Base, root: &Path, facts: &Facts) -> BaseSource {
    match base {
        Base::Host => BaseSource::Host,
        Base::Image { reference } => image_source(reference, root),
        Base::Build { build } => BaseSource::Build {
            build: build.clone(),
            project: root.to_owned(),
            inputs: build_inputs(build, &facts.build),
        },
        Base::Features { on, features, user } => BaseSource::Features {
            on: Box::new(source_of(on, root, facts)),
            features: features.clone(),
            user: user.clone().map(|user| {
                let owner = fs::metadata(root).map_or((0, 0), |metadata| (metadata.uid(), metadata.gid()));
                (user, owner.0, owner.1)
            }),
        },
        // What it says is put in its place before anything is made of it.
        Base::DevContainer { file } => BaseSource::Image { reference: file.clone() },
        Base::Rootfs { path } => BaseSource::Rootfs { path: root.join(path) },
    }
}

/// What identifies the host that a host base is a view of: its release, and the digest of its package database's
/// stat, which changes with every package that is installed or removed.
fn host_identity() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or("unknown release", |value| value.trim_matches('"'));
    let packages = ["/var/lib/dpkg/status", "/var/lib/rpm", "/lib/apk/db/installed", "/var/lib/pacman/local"]
        .into_iter()
        .find_map(|path| {
            let metadata = PathBuf::from(path).metadata().ok()?;
            let stat = format!("{} {} {}", metadata.size(), metadata.mtime(), metadata.mtime_nsec());
            Some(Digest::of_bytes(stat.as_bytes()).short())
        });
    match packages {
        Some(packages) => format!("{name}, packages {packages}"),
        None => name.to_owned(),
    }
}
