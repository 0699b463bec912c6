//! Pipelines that are written in a language: evaluated in a sandbox without network and without the caller's
//! environment, to the one form that all pipelines have.
//!
//! What an evaluation came to is kept with all that it depended on, so that a pipeline that has not changed is not
//! evaluated again: the files that it imported and opened, the folders that it listed, the interpreter, the
//! variables that it asked for.

mod error;
mod kept;
mod package;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use setpoint_model::manifest::Network;
use setpoint_model::names::PipelineName;
use setpoint_model::pipeline::ir::Pipeline;

pub use error::DslError;

use crate::cancel::Cancel;
use crate::cas::{self, read_once};
use crate::engine::{BaseSource, Engine, Io, Mount, StepSpec};
use crate::lines;
use crate::lock::{Lease, Retirement};
use crate::paths::{Roots, make_private_folder};
use crate::project::PIPELINES;
use crate::remove::remove_tree;
use crate::secrets::{Mask, Secrets};
use kept::Kept;

/// How long an evaluation may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How often an evaluation is repeated because it asks for variables that it was not given.
const ROUNDS: usize = 100;
/// How large an answer may be, in bytes.
const LARGEST: u64 = 256 << 20;
/// Where the interpreter is looked for: what a sandbox on the host's system sees.
const PLACES: [&str; 3] = ["/usr/local/bin/python3", "/usr/bin/python3", "/opt/python3/bin/python3"];
/// What an interpreter ends with that is too old.
const TOO_OLD: i32 = 39;
/// Where request and answer lie inside.
const EXCHANGE: &str = "/setpoint-exchange";
/// Where the package lies inside.
const PACKAGE: &str = "/setpoint-package";
const PROTOCOL: u32 = 1;

/// Evaluates the pipelines of a project.
pub struct Evaluator<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// What runs the interpreter.
    pub engine: &'a dyn Engine,
    /// The project's folder.
    pub project_root: &'a Path,
    /// The caller's variables; only those that are asked for are given.
    pub variables: &'a BTreeMap<String, String>,
    /// Stops an evaluation.
    pub cancel: &'a Cancel,
    /// Hears what the user's code prints.
    pub said: &'a dyn Fn(&str),
}

/// A pipeline that is declared in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// The file, from the project's folder.
    pub file: String,
    /// The line.
    pub line: u32,
    /// The first line of what its author says about it.
    #[serde(default)]
    pub doc: Option<String>,
}

#[derive(Debug, Serialize)]
struct Request<'a> {
    protocol: u32,
    files: &'a [String],
    root: &'a Path,
    pipeline: Option<&'a str>,
    variables: &'a BTreeMap<String, Option<String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Answer {
    protocol: u32,
    ok: bool,
    #[serde(default)]
    ir: Option<serde_json::Value>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    trace: String,
    pipelines: Vec<Declared>,
    imports: Vec<PathBuf>,
    reads: Vec<PathBuf>,
    variables: BTreeMap<String, Option<String>>,
    missing: Vec<String>,
    predicates: bool,
}

/// The files of a project that may declare pipelines, from its folder, by name. One that does not speak of the
/// package is some other script.
#[must_use]
pub fn files(project_root: &Path) -> Vec<String> {
    let entries =
        std::fs::read_dir(project_root.join(PIPELINES)).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<String> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".py") && !name.starts_with('.') && !name.starts_with('_'))
        .map(|name| format!("{PIPELINES}/{name}"))
        .filter(|file| speaks_of_the_package(&project_root.join(file)))
        .collect();
    files.sort();
    files
}

/// What cannot be read is asked all the same, so that it is told of.
fn speaks_of_the_package(file: &Path) -> bool {
    const PACKAGE: &[u8] = b"setpoint";
    read_once(file).map_or(true, |script| script.bytes.windows(PACKAGE.len()).any(|window| window == PACKAGE))
}

