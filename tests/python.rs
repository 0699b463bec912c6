//! Pipelines in Python: evaluated apart from everything, once, and told of by name when they cannot be.

use std::fs;
use std::net::TcpListener;

use crate::harness::Project;

const CI: &str = r#"
import setpoint as sp


@sp.pipeline("ci")
def ci():
    """Checks everything."""
    fetch = sp.sh("cat given", name="fetch")
    return fetch.fork(sp.sh("echo one", name="one"), sp.sh("echo two", name="two"))
"#;

fn project(code: &str) -> Project {
    let project = Project::new("");
    project.write(".setpoint/ci.py", code).write("given", "source\n");
    project
}

/// How often the interpreter was started: each start makes a folder, whose name is never used twice.
fn evaluations(project: &Project) -> u64 {
    // The clock of the folder moves with each.
    fs::metadata(project.state().join("dsl/v1/evaluations"))
        .and_then(|metadata| metadata.modified())
        .map_or(0, |time| {
            u64::try_from(time.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()).unwrap()
        })
}

#[test]
fn a_pipeline_in_python_runs_like_any_other() {
    let project = project(CI);
    project.run(&["pipelines"]).exits(0).says("ci").says(".setpoint/ci.py:5").says("Checks everything.");
    project.run(&["run"]).exits(0).says("source").says("3 passed");
    project.run(&["run", "ci"]).exits(0).says("3 cached");
    let rendered = project.run(&["render", "ci"]);
    rendered.exits(0).says("\"from\": \"fetch\"");
    assert!(!project.root.join(".setpoint/__pycache__").exists(), "nothing is written beside the code");
}

#[test]
fn the_same_pipeline_in_toml_is_the_same_bytes() {
    let project = project(CI);
    let python = project.run(&["render"]);
    fs::remove_dir_all(project.root.join(".setpoint")).unwrap();
    project.write(
        "setpoint.toml",
        "setpoint = 1\n[pipeline.ci.step.fetch]\nrun = \"cat given\"\n[pipeline.ci.step.one]\nfrom = \"fetch\"\nrun = \"echo one\"\n\
         [pipeline.ci.step.two]\nfrom = \"fetch\"\nrun = \"echo two\"\n",
    );
    assert_eq!(project.run(&["render"]).stdout, python.stdout);
}

#[test]
fn an_evaluation_is_kept_until_something_that_it_depended_on_changes() {
    let mut project = project(
        "import setpoint as sp\nimport helper\n@sp.pipeline('ci')\ndef ci():\n    level = sp.env('LEVEL', 'none')\n    \
         return sp.sh(f'echo {helper.WORD} {level} {sp.read(\"words.txt\").strip()}', name='say')\n",
    );
    project.write(".setpoint/helper.py", "WORD = 'hello'\n").write("words.txt", "there\n");
    // A helper that is imported declares no pipeline, and may lie beside the others.
    let said = |project: &Project, words: &str| {
        let before = evaluations(project);
        project.run(&["render", "ci"]).exits(0).says(words);
        evaluations(project) != before
    };
    assert!(said(&project, "echo hello none there"));
    assert!(!said(&project, "echo hello none there"), "nothing changed");
    project.write(".setpoint/helper.py", "WORD = 'goodbye'\n");
    assert!(said(&project, "echo goodbye none there"), "an import");
    project.write("words.txt", "friend\n");
    assert!(said(&project, "echo goodbye none friend"), "a file that was read");
    project.set("LEVEL", "3");
    assert!(said(&project, "echo goodbye 3 friend"), "a variable that was asked for");
    assert!(!said(&project, "echo goodbye 3 friend"));
    project.set("OTHER", "x");
    assert!(!said(&project, "echo goodbye 3 friend"), "a variable that nobody asked for");
}

#[test]
fn what_is_opened_listed_or_tried_in_vain_is_noticed() {
    let project = project(
        "import os, pathlib\nimport setpoint as sp\ntry:\n    import local\n    word = local.WORD\nexcept ImportError:\n    word = 'none'\n\
         @sp.pipeline('ci')\ndef ci():\n    names = sorted(path.name for path in pathlib.Path('services').iterdir())\n    \
         text = open('text').read().strip() if 'text' in os.listdir('.') else 'nothing'\n    \
         return sp.sh(['echo', word, text, *names], name='say')\n",
    );
    project.write("services/web/x", "");
    let says = |words: &[&str]| {
        let outcome = project.run(&["render", "ci"]);
        outcome.exits(0);
        let words = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>();
        let said: String = outcome.stdout.split_whitespace().collect();
        assert!(said.contains(&words.join(",")), "{outcome}");
    };
    says(&["none", "nothing", "web"]);
    project.write("services/db/x", "");
    says(&["none", "nothing", "db", "web"]);
    project.write("text", "here\n");
    says(&["none", "here", "db", "web"]);
    project.write("text", "there\n");
    says(&["none", "there", "db", "web"]);
    project.write(".setpoint/local.py", "WORD = 'local'\n");
    says(&["local", "there", "db", "web"]);
}

