//! An image that is built, as the builder wants it: paths from the project's folder, and the arguments of
//! `docker build` in their places.

use super::file::BuildSource;
use super::reader::Placed;
use super::size;
use super::wrong::Wrong;
use crate::container::{Build, BuildSecret, ExtraHost};
use crate::manifest::{Note, Problem, nearest};

/// Where the devcontainer.json is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The project's folder on the host: an absolute path.
    pub project: &'a str,
    /// The folder of the devcontainer.json, from there: `.devcontainer`; empty is the project's own.
    pub folder: &'a str,
}

impl BuildSource {
    /// What is built, and notes on arguments that do nothing. The variables must be substituted.
    ///
    /// # Errors
    /// Every argument of `options` that is wrong, or that there is nothing for.
    pub fn build(&self, place: Place<'_>) -> Result<(Build, Vec<Note>), Vec<Problem>> {
        let context = absolute(place, self.context.as_ref().map_or(".", |context| &context.value));
        let dockerfile = absolute(place, &self.dockerfile.value);
        let mut build = Build {
            dockerfile: Some(relative(&dockerfile, &context)),
            context: within(&context, place.project),
            args: self.args.iter().map(|(name, value)| (name.clone(), Some(value.value.clone()))).collect(),
            target: self.target.as_ref().map(|target| target.value.clone()),
            cache_from: self.cache_from.iter().map(|image| image.value.clone()).collect(),
            ..Build::default()
        };
        let (mut notes, mut problems) = (Vec::new(), Vec::new());
        let mut rest = self.options.iter();
        while let Some(option) = rest.next() {
            match read(&mut build, option, &mut rest) {
                Ok(said) => notes.extend(said.map(|text| Note { at: option.at.clone(), text })),
                Err(problem) => problems.push(problem.at(option.at.clone())),
            }
        }
        if problems.is_empty() { Ok((build, notes)) } else { Err(problems) }
    }
}

/// The options of `docker build` that have a value, in their long form.
const WITH_VALUE: [&str; 12] = [
    "add-host",
    "build-arg",
    "build-context",
    "cache-from",
    "label",
    "network",
    "platform",
    "progress",
    "secret",
    "shm-size",
    "tag",
    "target",
];

/// The options that have none.
const FLAGS: [&str; 4] = ["load", "no-cache", "pull", "quiet"];

/// Reads one option, with the next argument where that is its value; what there is to know is returned.
fn read<'a>(
    build: &mut Build,
    option: &'a Placed<String>,
    rest: &mut impl Iterator<Item = &'a Placed<String>>,
) -> Result<Option<String>, Problem> {
    let text = option.value.as_str();
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let name = match name {
        "-t" => "tag",
        "-q" => "quiet",
        _ => name.strip_prefix("--").unwrap_or_default(),
    };
    if FLAGS.contains(&name) {
        let on = value != Some("false");
        match name {
            "no-cache" => build.no_cache = on,
            "pull" => build.pull = on,
            _ => {
                return Ok(Some(format!(
                    "`{text}` has no effect: what is built is kept and shown in any case"
                )));
            }
        }
        return Ok(None);
    }
    if !WITH_VALUE.contains(&name) {
        let problem = Problem::new("build-options", format!("`{text}` of `build.options` is not supported"));
        return Err(match nearest(name, WITH_VALUE.into_iter().chain(FLAGS)) {
            Some(meant) => problem.hint(format!("did you mean `--{meant}`?")),
            None => problem.why("the builder has no setting for it").hint("remove it"),
        });
    }
    let wrong = |wrong: Wrong| {
        wrong.problem("build-options", format!("`--{name}` of `build.options` cannot be read"))
    };
    let value = value.or_else(|| rest.next().map(|next| next.value.as_str()));
    let value =
        value.filter(|value| !value.is_empty()).ok_or_else(|| wrong(Wrong::new("it has no value")))?;
    match name {
        "tag" => return Ok(Some("`--tag` has no effect: images are named after the project".to_owned())),
        "progress" => return Ok(Some("`--progress` has no effect: it is shown in one way".to_owned())),
        _ => set(build, name, value).map_err(wrong)?,
    }
    Ok(None)
}

