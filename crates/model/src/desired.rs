//! From a declared environment, and the digests of its files, to its leaves.

use std::collections::{BTreeMap, BTreeSet};

use crate::capabilities::Capabilities;
use crate::container::{Build, Feature};
use crate::digest::{Digest, Encoder};
use crate::fingerprint::{Class, FORMAT, Fingerprint, Leaf, LeafKey, Pack};
use crate::import::compose::{Network as DeclaredNetwork, RestartPolicy, Stored};
use crate::manifest::{
    Act, Base, Before, Command, Env, EnvValue, FileSource, FirstBootStep, Hook, Limits, OfService,
    PacksOnStart, Run, WhenChanged,
};
use crate::names::{HookName, PackName, SecretName};
use crate::plan::{Desired, DesiredHook, hook_owner, pack_owner};
use crate::template::Template;

/// A file and the digest of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    /// Its path within the project, as a person would write it.
    pub path: String,
    /// The digest of the bytes, the executable bit and the kind of file.
    pub digest: Digest,
}

/// What was read of the world to complete a declaration: digests of files, images, secrets.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The files of each pack: its script first, then its declared inputs.
    pub packs: BTreeMap<PackName, Vec<FileDigest>>,
    /// The library that all packs share, if there is one.
    pub pack_library: Option<FileDigest>,
    /// The files of each hook: its scripts and its declared inputs.
    pub hooks: BTreeMap<HookName, Vec<FileDigest>>,
    /// The files that are put into a service, by their names.
    pub files: Vec<FileDigest>,
    /// The templates of a service's files, by their paths.
    pub templates: BTreeMap<String, TemplateFile>,
    /// The project's version, if a template asks for it.
    pub version: Option<String>,
    /// The files that the image is built from: the Dockerfile first.
    pub build: Vec<FileDigest>,
    /// The file that an image of this machine is read from: an archive, or the index of a layout.
    pub image_file: Option<FileDigest>,
    /// The digest of what features are installed over, where it is known.
    pub under_features: Option<String>,
    /// The digest that the base resolves to, where it is known without looking elsewhere.
    pub base_digest: Option<String>,
    /// What identifies the host, for the host base.
    pub host_identity: Option<String>,
    /// Keyed digests of the secrets' values, of those that were looked at.
    pub secrets: BTreeMap<SecretName, Digest>,
    /// The user that hooks and shells run as, resolved.
    pub user: String,
}

/// A template that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFile {
    /// The digest of its text.
    pub digest: Digest,
    /// Its text.
    pub text: String,
    /// The same, read.
    pub template: Template,
}

/// Builds the leaves of an environment.
#[must_use]
pub fn desired(env: &Env, facts: &Facts, capabilities: &Capabilities) -> Desired {
    let mut builder =
        Builder { prefix: prefix(env), facts, print: Fingerprint::default(), unresolved: BTreeSet::new() };
    builder.base(env, capabilities);
    builder.mounts(env, capabilities);
    builder.container(env, capabilities);
    builder.limits(&env.limits, capabilities);
    builder.session(env, capabilities);
    builder.packs(env);
    for (name, hook) in &env.hooks {
        builder.hook(*name, hook);
    }
    Desired {
        unit: env.name.clone(),
        fingerprint: builder.print,
        unresolved: builder.unresolved,
        base_digest: base_digest_key(env),
        hooks: env.hooks.iter().map(|(name, hook)| (*name, DesiredHook { always: hook.always })).collect(),
        first_boot: env.service.iter().flat_map(|of| &of.first_boot).map(first_boot).collect(),
        packs_at_start: env.packs_on_start == PacksOnStart::Always,
        secrets_class: if env.is_service() { Class::Restart } else { Class::Hot },
        incomplete: env.devcontainer.as_ref().is_some_and(|of| !of.complete),
    }
}

/// A step's name, and what it runs on the host.
fn first_boot(step: &FirstBootStep) -> (String, Option<String>) {
    let on_host = matches!(step.act, Act::Host { .. }).then(|| step.act.shown());
    (step.name.clone(), on_host)
}

/// What the leaves of a unit's settings begin with.
fn prefix(env: &Env) -> String {
    format!("{}.{}", if env.is_service() { "service" } else { "env" }, env.name)
}

/// The leaf that holds the digest of a unit's base.
fn base_digest_key(env: &Env) -> LeafKey {
    LeafKey::new(format!("{}.base digest", prefix(env)))
}

