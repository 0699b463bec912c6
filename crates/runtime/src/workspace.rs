//! The files of a workspace as a step left it: the layers of an overlay, read without mounting it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::cas::Globs;
use crate::remove::remove_tree;

/// A file or link that patterns fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its path in the workspace.
    pub(crate) path: PathBuf,
    /// Where it lies.
    pub(crate) at: PathBuf,
}

/// What patterns came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Matches {
    /// The files and links, sorted by path.
    pub(crate) files: Vec<Found>,
    /// The places of the patterns that fit nothing.
    pub(crate) unmatched: BTreeSet<usize>,
}

/// The files of an overlay that patterns fit; the layers are given lowest first.
pub(crate) fn find(layers: &[PathBuf], globs: &Globs) -> io::Result<Matches> {
    let mut matches = Matches { files: Vec::new(), unmatched: (0..globs.len()).collect() };
    let top_first: Vec<PathBuf> = layers.iter().rev().cloned().collect();
    visit(&top_first, Path::new(""), globs, &mut matches)?;
    Ok(matches)
}

/// Visits a folder of the overlay: these are the folders of that path in the layers, the topmost first.
fn visit(folders: &[PathBuf], path: &Path, globs: &Globs, matches: &mut Matches) -> io::Result<()> {
    let mut names: BTreeMap<OsString, Vec<usize>> = BTreeMap::new();
    for (layer, folder) in folders.iter().enumerate() {
        for entry in fs::read_dir(folder)? {
            names.entry(entry?.file_name()).or_default().push(layer);
        }
    }
    for (name, holders) in names {
        let path = path.join(&name);
        let mut below: Vec<PathBuf> = Vec::new();
        for layer in holders {
            let at = folders[layer].join(&name);
            let metadata = fs::symlink_metadata(&at)?;
            if !metadata.is_dir() {
                if below.is_empty() && !is_whiteout(&metadata) {
                    let fitting = globs.fitting(&path);
                    if !fitting.is_empty() {
                        fitting.iter().for_each(|glob| {
                            matches.unmatched.remove(glob);
                        });
                        matches.files.push(Found { path: path.clone(), at });
                    }
                }
                // Whatever it is, it hides what lies below.
                break;
            }
            let is_opaque = is_opaque(&at);
            below.push(at);
            if is_opaque {
                break;
            }
        }
        if !below.is_empty() {
            globs.fitting(&path).iter().for_each(|glob| {
                matches.unmatched.remove(glob);
            });
            if globs.may_fit_below(&path) {
                visit(&below, &path, globs, matches)?;
            }
        }
    }
    Ok(())
}

/// Takes out of the upper folder of an overlay what no pattern fits, what says that something was deleted included.
pub(crate) fn narrow(upper: &Path, globs: &Globs) -> io::Result<()> {
    narrow_folder(upper, Path::new(""), globs)?;
    Ok(())
}

/// Says whether anything is left.
fn narrow_folder(folder: &Path, path: &Path, globs: &Globs) -> io::Result<bool> {
    let mut is_left = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = path.join(entry.file_name());
        let fits = !globs.fitting(&path).is_empty();
        let is_folder = entry.file_type()?.is_dir();
        let keep = match (is_folder, fits) {
            (_, true) => true,
            (true, false) => globs.may_fit_below(&path) && narrow_folder(&entry.path(), &path, globs)?,
            (false, false) => false,
        };
        if keep {
            is_left = true;
        } else if is_folder {
            remove_tree(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(is_left)
}

/// An overlay takes a character device 0:0 for "there is nothing here".
pub(crate) fn is_whiteout(metadata: &fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Whether a folder hides those of its name in lower layers.
pub(crate) fn is_opaque(folder: &Path) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0_u8; 1];
        rustix::fs::lgetxattr(folder, *name, &mut value).is_ok_and(|length| length == 1 && value[0] == b'y')
    })
}

/// Copies files to a folder, as they are: modes, links, times of change.
pub(crate) fn copy_out(files: &[Found], folder: &Path) -> io::Result<()> {
    for file in files {
        let target = folder.join(&file.path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let metadata = fs::symlink_metadata(&file.at)?;
        if metadata.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&file.at)?, &target)?;
        } else if metadata.is_file() {
            fs::copy(&file.at, &target)?;
            fs::File::options().append(true).open(&target)?.set_modified(metadata.modified()?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn layer(folder: &Path, name: &str, files: &[&str]) -> PathBuf {
        let layer = folder.join(name);
        fs::create_dir_all(&layer).unwrap();
        for file in files {
            match file.strip_prefix('!') {
                None => {
                    fs::create_dir_all(layer.join(file).parent().unwrap()).unwrap();
                    fs::write(layer.join(file), name).unwrap();
                }
                Some(gone) => {
                    fs::create_dir_all(layer.join(gone).parent().unwrap()).unwrap();
                    let path = layer.join(gone);
                    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
                    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
                }
            }
        }
        layer
    }

    fn found(layers: &[PathBuf], patterns: &[&str]) -> (Vec<String>, Vec<usize>) {
        let matches = find(layers, &Globs::new(patterns).unwrap()).unwrap();
        let files = matches
            .files
            .iter()
            .map(|file| format!("{}={}", file.path.display(), fs::read_to_string(&file.at).unwrap()));
        (files.collect(), matches.unmatched.into_iter().collect())
    }

    #[test]
    fn the_topmost_layer_wins_and_what_was_deleted_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let low = layer(folder.path(), "low", &["a", "b", "dist/x", "dist/y", "old/z"]);
        let top = layer(folder.path(), "top", &["b", "!a", "dist/y", "!old"]);
        let layers = [low, top];
        assert_eq!(found(&layers, &["**"]).0, ["b=top", "dist/x=low", "dist/y=top"]);
        assert_eq!(
            found(&layers, &["dist", "a", "no/**"]),
            (vec!["dist/x=low".into(), "dist/y=top".into()], vec![1, 2])
        );
    }

    #[test]
    fn an_opaque_folder_hides_what_lies_below() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let low = layer(folder.path(), "low", &["dist/x"]);
        let top = layer(folder.path(), "top", &["dist/y"]);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(top.join("dist"), "trusted.overlay.opaque", b"y", flags).unwrap();
        assert_eq!(found(&[low, top], &["dist/**"]).0, ["dist/y=top"]);
    }

    #[test]
    fn only_what_patterns_fit_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let upper =
            layer(folder.path(), "u", &["dist/x", "dist/deep/y", "other/z", "!gone", "!dist/was", "top"]);
        narrow(&upper, &Globs::new(&["dist/**", "top"]).unwrap()).unwrap();
        let left = |path: &str| upper.join(path).symlink_metadata().is_ok();
        let seen = ["dist/x", "dist/deep/y", "dist/was", "top", "other", "gone"].map(left);
        assert_eq!(seen, [true, true, true, true, false, false]);
        narrow(&upper, &Globs::new::<&str>(&[]).unwrap()).unwrap();
        assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
    }
}
