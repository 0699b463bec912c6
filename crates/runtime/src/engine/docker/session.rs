//! A session with BuildKit: what it asks of its client while it builds, which are secrets and logins of registries.
//!
//! The connection is made here, and then turned around: over it BuildKit calls the services that are served here. The
//! client library's own session has no secrets.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::Path;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::health::health_check_response::ServingStatus;
use bollard::health::health_server::{Health, HealthServer, SERVICE_NAME as HEALTH};
use bollard::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard::moby::buildkit::secrets::v1::secrets_server::{SERVICE_NAME as SECRETS, Secrets, SecretsServer};
use bollard::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard::moby::filesync::v1::auth_server::{Auth, AuthServer, SERVICE_NAME as AUTH};
use bollard::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use futures_util::StreamExt;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::{Request, Response, Status, async_trait};

use super::client::{Connected, PATIENCE};
use super::error::DockerError;
use crate::engine::EngineError;

/// What is tried, for messages.
const WHAT: &str = "open a session of the build";
/// The bytes that the engine's answer to the opening has at most.
const LONGEST_ANSWER: usize = 16 << 10;

/// What a builder may ask for while it builds. Secrets are neither shown nor kept.
#[derive(Default)]
pub(super) struct Given {
    /// The logins of registries, by the names that the builder has for them.
    pub(super) logins: HashMap<String, DockerCredentials>,
    /// The values of secrets, by their ids.
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
}

/// An open session; it is closed when this is dropped.
pub(super) struct Session {
    id: String,
    /// Nothing is ever sent: that it is gone is the sign to end.
    _open: oneshot::Sender<Infallible>,
}

/// The socket that sessions are opened on.
///
/// # Errors
/// If the engine has no sessions, or is not on this machine: a secret does not leave it.
pub(super) fn socket(connected: &Connected) -> Result<&Path, EngineError> {
    let host = &connected.endpoint.host;
    let unsupported = |why: String, hint: &str| EngineError::Unsupported {
        engine: connected.flavor.name(),
        what: format!("secrets of a build: {why}"),
        hint: hint.to_owned(),
    };
    if !connected.has_buildkit() {
        return Err(unsupported(
            format!("what answers at {host} has no BuildKit"),
            "use Docker (`engine.default = \"docker\"`), or take `secrets` out of the build",
        ));
    }
    connected.endpoint.socket().ok_or_else(|| {
        unsupported(
            format!("{host} is not on this machine, and they are given over a socket only"),
            "use an engine on this machine, or take `secrets` out of the build",
        )
    })
}

impl Session {
    /// Opens a session in which the builder is given this.
    ///
    /// # Errors
    /// If there can be none, see [`socket`]; if the engine is not reached, does not answer in time, or refuses.
    pub(super) fn open(connected: &Connected, given: Given) -> Result<Self, EngineError> {
        let socket = socket(connected)?;
        let id = crate::random::hex();
        let opening = async { tokio::time::timeout(PATIENCE, upgraded(socket, &id)).await };
        let stream = match connected.wait(opening) {
            Ok(answer) => answer.map_err(|why| DockerError::Refused { what: WHAT, why })?,
            Err(_) => return Err(DockerError::Silent { what: WHAT, after: PATIENCE }.into()),
        };
        let (open, closed) = oneshot::channel::<Infallible>();
        connected.spawn(async {
            let router = Server::builder()
                .add_service(HealthServer::new(Alive))
                .add_service(SecretsServer::new(Values(given.secrets)))
                .add_service(AuthServer::new(Logins(given.logins)));
            // One connection, and none after it.
            let connections = stream::once(async { Ok::<_, Infallible>(stream) }).chain(stream::pending());
            let end = async { drop(closed.await) };
            // If it fails, so does the build, which says what it could not ask for.
            let _ = router.serve_with_incoming_shutdown(connections, end).await;
        });
        Ok(Self { id, _open: open })
    }

    /// A client whose builds take place in this session. They are asked of it as of the older builder: for BuildKit
    /// it would open a session of its own.
    pub(super) fn client(&self, client: &Docker) -> Docker {
        let version = format!("version=2&session={}", self.id);
        client.clone().with_request_modifier(move |mut request| {
            let uri = in_session(&request.uri().to_string(), &version);
            if let Ok(uri) = uri.parse() {
                *request.uri_mut() = uri;
            }
            request
        })
    }
}

/// The address of a build, with the version of the builder replaced.
fn in_session(uri: &str, version: &str) -> String {
    let Some((path, query)) = uri.split_once('?') else { return uri.to_owned() };
    let part = |part| if part == "version=1" { version } else { part };
    format!("{path}?{}", query.split('&').map(part).collect::<Vec<_>>().join("&"))
}

/// A connection over which the engine calls from now on; else what the engine said.
async fn upgraded(socket: &Path, id: &str) -> Result<UnixStream, String> {
    let in_words = |error: std::io::Error| error.to_string();
    let mut stream = UnixStream::connect(socket).await.map_err(in_words)?;
    stream.write_all(opening(id).as_bytes()).await.map_err(in_words)?;
    let mut head = Vec::new();
    // Byte by byte: what comes after the head belongs to whoever serves the connection.
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_ANSWER {
        head.push(stream.read_u8().await.map_err(in_words)?);
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("101") => Ok(stream),
        _ => Err(format!("the engine answered `{status}`")),
    }
}

