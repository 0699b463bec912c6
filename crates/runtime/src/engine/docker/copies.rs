//! Copies of named volumes, by the engine itself: so it does not matter where they lie, nor whose they are.

use std::collections::HashMap;

use bollard::body_try_stream;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptions, UploadToContainerOptionsBuilder,
};
use futures_util::TryStreamExt as _;

use super::client::Connected;
use super::error::DockerError;
use super::{Docker, resources};
use crate::cancel::Cancel;
use crate::engine::{EngineError, UnitId};

const WHAT: &str = "copy a volume";
const FROM: &str = "/from";
const TO: &str = "/to";

/// Copies a volume into a new one.
pub(super) fn volume(
    engine: &Docker,
    unit: &UnitId,
    from: &str,
    to: &str,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let connected = engine.connected()?;
    let refused = |why: String| DockerError::Refused { what: WHAT, why };
    let found = connected.find(WHAT, connected.api.inspect_volume(from))?;
    let found = found.ok_or_else(|| refused(format!("there is no volume `{from}`")))?;
    // What is never started may have any image; that of a unit that has the volume is there.
    let image =
        engine.known(unit)?.image.ok_or_else(|| refused(format!("{} has no image", unit.as_str())))?;
    let container = format!("setpoint-copy-{to}");
    forget(connected, &container)?;
    connected.find(WHAT, connected.api.remove_volume(to, None::<RemoveVolumeOptions>))?;
    let request = VolumeCreateRequest {
        name: Some(to.to_owned()),
        driver: Some(found.driver.clone()),
        driver_opts: Some(found.options.clone()),
        labels: Some(resources::labels_of_copy(connected, &found)?),
        ..VolumeCreateRequest::default()
    };
    connected.quick(WHAT, connected.api.create_volume(request))?;
    let mount = |source: &str, target: &str, read_only| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    };
    let body = ContainerCreateBody {
        image: Some(image),
        // It is never run.
        cmd: Some(vec!["-".to_owned()]),
        labels: Some(HashMap::from([(resources::COPY.to_owned(), to.to_owned())])),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount(from, FROM, true), mount(to, TO, false)]),
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&container).build();
    connected.quick(WHAT, connected.api.create_container(Some(options), body))?;
    let copied = copy(connected, &container, cancel);
    forget(connected, &container)?;
    copied
}

/// Sends what is read of the one to the other, as it comes.
fn copy(connected: &Connected, container: &str, cancel: &Cancel) -> Result<(), EngineError> {
    let api = connected.api.clone();
    let from = DownloadFromContainerOptionsBuilder::default().path(&format!("{FROM}/.")).build();
    let pieces = api.download_from_container(container, Some(from)).map_err(std::io::Error::other);
    // Whoever stops it breaks the stream, and with it the copy.
    let cancel = cancel.clone();
    let pieces = pieces.and_then(move |piece| {
        let stopped = cancel.asked().then(|| std::io::Error::from(std::io::ErrorKind::Interrupted));
        std::future::ready(stopped.map_or(Ok(piece), Err))
    });
    let to = UploadToContainerOptionsBuilder::default().path(TO).build();
    let sent =
        connected.wait(async { api.upload_to_container(container, Some(to), body_try_stream(pieces)).await });
    Ok(sent.map_err(|error| connected.explain(WHAT, &error))?)
}

fn forget(connected: &Connected, container: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    connected.find(WHAT, connected.api.remove_container(container, Some(options)))?;
    Ok(())
}
