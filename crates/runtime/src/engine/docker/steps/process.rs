//! The process of a step: the first one of its container, and what keeps it from outliving its caller.
//!
//! A small script stands over the step. It is told on its input what to run and with which variables, so that neither
//! the container nor an image made of it holds a secret. While the step runs that input stays open; when the caller is
//! gone, for whatever reason, the engine closes it, and everything in the container is killed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bollard::query_parameters::{
    AttachContainerOptionsBuilder, KillContainerOptionsBuilder, ResizeContainerTTYOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::super::client::{Client, Connected, cleaned_up};
use super::super::error::{DockerError, says};
use super::super::pipes::{self, Output, Pieces, Sink};
use super::super::{Docker, Flavor};
use super::make::Made;
use super::{Steps, lock};
use crate::engine::{Ended, EngineError, Io, Process, StepSpec};

/// Takes words until a line that ends them, and enters the folder `$1`, without what engines and shells put into the
/// environment of their own accord.
const READ: &str = r#"
IFS= read -r setpoint_end <&3
setpoint_words= setpoint_line=
while IFS= read -r setpoint_line <&3 && [ "$setpoint_line" != "$setpoint_end" ]; do
  setpoint_words="$setpoint_words$setpoint_line
"
done
[ "$setpoint_line" = "$setpoint_end" ] || exit 125
cd "$1" || exit 126
unset HOSTNAME OLDPWD PWD SHLVL TERM container
eval "set -- $setpoint_words"
unset setpoint_words setpoint_line setpoint_end
"#;

/// Runs what it is told, passes on what asks it to end, and kills everything when its input ends.
const SUPERVISE: &str = r#"
( trap '' HUP INT TERM; while read -r setpoint_line; do :; done; kill -9 -1 ) <&3 >/dev/null 2>&1 &
exec 3<&-
trap 'setpoint_heard=yes; kill -HUP -1' HUP
trap 'setpoint_heard=yes; kill -INT -1' INT
trap 'setpoint_heard=yes; kill -TERM -1' TERM
env "$@" &
setpoint_child=$!
while :; do
  setpoint_heard=
  wait "$setpoint_child"
  setpoint_code=$?
  if [ -z "$setpoint_heard" ]; then exit "$setpoint_code"; fi
done
"#;

/// Signals whose numbers a shell adds to 128, to tell that one of them ended a process.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=31;

/// What a container is made with to run a step.
pub(super) struct Run {
    pub(super) entrypoint: Vec<String>,
    pub(super) arguments: Vec<String>,
    pub(super) env: Vec<String>,
}

