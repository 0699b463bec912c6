//! Verifying: which tests are to be run, running them, and recording what that shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::Timestamp;
use setpoint_model::digest::Digest;
use setpoint_model::spec::{
    Criterion, Known, Listing, Outcome, Reference, Report, Requirement, Runner, State, Verdict, judge,
};

use super::{Event, SpecError, Specs, Surroundings, requirements};
use crate::store::{Store, StoreError, VerdictRow};

/// What is verified, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The names of specs and criteria; none is all.
    pub names: Vec<String>,
    /// Whether tests run that ended on this very source.
    pub force: bool,
    /// Reports that say how tests ended; where there are some, nothing is run.
    pub reports: Vec<ReportFile>,
}

/// A report of tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFile {
    /// The test binary whose output it is, where it cannot say so itself.
    pub suite: Option<String>,
    /// Its file.
    pub path: PathBuf,
}

/// What came of it.
#[derive(Debug)]
pub struct Verified<'s> {
    /// The criteria and how they stand.
    pub criteria: Vec<(&'s Criterion, Verdict)>,
    /// How many tests were run, or told of by reports.
    pub ran: usize,
    /// How many were not, since it is known how they end on this source.
    pub kept: usize,
    /// Whether the source changed while they ran, so that what came of it is not kept.
    pub is_unsettled: bool,
}

/// What is known of tests, and how it came to be known.
struct Learnt {
    known: Known,
    ran: usize,
    kept: usize,
    /// The source that they ran on, if it stayed the same.
    source: Option<Digest>,
}

