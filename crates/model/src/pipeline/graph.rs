//! The graph of a pipeline's steps: what is wrong with it, its order, and who depends on whom.

use std::collections::{BTreeMap, BTreeSet};

use super::ir::{Run, Step};
use crate::manifest::{Problem, nearest};
use crate::names::StepName;

/// Something that is wrong with a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which step.
    pub step: StepName,
    /// Which of its keys: `from`, `needs`.
    pub key: &'static str,
    /// Which item of the key's list.
    pub item: Option<usize>,
    /// What is wrong.
    pub problem: Problem,
}

impl Fault {
    /// The problem, with the step's name in it.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        Problem {
            what: format!("step `{}`, `{}`: {}", self.step, self.key, self.problem.what),
            ..self.problem
        }
    }
}

/// How a step depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    /// It starts from its files; it has to have ended well.
    From,
    /// It takes its outputs; it has to have ended well.
    Take,
    /// It has to have ended well, or not to be part of the run.
    Needs,
    /// It has to have ended.
    After,
}

/// What a step depends on: the key, the place in the key's list, the name, and how.
fn references(step: &Step) -> impl Iterator<Item = (&'static str, Option<usize>, &StepName, Edge)> {
    let lists = [
        ("take", &step.take, Edge::Take),
        ("needs", &step.needs, Edge::Needs),
        ("after", &step.after, Edge::After),
    ];
    let listed = lists.into_iter().flat_map(|(key, names, edge)| {
        names.iter().enumerate().map(move |(at, name)| (key, Some(at), name, edge))
    });
    step.from.iter().map(|name| ("from", None, name, Edge::From)).chain(listed)
}

/// Everything that is wrong with these steps.
#[must_use]
pub fn faults(steps: &[Step]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut known = BTreeSet::new();
    for step in steps {
        if !known.insert(&step.name) {
            let problem = Problem::new("duplicate", format!("there are two steps `{}`", step.name));
            let hint = "every step has a name of its own";
            faults.push(Fault {
                step: step.name.clone(),
                key: "name",
                item: None,
                problem: problem.hint(hint),
            });
        }
    }
    for step in steps {
        let mut fault = |key, item, problem| {
            faults.push(Fault { step: step.name.clone(), key, item, problem });
        };
        for (key, item, name, _) in references(step) {
            if *name == step.name {
                let problem = Problem::new("cycle", format!("`{name}` depends on itself"));
                fault(key, item, problem.hint("take it out"));
            } else if !known.contains(name) {
                let problem = Problem::new("unknown-step", format!("there is no step `{name}`"));
                let near = nearest(name.as_str(), known.iter().map(|known| known.as_str()));
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "name a step of this pipeline".to_owned(),
                };
                fault(key, item, problem.hint(hint));
            }
        }
        check_one(step, &mut fault);
    }
    if faults.is_empty()
        && let Some(fault) = cycle(steps)
    {
        faults.push(fault);
    }
    faults
}

