//! Processes in a container that runs.
//!
//! The API starts a process in a container and tells how it ended, and knows no way to signal it. So each carries
//! a mark in its environment, which what it starts inherits, and a small script inside finds those who have it.
//! What must not outlive its caller (hooks, packs) stands under a shell that holds the other end of its input:
//! when the caller is gone, for whatever reason, the engine closes that end, and the shell's watcher kills all who
//! carry the mark.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::client::{Client, Connected};
use super::error::DockerError;
use super::pipes::{self, Output, Pieces, Sink};
use crate::engine::{Ended, EngineError, ExecSpec, Io, Pipes, Process};

/// The variable that holds a process's mark.
const MARK: &str = "SETPOINT_EXEC";

/// Sends a signal to all that carry a mark: `$1` the mark, `$2` the signal's number. A kill is repeated until
/// nobody is found any more.
const SIGNAL: &str = r#"
round=0
while [ "$round" -lt 50 ]; do
  round=$((round + 1)) found=
  for process in /proc/[0-9]*; do
    case " $(tr '\0' ' ' 2>/dev/null <"$process/environ") " in
      *" SETPOINT_EXEC=$1 "*) kill "-$2" "${process#/proc/}" 2>/dev/null && found=yes ;;
    esac
  done
  if [ -z "$found" ] || [ "$2" != 9 ]; then break; fi
done
"#;

/// Runs its arguments, and kills what came of them when its input ends before they do. `$1` is [`SIGNAL`]. The watcher
/// kills this shell first: it would end the watcher as soon as its child is gone.
const SUPERVISE: &str = r#"
setpoint_signal=$1
shift
exec 3<&0 </dev/null 2>&1
(
  mark=$SETPOINT_EXEC
  unset SETPOINT_EXEC
  exec /bin/sh -c 'trap "" HUP INT TERM; cat; kill -9 "$4"; eval "$3"' sh "$mark" 9 "$setpoint_signal" "$$" <&3 >/dev/null 2>&1
) &
setpoint_watcher=$!
exec 3<&-
"$@" &
setpoint_child=$!
trap '' HUP INT TERM
wait "$setpoint_child"
setpoint_code=$?
kill -9 "$setpoint_watcher" 2>/dev/null
exit "$setpoint_code"
"#;

/// How long to wait between two questions whether a process has ended, while its output stays open.
const ASK: Duration = Duration::from_millis(100);
/// For how long nothing has to come of a process that has ended, whose output stays open.
const QUIET: Duration = Duration::from_millis(300);

/// A process in a container.
pub(super) struct Exec {
    client: Arc<Client>,
    container: String,
    user: String,
    id: String,
    mark: String,
    output: Option<Pieces>,
    errors: Option<Pieces>,
    /// What the process reads; closing it ends a supervised one.
    input: Option<mpsc::Sender<Vec<u8>>>,
    ending: Receiver<Result<i64, DockerError>>,
    ended: Option<Ended>,
}

impl Exec {
    /// Starts a process as this user.
    pub(super) fn start(
        client: &Arc<Client>,
        container: &str,
        spec: &ExecSpec,
        user: &str,
    ) -> Result<Self, EngineError> {
        let connected = client.get()?;
        let mark = crate::random::hex();
        let terminal = spec.io == Io::Terminal;
        let mut env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        env.push(format!("{MARK}={mark}"));
        let kind = client.variables().get("TERM").filter(|_| terminal && !spec.env.contains_key("TERM"));
        env.extend(kind.map(|kind| format!("TERM={kind}")));
        let argv = if spec.io == Io::Captured {
            let supervisor = ["/bin/sh", "-c", SUPERVISE, "sh", SIGNAL].map(str::to_owned);
            supervisor.into_iter().chain(spec.argv.iter().cloned()).collect()
        } else {
            spec.argv.clone()
        };
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(terminal),
            env: Some(env),
            cmd: Some(argv),
            user: (!user.is_empty()).then(|| user.to_owned()),
            working_dir: spec.cwd.as_ref().map(|cwd| cwd.to_string_lossy().into_owned()),
            ..ExecConfig::default()
        };
        let what = "start a process";
        let id = connected.quick(what, connected.api.create_exec(container, config))?.id;
        let options = StartExecOptions { tty: terminal, ..StartExecOptions::default() };
        let started = connected.quick(what, connected.api.start_exec(&id, Some(options)))?;
        let StartExecResults::Attached { output, input } = started else {
            let why = "the engine detached it".to_owned();
            return Err(DockerError::Refused { what, why }.into());
        };
        let (to, pieces, errors) = Sink::of(spec.io);
        let (sender, ending) = channel();
        connected.spawn(follow(connected.api.clone(), id.clone(), output, to, sender));
        let (keys, typed) = pipes::keys();
        connected.spawn(pipes::feed(input, typed));
        if spec.io == Io::Inherit {
            pipes::pass_on_input(keys.clone());
        }
        let container = container.to_owned();
        let input = (spec.io != Io::Inherit).then_some(keys);
        let user = user.to_owned();
        let client = Arc::clone(client);
        Ok(Self { client, container, user, id, mark, output: pieces, errors, input, ending, ended: None })
    }

    fn take(&mut self, code: Result<i64, DockerError>) -> Result<Option<Ended>, EngineError> {
        let code = i32::try_from(code?).unwrap_or(i32::MAX);
        self.ended = Some(Ended::Code(code));
        Ok(self.ended)
    }
}

