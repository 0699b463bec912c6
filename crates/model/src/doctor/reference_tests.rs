//! The page of all rows, and the runbook's sections, held to the table.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Level, Row};

fn file(name: &str) -> String {
    format!("{}/../../{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_row_is_on_the_page() {
    let mut page = String::from(
        "# What the doctor looks for\n\n\
         `setpoint doctor --fix ID` does what stands under *repair*; the other rows are a person's. A row that commands refuse \
         over has a section in the [runbook](../runbook.md).\n\n\
         | id | level | refuses | finds | repair |\n|---|---|---|---|---|\n",
    );
    for row in Row::ALL {
        let about = row.about();
        let refuses: Vec<_> = about.refuses.iter().map(|purpose| format!("`{}`", purpose.as_str())).collect();
        let id = match about.refuses.is_empty() {
            true => format!("`{}`", about.id),
            false => format!("[`{}`](../runbook.md#{})", about.id, about.id),
        };
        let (level, finds, repair) = (about.level.as_str(), about.finds, about.repair.unwrap_or("-"));
        writeln!(page, "| {id} | {level} | {} | {finds} | {repair} |", refuses.join(", ")).unwrap();
    }
    page.push_str(
        "\nExit codes: 0 where nothing is wrong, 3 where something is to be repaired, 10 where there is something to refuse.\n",
    );
    let path = file("docs/reference/doctor.md");
    if std::env::var_os("SETPOINT_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let documented = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(documented, page, "run with SETPOINT_UPDATE_GOLDEN=1 to write docs/reference/doctor.md anew");
}

#[test]
fn ids_are_told_apart_and_found_again() {
    let ids: BTreeSet<_> = Row::ALL.iter().map(|row| row.id()).collect();
    assert_eq!(ids.len(), Row::ALL.len());
    for row in Row::ALL {
        assert_eq!(Row::named(row.id()), Some(row));
        assert!(row.id().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", row.id());
    }
    assert_eq!(Row::named("no-such-row"), None);
}

#[test]
fn whatever_is_refused_over_has_a_section_in_the_runbook() {
    let runbook = std::fs::read_to_string(file("docs/runbook.md")).unwrap();
    let sections: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let rows: BTreeSet<&str> =
        Row::ALL.iter().filter(|row| row.runbook().is_some()).map(|row| row.id()).collect();
    assert_eq!(sections, rows);
    let refusing = Row::ALL.iter().filter(|row| row.about().level == Level::Refuse);
    assert!(refusing.clone().all(|row| row.runbook().is_some()), "what is refused is refused to somebody");
}
