use std::collections::BTreeMap;

use clap::Args;
use setpoint_model::fingerprint::Class;
use setpoint_model::manifest::{EngineKind, Env, nearest};
use setpoint_model::names::UnitName;
use setpoint_model::plan::Options;
use setpoint_runtime::adopt::{self, Choice, Taken, Unfit};
use setpoint_runtime::engine::adoption::{Adoption, Candidate};
use setpoint_runtime::engine::{Engine, UnitId};
use setpoint_runtime::project::{Project, ProjectError};
use setpoint_runtime::reconciler;

use super::{SUCCESS, daemon, up};
use crate::context::Context;
use crate::error::Failure;
use crate::events::LiveList;
use crate::json;

/// Take over a running container, or all of a running Compose project, without a restart
///
/// The container becomes the unit as it runs. What of it is not as declared is shown as changes, and the next `up` mends
/// that.
#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// The environment or service that it is to be
    #[arg(required_unless_present = "compose")]
    unit: Option<String>,
    /// The container, by its name or the beginning of its id
    #[arg(required_unless_present = "compose")]
    container: Option<String>,
    /// All containers of this Compose project, each as the service that it is
    #[arg(long, value_name = "PROJECT", conflicts_with_all = ["unit", "container"])]
    compose: Option<String>,
    /// Have no daemon started that keeps services running
    #[arg(long)]
    no_daemon: bool,
}

impl Adopt {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        context.stop_on_signals()?;
        let engine = context.engine(project.manifest.engine);
        let of = engine.capabilities().engine;
        let adoption = engine.adoption().ok_or(Unfit::NobodyElse { engine: of })?;
        let all = adoption.candidates()?;
        // All or nothing, as far as can be seen before.
        let choices = self.choose(context, &project, &all)?;
        let peers = peers(&project, &all, &choices);
        let mut units = Vec::new();
        for (env, one) in &choices {
            units.push(self.adopt(context, engine.as_ref(), &project, env, one, &peers)?);
        }
        if self.compose.is_some() {
            tell_missing(context, &project, adoption, &units)?;
        }
        if context.output.json {
            context.output.value(&json::Passed { setpoint: json::VERSION, units });
        }
        Ok(SUCCESS)
    }

    /// What is to become which unit, if all of it can.
    fn choose<'p>(
        &self,
        context: &Context,
        project: &'p Project,
        all: &[Candidate],
    ) -> Result<Vec<Choice<'p>>, Failure> {
        let refused = |unfit| refused(context, project, unfit);
        let choices = match (&self.compose, &self.unit, &self.container) {
            (Some(of), ..) => {
                let envs: Vec<&Env> = project.manifest.envs.values().collect();
                adopt::of_project(all, of, &envs).map_err(refused)?
            }
            (None, Some(unit), Some(container)) => {
                vec![(declared(project, unit)?, adopt::named(all, container).map_err(refused)?)]
            }
            // The command line asks for one of the two.
            _ => Vec::new(),
        };
        for (env, one) in &choices {
            adopt::is_free(env, &UnitId::new(&project.root, &env.name), one, all).map_err(refused)?;
        }
        Ok(choices)
    }

    fn adopt(
        &self,
        context: &Context,
        engine: &dyn Engine,
        project: &Project,
        env: &Env,
        one: &Candidate,
        peers: &BTreeMap<String, UnitName>,
    ) -> Result<json::UnitPassed, Failure> {
        let unit = context.unit(engine, project, env);
        let (name, container) = (&env.name, &one.name);
        let list = LiveList::new(context.output);
        let mut store = context.store()?;
        let _lock = context.lock(&mut store, &unit, &format!("adopt {name}"), &list)?;
        up::refuse_to_leave(context, &unit, store.unit(&project.root, name)?.as_ref())?;
        let Taken { already, nameless, image } =
            unit.adopt(&mut store, one, peers, &list, &context.cancel)?;
        reconciler::tell(&context.roots);
        let kept = match store.unit(&project.root, name)? {
            Some(row) => store.kept(row.id)?.is_some(),
            None => false,
        };
        if kept && !self.no_daemon {
            daemon::ensure(context)?;
        }
        let look = unit.look(&store, &Options::default())?;
        let changes = look.report.differences.iter().filter(|one| one.class != Class::Report).count();
        let is_drift = look.plan.is_drift();
        let output = context.output;
        let as_it_is = match (is_drift, changes) {
            (false, _) => "it is as declared".to_owned(),
            (true, 0) => format!("not everything is done: `setpoint why {name}`"),
            (true, 1) => format!("1 change from what is declared: `setpoint why {name}`"),
            (true, many) => format!("{many} changes from what is declared: `setpoint why {name}`"),
        };
        output.note(match already {
            true => format!("{name} is the container {container} already; {as_it_is}"),
            false => format!("{name} is the container {container} from now on, as it runs; {as_it_is}"),
        });
        for target in nameless {
            output.progress(format!(
                "note: {target} of {name} is in a volume without a name: it stays when the container is replaced, and the new \
                 one has another"
            ));
        }
        if let Some(archive) = &image {
            let archive = archive.display();
            output.progress(format!(
                "note: no registry has the image of {name}: it is kept until `setpoint down`, and `image = \"{archive}\"` is what \
                 runs now, whatever becomes of its tag"
            ));
        }
        Ok(json::UnitPassed {
            unit: name.to_string(),
            container: Some(container.clone()),
            image,
            outcome: if already { "already" } else { "adopted" },
            out_of_date: Some(is_drift),
            changes: Some(changes),
        })
    }
}

