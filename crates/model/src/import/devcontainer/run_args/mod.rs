//! `runArgs`: arguments of `docker run`, read into the settings of a container.

mod options;
mod values;

use crate::container::{Attachment, Container, NetworkMode};
use crate::import::devcontainer::Placed;
use crate::import::devcontainer::wrong::Wrong;
use crate::manifest::{Location, Note, Problem, nearest};
use options::{OPTIONS, Reads, WITHOUT_EQUAL};

/// What the arguments of `docker run` say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunArgs {
    /// The settings of the container.
    pub container: Container,
    /// Files of variables, which lie below those of `container`; later ones are laid over earlier ones.
    pub env_files: Vec<Placed<String>>,
    /// Variables that have the values that they have for the caller, if they have one.
    pub env_of_caller: Vec<Placed<String>>,
    /// Files of labels.
    pub label_files: Vec<Placed<String>>,
    /// What a user should know.
    pub notes: Vec<Note>,
}

/// Reads `runArgs` whose variables are substituted.
///
/// # Errors
/// Every argument that is wrong, or that there is nothing for.
pub fn run_args(args: &[Placed<String>]) -> Result<RunArgs, Vec<Problem>> {
    let mut run = Draft::default();
    let mut problems = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if let Err(problem) = one(&mut run, arg, &mut rest) {
            problems.push(problem);
        }
    }
    problems.extend(run.attach_to_first().err());
    if !problems.is_empty() {
        return Err(problems);
    }
    let Draft { container, env_files, env_of_caller, label_files, notes, .. } = run;
    Ok(RunArgs { container, env_files, env_of_caller, label_files, notes })
}

/// What was read so far.
#[derive(Default)]
struct Draft {
    container: Container,
    env_files: Vec<Placed<String>>,
    env_of_caller: Vec<Placed<String>>,
    label_files: Vec<Placed<String>>,
    notes: Vec<Note>,
    /// The network that was named first.
    first_network: Option<String>,
    /// What is said about that one apart from naming it, and where.
    attachment: Option<(Attachment, Location)>,
}

impl Draft {
    /// Takes up what is said about the network that is named first, which may not be named yet.
    fn attach(&mut self, text: &str, at: &Location, set: fn(&mut Attachment, String)) -> Result<(), Wrong> {
        let text = values::filled(text)?.to_owned();
        set(&mut self.attachment.get_or_insert_with(|| (Attachment::default(), at.clone())).0, text);
        Ok(())
    }

    /// Says it about that network.
    fn attach_to_first(&mut self) -> Result<(), Problem> {
        let Some((said, at)) = self.attachment.take() else { return Ok(()) };
        let first = match (&mut self.container.network, &self.first_network) {
            (Some(NetworkMode::Networks(networks)), Some(name)) => networks.get_mut(name),
            _ => None,
        };
        let Some(first) = first else {
            return Err(Problem::new("run-args", "this is said about a network that is not named")
                .at(at)
                .why("names and addresses in a network need a network that has a name")
                .hint("add `--network=NAME`"));
        };
        first.aliases.extend(said.aliases);
        first.ipv4 = said.ipv4.or(first.ipv4.take());
        first.ipv6 = said.ipv6.or(first.ipv6.take());
        first.mac = said.mac.or(first.mac.take());
        Ok(())
    }
}

/// Every argument that is read or refused by name, in its long form.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = String> {
    OPTIONS
        .iter()
        .map(|option| option.name)
        .chain(WITHOUT_EQUAL.iter().copied())
        .map(|name| format!("--{name}"))
}

/// Reads one argument, with the next one where that is its value.
fn one<'a>(
    run: &mut Draft,
    arg: &'a Placed<String>,
    rest: &mut impl Iterator<Item = &'a Placed<String>>,
) -> Result<(), Problem> {
    let text = arg.value.as_str();
    if let Some(long) = text.strip_prefix("--").filter(|long| !long.is_empty()) {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let option = OPTIONS
            .iter()
            .find(|option| option.name == name)
            .ok_or_else(|| unknown(name).at(arg.at.clone()))?;
        return apply(run, option, value, arg, rest);
    }
    if let Some(short) = text.strip_prefix('-').filter(|short| !short.is_empty() && !short.starts_with('-')) {
        return shorts(run, short, arg, rest);
    }
    let problem = Problem::new("run-args", format!("`{text}` is not an option of `docker run`"));
    Err(problem
        .at(arg.at.clone())
        .why("options begin with `-`, and this is not the value of the one before")
        .hint("the image and the command are not given here"))
}

/// Short options: some without a value, then perhaps one with its value.
fn shorts<'a>(
    run: &mut Draft,
    short: &str,
    arg: &'a Placed<String>,
    rest: &mut impl Iterator<Item = &'a Placed<String>>,
) -> Result<(), Problem> {
    for (index, letter) in short.char_indices() {
        let option = OPTIONS.iter().find(|option| option.short == Some(letter)).ok_or_else(|| {
            Problem::new("run-args", format!("`docker run` has no option `-{letter}` that is supported"))
                .at(arg.at.clone())
        })?;
        if matches!(option.reads, Reads::Flag(_)) {
            apply(run, option, None, arg, rest)?;
            continue;
        }
        let value = &short[index + letter.len_utf8()..];
        let value = value.strip_prefix('=').unwrap_or(value);
        return apply(run, option, Some(value).filter(|value| !value.is_empty()), arg, rest);
    }
    Ok(())
}

fn apply<'a>(
    run: &mut Draft,
    option: &options::RunOption,
    value: Option<&str>,
    arg: &'a Placed<String>,
    rest: &mut impl Iterator<Item = &'a Placed<String>>,
) -> Result<(), Problem> {
    let name = option.name;
    let mut at: Location = arg.at.clone();
    let done = match option.reads {
        Reads::Flag(set) => match value {
            None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => {
                set(run, true);
                Ok(())
            }
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => {
                set(run, false);
                Ok(())
            }
            Some(_) => Err(Wrong::new("it is on by itself, or `true` or `false`")),
        },
        Reads::Value(set) => match value {
            Some(value) => set(run, value, &at),
            None => match rest.next() {
                Some(next) => {
                    at = next.at.clone();
                    set(run, &next.value, &at)
                }
                None => Err(Wrong::new("it needs a value, and is the last of the arguments")),
            },
        },
        Reads::NoteFlag(said) => {
            run.notes.push(Note { at: at.clone(), text: format!("`--{name}` has no effect: {said}") });
            Ok(())
        }
        Reads::NoteValue(said) => {
            if value.is_none() && rest.next().is_none() {
                Err(Wrong::new("it needs a value, and is the last of the arguments"))
            } else {
                run.notes.push(Note { at: at.clone(), text: format!("`--{name}` has no effect: {said}") });
                Ok(())
            }
        }
    };
    done.map_err(|wrong| wrong.problem("run-args", format!("`--{name}` of `runArgs` cannot be read")).at(at))
}

fn unknown(name: &str) -> Problem {
    if WITHOUT_EQUAL.contains(&name) {
        return Problem::new("run-args", format!("`--{name}` of `runArgs` is not supported"))
            .why(
                "it is an option of Docker alone, and the container would not be what it asks for without it",
            )
            .hint("remove it, or say the same in another way");
    }
    let problem = Problem::new("run-args", format!("`docker run` has no option `--{name}`"));
    match nearest(name, OPTIONS.iter().map(|option| option.name)) {
        Some(meant) => problem.hint(format!("did you mean `--{meant}`?")),
        None => problem,
    }
}

#[cfg(test)]
mod tests;