impl Run {
    pub(super) fn new(step: &StepSpec) -> Self {
        let cwd = step.cwd.to_string_lossy().into_owned();
        let shell = |script: String| ["/bin/sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
        if step.io != Io::Terminal {
            let script = format!("exec 3<&0 </dev/null 2>&1{READ}{SUPERVISE}");
            return Self { entrypoint: shell(script), arguments: vec![cwd], env: Vec::new() };
        }
        // Nothing stands over what has a terminal, and no image is made of it.
        let home = step.user.is_none().then(|| "HOME=/root".to_owned());
        Self {
            entrypoint: shell("cd \"$1\" && shift && exec \"$@\"".to_owned()),
            arguments: std::iter::once(cwd).chain(step.argv.iter().cloned()).collect(),
            env: home.into_iter().chain(variables(step)).collect(),
        }
    }
}

fn variables(step: &StepSpec) -> impl Iterator<Item = String> {
    step.env.iter().map(|(name, value)| format!("{name}={value}"))
}

/// What the script is told: the variables and the command, as words of a shell.
fn told(step: &StepSpec, home: &Path) -> Vec<u8> {
    let mut words = vec![format!("HOME={}", home.display())];
    words.extend(variables(step));
    words.extend(step.argv.iter().cloned());
    let words: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    let end = crate::random::hex();
    format!("{end}\n{}\n{end}\n", words.join(" ")).into_bytes()
}

/// The process of a step. Its container goes with it.
pub(super) struct StepProcess {
    client: Arc<Client>,
    steps: Arc<Steps>,
    state: PathBuf,
    made: Made,
    output: Option<Pieces>,
    /// What the script reads; closing it ends the step.
    input: Option<mpsc::Sender<Vec<u8>>>,
    ending: Receiver<Result<Ended, DockerError>>,
    ended: Option<Ended>,
}

impl StepProcess {
    pub(super) fn start(docker: &Docker, made: Made, step: &StepSpec) -> Result<Self, EngineError> {
        let (client, steps) = (Arc::clone(&docker.client), Arc::clone(&docker.steps));
        let connected = docker.connected()?;
        let (to, output, _) = Sink::of(step.io);
        let (keys, typed) = pipes::keys();
        let (sender, ending) = channel();
        let (name, state) = (made.name.clone(), step.state.clone());
        let words = told(step, &made.home);
        // From here on the container goes when this is dropped.
        let process =
            Self { client, steps, state, made, output, input: Some(keys.clone()), ending, ended: None };
        let options = AttachContainerOptionsBuilder::default();
        let options = options.stream(true).stdin(true).stdout(true).stderr(true).build();
        let what = "start a step";
        let attached = connected.quick(what, connected.api.attach_container(&name, Some(options)))?;
        connected.spawn(follow(attached.output, to));
        connected.spawn(pipes::feed(attached.input, typed));
        connected
            .quick(what, connected.api.start_container(&name, None))
            .map_err(|error| not_started(docker.flavor, error))?;
        connected.spawn(tell_end(connected.api.clone(), name, sender));
        if step.io != Io::Terminal {
            let _ = keys.blocking_send(words);
        }
        Ok(process)
    }

    fn connected(&self) -> Option<&Connected> {
        self.client.get().ok()
    }
}

/// What keeps a container from starting, as something that people can do something about.
fn not_started(flavor: Flavor, error: DockerError) -> EngineError {
    let DockerError::Refused { why, .. } = &error else { return error.into() };
    let unsupported = |what: String, hint: &str| EngineError::Unsupported {
        engine: flavor.name(),
        what,
        hint: hint.to_owned(),
    };
    if says(why, &["mount local volume", "mounting volume", "mount volume"]) {
        return unsupported(
            format!("mounting a step's workspace as an overlay ({why})"),
            "the engine has to be on this machine, see the same files and be allowed to mount overlays; or take \
             `engine.default` out",
        );
    }
    if says(why, &["\"/bin/sh\"", "`/bin/sh`"]) {
        return unsupported(
            format!("a step in an image without /bin/sh ({why})"),
            "use an image that has a shell, or take `engine.default` out",
        );
    }
    error.into()
}

async fn follow(mut output: Output, to: Sink) {
    while let Some(Ok(piece)) = output.next().await {
        to.put(piece).await;
    }
}

/// Tells how a container ended, when it has.
async fn tell_end(api: bollard::Docker, name: String, to: Sender<Result<Ended, DockerError>>) {
    let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
    let mut waiting = Box::pin(api.wait_container(&name, Some(options)));
    // Whatever it says of the code: only who looks afterwards finds everything unmounted.
    let _ = waiting.next().await;
    let what = "learn how a step ended";
    let told = match cleaned_up(&api, &name).await {
        Err(error) => Err(DockerError::Refused { what, why: error.to_string() }),
        Ok(found) => match found.state {
            Some(state) if state.running == Some(true) => {
                Err(DockerError::Refused { what, why: "the engine does not wait for it".to_owned() })
            }
            Some(state) if state.oom_killed == Some(true) && state.exit_code != Some(0) => {
                Ok(Ended::OutOfMemory)
            }
            state => Ok(ended(state.and_then(|state| state.exit_code).unwrap_or(-1))),
        },
    };
    let _ = to.send(told);
}

fn ended(code: i64) -> Ended {
    let code = i32::try_from(code).unwrap_or(i32::MAX);
    if SIGNALS.contains(&(code - 128)) { Ended::Signal(code - 128) } else { Ended::Code(code) }
}

impl Process for StepProcess {
    fn output(&mut self) -> Option<Box<dyn Read + Send>> {
        self.output.take().map(|output| Box::new(output) as Box<dyn Read + Send>)
    }

