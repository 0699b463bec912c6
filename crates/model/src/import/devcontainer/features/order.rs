//! The order in which features are installed, by the rounds of the specification: in each round are those whose
//! dependencies are all installed; of these, those with the highest priority are installed, in a fixed order.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::reference::without_version;
use super::{FeatureUse, Options, Reference, Version};
use crate::import::devcontainer::reader::Placed;
use crate::manifest::{Note, Problem};

/// A feature whose metadata is known.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedFeature {
    /// What it is called, and with which options.
    pub asked: FeatureUse,
    /// The digest of what it is: of its manifest in the registry, or of its archive. A folder of the project has
    /// none, and is equal to no other.
    pub digest: Option<String>,
    /// Features that must be installed before it.
    pub depends_on: Vec<FeatureUse>,
    /// Features that are installed before it, if they are at all: names without a version.
    pub installs_after: Vec<String>,
    /// Names that it had before, without the registry.
    pub legacy_ids: Vec<String>,
}

/// The features in the order in which they are installed.
#[derive(Debug, Clone, PartialEq)]
pub struct InstallOrder<'f> {
    /// The features, each thing with the same options once.
    pub features: Vec<&'f ResolvedFeature>,
    /// What a user should know.
    pub notes: Vec<Note>,
}

/// What is called so, with the same options, is the same.
fn same(a: &FeatureUse, b: &FeatureUse) -> bool {
    a.reference == b.reference && a.options == b.options
}

impl ResolvedFeature {
    /// Whether this is the same thing with the same options.
    fn equals(&self, other: &Self) -> bool {
        self.asked.options == other.asked.options
            && match (&self.digest, &other.digest) {
                (Some(digest), Some(other)) => digest == other,
                _ => self.asked.reference == other.asked.reference,
            }
    }

    /// Whether a name without a version is its name, or one that it had before.
    fn is_called(&self, name: &str) -> bool {
        let own = self.asked.reference.resource();
        let name = if matches!(self.asked.reference, Reference::Oci(_)) {
            without_version(name)
        } else {
            name.to_owned()
        };
        own == name
            || own.rsplit_once('/').is_some_and(|(before, _)| {
                self.legacy_ids.iter().any(|id| name == format!("{before}/{}", id.to_lowercase()))
            })
    }
}

/// The features that those depend on and that are not among them yet. Once there are none, they can be put in order.
#[must_use]
pub fn unresolved(features: &[ResolvedFeature]) -> Vec<&FeatureUse> {
    let mut missing: Vec<&FeatureUse> = Vec::new();
    for needed in features.iter().flat_map(|feature| &feature.depends_on) {
        let known = features.iter().any(|feature| same(&feature.asked, needed));
        if !known && !missing.iter().any(|other| same(other, needed)) {
            missing.push(needed);
        }
    }
    missing
}

/// Puts features in the order in which they are installed. Which comes first in the list makes no difference.
///
/// # Errors
/// Features that wait for each other, and ones that are needed and are not in the list.
pub fn install_order<'f>(
    features: &'f [ResolvedFeature],
    first: &[Placed<String>],
) -> Result<InstallOrder<'f>, Problem> {
    if let Some(missing) = unresolved(features).first() {
        let what = format!("the feature `{}` is needed, and is not there", missing.reference);
        return Err(Problem::new("missing-feature", what).at(missing.at.clone()));
    }
    let mut sorted: Vec<&ResolvedFeature> = features.iter().collect();
    sorted.sort_by(|a, b| in_round(a, b));
    let mut nodes: Vec<&ResolvedFeature> = Vec::new();
    for feature in sorted {
        if !nodes.iter().any(|node| node.equals(feature)) {
            nodes.push(feature);
        }
    }
    let before: Vec<BTreeSet<usize>> =
        (0..nodes.len()).map(|node| dependencies(features, &nodes, node)).collect();
    let priority = |node: &ResolvedFeature| {
        let index = first.iter().position(|name| node.is_called(&name.value));
        index.map_or(0, |index| first.len() - index)
    };
    let mut order: Vec<usize> = Vec::new();
    while order.len() < nodes.len() {
        let round: Vec<usize> = (0..nodes.len())
            .filter(|node| !order.contains(node) && before[*node].iter().all(|needed| order.contains(needed)))
            .collect();
        let Some(highest) = round.iter().map(|node| priority(nodes[*node])).max() else {
            return Err(cycle(&nodes, &before, &order));
        };
        // The nodes are sorted, and so is the round.
        order.extend(round.into_iter().filter(|node| priority(nodes[*node]) == highest));
    }
    let notes = first
        .iter()
        .filter(|name| !nodes.iter().any(|node| node.is_called(&name.value)))
        .map(|name| Note {
            at: name.at.clone(),
            text: format!("`{}` is not installed, and so not early either", name.value),
        })
        .collect();
    Ok(InstallOrder { features: order.into_iter().map(|node| nodes[node]).collect(), notes })
}

