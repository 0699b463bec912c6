//! The versions of projects: which is in effect, how it came to be, and what is asked to be done about that. It is done
//! by the command line, in a process of its own, with the locks that it takes in a terminal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use setpoint_model::release::{Active, Offer, Standing, offers};
use setpoint_runtime::events::{Event, Watcher};
use setpoint_runtime::release::{Registry, Releases};
use setpoint_runtime::store::{Store, StoreError, TxId, UpgradeOutcome, UpgradeRow};
use setpoint_runtime::{lock, runs, upgrade};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Asked, Problem};
use super::wire::{self, EventShown};
use super::{Api, CHILDREN, ask};
use crate::commands::history::Change;
use crate::json;

/// How long it may take to say what would be done: a release may have to be fetched for that.
const PLAN: Duration = Duration::from_secs(60);
/// How much later than that nobody waits for the answer any more.
const LATE: Duration = Duration::from_secs(5);

/// The projects that have versions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Projects {
    setpoint: u32,
    projects: Vec<ProjectShown>,
}

/// A project, with what is in effect of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ProjectShown {
    /// Its name among all projects.
    pub(super) id: String,
    pub(super) project: String,
    /// Its folder.
    pub(super) root: String,
    /// The version in effect, if it has one that was released or upgraded to.
    pub(super) version: Option<String>,
    /// The generation in effect; 0 of one that was never upgraded.
    pub(super) generation: u64,
    /// The digest of the release that it is made of; nothing where it is made of its folder.
    pub(super) release: Option<String>,
    /// Since when that is in effect, and by whom; nothing of one that was never upgraded.
    pub(super) since: Option<String>,
    pub(super) by: Option<String>,
    /// `settled`, `under_way`, `cut_off`, `needs_operator`, `unreadable`.
    pub(super) state: &'static str,
    /// Who works on it: a command, with its process.
    pub(super) holder: Option<String>,
    /// Why it cannot be told which generation is in effect.
    pub(super) unreadable: Option<String>,
    /// What was last asked for over this API, since the daemon began, unless something newer has come.
    pub(super) asked: Option<AskedShown>,
    /// The change that is under way, was cut off, or needs a person, with its steps.
    pub(super) change: Option<Change>,
    /// What can be done now.
    pub(super) offers: Vec<OfferShown>,
}

/// Something that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct AskedShown {
    /// `upgrade`, `rollback`, `recover`.
    pub(super) what: &'static str,
    pub(super) began_at: String,
    pub(super) ended_at: Option<String>,
    /// `running`, `succeeded`, `failed`, `cancelled`.
    pub(super) outcome: &'static str,
    /// Why it failed.
    pub(super) detail: Option<String>,
}

/// Something that can be done.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct OfferShown {
    /// What its button says.
    pub(super) label: &'static str,
    /// `upgrade`, `rollback`, `cancel`, `recover`.
    pub(super) does: &'static str,
    /// What says what it would do: `GET` this. Nothing where there is no choice.
    pub(super) plan: Option<String>,
    /// What does it: `POST` to this.
    pub(super) post: String,
}

/// A project, with all changes of what is in effect.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProjectWhole {
    pub(super) setpoint: u32,
    #[serde(flatten)]
    pub(super) project: ProjectShown,
    /// The newest first, without their steps.
    pub(super) changes: Vec<Change>,
}

/// The versions that a project could be upgraded to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReleasesShown {
    setpoint: u32,
    /// In their order; none of a project that is made of its folder.
    versions: Vec<String>,
}

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

/// What was last asked for, by the ids of projects.
#[derive(Default)]
pub(super) struct Wishes(Mutex<BTreeMap<String, AskedShown>>);

impl Wishes {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, AskedShown>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists the projects whose services are kept or were upgraded, with the versions in effect.
#[utoipa::path(get, path = "/v1/projects", responses((status = 200, body = Projects)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Projects>, Problem> {
    Ok(Json(Projects { setpoint: json::VERSION, projects: all(&api).await? }))
}

/// The projects that have versions, by their names.
pub(super) async fn all(api: &Arc<Api>) -> Result<Vec<ProjectShown>, Problem> {
    let shown = api.with_store(|api, store| {
        let roots = roots(store)?.into_iter();
        let shown = roots.map(|(root, (name, is_kept))| show(api, store, root, name, is_kept));
        shown.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
    });
    let mut shown = shown.await?;
    shown.sort_by(|a, b| (&a.project, &a.root).cmp(&(&b.project, &b.root)));
    Ok(shown)
}

