//! How specs and what became of them are shown: on a terminal, as JSON, and as pages to read.

pub(crate) mod html;
pub(crate) mod markdown;
pub(crate) mod text;

use serde::Serialize;
use setpoint_model::spec::{Criterion, Spec, State, Verdict};

use crate::json;

/// Specs with how their criteria stand. It is the same for the same specs and verdicts: no times, no durations.
#[derive(Debug)]
pub(crate) struct Sheet<'s> {
    pub(crate) specs: Vec<Part<'s>>,
}

/// A spec of a sheet, with the criteria that are shown.
#[derive(Debug)]
pub(crate) struct Part<'s> {
    pub(crate) spec: &'s Spec,
    pub(crate) criteria: Vec<Row<'s>>,
}

/// A criterion of a sheet.
#[derive(Debug)]
pub(crate) struct Row<'s> {
    pub(crate) criterion: &'s Criterion,
    pub(crate) verdict: Verdict,
    /// What else there is to say of it.
    pub(crate) remark: Option<String>,
}

/// How many criteria stand how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) gaps: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, state: State) {
        *match state {
            State::Passed => &mut self.passed,
            State::Failed => &mut self.failed,
            State::Skipped => &mut self.skipped,
            State::Gap => &mut self.gaps,
        } += 1;
    }

    pub(crate) fn all(&self) -> usize {
        self.passed + self.failed + self.skipped + self.gaps
    }
}

/// `spec verify` and `spec status`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'s> {
    setpoint: u32,
    #[serde(flatten)]
    counts: Counts,
    /// How many tests ran, or were told of by reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    ran: Option<usize>,
    /// How many did not, since they ended on this very source.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<usize>,
    specs: Vec<ShownSpec<'s>>,
}

/// A spec in `spec verify`.
#[derive(Debug, Serialize)]
struct ShownSpec<'s> {
    spec: &'s str,
    title: &'s str,
    intent: &'s str,
    criteria: Vec<ShownCriterion<'s>>,
}

/// A criterion in `spec verify`.
#[derive(Debug, Serialize)]
struct ShownCriterion<'s> {
    criterion: String,
    text: &'s str,
    state: State,
    tests: Vec<String>,
    causes: Vec<ShownCause<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<&'s str>,
}

/// Why a criterion did not pass.
#[derive(Debug, Serialize)]
struct ShownCause<'s> {
    test: Option<String>,
    why: &'s str,
}

impl<'s> Sheet<'s> {
    /// A sheet of these specs, with these criteria.
    pub(crate) fn new(specs: &'s [Spec], criteria: &[(&'s Criterion, Verdict)]) -> Self {
        let mut sheet =
            Self { specs: specs.iter().map(|spec| Part { spec, criteria: Vec::new() }).collect() };
        for (criterion, verdict) in criteria {
            sheet.add(criterion, verdict, None);
        }
        sheet
    }

    /// Adds a criterion.
    pub(crate) fn add(&mut self, criterion: &'s Criterion, verdict: &Verdict, remark: Option<String>) {
        let row = Row { criterion, verdict: verdict.clone(), remark };
        if let Some(part) = self.specs.iter_mut().find(|part| part.spec.id == criterion.spec) {
            part.criteria.push(row);
        }
    }

    /// The specs of which something is shown.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part<'s>> {
        self.specs.iter().filter(|part| !part.criteria.is_empty())
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.parts().flat_map(|part| &part.criteria).for_each(|row| counts.add(row.verdict.state));
        counts
    }

    pub(crate) fn to_json(&self, ran: Option<usize>, kept: Option<usize>) -> Shown<'_> {
        let specs = self.parts().map(|part| ShownSpec {
            spec: part.spec.id.as_str(),
            title: &part.spec.title,
            intent: &part.spec.intent,
            criteria: part.criteria.iter().map(Row::shown).collect(),
        });
        Shown { setpoint: json::VERSION, counts: self.counts(), ran, kept, specs: specs.collect() }
    }
}

impl Part<'_> {
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.criteria.iter().for_each(|row| counts.add(row.verdict.state));
        counts
    }
}

impl Row<'_> {
    fn shown(&self) -> ShownCriterion<'_> {
        let causes = self.verdict.causes.iter();
        ShownCriterion {
            criterion: self.criterion.name(),
            text: &self.criterion.text,
            state: self.verdict.state,
            tests: self.tests(),
            causes: causes
                .map(|cause| ShownCause {
                    test: cause.test.as_ref().map(ToString::to_string),
                    why: &cause.why,
                })
                .collect(),
            remark: self.remark.as_deref(),
        }
    }

    /// The tests that it names.
    pub(crate) fn tests(&self) -> Vec<String> {
        self.criterion.tests().iter().map(|cited| cited.reference.to_string()).collect()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
