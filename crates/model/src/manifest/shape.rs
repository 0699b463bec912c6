//! The shape of the file: what may stand where. Reading, the check for mistakes and the schema for editors are all
//! made from these types, so a key is added here and nowhere else.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use schemars::JsonSchema;
use serde::Deserialize;

use super::byte_size::ByteSize;
use super::env::{EngineKind, Network, PacksOnStart};
use super::env_value::{EnvName, EnvValue};
use super::format::Named;
use super::hook::{CommandText, WhenChanged};
use super::paths::{HostPath, InputGlob, InsidePath, VisiblePath};
use super::pipeline::{CacheWord, MatrixKey, OutputGlob, SharedFolder, StepCommand, StepEnvValue, Workdir};
use super::project_name::ProjectName;
use super::scalars::{
    FileMode, HttpPath, ImageReference, NonEmpty, Port, ReleaseVersion, RepositoryAddress, Timeout, User,
};
use super::secret::Form;
use crate::names::{PackName, PipelineName, SecretName, StepName, UnitName};

/// What a project is made of. See the reference of the manifest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "setpoint.toml")]
pub(super) struct ManifestFile {
    /// The version of this format.
    #[schemars(schema_with = "schema_version")]
    #[serde(rename = "setpoint")]
    pub(super) _version: i64,
    /// The project as a whole.
    #[serde(default)]
    pub(super) project: ProjectSection,
    /// What runs the environments.
    #[serde(default)]
    pub(super) engine: EngineSection,
    /// Secrets, by name: where their values come from.
    #[serde(default)]
    pub(super) secret: Named<SecretName, SecretSection>,
    /// Environments, by name.
    #[serde(default)]
    pub(super) env: Named<UnitName, EnvSection>,
    /// Services, by name.
    #[serde(default)]
    pub(super) service: Named<UnitName, ServiceSection>,
    /// Services, as compose files declare them.
    pub(super) stack: Option<StackSection>,
    /// Pipelines, by name.
    #[serde(default)]
    pub(super) pipeline: Named<PipelineName, PipelineSection>,
    /// Who is told when a unit needs a person.
    pub(super) alerts: Option<AlertsSection>,
    /// How one version of the services takes the place of another.
    #[serde(default)]
    pub(super) release: ReleaseSection,
    /// How much the cache of pipelines may hold.
    #[serde(default)]
    pub(super) cache: CacheSection,
    /// How the tests that specs name are run.
    #[serde(default)]
    pub(super) spec: SpecSection,
    /// The single script of older projects.
    #[serde(default)]
    pub(super) scripts: ScriptsSection,
}

/// The version of the format that this crate reads.
pub(super) const VERSION: i64 = 1;

fn schema_version(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "const": VERSION })
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectSection {
    /// The project's name. Default: the name of its folder.
    pub(super) name: Option<ProjectName>,
    /// The project's version.
    #[schemars(extend("examples" = ["0.3.0"]))]
    pub(super) version: Option<NonEmpty>,
    /// What a bare `setpoint up` brings up. Default: everything.
    #[schemars(extend("examples" = [["dev"]]))]
    pub(super) up: Option<Vec<UnitName>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EngineSection {
    /// What runs the environments.
    #[serde(default)]
    pub(super) default: EngineKind,
}

/// How one version of the services takes the place of another.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseSection {
    /// Where images and bundles go.
    pub(super) repository: Option<RepositoryAddress>,
    /// Where the project comes from, with everything that it declares. `setpoint init oci://...` writes it, and nothing
    /// else stands beside it.
    pub(super) from: Option<RepositoryAddress>,
    /// Files that a bundle carries besides those that services refer to: patterns from the project's folder.
    #[serde(default)]
    #[schemars(extend("examples" = [["deploy/**"]]))]
    pub(super) files: Vec<InputGlob>,
    /// `compatible`, if the version before can work with the data as this one leaves it: then it is not copied. Default:
    /// `breaking`.
    pub(super) lane: Option<LaneWord>,
    /// `false`, if there may never be two instances of a service at once. Default: `true`: where no data is copied, one of the
    /// new version answers while that of the old one is replaced.
    pub(super) stand_in: Option<bool>,
    /// How many earlier generations are kept, with their data. Default: 1.
    pub(super) keep: Option<u32>,
    /// How long a new instance may take until it is well. Default: `1m`.
    #[schemars(extend("examples" = ["5m"]))]
    pub(super) verify: Option<Timeout>,
    /// How long it has to stay well before the upgrade is committed. Default: `2s`.
    #[schemars(extend("examples" = ["30s"]))]
    pub(super) steady: Option<Timeout>,
    /// How long all are watched afterwards. Default: `5s`.
    #[schemars(extend("examples" = ["1m"]))]
    pub(super) bake: Option<Timeout>,
    /// What migrations have in common that do not say otherwise.
    #[serde(default)]
    pub(super) migrations: MigrationsSection,
}

