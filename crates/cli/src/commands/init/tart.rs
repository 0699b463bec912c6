//! What a remo-tart `project.toml` says of a project.

use toml::{Table, Value};

/// What is taken over of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tart {
    /// The project's name.
    pub(super) project: Option<String>,
    /// Its packs, in order.
    pub(super) packs: Vec<String>,
    /// The script that provisions it.
    pub(super) provision: Option<String>,
    /// Whether that is a file in the folder.
    pub(super) provision_exists: bool,
}

impl Tart {
    /// Reads it. Other tools have a `project.toml` too: what has none of its sections is none of it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let table: Table = text.parse().ok()?;
        if !["vm", "packs", "scripts"].iter().any(|section| table.contains_key(*section)) {
            return None;
        }
        let name = |value: &Value| Some(value.as_str().or_else(|| value.get("name")?.as_str())?.to_owned());
        let provision = table.get("scripts").and_then(|scripts| scripts.get("provision"));
        Some(Self {
            project: table.get("project").and_then(name),
            packs: table.get("packs").map(packs).unwrap_or_default(),
            provision: provision.and_then(Value::as_str).map(str::to_owned),
            provision_exists: false,
        })
    }
}

/// A list of names, or a table that holds one, or a table whose keys are names.
fn packs(value: &Value) -> Vec<String> {
    let names = |list: &Vec<Value>| list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    match value {
        Value::Array(list) => names(list),
        Value::Table(table) => match table.values().find_map(Value::as_array) {
            Some(list) => names(list),
            None => {
                let is_on = |value: &Value| value.as_bool() != Some(false);
                table.iter().filter(|(_, value)| is_on(value)).map(|(name, _)| name.clone()).collect()
            }
        },
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_packs_stand_in_several_ways() {
        for text in [
            "project = \"shop\"\npacks = [\"base\", \"uv\"]",
            "packs = [\"base\", \"uv\"]\n[project]\nname = \"shop\"",
            "[project]\nname = \"shop\"\n[packs]\nenabled = [\"base\", \"uv\"]",
            "[project]\nname = \"shop\"\n[packs]\nbase = true\nold = false\nuv = {}",
        ] {
            let tart = Tart::parse(text).expect(text);
            assert_eq!(tart.project.as_deref(), Some("shop"), "{text}");
            assert_eq!(tart.packs, ["base", "uv"], "{text}");
        }
    }

    #[test]
    fn a_project_toml_of_another_tool_is_none() {
        for text in ["", "[project]\nname = \"shop\"", "not toml", "[build]\nx = 1"] {
            assert_eq!(Tart::parse(text), None, "{text}");
        }
    }
}
