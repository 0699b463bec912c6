//! Runners at work: each lists its tests, and is run once over all that are wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use setpoint_model::manifest::{RunnerSettings, Runners};
use setpoint_model::spec::runner::{cargo, go, pytest, vitest};
use setpoint_model::spec::{Listing, Outcome, Reference, Report, Runner};

use super::process::{Invocation, Ran, Said, run};
use super::{SpecError, Surroundings, report_folder};

/// What tests run with.
pub(super) struct Tools<'a> {
    pub(super) root: &'a Path,
    pub(super) runners: &'a Runners,
    pub(super) surroundings: Surroundings<'a>,
}

impl Tools<'_> {
    /// The tests that a runner has.
    pub(super) fn list(&self, runner: Runner) -> Result<Listing, SpecError> {
        match runner {
            Runner::Cargo if self.has_nextest() => {
                let ran = self.run(runner, Said::Apart, |command| {
                    command.args(cargo::LIST).args(self.arguments(runner))
                })?;
                if !ran.ended.success() {
                    return Err(ran.failed());
                }
                cargo::nextest_listing(&ran.results).map_err(|error| ran.failed_as(&error.to_string()))
            }
            Runner::Cargo => {
                let binaries = self.build(&["--workspace"])?;
                let ran = self.run(runner, Said::Together, |command| {
                    command.args(["test", "--workspace"]).args(self.arguments(runner));
                    command.args(["--", "--list", "--format", "terse"])
                })?;
                if !ran.ended.success() {
                    return Err(ran.failed());
                }
                Ok(cargo::plain_listing(&ran.results, &binaries))
            }
            Runner::Pytest => {
                let ran = self.run(runner, Said::Apart, |command| {
                    command.args(pytest::LIST).args(self.arguments(runner))
                })?;
                match ran.code() {
                    Some(0 | pytest::NO_TESTS) => Ok(pytest::listing(&ran.results)),
                    _ => Err(ran.failed()),
                }
            }
            Runner::Go => {
                let ran = self.run(runner, Said::Apart, |command| {
                    command.args(go::LIST).args(self.arguments(runner)).args([go::ALL])
                })?;
                if ran.ended.success() { Ok(go::listing(&ran.results)) } else { Err(ran.failed()) }
            }
            Runner::Vitest => {
                let (ran, json) = self.vitest(vitest::LIST, &[])?;
                match json {
                    Some(json) => vitest::listing(&json, &self.folder(runner).to_string_lossy())
                        .map_err(|error| ran.failed_as(&error.to_string())),
                    None => Err(ran.failed()),
                }
            }
            Runner::Command => Ok(Listing::default()),
        }
    }

    /// Runs tests, which its runner calls so, all in one run, and says how they ended.
    pub(super) fn test(
        &self,
        runner: Runner,
        targets: &BTreeSet<String>,
        listing: &Listing,
    ) -> Result<BTreeMap<Reference, Outcome>, SpecError> {
        match runner {
            Runner::Cargo => self.test_cargo(targets, listing),
            Runner::Pytest => {
                let place = report_folder()?;
                let file = place.path().join("junit.xml");
                let ran = self.run(runner, Said::Apart, |command| {
                    command.args(pytest::RUN).args(self.arguments(runner));
                    command.args([format!("--junit-xml={}", file.display())]).args(targets)
                })?;
                let text = std::fs::read_to_string(&file).map_err(|_| ran.failed())?;
                self.told(&ran, &text, targets, listing)
            }
            Runner::Go => {
                let ran = self.run(runner, Said::Apart, |command| {
                    command.args(go::RUN).args(self.arguments(runner));
                    command.args(go::selection(targets.iter().map(String::as_str)))
                })?;
                self.told(&ran, &ran.results, targets, listing)
            }
            Runner::Vitest => {
                let selection = vitest::selection(targets.iter().map(String::as_str));
                let (ran, json) = self.vitest(vitest::RUN, &selection)?;
                self.told(&ran, &json.ok_or_else(|| ran.failed())?, targets, listing)
            }
            Runner::Command => targets.iter().map(|target| self.test_command(target)).collect(),
        }
    }

    fn test_command(&self, target: &str) -> Result<(Reference, Outcome), SpecError> {
        let ran = self.run(Runner::Command, Said::Together, |command| command.args([target]))?;
        let outcome = match ran.ended.success() {
            true => Outcome::Passed,
            false => Outcome::Failed(format!("{}\n{}", ran.last_words(), ran.ended).trim_start().to_owned()),
        };
        Ok((Reference::new(Runner::Command, target), outcome))
    }

    fn test_cargo(
        &self,
        targets: &BTreeSet<String>,
        listing: &Listing,
    ) -> Result<BTreeMap<Reference, Outcome>, SpecError> {
        let is_together = |target: &&String| {
            listing
                .suite(target)
                .is_some_and(|suite| self.runners.together.iter().any(|binary| binary == suite))
        };
        let has_nextest = self.has_nextest();
        let (plain, apart): (BTreeSet<String>, BTreeSet<String>) =
            targets.iter().cloned().partition(|target| !has_nextest || is_together(&target));
        let mut outcomes = BTreeMap::new();
        if !apart.is_empty() {
            let ran = self.run(Runner::Cargo, Said::Apart, |command| {
                command.env.insert(cargo::JSON.0.to_owned(), cargo::JSON.1.to_owned());
                command.args(cargo::RUN).args(self.arguments(Runner::Cargo));
                command.args(cargo::nextest_selection(apart.iter().map(String::as_str), listing))
            })?;
            outcomes.extend(self.told(&ran, &ran.results, &apart, listing)?);
        }
        if !plain.is_empty() {
            let (binaries, skips) = cargo::plain_selection(plain.iter().map(String::as_str), listing);
            let binaries: Vec<&str> = binaries.iter().map(String::as_str).collect();
            let built = self.build(&binaries)?;
            let ran = self.run(Runner::Cargo, Said::Together, |command| {
                command.args(["test", "--no-fail-fast"]).args(binaries);
                command.args(self.arguments(Runner::Cargo)).args(["--", "--exact"]).args(&skips)
            })?;
            let suites = built.into_iter().map(|(file, binary)| (file, binary.id)).collect();
            let report = Report::of_cargo_test(&ran.results, &suites);
            let report = report.map_err(|error| ran.failed_as(&error.to_string()))?;
            outcomes.extend(found(&ran, &report, &plain, listing)?);
        }
        Ok(outcomes)
    }

    /// Builds test binaries, and gives them by their files.
    fn build(&self, binaries: &[&str]) -> Result<BTreeMap<String, cargo::Binary>, SpecError> {
        let ran = self.run(Runner::Cargo, Said::Apart, |command| {
            command.args(cargo::BUILD).args(binaries).args(self.arguments(Runner::Cargo))
        })?;
        if ran.ended.success() { Ok(cargo::binaries(&ran.results)) } else { Err(ran.failed()) }
    }

    /// Runs Vitest, and gives its report, if it wrote one.
    fn vitest(&self, arguments: &[&str], selection: &[String]) -> Result<(Ran, Option<String>), SpecError> {
        let place = report_folder()?;
        let file = place.path().join("report.json");
        let ran = self.run(Runner::Vitest, Said::Apart, |command| {
            command.args(arguments).args(self.arguments(Runner::Vitest));
            command.args([format!("--outputFile={}", file.display())]).args(selection)
        })?;
        Ok((ran, std::fs::read_to_string(&file).ok()))
    }

    /// What a report tells of these tests.
    fn told(
        &self,
        ran: &Ran,
        text: &str,
        targets: &BTreeSet<String>,
        listing: &Listing,
    ) -> Result<BTreeMap<Reference, Outcome>, SpecError> {
        if text.trim().is_empty() {
            return Err(ran.failed());
        }
        let report = Report::parse(text, None, &self.folder(ran.runner).to_string_lossy());
        let report = report.map_err(|error| ran.failed_as(&format!("{}: {error}", ran.ended)))?;
        found(ran, &report, targets, listing)
    }

    fn settings(&self, runner: Runner) -> &RunnerSettings {
        self.runners.of(runner)
    }

    fn arguments(&self, runner: Runner) -> &[String] {
        &self.settings(runner).arguments
    }

    fn folder(&self, runner: Runner) -> PathBuf {
        match self.settings(runner).folder.as_str() {
            "" => self.root.to_owned(),
            folder => self.root.join(folder),
        }
    }

    fn run(
        &self,
        runner: Runner,
        said: Said,
        with: impl FnOnce(&mut Invocation) -> &mut Invocation,
    ) -> Result<Ran, SpecError> {
        let argv = self.settings(runner).command.clone();
        let mut invocation = Invocation { runner, argv, env: BTreeMap::new(), folder: self.folder(runner) };
        if runner == Runner::Pytest {
            // Running tests must not change what they are tests of.
            invocation.env.insert("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned());
        }
        with(&mut invocation);
        run(invocation, said, self.surroundings)
    }

    fn has_nextest(&self) -> bool {
        let ran = self.run(Runner::Cargo, Said::Together, |cargo| cargo.args(["nextest", "--version"]));
        ran.is_ok_and(|ran| ran.ended.success())
    }
}

/// What a report tells of these tests. A run that tells of none of them was none.
fn found(
    ran: &Ran,
    report: &Report,
    targets: &BTreeSet<String>,
    listing: &Listing,
) -> Result<BTreeMap<Reference, Outcome>, SpecError> {
    let outcome = |target: &String| {
        let reference = Reference::new(ran.runner, target);
        let aliases = listing.aliases(target).iter();
        let outcome =
            report.get(&reference.key()).or_else(|| aliases.filter_map(|alias| report.get(alias)).next());
        Some((reference, outcome?.clone()))
    };
    let outcomes: BTreeMap<Reference, Outcome> = targets.iter().filter_map(outcome).collect();
    if outcomes.is_empty() { Err(ran.failed()) } else { Ok(outcomes) }
}
