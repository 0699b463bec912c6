//! The rules that every engine keeps, and what is tried on Docker through the binary itself.
//!
//! All of it is one process that starts what it needs (a Docker daemon, Podman's service) in folders and namespaces of
//! its own, and stops only that. `--require-all` makes an engine that is not installed a failure; without it, its tests
//! are ignored by name.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unreachable_pub, reason = "nobody depends on a test")]
#![allow(clippy::print_stderr, reason = "it is the runner of its own tests")]

/// Tests, by their own names.
macro_rules! named {
    ($($name:ident),+ $(,)?) => {
        &[$((stringify!($name), $name)),+]
    };
}

mod adoption;
mod alerts;
mod api;
mod api_daemon;
mod asked;
mod backups;
mod browser;
mod build_secrets;
mod daemon;
mod docker;
mod doctor;
mod examples;
mod faults;
mod faulty;
mod features;
#[path = "../harness.rs"]
#[expect(dead_code, reason = "the tests of the embedded engine use more of it")]
mod harness;
mod host_migrations;
mod layouts;
#[path = "../leaks.rs"]
mod leaks;
mod limits;
#[path = "../maker.rs"]
#[expect(dead_code, reason = "the tests of the embedded engine use more of it")]
mod maker;
mod migrations;
mod networks;
mod page;
mod pipelines;
mod place;
#[path = "../../crates/runtime/tests/image_support/registry.rs"]
#[expect(dead_code, reason = "the tests of the image room use more of it")]
mod registry;
mod rehearsals;
mod releases;
mod replacements;
mod rootless;
mod rules;
mod secrets;
mod services;
mod stack_example;
mod stack_release;
mod stacks;
mod stand_ins;
mod step_services;
mod steps;
mod stopped;
#[path = "../../crates/runtime/tests/image_support/mod.rs"]
#[expect(dead_code, reason = "the tests of the image room use more of it")]
mod support;
mod upgrades;
mod versions;
mod web;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use place::{Kind, Place};

/// What is tried in `faults`.
const FAULTS: &str = "every_fault_is_gone_with_the_next_up";

/// After this long a test hangs. It is many times what the longest one takes.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Fails a test that hangs, so that the others are not kept from running, nor what all of them started from being stopped.
fn within_limit(test: impl FnOnce() + Send + 'static) -> Result<(), Failed> {
    let (ended, end) = channel::<()>();
    let name = thread::current().name().unwrap_or_default().to_owned();
    let run = move || {
        let _ended = ended;
        test();
    };
    let running = thread::Builder::new().name(name).spawn(run)?;
    match end.recv_timeout(LIMIT) {
        Err(RecvTimeoutError::Timeout) => Err(format!("it hangs: it has run for {LIMIT:?}").into()),
        _ => running.join().map_err(|panic| std::panic::resume_unwind(panic)),
    }
}

