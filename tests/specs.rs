//! Specs, on real tests of real tools, one of which fails on purpose.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Outcome, Project};

/// Criteria of a spec `cart`: each a number, and what stands beside its text.
fn spec(criteria: &[(&str, &str)]) -> String {
    let mut text =
        "id = \"cart\"\ntitle = \"The cart\"\nintent = \"Nobody pays for what is not in it.\"\n".to_owned();
    for (number, proof) in criteria {
        text.push_str(&format!("[criterion.{number}]\ntext = \"Criterion {number} holds.\"\n{proof}\n"));
    }
    text
}

/// A project with a spec, on which this machine's tools for developers can be run.
fn project(criteria: &[(&str, &str)]) -> Project {
    let mut project = Project::new("");
    // Cargo itself, not what chooses one; what is installed for cargo lies beside that.
    let cargo = Path::new(env!("CARGO")).parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap();
    project.set("PATH", &format!("{}:{path}", cargo.display()));
    project.set("CARGO_HOME", project.at("cargo").to_str().unwrap());
    project.write("specs/cart.toml", &spec(criteria));
    project
}

/// A package with a test that passes, one that fails, one that is ignored, and one in a binary of its own.
fn with_cargo(criteria: &[(&str, &str)]) -> Project {
    let project = project(criteria);
    project
        .write("Cargo.toml", "[package]\nname = \"shop\"\nedition = \"2024\"\n")
        .write(
            "src/lib.rs",
            "#[cfg(test)]\nmod tests {\n    #[test]\n    fn it_is_empty() {}\n    #[test]\n    fn prices_are_added() {\n        \
             assert_eq!(1 + 2, 4, \"the sum\");\n    }\n    #[test]\n    #[ignore = \"needs a till\"]\n    fn it_is_sold() {}\n}\n",
        )
        .write("tests/checkout.rs", "#[test]\nfn a_cart_is_paid() {}\n");
    project
}

const CARGO: [(&str, &str); 4] = [
    ("1", "tests = [\"cargo:shop::tests::it_is_empty\", \"cargo:shop::a_cart_is_paid\"]"),
    ("2", "tests = [\"cargo:shop::tests::prices_are_added\"]"),
    ("3", "tests = [\"cargo:shop::tests::it_is_sold\"]"),
    ("4", "gap = \"refunds come later\""),
];

fn verify(project: &Project, more: &[&str]) -> Outcome {
    project.run(&[&["spec", "verify"], more].concat())
}

/// How the criteria stand, each with the first word of its cause.
fn states(project: &Project, more: &[&str]) -> Vec<(String, String)> {
    let told = verify(project, &[more, &["--json"]].concat());
    let json = told.json();
    assert_eq!(told.code, i32::from(json["failed"] != 0), "{told}");
    let criteria =
        json["specs"].as_array().unwrap().iter().flat_map(|spec| spec["criteria"].as_array().unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    criteria.map(|criterion| (text(&criterion["state"]), text(&criterion["causes"][0]["why"]))).collect()
}

#[track_caller]
fn stands(found: &[(String, String)], expected: &[(&str, &str)]) {
    let is = |((state, why), (wanted, says)): (&(String, String), &(&str, &str))| {
        state == wanted && why.contains(says)
    };
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(is), "{found:#?}");
}

#[test]
fn cargo_is_run_by_nextest_and_a_failure_is_told() {
    let project = with_cargo(&CARGO);
    stands(
        &states(&project, &[]),
        &[
            ("passed", ""),
            ("failed", "the sum"),
            ("skipped", "its runner skips it"),
            ("gap", "refunds come later"),
        ],
    );
    let told = verify(&project, &[]);
    told.exits(1).says("failed   cart.2").says("1 passed, 1 failed, 1 skipped, 1 gap of 4 criteria");
}

#[test]
fn cargo_is_run_without_nextest_too() {
    let mut project = with_cargo(&CARGO);
    let cargo = Path::new(env!("CARGO")).parent().unwrap().display().to_string();
    project.set("PATH", &format!("{cargo}:/usr/bin:/bin"));
    stands(
        &states(&project, &[]),
        &[("passed", ""), ("failed", "the sum"), ("skipped", "needs a till"), ("gap", "refunds come later")],
    );
}

