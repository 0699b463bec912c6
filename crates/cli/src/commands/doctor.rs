mod refusal;
mod shown;

use std::path::{Path, PathBuf};

use clap::Args;
use setpoint_model::doctor::{Finding, Level, Row};
use setpoint_model::manifest::{EngineKind, Limits};
use setpoint_runtime::doctor::{Patient, RepairError, ask, of_features, repair, unreadable};
use setpoint_runtime::engine::Engine;
use setpoint_runtime::project::{MANIFEST, Project, ProjectError};
use setpoint_runtime::store::{Store, StoreError};
use setpoint_sandbox::probe;

use super::{SUCCESS, recover};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;

pub(super) use refusal::refuse;

/// Look at this machine, the state and the project, and say what is wrong and how to mend it
///
/// Nothing is changed, unless `--fix` asks for a repair. Each kind of trouble has an id; `init`, `upgrade`, `restore` and `release` refuse
/// over some of them. Exits with 3 where something is to be repaired, and with 10 where something is to be refused.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Do the repair of this id, if it has a safe one
    #[arg(long, value_name = "ID")]
    fix: Option<String>,
    /// Ask no registry
    #[arg(long)]
    offline: bool,
}

impl Doctor {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let row = self.fix.as_deref().map(row).transpose()?;
        let fixed = row.map_or(Ok(Vec::new()), |row| mend(context, row))?;
        let findings = look(context, !self.offline)?;
        shown::tell(context.output, row, &fixed, &findings);
        Ok(match findings.iter().map(|finding| finding.level).max() {
            Some(Level::Refuse) => Exit::Refused as u8,
            Some(Level::Repairable) => Exit::Drift as u8,
            _ => SUCCESS,
        })
    }
}

/// The row that is to be repaired.
fn row(id: &str) -> Result<Row, Failure> {
    let found = Row::named(id).ok_or_else(|| {
        let near = setpoint_model::manifest::nearest(id, Row::ALL.iter().map(|row| row.id()));
        let failure = Failure::new(Exit::Usage, "no-row", format!("the doctor has no row `{id}`"));
        failure.hint(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                "`setpoint doctor --json` names those that it found; docs/reference/doctor.md has them all"
                    .to_owned()
            }
        })
    })?;
    match found.about().repair {
        Some(_) => Ok(found),
        None => {
            let with: Vec<_> =
                Row::ALL.iter().filter(|row| row.about().repair.is_some()).map(|row| row.id()).collect();
            let what = format!("{id} has no repair that is safe for everybody: a person has to choose");
            let hint = match found.runbook() {
                Some(anchor) => format!("{anchor} says how; these have one: {}", with.join(", ")),
                None => format!("`setpoint doctor` says what to do; these have one: {}", with.join(", ")),
            };
            Err(Failure::new(Exit::Usage, "no-repair", what).hint(hint))
        }
    }
}

/// The state, if there is one. One that is not there yet is not made for the doctor.
fn state(context: &Context) -> Option<Result<Store, StoreError>> {
    let opened = || {
        let store = Store::open(&context.roots)?;
        store.check()?;
        Ok(store)
    };
    Store::is_there(&context.roots).then(opened)
}

/// The folder that is looked at.
fn root(context: &Context) -> Result<PathBuf, Failure> {
    let root = Project::find(&context.folder).or_else(|_| context.folder.canonicalize());
    root.map_err(|error| {
        let what = format!("cannot read {}: {error}", context.folder.display());
        Failure::new(Exit::NotFound, "no-folder", what)
    })
}

/// What is looked at, with what is known of it so far.
fn patient<'a>(
    context: &'a Context,
    engine: &'a dyn Engine,
    root: &'a Path,
    project: Option<&'a Project>,
    store: Option<&'a Store>,
) -> Patient<'a> {
    let (roots, variables, home) = (&context.roots, &context.variables, context.home.as_deref());
    Patient { roots, engine, root, project, store, variables, home }
}

/// Does what is safe about a row, and says what that was.
fn mend(context: &Context, row: Row) -> Result<Vec<String>, Failure> {
    let list = LiveList::new(context.output);
    let root = root(context)?;
    let project = context.declared().ok();
    let engine = context.engine(project.as_ref().map(|project| project.manifest.engine).unwrap_or_default());
    let mut store = state(context).transpose()?;
    let _lock = context.project_lock(&root, "doctor", &list)?;
    if let (Row::OpenTransaction, Some(store)) = (row, &mut store) {
        let recovered = context.recover(store, &root, &list)?;
        return Ok(recovered.map(|recovered| recover::words(recovered).to_owned()).into_iter().collect());
    }
    Ok(repair(&patient(context, engine.as_ref(), &root, project.as_ref(), store.as_ref()), row)?)
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        let message = error.to_string();
        match error {
            RepairError::Store(error) => error.into(),
            RepairError::Active(error) => error.into(),
            RepairError::Engine(error) => error.into(),
            RepairError::Release(error) => error.into(),
            RepairError::Unsafe(_) => Self::new(Exit::Refused, "unsafe-repair", message)
                .hint("nothing was changed; docs/runbook.md#active-missing says what a person can do"),
            RepairError::Io { .. } => Self::new(Exit::Engine, "repair", message),
        }
    }
}

