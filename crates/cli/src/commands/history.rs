use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use setpoint_model::release::Active;
use setpoint_runtime::project::Project;
use setpoint_runtime::store::{StoreError, UpgradeRow, UpgradeStep};
use utoipa::ToSchema;

use super::SUCCESS;
use super::upgrade::kind;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;
use crate::output::ago;

/// Show which versions were in effect, and how each took the place of the one before
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The number of a change: show what was done, step by step
    number: Option<i64>,
}

/// `history`.
#[derive(Debug, Serialize)]
struct Changes {
    setpoint: u32,
    changes: Vec<Change>,
}

/// A change of versions.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Change {
    pub(crate) number: i64,
    /// `upgrade`, `rollback`, `restore`.
    pub(crate) what: &'static str,
    #[schema(value_type = Object)]
    pub(crate) from: Active,
    #[schema(value_type = Object)]
    pub(crate) to: Active,
    pub(crate) who: String,
    pub(crate) began_at: String,
    pub(crate) ended_at: Option<String>,
    /// `committed`, `rolled-back`, `dropped`, `needs-operator`; nothing for one that goes on or was cut off.
    pub(crate) outcome: Option<&'static str>,
    pub(crate) detail: Option<String>,
    /// What was done; of a single one only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<Step>,
}

/// A line of its journal.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Step {
    pub(crate) step: String,
    /// `intent`, `done`, `failed`.
    pub(crate) kind: &'static str,
    pub(crate) at: String,
    pub(crate) note: Option<String>,
}

impl History {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let root = Project::find(&context.folder)?;
        let store = context.store()?;
        let mut rows = store.upgrades(&root)?;
        if let Some(number) = self.number {
            rows.retain(|row| row.seq == number);
            if rows.is_empty() {
                let message = format!("there is no change of the number {number} in the history");
                return Err(Failure::new(Exit::NotFound, "no-change", message)
                    .hint("`setpoint history` shows their numbers"));
            }
        }
        if context.output.json {
            let changes = rows.iter().map(|row| {
                let steps = self.number.map(|_| store.upgrade_steps(&row.txid)).transpose()?;
                Ok(Change::new(row, steps.unwrap_or_default()))
            });
            let changes = changes.collect::<Result<_, StoreError>>()?;
            context.output.value(&Changes { setpoint: json::VERSION, changes });
            return Ok(SUCCESS);
        }
        if rows.is_empty() {
            context.output.note("Nothing was upgraded yet.");
        }
        for row in &rows {
            context.output.line(words(row));
            if self.number.is_some() {
                let steps = store.upgrade_steps(&row.txid)?;
                steps.iter().for_each(|step| context.output.line(step_words(step)));
            }
        }
        Ok(SUCCESS)
    }
}

impl Change {
    /// As the journal has it.
    pub(crate) fn new(row: &UpgradeRow, steps: Vec<UpgradeStep>) -> Self {
        let step = |of: UpgradeStep| Step {
            step: of.step,
            kind: of.kind.as_str(),
            at: of.at.to_string(),
            note: of.note,
        };
        Self {
            number: row.seq,
            what: kind(&row.upgrade),
            from: row.upgrade.from.clone(),
            to: row.upgrade.to.clone(),
            who: row.who.clone(),
            began_at: row.began_at.to_string(),
            ended_at: row.ended.map(|(_, at)| at.to_string()),
            outcome: row.ended.map(|(outcome, _)| outcome.as_str()),
            detail: row.detail.clone(),
            steps: steps.into_iter().map(step).collect(),
        }
    }
}

/// `  3  upgrade   0.3.0 -> 0.4.0  committed    2h ago by root`
fn words(row: &UpgradeRow) -> String {
    let name = |of: &Active| of.version.clone().unwrap_or_else(|| format!("g{}", of.generation));
    let outcome = row.ended.map_or("not ended", |(outcome, _)| outcome.as_str());
    let way = format!("{} -> {}", name(&row.upgrade.from), name(&row.upgrade.to));
    let when = ago(row.began_at, Timestamp::now());
    let mut line =
        format!("{:>4}  {:<8}  {way:<20}  {outcome:<14}  {when} by {}", row.seq, kind(&row.upgrade), row.who);
    if let Some(detail) = &row.detail {
        line.push_str(&format!("\n      {detail}"));
    }
    line
}

fn step_words(step: &UpgradeStep) -> String {
    let note = step.note.iter().map(|note| format!(": {note}")).collect::<String>();
    format!("      {}  {:<7} {}{note}", step.at, step.kind.as_str(), step.step)
}
