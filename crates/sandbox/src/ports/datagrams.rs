//! Datagrams, passed on. What cannot be passed on is lost, as datagrams are.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::route::{Route, Target};

/// How long nothing may come back to somebody who sent datagrams before he is forgotten.
const FORGETS: Duration = Duration::from_secs(90);
/// How many who send datagrams are known at once.
const SENDERS: usize = 1024;
/// How long to wait after an error that may go away.
const PAUSE: Duration = Duration::from_millis(50);
const DATAGRAM: usize = 65_536;

/// Each sender has a socket of his own inside: answers go to whom they are meant for.
type Senders = Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>;

/// Passes on datagrams for ever.
pub(super) async fn serve(outer: Arc<UdpSocket>, route: Arc<Route>) {
    let senders = Senders::default();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok((read, sender)) = outer.recv_from(&mut buffer).await else {
            sleep(PAUSE).await;
            continue;
        };
        let Some(target) = route.now() else { continue };
        if let Ok(inner) = socket_of(&senders, sender, &outer, target).await {
            let _ = inner.send(&buffer[..read]).await;
        }
    }
}

fn known(senders: &Senders) -> MutexGuard<'_, HashMap<SocketAddr, Arc<UdpSocket>>> {
    senders.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn socket_of(
    senders: &Senders,
    sender: SocketAddr,
    outer: &Arc<UdpSocket>,
    target: Arc<Target>,
) -> io::Result<Arc<UdpSocket>> {
    let to = target.address;
    if let Some(inner) =
        known(senders).get(&sender).filter(|inner| inner.peer_addr().is_ok_and(|at| at == to))
    {
        return Ok(Arc::clone(inner));
    }
    if known(senders).len() >= SENDERS {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    let inner = Arc::new(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?);
    inner.connect(to).await?;
    known(senders).insert(sender, Arc::clone(&inner));
    let (answers, outer, all) = (Arc::clone(&inner), Arc::clone(outer), Arc::clone(senders));
    tokio::spawn(async move {
        tokio::select! {
            () = answer(&answers, &outer, sender) => {}
            () = target.ended() => {}
        }
        let mut known = known(&all);
        // He may have another one by now, to another sandbox.
        if known.get(&sender).is_some_and(|inner| Arc::ptr_eq(inner, &answers)) {
            known.remove(&sender);
        }
    });
    Ok(inner)
}

/// Passes answers back to a sender until none has come for long.
async fn answer(inner: &UdpSocket, outer: &UdpSocket, sender: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM];
    while let Ok(came) = timeout(FORGETS, inner.recv(&mut buffer)).await {
        match came {
            Ok(read) => drop(outer.send_to(&buffer[..read], sender).await),
            // Nobody listens inside yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}
