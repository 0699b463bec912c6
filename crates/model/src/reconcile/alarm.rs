//! What a person has to be told of.

use serde::{Deserialize, Serialize};

use super::decision::{Cause, Decision};
use super::history::History;

/// What a person has to be told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// What the unit has come to.
    pub state: Plight,
    /// Why.
    pub why: String,
}

/// What a unit, or an upgrade, has come to that somebody has to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plight {
    /// It is left alone until the user wants it to be tried again.
    Held,
    /// Nothing may be done before a person has looked at it.
    NeedsOperator,
    /// An upgrade failed, and what was before is in effect again.
    RolledBack,
}

impl Plight {
    /// Its name, as it is in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NeedsOperator => "needs_operator",
            Self::RolledBack => "rolled_back",
        }
    }
}

impl Decision {
    /// What a person has to be told of, if there is something.
    #[must_use]
    pub fn alarm(&self) -> Option<Alarm> {
        match &self.cause {
            Cause::Held { reason } => Some(Alarm { state: Plight::Held, why: reason.to_string() }),
            Cause::NeedsOperator { why } => Some(Alarm { state: Plight::NeedsOperator, why: why.clone() }),
            _ => None,
        }
    }

    /// Whether it says something of the unit at all; else nothing that was is over.
    #[must_use]
    pub fn knows(&self) -> bool {
        !matches!(self.cause, Cause::NoAnswer | Cause::Operation | Cause::Stale)
    }
}

impl History {
    /// What is to be told now: nothing if it was told already. What is over is forgotten, so that it is told when it
    /// comes again.
    pub fn untold(&mut self, decision: &Decision) -> Option<Alarm> {
        let alarm = decision.alarm();
        if alarm.is_none() && decision.knows() {
            self.told = None;
        }
        alarm.filter(|alarm| self.told.as_ref() != Some(alarm))
    }
}

#[cfg(test)]
mod tests {
    use super::super::decision::Reason;
    use super::*;

    fn held(why: &str) -> Decision {
        let reason = Reason::Permanent { why: why.to_owned() };
        Decision::rest(Cause::Held { reason }, None)
    }

    #[test]
    fn a_fault_is_told_once_for_as_long_as_it_lasts() {
        let mut history = History::default();
        let alarm = history.untold(&held("a")).unwrap();
        assert_eq!(alarm, Alarm { state: Plight::Held, why: "a".to_owned() });
        // As long as nobody has heard of it, it is told again.
        assert_eq!(history.untold(&held("a")), Some(alarm.clone()));
        history.told = Some(alarm);
        assert_eq!(history.untold(&held("a")), None);
        // An engine that gives no answer ends no fault.
        assert_eq!(history.untold(&Decision::rest(Cause::NoAnswer, None)), None);
        assert_eq!(history.untold(&held("a")), None);
        assert!(history.untold(&held("b")).is_some());
        assert_eq!(history.untold(&Decision::rest(Cause::AsDeclared, None)), None);
        assert!(history.untold(&held("a")).is_some());
        let operator = Decision::rest(Cause::NeedsOperator { why: "a".to_owned() }, None);
        assert_eq!(history.untold(&operator).map(|alarm| alarm.state.name()), Some("needs_operator"));
    }
}
