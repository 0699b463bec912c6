use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use setpoint_model::fingerprint::{Fingerprint, differences};
use setpoint_model::manifest::ByteSize;
use setpoint_runtime::cache::Cache as Kept;
use setpoint_runtime::pipeline::{Options, Planned};
use setpoint_runtime::runs::project_id;
use setpoint_runtime::store::cache::Bounds;

use super::{SUCCESS, pipelines};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;
use crate::output::{ago, size, span};

/// See and change what is kept of pipelines
#[derive(Debug, Args)]
pub(crate) struct Cache {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    Ls(Ls),
    Why(Why),
    Prune(Prune),
    Clean(Clean),
    Verify(Verify),
}

/// List the results that are kept, the one used last first
#[derive(Debug, Args)]
struct Ls {}

/// Say what the key of a step is made of, and what differs from the last run
#[derive(Debug, Args)]
struct Why {
    /// The step
    step: String,
    /// The pipeline; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
}

/// Remove what was not used for long, or is too much
#[derive(Debug, Args)]
struct Prune {
    /// Keep this much at most, such as `5GiB`; what the manifest says, if nothing is said
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_size: Option<ByteSize>,
    /// Keep only what was used within this time, such as `7d`
    #[arg(long, value_name = "DURATION", value_parser = pipelines::duration)]
    max_age: Option<Duration>,
}

/// Remove all results that are not in use
#[derive(Debug, Args)]
struct Clean {
    /// Also empty the folders that steps share from run to run (`cache_dirs`)
    #[arg(long)]
    shared: bool,
}

/// Look for damage, and drop what is damaged
#[derive(Debug, Args)]
struct Verify {}

/// `cache ls`.
#[derive(Debug, Serialize)]
struct Listed {
    setpoint: u32,
    results: Vec<ListedResult>,
    shared: Vec<String>,
}

/// A result in `cache ls`.
#[derive(Debug, Serialize)]
struct ListedResult {
    result: String,
    key: String,
    current: bool,
    pipeline: String,
    step: String,
    project: String,
    run: u64,
    made_at: String,
    used_at: String,
    seconds: f64,
    bytes: Option<u64>,
    files: Option<u64>,
}

/// `cache why`.
#[derive(Debug, Serialize)]
struct Explained {
    setpoint: u32,
    pipeline: String,
    step: String,
    /// The key as it is now; absent where a step that it builds on would run first.
    key: Option<String>,
    leaves: Vec<ExplainedLeaf>,
    /// Whether a run would take an earlier result.
    cached: bool,
    changes: Vec<ExplainedChange>,
}

/// A leaf of a key in `cache why`.
#[derive(Debug, Serialize)]
struct ExplainedLeaf {
    leaf: String,
    value: Option<String>,
    digest: String,
}

/// What differs in `cache why`.
#[derive(Debug, Serialize)]
struct ExplainedChange {
    change: setpoint_model::fingerprint::Change,
    leaf: String,
    old: Option<String>,
    new: Option<String>,
}

/// `cache prune`, `cache clean`.
#[derive(Debug, Serialize)]
struct Removed {
    setpoint: u32,
    results: usize,
    bytes: u64,
}

/// `cache verify`.
#[derive(Debug, Serialize)]
struct Verified {
    setpoint: u32,
    snapshots: usize,
    damaged: Vec<VerifiedDamage>,
}

/// A damaged snapshot in `cache verify`.
#[derive(Debug, Serialize)]
struct VerifiedDamage {
    snapshot: String,
    what: String,
    /// How many results were forgotten with it.
    results: usize,
}

fn bytes(text: &str) -> Result<ByteSize, String> {
    text.parse::<ByteSize>().map_err(|error| error.to_string())
}

impl Cache {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        match self.command {
            CacheCommand::Ls(_) => list(context),
            CacheCommand::Why(why) => why.run(context),
            CacheCommand::Prune(prune) => prune.run(context),
            CacheCommand::Clean(clean) => clean.run(context),
            CacheCommand::Verify(_) => verify(context),
        }
    }
}

