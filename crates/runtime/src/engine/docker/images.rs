//! Images on the engine: what a base is called there, what it is now, and how it comes there.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures_util::{Stream, StreamExt};
use setpoint_model::digest::Digest;

use super::client::Connected;
use super::error::DockerError;
use super::{build, features, upload};
use crate::cancel::Cancel;
use crate::engine::{BaseSource, EngineError, Pull};
use crate::events::{Event, Watcher};
use crate::image::{Credentials, ImageStore, missing};

/// The repository of images that are made here of root file systems and archives.
const IMPORTED: &str = "setpoint-import";
/// The repository of images that came in a file instead of from a registry.
const TAKEN_IN: &str = "setpoint-loaded";

/// What a base is called on the engine; nothing for the host, which is no image, and for what depends on an image that is
/// not here.
pub(super) fn name(connected: &Connected, base: &BaseSource) -> Result<Option<String>, EngineError> {
    Ok(match base {
        BaseSource::Host => None,
        BaseSource::Image { reference } if Path::new(reference).is_absolute() => {
            Some(imported(&told_by(Path::new(reference)))?)
        }
        BaseSource::Image { reference } => match taken_in(reference) {
            // What came in a file has no digest of a registry, to an engine that asked none.
            Some(ours) if id(connected, reference)?.is_none() && id(connected, &ours)?.is_some() => {
                Some(ours)
            }
            _ => Some(reference.clone()),
        },
        BaseSource::Build { inputs, .. } => Some(build::name(*inputs)),
        BaseSource::Features { on, features, user } => {
            found(connected, on)?.map(|below| features::name(&below, features, user.as_ref()))
        }
        BaseSource::Rootfs { path } => Some(imported(path)?),
    })
}

/// The id of the image that a base is, if it is here.
pub(super) fn found(connected: &Connected, base: &BaseSource) -> Result<Option<String>, EngineError> {
    match name(connected, base)? {
        Some(name) => Ok(id(connected, &name)?),
        None => Ok(None),
    }
}

/// The name of an image that came in a file instead of from a registry; nothing for a reference that has no digest.
fn taken_in(reference: &str) -> Option<String> {
    let (_, digest) = reference.split_once("@sha256:")?;
    Some(format!("{TAKEN_IN}:{}", digest.get(..24)?))
}

/// The file that is another one whenever the image at a path is: of a layout its index, for a folder's own times do not
/// tell what was written in it.
fn told_by(path: &Path) -> PathBuf {
    let index = path.join("index.json");
    if index.is_file() { index } else { path.to_owned() }
}