/// The unit of this name; where there is none, with the one that was probably meant.
pub(super) fn declared<'p>(project: &'p Project, name: &str) -> Result<&'p Env, Failure> {
    project.env(Some(name)).map_err(|error| {
        let near = nearest(name, project.manifest.envs.keys().map(UnitName::as_str));
        let is_absent = matches!(error, ProjectError::NoUnit { .. });
        let failure = Failure::from(error);
        match near.filter(|_| is_absent) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None if is_absent => failure.hint(format!("declare it as `[service.{name}]` or `[env.{name}]`")),
            None => failure,
        }
    })
}

/// Why nothing was done; of what was not found on the project's engine, whether another one has it.
fn refused(context: &Context, project: &Project, unfit: Unfit) -> Failure {
    let has = |all: &[Candidate]| match &unfit {
        Unfit::NoContainer { wanted, .. } => adopt::named(all, wanted).is_ok(),
        Unfit::NoProject { wanted, .. } => {
            all.iter().any(|one| one.compose.as_ref().is_some_and(|of| of.project == *wanted))
        }
        _ => false,
    };
    let own = project.manifest.engine;
    let other = EngineKind::ALL.into_iter().filter(|kind| *kind != own).find(|kind| {
        let engine = context.engine(*kind);
        // One that does not answer has nothing.
        engine.adoption().and_then(|adoption| adoption.candidates().ok()).is_some_and(|all| has(&all))
    });
    let mut failure = Failure::from(unfit);
    failure.message.push_str("\nNothing was done.");
    match other {
        Some(kind) => {
            let (there, own) = (kind.as_str(), own.as_str());
            failure.hint(format!(
                "it is on {there}, and the project is on {own}: set `engine.default = \"{there}\"`"
            ))
        }
        None => failure,
    }
}

/// The units that containers are, or are to become.
fn peers(project: &Project, all: &[Candidate], choices: &[Choice<'_>]) -> BTreeMap<String, UnitName> {
    let mut peers = adopt::peers(choices);
    for name in project.manifest.envs.keys() {
        let id = UnitId::new(&project.root, name);
        peers.extend(
            all.iter().filter(|one| one.unit.as_ref() == Some(&id)).map(|one| (one.id.clone(), name.clone())),
        );
    }
    peers
}

/// Says which services nobody runs.
fn tell_missing(
    context: &Context,
    project: &Project,
    adoption: &dyn Adoption,
    done: &[json::UnitPassed],
) -> Result<(), Failure> {
    let all = adoption.candidates()?;
    for env in project.manifest.envs.values().filter(|env| env.is_service()) {
        let id = UnitId::new(&project.root, &env.name);
        let is_there = all.iter().any(|one| one.unit.as_ref() == Some(&id));
        if !is_there && !done.iter().any(|unit| unit.unit == env.name.as_str()) {
            let text = format!("{} has no container; `setpoint up` makes one", env.name);
            context.output.progress(text);
        }
    }
    Ok(())
}
