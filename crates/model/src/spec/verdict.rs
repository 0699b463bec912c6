//! What tests say about a criterion.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Criterion, Outcome, Proof, Reference, Requirement};

/// How a criterion stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All of its tests passed.
    Passed,
    /// One of them failed.
    Failed,
    /// None failed, and not all ran.
    Skipped,
    /// It has none.
    Gap,
}

impl State {
    /// The state as a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Gap => "gap",
        }
    }
}

/// Why a criterion did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The test that says so, if it is one.
    pub test: Option<Reference>,
    /// What it says.
    pub why: String,
}

/// How a criterion stands, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How it stands.
    pub state: State,
    /// Why, where it did not pass.
    pub causes: Vec<Cause>,
}

/// What is known of tests: which of them a reference means, and how those ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The tests that a reference means, as their runner calls them.
    pub resolved: BTreeMap<Reference, Vec<Reference>>,
    /// How tests ended.
    pub outcomes: BTreeMap<Reference, Outcome>,
    /// What is required and not there, and why.
    pub unmet: BTreeMap<Requirement, String>,
}

impl Known {
    /// The tests that a reference means; itself, where nobody has asked.
    #[must_use]
    pub fn meant(&self, reference: &Reference) -> Vec<Reference> {
        self.resolved.get(reference).cloned().unwrap_or_else(|| vec![reference.clone()])
    }
}

/// Judges a criterion by its tests.
#[must_use]
pub fn judge(criterion: &Criterion, known: &Known) -> Verdict {
    let tests = match &criterion.proof {
        Proof::Gap(why) => {
            return Verdict { state: State::Gap, causes: vec![Cause { test: None, why: why.clone() }] };
        }
        Proof::Tests(tests) => tests,
    };
    let (mut failed, mut skipped, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for test in tests.iter().flat_map(|cited| known.meant(&cited.reference)) {
        let outcome = known.outcomes.get(&test).cloned();
        let cause = |why: String| Cause { test: Some(test), why };
        match outcome {
            Some(Outcome::Passed) => {}
            Some(Outcome::Failed(why)) => failed.push(cause(why)),
            Some(Outcome::Skipped(why)) if why.is_empty() => {
                skipped.push(cause("its runner skips it".to_owned()))
            }
            Some(Outcome::Skipped(why)) => skipped.push(cause(why)),
            None => unknown.push(cause("it was not run".to_owned())),
        }
    }
    if !failed.is_empty() {
        return Verdict { state: State::Failed, causes: failed };
    }
    // What is missing explains why nothing is known; where all ran, it was not missing after all.
    if !unknown.is_empty() {
        let missing = criterion.requires.iter().filter_map(|needed| Some((needed, known.unmet.get(needed)?)));
        let missing: Vec<Cause> = missing
            .map(|(needed, why)| Cause { test: None, why: format!("needs {needed}: {why}") })
            .collect();
        skipped.extend(if missing.is_empty() { unknown } else { missing });
    }
    let state = if skipped.is_empty() { State::Passed } else { State::Skipped };
    Verdict { state, causes: skipped }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::manifest::Layer;

    fn criterion(proof: &str) -> Criterion {
        let text = format!("id = \"A\"\ntitle = \"t\"\nintent = \"i\"\n[criterion.1]\ntext = \"x\"\n{proof}");
        super::super::parse(&[Layer { name: "specs/a.toml", text: &text }]).unwrap()[0].criteria[0].clone()
    }

    fn known(outcomes: &[(&str, Outcome)]) -> Known {
        let outcomes = outcomes
            .iter()
            .map(|(test, outcome)| (Reference::try_from((*test).to_owned()).unwrap(), outcome.clone()));
        Known { outcomes: outcomes.collect(), ..Known::default() }
    }

    #[test]
    fn a_criterion_is_as_its_worst_test() {
        let criterion = criterion("tests = [\"go:p:TestA\", \"go:p:TestB\"]");
        let (pass, fail) = (Outcome::Passed, Outcome::Failed("1 is not 2".to_owned()));
        let skip = Outcome::Skipped("no database".to_owned());
        for (a, b, state, why) in [
            (Some(&pass), Some(&pass), State::Passed, None),
            (Some(&pass), Some(&fail), State::Failed, Some("1 is not 2")),
            (Some(&skip), Some(&fail), State::Failed, Some("1 is not 2")),
            (Some(&skip), Some(&pass), State::Skipped, Some("no database")),
            (Some(&pass), None, State::Skipped, Some("it was not run")),
            (None, Some(&fail), State::Failed, Some("1 is not 2")),
        ] {
            let all = [("go:p:TestA", a), ("go:p:TestB", b)];
            let all: Vec<_> =
                all.into_iter().filter_map(|(test, outcome)| Some((test, outcome?.clone()))).collect();
            let verdict = judge(&criterion, &known(&all));
            assert_eq!(verdict.state, state);
            assert_eq!(verdict.causes.first().map(|cause| cause.why.as_str()), why);
        }
    }

    #[test]
    fn all_cases_of_a_test_have_to_pass() {
        let criterion = criterion("tests = [\"pytest:t.py::test_a\"]");
        let case = |name: &str| Reference::try_from(format!("pytest:t.py::test_a[{name}]")).unwrap();
        let mut known = Known::default();
        known.resolved.insert(criterion.tests()[0].reference.clone(), vec![case("1"), case("2")]);
        known.outcomes.insert(case("1"), Outcome::Passed);
        assert_eq!(judge(&criterion, &known).state, State::Skipped);
        known.outcomes.insert(case("2"), Outcome::Passed);
        assert_eq!(judge(&criterion, &known).state, State::Passed);
    }

    #[test]
    fn what_is_missing_is_the_reason_of_a_skip_unless_the_tests_ran_all_the_same() {
        let criterion = criterion("tests = [\"go:p:TestA\"]\nrequires = [\"docker\", \"root\"]");
        let unmet = BTreeMap::from([(Requirement::Docker, "no daemon answers".to_owned())]);
        let verdict = judge(&criterion, &Known { unmet: unmet.clone(), ..Known::default() });
        assert_eq!(verdict.state, State::Skipped);
        assert_eq!(verdict.causes[0].why, "needs docker: no daemon answers");
        let ran = Known { unmet, ..known(&[("go:p:TestA", Outcome::Passed)]) };
        assert_eq!(judge(&criterion, &ran).state, State::Passed);
    }

    #[test]
    fn a_gap_says_why() {
        let verdict = judge(&criterion("gap = \"refunds come later\""), &Known::default());
        assert_eq!((verdict.state, verdict.causes[0].why.as_str()), (State::Gap, "refunds come later"));
    }
}
