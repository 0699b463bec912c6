use std::time::Instant;

use clap::Args;
use setpoint_model::container::NetworkMode;
use setpoint_model::explain::describe;
use setpoint_model::import::compose::Condition;
use setpoint_model::manifest::{EngineKind, Env, Network, Note};
use setpoint_model::plan::{Action, Options, Provision};
use setpoint_model::release::MigrationError;
use setpoint_model::release::ledger::Planned;
use setpoint_runtime::adopt::in_its_place;
use setpoint_runtime::apply::{Applied, ApplyError, Settings};
use setpoint_runtime::devcontainer::Lock;
use setpoint_runtime::engine::adoption::Candidate;
use setpoint_runtime::engine::{Engine, Seen, UnitId};
use setpoint_runtime::events::{Event, Watcher};
use setpoint_runtime::observe::{Look, Unit};
use setpoint_runtime::project::Project;
use setpoint_runtime::readiness;
use setpoint_runtime::reconciler::{self, Rules};
use setpoint_runtime::secrets::{Secrets, Sources};
use setpoint_runtime::store::{self, Store};
use setpoint_runtime::upgrade;

use super::upgrade::UpgradeCommand;
use super::{SUCCESS, daemon, migrate, plan};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;
use crate::output::{ask, can_ask, span};

/// Make what runs equal to what is declared, with the least work
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The environments; all that the project brings up, if none is named
    units: Vec<String>,
    /// Only say what would be done (the same as `plan`)
    #[arg(long)]
    dry_run: bool,
    /// Engine actions only: no packs, no hooks; drift stays and is shown
    #[arg(long)]
    no_provision: bool,
    /// Replace the unit even if nothing asks for it
    #[arg(long)]
    recreate: bool,
    /// Agree to exactly the plan that is printed
    #[arg(long, short = 'y')]
    yes: bool,
    /// Ask the registry whether the image's tag has moved
    #[arg(long)]
    pull: bool,
    /// Features have to be just what the lock file of a devcontainer.json says
    #[arg(long)]
    frozen: bool,
    /// Also look whether secrets from files and commands have changed
    #[arg(long)]
    refresh_secrets: bool,
    /// Let a new image of a service work on its data at once; nothing leads back from there
    #[arg(long)]
    no_snapshot: bool,
    /// Have no daemon started that keeps services running; who needs one is left alone until one runs
    #[arg(long)]
    no_daemon: bool,
}

