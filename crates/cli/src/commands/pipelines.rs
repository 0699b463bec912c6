use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use setpoint_model::manifest::EngineKind;
use setpoint_model::names::PipelineName;
use setpoint_model::pipeline::ir::Pipeline;
use setpoint_runtime::dsl::{self, Evaluator};
use setpoint_runtime::engine::Engine;
use setpoint_runtime::pipeline::Runner;
use setpoint_runtime::project::{MANIFEST, Project};
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
    /// What its author says about it.
    about: String,
    /// Its steps; absent where only an evaluation could tell.
    steps: Option<Vec<String>>,
}

impl Pipelines {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = project(context)?;
        let listed: Vec<ListedPipeline> = known(context, &project)?
            .into_iter()
            .map(|known| ListedPipeline {
                steps: project
                    .manifest
                    .pipelines
                    .get(&known.name)
                    .map(|pipeline| pipeline.steps.iter().map(|step| step.name.to_string()).collect()),
                pipeline: known.name.to_string(),
                from: known.from,
                about: known.about,
            })
            .collect();
        if context.output.json {
            context.output.value(&Listed { setpoint: json::VERSION, pipelines: listed });
            return Ok(SUCCESS);
        }
        if listed.is_empty() {
            return Err(none(&project));
        }
        let width = |of: fn(&ListedPipeline) -> &str| {
            listed.iter().map(|pipeline| of(pipeline).len()).max().unwrap_or(0)
        };
        let (names, places) = (width(|pipeline| &pipeline.pipeline), width(|pipeline| &pipeline.from));
        for pipeline in &listed {
            let about = match &pipeline.steps {
                Some(steps) if steps.len() == 1 => "1 step".to_owned(),
                Some(steps) => format!("{} steps", steps.len()),
                None => pipeline.about.clone(),
            };
            let line = format!("{:<names$}  {:<places$}  {about}", pipeline.pipeline, pipeline.from);
            context.output.line(line.trim_end());
        }
        Ok(SUCCESS)
    }
}

/// A pipeline that is declared somewhere.
struct Known {
    name: PipelineName,
    from: String,
    about: String,
}

/// The pipelines of the manifest, and those that are written in Python.
fn known(context: &Context, project: &Project) -> Result<Vec<Known>, Failure> {
    let in_manifest = project.manifest.pipelines.keys().map(|name| Known {
        name: name.clone(),
        from: MANIFEST.to_owned(),
        about: String::new(),
    });
    let mut known: Vec<Known> = in_manifest.collect();
    if dsl::files(&project.root).is_empty() {
        return Ok(known);
    }
    let engine = context.engine(EngineKind::Embedded);
    let say = |line: &str| context.output.progress(line);
    for declared in evaluator(context, engine.as_ref(), project, &say).list()? {
        let from = format!("{}:{}", declared.file, declared.line);
        let name = PipelineName::new(declared.name)
            .map_err(|error| Failure::new(Exit::Manifest, "pipeline", format!("{from}: {error}")))?;
        if known.iter().any(|known| known.name == name) {
            let message = format!("the pipeline `{name}` is there twice: in {MANIFEST} and in {from}");
            return Err(Failure::new(Exit::Manifest, "pipeline", message).hint("rename one of them"));
        }
        known.push(Known { name, from, about: declared.doc.unwrap_or_default() });
    }
    known.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(known)
}

fn evaluator<'a>(
    context: &'a Context,
    engine: &'a dyn Engine,
    project: &'a Project,
    said: &'a dyn Fn(&str),
) -> Evaluator<'a> {
    Evaluator {
        roots: &context.roots,
        engine,
        project_root: &project.root,
        variables: &context.variables,
        cancel: &context.cancel,
        said,
    }
}

/// The project of the present folder. One without a manifest may have pipelines in Python.
pub(super) fn project(context: &Context) -> Result<Project, Failure> {
    match context.declared() {
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
    // Code is asked for what the manifest does not have, or when nobody said which.
    let in_manifest = |name: &str| {
        project.manifest.pipelines.values().find(|pipeline| pipeline.name.as_str() == name).cloned()
    };
    let has_code = !dsl::files(&project.root).is_empty();
    if let (Some(pipeline), false) = (name.and_then(in_manifest), has_code) {
        return Ok((project, pipeline));
    }
    let name = match name {
        Some(name) if has_code => match in_manifest(name) {
            Some(pipeline) => return Ok((project, pipeline)),
            None => PipelineName::new(name)
                .map_err(|error| Failure::new(Exit::Usage, "usage", error.to_string()))?,
        },
        name => {
            let known: Vec<PipelineName> =
                known(context, &project)?.into_iter().map(|known| known.name).collect();
            match (name, known.as_slice()) {
                (_, []) => return Err(none(&project)),
                (None, [only]) => only.clone(),
                (None, _) => {
                    let message = format!("which pipeline? There is: {}", names(&known));
                    return Err(Failure::new(Exit::Usage, "which-pipeline", message)
                        .hint(format!("setpoint run {}", known[0])));
                }
                (Some(name), _) => {
                    let message = format!("there is no pipeline `{name}`; there is: {}", names(&known));
                    return Err(Failure::new(Exit::NotFound, "no-pipeline", message));
                }
            }
        }
    };
    if let Some(pipeline) = in_manifest(name.as_str()) {
        return Ok((project, pipeline));
    }
    let engine = context.engine(EngineKind::Embedded);
    let say = |line: &str| context.output.progress(line);
    let pipeline = evaluator(context, engine.as_ref(), &project, &say).evaluate(&name)?;
    Ok((project, pipeline))
}

fn names(known: &[PipelineName]) -> String {
    known.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn none(project: &Project) -> Failure {
    let message = format!("there is no pipeline in {}", project.root.display());
    Failure::new(Exit::NotFound, "no-pipeline", message)
        .hint("declare one: `[pipeline.ci.step.test]` with `run = \"...\"`, or in Python in .setpoint/ci.py")
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
        project,
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
