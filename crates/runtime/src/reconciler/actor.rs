//! The actor of one unit: looks at it when something happens or it is time, and does what the pure core decides.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use setpoint_model::reconcile::{
    Action, Cause, Decision, Event, Fault, Health, History, Jitter, Seen, Situation, Time, decide,
};

use super::alert::Sender;
use super::{Deed, PASS, Shared, lock, look};
use crate::engine::{Engine, EngineError, UnitId, Watch};
use crate::lock::{LockError, UnitLock};
use crate::store::{self, NewUnit, OperationOutcome, StoreError, TxId, Wanted, Writer};

/// How often a unit is looked at that nothing tells of: its check, the units that it waits for, an engine that tells
/// nothing.
const LOOK: Duration = Duration::from_secs(1);
/// How often is looked whether somebody else still works on it.
const BUSY: Duration = Duration::from_millis(100);

/// What wakes an actor.
#[derive(Debug)]
pub(super) struct Wake(OwnedFd);

impl Wake {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Has the actor look at its unit.
    pub(super) fn ring(&self) {
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn quiet(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// Keeps a unit as it is wanted, until nobody wants anything of it or the daemon stops.
pub(super) fn run(shared: &Shared<'_>, unit: store::Unit, wake: &Arc<Wake>) {
    let on_engine = UnitId::new(&unit.unit.project_root, &unit.unit.name);
    let mut actor = Actor {
        shared,
        row: unit.id,
        unit: unit.unit,
        on_engine,
        ended_unseen: None,
        told: None,
        alerts: Sender::default(),
    };
    while !shared.cancel.asked() {
        let (watched, at_most) = match actor.pass(wake) {
            Ok(Next::Gone) => return,
            Ok(Next::Wait { watched, at_most }) => (watched, at_most),
            // The disk or the engine is away: what runs is left alone.
            Err(trouble) => {
                actor.tell_once(trouble);
                (Vec::new(), LOOK)
            }
        };
        wait(wake, &watched, at_most);
        wake.quiet();
    }
}

/// What follows a look.
enum Next {
    /// Nothing is wanted of the unit any more.
    Gone,
    /// Look again when one of these becomes readable, or after this time.
    Wait { watched: Vec<OwnedFd>, at_most: Duration },
}

struct Actor<'a> {
    shared: &'a Shared<'a>,
    row: store::UnitId,
    unit: NewUnit,
    on_engine: UnitId,
    /// When it was first found ended, where nobody saw the end.
    ended_unseen: Option<Time>,
    /// What was last told of it.
    told: Option<String>,
    /// What others are told of it.
    alerts: Sender,
}

impl Actor<'_> {
    /// Looks once, and does what is to be done.
    fn pass(&mut self, wake: &Arc<Wake>) -> Result<Next, String> {
        let words = |error: StoreError| error.to_string();
        // While somebody else works on it, nothing that is seen counts.
        let (root, name) = (&self.unit.project_root, &self.unit.name);
        let taken =
            UnitLock::acquire(self.shared.roots, root, name, "setpoint daemon", |_| ControlFlow::Break(()));
        let _lock = match taken {
            Ok(lock) => lock,
            Err(LockError::Held { .. }) => return Ok(Next::Wait { watched: Vec::new(), at_most: BUSY }),
            Err(error) => return Err(error.to_string()),
        };
        let Some(kept) = lock(&self.shared.store).kept(self.row).map_err(words)? else {
            return Ok(Next::Gone);
        };
        let engine = self.shared.engine(&kept.unit.unit.engine)?;
        // Before looking, so that nothing is missed between the two.
        let watch = engine.watch(&self.on_engine).unwrap_or_default();
        let now = look::now();
        let rules = look::rules(&kept)?;
        let alerts = rules.alerts.clone();
        let situation = look::situation(engine, &kept, rules, now, &mut self.ended_unseen);
        let (decision, mut history) = decide(&situation, now, jitter());
        let roots = self.shared.roots;
        let alerted = self.alerts.pass(roots, &self.unit, &alerts, &decision, &mut history, wake);
        if let Some(action) = &decision.action {
            let what = format!("{} ({})", verb(action), decision.cause);
            self.act(engine, kept.intent.generation, action, &what, &history).map_err(words)?;
            self.told = None;
            alerted.into_iter().for_each(|what| self.tell(what));
            // What came of it is looked at at once.
            return Ok(Next::Wait { watched: Vec::new(), at_most: Duration::ZERO });
        }
        if history != situation.history {
            let generation = kept.intent.generation;
            let remember = |writer: &Writer<'_>| writer.put_history(self.row, generation, &json(&history));
            lock(&self.shared.store).write(remember).map_err(words)?;
        }
        // Told once it is recorded.
        alerted.into_iter().for_each(|what| self.tell(what));
        self.tell_rest(&decision, now);
        let at_most = at_most(&situation, &decision, watch.as_ref(), now);
        let ports = match kept.intent.wanted {
            Wanted::Up => engine.tend(&self.on_engine).map_err(|error| error.to_string())?,
            Wanted::Stopped => None,
        };
        let watched = watch.into_iter().map(|watch| watch.fd).chain(ports).collect();
        Ok(Next::Wait { watched, at_most })
    }

    /// Does what was decided, and records what came of it.
    fn act(
        &self,
        engine: &dyn Engine,
        generation: u64,
        action: &Action,
        what: &str,
        history: &History,
    ) -> Result<(), StoreError> {
        let operation = TxId::new(crate::random::hex());
        lock(&self.shared.store).write(|writer| {
            writer.put_history(self.row, generation, &json(history))?;
            writer.begin(&operation, self.row, what, Timestamp::now())
        })?;
        let event =
            self.carry_out(engine, action).unwrap_or_else(|(fault, why)| Event::Failed { fault, why });
        let (outcome, why) = match &event {
            Event::Failed { why, .. } | Event::Broken { why } => {
                (OperationOutcome::Failed, Some(why.as_str()))
            }
            _ => (OperationOutcome::Succeeded, None),
        };
        self.tell(why.map_or_else(|| what.to_owned(), |why| format!("{what} failed: {why}")));
        let mut after = history.record(&event, look::now(), jitter());
        if event == Event::Stopped {
            // The wish has been brought about.
            after = after.record(&Event::Applied { generation }, look::now(), jitter());
        }
        lock(&self.shared.store).write(|writer| {
            writer.finish(&operation, outcome, why, Timestamp::now())?;
            writer.put_history(self.row, generation, &json(&after))
        })?;
        Ok(())
    }

    fn carry_out(&self, engine: &dyn Engine, action: &Action) -> Result<Event, (Fault, String)> {
        let unit = &self.on_engine;
        let stop = |grace: u64| engine.stop(unit, Duration::from_millis(grace), self.shared.cancel);
        let failed = |fault: Fault| move |error: EngineError| (fault, error.to_string());
        match action {
            Action::Start => engine.start_again(unit).map(|()| Event::Started).map_err(failed(Fault::Start)),
            Action::Restart { grace } => {
                let _held = engine.hold(unit).map_err(failed(Fault::Stop))?;
                stop(*grace).map_err(failed(Fault::Stop))?;
                engine.start_again(unit).map(|()| Event::Started).map_err(failed(Fault::Start))
            }
            Action::Stop { grace } => stop(*grace).map(|()| Event::Stopped).map_err(failed(Fault::Stop)),
            // What is declared is looked at when the user says so.
            Action::Converge | Action::Remove { .. } | Action::Cancel => {
                Ok(Event::Broken { why: "it is not there; `setpoint up` makes it".to_owned() })
            }
        }
    }

    /// Tells what is waited for, once.
    fn tell_rest(&mut self, decision: &Decision, now: Time) {
        match (&decision.cause, &decision.waiting_for) {
            (Cause::BackOff { attempt, .. }, _) => {
                let wait = decision.wake_at.unwrap_or(now).saturating_sub(now);
                let wait = Duration::from_millis(wait).as_secs_f64();
                self.tell_once(format!("try {attempt} comes in {wait:.1}s"));
            }
            (Cause::Held { .. } | Cause::NoAnswer, _) => {
                self.tell_once(format!("left alone: {}", decision.cause));
            }
            (_, Some((unit, _))) => self.tell_once(format!("waits for {unit}")),
            _ => self.told = None,
        }
    }

    fn tell_once(&mut self, what: String) {
        if self.told.as_ref() != Some(&what) {
            self.tell(what.clone());
            self.told = Some(what);
        }
    }

    fn tell(&self, what: String) {
        let (unit, project_root) = (self.unit.name.clone(), self.unit.project_root.clone());
        (self.shared.tell)(&Deed { unit, project_root, what });
    }
}

/// How long to wait for the next look, if nothing happens before.
fn at_most(situation: &Situation, decision: &Decision, watch: Option<&Watch>, now: Time) -> Duration {
    let wake_at = decision.wake_at.map(|at| Duration::from_millis(at.saturating_sub(now).max(1)));
    let tells_nothing = match &situation.observed.seen {
        Seen::Running { health, .. } => {
            watch.is_none_or(|watch| *health != Some(Health::NoCheck) && !watch.tells_health)
        }
        Seen::Unknown => true,
        Seen::Absent | Seen::Ended { .. } => false,
    };
    let look = if tells_nothing || decision.waiting_for.is_some() { LOOK } else { PASS };
    wake_at.unwrap_or(look).min(look)
}

fn wait(wake: &Wake, watched: &[OwnedFd], at_most: Duration) {
    let fds: Vec<BorrowedFd<'_>> =
        std::iter::once(wake.0.as_fd()).chain(watched.iter().map(AsFd::as_fd)).collect();
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = Timespec::try_from(at_most).ok();
    let _ = poll(&mut polled, timeout.as_ref());
}

fn verb(action: &Action) -> &'static str {
    match action {
        Action::Start | Action::Converge => "start",
        Action::Restart { .. } => "restart",
        Action::Stop { .. } => "stop",
        Action::Remove { .. } => "remove",
        Action::Cancel => "cancel",
    }
}

fn json(history: &History) -> String {
    serde_json::to_string(history).unwrap_or_default()
}

fn jitter() -> Jitter {
    let digits = crate::random::hex();
    let number = u64::from_str_radix(&digits, 16).unwrap_or_default() % 1001;
    Jitter::new(u16::try_from(number).unwrap_or_default())
}
