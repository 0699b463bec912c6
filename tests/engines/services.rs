//! The rules for units with a first process of their own, each as a test that knows nothing of the engine.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use setpoint_model::container::{Container, ContainerMount, Health, HealthTest, MountSource, NetworkMode};
use setpoint_model::import::compose::Volume;
use setpoint_runtime::cancel::Cancel;
use setpoint_runtime::engine::{
    EngineError, FirstProcess, Health as Says, Mount, Progress, Seen, UnitVolumes,
};

use crate::harness::until;
use crate::place::Subject;
use crate::rules::{Rule, Unit};

pub const RULES: &[Rule] = named![
    the_first_process_is_what_is_declared,
    a_unit_ends_with_its_first_process,
    what_the_first_process_writes_is_kept_and_followed,
    a_first_process_is_asked_to_end_by_its_signal,
    a_first_process_that_does_not_listen_is_killed,
    a_program_that_is_not_there_starts_nothing,
    processes_have_what_the_first_one_has,
    a_volume_takes_what_is_there_and_outlives_its_unit,
    a_volume_that_two_units_have_stays_one_when_it_is_filled,
    what_lies_deeper_is_not_hidden,
    a_volume_without_a_name_goes_with_its_unit,
    where_a_unit_has_its_data_is_told,
    a_volume_of_others_has_to_be_there,
    memory_is_empty_at_every_start,
];

// Podman has its checks run by systemd, which no container of a test has.
pub const OF_HEALTH: &[Rule] =
    named![a_health_check_tells_how_it_is, a_health_check_that_takes_too_long_has_failed,];

pub fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|&word| word.to_owned()).collect()
}

/// A unit whose first process is this script.
pub fn that_runs<'a>(subject: &'a Subject, script: &str) -> Unit<'a> {
    let mut unit = Unit::new(subject);
    unit.spec.first = FirstProcess::Declared;
    unit.spec.user = String::new();
    unit.spec.container = Container {
        command: Some(words(&["/bin/sh", "-c", script])),
        network: Some(NetworkMode::Host),
        ..Container::default()
    };
    unit
}

pub const WAITS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
const LISTENS: &str = "trap 'echo asked; exit 3' TERM; echo began; while :; do sleep 0.1; done";

pub fn progress(unit: &Unit<'_>) -> Progress {
    unit.subject.engine.progress(&unit.id).unwrap()
}

fn ended(unit: &Unit<'_>) -> Option<i32> {
    until("it has ended", || !progress(unit).running);
    progress(unit).ended
}

fn output(unit: &Unit<'_>) -> String {
    let mut text = String::new();
    unit.subject.engine.output(&unit.id, false).unwrap().read_to_string(&mut text).unwrap();
    text
}

fn the_first_process_is_what_is_declared(subject: &Subject) {
    let script = "echo $0 $1 $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '); pwd; echo $TEXT $HOME";
    let mut unit = that_runs(subject, "");
    let settings = &mut unit.spec.container;
    settings.entrypoint = Some(words(&["/bin/sh", "-c"]));
    settings.command = Some(words(&[script, "zero", "one"]));
    settings.user = Some("dev".to_owned());
    settings.working_dir = Some("/not/there/yet".to_owned());
    settings.env = [("TEXT".to_owned(), "a  'b' $c".to_owned())].into();
    let unit = unit.started();
    assert_eq!(ended(&unit), Some(0));
    assert_eq!(output(&unit), "zero one 1000 1000 50 1000\n/not/there/yet\na 'b' $c /home/dev\n");
}

fn a_unit_ends_with_its_first_process(subject: &Subject) {
    let unit = that_runs(subject, "sleep 1000 & exit 7").started();
    assert_eq!(ended(&unit), Some(7));
    assert!(matches!(unit.seen(), Seen::Stopped(_)));
    // It can be started again, and ends again.
    subject.engine.start_again(&unit.id).unwrap();
    assert_eq!(ended(&unit), Some(7));
}

