//! What is on the host where migrations change it: saved before, and put back where a change is undone or gone back from.
//!
//! What is saved of a path counts when its entry is written, which is last; all that was saved in a generation goes by one
//! rename. So whoever is cut off may begin again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use setpoint_model::digest::Digest;

use super::host::{mounted_in, without_links};
use crate::cancel::Cancel;
use crate::engine::EngineError;
use crate::paths::{Roots, make_lasting_folder, project_key, sync_folder};
use crate::remove::remove_all;
use crate::{failpoints, secrets, tree_copy};

/// Where it lies, for the eyes of who upgrades alone: there may be secrets in it.
const FOLDER: &str = "saved/v1";
const ENTRY: &str = "entry.json";
const COPY: &str = "copy";
/// What the folder of a generation is called that is about to go.
const GONE: &str = "gone";

/// What is saved of the host for a project.
pub(super) struct Saved<'a> {
    pub(super) roots: &'a Roots,
    pub(super) root: &'a Path,
}

/// What was saved of a path.
#[derive(Serialize, Deserialize)]
struct Entry {
    path: String,
    was_there: bool,
}

impl Saved<'_> {
    /// The folder of all of it.
    pub(super) fn all(&self) -> PathBuf {
        self.roots.state.join(FOLDER).join(project_key(self.root, None).to_string())
    }

    /// The folder of what is saved in a generation.
    pub(super) fn folder(&self, generation: u64) -> PathBuf {
        self.all().join(generation.to_string())
    }

    fn place(&self, generation: u64, path: &str) -> PathBuf {
        self.folder(generation).join(Digest::of_bytes(path.as_bytes()).to_hex())
    }

    /// Saves a path as it is, with everything in it, or that nothing is there.
    pub(super) fn save(&self, generation: u64, path: &str, cancel: &Cancel) -> Result<(), EngineError> {
        let (place, path) = (self.place(generation, path), Path::new(path));
        let failed = |what: &'static str| EngineError::io(what, path);
        remove_all(&place).map_err(EngineError::io("remove", &place))?;
        make_lasting_folder(&place).map_err(EngineError::io("make the folder", &place))?;
        check_in_place(path)?;
        let was_there = is_there(path).map_err(failed("look at"))?;
        if was_there {
            let copy = place.join(COPY);
            tree_copy::copy(path, &copy, cancel)?;
            failpoints::at("save.copied");
            if let Some(unlike) = unlike(path, &copy).map_err(failed("save"))? {
                let why =
                    "its copy has not its kind, owner, rights and length, so that it could not be put back";
                return Err(EngineError::io("save", &unlike)(io::Error::other(why)));
            }
            tree_copy::sync(&place)?;
        }
        let entry = Entry { path: path.to_string_lossy().into_owned(), was_there };
        let json = serde_json::to_vec(&entry).map_err(|error| failed("save")(error.into()))?;
        secrets::write_private(&place.join(ENTRY), &json, false).map_err(failed("save"))?;
        sync_folder(&place).map_err(failed("save"))
    }

    /// Whether a path was saved in a generation.
    pub(super) fn has(&self, generation: u64, path: &str) -> bool {
        self.place(generation, path).join(ENTRY).exists()
    }

    /// Puts a path back as it was in a generation, if it was saved then, which is told.
    pub(super) fn put(&self, generation: u64, path: &str, cancel: &Cancel) -> Result<bool, EngineError> {
        let (place, path) = (self.place(generation, path), Path::new(path));
        let failed = |what: &'static str| EngineError::io(what, path);
        let entry: Entry = match fs::read(place.join(ENTRY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            read => {
                let json = read.map_err(failed("read what was saved of"))?;
                let damaged = |error: serde_json::Error| failed("read what was saved of")(error.into());
                serde_json::from_slice(&json).map_err(damaged)?
            }
        };
        check_in_place(path)?;
        remove_all(path).map_err(failed("remove"))?;
        failpoints::at("put.removed");
        let parent = path.parent().unwrap_or(Path::new("/"));
        if entry.was_there {
            fs::create_dir_all(parent).map_err(EngineError::io("make the folder", parent))?;
            tree_copy::copy(&place.join(COPY), path, cancel)?;
            failpoints::at("put.copied");
        }
        sync_near(parent)?;
        Ok(true)
    }

    /// Removes what was saved in a generation.
    pub(super) fn forget(&self, generation: u64) -> Result<(), EngineError> {
        let (folder, gone) = (self.folder(generation), self.all().join(GONE));
        let failed = EngineError::io("remove", &folder);
        let removed = remove_all(&gone).and_then(|()| match fs::rename(&folder, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved.and_then(|()| sync_folder(&self.all())).and_then(|()| remove_all(&gone)),
        });
        removed.map_err(failed)
    }

    /// Removes what was saved in generations before this one.
    pub(super) fn forget_before(&self, generation: u64) -> Result<(), EngineError> {
        let failed = |error| EngineError::io("read", &self.all())(error);
        let entries = match fs::read_dir(self.all()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
            if let Some(number) = number.filter(|number| *number < generation) {
                self.forget(number)?;
            }
        }
        Ok(())
    }

    /// Removes all of it.
    pub(super) fn forget_all(&self) -> io::Result<()> {
        remove_all(&self.all())
    }
}

