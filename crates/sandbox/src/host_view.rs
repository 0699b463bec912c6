//! The state of a copy-on-write view of the host: which of its folders are seen, and which files never are.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};

use crate::error::SandboxError;
use crate::root::like;

/// The top folders that are seen. Where the host has a link, so has the view.
pub(crate) const TOPS: [&str; 9] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "etc"];
/// What of `/var` is seen: the package database and caches.
pub(crate) const VAR_OVERLAYS: [&str; 3] = ["var/lib/dpkg", "var/lib/apt", "var/cache"];
/// Folders of the unit's own, empty at first.
pub(crate) const PLAIN: [&str; 7] = ["home", "root", "srv", "mnt", "media", "tmp", "var"];
/// What a system expects to find in `/var`.
const IN_VAR: [(&str, u32); 8] = [
    ("lib", 0o755),
    ("log", 0o755),
    ("mail", 0o755),
    ("spool", 0o755),
    ("local", 0o755),
    ("opt", 0o755),
    ("tmp", 0o1777),
    ("cache", 0o755),
];
/// Folders that package managers do not make themselves.
const EXPECTED_BY_PACKAGES: [&str; 3] =
    ["var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/cache/debconf"];
/// Files of `/etc` with keys or hashes of passwords, besides the host keys of ssh.
const HIDDEN: [&str; 6] = ["shadow-", "gshadow-", "security/opasswd", "ssl/private", "sudoers", "sudoers.d"];
/// Files with a hash of a password in the second field.
const HASHED: [&str; 2] = ["shadow", "gshadow"];

/// The name of the state folder of a nested path.
pub(crate) fn flat(path: &str) -> String {
    path.replace('/', "-")
}

/// Makes the state of a host view, once: the folders that keep what is written, and in them what hides the
/// host's secrets.
///
/// # Errors
/// If a folder or a file cannot be made.
pub fn prepare_host_view(state: &Path) -> Result<(), SandboxError> {
    let rootless = !rustix::process::geteuid().is_root();
    let fs_state = state.join("fs");
    overlays(&VAR_OVERLAYS)
        .try_for_each(|(name, host)| prepare_overlay(&fs_state.join(name), Some(&host)))?;
    personal(&fs_state)?;
    hide_secrets(&fs_state.join("etc/upper"), rootless)
}

/// What a host view is made of besides the host's own folders: the root itself, and all in it that is personal.
pub(crate) const REST: &str = "rest";

/// What of `/var` a layered view shows: caches change too often for results to be a function of them.
pub(crate) const LAYERED_VAR: [&str; 1] = ["var/lib/dpkg"];

/// The overlays of a view: the name of each in a state, and the folder of the host that it shows.
pub(crate) fn overlays(vars: &'static [&'static str]) -> impl Iterator<Item = (String, PathBuf)> {
    let tops = TOPS.iter().map(|top| ((*top).to_owned(), *top));
    let vars = vars.iter().map(|var| (flat(var), *var));
    let on_host = tops.chain(vars).map(|(name, path)| (name, Path::new("/").join(path)));
    on_host.filter(|(_, host)| fs::symlink_metadata(host).is_ok_and(|metadata| metadata.is_dir()))
}

/// Makes the lowest state of layered views of the host: the folders that are everybody's own, the places where the
/// host's folders go, and what hides the host's secrets.
///
/// # Errors
/// If a folder or a file cannot be made.
pub fn prepare_host_base(state: &Path) -> Result<(), SandboxError> {
    let root = state.join("fs").join(REST).join("upper");
    folder(&root, 0o755)?;
    for top in TOPS {
        let host = Path::new("/").join(top);
        match fs::read_link(&host) {
            Ok(link) => std::os::unix::fs::symlink(link, root.join(top))
                .map_err(|error| SandboxError::io("make", root.join(top), error))?,
            Err(_) if host.is_dir() => folder(&root.join(top), 0o755)?,
            Err(_) => {}
        }
    }
    for kernel in ["proc", "dev", "sys", "run"] {
        folder(&root.join(kernel), 0o755)?;
    }
    personal(&root)?;
    for var in LAYERED_VAR.iter().chain(&EXPECTED_BY_PACKAGES) {
        folder(&root.join(var), 0o755)?;
    }
    let etc = state.join("fs/etc/upper");
    let rootless = !rustix::process::geteuid().is_root();
    folder(&etc, 0o755)?;
    like(&etc, Path::new("/etc"), rootless).map_err(|error| SandboxError::io("make", &etc, error))?;
    hide_secrets(&etc, rootless)
}

