use std::io::{BufRead, BufReader};

use clap::Args;
use serde::Serialize;
use setpoint_runtime::engine::{Engine, UnitId};
use setpoint_runtime::logs;
use setpoint_runtime::project::Project;

use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// Show what a hook or a pack said when it ran last, or what a service says
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The environment; may be left out where there is only one
    unit: Option<String>,
    /// A hook or a pack: `post_create`, `pack uv`; the one that ran last, if none is named
    #[arg(num_args = 0..=2)]
    hook: Vec<String>,
    /// Only list what there are logs of, the latest first
    #[arg(long)]
    list: bool,
    /// Go on as long as the service does
    #[arg(long, short)]
    follow: bool,
}

/// `logs`.
#[derive(Debug, Serialize)]
struct Log {
    setpoint: u32,
    unit: String,
    phase: String,
    lines: Vec<String>,
}

/// `logs --list`.
#[derive(Debug, Serialize)]
struct Phases {
    setpoint: u32,
    unit: String,
    phases: Vec<String>,
}

impl Logs {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let output = context.output;
        let project = context.project()?;
        let words: Vec<_> = self.unit.iter().chain(&self.hook).cloned().collect();
        let (unit, phase) = meant(&project, &words);
        let env = project.env(unit)?;
        let engine = context.engine(project.manifest.engine);
        let folder = context.unit(engine.as_ref(), &project, env).logs();
        let name = env.name.to_string();
        let unreadable = |error: std::io::Error| {
            Failure::new(
                Exit::State,
                "logs",
                format!("cannot read the logs in {}: {error}", folder.display()),
            )
        };
        let known = logs::phases(&folder).map_err(unreadable)?;
        if env.is_service() && phase.is_none() && !self.list {
            let unit = context.unit(engine.as_ref(), &project, env);
            return self.output_of(context, engine.as_ref(), &unit.id, &name);
        }
        if self.list {
            if output.json {
                output.value(&Phases { setpoint: json::VERSION, unit: name, phases: known });
            } else {
                known.iter().for_each(|phase| output.line(phase));
            }
            return Ok(SUCCESS);
        }
        let Some(latest) = known.first() else {
            let of = phase.map(|phase| format!(" of `{phase}`")).unwrap_or_default();
            let message = format!("{name} has no logs{of}: no hook and no pack has run yet");
            return Err(Failure::new(Exit::NotFound, "no-log", message)
                .hint(format!("`setpoint up {name}` runs them")));
        };
        let phase = phase.unwrap_or_else(|| latest.clone());
        // Only a name that is in the folder is ever read: a phase is no path.
        if !known.contains(&phase) {
            let message = format!("{name} has no log of `{phase}`; there is: {}", known.join(", "));
            return Err(Failure::new(Exit::NotFound, "no-log", message));
        }
        let lines = logs::read(&folder, &phase).map_err(unreadable)?;
        if output.json {
            output.value(&Log { setpoint: json::VERSION, unit: name, phase, lines });
        } else {
            lines.iter().for_each(|line| output.line(line));
        }
        Ok(SUCCESS)
    }
}

impl Logs {
    /// Shows what a service wrote, and with `--follow` what it will write.
    fn output_of(
        &self,
        context: &Context,
        engine: &dyn Engine,
        id: &UnitId,
        name: &str,
    ) -> Result<u8, Failure> {
        let broken = |error: std::io::Error| {
            Failure::new(Exit::Engine, "logs", format!("cannot read the output of {name}: {error}"))
        };
        let written = BufReader::new(engine.output(id, self.follow)?);
        if context.output.json {
            let lines = written.lines().collect::<Result<_, _>>().map_err(broken)?;
            let (unit, phase) = (name.to_owned(), "output".to_owned());
            context.output.value(&Log { setpoint: json::VERSION, unit, phase, lines });
            return Ok(SUCCESS);
        }
        for line in written.split(b'\n') {
            context.output.line(String::from_utf8_lossy(&line.map_err(broken)?).trim_end_matches('\r'));
        }
        Ok(SUCCESS)
    }
}

/// The unit and the phase that these words name.
fn meant<'a>(project: &Project, words: &'a [String]) -> (Option<&'a str>, Option<String>) {
    let is_unit = |word: &str| project.manifest.envs.keys().any(|name| name.as_str() == word);
    split(words, project.manifest.envs.len(), is_unit)
}

/// The first word is the unit, unless there is only one and it is called something else.
fn split(words: &[String], units: usize, is_unit: impl Fn(&str) -> bool) -> (Option<&str>, Option<String>) {
    let (unit, phase) = match words {
        [first, rest @ ..] if units != 1 || is_unit(first) => (Some(first.as_str()), rest),
        rest => (None, rest),
    };
    let phase = (!phase.is_empty()).then(|| phase.join("-").replace(' ', "-"));
    (unit, phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_may_be_left_out_and_a_pack_is_one_word_or_two() {
        let cases: [(&[&str], usize, Option<&str>, Option<&str>); 8] = [
            (&[], 1, None, None),
            (&["dev"], 1, Some("dev"), None),
            (&["dev", "post_create"], 1, Some("dev"), Some("post_create")),
            (&["post_create"], 1, None, Some("post_create")),
            (&["pack", "uv"], 1, None, Some("pack-uv")),
            (&["dev", "pack uv"], 2, Some("dev"), Some("pack-uv")),
            (&["dev", "pack-uv"], 2, Some("dev"), Some("pack-uv")),
            (&["post_create"], 2, Some("post_create"), None),
        ];
        for (words, units, unit, phase) in cases {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            let found = split(&words, units, |word| word == "dev");
            assert_eq!(found, (unit, phase.map(str::to_owned)), "{words:?}");
        }
    }
}
