//! The intermediate representation: the one form in which a pipeline is handed over, whatever it was written in.
//!
//! It is JSON with a version that is enforced, and a schema made from these types
//! (`docs/reference/ir.schema.json`). What is at its default is left out, and steps stand in topological order,
//! those that may stand anywhere by name: so the same pipeline is the same bytes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::graph;
use crate::manifest::{EnvValue, Network, Problem};
use crate::names::{PipelineName, StepName, UnitName};

/// The version of the format.
pub const VERSION: u32 = 1;

/// Where the source appears in the sandbox of a step.
pub const WORKSPACE: &str = "/workspace";

/// A pipeline: a directed acyclic graph of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Pipeline")]
pub struct Pipeline {
    /// The version of this format.
    #[schemars(extend("const" = VERSION))]
    setpoint_ir: u32,
    /// Its name.
    #[schemars(with = "String")]
    pub name: PipelineName,
    /// How long a run of it may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Its steps, each after those that it depends on.
    pub steps: Vec<Step>,
}

/// A step: a command in a sandbox of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name, unique in the pipeline.
    #[schemars(with = "String")]
    pub name: StepName,
    /// What it runs: a text for `/bin/sh -c`, or a program with its arguments.
    pub run: Run,
    /// The image that it starts from; absent is the host's own system. Not with `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What of the host's homes is visible, read-only; on the host's system only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_paths: Vec<String>,
    /// The step from whose file system and workspace it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub from: Option<StepName>,
    /// Steps that have to end well before it begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub needs: Vec<StepName>,
    /// Steps that have to end before it begins, in whatever way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub after: Vec<StepName>,
    /// Steps whose outputs are laid over its workspace, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub take: Vec<StepName>,
    /// The files of the source that it sees, as patterns; absent is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<Input>>,
    /// The files that it leaves in the workspace for others, as patterns; absent is all that it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<String>>,
    /// The files of its workspace that a run hands out, as patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// Folders that it shares with every other step that names them, from run to run: outside of what a result
    /// is a function of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_dirs: Vec<String>,
    /// Services of the manifest that it has instances of, of its own: healthy before it begins, gone after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub services: Vec<UnitName>,
    /// Its environment. `${secret.NAME}` is the value of a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub env: BTreeMap<String, EnvValue>,
    /// When an earlier result may be taken; nothing said is whenever all that it sees is the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<CachePolicy>,
    /// How long it may take, in milliseconds, each try for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How often it is tried again when it fails.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: u32,
    /// Where it starts: absolute, or from the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Who runs it; nothing said is root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The network that it sees.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// Whether the history of the repository is part of the source: its `.git`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub git: bool,
    /// When it is part of a run at all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when: When,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Run {
    /// A text for `/bin/sh -c`.
    Shell(String),
    /// A program with its arguments, without a shell.
    Argv(Vec<String>),
}

impl Run {
    /// The program and its arguments.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Shell(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
            Self::Argv(argv) => argv.clone(),
        }
    }
}

impl std::fmt::Display for Run {
    /// As a person would type it, on one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shell(text) => f.write_str(text.trim()),
            Self::Argv(argv) => f.write_str(&argv.join(" ")),
        }
    }
}

/// A pattern of files that a step sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Input {
    /// It has to fit something.
    Required(String),
    /// It says itself whether it has to.
    Either(EitherInput),
}

/// A pattern that may fit nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EitherInput {
    /// The pattern.
    pub glob: String,
    /// Whether it may fit nothing.
    pub optional: bool,
}

impl Input {
    /// The pattern.
    #[must_use]
    pub fn glob(&self) -> &str {
        match self {
            Self::Required(glob) => glob,
            Self::Either(input) => &input.glob,
        }
    }

    /// Whether it may fit nothing.
    #[must_use]
    pub fn is_optional(&self) -> bool {
        matches!(self, Self::Either(EitherInput { optional: true, .. }))
    }
}

/// A rule about when an earlier result may be taken. Several hold together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CachePolicy {
    /// Never: it runs every time, and nothing of it is kept.
    None,
    /// For as long as it is there. Such a step sees no source, unless it declares inputs.
    Forever {
        /// Variables of whoever evaluated the pipeline, on which the result depends besides.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, Option<String>>,
    },
    /// For so long after it was made. Such a step sees no source, unless it declares inputs.
    Ttl {
        /// Milliseconds.
        ms: u64,
    },
    /// As long as this value, which the pipeline's own code gave in this run, is the same.
    Predicate(Value),
}

/// What a predicate gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A text.
    Str(String),
    /// A number, in decimal digits, however many.
    Int(String),
    /// Bytes, in hexadecimal digits.
    Bytes(String),
}