/// Sends a signal to all of a user's processes that carry a mark: whose environment it is, only he may read.
fn signal(
    connected: &Connected,
    container: &str,
    user: &str,
    mark: &str,
    signal: u8,
) -> Result<(), DockerError> {
    let argv = ["/bin/sh", "-c", SIGNAL, "sh", mark, &signal.to_string()].map(str::to_owned).to_vec();
    let config = ExecConfig {
        cmd: Some(argv),
        user: (!user.is_empty()).then(|| user.to_owned()),
        attach_stdout: Some(true),
        ..ExecConfig::default()
    };
    let what = "signal a process";
    let id = connected.quick(what, connected.api.create_exec(container, config))?.id;
    let started = connected.quick(what, connected.api.start_exec(&id, None))?;
    if let StartExecResults::Attached { mut output, .. } = started {
        connected.wait(async { while output.next().await.is_some() {} });
    }
    Ok(())
}

impl Process for Exec {
    fn pipes(&mut self) -> Option<Pipes> {
        Some(Pipes {
            errors: Box::new(self.errors.take()?),
            output: Box::new(self.output.take()?),
            input: Box::new(pipes::Keys(self.input.take()?)),
        })
    }

    fn output(&mut self) -> Option<Box<dyn Read + Send>> {
        self.output.take().map(|output| Box::new(output) as Box<dyn Read + Send>)
    }

    fn wait(&mut self, at_most: Duration) -> Result<Option<Ended>, EngineError> {
        if self.ended.is_some() {
            return Ok(self.ended);
        }
        match self.ending.recv_timeout(at_most) {
            Ok(code) => self.take(code),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                let why = "the engine does not tell how it ended".to_owned();
                Err(DockerError::Refused { what: "wait for a process", why }.into())
            }
        }
    }

    fn signal(&mut self, number: u8) {
        if let Ok(connected) = self.client.get() {
            // What it has started as root, too. Who is gone needs no signal.
            let is_root = matches!(self.user.as_str(), "root" | "0" | "0:0");
            let others = (!is_root).then_some("0");
            for user in [self.user.as_str()].into_iter().chain(others) {
                let _ = signal(connected, &self.container, user, &self.mark, number);
            }
        }
    }

    fn kill(&mut self) {
        self.input = None;
        self.signal(9);
    }

    fn attach(&mut self, resized: &Arc<AtomicBool>) -> Result<Ended, EngineError> {
        let client = Arc::clone(&self.client);
        let connected = client.get()?;
        let (output, keys, id) = (self.output.take(), self.input.clone(), self.id.clone());
        let resize = |height, width| {
            let size = ResizeExecOptions { height, width };
            // A process that has just ended has no window any more.
            let _ = connected.quick("resize a terminal", connected.api.resize_exec(&id, size));
        };
        pipes::join(output, keys, resized, resize, |at_most| self.wait(at_most))
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        if self.ended.is_none() && !matches!(self.wait(Duration::ZERO), Ok(Some(_))) {
            self.kill();
        }
    }
}

/// Passes on the output of a process, and tells how it ended: when all that it wrote has come, or, where others still
/// hold its output open, when nothing has come for a while.
async fn follow(
    api: bollard::Docker,
    id: String,
    mut output: Output,
    to: Sink,
    ending: Sender<Result<i64, DockerError>>,
) {
    let mut told = false;
    let mut known = None;
    let mut ask = tokio::time::interval(ASK);
    ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let quiet_at = known.as_ref().map(|(_, most)| (Instant::now() + QUIET).min(*most));
        tokio::select! {
            piece = output.next() => match piece {
                Some(Ok(piece)) => to.put(piece).await,
                Some(Err(_)) | None => break,
            },
            _ = ask.tick(), if known.is_none() && !told => {
                known = ended(&api, &id).await.map(|code| (code, Instant::now() + QUIET * 10));
            }
            () = tokio::time::sleep_until(quiet_at.unwrap_or_else(Instant::now)), if quiet_at.is_some() => {
                told = true;
                let _ = known.take().map(|(code, _)| ending.send(code));
            }
        }
    }
    let mut pause = Duration::from_millis(1);
    while !told {
        let code = match known.take() {
            Some((code, _)) => Some(code),
            None => ended(&api, &id).await,
        };
        match code {
            Some(code) => {
                told = true;
                let _ = ending.send(code);
            }
            None => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(ASK);
    }
}

/// How a process ended, if it has.
async fn ended(api: &bollard::Docker, id: &str) -> Option<Result<i64, DockerError>> {
    match api.inspect_exec(id).await {
        Ok(found) if found.running == Some(true) => None,
        Ok(found) => found.exit_code.map(Ok),
        Err(error) => {
            let why = error.to_string();
            Some(Err(DockerError::Refused { what: "learn how a process ended", why }))
        }
    }
}