#[test]
fn binaries_may_run_together() {
    let project = with_cargo(&CARGO);
    // Its second test passes only in the process in which the first has run.
    let shared = "static SEEN: std::sync::OnceLock<u32> = std::sync::OnceLock::new();\n#[test]\nfn a_first() {\n    \
                  SEEN.set(1).unwrap();\n}\n#[test]\nfn b_then() {\n    \
                  let wait = || std::thread::sleep(std::time::Duration::from_millis(5));\n    \
                  (0..2000).find(|_| { wait(); SEEN.get().is_some() }).expect(\"another process\");\n}\n\
                  #[test]\nfn c_not_wanted() {\n    std::fs::write(\"../ran\", \"\").unwrap();\n}\n";
    project.write("tests/shared.rs", shared);
    project.write(
        "specs/cart.toml",
        &spec(&[("1", "tests = [\"cargo:shop::shared::a_first\", \"cargo:shop::shared::b_then\"]")]),
    );
    project.write("setpoint.toml", "setpoint = 1\n[spec.cargo]\ntogether = [\"shop::shared\"]\n");
    stands(&states(&project, &[]), &[("passed", "")]);
    assert!(!project.at("ran").exists(), "what nobody names is not run");
}

#[test]
fn pytest_is_run_and_a_failure_is_told() {
    let project = project(&[
        ("1", "tests = [\"pytest:tests/test_cart.py::TestCart::test_empty\"]"),
        ("2", "tests = [\"pytest:tests/test_cart.py::test_sum\"]"),
        ("3", "tests = [\"pytest:tests/test_cart.py::test_sold\"]"),
    ]);
    project.write(
        "setpoint.toml",
        "setpoint = 1\n[spec.pytest]\ncommand = [\"/usr/bin/python3\", \"-m\", \"pytest\"]\n",
    );
    project.write(
        "tests/test_cart.py",
        "import pytest\nclass TestCart:\n    def test_empty(self):\n        pass\n\
         @pytest.mark.parametrize('total', [3, 4])\ndef test_sum(total):\n    assert 1 + 2 == total\n\
         @pytest.mark.skip(reason='needs a till')\ndef test_sold():\n    pass\n",
    );
    stands(
        &states(&project, &[]),
        &[("passed", ""), ("failed", "assert (1 + 2) == 4"), ("skipped", "needs a till")],
    );
    assert!(!project.root.join("tests/__pycache__").exists(), "it leaves nothing behind");
}

#[test]
fn go_is_run_and_a_failure_is_told() {
    let project = project(&[
        ("1", "tests = [\"go:example.com/shop/cart:TestEmpty\", \"go:example.com/shop/cart:TestSum/two\"]"),
        ("2", "tests = [\"go:example.com/shop/cart:TestSum\"]"),
        ("3", "tests = [\"go:example.com/shop/cart:TestSold\"]"),
    ]);
    project.write("go.mod", "module example.com/shop\n\ngo 1.18\n").write(
        "cart/cart_test.go",
        "package cart\n\nimport \"testing\"\n\nfunc TestEmpty(t *testing.T) {}\nfunc TestSum(t *testing.T) {\n\t\
         t.Run(\"two\", func(t *testing.T) {})\n\tt.Fatal(\"1 + 2 is not 4\")\n}\n\
         func TestSold(t *testing.T) { t.Skip(\"needs a till\") }\n",
    );
    stands(
        &states(&project, &[]),
        &[("passed", ""), ("failed", "1 + 2 is not 4"), ("skipped", "needs a till")],
    );
}

#[test]
fn commands_run_and_what_they_need_is_asked_for() {
    let project = project(&[
        ("1", "tests = [\"command:test -d specs\"]\nrequires = [\"program:sh\"]"),
        ("2", "tests = [\"command:echo a link is broken; exit 3\"]"),
        ("3", "tests = [\"command:touch ran\"]\nrequires = [\"program:no-such-program\"]"),
    ]);
    let missing = "needs program:no-such-program: it is not in PATH";
    stands(
        &states(&project, &[]),
        &[("passed", ""), ("failed", "a link is broken\nexit 3"), ("skipped", missing)],
    );
    assert!(!project.root.join("ran").exists());
    verify(&project, &["cart.3"]).exits(0);
    verify(&project, &["cart.3", "--strict"]).exits(1);
    verify(&project, &["cart.3", "--strict=skips"]).exits(1);
    verify(&project, &["cart.1", "--strict"]).exits(0);
}