/// What migrations have in common that do not say otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MigrationsSection {
    /// The service that they run in: with its image, its variables, secrets, networks and volumes.
    #[schemars(extend("examples" = ["db"]))]
    pub(super) r#in: Option<UnitName>,
    /// `pre`, before that service starts, which is the default, or `post`, when it is well.
    pub(super) stage: Option<StageWord>,
    /// The programs that run them, by the endings of their names; the path of the file is added. What ends in `sh` is
    /// run by `/bin/sh`.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "sql": ["psql", "-v", "ON_ERROR_STOP=1", "-f"] }]))]
    pub(super) run: BTreeMap<String, Vec<String>>,
    /// How long one may take. Default: `30m`.
    #[schemars(extend("examples" = ["2h"]))]
    pub(super) timeout: Option<Timeout>,
    /// The version up to which data has all of them that no ledger tells of: what an image brings with it, or what was
    /// there before there was a ledger.
    #[schemars(extend("examples" = ["0.2.0"]))]
    pub(super) baseline: Option<ReleaseVersion>,
}

/// When a migration runs.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum StageWord {
    /// Before its service starts.
    Pre,
    /// When it is well.
    Post,
}

/// What an upgrade does to data.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LaneWord {
    /// The new version works on a copy of it.
    Breaking,
    /// Both versions work with the same.
    Compatible,
}

/// Who is told when a service is left alone, or nothing may be done before a person has looked at it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(super) struct AlertsSection {
    /// The address that it is sent to, by HTTP as JSON.
    #[schemars(extend("examples" = ["https://example.com/hook", "${secret.alert-url}"]))]
    pub(super) webhook: Option<EnvValue>,
    /// The program that is run with it on its input, and its arguments, without a shell.
    #[schemars(length(min = 1), extend("examples" = [["notify", "--urgent"]]))]
    pub(super) command: Option<Vec<String>>,
}

/// How the tests that specs name are run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SpecSection {
    /// Tests of Rust.
    #[serde(default)]
    pub(super) cargo: CargoSection,
    /// Tests of Python.
    #[serde(default)]
    pub(super) pytest: RunnerSection,
    /// Tests of Go.
    #[serde(default)]
    pub(super) go: RunnerSection,
    /// Tests of JavaScript and TypeScript.
    #[serde(default)]
    pub(super) vitest: RunnerSection,
}

/// How cargo is run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CargoSection {
    /// The program, and what always stands behind it. Default: `cargo`.
    #[schemars(length(min = 1), extend("examples" = [["cargo", "+nightly"]]))]
    pub(super) command: Option<Vec<String>>,
    /// What it is told besides, when it lists tests and when it runs them.
    #[serde(default)]
    #[schemars(extend("examples" = [["--features", "slow-tests"]]))]
    pub(super) arguments: Vec<String>,
    /// Where it is run, from the project's folder. Default: there.
    #[schemars(extend("examples" = ["backend"]))]
    pub(super) folder: Option<HostPath>,
    /// Test binaries whose tests run in one process, since they share what is slow to start: by `cargo test`.
    #[serde(default)]
    #[schemars(extend("examples" = [["shop::browser"]]))]
    pub(super) together: Vec<NonEmpty>,
}

