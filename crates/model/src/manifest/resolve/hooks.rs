//! Hooks: the four forms in which they are written, and where their options may stand.

use std::collections::BTreeMap;

use super::super::document::{Document, steps};
use super::super::hook::{Command, Hook, Run, WhenChanged};
use super::super::problem::{Location, Problem};
use super::super::shape::{CommandEntry, HookEntry, HookTable, HooksSection};
use super::super::tree::Step;
use super::{check_argv, variables};
use crate::names::{HookName, UnitName};

/// The hooks of an environment.
pub(super) fn hooks(
    env: &UnitName,
    section: HooksSection,
    document: &mut Document<'_>,
) -> BTreeMap<HookName, Hook> {
    let entries = [
        (HookName::Initialize, section.initialize),
        (HookName::OnCreate, section.on_create),
        (HookName::UpdateContent, section.update_content),
        (HookName::PostCreate, section.post_create),
        (HookName::PostStart, section.post_start),
        (HookName::PostAttach, section.post_attach),
        (HookName::Verify, section.verify),
    ];
    entries
        .into_iter()
        .filter_map(|(name, entry)| {
            let place = steps!["env", env.as_str(), "hooks", name.as_str()];
            Some((name, hook(name, entry?, &place, document)?))
        })
        .collect()
}

/// A hook without options.
pub(super) fn plain(command: Command, at: Location) -> Hook {
    Hook {
        at,
        run: Run::One(command),
        inputs: Vec::new(),
        timeout: None,
        env: BTreeMap::new(),
        user: None,
        before: Vec::new(),
        folder: None,
        when_changed: WhenChanged::default(),
        always: false,
    }
}

fn hook(name: HookName, entry: HookEntry, place: &[Step], document: &mut Document<'_>) -> Option<Hook> {
    let at = document.key_location(place);
    let table = match entry {
        HookEntry::Text(text) => return Some(plain(text.into(), at)),
        HookEntry::Argv(argv) => {
            return Some(plain(command(CommandEntry::Argv(argv), place, document), at));
        }
        HookEntry::Table(table) => *table,
    };
    check_options(name, &table, place, document);
    let key = |key: &str| [place, &[key.into()]].concat();
    let run = match (table.run, table.parallel) {
        (Some(_), Some(_)) => {
            let problem =
                Problem::new("two-commands", format!("the hook `{name}` has both `run` and `parallel`"));
            document
                .at_key(&key("parallel"), problem.hint("put what `run` does among the parts of `parallel`"));
            return None;
        }
        (Some(entry), None) => Run::One(command(entry, &key("run"), document)),
        (None, Some(parts)) => parallel(parts, &key("parallel"), document),
        (None, None) => {
            if !document.lacks(place) {
                let problem = Problem::new("missing-command", format!("the hook `{name}` runs nothing"));
                document.at_key(place, problem.hint("give it `run = \"...\"`, or `parallel` with several"));
            }
            return None;
        }
    };
    Some(Hook {
        at,
        run,
        inputs: table.inputs.into_iter().map(|glob| glob.0).collect(),
        timeout: table.timeout.map(|timeout| timeout.0),
        env: variables(table.env, &key("env"), document),
        user: table.user.map(|user| user.0),
        before: Vec::new(),
        folder: None,
        when_changed: table.when_changed,
        always: table.always,
    })
}

/// Reports options that this hook cannot have.
fn check_options(name: HookName, table: &HookTable, place: &[Step], document: &mut Document<'_>) {
    let key = |key: &str| [place, &[key.into()]].concat();
    if table.always && !matches!(name, HookName::PostAttach | HookName::Initialize) {
        let problem = Problem::new("misplaced-always", format!("`always` is not for `{name}`"))
            .why("only `post_attach` and `initialize` may run at every `up`")
            .hint("use `inputs`, so that it runs when something differs, or move it to `post_attach`");
        document.at_key(&key("always"), problem);
    }
    if table.user.is_some() && name == HookName::Initialize {
        let problem = Problem::new("misplaced-user", "`initialize` cannot have a `user`")
            .why("it runs on the host, as you")
            .hint("remove `user`");
        document.at_key(&key("user"), problem);
    }
}

fn command(entry: CommandEntry, place: &[Step], document: &mut Document<'_>) -> Command {
    match entry {
        CommandEntry::Text(text) => text.into(),
        CommandEntry::Argv(argv) => {
            check_argv(&argv, place, document);
            Command::Argv { argv }
        }
    }
}

fn parallel(parts: BTreeMap<String, CommandEntry>, place: &[Step], document: &mut Document<'_>) -> Run {
    if parts.is_empty() {
        let problem = Problem::new("empty-command", "there is nothing in `parallel`");
        document.at_value(place, problem.hint("name what runs: `parallel = { check = \"cargo check\" }`"));
    }
    let part = |(name, entry): (String, CommandEntry)| {
        let place = [place, &[name.as_str().into()]].concat();
        if name.trim().is_empty() {
            let problem = Problem::new("bad-name", "this part of `parallel` has no name");
            document.at_key(&place, problem.hint("its output is kept under its name"));
        }
        let command = command(entry, &place, document);
        (name, command)
    };
    Run::Parallel(parts.into_iter().map(part).collect())
}