impl Up {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.completed(None, self.lock())?;
        tell_source(context, &project);
        let envs = plan::with_dependencies(&project, plan::chosen(&project, &self.units)?);
        if self.dry_run {
            let look =
                plan::Looking { exit_code: false, pull: self.pull, refresh_secrets: self.refresh_secrets };
            return plan::print(context, &project, &envs, &self.options(), look);
        }
        context.stop_on_signals()?;
        let engine = context.engine(project.manifest.engine);
        tell_notes(context, &project, engine.as_ref());
        let has_services = envs.iter().any(|env| env.is_service());
        if has_services {
            keep_secrets_of_alerts(context, &project)?;
        }
        let project = match has_services && self.migrate(context, engine.as_ref(), &project)? {
            // Another generation is in effect.
            true => context.completed(None, self.lock())?,
            false => project,
        };
        let mut done = Vec::new();
        for env in plan::with_dependencies(&project, plan::chosen(&project, &self.units)?) {
            wait_for_dependencies(context, engine.as_ref(), &project, env)?;
            done.push(self.bring_up(context, engine.as_ref(), &project, env)?);
        }
        if has_services {
            self.note_version(context, &project)?;
        }
        if context.output.json {
            context.output.value(&json::Done { setpoint: json::VERSION, units: done });
        }
        Ok(SUCCESS)
    }

    fn lock(&self) -> Lock {
        match (self.frozen, self.dry_run) {
            (true, _) => Lock::Frozen,
            (false, true) => Lock::Read,
            (false, false) => Lock::Keep,
        }
    }

    fn options(&self) -> Options {
        let provision = if self.no_provision { Provision::Skip } else { Provision::Needed };
        Options { provision, recreate: self.recreate, begun: false }
    }

    fn bring_up(
        &self,
        context: &Context,
        engine: &dyn Engine,
        project: &Project,
        env: &Env,
    ) -> Result<json::UnitDone, Failure> {
        let mut unit = context.unit(engine, project, env);
        unit.refresh_secrets = self.refresh_secrets;
        let list = LiveList::new(context.output);
        let command = format!("up {}", env.name);
        let mut store = context.store()?;
        let _lock = context.lock(&mut store, &unit, &command, &list)?;
        if self.pull {
            unit.ask_registry(&list, &context.cancel)?;
        }
        let settings =
            Settings { watcher: &list, cancel: &context.cancel, command, is_withheld: false, idles: false };
        let mut look = unit.look(&store, &self.options())?;
        refuse_to_leave(context, &unit, look.row.as_ref())?;
        refuse_to_double(context, &unit, &look)?;
        let whole;
        if look.plan.action == Action::Prepare {
            // Only what comes of it tells what else is to be done.
            apply(context, &unit, &mut store, look, &settings)?;
            whole = context.completed(Some(&list), self.lock())?;
            whole.manifest.notes.iter().filter(|note| !project.manifest.notes.contains(note)).for_each(
                |note| {
                    context.output.progress(format!("note: {note}"));
                },
            );
            unit = context.unit(engine, &whole, whole.env(Some(env.name.as_str()))?);
            unit.refresh_secrets = self.refresh_secrets;
            let options = Options { begun: true, ..self.options() };
            look = unit.look(&store, &options)?;
            if look.plan.action == Action::Prepare {
                // The base was missing, and features are known since it is here: now they are built over it.
                apply(context, &unit, &mut store, look, &settings)?;
                look = unit.look(&store, &options)?;
            }
        }
        self.consent(context, engine, &unit, &look)?;
        self.refuse_to_move(&unit, &look)?;
        let done = carry_out(context, &unit, &mut store, look, &settings)?;
        // Also where nothing was to do: what holds its ports may have been killed.
        engine.tend(&unit.id)?;
        if keep(context, &unit, &mut store)? && !self.no_daemon {
            daemon::ensure(context)?;
        }
        Ok(done)
    }

    /// Notes which version runs, of a project that is made of its own folder, once all of it does.
    fn note_version(&self, context: &Context, project: &Project) -> Result<(), Failure> {
        let version = &project.manifest.project.version;
        // What was brought up without what an upgrade does is of no version.
        let is_all = !self.no_snapshot && self.units.is_empty() && project.manifest.project.up.is_none();
        if project.from.is_some() || *version == project.active.version || !is_all {
            return Ok(());
        }
        let list = LiveList::new(context.output);
        let _lock = context.project_lock(&project.root, "up", &list)?;
        Ok(upgrade::note_version(&context.roots, &project.root, &project.active, version.as_deref())?)
    }

    /// Migrations are for an upgrade to carry out. Where there is no service yet, that makes them all, which is told.
    fn migrate(&self, context: &Context, engine: &dyn Engine, project: &Project) -> Result<bool, Failure> {
        if self.no_snapshot || !upgrade::may_migrate(project) {
            return Ok(false);
        }
        let lane = project.manifest.release.lane;
        let due = match migrate::migrations(context, project)?.due(lane) {
            // The version before works with what a later one left.
            Err(MigrationError::Unknown { .. }) => return Ok(false),
            due => due?,
        };
        if due.is_empty() {
            return Ok(false);
        }
        let services = project.manifest.envs.values().filter(|env| env.is_service());
        for env in services {
            if engine.observe(&UnitId::new(&project.root, &env.name))? != Seen::Absent {
                let ids: Vec<_> = due.iter().map(|planned| planned.id.to_string()).collect();
                let message = format!("the data is to be migrated: {}\nNothing was done.", ids.join(", "));
                let upgrade = match due.iter().all(Planned::is_forward_only) {
                    true => "`setpoint upgrade` does it, after the commit",
                    false => {
                        "`setpoint upgrade` does it on a copy, and goes back by itself if something is not well"
                    }
                };
                return Err(Failure::new(Exit::Consent, "needs-upgrade", message)
                    .hint(format!("{upgrade}; `setpoint up --no-snapshot` brings the services up without")));
            }
        }
        UpgradeCommand::first(context, self.no_daemon)?;
        Ok(true)
    }

    /// A new image works on the data of the one before as soon as it starts, and nothing leads back from there.
    fn refuse_to_move(&self, unit: &Unit<'_>, look: &Look) -> Result<(), Failure> {
        let volumes: Vec<_> = unit.env.volumes().map(|volume| volume.name.as_str()).collect();
        if self.no_snapshot || volumes.is_empty() || look.seen == Seen::Absent || !look.moves() {
            return Ok(());
        }
        let name = &unit.env.name;
        let message = format!(
            "{name} is to be built on another image, which would work on the data in {} at once\nNothing was done.",
            volumes.join(", ")
        );
        Err(Failure::new(Exit::Consent, "needs-upgrade", message).hint(format!(
            "`setpoint upgrade` copies the data first, and goes back by itself if the new one is not well; \
             `setpoint up {name} --no-snapshot` insists"
        )))
    }

    /// A recreation throws away what the unit has changed in its own files: somebody has to agree to that.
    fn consent(
        &self,
        context: &Context,
        engine: &dyn Engine,
        unit: &Unit<'_>,
        look: &Look,
    ) -> Result<(), Failure> {
        // What a service keeps is in its volumes, as everywhere: nobody works inside it.
        if look.plan.action != Action::Recreate || self.yes || unit.env.is_service() {
            return Ok(());
        }
        let changes = engine.own_changes(&unit.id)?;
        if changes.count == 0 {
            return Ok(());
        }
        let name = &unit.env.name;
        let examples: Vec<_> = changes.examples.iter().map(|path| format!("  {}", path.display())).collect();
        let losses = format!(
            "recreating {name} discards {} files of its own, such as\n{}",
            changes.count,
            examples.join("\n")
        );
        context.output.progress(plan::words(look, &unit.env.name));
        if can_ask() && !context.output.json {
            context.output.progress(&losses);
            if ask("Recreate it?") {
                return Ok(());
            }
        }
        Err(Failure::new(Exit::Consent, "consent", format!("{losses}\nNothing was done.")).hint(format!(
            "`setpoint up {name} --yes` agrees to this plan; `setpoint why {name}` says what asks for it"
        )))
    }
}

