//! Talking to the engine from code that is not asynchronous: a small runtime of its own, deadlines, and errors in
//! words.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerSummary, Volume};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListVolumesOptionsBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use setpoint_sandbox as sandbox;

use super::Flavor;
use super::endpoint::{Endpoint, Listener};
use super::error::{DockerError, says};

/// The least version of the API that has all that is asked of it here: Docker 19.03, Podman 3.
const FLOOR: (usize, usize) = (1, 40);
const FLOOR_TEXT: &str = "1.40";

/// How long the engine may think about what takes it milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How often, and after how long, a question is asked again whose answer is none.
const SETTLES: usize = 200;
const SETTLE: Duration = Duration::from_millis(20);

/// A client that is connected when it is first needed.
#[derive(Debug)]
pub(super) struct Client {
    flavor: Flavor,
    variables: BTreeMap<String, String>,
    connected: OnceLock<Connected>,
}

/// A connected client.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) api: Docker,
    pub(super) endpoint: Endpoint,
    pub(super) flavor: Flavor,
    has_buildkit: bool,
    /// The version of the kernel that its containers run on.
    kernel: Option<String>,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    pub(super) fn new(flavor: Flavor, variables: BTreeMap<String, String>) -> Self {
        Self { flavor, variables, connected: OnceLock::new() }
    }

    /// The caller's environment variables.
    pub(super) fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// The connection; it is made, and the engine's version looked at, when it is first asked for.
    pub(super) fn get(&self) -> Result<&Connected, DockerError> {
        if let Some(connected) = self.connected.get() {
            return Ok(connected);
        }
        let endpoint = Endpoint::find(self.flavor, &self.variables)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("docker")
            .enable_all()
            .build()
            .map_err(DockerError::Runtime)?;
        let api = {
            let _inside = runtime.enter();
            endpoint.connect()?
        };
        let flavor = self.flavor;
        let mut connected = Connected { api, endpoint, flavor, has_buildkit: false, kernel: None, runtime };
        connected.check_version()?;
        Ok(self.connected.get_or_init(|| connected))
    }
}

impl Connected {
    /// Whether its builder is BuildKit.
    pub(super) fn has_buildkit(&self) -> bool {
        self.has_buildkit
    }

    /// Who listens, if the containers' processes are processes of this machine, and not of another or of a virtual one.
    pub(super) fn is_here(&self) -> Option<Listener> {
        let own = rustix::system::uname();
        let is_own = |kernel: &String| own.release().to_bytes() == kernel.as_bytes();
        let listener = self.endpoint.listener().filter(|listens| sandbox::is_here(listens.process))?;
        self.kernel.as_ref().is_none_or(is_own).then_some(listener)
    }

    fn check_version(&mut self) -> Result<(), DockerError> {
        let version = self.quick("ask for its version", self.api.version())?;
        let components = version.components.iter().flatten();
        self.has_buildkit = !components.into_iter().any(|component| component.name.contains("Podman"));
        self.kernel = version.kernel_version.filter(|kernel| !kernel.is_empty());
        let text = version.api_version.unwrap_or_default();
        let number = text
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse::<usize>().ok()?, minor.parse::<usize>().ok()?)));
        if number.is_none_or(|number| number < FLOOR) {
            let host = self.endpoint.host.clone();
            return Err(DockerError::TooOld { host, version: text, floor: FLOOR_TEXT });
        }
        Ok(())
    }

    /// Waits for an answer for as long as it takes.
    pub(super) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Runs a task beside this thread.
    pub(super) fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.runtime.spawn(future);
    }

    /// Waits for an answer that takes the engine milliseconds.
    pub(super) fn quick<T>(
        &self,
        what: &'static str,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, DockerError> {
        match self.wait(async { tokio::time::timeout(PATIENCE, future).await }) {
            Ok(answer) => answer.map_err(|error| self.explain(what, &error)),
            Err(_) => Err(DockerError::Silent { what, after: PATIENCE }),
        }
    }

    /// As [`Connected::quick`], asked again as long as things are on their way, see [`settled`].
    pub(super) fn settled<T: DeserializeOwned, F: Future<Output = Result<T, Error>>>(
        &self,
        what: &'static str,
        ask: impl Fn() -> F,
    ) -> Result<T, DockerError> {
        self.quick(what, settled(ask))
    }

    /// As [`Connected::quick`]; nothing if the engine says that there is no such thing.
    pub(super) fn find<T>(
        &self,
        what: &'static str,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, DockerError> {
        match self.wait(async { tokio::time::timeout(PATIENCE, future).await }) {
            Ok(Err(error)) if is_absent(&error) => Ok(None),
            Ok(answer) => answer.map(Some).map_err(|error| self.explain(what, &error)),
            Err(_) => Err(DockerError::Silent { what, after: PATIENCE }),
        }
    }

    /// All containers that fit, whether they run or not.
    pub(super) fn containers(
        &self,
        what: &'static str,
        filters: &HashMap<&str, Vec<&str>>,
    ) -> Result<Vec<ContainerSummary>, DockerError> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(filters).build();
        #[expect(clippy::disallowed_methods, reason = "this is the place that it is called in")]
        self.settled(what, || self.api.list_containers(Some(options.clone())))
    }

    /// All volumes that fit.
    pub(super) fn volumes(
        &self,
        what: &'static str,
        filters: &HashMap<&str, Vec<&str>>,
    ) -> Result<Vec<Volume>, DockerError> {
        let options = ListVolumesOptionsBuilder::default().filters(filters).build();
        #[expect(clippy::disallowed_methods, reason = "this is the place that it is called in")]
        let found = self.settled(what, || self.api.list_volumes(Some(options.clone())))?;
        Ok(found.volumes.unwrap_or_default())
    }

    /// A container, by its name; nothing if there is none.
    pub(super) fn container(
        &self,
        what: &'static str,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, DockerError> {
        self.find(what, settled(|| self.api.inspect_container(name, None)))
    }

    /// An error of the client in words.
    pub(super) fn explain(&self, what: &'static str, error: &Error) -> DockerError {
        match error {
            Error::DockerResponseServerError { message, .. } => refused(what, message),
            Error::DockerStreamError { error } => refused(what, error),
            Error::JsonDataError { message, .. } => refused(what, &format!("an odd answer: {message}")),
            other => self.endpoint.unreachable(other),
        }
    }
}

