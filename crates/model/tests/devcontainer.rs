//! devcontainer.json as projects write it, and as people get it wrong. `SETPOINT_UPDATE_GOLDEN=1` writes what is shown
//! anew.

#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use setpoint_model::container::{Container, ContainerMount, MountSource};
use setpoint_model::import::Text;
use setpoint_model::import::devcontainer::features::{
    FeatureMetadata, Lockfile, ResolvedFeature, Users, install_env, install_order, unresolved,
};
use setpoint_model::import::devcontainer::variables::{Context, Local};
use setpoint_model::import::devcontainer::{
    DevContainer, Entry, Origin, Phase, Place, Placed, Settings, Source, WorkspaceMount, container,
    image_metadata, merge, parse, published_ports, run_args, to_manifest,
};
use setpoint_model::manifest::{Layer, Problem};

const HOW: &str = "if that is meant: SETPOINT_UPDATE_GOLDEN=1 cargo test -p setpoint-model";

/// Compares with a golden file, or writes it; what differs is returned.
fn golden(path: &Path, actual: &str) -> Option<String> {
    if std::env::var_os("SETPOINT_UPDATE_GOLDEN").is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    (expected != actual)
        .then(|| format!("{}\n--- expected\n{expected}\n--- actual\n{actual}", path.display()))
}

/// The files of a folder, by their names without the ending.
fn files(folder: &str) -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(folder);
    let mut files: Vec<(String, PathBuf)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), path))
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_imported_can_be_read_as_a_manifest() {
    for (project, path) in files("devcontainer") {
        let text = fs::read_to_string(path).unwrap();
        let Ok(said) = parse(&Text::new("devcontainer.json", &text)) else { continue };
        let folder = format!("/home/dev/{project}");
        let inside = said.folder_inside(&folder);
        let known = Context { container_workspace_folder: Some(&inside), ..Context::default() };
        let place = Place { project: &folder, folder: ".devcontainer" };
        let manifest = to_manifest(&said.substitute(&known), ".devcontainer/devcontainer.json", place);
        let layer = Layer { name: "setpoint.toml", text: &manifest };
        let read = setpoint_model::manifest::parse(&[layer], "x");
        // What comes from compose files has no base of its own, and says so.
        let composed = manifest.contains("# no equal: dockerComposeFile");
        assert!(read.is_ok() || composed, "{project}\n{manifest}\n{:#?}", read.err());
    }
}

/// What is read on the machine of someone whose home is `/home/dev`, with all that is known before the container runs.
fn read(project: &str, text: &str) -> Result<DevContainer, Vec<Problem>> {
    let env =
        BTreeMap::from([("HOME".to_owned(), "/home/dev".to_owned()), ("USER".to_owned(), "dev".to_owned())]);
    let folder = format!("/home/dev/{project}");
    let local = Local { env: &env, workspace_folder: &folder, id: "0id" };
    let file = parse(&Text::new("devcontainer.json", text))?
        .substitute(&Context { local: Some(local), ..Context::default() });
    let inside = file.folder_inside(&folder);
    Ok(file.substitute(&Context { container_workspace_folder: Some(&inside), ..Context::default() }))
}

fn texts(texts: &[Placed<String>]) -> String {
    texts.iter().map(|text| text.value.as_str()).collect::<Vec<_>>().join(", ")
}

fn mount(mount: &ContainerMount) -> String {
    let how = if mount.read_only { ", read only" } else { "" };
    let what = match &mount.source {
        MountSource::Bind { source, .. } => source.clone(),
        MountSource::Volume { name, .. } => format!("volume {}", name.as_deref().unwrap_or("of its own")),
        MountSource::Tmpfs { .. } => "memory".to_owned(),
    };
    format!("{what} at {}{how}", mount.target)
}