impl Specs {
    /// Verifies criteria: finds the tests that they name, runs those of which it is not known how they end on this
    /// source, and records how the criteria stand.
    ///
    /// # Errors
    /// [`SpecError`] if a reference means no test, or a runner does not do what is asked of it.
    pub fn verify(
        &self,
        options: &Options,
        surroundings: Surroundings<'_>,
        store: &mut Store,
    ) -> Result<Verified<'_>, SpecError> {
        let chosen = self.chosen(&options.names)?;
        let learnt = match options.reports.is_empty() {
            true => self.learn(&chosen, options.force, surroundings, store)?,
            false => {
                let known = self.reported(&chosen, options, surroundings, store)?;
                Learnt { ran: known.outcomes.len(), known, kept: 0, source: None }
            }
        };
        let is_unsettled = options.reports.is_empty() && learnt.source.is_none();
        let criteria: Vec<(&Criterion, Verdict)> =
            chosen.into_iter().map(|criterion| (criterion, judge(criterion, &learnt.known))).collect();
        self.record(&criteria, learnt.source, store)?;
        Ok(Verified { criteria, ran: learnt.ran, kept: learnt.kept, is_unsettled })
    }

    /// Runs the tests that criteria name, but for those that ended on this source.
    fn learn(
        &self,
        criteria: &[&Criterion],
        force: bool,
        surroundings: Surroundings<'_>,
        store: &mut Store,
    ) -> Result<Learnt, SpecError> {
        let unmet = self.unmet(criteria, surroundings);
        let listings = self.listings(needed(criteria, &unmet), surroundings, store)?;
        let resolved = self.resolve(criteria, &listings)?;
        let source = self.source(surroundings.roots)?;
        let outcomes = if force { BTreeMap::new() } else { store.test_outcomes(&self.root, source)? };
        let mut known = Known { resolved, outcomes, unmet };
        let wanted = wanted(criteria, &known);
        let is_missing = |test: &&Reference| !known.outcomes.contains_key(*test);
        let missing: BTreeSet<Reference> = wanted.iter().filter(is_missing).cloned().collect();
        let (ran, kept) = (missing.len(), wanted.len() - missing.len());
        let fresh = self.test(missing, &listings, surroundings)?;
        let is_settled = ran == 0 || self.source(surroundings.roots)? == source;
        if is_settled && ran > 0 {
            let told = fresh.iter().filter_map(|(test, outcome)| Some((test, outcome.as_ref()?)));
            store.write(|writer| writer.record_tests(&self.root, source, told, Timestamp::now()))?;
        }
        let untold = || Outcome::Failed("its runner does not tell of it".to_owned());
        let fresh = fresh.into_iter().map(|(test, outcome)| (test, outcome.unwrap_or_else(untold)));
        known.outcomes.extend(fresh);
        Ok(Learnt { known, ran, kept, source: is_settled.then_some(source) })
    }

    /// What criteria require that is not there.
    fn unmet(
        &self,
        criteria: &[&Criterion],
        surroundings: Surroundings<'_>,
    ) -> BTreeMap<Requirement, String> {
        let required: BTreeSet<&Requirement> = criteria
            .iter()
            .filter(|criterion| !criterion.tests().is_empty())
            .flat_map(|criterion| &criterion.requires)
            .collect();
        let lack =
            |needed: &Requirement| requirements::lack(needed, surroundings.roots, surroundings.variables);
        required.into_iter().filter_map(|needed| Some((needed.clone(), lack(needed)?))).collect()
    }

    /// Runs tests, each runner once. A test that its runner does not tell of has no outcome.
    fn test(
        &self,
        tests: BTreeSet<Reference>,
        listings: &BTreeMap<Runner, Listing>,
        surroundings: Surroundings<'_>,
    ) -> Result<BTreeMap<Reference, Option<Outcome>>, SpecError> {
        let mut of_runners: BTreeMap<Runner, BTreeSet<String>> = BTreeMap::new();
        for test in tests {
            of_runners.entry(test.runner).or_default().insert(test.target);
        }
        let none = Listing::default();
        let mut all = BTreeMap::new();
        for (runner, targets) in of_runners {
            (surroundings.told)(Event::Running(runner, targets.len()));
            let mut outcomes =
                self.tools(surroundings).test(runner, &targets, listings.get(&runner).unwrap_or(&none))?;
            for target in targets {
                let test = Reference::new(runner, target);
                let outcome = outcomes.remove(&test);
                all.insert(test, outcome);
            }
        }
        Ok(all)
    }

    /// What reports tell of the tests that criteria name. Only where one is in none of them is its runner asked, whether
    /// there is such a test at all.
    fn reported(
        &self,
        criteria: &[&Criterion],
        options: &Options,
        surroundings: Surroundings<'_>,
        store: &mut Store,
    ) -> Result<Known, SpecError> {
        let mut report = Report::default();
        for file in &options.reports {
            let path = &file.path;
            let text = std::fs::read_to_string(path)
                .map_err(|source| SpecError::Io { path: path.clone(), source })?;
            let read = Report::parse(&text, file.suite.as_deref(), &self.root.to_string_lossy());
            report.extend(read.map_err(|error| SpecError::Report { path: path.clone(), error })?);
        }
        let mut known = Known::default();
        let mut untold = BTreeSet::new();
        for reference in criteria.iter().flat_map(|criterion| criterion.tests()).map(|cited| &cited.reference)
        {
            let found = report.find(reference);
            if found.is_empty() {
                untold.insert(reference.runner);
            } else {
                known
                    .resolved
                    .insert(reference.clone(), found.iter().map(|(test, _)| test.clone()).collect());
                known.outcomes.extend(found);
            }
        }
        untold.remove(&Runner::Command);
        if untold.is_empty() {
            return Ok(known);
        }
        let listings = self.listings(untold, surroundings, store)?;
        for (reference, tests) in self.resolve(criteria, &listings)? {
            let aliases = |test: &Reference| {
                listings.get(&test.runner).map_or(&[][..], |all| all.aliases(&test.target))
            };
            for test in &tests {
                let outcome = report
                    .get(&test.key())
                    .or_else(|| aliases(test).iter().find_map(|alias| report.get(alias)));
                known.outcomes.extend(outcome.map(|outcome| (test.clone(), outcome.clone())));
            }
            known.resolved.insert(reference, tests);
        }
        Ok(known)
    }

    /// Records how criteria stand, and what those said whose tests passed.
    fn record(
        &self,
        criteria: &[(&Criterion, Verdict)],
        source: Option<Digest>,
        store: &mut Store,
    ) -> Result<(), StoreError> {
        let at = Timestamp::now();
        store.write(|writer| {
            for (criterion, verdict) in criteria {
                let name = criterion.name();
                if verdict.state == State::Passed {
                    writer.record_proof(&self.root, &name, &criterion.text, at)?;
                }
                let row = VerdictRow { verdict: verdict.clone(), source, at };
                writer.record_verdict(&self.root, &name, &row)?;
            }
            Ok(())
        })
    }
}

/// The runners whose tests can be run: those of criteria whose requirements are met.
fn needed(criteria: &[&Criterion], unmet: &BTreeMap<Requirement, String>) -> BTreeSet<Runner> {
    let can_run = criteria.iter().filter(|criterion| is_met(criterion, unmet));
    let runners = can_run.flat_map(|criterion| criterion.tests()).map(|cited| cited.reference.runner);
    runners.filter(|runner| *runner != Runner::Command).collect()
}

fn is_met(criterion: &Criterion, unmet: &BTreeMap<Requirement, String>) -> bool {
    criterion.requires.iter().all(|needed| !unmet.contains_key(needed))
}

/// The tests of criteria whose requirements are met.
fn wanted(criteria: &[&Criterion], known: &Known) -> BTreeSet<Reference> {
    let can_run = criteria.iter().filter(|criterion| is_met(criterion, &known.unmet));
    can_run.flat_map(|criterion| criterion.tests()).flat_map(|cited| known.meant(&cited.reference)).collect()
}
