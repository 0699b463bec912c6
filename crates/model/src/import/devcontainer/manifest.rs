//! The manifest that says what a devcontainer.json says, as far as a manifest can.

use std::collections::BTreeMap;

use super::{DevContainer, Phase, Place, Placed, Source, WorkspaceMount, published_ports};
use crate::container::{Build, BuildSecret, MountSource};
use crate::manifest::{Command, Run};

/// The text of a `setpoint.toml`, with a comment for each thing that has no equal there. `file` is what is imported,
/// from the project's folder.
#[must_use]
pub fn to_manifest(said: &DevContainer, file: &str, place: Place<'_>) -> String {
    let mut writer = Writer::default();
    writer.line(format!(
        "# Made of {file}, which can also be used as it is: `devcontainer = {}`.",
        quoted(file)
    ));
    writer.line("setpoint = 1\n\n[engine]\ndefault = \"docker\"\n\n[env.dev]".to_owned());
    writer.base(said, place);
    writer.workspace(said, place);
    let settings = &said.settings;
    if let Some(user) = settings.remote_user.as_ref().or(settings.container_user.as_ref()) {
        writer.line(format!("user = {}", quoted(&user.value)));
    }
    writer.line("network = \"private\"".to_owned());
    writer.ports(said);
    writer.variables(said);
    writer.mounts(said);
    writer.rest(said);
    writer.hooks(&settings.hooks);
    writer.text
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn line(&mut self, line: String) {
        self.text.push_str(&line);
        self.text.push('\n');
    }

    /// A comment line for what has no equal.
    fn without_equal(&mut self, what: &str, why: &str) {
        self.line(format!("# no equal: {}: {why}", what.replace('\n', " ")));
    }

    fn base(&mut self, said: &DevContainer, place: Place<'_>) {
        match &said.source {
            Source::Image(image) => self.line(format!("image = {}", quoted(&image.value))),
            Source::Build(source) => match source.build(place) {
                Ok((build, _)) => self.line(format!("build = {}", build_table(&build))),
                Err(problems) => {
                    self.line("build = \".\"".to_owned());
                    for problem in problems {
                        self.without_equal("build.options", &problem.what);
                    }
                }
            },
            Source::Compose(source) => {
                let files: Vec<_> = source.files.iter().map(|file| file.value.as_str()).collect();
                let what =
                    format!("dockerComposeFile {}, service {}", files.join(", "), source.service.value);
                self.without_equal(&what, "write `devcontainer = ...` instead, and nothing else here");
            }
        }
    }

    fn workspace(&mut self, said: &DevContainer, place: Place<'_>) {
        match &said.workspace_mount {
            WorkspaceMount::Default => {
                self.line(format!("workspace = {}", quoted(&said.folder_inside(place.project))));
            }
            WorkspaceMount::Mount(mount) => {
                self.line(format!("workspace = {}", quoted(&mount.value.target)));
                let plain = matches!(&mount.value.source, MountSource::Bind { source, .. } if source == place.project);
                if !plain {
                    self.without_equal("workspaceMount", "the project's whole folder is what appears");
                }
            }
            WorkspaceMount::Nothing(_) => self.without_equal("workspaceMount", "the project always appears"),
        }
    }

    fn ports(&mut self, said: &DevContainer) {
        let mut ports: BTreeMap<u16, String> = BTreeMap::new();
        for forwarded in &said.settings.forward_ports {
            match &forwarded.value.host {
                None => drop(ports.insert(forwarded.value.port, forwarded.value.port.to_string())),
                Some(_) => self
                    .without_equal(&format!("forwardPorts {}", forwarded.value), "it is another container's"),
            }
        }
        for port in published_ports(&said.app_port).unwrap_or_default() {
            match (port.protocol.as_str(), port.host) {
                ("tcp", Some(host)) => {
                    let address = port.address.map(|address| format!("{address}:")).unwrap_or_default();
                    ports.insert(port.container, format!("{address}{host}:{}", port.container));
                }
                _ => self.without_equal(
                    &format!("appPort {}/{}", port.container, port.protocol),
                    "only TCP, at a port that is named",
                ),
            }
        }
        if !ports.is_empty() {
            let ports: Vec<_> = ports.values().map(|port| quoted(port)).collect();
            self.line(format!("ports = [{}]", ports.join(", ")));
        }
    }

    fn variables(&mut self, said: &DevContainer) {
        let mut env: BTreeMap<&str, String> = BTreeMap::new();
        for (name, value) in &said.settings.container_env {
            env.insert(name, value.value.clone());
        }
        for (name, value) in &said.settings.remote_env {
            match &value.value {
                Some(value) => drop(env.insert(name, value.clone())),
                None => {
                    self.without_equal(&format!("remoteEnv {name}: null"), "a variable cannot be taken away")
                }
            }
        }
        let (known, unknown): (Vec<_>, Vec<_>) =
            env.into_iter().partition(|(_, value)| !value.replace("${containerEnv:", "").contains("${"));
        for (name, value) in unknown {
            self.without_equal(&format!("{name} = {value}"), "its variable is not known in a manifest");
        }
        if !known.is_empty() {
            let entries: Vec<_> =
                known.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
            self.line(format!("env = {{ {} }}", entries.join(", ")));
        }
    }

    fn mounts(&mut self, said: &DevContainer) {
        let mut mounts = Vec::new();
        for mount in said.settings.mounts.iter().map(|mount| &mount.value) {
            match &mount.source {
                MountSource::Bind { source, .. } if !source.contains("${") => mounts.push(format!(
                    "{{ source = {}, target = {}{} }}",
                    quoted(source),
                    quoted(&mount.target),
                    if mount.read_only { ", read_only = true" } else { "" }
                )),
                _ => self.without_equal(
                    &format!("mount at {}", mount.target),
                    "only folders of the host can be mounted",
                ),
            }
        }
        if !mounts.is_empty() {
            self.line(format!("mounts = [{}]", mounts.join(", ")));
        }
    }

    /// What else is said.
    fn rest(&mut self, said: &DevContainer) {
        let keep = "keep the file, and write `devcontainer = ...`";
        for feature in &said.features {
            self.without_equal(
                &format!("feature {}", feature.text),
                "install it by a pack, or in the Dockerfile",
            );
        }
        let settings = &said.settings;
        let arguments: Vec<_> = said.run_args.iter().map(|arg| arg.value.as_str()).collect();
        let list = |items: &[String]| (!items.is_empty()).then(|| items.join(" "));
        let options: Vec<_> = settings.security_opt.iter().map(|option| option.value.clone()).collect();
        for (what, value) in [
            ("runArgs", (!arguments.is_empty()).then(|| arguments.join(" "))),
            ("capAdd", list(&settings.cap_add)),
            ("securityOpt", list(&options)),
            ("init", settings.init.filter(|on| *on).map(|on| on.to_string())),
            ("privileged", settings.privileged.filter(|on| *on).map(|on| on.to_string())),
            ("overrideCommand", settings.override_command.filter(|on| !on).map(|on| on.to_string())),
        ] {
            if let Some(value) = value {
                self.without_equal(&format!("{what} {value}"), keep);
            }
        }
    }

    fn hooks(&mut self, hooks: &BTreeMap<Phase, Placed<Run>>) {
        if hooks.is_empty() {
            return;
        }
        self.line("\n[env.dev.hooks]".to_owned());
        for (phase, run) in hooks {
            let name = match phase {
                Phase::Initialize => "initialize",
                Phase::OnCreate => "on_create",
                Phase::UpdateContent => "update_content",
                Phase::PostCreate => "post_create",
                Phase::PostStart => "post_start",
                Phase::PostAttach => "post_attach",
            };
            let always = matches!(phase, Phase::Initialize | Phase::PostAttach);
            let value = match &run.value {
                Run::One(command) if always => format!("{{ run = {}, always = true }}", value_of(command)),
                Run::One(command) => value_of(command),
                Run::Parallel(parts) => {
                    let parts: Vec<_> = parts
                        .iter()
                        .map(|(name, part)| format!("{} = {}", key(name), value_of(part)))
                        .collect();
                    let always = if always { ", always = true" } else { "" };
                    format!("{{ parallel = {{ {} }}{always} }}", parts.join(", "))
                }
            };
            self.line(format!("{name} = {value}"));
        }
    }
}

