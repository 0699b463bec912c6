//! What keeps a unit running: its own first process, and how it is found out whether that is well.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use setpoint_model::container::{Container, Health, HealthTest};
use setpoint_sandbox as sandbox;

use super::{UnitFile, unsupported};
use crate::engine::EngineError;
use crate::image::Config;

/// The usual times of a health check, which are Docker's.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

const SIGTERM: i32 = 15;

/// What a unit runs, and as whom.
pub(super) fn main(
    unit: &UnitFile,
    env: BTreeMap<String, String>,
    user: sandbox::User,
) -> Result<sandbox::Main, EngineError> {
    let (settings, image) = (&unit.container, &unit.image);
    let argv = argv(settings, image);
    if argv.is_empty() {
        return Err(unsupported(
            "running a unit of which neither the image nor the manifest says what runs in it",
            "set its `command`",
        ));
    }
    let process = |argv: Vec<String>| sandbox::ExecSpec {
        argv,
        env: env.clone().into_iter().collect(),
        cwd: working_dir(settings, image),
        user: user.clone(),
        io: sandbox::Io::Captured,
    };
    let check = check(settings, image).map(|(test, health)| sandbox::Check {
        test: match test {
            Test::Run(argv) => sandbox::Test::Run(process(argv)),
            Test::Ask(ask) => sandbox::Test::Ask(ask),
        },
        interval: health.interval.unwrap_or(INTERVAL),
        timeout: health.timeout.unwrap_or(TIMEOUT),
        retries: health.retries.unwrap_or(RETRIES),
        start_period: health.start_period.unwrap_or_default(),
        start_interval: health.start_interval.unwrap_or(START_INTERVAL),
    });
    let stop_signal = match settings.stop_signal.as_ref().or(image.stop_signal.as_ref()) {
        None => SIGTERM,
        Some(name) => signal(name).ok_or_else(|| not_a_signal(name))?,
    };
    Ok(sandbox::Main { process: process(argv), stop_signal, check })
}

/// The entrypoint and the command. Whoever says the one does not want the image's other.
fn argv(settings: &Container, image: &Config) -> Vec<String> {
    let (entrypoint, command) = match (&settings.entrypoint, &settings.command) {
        (Some(entrypoint), command) => (entrypoint, command.as_ref()),
        (None, Some(command)) => (&image.entrypoint, Some(command)),
        (None, None) => (&image.entrypoint, Some(&image.command)),
    };
    entrypoint.iter().chain(command.into_iter().flatten()).cloned().collect()
}

/// Where a unit's processes start that are not told where.
pub(super) fn working_dir(settings: &Container, image: &Config) -> PathBuf {
    let declared = settings.working_dir.as_ref().or(image.workdir.as_ref());
    declared.map_or_else(|| PathBuf::from("/"), |path| PathBuf::from("/").join(path))
}

/// Whether it is looked at whether all is well.
pub(super) fn is_checked(settings: &Container, image: &Config) -> bool {
    check(settings, image).is_some()
}

/// What a check does.
#[derive(Debug, PartialEq, Eq)]
enum Test {
    /// It runs a program with its arguments.
    Run(Vec<String>),
    /// It asks somebody.
    Ask(sandbox::Ask),
}

/// Whom a check asks, and what; nothing for one that runs something.
pub(super) fn question(test: &HealthTest) -> Option<sandbox::Ask> {
    match test {
        HealthTest::Tcp { port } => Some(sandbox::Ask { port: *port, get: None }),
        HealthTest::Http { port, path, status } => {
            let get = sandbox::Get { path: path.clone(), status: *status };
            Some(sandbox::Ask { port: *port, get: Some(get) })
        }
        HealthTest::Off | HealthTest::Exec(_) | HealthTest::Shell(_) => None,
    }
}

