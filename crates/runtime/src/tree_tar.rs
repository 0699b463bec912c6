//! A folder as an archive, with everything that is told of its files: the same bytes for the same files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

/// The extended attributes that are told: those that a later reader would keep.
const XATTRS: [&str; 2] = ["user.", "security.capability"];

/// Writes a folder as an archive: its own entry, then what is in it, by name. Links to one file stay links to it; a hole
/// is written as zeros; sockets are left out, for nobody listens on a copy of one.
///
/// # Errors
/// If something cannot be read, or is a device; and what the writer gives.
pub(crate) fn write(root: &Path, to: &mut dyn Write) -> io::Result<()> {
    let mut archive = Archive { root, to: Builder::new(to), linked: BTreeMap::new() };
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let whole = root.join(&path);
        let metadata = whole.symlink_metadata().map_err(of(&whole))?;
        archive.entry(&path, &metadata).map_err(of(&whole))?;
        if metadata.is_dir() {
            let entries = fs::read_dir(&whole).map_err(of(&whole))?;
            let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>();
            let mut names = names.map_err(of(&whole))?;
            names.sort_by(|one, other| other.cmp(one));
            open.extend(names.into_iter().map(|name| path.join(name)));
        }
    }
    archive.to.finish()
}

/// An error with the path that it is about.
fn of(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

struct Archive<'a> {
    root: &'a Path,
    to: Builder<&'a mut dyn Write>,
    /// Files with several names, each by the first of them.
    linked: BTreeMap<(u64, u64), PathBuf>,
}

impl Archive<'_> {
    fn entry(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        if kind.is_socket() {
            return Ok(());
        }
        if kind.is_block_device() || kind.is_char_device() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it is a device, which is not backed up"));
        }
        let whole = self.root.join(path);
        let mut header = Header::new_ustar();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(metadata.uid().into());
        header.set_gid(metadata.gid().into());
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
        header.set_size(0);
        let mut more = vec![("mtime".to_owned(), time(metadata).into_bytes())];
        if !kind.is_symlink() {
            more.extend(xattrs(&whole)?);
        }
        let mut name = name(path);
        if kind.is_dir() && name != b"./" {
            name.push(b'/');
        }
        let inode = (metadata.dev(), metadata.ino());
        let known = self.linked.get(&inode).filter(|_| !metadata.is_dir());
        let (link, content) = match known {
            Some(first) => {
                header.set_entry_type(EntryType::Link);
                (Some(self::name(first)), None)
            }
            None if kind.is_symlink() => {
                header.set_entry_type(EntryType::Symlink);
                (Some(fs::read_link(&whole)?.into_os_string().into_vec()), None)
            }
            None if kind.is_dir() => {
                header.set_entry_type(EntryType::Directory);
                (None, None)
            }
            None if kind.is_fifo() => {
                header.set_entry_type(EntryType::Fifo);
                (None, None)
            }
            None => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(metadata.len());
                (None, Some(File::open(&whole)?))
            }
        };
        if known.is_none() && !metadata.is_dir() && metadata.nlink() > 1 {
            self.linked.insert(inode, path.to_owned());
        }
        put(&mut header.as_old_mut().name, name, "path", &mut more);
        if let Some(link) = link {
            put(&mut header.as_old_mut().linkname, link, "linkpath", &mut more);
        }
        header.set_cksum();
        more.sort();
        self.to.append_pax_extensions(more.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        match content {
            None => self.to.append(&header, io::empty()),
            Some(file) => {
                let mut taken = file.take(metadata.len());
                self.to.append(&header, &mut taken)?;
                match taken.limit() {
                    0 => Ok(()),
                    left => Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("{left} bytes of it went away while it was read"),
                    )),
                }
            }
        }
    }
}

/// Puts a name into its place of a header, or, where it is too long for that, among what else is told. Nothing of it is
/// made simpler: the text of a link is what it is.
fn put(place: &mut [u8; 100], name: Vec<u8>, key: &str, more: &mut Vec<(String, Vec<u8>)>) {
    place.iter_mut().zip(&name).for_each(|(at, byte)| *at = *byte);
    if name.len() > place.len() {
        more.push((key.to_owned(), name));
    }
}

fn name(path: &Path) -> Vec<u8> {
    match path.as_os_str().is_empty() {
        true => b"./".to_vec(),
        false => path.as_os_str().as_bytes().to_vec(),
    }
}

/// A time as extended headers have it, with all that is known of it.
fn time(metadata: &Metadata) -> String {
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    match (seconds < 0, nanos) {
        (_, 0) => seconds.to_string(),
        (false, _) => format!("{seconds}.{nanos:09}"),
        // The fraction of a time before 1970 counts backwards.
        (true, _) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
    }
}

fn xattrs(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0_u8; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Ok(text) = std::str::from_utf8(name) else { continue };
        if !XATTRS.iter().any(|kept| text.starts_with(kept)) {
            continue;
        }
        let mut value = vec![0_u8; 64 << 10];
        let length = match rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value) {
            Err(Errno::NODATA) => continue,
            other => other?,
        };
        value.truncate(length);
        found.push((format!("SCHILY.xattr.{text}"), value));
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn archived(root: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(root, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_same_files_give_the_same_bytes_and_are_all_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("one");
        fs::create_dir_all(root.join("sub")).unwrap();
        let long = "n".repeat(150);
        fs::write(root.join(&long), "long").unwrap();
        fs::write(root.join("sub/file"), "text").unwrap();
        fs::hard_link(root.join("sub/file"), root.join("sub/same")).unwrap();
        symlink("./../sub//file", root.join("link")).unwrap();
        fs::set_permissions(root.join("sub/file"), fs::Permissions::from_mode(0o640)).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let bytes = archived(&root);
        assert_eq!(bytes, archived(&root));
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (name, kind) = (entry.path_bytes().into_owned(), entry.header().entry_type());
            let link = entry.link_name_bytes().map(|link| String::from_utf8(link.into_owned()).unwrap());
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((String::from_utf8(name).unwrap(), kind, link, text));
        }
        let file = |name: &str, text: &str| (name.to_owned(), EntryType::Regular, None, text.to_owned());
        let link = |name: &str, kind, to: &str| (name.to_owned(), kind, Some(to.to_owned()), String::new());
        let folder = |name: &str| (name.to_owned(), EntryType::Directory, None, String::new());
        assert_eq!(
            found,
            [
                folder("./"),
                link("link", EntryType::Symlink, "./../sub//file"),
                file(&long, "long"),
                folder("sub/"),
                file("sub/file", "text"),
                link("sub/same", EntryType::Link, "sub/file"),
            ]
        );
    }
}