fn build_table(build: &Build) -> String {
    let mut entries =
        vec![format!("context = {}", quoted(if build.context.is_empty() { "." } else { &build.context }))];
    entries.extend(build.dockerfile.iter().map(|file| format!("dockerfile = {}", quoted(file))));
    entries.extend(build.target.iter().map(|target| format!("target = {}", quoted(target))));
    let args: Vec<_> = build
        .args
        .iter()
        .filter_map(|(name, value)| Some(format!("{} = {}", key(name), quoted(value.as_ref()?))))
        .collect();
    if !args.is_empty() {
        entries.push(format!("args = {{ {} }}", args.join(", ")));
    }
    if !build.cache_from.is_empty() {
        let images: Vec<_> = build.cache_from.iter().map(|image| quoted(image)).collect();
        entries.push(format!("cache_from = [{}]", images.join(", ")));
    }
    if !build.secrets.is_empty() {
        let secrets: Vec<_> = build.secrets.iter().map(|(id, secret)| secret_entry(id, secret)).collect();
        entries.push(format!("secrets = {{ {} }}", secrets.join(", ")));
    }
    format!("{{ {} }}", entries.join(", "))
}

fn secret_entry(id: &str, secret: &BuildSecret) -> String {
    let source = match secret {
        BuildSecret::File(path) => format!("file = {}", quoted(path)),
        BuildSecret::Env(name) => format!("env = {}", quoted(name)),
    };
    format!("{} = {{ {source} }}", key(id))
}

/// A command. One word with a `/` is a script of the project; one that lies elsewhere is written as a list.
fn value_of(command: &Command) -> String {
    let is_word = |text: &str| text.contains('/') && !text.contains(char::is_whitespace);
    let is_elsewhere =
        |text: &str| text.starts_with(['/', '~', '$']) || text.split('/').any(|part| part == "..");
    match command {
        Command::Shell { text } if is_word(text) && is_elsewhere(text) => {
            format!("[\"/bin/sh\", \"-c\", {}]", quoted(text))
        }
        Command::Shell { text } | Command::Script { path: text } => quoted(text),
        Command::Argv { argv } => {
            let words: Vec<_> = argv.iter().map(|word| quoted(word)).collect();
            format!("[{}]", words.join(", "))
        }
    }
}

/// A text as TOML writes it, which takes what JSON does.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A key, in quotes where it needs them.
fn key(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if plain { name.to_owned() } else { quoted(name) }
}
