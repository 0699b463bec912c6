//! A small world in which units are kept: what is decided is done, takes time, and fails as it may.

use proptest::prelude::*;

use super::support::*;
use super::*;
use crate::import::compose::{Condition, RestartPolicy};

/// What is wrong with a unit for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    NoImage,
    Falls,
    NeverWell,
    Stays,
}

#[derive(Debug, Clone)]
struct Plan {
    before: Vec<(usize, Condition)>,
    restart: RestartPolicy,
    completes: bool,
    has_check: bool,
    flaw: Flaw,
}

/// What befalls a unit from outside.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Wish(Wish),
    Fall,
    Removed,
    HostDown,
    Retried,
}

struct Kept {
    plan: Plan,
    situation: Situation,
    /// What is being done, and when it is over.
    job: Option<(Action, Time)>,
    /// When something happens to what runs.
    turns_at: Option<Time>,
    starts: u32,
}

struct World {
    units: Vec<Kept>,
    now: Time,
    jitter: u16,
}

impl World {
    fn new(plans: Vec<Plan>) -> Self {
        let units = plans.into_iter().map(|plan| Kept {
            situation: Situation {
                rules: Rules { restart: plan.restart, completes: plan.completes, stop_grace: 1000 },
                observed: observed(Seen::Absent),
                history: History::default(),
                ..kept()
            },
            plan,
            job: None,
            turns_at: None,
            starts: 0,
        });
        Self { units: units.collect(), now: START, jitter: 0 }
    }

    /// Lets everybody decide, and goes to when something happens next. Gives whether anything does.
    fn round(&mut self) -> bool {
        let mut next: Option<Time> = None;
        for at in 0..self.units.len() {
            let wake_at = self.decide(at);
            let unit = &self.units[at];
            for time in [wake_at, unit.job.as_ref().map(|job| job.1), unit.turns_at].into_iter().flatten() {
                next = Some(next.map_or(time, |next| next.min(time)));
            }
        }
        let Some(next) = next else { return false };
        self.pass_to(next.max(self.now + 1));
        true
    }

    fn pass_to(&mut self, now: Time) {
        self.now = now;
        self.jitter = (self.jitter + 377) % 1001;
        let jitter = Jitter::new(self.jitter);
        for unit in &mut self.units {
            unit.pass(now, jitter);
        }
    }

    fn decide(&mut self, at: usize) -> Option<Time> {
        let dependencies = self.units[at].plan.before.iter().map(|(before, condition)| {
            let standing = standing(&self.units[*before].situation, self.now);
            awaited(&format!("u{before}"), *condition, standing)
        });
        self.units[at].situation.dependencies = dependencies.collect();
        let shown = displayed(&self.units[at].situation, self.now);
        let (decision, history) = decide(&self.units[at].situation, self.now, Jitter::new(self.jitter));
        self.units[at].situation.history = history;
        if matches!(shown, State::Held { .. }) {
            assert_eq!(decision.action, None);
        }
        let Some(action) = decision.action else { return decision.wake_at };
        if matches!(action, Action::Converge | Action::Start | Action::Restart { .. }) {
            self.check_start(at);
        }
        self.units[at].begin(action, self.now);
        // What was begun is looked at again: it is not decided twice.
        let again = decide(&self.units[at].situation, self.now, Jitter::NONE).0;
        assert_eq!(again.action, None);
        None
    }

    /// What is started is wanted, and what comes before it is there: by what there is, not by what core says of it.
    fn check_start(&self, at: usize) {
        assert_eq!(self.units[at].situation.intent.wish, Wish::Up);
        for (before, condition) in &self.units[at].plan.before {
            let seen = &self.units[*before].situation.observed.seen;
            let history = &self.units[*before].situation.history;
            let completed = matches!(seen, Seen::Ended { code: Some(0), .. })
                || *seen == Seen::Absent && history.completed == history.applied;
            let is_there = match condition {
                Condition::Started => completed || matches!(seen, Seen::Running { .. }),
                Condition::Healthy => seen.health() == Some(Health::Healthy),
                Condition::Completed => completed,
            };
            assert!(is_there, "u{at} starts before u{before} is {condition:?}: {seen:?}");
        }
    }

    fn strike(&mut self, at: usize, blow: Blow) {
        let now = self.now;
        let unit = &mut self.units[at];
        let runs = matches!(unit.situation.observed.seen, Seen::Running { .. });
        match blow {
            Blow::Wish(wish) => {
                let generation = unit.situation.intent.generation + 1;
                unit.situation.intent = Intent { wish, generation };
            }
            Blow::Fall if runs => unit.see(Seen::Ended { code: Some(1), at: now }, None),
            Blow::HostDown if runs => unit.see(Seen::Ended { code: None, at: now }, None),
            Blow::Removed => unit.see(Seen::Absent, None),
            Blow::Retried => {
                let history = &unit.situation.history;
                unit.situation.history = history.record(&Event::Retried, now, Jitter::NONE);
            }
            Blow::Fall | Blow::HostDown => {}
        }
    }

