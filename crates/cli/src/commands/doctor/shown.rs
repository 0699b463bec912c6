//! What the doctor found, in words and for machines.

use serde::Serialize;
use setpoint_model::doctor::{Finding, Level, Purpose, Row};

use crate::json;
use crate::output::{ERROR, GOOD, HINT, Output, RESET};

/// A finding, as machines are told.
#[derive(Debug, Serialize)]
struct Told<'a> {
    /// Which kind of trouble; nothing where there is none.
    id: Option<&'static str>,
    level: Level,
    subject: &'a str,
    what: &'a str,
    fix: Option<&'a str>,
    /// Whether `--fix` does something about it.
    fixable: bool,
    /// What is not done over it.
    refuses: &'static [Purpose],
    /// Where the runbook tells a person what to do.
    runbook: Option<String>,
}

/// `doctor`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    setpoint: u32,
    /// What `--fix` did.
    fixed: &'a [String],
    findings: Vec<Told<'a>>,
}

fn told(finding: &Finding) -> Told<'_> {
    let about = finding.row.map(Row::about);
    Told {
        id: about.map(|about| about.id),
        level: finding.level,
        subject: &finding.subject,
        what: &finding.what,
        fix: finding.fix.as_deref(),
        fixable: about.is_some_and(|about| about.repair.is_some()),
        refuses: about.map_or(&[], |about| about.refuses),
        runbook: finding.row.and_then(Row::runbook),
    }
}

/// Tells what was found, and before it what was done about a row.
pub(super) fn tell(output: Output, row: Option<Row>, fixed: &[String], findings: &[Finding]) {
    if output.json {
        let findings = findings.iter().map(told).collect();
        output.value(&Report { setpoint: json::VERSION, fixed, findings });
        return;
    }
    for line in fixed {
        output.line(format!("Fixed: {line}"));
    }
    if let (Some(row), true) = (row, fixed.is_empty()) {
        output.line(format!("Nothing of `{}` is to be repaired.", row.id()));
    }
    output.line(words(findings));
    output.note(sum(findings));
}

/// Findings in words: what is wrong is easy to see, and has its fix below it.
fn words(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for finding in findings {
        let (colour, level) = match finding.level {
            Level::Ok => (GOOD, "ok"),
            Level::Info => (HINT, "info"),
            Level::Repairable => (ERROR, "REPAIR"),
            Level::Refuse => (ERROR, "REFUSE"),
        };
        let mut what = finding.what.lines();
        let first = what.next().unwrap_or_default();
        lines.push(format!("  {colour}{level:<6}{RESET}  {:<width$}  {first}", finding.subject));
        let indent = width + 12;
        lines.extend(what.map(|line| format!("{:indent$}{line}", "")));
        lines.extend(finding.fix.iter().map(|fix| format!("{:indent$}fix: {fix}", "")));
        lines.extend(finding.row.map(|row| format!("{:indent$}id:  {}", "", named(row))));
    }
    lines.join("\n")
}

/// A row, and where there is more about it.
fn named(row: Row) -> String {
    match (row.about().repair, row.runbook()) {
        (Some(_), _) => format!("{id} (`setpoint doctor --fix {id}`)", id = row.id()),
        (None, Some(anchor)) => format!("{} ({anchor})", row.id()),
        (None, None) => row.id().to_owned(),
    }
}

fn sum(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (refused, repairable) = (count(Level::Refuse), count(Level::Repairable));
    match (refused, repairable) {
        (0, 0) => "Nothing is wrong.".to_owned(),
        (0, 1) => "1 thing is to be repaired.".to_owned(),
        (0, many) => format!("{many} things are to be repaired."),
        (refused, 0) => format!("{refused} in no known state: mend that first."),
        (refused, repairable) => {
            format!("{refused} in no known state: mend that first; {repairable} to be repaired.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_its_fix_and_its_id_below_it() {
        let findings = [
            Finding::ok("disk", "5.0 GiB free for /s"),
            Finding::of(Row::SecretReadable, "secrets", "key can be read", "`chmod o-rwx key`"),
            Finding::of(Row::DataMissing, "db", "data is empty\nand should not be", "put it back"),
        ];
        let plain = words(&findings).replace(GOOD, "").replace(ERROR, "").replace(RESET, "");
        let expected = "  ok      disk     5.0 GiB free for /s
  REPAIR  secrets  key can be read
                   fix: `chmod o-rwx key`
                   id:  secret-readable (`setpoint doctor --fix secret-readable`)
  REFUSE  db       data is empty
                   and should not be
                   fix: put it back
                   id:  data-missing (docs/runbook.md#data-missing)";
        assert_eq!(plain, expected);
        assert_eq!(sum(&findings), "1 in no known state: mend that first; 1 to be repaired.");
        assert_eq!(sum(&findings[..1]), "Nothing is wrong.");
    }
}
