use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use setpoint_model::names::PipelineName;
use setpoint_model::pipeline::ir::Pipeline;
use setpoint_runtime::engine::Engine;
use setpoint_runtime::pipeline::Runner;
use setpoint_runtime::project::Project;
use setpoint_runtime::store::cache::Bounds;

use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// List the pipelines of the project
#[derive(Debug, Args)]
pub(crate) struct Pipelines {}

/// `pipelines`.
#[derive(Debug, Serialize)]
struct Listed {
    setpoint: u32,
    pipelines: Vec<ListedPipeline>,
}

/// A pipeline in `pipelines`.
#[derive(Debug, Serialize)]
struct ListedPipeline {
    pipeline: String,
    /// Where it is written.
    from: String,
    /// Its steps; absent where only an evaluation could tell.
    steps: Option<Vec<String>>,
}

impl Pipelines {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = project(context)?;
        let listed: Vec<ListedPipeline> = project
            .manifest
            .pipelines
            .values()
            .map(|pipeline| ListedPipeline {
                pipeline: pipeline.name.to_string(),
                from: "setpoint.toml".to_owned(),
                steps: Some(pipeline.steps.iter().map(|step| step.name.to_string()).collect()),
            })
            .collect();
        if context.output.json {
            context.output.value(&Listed { setpoint: json::VERSION, pipelines: listed });
            return Ok(SUCCESS);
        }
        if listed.is_empty() {
            return Err(none(&project));
        }
        for pipeline in &listed {
            let steps = pipeline.steps.as_ref().map_or_else(String::new, |steps| match steps.len() {
                1 => "1 step".to_owned(),
                many => format!("{many} steps"),
            });
            context.output.line(format!("{:<16} {:<10} {}", pipeline.pipeline, steps, pipeline.from));
        }
        Ok(SUCCESS)
    }
}

/// The project of the present folder. One without a manifest may have pipelines in Python.
pub(super) fn project(context: &Context) -> Result<Project, Failure> {
    match context.project() {
        Err(failure) if failure.kind == "no-project" => {
            Project::without_manifest(&context.folder)?.ok_or(failure)
        }
        other => other,
    }
}

/// The pipeline that is meant: one from a file, the one of this name, or the only one.
pub(super) fn chosen(
    context: &Context,
    name: Option<&str>,
    file: Option<&Path>,
) -> Result<(Project, Pipeline), Failure> {
    if let Some(file) = file {
        let project = match project(context) {
            Err(failure) if failure.kind == "no-project" => Project::bare(&context.folder)?,
            other => other?,
        };
        return Ok((project, from_file(file, name)?));
    }
    let project = project(context)?;
    let known: Vec<&PipelineName> = project.manifest.pipelines.keys().collect();
    let pipeline = match (name, known.as_slice()) {
        (_, []) => return Err(none(&project)),
        (None, [only]) => project.manifest.pipelines.get(*only).cloned(),
        (None, _) => {
            let message = format!("which pipeline? There is: {}", names(&known));
            return Err(Failure::new(Exit::Usage, "which-pipeline", message)
                .hint(format!("setpoint run {}", known[0])));
        }
        (Some(name), _) => {
            project.manifest.pipelines.values().find(|pipeline| pipeline.name.as_str() == name).cloned()
        }
    };
    let pipeline = pipeline.ok_or_else(|| {
        let message =
            format!("there is no pipeline `{}`; there is: {}", name.unwrap_or_default(), names(&known));
        Failure::new(Exit::NotFound, "no-pipeline", message)
    })?;
    Ok((project, pipeline))
}

fn names(known: &[&PipelineName]) -> String {
    known.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn none(project: &Project) -> Failure {
    let message = format!("there is no pipeline in {}", project.root.display());
    Failure::new(Exit::NotFound, "no-pipeline", message)
        .hint("declare one: `[pipeline.ci.step.test]` with `run = \"...\"`")
}

fn from_file(file: &Path, name: Option<&str>) -> Result<Pipeline, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::new(Exit::NotFound, "no-file", format!("cannot read {}: {error}", file.display()))
    })?;
    let pipeline = Pipeline::parse(&text).map_err(|problems| Failure {
        problems,
        ..Failure::new(
            Exit::Manifest,
            "pipeline",
            format!("{} is not a pipeline that can run", file.display()),
        )
    })?;
    match name.filter(|name| *name != pipeline.name.as_str()) {
        None => Ok(pipeline),
        Some(name) => Err(Failure::new(
            Exit::NotFound,
            "no-pipeline",
            format!("the pipeline in {} is `{}`, not `{name}`", file.display(), pipeline.name),
        )),
    }
}

/// What runs the pipelines of a project.
pub(super) fn runner<'a>(context: &'a Context, engine: &'a dyn Engine, project: &'a Project) -> Runner<'a> {
    let cache = &project.manifest.cache;
    Runner {
        roots: &context.roots,
        engine,
        project_root: &project.root,
        secrets: &project.manifest.secrets,
        variables: &context.variables,
        home: context.home.as_deref(),
        bounds: Bounds { bytes: cache.max_size.0, age: cache.max_age },
        cancel: &context.cancel,
    }
}

/// A duration as people write it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    setpoint_model::manifest::parse_duration(text).map_err(|malformed| malformed.to_string())
}