/// How a runner is run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunnerSection {
    /// The program, and what always stands behind it. Default: `python3 -m pytest`, `go`, `npx --no-install vitest`.
    #[schemars(length(min = 1), extend("examples" = [["uv", "run", "pytest"]]))]
    pub(super) command: Option<Vec<String>>,
    /// What it is told besides, when it lists tests and when it runs them.
    #[serde(default)]
    #[schemars(extend("examples" = [["--tags", "slow"]]))]
    pub(super) arguments: Vec<String>,
    /// Where it is run, from the project's folder. Default: there.
    #[schemars(extend("examples" = ["web"]))]
    pub(super) folder: Option<HostPath>,
}

/// Services, as compose files declare them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StackSection {
    /// The files: later ones are laid over earlier ones.
    #[schemars(extend("examples" = ["compose.yaml"]))]
    pub(super) compose: ComposeFiles,
    /// The profiles whose services are part of it.
    #[serde(default)]
    pub(super) profiles: Vec<NonEmpty>,
}

/// Compose files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum ComposeFiles {
    /// One.
    One(HostPath),
    /// Several.
    Several(#[schemars(length(min = 1))] Vec<HostPath>),
}

/// A secret: exactly one source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct SecretSection {
    /// The variable of your environment that holds it.
    #[schemars(extend("examples" = ["API_TOKEN"]))]
    pub(super) env: Option<EnvName>,
    /// The file that holds it.
    #[schemars(extend("examples" = ["~/.keys/token"]))]
    pub(super) file: Option<HostPath>,
    /// The command that prints it, as a list, without a shell.
    #[schemars(length(min = 1), extend("examples" = [["pass", "show", "token"]]))]
    pub(super) command: Option<Vec<String>>,
    /// The form of a value that is made by chance, once, and then kept.
    pub(super) generate: Option<Form>,
    /// A text with other secrets in it, such as `user:{{ secret.password }}`; with the functions `hmac`, `sha256`,
    /// `base64`, `hex` and `bcrypt`.
    #[schemars(extend("examples" = ["admin:{{ bcrypt(secret.password) }}"]))]
    pub(super) derive: Option<NonEmpty>,
}

/// An environment. At most one of `base`, `image`, `build` and `rootfs`; none is base `host`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EnvSection {
    /// What it is built on: the host's own system.
    pub(super) base: Option<BaseWord>,
    /// What it is built on: an image.
    pub(super) image: Option<ImageReference>,
    /// What it is built on: an image that is built from a Dockerfile in this folder.
    #[schemars(extend("examples" = [".", { "context": ".", "target": "dev" }]))]
    pub(super) build: Option<BuildEntry>,
    /// What it is built on, and all else that a devcontainer.json says. What is said here as well comes before it.
    #[schemars(extend("examples" = [".devcontainer/devcontainer.json"]))]
    pub(super) devcontainer: Option<HostPath>,
    /// What it is built on: a root file system, a folder or an archive.
    #[schemars(extend("examples" = ["./rootfs.tar"]))]
    pub(super) rootfs: Option<HostPath>,
    /// What is installed, in this order: `.setpoint/packs/<name>.sh`.
    #[serde(default)]
    #[schemars(extend("examples" = [["base", "uv"]]))]
    pub(super) packs: Vec<PackName>,
    /// Whether packs run at every start, or only when they differ or have failed.
    #[serde(default)]
    pub(super) packs_on_start: PacksOnStart,
    /// Where the project appears inside. Default: `/workspace`.
    pub(super) workspace: Option<InsidePath>,
    /// Who runs hooks and shells. Default: the owner of the project's folder.
    pub(super) user: Option<User>,
    /// Environment variables.
    #[serde(default)]
    pub(super) env: Named<EnvName, EnvValue>,
    /// Folders and files of the host that appear inside.
    #[serde(default)]
    #[schemars(extend("examples" = [[{ "source": "~/.cargo", "target": "/home/dev/.cargo" }]]))]
    pub(super) mounts: Vec<MountEntry>,
    /// What of the homes of the host is visible inside, read-only; on base `host` only.
    #[serde(default)]
    #[schemars(extend("examples" = [["~/.cargo/bin"]]))]
    pub(super) host_paths: Vec<VisiblePath>,
    /// Ports that something inside listens on.
    #[serde(default)]
    #[schemars(extend("examples" = [["8080"]]))]
    pub(super) ports: Vec<Port>,
    /// What it may use at most.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "memory": "2GiB", "cpus": 1.5, "pids": 512 }]))]
    pub(super) limits: LimitsSection,
    /// The network that it sees.
    #[serde(default)]
    pub(super) network: Network,
    /// What runs in the course of its life.
    #[serde(default)]
    pub(super) hooks: HooksSection,
}

