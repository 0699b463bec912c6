//! What the host's own system is, as far as a step sees it: small enough to be looked at in every run.
//!
//! What a package manager put there is known by its database; what it does not know of is looked at file by file,
//! one `lstat` each. Without a package manager that is everything.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use setpoint_model::digest::{Digest, Encoder};

/// The databases of package managers, one of which is enough.
const DATABASES: [&str; 4] =
    ["/var/lib/dpkg/status", "/var/lib/rpm", "/lib/apk/db/installed", "/var/lib/pacman/local"];
/// What package managers leave to the owner of the machine.
const UNMANAGED: [&str; 3] = ["/etc", "/opt", "/usr/local"];
/// Files that tell of the network the machine is in: what is reached by it is never part of a key.
const OF_THE_NETWORK: [&str; 2] = ["resolv.conf", "hosts"];

/// The parts of the host's identity, by what a person calls them.
///
/// # Errors
/// If a folder cannot be read.
pub(super) fn host() -> io::Result<BTreeMap<String, Digest>> {
    let mut parts = BTreeMap::new();
    let release = fs::read("/etc/os-release").unwrap_or_default();
    parts.insert("os-release".to_owned(), Digest::of_bytes(&release));
    for folder in UNMANAGED {
        parts.insert(folder.to_owned(), tree(Path::new(folder))?);
    }
    let databases: Vec<_> = DATABASES.iter().map(Path::new).filter(|path| path.exists()).collect();
    let mut packages = Encoder::new("setpoint.host.packages", 1);
    for database in &databases {
        stamp(&mut packages, database)?;
    }
    parts.insert("packages".to_owned(), packages.finish());
    let managed = if databases.is_empty() { tree(Path::new("/usr"))? } else { folders(Path::new("/usr"))? };
    parts.insert("/usr".to_owned(), managed);
    Ok(parts)
}

/// A digest of what is at a path, by names, kinds, modes, owners, sizes and times: nothing is read. What is not
/// there has a digest too.
///
/// # Errors
/// If a folder cannot be read.
pub(super) fn tree(path: &Path) -> io::Result<Digest> {
    let mut encoder = Encoder::new("setpoint.host.tree", 1);
    walk(path, &mut encoder)?;
    Ok(encoder.finish())
}

fn walk(path: &Path, encoder: &mut Encoder) -> io::Result<()> {
    let is_folder = stamp(encoder, path)?;
    if !is_folder {
        return Ok(());
    }
    let mut names = match fs::read_dir(path) {
        // What nobody may read is not seen inside either.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        entries => entries?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?,
    };
    names.sort_unstable();
    let in_etc = path == Path::new("/etc");
    names.retain(|name| !in_etc || !OF_THE_NETWORK.iter().any(|hidden| name == hidden));
    encoder.list(names.len());
    for name in names {
        encoder.bytes(name.as_bytes());
        walk(&path.join(name), encoder)?;
    }
    Ok(())
}

/// Two levels of folders: enough to see that something was put beside what packages brought.
fn folders(root: &Path) -> io::Result<Digest> {
    let mut encoder = Encoder::new("setpoint.host.folders", 1);
    stamp(&mut encoder, root)?;
    for first in sub_folders(root)? {
        stamp(&mut encoder, &first)?;
        for second in sub_folders(&first)? {
            stamp(&mut encoder, &second)?;
        }
    }
    Ok(encoder.finish())
}

fn sub_folders(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // `/usr/local` is looked at as a whole.
        if entry.file_type()?.is_dir() && entry.path() != Path::new("/usr/local") {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Adds what the kernel tells of a file; says whether it is a folder.
fn stamp(encoder: &mut Encoder, path: &Path) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            encoder.flag(false);
            return Ok(false);
        }
        other => other?,
    };
    encoder.flag(true).number(u64::from(metadata.mode()));
    encoder.number(u64::from(metadata.uid())).number(u64::from(metadata.gid()));
    encoder.number(metadata.size());
    encoder.number(metadata.mtime().cast_unsigned()).number(metadata.mtime_nsec().cast_unsigned());
    Ok(metadata.is_dir())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_the_host_gives_the_same_twice() {
        let parts = host().unwrap();
        assert_eq!(parts, host().unwrap());
        assert!(parts.contains_key("/etc") && parts.contains_key("packages"), "{parts:?}");
    }

    #[test]
    fn whatever_changes_in_a_tree_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir(path.join("sub")).unwrap();
        let mut seen = vec![tree(path).unwrap()];
        let changes: [fn(&Path); 5] = [
            |path| fs::write(path.join("sub/a"), "1").unwrap(),
            |path| fs::write(path.join("sub/a"), "12").unwrap(),
            |path| fs::rename(path.join("sub/a"), path.join("sub/b")).unwrap(),
            |path| std::os::unix::fs::symlink("b", path.join("sub/c")).unwrap(),
            |path| fs::remove_file(path.join("sub/b")).unwrap(),
        ];
        for change in changes {
            change(path);
            let digest = tree(path).unwrap();
            assert!(!seen.contains(&digest));
            seen.push(digest);
        }
        assert_ne!(tree(&path.join("gone")).unwrap(), tree(&path.join("sub")).unwrap());
    }
}
