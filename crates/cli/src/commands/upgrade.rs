use std::time::Duration;

use clap::Args;
use serde::Serialize;
use setpoint_model::doctor::Purpose;
use setpoint_model::manifest::Env;
use setpoint_model::names::UnitName;
use setpoint_model::release::ledger::Planned;
use setpoint_model::release::{Active, Kind, Lane, Part, Upgrade, Version};
use setpoint_runtime::adopt::KeptImages;
use setpoint_runtime::engine::{Engine, Seen, UnitId};
use setpoint_runtime::observe::{Look, Unit};
use setpoint_runtime::project::Project;
use setpoint_runtime::reconciler::{self, alert};
use setpoint_runtime::release::{self, Kept, Releases, Wanted};
use setpoint_runtime::store::Store;
use setpoint_runtime::upgrade::{
    self, Changed, Declared, Migrations, Patience, Place, Refused, Rehearsal, Target, UpgradeError,
};

use super::expected::{Expected, fitting};
use super::release::registry;
use super::{SUCCESS, daemon, doctor, migrate, plan, up};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;
use crate::output::span;

/// Take a version into use: all of it, with its data, or nothing
///
/// A project that is made of its own folder takes what is declared there now; one that comes from a release takes the
/// version that is named, or its own again with what was changed in setpoint.local.toml. Data that a new image will work
/// on is copied first. Until the end, whatever fails, or is cut off, ends at the version
/// before, with its data as it was.
#[derive(Debug, Args)]
#[command(name = "upgrade")]
pub(crate) struct UpgradeCommand {
    /// The version, of a project that comes from a release
    version: Option<String>,
    /// The latest version that is not one to try
    #[arg(long, conflicts_with = "version")]
    to_latest: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Try it first on copies of the data, also where services stand still while these are made
    #[arg(long)]
    rehearse: bool,
    /// Do not try it first where nobody would notice
    #[arg(long, conflicts_with = "rehearse")]
    no_rehearse: bool,
    /// Have no daemon started that keeps services running
    #[arg(long)]
    no_daemon: bool,
}

/// `upgrade` and `rollback`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    setpoint: u32,
    /// Whether something was changed.
    changed: bool,
    #[serde(flatten)]
    upgrade: Option<&'a Upgrade>,
    /// How long nobody could reach what was stopped.
    outage_seconds: Option<f64>,
    seconds: Option<f64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    expected: Option<&'a Expected>,
    /// What would be done, in words, of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<&'a str>,
}

/// Whether a version is tried before anything is touched.
enum Trial {
    /// These start, and these stand still while their data is copied.
    First { starts: Vec<String>, stops: Vec<String> },
    /// These would have to stand still, which has to be asked for.
    Asks { stops: Vec<String> },
    /// It is not, for this reason, if it is not only unasked for.
    Not { why: Option<String> },
}

/// What an upgrade came to.
enum End {
    /// What is declared is in effect.
    Nothing,
    /// It would be this: in words, with what it would cost, and the command that does it.
    Planned { planned: Upgrade, words: String, expected: Expected, by: String },
    /// It was carried out.
    Done(Upgrade, Changed),
}

