use clap::Args;
use setpoint_model::manifest::Env;
use setpoint_model::names::{HookName, PackName};
use setpoint_model::plan::{Options, Provision};
use setpoint_runtime::apply::Settings;
use setpoint_runtime::engine::Seen;
use setpoint_runtime::observe::Unit;

use super::{SUCCESS, attach, up};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;

/// Run packs and hooks of a running environment again, without a restart
///
/// All packs and `post_attach`, if nothing else is asked for.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").multiple(false))]
pub(crate) struct Reprovision {
    /// The environment; may be left out where there is only one
    unit: Option<String>,
    /// Every phase, as after the environment was made
    #[arg(long, group = "what")]
    full: bool,
    /// This pack alone
    #[arg(long, group = "what", value_name = "PACK")]
    pack: Option<String>,
    /// This hook alone
    #[arg(long, group = "what", value_name = "HOOK")]
    hook: Option<String>,
    /// Run nothing: record that this hook has succeeded
    #[arg(long, group = "what", value_name = "HOOK")]
    mark_done: Option<String>,
}

impl Reprovision {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        let env = project.env(self.unit.as_deref())?;
        let engine = context.engine(project.manifest.engine);
        let unit = context.unit(engine.as_ref(), &project, env);
        let done = match &self.mark_done {
            Some(hook) => mark_done(context, &unit, declared_hook(env, hook)?)?,
            None => again(context, &unit, self.provision(env)?)?,
        };
        if context.output.json {
            context.output.value(&json::Done { setpoint: json::VERSION, units: vec![done] });
        }
        Ok(SUCCESS)
    }

    fn provision(&self, env: &Env) -> Result<Provision, Failure> {
        Ok(match (&self.pack, &self.hook) {
            (Some(pack), _) => Provision::Pack(declared_pack(env, pack)?),
            (None, Some(hook)) => Provision::Hook(declared_hook(env, hook)?),
            (None, None) if self.full => Provision::Full,
            (None, None) => Provision::Packs,
        })
    }
}

fn again(context: &Context, unit: &Unit<'_>, provision: Provision) -> Result<json::UnitDone, Failure> {
    context.stop_on_signals()?;
    let list = LiveList::new(context.output);
    let command = format!("reprovision {}", unit.env.name);
    let mut store = context.store()?;
    let _lock = context.lock(&mut store, unit, &command, &list)?;
    attach::running(unit)?;
    let look = unit.look(&store, &Options { provision, ..Options::default() })?;
    let settings =
        Settings { watcher: &list, cancel: &context.cancel, command, is_withheld: false, idles: false };
    up::carry_out(context, unit, &mut store, look, &settings)
}

/// Records a success that somebody vouches for, and does nothing else.
fn mark_done(context: &Context, unit: &Unit<'_>, hook: HookName) -> Result<json::UnitDone, Failure> {
    let name = &unit.env.name;
    let list = LiveList::new(context.output);
    let mut store = context.store()?;
    let _lock = context.lock(&mut store, unit, &format!("reprovision {name} --mark-done {hook}"), &list)?;
    let look = unit.look(&store, &Options::default())?;
    if look.row.is_none() || look.seen == Seen::Absent {
        let message = format!("{name} has no record yet that could say so");
        return Err(Failure::new(Exit::NotFound, "unit-state", message)
            .hint(format!("`setpoint up {name}` makes the environment and its record")));
    }
    unit.mark_done(&mut store, &look, hook)?;
    context.output.note(format!("{name}: recorded that {hook} has succeeded; nothing was run"));
    let done = vec![format!("record {hook}")];
    Ok(json::UnitDone { unit: name.to_string(), done, record: None, seconds: 0.0 })
}

fn declared_pack(env: &Env, text: &str) -> Result<PackName, Failure> {
    let found = env.packs.iter().find(|pack| pack.name.as_str() == text);
    let known = || env.packs.iter().map(|pack| pack.name.to_string()).collect();
    found.map(|pack| pack.name.clone()).ok_or_else(|| unknown(env, "pack", text, known()))
}

fn declared_hook(env: &Env, text: &str) -> Result<HookName, Failure> {
    let found = env.hooks.keys().find(|hook| hook.as_str() == text);
    let known = || env.hooks.keys().map(ToString::to_string).collect();
    found.copied().ok_or_else(|| unknown(env, "hook", text, known()))
}

/// There is no such thing, but perhaps one that was meant.
fn unknown(env: &Env, kind: &'static str, text: &str, known: Vec<String>) -> Failure {
    let name = &env.name;
    let failure = Failure::new(Exit::NotFound, "not-declared", format!("{name} declares no {kind} `{text}`"));
    match known.as_slice() {
        [] => failure.hint(format!("{name} declares no {kind}s at all")),
        _ => failure.hint(format!("there is: {}", known.join(", "))),
    }
}
