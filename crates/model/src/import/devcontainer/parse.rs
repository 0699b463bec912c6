//! From the text of a devcontainer.json to what it says, or to everything that is wrong with it.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;

use super::file::{DevContainer, RecommendedSecret, WorkspaceMount};
use super::mount::mount;
use super::reader::{Member, Placed, Reader, below, bytes};
use super::settings::Settings;
use super::source::{self, SourceKeys};
use super::{features, ports, support};
use crate::import::Text;
use crate::manifest::{Note, Problem};

/// Reads a devcontainer.json. What is not known, or not supported, is told in its notes.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &Text<'_>) -> Result<DevContainer, Vec<Problem>> {
    let mut reader = Reader::new(text);
    let read = reader.json().and_then(|value| whole(&mut reader, &value));
    let (mut file, notes) = reader.finish(read)?;
    file.notes = in_order(notes);
    Ok(file)
}

/// Notes by their places.
fn in_order(mut notes: Vec<Note>) -> Vec<Note> {
    notes.sort_by_key(|note| (note.at.line, note.at.column));
    notes
}

fn whole(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<DevContainer> {
    if !matches!(value, Value::Object(_)) {
        reader.not_an_object(value);
        return None;
    }
    let members = reader.known_members("", &support::keys_of(""), value);
    for member in &members {
        if let Some(told) = support::told(member.key) {
            let at = reader.at(member.at.clone());
            reader.note(at, format!("`{}`: {told}", member.key));
        }
    }
    let mut settings = Settings::default();
    let mut keys = SourceKeys::default();
    let mut rest = Rest::default();
    for member in &members {
        if !keys.take(reader, member) && !rest.take(reader, member) {
            settings.take(reader, member);
        }
    }
    let begin = bytes(value).start;
    let whole = reader.at(begin..begin + 1);
    let source = source::source(reader, keys, &members, whole);
    without_effect(reader, &members);
    Some(DevContainer {
        name: rest.name,
        source: source?,
        features: rest.features,
        override_feature_install_order: rest.override_order,
        settings,
        workspace_mount: rest.workspace_mount.unwrap_or(WorkspaceMount::Default),
        workspace_folder: rest.workspace_folder,
        run_args: rest.run_args,
        app_port: rest.app_port,
        secrets: rest.secrets,
        notes: Vec::new(),
    })
}

/// What only a devcontainer.json says, besides what the container is made of.
#[derive(Default)]
struct Rest {
    name: Option<Placed<String>>,
    features: Vec<features::FeatureUse>,
    override_order: Vec<Placed<String>>,
    workspace_mount: Option<WorkspaceMount>,
    workspace_folder: Option<Placed<String>>,
    run_args: Vec<Placed<String>>,
    app_port: Vec<Placed<String>>,
    secrets: BTreeMap<String, RecommendedSecret>,
}

impl Rest {
    /// Takes a member up, if its key is one of these.
    fn take(&mut self, reader: &mut Reader<'_>, member: &Member<'_, '_>) -> bool {
        let (key, value) = (member.key, member.value);
        match key {
            "name" => self.name = reader.string(key, value),
            "features" => self.features = features::uses(reader, key, value),
            "overrideFeatureInstallOrder" => self.override_order = reader.strings(key, value),
            "workspaceFolder" => self.workspace_folder = folder(reader, key, value),
            "workspaceMount" => self.workspace_mount = workspace_mount(reader, key, value),
            "runArgs" => self.run_args = reader.strings(key, value),
            "appPort" => self.app_port = ports::app_ports(reader, key, value),
            "secrets" => self.secrets = secrets(reader, key, value),
            _ => return false,
        }
        true
    }
}

fn folder(reader: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Option<Placed<String>> {
    let folder = reader.filled(key, value)?;
    if !folder.value.starts_with(['/', '$']) {
        let what = format!("`{key}` is `{}`, and not an absolute path", folder.value);
        reader.problem(
            value,
            Problem::new("relative-path", what)
                .why("it is a path inside the container")
                .hint(format!("such as `/workspaces/{}`", folder.value.trim_start_matches("./"))),
        );
        return None;
    }
    Some(folder)
}

fn workspace_mount(reader: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Option<WorkspaceMount> {
    match value {
        Value::StringLit(text) if text.value.trim().is_empty() => {
            Some(WorkspaceMount::Nothing(reader.place(value)))
        }
        _ => mount(reader, key, value).map(WorkspaceMount::Mount),
    }
}

fn secrets(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> BTreeMap<String, RecommendedSecret> {
    let mut secrets = BTreeMap::new();
    for member in reader.members(path, value) {
        let path = below(path, member.key);
        let at = reader.at(member.at.clone());
        if !is_variable(member.key) {
            let problem =
                Problem::new("bad-variable", format!("`{}` is not the name of a variable", member.key)).why(
                    "a secret is given as a variable of that name: letters, digits and `_`, no digit first",
                );
            reader.problems.push(problem.at(at));
            continue;
        }
        let mut secret = RecommendedSecret { description: None, documentation_url: None, at };
        for field in reader.known_members(&path, &support::keys_of("secrets.*"), member.value) {
            let text = reader.string(&below(&path, field.key), field.value).map(|text| text.value);
            match field.key {
                "description" => secret.description = text,
                _ => secret.documentation_url = text,
            }
        }
        secrets.insert(member.key.to_owned(), secret);
    }
    secrets
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Notes keys that do nothing beside the others that are given.
fn without_effect(reader: &mut Reader<'_>, members: &[Member<'_, '_>]) {
    let given = |key: &str| members.iter().find(|member| member.key == key);
    let compose = given("dockerComposeFile").is_some();
    for key in ["runArgs", "appPort", "workspaceMount"] {
        if let Some(member) = given(key).filter(|_| compose) {
            let at = reader.at(member.at.clone());
            reader.note(at, format!("`{key}` has no effect: the compose file says this for its services"));
        }
    }
    for key in ["service", "runServices"] {
        if let Some(member) = given(key).filter(|_| !compose) {
            let at = reader.at(member.at.clone());
            reader.note(at, format!("`{key}` has no effect without `dockerComposeFile`"));
        }
    }
    if let (Some(context), None, None) = (given("context"), given("build"), given("dockerFile")) {
        let at = reader.at(context.at.clone());
        reader.note(at, "`context` has no effect without `dockerFile`");
    }
    if let (Some(mount), None, false) = (given("workspaceMount"), given("workspaceFolder"), compose) {
        let at = reader.at(mount.at.clone());
        reader.note(at, "`workspaceMount` asks for a `workspaceFolder`, which says where commands start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::devcontainer::{Phase, Source};
    use crate::manifest::{Command, Run};

    fn read(text: &str) -> DevContainer {
        parse(&Text::new("devcontainer.json", text)).unwrap()
    }

    #[test]
    fn what_is_said_has_its_place() {
        let file =
            read("\u{feff}{\r\n  // an image\r\n  \"image\": \"é\",\r\n  \"remoteUser\": \"dev\",\r\n}\r\n");
        let Source::Image(image) = &file.source else { panic!("no image") };
        assert_eq!((image.value.as_str(), image.at.line, image.at.column, image.at.length), ("é", 3, 12, 3));
        let user = file.settings.remote_user.unwrap();
        assert_eq!((user.value.as_str(), user.at.line), ("dev", 4));
    }

    #[test]
    fn a_command_is_never_a_script_of_the_project() {
        let file = read(r#"{ "image": "x", "postCreateCommand": "./setup.sh" }"#);
        let run = &file.settings.hooks[&Phase::PostCreate].value;
        assert_eq!(*run, Run::One(Command::Shell { text: "./setup.sh".into() }));
    }

    #[test]
    fn the_notes_are_in_the_order_of_the_file() {
        let file = read("{\n\"b\": 1,\n\"image\": \"x\",\n\"a\": 1,\n\"settings\": {},\n\"service\": \"x\"}");
        let lines: Vec<u32> = file.notes.iter().map(|note| note.at.line).collect();
        assert_eq!(lines, [2, 4, 5, 6]);
    }

    #[test]
    fn what_is_meant_for_editors_is_kept_as_it_is() {
        let file = read(r#"{ "image": "x", "customizations": { "a": [1.50, null, { "b": "c" }] } }"#);
        assert_eq!(
            file.settings.customizations,
            Some(serde_json::json!({ "a": [1.50, null, { "b": "c" }] }))
        );
        assert_eq!(file.notes, []);
    }

    #[test]
    fn a_feature_is_locked_by_what_it_is_called() {
        let file = read(r#"{ "image": "x", "features": { "GHCR.io/A/B/C": {}, "./local": {} } }"#);
        let keys: Vec<_> = file.features.iter().map(features::FeatureUse::lock_key).collect();
        assert_eq!(keys, [Some("ghcr.io/a/b/c".to_owned()), None]);
    }
}