    fn wait(&mut self, at_most: Duration) -> Result<Option<Ended>, EngineError> {
        if self.ended.is_some() {
            return Ok(self.ended);
        }
        match self.ending.recv_timeout(at_most) {
            Ok(ended) => {
                self.ended = Some(ended?);
                self.made.give()?;
                Ok(self.ended)
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                let why = "the engine does not tell how it ended".to_owned();
                Err(DockerError::Refused { what: "wait for a step", why }.into())
            }
        }
    }

    fn signal(&mut self, number: u8) {
        let options = KillContainerOptionsBuilder::default().signal(&number.to_string()).build();
        if let Some(connected) = self.connected() {
            // What has ended needs no signal.
            let killed = connected.api.kill_container(&self.made.name, Some(options));
            let _ = connected.quick("signal a step", killed);
        }
    }

    fn kill(&mut self) {
        self.input = None;
        self.signal(9);
    }

    fn attach(&mut self, resized: &Arc<AtomicBool>) -> Result<Ended, EngineError> {
        let client = Arc::clone(&self.client);
        let connected = client.get()?;
        let (output, keys, name) = (self.output.take(), self.input.clone(), self.made.name.clone());
        let resize = |height: u16, width: u16| {
            let size = ResizeContainerTTYOptionsBuilder::default().h(height.into()).w(width.into()).build();
            // What has just ended has no window any more.
            let _ = connected.quick("resize a terminal", connected.api.resize_container_tty(&name, size));
        };
        pipes::join(output, keys, resized, resize, |at_most| self.wait(at_most))
    }
}

impl Drop for StepProcess {
    fn drop(&mut self) {
        lock(&self.steps.containers).remove(&self.state);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_code_above_128_is_a_signal_if_it_can_be_one() {
        let ends = [0, 1, 127, 128, 137, 143, 159, 160, 255].map(ended);
        let [ok, one, c127, c128, kill, term, last, c160, c255] = ends;
        assert_eq!([ok, one, c127, c128], [0, 1, 127, 128].map(Ended::Code));
        assert_eq!([kill, term, last], [9, 15, 31].map(Ended::Signal));
        assert_eq!([c160, c255], [160, 255].map(Ended::Code));
    }

    /// What the script reads comes out as it was put in, whatever is in it.
    #[test]
    fn words_arrive_whole() {
        let texts = ["", "a b", "it's \"so\" $HOME `x` \\ \\n", "two\nlines\n", "*", "ß"];
        let script = format!("exec 3<&0 </dev/null{READ}exec env -i \"$@\"");
        let mut argv = vec!["/usr/bin/printf".to_owned(), "<%s>".to_owned()];
        argv.extend(texts.map(str::to_owned));
        let step = StepSpec {
            base: crate::engine::BaseSource::Host,
            below: Vec::new(),
            state: PathBuf::new(),
            scratch: PathBuf::new(),
            workspace: Vec::new(),
            mounts: Vec::new(),
            argv,
            env: [("A".to_owned(), "1 2\n'3".to_owned())].into(),
            cwd: "/".into(),
            user: None,
            network: setpoint_model::manifest::Network::None,
            joins: None,
            io: Io::Captured,
        };
        let mut shell = Command::new("/bin/sh")
            .args(["-c", &script, "sh", "/"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), &told(&step, Path::new("/root")))
            .unwrap();
        let said = String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap();
        let expected: String = texts.iter().map(|text| format!("<{text}>")).collect();
        assert_eq!(said, expected);
    }
}