/// A unit that another engine still holds is not made a second time: it would run on there, and nobody would see it.
pub(super) fn refuse_to_leave(
    context: &Context,
    unit: &Unit<'_>,
    row: Option<&store::Unit>,
) -> Result<(), Failure> {
    let now = unit.engine.capabilities().engine;
    let before = row.map(|row| row.unit.engine.as_str()).filter(|before| *before != now);
    let Some(kind) = before.and_then(EngineKind::named) else { return Ok(()) };
    if context.engine(kind).observe(&unit.id)? == Seen::Absent {
        return Ok(());
    }
    let (name, before) = (&unit.env.name, kind.as_str());
    let message =
        format!("{name} is on the engine {before}, and is declared to be on {now}\nNothing was done.");
    let hint = format!("`setpoint --set 'engine.default=\"{before}\"' down {name}` removes it there");
    Err(Failure::new(Exit::Consent, "other-engine", message).hint(hint))
}

/// Where somebody else runs what the unit would be, a second one would take its ports and its data.
fn refuse_to_double(context: &Context, unit: &Unit<'_>, look: &Look) -> Result<(), Failure> {
    let Some(adoption) = unit.engine.adoption().filter(|_| look.seen == Seen::Absent) else { return Ok(()) };
    let called = unit.env.service.as_ref().map(|of| of.called.as_str());
    let all = adoption.candidates()?;
    let name = &unit.env.name;
    let Some(other) = in_its_place(&all, &unit.id, &unit.project.root, called) else {
        let names = [name.to_string(), format!("{}-{name}", unit.project.manifest.project.name)];
        let same = |one: &&Candidate| one.running && one.unit.is_none() && names.contains(&one.name);
        if let Some(Candidate { name: container, .. }) = all.iter().find(same) {
            // It may be anybody's.
            context.output.progress(format!(
                "note: a container {container} runs that is not Setpoint's; `setpoint adopt {name} {container}` would \
                 have taken it over"
            ));
        }
        return Ok(());
    };
    let container = &other.name;
    let message = format!(
        "there is a container {container} already, which is {name} and not Setpoint's\nNothing was done."
    );
    let whole = other
        .compose
        .as_ref()
        .map(|of| format!(" (`setpoint adopt --compose {}`: the whole project)", of.project));
    let hint =
        format!("`setpoint adopt {name} {container}` takes it over as it runs{}", whole.unwrap_or_default());
    Err(Failure::new(Exit::Consent, "already-there", message).hint(hint))
}

