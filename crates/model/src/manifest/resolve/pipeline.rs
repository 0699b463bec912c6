//! Pipelines: from their sections to the one form that all pipelines have.

use std::collections::BTreeMap;

use super::super::document::{Document, steps};
use super::super::env::Env;
use super::super::env_value::{EnvName, EnvValue};
use super::super::format::Named;
use super::super::pipeline::{CacheSettings, CacheWord, StepEnvValue};
use super::super::problem::Problem;
use super::super::shape::{
    CacheEntry, CachePart, CacheSection, CacheTable, InputEntry, Patterns, PipelineSection, StepRun,
    StepSection, Steps, WhenSection,
};
use super::super::tree::Step as Place;
use super::matrix::{self, Combination};
use super::variables;
use crate::names::{PipelineName, StepName, UnitName};
use crate::pipeline::graph::Fault;
use crate::pipeline::ir::{CachePolicy, EitherInput, Input, Pipeline, Run, Step, When};
use crate::pipeline::services;

/// The bounds of the cache.
pub(super) fn cache(section: &CacheSection) -> CacheSettings {
    let default = CacheSettings::default();
    CacheSettings {
        max_size: section.max_size.unwrap_or(default.max_size),
        max_age: section.max_age.map_or(default.max_age, |age| age.0),
    }
}

/// The pipeline that a section means, if nothing is wrong with it. Its services are among the units, if those are known.
pub(super) fn pipeline(
    name: PipelineName,
    mut section: PipelineSection,
    units: Option<&BTreeMap<UnitName, Env>>,
    document: &mut Document<'_>,
) -> Option<Pipeline> {
    let place = steps!["pipeline", name.as_str()];
    let sections = std::mem::take(&mut section.step.0);
    if sections.is_empty() && !document.lacks(&place) {
        let problem = Problem::new("missing-step", format!("the pipeline `{name}` has no steps"));
        document
            .at_key(&place, problem.hint(format!("add `[pipeline.{name}.step.test]` with `run = \"...\"`")));
    }
    let common = Common {
        env: variables(std::mem::take(&mut section.env), &[&place[..], &["env".into()]].concat(), document),
        section,
    };
    let mut found: Vec<(StepName, Step)> = Vec::new();
    let mut expansions: BTreeMap<StepName, Vec<StepName>> = BTreeMap::new();
    for (step_name, section) in sections {
        let place = [&place[..], &["step".into(), step_name.as_str().into()]].concat();
        let steps = expanded(&step_name, section, &common, &place, document);
        expansions.insert(step_name.clone(), steps.iter().map(|step| step.name.clone()).collect());
        found.extend(steps.into_iter().map(|step| (step_name.clone(), step)));
    }
    let mut origins: BTreeMap<StepName, StepName> = BTreeMap::new();
    let mut steps = Vec::new();
    for (origin, mut step) in found {
        let place = [&place[..], &["step".into(), origin.as_str().into()]].concat();
        for names in [&mut step.needs, &mut step.after, &mut step.take] {
            *names = names
                .drain(..)
                .flat_map(|name| expansions.get(&name).cloned().unwrap_or_else(|| vec![name]))
                .collect();
        }
        if let Some(from) = &step.from {
            match expansions.get(from).map(Vec::as_slice) {
                Some([only]) => step.from = Some(only.clone()),
                Some(several) if !several.is_empty() => {
                    let names: Vec<&str> = several.iter().map(StepName::as_str).collect();
                    let problem =
                        Problem::new("bad-matrix", format!("`{from}` is several steps, by its matrix"))
                            .hint(format!("name one of them: {}", names.join(", ")));
                    document.at_value(&[&place[..], &["from".into()]].concat(), problem);
                    step.from = None;
                }
                _ => {}
            }
        }
        if let Some(other) = origins.insert(step.name.clone(), origin.clone())
            && other != origin
        {
            let problem = Problem::new(
                "bad-matrix",
                format!("`{other}` and `{origin}` both make a step `{}`", step.name),
            );
            document.at_key(&place, problem.hint("rename one of them"));
            continue;
        }
        if let Some(Err((item, problem))) = units.map(|units| services::needed(&step.services, units)) {
            let fault = Fault { step: step.name.clone(), key: "services", item: Some(item), problem };
            tell(fault, &origins, &steps!["pipeline", name.as_str()], document);
        }
        steps.push(step);
    }
    let timeout_ms = common.section.timeout.map(|timeout| milliseconds(timeout.0));
    match Pipeline::new(name, timeout_ms, steps) {
        Ok(pipeline) => Some(pipeline),
        Err(faults) => {
            faults.into_iter().for_each(|fault| tell(fault, &origins, &place, document));
            None
        }
    }
}