fn what_the_first_process_writes_is_kept_and_followed(subject: &Subject) {
    let unit =
        that_runs(subject, "echo one; echo two >&2; while ! test -e go; do sleep 0.1; done; echo three");
    let unit = with(unit, in_workspace).started();
    until("it wrote", || output(&unit).lines().count() == 2);
    // Two streams may overtake each other.
    let mut so_far: Vec<String> = output(&unit).lines().map(str::to_owned).collect();
    so_far.sort();
    assert_eq!(so_far, ["one", "two"]);
    let mut followed = subject.engine.output(&unit.id, true).unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        followed.read_to_string(&mut text).unwrap();
        text
    });
    fs::write(unit.root.join("go"), "").unwrap();
    let text = reader.join().unwrap();
    assert_eq!((text.lines().count(), text.lines().last()), (3, Some("three")));
    assert_eq!(output(&unit).lines().count(), 3);
}

fn a_first_process_is_asked_to_end_by_its_signal(subject: &Subject) {
    let unit = that_runs(subject, LISTENS).started();
    until("it began", || output(&unit).contains("began"));
    unit.stop();
    assert_eq!((ended(&unit), output(&unit).as_str()), (Some(3), "began\nasked\n"));
    let unit = that_runs(subject, &LISTENS.replace("TERM", "USR1"));
    let unit = with(unit, |c| c.stop_signal = Some("SIGUSR1".to_owned()));
    let unit = unit.started();
    until("it began", || output(&unit).contains("began"));
    unit.stop();
    assert_eq!(ended(&unit), Some(3));
}

fn a_first_process_that_does_not_listen_is_killed(subject: &Subject) {
    let unit = that_runs(subject, "trap '' TERM; echo began; while :; do sleep 0.1; done").started();
    until("it began", || output(&unit).contains("began"));
    subject.engine.stop(&unit.id, Duration::from_secs(1), &Cancel::default()).unwrap();
    assert!(matches!(unit.seen(), Seen::Stopped(_)));
    assert_eq!(progress(&unit).ended, Some(137));
}

fn a_program_that_is_not_there_starts_nothing(subject: &Subject) {
    let unit = that_runs(subject, "");
    let unit = with(unit, |c| c.command = Some(words(&["/bin/not-there"])));
    unit.made();
    let refused = subject.engine.start(&unit.id, &unit.spec).unwrap_err();
    assert!(refused.to_string().contains("not-there"), "{refused}");
    assert!(!progress(&unit).running);
}

fn a_health_check_tells_how_it_is(subject: &Subject) {
    let check = |test: &str| Health {
        test: Some(HealthTest::Shell(test.to_owned())),
        interval: Some(Duration::from_millis(300)),
        timeout: Some(Duration::from_secs(5)),
        retries: Some(2),
        ..Health::default()
    };
    let unit = that_runs(subject, WAITS);
    let unit = with(unit, |c| {
        in_workspace(c);
        c.health = Some(check("test -e well || { echo not yet; exit 1; }"));
    });
    let unit = unit.started();
    assert!(progress(&unit).health.is_some_and(|health| health != Says::Healthy));
    until("it is unwell", || progress(&unit).health == Some(Says::Unhealthy));
    assert_eq!(progress(&unit).said.as_deref(), Some("not yet"));
    fs::write(unit.root.join("well"), "").unwrap();
    until("it is well", || progress(&unit).health == Some(Says::Healthy));
    fs::remove_file(unit.root.join("well")).unwrap();
    until("it is unwell again", || progress(&unit).health == Some(Says::Unhealthy));
}

fn a_health_check_that_takes_too_long_has_failed(subject: &Subject) {
    let unit = that_runs(subject, WAITS);
    let unit = with(unit, |c| {
        c.health = Some(Health {
            test: Some(HealthTest::Exec(words(&["/bin/sleep", "1000"]))),
            interval: Some(Duration::from_millis(100)),
            timeout: Some(Duration::from_millis(200)),
            retries: Some(1),
            ..Health::default()
        });
    });
    let unit = unit.started();
    until("it is unwell", || progress(&unit).health == Some(Says::Unhealthy));
}

fn processes_have_what_the_first_one_has(subject: &Subject) {
    let unit = that_runs(subject, WAITS);
    let unit = with(unit, |c| {
        c.user = Some("dev:extra".to_owned());
        c.env = [("TEXT".to_owned(), "hello".to_owned())].into();
    });
    let unit = unit.started();
    assert_eq!(unit.says("id -u; id -g; echo $TEXT").0, "1000\n50\nhello\n");
    assert_eq!(subject.engine.environment(&unit.id).unwrap()["TEXT"], "hello");
}

fn volume(name: Option<&str>, target: &str) -> ContainerMount {
    let source = MountSource::Volume { name: name.map(str::to_owned), no_copy: false, subpath: None };
    ContainerMount { target: target.to_owned(), read_only: false, source }
}