/// Waits until the services that a unit depends on have come to what it needs.
fn wait_for_dependencies(
    context: &Context,
    engine: &dyn Engine,
    project: &Project,
    env: &Env,
) -> Result<(), Failure> {
    let waited_for = env.service.iter().flat_map(|of| &of.depends_on);
    for (name, dependency) in waited_for.filter(|(_, one)| one.condition != Condition::Started) {
        let id = UnitId::new(&project.root, name);
        let condition = dependency.condition;
        let word = if condition == Condition::Healthy { "healthy" } else { "completed" };
        if readiness::come_to(condition, &engine.progress(&id)?) == Some(Ok(())) {
            continue;
        }
        let list = LiveList::new(context.output);
        let (phase, detail, began) = ("wait".to_owned(), format!("{name} {word}"), Instant::now());
        list.event(&Event::Began { phase: phase.clone(), detail: detail.clone() });
        let answer = readiness::until(engine, &id, condition, &|| !context.cancel.asked())?;
        let answer = answer.unwrap_or_else(|| Err("stopped".to_owned()));
        let took = began.elapsed();
        match answer {
            Ok(()) => list.event(&Event::Done { phase, detail, took }),
            Err(how) => {
                list.event(&Event::Failed { phase, detail, how: how.clone(), took });
                if dependency.required {
                    let message = format!("{} needs {name} {word}: {how}", env.name);
                    return Err(Failure::new(Exit::Failed, "dependency", message)
                        .hint(format!("`setpoint logs {name}` shows what it said")));
                }
            }
        }
    }
    Ok(())
}

/// Says which file stands for a manifest that is not there.
fn tell_source(context: &Context, project: &Project) {
    if let Some(file) = &project.instead {
        let engine = project.manifest.engine.as_str();
        context.output.progress(format!("Using {file} on {engine} (no setpoint.toml)"));
    }
}

fn tell_notes(context: &Context, project: &Project, engine: &dyn Engine) {
    for note in &project.manifest.notes {
        context.output.progress(format!("note: {note}"));
    }
    let capabilities = engine.capabilities();
    for env in project.manifest.envs.values() {
        if has_own_network(env) && !capabilities.private_network {
            let text = format!(
                "nothing leads out of the networks of `{}`: the {} engine needs root's rights and `iptables` or `nft` \
                 for that",
                env.name, capabilities.engine
            );
            context.output.progress(format!("note: {}", Note { at: env.at.clone(), text }));
        }
    }
}

/// Whether a unit asks for a network other than the host's.
fn has_own_network(env: &Env) -> bool {
    match &env.container.network {
        Some(mode) => matches!(mode, NetworkMode::Networks(_)),
        None => env.network == Network::Private,
    }
}

/// Keeps what alerts need of secrets for the daemon, which has none of the caller's variables.
pub(super) fn keep_secrets_of_alerts(context: &Context, project: &Project) -> Result<(), Failure> {
    let Some(webhook) = &project.manifest.alerts.webhook else { return Ok(()) };
    let secrets = Secrets::new(&context.roots, &project.root);
    let sources = Sources {
        declared: &project.manifest.secrets,
        variables: &context.variables,
        home: context.home.as_deref(),
    };
    let values = secrets.resolve(&sources, webhook.secrets())?;
    Ok(secrets.keep(&values)?)
}