    /// Lets time pass until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..5000 {
            if !self.round() {
                return;
            }
        }
        panic!("nobody comes to rest");
    }

    fn states(&self) -> Vec<State> {
        self.units.iter().map(|unit| displayed(&unit.situation, self.now)).collect()
    }
}

impl Kept {
    fn begin(&mut self, action: Action, now: Time) {
        if action == Action::Cancel {
            self.situation.operation.iter_mut().for_each(|operation| operation.cancelled = true);
            self.job = Some((action, now + 50));
            return;
        }
        let generation = self.situation.intent.generation;
        let phase = match action {
            Action::Stop { grace } | Action::Remove { grace } => Phase::Stopping { since: now, grace },
            _ => Phase::Creating,
        };
        let lease_until = now + MINUTE;
        self.situation.operation =
            Some(Operation { generation, since: now, lease_until, ..operation(phase) });
        self.job = Some((action, now + 300));
    }

    fn see(&mut self, seen: Seen, turns_at: Option<Time>) {
        self.situation.observed.seen = seen;
        self.turns_at = turns_at;
    }

    fn pass(&mut self, now: Time, jitter: Jitter) {
        self.situation.observed.at = now;
        if self.turns_at.is_some_and(|at| at <= now) {
            self.turn(now);
        }
        if self.job.as_ref().is_some_and(|(_, until)| *until <= now)
            && let Some((action, _)) = self.job.take()
        {
            let generation = self.situation.operation.take().map_or(0, |operation| operation.generation);
            if let Some(event) = self.end(&action, generation, now) {
                self.situation.history = self.situation.history.record(&event, now, jitter);
            }
        }
    }

    /// What comes of an action.
    fn end(&mut self, action: &Action, generation: u64, now: Time) -> Option<Event> {
        let failed = |fault| Some(Event::Failed { fault, why: "no".to_owned() });
        match action {
            Action::Cancel => None,
            Action::Converge if self.plan.flaw == Flaw::NoImage => failed(Fault::Pull),
            Action::Converge | Action::Start | Action::Restart { .. } => {
                self.starts += 1;
                let health = (!self.plan.has_check).then_some(Health::NoCheck);
                let seen = Seen::Running { instance: "i".to_owned(), since: now, grace: 1000, health };
                self.see(seen, Some(now + 2000));
                let is_converge = *action == Action::Converge;
                Some(if is_converge { Event::Applied { generation } } else { Event::Started })
            }
            Action::Stop { .. } => {
                self.see(Seen::Ended { code: Some(137), at: now }, None);
                Some(Event::Stopped)
            }
            Action::Remove { .. } if self.plan.flaw == Flaw::Stays => {
                self.see(Seen::Ended { code: None, at: now }, None);
                failed(Fault::Remove)
            }
            Action::Remove { .. } => {
                self.see(Seen::Absent, None);
                Some(Event::Removed)
            }
        }
    }

    /// What comes of a unit a while after its start.
    fn turn(&mut self, now: Time) {
        self.turns_at = None;
        let Seen::Running { health, .. } = &mut self.situation.observed.seen else { return };
        match self.plan.flaw {
            Flaw::Falls => self.situation.observed.seen = Seen::Ended { code: Some(1), at: now },
            Flaw::NeverWell => *health = Some(Health::Unhealthy),
            _ if self.plan.completes => {
                self.situation.observed.seen = Seen::Ended { code: Some(0), at: now };
            }
            _ if self.plan.has_check => *health = Some(Health::Healthy),
            _ => {}
        }
    }
}

fn any_plans() -> impl Strategy<Value = Vec<Plan>> {
    let flaws =
        [Flaw::None, Flaw::None, Flaw::None, Flaw::NoImage, Flaw::Falls, Flaw::NeverWell, Flaw::Stays];
    let unit = (
        prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize), 0..3),
        any_restart(),
        any::<[bool; 2]>(),
        prop::sample::select(flaws.to_vec()),
    );
    prop::collection::vec(unit, 1..6).prop_map(|units| {
        let units = units.into_iter().enumerate();
        let plans = units.map(|(at, (before, restart, [completes, has_check], flaw))| {
            let conditions = [Condition::Started, Condition::Healthy, Condition::Completed];
            let before = before.into_iter().filter(|_| at > 0);
            let before = before.map(|(index, condition)| (index.index(at), conditions[condition]));
            Plan { before: before.collect(), restart, completes, has_check, flaw }
        });
        plans.collect()
    })
}

