//! What a command can end with: a few kinds of error, each with a hint, and the one table of exit codes.

use std::time::Duration;

use setpoint_model::backup;
use setpoint_model::manifest::Problem;
use setpoint_model::release::{BadAddress, BadVersion};
use setpoint_runtime::adopt::{AdoptError, Unfit};
use setpoint_runtime::apply::ApplyError;
use setpoint_runtime::backup::BackupError;
use setpoint_runtime::cache::CacheError;
use setpoint_runtime::devcontainer::CompleteError;
use setpoint_runtime::dsl::DslError;
use setpoint_runtime::engine::EngineError;
use setpoint_runtime::facts::FactsError;
use setpoint_runtime::pipeline::RunError;
use setpoint_runtime::project::ProjectError;
use setpoint_runtime::reconciler::ReconcilerError;
use setpoint_runtime::release::ReleaseError;
use setpoint_runtime::secrets::SecretError;
use setpoint_runtime::store::StoreError;
use setpoint_runtime::upgrade::{ActiveError, MigrationsError, UpgradeError};
use setpoint_sandbox::SandboxError;

use crate::output::span;

/// Every exit code of the binary. `exec` and `shell` pass on the code of what they ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done, or nothing to do.
    Success = 0,
    /// A hook, a pack, a check or a criterion failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Something is to be done (`--exit-code`).
    Drift = 3,
    /// The manifest or a spec is wrong.
    Manifest = 4,
    /// There is no such project, unit, hook or log.
    NotFound = 5,
    /// Consent is needed and there is nobody to ask; nothing was done.
    Consent = 6,
    /// The engine, the kernel, a registry or the disk failed.
    Engine = 7,
    /// The state is damaged, or was written by a newer version.
    State = 8,
    /// A pipeline ran out of time.
    TimedOut = 9,
    /// The doctor found what is not to be built on.
    Refused = 10,
    /// The program is there and cannot be executed, as in a shell.
    CannotExecute = 126,
    /// There is no such program, as in a shell.
    NoProgram = 127,
    /// Stopped on request.
    Interrupted = 130,
}