/// The name of what is made of a file or folder, which is another one whenever that was changed.
fn imported(path: &Path) -> Result<String, EngineError> {
    let metadata = path.metadata().map_err(|error| missing(path, error))?;
    let stat = format!(
        "{} {} {} {} {}.{:09}",
        path.display(),
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    Ok(format!("{IMPORTED}:{}", &Digest::of_bytes(stat.as_bytes()).to_hex()[..24]))
}

/// The id of an image that is there.
pub(super) fn id(connected: &Connected, name: &str) -> Result<Option<String>, DockerError> {
    let found = connected.find("look at an image", connected.api.inspect_image(name))?;
    Ok(found.and_then(|image| image.id))
}

/// Makes a base available, and gives the image's id; nothing for the host. What has to be spread on the way is spread
/// in the store.
pub(super) fn ensure(
    connected: &Connected,
    store: &ImageStore,
    variables: &BTreeMap<String, String>,
    base: &BaseSource,
    pull: Pull,
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<Option<String>, EngineError> {
    if let BaseSource::Features { on, .. } = base {
        ensure(connected, store, variables, on, pull, watcher, cancel)?;
    }
    let Some(name) = name(connected, base)? else { return Ok(None) };
    let is_here = id(connected, &name)?;
    if let BaseSource::Build { build, project, inputs } = base {
        if is_here.is_none() || pull == Pull::Always {
            build::build(connected, variables, (build, project, *inputs), pull, watcher, cancel)?;
        }
        return Ok(id(connected, &name)?);
    }
    if let BaseSource::Features { on, features, user } = base {
        if is_here.is_none() {
            let below = self::name(connected, on)?.unwrap_or_default();
            features::build(connected, &below, &name, features, user.as_ref(), watcher, cancel)?;
        }
        return Ok(id(connected, &name)?);
    }
    let has_registry = matches!(base, BaseSource::Image { reference } if !Path::new(reference).is_absolute());
    match (is_here, has_registry) {
        (Some(id), false) => return Ok(Some(id)),
        (Some(id), true) if pull == Pull::Missing => return Ok(Some(id)),
        (_, true) => fetch(connected, variables, &name, watcher, cancel)?,
        (None, false) => match base {
            BaseSource::Rootfs { path } => import(connected, path, &name, cancel)?,
            BaseSource::Image { reference } => {
                load(connected, store, Path::new(reference), &name, watcher, cancel)?
            }
            BaseSource::Host | BaseSource::Build { .. } | BaseSource::Features { .. } => {}
        },
    }
    let missing = || DockerError::Image { reference: name.clone(), why: "it is not there".to_owned() };
    Ok(Some(id(connected, &name)?.ok_or_else(missing)?))
}

/// Asks the image's registry, and fetches what is not here.
fn fetch(
    connected: &Connected,
    variables: &BTreeMap<String, String>,
    reference: &str,
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let (registry, reference_in_full) = Credentials::registry_of(reference)?;
    let login = Credentials::from_env(variables).login(&registry)?;
    let credentials = login.map(|(username, password)| DockerCredentials {
        username: Some(username),
        password: Some(password),
        serveraddress: Some(registry),
        ..DockerCredentials::default()
    });
    let options = CreateImageOptionsBuilder::default().from_image(&reference_in_full).build();
    let stream = connected.api.create_image(Some(options), None, credentials);
    let refused = |why: String| DockerError::Image { reference: reference.to_owned(), why };
    Ok(follow(connected, stream, watcher, cancel).map_err(|error| match error {
        DockerError::Refused { why, .. } => refused(why),
        other => other,
    })?)
}

/// What comes next, unless somebody asks to stop before.
fn next<T>(
    connected: &Connected,
    stream: &mut (impl Stream<Item = Result<T, bollard::errors::Error>> + Unpin),
    what: &'static str,
    cancel: &Cancel,
) -> Result<Option<T>, DockerError> {
    loop {
        let tick = std::time::Duration::from_millis(50);
        let next = connected.wait(async { tokio::time::timeout(tick, stream.next()).await });
        if cancel.asked() {
            return Err(DockerError::Refused { what, why: "stopped".to_owned() });
        }
        if let Ok(next) = next {
            return next.transpose().map_err(|error| connected.explain(what, &error));
        }
    }
}

/// Tells how far a fetch is, until it ends.
fn follow(
    connected: &Connected,
    stream: impl Stream<Item = Result<CreateImageInfo, bollard::errors::Error>>,
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<(), DockerError> {
    let what = "fetch an image";
    let mut stream = std::pin::pin!(stream);
    let mut layers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    while let Some(info) = next(connected, &mut stream, what, cancel)? {
        let progress =
            info.progress_detail.as_ref().filter(|_| info.status.as_deref() == Some("Downloading"));
        if let (Some(layer), Some(progress)) = (info.id, progress) {
            let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
            layers.insert(layer, (number(progress.current), number(progress.total)));
            let sum = |part: fn(&(u64, u64)) -> u64| layers.values().map(part).sum();
            watcher.event(&Event::Bytes { done: sum(|layer| layer.0), total: Some(sum(|layer| layer.1)) });
        }
    }
    Ok(())
}

/// Makes an image of a root file system.
fn import(connected: &Connected, path: &Path, name: &str, cancel: &Cancel) -> Result<(), EngineError> {
    let what = "import a root file system";
    let options = CreateImageOptionsBuilder::default().from_src("-").build();
    let body = bollard::body_try_stream(archive_of(path));
    let stream = connected.api.create_image(Some(options), Some(body), None);
    let mut stream = std::pin::pin!(stream);
    let mut made = None;
    while let Some(info) = next(connected, &mut stream, what, cancel)? {
        made = info.status.or(info.id).or(made);
    }
    let why = || "the engine did not say which image it made".to_owned();
    let made = made.ok_or_else(|| DockerError::Refused { what, why: why() })?;
    // Not every engine heeds a name that is asked for on the way.
    call(connected, made.trim(), name)
}

/// Gives an image a name.
pub(super) fn call(connected: &Connected, image: &str, name: &str) -> Result<(), EngineError> {
    let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
    let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
    connected.quick("name an image", connected.api.tag_image(image, Some(options)))?;
    Ok(())
}

/// Loads a layout, or an archive of one or of what `docker save` made of old, and calls its image by our name.
fn load(
    connected: &Connected,
    store: &ImageStore,
    path: &Path,
    name: &str,
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let progress = |done, total| watcher.event(&Event::Bytes { done, total });
    let bundle = store.bundle(path, &progress, &|| cancel.asked())?;
    let path = path.to_owned();
    let shown = path.display().to_string();
    let write = move |to: &mut dyn Write| match bundle {
        Some(bundle) => bundle.write(to),
        None => copy(&path, to),
    };
    send(connected, write, &shown, name, cancel)
}

/// Takes an image in that lies in a layout, and calls it by our name.
pub(super) fn take_in(
    connected: &Connected,
    store: &ImageStore,
    reference: &str,
    (layout, digest): (&Path, &str),
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let progress = |done, total| watcher.event(&Event::Bytes { done, total });
    let name = taken_in(reference).unwrap_or_else(|| reference.to_owned());
    let bundle = store.bundle_of(layout, digest, &progress, &|| cancel.asked())?;
    send(connected, move |to: &mut dyn Write| bundle.write(to), reference, &name, cancel)
}

/// Sends an archive to the engine, and calls its image by our name.
fn send(
    connected: &Connected,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    shown: &str,
    name: &str,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let what = "load an image";
    let options = ImportImageOptionsBuilder::default().quiet(true).build();
    let mut loaded = None;
    {
        let body = bollard::body_try_stream(upload::stream(write));
        let stream = connected.api.import_image(options, body, None);
        let mut stream = std::pin::pin!(stream);
        while let Some(info) = next(connected, &mut stream, what, cancel)? {
            let said = info.stream.unwrap_or_default();
            let reference = said.split_once(": ").map(|(_, reference)| reference.trim().to_owned());
            loaded = reference.filter(|_| said.starts_with("Loaded image")).or(loaded);
        }
    }
    let Some(loaded) = loaded else {
        let why = "the archive holds none".to_owned();
        return Err(DockerError::Image { reference: shown.to_owned(), why }.into());
    };
    call(connected, &loaded, name)
}

/// Saves an image to a file.
pub(super) fn save(
    connected: &Connected,
    base: &BaseSource,
    to: &Path,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let what = "save an image";
    let missing = || DockerError::Refused { what, why: "it is not there".to_owned() };
    let name = name(connected, base)?.ok_or_else(missing)?;
    let mut stream = std::pin::pin!(connected.api.export_image(&name));
    let mut file = std::fs::File::create(to).map_err(EngineError::io("write", to))?;
    while let Some(piece) = next(connected, &mut stream, what, cancel)? {
        file.write_all(&piece).map_err(EngineError::io("write", to))?;
    }
    Ok(())
}

/// The bytes of an archive, or of one that is made of a folder on the way.
fn archive_of(path: &Path) -> impl Stream<Item = io::Result<bytes::Bytes>> + Send + use<> {
    let path = path.to_owned();
    upload::stream(move |to| if path.is_dir() { upload::folder(&path, to) } else { copy(&path, to) })
}

fn copy(path: &Path, to: &mut dyn Write) -> io::Result<()> {
    std::fs::File::open(path).and_then(|mut file| io::copy(&mut file, to).map(drop))
}