fn main() -> ExitCode {
    // A sandbox's first process and its shim are this same binary.
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("__init") => setpoint_sandbox::main_init(),
        Some("__shim") => setpoint_sandbox::main_shim(),
        Some("__ports") => setpoint_sandbox::main_ports(),
        Some("__check") => setpoint_sandbox::main_check(),
        _ => {}
    }
    let require_all = std::env::args().any(|argument| argument == "--require-all");
    let arguments = Arguments::from_iter(std::env::args().filter(|argument| argument != "--require-all"));
    let place = Arc::new(Place::new());
    let mut trials = Vec::new();
    for kind in Kind::ALL {
        let missing = kind.missing();
        let of_daemons = if kind.is_daemon() {
            [examples::RULES, layouts::OF_DAEMONS, pipelines::RULES].concat()
        } else {
            Vec::new()
        };
        let of_health = if kind == Kind::Podman { &[] } else { services::OF_HEALTH };
        // Only root makes networks.
        let of_networks = if rustix::process::geteuid().is_root() { networks::RULES } else { &[] };
        let of_walls = if kind == Kind::Podman || of_networks.is_empty() { &[] } else { networks::OF_WALLS };
        // Without root a controller may not be there to use.
        let of_limits = if of_networks.is_empty() { &[] } else { limits::RULES };
        let of_asking = if of_networks.is_empty() { &[] } else { asked::RULES };
        let of_ports = if of_networks.is_empty() { &[] } else { replacements::RULES };
        let of_units = [
            rules::RULES,
            services::RULES,
            of_limits,
            of_health,
            of_networks,
            of_walls,
            of_asking,
            of_ports,
            layouts::RULES,
        ]
        .concat();
        for (name, rule) in [&of_units, steps::RULES, &of_daemons].concat() {
            let place = Arc::clone(&place);
            let test = move || within_limit(move || rule(place.engine(kind)));
            let trial = Trial::test(format!("{}::{name}", kind.name()), test);
            trials.push(trial.with_ignored_flag(missing.is_some() && !require_all));
        }
        let scenarios: Vec<docker::Scenario> = match kind {
            Kind::Embedded => [
                daemon::ON_THE_EMBEDDED_ENGINE,
                secrets::ON_THE_EMBEDDED_ENGINE,
                replacements::ON_THE_EMBEDDED_ENGINE,
                stand_ins::ON_THE_EMBEDDED_ENGINE,
                upgrades::ON_THE_EMBEDDED_ENGINE,
                migrations::ON_THE_EMBEDDED_ENGINE,
                host_migrations::ON_THE_EMBEDDED_ENGINE,
                rehearsals::ON_THE_EMBEDDED_ENGINE,
                backups::ON_THE_EMBEDDED_ENGINE,
                alerts::ON_THE_EMBEDDED_ENGINE,
                api_daemon::ON_THE_EMBEDDED_ENGINE,
                page::ON_THE_EMBEDDED_ENGINE,
                versions::ON_THE_EMBEDDED_ENGINE,
                versions::ON_A_PAGE,
                step_services::ON_THE_EMBEDDED_ENGINE,
                &[
                    (FAULTS, faults::of_the_embedded_engine as fn(&Place)),
                    stack_example::ON_THE_EMBEDDED_ENGINE,
                    stack_release::ON_THE_EMBEDDED_ENGINE,
                    adoption::ON_THE_EMBEDDED_ENGINE,
                    ("a_stack_needs_no_daemon", stacks::on_the_embedded_engine),
                    ("a_stack_has_networks_of_its_own", stacks::in_networks_of_its_own),
                    ("a_stack_waits_for_servers_that_are_asked", asked::on_the_embedded_engine),
                    ("an_environment_has_a_network_of_its_own", stacks::an_environment_of_its_own),
                ],
            ]
            .concat(),
            Kind::Docker => {
                let all = [
                    docker::SCENARIOS,
                    features::SCENARIOS,
                    stacks::SCENARIOS,
                    build_secrets::SCENARIOS,
                    daemon::ON_DOCKER,
                    replacements::ON_DOCKER,
                    stand_ins::ON_DOCKER,
                    releases::ON_DOCKER,
                    secrets::ON_DOCKER,
                    doctor::ON_DOCKER,
                    upgrades::ON_DOCKER,
                    stopped::ON_DOCKER,
                    migrations::ON_DOCKER,
                    rehearsals::ON_DOCKER,
                    backups::ON_DOCKER,
                    step_services::ON_DOCKER,
                    adoption::ON_DOCKER,
                ]
                .concat();
                all.into_iter()
                    .chain([(FAULTS, faults::of_docker as fn(&Place)), stack_example::ON_DOCKER])
                    .collect()
            }
            Kind::Podman => [
                daemon::ON_PODMAN,
                adoption::ON_PODMAN,
                releases::ON_PODMAN,
                replacements::ON_PODMAN,
                stand_ins::ON_PODMAN,
                rootless::ON_PODMAN,
                step_services::ON_PODMAN,
                doctor::ON_PODMAN,
                upgrades::ON_PODMAN,
                migrations::ON_PODMAN,
                backups::ON_PODMAN,
                &[build_secrets::ON_PODMAN],
            ]
            .concat(),
            Kind::Repeating => Vec::new(),
        };
        for (name, scenario) in scenarios {
            let place = Arc::clone(&place);
            let test = move || within_limit(move || scenario(&place));
            let trial = Trial::test(format!("{}::{name}", kind.name()), test);
            let is_missing = missing.is_some() || page::is_missing(name);
            trials.push(trial.with_ignored_flag(is_missing && !require_all));
        }
        if let Some(missing) = missing.filter(|_| !arguments.list) {
            eprintln!(
                "{}: {missing}; its tests are {}",
                kind.name(),
                if require_all { "failures" } else { "ignored" }
            );
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = place.close();
    for what in &left {
        eprintln!("left behind: {what}");
    }
    if conclusion.has_failed() || !left.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
