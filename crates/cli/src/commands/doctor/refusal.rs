//! What is not done over what the doctor finds.

use std::path::Path;

use setpoint_model::doctor::{Finding, Purpose, Row};
use setpoint_runtime::engine::Engine;
use setpoint_runtime::project::Project;
use setpoint_runtime::store::Store;

use super::{of_machine, patient};
use crate::context::Context;
use crate::error::{Exit, Failure};

/// Refuses to go on where that would build on a machine, a state or a project in no known state, and says where the runbook
/// tells what to do. Nothing was changed yet. No registry is asked: what needs one fails by its own words.
pub(in crate::commands) fn refuse(
    context: &Context,
    purpose: Purpose,
    engine: &dyn Engine,
    root: &Path,
    project: &Project,
    store: Option<&Store>,
) -> Result<(), Failure> {
    let mut found = of_machine(Some(project), project.manifest.engine);
    found.retain(|finding| finding.refuses(purpose));
    found.extend(patient(context, engine, root, Some(project), store).refusals(purpose));
    if found.is_empty() { Ok(()) } else { Err(refused(purpose, &found)) }
}

fn refused(purpose: Purpose, found: &[Finding]) -> Failure {
    let command = purpose.as_str();
    let mut lines = vec![format!("`{command}` does not go on over this; nothing was changed")];
    for finding in found {
        let id = finding.row.map(Row::id).unwrap_or_default();
        lines.push(format!("  {id} ({}): {}", finding.subject, finding.what.replace('\n', "\n    ")));
        lines.extend(finding.fix.iter().map(|fix| format!("    fix: {fix}")));
    }
    let mut anchors: Vec<String> = found.iter().filter_map(|finding| finding.row?.runbook()).collect();
    anchors.dedup();
    let kind = found.iter().find_map(|finding| Some(finding.row?.id())).unwrap_or("refused");
    Failure::new(Exit::Refused, kind, lines.join("\n")).hint(format!("step by step: {}", anchors.join(", ")))
}
