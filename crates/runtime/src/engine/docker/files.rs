//! Files of a container, whether it runs or not.

use std::io::Read;
use std::path::{Component, Path};

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use futures_util::StreamExt;

use super::client::{Connected, is_absent};
use super::error::DockerError;

/// How large a file may be that is read whole.
const MOST: usize = 16 << 20;
/// How many links are followed to a file.
const LINKS: usize = 8;

/// The text of a file, empty if there is none.
pub(super) fn text(connected: &Connected, container: &str, path: &str) -> Result<String, DockerError> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match entry(connected, container, &path)? {
            Entry::Text(text) => return Ok(text),
            Entry::None => break,
            Entry::Link(target) => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                path = if target.starts_with('/') { target } else { format!("{folder}/{target}") };
            }
        }
    }
    Ok(String::new())
}

/// Whether nothing is in a folder; one that is not there is empty. No more is read than tells it.
pub(super) fn is_empty(connected: &Connected, container: &str, folder: &str) -> Result<bool, DockerError> {
    const BLOCK: usize = 512;
    let what = "look into a folder of the container";
    let path = format!("{}/.", folder.trim_end_matches('/'));
    let options = DownloadFromContainerOptionsBuilder::default().path(&path).build();
    let mut archive = Vec::new();
    let fetched = connected.wait(async {
        let mut pieces = connected.api.download_from_container(container, Some(options));
        // The folder's own header, that of what is in it, and what names of either may need.
        while archive.len() < 16 * BLOCK
            && let Some(piece) = pieces.next().await
        {
            archive.extend_from_slice(&piece?);
        }
        Ok(())
    });
    match fetched {
        Err(error) if is_absent(&error) => return Ok(true),
        Err(error) => return Err(connected.explain(what, &error)),
        Ok(()) => {}
    }
    let mut archive = tar::Archive::new(archive.as_slice());
    let bad = |error: std::io::Error| DockerError::Refused { what, why: error.to_string() };
    for (index, entry) in archive.entries().map_err(bad)?.enumerate() {
        let entry = entry.map_err(bad)?;
        let path = entry.path().map_err(bad)?;
        let mut names = path.components().filter(|part| *part != Component::CurDir);
        // The archive begins with the folder itself: as `.`, or by its name.
        let is_own_name =
            names.next().is_none_or(|name| Path::new(folder).file_name() == Some(name.as_os_str()));
        let is_itself =
            index == 0 && is_own_name && names.next().is_none() && entry.header().entry_type().is_dir();
        // A file system of its own has this folder from the start.
        if !is_itself && !path.ends_with("lost+found") {
            return Ok(false);
        }
    }
    Ok(true)
}

enum Entry {
    Text(String),
    Link(String),
    None,
}

fn entry(connected: &Connected, container: &str, path: &str) -> Result<Entry, DockerError> {
    let what = "read a file of the container";
    let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
    let mut archive = Vec::new();
    let fetched = connected.wait(async {
        let mut pieces = connected.api.download_from_container(container, Some(options));
        while let Some(piece) = pieces.next().await {
            archive.extend_from_slice(&piece?);
            if archive.len() > MOST {
                break;
            }
        }
        Ok(())
    });
    match fetched {
        Err(error) if is_absent(&error) => return Ok(Entry::None),
        Err(error) => return Err(connected.explain(what, &error)),
        Ok(()) => {}
    }
    let bad = |error: std::io::Error| DockerError::Refused { what, why: error.to_string() };
    let mut archive = tar::Archive::new(archive.as_slice());
    let Some(found) = archive.entries().map_err(bad)?.next() else { return Ok(Entry::None) };
    let mut found = found.map_err(bad)?;
    if let Some(target) = found.link_name().map_err(bad)? {
        return Ok(Entry::Link(target.to_string_lossy().into_owned()));
    }
    let mut bytes = Vec::new();
    found.read_to_end(&mut bytes).map_err(bad)?;
    Ok(Entry::Text(String::from_utf8_lossy(&bytes).into_owned()))
}