/// The request that asks for a session, with all that can be called in it.
fn opening(id: &str) -> String {
    let calls = [
        (HEALTH, "Check"),
        (SECRETS, "GetSecret"),
        (AUTH, "Credentials"),
        (AUTH, "FetchToken"),
        (AUTH, "GetTokenAuthority"),
        (AUTH, "VerifyTokenAuthority"),
    ];
    let calls =
        calls.map(|(service, call)| format!("X-Docker-Expose-Session-Grpc-Method: /{service}/{call}\r\n"));
    format!(
        "POST /session HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\
         X-Docker-Expose-Session-Uuid: {id}\r\nX-Docker-Expose-Session-Name: setpoint\r\n\
         X-Docker-Expose-Session-Sharedkey: \r\n{}\r\n",
        calls.concat()
    )
}

struct Alive;

#[async_trait]
impl Health for Alive {
    type WatchStream = stream::Pending<Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("ask for one"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask again instead"))
    }
}

struct Values(BTreeMap<String, Vec<u8>>);

#[async_trait]
impl Secrets for Values {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = &request.get_ref().id;
        // This answer is the one by which a step that does not insist goes on without.
        let value = self.0.get(id).ok_or_else(|| Status::not_found("it is not declared"))?;
        Ok(Response::new(GetSecretResponse { data: value.clone() }))
    }
}

struct Logins(HashMap<String, DockerCredentials>);

#[async_trait]
impl Auth for Logins {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let login = self.0.get(&request.get_ref().host);
        let (username, secret) = login
            .and_then(|login| Some((login.username.clone()?, login.password.clone()?)))
            // Without a login.
            .unwrap_or_default();
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(no_tokens())
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(no_tokens())
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(no_tokens())
    }
}

/// The answer by which the builder fetches tokens itself, with the login that it asks for then.
fn no_tokens() -> Status {
    Status::unavailable("the builder fetches tokens itself")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn wait<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// What becomes of an opening that is answered with this.
    fn answered(answer: &'static [u8]) -> (String, Result<Vec<u8>, String>) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        wait(async {
            let listener = tokio::net::UnixListener::bind(&socket).unwrap();
            let engine = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = vec![0; opening("abc").len()];
                stream.read_exact(&mut asked).await.unwrap();
                stream.write_all(answer).await.unwrap();
                String::from_utf8(asked).unwrap()
            };
            let client = async {
                let mut rest = Vec::new();
                let mut stream = upgraded(&socket, "abc").await?;
                stream.read_to_end(&mut rest).await.map_err(|error| error.to_string())?;
                Ok(rest)
            };
            tokio::join!(engine, client)
        })
    }

    #[test]
    fn a_session_begins_where_the_answer_ends() {
        let (asked, rest) = answered(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0");
        assert_eq!(rest.unwrap(), b"PRI * HTTP/2.0");
        assert!(asked.starts_with("POST /session HTTP/1.1\r\n") && asked.ends_with("\r\n\r\n"), "{asked}");
        assert!(asked.contains("\r\nX-Docker-Expose-Session-Uuid: abc\r\n"), "{asked}");
        let call = "X-Docker-Expose-Session-Grpc-Method: /moby.buildkit.secrets.v1.Secrets/GetSecret\r\n";
        assert!(asked.contains(call), "{asked}");
    }

    #[test]
    fn an_engine_without_sessions_is_told_in_its_words() {
        let (_, refused) = answered(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(refused.unwrap_err(), "the engine answered `HTTP/1.1 404 Not Found`");
        let (_, ended) = answered(b"HTTP/1.1 101");
        assert!(ended.is_err());
    }

    #[test]
    fn a_build_is_asked_for_in_the_session() {
        let version = "version=2&session=abc";
        let uri = in_session("unix://2f:0/v1.40/build?t=version%3D1&version=1&target=x", version);
        assert_eq!(uri, "unix://2f:0/v1.40/build?t=version%3D1&version=2&session=abc&target=x");
        assert_eq!(in_session("unix://2f:0/version", version), "unix://2f:0/version");
    }

    #[test]
    fn only_what_is_declared_is_given() {
        let values = Values([("tok".to_owned(), b"v\xff".to_vec())].into());
        let ask = |id: &str| {
            let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
            wait(values.get_secret(Request::new(request)))
        };
        assert_eq!(ask("tok").unwrap().into_inner().data, b"v\xff");
        assert_eq!(ask("other").unwrap_err().code(), tonic::Code::NotFound);
        let login = DockerCredentials {
            username: Some("ann".to_owned()),
            password: Some("word".to_owned()),
            ..DockerCredentials::default()
        };
        let logins = Logins([("box:5000".to_owned(), login)].into());
        let ask = |host: &str| {
            let request = CredentialsRequest { host: host.to_owned() };
            let answer = wait(logins.credentials(Request::new(request))).unwrap().into_inner();
            (answer.username, answer.secret)
        };
        assert_eq!(ask("box:5000"), ("ann".to_owned(), "word".to_owned()));
        assert_eq!(ask("registry-1.docker.io"), (String::new(), String::new()));
    }
}