/// A service: a command that runs for others. At most one of `base`, `image`, `build` and `rootfs`; none is base `host`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceSection {
    /// What it is built on: the host's own system.
    pub(super) base: Option<BaseWord>,
    /// What it is built on: an image.
    pub(super) image: Option<ImageReference>,
    /// What it is built on: an image that is built from a Dockerfile in this folder.
    #[schemars(extend("examples" = [".", { "context": ".", "target": "prod" }]))]
    pub(super) build: Option<BuildEntry>,
    /// What it is built on: a root file system, a folder or an archive.
    #[schemars(extend("examples" = ["./rootfs.tar"]))]
    pub(super) rootfs: Option<HostPath>,
    /// What it runs: a text for `/bin/sh -c`, or a program with its arguments. Default: what its image runs.
    pub(super) command: Option<StepRun>,
    /// What runs that, instead of what its image has for it; an empty list is nothing.
    #[schemars(extend("examples" = [["/entrypoint.sh"]]))]
    pub(super) entrypoint: Option<Vec<String>>,
    /// Who runs it. Default: whom its image names, or root.
    pub(super) user: Option<User>,
    /// Where it starts. Default: where its image says.
    pub(super) workdir: Option<InsidePath>,
    /// Environment variables.
    #[serde(default)]
    pub(super) env: Named<EnvName, EnvValue>,
    /// Volumes, by name, with the folders where they appear inside. They outlive it.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "data": "/var/lib/postgresql/data" }]))]
    pub(super) volumes: Named<UnitName, InsidePath>,
    /// Folders and files of the host that appear inside.
    #[serde(default)]
    #[schemars(extend("examples" = [[{ "source": "deploy/app.conf", "target": "/etc/app.conf", "read_only": true }]]))]
    pub(super) mounts: Vec<MountEntry>,
    /// Ports that it is reached by from outside; with a network of its own.
    #[serde(default)]
    #[schemars(extend("examples" = [["80:8080"]]))]
    pub(super) ports: Vec<Port>,
    /// The network that it sees. Default: that of the project, where others find it by its name.
    pub(super) network: Option<Network>,
    /// What it may use at most.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "memory": "512MiB" }]))]
    pub(super) limits: LimitsSection,
    /// The services that come before it, and what they must have come to.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "db": "healthy" }]))]
    pub(super) depends_on: Named<UnitName, ConditionWord>,
    /// How it is found out whether it is well.
    pub(super) health: Option<HealthSection>,
    /// When it is started again. Default: `always`; of one that is `one_shot`, `on-failure`.
    pub(super) restart: Option<RestartWord>,
    /// Whether it is there to end: it is as it should be when it has ended well.
    #[serde(default)]
    pub(super) one_shot: bool,
    /// The signal that asks it to end. Default: what its image says, or `SIGTERM`.
    #[schemars(extend("examples" = ["SIGINT"]))]
    pub(super) stop_signal: Option<NonEmpty>,
    /// How long it may take to end before it is killed. Default: `10s`.
    pub(super) stop_grace: Option<Timeout>,
    /// Secrets that it reads as files: each is `/run/secrets/<name>`, its user's alone.
    #[serde(default)]
    #[schemars(extend("examples" = [["db-password"]]))]
    pub(super) secrets: Vec<SecretName>,
    /// Files that are made for it of templates.
    #[serde(default)]
    #[schemars(extend("examples" = [[{ "template": "deploy/app.conf.j2", "target": "/etc/app.conf" }]]))]
    pub(super) files: Vec<FileEntry>,
    /// What runs in it in the course of its life.
    #[serde(default)]
    pub(super) hooks: ServiceHooksSection,
    /// What is done once for its data, in the order in which it is written.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "seed": { "run": "./seed", "after": "healthy" } }]))]
    pub(super) first_boot: Named<UnitName, FirstBootSection>,
    /// How its data is backed up and restored, if not by its volumes while it is stopped.
    pub(super) backup: Option<BackupSection>,
}

