//! compose.yaml as it is found in the wild, and the mistakes that are made in it. `SETPOINT_UPDATE_GOLDEN=1` writes the
//! golden files anew.

#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

#[path = "compose/shown.rs"]
mod shown;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use setpoint_model::import::compose::{ComposeFile, ComposeProject, Options, load};
use setpoint_model::manifest::Problem;

const HOW: &str = "if that is meant: SETPOINT_UPDATE_GOLDEN=1 cargo test -p setpoint-model";

/// Compares with a golden file, or writes it; what differs is returned.
fn golden(path: &Path, actual: &str) -> Option<String> {
    if std::env::var_os("SETPOINT_UPDATE_GOLDEN").is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    (expected != actual)
        .then(|| format!("{}\n--- expected\n{expected}\n--- actual\n{actual}", path.display()))
}

/// The folders or files below a folder of the tests, in order.
fn below(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn options(folder: &str) -> Options {
    Options {
        project_dir_name: folder.to_owned(),
        environment: BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]),
        ..Options::default()
    }
}

/// The project in a folder, with its override if there is one. Its first line may say `# profiles: a, b`.
fn project(folder: &Path) -> Result<ComposeProject, Vec<Problem>> {
    let read = |path: &str| fs::read_to_string(folder.join(path)).ok();
    let texts: Vec<(&str, String)> = ["compose.yaml", "compose.override.yaml"]
        .into_iter()
        .filter_map(|path| Some((path, read(path)?)))
        .collect();
    let files: Vec<ComposeFile<'_>> = texts.iter().map(|(path, text)| ComposeFile { path, text }).collect();
    let mut options = options(folder.file_name().unwrap().to_str().unwrap());
    let profiles = texts[0].1.lines().next().and_then(|line| line.strip_prefix("# profiles: "));
    options.profiles = profiles.into_iter().flat_map(|line| line.split(", ").map(str::to_owned)).collect();
    load(&files, &options, &|path| Ok(read(path)))
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect::<Vec<_>>().join("\n")
}

#[test]
fn projects_of_the_wild_are_read_as_they_are_meant() {
    let folders = below("compose");
    let different: Vec<String> = folders
        .iter()
        .filter_map(|folder| {
            let project = project(folder)
                .unwrap_or_else(|problems| panic!("{}\n{}", folder.display(), told(&problems)));
            golden(&folder.join("expected.txt"), &shown::project(&project))
        })
        .collect();
    assert!(different.is_empty(), "{}\n{HOW}", different.join("\n"));
    assert!(folders.len() >= 40, "only {} projects", folders.len());
}

/// The files in one text: what stands before the first line `#--- NAME` is `compose.yaml`.
fn files_in(text: &str) -> BTreeMap<String, String> {
    let mut name = "compose.yaml";
    let mut files: BTreeMap<String, String> = BTreeMap::from([(name.to_owned(), String::new())]);
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("#--- ") {
            Some(other) => name = other.trim_end(),
            None => files.entry(name.to_owned()).or_default().push_str(line),
        }
    }
    files
}

fn load_text(text: &str) -> Result<ComposeProject, Vec<Problem>> {
    let files = files_in(text);
    let main: Vec<ComposeFile<'_>> = ["compose.yaml", "compose.override.yaml"]
        .into_iter()
        .filter_map(|path| Some(ComposeFile { path, text: files.get(path)? }))
        .collect();
    load(&main, &options("shop"), &|path| Ok(files.get(path).cloned()))
}

#[test]
fn every_mistake_is_told_as_it_should_be() {
    let mut paths = below("compose-mistakes");
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let different: Vec<String> = paths
        .iter()
        .filter_map(|path| {
            let told = match load_text(&fs::read_to_string(path).unwrap()) {
                Ok(project) => panic!("{}: nothing is wrong: {project:#?}", path.display()),
                Err(problems) => told(&problems),
            };
            golden(&path.with_extension("txt"), &told)
        })
        .collect();
    assert!(different.is_empty(), "{}\n{HOW}", different.join("\n"));
    assert!(paths.len() >= 30, "only {} mistakes", paths.len());
}

