//! Where Docker or Podman listens: as their own clients find it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bollard::{API_DEFAULT_VERSION, Docker};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Flavor;
use super::error::DockerError;

/// How long a request may take at most, in seconds. What may be waited for shorter has its own deadline.
const LONGEST: u64 = 24 * 60 * 60;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `unix:///var/run/docker.sock`, `tcp://box:2376`, `ssh://me@box`.
    pub(super) host: String,
    /// Why there, for messages: `named by DOCKER_HOST`, `the usual place`.
    pub(super) said_by: String,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`, where it is TLS.
    tls: Option<PathBuf>,
}

/// Who listens for an engine: itself, or who starts it when it is asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    /// The number of the process, as it is here; 0 if it is not to be seen from here.
    pub(super) process: i32,
    /// As whom it listens.
    pub(super) user: u32,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct ContextFile {
    #[serde(rename = "Endpoints", default)]
    endpoints: BTreeMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
}

impl Endpoint {
    /// The endpoint that the caller's surroundings name.
    pub(super) fn find(flavor: Flavor, variables: &BTreeMap<String, String>) -> Result<Self, DockerError> {
        let variable = |name: &str| variables.get(name).filter(|value| !value.is_empty());
        if flavor == Flavor::Podman {
            if let Some(host) = variable("CONTAINER_HOST") {
                return Ok(Self::new(host, "named by CONTAINER_HOST", None));
            }
            let of_user = variable("XDG_RUNTIME_DIR").map(|folder| format!("{folder}/podman/podman.sock"));
            let of_system = "/run/podman/podman.sock".to_owned();
            let is_root = rustix::process::geteuid().is_root();
            let socket = of_user.filter(|socket| !is_root || Path::new(socket).exists()).unwrap_or(of_system);
            return Ok(Self::new(&format!("unix://{socket}"), "the usual place", None));
        }
        let tls = || {
            let asked = variable("DOCKER_TLS_VERIFY").is_some() || variable("DOCKER_TLS").is_some();
            let folder = variable("DOCKER_CERT_PATH").map(PathBuf::from);
            asked.then(|| folder.or_else(|| config_folder(variables))).flatten()
        };
        if let Some(host) = variable("DOCKER_HOST") {
            return Ok(Self::new(host, "named by DOCKER_HOST", tls()));
        }
        if let Some(folder) = config_folder(variables) {
            let chosen = match variable("DOCKER_CONTEXT") {
                Some(context) => Some(context.clone()),
                None => current_context(&folder)?,
            };
            if let Some(context) = chosen.filter(|context| context != "default") {
                return Self::of_context(&folder, &context);
            }
        }
        Ok(Self::new("unix:///var/run/docker.sock", "the usual place", None))
    }

    fn new(host: &str, said_by: &str, tls: Option<PathBuf>) -> Self {
        Self { host: host.to_owned(), said_by: said_by.to_owned(), tls }
    }

    /// The endpoint of a context, which lies in folders named by the digest of its name.
    fn of_context(folder: &Path, context: &str) -> Result<Self, DockerError> {
        let digest: String =
            Sha256::digest(context.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join("contexts/meta").join(&digest).join("meta.json");
        let bad = |why: String| DockerError::Context { context: context.to_owned(), why };
        let text =
            std::fs::read_to_string(&path).map_err(|error| bad(format!("{}: {error}", path.display())))?;
        let file: ContextFile =
            serde_json::from_str(&text).map_err(|error| bad(format!("{}: {error}", path.display())))?;
        let endpoint = file.endpoints.get("docker").filter(|endpoint| !endpoint.host.is_empty());
        let endpoint = endpoint.ok_or_else(|| bad("it has no endpoint for docker".to_owned()))?;
        let tls = folder.join("contexts/tls").join(&digest).join("docker");
        let tls = tls.join("ca.pem").exists().then_some(tls);
        Ok(Self::new(&endpoint.host, &format!("named by the docker context `{context}`"), tls))
    }

    /// The socket's path, where it is one.
    pub(super) fn socket(&self) -> Option<&Path> {
        self.host.strip_prefix("unix://").map(Path::new)
    }

    /// Whether the engine is on this machine, so that it sees the same files.
    pub(super) fn is_local(&self) -> bool {
        self.socket().is_some()
    }

    /// Whether the engine runs without root's rights, so that root inside is its own user outside: by who listens. Not
    /// every version of Podman says it of itself.
    pub(super) fn is_rootless(&self) -> bool {
        self.listener().is_some_and(|listens| listens.user != 0)
    }

    /// Who listens on the socket.
    pub(super) fn listener(&self) -> Option<Listener> {
        let connected = std::os::unix::net::UnixStream::connect(self.socket()?).ok()?;
        let listens = rustix::net::sockopt::socket_peercred(connected).ok()?;
        Some(Listener { process: listens.pid.as_raw_pid(), user: listens.uid.as_raw() })
    }

    /// A client for it. Nothing is sent yet.
    pub(super) fn connect(&self) -> Result<Docker, DockerError> {
        let version = API_DEFAULT_VERSION;
        let client = if self.is_local() {
            Docker::connect_with_unix(&self.host, LONGEST, version)
        } else if let Some(address) = self.host.strip_prefix("ssh://") {
            Docker::connect_with_ssh(address, LONGEST, version, None)
        } else if let (Some(folder), Some(address)) = (&self.tls, self.host.strip_prefix("tcp://")) {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let file = |name: &str| folder.join(name);
            let (key, cert, ca) = (file("key.pem"), file("cert.pem"), file("ca.pem"));
            Docker::connect_with_ssl(&format!("https://{address}"), &key, &cert, &ca, LONGEST, version)
        } else {
            Docker::connect_with_http(&self.host, LONGEST, version)
        };
        client.map_err(|error| self.unreachable(&error))
    }

    /// Why a request did not reach it, in the words of the system.
    pub(super) fn unreachable(&self, error: &bollard::errors::Error) -> DockerError {
        let why = root_cause(error);
        let denied = self.socket().and_then(|socket| {
            let probe = std::os::unix::net::UnixStream::connect(socket).err()?;
            (probe.kind() == std::io::ErrorKind::PermissionDenied).then_some(socket)
        });
        match denied {
            Some(socket) => DockerError::Denied { socket: socket.to_owned() },
            None => DockerError::Unreachable { host: self.host.clone(), said_by: self.said_by.clone(), why },
        }
    }
}

/// The innermost of an error's causes: what the system said.
fn root_cause(error: &bollard::errors::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The folder of Docker's client's settings.
fn config_folder(variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    let get = |name: &str| variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    get("DOCKER_CONFIG").or_else(|| Some(get("HOME")?.join(".docker")))
}

fn current_context(folder: &Path) -> Result<Option<String>, DockerError> {
    let path = folder.join("config.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) => return Ok(None),
    };
    let file: ConfigFile = serde_json::from_str(&text)
        .map_err(|error| DockerError::Config { path: path.clone(), why: error.to_string() })?;
    Ok(file.current_context.filter(|context| !context.is_empty()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn find(pairs: &[(&str, &str)]) -> Result<Endpoint, DockerError> {
        let variables = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Endpoint::find(Flavor::Docker, &variables)
    }

    #[test]
    fn the_variable_comes_before_the_context_and_the_context_before_the_usual_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(find(&[("DOCKER_CONFIG", path)]).unwrap().host, "unix:///var/run/docker.sock");
        let digest: String = Sha256::digest(b"box").iter().map(|byte| format!("{byte:02x}")).collect();
        let meta = folder.path().join("contexts/meta").join(digest);
        std::fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"box","Endpoints":{"docker":{"Host":"ssh://me@box"}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        std::fs::write(folder.path().join("config.json"), r#"{"currentContext":"box"}"#).unwrap();
        let endpoint = find(&[("DOCKER_CONFIG", path)]).unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.is_local()), ("ssh://me@box", false));
        let other = find(&[("DOCKER_CONFIG", path), ("DOCKER_HOST", "unix:///x")]).unwrap();
        assert_eq!((other.host.as_str(), other.is_local()), ("unix:///x", true));
        let gone = find(&[("DOCKER_CONFIG", path), ("DOCKER_CONTEXT", "gone")]).unwrap_err();
        assert!(matches!(gone, DockerError::Context { .. }), "{gone}");
    }
}
