//! What is done about a change of generations that failed, or was cut off.

use super::upgrade::{Part, Step, Upgrade};
use crate::names::UnitName;

/// A step back. Each may be done again, and does nothing where there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo {
    /// Where the old instance was set aside: ends the new one, removes it or sets it aside where it came from there, and
    /// puts the old one in its place, with its record. Where there was no old one: removes the new one.
    PutBack(UnitName),
    /// Puts a path of the host back as it was saved, if it was.
    PutPath(String),
    /// Removes what was saved of the host, with what the ledger has of the change.
    DropSaves,
    /// Removes a volume that was copied into, or made.
    DropVolume(String),
    /// Starts the old instance as it was, if it does not run, and leads its ports to it.
    Resume(UnitName),
    /// Waits until the old instance is well again, for which another one stands in, and leads its ports to it.
    Relieve(UnitName),
    /// Ends and removes instances that stood in.
    Dismiss,
}

impl std::fmt::Display for Undo {
    /// As the journal names it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PutBack(unit) => write!(f, "put-back {unit}"),
            Self::PutPath(path) => write!(f, "put-path {path}"),
            Self::DropSaves => f.write_str("drop-saves"),
            Self::DropVolume(volume) => write!(f, "drop-volume {volume}"),
            Self::Resume(unit) => write!(f, "resume {unit}"),
            Self::Relieve(unit) => write!(f, "relieve {unit}"),
            Self::Dismiss => f.write_str("dismiss-stand-ins"),
        }
    }
}

/// What is done about a change that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It had touched nothing: these remove what it had made.
    Forget(Vec<Undo>),
    /// It was not committed: these lead back to the old, with its data as it was.
    RollBack(Vec<Undo>),
    /// It was committed: these lead to the new.
    RollForward(Vec<Step>),
}

/// Decides by what the journal tells to have been begun, and by the generation that is in effect: nothing else says
/// whether a change was committed.
#[must_use]
pub fn recover(upgrade: &Upgrade, begun: &[Step], active: u64) -> Decision {
    if active >= upgrade.to.generation {
        let steps = upgrade.steps().into_iter().skip_while(|step| *step != Step::Commit).skip(1);
        // What only leads forward stays due: only the next upgrade knows what it is.
        let steps = steps.filter(|step| !matches!(step, Step::Migrate(_)));
        return Decision::RollForward(steps.collect());
    }
    let dismiss = upgrade.has_stand_ins().then_some(Undo::Dismiss);
    if !begun.iter().any(Step::touches) {
        let is_made = begun.iter().any(|step| matches!(step, Step::StandIn(_)));
        return Decision::Forget(dismiss.into_iter().filter(|_| is_made).collect());
    }
    let back = upgrade.parts.iter().rev().map(|part| Undo::PutBack(part.unit.clone()));
    // What nobody has touched is left alone.
    let is_changed = begun.iter().any(|step| upgrade.is_on_host(step));
    let put = upgrade.saves.iter().filter(|_| is_changed).cloned().map(Undo::PutPath);
    let drop_saves = (!upgrade.saves.is_empty()).then_some(Undo::DropSaves);
    let copies = upgrade.copies.iter().map(|copy| &copy.to);
    let drop = copies.chain(&upgrade.makes).map(|volume| Undo::DropVolume(volume.clone()));
    let ran = upgrade.parts.iter().filter(|part| part.runs);
    let resume = ran.map(|part| Undo::Resume(part.unit.clone()));
    let is_lent = |part: &&Part| begun.contains(&Step::Lend(part.unit.clone()));
    let relieve = upgrade.parts.iter().filter(is_lent).map(|part| Undo::Relieve(part.unit.clone()));
    Decision::RollBack(
        back.chain(put).chain(drop_saves).chain(drop).chain(resume).chain(relieve).chain(dismiss).collect(),
    )
}