/// What the values of the variables of a service are.
fn env_of(project: &ComposeProject, service: &str) -> Vec<String> {
    let env = &project.services[service].container.env;
    env.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[test]
fn variables_come_from_the_caller_then_from_the_file_and_those_of_a_service_have_an_order() {
    let text = r"services:
  a:
    image: x:$TAG
    env_file: [one.env, {path: two.env, required: false}, {path: no.env, required: false}]
    environment: [B=b, HOME, NOT, FROM]
#--- .env
TAG=1
HOME=/never
FROM=dotenv
#--- one.env
A=1
B=1
C=$TAG
#--- two.env
A=2
D=${A}x
";
    let project = load_text(text).unwrap();
    assert_eq!(project.services["a"].image.as_deref(), Some("x:1"));
    assert_eq!(env_of(&project, "a"), ["A=2", "B=b", "C=1", "D=1x", "FROM=dotenv", "HOME=/home/me"]);
    let asked: Vec<&str> = project.files.iter().map(String::as_str).collect();
    assert_eq!(asked, [".env", "compose.yaml", "no.env", "one.env", "two.env"]);
}

#[test]
fn the_name_of_a_project_has_an_order_too() {
    let text = r"name: in-file-${X:-y}
services: {a: {image: x}}
networks: {n: {}}
";
    let name = |options: &Options| {
        let main = [ComposeFile { path: "compose.yaml", text }];
        load(&main, options, &|_| Ok(None)).unwrap().name
    };
    let mut options = options("Some Folder");
    assert_eq!(name(&options), "in-file-y");
    options.environment.insert("COMPOSE_PROJECT_NAME".into(), "env".into());
    assert_eq!(name(&options), "env");
    options.project_name = Some("said".into());
    assert_eq!(name(&options), "said");
    assert_eq!(load_text("services: {a: {image: x}}\n").unwrap().name, "shop");
}

#[test]
fn services_of_other_profiles_are_left_out_and_what_is_only_wanted_of_them_too() {
    let text = r"services:
  a:
    image: x
    depends_on: {b: {condition: service_started, required: false}}
  b: {image: x, profiles: [p]}
";
    let project = load_text(text).unwrap();
    assert_eq!(project.services.keys().collect::<Vec<_>>(), ["a"]);
    assert!(project.services["a"].depends_on.is_empty());
    let mut options = options("shop");
    options.environment.insert("COMPOSE_PROFILES".into(), "o, p".into());
    let main = [ComposeFile { path: "compose.yaml", text }];
    let project = load(&main, &options, &|_| Ok(None)).unwrap();
    assert_eq!(project.services.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(!project.services["a"].depends_on["b"].required);
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let main = [ComposeFile { path: "compose.yaml", text: "services: {a: {image: x, env_file: a.env}}" }];
    let problems = load(&main, &options("shop"), &|path| match path {
        ".env" => Ok(None),
        _ => Err("permission denied".to_owned()),
    });
    let codes: Vec<&str> = problems.unwrap_err().iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["unreadable-file"]);
}

#[test]
fn neither_the_ends_of_lines_nor_a_byte_order_mark_matter() {
    for folder in below("compose") {
        let text = fs::read_to_string(folder.join("compose.yaml")).unwrap();
        let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let read = |path: &str| Ok(fs::read_to_string(folder.join(path)).ok());
        let crlf = |path: &str| read(path).map(|text| text.map(|text| text.replace('\n', "\r\n")));
        let one = load(&[ComposeFile { path: "compose.yaml", text: &text }], &options("shop"), &read);
        let other = load(&[ComposeFile { path: "compose.yaml", text: &windows }], &options("shop"), &crlf);
        assert_eq!(shown::project(&one.unwrap()), shown::project(&other.unwrap()), "{}", folder.display());
    }
}

#[test]
fn what_two_files_include_is_there_once_and_an_override_may_change_it() {
    let text = r"include: [a.yaml, b.yaml]
services: {web: {image: x, depends_on: [db]}}
#--- compose.override.yaml
services: {db: {image: mine}}
#--- a.yaml
services: {db: {image: postgres, environment: {A: 1}}}
#--- b.yaml
include: [a.yaml]
";
    let project = load_text(text).unwrap();
    assert_eq!(project.services["db"].image.as_deref(), Some("mine"));
    assert_eq!(env_of(&project, "db"), ["A=1"]);
}

#[test]
fn what_is_without_end_is_told_once() {
    let chain: String = (1..300).map(|step| format!("  s{step}: {{extends: s{}}}\n", step - 1)).collect();
    let lists: String = (1..12)
        .map(|step| format!("x-{step}: &a{step} [{}]\n", format!("*a{}, ", step - 1).repeat(9)))
        .collect();
    for (text, code) in [
        (format!("services:\n  s0: {{image: x}}\n{chain}"), "extends-too-long"),
        (format!("x-0: &a0 [x]\n{lists}services: {{a: {{image: x}}}}\n"), "bad-yaml"),
        ("services: {a: {extends: b}, b: {extends: c}, c: {extends: b}}\n".to_owned(), "extends-cycle"),
    ] {
        let problems = load_text(&text).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), [code]);
    }
}

