//! The shapes of the API.

use jiff::Timestamp;
use serde::Serialize;
use setpoint_model::reconcile::{Button, Does, Health, Seen, Situation, State, StoppedBy, Time, Wish};
use setpoint_model::reconcile::{button, displayed, second};
use setpoint_runtime::engine::UnitId;
use setpoint_runtime::store::{Operation, OperationOutcome, Unit};
use setpoint_runtime::{reconciler, runs};
use utoipa::ToSchema;

use super::drift::Drift;

/// All units.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Units {
    pub(super) setpoint: u32,
    pub(super) units: Vec<UnitShown>,
}

/// A unit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnitShown {
    /// Its name among all units of all projects.
    pub(super) id: String,
    pub(super) project: String,
    /// Its project's name among all projects, as `GET /v1/projects/{id}` takes it.
    pub(super) project_id: String,
    /// The version of its project that is in effect, if it has one that was released or upgraded to.
    pub(super) version: Option<String>,
    /// The folder of its project.
    pub(super) project_root: String,
    pub(super) name: String,
    /// The engine that holds it.
    pub(super) engine: String,
    /// Whether the daemon keeps it as it is wanted.
    pub(super) kept: bool,
    /// `up` or `stopped`; nothing for one that is not kept.
    pub(super) wanted: Option<&'static str>,
    /// How often the user said what he wants of it.
    pub(super) generation: u64,
    pub(super) state: StateShown,
    /// How it differs from what is declared; nothing until that was first looked at.
    pub(super) drift: Option<Drift>,
    /// The digest of what was last applied to it.
    pub(super) record: Option<String>,
    pub(super) created_at: String,
    /// What the main button says and does.
    pub(super) button: ButtonShown,
    /// The button beside it, if there is one.
    pub(super) second: Option<ButtonShown>,
}

/// What a unit is shown as. Which of the details are there depends on the state.
#[derive(Debug, Default, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct StateShown {
    /// `absent`, `queued`, `pulling`, `building`, `creating`, `starting`, `running`, `stopping`, `stopped`, `back_off`,
    /// `waiting_on`, `updating`, `rolling_back`, `held`, `needs_operator`, `removed_outside`, `unknown`.
    pub(super) state: &'static str,
    /// `no_check`, `healthy`, `unhealthy`, `syncing`, of one that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<&'static str>,
    /// Since when it runs, or is stopped, or has been asked to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    /// When the wait ends, or until when failures of its check do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<String>,
    /// How many seconds it may take to stop before it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grace: Option<f64>,
    /// The number of the try that is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempt: Option<u32>,
    /// `user` or `exit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<&'static str>,
    /// The exit code that it ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<i32>,
    /// The unit that is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waits_for: Option<String>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) percent: Option<u8>,
    /// The versions, of an update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
    /// Why it is left to the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

/// A button.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ButtonShown {
    /// What it says.
    pub(super) label: String,
    /// `start`, `cancel`, `stop`, `open`, `up`, `restart`, `go_to`, `kill`, `skip_wait`, `roll_back`, `explain`,
    /// `converge`, `nothing`.
    pub(super) does: &'static str,
    /// The request that does it, if one does: `POST` to this.
    pub(super) post: Option<String>,
    /// The unit that it leads to.
    pub(super) unit: Option<String>,
}

/// All that is kept of operations, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Operations {
    pub(super) setpoint: u32,
    pub(super) operations: Vec<OperationShown>,
}

/// An operation.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct OperationShown {
    pub(super) id: String,
    /// The unit; nothing if it is gone.
    pub(super) unit: Option<String>,
    /// What is done and why: `stop web (asked by the API)`.
    pub(super) what: String,
    /// `queued`, `running`, `succeeded`, `failed`, `cancelled`, `interrupted`.
    pub(super) state: &'static str,
    pub(super) began_at: String,
    pub(super) ended_at: Option<String>,
    /// What failed, or what else is to be said of the end.
    pub(super) detail: Option<String>,
}

/// The answer to what asks for something to be done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    pub(super) setpoint: u32,
    /// The operation; `GET /v1/operations/{id}` says how it goes.
    pub(super) operation: String,
}

/// What happened.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct EventShown {
    /// `deed`, `state`, `drift`, `operation`, `version`, `output`, `left`, `gap`.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) project: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// `deed`: what was done, or is waited for, and why; `output`: a line of what works on it; `version`: what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) what: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<StateShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drift: Option<Drift>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operation: Option<String>,
    /// `operation`: as in an operation; `version`: how it goes with what was asked for about the version of the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<&'static str>,
}

impl EventShown {
    pub(super) fn of(kind: &'static str, unit: &Unit) -> Self {
        Self {
            unit: Some(id(unit)),
            project: Some(unit.unit.project_name.clone()),
            name: Some(unit.unit.name.to_string()),
            ..Self::bare(kind)
        }
    }

    pub(super) fn bare(kind: &'static str) -> Self {
        Self { kind, at: Timestamp::now().to_string(), ..Self::default() }
    }
}

/// A unit's name among all.
pub(super) fn id(unit: &Unit) -> String {
    UnitId::new(&unit.unit.project_root, &unit.unit.name).as_str().to_owned()
}