fn source(out: &mut String, source: &Source) {
    match source {
        Source::Image(image) => writeln!(out, "image: {}", image.value).unwrap(),
        Source::Build(build) => {
            let context = build.context.as_ref().map_or(".", |context| &context.value);
            writeln!(out, "build: {} in {context}", build.dockerfile.value).unwrap();
            for (name, value) in &build.args {
                writeln!(out, "  {name}={}", value.value).unwrap();
            }
            if let Some(target) = &build.target {
                writeln!(out, "  up to {}", target.value).unwrap();
            }
            for (what, given) in [("from", &build.cache_from), ("with", &build.options)] {
                if !given.is_empty() {
                    writeln!(out, "  {what} {}", texts(given)).unwrap();
                }
            }
        }
        Source::Compose(compose) => {
            writeln!(out, "compose: {} of {}", compose.service.value, texts(&compose.files)).unwrap();
            if let Some(others) = &compose.run_services {
                writeln!(out, "  besides {}", texts(others)).unwrap();
            }
        }
    }
}

fn settings(out: &mut String, settings: &Settings) {
    for (who, user) in [("container", &settings.container_user), ("remote", &settings.remote_user)] {
        if let Some(user) = user {
            writeln!(out, "{who} user: {}", user.value).unwrap();
        }
    }
    for (name, value) in &settings.container_env {
        writeln!(out, "env: {name}={}", value.value).unwrap();
    }
    for (name, value) in &settings.remote_env {
        writeln!(out, "remote env: {name}={}", value.value.as_deref().unwrap_or("(taken away)")).unwrap();
    }
    for (phase, run) in &settings.hooks {
        writeln!(out, "{}: {}", phase.key(), serde_json::to_string(&run.value).unwrap()).unwrap();
    }
    for port in &settings.forward_ports {
        let about = settings.ports_attributes.get(&port.value.to_string());
        let label = about.and_then(|about| about.label.as_deref()).unwrap_or_default();
        writeln!(out, "{}", format!("forward: {} {label}", port.value).trim_end()).unwrap();
    }
    for placed in &settings.mounts {
        writeln!(out, "mount: {}", mount(&placed.value)).unwrap();
    }
    let flags = [
        ("init", settings.init),
        ("privileged", settings.privileged),
        ("override command", settings.override_command),
        ("update remote user uid", settings.update_remote_user_uid),
    ];
    for (name, flag) in flags {
        if let Some(flag) = flag {
            writeln!(out, "{name}: {flag}").unwrap();
        }
    }
    if !settings.cap_add.is_empty() {
        writeln!(out, "capabilities: {}", settings.cap_add.join(", ")).unwrap();
    }
    if !settings.security_opt.is_empty() {
        writeln!(out, "security: {}", texts(&settings.security_opt)).unwrap();
    }
    let words = [
        settings.wait_for.map(|phase| format!("wait for: {}", phase.key())),
        settings.user_env_probe.map(|probe| format!("user env probe: {probe:?}")),
        settings.shutdown_action.map(|action| format!("shutdown action: {action:?}")),
        settings.host_requirements.as_ref().map(|host| {
            let size = |size: Option<setpoint_model::manifest::ByteSize>| {
                size.map_or_else(|| "any".to_owned(), |size| size.to_string())
            };
            let cpus = host.cpus.map_or_else(|| "any".to_owned(), |cpus| cpus.to_string());
            let (memory, storage) = (size(host.memory), size(host.storage));
            format!("host: cpus {cpus}, memory {memory}, storage {storage}, gpu {:?}", host.gpu)
        }),
    ];
    for word in words.into_iter().flatten() {
        writeln!(out, "{word}").unwrap();
    }
}

