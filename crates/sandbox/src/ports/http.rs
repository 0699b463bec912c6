//! Requests by HTTP, passed on one by one: a connection of whoever asks outlives the sandbox that answered its requests
//! so far.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};

use super::route::{KEEPS, Patience, Route, Target, UnderWay, prepare};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// How many connections are kept to a sandbox that nobody uses at the moment.
const IDLE: usize = 64;
/// How often is looked for the first letters of a request.
const LETTERS: Duration = Duration::from_millis(1);
/// How long whoever has begun with a letter may take to the third one; it is taken for HTTP then.
const HESITATES: Duration = Duration::from_secs(1);

/// What is said of one connection only, and never passed on.
const OF_A_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Whether a connection begins as one of HTTP 1 does. What else may come to such a port (TLS, HTTP 2) is passed on as
/// it is.
pub(super) async fn speaks(outer: &TcpStream) -> bool {
    let mut first = [0; 3];
    let at_most = Instant::now() + HESITATES;
    loop {
        match outer.peek(&mut first).await {
            Ok(0) | Err(_) => return false,
            Ok(read) if !first[..read].iter().all(u8::is_ascii_uppercase) => return false,
            Ok(3) => return first != *b"PRI",
            Ok(_) if Instant::now() > at_most => return true,
            Ok(_) => sleep(LETTERS).await,
        }
    }
}

/// Passes on the requests of a connection.
pub(super) async fn serve(outer: TcpStream, route: Arc<Route>) {
    let Ok(peer) = outer.peer_addr() else { return };
    if prepare(&outer).is_err() {
        return;
    }
    let answer = service_fn(move |request| {
        let route = Arc::clone(&route);
        async move { Ok::<_, Infallible>(answer(&route, peer, request).await) }
    });
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.preserve_header_case(true).half_close(true);
    // Whoever asks may go away at any time.
    let _ = connection.serve_connection(TokioIo::new(outer), answer).with_upgrades().await;
}

async fn answer(route: &Route, peer: SocketAddr, mut request: Request<Incoming>) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return says(StatusCode::METHOD_NOT_ALLOWED, "there is no way through here");
    }
    let upgrade = is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    forward(request.headers_mut(), peer.ip());
    // One that changes nothing, and can be said again as it was.
    let repeats = request.method().is_idempotent() && request.body().is_end_stream() && upgrade.is_none();
    let (parts, body) = request.into_parts();
    let mut next = Request::from_parts(parts.clone(), body.boxed_unsync());
    let mut patience = Patience::new();
    loop {
        let Some((target, under_way)) = route.pass(&mut patience).await else { return unavailable() };
        let entered = target.enter(&patience).await;
        next = match until_kept(exchange(&target, next, repeats, &patience), entered).await {
            Ok(response) => return passed_back(response, upgrade, target, under_way),
            Err(Some(unsent)) => *unsent,
            Err(None) if repeats => Request::from_parts(parts.clone(), nothing()),
            Err(None) => return says(StatusCode::BAD_GATEWAY, "the service ended before it answered"),
        };
        drop(under_way);
        if !patience.tries_again(&target).await {
            return says(StatusCode::BAD_GATEWAY, "the service takes no connections");
        }
    }
}

/// Does something with a place among those who are let in, and gives that up when it is done, or takes long.
async fn until_kept<T>(done: impl Future<Output = T>, place: Option<OwnedSemaphorePermit>) -> T {
    let mut done = pin!(done);
    if let Some(place) = place {
        if let Ok(done) = timeout(KEEPS, done.as_mut()).await {
            return done;
        }
        drop(place);
    }
    done.await
}

/// Connections that nobody uses at the moment.
#[derive(Debug, Default)]
pub(super) struct Idle(Vec<SendRequest<Body>>);

