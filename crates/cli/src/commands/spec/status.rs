use clap::Args;
use jiff::Timestamp;
use setpoint_model::spec::{Cause, Criterion, Known, Proof, State, Verdict, judge};

use super::specs;
use crate::commands::SUCCESS;
use crate::context::Context;
use crate::error::Failure;
use crate::output::ago;
use crate::spec_view::{Sheet, text};

/// Show how criteria stood when they were last verified; nothing is run
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Specs or criteria, such as `cart` or `cart.3`; all, if none is named
    #[arg(value_name = "SPEC")]
    names: Vec<String>,
}

impl Status {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let specs = specs(context)?;
        let chosen = specs.chosen(&self.names)?;
        let store = context.store()?;
        let source = specs.source(&context.roots)?;
        let known = store.verdicts(&specs.root)?;
        let proofs = store.proofs(&specs.root)?;
        let now = Timestamp::now();
        let mut sheet = Sheet::new(&specs.specs, &[]);
        for criterion in chosen {
            let name = criterion.name();
            let row = known.get(&name).filter(|row| fits(criterion, &row.verdict));
            let verdict = row.map_or_else(|| untold(criterion), |row| row.verdict.clone());
            let mut remarks = Vec::new();
            if let Some(row) = row.filter(|row| row.verdict.state != State::Gap) {
                remarks.push(match row.source {
                    Some(on) if on == source => format!("{} ago, on this source", ago(row.at, now)),
                    Some(on) => format!("{} ago, on another source ({})", ago(row.at, now), on.short()),
                    None => format!("{} ago, by a report or on a source that changed", ago(row.at, now)),
                });
            }
            if proofs.get(&name).is_some_and(|text| *text != criterion.text) {
                remarks.push("it said something else then".to_owned());
            }
            sheet.add(criterion, &verdict, Some(remarks.join("; ")).filter(|remark| !remark.is_empty()));
        }
        let output = context.output;
        if output.json {
            output.value(&sheet.to_json(None, None));
        } else {
            text::sheet(output, &sheet);
            output.line(text::total(&sheet.counts()));
        }
        Ok(SUCCESS)
    }
}

/// Whether a verdict is of the criterion as it is declared now: one that has tests since is no gap any more.
fn fits(criterion: &Criterion, verdict: &Verdict) -> bool {
    matches!(criterion.proof, Proof::Gap(_)) == (verdict.state == State::Gap)
}

/// How a criterion stands that was never verified.
fn untold(criterion: &Criterion) -> Verdict {
    match criterion.proof {
        Proof::Gap(_) => judge(criterion, &Known::default()),
        Proof::Tests(_) => {
            let never = Cause { test: None, why: "never verified".to_owned() };
            Verdict { state: State::Skipped, causes: vec![never] }
        }
    }
}