#[test]
fn a_file_over_itself_changes_nothing() {
    for folder in below("compose") {
        let text = fs::read_to_string(folder.join("compose.yaml")).unwrap();
        let file = ComposeFile { path: "compose.yaml", text: &text };
        let read = |path: &str| Ok(fs::read_to_string(folder.join(path)).ok());
        let options = options("shop");
        let once = load(&[file], &options, &read).unwrap();
        let twice = load(&[file, file], &options, &read).unwrap();
        assert_eq!(shown::project(&once), shown::project(&twice), "{}", folder.display());
    }
}

#[test]
fn what_is_reset_or_replaced_over_another_file_is_not_merged() {
    let text = r"services:
  a:
    image: x
    ports: ['1:1', '2:2']
    env_file: gone.env
    environment: {A: 1, B: 2}
    networks: [n]
networks: {n: {}, m: {}}
#--- compose.override.yaml
services:
  a:
    ports: !override ['3:3']
    env_file: !reset []
    environment: {A: !reset null}
    networks: !override {m: {aliases: [b]}}
";
    let project = load_text(text).unwrap();
    let container = &project.services["a"].container;
    assert_eq!(container.ports.iter().map(|port| port.container).collect::<Vec<_>>(), [3]);
    assert_eq!(env_of(&project, "a"), ["B=2"]);
    assert!(shown::project(&project).contains("  networks: shop_m as a+b\n"));
}

/// Texts that hold much of what there is.
fn samples() -> Vec<String> {
    below("compose").iter().map(|folder| fs::read_to_string(folder.join("compose.yaml")).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn text_that_is_changed_anywhere_is_read_or_refused_and_places_are_in_it(
        which in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
        length in 0usize..12,
        put in "[ \n\t:{}\\[\\]&*!<\"'$|>a0#-]{0,6}",
    ) {
        let samples = samples();
        let text: Vec<char> = which.get(&samples).chars().collect();
        let from = from.index(text.len());
        let to = (from + length).min(text.len());
        let changed: String = text[..from].iter().copied().chain(put.chars()).chain(text[to..].iter().copied()).collect();
        if let Err(problems) = load_text(&changed) {
            prop_assert!(!problems.is_empty());
            for at in problems.iter().filter_map(|problem| problem.at.as_ref()) {
                let line = changed.lines().nth(at.line as usize - 1).unwrap_or_default();
                prop_assert!(at.file != "compose.yaml" || at.source_line.trim_end() == line.trim_end());
            }
        }
    }
}
