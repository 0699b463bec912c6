use std::time::Duration;

use clap::Args;
use serde::Serialize;
use setpoint_model::names::{StepName, UnitName};
use setpoint_model::pipeline::outcome::Outcome;
use setpoint_runtime::runs::{self, Follower, Run, State};

use crate::commands::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;
use crate::output::Output;
use crate::run_view::text::{prefixed, shown};

/// How often a run that goes on is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The bytes that are printed at once.
const CHUNK: usize = 64 * 1024;

/// Show what the steps of a run said
///
/// A step that was cached in that run shows what it said in the run that made its result.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The number of the run; the last, if none is named
    run: Option<String>,
    /// Only this step
    step: Option<String>,
    /// What this service of the step said, instead of the step
    #[arg(long, value_name = "NAME", conflicts_with = "follow")]
    service: Option<String>,
    /// Go on until the run ends
    #[arg(long, short)]
    follow: bool,
}

/// `runs logs`.
#[derive(Debug, Serialize)]
struct Log {
    setpoint: u32,
    run: u64,
    lines: Vec<Line>,
}

/// A line in `runs logs`.
#[derive(Debug, Serialize)]
struct Line {
    step: String,
    line: String,
}

/// A line in `runs logs -f`.
#[derive(Debug, Serialize)]
struct Followed<'a> {
    setpoint: u32,
    run: u64,
    step: &'a str,
    line: &'a str,
}

impl Logs {
    pub(super) fn run(self, context: &Context, runs: &runs::Runs) -> Result<u8, Failure> {
        let (number, step) = meant(self.run, self.step)?;
        let run = runs.read(number)?;
        let step = step.map(|step| named(&run, &step)).transpose()?;
        let number = match &step {
            Some(step) => said_in(context.output, runs, &run, step)?,
            None => {
                tell_cached(context.output, &run);
                run.number
            }
        };
        if let Some(service) = &self.service {
            let step = step.ok_or_else(|| {
                let message = format!("`--service {service}` is of a step, and none is named");
                Failure::new(Exit::Usage, "which-step", message)
                    .hint(format!("setpoint runs logs {} STEP --service {service}", run.number))
            })?;
            return of_service(context.output, runs, number, &step, service);
        }
        if self.follow {
            context.stop_on_signals()?;
        }
        let mut follower = Follower::new(runs, number, step.clone());
        let mut printer = Printer::new(context.output, number, step.is_some(), self.follow);
        loop {
            let more = follower.poll(&mut |step, line| printer.line(step, line))?;
            printer.print();
            if !more || !self.follow || context.cancel.asked() {
                break;
            }
            std::thread::sleep(LOOK);
        }
        let silent = printer.end();
        let run = runs.read(Some(number))?;
        if let Some(remark) = remark(&run, step.as_ref().filter(|_| silent)) {
            context.output.progress(remark);
        }
        if let Some(step) = &step {
            for service in runs.services(number, step)? {
                context.output.progress(format!(
                    "its service {service}: `setpoint runs logs {number} {step} --service {service}`"
                ));
            }
        }
        Ok(SUCCESS)
    }
}

/// Prints what a service of a step said.
fn of_service(
    output: Output,
    runs: &runs::Runs,
    run: u64,
    step: &StepName,
    service: &str,
) -> Result<u8, Failure> {
    let known = runs.services(run, step)?;
    let Some(found) = known.iter().find(|known| known.as_str() == service) else {
        let message = format!("no service `{service}` of {step} said anything in run {run}");
        let names = known.iter().map(UnitName::as_str).collect::<Vec<_>>().join(", ");
        let hint = match known.is_empty() {
            true => "a service is heard when its step has ended".to_owned(),
            false => format!("there is: {names}"),
        };
        return Err(Failure::new(Exit::NotFound, "no-service", message).hint(hint));
    };
    let mut printer = Printer::new(output, run, true, false);
    runs.said_by(run, step, found)?.iter().for_each(|line| printer.line(step, line));
    printer.print();
    printer.end();
    Ok(SUCCESS)
}

/// What there is to say below the lines of a run: that it did not come to its end, or that a step was silent.
pub(super) fn remark(run: &Run, silent: Option<&StepName>) -> Option<String> {
    let number = run.number;
    if run.state == State::Interrupted {
        return Some(format!("run {number} was interrupted: its process died before it ended"));
    }
    let step = silent?;
    match run.steps.iter().find(|report| report.step == *step).map(|report| &report.outcome) {
        // Told before.
        Some(Outcome::Skipped { .. }) => None,
        Some(Outcome::Cached) => {
            Some(format!("{step} was cached; `setpoint runs logs {number} {step}` shows more"))
        }
        Some(_) => Some(format!("{step} said nothing in run {number}")),
        None => Some(format!("{step} has said nothing yet in run {number}")),
    }
}

