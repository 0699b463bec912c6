//! Telling somebody that a unit needs a person, or that an upgrade did not come about: by HTTP, and by a command. Alerts of
//! units are each sent by a thread of its own, so that nobody who keeps units has to wait for it.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::Url;
use reqwest::redirect::Policy;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use setpoint_model::manifest::Alerts;
use setpoint_model::names::is_loopback;
use setpoint_model::reconcile::{self, Alarm, Decision, Fault, History, Plight};
use setpoint_model::release::Upgrade;

use super::actor::Wake;
use super::{Rules, lock};
use crate::image::deepest;
use crate::paths::Roots;
use crate::secrets::Secrets;
use crate::store::{NewUnit, Store, StoreError};
use crate::upgrade::{Recovered, UpgradeError};

/// How often somebody is told who does not take it, by a daemon.
pub(super) const TRIES: u32 = 10;
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked whether a command has ended, and whether to stop.
const TICK: Duration = Duration::from_millis(50);
/// How much of what a command said is told.
const SAID: u64 = 400;

/// What is sent. See the reference of JSON.
#[derive(Debug, Clone, Serialize)]
struct Alert {
    setpoint: u32,
    project: String,
    folder: String,
    unit: String,
    state: Plight,
    why: String,
    since: Timestamp,
    next: String,
}

impl Alert {
    fn new(unit: &NewUnit, alarm: &Alarm) -> Self {
        let name = &unit.name;
        let next = match alarm.state {
            Plight::Held => {
                format!("`setpoint logs {name}` shows what it said, `setpoint up {name}` tries again")
            }
            Plight::NeedsOperator | Plight::RolledBack => {
                format!("`setpoint status {name}` says more; nothing is done before that")
            }
        };
        Self::of((&unit.project_name, &unit.project_root), name.to_string(), alarm, next)
    }

    fn of_upgrade(project: (&str, &Path), upgrade: &Upgrade, alarm: &Alarm) -> Self {
        let units: Vec<_> = upgrade.parts.iter().map(|part| part.unit.as_str()).collect();
        let next = match alarm.state {
            Plight::RolledBack => {
                "what ran before runs again; `setpoint history` says more, `setpoint upgrade` tries again"
            }
            Plight::NeedsOperator | Plight::Held => {
                "`setpoint recover` tries again; no other change is made before that"
            }
        };
        Self::of(project, units.join(", "), alarm, next.to_owned())
    }

    fn of((project, folder): (&str, &Path), unit: String, alarm: &Alarm, next: String) -> Self {
        Self {
            setpoint: 1,
            project: project.to_owned(),
            folder: folder.to_string_lossy().into_owned(),
            unit,
            state: alarm.state,
            why: alarm.why.clone(),
            since: Timestamp::now(),
            next,
        }
    }