/// How a service's data is backed up and restored by commands that run in it. It goes on meanwhile.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "run": ["pg_dumpall", "--clean"], "restore": ["psql"], "user": "postgres" }]))]
pub(super) struct BackupSection {
    /// What writes the data to its standard output: a text for `/bin/sh -c`, or a program with its arguments.
    pub(super) run: StepRun,
    /// What reads it from its standard input, in a new instance with empty volumes, once that is well.
    pub(super) restore: StepRun,
    /// Who runs them. Default: who runs the service.
    pub(super) user: Option<User>,
}

/// A step of a first boot: `run`, `host`, `wait` or `owner`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FirstBootSection {
    /// What runs in the service: a text for `/bin/sh -c`, or a program with its arguments.
    pub(super) run: Option<StepRun>,
    /// What runs on the host, in the project's folder: a text for `/bin/sh -c`, or a program with its arguments.
    pub(super) host: Option<StepRun>,
    /// What is waited for.
    pub(super) wait: Option<WaitSection>,
    /// Whose a volume is to be.
    #[schemars(extend("examples" = [{ "volume": "data", "user": "postgres" }]))]
    pub(super) owner: Option<OwnerSection>,
    /// What the service must have come to before. Default: `started`.
    pub(super) after: Option<AfterWord>,
    /// Who runs it in the service. Default: who runs the service.
    pub(super) user: Option<User>,
    /// How long it may take. Default: as long as it needs; a `wait` takes a minute at most.
    pub(super) timeout: Option<Timeout>,
}

/// What a step of a first boot waits for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitSection {
    /// What runs in the service, again and again, until it ends well.
    pub(super) exec: Option<StepRun>,
    /// What is asked for by HTTP, with `port`, within its network; any answer of 200 to 399 is good.
    pub(super) http: Option<HttpPath>,
    /// The port that `http` asks.
    pub(super) port: Option<NonZeroU16>,
    /// The only answer to `http` that is good.
    #[schemars(range(min = 100, max = 599))]
    pub(super) status: Option<u16>,
    /// The port that has to take a connection, made within its network.
    pub(super) tcp: Option<NonZeroU16>,
}

/// Whose a volume is to be, with all that is in it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnerSection {
    /// The volume, one of the service's `volumes`.
    pub(super) volume: UnitName,
    /// A name or number of the image, perhaps with a group after a `:`.
    #[schemars(extend("examples" = ["postgres", "999:999"]))]
    pub(super) user: User,
}

/// What a service must have come to before a step.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AfterWord {
    /// It has been started.
    Started,
    /// Its health check has passed.
    Healthy,
}

/// A file that is made of a template, and can only be read inside.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "template": "deploy/app.conf.j2", "target": "/etc/app.conf", "mode": "0440" }]))]
pub(super) struct FileEntry {
    /// The template: `{{ secret.NAME }}`, `{{ env.NAME }}`, `{{ project }}`, `{{ version }}`, `{{ unit }}`, and what
    /// else Jinja has.
    pub(super) template: HostPath,
    /// Where it appears inside.
    pub(super) target: InsidePath,
    /// Its access rights. Default: `0400`.
    pub(super) mode: Option<FileMode>,
    /// Whose it is. Default: who runs the service.
    pub(super) owner: Option<User>,
}

/// What runs in a service in the course of its life: a text for `/bin/sh -c`, or a program with its arguments.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceHooksSection {
    /// Once, after it was made and started.
    pub(super) post_create: Option<StepRun>,
    /// After every start by `setpoint up`.
    pub(super) post_start: Option<StepRun>,
}

/// What a service must have come to.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ConditionWord {
    /// It has been started.
    Started,
    /// Its health check has passed.
    Healthy,
    /// It has ended, and with success.
    Completed,
}

/// When a service is started again.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RestartWord {
    /// Whenever it ends, unless it was stopped on purpose.
    Always,
    /// When it fails.
    OnFailure,
    /// Never.
    Never,
}

