//! Removal of folders that somebody else filled.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const PRIVATE: Mode = Mode::RWXU;

/// Removes a folder and all in it, however deep and with whatever modes, with few descriptors.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let parent = rustix::fs::openat(CWD, parent, FOLDER, Mode::empty())?;
    remove_tree_at(parent.as_fd(), name)
}

/// The same below a descriptor: folders found on the way are first moved beside the one being emptied.
pub(crate) fn remove_tree_at(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut waiting = vec![name.to_owned()];
    let mut number = 0_u64;
    while let Some(name) = waiting.pop() {
        let folder = match rustix::fs::openat(parent, &name, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(parent, &name, PRIVATE, AtFlags::empty())?;
                rustix::fs::openat(parent, &name, flags, Mode::empty())?
            }
            other => other?,
        };
        rustix::fs::fchmod(&folder, PRIVATE)?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let inner = entry.file_name();
            if inner.to_bytes() == b"." || inner.to_bytes() == b".." {
                continue;
            }
            match rustix::fs::unlinkat(&folder, inner, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => {}
                other => {
                    other?;
                    continue;
                }
            }
            rustix::fs::chmodat(&folder, inner, PRIVATE, AtFlags::empty())?;
            loop {
                number += 1;
                let aside = format!(".setpoint-removing-{}-{number}", std::process::id());
                match rustix::fs::renameat_with(&folder, inner, parent, &aside, RenameFlags::NOREPLACE) {
                    Err(Errno::EXIST) => {}
                    other => {
                        other?;
                        waiting.push(aside.into());
                        break;
                    }
                }
            }
        }
        match rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR) {
            // Some file systems skip entries when others are removed between two reads.
            Err(Errno::NOTEMPTY) => waiting.push(name),
            other => other?,
        }
    }
    Ok(())
}

/// Removes a file or a folder where it is, also one whose folders may not be written, as those of images. What is not there
/// is gone.
///
/// # Errors
/// If something of it cannot be removed.
pub fn remove_all(path: &Path) -> io::Result<()> {
    let is_folder = match path.symlink_metadata() {
        Ok(metadata) => metadata.is_dir(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !is_folder {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn make_writable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_with_folders_that_may_not_be_written_goes_and_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, other) = (folder.path().join("tree"), folder.path().join("other"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(tree.join("a/b/f"), "").unwrap();
        fs::write(other.join("f"), "").unwrap();
        std::os::unix::fs::symlink(&other, tree.join("link")).unwrap();
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o500)).unwrap();
        remove_all(&tree).unwrap();
        assert!(!tree.exists() && other.join("f").exists());
        remove_all(&tree).unwrap();
    }
}