/// What is wrong with a step by itself.
fn check_one(step: &Step, fault: &mut impl FnMut(&'static str, Option<usize>, Problem)) {
    let empty = match &step.run {
        Run::Shell(text) => text.trim().is_empty(),
        Run::Argv(argv) => argv.first().is_none_or(|program| program.trim().is_empty()),
    };
    if empty {
        fault("run", None, Problem::new("empty-command", "it runs nothing").hint("say what it runs"));
    }
    if step.run.argv().iter().any(|word| word.contains('\0')) {
        fault("run", None, Problem::new("empty-command", "a command cannot hold a NUL character"));
    }
    if let (Some(from), Some(_)) = (&step.from, &step.image) {
        let problem = Problem::new("two-bases", "it has two bases: `from` and `image`")
            .why(format!("with `from` it starts from the file system of `{from}`"))
            .hint("keep one of them");
        fault("image", None, problem);
    }
    if let (Some(_), false) = (&step.image, step.host_paths.is_empty()) {
        let problem = Problem::new("misplaced-host-paths", "`host_paths` is for the host's own system only")
            .hint("remove `host_paths`, or `image`");
        fault("host_paths", None, problem);
    }
    if step.is_uncached() && step.cache.len() > 1 {
        let problem = Problem::new("bad-cache", "`none` goes with no other policy")
            .why("a step that is never kept has nothing to be taken")
            .hint("keep `none`, or the others");
        fault("cache", None, problem);
    }
}

/// A cycle, if there is one.
fn cycle(steps: &[Step]) -> Option<Fault> {
    let order = order(steps);
    let placed: BTreeSet<usize> = order.iter().copied().collect();
    let index = indexes(steps);
    let mut at = (0..steps.len()).find(|step| !placed.contains(step))?;
    // Every step that is left depends on one that is left: walking back, one comes twice.
    let mut path = vec![at];
    loop {
        let next = references(&steps[at])
            .find_map(|(_, _, name, _)| index.get(name).copied().filter(|parent| !placed.contains(parent)))?;
        if let Some(start) = path.iter().position(|seen| *seen == next) {
            path.drain(..start);
            break;
        }
        path.push(next);
        at = next;
    }
    // Told from the step that comes first by name, so that it is the same from wherever it was found.
    let first = path.iter().enumerate().min_by_key(|(_, step)| &steps[**step].name).map_or(0, |(at, _)| at);
    path.rotate_left(first);
    let names: Vec<&str> = path.iter().chain(path.first()).map(|step| steps[*step].name.as_str()).collect();
    let step = &steps[path[0]];
    let parent = &steps[*path.get(1).unwrap_or(&path[0])].name;
    let (key, item) = references(step)
        .find(|(_, _, name, _)| *name == parent)
        .map_or(("needs", None), |(key, item, _, _)| (key, item));
    let problem = Problem::new("cycle", format!("these steps wait for each other: {}", names.join(" -> ")))
        .hint("take one of these edges out");
    Some(Fault { step: step.name.clone(), key, item, problem })
}

fn indexes(steps: &[Step]) -> BTreeMap<&StepName, usize> {
    steps.iter().enumerate().map(|(at, step)| (&step.name, at)).collect()
}

/// The steps that can be ordered, each after those that it depends on, by name where that leaves a choice.
fn order(steps: &[Step]) -> Vec<usize> {
    let index = indexes(steps);
    let mut waiting = vec![0_usize; steps.len()];
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    for (at, step) in steps.iter().enumerate() {
        let parents: BTreeSet<usize> =
            references(step).filter_map(|(_, _, name, _)| index.get(name).copied()).collect();
        waiting[at] = parents.len();
        for parent in parents {
            children[parent].push(at);
        }
    }
    let mut ready: BTreeSet<(&StepName, usize)> =
        (0..steps.len()).filter(|at| waiting[*at] == 0).map(|at| (&steps[at].name, at)).collect();
    let mut order = Vec::with_capacity(steps.len());
    while let Some((_, at)) = ready.pop_first() {
        order.push(at);
        for child in &children[at] {
            waiting[*child] -= 1;
            if waiting[*child] == 0 {
                ready.insert((&steps[*child].name, *child));
            }
        }
    }
    order
}

/// The steps in the order of the format. They have no faults.
pub(super) fn in_order(mut steps: Vec<Step>) -> Vec<Step> {
    for step in &mut steps {
        // Sets, whatever they are written as.
        for names in [&mut step.needs, &mut step.after] {
            names.sort();
            names.dedup();
        }
        step.services.sort();
        step.services.dedup();
    }
    let order = order(&steps);
    let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| steps[at].take()).collect()
}

/// Who depends on whom, by the places of the steps in their pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    parents: Vec<Vec<(usize, Edge)>>,
    children: Vec<Vec<(usize, Edge)>>,
}

impl Graph {
    /// The graph of a pipeline's steps. What is named and not there is left out.
    #[must_use]
    pub fn new(steps: &[Step]) -> Self {
        let index = indexes(steps);
        let mut parents = vec![Vec::new(); steps.len()];
        let mut children = vec![Vec::new(); steps.len()];
        for (at, step) in steps.iter().enumerate() {
            for (_, _, name, edge) in references(step) {
                if let Some(parent) = index.get(name).copied() {
                    parents[at].push((parent, edge));
                    children[parent].push((at, edge));
                }
            }
        }
        Self { parents, children }
    }

    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// What a step depends on. A step may stand there twice, with different edges.
    #[must_use]
    pub fn parents(&self, step: usize) -> &[(usize, Edge)] {
        &self.parents[step]
    }

    /// What depends on a step.
    #[must_use]
    pub fn children(&self, step: usize) -> &[(usize, Edge)] {
        &self.children[step]
    }

    /// A step's ancestors and the step itself: what has to be looked at when only this one is asked for.
    #[must_use]
    pub fn needed_for(&self, steps: &[usize]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut left = steps.to_vec();
        while let Some(step) = left.pop() {
            if found.insert(step) {
                left.extend(self.parents[step].iter().map(|(parent, _)| *parent));
            }
        }
        found
    }
}
