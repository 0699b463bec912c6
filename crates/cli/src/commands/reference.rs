//! The reference pages that are made from the code, held to it by tests. `SETPOINT_UPDATE_GOLDEN=1` writes them anew.

use std::fmt::Write;

use crate::error::Exit;

/// Compares with a file of the repository, or writes it.
pub(crate) fn golden(file: &str, made: &str) {
    let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SETPOINT_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let documented = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(documented, made, "run with SETPOINT_UPDATE_GOLDEN=1 to write {file} anew");
}

#[test]
fn every_exit_code_has_its_row() {
    let mut page = String::from("# Exit codes\n\n| code | meaning |\n|---|---|\n");
    for (exit, meaning) in Exit::TABLE {
        writeln!(page, "| {} | {meaning} |", exit as u8).unwrap();
    }
    page.push_str(
        "\n`exec` and `shell` pass on the code of what they ran; a signal gives 128 and its number.\n",
    );
    golden("docs/reference/exit-codes.md", &page);
}

#[test]
fn every_event_is_in_the_schema() {
    let schema = serde_json::to_string_pretty(&crate::json::run::schema()).unwrap();
    golden("docs/reference/events.schema.json", &(schema + "\n"));
}

#[test]
fn every_command_has_its_section() {
    let mut page = String::from("# Commands\n\nEvery command also takes the options of the first section.\n");
    let mut command = super::command_line().term_width(100);
    command.build();
    write!(page, "\n## setpoint\n\n```\n{}```\n", command.render_help()).unwrap();
    sections(&command, "setpoint", "##", &mut page);
    golden("docs/reference/commands.md", &page);
}

/// A section for each command of a command, and for each of theirs.
fn sections(command: &clap::Command, path: &str, heading: &str, page: &mut String) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        let mut shown = sub.clone().mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
        write!(page, "\n{heading} {path}\n\n```\n{}```\n", shown.render_help()).unwrap();
        sections(sub, &path, &format!("{heading}#"), page);
    }
}
