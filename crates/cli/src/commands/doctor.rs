use std::path::Path;

use clap::Args;
use serde::Serialize;
use setpoint_model::fingerprint::Class;
use setpoint_model::manifest::{Env, Limits};
use setpoint_model::plan::Options;
use setpoint_runtime::engine::Engine;
use setpoint_runtime::project::{MANIFEST, Project, ProjectError};
use setpoint_runtime::store::Store;
use setpoint_sandbox::Offer;
use setpoint_sandbox::probe::{self, Features};

use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;
use crate::output::{ERROR, GOOD, HINT, RESET};

const MIB: u64 = 1024 * 1024;
/// Below this much free space nothing can be relied on.
const TOO_LITTLE: u64 = 256 * MIB;
/// Below this much the next image may not fit.
const LITTLE: u64 = 2048 * MIB;

/// Look at this machine, the state and the project, and say what is wrong and how to mend it
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Ok,
    /// Good to know; nothing is wrong.
    Info,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    subject: String,
    what: String,
    fix: Option<String>,
}

/// `doctor`.
#[derive(Debug, Serialize)]
struct Findings {
    setpoint: u32,
    findings: Vec<Finding>,
}

impl Finding {
    fn ok(subject: &str, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.to_owned(), what: what.into(), fix: None }
    }

    fn info(subject: &str, what: impl Into<String>) -> Self {
        Self { level: Level::Info, ..Self::ok(subject, what) }
    }

    fn problem(subject: &str, what: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::ok(subject, what) }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    fn of_failure(subject: &str, failure: Failure) -> Self {
        Self { fix: failure.hint, ..Self::problem(subject, failure.message) }
    }
}

impl Doctor {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let features = probe::features();
        let project = Project::load(&context.roots, &context.folder, &context.assignments);
        let envs: Vec<&Env> = project.iter().flat_map(|project| project.manifest.envs.values()).collect();
        let limits: Vec<Limits> = envs.iter().map(|env| env.limits).collect();
        let mut findings = of_machine(&features, &limits);
        findings.push(of_disk(&context.roots.state));
        let declared = project.as_ref().map(|project| project.manifest.engine).unwrap_or_default();
        let engine = context.engine(declared);
        let (finding, store) = of_state(context);
        findings.push(finding);
        findings.extend(of_units(engine.as_ref(), &context.roots.state));
        findings.extend(of_manifest(&project));
        if let (Ok(project), Some(store)) = (&project, &store) {
            findings.extend(envs.iter().map(|env| of_drift(context, engine.as_ref(), store, project, env)));
        }
        let bad = findings.iter().filter(|finding| finding.level == Level::Problem).count();
        if context.output.json {
            context.output.value(&Findings { setpoint: json::VERSION, findings });
        } else {
            context.output.line(words(&findings));
            context.output.note(match bad {
                0 => "Nothing is wrong.".to_owned(),
                1 => "1 problem".to_owned(),
                many => format!("{many} problems"),
            });
        }
        Ok(if bad == 0 { SUCCESS } else { Exit::Failed as u8 })
    }
}

