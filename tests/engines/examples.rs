//! The pipelines in `examples/`, on an engine that is a daemon: what they come to on our own, whatever was cached.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::pipelines::{Outcome, Project};
use crate::place::Subject;
use crate::rules::Rule;
use crate::support::{Blobs, plain};

pub const RULES: &[Rule] = named![the_examples_come_to_the_same_as_on_our_own_engine_cold_and_warm];

/// The steps of both examples.
const STEPS: [&str; 5] = ["common", "count", "longest", "report", "words"];
/// Our own engine.
const EMBEDDED: &str = "embedded";

/// What a run came to, besides which steps ran and which were cached.
#[derive(Debug, PartialEq)]
struct Results {
    code: i32,
    /// What each step has said.
    lines: BTreeMap<String, Vec<String>>,
    /// What was handed out, by its path.
    artifacts: BTreeMap<PathBuf, Vec<u8>>,
}

/// A copy of an example, on an image that every engine can read.
struct Example<'a> {
    project: Project<'a>,
}

impl<'a> Example<'a> {
    fn new(subject: &'a Subject, name: &str) -> Self {
        let project = Project::new(subject, "");
        let image = project.place.path().join("image");
        let mut blobs = Blobs::default();
        let system = fs::read(subject.folder.join("rootfs.tar")).unwrap();
        let entry = blobs.image(&[(system, plain)]);
        blobs.layout(&entry, &image);
        let image = format!("image = \"{}\"", image.display());
        let head = format!("setpoint = 1\n[engine]\ndefault = \"{}\"\n", Self::engine(subject));
        project.write("setpoint.toml", &head);
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let text = |file: &str| fs::read_to_string(example.join(file)).unwrap();
        project.write("text.txt", &text("text.txt"));
        match name {
            "pipeline-toml" => {
                let whole = text("setpoint.toml");
                let steps = whole.strip_prefix("setpoint = 1\n").unwrap();
                project.write("setpoint.toml", &format!("{head}[pipeline.ci]\n{image}\n{steps}"));
            }
            _ => {
                let code = text(".setpoint/ci.py");
                let declared = "@sp.pipeline(\"ci\")";
                assert!(code.contains(declared));
                let on_image = format!("@sp.pipeline(\"ci\", {})", image.replace(" = ", "="));
                project.write(".setpoint/ci.py", &code.replace(declared, &on_image));
            }
        }
        Self { project }
    }

    fn engine(subject: &Subject) -> &'static str {
        subject.engine.capabilities().engine
    }

    /// Runs it with a state of this name.
    fn run(&self, engine: &str, state: &str) -> (Outcome, Results) {
        let output = tempfile::tempdir_in(self.project.place.path()).unwrap();
        let folder = output.path().to_str().unwrap();
        let outcome = self.with(engine, state, &["run", "--json", "--output", folder]);
        let lines = STEPS.map(|step| (step.to_owned(), outcome.lines(step))).into();
        let results = Results { code: outcome.code, lines, artifacts: files(output.path()) };
        (outcome, results)
    }

    fn with(&self, engine: &str, state: &str, arguments: &[&str]) -> Outcome {
        let engine = format!("engine.default=\"{engine}\"");
        let arguments = [&["--set", engine.as_str()], arguments].concat();
        let mut command = self.project.command(&arguments);
        Outcome::of(command.env("SETPOINT_STATE", self.project.place.path().join(state)))
    }
}

/// The files below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

fn the_examples_come_to_the_same_as_on_our_own_engine_cold_and_warm(subject: &Subject) {
    for name in ["pipeline-toml", "pipeline-python"] {
        let example = Example::new(subject, name);
        let engine = Example::engine(subject);
        let (cold, results) = example.run(engine, "state");
        assert_eq!(cold.that("passed"), STEPS, "{name}: {}", cold.said);
        let report = &results.artifacts[Path::new("report/report.txt")];
        assert!(String::from_utf8_lossy(report).contains("8 declared"), "{results:?}");
        let (of_own, own) = example.run(EMBEDDED, "own");
        assert_eq!((of_own.steps(), &own), (cold.steps(), &results), "{name}");
        // With nothing changed, nothing runs, and it comes to the same.
        let (warm, again) = example.run(engine, "state");
        assert_eq!(warm.that("cached"), STEPS, "{name}: {}", warm.said);
        assert_eq!(again.artifacts, results.artifacts, "{name}");
        // After an edit some of it may be taken from before. Without anything from before it comes to the same, and on
        // our own engine as well.
        example.project.write("text.txt", "one incomprehensibility and and more\n");
        let (_, edited) = example.run(engine, "state");
        assert_ne!(edited.artifacts, results.artifacts, "{name}");
        let (afresh, fresh) = example.run(engine, "fresh");
        assert_eq!(afresh.that("passed"), STEPS, "{name}: {}", afresh.said);
        assert_eq!(edited, fresh, "{name}");
        assert_eq!(example.run(EMBEDDED, "own").1, fresh, "{name}");
        // An edit that is taken back is nothing new.
        example.project.write("text.txt", &fs::read_to_string(source(name)).unwrap());
        let (back, before) = example.run(engine, "state");
        assert_eq!((back.that("cached").len(), before.artifacts), (STEPS.len(), results.artifacts), "{name}");
        for (engine, state) in [(engine, "fresh"), (EMBEDDED, "own")] {
            let cleaned = example.with(engine, state, &["cache", "clean"]);
            assert_eq!(cleaned.code, 0, "{}", cleaned.said);
        }
    }
}

/// The text that an example is about.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).join("text.txt")
}
