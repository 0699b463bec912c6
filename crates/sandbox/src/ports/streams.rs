//! Connections, passed on as they are.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::http;
use super::route::{Busy, KEEPS, Patience, Route, UnderWay, prepare};

/// How long to wait after an error that may go away: all descriptors are in use.
const PAUSE: Duration = Duration::from_millis(50);
/// How long after its last word an answer counts as given.
const QUIET: Duration = Duration::from_millis(50);
const BUFFER: usize = 16 * 1024;

/// Takes connections for ever, and passes them on.
pub(super) async fn serve(listener: Arc<TcpListener>, route: Arc<Route>, is_http: bool) {
    loop {
        match listener.accept().await {
            Ok((outer, _)) => {
                let route = Arc::clone(&route);
                tokio::spawn(async move {
                    if is_http && http::speaks(&outer).await {
                        http::serve(outer, route).await;
                    } else {
                        relay(outer, &route).await;
                    }
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Passes on a connection, until both sides have said all.
async fn relay(outer: TcpStream, route: &Route) {
    let mut patience = Patience::new();
    let (inner, target, under_way, place) = loop {
        let Some((target, under_way)) = route.pass(&mut patience).await else { return };
        let place = target.enter(&patience).await;
        match target.connect(patience.until).await {
            Ok(inner) => break (inner, target, under_way, place),
            Err(_) => drop(under_way),
        }
        if !patience.tries_again(&target).await {
            return;
        }
    };
    if prepare(&outer).is_err() {
        return;
    }
    let turn =
        Turn { busy: target.busy.clone(), under_way: Mutex::new(Some(under_way)), place: Mutex::new(place) };
    let ((outer_read, outer_write), (inner_read, inner_write)) = (outer.into_split(), inner.into_split());
    let talk = async {
        // When one of them is gone, so is the reason to listen to the other.
        tokio::try_join!(
            pass(outer_read, inner_write, Side::Asks, &turn),
            pass(inner_read, outer_write, Side::Answers, &turn)
        )
    };
    tokio::select! {
        _ = talk => {}
        () = turn.gives_up_its_place() => {}
        () = target.ended() => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Asks,
    Answers,
}

/// Whose turn it is to speak. Something is under way from a word of the one who came until the answer to it is over.
struct Turn {
    busy: Busy,
    under_way: Mutex<Option<UnderWay>>,
    /// Among those who are let in, until he is answered, or for a while.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Turn {
    fn begins(&self) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.get_or_insert_with(|| self.busy.begin());
    }

    fn is_in(&self) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Never comes back.
    async fn gives_up_its_place(&self) {
        sleep(KEEPS).await;
        self.is_in();
        std::future::pending().await
    }

    fn is_over(&self) {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Passes on what one side says until it has said all; the other one may still answer.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, side: Side, turn: &Turn) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut has_answered = false;
    loop {
        let read = if has_answered {
            match timeout(QUIET, from.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => {
                    has_answered = false;
                    turn.is_over();
                    continue;
                }
            }
        } else {
            from.read(&mut buffer).await
        };
        let read = read?;
        if read == 0 {
            break;
        }
        match side {
            Side::Asks => turn.begins(),
            Side::Answers => {
                has_answered = true;
                turn.is_in();
            }
        }
        to.write_all(&buffer[..read]).await?;
    }
    if side == Side::Answers {
        turn.is_over();
    }
    to.shutdown().await
}