/// From now on a daemon keeps it as it is; says whether it is one to be kept.
fn keep(context: &Context, unit: &Unit<'_>, store: &mut Store) -> Result<bool, Failure> {
    let Some(row) = store.unit(&unit.project.root, &unit.env.name)? else { return Ok(false) };
    let rules = Rules::of(unit.env, unit.stop_grace(), &unit.project.manifest.alerts);
    reconciler::want_up(store, row.id, rules.as_ref())?;
    reconciler::tell(&context.roots);
    Ok(rules.is_some())
}

/// Applies a look, and says what came of it.
pub(super) fn carry_out(
    context: &Context,
    unit: &Unit<'_>,
    store: &mut Store,
    look: Look,
    settings: &Settings<'_>,
) -> Result<json::UnitDone, Failure> {
    let output = context.output;
    let name = &unit.env.name;
    let record = look.recorded.fingerprint.digest();
    if look.plan.is_empty() {
        if look.seen != Seen::Absent {
            // One whose record was lost is kept from now on like any other.
            unit.row(store, &look)?;
        }
        let (files, took) = look.checked;
        output.note(format!(
            "{name}: nothing to do ({}; {files} files checked in {} ms)",
            record.short(),
            took.as_millis()
        ));
        tell_unknown(context, &look, unit);
        return Ok(json::UnitDone {
            unit: name.to_string(),
            done: Vec::new(),
            record: Some(record.to_hex()),
            seconds: 0.0,
        });
    }
    let (drift, desired, action) = (look.plan.is_drift(), look.desired.clone(), look.plan.action);
    tell_unknown(context, &look, unit);
    let applied = apply(context, unit, store, look, settings)?;
    for phase in &applied.edited {
        output.progress(format!("{phase} was edited while it ran; the next `up` runs it again"));
    }
    let record = applied.recorded.map(|digest| digest.to_hex());
    let short = applied.recorded.map(|digest| digest.short()).unwrap_or_default();
    let took = span(applied.took);
    if drift || action != Action::Nothing {
        output.note(format!("{name} is up in {took}, recorded {short}"));
    } else {
        let ran: Vec<_> = applied.done.iter().map(|step| describe(&desired, step)).collect();
        output.note(format!(
            "{name}: nothing changed; {} in {took}",
            ran.join(", ").replacen("run ", "ran ", 1)
        ));
    }
    if action == Action::Create && !unit.env.is_service() {
        output.note(format!("Next: setpoint shell {name}"));
    }
    let done = applied.done.iter().map(|step| describe(&desired, step)).collect();
    Ok(json::UnitDone { unit: name.to_string(), done, record, seconds: applied.took.as_secs_f64() })
}

/// Applies a look; shows the end of what a phase said that failed.
fn apply(
    context: &Context,
    unit: &Unit<'_>,
    store: &mut Store,
    look: Look,
    settings: &Settings<'_>,
) -> Result<Applied, Failure> {
    let (output, name) = (context.output, &unit.env.name);
    unit.apply(store, look, settings).map_err(|error| {
        if let ApplyError::Phase(failed) = &error
            && !failed.tail.is_empty()
        {
            output.progress("");
            for line in &failed.tail {
                output.progress(format!("  | {line}"));
            }
            output
                .progress(format!("  all output: setpoint logs {name} {}\n", failed.phase.replace(' ', "-")));
        }
        Failure::from(error)
    })
}

fn tell_unknown(context: &Context, look: &Look, unit: &Unit<'_>) {
    for hook in &look.report.unknown {
        let name = &unit.env.name;
        context.output.progress(format!(
            "{name}: the state was lost, so nobody knows whether {hook} ran.\n  \
             `setpoint reprovision {name} --hook {hook}` runs it; `... --mark-done {hook}` says that it did"
        ));
    }
}