impl Idle {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn take(&mut self) -> Option<SendRequest<Body>> {
        while let Some(sender) = self.0.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn put(&mut self, sender: SendRequest<Body>) {
        if self.0.len() < IDLE {
            self.0.push(sender);
        }
    }
}

/// Asks a sandbox. A request that was not sent comes back; of one that was, nothing may be known.
async fn exchange(
    target: &Arc<Target>,
    request: Request<Body>,
    repeats: bool,
    patience: &Patience,
) -> Result<Response<Incoming>, Option<Box<Request<Body>>>> {
    // A connection that has been used may just be closed by the other side: what cannot be said again has its own.
    let idle = if repeats { target.idle().take() } else { None };
    let mut sender = match idle {
        Some(sender) => sender,
        None => match connect(target, patience).await {
            Some(sender) => sender,
            None => return Err(Some(Box::new(request))),
        },
    };
    let answered = tokio::select! {
        answered = sender.try_send_request(request) => answered,
        () = target.ended() => return Err(None),
    };
    let response = answered.map_err(|mut failed| failed.take_message().map(Box::new))?;
    let target = Arc::clone(target);
    tokio::spawn(async move {
        // When all of the answer has been read.
        if sender.ready().await.is_ok() {
            target.idle().put(sender);
        }
    });
    Ok(response)
}

async fn connect(target: &Arc<Target>, patience: &Patience) -> Option<SendRequest<Body>> {
    let stream = target.connect(patience.until).await.ok()?;
    let mut client = http1::Builder::new();
    client.preserve_header_case(true);
    let (sender, connection) = client.handshake(TokioIo::new(stream)).await.ok()?;
    let target = Arc::clone(target);
    tokio::spawn(async move {
        tokio::select! {
            _ = connection.with_upgrades() => {}
            () = target.ended() => {}
        }
    });
    Some(sender)
}

/// An answer as it goes back to whoever asked. It is under way until all of it has been read.
fn passed_back(
    mut response: Response<Incoming>,
    upgrade: Option<OnUpgrade>,
    target: Arc<Target>,
    under_way: UnderWay,
) -> Response<Body> {
    let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = response.headers().get(header::UPGRADE).cloned();
    strip(response.headers_mut());
    *response.version_mut() = hyper::Version::HTTP_11;
    if let (true, Some(outer), Some(protocol)) = (is_upgraded, upgrade, protocol) {
        set_upgrade(response.headers_mut(), protocol);
        let inner = hyper::upgrade::on(&mut response);
        tokio::spawn(join(outer, inner, target));
    }
    response.map(|body| {
        let body = body.map_frame(move |frame| {
            let _until_it_ends = &under_way;
            frame
        });
        body.boxed_unsync()
    })
}

/// Passes on what is said after a change of protocol, such as to WebSocket.
async fn join(outer: OnUpgrade, inner: OnUpgrade, target: Arc<Target>) {
    let (Ok(outer), Ok(inner)) = tokio::join!(outer, inner) else { return };
    let (mut outer, mut inner) = (TokioIo::new(outer), TokioIo::new(inner));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut outer, &mut inner) => {}
        () = target.ended() => {}
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && connection_words(headers).any(|word| word.eq_ignore_ascii_case("upgrade"))
}

fn connection_words(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Makes the headers of whoever asks those of a request that is passed on.
fn forward(headers: &mut HeaderMap, peer: IpAddr) {
    let upgrade = is_upgrade(headers).then(|| headers.get(header::UPGRADE).cloned()).flatten();
    strip(headers);
    // Its answer is given here.
    headers.remove(header::EXPECT);
    if let Some(protocol) = upgrade {
        set_upgrade(headers, protocol);
    }
    let peer = peer.to_canonical();
    let before = headers.get_all(FORWARDED_FOR).into_iter().filter_map(|value| value.to_str().ok());
    let all: Vec<String> = before.map(str::to_owned).chain([peer.to_string()]).collect();
    if let Ok(all) = HeaderValue::try_from(all.join(", ")) {
        headers.insert(FORWARDED_FOR, all);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
}

/// Takes out what is said of one connection only.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = connection_words(headers).filter_map(|word| word.parse().ok()).collect();
    for name in named.iter().chain(&OF_A_CONNECTION) {
        headers.remove(name);
    }
}

fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

fn unavailable() -> Response<Body> {
    let mut response = says(StatusCode::SERVICE_UNAVAILABLE, "the service is not there yet");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn says(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn nothing() -> Body {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}