/// The run and the step that these words name: a single word that is no number is a step of the last run.
pub(super) fn meant(
    run: Option<String>,
    step: Option<String>,
) -> Result<(Option<u64>, Option<String>), Failure> {
    match (run, step) {
        (None, step) => Ok((None, step)),
        (Some(word), step) => match (word.parse(), step) {
            (Ok(number), step) => Ok((Some(number), step)),
            (Err(_), None) => Ok((None, Some(word))),
            (Err(_), Some(step)) => {
                let message = format!("`{word}` is not the number of a run");
                Err(Failure::new(Exit::Usage, "which-run", message)
                    .hint(format!("`setpoint runs logs 14 {step}`; `setpoint runs` lists the numbers")))
            }
        },
    }
}

/// The step of a run that has this name.
pub(super) fn named(run: &Run, step: &str) -> Result<StepName, Failure> {
    let mut known: Vec<&StepName> = run.plan.iter().map(|plan| &plan.step).collect();
    known.extend(run.steps.iter().map(|report| &report.step));
    if let Some(found) = known.iter().find(|known| known.as_str() == step) {
        return Ok((*found).clone());
    }
    let number = run.number;
    let failure = Failure::new(Exit::NotFound, "no-step", format!("run {number} has no step `{step}`"));
    let near = known.iter().map(|known| (strsim::osa_distance(known.as_str(), step), known)).min();
    Err(match near {
        Some((distance, near)) if distance <= (step.chars().count() / 3).max(1) => {
            failure.hint(format!("did you mean `{near}`?"))
        }
        Some(_) => failure.hint(format!("`setpoint runs show {number}` lists its steps")),
        None => failure.hint("it has not come so far as to begin its steps"),
    })
}

/// The run in which a step said what is to be shown: this one, or the one that made the result that it took.
pub(super) fn said_in(output: Output, runs: &runs::Runs, run: &Run, step: &StepName) -> Result<u64, Failure> {
    let number = run.number;
    let Some(report) = run.steps.iter().find(|report| report.step == *step) else { return Ok(number) };
    match (&report.outcome, report.made_in) {
        (Outcome::Cached, Some(made_in)) => {
            if let Err(error) = runs.read(Some(made_in)) {
                let message = format!("{step} was cached in run {number}, and ran in run {made_in}: {error}");
                return Err(Failure::new(Exit::NotFound, "no-log", message)
                    .hint("its result is kept longer than what it said"));
            }
            output.progress(format!(
                "{step} was cached in run {number}; this is what it said in run {made_in}"
            ));
            Ok(made_in)
        }
        (Outcome::Cached, None) => {
            let message = format!("{step} was cached in run {number}, and did not run in this project");
            Err(Failure::new(Exit::NotFound, "no-log", message)
                .hint("what a step says is kept with the project that it ran in"))
        }
        (Outcome::Skipped { because }, _) => {
            output.progress(format!("{step} did not run in run {number}: {because}"));
            Ok(number)
        }
        _ => Ok(number),
    }
}

/// Says which steps of a run said nothing in it since they were cached.
fn tell_cached(output: Output, run: &Run) {
    let cached = run.steps.iter().filter(|step| step.outcome == Outcome::Cached && step.made_in.is_some());
    let names: Vec<_> = cached.map(|step| step.step.as_str()).collect();
    if let Some(first) = names.first() {
        let number = run.number;
        output.progress(format!(
            "cached in run {number}: {}; `setpoint runs logs {number} {first}` shows what it said when it ran",
            names.join(", ")
        ));
    }
}

/// Prints lines in few pieces, or collects them for JSON.
struct Printer {
    output: Output,
    run: u64,
    /// Only one step is shown: its name need not stand before each line.
    alone: bool,
    follow: bool,
    /// Whether there was no line yet.
    silent: bool,
    held: String,
    collected: Vec<Line>,
}

impl Printer {
    fn new(output: Output, run: u64, alone: bool, follow: bool) -> Self {
        Self { output, run, alone, follow, silent: true, held: String::new(), collected: Vec::new() }
    }

    fn line(&mut self, step: &StepName, line: &str) {
        self.silent = false;
        if self.output.json {
            self.json_line(step.as_str(), line);
            return;
        }
        for line in shown(line) {
            if self.alone {
                self.held.push_str(&line);
            } else {
                self.held.push_str(&prefixed(step.as_str(), &line));
            }
            self.held.push('\n');
        }
        if self.held.len() >= CHUNK {
            self.print();
        }
    }

    fn json_line(&mut self, step: &str, line: &str) {
        if !self.follow {
            self.collected.push(Line { step: step.to_owned(), line: line.to_owned() });
            return;
        }
        let followed = Followed { setpoint: json::VERSION, run: self.run, step, line };
        if let Ok(text) = serde_json::to_string(&followed) {
            self.output.event(&(text + "\n"));
        }
    }

    fn print(&mut self) {
        if let Some(text) = std::mem::take(&mut self.held).strip_suffix('\n') {
            self.output.line(text);
        }
    }

    /// Prints what was collected; says whether there was no line at all.
    fn end(self) -> bool {
        if self.output.json && !self.follow {
            self.output.value(&Log { setpoint: json::VERSION, run: self.run, lines: self.collected });
        }
        self.silent
    }
}
