//! Changing which version of a project is in effect. It is done by the command line, in a process of its own, with the locks
//! that it takes in a terminal.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use setpoint_model::release::Offer;
use setpoint_runtime::lock;
use setpoint_runtime::store::TxId;
use utoipa::IntoParams;

use super::problem::{Asked, Problem};
use super::versions::{AskedShown, ProjectShown, ProjectWhole, whole};
use super::wire::{self, EventShown};
use super::{Api, CHILDREN, ask};

/// How long it may take to say what would be done: a release may have to be fetched for that.
const PLAN: Duration = Duration::from_secs(60);
/// How much later than that nobody waits for the answer any more.
const LATE: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
pub(super) struct Wish {
    /// The version. Of `upgrade` only for a project that comes from a release: the latest, if none is named. Of `rollback` a
    /// version or the number of a generation: the one before, if none is named.
    #[serde(default)]
    pub(super) version: String,
    /// Of `rollback`: agrees that what was written since is not in the data any more.
    #[serde(default)]
    pub(super) discard_writes: bool,
}

/// Says what `upgrade` or `rollback` would do, as `--dry-run --json` does: nothing is changed.
#[utoipa::path(get, path = "/v1/projects/{id}/{action}", params(("id" = String, Path), ("action" = String, Path), Wish),
    responses((status = 200, body = Object), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn plan(
    State(api): State<Arc<Api>>,
    Path((id, action)): Path<(String, String)>,
    Asked(wish): Asked<Wish>,
) -> Result<Json<serde_json::Value>, Problem> {
    Ok(Json(planned(&api, id, &action, &wish).await?))
}

/// What would be done.
pub(super) async fn planned(
    api: &Arc<Api>,
    id: String,
    action: &str,
    wish: &Wish,
) -> Result<serde_json::Value, Problem> {
    let (whole, root) = whole(api, id).await?;
    let offer = offered(&whole.project, action, Offer::is_planned)?;
    super::child::is_there(&root)?;
    let arguments = arguments_of(offer, &whole.project, wish, &["--json", "--dry-run"]);
    let commands = ("commands", CHILDREN);
    let question = move |api: &Api| api.answer(&root, &arguments, PLAN);
    let answer = api.ask_within(&api.children, commands, PLAN + LATE, question).await?;
    answer.map_err(|refusal| {
        let problem = Problem::new(StatusCode::CONFLICT, "plan", refusal.message);
        match refusal.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    })
}

/// Asks for something to be done about the version of a project: `upgrade`, `rollback`, `cancel` (a change that is under
/// way goes back to where it began, unless it is committed), `recover` (a change that was cut off, or needs a person). Answers
/// at once; the project says how it goes.
#[utoipa::path(post, path = "/v1/projects/{id}/{action}", params(("id" = String, Path), ("action" = String, Path), Wish),
    responses((status = 202, body = ProjectWhole, headers(("Location" = String, description = "the project"))),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn act(
    State(api): State<Arc<Api>>,
    Path((id, action)): Path<(String, String)>,
    Asked(wish): Asked<Wish>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<ProjectWhole>), Problem> {
    ask_for(&api, id.clone(), &action, &wish).await?;
    let location = [(header::LOCATION, format!("/v1/projects/{id}"))];
    Ok((StatusCode::ACCEPTED, location, Json(whole(&api, id).await?.0)))
}

/// Asks for something to be done.
pub(super) async fn ask_for(api: &Arc<Api>, id: String, action: &str, wish: &Wish) -> Result<(), Problem> {
    let (whole, root) = whole(api, id).await?;
    let project = whole.project;
    match offered(&project, action, |_| true)? {
        Offer::Cancel => {
            let pid = lock::holder_of_project(&api.roots, &root).map(|holder| holder.pid);
            match api.interrupt_once(&led(&project.id), pid) {
                true => Ok(()),
                false => {
                    let message = format!("what works on {} cannot be cancelled", project.project);
                    Err(Problem::new(StatusCode::CONFLICT, "not-cancelled", message)
                        .hint("it may have ended; look at the project again"))
                }
            }
        }
        offer => api.change(&project, root, offer, arguments_of(offer, &project, wish, &[])),
    }
}

/// What is asked for, if it is offered now.
fn offered(project: &ProjectShown, action: &str, is_one: fn(Offer) -> bool) -> Result<Offer, Problem> {
    let all = [Offer::Upgrade, Offer::RollBack, Offer::Cancel, Offer::Recover];
    let Some(offer) = all.into_iter().find(|offer| offer.as_str() == action && is_one(*offer)) else {
        let message = format!("nothing is called `{action}` here");
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-action", message)
            .hint("there is upgrade, rollback, cancel and recover; the first two can be looked at"));
    };
    if project.offers.iter().any(|offered| offered.does == action) {
        return Ok(offer);
    }
    let name = &project.project;
    let message = match (project.state, &project.holder) {
        ("under_way", Some(holder)) => format!("{name} is being worked on by {holder}"),
        ("under_way", None) => format!("{name} is being worked on"),
        ("cut_off" | "needs_operator", _) => format!("a change of {name} has to be brought to its end first"),
        ("unreadable", _) => format!("it cannot be told which generation of {name} is in effect"),
        _ if offer == Offer::RollBack => format!("there is no earlier generation of {name}"),
        _ => format!("nothing of {name} is under way, or was cut off"),
    };
    Err(Problem::new(StatusCode::CONFLICT, "not-now", message)
        .hint(format!("GET /v1/projects/{} says what can be done", project.id)))
}

/// What the command line is told. What somebody else wrote stands after everything that is taken for an option.
fn arguments_of(offer: Offer, project: &ProjectShown, wish: &Wish, options: &[&str]) -> Vec<String> {
    let mut arguments = [&[offer.as_str()], options].concat();
    if offer.is_planned() {
        arguments.push("--no-daemon");
        if offer == Offer::RollBack && wish.discard_writes {
            arguments.push("--discard-writes");
        }
        match wish.version.as_str() {
            "" if offer == Offer::Upgrade && project.release.is_some() => arguments.push("--to-latest"),
            "" => {}
            version => arguments.extend(["--", version]),
        }
    }
    arguments.into_iter().map(str::to_owned).collect()
}

/// What the command that works on a project's version is known as.
fn led(id: &str) -> TxId {
    TxId::new(format!("project {id}"))
}

impl Api {
    /// Has a command change what is in effect, and remembers what became of it.
    fn change(
        self: &Arc<Self>,
        project: &ProjectShown,
        root: PathBuf,
        offer: Offer,
        arguments: Vec<String>,
    ) -> Result<(), Problem> {
        super::child::is_there(&root)?;
        let busy = |_| Problem::busy("commands", CHILDREN);
        let place = Arc::clone(&self.children).try_acquire_owned().map_err(busy)?;
        let (id, name, what) = (project.id.clone(), project.project.clone(), offer.as_str());
        let asked = AskedShown {
            what,
            began_at: Timestamp::now().to_string(),
            ended_at: None,
            outcome: "running",
            detail: None,
        };
        let mut known = self.wishes.known();
        // Of two that ask at once, one is told so.
        if known.get(&id).is_some_and(|before| before.ended_at.is_none()) {
            let message = format!("{name} is being worked on");
            return Err(Problem::new(StatusCode::CONFLICT, "not-now", message).hint("it says how it goes"));
        }
        known.insert(id.clone(), asked.clone());
        drop(known);
        self.tell_version(&name, what, "running");
        let (api, key) = (Arc::clone(self), id.clone());
        let work = move || {
            let mut command = api.command(&root);
            command.args(arguments);
            let tell = |line: String| {
                let (project, what) = (Some(name.clone()), Some(line));
                api.hub.tell(&EventShown { project, what, ..EventShown::bare("output") });
            };
            let (outcome, detail) = api.run_command(command, &led(&id), &tell);
            let outcome = wire::outcome_word(outcome);
            let ended_at = Some(Timestamp::now().to_string());
            api.wishes.known().insert(id, AskedShown { ended_at, outcome, detail, ..asked });
            api.hub.recorded.notify_one();
            api.tell_version(&name, what, outcome);
            drop(place);
        };
        ask::thread("api-version", work).inspect_err(|_| drop(self.wishes.known().remove(&key)))
    }

    fn tell_version(&self, project: &str, what: &'static str, outcome: &'static str) {
        let (project, what) = (Some(project.to_owned()), Some(what.to_owned()));
        self.hub.tell(&EventShown { project, what, outcome: Some(outcome), ..EventShown::bare("version") });
    }
}
