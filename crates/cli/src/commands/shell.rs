use std::io::IsTerminal;

use clap::Args;
use setpoint_runtime::engine::{ExecSpec, Io};

use super::attach::{add_terminal, attach, enter, guest, running};
use crate::context::Context;
use crate::error::{Exit, Failure};

/// Becomes the account's login shell; `/bin/sh` where there is none, or one that lets nobody in.
const LOGIN: &str = r#"
case "${SHELL:-}" in
  ""|*/nologin|*/false) ;;
  *) if [ -x "$SHELL" ]; then exec "$SHELL" -l; fi ;;
esac
SHELL=/bin/sh exec /bin/sh -l
"#;

/// Open a shell in an environment
#[derive(Debug, Args)]
pub(crate) struct Shell {
    /// The environment; may be left out where there is only one
    #[arg(value_name = "ENV")]
    unit: Option<String>,
    /// Whose shell: a name or `uid[:gid]`; that of the environment's user, if it is left out
    #[arg(long, short)]
    user: Option<String>,
}

impl Shell {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        let env = project.env(self.unit.as_deref())?;
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Err(Failure::new(
                Exit::Usage,
                "no-terminal",
                "a shell needs a terminal, and this is none",
            )
            .hint(format!("use `setpoint exec {} -- COMMAND`", env.name)));
        }
        let engine = context.engine(project.manifest.engine);
        let unit = context.unit(engine.as_ref(), &project, env);
        running(&unit)?;
        let guest = guest(context, &unit, self.user.as_deref())?;
        attach(context, &unit, &guest);
        let mut variables = guest.variables;
        add_terminal(context, &mut variables);
        let argv = ["/bin/sh", "-c", LOGIN].map(str::to_owned).to_vec();
        let user = Some(self.user.unwrap_or(guest.account.name));
        enter(&unit, &ExecSpec { argv, env: variables, cwd: None, user, io: Io::Terminal })
    }
}
