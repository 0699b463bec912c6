//! The key of a step: all that it can see, as named leaves. What is not in the key is not visible in the sandbox.
//!
//! A key is a [`Fingerprint`], so that two of them are compared, and their difference told, as everything else is.

use std::collections::BTreeMap;

use super::ir::{CachePolicy, Run, Step, VERSION, Value, WORKSPACE};
use crate::digest::{Digest, Encoder};
use crate::fingerprint::{Class, Fingerprint, Leaf, LeafKey};
use crate::names::{StepName, UnitName};

/// The version of what a key is made of. A key of another version never fits.
pub const FORMAT: u32 = 1;

/// What a step sees besides what it declares itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The engine, and the version of how it behaves: `embedded 1`.
    pub engine: String,
    /// The operating system and the architecture: `linux/x86_64`.
    pub platform: String,
    /// What it starts from.
    pub base: Base,
    /// The results of the steps that it takes files from, in order.
    pub take: Vec<(StepName, Digest)>,
    /// The files of the source that it sees.
    pub source: Digest,
    /// What of the host's homes is visible, with the digest of what is there.
    pub host_paths: BTreeMap<String, Digest>,
    /// The services that it has, and those that they depend on, by what they are.
    pub services: BTreeMap<UnitName, Fingerprint>,
}

/// What a step starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The host's own system, by the parts of its identity.
    Host(BTreeMap<String, Digest>),
    /// An image.
    Image {
        /// As it is declared; shown, and no part of the key.
        reference: String,
        /// The digest that it resolved to.
        digest: String,
    },
    /// The result of another step.
    Result {
        /// Which step.
        step: StepName,
        /// The id of its result: of this very run of it, not of its key.
        id: Digest,
    },
}

/// The key of a step, leaf by leaf.
#[must_use]
pub fn key(step: &Step, surroundings: &Surroundings) -> Fingerprint {
    let mut key = Leaves(Fingerprint::default());
    key.shown("format", &format!("{VERSION}.{FORMAT}"));
    key.shown("engine", &surroundings.engine);
    key.shown("platform", &surroundings.platform);
    base(&mut key, &surroundings.base);
    run(&mut key, &step.run);
    key.shown("workdir", &workdir(step));
    key.shown("user", step.user.as_deref().unwrap_or("root"));
    key.shown("network", step.network.as_str());
    for (name, value) in &step.env {
        key.shown(&format!("env.{name}"), &value.to_string());
        for secret in value.secrets() {
            key.shown(&format!("secret {secret}"), "by name");
        }
    }
    key.digest("source", surroundings.source);
    for (path, digest) in &surroundings.host_paths {
        key.digest(&format!("host_paths {path}"), *digest);
    }
    for (name, id) in &surroundings.take {
        key.digest(&format!("take {name}"), *id);
    }
    key.list("order of take", surroundings.take.iter().map(|(name, _)| name.as_str()));
    for folder in &step.cache_dirs {
        key.shown(&format!("cache_dirs {folder}"), "shared");
    }
    services(&mut key, step, &surroundings.services);
    kept(&mut key, step);
    policies(&mut key, &step.cache);
    key.0
}

/// Where a step starts, as an absolute path.
#[must_use]
pub fn workdir(step: &Step) -> String {
    match step.workdir.as_deref() {
        None | Some("" | ".") => WORKSPACE.to_owned(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("{WORKSPACE}/{path}"),
    }
}

struct Leaves(Fingerprint);

impl Leaves {
    fn insert(&mut self, path: &str, digest: Digest, shown: Option<String>) {
        // Whatever differs, the result is made anew.
        self.0.insert(LeafKey::new(path), Leaf { class: Class::Recreate, digest, shown });
    }

    fn shown(&mut self, path: &str, value: &str) {
        self.insert(path, Encoder::new("setpoint.key", FORMAT).text(value).finish(), Some(value.to_owned()));
    }

    fn digest(&mut self, path: &str, digest: Digest) {
        self.insert(path, digest, None);
    }

    /// A list whose order counts; nothing if it has fewer than two items.
    fn list<'a>(&mut self, path: &str, items: impl Iterator<Item = &'a str>) {
        let items: Vec<&str> = items.collect();
        if items.len() < 2 {
            return;
        }
        let mut encoder = Encoder::new("setpoint.key.list", FORMAT);
        encoder.list(items.len());
        items.iter().for_each(|item| {
            encoder.text(item);
        });
        self.insert(path, encoder.finish(), Some(items.join(", ")));
    }
}

