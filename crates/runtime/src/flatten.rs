//! Several layers of an overlay as one: what a mount of them would show, and what it would hide of that below them.
//! Files are linked, for layers never change.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use crate::workspace::{is_opaque, is_whiteout};

/// Makes a folder of layers, which are given the lowest first.
pub(crate) fn flatten(layers: &[PathBuf], into: &Path) -> io::Result<()> {
    let top_first: Vec<PathBuf> = layers.iter().rev().cloned().collect();
    let Some(top) = top_first.first() else { return Ok(()) };
    make_like(&fs::symlink_metadata(top)?, into)?;
    merge(&top_first, into)
}

/// Fills a folder with what these folders hold, the topmost first.
fn merge(folders: &[PathBuf], into: &Path) -> io::Result<()> {
    let mut names: BTreeMap<OsString, Vec<usize>> = BTreeMap::new();
    for (layer, folder) in folders.iter().enumerate() {
        for entry in fs::read_dir(folder)? {
            names.entry(entry?.file_name()).or_default().push(layer);
        }
    }
    for (name, holders) in names {
        let target = into.join(&name);
        let places: Vec<PathBuf> = holders.iter().map(|layer| folders[*layer].join(&name)).collect();
        let top = fs::symlink_metadata(&places[0])?;
        if is_whiteout(&top) {
            rustix::fs::mknodat(CWD, &target, FileType::CharacterDevice, Mode::empty(), 0)?;
        } else if !top.is_dir() {
            fs::hard_link(&places[0], &target)?;
        } else {
            let (below, hides) = merged(&places)?;
            make_like(&top, &target)?;
            merge(&below, &target)?;
            if hides {
                hide_what_lies_below(&target)?;
            }
        }
    }
    Ok(())
}

/// Of places with a folder on top: those that are shown as one folder, and whether it hides what lies below all of
/// them.
fn merged(places: &[PathBuf]) -> io::Result<(Vec<PathBuf>, bool)> {
    let mut shown = Vec::new();
    for place in places {
        if !fs::symlink_metadata(place)?.is_dir() {
            return Ok((shown, true));
        }
        shown.push(place.clone());
        if is_opaque(place) {
            return Ok((shown, true));
        }
    }
    Ok((shown, false))
}

fn make_like(model: &Metadata, folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    if rustix::process::geteuid().is_root() {
        chown(folder, Some(model.uid()), Some(model.gid()))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(model.mode() & 0o7777))
}

fn hide_what_lies_below(folder: &Path) -> io::Result<()> {
    let name =
        if rustix::process::geteuid().is_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
    Ok(rustix::fs::lsetxattr(folder, name, b"y", XattrFlags::empty())?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// A layer: `path` is a file, `!path` says that it is gone, `path/` is a folder that hides those below.
    fn layer(place: &Path, name: &str, files: &[&str]) -> PathBuf {
        let layer = place.join(name);
        fs::create_dir(&layer).unwrap();
        for file in files {
            let path = layer.join(file.trim_start_matches('!').trim_end_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if file.starts_with('!') {
                rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            } else if file.ends_with('/') {
                fs::create_dir_all(&path).unwrap();
                hide_what_lies_below(&path).unwrap();
            } else {
                fs::write(&path, name).unwrap();
            }
        }
        layer
    }

    fn told(folder: &Path, prefix: &str) -> Vec<String> {
        let mut told = Vec::new();
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let metadata = entry.metadata().unwrap();
            if is_whiteout(&metadata) {
                told.push(format!("!{path}"));
            } else if metadata.is_dir() {
                if is_opaque(&entry.path()) {
                    told.push(format!("{path}/"));
                }
                told.extend(self::told(&entry.path(), &format!("{path}/")));
            } else {
                told.push(format!("{path}={}", fs::read_to_string(entry.path()).unwrap()));
            }
        }
        told
    }

    #[test]
    fn the_topmost_wins_and_what_is_hidden_stays_hidden() {
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        let layers = [
            layer(place.path(), "low", &["a", "d/x", "d/y", "e/x", "f/x", "g/x"]),
            layer(place.path(), "mid", &["b", "!a", "d/x", "e/", "!f", "!g"]),
            layer(place.path(), "top", &["b", "!d/y", "e/new", "f/new", "!gone"]),
        ];
        let into = place.path().join("into");
        flatten(&layers, &into).unwrap();
        let expected =
            ["!a", "b=top", "d/x=mid", "!d/y", "e/", "e/new=top", "f/", "f/new=top", "!g", "!gone"];
        assert_eq!(told(&into, ""), expected);
    }
}