#[test]
fn a_file_that_changes_while_it_is_evaluated_is_evaluated_again() {
    let project = project(
        "import time\nimport setpoint as sp\nimport helper\n@sp.pipeline('ci')\ndef ci():\n    \
         print('imported', flush=True)\n    time.sleep(1)\n    return sp.sh(f'echo {helper.WORD}', name='say')\n",
    );
    project.write(".setpoint/helper.py", "WORD = 'old'\n");
    let mut command = project.command(&["render", "ci"]);
    let running = project.start(&mut command);
    std::thread::sleep(std::time::Duration::from_millis(700));
    project.write(".setpoint/helper.py", "WORD = 'new'\n");
    crate::harness::finish(running).exits(0).says("echo old");
    project.run(&["render", "ci"]).exits(0).says("echo new");
}

#[test]
fn code_cannot_choose_what_is_read_as_its_answer() {
    for trick in [
        "os.symlink('/etc/passwd', at + '.new'); os.rename(at + '.new', at)",
        "os.remove(at); os.mkfifo(at)",
        "os.remove(at)",
    ] {
        let project = project(&format!(
            "import os\nimport setpoint as sp\nat = '/setpoint-exchange/answer.json'\n\
             try:\n    {trick}\n    print('replaced')\nexcept OSError as error:\n    print('refused')\n\
             @sp.pipeline('ci')\ndef ci():\n    return sp.sh('true', name='say')\n"
        ));
        project.run(&["render", "ci"]).exits(0).says("refused").says_not("replaced");
    }
}

#[test]
fn a_script_that_is_no_pipeline_is_left_alone() {
    let project = project(CI);
    project.write(".setpoint/seed.py", "import sys\nsys.exit(3)\n");
    project.run(&["run", "ci"]).exits(0).says("3 passed");
    project.run(&["run", "cii"]).exits(5).says("did you mean `ci`?");
}

#[test]
fn variables_may_be_asked_for_one_after_the_other() {
    let mut project = project(
        "import setpoint as sp\n@sp.pipeline('ci')\ndef ci():\n    \
         words = [sp.env(f'V{n}').strip() for n in range(20)]\n    return sp.sh(['echo', *words], name='say')\n",
    );
    for n in 0..20 {
        project.set(&format!("V{n}"), &format!("w{n}"));
    }
    project.run(&["render", "ci"]).exits(0).says("w19");
}

#[test]
fn what_a_killed_evaluation_left_is_removed() {
    let mut project = project(
        "import time\nimport setpoint as sp\nif sp.env('TOKEN') == 'hidden':\n    time.sleep(50)\n\
         @sp.pipeline('ci')\ndef ci():\n    return sp.sh('true', name='say')\n",
    );
    project.set("TOKEN", "hidden");
    let mut command = project.command(&["render", "ci"]);
    let mut running = project.start(&mut command);
    std::thread::sleep(std::time::Duration::from_millis(900));
    running.kill().unwrap();
    running.wait().unwrap();
    let left = |project: &Project| fs::read_dir(project.state().join("dsl/v1/evaluations")).unwrap().count();
    assert_eq!(left(&project), 1);
    project.set("TOKEN", "shown");
    project.run(&["render", "ci"]).exits(0);
    assert_eq!(left(&project), 0);
}

#[test]
fn predicates_are_asked_at_every_run() {
    let project = project(
        "import setpoint as sp\n@sp.pipeline('ci')\ndef ci():\n    \
         return sp.sh('echo used', name='use', inputs=[], cache=sp.predicate(lambda: open('version').read()))\n",
    );
    project.write("version", "1\n");
    let runs = |project: &Project| {
        let outcome = project.run(&["run", "--json"]);
        outcome.stdout.contains("\"step_began\"")
    };
    assert!(runs(&project));
    assert!(!runs(&project));
    project.write("version", "2\n");
    assert!(runs(&project), "another value is another key");
}

