//! Named volumes: folders of the state that outlive the units that have them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use setpoint_model::container::{Container, ContainerMount, MountSource};
use setpoint_model::digest::Digest;
use setpoint_model::import::compose::Volume;
use setpoint_sandbox as sandbox;

use super::{Embedded, UnitFile, unsupported};
use crate::cancel::Cancel;
use crate::engine::{BaseSource, EngineError, HeldVolume, NewVolume, UnitId, UnitSpec, kept};
use crate::paths::make_private_folder;
use crate::room::{self, NoRoom, Room};
use crate::{image, piece, random, tree_copy, tree_tar};

const VOLUMES: &str = "volumes/v1";
/// What appears inside.
const DATA: &str = "data";
const ABOUT: &str = "volume.json";
/// In a unit's folder: volumes of its own, that go with it.
const OWN: &str = "volumes";

/// What is kept of a volume beside its files.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    version: u32,
    /// The project that it was made for; nobody in particular's if absent.
    project_root: Option<PathBuf>,
    /// What tells it from a later one of its name; one of an earlier version has none.
    #[serde(default)]
    id: String,
}

/// Whether it can be the name of a volume: as Docker has it.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 200
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// What of volumes appears in a unit; they are made where they are not there.
pub(super) fn mounts(
    engine: &Embedded,
    unit: &UnitId,
    spec: &UnitSpec,
) -> Result<Vec<sandbox::Mount>, EngineError> {
    let mut mounts = Vec::new();
    for mount in &spec.container.mounts {
        let MountSource::Volume { name, no_copy, .. } = &mount.source else { continue };
        let source = match name {
            Some(name) => ensure(engine, name, spec)?,
            None => make(&own(engine, unit, &mount.target))?,
        };
        mounts.push(sandbox::Mount {
            source,
            target: PathBuf::from(&mount.target),
            read_only: mount.read_only,
            takes_what_is_there: !no_copy,
        });
    }
    Ok(mounts)
}

/// The folder of a volume that goes with its unit.
fn own(engine: &Embedded, unit: &UnitId, target: &str) -> PathBuf {
    let normal: PathBuf = Path::new(target).components().collect();
    engine.folder(unit).join(OWN).join(Digest::of_bytes(normal.as_os_str().as_encoded_bytes()).short())
}

/// The volumes that a unit was started with.
pub(super) fn held(container: &Container) -> Vec<HeldVolume> {
    let volume = |mount: &ContainerMount| match &mount.source {
        MountSource::Volume { name, .. } => {
            Some(HeldVolume { name: name.clone(), target: PathBuf::from(&mount.target) })
        }
        _ => None,
    };
    container.mounts.iter().filter_map(volume).collect()
}

/// Whether nothing is in a folder of a unit.
pub(super) fn is_empty(
    engine: &Embedded,
    unit: &UnitId,
    file: &UnitFile,
    folder: &Path,
) -> Result<bool, EngineError> {
    let volume = held(&file.container).into_iter().find_map(|held| {
        let rest = folder.strip_prefix(&held.target).ok()?.to_owned();
        let volume = match held.name {
            Some(name) => engine.roots.state.join(VOLUMES).join(name),
            None => own(engine, unit, &held.target.to_string_lossy()),
        };
        Some(volume.join(DATA).join(rest))
    });
    let layer = engine.folder(unit).join("fs");
    let inside = folder.strip_prefix("/").unwrap_or(folder);
    // A view of the host has a layer for each of its top folders.
    let mut parts = inside.components();
    let top = parts.next().map(|top| Path::new(top.as_os_str()).to_owned()).unwrap_or_default();
    let path = volume.unwrap_or_else(|| match file.base {
        BaseSource::Host => layer.join(top).join("upper").join(parts.as_path()),
        _ => layer.join("upper").join(inside),
    });
    match fs::read_dir(&path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(true),
        Err(error) => Err(EngineError::io("read", &path)(error)),
    }
}

/// The folder of a volume.
fn ensure(engine: &Embedded, name: &str, spec: &UnitSpec) -> Result<PathBuf, EngineError> {
    let volume = engine.roots.state.join(VOLUMES).join(name);
    let data = volume.join(DATA);
    if data.is_dir() {
        return Ok(data);
    }
    let declared = spec.volumes.iter().find(|declared| declared.name == name);
    make_private_folder(&volume).map_err(EngineError::io("make", &volume))?;
    let project_root = declared.map(|_| spec.labels.project_root.clone());
    let about = About { version: 1, project_root, id: random::hex() };
    kept::write(&volume.join(ABOUT), &about)?;
    // Last: a volume with its folder is whole.
    make(&volume)
}

/// What appears of the volume in this folder, made where it is not there: open to everybody who gets into it.
fn make(volume: &Path) -> Result<PathBuf, EngineError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(volume).map_err(EngineError::io("make", volume))?;
    let data = volume.join(DATA);
    // Only by whoever made it: its owner may have changed it since.
    match fs::create_dir(&data) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(EngineError::io("make", &data)(error)),
        Ok(()) => {
            fs::set_permissions(&data, fs::Permissions::from_mode(0o755))
                .map_err(EngineError::io("make", &data))?;
        }
    }
    Ok(data)
}

/// Says whether a unit's volumes can be had.
pub(super) fn check(engine: &Embedded, spec: &UnitSpec) -> Result<(), EngineError> {
    let is_missing =
        |volume: &&Volume| volume.external && !engine.roots.state.join(VOLUMES).join(&volume.name).is_dir();
    match spec.volumes.iter().find(is_missing) {
        None => Ok(()),
        Some(volume) => Err(unsupported(
            &format!("mounting the volume {}, which is declared as external and is not there", volume.name),
            "take `external` out, so that it is made",
        )),
    }
}

