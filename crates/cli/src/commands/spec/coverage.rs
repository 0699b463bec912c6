use clap::Args;
use serde::Serialize;
use setpoint_model::spec::coverage::{self, Coverage as Found};

use super::{specs, surroundings, tell};
use crate::commands::SUCCESS;
use crate::context::Context;
use crate::error::Failure;
use crate::json;

/// The most tests of a file, package or binary that are listed by name.
const NAMED: usize = 5;

/// Show what is open: criteria without tests, tests that no criterion names, and criteria whose text changed since their
/// tests last passed
#[derive(Debug, Args)]
pub(crate) struct Coverage {
    /// List every test that no criterion names
    #[arg(long)]
    all: bool,
}

/// `spec coverage`.
#[derive(Debug, Serialize)]
struct Shown {
    setpoint: u32,
    criteria: usize,
    tests: usize,
    gaps: Vec<Gap>,
    changed: Vec<Changed>,
    uncited: Vec<Uncited>,
}

/// A criterion without tests.
#[derive(Debug, Serialize)]
struct Gap {
    criterion: String,
    text: String,
    why: String,
}

/// A criterion that says something else than when its tests last passed.
#[derive(Debug, Serialize)]
struct Changed {
    criterion: String,
    old: Option<String>,
    new: Option<String>,
}

/// Tests of one file, package or binary that no criterion names.
#[derive(Debug, Serialize)]
struct Uncited {
    runner: &'static str,
    suite: String,
    tests: Vec<String>,
}

impl Coverage {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let specs = specs(context)?;
        context.stop_on_signals()?;
        let mut store = context.store()?;
        let runners = specs.runners_with_tests();
        let listings = specs.listings(runners, surroundings(context, &tell(context.output)), &mut store)?;
        let found = coverage::coverage(&specs.specs, &listings, &store.proofs(&specs.root)?);
        if context.output.json {
            context.output.value(&shown(&found));
        } else {
            self.tell(context, &found);
        }
        Ok(SUCCESS)
    }

    fn tell(&self, context: &Context, found: &Found<'_>) {
        let output = context.output;
        if !found.gaps.is_empty() {
            output.line("Criteria without tests:");
        }
        for (criterion, why) in &found.gaps {
            output.line(format!("  {:<8} {}\n           {why}", criterion.name(), criterion.text));
        }
        if !found.changed.is_empty() {
            output.line("Criteria that say something else than when their tests last passed:");
        }
        for (criterion, changes) in &found.changed {
            for change in changes {
                let old = change.old.as_deref().unwrap_or_default();
                output.line(format!(
                    "  {:<8} was: {old}\n           is:  {}",
                    criterion.name(),
                    criterion.text
                ));
            }
        }
        if !found.uncited.is_empty() {
            output.line("Tests that no criterion names:");
        }
        for ((runner, suite), tests) in &found.uncited {
            output.line(format!("  {runner}:{suite}  {}", tests.len()));
            if self.all || tests.len() <= NAMED {
                tests.iter().for_each(|test| output.line(format!("    {test}")));
            }
        }
        let uncited: usize = found.uncited.values().map(Vec::len).sum();
        output.line(format!(
            "{} criteria, {} without tests, {} changed; {} tests, {uncited} that no criterion names",
            found.criteria,
            found.gaps.len(),
            found.changed.len(),
            found.tests
        ));
        if !self.all && found.uncited.values().any(|tests| tests.len() > NAMED) {
            output.note("`setpoint spec coverage --all` names them all");
        }
    }
}

fn shown(found: &Found<'_>) -> Shown {
    let gaps = found.gaps.iter().map(|(criterion, why)| Gap {
        criterion: criterion.name(),
        text: criterion.text.clone(),
        why: (*why).to_owned(),
    });
    let changed = found.changed.iter().flat_map(|(criterion, changes)| {
        changes.iter().map(|change| Changed {
            criterion: criterion.name(),
            old: change.old.clone(),
            new: change.new.clone(),
        })
    });
    let uncited = found.uncited.iter().map(|((runner, suite), tests)| Uncited {
        runner: runner.name(),
        suite: suite.clone(),
        tests: tests.iter().map(ToString::to_string).collect(),
    });
    Shown {
        setpoint: json::VERSION,
        criteria: found.criteria,
        tests: found.tests,
        gaps: gaps.collect(),
        changed: changed.collect(),
        uncited: uncited.collect(),
    }
}
