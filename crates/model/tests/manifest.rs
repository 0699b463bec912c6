//! What manifests mean.

#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use std::time::Duration;

use proptest::prelude::*;
use setpoint_model::manifest::{
    Base, ByteSize, Command, EngineKind, Env, Layer, Manifest, Network, PacksOnStart, Part, Problem, Run,
    SecretSource, WhenChanged, parse, parse_beside_code, set_layer,
};
use setpoint_model::names::{HookName, SecretName, UnitName};

const EVERYTHING: &str = include_str!("everything.toml");

fn read(text: &str) -> Result<Manifest, Vec<Problem>> {
    parse(&[Layer { name: "setpoint.toml", text }], "My Shop")
}

fn good(layers: &[(&str, &str)]) -> Manifest {
    let layers: Vec<Layer<'_>> = layers.iter().map(|&(name, text)| Layer { name, text }).collect();
    parse(&layers, "shop").unwrap_or_else(|problems| panic!("{}", told(&problems)))
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn dev(manifest: &Manifest) -> &Env {
    &manifest.envs[&UnitName::new("dev").unwrap()]
}

#[test]
fn beside_code_settings_alone_are_enough() {
    let layers = [Layer { name: "setpoint.toml", text: "setpoint = 1\n[engine]\ndefault = \"docker\"\n" }];
    let problems = parse(&layers, "shop").unwrap_err();
    assert!(told(&problems).contains("no environment and no pipeline"), "{}", told(&problems));
    let manifest = parse_beside_code(&layers, "shop").unwrap();
    assert_eq!((manifest.engine, manifest.envs.len()), (EngineKind::Docker, 0));
    let wrong = [Layer { name: "setpoint.toml", text: "setpoint = 1\n[engin]\n" }];
    assert!(parse_beside_code(&wrong, "shop").is_err(), "what is wrong is wrong there too");
}

#[test]
fn five_lines_are_a_useful_environment() {
    let manifest = read("setpoint = 1\n[env.dev]\npacks = [\"uv\"]\n").unwrap();
    assert_eq!(manifest.project.name.as_str(), "my-shop");
    assert_eq!(manifest.project.up, None);
    assert_eq!(manifest.engine, EngineKind::Embedded);
    let dev = dev(&manifest);
    assert_eq!(dev.base, Base::Host);
    assert_eq!(dev.workspace, "/workspace");
    assert_eq!(dev.packs_on_start, PacksOnStart::Always);
    assert_eq!(dev.network, Network::Host);
    assert_eq!(dev.packs[0].name.as_str(), "uv");
    assert_eq!(dev.packs[0].at.to_string(), "setpoint.toml:3:10");
    assert_eq!(dev.packs[0].script(), ".setpoint/packs/uv.sh");
}

#[test]
fn every_key_reaches_the_manifest() {
    let manifest = good(&[("setpoint.toml", EVERYTHING)]);
    assert_eq!(manifest.project.name.as_str(), "shop");
    assert_eq!(manifest.project.version.as_deref(), Some("0.3.0"));
    assert_eq!(manifest.project.up, Some(vec![UnitName::new("dev").unwrap()]));
    let source = |name: &str| &manifest.secrets[&SecretName::new(name).unwrap()].source;
    assert_eq!(source("api-token"), &SecretSource::Env { name: "API_TOKEN".into() });
    assert_eq!(source("key"), &SecretSource::File { path: "~/.keys/k".into() });
    assert_eq!(source("pass"), &SecretSource::Command { argv: vec!["pass".into(), "t".into()] });

    let dev = dev(&manifest);
    assert_eq!(dev.packs.iter().map(|pack| pack.name.as_str()).collect::<Vec<_>>(), ["base", "uv"]);
    assert_eq!(dev.packs_on_start, PacksOnStart::Drift);
    assert_eq!(dev.user.as_deref(), Some("dev"));
    assert_eq!(dev.env["RUST_LOG"].parts(), [Part::Literal("info".into())]);
    assert_eq!(dev.env["TOKEN"].secrets().map(SecretName::as_str).collect::<Vec<_>>(), ["api-token"]);
    assert_eq!((dev.mounts[0].source.as_str(), dev.mounts[0].read_only), ("~/.cargo", true));
    assert_eq!(dev.host_paths, ["~/.rustup", "~/.cargo/bin"]);
    assert_eq!(dev.ports.iter().map(|port| port.port).collect::<Vec<_>>(), [8080, 3000]);
    assert_eq!(dev.limits.memory, Some(ByteSize(2 << 30)));
    assert_eq!((dev.limits.cpus, dev.limits.pids), (Some(1.5), Some(512)));
    assert_eq!(dev.hooks.len(), HookName::ALL.len());

    assert_eq!(manifest.alerts.webhook.as_ref().unwrap().secrets().count(), 1);
    assert_eq!(manifest.alerts.command.as_ref().unwrap(), &["notify", "--urgent"]);

    let images = ["image", "rootfs"].map(|name| manifest.envs[&UnitName::new(name).unwrap()].base.clone());
    assert_eq!(images[0], Base::Image { reference: "debian:bookworm".into() });
    assert_eq!(images[1], Base::Rootfs { path: "images/root.tar".into() });
}

#[test]
fn a_hook_is_a_script_a_shell_command_an_argv_or_several_side_by_side() {
    let manifest = good(&[("setpoint.toml", EVERYTHING)]);
    let hooks = &dev(&manifest).hooks;
    let run = |name| &hooks[&name].run;
    assert_eq!(run(HookName::OnCreate), &Run::One(Command::Script { path: ".setpoint/on-create.sh".into() }));
    assert_eq!(run(HookName::PostCreate), &Run::One(Command::Shell { text: "npm run db:seed".into() }));
    assert_eq!(
        run(HookName::PostStart),
        &Run::One(Command::Argv { argv: vec!["ssh-add".into(), "-l".into()] })
    );
    let Run::Parallel(parts) = run(HookName::PostAttach) else { panic!("not parallel") };
    assert_eq!(parts["banner"], Command::Shell { text: "cat MOTD".into() });
    assert_eq!(parts["warm"], Command::Script { path: "ci/warm.sh".into() });
    assert!(hooks[&HookName::PostAttach].always);

    let update = &hooks[&HookName::UpdateContent];
    assert_eq!(update.inputs, ["package-lock.json", "src/**"]);
    assert_eq!(update.timeout, Some(Duration::from_secs(600)));
    assert_eq!(update.when_changed, WhenChanged::Recreate);
    assert_eq!(update.user.as_deref(), Some("root"));
    assert_eq!(update.env["CI"].to_string(), "true");
    assert_eq!(update.at.line, 47);
}

#[test]
fn tables_merge_lists_replace_and_the_last_word_is_that_of_the_command_line() {
    let base = "setpoint = 1\n[env.dev]\npacks = [\"base\", \"uv\"]\nenv = { A = \"1\", B = \"1\" }\nuser = \"dev\"\n";
    let local = "[env.dev]\npacks = [\"uv\"]\nenv = { B = \"2\" }\nlimits.memory = \"512m\"\n";
    let set = set_layer("env.dev.user=root").unwrap();
    let manifest =
        good(&[("setpoint.toml", base), ("setpoint.local.toml", local), ("--set env.dev.user=root", &set)]);
    let dev = dev(&manifest);
    assert_eq!(dev.packs.len(), 1);
    assert_eq!(dev.packs[0].at.to_string(), "setpoint.local.toml:2:10");
    assert_eq!((dev.env["A"].to_string(), dev.env["B"].to_string()), ("1".into(), "2".into()));
    assert_eq!(dev.limits.memory, Some(ByteSize(512 << 20)));
    assert_eq!(dev.user.as_deref(), Some("root"));
    assert_eq!(dev.at.file, "setpoint.toml");
}

#[test]
fn the_single_script_of_older_projects_is_post_create_and_says_so() {
    let manifest = read("setpoint = 1\n[env.dev]\n[scripts]\nprovision = \".tart/provision.sh\"\n").unwrap();
    let hook = &dev(&manifest).hooks[&HookName::PostCreate];
    assert_eq!(hook.run, Run::One(Command::Script { path: ".tart/provision.sh".into() }));
    assert_eq!(manifest.notes.len(), 1);
    assert_eq!(manifest.notes[0].at.to_string(), "setpoint.toml:4:1");
    assert!(manifest.notes[0].text.contains("post_create"), "{}", manifest.notes[0].text);
}

#[test]
fn a_file_that_must_exist_is_told_with_the_nearest_that_does() {
    let manifest = good(&[("setpoint.toml", EVERYTHING)]);
    let needed = dev(&manifest).files_that_must_exist();
    let paths: Vec<&str> = needed.iter().map(|file| file.path.as_str()).collect();
    let expected = [
        ".setpoint/packs/base.sh",
        ".setpoint/packs/uv.sh",
        ".setpoint/on-create.sh",
        "ci/warm.sh",
        ".setpoint/verify.sh",
    ];
    assert_eq!(paths, expected);
    let rootfs = manifest.envs[&UnitName::new("rootfs").unwrap()].files_that_must_exist();
    assert_eq!(rootfs[0].path, "images/root.tar");

    let problem = |file: usize, existing: &[&str]| Problem::missing_file(&needed[file], existing).to_string();
    assert_eq!(
        problem(0, &[".setpoint/packs/bsae.sh", ".setpoint/packs/node.sh"]),
        "error: the script of the pack `base` is missing: `.setpoint/packs/base.sh`
  at setpoint.toml:18:10
  18 | packs = [\"base\", \"uv\"]
     |          ^^^^^^
  hint: did you mean `bsae`?"
    );
    assert!(problem(2, &[".setpoint/oncreate.sh"]).ends_with("hint: did you mean `.setpoint/oncreate.sh`?"));
    assert!(problem(1, &["node.sh", "go.sh"]).ends_with("take a pack that is there: node, go"));
    assert!(problem(1, &[]).ends_with("take the pack out of the list"));
}

#[test]
fn problems_are_told_to_programs_too() {
    let problems = read("setpoint = 1\n[env.dev]\npakcs = []\n").unwrap_err();
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(json[0]["code"], "unknown-key");
    assert_eq!(json[0]["at"]["line"], 3);
    assert_eq!(json[0]["hint"], "did you mean `packs`?");
}

#[test]
fn the_least_noise_after_a_mistake() {
    let codes = |text: &str| read(text).unwrap_err().iter().map(|problem| problem.code).collect::<Vec<_>>();
    // A secret that is declared, if badly, is declared.
    let text = "setpoint = 1\n[secret.a]\nfil = \"x\"\n[env.dev]\nenv = { A = \"${secret.a}\" }\n";
    assert_eq!(codes(text), ["unknown-key"]);
    // A hook whose command is of the wrong type does not also run nothing.
    let text = "setpoint = 1\n[env.dev.hooks]\nverify = { run = 1 }\n[project]\nup = [\"dev\"]\n";
    assert_eq!(codes(text), ["wrong-type"]);
    // An environment that cannot be read is still there.
    assert_eq!(codes("setpoint = 1\nenv.dev = 1\nproject.up = [\"dev\"]\n"), ["wrong-type"]);
}

/// Values of every kind, good and bad, for keys of every kind.
const VALUES: &[&str] = &[
    "1",
    "0",
    "-1",
    "1.5",
    "true",
    "\"\"",
    "\"dev\"",
    "\"host\"",
    "\"a b\"",
    "\"/x\"",
    "\"~/x\"",
    "\"../x\"",
    "\"2GiB\"",
    "\"10m\"",
    "\"8080\"",
    "\"${secret.a}\"",
    "\"${\"",
    "[]",
    "[\"uv\"]",
    "[1]",
    "[[]]",
    "[{}]",
    "[{ source = \"a\", target = \"/a\" }]",
    "{}",
    "{ run = \"x\" }",
    "{ run = \"x\", inputs = [\"*\"] }",
    "{ parallel = { a = \"x\" } }",
    "{ env = \"A\" }",
    "{ memory = \"1g\", pids = 0 }",
    "1979-05-27",
    "nan",
];

const PLACES: &[&str] = &[
    "setpoint",
    "project",
    "project.name",
    "project.version",
    "project.up",
    "engine",
    "engine.default",
    "secret",
    "secret.a",
    "secret.a.env",
    "secret.a.command",
    "secret.a.generate",
    "env",
    "env.dev",
    "env.dev.base",
    "env.dev.image",
    "env.dev.build",
    "env.dev.rootfs",
    "env.dev.packs",
    "env.dev.packs_on_start",
    "env.dev.workspace",
    "env.dev.user",
    "env.dev.env",
    "env.dev.env.A",
    "env.dev.mounts",
    "env.dev.host_paths",
    "env.dev.ports",
    "env.dev.limits",
    "env.dev.limits.cpus",
    "env.dev.limits.memory",
    "env.dev.network",
    "env.dev.hooks",
    "env.dev.hooks.verify",
    "env.dev.hooks.verify.run",
    "env.dev.hooks.verify.timeout",
    "env.dev.hooks.verify.parallel",
    "env.Bad",
    "env.dev.forward",
    "scripts",
    "scripts.provision",
    "pipeline",
    "strange",
    "env.dev.strange",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|\n|\t){0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn no_text_like_a_manifest_makes_it_panic(
        words in proptest::collection::vec(
            proptest::sample::select(&[
                "setpoint", "=", "1", "\n", "[", "]", "env", ".", "dev", "packs", "\"", "'", "{", "}", ",", "#", "hooks",
                "${secret.a}", "é", "\r\n", "\"\"\"", "\\", "\u{feff}", "run",
            ][..]), 0..40)
    ) {
        let text = words.concat();
        for problem in read(&text).err().into_iter().flatten() {
            let at = problem.at.as_ref().unwrap();
            prop_assert!(at.line as usize <= text.lines().count().max(1) + 1);
            prop_assert!(!problem.to_string().is_empty());
        }
    }

    #[test]
    fn reading_and_the_schema_never_disagree(
        layers in proptest::collection::vec(
            (proptest::sample::select(PLACES), proptest::sample::select(VALUES)), 0..8)
    ) {
        let mut texts = vec!["setpoint = 1\n[env.dev]\n".to_owned()];
        texts.extend(layers.iter().map(|(place, value)| format!("{place} = {value}\n")));
        let layers: Vec<Layer<'_>> = texts.iter().map(|text| Layer { name: "layer", text }).collect();
        if let Err(problems) = parse(&layers, "shop") {
            prop_assert!(!problems.is_empty());
            let unreadable = problems.iter().find(|problem| problem.code == "unreadable");
            prop_assert!(unreadable.is_none(), "{}", told(&problems));
        }
    }

    #[test]
    fn what_is_cut_off_is_told_and_never_a_panic(at in 0..EVERYTHING.len()) {
        if EVERYTHING.is_char_boundary(at) {
            let _ = read(&EVERYTHING[..at]);
        }
    }
}
