//! Golden files: what is shown to people, and what editors are told. `SETPOINT_UPDATE_GOLDEN=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use setpoint_model::manifest::{Layer, json_schema, parse, set_layer};
use setpoint_model::pipeline::ir::Pipeline;
use setpoint_model::spec;

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

/// The layers in one file: what stands before the first line `#--- NAME` is `setpoint.toml`, and each such line
/// begins another layer. A name `--set x=y` is given as on the command line.
fn layers(text: &str) -> Vec<(String, String)> {
    let mut layers = vec![("setpoint.toml".to_owned(), String::new())];
    for line in text.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix("#--- ") {
            let name = name.trim_end();
            let text = name.strip_prefix("--set ").map_or(Ok(String::new()), set_layer);
            layers.push((name.to_owned(), text.unwrap()));
        } else {
            layers.last_mut().unwrap().1.push_str(line);
        }
    }
    layers
}

/// What a person sees who made the mistakes in this text.
fn told(text: &str) -> String {
    let texts = layers(text);
    let layers: Vec<Layer<'_>> = texts.iter().map(|(name, text)| Layer { name, text }).collect();
    match parse(&layers, "shop") {
        Ok(manifest) => format!("nothing is wrong: {manifest:#?}\n"),
        Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect::<Vec<_>>().join("\n"),
    }
}

#[test]
fn every_mistake_is_told_as_it_should_be() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mistakes");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 45, "only {} mistakes", files.len());
    let different: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let told = told(&fs::read_to_string(path).unwrap());
            assert!(!told.starts_with("nothing is wrong"), "{}\n{told}", path.display());
            golden(&path.with_extension("txt"), &told)
        })
        .collect();
    assert!(different.is_empty(), "{}\n{HOW}", different.join("\n"));
}

#[test]
fn every_mistake_in_a_spec_is_told_as_it_should_be() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/specs");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let different: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let problems = spec::parse(&[Layer { name: "specs/cart.toml", text: &text }]).unwrap_err();
            let told: Vec<String> = problems.iter().map(|problem| format!("{problem}\n")).collect();
            golden(&path.with_extension("txt"), &told.join("\n"))
        })
        .collect();
    assert!(different.is_empty(), "{}\n{HOW}", different.join("\n"));
}

#[test]
fn two_specs_of_one_name_are_told_apart_by_their_files() {
    let text = "id = \"a\"\ntitle = \"t\"\nintent = \"i\"\n[criterion.1]\ntext = \"x\"\ngap = \"y\"\n";
    let files = ["specs/a.toml", "specs/b.toml"].map(|name| Layer { name, text });
    let problems = spec::parse(&files).unwrap_err();
    let told = problems[0].to_string();
    assert!(told.contains("at specs/b.toml:1:6") && told.contains("specs/a.toml:1:6"), "{told}");
}

#[test]
fn the_schemas_for_editors_are_those_of_the_code() {
    for (name, schema) in [("manifest", json_schema()), ("spec", spec::json_schema())] {
        let name = format!("docs/reference/{name}.schema.json");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(&name);
        let schema = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        assert!(golden(&path, &schema).is_none(), "{name} is out of date\n{HOW}");
    }
}

/// The pipelines of a manifest, as they are handed over.
fn emitted(text: &str) -> String {
    let manifest = parse(&[Layer { name: "setpoint.toml", text }], "shop").unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())
    });
    manifest.pipelines.values().map(Pipeline::to_json).collect()
}

#[test]
fn every_pipeline_is_handed_over_as_it_should_be() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ir");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(files.len() >= 6, "only {} pipelines", files.len());
    let different: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let json = emitted(&fs::read_to_string(path).unwrap());
            let read = Pipeline::parse(&json).unwrap();
            assert_eq!(read.to_json(), json, "what is written reads back");
            golden(&path.with_extension("json"), &json)
        })
        .collect();
    assert!(different.is_empty(), "{}\n{HOW}", different.join("\n"));
}

#[test]
fn the_schema_of_pipelines_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/ir.schema.json");
    let text =
        format!("{}\n", serde_json::to_string_pretty(&setpoint_model::pipeline::ir::json_schema()).unwrap());
    if let Some(different) = golden(&path, &text) {
        panic!("{different}\n{HOW}");
    }
}