/// The folders of all projects, each with its name and whether anything of it is kept.
fn roots(store: &Store) -> Result<BTreeMap<PathBuf, (String, bool)>, StoreError> {
    let mut roots = BTreeMap::new();
    for unit in store.all_units()? {
        let is_kept = store.kept(unit.id)?.is_some();
        let known = roots.entry(unit.unit.project_root).or_insert((unit.unit.project_name, false));
        known.1 |= is_kept;
    }
    Ok(roots)
}

/// A project; nothing of one that has no versions.
fn show(
    api: &Api,
    store: &Store,
    root: PathBuf,
    project: String,
    is_kept: bool,
) -> Result<Option<ProjectShown>, StoreError> {
    let rows = store.upgrades(&root)?;
    if !is_kept && rows.is_empty() {
        return Ok(None);
    }
    let id = runs::project_id(&root);
    let open = rows.iter().find(|row| row.is_open());
    let change = open.map(|row| Ok(Change::new(row, store.upgrade_steps(&row.txid)?))).transpose()?;
    let asked = api.wishes.known().get(&id).cloned().filter(|asked| !is_past(asked, rows.first()));
    let holder = lock::project_holder(&api.roots, &root).map(|holder| holder.to_string());
    let is_led = holder.is_some() || asked.as_ref().is_some_and(|asked| asked.ended_at.is_none());
    let is_committed = |row: &&UpgradeRow| matches!(row.ended, Some((UpgradeOutcome::Committed, _)));
    let standing = match open {
        _ if is_led => Standing::UnderWay,
        Some(row) if row.ended.is_some() => Standing::NeedsOperator,
        Some(_) => Standing::CutOff,
        None => Standing::Settled { has_earlier: rows.iter().any(|row| is_committed(&row)) },
    };
    let (active, unreadable) = match upgrade::active(&api.roots, &root) {
        Ok(active) => (active, None),
        Err(error) => (Active::default(), Some(error.to_string())),
    };
    let state = match standing {
        _ if unreadable.is_some() => "unreadable",
        Standing::Settled { .. } => "settled",
        Standing::UnderWay => "under_way",
        Standing::CutOff => "cut_off",
        Standing::NeedsOperator => "needs_operator",
    };
    let offered = if unreadable.is_some() { &[] } else { offers(standing) };
    let offers = offered.iter().map(|offer| offer_shown(*offer, &id)).collect();
    let (version, generation, release) = (active.version, active.generation, active.release);
    let led_here = rows.iter().filter(is_committed).find(|row| row.upgrade.to.generation == generation);
    let since = led_here.and_then(|row| Some(row.ended?.1.to_string()));
    let by = led_here.map(|row| row.who.clone());
    let root = root.display().to_string();
    Ok(Some(ProjectShown {
        id,
        project,
        root,
        version,
        generation,
        release,
        since,
        by,
        state,
        holder,
        unreadable,
        asked,
        change,
        offers,
    }))
}

/// Whether something was begun after what was asked for had ended.
fn is_past(asked: &AskedShown, latest: Option<&UpgradeRow>) -> bool {
    let ended: Option<Timestamp> = asked.ended_at.as_ref().and_then(|at| at.parse().ok());
    ended.is_some_and(|ended| latest.is_some_and(|latest| latest.began_at > ended))
}

fn offer_shown(offer: Offer, id: &str) -> OfferShown {
    let post = format!("/v1/projects/{id}/{}", offer.as_str());
    OfferShown {
        label: offer.label(),
        does: offer.as_str(),
        plan: offer.is_planned().then(|| post.clone()),
        post,
    }
}

/// Tells all of one project: what is in effect, and how that came to be.
#[utoipa::path(get, path = "/v1/projects/{id}", params(("id" = String, Path)),
    responses((status = 200, body = ProjectWhole), (status = 404, body = Problem)))]
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<ProjectWhole>, Problem> {
    Ok(Json(whole(&api, id).await?.0))
}

/// A project, and its folder.
pub(super) async fn whole(api: &Arc<Api>, id: String) -> Result<(ProjectWhole, PathBuf), Problem> {
    let wanted = id.clone();
    let found = api.with_store(move |api, store| {
        let known = roots(store)?.into_iter().find(|(root, _)| runs::project_id(root) == wanted);
        let Some((root, (name, is_kept))) = known else { return Ok(None) };
        let changes = store.upgrades(&root)?.iter().map(|row| Change::new(row, Vec::new())).collect();
        let shown = show(api, store, root.clone(), name, is_kept)?;
        Ok(shown.map(|project| (ProjectWhole { setpoint: json::VERSION, project, changes }, root)))
    });
    found.await?.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no-project", format!("there is no project `{id}` with versions"))
            .hint("GET /v1/projects lists them")
    })
}