/// All that there is to say.
fn look(context: &Context, asks_registries: bool) -> Result<Vec<Finding>, Failure> {
    let root = root(context)?;
    // What has to be fetched to complete a devcontainer.json is left as it is declared.
    let (project, failure) = match context.project().or_else(|_| context.declared()) {
        Ok(project) => (Some(project), None),
        Err(failure) => (None, Some(failure)),
    };
    let declared = project.as_ref();
    let kind = declared.map(|project| project.manifest.engine).unwrap_or_default();
    let engine = context.engine(kind);
    let mut findings = of_machine(declared, kind);
    let store = match state(context) {
        None => {
            findings.push(Finding::ok("state", "there is none yet; the first `setpoint up` makes it"));
            None
        }
        Some(Ok(store)) => {
            findings.push(Finding::ok("state", format!("{} is sound", store.path().display())));
            Some(store)
        }
        Some(Err(error)) => {
            findings.push(unreadable(&error));
            None
        }
    };
    match declared {
        Some(project) => findings.extend(of_manifest(project)),
        None => {
            // What was completed would not say which kind of trouble it is.
            let why = Project::load(&context.roots, &context.folder, &context.assignments).err();
            findings.extend(why.iter().flat_map(of_trouble));
            if let (None, Some(failure)) = (why, failure) {
                findings.extend(of_failure(failure));
            }
        }
    }
    let patient = patient(context, engine.as_ref(), &root, declared, store.as_ref());
    findings.extend(patient.examine());
    if asks_registries {
        findings.extend(ask(&context.roots.state, patient.registries(), &context.variables));
    }
    Ok(findings)
}

/// What the machine can do, as far as the project needs it.
fn of_machine(project: Option<&Project>, kind: EngineKind) -> Vec<Finding> {
    let envs = project.iter().flat_map(|project| project.manifest.envs.values());
    let limits: Vec<Limits> = envs.map(|env| env.limits).collect();
    of_features(&probe::features(), &limits, kind == EngineKind::Embedded)
}

const SUBJECT: &str = "manifest";

fn of_manifest(project: &Project) -> Vec<Finding> {
    let file = project.instead.as_deref().unwrap_or(MANIFEST);
    let notes = project.manifest.notes.iter();
    let notes = notes.map(|note| Finding::info(SUBJECT, format!("{}: {}", note.at, note.text)));
    std::iter::once(Finding::ok(SUBJECT, project.root.join(file).display().to_string()))
        .chain(notes)
        .collect()
}

/// Why there is no project.
fn of_trouble(error: &ProjectError) -> Vec<Finding> {
    let of = |row, fix: &str| vec![Finding::of(row, SUBJECT, error.to_string(), fix)];
    match error {
        ProjectError::NotFound(_) => {
            let what = format!("there is no {MANIFEST} here");
            vec![Finding::info(SUBJECT, what).fix("`setpoint init` writes one")]
        }
        ProjectError::Problems(problems) => problems.iter().map(of_problem).collect(),
        ProjectError::NotPinned { .. } => of(
            Row::TwoModes,
            "what is this machine's own stands in setpoint.local.toml; `setpoint init oci://... --force` writes what was here",
        ),
        ProjectError::NoRelease { from, .. } => {
            of(Row::TwoModes, &format!("`setpoint init {}:VERSION` fetches one", from.address()))
        }
        // What is in effect is looked at by itself.
        ProjectError::Active(_) => Vec::new(),
        ProjectError::Release(release) => {
            let fix =
                release.hint().unwrap_or_else(|| "fetch it again by `setpoint init oci://...`".to_owned());
            of(Row::NoRelease, &fix)
        }
        ProjectError::Io { .. }
        | ProjectError::NoUnits
        | ProjectError::NoUnit { .. }
        | ProjectError::Ambiguous { .. } => of(Row::Manifest, "mend that file"),
    }
}

/// What is wrong with the files of other tools that stand for a manifest.
fn of_failure(failure: Failure) -> Vec<Finding> {
    if failure.problems.is_empty() {
        let fix = failure.hint.unwrap_or_else(|| "mend that file".to_owned());
        return vec![Finding::of(Row::Manifest, SUBJECT, failure.message, fix)];
    }
    failure.problems.iter().map(of_problem).collect()
}

fn of_problem(problem: &setpoint_model::manifest::Problem) -> Finding {
    let mut problem = problem.clone();
    let fix = problem.hint.take().unwrap_or_else(|| "mend that line".to_owned());
    Finding::of(Row::Manifest, SUBJECT, problem.to_string(), fix)
}
