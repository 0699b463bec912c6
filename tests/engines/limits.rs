//! The rule for limits of memory: what is declared, however it is written, is what the kernel keeps.

use std::fs;
use std::path::{Path, PathBuf};

use setpoint_model::fingerprint::Class;
use setpoint_model::manifest::{Layer, Limits, parse};

use crate::harness::until;
use crate::place::Subject;
use crate::rules::{Rule, Unit};
use crate::services::that_runs;

pub const RULES: &[Rule] = named![memory_is_limited_as_it_is_declared];

const MIB_32: u64 = 32 << 20;

/// Each way to write a size, and the bytes that it means.
const WRITTEN: [(&str, u64); 20] = [
    ("34000000", 34_000_000),
    ("\"33MB\"", 33_000_000),
    ("\"0.1g\"", 107_374_182),
    ("\"33554432\"", MIB_32),
    ("\"32768k\"", MIB_32),
    ("\"32768K\"", MIB_32),
    ("\"32m\"", MIB_32),
    ("\"32M\"", MIB_32),
    ("\"0.03125g\"", MIB_32),
    ("\"0.03125G\"", MIB_32),
    ("\"0.000030517578125t\"", MIB_32),
    ("\"0.000030517578125T\"", MIB_32),
    ("\"32768KiB\"", MIB_32),
    ("\"32.5MiB\"", 34_078_720),
    ("\"0.03125GiB\"", MIB_32),
    ("\"0.000030517578125TiB\"", MIB_32),
    ("\"33554.5kB\"", 33_554_500),
    ("\"33.5MB\"", 33_500_000),
    ("\"0.033GB\"", 33_000_000),
    ("\"0.000033TB\"", 33_000_000),
];

/// The kernel counts in pages, of this size at most.
const PAGE: u64 = 64 * 1024;
/// How many of them are made anew; the others change what runs, where the engine can.
const MADE: usize = 3;

fn memory_is_limited_as_it_is_declared(subject: &Subject) {
    let is_hot = subject.engine.capabilities().limits == Class::Hot;
    let mut unit = None;
    for (at, (written, bytes)) in WRITTEN.into_iter().enumerate() {
        let limits = declared(written);
        match &unit {
            Some(unit) if at >= MADE && is_hot => {
                let unit: &Unit<'_> = unit;
                subject.engine.set_limits(&unit.id, &limits).unwrap();
            }
            _ => {
                let made = that_runs(subject, "");
                // By which it is found on this machine, whatever the engine's own numbers are.
                let script =
                    format!(": {}; trap 'exit 0' TERM; while :; do sleep 0.1; done", made.id.as_str());
                let mut made = crate::services::with(made, |c| {
                    c.command = Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), script]);
                });
                made.spec.limits = limits;
                unit = Some(made.started());
            }
        }
        let kept = kept(unit.as_ref().unwrap().id.as_str());
        assert!(kept <= bytes && bytes - kept < PAGE && kept.is_multiple_of(4096), "{written}: {kept}");
    }
}

/// What a manifest means that says it so.
fn declared(written: &str) -> Limits {
    let text = format!("setpoint = 1\n[service.it]\ncommand = \"true\"\nlimits = {{ memory = {written} }}\n");
    let manifest = parse(&[Layer { name: "setpoint.toml", text: &text }], "shop").unwrap();
    manifest.envs.into_values().next().unwrap().limits
}

/// The limit that the kernel keeps for the process that has this in its command.
fn kept(marker: &str) -> u64 {
    until("its process is there", || process(marker).is_some());
    let groups = fs::read_to_string(process(marker).unwrap().join("cgroup")).unwrap();
    let of = |controllers: &str| {
        let line = groups.lines().find(|line| {
            line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == controllers))
        });
        line.and_then(|line| line.splitn(3, ':').nth(2)).map(|path| path.trim_start_matches('/').to_owned())
    };
    let root = Path::new("/sys/fs/cgroup");
    let files = [
        of("memory").map(|path| root.join("memory").join(path).join("memory.limit_in_bytes")),
        of("").map(|path| root.join(path).join("memory.max")),
    ];
    let text = files.into_iter().flatten().find_map(|file| fs::read_to_string(file).ok());
    text.unwrap_or_else(|| panic!("no limit is kept: {groups}")).trim().parse().unwrap()
}

/// The shell that has this in its command: the one that its engine started, and no child of it.
fn process(marker: &str) -> Option<PathBuf> {
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let is_it = |folder: &PathBuf| {
        let command = fs::read(folder.join("cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        let shell = words.next().is_some_and(|word| word.ends_with(b"sh"));
        shell && words.nth(1).is_some_and(|script| String::from_utf8_lossy(script).contains(marker))
    };
    all.filter(|path| path.join("cmdline").exists()).find(is_it)
}
