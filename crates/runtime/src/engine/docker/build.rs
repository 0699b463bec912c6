//! Building images with the engine's own builder: BuildKit where it has one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::moby::buildkit::v1::StatusResponse;
use bollard::models::{BuildInfo, BuildInfoAux};
use bollard::query_parameters::{BuildImageOptions, BuilderVersion};
use futures_util::StreamExt;
use setpoint_model::container::Build;
use setpoint_model::digest::Digest;
use setpoint_model::dockerfile::instructions;

use super::client::Connected;
use super::error::DockerError;
use super::session::{Given, Session};
use super::{build_secrets, images, session, upload};
use crate::build::{Context, is_folder};
use crate::cancel::Cancel;
use crate::engine::{BuildFailed, EngineError, Pull};
use crate::events::{Event, Watcher};
use crate::image::Credentials;
use crate::lines::Lines;
use crate::secrets::Mask;

/// The repository of images that are built here.
const BUILT: &str = "setpoint-build";
/// The Dockerfile's name in what is sent.
const DOCKERFILE: &str = ".setpoint.Dockerfile";
/// How many of the last lines of a failed build are shown.
const TAIL: usize = 12;

/// The name of what is built from these inputs.
pub(super) fn name(inputs: Digest) -> String {
    format!("{BUILT}:{}", &inputs.to_hex()[..24])
}

/// Builds an image, and calls it by the name of its inputs.
pub(super) fn build(
    connected: &Connected,
    variables: &BTreeMap<String, String>,
    (build, project, inputs): (&Build, &Path, Digest),
    pull: Pull,
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    if !build.secrets.is_empty() {
        session::socket(connected)?;
    }
    let context = if is_folder(build) { Some(open(build, project)?) } else { None };
    let taken = context.as_ref().map(|context| context.dockerfile.clone());
    let (text, path) = taken.unwrap_or_else(|| (String::new(), PathBuf::from(&build.context)));
    let dockerfile = shown(&path, project).display().to_string();
    let secrets = build_secrets::read(build, &dockerfile, project, variables).map_err(DockerError::from)?;
    let options = options(build, variables, context.is_some(), connected.has_buildkit(), pull);
    let given = Given { logins: logins(variables, &text)?, secrets };
    let send = move |to: &mut dyn Write| match &context {
        Some(context) => archive(context, to),
        None => Ok(()),
    };
    let failed = |failed: Failed| {
        EngineError::from(Box::new(BuildFailed {
            what: dockerfile.clone(),
            line: failed.line.map(|(line, text)| (dockerfile.clone(), line, text)),
            why: failed.why,
            tail: failed.tail,
        }))
    };
    let image = run(connected, options, given, send, &text, watcher, cancel).map_err(failed)?;
    if is_folder(build) && inputs_now(build, project)? != inputs {
        let why = "files that it is built from were edited meanwhile; the next `up` builds again".to_owned();
        return Err(failed(Failed { line: None, why, tail: Vec::new() }));
    }
    images::call(connected, &image, &name(inputs))
}

/// A build that did not come to its end.
pub(super) struct Failed {
    /// The line of the Dockerfile that failed, and its text.
    pub(super) line: Option<(u32, String)>,
    pub(super) why: String,
    pub(super) tail: Vec<String>,
}