impl UpgradeCommand {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        context.stop_on_signals()?;
        let (project, end) = self.bring_about(context)?;
        match end {
            End::Nothing => {
                context.output.note(format!("{}: nothing to do", title(&project)));
                tell(context, false, None, None, None);
            }
            End::Planned { planned, words, expected, by } => {
                would(context, &planned, &words, &expected, &by);
            }
            End::Done(planned, changed) => done(context, &project, &planned, changed),
        }
        Ok(SUCCESS)
    }

    /// Makes a project that has migrations, and nothing else yet.
    pub(super) fn first(context: &Context, no_daemon: bool) -> Result<(), Failure> {
        let command = Self {
            version: None,
            to_latest: false,
            dry_run: false,
            rehearse: false,
            no_rehearse: true,
            no_daemon,
        };
        let (project, end) = command.bring_about(context)?;
        if let End::Done(planned, changed) = end {
            context.output.note(ended(&project, &planned, changed));
        }
        Ok(())
    }

    /// Whether the version is tried first: where nobody notices, and where it is asked for.
    fn trial(&self, rehearsal: &Rehearsal<'_>) -> Result<Trial, Failure> {
        let planned = rehearsal.planned;
        let mut replaced = planned.parts.iter().filter(|part| part.is_there && part.stays);
        // What stands in is tried before anything is touched.
        let is_tried = planned.migrations.is_empty() && replaced.all(|part| part.stands_in);
        let is_first = rehearsal.units.iter().all(|(_, look)| look.seen == Seen::Absent);
        if self.no_rehearse || is_first || (is_tried && !self.rehearse) {
            return Ok(Trial::Not { why: None });
        }
        let names = |units: Vec<UnitName>| units.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(match rehearsal.plan()? {
            Ok(plan) if plan.starts.is_empty() => Trial::Not { why: None },
            Ok(plan) if plan.stops.is_empty() || self.rehearse => {
                Trial::First { starts: names(plan.starts), stops: names(plan.stops) }
            }
            Ok(plan) => Trial::Asks { stops: names(plan.stops) },
            Err(why) if self.rehearse => {
                let what = format!("it cannot be tried first: {why}\nNothing was done.");
                return Err(Failure::new(Exit::Usage, "no-rehearsal", what).hint(
                    "without `--rehearse` it is not tried, and goes back by itself if it is not well",
                ));
            }
            Err(why) => Trial::Not { why: Some(why) },
        })
    }

    fn bring_about(&self, context: &Context) -> Result<(Project, End), Failure> {
        let wanted = self.wanted()?;
        let root = Project::find(&context.folder)?;
        let list = LiveList::new(context.output);
        let mut store = context.store()?;
        let _lock = match self.dry_run {
            true => None,
            false => Some(context.project_lock(&root, "upgrade", &list)?),
        };
        if !self.dry_run {
            context.recover(&mut store, &root, &list)?;
        }
        let mut project = context.project()?;
        let before = match wanted {
            Some(wanted) => {
                let next = released(context, &project, &wanted, &list)?;
                Some(std::mem::replace(&mut project, next))
            }
            None => None,
        };
        let engine = context.engine(project.manifest.engine);
        let hint = "environments are brought up to date by `setpoint up`";
        let units = looked_at(context, engine.as_ref(), &project, &store, hint)?;
        let old = before.as_ref().map(|before| (before, services(before)));
        let old = old.iter().flat_map(|(before, envs)| envs.iter().map(move |env| (*before, *env)));
        let gone = old.filter(|(_, env)| !project.manifest.envs.contains_key(&env.name));
        let look = |(before, env)| context.look(engine.as_ref(), before, env, &store);
        let gone = gone.map(look).collect::<Result<Vec<_>, _>>()?;
        let from = &before.as_ref().unwrap_or(&project).active;
        let release = &project.manifest.release;
        let target = Target {
            version: project.manifest.project.version.as_deref(),
            release: project.active.release.as_deref(),
            lane: release.lane,
            stand_in: release.stand_in,
            keep: release.keep,
            migrations: &Migrations::of(&context.roots, &project, from, engine.as_ref(), &store)?,
        };
        let planned = upgrade::upgrade(&units, &gone, from, target)?;
        let Some(mut planned) = planned else {
            return Ok((project, End::Nothing));
        };
        refuse_adopted(context, engine.as_ref(), &project, &planned)?;
        let (root, state) = (&project.root, Some(&store));
        doctor::refuse(context, Purpose::Upgrade, engine.as_ref(), root, &project, state)?;
        let patience = Patience::of(release);
        let cost = fitting(engine.as_ref(), &mut planned)?;
        let rehearsal = Rehearsal { project: &project, units: &units, planned: &planned };
        let trial = self.trial(&rehearsal)?;
        if self.dry_run {
            let expected = Expected::of(&store, &project, &planned, cost)?;
            let words = words(&title(&project), &planned, &units, &trial, &expected);
            let mut by = "setpoint upgrade".to_owned();
            if let (Some(_), Some(version)) = (&before, &planned.to.version) {
                by.push_str(&format!(" {version}"));
            }
            return Ok((project.clone(), End::Planned { planned, words, expected, by }));
        }
        let (roots, cancel) = (&context.roots, &context.cancel);
        let place = Place { roots, engine: engine.as_ref(), watcher: &list, cancel };
        let declared = Declared {
            project: &project,
            leaves: None,
            variables: &context.variables,
            home: context.home.clone(),
            backup: None,
        };
        if let Trial::First { .. } = trial {
            let came = rehearsal.run(&place, &store, &declared, patience)?;
            if let Some((step, why)) = came.failed {
                rehearsal.note_failed(&mut store, &who(), (&step, &why))?;
                return Err(UpgradeError::Rehearsal { step, why, pause: came.pause }.into());
            }
        }
        // From here on its data is where the new one has it.
        let project = Project { active: planned.to.clone(), ..project.clone() };
        let declared = Declared { project: &project, ..declared };
        let changed = carry_out(context, &place, &mut store, &project, &planned, Some(&declared), patience)?;
        if !self.no_daemon {
            daemon::ensure(context)?;
        }
        Ok((project, End::Done(planned, changed)))
    }
}