/// Makes the state of one layered view: the folders that keep what is written.
///
/// # Errors
/// If a folder cannot be made.
pub fn prepare_host_layer(state: &Path) -> Result<(), SandboxError> {
    let fs_state = state.join("fs");
    prepare_overlay(&fs_state.join(REST), None)?;
    overlays(&LAYERED_VAR).try_for_each(|(name, host)| prepare_overlay(&fs_state.join(name), Some(&host)))
}

/// Makes the folders that an overlay keeps its changes in; its root is made like `model`.
///
/// # Errors
/// If a folder cannot be made.
pub fn prepare_overlay(state: &Path, model: Option<&Path>) -> Result<(), SandboxError> {
    folder(&state.join("work"), 0o700)?;
    let upper = state.join("upper");
    folder(&upper, 0o755)?;
    if let Some(model) = model {
        let rootless = !rustix::process::geteuid().is_root();
        like(&upper, model, rootless).map_err(|error| SandboxError::io("make", &upper, error))?;
    }
    Ok(())
}

/// Makes the folders that are nobody's of the host.
fn personal(root: &Path) -> Result<(), SandboxError> {
    for plain in PLAIN {
        let mode = match plain {
            "tmp" => 0o1777,
            "root" => 0o700,
            _ => 0o755,
        };
        folder(&root.join(plain), mode)?;
    }
    for (name, mode) in IN_VAR {
        folder(&root.join("var").join(name), mode)?;
    }
    for (link, to) in [("run", "/run"), ("lock", "/run/lock")] {
        let path = root.join("var").join(link);
        std::os::unix::fs::symlink(to, &path).map_err(|error| SandboxError::io("make", &path, error))?;
    }
    Ok(())
}

fn folder(path: &Path, mode: u32) -> Result<(), SandboxError> {
    let make = || {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    make().map_err(|error| SandboxError::io("make", path, error))
}

fn hide_secrets(upper: &Path, rootless: bool) -> Result<(), SandboxError> {
    let etc = Path::new("/etc");
    let error = |error: io::Error| SandboxError::io("hide secrets of the host in", upper, error);
    for name in HASHED {
        match fs::read_to_string(etc.join(name)) {
            Ok(text) => {
                let copy = upper.join(name);
                fs::write(&copy, without_hashes(&text)).map_err(error)?;
                like(&copy, &etc.join(name), rootless).map_err(error)?;
            }
            // A user who cannot read it here cannot read it inside.
            Err(_) if rootless => {}
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
            Err(other) => return Err(error(other)),
        }
    }
    let host_keys = fs::read_dir(etc.join("ssh")).into_iter().flatten().filter_map(Result::ok);
    let host_keys = host_keys
        .map(|entry| format!("ssh/{}", entry.file_name().to_string_lossy()))
        .filter(|name| name.starts_with("ssh/ssh_host_") && !name.ends_with(".pub"));
    for name in HIDDEN.iter().map(|name| (*name).to_owned()).chain(host_keys) {
        let Ok(metadata) = fs::symlink_metadata(etc.join(&name)) else { continue };
        let path = upper.join(&name);
        if let Some(parent) = path.parent().filter(|parent| *parent != upper) {
            folder(parent, 0o755)?;
            let model = etc.join(&name);
            like(parent, model.parent().unwrap_or(etc), rootless).map_err(error)?;
        }
        debug_assert!(metadata.mode() > 0);
        // An overlay takes a character device 0:0 for "there is nothing here".
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|refused| error(refused.into()))?;
    }
    Ok(())
}

fn without_hashes(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    for line in text.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        if let Some(hash) = fields.get_mut(1) {
            *hash = "*";
        }
        lines.push_str(&fields.join(":"));
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_hash_is_left_and_nothing_else_changes() {
        let text = "root:$y$j9T$abc:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n";
        let clean = super::without_hashes(text);
        assert_eq!(clean, "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n");
    }
}