fn base(key: &mut Leaves, base: &Base) {
    match base {
        Base::Host(parts) => {
            key.shown("base", "host");
            for (name, digest) in parts {
                key.digest(&format!("host {name}"), *digest);
            }
        }
        Base::Image { reference, digest } => {
            let leaf = Encoder::new("setpoint.key.image", FORMAT).text(digest).finish();
            key.insert("base", leaf, Some(format!("{reference} ({digest})")));
        }
        Base::Result { step, id } => key.digest(&format!("from {step}"), *id),
    }
}

fn run(key: &mut Leaves, run: &Run) {
    let mut encoder = Encoder::new("setpoint.key.run", FORMAT);
    match run {
        Run::Shell(text) => encoder.text("/bin/sh -c").text(text),
        Run::Argv(argv) => {
            encoder.text("argv").list(argv.len());
            argv.iter().for_each(|word| {
                encoder.text(word);
            });
            &mut encoder
        }
    };
    let digest = encoder.finish();
    key.insert("run", digest, Some(run.to_string()));
}

/// Which services it waits for, and what each of them is.
fn services(key: &mut Leaves, step: &Step, services: &BTreeMap<UnitName, Fingerprint>) {
    for name in &step.services {
        key.shown(&format!("services {name}"), "an instance of its own");
    }
    for (name, of) in services {
        for (leaf, value) in of.iter() {
            let path = format!("service {name}: {}", leaf.path);
            let leaf = LeafKey { path, owner: leaf.owner.clone() };
            key.0.insert(leaf, Leaf { class: Class::Recreate, ..value.clone() });
        }
    }
}

/// What of the workspace is kept: it decides what those see that build on the step.
fn kept(key: &mut Leaves, step: &Step) {
    // A pattern of either that fits nothing is a failure of the step.
    for pattern in &step.artifacts {
        key.shown(&format!("artifacts {pattern}"), "kept");
    }
    let Some(outputs) = &step.outputs else { return };
    key.shown("outputs", "declared");
    for pattern in outputs {
        key.shown(&format!("outputs {pattern}"), "kept");
    }
}

fn policies(key: &mut Leaves, policies: &[CachePolicy]) {
    for policy in policies {
        match policy {
            // How long a result is good for is no part of it, and what is never kept is never found.
            CachePolicy::None | CachePolicy::Ttl { .. } => {}
            CachePolicy::Forever { env } => {
                for (name, value) in env {
                    let digest = Encoder::new("setpoint.key", FORMAT).option(value.as_deref()).finish();
                    // It may be anything of the caller's: it is compared, and never shown.
                    key.digest(&format!("forever {name}"), digest);
                }
            }
            CachePolicy::Predicate(value) => {
                let (kind, text) = match value {
                    Value::Str(text) => ("str", text),
                    Value::Int(text) => ("int", text),
                    Value::Bytes(text) => ("bytes", text),
                };
                let digest = Encoder::new("setpoint.key", FORMAT).text(kind).text(text).finish();
                key.insert("predicate", combine(key, digest), None);
            }
        }
    }
}

/// Several predicates are one leaf, in their order.
fn combine(key: &Leaves, digest: Digest) -> Digest {
    match key.0.get(&LeafKey::new("predicate")) {
        None => digest,
        Some(before) => {
            Encoder::new("setpoint.key.predicates", FORMAT).digest(before.digest).digest(digest).finish()
        }
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
