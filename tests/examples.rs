//! The pipelines in `examples/`: run as they are.

use std::fs;
use std::path::Path;

use crate::harness::Project;

/// A copy of an example, which nobody else writes to.
fn example(name: &str) -> Project {
    let project = Project::new("");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name), &project.root);
    project
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn the_pipelines_in_toml_and_in_python_are_the_same_bytes() {
    let rendered = ["pipeline-toml", "pipeline-python"].map(|name| {
        let outcome = example(name).run(&["render"]);
        outcome.exits(0);
        outcome.stdout
    });
    assert!(rendered[0].contains("\"name\": \"report\""));
    assert_eq!(rendered[0], rendered[1]);
}

#[test]
fn the_pipelines_run_cold_warm_and_after_an_edit() {
    for name in ["pipeline-toml", "pipeline-python"] {
        let project = example(name);
        let output = project.at("out");
        let output = output.to_str().unwrap();
        project.run(&["run", "--jobs", "3", "--output", output]).exits(0).says("5 passed");
        let report = fs::read_to_string(Path::new(output).join("report/report.txt")).unwrap();
        assert!(report.contains("8 declared"), "{report}");
        project.run(&["run"]).exits(0).says("5 cached");
        project.write("log", "no step sees it").run(&["run"]).exits(0).says("5 cached");
        project.write("text.txt", "one incomprehensibility\n").run(&["run"]).exits(0).says("5 passed");
    }
}