/// What the machine can do, and what the declared limits ask of it.
fn of_machine(features: &Features, limits: &[Limits]) -> Vec<Finding> {
    let mut findings = vec![match &features.seccomp {
        Ok(()) => Finding::ok("kernel", features.kernel.clone()),
        Err(why) => Finding::problem("kernel", format!("{}: {why}", features.kernel))
            .fix("use a kernel with CONFIG_SECCOMP_FILTER, as every distribution's is"),
    }];
    findings.push(match &features.user_namespaces {
        Ok(()) => Finding::ok("user namespaces", "they can be made"),
        Err(why) if !features.rootless => {
            Finding::info("user namespaces", format!("{why}; root does not need them"))
        }
        Err(why) => Finding::problem("user namespaces", why.clone()).fix(
            "`sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000` and, on Ubuntu, \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        ),
    });
    if features.rootless && !features.newuidmap {
        findings.push(
            Finding::info("other users", "without newuidmap a rootless environment has one user only")
                .fix("install the package uidmap (shadow-utils elsewhere)"),
        );
    }
    findings.push(match &features.overlay {
        Ok(()) => Finding::ok("overlay", "the kernel has it"),
        Err(why) => Finding::problem("overlay", why.clone()).fix("`modprobe overlay`"),
    });
    findings.push(of_limits(&features.cgroup, limits));
    findings.push(of_networks(features));
    findings
}

/// Whether units can have networks of their own.
fn of_networks(features: &Features) -> Finding {
    let subject = "private networks";
    match &features.packet_filter {
        _ if features.rootless => Finding::info(subject, "none: they need the rights of root")
            .fix("run setpoint as root, or use the host's network, or Docker"),
        Some(program) => Finding::ok(subject, format!("with a way out by {program}")),
        None => Finding::info(subject, "nothing leads out of them: there is neither iptables nor nft")
            .fix("install the package iptables or nftables"),
    }
}

fn of_limits(offer: &Offer, limits: &[Limits]) -> Finding {
    let subject = "limits";
    let (controllers, what) = match offer {
        Offer::V1 { controllers } => (controllers.as_slice(), "cgroup version 1".to_owned()),
        Offer::V2 { controllers } => (controllers.as_slice(), "cgroup version 2".to_owned()),
        Offer::None { why } => (&[][..], why.clone()),
    };
    let lacks = |name: &&str| !controllers.iter().any(|controller| controller == name);
    let missing: Vec<_> = ["memory", "cpu", "pids"].into_iter().filter(lacks).collect();
    let needed = |name: &&&str| {
        limits.iter().any(|limits| match **name {
            "memory" => limits.memory.is_some(),
            "cpu" => limits.cpus.is_some(),
            _ => limits.pids.is_some(),
        })
    };
    let declared: Vec<&str> = missing.iter().filter(needed).copied().collect();
    let fix = "run setpoint in a session of systemd's that is delegated these controllers, or as root";
    if missing.is_empty() {
        Finding::ok(subject, format!("{what}: memory, cpu, pids"))
    } else if declared.is_empty() {
        let what = format!("{what}; no limits on {} can be kept (none is declared)", missing.join(", "));
        Finding::info(subject, what).fix(fix)
    } else {
        let what = format!("{what}; the declared limits on {} cannot be kept", declared.join(", "));
        Finding::problem(subject, what).fix(fix)
    }
}

/// The space where the state lies, or will lie.
fn of_disk(state: &Path) -> Finding {
    let subject = "disk";
    let Some(folder) = state.ancestors().find(|folder| folder.exists()) else {
        return Finding::problem(subject, format!("there is no {}", state.display()));
    };
    match rustix::fs::statvfs(folder) {
        Ok(disk) => of_space(state, disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => Finding::problem(subject, format!("cannot look at {}: {error}", folder.display())),
    }
}

fn of_space(state: &Path, free: u64) -> Finding {
    let tenths = free * 10 / (1024 * MIB);
    let what = format!("{}.{} GiB free for {}", tenths / 10, tenths % 10, state.display());
    let fix = "free some space, or point SETPOINT_STATE at another disk";
    match free {
        0..TOO_LITTLE => Finding::problem("disk", what).fix(fix),
        TOO_LITTLE..LITTLE => Finding::info("disk", what).fix(fix),
        _ => Finding::ok("disk", what),
    }
}

/// The state database. One that is not there yet is not made for the doctor.
fn of_state(context: &Context) -> (Finding, Option<Store>) {
    let subject = "state";
    if !context.roots.state.exists() {
        return (Finding::ok(subject, "there is none yet; the first `setpoint up` makes it"), None);
    }
    let opened = context.store().and_then(|store| {
        store.check()?;
        Ok(store)
    });
    match opened {
        Ok(store) => (Finding::ok(subject, format!("{} is sound", store.path().display())), Some(store)),
        Err(failure) => (Finding::of_failure(subject, failure), None),
    }
}

/// The units of the engine, and those whose project is gone.
fn of_units(engine: &dyn Engine, state: &Path) -> Vec<Finding> {
    let subject = "environments";
    let units = match engine.units() {
        Ok(units) => units,
        Err(error) => return vec![Finding::of_failure(subject, error.into())],
    };
    // Those of a step of a pipeline belong to its run.
    let is_lost = |folder: &Path| !folder.starts_with(state) && !folder.join(MANIFEST).is_file();
    let lost = units.iter().filter(|(_, labels)| is_lost(&labels.project_root));
    let mut findings: Vec<_> = lost
        .map(|(_, labels)| {
            let root = labels.project_root.display();
            Finding::info(subject, format!("`{}` belongs to {root}, where no {MANIFEST} is", labels.unit))
                .fix(format!(
                    "bring the project back, and `setpoint -C {root} down {}` removes it; \
                     `setpoint uninstall` removes all that there are",
                    labels.unit
                ))
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok(subject, format!("{} on this engine, each with its project", units.len())));
    }
    findings
}

fn of_manifest(project: &Result<Project, ProjectError>) -> Vec<Finding> {
    let subject = "manifest";
    match project {
        Ok(project) => {
            let mut findings = vec![Finding::ok(subject, project.root.join(MANIFEST).display().to_string())];
            let notes = project.manifest.notes.iter();
            findings.extend(notes.map(|note| Finding::info(subject, format!("{}: {}", note.at, note.text))));
            findings
        }
        Err(ProjectError::NotFound(_)) => {
            vec![
                Finding::info(subject, format!("there is no {MANIFEST} here"))
                    .fix("`setpoint init` writes one"),
            ]
        }
        Err(ProjectError::Problems(problems)) => {
            problems.iter().map(|problem| Finding::problem(subject, problem.to_string())).collect()
        }
        Err(error) => vec![Finding::problem(subject, error.to_string())],
    }
}

/// Drift is never a problem: it is what `up` is there for.
fn of_drift(context: &Context, engine: &dyn Engine, store: &Store, project: &Project, env: &Env) -> Finding {
    let subject = env.name.as_str();
    let look = match context.unit(engine, project, env).look(store, &Options::default()) {
        Ok(look) => look,
        Err(error) => return Finding::of_failure(subject, error.into()),
    };
    let changes =
        look.report.differences.iter().filter(|difference| difference.class != Class::Report).count();
    if !look.plan.is_drift() {
        return Finding::ok(subject, "as declared");
    }
    let what = match changes {
        0 => "something is left to do".to_owned(),
        1 => "out of date: 1 change".to_owned(),
        many => format!("out of date: {many} changes"),
    };
    Finding::info(subject, what).fix(format!("`setpoint up {subject}`; `setpoint why {subject}` says more"))
}

/// Findings in words: what is wrong is easy to see, and has its fix below it.
fn words(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for finding in findings {
        let (colour, level) = match finding.level {
            Level::Ok => (GOOD, "ok"),
            Level::Info => (HINT, "info"),
            Level::Problem => (ERROR, "PROBLEM"),
        };
        let mut what = finding.what.lines();
        let first = what.next().unwrap_or_default();
        lines.push(format!("  {colour}{level:<7}{RESET}  {:<width$}  {first}", finding.subject));
        let indent = width + 13;
        lines.extend(what.map(|line| format!("{:indent$}{line}", "")));
        lines.extend(finding.fix.iter().map(|fix| format!("{:indent$}fix: {fix}", "")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features() -> Features {
        Features {
            kernel: "6.8.0".to_owned(),
            rootless: true,
            user_namespaces: Ok(()),
            overlay: Ok(()),
            seccomp: Ok(()),
            cgroup: Offer::V2 { controllers: ["memory", "cpu", "pids"].map(str::to_owned).to_vec() },
            newuidmap: true,
            packet_filter: Some("iptables".to_owned()),
        }
    }

    #[test]
    fn a_good_machine_has_only_good_findings() {
        let of_root = Features { rootless: false, ..features() };
        assert!(of_machine(&of_root, &[]).iter().all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn every_problem_of_a_machine_has_a_fix() {
        let bad = Features {
            user_namespaces: Err("Operation not permitted".to_owned()),
            overlay: Err("no overlay".to_owned()),
            seccomp: Err("no filters".to_owned()),
            cgroup: Offer::None { why: "nothing is writable".to_owned() },
            newuidmap: false,
            packet_filter: None,
            ..features()
        };
        let limits = Limits { pids: Some(10), ..Limits::default() };
        let findings = of_machine(&bad, &[limits]);
        assert_eq!(findings.iter().filter(|finding| finding.level == Level::Problem).count(), 4);
        assert!(findings.iter().all(|finding| finding.fix.is_some()), "{findings:?}");
    }

    #[test]
    fn a_limit_that_cannot_be_kept_is_a_problem_only_where_it_is_declared() {
        let offer = Offer::V2 { controllers: vec!["memory".to_owned()] };
        let of = |limits: Limits| of_limits(&offer, &[limits]).level;
        assert_eq!(of(Limits::default()), Level::Info);
        assert_eq!(of(Limits { cpus: Some(1.5), ..Limits::default() }), Level::Problem);
    }

    #[test]
    fn space_is_enough_little_or_too_little() {
        let level = |free| of_space(Path::new("/s"), free).level;
        assert_eq!(
            [level(10 * MIB), level(1000 * MIB), level(5000 * MIB)],
            [Level::Problem, Level::Info, Level::Ok]
        );
        assert_eq!(of_space(Path::new("/s"), 5120 * MIB).what, "5.0 GiB free for /s");
    }

    #[test]
    fn a_fix_stands_below_its_finding() {
        let text =
            words(&[Finding::ok("kernel", "6.8"), Finding::problem("overlay", "none").fix("modprobe")]);
        let plain = [ERROR, HINT, GOOD, RESET].iter().fold(text, |text, colour| text.replace(colour, ""));
        assert_eq!(
            plain,
            "  ok       kernel   6.8\n  PROBLEM  overlay  none\n                    fix: modprobe"
        );
    }
}
