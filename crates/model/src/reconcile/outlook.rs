//! What comes next for a unit on which nobody works: the rules, which the decision and the displayed state share.

use super::budget::Fault;
use super::decision::{Action, Cause, Reason};
use super::facts::{Awaited, Health, Seen, Situation, Time, Wish};
use super::history::History;
use crate::import::compose::{Condition, RestartPolicy};
use crate::names::UnitName;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Nothing; with the time when that may change by itself.
    Rest(Cause, Option<Time>),
    /// This, now.
    Act(Action, Cause),
    /// The same after a wait, since it failed before.
    BackOff { fault: Fault, attempt: u32, until: Time },
    /// The same after another unit has come to something.
    WaitFor(UnitName, Condition),
    /// Nothing before the user has looked at it.
    Hold(Reason),
    /// Nothing at all before a person has looked at it.
    NeedsOperator(String),
}

/// What stands in the way of bringing a unit up.
const BEFORE_UP: [Fault; 6] =
    [Fault::Pull, Fault::Create, Fault::Start, Fault::Stop, Fault::Remove, Fault::Crash];
/// What stands in the way of changing one that runs.
const BEFORE_UPDATE: [Fault; 5] = [Fault::Pull, Fault::Create, Fault::Start, Fault::Stop, Fault::Remove];
/// What stands in the way of starting one anew that runs and is not well.
const BEFORE_RESTART: [Fault; 3] = [Fault::Health, Fault::Start, Fault::Stop];

/// What comes next for a unit, given its history with what was observed last.
pub(super) fn outlook(situation: &Situation, history: &History, now: Time) -> Outlook {
    if let Some(why) = &history.needs_operator {
        return Outlook::NeedsOperator(why.clone());
    }
    if situation.is_stale(now) {
        return Outlook::Rest(Cause::Stale, None);
    }
    let unit = Unit { situation, history, now };
    match (situation.intent.wish, &situation.observed.seen) {
        (_, Seen::Unknown) => Outlook::Rest(Cause::NoAnswer, None),
        (Wish::Gone, seen) => unit.gone(seen),
        (Wish::Stopped, seen) => unit.stopped(seen),
        (Wish::Up, Seen::Absent) => unit.absent(),
        (Wish::Up, Seen::Ended { code, .. }) => unit.ended(*code),
        (Wish::Up, Seen::Running { since, grace, health, .. }) => {
            unit.running(since.saturating_add(*grace), *health)
        }
    }
}

struct Unit<'a> {
    situation: &'a Situation,
    history: &'a History,
    now: Time,
}

