//! The tables of what is supported of other tools' files, made from the code.

#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use std::fs;
use std::path::Path;

use setpoint_model::import::{Level, Support, compose, devcontainer};

/// Compares a page with what the code says, or writes it.
fn page(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var_os("SETPOINT_UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, text, "SETPOINT_UPDATE_GOLDEN=1 cargo test -p setpoint-model writes {name} anew");
}

fn table(title: &str, about: &str, rows: &[Support]) -> String {
    let mut text = format!("# {title}\n\n{about}\n\n| key | supported | remark |\n|---|---|---|\n");
    for row in rows {
        let level = match row.level {
            Level::Supported => "yes",
            Level::Partly => "partly",
            Level::NotSupported => "no",
        };
        text.push_str(&format!("| `{}` | {level} | {} |\n", row.key, row.note.replace('|', "\\|")));
    }
    text
}

#[test]
fn the_page_on_devcontainer_json_is_that_of_the_code() {
    let about = "Made from the table that the reader takes its keys from. What is not supported is told as a note \
                 when a file has it; what could not be done right without it is refused by name.";
    page("devcontainer.md", &table("devcontainer.json, key by key", about, devcontainer::support::SUPPORT));
}

#[test]
fn the_page_on_compose_yaml_is_that_of_the_code() {
    let about = "Made from the table that the reader takes its keys from. What is not supported is told as a note \
                 when a file has it; a key that is in no table is refused with the nearest one that is.";
    page("compose.md", &table("compose.yaml, key by key", about, compose::SUPPORT));
}