/// The same name on every engine, and another one for every project.
fn volume_name(root: &Path) -> String {
    format!("v_{}", root.file_name().unwrap().to_string_lossy().to_lowercase())
}

fn a_volume_takes_what_is_there_and_outlives_its_unit(subject: &Subject) {
    let engine = &subject.engine;
    let unit = that_runs(subject, WAITS);
    let name = volume_name(&unit.root);
    let mut unit = with(unit, |c| {
        // The image has something there.
        c.mounts = vec![volume(Some(&name), "/etc"), volume(Some(&name), "/same")];
    });
    unit.spec.volumes = vec![Volume { name: name.clone(), ..Volume::default() }];
    let unit = unit.started();
    assert_eq!(unit.says("grep -c dev /same/passwd; echo kept > /etc/own").0, "1\n");
    assert_eq!(engine.volumes(&unit.root).unwrap(), std::slice::from_ref(&name));
    assert!(engine.remove_volume(&name).is_err(), "somebody has it");
    unit.stop();
    assert!(engine.remove_volume(&name).is_err(), "somebody has it");
    engine.remove(&unit.id).unwrap();
    let unit = unit.started();
    assert_eq!(unit.says("cat /etc/own").0, "kept\n");
    unit.stop();
    engine.remove(&unit.id).unwrap();
    assert_eq!(engine.volumes(Path::new("/elsewhere")).unwrap(), Vec::<String>::new());
    engine.remove_volume(&name).unwrap();
    assert_eq!(engine.volumes(&unit.root).unwrap(), Vec::<String>::new());
}

fn a_volume_that_two_units_have_stays_one_when_it_is_filled(subject: &Subject) {
    let mut first = that_runs(subject, WAITS);
    let name = volume_name(&first.root);
    let volumes = vec![Volume { name: name.clone(), ..Volume::default() }];
    // Nothing of the image is where the first one has it.
    first = with(first, |c| c.mounts = vec![volume(Some(&name), "/data")]);
    first.spec.volumes.clone_from(&volumes);
    let first = first.started();
    let mut second = with(that_runs(subject, WAITS), |c| c.mounts = vec![volume(Some(&name), "/home")]);
    second.spec.volumes = volumes;
    let second = second.started();
    assert_eq!(second.says("ls /home; stat -c %u /home/dev").0, "dev\n1000\n");
    assert_eq!(first.says("ls /data; echo > /data/own").0, "dev\n");
    assert_eq!(second.says("ls /home").0, "dev\nown\n");
    drop(first);
    drop(second);
    subject.engine.remove_volume(&name).unwrap();
}

fn what_lies_deeper_is_not_hidden(subject: &Subject) {
    let mut unit = that_runs(subject, WAITS);
    let name = volume_name(&unit.root);
    fs::write(unit.root.join("secret"), "hidden").unwrap();
    unit.spec.mounts.push(Mount {
        source: unit.root.join("secret"),
        target: "/data/below/secret".into(),
        read_only: true,
    });
    let mut unit =
        with(unit, |c| c.mounts = vec![volume(Some(&name), "/data"), memory("/data/fast/below", None)]);
    unit.spec.volumes = vec![Volume { name: name.clone(), ..Volume::default() }];
    let unit = unit.started();
    assert_eq!(unit.says("cat /data/below/secret; grep -c /data/fast/below /proc/mounts").0, "hidden1\n");
    fs::write(unit.root.join("secret"), "another").unwrap();
    assert_eq!(unit.says("cat /data/below/secret").0, "another");
    unit.stop();
    let engine = &subject.engine;
    engine.remove(&unit.id).unwrap();
    // Nothing of it went into the volume.
    let mut unit = with(that_runs(subject, WAITS), |c| c.mounts = vec![volume(Some(&name), "/data")]);
    unit.spec.volumes = vec![Volume { name: name.clone(), ..Volume::default() }];
    let unit = unit.started();
    assert_eq!(unit.says("cat /data/below/secret").0, "");
    drop(unit);
    engine.remove_volume(&name).unwrap();
}

fn memory(target: &str, mode: Option<u32>) -> ContainerMount {
    let size = Some("1MiB".parse().unwrap());
    let source = MountSource::Tmpfs { size, mode, options: Vec::new() };
    ContainerMount { target: target.to_owned(), read_only: false, source }
}

