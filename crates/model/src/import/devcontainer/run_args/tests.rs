//! What is understood of the arguments of `docker run`.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::container::{ContainerMount, HealthTest, MountSource, Ulimit};
use crate::manifest::ByteSize;

fn location() -> Location {
    Location { file: "x".into(), line: 1, column: 1, source_line: String::new(), length: 1 }
}

fn read(args: &[&str]) -> Result<RunArgs, Vec<Problem>> {
    let args: Vec<_> = args.iter().map(|arg| Placed { value: (*arg).to_owned(), at: location() }).collect();
    run_args(&args)
}

fn container(args: &[&str]) -> Container {
    read(args).unwrap().container
}

fn problem(args: &[&str]) -> String {
    let problems = read(args).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = &problems[0];
    [Some(&problem.what), problem.why.as_ref(), problem.hint.as_ref()]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ")
}

#[test]
fn a_value_stands_behind_the_sign_or_in_the_next_argument() {
    for args in [
        &["--cap-add=CAP_SYS_PTRACE"][..],
        &["--cap-add", "sys_ptrace"],
        &["--cap-add", "SYS_PTRACE", "--cap-add=sys_ptrace"],
    ] {
        assert_eq!(container(args).cap_add.into_iter().collect::<Vec<_>>(), ["SYS_PTRACE"], "{args:?}");
    }
}

#[test]
fn short_options_stand_together_and_with_their_values() {
    let read = container(&["-it", "-uroot", "-w", "/work", "-h=box", "-m", "2g", "-eA=b=c"]);
    assert!(read.tty && read.stdin_open);
    assert_eq!(read.user.as_deref(), Some("root"));
    assert_eq!(read.working_dir.as_deref(), Some("/work"));
    assert_eq!(read.hostname.as_deref(), Some("box"));
    assert_eq!(read.resources.memory, Some(ByteSize(2 << 30)));
    assert_eq!(read.env, BTreeMap::from([("A".to_owned(), "b=c".to_owned())]));
}

#[test]
fn flags_may_be_said_to_be_off() {
    assert!(!container(&["--privileged", "--privileged=false"]).privileged);
    assert_eq!(container(&["--init"]).init, Some(true));
    assert_eq!(container(&["--init=0"]).init, Some(false));
    assert!(problem(&["--privileged=maybe"]).contains("`true` or `false`"));
}

#[test]
fn volumes_are_folders_of_the_host_or_volumes_by_name() {
    let read = read(&["-v", "/a:/b:ro,rslave", "-v=data:/data:nocopy", "-v", "/cache", "-v", ".:/here:z"]);
    let read = read.unwrap();
    let bind = |source: &str, propagation: Option<&str>| MountSource::Bind {
        source: source.to_owned(),
        create: true,
        propagation: propagation.map(str::to_owned),
    };
    let volume = |name: Option<&str>, no_copy| MountSource::Volume {
        name: name.map(str::to_owned),
        no_copy,
        subpath: None,
    };
    let mount =
        |target: &str, read_only, source| ContainerMount { target: target.to_owned(), read_only, source };
    assert_eq!(
        read.container.mounts,
        [
            mount("/b", true, bind("/a", Some("rslave"))),
            mount("/data", false, volume(Some("data"), true)),
            mount("/cache", false, volume(None, false)),
            mount("/here", false, bind(".", None)),
        ]
    );
    assert_eq!(read.notes.len(), 1);
    assert!(problem(&["-v", "a:b"]).contains("not an absolute path"));
}

#[test]
fn a_mount_and_memory_are_mounts_too() {
    let read = container(&["--mount=type=bind,src=/a,dst=/b", "--tmpfs", "/run:size=1m,mode=1777,noexec"]);
    let sources: Vec<_> = read.mounts.into_iter().map(|mount| mount.source).collect();
    assert_eq!(
        sources,
        [
            MountSource::Bind { source: "/a".into(), create: false, propagation: None },
            MountSource::Tmpfs {
                size: Some(ByteSize(1 << 20)),
                mode: Some(0o1777),
                options: vec!["noexec".into()]
            },
        ]
    );
}

#[test]
fn ports_of_a_range_are_all_published() {
    let ports = container(&["-p", "127.0.0.1:8000-8002:9000-9002/udp"]).ports;
    let pairs: Vec<_> = ports.iter().map(|port| (port.host, port.container)).collect();
    assert_eq!(pairs, [(Some(8000), 9000), (Some(8001), 9001), (Some(8002), 9002)]);
}

