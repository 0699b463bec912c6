//! Whether the main process of a sandbox is well: its check is made now and then, and what came of it lies in the
//! sandbox's folder.

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};
use serde::{Deserialize, Serialize};

use crate::ask::{self, ask};
use crate::channel::Channel;
use crate::error::SandboxError;
use crate::exec::exec;
use crate::setup;
use crate::spec::{Check, Ended, ExecSpec, Network, Test};
use crate::syscalls::{self, Fork};
use crate::unit::{self, Observed, Running, ended_within};

const HEALTH: &str = "health.json";
/// How much of what a check said is kept.
const SAID: u64 = 4096;
/// How much later than it should be a check may be on a busy machine.
const SLACK: Duration = Duration::from_secs(10);
/// For how long is news what somebody else's check has come to.
const NEWS: Duration = Duration::from_secs(60);
/// How often is looked whether a check has ended.
const TICK: Duration = Duration::from_millis(50);
/// How long after the start is looked for the first time; the pauses after that grow by a quarter.
const SOON: Duration = Duration::from_millis(10);

/// What checks have come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it is well.
    pub status: Status,
    /// How many checks failed in a row.
    pub failures: u32,
    /// What the last check said.
    pub said: String,
    /// For how long this is news; versions that did not say so ended their checks with what they checked.
    holds: Option<Duration>,
    /// The process that it is told of, as in [`Running`].
    pid: i32,
    start_time: u64,
}

/// Whether a main process is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Nobody knows yet.
    Starting,
    /// It is.
    Healthy,
    /// It is not.
    Unhealthy,
}

/// What is known of the health of a sandbox that runs; nothing before its first check, or if its checks have ceased.
#[must_use]
pub fn health(folder: &Path, running: &Running) -> Option<Health> {
    let path = folder.join(HEALTH);
    let health: Health = unit::read(&path)?;
    let told = path.metadata().and_then(|metadata| metadata.modified()).ok()?;
    if health.holds.is_some_and(|holds| told.elapsed().is_ok_and(|age| age > holds)) {
        return None;
    }
    ((health.pid, health.start_time) == (running.pid, running.start_time)).then_some(health)
}

/// Tells what somebody else's check has come to of what runs.
///
/// # Errors
/// If it cannot be written.
pub fn tell_health(folder: &Path, running: &Running, status: Status) -> Result<(), SandboxError> {
    let health = Health {
        status,
        failures: 0,
        said: String::new(),
        holds: Some(NEWS),
        pid: running.pid,
        start_time: running.start_time,
    };
    unit::write(&folder.join(HEALTH), &health)
}

/// The process that runs checks, a child of the sandbox's parent. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Checker {
    process: Pid,
    channel: Channel,
}

impl Checker {
    /// Starts the process; it waits to be told what runs.
    pub(crate) fn new(check: &Check, network: &Network) -> Result<Self, SandboxError> {
        let failed = |error: io::Error| SandboxError::io("start", "the health check", error);
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        match syscalls::fork().map_err(failed)? {
            Fork::Parent(process) => Ok(Self { process, channel: ours }),
            Fork::Child => {
                drop(ours);
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                if let Ok(Some((running, folder))) = theirs.receive::<(Running, PathBuf)>()
                    && let Some(addresses) = places(check, network, &running)
                {
                    watch(check, &addresses, &running, &folder);
                }
                std::process::exit(0)
            }
        }
    }

    /// Begins to check what runs.
    pub(crate) fn begin(&self, running: &Running, folder: &Path) {
        let _ = self.channel.send(&(running, folder));
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.process, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.process), WaitOptions::empty());
    }
}

/// Where a sandbox is asked, from its own network if it has one; nothing if that is gone.
fn places(check: &Check, network: &Network, running: &Running) -> Option<Vec<IpAddr>> {
    // All that this process does from then on is to ask.
    let is_own = matches!(network, Network::Own(_) | Network::Of(_)) && matches!(check.test, Test::Ask(_));
    if is_own {
        setup::enter_network(running).ok()?;
    }
    let own = match network {
        Network::Own(own) => own.interfaces.as_slice(),
        _ => &[],
    };
    Some(ask::LOOPBACK.into_iter().chain(own.iter().map(|interface| interface.address.into())).collect())
}