fn a_volume_without_a_name_goes_with_its_unit(subject: &Subject) {
    let unit = that_runs(subject, WAITS);
    let unit = with(unit, |c| {
        c.mounts = vec![volume(None, "/data/a"), volume(None, "/data-a")];
    });
    let unit = unit.started();
    unit.says("echo kept > /data/a/own; chmod 700 /data/a");
    unit.stop();
    subject.engine.start(&unit.id, &unit.spec).unwrap();
    assert_eq!(unit.says("cat /data/a/own; stat -c %a /data/a; ls /data-a").0, "kept\n700\n");
    unit.stop();
    subject.engine.remove(&unit.id).unwrap();
    let unit = unit.started();
    assert_eq!(unit.says("ls /data/a").0, "");
    assert_eq!(subject.engine.volumes(&unit.root).unwrap(), Vec::<String>::new());
}

fn where_a_unit_has_its_data_is_told(subject: &Subject) {
    let engine = &subject.engine;
    let unit = that_runs(subject, WAITS);
    assert_eq!(engine.volumes_of(&unit.id).unwrap(), UnitVolumes::default());
    assert_eq!(engine.is_empty(&unit.id, Path::new("/data")).unwrap(), None);
    let name = volume_name(&unit.root);
    let mut unit = with(unit, |c| c.mounts = vec![volume(Some(&name), "/named"), volume(None, "/loose")]);
    unit.spec.volumes = vec![Volume { name: name.clone(), ..Volume::default() }];
    let unit = unit.started();
    let mut held = engine.volumes_of(&unit.id).unwrap().held;
    held.sort_by(|a, b| a.target.cmp(&b.target));
    let held: Vec<_> =
        held.iter().map(|held| (held.target.to_str().unwrap(), held.name.as_deref())).collect();
    assert_eq!(held, [("/loose", None), ("/named", Some(name.as_str()))]);
    let is_empty = |folder: &str| engine.is_empty(&unit.id, Path::new(folder)).unwrap();
    let folders = ["/named", "/loose", "/own/of/the/unit"];
    assert_eq!(folders.map(is_empty), [Some(true); 3]);
    // One file of the folder's own name, and one whose name needs a header of its own.
    let long = "n".repeat(180);
    unit.says(&format!(
        "mkdir -p /own/of/the/unit; : > /named/named; : > /loose/{long}; : > /own/of/the/unit/x"
    ));
    assert_eq!(folders.map(is_empty), [Some(false); 3]);
    unit.stop();
    assert_eq!(folders.map(is_empty), [Some(false); 3], "also of one that is stopped");
    engine.remove(&unit.id).unwrap();
    engine.remove_volume(&name).unwrap();
}

fn a_volume_of_others_has_to_be_there(subject: &Subject) {
    let unit = that_runs(subject, WAITS);
    let name = volume_name(&unit.root);
    let mut unit = with(unit, |c| c.mounts = vec![volume(Some(&name), "/data")]);
    unit.spec.volumes = vec![Volume { name: name.clone(), external: true, ..Volume::default() }];
    let engine = &subject.engine;
    let refused = engine.create(&unit.id, &unit.spec).and_then(|()| engine.start(&unit.id, &unit.spec));
    let refused: EngineError = refused.unwrap_err();
    assert!(refused.to_string().contains(&name), "{refused}");
}

fn memory_is_empty_at_every_start(subject: &Subject) {
    let unit = that_runs(subject, WAITS);
    let unit = with(unit, |c| {
        c.mounts = vec![memory("/fast", Some(0o750))];
    });
    let unit = unit.started();
    let look = "df -k /fast | tail -1 | awk '{ print $2 }'; ls /fast; echo > /fast/own";
    assert_eq!(unit.says("stat -c %a /fast").0, "750\n");
    assert_eq!(unit.says(look).0, "1024\n");
    unit.stop();
    subject.engine.start(&unit.id, &unit.spec).unwrap();
    assert_eq!(unit.says(look).0, "1024\n");
}

/// The first process starts in the project's folder.
pub fn in_workspace(settings: &mut Container) {
    settings.working_dir = Some("/workspace".to_owned());
    settings.env = BTreeMap::new();
}

pub fn with<'a>(mut unit: Unit<'a>, change: impl FnOnce(&mut Container)) -> Unit<'a> {
    change(&mut unit.spec.container);
    unit
}