impl Evaluator<'_> {
    /// The pipelines that are declared, without evaluating any.
    ///
    /// # Errors
    /// If a file cannot be loaded.
    pub fn list(&self) -> Result<Vec<Declared>, DslError> {
        Ok(self.evaluated(None)?.pipelines)
    }

    /// The pipeline of this name. Only its own code is run.
    ///
    /// # Errors
    /// One [`DslError`] a cause.
    pub fn evaluate(&self, name: &PipelineName) -> Result<Pipeline, DslError> {
        let evaluated = self.evaluated(Some(name.as_str()))?;
        let text = evaluated.ir.map_or_else(String::new, |ir| ir.to_string());
        Pipeline::parse(&text).map_err(|problems| DslError::Problems { pipeline: name.to_string(), problems })
    }

    fn evaluated(&self, name: Option<&str>) -> Result<Kept, DslError> {
        let files = files(self.project_root);
        let python = PLACES.iter().map(Path::new).find(|path| path.exists()).ok_or(DslError::NoPython)?;
        let place = kept::place(self.roots, self.project_root, name);
        let before = Kept::read(&place);
        let secrets = Secrets::new(self.roots, self.project_root);
        let surroundings = kept::Surroundings {
            project_root: self.project_root,
            files: &files,
            python,
            variables: self.variables,
            secrets: &secrets,
        };
        if let Some(kept) = before.as_ref().filter(|kept| kept.is_good(&surroundings)) {
            return Ok(kept.clone());
        }
        // What was asked for the last time is given at once.
        let asked = before.iter().flat_map(|kept| kept.variables.keys().cloned());
        let mut variables: BTreeMap<String, Option<String>> =
            asked.map(|name| (name.clone(), self.variables.get(&name).cloned())).collect();
        for _ in 0..ROUNDS {
            let began = cas::now();
            let answer = self.ask(python, &files, name, &variables)?;
            // What the caller does not have stays missing.
            let missing: Vec<String> =
                answer.missing.iter().filter(|name| !variables.contains_key(*name)).cloned().collect();
            if missing.is_empty() {
                if answer.ok {
                    let (kept, settled) = Kept::of(answer, &surroundings, began)?;
                    // If it cannot be kept, it is evaluated again the next time.
                    if settled {
                        let _ = kept.write(&place);
                    }
                    return Ok(kept);
                }
                return Err(failed(answer, name));
            }
            let given = missing.into_iter().map(|name| (name.clone(), self.variables.get(&name).cloned()));
            variables.extend(given);
        }
        let asked: Vec<&str> = variables.keys().map(String::as_str).collect();
        Err(DslError::Protocol(format!("it asks for other variables each time: {}", asked.join(", "))))
    }

    /// Starts the interpreter, once.
    fn ask(
        &self,
        python: &Path,
        files: &[String],
        pipeline: Option<&str>,
        variables: &BTreeMap<String, Option<String>>,
    ) -> Result<Answer, DslError> {
        let package = package::place(self.roots)?;
        let evaluations = self.roots.state.join("dsl/v1/evaluations");
        make_private_folder(&evaluations).map_err(DslError::io("make", &evaluations))?;
        self.sweep(&evaluations)?;
        let folder = tempfile::Builder::new()
            .prefix("evaluation-")
            .tempdir_in(&evaluations)
            .map_err(DslError::io("make", &evaluations))?;
        let _lease = Lease::take(self.roots, &folder.path().to_string_lossy())?;
        let at = |name: &str| folder.path().join(name);
        for name in ["state", "root", "exchange"] {
            std::fs::create_dir(at(name)).map_err(DslError::io("make", &at(name)))?;
        }
        let root = self.project_root;
        let request = Request { protocol: PROTOCOL, files, root, pipeline, variables };
        let text = serde_json::to_vec(&request).map_err(|error| DslError::Protocol(error.to_string()))?;
        let path = at("exchange").join("request.json");
        std::fs::write(&path, text).map_err(DslError::io("write", &path))?;
        // Opened now, and a mount of its own inside: the code cannot put another file in its place.
        let path = at("exchange").join("answer.json");
        let answer = File::create_new(&path).and_then(|_| File::open(&path));
        let answer = answer.map_err(DslError::io("make", &path))?;
        let mount = |source: PathBuf, target: &Path, read_only| Mount {
            source,
            target: target.to_owned(),
            read_only,
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let env = [
            ("PYTHONPATH", PACKAGE),
            ("PYTHONHASHSEED", "0"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("LC_ALL", "C.UTF-8"),
        ];
        let step = StepSpec {
            base: BaseSource::Host,
            below: Vec::new(),
            state: at("state"),
            scratch: at("root"),
            workspace: Vec::new(),
            mounts: vec![
                mount(root.to_owned(), root, true),
                mount(package, Path::new(PACKAGE), true),
                mount(at("exchange"), Path::new(EXCHANGE), true),
                mount(path, &Path::new(EXCHANGE).join("answer.json"), false),
            ],
            argv: vec![
                text(python),
                "-B".to_owned(),
                "-s".to_owned(),
                format!("{PACKAGE}/setpoint/_start.py"),
                EXCHANGE.to_owned(),
            ],
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            cwd: root.to_owned(),
            user: None,
            network: Network::None,
            joins: None,
            io: Io::Captured,
        };
        let code = self.run(&step)?;
        if code == TOO_OLD {
            return Err(DslError::OldPython { python: python.to_owned() });
        }
        let mut bytes = Vec::new();
        let read = answer.take(LARGEST).read_to_end(&mut bytes);
        if read.map_err(|error| DslError::Protocol(error.to_string()))? == 0 {
            let what = format!("the interpreter ended with exit code {code}, and gave no answer");
            return Err(DslError::Protocol(what));
        }
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|error| DslError::Protocol(error.to_string()))?;
        if answer.protocol != PROTOCOL {
            return Err(DslError::Protocol(format!("it speaks version {}", answer.protocol)));
        }
        Ok(answer)
    }

    /// Removes what evaluations left whose processes were killed: values of variables lie there.
    fn sweep(&self, evaluations: &Path) -> Result<(), DslError> {
        for entry in std::fs::read_dir(evaluations).into_iter().flatten().filter_map(Result::ok) {
            let folder = entry.path();
            if let Some(_retired) = Retirement::begin(self.roots, &folder.to_string_lossy())? {
                let _ = remove_tree(&folder);
            }
        }
        Ok(())
    }

    fn run(&self, step: &StepSpec) -> Result<i32, DslError> {
        let began = Instant::now();
        let mut process = self.engine.start_step(step)?;
        let output = process.output();
        let (sender, said) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            if let Some(output) = output {
                scope.spawn(move || {
                    lines::read(output, &Mask::default(), |line| {
                        let _ = sender.send(line);
                    });
                });
            }
            let ended = loop {
                if let Some(ended) = process.wait(Duration::from_millis(20))? {
                    break Ok(ended.code());
                }
                if began.elapsed() > LIMIT {
                    process.kill();
                    break Err(DslError::Slow(LIMIT));
                }
                if self.cancel.asked() {
                    process.kill();
                    break Err(DslError::Cancelled);
                }
            };
            drop(process);
            said.iter().for_each(|line| (self.said)(&line));
            ended
        })
    }
}

fn failed(answer: Answer, name: Option<&str>) -> DslError {
    match answer.kind.as_str() {
        "unknown-pipeline" => DslError::Unknown {
            name: name.unwrap_or_default().to_owned(),
            known: answer.pipelines.iter().map(|declared| declared.name.clone()).collect(),
        },
        // The trace ends with what went wrong.
        _ => {
            DslError::Failed { pipeline: name.map(str::to_owned), trace: answer.trace.trim_end().to_owned() }
        }
    }
}