/// How it is found out whether a service is well: by exactly one of `exec`, `http` and `tcp`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthSection {
    /// What is run inside, and ends well if all is well: a text for `/bin/sh -c`, or a program with its arguments.
    #[schemars(extend("examples" = [["pg_isready"]]))]
    pub(super) exec: Option<StepRun>,
    /// What is asked for by HTTP, with `port`; any answer of 200 to 399 is good. Asked for within its network, so that
    /// it may listen there alone.
    #[schemars(extend("examples" = ["/healthz"]))]
    pub(super) http: Option<HttpPath>,
    /// The port that `http` asks.
    #[schemars(extend("examples" = [8080]))]
    pub(super) port: Option<NonZeroU16>,
    /// The only answer to `http` that is good.
    #[schemars(range(min = 100, max = 599), extend("examples" = [204]))]
    pub(super) status: Option<u16>,
    /// The port that has to take a connection, made within its network.
    #[schemars(extend("examples" = [5432]))]
    pub(super) tcp: Option<NonZeroU16>,
    /// How long between two of them. Default: `30s`.
    pub(super) interval: Option<Timeout>,
    /// How long one may take. Default: `30s`.
    pub(super) timeout: Option<Timeout>,
    /// How many failures in a row it takes. Default: 3.
    pub(super) retries: Option<NonZeroU32>,
    /// For how long after the start failures do not count.
    pub(super) start_period: Option<Timeout>,
}

/// An image that is built from a Dockerfile.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum BuildEntry {
    /// The folder with the Dockerfile, and with what it copies.
    Context(HostPath),
    /// It says more than that.
    Table(BuildTable),
}

/// How an image is built.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "context": ".", "dockerfile": "docker/dev.Dockerfile", "args": { "VARIANT": "bookworm" } }]))]
pub(super) struct BuildTable {
    /// The folder that the Dockerfile may copy from.
    pub(super) context: HostPath,
    /// The Dockerfile, from there. Default: `Dockerfile`.
    pub(super) dockerfile: Option<NonEmpty>,
    /// Values for its `ARG`s.
    #[serde(default)]
    pub(super) args: BTreeMap<String, String>,
    /// The stage that is built. Default: the last one.
    pub(super) target: Option<NonEmpty>,
    /// Images whose layers may be taken.
    #[serde(default)]
    pub(super) cache_from: Vec<ImageReference>,
    /// The platform that it is built for.
    #[schemars(extend("examples" = ["linux/amd64"]))]
    pub(super) platform: Option<NonEmpty>,
    /// Secrets that its steps may mount, by their ids. Docker only.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "npm": { "file": "~/.npmrc" }, "token": { "env": "NPM_TOKEN" } }]))]
    pub(super) secrets: BTreeMap<String, BuildSecretEntry>,
}

/// Where a secret of a build comes from: exactly one source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct BuildSecretEntry {
    /// The file that holds it.
    #[schemars(extend("examples" = ["~/.npmrc"]))]
    pub(super) file: Option<HostPath>,
    /// The variable of your environment that holds it.
    #[schemars(extend("examples" = ["NPM_TOKEN"]))]
    pub(super) env: Option<EnvName>,
}

/// A base by its name.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum BaseWord {
    /// The host's own system, read-only below, with the environment's changes above it.
    Host,
}

/// A folder or file of the host that appears inside.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "source": "~/.cargo", "target": "/home/dev/.cargo" }]))]
pub(super) struct MountEntry {
    /// What of the host: absolute, from your home by `~/`, or from the project's folder.
    pub(super) source: HostPath,
    /// Where it appears inside.
    pub(super) target: InsidePath,
    /// Whether it can only be read.
    #[serde(default)]
    pub(super) read_only: bool,
}

/// What an environment may use at most.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsSection {
    /// Memory.
    pub(super) memory: Option<ByteSize>,
    /// Processors, in parts: 1.5 is one and a half.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(super) cpus: Option<f64>,
    /// Processes and threads.
    pub(super) pids: Option<NonZeroU64>,
}

/// What runs in the course of an environment's life, in this order.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HooksSection {
    /// On the host, before anything else.
    pub(super) initialize: Option<HookEntry>,
    /// Once, after the environment was made.
    pub(super) on_create: Option<HookEntry>,
    /// When the content that it depends on changes.
    pub(super) update_content: Option<HookEntry>,
    /// Once, after the content is there.
    pub(super) post_create: Option<HookEntry>,
    /// After every start.
    pub(super) post_start: Option<HookEntry>,
    /// After every `up` that did something, and before every session.
    pub(super) post_attach: Option<HookEntry>,
    /// By `setpoint check`, and after the environment was made.
    pub(super) verify: Option<HookEntry>,
}

