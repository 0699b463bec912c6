//! What the command line asks of a daemon, over the socket of the state.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use setpoint_runtime::paths::Roots;
use setpoint_sandbox::with_short_path;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::SOCKET;
use crate::error::{Exit, Failure};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A connection to the daemon of a state.
pub(crate) struct Client {
    runtime: Runtime,
    roots: Roots,
}

impl Client {
    pub(crate) fn new(roots: &Roots) -> Result<Self, Failure> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
        Ok(Self { runtime, roots: roots.clone() })
    }

    /// The answer to a request, as JSON.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Result<Value, Failure> {
        self.runtime.block_on(async {
            let answer = async {
                let response = self.send(method, path).await?;
                let (refused, body) = (!response.status().is_success(), response.into_body());
                let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
                Ok((refused, serde_json::from_slice::<Value>(&body)?))
            };
            let answer = tokio::time::timeout(DEADLINE, answer).await;
            let answer: io::Result<_> = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let (refused, body) = answer.map_err(unreachable)?;
            if refused { Err(refusal(&body)) } else { Ok(body) }
        })
    }

    /// Gives the data of each event of a stream to `each`, until the daemon ends.
    pub(crate) fn follow(&self, path: &str, mut each: impl FnMut(&str)) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let response = self.send("GET", path).await.map_err(unreachable)?;
            let refused = !response.status().is_success();
            let mut body = response.into_body();
            if refused {
                let body = body.collect().await.map_err(|error| unreachable(io::Error::other(error)))?;
                return Err(refusal(&serde_json::from_slice(&body.to_bytes()).unwrap_or_default()));
            }
            let mut lines = Lines::default();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| unreachable(io::Error::other(error)))?;
                let events = frame.into_data().map(|data| lines.take(&data)).unwrap_or_default();
                events.iter().for_each(|data| each(data));
            }
            Ok(())
        })
    }

    async fn send(&self, method: &str, path: &str) -> io::Result<Response<Incoming>> {
        let stream =
            with_short_path(&self.roots.state.join(SOCKET), std::os::unix::net::UnixStream::connect)?;
        stream.set_nonblocking(true)?;
        let stream = TokioIo::new(UnixStream::from_std(stream)?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "setpoint");
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        sender.send_request(request).await.map_err(io::Error::other)
    }
}

/// Server-sent events, as they come in pieces.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    data: String,
}

impl Lines {
    /// The data of the events that are whole with this piece.
    fn take(&mut self, piece: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if line.is_empty() && !self.data.is_empty() {
                events.push(std::mem::take(&mut self.data));
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.trim_start());
            }
        }
        events
    }
}

fn unreachable(error: io::Error) -> Failure {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    if matches!(error.kind(), NotFound | ConnectionRefused) {
        return Failure::new(Exit::NotFound, "no-daemon", "no daemon runs on this state")
            .hint("`setpoint daemon run` is one");
    }
    Failure::new(Exit::State, "daemon", format!("the daemon gives no answer: {error}"))
}

fn refusal(body: &Value) -> Failure {
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    let message = text("message").unwrap_or_else(|| "the daemon refuses it".to_owned());
    let failure = Failure::new(Exit::State, "daemon", message);
    match text("hint") {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