/// Says what is in effect now.
pub(super) fn done(context: &Context, project: &Project, planned: &Upgrade, changed: Changed) {
    context.output.note(ended(project, planned, changed));
    tell(context, true, Some(planned), Some(changed), None);
}

fn ended(project: &Project, planned: &Upgrade, changed: Changed) -> String {
    let at = match planned.kind {
        Kind::Upgrade => "at",
        Kind::Rollback => "back at",
        Kind::Restore => "restored, at",
    };
    let (to, took, outage) = (shown(&planned.to), span(changed.took), outage(changed.outage));
    format!("{} is {at} {to} after {took}{outage}", title(project))
}

/// Says what would be done, and by what.
pub(super) fn would(context: &Context, planned: &Upgrade, words: &str, expected: &Expected, by: &str) {
    context.output.note(format!("{words}\nNext: {by}"));
    tell(context, false, Some(planned), None, Some((words, expected)));
}

/// A container that somebody else made cannot be set aside: it is his, as he named it.
pub(super) fn refuse_adopted(
    context: &Context,
    engine: &dyn Engine,
    project: &Project,
    planned: &Upgrade,
) -> Result<(), Failure> {
    let Some(adoption) = engine.adoption() else { return Ok(()) };
    for Part { unit, .. } in &planned.parts {
        let id = UnitId::new(&project.root, unit);
        if adoption.adopted(&id)?.is_some() {
            let kept = KeptImages::of(&context.roots).archive(&id);
            let kept =
                kept.map(|archive| format!(" (`image = \"{}\"`)", archive.display())).unwrap_or_default();
            let message = format!(
                "{unit} is a container that was adopted, which cannot be set aside\nNothing was done."
            );
            let insists = if planned.migrations.is_empty() { "" } else { " --no-snapshot" };
            return Err(Failure::new(Exit::Consent, "adopted", message).hint(format!(
                "with the image that it has{kept}, `setpoint up {unit} --recreate{insists}` makes one of our own of it; then upgrade"
            )));
        }
    }
    Ok(())
}

impl UpgradeCommand {
    fn wanted(&self) -> Result<Option<Wanted>, Failure> {
        Ok(match &self.version {
            Some(version) => Some(Wanted::Version(Version::parse(version)?)),
            None => self.to_latest.then_some(Wanted::Latest),
        })
    }
}

/// The project as another version makes it, in the generation that is in effect but for the release.
fn released(
    context: &Context,
    project: &Project,
    wanted: &Wanted,
    list: &LiveList,
) -> Result<Project, Failure> {
    let (Some(from), Some(digest)) = (&project.from, &project.active.release) else {
        let what = "this project is made of its own folder, which says what the next version is";
        return Err(Failure::new(Exit::Usage, "not-pinned", what).hint(
            "edit setpoint.toml and run `setpoint upgrade`; `setpoint init oci://...` makes a folder of a release",
        ));
    };
    let registry = registry(context, list);
    let origin = registry.origin(from, wanted)?;
    let now = project.active.version.as_deref().and_then(|version| Version::parse(version).ok());
    if now.as_ref().is_some_and(|now| origin.version < *now) {
        let now = now.map(|now| now.to_string()).unwrap_or_default();
        let what = format!("{} comes before {now}, which is in effect", origin.version);
        return Err(Failure::new(Exit::Usage, "downgrade", what)
            .hint(format!("`setpoint rollback {}` goes back, with the data as it was", origin.version)));
    }
    let kept = registry.fetch(&origin)?;
    fits(&Releases::of(&context.roots).open(digest)?, &kept)?;
    let active = Active { release: Some(kept.digest.clone()), ..project.active.clone() };
    let (root, assignments) = (project.root.clone(), &context.assignments);
    let next = Project::of_release(&context.roots, root, from.clone(), active, None, assignments)?;
    release::admit(&context.roots, &kept, &next.manifest)?;
    if next.manifest.engine != project.manifest.engine {
        let (next, now) = (next.manifest.engine.as_str(), project.manifest.engine.as_str());
        let what = format!("{} is made for {next}, and what runs here is on {now}", origin.version);
        return Err(Failure::new(Exit::Usage, "other-engine", what)
            .hint(format!("say `[engine] default = \"{now}\"` in setpoint.local.toml")));
    }
    Ok(next)
}

