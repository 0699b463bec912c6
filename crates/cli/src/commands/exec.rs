use std::io::IsTerminal;

use clap::Args;
use setpoint_runtime::engine::{ExecSpec, Io};

use super::attach::{add_terminal, enter, guest, running};
use crate::context::Context;
use crate::error::Failure;

/// Run a command in an environment, and end as it ends
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The environment; may be left out where there is only one
    #[arg(value_name = "ENV")]
    unit: Option<String>,
    /// Who runs it: a name or `uid[:gid]`; the environment's user, if it is left out
    #[arg(long, short)]
    user: Option<String>,
    /// A variable for it, over those of the environment
    #[arg(long = "env", short, value_name = "NAME=VALUE", value_parser = assignment)]
    env: Vec<(String, String)>,
    /// Give it a terminal, even where this one is none
    #[arg(long, short)]
    tty: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Exec {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        let env = project.env(self.unit.as_deref())?;
        let engine = context.engine(project.manifest.engine);
        let unit = context.unit(engine.as_ref(), &project, env);
        running(&unit)?;
        let guest = guest(context, &unit, self.user.as_deref())?;
        let terminal = self.tty || (std::io::stdin().is_terminal() && std::io::stdout().is_terminal());
        let mut variables = guest.variables;
        if terminal {
            add_terminal(context, &mut variables);
        }
        variables.extend(self.env);
        let io = if terminal { Io::Terminal } else { Io::Inherit };
        let user = Some(self.user.unwrap_or(guest.account.name));
        enter(&unit, &ExecSpec { argv: self.command, env: variables, cwd: None, user, io })
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it has to be NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        exec: Exec,
    }

    fn parse(words: &[&str]) -> Result<Exec, clap::Error> {
        Line::try_parse_from(std::iter::once(&"exec").chain(words)).map(|line| line.exec)
    }

    #[test]
    fn the_environment_may_be_left_out() {
        let exec = parse(&["--", "true", "-x"]).unwrap();
        assert_eq!((exec.unit, exec.command), (None, vec!["true".to_owned(), "-x".to_owned()]));
        let exec = parse(&["dev", "--env", "A=b=c", "--", "env"]).unwrap();
        assert_eq!(exec.unit.as_deref(), Some("dev"));
        assert_eq!(exec.env, [("A".to_owned(), "b=c".to_owned())]);
    }

    #[test]
    fn a_command_is_needed_and_a_variable_has_a_name() {
        for words in [&["dev"][..], &["--"], &["--env", "=x", "--", "env"], &["--env", "A", "--", "env"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