impl Exit {
    /// All codes, with what they mean: the table in `docs/reference/exit-codes.md`.
    pub(crate) const TABLE: [(Self, &'static str); 14] = [
        (Self::Success, "done, or nothing to do"),
        (Self::Failed, "a hook, a pack, a check, a step of a pipeline, a criterion or a backup failed"),
        (Self::Usage, "the command line is wrong"),
        (
            Self::Drift,
            "something is to be done (`plan --exit-code`, `status --exit-code`) or to be repaired (`doctor`)",
        ),
        (Self::Manifest, "the manifest or a spec is wrong; nothing was touched"),
        (Self::NotFound, "there is no such project, unit, hook, pipeline, run, log, spec or backup"),
        (Self::Consent, "consent is needed and there is nobody to ask; nothing was done"),
        (Self::Engine, "the engine, the kernel, a registry or the disk failed"),
        (Self::State, "the state is damaged, or was written by a newer version"),
        (Self::TimedOut, "a step of a pipeline, or a run, ran out of time"),
        (
            Self::Refused,
            "`doctor` found what `init`, `upgrade`, `restore` and `release` do not build on, and they refuse; nothing was done",
        ),
        (Self::CannotExecute, "`exec`: the program cannot be executed"),
        (Self::NoProgram, "`exec`: there is no such program"),
        (Self::Interrupted, "stopped on request (Ctrl-C)"),
    ];
}

/// What a command ends with when it does not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// A stable word for machines: `hook-failed`.
    pub(crate) kind: &'static str,
    /// What went wrong, and where.
    pub(crate) message: String,
    /// Problems of the manifest, each with its place.
    pub(crate) problems: Vec<Problem>,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// How long nobody could reach what was stopped, of a change that did not come about.
    pub(crate) outage: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, kind: &'static str, message: impl Into<String>) -> Self {
        Self { exit, kind, message: message.into(), problems: Vec::new(), hint: None, outage: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ProjectError> for Failure {
    fn from(error: ProjectError) -> Self {
        let message = error.to_string();
        match error {
            ProjectError::NotFound(_) => {
                Self::new(Exit::NotFound, "no-project", message).hint("`setpoint init` writes one")
            }
            ProjectError::Problems(problems) => {
                Self { problems, ..Self::new(Exit::Manifest, "manifest", message) }
            }
            ProjectError::Io { .. } => Self::new(Exit::Manifest, "manifest-unreadable", message),
            ProjectError::NoRelease { from, .. } => {
                let hint = format!("`setpoint init {}:VERSION` fetches one; docs/runbook.md#two-modes", from.address());
                Self::new(Exit::State, "no-release", message).hint(hint)
            }
            ProjectError::NotPinned { .. } => Self::new(Exit::Manifest, "two-modes", message).hint(
                "what is this machine's own stands in setpoint.local.toml; `setpoint init oci://... --force` writes what was here; \
                 docs/runbook.md#two-modes",
            ),
            ProjectError::Active(error) => error.into(),
            ProjectError::Release(error) => (*error).into(),
            ProjectError::NoUnits => Self::new(Exit::NotFound, "no-unit", message)
                .hint("declare an environment as `[env.dev]`, or a service in a compose.yaml; pipelines run by `setpoint run`"),
            ProjectError::NoUnit { .. } => Self::new(Exit::NotFound, "no-unit", message),
            ProjectError::Ambiguous { .. } => Self::new(Exit::Usage, "which-unit", message),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Secret(error) => error.into(),
            EngineError::State { .. } => {
                Self::new(Exit::NotFound, "unit-state", message).hint("`setpoint up` starts it")
            }
            EngineError::Sandbox(SandboxError::Exec { errno, .. }) => {
                let missing = std::io::Error::from_raw_os_error(errno).kind() == std::io::ErrorKind::NotFound;
                Self::new(if missing { Exit::NoProgram } else { Exit::CannotExecute }, "no-program", message)
            }
            error => {
                let failure = Self::new(Exit::Engine, "engine", message);
                match error.hint() {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::new(Exit::State, "state", error.to_string());
        let more = match error {
            StoreError::Damaged { .. } | StoreError::Newer { .. } | StoreError::Unfit { .. } => {
                "; docs/runbook.md#state-damaged"
            }
            _ => "",
        };
        match error.hint() {
            Some(hint) => failure.hint(format!("{hint}{more}")),
            None => failure,
        }
    }
}

impl From<ReconcilerError> for Failure {
    fn from(error: ReconcilerError) -> Self {
        match error {
            ReconcilerError::Store(error) => error.into(),
            ReconcilerError::Running => Failure::new(Exit::State, "daemon", error.to_string())
                .hint("it keeps all services of this state already"),
            ReconcilerError::Io { .. } => Failure::new(Exit::State, "daemon", error.to_string()),
        }
    }
}

impl From<ActiveError> for Failure {
    fn from(error: ActiveError) -> Self {
        let failure = Self::new(Exit::State, "active", error.to_string());
        failure.hint(UpgradeError::from(error).hint().unwrap_or_else(|| {
            "it says which data is the project's; put it back from a backup, or see docs/runbook.md#active-damaged".to_owned()
        }))
    }
}

impl From<UpgradeError> for Failure {
    fn from(error: UpgradeError) -> Self {
        let (message, outage, cause) = (error.to_string(), error.outage(), error.hint());
        // What mends the cause comes first.
        let then = |more: &str| match &cause {
            Some(cause) => format!("{cause}; {more}"),
            None => more.to_owned(),
        };
        let failure = match error {
            UpgradeError::Dropped { .. } => {
                let message = format!("{message}\nNothing was touched.");
                Self { hint: cause, ..Self::new(Exit::Failed, "upgrade-failed", message) }
            }
            UpgradeError::Changed { .. } => {
                Self::new(Exit::State, "changed", format!("{message}\nNothing was touched."))
                    .hint("run it again; what is in the way by that name is somebody else's")
            }
            UpgradeError::NoRoom(_) => {
                let message = format!("{message}\nNothing was touched.");
                Self { hint: cause, ..Self::new(Exit::Engine, "disk", message) }
            }
            UpgradeError::Rehearsal { pause, .. } => {
                let pause = match pause.is_zero() {
                    true => String::new(),
                    false => format!(", but for {} in which data was copied", span(pause)),
                };
                let message = format!("{message}\nIt was only tried: what runs was not touched{pause}.");
                Self::new(Exit::Failed, "rehearsal", message).hint(then(
                    "mend it; or `--no-rehearse`, if it is only not well where it reaches nobody: it goes back by itself, too",
                ))
            }
            UpgradeError::RolledBack { outage, .. } => {
                let message = format!(
                    "{message}\nRolled back: what ran before runs again, with its own data. Outage {}.",
                    span(outage)
                );
                Self::new(Exit::Failed, "rolled-back", message)
                    .hint(then("`setpoint history` shows what was done"))
            }
            UpgradeError::Unwell { due, .. } => {
                let more = match due.is_empty() {
                    true => "`setpoint status` and `setpoint logs` say more; `setpoint rollback` goes back",
                    false => {
                        "`setpoint status` and `setpoint logs` say more; the next `setpoint upgrade` runs what is due; \
                         `setpoint rollback --dry-run` says whether anything leads back"
                    }
                };
                let due: Vec<String> = due.iter().map(|id| format!(" {id} stays due.")).collect();
                let message = format!("{message}\nThe new version is in effect.{}", due.concat());
                Self::new(Exit::Failed, "unwell", message).hint(then(more))
            }
            UpgradeError::NeedsOperator { .. } => {
                let message = format!("{message}\nNeither version is whole. All data is kept.");
                let more =
                    "the next command that changes something, or `setpoint recover`, brings it to an end";
                let more = if cause.is_some() {
                    more.to_owned()
                } else {
                    format!("mend what is in the way; {more}")
                };
                Self::new(Exit::State, "needs-operator", message)
                    .hint(format!("{}; docs/runbook.md#needs-operator", then(&more)))
            }
            UpgradeError::Active(error) => error.into(),
            UpgradeError::Store(error) => error.into(),
            UpgradeError::Engine(error) => error.into(),
            UpgradeError::Apply(error) => error.into(),
            UpgradeError::Release(error) => (*error).into(),
            UpgradeError::Backup(error) => (*error).into(),
            UpgradeError::Lock(_) => Self { hint: cause, ..Self::new(Exit::State, "lock", message) },
        };
        Self { outage, ..failure }
    }
}

impl From<MigrationsError> for Failure {
    fn from(error: MigrationsError) -> Self {
        match error {
            MigrationsError::Bad(error) => error.into(),
            MigrationsError::Store(error) => error.into(),
            MigrationsError::Engine(error) => error.into(),
            MigrationsError::Io { .. } => Self::new(Exit::Failed, "migrations", error.to_string()),
        }
    }
}

impl From<BadVersion> for Failure {
    fn from(error: BadVersion) -> Self {
        Self::new(Exit::Usage, "bad-version", error.to_string())
    }
}

impl From<BadAddress> for Failure {
    fn from(error: BadAddress) -> Self {
        let failure = Self::new(Exit::Usage, "bad-address", error.to_string());
        failure.hint("the address of a release is `oci://ghcr.io/acme/shop:v0.3.0`, that of a repository `ghcr.io/acme/shop`")
    }
}

impl From<ReleaseError> for Failure {
    fn from(error: ReleaseError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        let (exit, kind) = match error {
            ReleaseError::Problem(problem) => return ApplyError::Problem(problem).into(),
            ReleaseError::Migrations(error) => return error.into(),
            ReleaseError::Apply(error) => return error.into(),
            ReleaseError::Engine(error) => return error.into(),
            ReleaseError::Unknown { .. } | ReleaseError::Empty(_) => (Exit::NotFound, "no-version"),
            ReleaseError::NotARelease(_) => (Exit::NotFound, "no-release"),
            ReleaseError::Untrusted { .. } => (Exit::Consent, "untrusted"),
            ReleaseError::Refused { .. } => (Exit::Engine, "refused"),
            ReleaseError::Signature { .. } => (Exit::Engine, "signature"),
            ReleaseError::Key { .. } => (Exit::Usage, "key"),
            ReleaseError::Missing { .. } => {
                let hint = hint.map(|hint| format!("{hint}; docs/runbook.md#no-release"));
                return Self { hint, ..Self::new(Exit::State, "no-release", message) };
            }
            ReleaseError::Image(_) => (Exit::Engine, "registry"),
            ReleaseError::Io { .. } => (Exit::State, "state"),
            ReleaseError::Git { .. }
            | ReleaseError::Dirty(_)
            | ReleaseError::Tag { .. }
            | ReleaseError::Version { .. }
            | ReleaseError::File { .. }
            | ReleaseError::Different { .. } => (Exit::Failed, "not-released"),
        };
        Self { hint, ..Self::new(exit, kind, message) }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let (mut message, hint) = (error.to_string(), error.hint());
        let (exit, kind) = match error {
            BackupError::Engine(error) => return error.into(),
            BackupError::Apply(error) => return error.into(),
            BackupError::Store(error) => return error.into(),
            BackupError::NoData { .. } => (Exit::NotFound, "no-data"),
            BackupError::NoBackup { .. } => (Exit::NotFound, "no-backup"),
            BackupError::NotRunning { .. } => (Exit::NotFound, "unit-state"),
            BackupError::NotHere(_) | BackupError::Unfit(backup::Unfit::NoUnit { .. }) => {
                (Exit::NotFound, "not-here")
            }
            BackupError::Unfit(_) => (Exit::Consent, "other-backup"),
            BackupError::NotAFolder { .. } => (Exit::Usage, "no-folder"),
            BackupError::Taken(_) => (Exit::Usage, "taken"),
            BackupError::Refused { .. } | BackupError::Unlawful { .. } => (Exit::Engine, "refused"),
            BackupError::Command { ref tail, .. } => {
                message.extend(tail.iter().map(|line| format!("\n  | {line}")));
                (Exit::Failed, "backup-failed")
            }
            BackupError::Drill { .. } => (Exit::Failed, "drill-failed"),
            BackupError::NotResumed { .. } => (Exit::Engine, "not-resumed"),
            BackupError::Cancelled => (Exit::Interrupted, "interrupted"),
            BackupError::Image(_) => (Exit::Engine, "registry"),
            BackupError::Lock(_) => (Exit::State, "lock"),
            BackupError::Io { .. } => (Exit::Engine, "disk"),
        };
        Self { hint, ..Self::new(exit, kind, message) }
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        match error {
            CacheError::Store(error) => error.into(),
            CacheError::Engine(error) => error.into(),
        }
    }
}

impl From<FactsError> for Failure {
    fn from(error: FactsError) -> Self {
        match error {
            FactsError::Engine(error) => error.into(),
            FactsError::Secret(error) => error.into(),
            FactsError::Problem(problem) => ApplyError::Problem(problem).into(),
            FactsError::Build(error) => Self::new(Exit::Manifest, "inputs", error.to_string())
                .hint("a Dockerfile is named from the folder of its context, in a devcontainer.json from that of the file"),
            other => Self::new(Exit::Manifest, "inputs", other.to_string()),
        }
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self { hint: error.hint(), ..Self::new(Exit::Engine, "secret", error.to_string()) }
    }
}

impl From<DslError> for Failure {
    fn from(error: DslError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        let failure = match error {
            DslError::Engine(error) => return error.into(),
            DslError::Secret(error) => return error.into(),
            DslError::Unknown { .. } => Self::new(Exit::NotFound, "no-pipeline", message),
            DslError::Problems { problems, .. } => {
                Self { problems, ..Self::new(Exit::Manifest, "pipeline", message) }
            }
            DslError::Failed { .. } => Self::new(Exit::Manifest, "pipeline", message),
            DslError::NoPython | DslError::OldPython { .. } | DslError::Slow(_) | DslError::Protocol(_) => {
                Self::new(Exit::Engine, "python", message)
            }
            DslError::Lock(_) | DslError::Io { .. } => Self::new(Exit::State, "state", message),
            DslError::Cancelled => Self::new(Exit::Interrupted, "interrupted", message),
        };
        Self { hint, ..failure }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        let failure = match error {
            RunError::Engine(error) => return error.into(),
            RunError::Store(error) => return error.into(),
            RunError::Secret(error) => return error.into(),
            RunError::NoStep { .. } => Self::new(Exit::NotFound, "no-step", message),
            RunError::Unmatched(_)
            | RunError::Pattern { .. }
            | RunError::NoHostPath { .. }
            | RunError::NoSecret { .. }
            | RunError::Service { .. } => Self::new(Exit::Manifest, "pipeline", message),
            RunError::Source(_) => Self::new(Exit::Engine, "source", message),
            RunError::Git { .. } => Self::new(Exit::Engine, "git", message),
            RunError::Lock(_) | RunError::Io { .. } | RunError::Runs(_) => {
                Self::new(Exit::State, "state", message)
            }
            RunError::Cancelled => Self::new(Exit::Interrupted, "interrupted", message),
        };
        Self { hint, ..failure }
    }
}

impl From<CompleteError> for Failure {
    fn from(error: CompleteError) -> Self {
        match error {
            CompleteError::Project(error) => error.into(),
            CompleteError::Engine(error) => error.into(),
            CompleteError::Facts(error) => error.into(),
        }
    }
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Self {
        let message = unfit.to_string();
        let failure = match unfit {
            Unfit::NobodyElse { .. } => Self::new(Exit::Engine, "engine", message),
            Unfit::NoContainer { .. } => Self::new(Exit::NotFound, "no-container", message),
            Unfit::NoProject { .. } => Self::new(Exit::NotFound, "no-compose-project", message),
            Unfit::Several { .. } => Self::new(Exit::Usage, "which-container", message),
            Unfit::NotRunning { .. } => Self::new(Exit::NotFound, "unit-state", message),
            Unfit::Undeclared { .. } => Self::new(Exit::NotFound, "no-unit", message),
            Unfit::Taken { .. } | Unfit::Exists { .. } | Unfit::Scaled { .. } => {
                Self::new(Exit::Consent, "already-there", message)
            }
        };
        failure.hint(unfit.hint())
    }
}

impl From<AdoptError> for Failure {
    fn from(error: AdoptError) -> Self {
        match error {
            AdoptError::Unfit(unfit) => unfit.into(),
            AdoptError::Image { .. } => {
                Self::new(Exit::Engine, "image-not-kept", format!("{error}\nIt was not taken over.")).hint(
                    "make room for it, or push it to a registry and pull it from there; then the same again",
                )
            }
            AdoptError::Failed(error) => error.into(),
        }
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Phase(failed) => {
                let unit = &failed.unit;
                let phase = &failed.phase;
                let mut message = format!("{phase} failed in {unit}: {}", failed.how);
                if let Some(at) = &failed.at {
                    message.push_str(&format!("\n  at {}:{}:{}", at.file, at.line, at.column));
                    message.push_str(&format!("\n  {}", at.source_line.trim()));
                }
                message.push_str(&format!("\n{}", failed.consequence));
                let exit = if failed.cancelled { Exit::Interrupted } else { Exit::Failed };
                Self::new(exit, if failed.cancelled { "interrupted" } else { "phase-failed" }, message)
                    .hint(failed.hint.clone())
            }
            ApplyError::Problem(problem) => Self {
                problems: vec![*problem],
                ..Self::new(Exit::Manifest, "manifest", "1 problem in the manifest")
            },
            ApplyError::Session(_) => Self::new(Exit::State, "session", error.to_string()),
            ApplyError::Engine(error) => error.into(),
            ApplyError::Store(error) => error.into(),
            ApplyError::Secret(error) => error.into(),
            ApplyError::Facts(error) => error.into(),
        }
    }
}