fn set(build: &mut Build, name: &str, value: &str) -> Result<(), Wrong> {
    let pair = || {
        let pair = value.split_once('=').filter(|(name, _)| !name.is_empty());
        pair.ok_or_else(|| {
            Wrong::new(format!("`{value}` is not a name and a value")).hint("write `name=value`")
        })
    };
    match name {
        "build-arg" => {
            let (name, value) =
                value.split_once('=').map_or((value, None), |(name, value)| (name, Some(value)));
            build.args.insert(name.to_owned(), value.map(str::to_owned));
        }
        "label" => build.labels.extend([pair()?].map(|(name, value)| (name.to_owned(), value.to_owned()))),
        "build-context" => {
            build
                .additional_contexts
                .extend([pair()?].map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        "add-host" => {
            let (name, address) = value
                .split_once([':', '='])
                .ok_or_else(|| Wrong::new(format!("`{value}` is not a name and an address")))?;
            build.extra_hosts.push(ExtraHost { name: name.to_owned(), address: address.to_owned() });
        }
        "secret" => {
            let (id, secret) = secret(value)?;
            build.secrets.insert(id, secret);
        }
        "shm-size" => build.shm_size = Some(size::docker(value)?),
        "cache-from" => build.cache_from.push(value.to_owned()),
        "network" => build.network = Some(value.to_owned()),
        "platform" => build.platform = Some(value.to_owned()),
        _ => build.target = Some(value.to_owned()),
    }
    Ok(())
}

/// `id=...,src=...` or `id=...,env=...`; without either it is the variable that is called like the id.
fn secret(text: &str) -> Result<(String, BuildSecret), Wrong> {
    let (mut id, mut source) = (None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => source = Some(BuildSecret::File(value.to_owned())),
            Some(("env", value)) => source = Some(BuildSecret::Env(value.to_owned())),
            Some(("type", "file" | "env")) => {}
            _ => {
                return Err(
                    Wrong::new(format!("a secret has no field `{field}`")).hint("write `id=NAME,src=FILE`")
                );
            }
        }
    }
    let id = id.ok_or_else(|| Wrong::new("it has no `id`").hint("write `id=NAME,src=FILE`"))?;
    let source = source.unwrap_or_else(|| BuildSecret::Env(id.clone()));
    Ok((id, source))
}

/// The parts of an absolute path, with `.` and `..` resolved.
fn absolute<'p>(place: Place<'p>, path: &'p str) -> Vec<&'p str> {
    let bases = if path.starts_with('/') { ["", ""] } else { [place.project, place.folder] };
    let mut parts = Vec::new();
    for part in bases.into_iter().chain([path]).flat_map(|path| path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

/// A path from the project's folder if it lies in there, else the absolute one.
fn within(path: &[&str], project: &str) -> String {
    let project = absolute(Place { project, folder: "" }, "");
    match path.strip_prefix(project.as_slice()) {
        Some([]) => ".".to_owned(),
        Some(rest) => rest.join("/"),
        None => format!("/{}", path.join("/")),
    }
}

/// A path as seen from a folder.
fn relative(path: &[&str], folder: &[&str]) -> String {
    let common = path.iter().zip(folder).take_while(|(a, b)| a == b).count();
    let mut parts = vec![".."; folder.len() - common];
    parts.extend(&path[common..]);
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::import::Text;
    use crate::import::devcontainer::{Source, parse};

    fn build(text: &str, folder: &str) -> Result<(Build, Vec<Note>), Vec<Problem>> {
        let text = format!(r#"{{ "build": {text} }}"#);
        let Source::Build(source) = parse(&Text::new("devcontainer.json", &text)).unwrap().source else {
            panic!("no build");
        };
        source.build(Place { project: "/home/dev/shop", folder })
    }

    fn paths(text: &str, folder: &str) -> (String, String) {
        let build = build(text, folder).unwrap().0;
        (build.context, build.dockerfile.unwrap())
    }

    #[test]
    fn paths_are_from_the_folder_of_the_file() {
        for (text, folder, context, dockerfile) in [
            (r#"{ "dockerfile": "Dockerfile" }"#, ".devcontainer", ".devcontainer", "Dockerfile"),
            (
                r#"{ "dockerfile": "Dockerfile", "context": ".." }"#,
                ".devcontainer",
                ".",
                ".devcontainer/Dockerfile",
            ),
            (r#"{ "dockerfile": "../Dockerfile", "context": ".." }"#, ".devcontainer", ".", "Dockerfile"),
            (r#"{ "dockerfile": "../Dockerfile" }"#, ".devcontainer", ".devcontainer", "../Dockerfile"),
            (
                r#"{ "dockerfile": "Dockerfile", "context": "../.." }"#,
                ".devcontainer/gpu",
                ".",
                ".devcontainer/gpu/Dockerfile",
            ),
            (r#"{ "dockerfile": "Dockerfile" }"#, "", ".", "Dockerfile"),
            (
                r#"{ "dockerfile": "/home/dev/shop/x/Dockerfile", "context": "/srv" }"#,
                "",
                "/srv",
                "../home/dev/shop/x/Dockerfile",
            ),
        ] {
            assert_eq!(paths(text, folder), (context.to_owned(), dockerfile.to_owned()), "{text}");
        }
    }

    #[test]
    fn arguments_of_docker_build_have_their_places() {
        let (build, notes) = build(
            r#"{ "dockerfile": "D", "target": "one", "args": { "A": "1" }, "cacheFrom": "x", "options": [
                "--platform=linux/arm64", "--network", "host", "--build-arg=B=2", "--build-arg", "C", "--no-cache",
                "--secret=id=token,src=.token", "--secret", "id=KEY", "--add-host=db:10.0.0.1", "--shm-size=1g",
                "--build-context", "lib=../lib", "--label=a=b", "--cache-from=y", "--pull=false", "-t", "name"
            ] }"#,
            "",
        )
        .unwrap();
        assert_eq!(build.platform.as_deref(), Some("linux/arm64"));
        assert_eq!(build.network.as_deref(), Some("host"));
        assert_eq!(
            build.args.into_iter().collect::<Vec<_>>(),
            [
                ("A".to_owned(), Some("1".to_owned())),
                ("B".to_owned(), Some("2".to_owned())),
                ("C".to_owned(), None),
            ]
        );
        assert!(build.no_cache && !build.pull);
        assert_eq!(build.secrets["token"], BuildSecret::File(".token".into()));
        assert_eq!(build.secrets["KEY"], BuildSecret::Env("KEY".into()));
        assert_eq!(build.extra_hosts[0].address, "10.0.0.1");
        assert_eq!(build.additional_contexts["lib"], "../lib");
        assert_eq!(build.labels["a"], "b");
        assert_eq!(build.cache_from, ["x", "y"]);
        assert_eq!(build.target.as_deref(), Some("one"));
        assert_eq!(notes[0].text, "`--tag` has no effect: images are named after the project");
    }

    #[test]
    fn arguments_that_are_wrong_are_all_told() {
        let problems = build(
            r#"{ "dockerfile": "D", "options": ["--platfrom=x", "--ssh=default", "--label=x", "--secret=src=x", "--network"] }"#,
            "",
        )
        .unwrap_err();
        let hints: Vec<_> =
            problems.iter().map(|problem| problem.hint.as_deref().unwrap_or_default()).collect();
        assert_eq!(
            hints,
            ["did you mean `--platform`?", "remove it", "write `name=value`", "write `id=NAME,src=FILE`", ""]
        );
    }

    proptest! {
        #[test]
        fn a_path_seen_from_a_folder_leads_back_to_it(path in "(/[ab]){1,4}", folder in "(/[ab]){0,4}") {
            let root = Place { project: "/", folder: "" };
            let (to, from) = (absolute(root, &path), absolute(root, &folder));
            let seen = relative(&to, &from);
            prop_assert_eq!(absolute(Place { project: &folder, folder: "" }, &seen), to);
        }
    }
}
