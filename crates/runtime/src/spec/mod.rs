//! A project's specs at work: reading them, listing and running the tests that they name, and remembering how those ended.

mod error;
mod init;
mod process;
mod requirements;
mod runner;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpoint_model::digest::{Digest, Encoder};
use setpoint_model::manifest::{Layer, Problem, Runners, nearest};
use setpoint_model::spec::{self, Criterion, FOLDER, Listing, Reference, Runner, Spec, Unresolved, coverage};

pub use error::SpecError;
pub use init::init;
pub use verify::{Options, ReportFile, Verified};

use crate::cancel::Cancel;
use crate::paths::Roots;
use crate::project::{MANIFEST, Project};
use crate::source::SourceStore;
use crate::store::Store;
use runner::Tools;

/// How long a file system may not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The specs of a project.
#[derive(Debug, Clone)]
pub struct Specs {
    /// The folder that the folder of specs is in.
    pub root: PathBuf,
    /// The specs, by name.
    pub specs: Vec<Spec>,
    runners: Runners,
}

/// What specs are worked on with.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// The environment of whoever asks.
    pub variables: &'a BTreeMap<String, String>,
    /// Whether it is to stop.
    pub cancel: &'a Cancel,
    /// Hears what is going on.
    pub told: &'a dyn Fn(Event<'_>),
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A runner is asked for its tests.
    Listing(Runner),
    /// A runner runs so many of them.
    Running(Runner, usize),
    /// A runner says something.
    Said(&'a str),
}

