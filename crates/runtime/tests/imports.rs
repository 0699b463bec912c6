//! Files of other tools as projects have them, all the way to a plan: what is new is made, and what is recorded as made
//! asks for nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use setpoint_model::desired::{Facts, FileDigest, desired};
use setpoint_model::digest::Digest;
use setpoint_model::manifest::{Base, EngineKind, Env, Location, Stack};
use setpoint_model::names::HookName;
use setpoint_model::plan::{Action, Observed, Options, PhaseOutcome, Recorded, RecordedPhase, plan};
use setpoint_runtime::compose;
use setpoint_runtime::devcontainer::{Lock, Surroundings, complete};
use setpoint_runtime::engine::{self, Engine};
use setpoint_runtime::paths::{Roots, Variables};
use setpoint_runtime::project::Project;

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/import").join(kind);
    let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// Docker, which is never asked: what it can change is all that a plan needs of it.
fn docker(folder: &Path) -> (Roots, Box<dyn Engine>) {
    let variables = [("SETPOINT_STATE", "state"), ("SETPOINT_CONFIG", "config")];
    let variables = Variables::from(variables.map(|(name, part)| (name.into(), folder.join(part).into())));
    let roots = Roots::from_variables(&variables, true).unwrap();
    let engine = engine::open(EngineKind::Docker, &roots, &BTreeMap::new());
    (roots, engine)
}

/// Plans a unit that is new, and again as it was recorded.
fn plan_of(env: &Env, engine: &dyn Engine, what: &str) {
    let facts = Facts {
        user: env.user.clone().unwrap_or_default(),
        base_digest: Some("sha256:1".to_owned()),
        under_features: Some("sha256:0".to_owned()),
        build: vec![FileDigest { path: "Dockerfile".to_owned(), digest: Digest::of_bytes(b"1") }],
        ..Facts::default()
    };
    let declared = desired(env, &facts, &engine.capabilities());
    let options = Options::default();
    let (new, _) = plan(&declared, &Recorded::default(), &Observed::Absent, &options);
    let expected = if declared.incomplete { Action::Prepare } else { Action::Create };
    assert_eq!(new.action, expected, "{what}");
    let instance = "i-1".to_owned();
    let phase = RecordedPhase { instance: instance.clone(), outcome: PhaseOutcome::Succeeded };
    let phases: BTreeMap<HookName, RecordedPhase> =
        declared.hooks.keys().map(|hook| (*hook, phase.clone())).collect();
    let recorded = Recorded { fingerprint: declared.fingerprint.clone(), phases, ..Recorded::default() };
    let whole = setpoint_model::plan::Desired { incomplete: false, ..declared };
    let (again, report) = plan(&whole, &recorded, &Observed::Running { instance }, &options);
    assert!(!again.is_drift(), "{what}: {:?}", report.differences);
}

#[test]
fn every_compose_file_is_planned_service_by_service() {
    let folder = tempfile::tempdir().unwrap();
    let (_, engine) = docker(folder.path());
    let (mut projects, mut services) = (0, 0);
    for root in fixtures("compose") {
        let at = Location { file: String::new(), line: 1, column: 1, source_line: String::new(), length: 0 };
        let files = compose::find(&root).iter().map(|file| file.to_string_lossy().into_owned()).collect();
        let stack = Stack { files, profiles: BTreeSet::from(["*".to_owned()]), at };
        let variables = BTreeMap::from([("HOME".to_owned(), "/home/dev".to_owned())]);
        let read = compose::units(&root, &stack, &BTreeSet::new(), &variables, None);
        let Ok((units, _)) = read else { continue };
        projects += 1;
        for (called, env) in &units {
            services += 1;
            plan_of(env, engine.as_ref(), &format!("{} {called}", root.display()));
        }
        let all: Vec<&Env> = units.values().collect();
        let ordered = compose::in_order(&all);
        for (index, env) in ordered.iter().enumerate() {
            for needed in env.service.iter().flat_map(|of| of.depends_on.keys()) {
                assert!(ordered[..index].iter().any(|before| before.name == *needed), "{}", root.display());
            }
        }
    }
    assert!(projects >= 40 && services >= 100, "{projects} projects, {services} services");
}

#[test]
fn every_devcontainer_json_is_planned() {
    let folder = tempfile::tempdir().unwrap();
    let (roots, _) = docker(folder.path());
    // It has none of the images, and says so without asking anybody.
    let embedded = engine::open(EngineKind::Embedded, &roots, &BTreeMap::new());
    let mut planned = 0;
    for file in
        fixtures("devcontainer").iter().filter(|file| file.extension().is_some_and(|end| end == "json"))
    {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let root = folder.path().join(&name);
        fs::create_dir_all(root.join(".devcontainer")).unwrap();
        fs::copy(file, root.join(".devcontainer/devcontainer.json")).unwrap();
        let text = fs::read_to_string(file).unwrap();
        if text.contains("dockerComposeFile") {
            continue;
        }
        let variables = BTreeMap::from([("HOME".to_owned(), "/home/dev".to_owned())]);
        let surroundings = Surroundings {
            roots: &roots,
            engine: embedded.as_ref(),
            variables: &variables,
            fetch: None,
            lock: Lock::Read,
        };
        let mut project = Project::load(&roots, &root, &[]).unwrap();
        match complete(&mut project, &surroundings) {
            Ok(()) => {}
            // Images that are built are Docker's; local features and Dockerfiles are not part of the file.
            Err(error) => {
                let told = error.to_string();
                let expected = ["building an image", "which is the Dockerfile", "problem"];
                assert!(expected.iter().any(|words| told.contains(words)), "{name}: {told}");
                continue;
            }
        }
        planned += 1;
        let env = project.env(None).unwrap();
        assert!(!matches!(env.base, Base::DevContainer { .. }), "{name}");
        plan_of(env, embedded.as_ref(), &name);
    }
    assert!(planned >= 20, "only {planned}");
}