/// What is installed before a node: what it depends on, and what it comes after.
fn dependencies(features: &[ResolvedFeature], nodes: &[&ResolvedFeature], node: usize) -> BTreeSet<usize> {
    let feature = nodes[node];
    let hard = feature.depends_on.iter().filter_map(|needed| {
        let asked = features.iter().find(|other| same(&other.asked, needed))?;
        nodes.iter().position(|other| other.equals(asked))
    });
    let soft = (0..nodes.len()).filter(|other| {
        *other != node && feature.installs_after.iter().any(|name| nodes[*other].is_called(name))
    });
    hard.chain(soft).collect()
}

/// Names the features that wait for each other.
fn cycle(nodes: &[&ResolvedFeature], before: &[BTreeSet<usize>], done: &[usize]) -> Problem {
    let waits_for = |node: usize| before[node].iter().copied().find(|needed| !done.contains(needed));
    let mut path: Vec<usize> = (0..nodes.len()).find(|node| !done.contains(node)).into_iter().collect();
    // Each one that is left waits for another one that is left, so that the path comes back to itself.
    while let Some(next) = path.last().and_then(|node| waits_for(*node)) {
        let seen = path.iter().position(|node| *node == next);
        path.push(next);
        if let Some(start) = seen {
            path.drain(..start);
            break;
        }
    }
    let names: Vec<String> = path.iter().map(|node| format!("`{}`", nodes[*node].asked.reference)).collect();
    let problem =
        Problem::new("feature-cycle", format!("features wait for each other: {}", names.join(" after ")))
            .why("each of them is to be installed after the next, and so none can be the first")
            .hint("leave one of them away, or use another version of it");
    match path.first() {
        Some(node) => problem.at(nodes[*node].asked.at.clone()),
        None => problem,
    }
}

/// The order within a round: by name, from old to new, by options, by digest.
fn in_round(a: &ResolvedFeature, b: &ResolvedFeature) -> Ordering {
    let (a_use, b_use) = (&a.asked, &b.asked);
    let digest = |feature: &ResolvedFeature| feature.digest.clone().unwrap_or_default();
    a_use
        .reference
        .resource()
        .cmp(&b_use.reference.resource())
        .then_with(|| age(&a_use.reference).cmp(&age(&b_use.reference)))
        .then_with(|| b_use.options.len().cmp(&a_use.options.len()))
        .then_with(|| keys(&a_use.options).cmp(keys(&b_use.options)))
        .then_with(|| texts(&a_use.options).cmp(&texts(&b_use.options)))
        .then_with(|| digest(a).cmp(&digest(b)))
        .then_with(|| a_use.reference.cmp(&b_use.reference))
        .then_with(|| a_use.options.cmp(&b_use.options))
}

fn keys(options: &Options) -> impl Iterator<Item = &String> {
    options.keys()
}

fn texts(options: &Options) -> Vec<String> {
    options.values().map(ToString::to_string).collect()
}

/// How new a version is: numbers part by part, other words after them, `latest` last of all.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Numbers(Vec<u64>),
    Word(String),
    Latest,
}

fn age(reference: &Reference) -> Age {
    match reference {
        Reference::Oci(oci) => match &oci.version {
            Version::Tag(tag) if tag == "latest" => Age::Latest,
            Version::Tag(tag) => match tag.split('.').map(str::parse).collect() {
                Ok(numbers) => Age::Numbers(numbers),
                Err(_) => Age::Word(tag.clone()),
            },
            Version::Digest(digest) => Age::Word(digest.clone()),
        },
        Reference::Tarball { .. } | Reference::Local { .. } => Age::Latest,
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