/// What was understood, in short.
fn understood(file: &DevContainer) -> Result<String, Vec<Problem>> {
    let mut out = String::new();
    if let Some(name) = &file.name {
        writeln!(out, "name: {}", name.value).unwrap();
    }
    source(&mut out, &file.source);
    for feature in &file.features {
        let options: Vec<String> =
            feature.options.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        writeln!(out, "feature: {}{}", feature.reference, options.concat()).unwrap();
    }
    if !file.override_feature_install_order.is_empty() {
        writeln!(out, "first: {}", texts(&file.override_feature_install_order)).unwrap();
    }
    if let Some(folder) = &file.workspace_folder {
        writeln!(out, "folder: {}", folder.value).unwrap();
    }
    match &file.workspace_mount {
        WorkspaceMount::Default => {}
        WorkspaceMount::Nothing(_) => writeln!(out, "project: not mounted").unwrap(),
        WorkspaceMount::Mount(placed) => writeln!(out, "project: {}", mount(&placed.value)).unwrap(),
    }
    settings(&mut out, &file.settings);
    for port in published_ports(&file.app_port)? {
        let host = port.host.map_or_else(|| "any".to_owned(), |host| host.to_string());
        let address = port.address.as_deref().unwrap_or("everywhere");
        writeln!(out, "publish: {} as {host} {address}", port.container).unwrap();
    }
    let run = run_args(&file.run_args)?;
    let container = serde_json::to_string(&run.container).unwrap();
    if !file.run_args.is_empty() {
        writeln!(out, "run args: {container}").unwrap();
    }
    for (what, given) in [("env file", &run.env_files), ("env of the caller", &run.env_of_caller)] {
        if !given.is_empty() {
            writeln!(out, "{what}: {}", texts(given)).unwrap();
        }
    }
    for (name, secret) in &file.secrets {
        writeln!(out, "secret: {name} {}", secret.description.as_deref().unwrap_or_default()).unwrap();
    }
    for note in file.notes.iter().chain(&run.notes) {
        writeln!(out, "note: {}: {}", note.at.line, note.text).unwrap();
    }
    Ok(out)
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect::<Vec<_>>().join("\n")
}

#[test]
fn files_of_well_known_projects_are_understood() {
    let files = files("devcontainer");
    assert!(files.len() >= 40, "only {} projects", files.len());
    let different: Vec<String> = files
        .iter()
        .filter_map(|(project, path)| {
            let text = fs::read_to_string(path).unwrap();
            let shown = read(project, &text)
                .and_then(|file| understood(&file))
                .unwrap_or_else(|problems| panic!("{}\n{}", path.display(), told(&problems)));
            golden(&path.with_extension("txt"), &shown)
        })
        .collect();
    assert!(different.is_empty(), "{}\n{HOW}", different.join("\n"));
}

#[test]
fn every_mistake_is_told_as_it_should_be() {
    let files = files("devcontainer-mistakes");
    assert!(files.len() >= 25, "only {} mistakes", files.len());
    let different: Vec<String> = files
        .iter()
        .filter_map(|(name, path)| {
            let text = fs::read_to_string(path).unwrap();
            let Err(problems) = read(name, &text).and_then(|file| understood(&file)) else {
                panic!("{}: nothing is wrong", path.display());
            };
            golden(&path.with_extension("txt"), &told(&problems))
        })
        .collect();
    assert!(different.is_empty(), "{}\n{HOW}", different.join("\n"));
}

