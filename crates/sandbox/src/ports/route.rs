//! Where what comes to a port goes: to a sandbox, or nowhere for now, and then it waits.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::http::Idle;

/// How long somebody who came waits at most.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a sandbox that has taken connections may refuse them before that is its answer.
const SETTLES: Duration = Duration::from_secs(1);
/// How long the sandbox may take to take a connection.
const CONNECTS: Duration = Duration::from_secs(10);
/// How long between two tries.
const TRY: Duration = Duration::from_millis(5);
/// How long what a sandbox said last may be on its way when it has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How many of those who waited are let in at once: a server queues only few whom it has not taken, and drops others.
const AT_ONCE: usize = 4;
/// How long one of them keeps the next one waiting, if he has not been answered.
pub(super) const KEEPS: Duration = Duration::from_millis(200);

/// Where what comes to a port is led.
#[derive(Debug)]
pub(super) struct Route {
    /// Where it leads to. Nobody passes while there is nothing.
    gate: watch::Sender<Option<Arc<Target>>>,
}

/// How much is under way in a sandbox, on all ports that lead there.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<AtomicUsize>);

/// Something that is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Busy);

impl Busy {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) -> UnderWay {
        self.0.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Route {
    pub(super) fn new() -> Self {
        Self { gate: watch::Sender::new(None) }
    }

    /// Lets all pass who wait, to this target.
    pub(super) fn open(&self, to: Arc<Target>) {
        self.gate.send_replace(Some(to));
    }

    /// Lets nobody pass.
    pub(super) fn close(&self) {
        self.gate.send_replace(None);
    }

    /// Where it leads to at the moment.
    pub(super) fn now(&self) -> Option<Arc<Target>> {
        self.gate.borrow().clone()
    }

    /// Passes, as soon as it leads somewhere; nothing if it does not as long as he has patience.
    pub(super) async fn pass(&self, patience: &mut Patience) -> Option<(Arc<Target>, UnderWay)> {
        let mut gate = self.gate.subscribe();
        patience.has_waited |= gate.borrow().is_none();
        let opened = timeout_at(patience.until, gate.wait_for(Option::is_some)).await.ok()?.ok()?;
        // Before anybody else can close it.
        opened.clone().map(|target| {
            let under_way = target.busy.begin();
            (target, under_way)
        })
    }
}

/// A port of one sandbox.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    since: Instant,
    /// Whether it is waited for when it does not listen.
    listens: bool,
    /// Whether it has taken a connection.
    has_accepted: AtomicBool,
    /// Held by the one who tries, while it has not.
    first: tokio::sync::Mutex<()>,
    /// Where those come in who have waited.
    door: Arc<Semaphore>,
    /// Whether the sandbox has ended.
    gone: watch::Receiver<bool>,
    /// What it has under way.
    pub(super) busy: Busy,
    idle: Mutex<Idle>,
}

impl Target {
    pub(super) fn new(address: SocketAddr, listens: bool, gone: watch::Receiver<bool>, busy: Busy) -> Self {
        Self {
            address,
            since: Instant::now(),
            listens,
            has_accepted: AtomicBool::new(false),
            first: tokio::sync::Mutex::default(),
            door: Arc::new(Semaphore::new(AT_ONCE)),
            gone,
            busy,
            idle: Mutex::default(),
        }
    }

    /// The connections to it that nobody uses at the moment.
    pub(super) fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the sandbox has ended, and its last words have come.
    pub(super) async fn ended(&self) {
        self.ends().await;
        sleep(LAST_WORDS).await;
    }

    /// A place among those who are let in at once, for one who has waited, or comes as they do; nobody else needs one.
    pub(super) async fn enter(&self, patience: &Patience) -> Option<OwnedSemaphorePermit> {
        // Some have waited without anybody having seen it yet.
        let is_new = !self.has_accepted.load(Ordering::Relaxed) || self.since.elapsed() < SETTLES;
        if !patience.has_waited && !is_new {
            return None;
        }
        tokio::select! {
            entered = timeout_at(patience.until, Arc::clone(&self.door).acquire_owned()) => entered.ok()?.ok(),
            () = self.ends() => None,
        }
    }

    async fn ends(&self) {
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }

    /// Connects; to a sandbox that has just been started, as soon as it listens.
    pub(super) async fn connect(&self, until: Instant) -> io::Result<TcpStream> {
        if !self.listens || self.has_accepted.load(Ordering::Relaxed) {
            return self.connect_once().await;
        }
        let until = until.min(self.since + PATIENCE);
        // One of those who wait tries for all.
        let _first = timeout_at(until, self.first.lock()).await?;
        loop {
            match self.connect_once().await {
                Ok(stream) => {
                    self.has_accepted.store(true, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(_) if !*self.gone.borrow() && Instant::now() < until => sleep(TRY).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect_once(&self) -> io::Result<TcpStream> {
        let stream = tokio::select! {
            stream = timeout(CONNECTS, TcpStream::connect(self.address)) => stream??,
            () = self.ends() => return Err(io::ErrorKind::NotConnected.into()),
        };
        prepare(&stream)?;
        Ok(stream)
    }
}

/// What all connections are like.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Somebody who vanished without a word is noticed in the end.
    Ok(rustix::net::sockopt::set_socket_keepalive(stream, true)?)
}

/// How long somebody goes on trying.
#[derive(Debug)]
pub(super) struct Patience {
    pub(super) until: Instant,
    /// Whether it could not be led on at once.
    has_waited: bool,
    refused: Option<(Arc<Target>, Instant)>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { until: Instant::now() + PATIENCE, has_waited: false, refused: None }
    }

    /// Whether to try again after this target has failed; it may be about to end, or to be replaced.
    pub(super) async fn tries_again(&mut self, failed: &Arc<Target>) -> bool {
        let now = Instant::now();
        let since = match &self.refused {
            Some((target, since)) if Arc::ptr_eq(target, failed) => *since,
            _ => now,
        };
        self.refused = Some((Arc::clone(failed), since));
        self.has_waited = true;
        let tries = failed.listens && now < self.until && now.duration_since(since) < SETTLES;
        if tries {
            sleep(TRY).await;
        }
        tries
    }
}