/// What is done to find out whether all is well, and when, if anything is.
fn check(settings: &Container, image: &Config) -> Option<(Test, Health)> {
    let none = Health::default();
    let (declared, brought) =
        (settings.health.as_ref().unwrap_or(&none), image.health.as_ref().unwrap_or(&none));
    let test = match declared.test.as_ref().or(brought.test.as_ref())? {
        HealthTest::Off => return None,
        HealthTest::Exec(argv) => Test::Run(argv.clone()),
        HealthTest::Shell(text) => Test::Run(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()]),
        asks @ (HealthTest::Tcp { .. } | HealthTest::Http { .. }) => Test::Ask(question(asks)?),
    };
    // As on Docker, nothing at all is the usual.
    let some = |time: &Duration| !time.is_zero();
    let health = Health {
        test: None,
        interval: declared.interval.or(brought.interval).filter(some),
        timeout: declared.timeout.or(brought.timeout).filter(some),
        retries: declared.retries.or(brought.retries).filter(|retries| *retries > 0),
        start_period: declared.start_period.or(brought.start_period),
        start_interval: declared.start_interval.or(brought.start_interval).filter(some),
    };
    Some((test, health))
}

/// The number of a signal, by its number or its name with or without `SIG`.
pub(super) fn signal(name: &str) -> Option<i32> {
    const USUAL: std::ops::RangeInclusive<i32> = 1..=31;
    if let Ok(number) = name.parse() {
        return USUAL.contains(&number).then_some(number);
    }
    let name = name.to_uppercase();
    let plain = name.strip_prefix("SIG").unwrap_or(&name);
    let is_it = |number: &i32| {
        signal_hook::low_level::signal_name(*number)
            .is_some_and(|known| known.strip_prefix("SIG") == Some(plain))
    };
    USUAL.into_iter().find(is_it)
}

/// A signal that nobody knows, or that only some kernels have.
pub(super) fn not_a_signal(name: &str) -> EngineError {
    unsupported(&format!("stopping a unit by the signal `{name}`"), "use `SIGTERM`, `SIGINT` or `SIGQUIT`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_declared_takes_the_place_of_what_the_image_has() {
        let image = Config { entrypoint: words("e"), command: words("c d"), ..Config::default() };
        let run = |entrypoint: Option<&str>, command: Option<&str>| {
            let settings = Container {
                entrypoint: entrypoint.map(words),
                command: command.map(words),
                ..Container::default()
            };
            argv(&settings, &image).join(" ")
        };
        assert_eq!(run(None, None), "e c d");
        assert_eq!(run(None, Some("x")), "e x");
        assert_eq!(run(Some("y"), None), "y");
        assert_eq!(run(Some("y"), Some("x")), "y x");
        assert_eq!(run(Some(""), Some("x")), "x");
        assert_eq!(run(Some(""), None), "");
    }

    #[test]
    fn times_are_declared_apart_from_the_command() {
        let second = Some(Duration::from_secs(1));
        let image = Config {
            health: Some(Health {
                test: Some(HealthTest::Shell("true".to_owned())),
                timeout: second,
                ..Health::default()
            }),
            ..Config::default()
        };
        let declared = |health: Health| Container { health: Some(health), ..Container::default() };
        let (test, health) =
            check(&declared(Health { interval: second, ..Health::default() }), &image).unwrap();
        assert_eq!(test, Test::Run(words("/bin/sh -c true")));
        assert_eq!((health.interval, health.timeout, health.retries), (second, second, None));
        let none = Some(Duration::ZERO);
        let zeros = Health { interval: none, timeout: none, retries: Some(0), ..Health::default() };
        let (_, health) = check(&declared(zeros), &image).unwrap();
        assert_eq!((health.interval, health.timeout, health.retries), (None, None, None));
        let off = declared(Health { test: Some(HealthTest::Off), ..Health::default() });
        assert_eq!(check(&off, &image), None);
        assert_eq!(check(&Container::default(), &Config::default()), None);
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, number) in [("SIGINT", 2), ("quit", 3), ("15", 15), ("SIGWINCH", 28)] {
            assert_eq!(signal(name), Some(number));
        }
        for name in ["", "SIG", "SIGRTMIN+3", "0", "64", "SIGSIGINT"] {
            assert_eq!(signal(name), None, "{name}");
        }
    }
}