/// Given a project with a feature that needs another one, when everything it needs has been fetched, then both are
/// installed in order with their options, and what all say is merged.
#[test]
fn from_a_file_to_all_that_an_engine_needs() {
    let text = r#"{
        "image": "base",
        "features": { "ghcr.io/x/tool:1": { "channel": "edge" } },
        "remoteUser": "dev",
        "postCreateCommand": "make"
    }"#;
    let tool = r#"{ "id": "tool", "version": "1.2.0", "dependsOn": { "ghcr.io/x/common": {} },
        "options": { "channel": { "type": "string", "enum": ["stable", "edge"], "default": "stable" } },
        "postCreateCommand": "tool init", "privileged": true }"#;
    let common = r#"{ "id": "common", "version": "2.0.0", "containerEnv": { "PATH": "/common:${PATH}" } }"#;
    let label = r#"[{ "remoteUser": "root", "postCreateCommand": "from the image" }]"#;

    let file = read("shop", text).unwrap();
    let mut features: Vec<ResolvedFeature> = Vec::new();
    let mut metadata = BTreeMap::new();
    let mut wanted = file.features.clone();
    while let Some(asked) = wanted.pop() {
        let text = if asked.reference.resource() == "ghcr.io/x/tool" { tool } else { common };
        let said = FeatureMetadata::parse(&Text::new("devcontainer-feature.json", text)).unwrap();
        features.push(ResolvedFeature {
            asked: asked.clone(),
            digest: Some(format!("sha256:{}", said.id)),
            depends_on: said.depends_on.clone(),
            installs_after: said.installs_after.clone(),
            legacy_ids: said.legacy_ids.clone(),
        });
        metadata.insert(asked.reference.to_string(), said);
        wanted = unresolved(&features).into_iter().cloned().collect();
    }

    let order = install_order(&features, &file.override_feature_install_order).unwrap();
    let names: Vec<String> =
        order.features.iter().map(|feature| feature.asked.reference.to_string()).collect();
    assert_eq!(names, ["ghcr.io/x/common:latest", "ghcr.io/x/tool:1"]);
    let asked = &order.features[1].asked;
    let users = Users { remote: "dev", remote_home: "/home/dev", container: "root", container_home: "/root" };
    let env = install_env(&metadata["ghcr.io/x/tool:1"], &asked.options, &asked.at, users).unwrap();
    assert_eq!(env.variables["CHANNEL"], "edge");
    assert_eq!(env.variables["_REMOTE_USER"], "dev");

    let mut entries = image_metadata(&Text::new("label", label)).unwrap().0;
    entries.extend(order.features.iter().map(|feature| {
        let name = feature.asked.reference.to_string();
        Entry { settings: metadata[&name].settings.clone(), origin: Origin::Feature(name) }
    }));
    entries.push(Entry { origin: Origin::File, settings: file.settings.clone() });
    let merged = merge(entries);
    assert_eq!(merged.remote_user.as_deref(), Some("dev"));
    let hooks: Vec<String> = merged.hooks[&Phase::PostCreate]
        .iter()
        .map(|hook| format!("{}: {}", hook.origin, hook.value))
        .collect();
    assert_eq!(
        hooks,
        ["the image: from the image", "ghcr.io/x/tool:1: tool init", "devcontainer.json: make"]
    );

    let container = container(&merged, Container::default(), vec![], file.workspace("/home/dev/shop"));
    assert!(container.privileged);
    assert_eq!(container.mounts[0].target, "/workspaces/shop");
    assert_eq!(container.env, BTreeMap::new(), "what a feature sets is in the image");
}

/// The text of one of the files, with some of it cut out and something put in.
fn spoiled() -> impl Strategy<Value = String> {
    let texts: Vec<String> = ["devcontainer", "devcontainer-mistakes"]
        .iter()
        .flat_map(|folder| files(folder))
        .map(|(_, path)| fs::read_to_string(path).unwrap())
        .collect();
    let inserts = prop::sample::select(vec![
        "", "{", "}", "[", "]", "\"", ",", ":", "null", "1", "${", "é", "//", "/*", "\\u",
    ]);
    (prop::sample::select(texts), any::<prop::sample::Index>(), 0..40_usize, inserts).prop_map(
        |(text, start, length, insert)| {
            let chars: Vec<char> = text.chars().collect();
            let start = start.index(chars.len() + 1);
            let end = (start + length).min(chars.len());
            chars[..start].iter().copied().chain(insert.chars()).chain(chars[end..].iter().copied()).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_spoiled_file_is_read_or_its_problems_are_told(text in spoiled()) {
        match read("project", &text).and_then(|file| understood(&file)) {
            Ok(shown) => prop_assert!(!shown.is_empty()),
            Err(problems) => prop_assert!(!problems.is_empty() && !told(&problems).is_empty()),
        }
        let text = Text::new("spoiled", &text);
        for problems in [
            FeatureMetadata::parse(&text).err(),
            image_metadata(&text).err(),
            Lockfile::parse(&text).err(),
        ].into_iter().flatten() {
            prop_assert!(!problems.is_empty());
        }
    }
}