/// Whether a release can follow another one.
fn fits(now: &Kept, next: &Kept) -> Result<(), Failure> {
    if now.bundle.project != next.bundle.project {
        let what = format!(
            "{} is the project `{}`, and this one is `{}`: its data would not be found",
            next.origin(),
            next.bundle.project,
            now.bundle.project
        );
        return Err(Failure::new(Exit::Usage, "other-project", what));
    }
    Ok(())
}

/// Carries out a change, lets the daemon look at what came of it, and tells of one that did not come about.
pub(super) fn carry_out(
    context: &Context,
    place: &Place<'_>,
    store: &mut Store,
    project: &Project,
    planned: &Upgrade,
    declared: Option<&Declared<'_>>,
    patience: Patience,
) -> Result<Changed, Failure> {
    let done = upgrade::run(place, store, &project.root, planned.clone(), declared, patience, &who());
    reconciler::tell(place.roots);
    if let Some(alarm) = done.as_ref().err().and_then(alert::alarm) {
        let (name, to) = (title(project), &project.manifest.alerts);
        // What is not there is told with the alert.
        let _ = up::keep_secrets_of_alerts(context, project);
        context.tell_of_upgrade((&name, &project.root), planned, Some(alarm), to);
    }
    Ok(done?)
}

/// Who asks for it, for the history.
fn who() -> String {
    let uid = rustix::process::getuid().as_raw();
    std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| uid.to_string())
}

/// A change as JSON, planned or done.
pub(super) fn tell(
    context: &Context,
    changed: bool,
    upgrade: Option<&Upgrade>,
    done: Option<Changed>,
    would: Option<(&str, &Expected)>,
) {
    if context.output.json {
        context.output.value(&Report {
            setpoint: json::VERSION,
            changed,
            upgrade,
            outage_seconds: done.map(|done| done.outage.as_secs_f64()),
            seconds: done.map(|done| done.took.as_secs_f64()),
            expected: would.map(|(_, expected)| expected),
            words: would.map(|(words, _)| words),
        });
    }
}

/// The services of a project, each after what it depends on.
pub(super) fn services(project: &Project) -> Vec<&Env> {
    let all = project.manifest.envs.values().filter(|env| env.is_service()).collect();
    plan::with_dependencies(project, all)
}

/// The services of a project with what they have come to, each after what it depends on. `hint` is for who has none.
pub(super) fn looked_at<'a>(
    context: &'a Context,
    engine: &'a dyn Engine,
    project: &'a Project,
    store: &Store,
    hint: &str,
) -> Result<Vec<(Unit<'a>, Look)>, Failure> {
    let services = services(project);
    if services.is_empty() {
        return Err(no_service(hint));
    }
    services.into_iter().map(|env| context.look(engine, project, env, store)).collect()
}

/// There is no service that something could be done with.
pub(super) fn no_service(hint: &str) -> Failure {
    Failure::new(Exit::NotFound, "no-service", "there is no service in this project").hint(hint)
}

/// What a project is called.
pub(super) fn title(project: &Project) -> String {
    project.manifest.project.name.to_string()
}

/// A generation, as people are told.
pub(crate) fn shown(generation: &Active) -> String {
    match &generation.version {
        Some(version) => format!("{version} (generation {})", generation.generation),
        None => format!("generation {}", generation.generation),
    }
}

fn outage(outage: Duration) -> String {
    if outage.is_zero() { String::new() } else { format!("; outage {}", span(outage)) }
}