fn any_blow() -> impl Strategy<Value = Blow> {
    prop::sample::select(vec![
        Blow::Wish(Wish::Up),
        Blow::Wish(Wish::Stopped),
        Blow::Wish(Wish::Gone),
        Blow::Fall,
        Blow::Removed,
        Blow::HostDown,
        Blow::Retried,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_befalls_it_the_world_comes_to_rest(
        plans in any_plans(),
        blows in prop::collection::vec((any::<prop::sample::Index>(), any_blow(), 0..40_u32, 0..3000_u64), 0..20),
    ) {
        let mut world = World::new(plans);
        for (index, blow, rounds, later) in blows {
            for _ in 0..rounds {
                world.round();
            }
            let now = world.now + later;
            world.pass_to(now);
            let at = index.index(world.units.len());
            world.strike(at, blow);
        }
        world.settle();
        let states = world.states();
        for (unit, state) in world.units.iter().zip(&states) {
            let seen = &unit.situation.observed.seen;
            let runs = matches!(seen, Seen::Running { .. });
            match unit.situation.intent.wish {
                Wish::Stopped => prop_assert!(!runs),
                Wish::Gone => {
                    let is_held = unit.plan.flaw == Flaw::Stays && matches!(state, State::Held { .. });
                    prop_assert!(*seen == Seen::Absent || is_held, "{:?}", state);
                }
                // What has no flaw, waits for nobody and is always kept is there.
                Wish::Up if unit.plan.flaw == Flaw::None && unit.plan.before.is_empty()
                    && unit.plan.restart == RestartPolicy::Always && !unit.plan.completes =>
                {
                    prop_assert!(matches!(state, State::Running { .. }), "{:?}", state);
                }
                Wish::Up => {}
            }
        }
    }
}

fn plan(before: &[(usize, Condition)], flaw: Flaw) -> Plan {
    let restart = RestartPolicy::Always;
    Plan { before: before.to_vec(), restart, completes: false, has_check: true, flaw }
}

#[test]
fn a_project_comes_up_in_order_and_again_after_the_host_went_down() {
    let migrate =
        Plan { completes: true, restart: RestartPolicy::No, ..plan(&[(0, Condition::Healthy)], Flaw::None) };
    let web = plan(&[(0, Condition::Healthy), (1, Condition::Completed)], Flaw::None);
    let mut world = World::new(vec![plan(&[], Flaw::None), migrate, web]);
    world.settle();
    let up = |health| State::Running { health };
    let done = State::Stopped { by: StoppedBy::Exit(Some(0)) };
    let expected = [up(Health::Healthy), done, up(Health::Healthy)];
    assert_eq!(world.states(), expected);
    assert_eq!(world.now - START, 3 * 2300, "each begins as soon as the one before is there");
    for at in 0..3 {
        world.strike(at, Blow::HostDown);
    }
    world.pass_to(world.now + 1);
    world.round();
    assert_eq!(world.states()[2], State::WaitingOn { unit: crate::names::UnitName::new("u0").unwrap() });
    world.settle();
    assert_eq!(world.states(), expected);
    let starts: Vec<u32> = world.units.iter().map(|unit| unit.starts).collect();
    assert_eq!(starts, [2, 1, 2], "what has completed is not run again");
}

#[test]
fn what_the_user_stopped_stays_so_when_the_host_went_down() {
    let mut world = World::new(vec![plan(&[], Flaw::None)]);
    world.settle();
    world.strike(0, Blow::Wish(Wish::Stopped));
    world.settle();
    world.strike(0, Blow::HostDown);
    world.settle();
    assert_eq!(world.states(), [State::Stopped { by: StoppedBy::User }]);
    assert_eq!(world.units[0].starts, 1);
}

#[test]
fn a_flaw_costs_its_budget_and_no_more() {
    let starts = |flaw| {
        let mut world = World::new(vec![plan(&[], flaw), plan(&[(0, Condition::Healthy)], Flaw::None)]);
        world.settle();
        let held = matches!(world.states()[0], State::Held { .. });
        let waits = matches!(world.states()[1], State::WaitingOn { .. });
        (world.units[0].starts, held, waits)
    };
    assert_eq!(starts(Flaw::Falls), (20, true, true));
    assert_eq!(starts(Flaw::NeverWell), (5, true, true));
    assert_eq!(starts(Flaw::NoImage), (0, true, true));
    assert_eq!(starts(Flaw::Stays), (1, false, false));
}

#[test]
fn a_word_of_the_users_ends_what_is_being_done_for_an_earlier_one() {
    let mut world = World::new(vec![plan(&[], Flaw::None)]);
    world.round();
    world.pass_to(START + 100);
    world.units[0].begin(Action::Converge, START + 100);
    world.strike(0, Blow::Wish(Wish::Gone));
    world.decide(0);
    assert_eq!(world.units[0].job.as_ref().map(|job| &job.0), Some(&Action::Cancel));
    world.settle();
    assert_eq!((world.states(), world.units[0].starts), (vec![State::Absent], 1));
}
