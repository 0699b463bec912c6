//! The versions of projects: which is in effect, how it came to be, and what can be done about that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use setpoint_model::release::{Active, Offer, Standing, offers};
use setpoint_runtime::events::Deaf;
use setpoint_runtime::release::{Registry, Releases};
use setpoint_runtime::store::{Store, StoreError, UpgradeOutcome, UpgradeRow};
use setpoint_runtime::{lock, runs, upgrade};
use utoipa::ToSchema;

use super::Api;
use super::problem::Problem;
use crate::commands::history::Change;
use crate::json;

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

/// What was last asked for, by the ids of projects.
#[derive(Default)]
pub(super) struct Wishes(Mutex<BTreeMap<String, AskedShown>>);

impl Wishes {
    pub(super) fn known(&self) -> MutexGuard<'_, BTreeMap<String, AskedShown>> {
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
        let shown = roots.map(|(root, (name, is_kept))| {
            let rows = store.upgrades(&root)?;
            show(api, store, root, name, is_kept, &rows)
        });
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

/// A project, by its changes, the newest first; nothing of one that has no versions.
fn show(
    api: &Api,
    store: &Store,
    root: PathBuf,
    project: String,
    is_kept: bool,
    rows: &[UpgradeRow],
) -> Result<Option<ProjectShown>, StoreError> {
    if !is_kept && rows.is_empty() {
        return Ok(None);
    }
    let id = runs::project_id(&root);
    let open = rows.iter().find(|row| row.is_open());
    let change = open.map(|row| Ok(Change::new(row, store.upgrade_steps(&row.txid)?))).transpose()?;
    let asked = api.wishes.known().get(&id).cloned().filter(|asked| !is_past(asked, rows.first()));
    let holder = lock::holder_of_project(&api.roots, &root).map(|holder| holder.to_string());
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
        let rows = store.upgrades(&root)?;
        let changes = rows.iter().map(|row| Change::new(row, Vec::new())).collect();
        let shown = show(api, store, root.clone(), name, is_kept, &rows)?;
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
    let Some(release) = release else { return Ok(Vec::new()) };
    let asked = api.ask(move |api| {
        let kept = Releases::of(&api.roots).open(&release).map_err(|error| error.to_string())?;
        let (roots, variables, cancel) = (&api.roots, &api.variables, &api.cancel);
        // Nobody hears how many bytes a list has.
        let registry = Registry { roots, variables, watcher: &Deaf, cancel };
        let versions = registry.versions(&kept.bundle.repository).map_err(|error| error.to_string())?;
        Ok(versions.iter().map(ToString::to_string).collect())
    });
    asked.await
}