/// Tells one change, with its steps, by its number.
#[utoipa::path(get, path = "/v1/projects/{id}/changes/{number}",
    params(("id" = String, Path), ("number" = i64, Path)),
    responses((status = 200, body = Change), (status = 404, body = Problem)))]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Path((id, number)): Path<(String, i64)>,
) -> Result<Json<Change>, Problem> {
    let (_, root) = whole(&api, id).await?;
    Ok(Json(numbered(&api, root, number).await?))
}

/// A change with its steps.
pub(super) async fn numbered(api: &Arc<Api>, root: PathBuf, number: i64) -> Result<Change, Problem> {
    let found = api.with_store(move |_, store| {
        let row = store.upgrades(&root)?.into_iter().find(|row| row.seq == number);
        row.map(|row| Ok(Change::new(&row, store.upgrade_steps(&row.txid)?))).transpose()
    });
    found.await?.ok_or_else(|| {
        let message = format!("there is no change of the number {number} in the history");
        Problem::new(StatusCode::NOT_FOUND, "no-change", message).hint("GET /v1/projects/{id} lists them")
    })
}

/// Lists the versions that a project could be upgraded to: those of the registry that it comes from, or, where that cannot
/// be reached, those on this machine.
#[utoipa::path(get, path = "/v1/projects/{id}/releases", params(("id" = String, Path)),
    responses((status = 200, body = ReleasesShown), (status = 404, body = Problem), (status = 502, body = Problem)))]
pub(super) async fn releases(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<ReleasesShown>, Problem> {
    let (whole, _) = whole(&api, id).await?;
    let versions = versions(&api, whole.project.release).await?;
    Ok(Json(ReleasesShown { setpoint: json::VERSION, versions }))
}

/// The versions beside a release.
pub(super) async fn versions(api: &Arc<Api>, release: Option<String>) -> Result<Vec<String>, Problem> {
    /// Nobody hears how many bytes a list has.
    struct Deaf;
    impl Watcher for Deaf {
        fn event(&self, _: &Event) {}
    }
    let Some(release) = release else { return Ok(Vec::new()) };
    let asked = api.ask(move |api| {
        let kept = Releases::of(&api.roots).open(&release).map_err(|error| error.to_string())?;
        let (roots, variables, cancel) = (&api.roots, &api.variables, &api.cancel);
        let registry = Registry { roots, variables, watcher: &Deaf, cancel };
        let versions = registry.versions(&kept.bundle.repository).map_err(|error| error.to_string())?;
        Ok(versions.iter().map(ToString::to_string).collect())
    });
    asked.await
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
    let mut arguments = vec!["--json".to_owned()];
    arguments.extend(arguments_of(offer, &whole.project, wish));
    arguments.insert(2, "--dry-run".to_owned());
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
            let pid = lock::project_holder(&api.roots, &root).map(|holder| holder.pid);
            match api.interrupt_once(&led(&project.id), pid) {
                true => Ok(()),
                false => {
                    let message = format!("what works on {} cannot be cancelled", project.project);
                    Err(Problem::new(StatusCode::CONFLICT, "not-cancelled", message)
                        .hint("it may have ended; look at the project again"))
                }
            }
        }
        offer => api.change(&project, root, offer, arguments_of(offer, &project, wish)),
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
fn arguments_of(offer: Offer, project: &ProjectShown, wish: &Wish) -> Vec<String> {
    let mut arguments = vec![offer.as_str()];
    let is_back = offer == Offer::RollBack;
    if offer.is_planned() {
        arguments.push("--no-daemon");
    }
    if is_back && wish.discard_writes {
        arguments.push("--discard-writes");
    }
    match wish.version.as_str() {
        "" if offer == Offer::Upgrade && project.release.is_some() => arguments.push("--to-latest"),
        "" => {}
        version => arguments.extend(["--", version]),
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
        // Of two that ask at once, one is told so.
        let before = self.wishes.known().insert(id.clone(), asked.clone());
        if let Some(before) = before.filter(|before| before.ended_at.is_none()) {
            self.wishes.known().insert(id, before);
            let message = format!("{name} is being worked on");
            return Err(Problem::new(StatusCode::CONFLICT, "not-now", message).hint("it says how it goes"));
        }
        self.tell_version(&name, what, "running");
        let api = Arc::clone(self);
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
        ask::thread("api-version", work)
    }

    fn tell_version(&self, project: &str, what: &'static str, outcome: &'static str) {
        let (project, what) = (Some(project.to_owned()), Some(what.to_owned()));
        self.hub.tell(&EventShown { project, what, outcome: Some(outcome), ..EventShown::bare("version") });
    }
}
