//! Named volumes copied, read and filled, by the engine itself: so it does not matter where they lie, nor whose they are.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bollard::{body_try_stream, errors::Error};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};

use super::client::Connected;
use super::error::DockerError;
use super::{Docker, Flavor, images, resources, upload};
use crate::cancel::Cancel;
use crate::engine::{BaseSource, EngineError, NewVolume, UnitId};
use crate::{piece, tree_tar};

const COPYING: &str = "copy a volume";
const READING: &str = "read a volume";
const FILLING: &str = "fill a volume";
/// Where a volume appears in the container that is there to copy it.
const INSIDE: &str = "/volume";
/// How often is looked whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Copies a volume into a new one.
pub(super) fn volume(
    engine: &Docker,
    unit: &UnitId,
    base: &BaseSource,
    from: &str,
    to: &str,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let connected = engine.connected()?;
    let found = connected.find(COPYING, connected.api.inspect_volume(from))?;
    let found = found.ok_or_else(|| absent(COPYING, from))?;
    let image = image_of(engine, unit, base, COPYING)?;
    resources::remove_volume(connected, to)?;
    let request = VolumeCreateRequest {
        name: Some(to.to_owned()),
        driver: Some(found.driver.clone()),
        driver_opts: Some(found.options.clone()),
        labels: Some(resources::labels_of_copy(connected, &found)?),
        ..VolumeCreateRequest::default()
    };
    connected.quick(COPYING, connected.api.create_volume(request))?;
    // The engine lets nobody write to a container while somebody reads from it.
    let pieces: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> = match at_hand(connected, &found) {
        Some(folder) => Box::pin(upload::stream(move |to| tree_tar::write(&folder, to))),
        None => {
            let source = beside(connected, COPYING, &image, from, true, to)?;
            Box::pin(download(connected, &source).map_err(io::Error::other))
        }
    };
    let target = beside(connected, COPYING, &image, to, false, to)?;
    let copied = upload(connected, COPYING, &target, pieces, cancel);
    whole_or_not(connected, to, copied)
}

/// The image of a unit, or of what it is built on where it is not there.
fn image_of(
    engine: &Docker,
    unit: &UnitId,
    base: &BaseSource,
    what: &'static str,
) -> Result<String, EngineError> {
    match engine.inspect(unit)?.and_then(|found| found.image) {
        Some(image) => Ok(image),
        None => Ok(images::found(engine.connected()?, base)?.ok_or_else(|| no_image(what))?),
    }
}

/// The files of a volume, as an archive.
pub(super) fn read(
    engine: &Docker,
    unit: &UnitId,
    base: &BaseSource,
    name: &str,
) -> Result<Box<dyn Read + Send>, EngineError> {
    let connected = engine.connected()?;
    let found = connected.find(READING, connected.api.inspect_volume(name))?;
    let found = found.ok_or_else(|| absent(READING, name))?;
    if let Some(folder) = at_hand(connected, &found) {
        return Ok(Box::new(piece::written(move |to| tree_tar::write(&folder, to))));
    }
    let image = image_of(engine, unit, base, READING)?;
    resources::forget_copies(connected, name)?;
    let source = beside(connected, READING, &image, name, true, name)?;
    let (client, name) = (Arc::clone(&engine.client), name.to_owned());
    Ok(Box::new(piece::written(move |to| {
        let connected = client.get().map_err(io::Error::other)?;
        let read = connected.wait(async {
            let mut pieces = download(connected, &source);
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|error| io::Error::other(connected.explain(READING, &error)))?;
                to.write_all(&piece)?;
            }
            Ok(())
        });
        let forgotten = resources::forget_copies(connected, &name).map_err(io::Error::other);
        read.and(forgotten)
    })))
}

/// Makes a volume and fills it from an archive.
pub(super) fn fill(
    engine: &Docker,
    volume: &NewVolume<'_>,
    from: Box<dyn Read + Send>,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let connected = engine.connected()?;
    let name = &volume.declared.name;
    let image = images::found(connected, volume.base)?.ok_or_else(|| no_image(FILLING))?;
    resources::remove_volume(connected, name)?;
    resources::make_volume(connected, volume.declared, &volume.owner.to_string_lossy(), volume.id)?;
    let target = beside(connected, FILLING, &image, name, false, name)?;
    let mut from = from;
    let pieces = upload::stream(move |to| io::copy(&mut from, to).map(drop));
    let filled = upload(connected, FILLING, &target, pieces, cancel);
    whole_or_not(connected, name, filled)
}

/// Removes what was there to make a volume, and the volume, too, if it is not whole: whoever goes back needs the room.
fn whole_or_not(
    connected: &Connected,
    volume: &str,
    made: Result<(), EngineError>,
) -> Result<(), EngineError> {
    if made.is_ok() {
        return resources::forget_copies(connected, volume);
    }
    // Why it failed says more than that its remains could not be removed: these the way back removes again.
    let _ = resources::remove_volume(connected, volume);
    made
}

fn absent(what: &'static str, name: &str) -> DockerError {
    DockerError::Refused { what, why: format!("there is no volume `{name}`") }
}

fn no_image(what: &'static str) -> DockerError {
    DockerError::Refused { what, why: "the image of a unit that has it is not here".to_owned() }
}

/// A container that has a volume and is never run, so that it may have any image. It is there for what happens to the
/// volume `of`, and goes with that.
fn beside(
    connected: &Connected,
    what: &'static str,
    image: &str,
    volume: &str,
    read_only: bool,
    of: &str,
) -> Result<String, EngineError> {
    let container = format!("setpoint-copy-{of}.{}", if read_only { "from" } else { "to" });
    let mount = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(INSIDE.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    };
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["-".to_owned()]),
        labels: Some(HashMap::from([(resources::COPY.to_owned(), of.to_owned())])),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount]),
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&container).build();
    connected.quick(what, connected.api.create_container(Some(options), body))?;
    Ok(container)
}

/// Where the files of a volume lie, if they are read from there: what Podman reads it gives to the image's user, so that
/// nobody could tell any more whose it was. Without root they are not to be read.
fn at_hand(connected: &Connected, volume: &bollard::models::Volume) -> Option<PathBuf> {
    let is_ours = connected.flavor == Flavor::Podman && rustix::process::geteuid().is_root();
    let folder = PathBuf::from(&volume.mountpoint);
    (is_ours && connected.is_here().is_some() && folder.is_dir()).then_some(folder)
}

/// The files of the volume of a container.
fn download(
    connected: &Connected,
    container: &str,
) -> Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>> {
    let from = DownloadFromContainerOptionsBuilder::default().path(&format!("{INSIDE}/.")).build();
    let api = connected.api.clone();
    Box::pin(api.download_from_container(container, Some(from)))
}

/// Sends an archive into the volume of a container, as it comes.
fn upload(
    connected: &Connected,
    what: &'static str,
    container: &str,
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let api = connected.api.clone();
    // Podman gives what it is not told about to whoever the image's user is.
    let to = UploadToContainerOptionsBuilder::default().path(INSIDE).copy_uidgid("false").build();
    let sent = connected.wait(async {
        let mut sending =
            std::pin::pin!(api.upload_to_container(container, Some(to), body_try_stream(pieces)));
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                sent = &mut sending => return Some(sent),
                _ = tick.tick() => if cancel.asked() {
                    return None;
                }
            }
        }
    });
    let stopped = || DockerError::Refused { what, why: "stopped".to_owned() };
    let sent = sent.ok_or_else(stopped)?;
    Ok(sent.map_err(|error| connected.explain(what, &error))?)
}
