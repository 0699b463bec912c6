//! What has to be read of the world to know what is declared: the digests of scripts, inputs, bases, secrets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use setpoint_model::desired::{Facts, FileDigest};
use setpoint_model::digest::Digest;
use setpoint_model::manifest::{Command, Env, Hook, Run, Secret};
use setpoint_model::names::SecretName;

use crate::cas::{CasError, Inputs};
use crate::engine::{BaseSource, Engine, EngineError};
use crate::secrets::{SecretError, Secrets, Values};

/// Why the facts could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A tracked file could not be read.
    #[error(transparent)]
    Content(#[from] CasError),
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
    /// The engine could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A secret could not be digested.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Reads facts of one project.
pub struct Reader<'a> {
    /// The project's folder.
    pub root: &'a Path,
    /// The engine, for what a base resolves to.
    pub engine: &'a dyn Engine,
    /// Digests of files.
    pub inputs: &'a mut Inputs,
    /// The project's secrets.
    pub secrets: &'a Secrets,
    /// Which secrets are declared, and how.
    pub declared: &'a BTreeMap<SecretName, Secret>,
    /// Their values, of those that may be looked at.
    pub values: &'a Values,
}

/// The folder of packs within a project.
pub const PACKS: &str = ".setpoint/packs";
/// The library that every pack is run with.
pub const PACK_LIBRARY: &str = ".setpoint/packs/_lib.sh";

impl Reader<'_> {
    /// Reads all facts of an environment.
    ///
    /// # Errors
    /// If a file that is declared cannot be read.
    pub fn read(&mut self, env: &Env, user: String) -> Result<Facts, FactsError> {
        let mut facts = Facts { user, ..Facts::default() };
        if self.root.join(PACK_LIBRARY).exists() {
            facts.pack_library = Some(self.file(PACK_LIBRARY)?);
        }
        for used in &env.packs {
            let path = format!("{PACKS}/{}.sh", used.name);
            let mut files = vec![self.file(&path)?];
            files.extend(self.globs(&pack_inputs(self.root, &path)?)?);
            facts.packs.insert(used.name.clone(), files);
        }
        for (name, hook) in &env.hooks {
            let mut files = Vec::new();
            for script in scripts(hook) {
                files.push(self.file(script)?);
            }
            files.extend(self.globs(&hook.inputs)?);
            facts.hooks.insert(*name, files);
        }
        let base = base_source(env, self.root);
        if base == BaseSource::Host {
            facts.host_identity = Some(host_identity());
        } else {
            facts.base_digest = self.engine.base_digest(&base)?;
        }
        for name in self.declared.keys() {
            if let Some(value) = self.values.get(name) {
                facts.secrets.insert(name.clone(), self.secrets.digest(value)?);
            }
        }
        Ok(facts)
    }

    fn file(&mut self, path: &str) -> Result<FileDigest, FactsError> {
        let digest = self.inputs.file(self.root, path)?;
        Ok(FileDigest { path: path.to_owned(), digest })
    }

    fn globs(&mut self, patterns: &[String]) -> Result<Vec<FileDigest>, FactsError> {
        if patterns.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.inputs.globs(self.root, patterns)?;
        Ok(found.into_iter().map(|(path, digest)| FileDigest { path, digest }).collect())
    }
}

/// The scripts of a hook that are files of the project.
fn scripts(hook: &Hook) -> impl Iterator<Item = &str> {
    let commands: Vec<&Command> = match &hook.run {
        Run::One(command) => vec![command],
        Run::Parallel(parts) => parts.values().collect(),
    };
    commands.into_iter().filter_map(|command| match command {
        Command::Script(path) => Some(path.as_str()),
        Command::Shell(_) | Command::Argv(_) => None,
    })
}

/// The inputs that a pack declares in its header.
fn pack_inputs(root: &Path, path: &str) -> Result<Vec<String>, FactsError> {
    let file = root.join(path);
    let text = fs::read(&file).map_err(|source| CasError::Io { path: file, what: "read", source })?;
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
pub fn base_source(env: &Env, root: &Path) -> BaseSource {
    use setpoint_model::manifest::Base;
    match &env.base {
        Base::Host => BaseSource::Host,
        Base::Image { reference } => {
            let local = root.join(reference);
            let is_path = reference.starts_with(['.', '/']) && local.exists();
            let reference = if is_path { local.to_string_lossy().into_owned() } else { reference.clone() };
            BaseSource::Image { reference }
        }
        Base::Build { context } => BaseSource::Image { reference: context.clone() },
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
            use std::os::unix::fs::MetadataExt;
            let metadata = PathBuf::from(path).metadata().ok()?;
            let stat = format!("{} {} {}", metadata.size(), metadata.mtime(), metadata.mtime_nsec());
            Some(Digest::of_bytes(stat.as_bytes()).short())
        });
    match packages {
        Some(packages) => format!("{name}, packages {packages}"),
        None => name.to_owned(),
    }
}
