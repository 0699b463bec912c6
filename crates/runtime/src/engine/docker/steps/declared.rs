//! What lies in the volumes that an image declares (`VOLUME`): no image that is made of a container has it.

use std::collections::BTreeMap;
use std::io::Read;

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use futures_util::StreamExt;
use setpoint_model::digest::{Digest, Encoder};

use super::super::client::Connected;
use super::super::error::DockerError;
use super::NAME;

/// The word of the engine for a mount that is a volume.
const VOLUME: &str = "volume";

/// A digest of what lies in each such volume of a container.
pub(super) fn look(connected: &Connected, container: &str) -> Result<BTreeMap<String, Digest>, DockerError> {
    let what = "look at a container";
    let found = connected.settled(what, || connected.api.inspect_container(container, None))?;
    let mounts = found.mounts.into_iter().flatten();
    let declared = mounts
        .filter(|mount| mount.typ.as_deref() == Some(VOLUME))
        .filter(|mount| !mount.name.as_deref().unwrap_or_default().starts_with(NAME))
        .filter_map(|mount| mount.destination);
    declared.map(|path| Ok((path.clone(), digest(connected, container, &path)?))).collect()
}

fn digest(connected: &Connected, container: &str, path: &str) -> Result<Digest, DockerError> {
    let what = "look into a volume";
    let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
    let mut pieces = connected.api.download_from_container(container, Some(options));
    let mut failed = None;
    let reader = Pieces {
        next: || match connected.wait(pieces.next()) {
            Some(Ok(piece)) => Some(piece),
            Some(Err(error)) => {
                failed = Some(connected.explain(what, &error));
                None
            }
            None => None,
        },
        rest: bytes::Bytes::new(),
    };
    let digest = of_archive(reader);
    match failed {
        Some(error) => Err(error),
        None => digest.map_err(|error| DockerError::Refused { what, why: error.to_string() }),
    }
}

/// Of all that can be told of its entries but the times of folders, which change with whatever came and went in them.
fn of_archive(archive: impl Read) -> std::io::Result<Digest> {
    let mut encoder = Encoder::new("setpoint.volume", 1);
    let mut archive = tar::Archive::new(archive);
    let mut content = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let header = entry.header();
        let is_folder = header.entry_type().is_dir();
        encoder.number(u64::from(header.entry_type().as_byte())).number(u64::from(header.mode()?));
        encoder.number(header.uid()?).number(header.gid()?);
        encoder.number(if is_folder { 0 } else { header.mtime()? });
        encoder.bytes(&entry.path_bytes()).bytes(&entry.link_name_bytes().unwrap_or_default());
        content.clear();
        entry.read_to_end(&mut content)?;
        encoder.digest(Digest::of_bytes(&content));
    }
    Ok(encoder.finish())
}

/// Pieces of an archive, as a reader.
struct Pieces<N> {
    next: N,
    rest: bytes::Bytes,
}

impl<N: FnMut() -> Option<bytes::Bytes>> Read for Pieces<N> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match (self.next)() {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let piece = self.rest.split_to(buffer.len().min(self.rest.len()));
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, u64, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, mtime, text) in entries {
            let mut header = tar::Header::new_gnu();
            let kind = if path.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular };
            header.set_entry_type(kind);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(*mtime);
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn what_was_changed_shows_and_what_came_and_went_does_not() {
        let digest = |entries: &[_]| of_archive(archive(entries).as_slice()).unwrap();
        let first = digest(&[("data/", 1, ""), ("data/x", 1, "text")]);
        assert_eq!(first, digest(&[("data/", 9, ""), ("data/x", 1, "text")]));
        for other in [("data/x", 1, "test"), ("data/x", 2, "text"), ("data/y", 1, "text")] {
            assert_ne!(first, digest(&[("data/", 1, ""), other]), "{other:?}");
        }
        assert_ne!(first, digest(&[("data/", 1, "")]));
    }
}
