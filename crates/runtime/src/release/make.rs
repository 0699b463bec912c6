//! What a release carries: the files that its services refer to, and the manifest that pins the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use setpoint_model::manifest::{Act, Base, Env, EnvValue, OfService, Problem, needed_secrets};
use setpoint_model::names::{SecretName, UnitName};
use setpoint_model::release::bundle::{FORMAT, MANIFEST, MOST_BYTES};
use setpoint_model::release::{Bundle, BundledFile, PinnedImage, Pins, Repository, Version, pinned};

use super::error::ReleaseError;
use super::parcel::Parcel;
use super::repository::Checkout;
use crate::image::sha256_of;
use crate::observe::Unit;
use crate::project::Project;
use crate::upgrade::declared_migrations;

/// What is in the files of a release, by their paths from the project's folder.
pub(super) struct Carried {
    contents: BTreeMap<String, Vec<u8>>,
    executable: BTreeSet<String>,
    /// The sources of mounts that are among them.
    mounted: BTreeSet<String>,
}

/// A path as git takes it literally, or as a pattern of its own.
fn literally(path: &str) -> String {
    format!(":(literal){path}")
}

/// Collects the files that services refer to.
pub(super) fn carried(checkout: &Checkout<'_>, project: &Project) -> Result<Carried, ReleaseError> {
    let mut wanted = BTreeSet::new();
    let mut mounted = BTreeSet::new();
    for env in project.manifest.envs.values() {
        for (template, _) in env.service.iter().flat_map(OfService::templates) {
            let found = checkout.files(&[literally(template)])?;
            if found.is_empty() {
                return Err(not_in_git(template));
            }
            wanted.extend(found);
        }
        for mount in &env.mounts {
            if mount.source.starts_with(['/', '~']) {
                continue;
            }
            // What git does not have is data of the machine's own: it lies in the project's folder there, too.
            let found = checkout.files(&[literally(&mount.source)])?;
            if !found.is_empty() {
                mounted.insert(mount.source.clone());
            }
            wanted.extend(found);
        }
        for word in words_on_host(env) {
            wanted.extend(checkout.files(&[literally(&word)])?);
        }
    }
    for pattern in &project.manifest.release.files {
        let found = checkout.files(&[format!(":(glob){pattern}")])?;
        if found.is_empty() {
            return Err(not_in_git(pattern));
        }
        wanted.extend(found);
    }
    for (migration, _) in declared_migrations(project)? {
        if checkout.files(&[literally(&migration.path)])?.is_empty() {
            return Err(not_in_git(&migration.path));
        }
        wanted.insert(migration.path);
        if let Some(down) = migration.down {
            if checkout.files(&[literally(&down.path)])?.is_empty() {
                return Err(not_in_git(&down.path));
            }
            wanted.insert(down.path);
        }
    }
    wanted.remove(MANIFEST);
    let mut carried = Carried { contents: BTreeMap::new(), executable: BTreeSet::new(), mounted };
    let mut bytes = 0;
    for path in wanted {
        let (content, is_executable) = read(project, &path)?;
        bytes += content.len() as u64;
        if bytes > MOST_BYTES {
            let why = format!("with it they have more than {} MiB; put data into an image", MOST_BYTES >> 20);
            return Err(ReleaseError::File { path, why });
        }
        if is_executable {
            carried.executable.insert(path.clone());
        }
        carried.contents.insert(path, content);
    }
    Ok(carried)
}

fn not_in_git(path: &str) -> ReleaseError {
    ReleaseError::File { path: path.to_owned(), why: "git has no such file".to_owned() }
}

/// What a file holds, also one that a link within the project leads to, and whether it can be executed.
fn read(project: &Project, path: &str) -> Result<(Vec<u8>, bool), ReleaseError> {
    let refused = |why: String| ReleaseError::File { path: path.to_owned(), why };
    let real = project.root.join(path).canonicalize().map_err(|error| refused(error.to_string()))?;
    if !real.starts_with(&project.root) {
        return Err(refused(format!("it is a link to {}", real.display())));
    }
    let metadata = real.metadata().map_err(|error| refused(error.to_string()))?;
    if !metadata.is_file() {
        return Err(refused("it is no file".to_owned()));
    }
    let bytes = fs::read(&real).map_err(|error| refused(error.to_string()))?;
    Ok((bytes, metadata.permissions().mode() & 0o111 != 0))
}