/// The leaf of the image that features are installed over.
const UNDER_FEATURES: &str = "base below features";
/// The owner of the leaves of files that an image is built from.
const BUILD_OWNER: &str = "build";

/// What an image is built from, as one digest: equal for builds that give the same.
#[must_use]
pub fn build_inputs(build: &Build, files: &[FileDigest]) -> Digest {
    let mut encoder = Encoder::new("setpoint.build", FORMAT);
    let settings = build_settings(build);
    encoder.list(settings.len());
    for (setting, value) in settings {
        encoder.text(&setting).text(&value);
    }
    encoder.list(files.len());
    for file in files {
        encoder.text(&file.path).digest(file.digest);
    }
    encoder.finish()
}

/// What is installed over an image, as one digest with the image's own.
#[must_use]
pub fn feature_inputs(image: &str, features: &[Feature], user: Option<(&str, u32, u32)>) -> Digest {
    let mut encoder = Encoder::new("setpoint.features", FORMAT);
    encoder.text(image).list(features.len());
    for feature in features {
        encoder.digest(feature_digest(feature));
    }
    encoder.option(user.map(|(name, ..)| name));
    for id in user.into_iter().flat_map(|(_, uid, gid)| [uid, gid]) {
        encoder.number(u64::from(id));
    }
    encoder.finish()
}

fn feature_digest(feature: &Feature) -> Digest {
    let mut encoder = Encoder::new("setpoint.feature", FORMAT);
    encoder.text(&feature.name).digest(feature.digest);
    for variables in [&feature.install_env, &feature.image_env] {
        encoder.list(variables.len());
        for (name, value) in variables {
            encoder.text(name).text(value);
        }
    }
    encoder.finish()
}

/// The settings of a build that its result depends on, by the names that the manifest has for them.
fn build_settings(build: &Build) -> Vec<(String, String)> {
    let mut settings = vec![("build.context".to_owned(), build.context.clone())];
    let mut setting = |name: &str, value: Option<&str>| {
        settings.extend(value.map(|value| (format!("build.{name}"), value.to_owned())));
    };
    setting("dockerfile", build.dockerfile.as_deref());
    setting("target", build.target.as_deref());
    setting("platform", build.platform.as_deref());
    setting("network", build.network.as_deref());
    setting("dockerfile_inline", build.inline.as_deref());
    for (name, value) in &build.args {
        setting(&format!("args {name}"), Some(value.as_deref().unwrap_or("from the environment")));
    }
    for (name, value) in &build.labels {
        setting(&format!("labels {name}"), Some(value));
    }
    for host in &build.extra_hosts {
        setting(&format!("extra_hosts {}", host.name), Some(&host.address));
    }
    for (name, context) in &build.additional_contexts {
        setting(&format!("additional_contexts {name}"), Some(context));
    }
    // Their values are no input of the image, nor is where they come from: so the builder has it.
    for id in build.secrets.keys() {
        setting(&format!("secrets {id}"), Some("by its id"));
    }
    settings
}

/// The digest of a derived secret: of its text, and of the secrets that it is derived from.
#[must_use]
pub fn derived_digest(text: &str, inputs: &[(&SecretName, Digest)]) -> Digest {
    let mut encoder = Encoder::new("setpoint.derived", FORMAT);
    encoder.text(text).list(inputs.len());
    for (name, digest) in inputs {
        encoder.text(name.as_str()).digest(*digest);
    }
    encoder.finish()
}

/// Whether a variable of this name may hold something that is not for everybody's eyes.
fn may_be_secret(name: &str) -> bool {
    let name = name.to_uppercase();
    ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH"].iter().any(|word| name.contains(word))
}

/// A restart policy as a compose file writes it.
fn restart(policy: RestartPolicy) -> String {
    match policy {
        RestartPolicy::No => "no".to_owned(),
        RestartPolicy::Always => "always".to_owned(),
        RestartPolicy::OnFailure { max: None } => "on-failure".to_owned(),
        RestartPolicy::OnFailure { max: Some(max) } => format!("on-failure:{max}"),
        RestartPolicy::UnlessStopped => "unless-stopped".to_owned(),
    }
}

/// What a network is, in words.
fn definition(network: &DeclaredNetwork) -> String {
    let mut words = vec![network.driver.clone().unwrap_or_else(|| "usual driver".to_owned())];
    let mut flag = |on: bool, word: &str| words.extend(on.then(|| word.to_owned()));
    flag(network.external, "external");
    flag(network.internal, "internal");
    flag(network.attachable, "attachable");
    flag(network.enable_ipv6, "with IPv6");
    for pool in &network.pools {
        words.extend([&pool.subnet, &pool.ip_range, &pool.gateway].into_iter().flatten().cloned());
    }
    let options = network.driver_opts.iter().chain(&network.labels);
    words.extend(options.map(|(name, value)| format!("{name}={value}")));
    words.join(", ")
}