#[test]
fn a_renamed_test_is_told_with_its_new_name() {
    let project = with_cargo(&CARGO);
    project.edit("src/lib.rs", "fn prices_are_added", "fn all_prices_are_added");
    let told = verify(&project, &[]);
    told.exits(4).says("there is no such test: `shop::tests::prices_are_added`");
    told.says("at specs/cart.toml:9:10").says("did you mean `cargo:shop::tests::all_prices_are_added`?");
    assert_eq!(told.stdout, "", "nothing is run");
    verify(&project, &["cart.22"]).exits(5).says("did you mean `cart.2`?");
}

#[test]
fn on_the_same_source_nothing_runs_twice() {
    let project = project(&[
        ("1", "tests = [\"command:echo passes >> ../ran\"]"),
        ("2", "tests = [\"command:echo fails >> ../ran; false\"]"),
    ]);
    let ran = || {
        let told = fs::read_to_string(project.at("ran")).unwrap_or_default();
        let _ = fs::remove_file(project.at("ran"));
        told.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    project.write("source", "1");
    verify(&project, &[]).exits(1);
    assert_eq!(ran(), ["fails", "passes"]);
    verify(&project, &[]).exits(1).says("nothing was run: 2 tests ended on this very source");
    // What a spec says is no part of what its tests are tests of.
    project.edit("specs/cart.toml", "Criterion 1 holds.", "Criterion 1 holds always.");
    verify(&project, &[]).exits(1);
    assert_eq!(ran(), [""; 0]);
    verify(&project, &["--force", "cart.1"]).exits(0);
    assert_eq!(ran(), ["passes"]);
    project.write("source", "2");
    verify(&project, &["cart.1"]).exits(0);
    verify(&project, &[]).exits(1).says("1 ended on this very source before");
    assert_eq!(ran(), ["passes", "fails"]);
    // What tests change themselves is not what they were run on.
    project.edit("specs/cart.toml", "../ran; false", "source");
    for _ in 0..2 {
        verify(&project, &[]).exits(0).says("changed while the tests ran");
    }
}

#[test]
fn a_report_says_how_tests_ended() {
    let project = project(&[
        ("1", "tests = [\"cargo:shop::a_cart_is_paid\", \"pytest:tests/test_cart.py::test_sum\"]"),
        ("2", "tests = [\"cargo:shop::till::it_opens\"]"),
        ("3", "tests = [\"command:false\"]"),
    ]);
    project.write(
        "junit.xml",
        "<testsuites><testsuite name=\"shop\"><testcase classname=\"shop\" name=\"a_cart_is_paid\"/></testsuite>\
         <testsuite name=\"pytest\"><testcase classname=\"tests.test_cart\" name=\"test_sum[1]\"/></testsuite></testsuites>",
    );
    let failed = "running 1 test\ntest it_opens ... FAILED\n\nfailures:\n\n---- it_opens stdout ----\nit is stuck\n\n\
                  failures:\n    it_opens\n\ntest result: FAILED. 0 passed; 1 failed\n";
    project.write("till.txt", failed);
    let from = ["--from", "junit.xml", "--from", "shop::till=till.txt"];
    stands(
        &states(&project, &from),
        &[("passed", ""), ("failed", "it is stuck"), ("skipped", "it was not run")],
    );
    verify(&project, &["--from", "till.txt"]).exits(2).says("`--from shop::checkout=output.txt`");
    verify(&project, &["--from", "nowhere.xml"]).exits(7).says("nowhere.xml");
    verify(&project, &["--from", "specs/cart.toml"]).exits(2).says("this is no report of tests");
    let written =
        verify(&project, &[&from[..], &["--report", "out/page.html", "--report", "out/page.md"]].concat());
    written.exits(1).says("written: out/page.html");
    assert!(
        project.read("out/page.html").contains("it is stuck")
            && project.read("out/page.md").contains("| cart.2 | failed |")
    );
    verify(&project, &["--report", "page.pdf"]).exits(2).says("`.html` or `.md`");
}

#[test]
fn coverage_tells_what_is_open() {
    let project = with_cargo(&CARGO);
    let told = project.run(&["spec", "coverage"]);
    told.exits(0).says("cart.4").says("refunds come later").says("4 tests, 0 that no criterion names");
    verify(&project, &["cart.1"]).exits(0);
    project.edit("specs/cart.toml", "Criterion 1 holds.", "Criterion 1 holds always.");
    project.edit("specs/cart.toml", "\"cargo:shop::tests::it_is_empty\", ", "");
    let told = project.run(&["spec", "coverage", "--json"]);
    let json = told.json();
    assert_eq!(json["uncited"][0]["tests"], serde_json::json!(["cargo:shop::tests::it_is_empty"]), "{told}");
    assert_eq!(json["changed"][0]["old"], "Criterion 1 holds.");
    assert!(!told.stderr.contains("looking"), "the tests are known: {told}");
    verify(&project, &["cart.1"]).exits(0);
    assert_eq!(project.run(&["spec", "coverage", "--json"]).json()["changed"], serde_json::json!([]));
}

#[test]
fn init_writes_what_verifies() {
    let project = with_cargo(&[]);
    project.run(&["spec", "init"]).exits(2).says("there are specs");
    fs::remove_dir_all(project.root.join("specs")).unwrap();
    project.run(&["spec", "verify"]).exits(5).says("setpoint spec init");
    project.run(&["spec", "init"]).exits(0).says("specs/shop-checkout.toml");
    assert!(project.read("specs/shop.toml").contains("text = \"Prices are added.\""));
    verify(&project, &[]).exits(1).says("2 passed, 1 failed, 1 skipped of 4 criteria");
}

#[test]
fn status_tells_the_last_verdicts_and_runs_nothing() {
    let project = project(&[("1", "tests = [\"command:touch ../ran\"]"), ("2", "gap = \"later\"")]);
    let status = || project.run(&["spec", "status"]);
    status().exits(0).says("never verified").says("1 skipped, 1 gap of 2 criteria");
    assert!(!project.at("ran").exists());
    verify(&project, &[]).exits(0);
    fs::remove_file(project.at("ran")).unwrap();
    status().says("passed   cart.1").says("on this source");
    project.write("source", "1");
    status().says("on another source");
    project.edit("specs/cart.toml", "Criterion 1 holds.", "Criterion 1 holds always.");
    status().says("it said something else then");
    assert!(!project.at("ran").exists());
}

#[test]
fn what_runs_tests_dies_with_its_command() {
    let project = project(&[("1", "tests = [\"command:echo $$ > ../pid; sleep 1000\"]")]);
    // What a command that is killed leaves goes with the project.
    let mut command = project.start(project.command(&["spec", "verify"]).env("TMPDIR", &project.root));
    let pid = loop {
        let text = fs::read_to_string(project.at("pid")).unwrap_or_default();
        if let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) {
            break pid;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    command.kill().unwrap();
    command.wait().unwrap();
    while rustix::process::test_kill_process(pid).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // What was cut off is not taken for an ending.
    project.run(&["spec", "status"]).says("never verified");
    fs::remove_file(project.at("pid")).unwrap();
    let command = project.start(&mut project.command(&["spec", "verify"]));
    while fs::read_to_string(project.at("pid")).unwrap_or_default().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&command), Signal::INT).unwrap();
    let told = command.wait_with_output().unwrap();
    assert_eq!(told.status.code(), Some(130), "{}", String::from_utf8_lossy(&told.stderr));
}

#[test]
fn every_row_of_the_features_has_a_criterion() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../specs");
    for (letter, rows) in [("E", 15), ("P", 19), ("S", 14), ("V", 13), ("T", 4), ("X", 6)] {
        let text = fs::read_to_string(folder.join(format!("{letter}.toml"))).unwrap();
        let missing: Vec<_> =
            (1..=rows).filter(|row| !text.contains(&format!("[criterion.{row}]"))).collect();
        assert!(missing.is_empty(), "{letter}: {missing:?}");
    }
    let told = Command::new(env!("CARGO_BIN_EXE_setpoint"))
        .args(["spec", "status", "--json"])
        .current_dir(folder)
        .env("SETPOINT_STATE", tempfile::tempdir().unwrap().path())
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}