/// Has the builder build what is sent to it, and gives the image's id. Where there are secrets, there are
/// sessions, see [`session::socket`].
pub(super) fn run(
    connected: &Connected,
    mut options: BuildImageOptions,
    given: Given,
    send: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    text: &str,
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<String, Failed> {
    let mut watch = Watch::new(watcher, text, build_secrets::mask(&given.secrets));
    let (session, logins) = if given.secrets.is_empty() {
        (None, Some(given.logins))
    } else {
        options.version = BuilderVersion::BuilderV1;
        options.session = None;
        let opened = Session::open(connected, given);
        (Some(opened.map_err(|error| Failed { line: None, why: error.to_string(), tail: Vec::new() })?), None)
    };
    let api =
        session.as_ref().map_or_else(|| connected.api.clone(), |session| session.client(&connected.api));
    let body = bollard::body_try_stream(upload::stream(send));
    let ended = {
        let mut stream = std::pin::pin!(api.build_image(options, logins, Some(body)));
        loop {
            let tick = std::time::Duration::from_millis(50);
            match connected.wait(async { tokio::time::timeout(tick, stream.next()).await }) {
                Err(_) if cancel.asked() => break Err("stopped".to_owned()),
                Err(_) => {}
                Ok(None) => break Ok(()),
                Ok(Some(Ok(info))) => watch.hear(info),
                Ok(Some(Err(Error::DockerStreamError { error }))) => break Err(error),
                Ok(Some(Err(error))) => break Err(connected.explain("build an image", &error).to_string()),
            }
        }
    };
    watch.end();
    let nothing = || "the builder did not say which image it made".to_owned();
    match ended.and_then(|()| watch.image.clone().ok_or_else(nothing)) {
        Ok(image) => Ok(image),
        Err(why) => {
            let why = watch.mask.apply(&why);
            // What the builder says repeats the instruction, which is shown anyway.
            let code = why.rsplit_once("exit code: ").map(|(_, code)| format!("exit {code}"));
            Err(Failed { line: watch.failed_line(), why: code.unwrap_or(why), tail: watch.tail.into() })
        }
    }
}

fn shown(path: &Path, project: &Path) -> PathBuf {
    path.strip_prefix(project).unwrap_or(path).to_owned()
}

fn open(build: &Build, project: &Path) -> Result<Context, EngineError> {
    Context::open(build, project).map_err(|error| EngineError::Io {
        what: "read",
        path: error.path,
        source: error.source,
    })
}

fn inputs_now(build: &Build, project: &Path) -> Result<Digest, EngineError> {
    let what = "look at what was built";
    let refused = |why: String| DockerError::Refused { what, why };
    let now = Context::inputs_now(build, project).map_err(|error| refused(error.to_string()))?;
    Ok(now.map_err(|error| refused(error.to_string()))?)
}

fn options(
    build: &Build,
    variables: &BTreeMap<String, String>,
    has_context: bool,
    has_buildkit: bool,
    pull: Pull,
) -> BuildImageOptions {
    let argument = |(name, value): (&String, &Option<String>)| {
        let value = value.clone().or_else(|| variables.get(name).cloned())?;
        Some((name.clone(), value))
    };
    let mut arguments: HashMap<String, String> = build.args.iter().filter_map(argument).collect();
    if has_buildkit && !build.cache_from.is_empty() {
        // So that the image can be a hint itself, for whoever builds next.
        arguments.insert("BUILDKIT_INLINE_CACHE".to_owned(), "1".to_owned());
    }
    let hosts: Vec<String> =
        build.extra_hosts.iter().map(|host| format!("{}:{}", host.name, host.address)).collect();
    let version = if has_buildkit { BuilderVersion::BuilderBuildKit } else { BuilderVersion::BuilderV1 };
    BuildImageOptions {
        dockerfile: if has_context {
            DOCKERFILE.to_owned()
        } else {
            build.dockerfile.clone().unwrap_or_else(|| "Dockerfile".to_owned())
        },
        remote: (!has_context).then(|| build.context.clone()),
        extrahosts: (!hosts.is_empty()).then(|| hosts.join(",")),
        nocache: build.no_cache,
        cachefrom: (!build.cache_from.is_empty()).then(|| build.cache_from.clone()),
        pull: (build.pull || pull == Pull::Always).then(|| "1".to_owned()),
        rm: true,
        forcerm: true,
        buildargs: Some(arguments),
        shmsize: build.shm_size.and_then(|size| i32::try_from(size.0).ok()),
        labels: Some(build.labels.clone().into_iter().collect()),
        networkmode: build.network.clone(),
        platform: build.platform.clone().unwrap_or_default(),
        target: build.target.clone().unwrap_or_default(),
        version,
        session: has_buildkit.then(crate::random::hex),
        ..BuildImageOptions::default()
    }
}

/// The logins for the registries that a Dockerfile's images come from.
fn logins(
    variables: &BTreeMap<String, String>,
    dockerfile: &str,
) -> Result<HashMap<String, DockerCredentials>, EngineError> {
    let credentials = Credentials::from_env(variables);
    let mut logins = HashMap::new();
    for instruction in instructions(dockerfile).iter().filter(|one| one.keyword == "FROM") {
        let image =
            instruction.rest.split_whitespace().find(|word| !word.starts_with("--")).unwrap_or_default();
        // An image named by a variable is asked for without a login.
        let Ok((registry, _)) = Credentials::registry_of(image) else { continue };
        if let Some((username, password)) = credentials.login(&registry)? {
            let login = DockerCredentials {
                username: Some(username),
                password: Some(password),
                serveraddress: Some(registry.clone()),
                ..DockerCredentials::default()
            };
            logins.extend(asked_as(&registry).map(|name| (name.to_owned(), login.clone())));
        }
    }
    Ok(logins)
}

/// The names by which builders ask for the login of a registry.
fn asked_as(registry: &str) -> impl Iterator<Item = &str> {
    // BuildKit goes by the host that it asks, which is not the one in the names of images.
    let host = matches!(registry, "docker.io" | "index.docker.io").then_some("registry-1.docker.io");
    host.into_iter().chain([registry])
}

/// Writes what the builder is sent: the Dockerfile, and the files that it takes, all of them root's.
fn archive(context: &Context, to: &mut dyn Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    let text = context.dockerfile.0.as_bytes();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, DOCKERFILE, text)?;
    for file in &context.files {
        let whole = context.root.join(file);
        let metadata = whole.symlink_metadata()?;
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&metadata);
        header.set_uid(0);
        header.set_gid(0);
        if metadata.is_symlink() {
            header.set_size(0);
            archive.append_link(&mut header, file, std::fs::read_link(&whole)?)?;
        } else if metadata.is_file() {
            archive.append_data(&mut header, file, std::fs::File::open(&whole)?)?;
        }
    }
    archive.finish()
}