/// Tells what is wrong with a step at the place of its key.
fn tell(fault: Fault, origins: &BTreeMap<StepName, StepName>, place: &[Place], document: &mut Document<'_>) {
    let origin = origins.get(&fault.step).unwrap_or(&fault.step);
    let step = [place, &["step".into(), origin.as_str().into()]].concat();
    let key = [&step[..], &[fault.key.into()]].concat();
    let item = fault.item.map(|item| [&key[..], &[item.into()]].concat());
    match item.filter(|item| document.tree.find(item).is_some()) {
        Some(item) => document.at_value(&item, fault.problem),
        None if document.has(&step, fault.key) => document.at_value(&key, fault.problem),
        None => document.at_key(&step, fault.problem),
    }
}

/// What is common to the steps of a pipeline.
struct Common {
    section: PipelineSection,
    env: BTreeMap<String, EnvValue>,
}

/// The steps that a section means: one, or one for each combination of its matrix.
fn expanded(
    name: &StepName,
    mut section: StepSection,
    common: &Common,
    place: &[Place],
    document: &mut Document<'_>,
) -> Vec<Step> {
    let matrix: BTreeMap<String, Vec<String>> =
        std::mem::take(&mut section.matrix.0).into_iter().map(|(key, values)| (key.0, values)).collect();
    let combinations = matrix::expand(name, &matrix, place, document);
    let env = std::mem::take(&mut section.env);
    let step = step(name, section, common, place, document);
    let mut steps = Vec::new();
    for (full, values) in combinations {
        let mut step = step.clone();
        step.name = full;
        step.env = common.env.clone();
        match with_env(&env, &values, &[place, &["env".into()]].concat(), document) {
            Ok(own) => step.env.extend(own),
            Err(unknown) => {
                unknown_key(&unknown, &matrix, &[place, &["env".into()]].concat(), document);
                break;
            }
        }
        if let Err((key, unknown)) = matrix::fill(&mut step, &values) {
            unknown_key(&unknown, &matrix, &[place, &[key.into()]].concat(), document);
            break;
        }
        steps.push(step);
    }
    steps
}

fn unknown_key(
    unknown: &str,
    matrix: &BTreeMap<String, Vec<String>>,
    place: &[Place],
    document: &mut Document<'_>,
) {
    let keys: Vec<&str> = matrix.keys().map(String::as_str).collect();
    let problem = Problem::new("bad-matrix", format!("there is no `{unknown}` in the matrix of this step"));
    let hint = match (crate::manifest::nearest(unknown, keys.iter().copied()), keys.is_empty()) {
        (Some(near), _) => format!("did you mean `${{matrix.{near}}}`?"),
        (None, true) => format!("declare it: `matrix = {{ {unknown} = [\"...\"] }}`"),
        (None, false) => format!("there is: {}", keys.join(", ")),
    };
    document.at_value(place, problem.hint(hint));
}

/// The variables of a step, for one combination.
fn with_env(
    section: &Named<EnvName, StepEnvValue>,
    values: &Combination,
    place: &[Place],
    document: &mut Document<'_>,
) -> Result<BTreeMap<String, EnvValue>, String> {
    let mut filled = BTreeMap::new();
    for (name, value) in &section.0 {
        filled.insert(EnvName(name.0.clone()), matrix::fill_env(&value.0, values)?);
    }
    Ok(variables(Named(filled), place, document))
}

