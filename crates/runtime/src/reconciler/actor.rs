//! The actor of one unit: looks at it when something happens or it is time, and does what the pure core decides.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use setpoint_model::reconcile::{
    Action, Cause, Decision, Event, Fault, Health, History, Jitter, Seen, Situation, Time, decide,
};

use super::alert::Sender;
use super::control::{self, Asked, Request};
use super::{Deed, PASS, Shared, lock, look, put_history};
use crate::engine::{self, Engine, EngineError, UnitId, Watch};
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
        unit,
        on_engine,
        ended_unseen: None,
        told: None,
        alerts: Sender::default(),
        last: None,
    };
    while !shared.cancel.asked() {
        let (watched, at_most) = match actor.pass(wake) {
            Ok(Next::Gone) => return shared.watcher.left(actor.unit.id),
            Ok(Next::Wait { watched, at_most }) => (watched, at_most),
            // The disk or the engine is away: what runs is left alone.
            Err(trouble) => {
                actor.tell_again(trouble);
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
    unit: store::Unit,
    on_engine: UnitId,
    /// When it was first found ended, where nobody saw the end.
    ended_unseen: Option<Time>,
    /// What was last told of it.
    told: Option<String>,
    /// What others are told of it.
    alerts: Sender,
    /// What was known of it at the last look.
    last: Option<Situation>,
}

impl Actor<'_> {
    /// Looks once, and does what is to be done.
    fn pass(&mut self, wake: &Arc<Wake>) -> Result<Next, String> {
        let words = |error: StoreError| error.to_string();
        // While somebody else works on it, nothing that is seen counts.
        let NewUnit { project_root: root, name, .. } = &self.unit.unit;
        let taken =
            UnitLock::acquire(self.shared.roots, root, name, "setpoint daemon", |_| ControlFlow::Break(()));
        let _lock = match taken {
            Ok(lock) => lock,
            Err(LockError::Held { .. }) => {
                self.show_others_work().map_err(words)?;
                return Ok(Next::Wait { watched: Vec::new(), at_most: BUSY });
            }
            Err(error) => return Err(error.to_string()),
        };
        let Some(kept) = lock(&self.shared.store).kept(self.unit.id).map_err(words)? else {
            return Ok(Next::Gone);
        };
        if self.is_being_changed().map_err(words)? {
            return Ok(Next::Wait { watched: Vec::new(), at_most: LOOK });
        }
        let engine = self.shared.engine(&kept.unit.unit.engine)?;
        let requests = control::requests(&mut lock(&self.shared.store), &kept).map_err(words)?;
        // Before looking, so that nothing is missed between the two.
        let watch = engine.watch(&self.on_engine).unwrap_or_default();
        let (now, began) = (look::now(), Instant::now());
        let rules = look::rules(&kept)?;
        let alerts = rules.alerts.clone();
        let situation = look::situation(engine, &kept, rules, now, &mut self.ended_unseen);
        let (decision, mut history) = decide(&situation, now, jitter());
        self.shared.watcher.looked(began.elapsed());
        let roots = self.shared.roots;
        let alerted = self.alerts.pass(roots, &self.unit.unit, &alerts, &decision, &mut history, wake);
        if let Some(action) = &decision.action {
            self.act(engine, &situation, &decision, action, &history, requests).map_err(words)?;
            self.told = None;
            alerted.into_iter().for_each(|what| self.tell(what));
            // What came of it is looked at at once.
            return Ok(Next::Wait { watched: Vec::new(), at_most: Duration::ZERO });
        }
        if history != situation.history {
            let generation = kept.intent.generation;
            let remember = |writer: &Writer<'_>| put_history(writer, self.unit.id, generation, &history);
            lock(&self.shared.store).write(remember).map_err(words)?;
        }
        self.answer(&requests, &decision).map_err(words)?;
        self.show(Situation { history, ..situation.clone() });
        // Told once it is recorded.
        alerted.into_iter().for_each(|what| self.tell(what));
        self.tell_rest(&decision, now);
        let at_most = at_most(&situation, &decision, watch.as_ref(), now);
        let beside = match kept.intent.wanted {
            Wanted::Up => engine.tend(&self.on_engine).map_err(|error| error.to_string())?,
            Wanted::Stopped => Vec::new(),
        };
        let watched = watch.into_iter().map(|watch| watch.fd).chain(beside).collect();
        Ok(Next::Wait { watched, at_most })
    }

    /// Whether it is part of an upgrade that has not ended: what is seen of it then is neither old nor new.
    fn is_being_changed(&self) -> Result<bool, StoreError> {
        let NewUnit { project_root, name, .. } = &self.unit.unit;
        let open = lock(&self.shared.store).open_upgrade(project_root)?;
        let is_part = open.is_some_and(|row| row.upgrade.part(name).is_some());
        if is_part {
            self.shared.met_upgrade.store(true, Ordering::Relaxed);
        }
        Ok(is_part)
    }

    /// Does what was decided, and records what came of it.
    fn act(
        &mut self,
        engine: &dyn Engine,
        situation: &Situation,
        decision: &Decision,
        action: &Action,
        history: &History,
        requests: Vec<(TxId, Request)>,
    ) -> Result<(), StoreError> {
        let generation = situation.intent.generation;
        let (asked, request) = requests.into_iter().next().unzip();
        let asked_for = request.map(|request: Request| request.asked);
        let action = &as_asked(action, asked_for, situation);
        let what = match asked_for {
            Some(asked) => format!("{} (asked for)", asked.as_str()),
            None => format!("{} ({})", verb(action), decision.cause),
        };
        let operation = self.begin(asked, generation, action, &what, history)?;
        let phase = control::phase(action, look::now());
        let doing = phase.map(|phase| control::operation(phase, generation));
        self.show(Situation { operation: doing, history: history.clone(), ..situation.clone() });
        let event = self
            .carry_out(engine, action, generation)
            .unwrap_or_else(|(fault, why)| Event::Failed { fault, why });
        let is_over = matches!(action, Action::Restart { .. }) && event == Event::Stopped;
        let (outcome, why) = match &event {
            _ if is_over => (OperationOutcome::Cancelled, Some(control::REPLACED)),
            Event::Failed { why, .. } | Event::Broken { why } => {
                (OperationOutcome::Failed, Some(why.as_str()))
            }
            _ => (OperationOutcome::Succeeded, None),
        };
        let is_cancelled = control::is_cancelled(&lock(&self.shared.store).journal(&operation)?);
        let (outcome, why) = match is_cancelled {
            true => (OperationOutcome::Cancelled, Some(control::CANCELLED)),
            false => (outcome, why),
        };
        let failed = outcome == OperationOutcome::Failed;
        let ended = if failed { "failed: " } else { "" };
        self.tell(why.map_or_else(|| what.clone(), |why| format!("{what} {ended}{why}")));
        self.shared.watcher.acted(verb(action), failed);
        let mut after = history.record(&event, look::now(), jitter());
        if event == Event::Stopped || (event == Event::Started && !is_applied(situation)) {
            // The wish has been brought about.
            after = after.record(&Event::Applied { generation }, look::now(), jitter());
        }
        lock(&self.shared.store).write(|writer| {
            writer.finish(&operation, outcome, why, Timestamp::now())?;
            put_history(writer, self.unit.id, generation, &after)
        })?;
        self.shared.watcher.operation(&self.unit, &operation, Some(outcome));
        Ok(())
    }

    /// Writes down what is about to be done, in the operation that asked for it, if one did.
    fn begin(
        &self,
        asked: Option<TxId>,
        generation: u64,
        action: &Action,
        what: &str,
        history: &History,
    ) -> Result<TxId, StoreError> {
        let is_new = asked.is_none();
        let operation = asked.unwrap_or_else(|| TxId::new(crate::random::hex()));
        lock(&self.shared.store).write(|writer| {
            put_history(writer, self.unit.id, generation, history)?;
            if is_new {
                writer.begin(&operation, self.unit.id, what, Timestamp::now())?;
            }
            match ends_within(action) {
                Some(grace) => control::note_stop(writer, &operation, grace),
                None => writer.intent(&operation, "start", &serde_json::Value::Null, Timestamp::now()),
            }
        })?;
        self.shared.watcher.operation(&self.unit, &operation, None);
        Ok(operation)
    }

    fn carry_out(
        &self,
        engine: &dyn Engine,
        action: &Action,
        generation: u64,
    ) -> Result<Event, (Fault, String)> {
        let unit = &self.on_engine;
        let stop = |grace: u64| engine.stop(unit, Duration::from_millis(grace), self.shared.cancel);
        let failed = |fault: Fault| move |error: EngineError| (fault, error.to_string());
        match action {
            Action::Start => engine.start_again(unit).map(|()| Event::Started).map_err(failed(Fault::Start)),
            Action::Restart { grace } => {
                let grace = Duration::from_millis(*grace);
                self.bring_up(engine, Some(grace), generation)
            }
            Action::Converge => self.bring_up(engine, None, generation),
            Action::Stop { grace } => stop(*grace).map(|()| Event::Stopped).map_err(failed(Fault::Stop)),
            // What is declared is looked at when the user says so.
            Action::Remove { .. } | Action::Cancel => {
                Ok(Event::Broken { why: "it is not there; `setpoint up` makes it".to_owned() })
            }
        }
    }

    /// Brings it to running, as it was last brought up; what runs ends first within `ends`, if it has to.
    fn bring_up(
        &self,
        engine: &dyn Engine,
        ends: Option<Duration>,
        generation: u64,
    ) -> Result<Event, (Fault, String)> {
        let unit = &self.on_engine;
        let failed = |fault: Fault| move |error: EngineError| (fault, error.to_string());
        let _held = match engine.observe(unit).map_err(failed(Fault::Start))? {
            engine::Seen::Absent => {
                return Ok(Event::Broken { why: "it is not there; `setpoint up` makes it".to_owned() });
            }
            engine::Seen::Running(_) => match ends {
                Some(grace) => {
                    // Until it is back, or something else is wanted.
                    let held = engine.hold(unit).map_err(failed(Fault::Stop))?;
                    engine.stop(unit, grace, self.shared.cancel).map_err(failed(Fault::Stop))?;
                    held
                }
                None => return Ok(Event::Applied { generation }),
            },
            engine::Seen::Stopped(_) => None,
        };
        // The user may want something else by now.
        let kept = lock(&self.shared.store).kept(self.unit.id);
        if ends.is_some()
            && kept.is_ok_and(|kept| kept.is_none_or(|kept| kept.intent.generation != generation))
        {
            return Ok(Event::Stopped);
        }
        engine.start_again(unit).map(|()| Event::Started).map_err(failed(Fault::Start))
    }

    /// Answers what was asked of it, where there is nothing to do for it.
    fn answer(&self, requests: &[(TxId, Request)], decision: &Decision) -> Result<(), StoreError> {
        let Some(outcome) = control::ending(decision).filter(|_| !requests.is_empty()) else { return Ok(()) };
        let why = decision.cause.to_string();
        lock(&self.shared.store).write(|writer| {
            requests.iter().try_for_each(|(operation, _)| {
                writer.finish(operation, outcome, Some(&why), Timestamp::now())
            })
        })?;
        requests
            .iter()
            .for_each(|(operation, _)| self.shared.watcher.operation(&self.unit, operation, Some(outcome)));
        Ok(())
    }

    /// Shows what somebody else does to it.
    fn show_others_work(&mut self) -> Result<(), StoreError> {
        let Some(last) = &self.last else { return Ok(()) };
        let store = lock(&self.shared.store);
        let Some(kept) = store.kept(self.unit.id)? else { return Ok(()) };
        let operation = control::under_way(&store, self.shared.roots, &kept.unit, last.rules.stop_grace)?;
        drop(store);
        let intent = look::intent(&kept);
        self.show(Situation { operation, intent, ..last.clone() });
        Ok(())
    }

    fn show(&mut self, situation: Situation) {
        self.shared.watcher.situation(&self.unit, &situation);
        self.last = Some(situation);
    }

    /// Tells what is waited for, once.
    fn tell_rest(&mut self, decision: &Decision, now: Time) {
        match (&decision.cause, &decision.waiting_for) {
            (Cause::BackOff { attempt, .. }, _) => {
                let wait = decision.wake_at.unwrap_or(now).saturating_sub(now);
                let wait = Duration::from_millis(wait).as_secs_f64();
                let until = format!("{attempt} {:?}", decision.wake_at);
                self.tell_once(until, format!("try {attempt} comes in {wait:.1}s"));
            }
            (Cause::Held { .. } | Cause::NoAnswer, _) => {
                self.tell_again(format!("left alone: {}", decision.cause));
            }
            (_, Some((unit, _))) => self.tell_again(format!("waits for {unit}")),
            _ => self.told = None,
        }
    }

    /// Tells what is so until something else is, once.
    fn tell_again(&mut self, what: String) {
        self.tell_once(what.clone(), what);
    }

    /// Tells something once, for as long as what it is about is the same.
    fn tell_once(&mut self, about: String, what: String) {
        if self.told.as_ref() != Some(&about) {
            self.tell(what);
            self.told = Some(about);
        }
    }

    fn tell(&self, what: String) {
        let NewUnit { name: unit, project_root, .. } = self.unit.unit.clone();
        self.shared.watcher.deed(&Deed { unit, project_root, what });
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

/// What is done where somebody asked for it: what runs ends first if it is to be restarted, and at once if it is to be
/// killed.
fn as_asked(action: &Action, asked: Option<Asked>, situation: &Situation) -> Action {
    match (action, asked) {
        (Action::Converge, Some(Asked::Restart)) => Action::Restart { grace: situation.rules.stop_grace },
        (Action::Stop { .. }, Some(Asked::Kill)) => Action::Stop { grace: 0 },
        _ => action.clone(),
    }
}

fn is_applied(situation: &Situation) -> bool {
    situation.history.applied == Some(situation.intent.generation)
}

/// How long what runs may take to end, if an action ends it.
fn ends_within(action: &Action) -> Option<Duration> {
    match action {
        Action::Stop { grace } | Action::Restart { grace } | Action::Remove { grace } => {
            Some(Duration::from_millis(*grace))
        }
        Action::Start | Action::Converge | Action::Cancel => None,
    }
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

fn jitter() -> Jitter {
    let digits = crate::random::hex();
    let number = u64::from_str_radix(&digits, 16).unwrap_or_default() % 1001;
    Jitter::new(u16::try_from(number).unwrap_or_default())
}