struct Builder<'a> {
    prefix: String,
    facts: &'a Facts,
    print: Fingerprint,
    unresolved: BTreeSet<LeafKey>,
}

impl Builder<'_> {
    fn value(&mut self, setting: &str, class: Class, value: &str) {
        self.print.insert_value(format!("{}.{setting}", self.prefix), class, value);
    }

    fn base(&mut self, env: &Env, capabilities: &Capabilities) {
        self.value("engine", Class::Recreate, capabilities.engine);
        self.value("user", Class::Recreate, &self.facts.user.clone());
        let (base, features) = match &env.base {
            Base::Features { on, .. } => (on.as_ref(), true),
            other => (other, false),
        };
        let shown = match base {
            Base::Host => "host".to_owned(),
            Base::Image { reference } => format!("image {reference}"),
            Base::Build { .. } | Base::Features { .. } => "build".to_owned(),
            Base::DevContainer { file } => format!("devcontainer {file}"),
            Base::Rootfs { path } => format!("rootfs {path}"),
        };
        // What is installed over it is built anew when it is another one; that alone makes no other container.
        let class = if features { Class::Rebuild } else { Class::Recreate };
        self.value("base", class, &shown);
        if let Base::Build { build } = base {
            self.build(build);
        }
        if let Some(file) = &self.facts.image_file {
            let key = LeafKey::new(format!("{}.image file", self.prefix));
            let shown = Some(format!("{} {}", file.path, file.digest.short()));
            self.print.insert(key, Leaf { class: Class::Rebuild, digest: file.digest, shown });
        }
        self.features(&env.base);
        match (&env.base, &self.facts.base_digest) {
            (Base::Host, _) => {
                if let Some(identity) = &self.facts.host_identity {
                    self.value("base host", Class::Report, identity);
                }
            }
            (_, Some(digest)) => self.value("base digest", Class::Recreate, digest),
            (_, None) => {
                self.unresolved.insert(base_digest_key(env));
            }
        }
    }

    fn features(&mut self, base: &Base) {
        let Base::Features { features, user, .. } = base else { return };
        match self.facts.under_features.clone() {
            Some(digest) => self.value(UNDER_FEATURES, Class::Rebuild, &digest),
            None => {
                self.unresolved.insert(LeafKey::new(format!("{}.{UNDER_FEATURES}", self.prefix)));
            }
        }
        for feature in features {
            let digest = feature_digest(feature);
            let options: Vec<_> = feature
                .install_env
                .iter()
                .filter(|(name, _)| !name.starts_with('_'))
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let shown =
                Some(format!("{} {}", feature.digest.short(), options.join(" ")).trim_end().to_owned());
            let key = LeafKey::new(format!("{}.features {}", self.prefix, feature.name));
            self.print.insert(key, Leaf { class: Class::Rebuild, digest, shown });
        }
        let order: Vec<_> = features.iter().map(|feature| feature.name.as_str()).collect();
        if order.len() > 1 {
            self.value("order of features", Class::Rebuild, &order.join(", "));
        }
        if let Some(user) = user {
            self.value("user with the owner's ids", Class::Rebuild, user);
        }
    }

    fn build(&mut self, build: &Build) {
        for (setting, value) in build_settings(build) {
            self.value(&setting, Class::Rebuild, &value);
        }
        for file in &self.facts.build {
            let key = LeafKey::owned(file.path.clone(), BUILD_OWNER);
            self.print.insert(key, Leaf { class: Class::Rebuild, digest: file.digest, shown: None });
        }
    }

    fn mounts(&mut self, env: &Env, capabilities: &Capabilities) {
        let class = capabilities.mounts;
        if !env.is_service() {
            self.value("workspace", class, &env.workspace);
        }
        self.value("network", class, env.network.as_str());
        for mount in &env.mounts {
            let mode = if mount.read_only { "read-only" } else { "read-write" };
            self.value(&format!("mounts {}", mount.target), class, &format!("{} ({mode})", mount.source));
        }
        for path in &env.host_paths {
            self.value(&format!("host_paths {path}"), class, "visible, read-only");
        }
        for port in &env.ports {
            let address = port.address.map(|address| format!("{address}:")).unwrap_or_default();
            let outside = port.host.map(|host| format!("on {address}{host}"));
            let shown = outside.unwrap_or_else(|| "open".to_owned());
            self.value(&format!("ports {}", port.port), capabilities.ports(env), &shown);
        }
    }

    /// One leaf for each setting that is made, and for each entry of one that is a table.
    fn container(&mut self, env: &Env, capabilities: &Capabilities) {
        for (setting, value) in env.container.settings() {
            let class =
                if setting.starts_with("ports ") { capabilities.ports(env) } else { capabilities.container };
            if setting.strip_prefix("env ").is_some_and(may_be_secret) {
                let digest = Encoder::new("setpoint.leaf", FORMAT).text(&value).finish();
                let shown = Some(format!("hidden, {}", digest.short()));
                let key = LeafKey::new(format!("{}.{setting}", self.prefix));
                self.print.insert(key, Leaf { class, digest, shown });
            } else {
                self.value(&setting, class, &value);
            }
        }
        let class = capabilities.container;
        let Some(service) = &env.service else { return };
        for network in &service.networks {
            self.value(&format!("network {}", network.name), class, &definition(network));
        }
        for file in &self.facts.files {
            let key = LeafKey::owned(file.path.clone(), "service");
            self.print.insert(key, Leaf { class, digest: file.digest, shown: None });
        }
        self.service_files(service, capabilities);
        // The daemon keeps to it, whatever the unit was made as.
        self.value("restart", Class::Hot, &restart(service.restart));
    }

    /// What is put into files of a service is read when it starts; that there is such a file, is mounted.
    fn service_files(&mut self, service: &OfService, capabilities: &Capabilities) {
        for file in &service.files {
            let mode = file.mode.map(|mode| format!(", {mode:04o}")).unwrap_or_default();
            let owner = file.owner.as_ref().map(|owner| format!(", {owner}")).unwrap_or_default();
            let what = match &file.source {
                FileSource::Template { path, .. } => path.clone(),
                FileSource::Secret(name) => format!("secret {name}"),
                FileSource::Stored(Stored::Content(text)) => {
                    let digest = Encoder::new("setpoint.leaf", FORMAT).text(text).finish();
                    format!("its content, {}", digest.short())
                }
                FileSource::Stored(_) => continue,
            };
            self.value(
                &format!("files {}", file.target),
                capabilities.mounts,
                &format!("{what}{mode}{owner}"),
            );
        }
        for (path, file) in &self.facts.templates.clone() {
            self.file(LeafKey::owned(path.clone(), "service"), Class::Restart, file.digest);
        }
        if let Some(version) = self.facts.version.clone() {
            self.value("version", Class::Restart, &version);
        }
    }

    fn limits(&mut self, limits: &Limits, capabilities: &Capabilities) {
        let class = capabilities.limits;
        if let Some(memory) = limits.memory {
            self.value("limits.memory", class, &memory.to_string());
        }
        if let Some(cpus) = limits.cpus {
            self.value("limits.cpus", class, &cpus.to_string());
        }
        if let Some(pids) = limits.pids {
            self.value("limits.pids", class, &pids.to_string());
        }
    }

    fn session(&mut self, env: &Env, capabilities: &Capabilities) {
        // What a service is given is given to its first process, when it starts.
        let (declared, class) = match env.is_service() {
            true => (capabilities.container, Class::Restart),
            false => (Class::Hot, Class::Hot),
        };
        for (name, value) in &env.env {
            self.value(&format!("env.{name}"), declared, &value.to_string());
        }
        let of_files = env.service.iter().flat_map(OfService::secrets);
        let of_templates = self.facts.templates.values().flat_map(|file| file.template.secrets());
        let of_env = env.env.values().flat_map(EnvValue::secrets);
        let used: BTreeSet<_> = of_env.chain(of_files).chain(of_templates).cloned().collect();
        for name in used {
            let key = LeafKey::new(format!("secret.{name}"));
            match self.facts.secrets.get(&name) {
                Some(digest) => self.print.insert(key, secret_leaf(*digest, class)),
                None => {
                    self.unresolved.insert(key);
                }
            }
        }
    }

    fn packs(&mut self, env: &Env) {
        if let (false, Some(library)) = (env.packs.is_empty(), &self.facts.pack_library) {
            self.file(LeafKey::new(library.path.clone()), Class::Packs, library.digest);
        }
        for used in &env.packs {
            let owner = pack_owner(&used.name);
            let key = LeafKey::owned(format!("{}.packs {}", self.prefix, used.name), owner.clone());
            let digest = Encoder::new("setpoint.pack", FORMAT).text(used.name.as_str()).finish();
            self.print.insert(
                key,
                Leaf {
                    class: Class::Packs,
                    digest,
                    shown: Some(format!("position {}", self.print.packs.len() + 1)),
                },
            );
            let files = self.facts.packs.get(&used.name).map_or(&[][..], Vec::as_slice);
            let mut whole = Encoder::new("setpoint.pack.run", FORMAT);
            whole.flag(self.facts.pack_library.is_some());
            if let Some(library) = &self.facts.pack_library {
                whole.digest(library.digest);
            }
            whole.list(files.len());
            for file in files {
                whole.text(&file.path).digest(file.digest);
                self.file(LeafKey::owned(file.path.clone(), owner.clone()), Class::Packs, file.digest);
            }
            self.print.packs.push(Pack { name: used.name.clone(), digest: whole.finish() });
        }
    }

    fn hook(&mut self, name: HookName, hook: &Hook) {
        let class = match hook.when_changed {
            WhenChanged::Run => Class::Hook(name),
            WhenChanged::Recreate => Class::Recreate,
            WhenChanged::Report => Class::Report,
        };
        let mut encoder = Encoder::new("setpoint.hook", FORMAT);
        if !hook.before.is_empty() {
            encoder.list(hook.before.len());
            hook.before.iter().for_each(|before| run(&mut encoder, &before.run));
        }
        run(&mut encoder, &hook.run);
        setting(&mut encoder, &hook.env, hook.user.as_deref());
        let of_its_own =
            |before: &Before| !before.env.is_empty() || before.user.is_some() || before.folder.is_some();
        if hook.folder.is_some() || hook.before.iter().any(of_its_own) {
            encoder.option(hook.folder.as_deref());
            for before in &hook.before {
                setting(&mut encoder, &before.env, before.user.as_deref());
                encoder.option(before.folder.as_deref());
            }
        }
        let leaf = Leaf { class, digest: encoder.finish(), shown: Some(hook.run.to_string()) };
        self.print.insert(LeafKey::owned(format!("{}.hooks.{name}", self.prefix), hook_owner(name)), leaf);
        for file in self.facts.hooks.get(&name).into_iter().flatten() {
            self.file(LeafKey::owned(file.path.clone(), hook_owner(name)), class, file.digest);
        }
    }

    fn file(&mut self, key: LeafKey, class: Class, digest: Digest) {
        self.print.insert(key, Leaf { class, digest, shown: None });
    }
}