/// When a step is part of a run. Of each list one pattern has to fit; an empty list says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The branch that is checked out, as patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branch: Vec<String>,
    /// A tag of the commit that is checked out, as patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<String>,
    /// What led to the run, as `--event` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event: Vec<String>,
    /// Variables of the caller, each with a pattern.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

impl Step {
    /// A step that runs this, and is at its defaults otherwise.
    #[must_use]
    pub fn new(name: StepName, run: Run) -> Self {
        Self {
            name,
            run,
            image: None,
            host_paths: Vec::new(),
            from: None,
            needs: Vec::new(),
            after: Vec::new(),
            take: Vec::new(),
            inputs: None,
            outputs: None,
            artifacts: Vec::new(),
            cache_dirs: Vec::new(),
            services: Vec::new(),
            env: BTreeMap::new(),
            cache: Vec::new(),
            timeout_ms: None,
            retries: 0,
            workdir: None,
            user: None,
            network: Network::default(),
            git: false,
            when: When::default(),
        }
    }

    /// Whether nothing of it is kept.
    #[must_use]
    pub fn is_uncached(&self) -> bool {
        self.cache.contains(&CachePolicy::None)
    }

    /// How long its result is good for, in milliseconds, if not for as long as it is there.
    #[must_use]
    pub fn ttl_ms(&self) -> Option<u64> {
        let ttls = self.cache.iter().filter_map(|policy| match policy {
            CachePolicy::Ttl { ms } => Some(*ms),
            _ => None,
        });
        ttls.min()
    }

    /// The part of the source that it sees.
    #[must_use]
    pub fn sees(&self) -> Sees<'_> {
        let timeless =
            |policy: &CachePolicy| matches!(policy, CachePolicy::Forever { .. } | CachePolicy::Ttl { .. });
        match &self.inputs {
            Some(inputs) => Sees::Inputs(inputs),
            None if self.cache.iter().any(timeless) => Sees::Nothing,
            None => Sees::All,
        }
    }

    /// The steps whose files it builds on.
    pub fn builds_on(&self) -> impl Iterator<Item = &StepName> {
        self.from.iter().chain(&self.take)
    }
}

/// The part of the source that a step sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees<'a> {
    /// All of it.
    All,
    /// The files that these patterns fit.
    Inputs(&'a [Input]),
    /// None of it.
    Nothing,
}

impl Pipeline {
    /// A pipeline, with its steps in the order of the format.
    ///
    /// # Errors
    /// Everything that is wrong with it, by step and key.
    pub fn new(
        name: PipelineName,
        timeout_ms: Option<u64>,
        steps: Vec<Step>,
    ) -> Result<Self, Vec<graph::Fault>> {
        Self { setpoint_ir: VERSION, name, timeout_ms, steps }.in_order()
    }

    fn in_order(mut self) -> Result<Self, Vec<graph::Fault>> {
        let faults = graph::faults(&self.steps);
        if !faults.is_empty() {
            return Err(faults);
        }
        self.steps = graph::in_order(self.steps);
        Ok(self)
    }

    /// Reads a pipeline from its JSON.
    ///
    /// # Errors
    /// Everything that is wrong with it; of another version, only that.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let unreadable = |error: serde_json::Error| {
            vec![
                Problem::new("bad-ir", format!("this is not a pipeline: {error}"))
                    .hint("`setpoint render` writes one; its schema is docs/reference/ir.schema.json"),
            ]
        };
        let value: serde_json::Value = serde_json::from_str(text).map_err(unreadable)?;
        match value.get("setpoint_ir").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(newer) if newer > u64::from(VERSION) => {
                let what = format!("this pipeline has version {newer}, and this setpoint knows {VERSION}");
                return Err(vec![Problem::new("newer-ir", what).hint("use a newer setpoint")]);
            }
            Some(other) => {
                let what = format!("there is no version {other} of pipelines; the version is {VERSION}");
                return Err(vec![Problem::new("bad-ir", what)]);
            }
            None => {
                let what = "this is not a pipeline: it has no `setpoint_ir`, which is its version";
                return Err(vec![Problem::new("bad-ir", what).hint("`setpoint render` writes one")]);
            }
        }
        let pipeline: Self = serde_json::from_str(text).map_err(unreadable)?;
        pipeline.in_order().map_err(|faults| faults.into_iter().map(graph::Fault::into_problem).collect())
    }

    /// Its JSON, with a line feed at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts, numbers, lists and maps with texts as keys: there is nothing in it that JSON has not.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The step of this name.
    #[must_use]
    pub fn step(&self, name: &StepName) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == *name)
    }
}

/// The JSON Schema (draft 2020-12) of the format. It is checked in as `docs/reference/ir.schema.json`.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.into_generator().into_root_schema_for::<Pipeline>().to_value()
}
