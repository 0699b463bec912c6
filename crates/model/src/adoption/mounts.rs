//! What appears inside of what runs, where that is something else than what is declared.

use crate::container::{ContainerMount, MountSource};
use crate::import::compose::Stored;
use crate::manifest::{Env, FileSource};

use super::{Paths, Running};

/// Takes out of a declaration what does not appear inside, and adds what does.
pub(super) fn merge(env: &mut Env, running: &Running, paths: &Paths<'_>) {
    let mut left = Left { mounts: running.container.mounts.clone(), paths };
    if !env.is_service() && env.devcontainer.is_none() {
        let at = env.workspace.clone();
        env.workspace = if left.take_bind(&at, &paths.root, Some(false)) { at } else { String::new() };
    }
    env.mounts.retain(|mount| left.take_bind(&mount.target, &mount.source, Some(mount.read_only)));
    env.host_paths.retain(|path| left.take_bind(path, path, Some(true)));
    if let Some(of) = &mut env.service {
        of.files.retain(|file| match &file.source {
            FileSource::Stored(Stored::File(source)) => left.take_bind(&file.target, source, None),
            // What was made for it there, nobody can tell.
            _ => {
                left.take_at(&file.target);
                false
            }
        });
    }
    env.container.mounts.retain(|mount| left.take(mount));
    // A volume that the image asks for, and that nobody gave a name, is in every container of it.
    let of_image = |mount: &ContainerMount| {
        is_nameless(mount) && running.image.mounts.iter().any(|own| same_place(&own.target, &mount.target))
    };
    env.container.mounts.extend(left.mounts.into_iter().filter(|mount| !of_image(mount)));
}

/// What appears inside and has not been found to be declared.
struct Left<'a> {
    mounts: Vec<ContainerMount>,
    paths: &'a Paths<'a>,
}

impl Left<'_> {
    fn take(&mut self, declared: &ContainerMount) -> bool {
        match &declared.source {
            MountSource::Bind { source, .. } => {
                self.take_bind(&declared.target, source, Some(declared.read_only))
            }
            MountSource::Volume { name, .. } => {
                self.take_where(&declared.target, |mount| match &mount.source {
                    MountSource::Volume { name: runs, .. } => {
                        mount.read_only == declared.read_only
                            && if name.is_some() { name == runs } else { is_nameless(mount) }
                    }
                    _ => false,
                })
            }
            MountSource::Tmpfs { size, .. } => {
                self.take_where(&declared.target, |mount| match &mount.source {
                    MountSource::Tmpfs { size: runs, .. } => size == runs,
                    _ => false,
                })
            }
        }
    }

    /// Whether this file or folder of the host appears there.
    fn take_bind(&mut self, target: &str, source: &str, read_only: Option<bool>) -> bool {
        let source = (self.paths.absolute)(source);
        self.take_where(target, |mount| match &mount.source {
            MountSource::Bind { source: runs, .. } => {
                same_place(runs, &source) && read_only.is_none_or(|read_only| mount.read_only == read_only)
            }
            _ => false,
        })
    }

    fn take_at(&mut self, target: &str) {
        self.take_where(target, |_| true);
    }

    fn take_where(&mut self, target: &str, fits: impl Fn(&ContainerMount) -> bool) -> bool {
        let found = self.mounts.iter().position(|mount| same_place(&mount.target, target) && fits(mount));
        found.map(|at| self.mounts.remove(at)).is_some()
    }
}

fn same_place(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// Whether it is a volume that the engine gave a name of its own: 64 digits.
#[must_use]
pub fn is_nameless(mount: &ContainerMount) -> bool {
    match &mount.source {
        MountSource::Volume { name: None, .. } => true,
        MountSource::Volume { name: Some(name), .. } => {
            name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        _ => false,
    }
}