/// Checks, for as long as what is checked runs; who is asked is asked on these addresses.
pub(crate) fn watch(check: &Check, addresses: &[IpAddr], running: &Running, folder: &Path) {
    let Ok(process) = unit::open(running) else { return };
    let began = Instant::now();
    let mut health = Health {
        status: Status::Starting,
        failures: 0,
        said: String::new(),
        holds: Some(check.interval.max(check.start_interval) + check.timeout + SLACK),
        pid: running.pid,
        start_time: running.start_time,
    };
    let starts = |health: &Health| health.status == Status::Starting && began.elapsed() < check.start_period;
    let usual = |health: &Health| if starts(health) { check.start_interval } else { check.interval };
    let (mut next, mut soon) = (began + usual(&health), SOON);
    loop {
        let left = next.saturating_duration_since(Instant::now());
        // Until something is known, it is looked at sooner as well: somebody may wait for it. Failures do not count then.
        let is_early = health.status == Status::Starting && soon < left;
        if ended_within(&process, if is_early { soon } else { left }) {
            return;
        }
        soon = soon.saturating_add(soon / 4);
        let starts = starts(&health);
        let (well, said) = match &check.test {
            Test::Ask(whom) => ask(whom, addresses, check.timeout),
            Test::Run(process) => {
                if unit::is_stopping(folder, running) {
                    return;
                }
                // With the limits that it has now, as far as this version reads what another one wrote.
                let now = match unit::observe(folder) {
                    Observed::Running(now) => now,
                    Observed::Exited(_) | Observed::Gone => running.clone(),
                };
                run(process, check.timeout, &now)
            }
        };
        if is_early && !well {
            continue;
        }
        next = Instant::now() + usual(&health);
        health.said = said;
        if well {
            (health.status, health.failures) = (Status::Healthy, 0);
        } else if !starts {
            health.failures = health.failures.saturating_add(1);
            if health.failures >= check.retries {
                health.status = Status::Unhealthy;
            }
        }
        // A disk that is full leaves what was known before.
        let _ = unit::write(&folder.join(HEALTH), &health);
    }
}

/// Runs a command: whether it ended well in this time, and what it said.
fn run(command: &ExecSpec, at_most: Duration, running: &Running) -> (bool, String) {
    let mut process = match exec(running, command) {
        Ok(process) => process,
        Err(error) => return (false, error.to_string()),
    };
    let output = process.output();
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(mut output) = output {
            let _ = output.by_ref().take(SAID).read_to_end(&mut said);
            let _ = std::io::copy(&mut output, &mut std::io::sink());
        }
        String::from_utf8_lossy(&said).trim_end().to_owned()
    });
    let began = Instant::now();
    let ended = loop {
        match process.wait(Some(TICK)) {
            Ok(Some(ended)) => break Some(ended),
            Ok(None) if began.elapsed() < at_most => {}
            Ok(None) | Err(_) => break None,
        }
    };
    // Kills what is left of it, so that its output ends.
    drop(process);
    // What it left in the background may hold its output open.
    let settled = Instant::now() + TICK;
    while !said.is_finished() && Instant::now() < settled {
        std::thread::sleep(Duration::from_millis(1));
    }
    match ended {
        Some(ended) if !said.is_finished() => (ended == Ended::Code(0), String::new()),
        Some(ended) => (ended == Ended::Code(0), said.join().unwrap_or_default()),
        None => (false, format!("it took longer than {at_most:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Cgroup;

    #[test]
    fn what_a_check_of_an_earlier_version_said_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let me = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        let running = unit::running_now(me, false, Cgroup::default()).unwrap();
        let (pid, start_time) = (running.pid, running.start_time);
        let told = |more: &str| {
            let text = format!(
                r#"{{"status":"Healthy","failures":0,"said":"","pid":{pid},"start_time":{start_time}{more}}}"#
            );
            std::fs::write(folder.path().join(HEALTH), text).unwrap();
            health(folder.path(), &running).map(|health| health.status)
        };
        assert_eq!(told(""), Some(Status::Healthy));
        assert_eq!(told(r#","holds":{"secs":60,"nanos":0}"#), Some(Status::Healthy));
        assert_eq!(told(r#","of_a_later_version":[1]"#), Some(Status::Healthy));
    }
}