impl Specs {
    /// Reads the specs of the nearest folder, from this one up, that has some.
    ///
    /// # Errors
    /// [`SpecError`] if there are none, or something is wrong with them or with the manifest beside them; then all of it.
    pub fn load(roots: &Roots, from: &Path, assignments: &[String]) -> Result<Self, SpecError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| SpecError::Io { path, source }
        };
        let from = from.canonicalize().map_err(io(from))?;
        let mut found = None;
        for root in from.ancestors() {
            let files = files(root).map_err(io(&root.join(FOLDER)))?;
            if !files.is_empty() {
                found = Some((root.to_owned(), files));
                break;
            }
        }
        let (root, files) = found.ok_or(SpecError::None(from))?;
        let mut texts = Vec::new();
        for file in files {
            let path = root.join(FOLDER).join(&file);
            texts.push((format!("{FOLDER}/{file}"), std::fs::read_to_string(&path).map_err(io(&path))?));
        }
        let layers: Vec<Layer<'_>> = texts.iter().map(|(name, text)| Layer { name, text }).collect();
        let specs = spec::parse(&layers).map_err(SpecError::Problems)?;
        let runners = runners(roots, &root, assignments)?;
        Ok(Self { root, specs, runners })
    }

    /// All criteria, in order.
    pub fn criteria(&self) -> impl Iterator<Item = &Criterion> {
        self.specs.iter().flat_map(|spec| &spec.criteria)
    }

    /// The criteria of these names, which are those of specs or of single criteria; all, if none is named.
    ///
    /// # Errors
    /// [`SpecError::Unknown`] for the first name that nothing has.
    pub fn chosen(&self, names: &[String]) -> Result<Vec<&Criterion>, SpecError> {
        let is =
            |criterion: &Criterion, name: &str| criterion.spec.as_str() == name || criterion.name() == name;
        for name in names {
            if !self.criteria().any(|criterion| is(criterion, name)) {
                let specs: Vec<String> = self.specs.iter().map(|spec| spec.id.to_string()).collect();
                let all: Vec<String> =
                    specs.iter().cloned().chain(self.criteria().map(Criterion::name)).collect();
                let near = nearest(name, all.iter().map(String::as_str)).map(str::to_owned);
                return Err(SpecError::Unknown { name: name.clone(), near, known: specs });
            }
        }
        let is_chosen =
            |criterion: &&Criterion| names.is_empty() || names.iter().any(|name| is(criterion, name));
        Ok(self.criteria().filter(is_chosen).collect())
    }

    /// The digest of what the tests are tests of: all of the project but the specs themselves.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn source(&self, roots: &Roots) -> Result<Digest, SpecError> {
        Ok(SourceStore::new(roots).digest(&self.root, &[FOLDER], PATIENCE)?)
    }

    /// The tests of runners, from what is remembered where the source is the same.
    ///
    /// # Errors
    /// [`SpecError`] if one of them cannot say.
    pub fn listings(
        &self,
        runners: impl IntoIterator<Item = Runner>,
        surroundings: Surroundings<'_>,
        store: &mut Store,
    ) -> Result<BTreeMap<Runner, Listing>, SpecError> {
        let mut source = self.source(surroundings.roots)?;
        let mut listings = BTreeMap::new();
        for runner in runners {
            let known = store.listing(&self.root, runner)?;
            let listing = match known.filter(|(key, _)| *key == self.key(runner, source)) {
                Some((_, listing)) => listing,
                None => {
                    (surroundings.told)(Event::Listing(runner));
                    let listing = self.tools(surroundings).list(runner)?;
                    // A runner may write what belongs to the source, such as a lock file.
                    source = self.source(surroundings.roots)?;
                    store.write(|writer| {
                        writer.keep_listing(&self.root, runner, self.key(runner, source), &listing)
                    })?;
                    listing
                }
            };
            listings.insert(runner, listing);
        }
        Ok(listings)
    }

    /// What the tests that a runner lists depend on: the source, and how it is run.
    fn key(&self, runner: Runner, source: Digest) -> Digest {
        let settings = self.runners.of(runner);
        let mut encoder = Encoder::new("setpoint.tests", 1);
        encoder.digest(source).text(&settings.folder);
        for words in [&settings.command, &settings.arguments] {
            encoder.list(words.len());
            words.iter().for_each(|word| {
                encoder.text(word);
            });
        }
        encoder.finish()
    }

    /// The runners whose tests are named, and those that have something to run here.
    #[must_use]
    pub fn runners_with_tests(&self) -> Vec<Runner> {
        let mut runners = init::detected(&self.root);
        runners.extend(self.criteria().flat_map(Criterion::tests).map(|cited| cited.reference.runner));
        runners.retain(|runner| *runner != Runner::Command);
        runners.sort_unstable();
        runners.dedup();
        runners
    }

    /// The tests that criteria mean, by their references.
    ///
    /// # Errors
    /// All references that mean no test, each with the nearest one.
    fn resolve(
        &self,
        criteria: &[&Criterion],
        listings: &BTreeMap<Runner, Listing>,
    ) -> Result<BTreeMap<Reference, Vec<Reference>>, SpecError> {
        let mut resolved = BTreeMap::new();
        let mut problems = Vec::new();
        for cited in criteria.iter().flat_map(|criterion| criterion.tests()) {
            let reference = &cited.reference;
            let is_listed = reference.runner == Runner::Command || listings.contains_key(&reference.runner);
            if resolved.contains_key(reference) || !is_listed {
                continue;
            }
            match coverage::meant(reference, listings) {
                Ok(tests) => {
                    resolved.insert(reference.clone(), tests);
                }
                Err(unresolved) => problems.push(dangling(reference, unresolved).at(cited.at.clone())),
            }
        }
        if problems.is_empty() { Ok(resolved) } else { Err(SpecError::Problems(problems)) }
    }

    fn tools<'t>(&'t self, surroundings: Surroundings<'t>) -> Tools<'t> {
        Tools { root: &self.root, runners: &self.runners, surroundings }
    }
}

fn dangling(reference: &Reference, unresolved: Unresolved) -> Problem {
    let runner = reference.runner;
    let problem = |what: &str| Problem::new("no-such-test", format!("{what}: `{}`", reference.target));
    match unresolved {
        Unresolved::Missing { near } => {
            let problem = problem("there is no such test");
            match near {
                Some(near) => problem.hint(format!("did you mean `{runner}:{near}`?")),
                None => problem.hint("`setpoint spec coverage` lists the tests that there are"),
            }
        }
        Unresolved::Ambiguous(several) => problem("there are several such tests")
            .why(several.iter().map(|target| format!("`{runner}:{target}`")).collect::<Vec<_>>().join(", "))
            .hint("name one of them in full"),
    }
}

/// How tests are run in a folder: as its manifest says, if it has one.
fn runners(roots: &Roots, root: &Path, assignments: &[String]) -> Result<Runners, SpecError> {
    if root.join(MANIFEST).is_file() {
        return Ok(Project::load(roots, root, assignments)?.manifest.runners);
    }
    Ok(Runners::default())
}

/// The names of a folder's specs, sorted.
fn files(root: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(root.join(FOLDER)) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".toml") && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A folder for what a runner writes, which goes with it.
fn report_folder() -> Result<tempfile::TempDir, SpecError> {
    tempfile::tempdir().map_err(|source| SpecError::Io { path: std::env::temp_dir(), source })
}
