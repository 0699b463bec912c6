//! What tells that something has happened to a container: the engine's stream of events, one for all who wait.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use rustix::event::{EventfdFlags, eventfd};

use super::client::Connected;

/// From how long before it began the stream tells, so that nothing is lost while it begins.
const BEFORE: SignedDuration = SignedDuration::from_secs(2);

/// Who waits for which container.
#[derive(Debug, Default)]
pub(super) struct Happenings(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    bells: BTreeMap<String, OwnedFd>,
    is_listening: bool,
}

impl Happenings {
    /// What becomes readable when something happens to the container of this name or id; one at a time for each.
    pub(super) fn of(&self, connected: &Connected, container: &str) -> Option<OwnedFd> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        let own = bell.try_clone().ok()?;
        let mut waiting = lock(&self.0);
        waiting.bells.insert(container.to_owned(), bell);
        if !waiting.is_listening {
            waiting.is_listening = true;
            connected.spawn(listen(connected.api.clone(), Arc::clone(&self.0)));
        }
        Some(own)
    }
}

/// Rings for whom something has happened, until the stream ends: then everybody looks for himself, and who waits again
/// makes a new one.
async fn listen(api: bollard::Docker, waiting: Arc<Mutex<Waiting>>) {
    // All are listened to: Podman tells nothing at all when it is asked by a label.
    let filters = HashMap::from([("type", vec!["container"])]);
    let since = Timestamp::now().saturating_sub(BEFORE).unwrap_or(Timestamp::UNIX_EPOCH).as_second();
    let options = EventsOptionsBuilder::default().filters(&filters).since(&since.to_string()).build();
    let mut events = std::pin::pin!(api.events(Some(options)));
    while let Some(Ok(event)) = events.next().await {
        // What is run inside changes nothing of the container itself.
        let is_inside = event.action.is_some_and(|action| action.starts_with("exec"));
        let Some(mut actor) = event.actor.filter(|_| !is_inside) else { continue };
        let name = actor.attributes.as_mut().and_then(|attributes| attributes.remove("name"));
        for known_as in name.into_iter().chain(actor.id) {
            if let Some(bell) = lock(&waiting).bells.remove(&known_as) {
                ring(&bell);
            }
        }
    }
    let mut waiting = lock(&waiting);
    waiting.is_listening = false;
    std::mem::take(&mut waiting.bells).values().for_each(ring);
}

fn ring(bell: &OwnedFd) {
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