fn setting(encoder: &mut Encoder, env: &BTreeMap<String, EnvValue>, user: Option<&str>) {
    encoder.list(env.len());
    for (variable, value) in env {
        encoder.text(variable).text(&value.to_string());
    }
    encoder.option(user);
}

fn run(encoder: &mut Encoder, run: &Run) {
    encoder.flag(matches!(run, Run::Parallel(_))).list(run.commands().count());
    for (name, part) in run.commands() {
        command(encoder.option(name), part);
    }
}

fn command(encoder: &mut Encoder, command: &Command) {
    match command {
        Command::Script { path } => {
            encoder.text("script").text(path);
        }
        Command::Shell { text } => {
            encoder.text("shell").text(text);
        }
        Command::Argv { argv } => {
            encoder.text("argv").list(argv.len());
            for word in argv {
                encoder.text(word);
            }
        }
    }
}

impl Desired {
    /// Takes in the digest that the base turned out to have.
    pub fn resolve_base(&mut self, digest: &str) {
        let key = self.base_digest.clone();
        self.unresolved.remove(&key);
        self.fingerprint.insert_value(key.path, Class::Recreate, digest);
    }

    /// Whether a leaf is of what the unit is built on: the image, or what that is built from.
    #[must_use]
    pub fn is_of_base(&self, key: &LeafKey, class: Class) -> bool {
        let base = self.base_digest.path.strip_suffix(" digest");
        class == Class::Rebuild || *key == self.base_digest || base == Some(&key.path)
    }

    /// Takes in the keyed digest of a secret that turned out to be needed.
    pub fn resolve_secret(&mut self, name: &SecretName, digest: Digest) {
        let key = LeafKey::new(format!("secret.{name}"));
        if self.unresolved.remove(&key) {
            self.fingerprint.insert(key, secret_leaf(digest, self.secrets_class));
        }
    }
}

fn secret_leaf(digest: Digest, class: Class) -> Leaf {
    Leaf { class, digest, shown: Some(format!("(keyed digest {})", digest.short())) }
}
