//! What a volume's archive tells, whoever wrote it: the same digest for the same files, and nothing that no volume may
//! have.

use std::collections::BTreeMap;
use std::io::{self, Read};

use setpoint_model::digest::{Digest, Encoder};
use tar::EntryType;

use super::error::BackupError;
use crate::image;

/// What is in a volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tree {
    /// The digest of all of it: names, kinds, owners, rights, times in whole seconds, links and content.
    pub(super) digest: String,
    /// How many files and folders.
    pub(super) files: u64,
}

/// Why an archive was not read.
pub(super) enum Fault {
    /// What is in it.
    Wrong(BackupError),
    /// Reading it.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads an archive to its end.
pub(super) fn look(volume: &str, archive: &mut impl Read) -> Result<Tree, Fault> {
    let mut found: BTreeMap<Vec<u8>, Digest> = BTreeMap::new();
    let mut entries = tar::Archive::new(&mut *archive);
    for entry in entries.entries()? {
        let mut entry = entry?;
        let name = entry.path_bytes().into_owned();
        image::lawful(&entry).map_err(|rule| {
            let entry = String::from_utf8_lossy(&name).chars().take(200).collect();
            Fault::Wrong(BackupError::Unlawful { volume: volume.to_owned(), entry, rule })
        })?;
        let plain = plain(&name);
        let digest = told(&mut entry, plain.is_empty())?;
        found.insert(plain, digest);
    }
    // What comes after the mark of its end is part of it, too.
    io::copy(archive, &mut io::sink())?;
    let mut encoder = Encoder::new("setpoint.backup.tree", 1);
    for (name, digest) in &found {
        encoder.bytes(name).digest(*digest);
    }
    Ok(Tree { digest: encoder.finish().to_hex(), files: found.len() as u64 })
}

/// A name without what says nothing: `./` before it, `/` after it.
fn plain(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.collect::<Vec<_>>().join(&b'/')
}

/// What is told of an entry. When a volume itself was changed depends on who mounts it.
fn told<R: Read>(entry: &mut tar::Entry<'_, R>, is_root: bool) -> io::Result<Digest> {
    let header = entry.header();
    let (mode, uid, gid) = (header.mode()? & 0o7777, header.uid()?, header.gid()?);
    let (mut time, kind) = (header.mtime()?.to_string(), header.entry_type());
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if extension.key() == Ok("mtime") {
            time = extension.value().unwrap_or_default().to_owned();
        }
    }
    let seconds = if is_root { "" } else { time.split('.').next().unwrap_or_default() };
    let kind = match kind {
        EntryType::Directory => "folder",
        EntryType::Symlink => "link",
        EntryType::Link => "name",
        EntryType::Fifo => "fifo",
        _ => "file",
    };
    let link = match kind {
        "name" => entry.link_name_bytes().map(|link| plain(&link)),
        "link" => entry.link_name_bytes().map(std::borrow::Cow::into_owned),
        _ => None,
    };
    let mut encoder = Encoder::new("setpoint.backup.entry", 1);
    encoder.text(kind).text(seconds).bytes(&link.unwrap_or_default());
    // Further names of a file, and links, have no rights of their own.
    if !matches!(kind, "name" | "link") {
        encoder.text(&mode.to_string());
    }
    if kind != "name" {
        encoder.text(&uid.to_string()).text(&gid.to_string());
    }
    if kind == "file" {
        let mut hasher = blake3::Hasher::new();
        io::copy(entry, &mut hasher)?;
        encoder.bytes(hasher.finalize().as_bytes());
    }
    Ok(encoder.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn entry(name: &str, kind: EntryType, link: &str, text: &str) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(7);
        header.set_size(text.len() as u64);
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        let mut archive = tar::Builder::new(Vec::new());
        archive.append(&header, text.as_bytes()).unwrap();
        let mut bytes = archive.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        bytes
    }

    fn tree(entries: &[Vec<u8>]) -> Result<Tree, String> {
        let bytes = [entries.concat(), vec![0; 1024]].concat();
        look("data", &mut bytes.as_slice()).map_err(|fault| match fault {
            Fault::Wrong(error) => error.to_string(),
            Fault::Io(error) => format!("io: {error}"),
        })
    }

    #[test]
    fn the_same_files_have_the_same_digest_however_they_are_written() {
        use EntryType::{Directory, Regular};
        let one = [entry("./", Directory, "", ""), entry("./a", Regular, "", "text")];
        let other = [entry("a", Regular, "", "text"), entry(".", Directory, "", "")];
        assert_eq!(tree(&one), tree(&other));
        assert_eq!(tree(&one).unwrap().files, 2);
        let changed = [entry("./", Directory, "", ""), entry("./a", Regular, "", "texT")];
        assert_ne!(tree(&one), tree(&changed));
        let renamed = [entry("./", Directory, "", ""), entry("./b", Regular, "", "text")];
        assert_ne!(tree(&one), tree(&renamed));
    }

    #[test]
    fn what_no_volume_may_have_is_refused() {
        use EntryType::{Block, Char, Link, Regular, Symlink};
        for (name, kind, link, why) in [
            ("../a", Regular, "", "`..`"),
            ("a/../../b", Regular, "", "`..`"),
            ("/etc/passwd", Regular, "", "absolute"),
            ("disk", Block, "", "device"),
            ("null", Char, "", "device"),
            ("a", Link, "../../etc/passwd", "leaves"),
        ] {
            let refused = tree(&[entry(name, kind, link, "")]).unwrap_err();
            assert!(refused.contains(why), "{name}: {refused}");
        }
        // A link that is only there leads nowhere from here.
        tree(&[entry("a", Symlink, "/etc/passwd", "")]).unwrap();
    }
}
