//! The environment that a devcontainer.json and all that is merged with it mean.

use std::collections::BTreeMap;

use super::{DevContainer, Merged, Phase, Placed, RunArgs, Said, UserEnvProbe, container};
use crate::container::{Feature, PublishedPort};
use crate::manifest::{Base, Env, EnvValue, Hook, Location, Network, Note, OfDevContainer, Run, WhenChanged};
use crate::names::HookName;

/// Where forwarded ports are published.
const LOOPBACK: &str = "127.0.0.1";

/// All that an environment is made of, besides what the manifest says itself.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// The file, from the project's folder.
    pub file: &'a str,
    /// What it says, with all variables of the host put in.
    pub said: &'a DevContainer,
    /// What the image, the features and the file say together.
    pub merged: &'a Merged,
    /// What its `runArgs` say.
    pub run_args: RunArgs,
    /// What its `appPort` says.
    pub app_ports: Vec<PublishedPort>,
    /// The image that it is made of, before features.
    pub base: Base,
    /// The features, in the order of their installation.
    pub features: Vec<Feature>,
    /// Who the image's processes run as; empty is root.
    pub image_user: &'a str,
    /// Whether the image and all features are known.
    pub complete: bool,
    /// Whether the project's folder belongs to somebody else than root, so that ids may have to fit.
    pub owned: bool,
    /// Whether the engine can give it a network of its own.
    pub private_network: bool,
    /// The project's folder on the host.
    pub project: &'a str,
}

/// The environment. What the manifest declares for it comes before what is said elsewhere.
#[must_use]
pub fn env(declared: &Env, parts: Parts<'_>) -> (Env, Vec<Note>) {
    let (said, merged) = (parts.said, parts.merged);
    let mut notes = parts.run_args.notes.clone();
    let project = parts.project;
    let mut container =
        container(merged, parts.run_args.container.clone(), parts.app_ports.clone(), said.workspace(project));
    if container.user.is_none() && !parts.image_user.is_empty() {
        container.user = Some(parts.image_user.to_owned());
    }
    let user =
        declared.user.clone().or_else(|| merged.remote_user.clone()).or_else(|| container.user.clone());
    let user = user.unwrap_or_else(|| "root".to_owned());
    let network = if parts.private_network { Network::Private } else { Network::Host };
    if container.network.is_none() && network == Network::Private {
        let at = &declared.base_at;
        forward(merged, &mut container.ports, at, &mut notes);
    }
    if !said.secrets.is_empty() {
        let names: Vec<_> = said.secrets.keys().map(String::as_str).collect();
        let text =
            format!("it asks for secrets: {}; give them in `env` as `${{secret.NAME}}`", names.join(", "));
        let at =
            said.secrets.values().next().map_or_else(|| declared.base_at.clone(), |secret| secret.at.clone());
        notes.push(Note { at, text });
    }
    let moves_ids = merged.update_remote_user_uid != Some(false)
        && parts.owned
        && !matches!(user.as_str(), "root" | "0")
        && user.parse::<u32>().is_err();
    let base = if parts.features.is_empty() && !moves_ids {
        parts.base
    } else {
        let user = moves_ids.then(|| user.split(':').next().unwrap_or_default().to_owned());
        Base::Features { on: Box::new(parts.base), features: parts.features, user }
    };
    let mut env: BTreeMap<String, EnvValue> = merged
        .remote_env
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), EnvValue::of_devcontainer(value.as_ref()?))))
        .collect();
    env.extend(declared.env.clone());
    let mut hooks = hooks(merged, &said.settings.hooks, &declared.base_at);
    hooks.extend(declared.hooks.clone());
    let of = OfDevContainer {
        file: parts.file.to_owned(),
        complete: parts.complete,
        probe: merged.user_env_probe.unwrap_or(UserEnvProbe::LoginInteractiveShell),
        keeps_command: merged.override_command == Some(false),
        entrypoints: merged.entrypoints.iter().map(|script| script.value.clone()).collect(),
        unset: merged
            .remote_env
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.clone())
            .collect(),
    };
    let env = Env {
        base,
        workspace: said.folder_inside(project),
        user: Some(user),
        env,
        hooks,
        container,
        network,
        devcontainer: Some(of),
        ..declared.clone()
    };
    (env, notes)
}

/// Publishes what is to be forwarded, on this machine alone.
fn forward(merged: &Merged, ports: &mut Vec<PublishedPort>, at: &Location, notes: &mut Vec<Note>) {
    for forwarded in &merged.forward_ports {
        if forwarded.host.as_deref().is_some_and(|host| host != "localhost" && host != LOOPBACK) {
            let text =
                format!("`forwardPorts`: {forwarded} is a port of another container, and not forwarded");
            notes.push(Note { at: at.clone(), text });
        } else if !ports.iter().any(|port| port.container == forwarded.port) {
            ports.push(PublishedPort {
                container: forwarded.port,
                protocol: "tcp".to_owned(),
                address: Some(LOOPBACK.to_owned()),
                host: Some(forwarded.port),
            });
        }
    }
}

/// The hooks: what features and the image bring with them first, one after the other.
fn hooks(
    merged: &Merged,
    own: &BTreeMap<Phase, Placed<Run>>,
    elsewhere: &Location,
) -> BTreeMap<HookName, Hook> {
    let hook = |(phase, said): (&Phase, &Vec<Said<Run>>)| {
        let (last, before) = said.split_last()?;
        let name = match phase {
            Phase::Initialize => HookName::Initialize,
            Phase::OnCreate => HookName::OnCreate,
            Phase::UpdateContent => HookName::UpdateContent,
            Phase::PostCreate => HookName::PostCreate,
            Phase::PostStart => HookName::PostStart,
            Phase::PostAttach => HookName::PostAttach,
        };
        let hook = Hook {
            at: own.get(phase).map_or_else(|| elsewhere.clone(), |placed| placed.at.clone()),
            before: before.iter().map(|said| said.value.clone().into()).collect(),
            run: last.value.clone(),
            inputs: Vec::new(),
            timeout: None,
            env: BTreeMap::new(),
            user: None,
            folder: None,
            when_changed: WhenChanged::default(),
            always: matches!(phase, Phase::Initialize | Phase::PostAttach),
        };
        Some((name, hook))
    };
    merged.hooks.iter().filter_map(hook).collect()
}
