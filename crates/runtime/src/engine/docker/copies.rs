//! Copies of named volumes, by the engine itself: so it does not matter where they lie, nor whose they are.

use std::collections::HashMap;
use std::time::Duration;

use bollard::body_try_stream;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use futures_util::TryStreamExt as _;

use super::client::Connected;
use super::error::DockerError;
use super::{Docker, resources};
use crate::cancel::Cancel;
use crate::engine::{EngineError, UnitId};

const WHAT: &str = "copy a volume";
/// Where a volume appears in the container that is there to copy it.
const INSIDE: &str = "/volume";
/// How often is looked whether to stop.
const LOOK: Duration = Duration::from_millis(100);

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
    resources::remove_volume(connected, to)?;
    let request = VolumeCreateRequest {
        name: Some(to.to_owned()),
        driver: Some(found.driver.clone()),
        driver_opts: Some(found.options.clone()),
        labels: Some(resources::labels_of_copy(connected, &found)?),
        ..VolumeCreateRequest::default()
    };
    connected.quick(WHAT, connected.api.create_volume(request))?;
    // The engine lets nobody write to a container while somebody reads from it.
    let (source, target) = (format!("setpoint-copy-{to}.from"), format!("setpoint-copy-{to}.to"));
    for (container, volume, read_only) in [(&source, from, true), (&target, to, false)] {
        let mount = Mount {
            typ: Some(MountType::VOLUME),
            source: Some(volume.to_owned()),
            target: Some(INSIDE.to_owned()),
            read_only: Some(read_only),
            ..Mount::default()
        };
        let body = ContainerCreateBody {
            image: Some(image.clone()),
            // It is never run.
            cmd: Some(vec!["-".to_owned()]),
            labels: Some(HashMap::from([(resources::COPY.to_owned(), to.to_owned())])),
            host_config: Some(HostConfig {
                mounts: Some(vec![mount]),
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(container).build();
        connected.quick(WHAT, connected.api.create_container(Some(options), body))?;
    }
    let copied = copy(connected, &source, &target, cancel);
    resources::forget_copies(connected, to)?;
    copied
}

/// Sends what is read of the one to the other, as it comes.
fn copy(connected: &Connected, source: &str, target: &str, cancel: &Cancel) -> Result<(), EngineError> {
    let api = connected.api.clone();
    let from = DownloadFromContainerOptionsBuilder::default().path(&format!("{INSIDE}/.")).build();
    let pieces = api.download_from_container(source, Some(from)).map_err(std::io::Error::other);
    let to = UploadToContainerOptionsBuilder::default().path(INSIDE).build();
    let sent = connected.wait(async {
        let mut sending = std::pin::pin!(api.upload_to_container(target, Some(to), body_try_stream(pieces)));
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
    let stopped = || DockerError::Refused { what: WHAT, why: "stopped".to_owned() };
    let sent = sent.ok_or_else(stopped)?;
    Ok(sent.map_err(|error| connected.explain(WHAT, &error))?)
}
