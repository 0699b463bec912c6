//! Whose the files are that a step makes.
//!
//! Containers of a daemon of root's write as root, also for a caller who is somebody else and could neither read nor
//! remove what they leave. It is given to him when the step has ended.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountBindOptions, MountType,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt;
use rustix::process::{getegid, geteuid};

use super::super::client::{Client, Connected};
use super::super::error::DockerError;
use super::super::{Docker, labels};
use super::{NAME, sweep};
use crate::engine::EngineError;

/// Where the files appear in the container that gives them away.
const PLACE: &str = "/setpoint";

/// Whose the files are that a step makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// The caller's.
    Own,
    /// Root's, until they are given to the caller.
    Given {
        /// His user id.
        uid: u32,
        /// His group id.
        gid: u32,
    },
}

impl Docker {
    /// Looks at whom containers of this engine run as.
    pub(super) fn rights(&self, connected: &Connected) -> Result<Rights, EngineError> {
        if let Some(known) = self.steps.rights.get() {
            return Ok(*known);
        }
        let info = connected.quick("ask how it runs", connected.api.info())?;
        let is = |word: &str| {
            info.security_options.iter().flatten().any(|option| option.split(',').any(|part| part == word))
        };
        if is("name=userns") {
            return Err(self.unsupported(
                "pipelines, for its containers run as users of their own (`userns-remap`)",
                "take `userns-remap` out of its settings, or `engine.default` out of the manifest",
            ));
        }
        let is_own = geteuid().is_root() || connected.endpoint.is_rootless();
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let rights = if is_own { Rights::Own } else { Rights::Given { uid, gid } };
        Ok(*self.steps.rights.get_or_init(|| rights))
    }
}

impl Rights {
    /// Gives what lies in a folder to the caller, by means of a container of this image.
    pub(super) fn give(
        self,
        client: &Arc<Client>,
        identity: &str,
        image: &str,
        folder: &Path,
    ) -> Result<(), EngineError> {
        let Self::Given { uid, gid } = self else { return Ok(()) };
        let connected = client.get()?;
        let what = "give files to their owner";
        let name = format!("{NAME}-{identity}-{}", crate::random::hex());
        let bind = Mount {
            typ: Some(MountType::BIND),
            source: Some(folder.to_string_lossy().into_owned()),
            target: Some(PLACE.to_owned()),
            bind_options: Some(MountBindOptions { non_recursive: Some(true), ..MountBindOptions::default() }),
            ..Mount::default()
        };
        let chown = ["chown", "-R", "-h", &format!("{uid}:{gid}"), PLACE].map(str::to_owned).to_vec();
        let label = folder.to_string_lossy().into_owned();
        let body = ContainerCreateBody {
            user: Some("0:0".to_owned()),
            image: Some(image.to_owned()),
            working_dir: Some("/".to_owned()),
            entrypoint: Some(chown),
            cmd: Some(Vec::new()),
            labels: Some(HashMap::from([(labels::STEP.to_owned(), label)])),
            host_config: Some(HostConfig {
                mounts: Some(vec![bind]),
                network_mode: Some("none".to_owned()),
                log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        connected.quick(what, connected.api.create_container(Some(options), body))?;
        let ended = connected.quick(what, connected.api.start_container(&name, None)).and_then(|()| {
            let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
            connected.wait(async {
                match Box::pin(connected.api.wait_container(&name, Some(options))).next().await {
                    Some(Err(error)) => Err(connected.explain(what, &error)),
                    Some(Ok(_)) | None => Ok(()),
                }
            })
        });
        let removed = sweep::container(connected, &name);
        ended.map_err(|error| refused(error, image))?;
        Ok(removed?)
    }
}

fn refused(error: DockerError, image: &str) -> EngineError {
    let DockerError::Refused { why, .. } = error else { return error.into() };
    EngineError::Unsupported {
        engine: "docker",
        what: format!("giving you the files of a step, for which {image} has no `chown` that works ({why})"),
        hint: "use an image that has one, or run setpoint as root".to_owned(),
    }
}