/// Waits until what lies below a folder is on the disk; the nearest one above, if it is not there.
pub(super) fn sync_near(folder: &Path) -> Result<(), EngineError> {
    folder.ancestors().find(|folder| folder.is_dir()).map_or(Ok(()), tree_copy::sync)
}

/// Whether the way to a path still leads through no link, and nothing is mounted there: what lies behind one that came since
/// is somebody else's.
fn check_in_place(path: &Path) -> Result<(), EngineError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let found = without_links(parent).map_err(EngineError::io("find", path))?;
    let why = match mounted_in(path).map_err(EngineError::io("find", path))? {
        _ if found != parent => format!("a link on the way to it leads to {} by now", found.display()),
        Some(mount) => format!("something is mounted at {}: unmount it, then try again", mount.display()),
        None => return Ok(()),
    };
    Err(EngineError::io("find", path)(io::Error::other(why)))
}

fn is_there(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true),
    }
}

/// The first file whose copy is of another kind, owner, rights or length.
fn unlike(path: &Path, copy: &Path) -> io::Result<Option<PathBuf>> {
    let (of, by) = (path.symlink_metadata()?, copy.symlink_metadata()?);
    let about = |of: &fs::Metadata| (of.file_type(), of.mode(), of.uid(), of.gid(), of.rdev());
    if about(&of) != about(&by) || (of.is_file() && of.len() != by.len()) {
        return Ok(Some(path.to_owned()));
    }
    if of.is_dir() {
        let mut entries = 0;
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            entries += 1;
            if let Some(found) = unlike(&path.join(&name), &copy.join(&name))? {
                return Ok(Some(found));
            }
        }
        if fs::read_dir(copy)?.count() != entries {
            return Ok(Some(path.to_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn roots(state: &Path) -> Roots {
        Roots { state: state.to_owned(), config: state.to_owned() }
    }

    /// What a folder holds, with rights and the times of files.
    fn print(path: &Path) -> String {
        let Ok(of) = path.symlink_metadata() else { return String::new() };
        let mut said = format!("{} {:o} {}:{}", path.display(), of.mode(), of.uid(), of.gid());
        if of.is_symlink() {
            said.push_str(&format!(" {:?}", fs::read_link(path).unwrap()));
        } else if of.is_dir() {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            names.iter().for_each(|path| said.push_str(&format!("\n{}", print(path))));
        } else if of.is_file() {
            said.push_str(&format!(" {} {:?}", of.mtime_nsec(), fs::read(path).unwrap()));
        }
        said
    }

    #[test]
    fn what_was_saved_is_put_back_as_it_was_as_often_as_it_takes() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().canonicalize().unwrap();
        let (roots, root, cancel) = (roots(&base.join("state")), base.join("shop"), Cancel::default());
        let saved = Saved { roots: &roots, root: &root };
        let path = |name: &str| base.join("srv").join(name).to_str().unwrap().to_owned();
        let [folder, file, link, absent, fifo] = ["folder", "file", "link", "absent/deep", "fifo"].map(path);
        fs::create_dir_all(Path::new(&folder).join("a/b")).unwrap();
        fs::write(Path::new(&folder).join("a/b/secret"), "x").unwrap();
        fs::set_permissions(Path::new(&folder).join("a/b"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("nowhere", &link).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let before = print(&base.join("srv"));
        let all = [&folder, &file, &link, &absent, &fifo];
        all.iter().for_each(|path| saved.save(3, path, &cancel).unwrap());
        assert_eq!(saved.folder(3).metadata().unwrap().mode() & 0o077, 0, "there may be secrets in it");

        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        remove_all(Path::new(&folder)).unwrap();
        symlink(&file, &folder).unwrap();
        fs::remove_file(&link).unwrap();
        fs::create_dir_all(&absent).unwrap();
        for _ in 0..2 {
            assert!(all.iter().all(|path| saved.put(3, path, &cancel).unwrap()));
            // Who made the folder above it was told nothing of.
            let _ = fs::remove_dir(base.join("srv/absent"));
            assert_eq!(print(&base.join("srv")), before);
        }

        // What was not saved, or is not any more, is left as it is.
        saved.forget_before(3).unwrap();
        assert!(!saved.put(2, &file, &cancel).unwrap() && saved.has(3, &file));
        fs::write(&file, "new").unwrap();
        saved.forget(3).unwrap();
        assert!(!saved.put(3, &file, &cancel).unwrap() && !saved.has(3, &file));
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        saved.forget(3).unwrap();
        saved.forget_all().unwrap();
        assert!(!saved.all().exists());
    }

    #[test]
    fn a_link_that_came_on_the_way_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().canonicalize().unwrap();
        let (roots, root, cancel) = (roots(&base.join("state")), base.join("shop"), Cancel::default());
        let saved = Saved { roots: &roots, root: &root };
        fs::create_dir_all(base.join("srv/conf")).unwrap();
        fs::create_dir(base.join("others")).unwrap();
        fs::write(base.join("others/a"), "theirs").unwrap();
        let path = base.join("srv/conf/a").to_str().unwrap().to_owned();
        saved.save(1, &path, &cancel).unwrap();
        fs::remove_dir(base.join("srv/conf")).unwrap();
        symlink(base.join("others"), base.join("srv/conf")).unwrap();
        let error = saved.put(1, &path, &cancel).unwrap_err().to_string();
        assert!(error.contains("others by now"), "{error}");
        assert_eq!(fs::read_to_string(base.join("others/a")).unwrap(), "theirs");
    }
}