impl Unit<'_> {
    fn gone(&self, seen: &Seen) -> Outlook {
        if *seen == Seen::Absent {
            return Outlook::Rest(Cause::AsDeclared, None);
        }
        let grace = self.situation.rules.stop_grace;
        self.unless_failed(&[Fault::Stop, Fault::Remove], Action::Remove { grace }, Cause::Unwanted)
    }

    fn stopped(&self, seen: &Seen) -> Outlook {
        if !matches!(seen, Seen::Running { .. }) {
            return Outlook::Rest(Cause::StoppedByUser, None);
        }
        let grace = self.situation.rules.stop_grace;
        self.unless_failed(&[Fault::Stop], Action::Stop { grace }, Cause::StoppedByUser)
    }

    fn absent(&self) -> Outlook {
        if !self.situation.is_applied() {
            return self.up(&BEFORE_UP, Action::Converge, self.new_generation());
        }
        if self.has_completed() {
            return Outlook::Rest(Cause::Completed, None);
        }
        if self.situation.rules.restart == RestartPolicy::No {
            return Outlook::Rest(Cause::RemovedOutside, None);
        }
        self.up(&BEFORE_UP, Action::Converge, Cause::RemovedOutside)
    }

    fn ended(&self, code: Option<i32>) -> Outlook {
        if self.history.half_removed {
            let grace = self.situation.rules.stop_grace;
            return self.unless_failed(
                &[Fault::Stop, Fault::Remove],
                Action::Remove { grace },
                Cause::HalfRemoved,
            );
        }
        if !self.situation.is_applied() {
            return self.up(&BEFORE_UP, Action::Converge, self.new_generation());
        }
        if self.situation.rules.completes && code == Some(0) {
            return Outlook::Rest(Cause::Completed, None);
        }
        let ended = Cause::Ended { code };
        match self.situation.rules.restart {
            RestartPolicy::No => Outlook::Rest(Cause::RestartPolicy, None),
            RestartPolicy::OnFailure { .. } if code == Some(0) => Outlook::Rest(Cause::RestartPolicy, None),
            RestartPolicy::OnFailure { .. } | RestartPolicy::Always | RestartPolicy::UnlessStopped => {
                self.up(&BEFORE_UP, Action::Start, ended)
            }
        }
    }

    /// A unit that runs, and whose check counts from `judged_from` on.
    fn running(&self, judged_from: Time, health: Option<Health>) -> Outlook {
        if !self.situation.is_applied() {
            return self.up(&BEFORE_UPDATE, Action::Converge, self.new_generation());
        }
        match health {
            None => Outlook::Rest(Cause::Starting, None),
            Some(Health::Unhealthy) if self.now < judged_from => {
                Outlook::Rest(Cause::Starting, Some(judged_from))
            }
            Some(Health::Unhealthy) if self.situation.rules.restart == RestartPolicy::No => {
                Outlook::Rest(Cause::RestartPolicy, None)
            }
            Some(Health::Unhealthy) => {
                let grace = self.situation.rules.stop_grace;
                self.up(&BEFORE_RESTART, Action::Restart { grace }, Cause::Unhealthy)
            }
            Some(_) if self.situation.observed.drift => Outlook::Rest(Cause::Drift, None),
            Some(_) => Outlook::Rest(Cause::AsDeclared, None),
        }
    }

    fn new_generation(&self) -> Cause {
        Cause::NewGeneration { generation: self.situation.intent.generation }
    }

    /// Whether it is one that others wait for to end, and did so as it is wanted now.
    fn has_completed(&self) -> bool {
        let generation = self.situation.intent.generation;
        self.situation.rules.completes && self.history.completed == Some(generation)
    }

    /// This, once nothing stands in the way of it and all that it depends on is there.
    fn up(&self, faults: &[Fault], action: Action, cause: Cause) -> Outlook {
        match (self.unless_failed(faults, action, cause), self.waits_for()) {
            (Outlook::Act(..), Some(awaited)) => {
                Outlook::WaitFor(awaited.unit.clone(), awaited.dependency.condition)
            }
            (outlook, _) => outlook,
        }
    }

    /// The first unit that has not come to what this one needs.
    fn waits_for(&self) -> Option<&Awaited> {
        self.situation.dependencies.iter().find(|awaited| awaited.standing.gates(awaited.dependency))
    }

    /// This, unless it failed too often, or too short a while ago.
    fn unless_failed(&self, faults: &[Fault], action: Action, cause: Cause) -> Outlook {
        let is_way_up = !matches!(action, Action::Stop { .. } | Action::Remove { .. });
        if let Some(why) = self.history.permanent.as_ref().filter(|_| is_way_up) {
            return Outlook::Hold(Reason::Permanent { why: why.clone() });
        }
        if let Some(fault) = faults.iter().find(|fault| self.is_spent(**fault)) {
            let budget = self.history.budget(*fault);
            return Outlook::Hold(Reason::Spent {
                fault: *fault,
                times: budget.failures,
                why: budget.why.clone(),
            });
        }
        let waits = faults.iter().filter_map(|fault| {
            let budget = self.history.budget(*fault);
            Some((budget.waits_until(self.now)?, *fault, budget.failures))
        });
        match waits.max() {
            Some((until, fault, attempt)) => Outlook::BackOff { fault, attempt, until },
            None => Outlook::Act(action, cause),
        }
    }

    fn is_spent(&self, fault: Fault) -> bool {
        let failures = self.history.budget(fault).failures;
        match (fault, self.situation.rules.restart) {
            // As on Docker, 0 is no limit of its own; a limit counts restarts, and so one failure more.
            (Fault::Crash, RestartPolicy::OnFailure { max: Some(max) }) if max > 0 => failures > max,
            _ => failures >= fault.limit(),
        }
    }
}