/// A hook.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum HookEntry {
    /// One word with a `/` is a script of the project, any other text a command for the shell.
    Text(CommandText),
    /// A program with its arguments, without a shell.
    Argv(#[schemars(length(min = 1))] Vec<String>),
    /// A hook with options.
    Table(Box<HookTable>),
}

/// A hook with options: `run` or `parallel`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HookTable {
    /// What it runs.
    pub(super) run: Option<CommandEntry>,
    /// What it runs side by side, by name.
    #[schemars(extend("minProperties" = 1))]
    pub(super) parallel: Option<BTreeMap<String, CommandEntry>>,
    /// Files of the project that it depends on, as patterns.
    #[serde(default)]
    #[schemars(extend("examples" = [["package-lock.json"]]))]
    pub(super) inputs: Vec<InputGlob>,
    /// How long it may take.
    pub(super) timeout: Option<Timeout>,
    /// Variables of its own, over those of the environment.
    #[serde(default)]
    pub(super) env: Named<EnvName, EnvValue>,
    /// Who runs it, if not the environment's user.
    pub(super) user: Option<User>,
    /// What a change of it, or of its inputs, leads to.
    #[serde(default)]
    pub(super) when_changed: WhenChanged,
    /// Whether every `up` runs it; for `post_attach` and `initialize`.
    #[serde(default)]
    pub(super) always: bool,
}

/// A command.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum CommandEntry {
    /// One word with a `/` is a script of the project, any other text a command for the shell.
    Text(CommandText),
    /// A program with its arguments, without a shell.
    Argv(#[schemars(length(min = 1))] Vec<String>),
}

/// The single script of older projects.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptsSection {
    /// The `post_create` hook of the only environment.
    pub(super) provision: Option<CommandText>,
}

/// How much the cache of pipelines may hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CacheSection {
    /// The room that it may take. Default: `20GiB`.
    pub(super) max_size: Option<ByteSize>,
    /// How long a result is kept after its last use. Default: `30d`.
    pub(super) max_age: Option<Timeout>,
}

/// A pipeline: steps, and what is common to them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PipelineSection {
    /// The image that its steps start from. Default: the host's own system.
    pub(super) image: Option<ImageReference>,
    /// What of the host's homes its steps see, read-only; on the host's own system only.
    #[serde(default)]
    #[schemars(extend("examples" = [["~/.cargo/bin"]]))]
    pub(super) host_paths: Vec<VisiblePath>,
    /// Environment variables of its steps.
    #[serde(default)]
    pub(super) env: Named<EnvName, EnvValue>,
    /// Who runs its steps. Default: root.
    pub(super) user: Option<User>,
    /// The network that its steps see.
    pub(super) network: Option<Network>,
    /// Where its steps start: absolute, or from the workspace.
    pub(super) workdir: Option<Workdir>,
    /// How long a run of it may take.
    pub(super) timeout: Option<Timeout>,
    /// Its steps, by name.
    #[schemars(extend("minProperties" = 1))]
    pub(super) step: Named<StepName, StepSection>,
}

