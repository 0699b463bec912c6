//! What a dev container is made of: an image, a Dockerfile, or a service of compose files; just one of these.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;

use super::file::{BuildSource, ComposeSource, Source};
use super::reader::{Member, Placed, Reader, below};
use super::settings::texts;
use super::support;
use crate::manifest::{Location, Problem};

/// The keys that say what it is made of, as they are given.
#[derive(Default)]
pub(super) struct SourceKeys {
    image: Option<Placed<String>>,
    build: BuildKeys,
    files: Vec<Placed<String>>,
    service: Option<Placed<String>>,
    run_services: Option<Vec<Placed<String>>>,
}

/// What `build` says, together with the older keys beside it.
#[derive(Default)]
struct BuildKeys {
    dockerfile: Option<Placed<String>>,
    context: Option<Placed<String>>,
    args: BTreeMap<String, Placed<String>>,
    target: Option<Placed<String>>,
    cache_from: Vec<Placed<String>>,
    options: Vec<Placed<String>>,
}

impl SourceKeys {
    /// Takes a member up, if its key is one of these.
    pub(super) fn take(&mut self, reader: &mut Reader<'_>, member: &Member<'_, '_>) -> bool {
        let (key, value) = (member.key, member.value);
        match key {
            "image" => self.image = reader.filled(key, value),
            "build" => self.build.take(reader, value),
            "dockerFile" => set(reader, &mut self.build.dockerfile, key, value),
            "context" => set(reader, &mut self.build.context, key, value),
            "dockerComposeFile" => self.files = reader.one_or_more(key, value),
            "service" => self.service = reader.filled(key, value),
            "runServices" => self.run_services = Some(reader.strings(key, value)),
            _ => return false,
        }
        true
    }
}

impl BuildKeys {
    fn take(&mut self, reader: &mut Reader<'_>, value: &Value<'_>) {
        if let Value::StringLit(text) = value {
            let problem = Problem::new("wrong-type", "`build` is a text, and not an object");
            let hint = format!("write it as `{{ \"dockerfile\": \"{}\" }}`", text.value);
            reader.problem(value, problem.hint(hint));
            return;
        }
        for member in reader.known_members("build", &support::keys_of("build"), value) {
            let path = below("build", member.key);
            match member.key {
                "dockerfile" => set(reader, &mut self.dockerfile, &path, member.value),
                "context" => set(reader, &mut self.context, &path, member.value),
                "args" => self.args = texts(reader, &path, member.value),
                "target" => self.target = reader.filled(&path, member.value),
                "cacheFrom" => self.cache_from = reader.one_or_more(&path, member.value),
                _ => self.options = reader.strings(&path, member.value),
            }
        }
    }
}

/// Takes a text up that has an old and a new place, and only one of them.
fn set(reader: &mut Reader<'_>, place: &mut Option<Placed<String>>, path: &str, value: &Value<'_>) {
    if let Some(first) = place {
        let why = format!("it already stands on line {}, as `{}`", first.at.line, first.value);
        let problem = Problem::new("duplicate-key", format!("`{path}` is given twice"));
        reader.problem(
            value,
            problem.why(why).hint("remove the one outside of `build`, which is the older place"),
        );
        return;
    }
    *place = reader.filled(path, value);
}

/// The source that these keys make up; without a problem there is one.
pub(super) fn source(
    reader: &mut Reader<'_>,
    keys: SourceKeys,
    members: &[Member<'_, '_>],
    file: Location,
) -> Option<Source> {
    let given = |key: &str| members.iter().find(|member| member.key == key);
    let ways: Vec<&Member<'_, '_>> =
        ["image", "build", "dockerFile", "dockerComposeFile"].into_iter().filter_map(given).collect();
    let kinds: Vec<&str> = ways.iter().map(|member| member.key).filter(|key| *key != "dockerFile").collect();
    let old_beside_new = ways.iter().any(|member| member.key == "dockerFile") && !kinds.contains(&"build");
    if kinds.len() + usize::from(old_beside_new) > 1 {
        let first = &ways[0];
        let second = ways.iter().find(|member| member.key != first.key).copied()?;
        let at = reader.at(second.at.clone());
        let line = reader.at(first.at.clone()).line;
        let what = format!("both `{}` and `{}` are given", first.key, second.key);
        let problem = Problem::new("two-sources", what)
            .why(format!(
                "each says what the container is made of, and it is made of one thing; `{}` is on line {line}",
                first.key
            ))
            .hint("keep one of them");
        reader.problems.push(problem.at(at));
        return None;
    }
    if given("dockerComposeFile").is_some() {
        return compose(reader, keys, given("dockerComposeFile")?, given("service").is_some());
    }
    if let Some(image) = keys.image {
        return Some(Source::Image(image));
    }
    if let Some(build) = given("build").or_else(|| given("dockerFile")) {
        return dockerfile(reader, keys.build, build);
    }
    if given("image").is_none() {
        let problem = Problem::new("no-source", "nothing says what the container is made of").at(file).hint(
            "add `image`, a `build` with a `dockerfile`, or a `dockerComposeFile` with a `service`, such as \
             `\"image\": \"mcr.microsoft.com/devcontainers/base:debian\"`",
        );
        reader.problems.push(problem);
    }
    None
}

fn compose(
    reader: &mut Reader<'_>,
    keys: SourceKeys,
    member: &Member<'_, '_>,
    service_given: bool,
) -> Option<Source> {
    if let Value::Array(files) = member.value
        && files.elements.is_empty()
    {
        let what = "`dockerComposeFile` names no file";
        reader.problem(
            member.value,
            Problem::new("empty-list", what).hint("name a file, such as `compose.yaml`"),
        );
        return None;
    }
    let Some(service) = keys.service else {
        if service_given {
            return None;
        }
        let at = reader.at(member.at.clone());
        let problem = Problem::new("no-service", "`dockerComposeFile` is given without `service`")
            .why("only one of the services is the dev container")
            .hint("add `\"service\"` with the name of that one");
        reader.problems.push(problem.at(at));
        return None;
    };
    Some(Source::Compose(ComposeSource { files: keys.files, service, run_services: keys.run_services }))
}

fn dockerfile(reader: &mut Reader<'_>, keys: BuildKeys, build: &Member<'_, '_>) -> Option<Source> {
    let Some(dockerfile) = keys.dockerfile else {
        if build.key == "dockerFile"
            || !matches!(build.value, Value::Object(build) if build.get("dockerfile").is_none())
        {
            return None;
        }
        let at = reader.at(build.at.clone());
        let problem = Problem::new("no-dockerfile", "`build` does not name a Dockerfile")
            .hint("add `\"dockerfile\": \"Dockerfile\"` to it; the path is from the folder of this file");
        reader.problems.push(problem.at(at));
        return None;
    };
    Some(Source::Build(BuildSource {
        dockerfile,
        context: keys.context,
        args: keys.args,
        target: keys.target,
        cache_from: keys.cache_from,
        options: keys.options,
    }))
}