fn list(context: &Context) -> Result<u8, Failure> {
    let cache = Kept::open(&context.roots, context.engines())?;
    let kept = cache.kept()?;
    let shared = cache.shared_folders();
    let output = context.output;
    if output.json {
        let results = kept.iter().map(|kept| ListedResult {
            result: kept.row.id.to_hex(),
            key: kept.row.key.to_hex(),
            current: kept.row.current,
            pipeline: kept.row.pipeline.to_string(),
            step: kept.row.step.to_string(),
            project: kept.row.project.clone(),
            run: kept.row.run,
            made_at: kept.row.made_at.to_string(),
            used_at: kept.row.used_at.to_string(),
            seconds: kept.row.took.as_secs_f64(),
            bytes: kept.bytes,
            files: kept.files,
        });
        let results = results.collect();
        let shared = shared.into_iter().map(|folder| folder.name).collect();
        output.value(&Listed { setpoint: json::VERSION, results, shared });
        return Ok(SUCCESS);
    }
    if kept.is_empty() {
        output.note("nothing is kept; `setpoint run` makes something");
    } else {
        let now = Timestamp::now();
        output.line(format!(
            "{:<10} {:<14} {:<20} {:>8} {:>6} {:>6} {:>8}",
            "KEY", "PIPELINE", "STEP", "SIZE", "AGE", "USED", "COST"
        ));
        for kept in &kept {
            let row = &kept.row;
            output.line(format!(
                "{:<10} {:<14} {:<20} {:>8} {:>6} {:>6} {:>8}{}",
                row.key.short(),
                row.pipeline.as_str(),
                row.step.as_str(),
                kept.bytes.map_or_else(|| "?".to_owned(), size),
                ago(row.made_at, now),
                ago(row.used_at, now),
                span(row.took),
                if row.current { "" } else { "  (replaced)" },
            ));
        }
        let total: u64 = kept.iter().filter_map(|kept| kept.bytes).sum();
        output.line(format!("{} results, {}", kept.len(), size(total)));
    }
    let (trees, largest) = cache.sources();
    if trees > 0 {
        output.line(format!("sources: {trees} kept, the largest {}", size(largest)));
    }
    if !shared.is_empty() {
        let names: Vec<&str> = shared.iter().map(|folder| folder.name.as_str()).collect();
        output.line(format!("shared folders: {}", names.join(", ")));
    }
    Ok(SUCCESS)
}

impl Why {
    fn run(self, context: &Context) -> Result<u8, Failure> {
        let (project, pipeline) = pipelines::chosen(context, self.pipeline.as_deref(), None)?;
        let engine = context.engine(project.manifest.engine);
        let runner = pipelines::runner(context, engine.as_ref(), &project);
        let name = pipeline.steps.iter().map(|step| &step.name).find(|name| name.as_str() == self.step);
        let Some(name) = name.cloned() else {
            let known: Vec<&str> = pipeline.steps.iter().map(|step| step.name.as_str()).collect();
            let message = format!(
                "there is no step `{}` in {}; there is: {}",
                self.step,
                pipeline.name,
                known.join(", ")
            );
            return Err(Failure::new(Exit::NotFound, "no-step", message));
        };
        let options = Options { steps: vec![name.clone()], jobs: 1, ..Options::default() };
        let steps = runner.plan(&pipeline, &options)?;
        let planned = steps.into_iter().find(|step| step.step == name);
        let (planned, key) = planned.map_or((Planned::Run, None), |step| (step.planned, step.key));
        let cache = Kept::open(&context.roots, context.engines())?;
        let known = cache.records().key(&project_id(&project.root), &pipeline.name, &name)?;
        let last = known.as_ref().map(|row| match &key {
            // The last run had this very key: what is of interest is how it came to it.
            Some(key) if *key == row.leaves => row.before.clone().unwrap_or_else(|| row.leaves.clone()),
            _ => row.leaves.clone(),
        });
        let now = key.clone().or_else(|| known.as_ref().map(|row| row.leaves.clone())).unwrap_or_default();
        let changes: Vec<ExplainedChange> = last
            .map(|last| differences(&last, &now, &std::collections::BTreeSet::new()))
            .unwrap_or_default()
            .into_iter()
            .map(|difference| ExplainedChange {
                change: difference.change,
                leaf: difference.key.path,
                old: difference.old,
                new: difference.new,
            })
            .collect();
        let output = context.output;
        if output.json {
            output.value(&Explained {
                setpoint: json::VERSION,
                pipeline: pipeline.name.to_string(),
                step: name.to_string(),
                key: key.as_ref().map(|key| key.digest().to_hex()),
                leaves: leaves(&now),
                cached: matches!(planned, Planned::Cached(_)),
                changes,
            });
            return Ok(SUCCESS);
        }
        let age = |at| ago(at, Timestamp::now());
        output.line(match &planned {
            Planned::Cached(row) => {
                format!(
                    "{name}: cached, made {} ago in {} (run {})",
                    age(row.made_at),
                    span(row.took),
                    row.run
                )
            }
            Planned::Run if known.is_none() => format!("{name}: would run; it has never been looked up"),
            Planned::Run => format!("{name}: would run"),
            Planned::Follows(parent) => {
                format!("{name}: would run, since {parent} would, on which it builds")
            }
            Planned::Skipped(why) => format!("{name}: would be skipped: {why}"),
        });
        if changes.is_empty() && known.is_some() && key.is_some() {
            output.line("  no leaf of its key has changed since it was looked up first");
        }
        for change in &changes {
            let old = change.old.as_deref().unwrap_or("(absent)");
            let new = change.new.as_deref().unwrap_or("(absent)");
            output.line(format!("  {:<8} {}  {old} -> {new}", change.change, change.leaf));
        }
        output.line(format!(
            "key {}",
            key.as_ref().map_or_else(|| "not known yet".to_owned(), |key| key.digest().to_hex())
        ));
        for leaf in leaves(&now) {
            let value = leaf.value.unwrap_or_else(|| leaf.digest.chars().take(16).collect());
            output.line(format!("  {:<28} {}", leaf.leaf, value.lines().next().unwrap_or_default()));
        }
        let shared = pipeline.step(&name).map(|step| step.cache_dirs.clone()).unwrap_or_default();
        if !shared.is_empty() {
            output.line(format!("not a function of its key: {}", shared.join(", ")));
        }
        Ok(SUCCESS)
    }
}