/// A step: a command in a sandbox of its own, whose result is kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepSection {
    /// What it runs: a text for `/bin/sh -c`, or a program with its arguments.
    pub(super) run: StepRun,
    /// The step from whose file system and workspace it starts.
    pub(super) from: Option<StepName>,
    /// Steps that have to end well before it begins.
    pub(super) needs: Option<Steps>,
    /// Steps that have to end before it begins, in whatever way.
    pub(super) after: Option<Steps>,
    /// Steps whose outputs are laid over its workspace, in this order.
    pub(super) take: Option<Steps>,
    /// The image that it starts from.
    pub(super) image: Option<ImageReference>,
    /// What of the host's homes it sees, read-only; on the host's own system only.
    #[schemars(extend("examples" = [["~/.cargo/bin"]]))]
    pub(super) host_paths: Option<Vec<VisiblePath>>,
    /// The files of the source that it sees, as patterns. Default: all of it.
    #[schemars(extend("examples" = [["Cargo.*", "crates/**"]]))]
    pub(super) inputs: Option<Vec<InputEntry>>,
    /// The files that it leaves in the workspace for others, as patterns. Default: all that it writes.
    #[schemars(extend("examples" = [["dist/**"]]))]
    pub(super) outputs: Option<Vec<OutputGlob>>,
    /// The files of its workspace that a run hands out, as patterns.
    #[serde(default)]
    #[schemars(extend("examples" = [["dist/**"]]))]
    pub(super) artifacts: Vec<OutputGlob>,
    /// Folders that it shares with every other step that names them, from run to run.
    #[serde(default)]
    #[schemars(extend("examples" = [["/root/.cargo/registry"]]))]
    pub(super) cache_dirs: Vec<SharedFolder>,
    /// Services that it has instances of, of its own: healthy before it begins, gone after it.
    #[serde(default)]
    #[schemars(extend("examples" = [["db"]]))]
    pub(super) services: Vec<UnitName>,
    /// Environment variables.
    #[serde(default)]
    pub(super) env: Named<EnvName, StepEnvValue>,
    /// When an earlier result may be taken. Default: whenever all that it sees is the same.
    pub(super) cache: Option<CacheEntry>,
    /// How long it may take, each try for itself.
    pub(super) timeout: Option<Timeout>,
    /// How often it is tried again when it fails.
    #[serde(default)]
    pub(super) retries: u32,
    /// Where it starts: absolute, or from the workspace.
    pub(super) workdir: Option<Workdir>,
    /// Who runs it.
    pub(super) user: Option<User>,
    /// The network that it sees.
    pub(super) network: Option<Network>,
    /// Whether the history of the repository is part of what it sees: `.git`.
    #[serde(default)]
    pub(super) git: bool,
    /// When it is part of a run at all.
    #[serde(default)]
    pub(super) when: WhenSection,
    /// Makes a step of each combination of these values, which stand where `${matrix.KEY}` does.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "profile": ["dev", "release"] }]))]
    pub(super) matrix: Named<MatrixKey, Vec<String>>,
}

/// What a step runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum StepRun {
    /// A text for `/bin/sh -c`.
    Text(StepCommand),
    /// A program with its arguments, without a shell.
    Argv(#[schemars(length(min = 1))] Vec<String>),
}

/// One step, or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Steps {
    /// One.
    One(StepName),
    /// Several.
    Several(Vec<StepName>),
}

/// A pattern of files that a step sees.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum InputEntry {
    /// It has to fit something.
    Glob(InputGlob),
    /// It says itself whether it has to.
    Table(InputTable),
}

/// A pattern that may fit nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "glob": "docs/**", "optional": true }]))]
pub(super) struct InputTable {
    /// The pattern.
    pub(super) glob: InputGlob,
    /// Whether it may fit nothing.
    #[serde(default)]
    pub(super) optional: bool,
}

/// When an earlier result may be taken.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum CacheEntry {
    /// By a word.
    Word(CacheWord),
    /// With what it is about.
    Table(CacheTable),
    /// Several, all of which have to hold.
    Several(Vec<CachePart>),
}

/// One of several policies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum CachePart {
    /// By a word.
    Word(CacheWord),
    /// With what it is about.
    Table(CacheTable),
}

/// A policy of the cache: exactly one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1, "examples" = [{ "ttl": "1d" }]))]
pub(super) struct CacheTable {
    /// For so long after it was made; it sees no source, unless it declares inputs.
    pub(super) ttl: Option<Timeout>,
    /// As long as these files are the same: `inputs` by another name.
    pub(super) on_change: Option<Vec<InputGlob>>,
}

/// When a step is part of a run. Patterns; of each key one has to fit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhenSection {
    /// The branch that is checked out.
    pub(super) branch: Option<Patterns>,
    /// A tag of the commit that is checked out.
    pub(super) tag: Option<Patterns>,
    /// What led to the run: `setpoint run --event push`. Default there: `manual`.
    pub(super) event: Option<Patterns>,
    /// Variables of the caller.
    #[serde(default)]
    pub(super) env: Named<EnvName, NonEmpty>,
}

/// One pattern, or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Patterns {
    /// One.
    One(NonEmpty),
    /// Several.
    Several(Vec<NonEmpty>),
}
