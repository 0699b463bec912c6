//! From what a folder holds to a manifest: a pure function, whose text can always be read.

use std::path::{Component, Path};

use setpoint_model::names::{PackName, UnitName};

use super::found::Found;
use super::tart::Tart;

/// How the content of a project is brought up to date.
struct Content {
    name: &'static str,
    run: &'static str,
    inputs: Vec<&'static str>,
}

/// A manifest that fits what was found.
pub(super) fn propose(found: &Found) -> String {
    let mut lines = vec![
        "# What this project's environments are made of. `setpoint plan` says what would be done.".to_owned(),
        "setpoint = 1".to_owned(),
        String::new(),
    ];
    let project = found.tart.as_ref().and_then(|tart| UnitName::new(tart.project.as_ref()?.as_str()).ok());
    if let Some(name) = project {
        lines.extend(["[project]".to_owned(), format!("name = {}", quoted(name.as_str())), String::new()]);
    }
    let existing = existing(found);
    if !existing.is_empty() {
        lines.extend(existing);
        return lines.join("\n");
    }
    lines.push("[env.dev]".to_owned());
    lines.push(
        "# A view of this machine: its programs are there, changes stay inside. Or: image = \"debian:13\""
            .to_owned(),
    );
    lines.push("base = \"host\"".to_owned());
    if found.has("Cargo.toml") {
        lines.push("# What of your home is visible inside, read-only.".to_owned());
        lines.push("host_paths = [\"~/.cargo/bin\", \"~/.rustup\"]".to_owned());
    }
    lines.extend(packs(found));
    let hooks = hooks(found);
    if !hooks.is_empty() {
        lines.extend([String::new(), "[env.dev.hooks]".to_owned()]);
        lines.extend(hooks);
    }
    lines.push(String::new());
    lines.join("\n")
}

/// What there is to know about what was found.
pub(super) fn remarks(found: &Found) -> Vec<String> {
    let mut remarks = Vec::new();
    if found.tart.is_some() {
        remarks.push(
            "Packs and scripts of project.toml were taken over; its vm settings have no counterpart."
                .to_owned(),
        );
    }
    remarks
}