fn leaves(key: &Fingerprint) -> Vec<ExplainedLeaf> {
    key.iter()
        .map(|(key, leaf)| ExplainedLeaf {
            leaf: key.path.clone(),
            value: leaf.shown.clone(),
            digest: leaf.digest.to_hex(),
        })
        .collect()
}

impl Prune {
    fn run(self, context: &Context) -> Result<u8, Failure> {
        let declared = match pipelines::project(context) {
            Ok(project) => project.manifest.cache,
            Err(failure) if failure.kind == "no-project" => Default::default(),
            Err(failure) => return Err(failure),
        };
        let bounds = Bounds {
            bytes: self.max_size.unwrap_or(declared.max_size).0,
            age: self.max_age.unwrap_or(declared.max_age),
        };
        let mut cache = Kept::open(&context.roots, context.engines())?;
        let removed = cache.prune(bounds)?;
        sweep_engines(context, &cache);
        tell(context, removed.results, removed.bytes);
        Ok(SUCCESS)
    }
}

impl Clean {
    fn run(self, context: &Context) -> Result<u8, Failure> {
        let mut cache = Kept::open(&context.roots, context.engines())?;
        let removed = cache.clean()?;
        sweep_engines(context, &cache);
        if self.shared {
            let failed = |error: std::io::Error| {
                Failure::new(Exit::State, "cache", format!("cannot empty the shared folders: {error}"))
            };
            let folders = cache.clean_shared_folders().map_err(failed)?;
            context.output.note(format!("emptied {folders} shared folders"));
        }
        tell(context, removed.results, removed.bytes);
        Ok(SUCCESS)
    }
}

/// Removes what engines keep for results that are no more.
fn sweep_engines(context: &Context, cache: &Kept) {
    for error in cache.sweep_engines() {
        context
            .output
            .progress(format!("{error}\nWhat it keeps of results that are gone goes the next time."));
    }
}

fn tell(context: &Context, results: usize, bytes: u64) {
    if context.output.json {
        context.output.value(&Removed { setpoint: json::VERSION, results, bytes });
    } else {
        context.output.note(format!("removed {results} results, {}", size(bytes)));
    }
}

fn verify(context: &Context) -> Result<u8, Failure> {
    let mut cache = Kept::open(&context.roots, context.engines())?;
    let (snapshots, damages) = cache.verify()?;
    sweep_engines(context, &cache);
    let exit = if damages.is_empty() { SUCCESS } else { Exit::State as u8 };
    if context.output.json {
        let damaged = damages.into_iter().map(|damage| VerifiedDamage {
            snapshot: damage.layer.to_hex(),
            what: damage.what,
            results: damage.results,
        });
        let damaged = damaged.collect();
        context.output.value(&Verified { setpoint: json::VERSION, snapshots, damaged });
        return Ok(exit);
    }
    for damage in &damages {
        let id = damage.layer.short();
        context.output.line(format!("damaged {id}: {}; {} results forgotten", damage.what, damage.results));
    }
    context.output.note(match damages.len() {
        0 => format!("{snapshots} snapshots, all as they were made"),
        some => format!("{snapshots} snapshots, {some} damaged and dropped; the next run makes them anew"),
    });
    Ok(exit)
}