    /// What a command is told by its environment.
    fn variables(&self) -> [(&'static str, String); 7] {
        [
            ("SETPOINT_ALERT_PROJECT", self.project.clone()),
            ("SETPOINT_ALERT_FOLDER", self.folder.clone()),
            ("SETPOINT_ALERT_UNIT", self.unit.clone()),
            ("SETPOINT_ALERT_STATE", self.state.name().to_owned()),
            ("SETPOINT_ALERT_WHY", self.why.clone()),
            ("SETPOINT_ALERT_SINCE", self.since.to_string()),
            ("SETPOINT_ALERT_NEXT", self.next.clone()),
        ]
    }
}

/// The alerts of one unit.
#[derive(Default)]
pub(super) struct Sender {
    under_way: Option<UnderWay>,
}

/// An alert that is being sent. Dropping it ends that.
struct UnderWay {
    alarm: Alarm,
    /// What came of it, once it has come to its end.
    outcome: Arc<Mutex<Option<Vec<String>>>>,
    is_over: Arc<AtomicBool>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Sender {
    /// Sends what nobody was told of yet, and gives what came of an earlier alert, for whoever watches. The history
    /// keeps what was told.
    pub(super) fn pass(
        &mut self,
        roots: &Roots,
        unit: &NewUnit,
        to: &Alerts,
        decision: &Decision,
        history: &mut History,
        wake: &Arc<Wake>,
    ) -> Vec<String> {
        let outcome = self.under_way.as_ref().and_then(|sent| lock(&sent.outcome).take());
        if outcome.is_some() {
            history.told = self.under_way.take().map(|sent| sent.alarm.clone());
        }
        let untold = history.untold(decision);
        if decision.alarm().is_none() && decision.knows() {
            self.under_way = None;
        }
        let is_under_way = |alarm: &Alarm| self.under_way.as_ref().is_some_and(|sent| sent.alarm == *alarm);
        if let Some(alarm) = untold.filter(|alarm| !to.is_empty() && !is_under_way(alarm)) {
            self.under_way = send(roots, unit, to, alarm, wake);
        }
        outcome.unwrap_or_default()
    }
}

/// Begins to send; nothing if the machine has no room for that now.
fn send(roots: &Roots, unit: &NewUnit, to: &Alerts, alarm: Alarm, wake: &Arc<Wake>) -> Option<UnderWay> {
    let alert = Alert::new(unit, &alarm);
    let (outcome, is_over) = (Arc::<Mutex<_>>::default(), Arc::<AtomicBool>::default());
    let (tell, over, wake) = (Arc::clone(&outcome), Arc::clone(&is_over), Arc::clone(wake));
    let (roots, root, to) = (roots.clone(), unit.project_root.clone(), to.clone());
    let sends = move || {
        *lock(&tell) = Some(deliver(&roots, &root, &to, &alert, TRIES, &over));
        wake.ring();
    };
    std::thread::Builder::new().spawn(sends).ok()?;
    Some(UnderWay { alarm, outcome, is_over })
}

/// Sends it to all who are to be told, and says what came of it.
fn deliver(
    roots: &Roots,
    root: &Path,
    to: &Alerts,
    alert: &Alert,
    tries: u32,
    is_over: &AtomicBool,
) -> Vec<String> {
    let address = to.webhook.as_ref().map(|webhook| {
        let values = Secrets::new(roots, root).kept_values(webhook.secrets());
        let values = values.map_err(|error| error.to_string())?;
        let value = |name: &_| values.get(name).map(String::as_str);
        webhook
            .resolve(value, &BTreeMap::new())
            .map_err(|name| format!("the secret `{name}` is not kept; `setpoint up` keeps it"))
    });
    std::thread::scope(|scope| {
        let webhook = address.as_ref().map(|address| {
            let post = move || match address {
                Ok(address) => post(address, alert),
                Err(why) => Err(Trouble::lasting(why.clone())),
            };
            scope.spawn(move || insist("the webhook", tries, is_over, post))
        });
        let command = to
            .command
            .as_ref()
            .map(|argv| scope.spawn(move || insist("the command", tries, is_over, || run(argv, alert))));
        [webhook, command].into_iter().flatten().filter_map(|sent| sent.join().ok()).collect()
    })
}

/// Who is told of what becomes of a project, as its units were last brought up.
///
/// # Errors
/// [`StoreError`] if the state cannot be read.
pub fn whom(store: &Store, root: &Path) -> Result<Alerts, StoreError> {
    let kept = store.all_kept()?.into_iter().filter(|kept| kept.unit.unit.project_root == root);
    let rules = kept.filter_map(|kept| serde_json::from_str::<Rules>(&kept.intent.rules).ok());
    Ok(rules.map(|rules| rules.alerts).find(|alerts| !alerts.is_empty()).unwrap_or_default())
}

/// Why somebody is to be told of how a change of generations ended; nothing where nobody is.
#[must_use]
pub fn alarm(error: &UpgradeError) -> Option<Alarm> {
    match error {
        UpgradeError::RolledBack { step, why, .. } => {
            Some(Alarm { state: Plight::RolledBack, why: format!("{step}: {why}") })
        }
        UpgradeError::NeedsOperator { step, why } => {
            Some(Alarm { state: Plight::NeedsOperator, why: format!("{step}: {why}") })
        }
        _ => None,
    }
}

/// Why somebody is to be told of a change that was cut off, and has come to this end by itself.
#[must_use]
pub fn alarm_of(recovered: Recovered) -> Option<Alarm> {
    let why = "it was cut off".to_owned();
    (recovered == Recovered::RolledBack).then_some(Alarm { state: Plight::RolledBack, why })
}

/// Tells of a change of a project's generations, and says what came of that. Whoever calls this waits for it: at most
/// as long as so many tries take.
#[must_use]
pub fn tell_of_upgrade(
    roots: &Roots,
    project: (&str, &Path),
    upgrade: &Upgrade,
    alarm: &Alarm,
    to: &Alerts,
    tries: u32,
) -> Vec<String> {
    deliver(roots, project.1, to, &Alert::of_upgrade(project, upgrade, alarm), tries, &AtomicBool::new(false))
}

/// Why somebody was not told.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    why: String,
    /// Whether it may pass.
    passes: bool,
}

impl Trouble {
    fn passing(why: impl Into<String>) -> Self {
        Self { why: why.into(), passes: true }
    }

    fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), passes: false }
    }
}

/// Tries until it is told, longer and longer apart, and gives in words what came of it.
fn insist(
    whom: &str,
    at_most: u32,
    is_over: &AtomicBool,
    mut once: impl FnMut() -> Result<(), Trouble>,
) -> String {
    let mut tries = 0;
    loop {
        tries += 1;
        let trouble = match once() {
            Ok(()) if tries == 1 => return format!("alert: {whom} has it"),
            Ok(()) => return format!("alert: {whom} has it, at try {tries}"),
            Err(trouble) => trouble,
        };
        let until = Instant::now() + Duration::from_millis(reconcile::wait(Fault::Start, tries));
        if !trouble.passes || tries == at_most {
            let of = if tries == 1 { "try" } else { "tries" };
            return format!("alert: {whom} did not take it: {} ({tries} {of})", trouble.why);
        }
        while Instant::now() < until {
            if is_over.load(Ordering::Relaxed) {
                return format!("alert: {whom} did not take it: {}; it is over", trouble.why);
            }
            std::thread::sleep(TICK);
        }
    }
}

/// Sends it by HTTP. The address may be a secret, and is never told.
fn post(address: &str, alert: &Alert) -> Result<(), Trouble> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url: Url = address.parse().map_err(|error| Trouble::lasting(format!("its address: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::passing(error.to_string()))?;
    let body = serde_json::to_vec(alert).map_err(|error| Trouble::lasting(error.to_string()))?;
    let failed = |error: reqwest::Error| Trouble::passing(deepest(&error.without_url()));
    let answer = runtime.block_on(async {
        let mut client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .user_agent(concat!("setpoint/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none());
        if url.host_str().is_some_and(is_loopback) {
            // A proxy would look on its own machine.
            client = client.no_proxy();
        }
        let request = client.build()?.post(url).header("content-type", "application/json").body(body);
        request.send().await
    });
    let status = answer.map_err(failed)?.status();
    match status.as_u16() {
        200..300 => Ok(()),
        // Who asks too much, or too late, may ask again.
        408 | 429 | 500.. => Err(Trouble::passing(status.to_string())),
        _ => Err(Trouble::lasting(status.to_string())),
    }
}

/// Runs a command with it, in the project's folder: on its input, and by its environment.
fn run(argv: &[String], alert: &Alert) -> Result<(), Trouble> {
    let failed = |error: std::io::Error| Trouble::passing(error.to_string());
    let [program, arguments @ ..] = argv else { return Err(Trouble::lasting("it is empty")) };
    let mut input = tempfile::tempfile().map_err(failed)?;
    serde_json::to_writer(&mut input, alert).map_err(|error| failed(error.into()))?;
    input.write_all(b"\n").and_then(|()| input.rewind()).map_err(failed)?;
    let mut said = tempfile::tempfile().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(arguments).envs(alert.variables()).stdin(input).process_group(0);
    command.stdout(said.try_clone().map_err(failed)?).stderr(said.try_clone().map_err(failed)?);
    if Path::new(&alert.folder).is_dir() {
        command.current_dir(&alert.folder);
    }
    let mut child = command.spawn().map_err(|error| Trouble::passing(format!("{program}: {error}")))?;
    let began = Instant::now();
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if began.elapsed() < PATIENCE => std::thread::sleep(TICK),
            None => {
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                let _ = child.wait();
                return Err(Trouble::passing(format!("it took longer than {PATIENCE:?}")));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut words = String::new();
    let _ = said.rewind().and_then(|()| (&mut said).take(SAID).read_to_string(&mut words));
    let words = words.trim().replace('\n', "; ");
    Err(Trouble::passing(if words.is_empty() { status.to_string() } else { format!("{status}: {words}") }))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    use super::*;

    fn alert() -> Alert {
        Alert {
            setpoint: 1,
            project: "shop".to_owned(),
            folder: "/".to_owned(),
            unit: "web".to_owned(),
            state: Plight::Held,
            why: "it crashed".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            next: "look".to_owned(),
        }
    }

    /// What comes of sending to a server that answers with this status, and what it was sent.
    fn posted(status: &'static str) -> (Result<(), Trouble>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/hook?key=secret", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let mut asked = String::new();
            while !asked.ends_with("\r\n\r\n") {
                reader.read_line(&mut asked).unwrap();
            }
            let length = asked.to_lowercase().split("content-length: ").nth(1).unwrap().to_owned();
            let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            write!(&stream, "HTTP/1.1 {status}\r\nlocation: /\r\ncontent-length: 0\r\n\r\n").unwrap();
            format!("{asked}{}", String::from_utf8(body).unwrap())
        });
        let sent = post(&address, &alert());
        (sent, server.join().unwrap())
    }

    #[test]
    fn a_webhook_is_sent_json_and_its_answer_decides() {
        let (sent, asked) = posted("204 No Content");
        assert_eq!(sent, Ok(()));
        assert!(asked.starts_with("POST /hook?key=secret HTTP/1.1\r\n"), "{asked}");
        let body: serde_json::Value = serde_json::from_str(asked.lines().last().unwrap()).unwrap();
        assert_eq!((&body["unit"], &body["state"]), (&"web".into(), &"held".into()));
        assert_eq!(body["since"], "1970-01-01T00:00:00Z");
        assert_eq!(posted("503 Busy").0, Err(Trouble::passing("503 Service Unavailable")));
        assert_eq!(posted("404 Not Found").0, Err(Trouble::lasting("404 Not Found")));
        // Where it leads to is not followed.
        assert_eq!(posted("302 Found").0, Err(Trouble::lasting("302 Found")));
    }

    #[test]
    fn an_address_is_never_told() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for address in [format!("http://127.0.0.1:{port}/secret"), "secret".to_owned()] {
            let trouble = post(&address, &alert()).unwrap_err();
            assert!(!trouble.why.contains("secret") && !trouble.why.contains("127.0.0.1"), "{trouble:?}");
        }
    }

    #[test]
    fn a_command_is_told_on_its_input_and_by_its_environment() {
        let sh = |script: &str| run(&["sh".to_owned(), "-c".to_owned(), script.to_owned()], &alert());
        assert_eq!(sh("grep -q '\"why\":\"it crashed\"' && test \"$SETPOINT_ALERT_UNIT\" = web"), Ok(()));
        let trouble = sh("echo no line; echo here; exit 3").unwrap_err();
        assert_eq!(trouble, Trouble::passing("exit status: 3: no line; here"));
        let missing = run(&["not-there-at-all".to_owned()], &alert()).unwrap_err();
        assert!(missing.why.starts_with("not-there-at-all: "), "{missing:?}");
    }

    #[test]
    fn what_does_not_pass_is_tried_once_and_what_is_over_no_more() {
        let is_over = AtomicBool::new(true);
        let mut tries = 0;
        let mut ends = |trouble: fn(&'static str) -> Trouble| {
            insist("it", TRIES, &is_over, || {
                tries += 1;
                Err(trouble("why"))
            })
        };
        assert_eq!(ends(Trouble::lasting), "alert: it did not take it: why (1 try)");
        assert_eq!(ends(Trouble::passing), "alert: it did not take it: why; it is over");
        assert_eq!(tries, 2);
        let mut left = 1;
        let said = insist("it", TRIES, &AtomicBool::new(false), || match left {
            0 => Ok(()),
            _ => {
                left -= 1;
                Err(Trouble::passing("why"))
            }
        });
        assert_eq!(said, "alert: it has it, at try 2");
    }
}