/// Listens to a builder.
struct Watch<'a> {
    watcher: &'a dyn Watcher,
    text: &'a str,
    mask: Mask,
    tail: VecDeque<String>,
    /// What BuildKit does, by its digests: the name of each, and whether it was told and has failed.
    vertices: BTreeMap<String, Vertex>,
    /// What it writes, by the same digests and the number of the stream: it comes in pieces.
    output: BTreeMap<(String, i64), Lines>,
    image: Option<String>,
}

#[derive(Default)]
struct Vertex {
    name: String,
    told: bool,
    failed: bool,
}

impl<'a> Watch<'a> {
    fn new(watcher: &'a dyn Watcher, text: &'a str, mask: Mask) -> Self {
        let tail = VecDeque::new();
        Self { watcher, text, mask, tail, vertices: BTreeMap::new(), output: BTreeMap::new(), image: None }
    }

    fn hear(&mut self, info: BuildInfo) {
        match info.aux {
            Some(BuildInfoAux::BuildKit(status)) => self.buildkit(&status),
            Some(BuildInfoAux::Default(image)) => self.image = image.id.or(self.image.take()),
            None => {}
        }
        for line in info.stream.unwrap_or_default().lines().filter(|line| !line.trim().is_empty()) {
            self.line(line.trim_end().to_owned());
        }
    }