/// What would be done.
fn words(
    title: &str,
    planned: &Upgrade,
    units: &[(Unit<'_>, Look)],
    trial: &Trial,
    expected: &Expected,
) -> String {
    let lane = match planned.lane {
        Lane::Breaking => "breaking",
        Lane::Compatible => "compatible",
    };
    let mut lines = vec![format!(
        "Upgrade {title} {} -> {}, {lane}. Nothing has been changed.",
        shown(&planned.from),
        shown(&planned.to)
    )];
    let mut say = |head: &str, what: String| lines.push(format!("  {head:<7} {what}"));
    let fetched = planned.parts.iter().filter(|part| part.from != part.to || part.to.is_none());
    let fetched: Vec<_> = fetched.map(|part| part.unit.as_str()).collect();
    if !fetched.is_empty() {
        say("before", format!("make sure that the images of {} are here", fetched.join(", ")));
    }
    match trial {
        Trial::First { starts, stops } => {
            say("", format!("try {} on copies of the data, where nobody reaches them", starts.join(", ")));
            if !stops.is_empty() {
                say("", format!("{} stand still while these are made", stops.join(", ")));
            }
        }
        Trial::Asks { stops } => say(
            "",
            format!(
                "not tried first: {} would stand still while data is copied (`--rehearse`)",
                stops.join(", ")
            ),
        ),
        Trial::Not { why: Some(why) } => say("", format!("not tried first: {why}")),
        Trial::Not { why: None } => {}
    }
    let (tried, on_host) = (matches!(trial, Trial::First { .. }), |id: &&Planned| id.unit.is_none());
    for migration in planned.migrations.iter().filter(on_host).filter(|_| tried) {
        say("", format!("{} is not tried: it changes this machine", migration.id));
    }
    let mut head = "then";
    for (of, what) in expected.words(planned) {
        say(of, what);
        head = "";
    }
    for path in &planned.saves {
        say(head, format!("save {path}"));
        head = "";
    }
    for part in &planned.parts {
        say(head, replaced(part));
        head = "";
    }
    for migration in &planned.migrations {
        say(head, migrate::plan_words(migration));
        head = "";
    }
    let names = units.iter().map(|(unit, _)| &unit.env.name);
    for name in names.filter(|name| planned.part(name).is_none()) {
        say("keep", format!("{name}: not touched"));
    }
    let from = shown(&planned.from);
    lines.push(format!("Until commit, any failure or power cut ends at {from} with its data."));
    if let Some(id) = planned.point_of_no_return() {
        lines.push(format!("After {id}, which is `forward_only`, nothing leads back."));
    } else if planned.lane == Lane::Breaking {
        lines.push("After commit, going back discards new writes, and has to be asked for.".to_owned());
    }
    lines.join("\n")
}

fn replaced(part: &Part) -> String {
    let unit = &part.unit;
    let words = match (part.is_there, &part.from, &part.to) {
        (false, ..) => format!("make {unit}"),
        (true, Some(from), Some(to)) if from != to => {
            format!("replace {unit} ({} -> {})", short(from), short(to))
        }
        _ => format!("replace {unit}"),
    };
    if part.stands_in { format!("{words}, for which another instance answers meanwhile") } else { words }
}

/// A digest, short enough for people.
fn short(digest: &str) -> String {
    match digest.split_once(':') {
        Some(("sha256", hex)) => format!("sha256:{}", hex.get(..12).unwrap_or(hex)),
        _ => digest.to_owned(),
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Migration(error) => error.into(),
            Refused::External { .. } => Self::new(Exit::Consent, "external-volume", message)
                .hint("`lane = \"compatible\"` in [release] lets both versions work with the same data"),
            Refused::NotKept { .. } | Refused::NoEarlier => {
                Self::new(Exit::NotFound, "no-generation", message)
                    .hint("`setpoint history` shows what there was; [release] says how much is kept (`keep`)")
            }
            Refused::ForwardOnly { .. } => Self::new(Exit::State, "forward-only", message).hint(
                "`setpoint history` names earlier generations, whose own copies of the data may be kept; \
                 `setpoint restore` puts back a backup",
            ),
            Refused::LosesWrites { why, .. } => {
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                Self::new(Exit::Consent, "consent", format!("{message}{why}"))
                    .hint("the same with `--discard-writes` agrees to that; today's data is kept aside")
            }
        }
    }
}

/// What kind of change it is.
pub(super) fn kind(upgrade: &Upgrade) -> &'static str {
    match upgrade.kind {
        Kind::Upgrade => "upgrade",
        Kind::Rollback => "rollback",
        Kind::Restore => "restore",
    }
}