#[test]
fn a_network_is_a_mode_or_has_a_name_by_which_it_is_joined() {
    assert_eq!(container(&["--network=host"]).network, Some(NetworkMode::Host));
    assert_eq!(container(&["--net", "container:db"]).network, Some(NetworkMode::Container("db".into())));
    assert_eq!(container(&["--network=bridge"]).network, None);
    let Some(NetworkMode::Networks(networks)) =
        container(&["--network-alias=web", "--network", "one", "--network=name=two,ip=10.0.0.2"]).network
    else {
        panic!("no networks");
    };
    assert_eq!(networks["one"].aliases.iter().collect::<Vec<_>>(), ["web"]);
    assert_eq!(networks["two"].ipv4.as_deref(), Some("10.0.0.2"));
    assert!(problem(&["--network=host", "--network=one"]).contains("goes with no other"));
    assert!(problem(&["--network-alias=web"]).contains("--network=NAME"));
}

#[test]
fn resources_limits_and_devices_are_read() {
    let read = container(&[
        "--cpus=1.5",
        "--memory-swap=-1",
        "--pids-limit",
        "-1",
        "--ulimit=nofile=1024:2048",
        "--ulimit",
        "core=-1",
        "--device=/dev/kvm",
        "--device=/dev/a:/dev/b:r",
        "--shm-size=1gb",
        "--gpus",
        "all",
        "--stop-timeout=30",
    ]);
    assert_eq!((read.resources.cpus, read.resources.memory_swap), (Some(1.5), Some(-1)));
    assert_eq!(read.resources.pids, Some(-1));
    assert_eq!(read.ulimits["nofile"], Ulimit { soft: 1024, hard: 2048 });
    assert_eq!(read.ulimits["core"], Ulimit { soft: -1, hard: -1 });
    let devices: Vec<_> = read.devices.iter().map(|d| (d.target.as_str(), d.permissions.as_str())).collect();
    assert_eq!(devices, [("/dev/kvm", "rwm"), ("/dev/b", "r")]);
    assert_eq!(read.shm_size, Some(ByteSize(1 << 30)));
    assert_eq!(read.resources.gpus.as_deref(), Some("all"));
    assert_eq!(read.stop_grace, Some(Duration::from_secs(30)));
}

#[test]
fn the_check_and_the_output_are_read() {
    let read = container(&[
        "--health-cmd=curl -f http://x",
        "--health-interval=1m30s",
        "--log-driver=none",
        "--log-opt",
        "max-size=1m",
    ]);
    let health = read.health.unwrap();
    assert_eq!(health.test, Some(HealthTest::Shell("curl -f http://x".into())));
    assert_eq!(health.interval, Some(Duration::from_secs(90)));
    let logging = read.logging.unwrap();
    assert_eq!((logging.driver.as_deref(), logging.options["max-size"].as_str()), (Some("none"), "1m"));
}

#[test]
fn files_and_the_callers_variables_are_asked_for() {
    let read = read(&["--env-file", ".env", "-e", "TOKEN", "--label-file=l"]).unwrap();
    assert_eq!(read.env_files[0].value, ".env");
    assert_eq!(read.env_of_caller[0].value, "TOKEN");
    assert_eq!(read.label_files[0].value, "l");
}

#[test]
fn what_has_no_effect_is_told() {
    let read = read(&["--name", "box", "--restart=always", "--rm", "-d"]).unwrap();
    assert_eq!(read.container, Container::default());
    assert_eq!(read.notes.len(), 4);
}

#[test]
fn what_is_not_known_is_told_by_name() {
    assert_eq!(problem(&["--cap-ad=X"]), "`docker run` has no option `--cap-ad`; did you mean `--cap-add`?");
    assert!(problem(&["--device-cgroup-rule=a"]).contains("--device-cgroup-rule"));
    assert!(problem(&["--memory"]).contains("needs a value"));
    assert!(problem(&["--memory=many"]).contains("is not a size"));
    assert!(problem(&["ubuntu"]).contains("not an option"));
    assert!(problem(&["-x"]).contains("`-x`"));
}

proptest! {
    #[test]
    fn no_arguments_are_too_odd(args in prop::collection::vec("(--?[a-z-]{1,12}(=.{0,12})?|.{0,12})", 0..6)) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let _ = read(&args);
    }

    #[test]
    fn no_value_is_too_odd(option in prop::sample::select(OPTIONS.iter().map(|o| o.name).collect::<Vec<_>>()), value in "[a-z0-9:/=,.\\[\\]-]{0,24}") {
        let _ = read(&[&format!("--{option}={value}")]);
    }
}