/// A unit as it is known.
pub(super) fn unit(
    unit: &Unit,
    situation: &Situation,
    kept: bool,
    record: Option<String>,
    drift: Option<Drift>,
) -> UnitShown {
    let now = reconciler::now();
    let state = displayed(situation, now);
    let differs = drift.as_ref().is_some_and(|drift| drift.out_of_date);
    let id = id(unit);
    let main = shown_button(button(&state, differs, now), &id);
    let beside = second(&state, differs, false).map(|button| shown_button(button, &id));
    UnitShown {
        project: unit.unit.project_name.clone(),
        project_id: runs::project_id(&unit.unit.project_root),
        version: None,
        project_root: unit.unit.project_root.display().to_string(),
        name: unit.unit.name.to_string(),
        engine: unit.unit.engine.clone(),
        kept,
        wanted: kept.then_some(match situation.intent.wish {
            Wish::Up => "up",
            Wish::Stopped => "stopped",
            Wish::Gone => "gone",
        }),
        generation: situation.intent.generation,
        state: state_shown(&state, situation),
        drift,
        record,
        created_at: unit.created_at.to_string(),
        button: main,
        second: beside,
        id,
    }
}

/// A state with its details.
pub(super) fn state_shown(state: &State, situation: &Situation) -> StateShown {
    let since = match &situation.observed.seen {
        Seen::Running { since, .. } => Some(*since),
        Seen::Ended { at, .. } => Some(*at),
        Seen::Absent | Seen::Unknown => None,
    };
    let plain = |state| StateShown { state, ..StateShown::default() };
    match state {
        State::Absent => plain("absent"),
        State::Queued => plain("queued"),
        State::Pulling { percent } => StateShown { percent: *percent, ..plain("pulling") },
        State::Building => plain("building"),
        State::Creating => plain("creating"),
        State::Starting { until } => StateShown { until: time(*until), ..plain("starting") },
        State::Running { health } => {
            let percent = match health {
                Health::Syncing { percent } => Some(*percent),
                _ => None,
            };
            let since = since.and_then(time);
            StateShown { health: Some(health_word(*health)), since, percent, ..plain("running") }
        }
        State::Stopping { since, grace } => StateShown {
            since: time(*since),
            until: time(since.saturating_add(*grace)),
            grace: Some(*grace as f64 / 1000.0),
            ..plain("stopping")
        },
        State::Stopped { by } => {
            let (by, code) = match by {
                StoppedBy::User => ("user", None),
                StoppedBy::Exit(code) => ("exit", *code),
            };
            StateShown { by: Some(by), code, since: since.and_then(time), ..plain("stopped") }
        }
        State::BackOff { attempt, until } => {
            StateShown { attempt: Some(*attempt), until: time(*until), ..plain("back_off") }
        }
        State::WaitingOn { unit } => StateShown { waits_for: Some(unit.to_string()), ..plain("waiting_on") },
        State::Updating { from, to } => {
            StateShown { from: Some(from.clone()), to: Some(to.clone()), ..plain("updating") }
        }
        State::RollingBack => plain("rolling_back"),
        State::Held { reason } => StateShown { why: Some(reason.to_string()), ..plain("held") },
        State::NeedsOperator { why } => StateShown { why: Some(why.clone()), ..plain("needs_operator") },
        State::RemovedOutside => plain("removed_outside"),
        State::Unknown => plain("unknown"),
    }
}

fn health_word(health: Health) -> &'static str {
    match health {
        Health::NoCheck => "no_check",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
        Health::Syncing { .. } => "syncing",
    }
}

fn shown_button(button: Button, id: &str) -> ButtonShown {
    let (does, action) = match &button.does {
        Does::Start => ("start", Some("start")),
        Does::Cancel => ("cancel", Some("cancel")),
        Does::Stop => ("stop", Some("stop")),
        Does::Open => ("open", None),
        Does::Up => ("up", Some("up")),
        Does::Restart => ("restart", Some("restart")),
        Does::GoTo { .. } => ("go_to", None),
        Does::Kill => ("kill", Some("kill")),
        Does::SkipWait => ("skip_wait", Some("retry")),
        Does::RollBack => ("roll_back", None),
        Does::Explain => ("explain", None),
        Does::Converge => ("converge", Some("up")),
        Does::Nothing => ("nothing", None),
    };
    let unit = match button.does {
        Does::GoTo { unit } => Some(unit.to_string()),
        _ => None,
    };
    let post = action.map(|action| format!("/v1/units/{id}/{action}"));
    ButtonShown { label: button.label, does, post, unit }
}

/// An operation as the journal has it. `is_led` says whether somebody works on it, of one that has not ended.
pub(super) fn operation(operation: &Operation, unit: Option<&Unit>, open: Open) -> OperationShown {
    let state = match &operation.ended {
        Some((outcome, _)) => outcome_word(*outcome),
        None => match open {
            Open::Waits => "queued",
            Open::IsLed => "running",
            Open::Left => "interrupted",
        },
    };
    OperationShown {
        id: operation.txid.to_string(),
        unit: unit.map(id),
        what: operation.what.clone(),
        state,
        began_at: operation.began_at.to_string(),
        ended_at: operation.ended.map(|(_, at)| at.to_string()),
        detail: operation.detail.clone(),
    }
}

/// What is known of an operation that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// Nobody works on it yet.
    Waits,
    /// Somebody works on it.
    IsLed,
    /// Who worked on it died.
    Left,
}

pub(super) fn outcome_word(outcome: OperationOutcome) -> &'static str {
    match outcome {
        OperationOutcome::Succeeded => "succeeded",
        OperationOutcome::Failed => "failed",
        OperationOutcome::Cancelled => "cancelled",
        OperationOutcome::Recovered => "interrupted",
    }
}

fn time(at: Time) -> Option<String> {
    reconciler::timestamp(at).map(|at| at.to_string())
}