/// The words of what a service would run on the host, which may be paths.
fn words_on_host(env: &Env) -> Vec<String> {
    let steps = env.service.iter().flat_map(|of| &of.first_boot);
    let on_host = steps.filter_map(|step| match &step.act {
        Act::Host { argv } => Some(argv),
        Act::Run { .. } | Act::Wait { .. } | Act::Owner { .. } => None,
    });
    let words = on_host.flatten().flat_map(|word| shell_words::split(word).unwrap_or_default());
    let plain = words.map(|word| word.trim_start_matches("./").to_owned());
    plain.filter(|word| setpoint_model::release::bundle::is_within(word)).collect()
}

/// The secrets that services have a use for.
fn secrets(units: &[Unit<'_>]) -> Result<BTreeSet<SecretName>, ReleaseError> {
    let mut wanted = BTreeSet::new();
    for unit in units {
        let (facts, _) = unit.facts()?;
        let declared = &unit.project.manifest.secrets;
        let of_alerts = unit.project.manifest.alerts.webhook.iter().flat_map(EnvValue::secrets);
        let used = unit.wanted_secrets(&facts).into_iter().chain(of_alerts);
        wanted.extend(needed_secrets(declared, used).into_iter().cloned());
    }
    Ok(wanted)
}

/// What of a project cannot be released.
pub(super) fn check(project: &Project) -> Result<(), ReleaseError> {
    if let Some(stack) = &project.manifest.stack {
        let problem = Problem::new("not-released", "services of compose files cannot be released");
        let problem = problem.at(stack.at.clone()).hint("declare them as `[service.NAME]`");
        return Err(ReleaseError::Problem(Box::new(problem)));
    }
    for env in project.manifest.envs.values().filter(|env| env.is_service()) {
        let what = match &env.base {
            Base::Host | Base::Image { .. } | Base::Build { .. } => continue,
            Base::Rootfs { .. } | Base::Features { .. } | Base::DevContainer { .. } => {
                format!("`{}` is built on a root file system, which a registry cannot hold", env.name)
            }
        };
        let problem = Problem::new("not-released", what).at(env.base_at.clone());
        return Err(ReleaseError::Problem(Box::new(problem.hint("name an `image` or a `build`"))));
    }
    Ok(())
}

/// What a bundle is made of.
pub(super) struct Parts<'a> {
    pub(super) project: &'a Project,
    /// The text of the manifest.
    pub(super) manifest: &'a str,
    /// Its services.
    pub(super) units: &'a [Unit<'a>],
    pub(super) version: &'a Version,
    pub(super) repository: &'a Repository,
    pub(super) images: BTreeMap<UnitName, PinnedImage>,
    pub(super) carried: Carried,
}

/// Makes the bundle.
pub(super) fn parcel(parts: Parts<'_>) -> Result<Parcel, ReleaseError> {
    let Parts { project, manifest, units, version, repository, images, carried } = parts;
    let of_project = units.iter().filter(|unit| unit.env.base.is_of_project());
    let pins = Pins {
        project: project.manifest.project.name.as_str(),
        version,
        images: &images,
        carried: &carried.mounted,
        secrets: &secrets(units)?,
        versioned: &of_project.map(|unit| unit.env.name.clone()).collect(),
    };
    let unreadable = |why| ReleaseError::File { path: MANIFEST.to_owned(), why };
    let manifest = pinned(manifest, &pins).map_err(unreadable)?;
    let mut contents = carried.contents;
    contents.insert(MANIFEST.to_owned(), manifest.into_bytes());
    let file = |(path, bytes): (&String, &Vec<u8>)| {
        let sha256 = sha256_of(bytes).trim_start_matches("sha256:").to_owned();
        let executable = carried.executable.contains(path);
        (path.clone(), BundledFile { sha256, size: bytes.len() as u64, executable })
    };
    let files: BTreeMap<String, BundledFile> = contents.iter().map(file).collect();
    let bundle = Bundle {
        format: FORMAT,
        project: project.manifest.project.name.to_string(),
        version: version.to_string(),
        repository: repository.clone(),
        lane: project.manifest.release.lane,
        images,
        files,
    };
    Parcel::make(bundle, &contents).map_err(ReleaseError::io("pack the files of", &project.root))
}