/// Asks until the answer is one: Podman lists nothing at all when something goes while it looks.
pub(super) async fn settled<T: DeserializeOwned, F: Future<Output = Result<T, Error>>>(
    ask: impl Fn() -> F,
) -> Result<T, Error> {
    ask_again(ask, |error| match error {
        Error::DockerResponseServerError { status_code: 500.., message } => {
            says(message, &["image not known", "no such container", "no such volume"])
        }
        _ => false,
    })
    .await
}

/// A container that has ended, when nothing of it is mounted any more, or nobody is left who would unmount it.
pub(super) async fn cleaned_up(api: &Docker, name: &str) -> Result<ContainerInspectResponse, Error> {
    ask_again(|| api.inspect_container(name, None), |error| matches!(error, Error::JsonDataError { .. }))
        .await
}

/// Asks again as long as it is told what passes, in Docker's words or in Podman's.
async fn ask_again<T: DeserializeOwned, F: Future<Output = Result<T, Error>>>(
    ask: impl Fn() -> F,
    passes: impl Fn(&Error) -> bool,
) -> Result<T, Error> {
    let mut left = SETTLES;
    loop {
        match ask().await {
            Err(error) if left > 0 && passes(&error) => left -= 1,
            Err(error) => return in_dockers_words(error),
            answer => return answer,
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// Between its end and its cleaning up Podman calls a container `stopped`, and for ever where that was killed: a word
/// that Docker's API does not know. Docker says `exited`.
fn in_dockers_words<T: DeserializeOwned>(error: Error) -> Result<T, Error> {
    let Error::JsonDataError { contents, .. } = &error else { return Err(error) };
    let Ok(mut answer) = serde_json::from_str::<Value>(contents) else { return Err(error) };
    let containers = match &mut answer {
        Value::Array(listed) => listed.as_mut_slice(),
        one => std::slice::from_mut(one),
    };
    for state in containers.iter_mut().filter_map(|one| one.get_mut("State")) {
        let word = if state.is_object() { state.get_mut("Status") } else { Some(state) };
        if let Some(word) = word.filter(|word| *word == "stopped") {
            *word = "exited".into();
        }
    }
    serde_json::from_value(answer).map_err(|_| error)
}

/// What the engine said, as one of the things that people can do something about.
fn refused(what: &'static str, message: &str) -> DockerError {
    let why = message.trim().to_owned();
    if says(&why, &["port is already allocated", "address already in use"]) {
        return DockerError::PortInUse { why };
    }
    DockerError::Refused { what, why }
}

/// Whether the engine says that there is no such thing.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client makes of an answer that is not one.
    fn odd(contents: &str) -> Error {
        Error::JsonDataError {
            message: "unknown variant".to_owned(),
            contents: contents.to_owned(),
            column: 1,
        }
    }

    #[test]
    fn what_podman_calls_stopped_has_ended() {
        let listed = r#"[{"Id": "a", "State": "stopped", "Labels": {"State": "stopped"}}, {"Id": "b", "State": "running"}]"#;
        let all: Vec<ContainerSummary> = in_dockers_words(odd(listed)).unwrap();
        let states: Vec<_> = all.iter().map(|one| one.state.unwrap().to_string()).collect();
        assert_eq!(states, ["exited", "running"]);
        assert_eq!(
            all[0].labels.as_ref().unwrap()["State"],
            "stopped",
            "what somebody wrote there is theirs"
        );

        let one = r#"{"Id": "a", "State": {"Status": "stopped", "ExitCode": 3}}"#;
        let one: ContainerInspectResponse = in_dockers_words(odd(one)).unwrap();
        let state = one.state.unwrap();
        assert_eq!((state.status.unwrap().to_string().as_str(), state.exit_code), ("exited", Some(3)));
    }

    #[test]
    fn what_is_odd_in_another_way_stays_an_error() {
        for contents in
            ["", "null", "{}", "[1, 2]", r#"[{"State": "asleep"}]"#, r#"[{"State": {"Status": 7}}]"#]
        {
            let answer = in_dockers_words::<Vec<ContainerSummary>>(odd(contents));
            assert!(matches!(answer, Err(Error::JsonDataError { .. })), "{contents}: {answer:?}");
        }
    }
}