/// The volumes that were made for a project.
pub(super) fn of_project(state: &Path, project_root: &Path) -> Result<Vec<String>, EngineError> {
    let folder = state.join(VOLUMES);
    let mut names = kept::entries(&folder)?;
    names.retain(|name| {
        // One whose record is damaged is nobody's in particular.
        let about = kept::read::<About>(&folder.join(name).join(ABOUT)).ok().flatten();
        about.and_then(|about| about.project_root).is_some_and(|of| of == project_root)
    });
    Ok(names)
}

/// What tells each of these volumes from a later one of its name.
pub(super) fn ids(state: &Path, names: &[String]) -> Result<BTreeMap<String, String>, EngineError> {
    let mut ids = BTreeMap::new();
    for name in names.iter().filter(|name| is_name(name)) {
        let volume = state.join(VOLUMES).join(name);
        if !volume.join(DATA).is_dir() {
            continue;
        }
        let about = kept::read::<About>(&volume.join(ABOUT))?;
        ids.insert(name.clone(), about.map(|about| about.id).unwrap_or_default());
    }
    Ok(ids)
}

/// Where the data of each of these volumes lies that are there.
pub(super) fn folders(state: &Path, names: &[String]) -> BTreeMap<String, PathBuf> {
    let named = names.iter().filter(|name| is_name(name));
    let folder = named.map(|name| (name.clone(), state.join(VOLUMES).join(name).join(DATA)));
    folder.filter(|(_, folder)| folder.is_dir()).collect()
}

/// Copies a volume into a new one, with all that tells what it is.
pub(super) fn copy(state: &Path, from: &str, to: &str, cancel: &Cancel) -> Result<(), EngineError> {
    let folder = state.join(VOLUMES);
    let (from, to) = (folder.join(from), folder.join(to));
    let new = to.with_file_name(format!(".new-{}", to.file_name().unwrap_or_default().to_string_lossy()));
    kept::remove_tree(&new)?;
    kept::remove(&to)?;
    let copied = tree_copy::copy(&from, &new, cancel);
    whole_or_not(&new, copied).map_err(|error| match error {
        EngineError::Io { source, .. } if room::is_full(&source) => no_room(&from, &to),
        error => error,
    })?;
    fs::rename(&new, &to).map_err(EngineError::io("make", &to))?;
    tree_copy::sync(&to)
}

/// Removes what there is of a volume that could not be made whole: whoever goes back needs the room that it takes.
fn whole_or_not<T>(new: &Path, made: Result<T, EngineError>) -> Result<T, EngineError> {
    if made.is_err() {
        // Why it failed says more than that its remains could not be removed: these go with the next removal of it.
        let _ = kept::remove_tree(new);
    }
    made
}

/// There is not enough room to copy a volume.
fn no_room(from: &Path, to: &Path) -> EngineError {
    let what = format!("a copy of the volume {}", from.file_name().unwrap_or_default().to_string_lossy());
    let needed = tree_copy::size(from);
    match Room::of(to) {
        Ok(room) if room.free < needed => NoRoom { what, needed, room }.into(),
        // There is again by now, or it is files that there is no room for.
        _ => EngineError::io("write", to)(ErrorKind::StorageFull.into()),
    }
}

/// The files of a volume, as an archive.
pub(super) fn read(state: &Path, name: &str) -> Result<Box<dyn Read + Send>, EngineError> {
    let data = state.join(VOLUMES).join(name).join(DATA);
    data.read_dir().map_err(EngineError::io("read", &data))?;
    Ok(Box::new(piece::written(move |to| tree_tar::write(&data, to))))
}

/// Makes a volume and fills it from an archive.
pub(super) fn fill(
    state: &Path,
    volume: &NewVolume<'_>,
    from: Box<dyn Read + Send>,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let name = &volume.declared.name;
    let to = state.join(VOLUMES).join(name);
    let new = to.with_file_name(format!(".new-{name}"));
    kept::remove_tree(&new)?;
    kept::remove(&to)?;
    make_private_folder(&new).map_err(EngineError::io("make", &new))?;
    make(&new)?;
    let filled = image::volume(from, &new.join(DATA), &format!("of the volume {name}"), &|| cancel.asked());
    whole_or_not(&new, filled.map_err(EngineError::from))?;
    let about = About { version: 1, project_root: Some(volume.owner.to_owned()), id: volume.id.to_owned() };
    kept::write(&new.join(ABOUT), &about)?;
    fs::rename(&new, &to).map_err(EngineError::io("make", &to))?;
    tree_copy::sync(&to)
}

/// Removes a volume with all that is in it.
pub(super) fn remove(engine: &Embedded, name: &str) -> Result<(), EngineError> {
    if !is_name(name) {
        return Err(unsupported(&format!("a volume of the name `{name}`"), "use letters, digits and `_.-`"));
    }
    if let Some(unit) = user(engine, name)? {
        return Err(EngineError::VolumeInUse { volume: name.to_owned(), unit });
    }
    let volume = engine.roots.state.join(VOLUMES).join(name);
    // What somebody died filling goes with it.
    kept::remove_tree(&volume.with_file_name(format!(".new-{name}")))?;
    kept::remove(&volume)
}

/// A unit that has this volume.
fn user(engine: &Embedded, name: &str) -> Result<Option<String>, EngineError> {
    use crate::engine::Engine as _;
    for (id, labels) in engine.units()? {
        let file = engine.known(&id)?;
        let is_it =
            |source: &MountSource| matches!(source, MountSource::Volume { name: Some(of), .. } if of == name);
        if file.container.mounts.iter().any(|mount| is_it(&mount.source)) {
            return Ok(Some(labels.unit.to_string()));
        }
    }
    Ok(None)
}