    fn buildkit(&mut self, status: &StatusResponse) {
        for vertex in &status.vertexes {
            let known = self.vertices.entry(vertex.digest.clone()).or_default();
            known.name.clone_from(&vertex.name);
            known.failed |= !vertex.error.is_empty();
            // What BuildKit does for itself is not what anybody waits for.
            let begins = vertex.started.is_some() && !known.told && !vertex.name.starts_with("[internal]");
            if begins {
                known.told = true;
                let cached = if vertex.cached { " (cached)" } else { "" };
                self.watcher.event(&output(format!("{}{cached}", vertex.name)));
            }
        }
        let mut lines = Vec::new();
        for log in &status.logs {
            let output = self.output.entry((log.vertex.clone(), log.stream)).or_default();
            output.take(&log.msg, &self.mask, |line| lines.push(line));
        }
        for done in status.vertexes.iter().filter(|vertex| vertex.completed.is_some()) {
            for (_, output) in self.output.extract_if(.., |(vertex, _), _| *vertex == done.digest) {
                output.end(&self.mask, |line| lines.push(line));
            }
        }
        lines.into_iter().for_each(|line| self.line(line));
    }

    /// Takes what has no end yet for lines: nothing comes any more.
    fn end(&mut self) {
        let mut lines = Vec::new();
        for output in std::mem::take(&mut self.output).into_values() {
            output.end(&self.mask, |line| lines.push(line));
        }
        lines.into_iter().for_each(|line| self.line(line));
    }

    fn line(&mut self, line: String) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        self.watcher.event(&output(line));
    }

    /// The instruction that failed, by its line in the Dockerfile.
    fn failed_line(&self) -> Option<(u32, String)> {
        let named = self.vertices.values().find(|vertex| vertex.failed).map(|vertex| vertex.name.as_str());
        // `[stage 2/4] RUN make`, or, of the older builder, `Step 2/4 : RUN make`.
        let from_steps = || self.tail.iter().rev().find(|line| line.starts_with("Step "));
        let said = match named {
            Some(name) => name.split_once("] ").map_or(name, |(_, said)| said),
            None => from_steps()?.split_once(" : ")?.1,
        };
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = squeeze(said);
        let found = instructions(self.text).into_iter().find(|one| {
            let written = squeeze(&format!("{} {}", one.keyword, one.rest));
            written == said || (said.len() > 8 && written.starts_with(said.trim_end_matches("...")))
        })?;
        let index = usize::try_from(found.line).ok()?.checked_sub(1)?;
        Some((found.line, self.text.lines().nth(index)?.to_owned()))
    }
}

fn output(line: String) -> Event {
    Event::Output { phase: "image".to_owned(), line }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::Mutex;

    use bollard::moby::buildkit::v1::{Vertex as Told, VertexLog};

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Watcher for Heard {
        fn event(&self, event: &Event) {
            if let Event::Output { line, .. } = event {
                self.0.lock().unwrap().push(line.clone());
            }
        }
    }

    #[test]
    fn output_is_told_by_lines_and_a_secret_in_two_pieces_is_masked() {
        let heard = Heard::default();
        let mut watch = Watch::new(&heard, "", Mask::of(["hunter2hunter2"]));
        let log = |vertex: &str, text: &str| {
            let (vertex, msg) = (vertex.to_owned(), text.as_bytes().to_vec());
            let logs = vec![VertexLog { vertex, msg, stream: 1, ..VertexLog::default() }];
            StatusResponse { logs, ..StatusResponse::default() }
        };
        watch.buildkit(&log("a", "token hunter2"));
        watch.buildkit(&log("b", "of another\n"));
        watch.buildkit(&log("a", "hunter2 end\nhunter2hun"));
        let ended = Told { digest: "a".to_owned(), completed: Some(<_>::default()), ..Told::default() };
        let last = StatusResponse { vertexes: vec![ended], ..log("a", "ter2") };
        watch.buildkit(&last);
        watch.buildkit(&log("b", "cut off"));
        watch.end();
        let told = heard.0.into_inner().unwrap();
        assert_eq!(told, ["of another", "token *** end", "***", "cut off"]);
    }

    #[test]
    fn builders_ask_for_the_login_of_docker_hub_by_its_host() {
        assert_eq!(asked_as("docker.io").collect::<Vec<_>>(), ["registry-1.docker.io", "docker.io"]);
        assert_eq!(asked_as("box:5000").collect::<Vec<_>>(), ["box:5000"]);
    }
}