fn step(
    name: &StepName,
    section: StepSection,
    common: &Common,
    place: &[Place],
    document: &mut Document<'_>,
) -> Step {
    let run = match section.run {
        StepRun::Text(text) => Run::Shell(text.0),
        StepRun::Argv(argv) => Run::Argv(argv),
    };
    let common = &common.section;
    let has_base = section.from.is_some();
    let own_image = section.image.is_some();
    let (cache, on_change) =
        section.cache.map_or_else(Default::default, |entry| policies(entry, place, document));
    let inputs = section.inputs.map(|inputs| inputs.into_iter().map(input).collect::<Vec<_>>());
    if let (Some(_), Some(_)) = (&inputs, &on_change) {
        let problem = Problem::new("two-inputs", "there are both `inputs` and `on_change`")
            .why("`on_change` is `inputs` by another name");
        document.at_key(&[place, &["cache".into()]].concat(), problem.hint("keep `inputs`"));
    }
    Step {
        from: section.from,
        needs: section.needs.map_or_else(Vec::new, several),
        after: section.after.map_or_else(Vec::new, several),
        take: section.take.map_or_else(Vec::new, several),
        // What starts from another step starts from its base.
        image: section.image.or(common.image.clone().filter(|_| !has_base)).map(|image| image.0),
        host_paths: match section.host_paths {
            Some(paths) => paths.into_iter().map(|path| path.0).collect(),
            None if own_image => Vec::new(),
            None => common.host_paths.iter().map(|path| path.0.clone()).collect(),
        },
        inputs: inputs.or(on_change),
        outputs: section.outputs.map(|globs| globs.into_iter().map(|glob| glob.0).collect()),
        artifacts: section.artifacts.into_iter().map(|glob| glob.0).collect(),
        cache_dirs: section.cache_dirs.into_iter().map(|folder| folder.0).collect(),
        services: section.services,
        cache,
        timeout_ms: section.timeout.map(|timeout| milliseconds(timeout.0)),
        retries: section.retries,
        workdir: section.workdir.or(common.workdir.clone()).map(|workdir| workdir.0),
        user: section.user.or(common.user.clone()).map(|user| user.0),
        network: section.network.or(common.network).unwrap_or_default(),
        git: section.git,
        when: when(section.when),
        ..Step::new(name.clone(), run)
    }
}

fn several(steps: Steps) -> Vec<StepName> {
    match steps {
        Steps::One(name) => vec![name],
        Steps::Several(names) => names,
    }
}

fn input(entry: InputEntry) -> Input {
    match entry {
        InputEntry::Glob(glob) => Input::Required(glob.0),
        InputEntry::Table(table) if table.optional => {
            Input::Either(EitherInput { glob: table.glob.0, optional: true })
        }
        InputEntry::Table(table) => Input::Required(table.glob.0),
    }
}

/// The policies of an entry, and what `on_change` says.
fn policies(
    entry: CacheEntry,
    place: &[Place],
    document: &mut Document<'_>,
) -> (Vec<CachePolicy>, Option<Vec<Input>>) {
    let parts = match entry {
        CacheEntry::Word(word) => vec![CachePart::Word(word)],
        CacheEntry::Table(table) => vec![CachePart::Table(table)],
        CacheEntry::Several(parts) => parts,
    };
    let mut policies = Vec::new();
    let mut on_change: Option<Vec<Input>> = None;
    for part in parts {
        match part {
            CachePart::Word(CacheWord(word)) if word == "none" => policies.push(CachePolicy::None),
            CachePart::Word(_) => policies.push(CachePolicy::Forever { env: BTreeMap::new() }),
            CachePart::Table(CacheTable { ttl: Some(_), on_change: Some(_) }) => {
                let problem = Problem::new("bad-cache", "`ttl` and `on_change` are two policies");
                let hint = "write a list of them: `[{ ttl = \"1d\" }, { on_change = [...] }]`";
                document.at_value(&[place, &["cache".into()]].concat(), problem.hint(hint));
            }
            CachePart::Table(CacheTable { ttl: Some(ttl), .. }) => {
                policies.push(CachePolicy::Ttl { ms: milliseconds(ttl.0) });
            }
            CachePart::Table(CacheTable { on_change: Some(globs), .. }) => {
                on_change
                    .get_or_insert_default()
                    .extend(globs.into_iter().map(|glob| Input::Required(glob.0)));
            }
            CachePart::Table(_) => {
                if !document.lacks(place) {
                    let problem = Problem::new("bad-cache", "this policy says nothing");
                    let hint = "`none`, `forever`, `{ ttl = \"1d\" }` or `{ on_change = [...] }`";
                    document.at_value(&[place, &["cache".into()]].concat(), problem.hint(hint));
                }
            }
        }
    }
    (policies, on_change)
}

fn when(section: WhenSection) -> When {
    let patterns = |patterns: Option<Patterns>| match patterns {
        None => Vec::new(),
        Some(Patterns::One(pattern)) => vec![pattern.0],
        Some(Patterns::Several(patterns)) => patterns.into_iter().map(|pattern| pattern.0).collect(),
    };
    When {
        branch: patterns(section.branch),
        tag: patterns(section.tag),
        event: patterns(section.event),
        env: section.env.0.into_iter().map(|(name, pattern)| (name.0, pattern.0)).collect(),
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