/// Files of other tools, used where they are.
fn existing(found: &Found) -> Vec<String> {
    let first = |files: &[&'static str]| files.iter().copied().find(|file| found.has(file));
    let environment = first(&[".devcontainer/devcontainer.json", ".devcontainer.json"]);
    let stack = first(&["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"]);
    if environment.is_none() && stack.is_none() {
        return Vec::new();
    }
    let mut lines = vec!["[engine]".to_owned(), "default = \"docker\"".to_owned(), String::new()];
    if let Some(file) = environment {
        lines.extend(["[env.dev]".to_owned(), format!("devcontainer = {}", quoted(file)), String::new()]);
    }
    if let Some(file) = stack {
        lines.extend(["[stack]".to_owned(), format!("compose = {}", quoted(file)), String::new()]);
    }
    lines
}

fn packs(found: &Found) -> Vec<String> {
    let script = |pack: &PackName| found.packs.contains(pack);
    let (chosen, missing) = match &found.tart {
        Some(tart) => {
            let mut chosen = Vec::new();
            let mut missing = Vec::new();
            for name in &tart.packs {
                match PackName::new(name.as_str()) {
                    // A list may name a pack once only.
                    Ok(pack) if chosen.contains(&pack) => {}
                    Ok(pack) if script(&pack) => chosen.push(pack),
                    _ => missing.push(name.clone()),
                }
            }
            (chosen, missing)
        }
        None => (found.packs.clone(), Vec::new()),
    };
    let mut lines = Vec::new();
    if !chosen.is_empty() {
        lines.push(
            "# Scripts of .setpoint/packs, run as root in this order; one that is appended runs alone."
                .to_owned(),
        );
        let names: Vec<_> = chosen.iter().map(|pack| quoted(pack.as_str())).collect();
        lines.push(format!("packs = [{}]", names.join(", ")));
    }
    if !missing.is_empty() {
        // As `{:?}` writes them, they stay on the comment's line whatever they hold.
        lines
            .push(format!("# project.toml also names {missing:?}, which have no script in .setpoint/packs."));
    }
    if lines.is_empty() {
        lines.push(
            "# packs = [\"tools\"]   # installs things: .setpoint/packs/tools.sh, run as root inside"
                .to_owned(),
        );
    }
    lines
}

fn hooks(found: &Found) -> Vec<String> {
    let mut lines = Vec::new();
    let contents = contents(found);
    let inputs = |content: &Content| content.inputs.iter().map(|file| quoted(file)).collect::<Vec<_>>();
    match contents.as_slice() {
        [] => {}
        [only] => {
            lines.push("# Runs again when one of its inputs changes.".to_owned());
            let (run, inputs) = (quoted(only.run), inputs(only).join(", "));
            lines.push(format!("update_content = {{ run = {run}, inputs = [{inputs}] }}"));
        }
        several => {
            lines.push("# Run side by side, and again when one of their inputs changes.".to_owned());
            let parts = several.iter().map(|content| format!("{} = {}", content.name, quoted(content.run)));
            let parts = parts.collect::<Vec<_>>().join(", ");
            let inputs = several.iter().flat_map(inputs).collect::<Vec<_>>().join(", ");
            lines.push(format!("update_content = {{ parallel = {{ {parts} }}, inputs = [{inputs}] }}"));
        }
    }
    if let Some(script) =
        found.tart.as_ref().and_then(|tart| tart.provision.as_deref().map(|script| (tart, script)))
    {
        lines.extend(provision(script.0, script.1));
    }
    lines
}

fn provision(tart: &Tart, script: &str) -> Vec<String> {
    if is_usable(script, tart.provision_exists) {
        let comment = "# Once, after the environment was made; what project.toml calls `provision`.";
        vec![comment.to_owned(), format!("post_create = {}", quoted(script))]
    } else {
        vec![format!("# post_create: project.toml names {script:?}, which is no script of this folder.")]
    }
}

/// Whether a hook may be given as this text: a command, or the path of a script that is there.
fn is_usable(text: &str, exists: bool) -> bool {
    let is_path = text.contains('/') && !text.contains(char::is_whitespace);
    let in_project = !text.starts_with('~')
        && Path::new(text).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let is_empty = text.trim().is_empty() || text.contains('\0');
    !is_empty && (!is_path || (in_project && exists))
}

fn contents(found: &Found) -> Vec<Content> {
    let present = |files: &[&'static str]| files.iter().copied().filter(|file| found.has(file)).collect();
    let mut contents = Vec::new();
    if found.has("Cargo.toml") {
        // The shell inside does not read the profile that rustup adds itself to.
        let run = "PATH=\"$HOME/.cargo/bin:$PATH\" cargo fetch";
        contents.push(Content { name: "cargo", run, inputs: present(&["Cargo.toml", "Cargo.lock"]) });
    }
    if found.has("package-lock.json") {
        contents.push(Content {
            name: "npm",
            run: "npm ci",
            inputs: present(&["package.json", "package-lock.json"]),
        });
    }
    if found.has("uv.lock") {
        contents.push(Content {
            name: "uv",
            run: "uv sync --locked",
            inputs: present(&["pyproject.toml", "uv.lock"]),
        });
    } else if found.has("pyproject.toml") {
        let run = "python3 -m venv .venv && .venv/bin/pip install --editable .";
        contents.push(Content { name: "python", run, inputs: present(&["pyproject.toml"]) });
    }
    if found.has("go.mod") {
        contents.push(Content { name: "go", run: "go mod download", inputs: present(&["go.mod", "go.sum"]) });
    }
    contents
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use setpoint_model::manifest::{Env, Layer, Manifest, parse};
    use setpoint_model::names::HookName;

    use super::*;

    fn found(files: &[&str]) -> Found {
        Found { files: files.iter().map(ToString::to_string).collect(), ..Found::default() }
    }

    fn packs(names: &[&str]) -> Vec<PackName> {
        names.iter().map(|name| PackName::new(*name).unwrap()).collect()
    }

    /// What is proposed, as it is read again.
    fn read(found: &Found) -> Manifest {
        let text = propose(found);
        let layers = [Layer { name: "setpoint.toml", text: &text }];
        parse(&layers, "shop").unwrap_or_else(|problems| panic!("{text}\n{problems:?}"))
    }

    fn dev(manifest: &Manifest) -> &Env {
        manifest.envs.get(&UnitName::new("dev").unwrap()).unwrap()
    }

    fn content(files: &[&str]) -> (String, Vec<String>) {
        let found = found(files);
        let manifest = read(&found);
        let hook = dev(&manifest).hooks.get(&HookName::UpdateContent).expect("a hook").clone();
        (propose(&found), hook.inputs)
    }

    #[test]
    fn an_empty_folder_gives_one_environment_without_hooks() {
        let manifest = read(&Found::default());
        assert_eq!(manifest.envs.len(), 1);
        assert!(dev(&manifest).hooks.is_empty() && dev(&manifest).packs.is_empty());
    }

    #[test]
    fn a_rust_project_sees_its_toolchain_and_fetches_its_crates() {
        let (text, inputs) = content(&["Cargo.toml", "Cargo.lock"]);
        assert!(text.contains("cargo fetch"), "{text}");
        assert_eq!(inputs, ["Cargo.toml", "Cargo.lock"]);
        let manifest = read(&found(&["Cargo.toml"]));
        assert_eq!(dev(&manifest).host_paths, ["~/.cargo/bin", "~/.rustup"]);
    }

    #[test]
    fn each_kind_of_project_has_its_command_and_its_inputs() {
        for (files, command, expected) in [
            (
                &["package.json", "package-lock.json"][..],
                "npm ci",
                &["package.json", "package-lock.json"][..],
            ),
            (&["pyproject.toml", "uv.lock"], "uv sync", &["pyproject.toml", "uv.lock"]),
            (&["pyproject.toml"], "pip install", &["pyproject.toml"]),
            (&["go.mod"], "go mod download", &["go.mod"]),
        ] {
            let (text, inputs) = content(files);
            assert!(text.contains(command), "{text}");
            assert_eq!(inputs, expected, "{text}");
        }
    }

    #[test]
    fn several_kinds_run_side_by_side() {
        let (text, inputs) = content(&["Cargo.toml", "package-lock.json", "go.mod", "go.sum"]);
        assert!(text.contains("parallel = { cargo = "), "{text}");
        assert_eq!(inputs, ["Cargo.toml", "package-lock.json", "go.mod", "go.sum"]);
    }

    #[test]
    fn packs_that_are_there_are_listed() {
        let found = Found { packs: packs(&["base", "uv"]), ..Found::default() };
        let manifest = read(&found);
        let names: Vec<_> = dev(&manifest).packs.iter().map(|pack| pack.name.as_str()).collect();
        assert_eq!(names, ["base", "uv"]);
    }

    #[test]
    fn files_of_other_tools_are_used_where_they_are() {
        let found = found(&[".devcontainer.json", "compose.yaml", "Cargo.toml"]);
        let text = propose(&found);
        let manifest = parse(&[Layer { name: "setpoint.toml", text: &text }], "x").unwrap();
        assert_eq!(manifest.stack.unwrap().files, ["compose.yaml"]);
        assert!(text.contains("devcontainer = \".devcontainer.json\"") && !text.contains("base ="));
    }

    #[test]
    fn a_remo_tart_project_is_taken_over() {
        let tart = Tart {
            project: Some("shop".to_owned()),
            packs: ["uv", "rust", "base", "uv"].map(str::to_owned).to_vec(),
            provision: Some(".tart/provision.sh".to_owned()),
            provision_exists: true,
        };
        let found = Found { packs: packs(&["base", "uv"]), tart: Some(tart), ..Found::default() };
        let manifest = read(&found);
        assert_eq!(manifest.project.name.as_str(), "shop");
        let names: Vec<_> = dev(&manifest).packs.iter().map(|pack| pack.name.as_str()).collect();
        assert_eq!(names, ["uv", "base"]);
        assert!(dev(&manifest).hooks.contains_key(&HookName::PostCreate));
        assert!(propose(&found).contains("\"rust\""));
    }

    #[test]
    fn whatever_a_project_toml_says_the_text_can_be_read() {
        for text in
            ["", "/etc/x.sh", "../x.sh", "~/x", "echo \"a\\b\"\n'c'", "a\0b", "x\u{7f}y", "missing/x.sh"]
        {
            for provision_exists in [true, false] {
                let tart = Tart {
                    project: Some(text.to_owned()),
                    packs: vec![text.to_owned()],
                    provision: Some(text.to_owned()),
                    provision_exists,
                };
                read(&Found { tart: Some(tart), ..found(&["Cargo.toml", "go.mod"]) });
            }
        }
    }
}