#[test]
fn code_sees_neither_the_network_nor_the_callers_environment_nor_his_files() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut project = project(&format!(
        "import os, socket\nimport setpoint as sp\n\
         try:\n    socket.create_connection(('127.0.0.1', {port}), 1)\n    reached = 'reached'\nexcept OSError:\n    reached = 'alone'\n\
         try:\n    open('given', 'w')\n    wrote = 'wrote'\nexcept OSError:\n    wrote = 'kept'\n\
         home = os.path.exists(os.environ.get('HOME', '/none') + '/private')\n\
         @sp.pipeline('ci')\ndef ci():\n    return sp.sh(['echo', reached, wrote, str(home), os.environ.get('TOKEN', 'no token')], name='say')\n"
    ));
    fs::write(project.at("home").join("private"), "").unwrap();
    project.set("TOKEN", "secret");
    let outcome = project.run(&["render"]);
    outcome.exits(0).says("alone").says("kept").says("False").says("no token").says_not("secret");
}

#[test]
fn only_the_pipeline_that_is_asked_for_is_evaluated() {
    let project = project(
        "import setpoint as sp\n@sp.pipeline('good')\ndef good():\n    return sp.sh('true')\n\
         @sp.pipeline('bad')\ndef bad():\n    raise ValueError('nobody asked')\n",
    );
    project.run(&["run", "good"]).exits(0);
    project.run(&["run", "bad"]).exits(4).says("nobody asked");
    project.run(&["run"]).exits(2).says("which pipeline? There is: bad, good");
}

#[test]
fn what_is_wrong_with_code_is_told_by_name_and_place() {
    let begin = "import setpoint as sp\n@sp.pipeline('ci')\ndef ci():\n";
    for (code, words) in [
        (format!("{begin}    return sp.sh('x'\n"), vec![".setpoint/ci.py", "line 4", "SyntaxError"]),
        (format!("{begin}    return sp.sh('x', name=undefined)\n"), vec!["line 4, in ci", "NameError"]),
        (format!("{begin}    return sp.sh('x', name='Bad')\n"), vec!["line 4, in ci", "'Bad' is not a name"]),
        (
            format!("{begin}    return sp.sh('x', name='x', cache=sp.predicate(lambda: None))\n"),
            vec!["x", "None"],
        ),
        (
            format!(
                "def check():\n    return 1 / 0\n{begin}    return sp.sh('x', name='x', cache=sp.predicate(check))\n"
            ),
            vec!["x", "ZeroDivisionError", "line 2, in check"],
        ),
        (format!("{begin}    return sp.sh('x', name='x', needs='y')\n"), vec!["y"]),
        ("import setpoint as sp\nimport no_such_module\n".to_owned(), vec!["no_such_module"]),
        ("import os, setpoint\nos._exit(7)\n".to_owned(), vec!["exit code 7"]),
    ] {
        let project = project(&code);
        let outcome = project.run(&["run", "ci"]);
        assert!(matches!(outcome.code, 4 | 7), "{outcome}");
        words.iter().for_each(|words| {
            outcome.says(words);
        });
        outcome.says_not("_targets.py").says_not("panicked");
    }
    let project = project("import setpoint as sp\n");
    project.run(&["run"]).exits(5).says("there is no pipeline");
    project.run(&["run", "nope"]).exits(5).says("there is no pipeline `nope`");
}

#[test]
fn a_pipeline_of_both_kinds_is_refused() {
    let project = project(CI);
    project.write(
        "setpoint.toml",
        "setpoint = 1\n[pipeline.ci.step.x]\nrun = \"true\"\n[pipeline.more.step.x]\nrun = \"true\"\n",
    );
    project.run(&["pipelines"]).exits(4).says("is there twice").says(".setpoint/ci.py:5");
    project.declare("[pipeline.ci.step.x]\nrun = \"true\"\n", "");
    project.run(&["pipelines"]).exits(0).says("ci").says("more").says("setpoint.toml");
    project.run(&["run", "more"]).exits(0);
    project.run(&["run", "ci"]).exits(0);
}

#[test]
fn without_an_interpreter_that_is_told() {
    let project = project(CI);
    // A host on which there is none: the same, with an overlay that hides it.
    let script = "for place in /usr/bin /usr/local/bin; do d=$1$place; mkdir -p $d/up $d/work; mknod $d/up/python3 c 0 0; \
                  mount -t overlay none -o lowerdir=$place,upperdir=$d/up,workdir=$d/work $place; done; \
                  \"$0\" run ci; echo \"exit $?\"";
    let command = project.command(&[]);
    let mut hidden = std::process::Command::new("unshare");
    hidden.args(["-m", "sh", "-c", script]).arg(command.get_program()).arg(project.at("hidden"));
    hidden.current_dir(&project.root);
    hidden.env("SETPOINT_STATE", project.state()).env("SETPOINT_CONFIG", project.at("config"));
    let outcome = crate::harness::finish(project.start(&mut hidden));
    outcome.says("there is no python3").says("apt-get install python3").says("exit 7");
}
