//! The listeners: a socket in the state for this user alone, and a loopback address where that is wanted.

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use setpoint_runtime::cancel::Cancel;
use setpoint_runtime::paths::Roots;
use setpoint_sandbox::{passed_socket, with_short_path};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, oneshot};
use tokio_io_timeout::TimeoutStream;

use super::door::Door;
use super::{Api, CHILDREN, drift, guard, routes};

/// The socket in the state.
pub(crate) const SOCKET: &str = "api.sock";
/// The port of an address that nobody has named.
const USUAL: u16 = 7070;
/// How many connections are served at once, on each listener.
const CONNECTIONS: usize = 320;
/// How long a client may take to say what it wants, and to take what it is given.
const SLOW: Duration = Duration::from_secs(10);
const STUCK: Duration = Duration::from_secs(60);
/// The most that is read ahead of a request, in bytes: also the longest head of one.
const AHEAD: usize = 16 * 1024;
/// How long it may take to turn somebody away.
const PAUSE: Duration = Duration::from_millis(100);
/// How long commands may take that have not ended when the daemon does.
const ENDS: Duration = Duration::from_secs(10);
/// What is said to who comes too many.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The API while it is served.
pub(crate) struct Served {
    api: Arc<Api>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    /// Ends the API, after the commands that work for it, unless they take long or the user insists.
    pub(crate) fn end(self, cancel: &Cancel) {
        let began = Instant::now();
        while self.api.children.available_permits() < CHILDREN && !cancel.insisted() && began.elapsed() < ENDS
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The socket of a state, for its user alone: the one that systemd listens on for it, or one of its own.
pub(crate) fn socket(roots: &Roots) -> io::Result<StdUnixListener> {
    let path = roots.state.join(SOCKET);
    if let Some(passed) = passed_socket()? {
        let listener = StdUnixListener::from(passed);
        if listener.local_addr()?.as_pathname() != Some(&path) {
            return Err(io::Error::other(
                "systemd listens somewhere else; `setpoint daemon install` mends that",
            ));
        }
        listener.set_nonblocking(true)?;
        return Ok(listener);
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The folder is its user's alone, so that nobody comes in before the socket is, too.
    let listener = with_short_path(&path, StdUnixListener::bind)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves the API on a thread of its own, until what is given is dropped.
pub(crate) fn start(
    api: Arc<Api>,
    socket: StdUnixListener,
    address: Option<std::net::TcpListener>,
) -> io::Result<Served> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(2))
        .build()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let served = Arc::clone(&api);
    let thread = std::thread::Builder::new().name("api".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let open = routes(Arc::clone(&api)).layer(from_fn(guard::bounds));
            if let Ok(socket) = UnixListener::from_std(socket) {
                tokio::spawn(take_all(socket, open));
            }
            if let Some(Ok(listener)) = address.map(TcpListener::from_std) {
                tokio::spawn(take_all(listener, closed(&api)));
            }
            tokio::spawn(drift::keep(Arc::clone(&api)));
            let _ = stopped.await;
        });
        // Nobody is waited for: a stream has no end of its own.
        runtime.shutdown_background();
    })?;
    Ok(Served { api: served, stop: Some(stop), thread: Some(thread) })
}

/// What is served by an address: to who may come in.
fn closed(api: &Arc<Api>) -> Router {
    routes(Arc::clone(api))
        .layer(from_fn_with_state(Arc::clone(api), guard::at_door))
        .layer(from_fn(guard::bounds))
}

/// The door of the address; where there is none yet, an address of this machine is taken, the usual one if it is free.
pub(super) fn door(api: &Arc<Api>) -> io::Result<&Door> {
    if let Some(door) = api.door.get() {
        return Ok(door);
    }
    let bind = |port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bind(USUAL).or_else(|_| bind(0))?;
    listener.set_nonblocking(true)?;
    let door = Door::new(&api.roots, listener.local_addr()?)?;
    let listener = TcpListener::from_std(listener)?;
    // All requests are on this one thread: nobody else has been here since.
    let door = api.door.get_or_init(|| door);
    tokio::spawn(take_all(listener, closed(api)));
    Ok(door)
}

/// Takes who comes, until the thread ends. What cannot be taken now is tried again in a second.
async fn take_all(mut listener: impl Listener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (stream, _) = listener.accept().await;
        take(stream, &places, &router);
    }
}

/// Serves a connection, if there is a place for it.
fn take<S>(mut stream: S, places: &Arc<Semaphore>, router: &Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        tokio::spawn(async move {
            let refuse = async {
                stream.write_all(FULL).await?;
                // What he said is taken, or he would not hear the answer.
                stream.read(&mut [0; 1024]).await
            };
            let _ = tokio::time::timeout(PAUSE, refuse).await;
        });
        return;
    };
    let service = TowerToHyperService::new(router.clone());
    tokio::spawn(async move {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(STUCK));
        let stream = Box::pin(stream);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(SLOW)
            .max_buf_size(AHEAD)
            .serve_connection(TokioIo::new(stream), service);
        // How a client ends is its own affair.
        let _ = pin!(connection).await;
        drop(place);
    });
}
