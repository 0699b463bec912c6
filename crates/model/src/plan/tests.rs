//! The plan's rules, as a golden table and as properties.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::fingerprint::{Leaf, Pack};

const INSTANCE: &str = "i-1";
const SAME_IMAGE: &str = "rebuild, to the same image";

/// An environment with everything: a leaf of each class, two packs, every hook.
fn desired() -> Desired {
    let mut fingerprint = Fingerprint::default();
    fingerprint.insert_value("env.dev.base", Class::Recreate, "host");
    fingerprint.insert_value("Dockerfile", Class::Rebuild, "FROM debian");
    fingerprint.insert_value("env.dev.mounts /data", Class::Restart, "~/data");
    fingerprint.insert_value("env.dev.env.A", Class::Hot, "1");
    for name in ["one", "two"] {
        let name = PackName::new(name).unwrap();
        let digest = Digest::of_bytes(b"script");
        let key = LeafKey::owned(format!(".setpoint/packs/{name}.sh"), pack_owner(&name));
        fingerprint.insert(key, Leaf { class: Class::Packs, digest, shown: None });
        fingerprint.packs.push(Pack { name, digest });
    }
    for hook in HookName::ALL {
        fingerprint.insert_value(format!("env.dev.hooks.{hook}"), Class::Hook(hook), "true");
    }
    Desired {
        unit: UnitName::new("dev").unwrap(),
        fingerprint,
        unresolved: BTreeSet::new(),
        hooks: HookName::ALL.into_iter().map(|hook| (hook, DesiredHook::default())).collect(),
        base_digest: LeafKey::new("env.dev.base digest"),
        first_boot: Vec::new(),
        packs_at_start: true,
        secrets_class: Class::Hot,
        incomplete: false,
    }
}

/// The record after a successful apply of `desired`.
fn applied(desired: &Desired, instance: &str) -> Recorded {
    let phase = RecordedPhase { instance: instance.to_owned(), outcome: PhaseOutcome::Succeeded };
    Recorded {
        fingerprint: desired.fingerprint.clone(),
        phases: desired.hooks.keys().map(|hook| (*hook, phase.clone())).collect(),
        first_boot: BTreeMap::new(),
    }
}

fn change(desired: &mut Desired, class: Class) {
    let (key, leaf) =
        desired.fingerprint.of_class(class).next().map(|(k, l)| (k.clone(), l.clone())).unwrap();
    let digest = Digest::of_bytes(b"changed");
    if class == Class::Packs {
        desired.fingerprint.packs[0].digest = digest;
    }
    desired.fingerprint.insert(key, Leaf { digest, ..leaf });
}

fn running() -> Observed {
    Observed::Running { instance: INSTANCE.to_owned() }
}

fn stopped() -> Observed {
    Observed::Stopped { instance: INSTANCE.to_owned() }
}

fn words(plan: &Plan) -> String {
    let words: Vec<String> = plan
        .steps
        .iter()
        .map(|planned| match &planned.step {
            Step::Pack(index) => format!("pack{index}"),
            Step::Hook(hook) => hook.to_string(),
            step => format!("{step:?}").to_uppercase(),
        })
        .collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

#[test]
fn the_action_matrix_is_as_documented() {
    let classes: Vec<(String, Option<Class>)> = std::iter::once(("nothing".to_owned(), None))
        .chain([Class::Hot, Class::Packs, Class::Restart].map(|c| (c.to_text(), Some(c))))
        .chain([(SAME_IMAGE.to_owned(), Some(Class::Rebuild))])
        .chain([Class::Rebuild, Class::Recreate].map(|c| (c.to_text(), Some(c))))
        .chain(HookName::ALL.map(|hook| (Class::Hook(hook).to_text(), Some(Class::Hook(hook)))))
        .collect();
    let mut table = String::from(
        "# The plan, as a table\n\nMade from `model::plan`: what is done, by what the engine says and by what \
         differs. `ENGINE STEPS` are in capitals.\n\n| observed | what differs | action | steps, in order |\n|---|---|---|---|\n",
    );
    for (told, observed) in [("absent", Observed::Absent), ("stopped", stopped()), ("running", running())] {
        for (label, class) in &classes {
            let mut declared = desired();
            let recorded = applied(&declared, INSTANCE);
            if let Some(class) = class {
                change(&mut declared, *class);
            }
            if *class == Some(Class::Rebuild) && label != SAME_IMAGE {
                declared.unresolved.insert(declared.base_digest.clone());
            }
            let (plan, _) = plan(&declared, &recorded, &observed, &Options::default());
            let row = format!("| {told} | {label} | {:?} | {} |\n", plan.action, words(&plan));
            table.push_str(&row);
        }
    }
    let skip = Options { provision: Provision::Skip, ..Options::default() };
    let full = Options { provision: Provision::Full, ..Options::default() };
    let packs = Options { provision: Provision::Packs, ..Options::default() };
    let recreate = Options { recreate: true, ..Options::default() };
    table.push_str(
        "\n| command, on a running unit without drift | action | steps, in order |\n|---|---|---|\n",
    );
    for (told, options) in [
        ("up --no-provision", skip),
        ("up --recreate", recreate),
        ("reprovision", packs),
        ("reprovision --full", full),
    ] {
        let declared = desired();
        let (plan, _) = plan(&declared, &applied(&declared, INSTANCE), &running(), &options);
        table.push_str(&format!("| {told} | {:?} | {} |\n", plan.action, words(&plan)));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/plan.md");
    if std::env::var_os("SETPOINT_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let documented = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(documented, table, "run with SETPOINT_UPDATE_GOLDEN=1 to write docs/reference/plan.md anew");
}

fn steps_of(desired: &Desired, recorded: &Recorded, observed: &Observed) -> String {
    words(&plan(desired, recorded, observed, &Options::default()).0)
}

#[test]
fn a_hook_that_never_succeeded_runs_alone_and_post_attach_follows() {
    let declared = desired();
    for hook in HookName::ALL {
        let mut recorded = applied(&declared, INSTANCE);
        recorded.phases.remove(&hook);
        let expected = match hook {
            HookName::PostAttach => "post_attach".to_owned(),
            HookName::Verify => "verify".to_owned(),
            hook => format!("{hook} post_attach"),
        };
        assert_eq!(steps_of(&declared, &recorded, &running()), expected);
    }
}

#[test]
fn success_for_an_older_instance_does_not_count() {
    let declared = desired();
    let recorded = applied(&declared, "i-0");
    let told = steps_of(&declared, &recorded, &running());
    assert_eq!(told, "on_create update_content post_create post_start post_attach verify");
}

#[test]
fn an_unknown_hook_is_told_and_not_run() {
    let declared = desired();
    let mut recorded = applied(&declared, INSTANCE);
    recorded.phases.get_mut(&HookName::PostCreate).unwrap().outcome = PhaseOutcome::Unknown;
    let (plan, report) = plan(&declared, &recorded, &running(), &Options::default());
    assert!(plan.is_empty());
    assert_eq!(report.unknown, [HookName::PostCreate]);
}

#[test]
fn always_runs_at_every_up_and_is_no_drift() {
    let mut declared = desired();
    declared.hooks.insert(HookName::PostAttach, DesiredHook { always: true });
    let (plan, _) = plan(&declared, &applied(&declared, INSTANCE), &running(), &Options::default());
    assert_eq!(words(&plan), "post_attach");
    assert!(!plan.is_drift());
}

#[test]
fn a_removed_pack_at_the_end_changes_the_record_only() {
    let mut declared = desired();
    let recorded = applied(&declared, INSTANCE);
    let gone = declared.fingerprint.packs.pop().unwrap();
    let key = LeafKey::owned(format!(".setpoint/packs/{}.sh", gone.name), pack_owner(&gone.name));
    declared.fingerprint.remove(&key).unwrap();
    assert_eq!(steps_of(&declared, &recorded, &running()), "RECORD");
}

#[test]
fn packs_that_run_only_on_drift_are_skipped_at_a_start() {
    let mut declared = desired();
    declared.packs_at_start = false;
    let recorded = applied(&declared, INSTANCE);
    assert_eq!(steps_of(&declared, &recorded, &stopped()), "START post_start post_attach");
}

#[test]
fn a_pack_that_comes_after_a_stale_one_says_so() {
    let mut declared = desired();
    let recorded = applied(&declared, INSTANCE);
    change(&mut declared, Class::Packs);
    let (plan, _) = plan(&declared, &recorded, &running(), &Options::default());
    assert!(matches!(plan.find(&Step::Pack(0)).unwrap().cause, Cause::Drift(_)));
    assert!(matches!(plan.find(&Step::Pack(1)).unwrap().cause, Cause::AfterPack(_)));
}

#[test]
fn a_reprovision_of_one_thing_is_that_thing() {
    let declared = desired();
    let recorded = applied(&declared, INSTANCE);
    let only = |provision| {
        let options = Options { provision, ..Options::default() };
        words(&plan(&declared, &recorded, &running(), &options).0)
    };
    assert_eq!(only(Provision::Pack(PackName::new("two").unwrap())), "pack1");
    assert_eq!(only(Provision::Hook(HookName::PostCreate)), "post_create");
}

#[test]
fn every_cause_is_told_in_words() {
    let declared = desired();
    for observed in [Observed::Absent, stopped(), running()] {
        let (plan, _) = plan(&declared, &Recorded::default(), &observed, &Options::default());
        for planned in &plan.steps {
            assert!(!crate::explain::because(planned).is_empty());
            assert!(!crate::explain::describe(&declared, &planned.step).is_empty());
        }
    }
}

fn any_class() -> impl Strategy<Value = Class> {
    let mut all = vec![Class::Hot, Class::Packs, Class::Restart, Class::Recreate, Class::Report];
    all.extend(HookName::ALL.map(Class::Hook));
    proptest::sample::select(all)
}

proptest! {
    /// After a successful apply, planning gives the empty plan, whatever had changed before.
    #[test]
    fn planning_after_success_is_empty(changed in proptest::collection::vec(any_class(), 0..4)) {
        let mut declared = desired();
        for class in changed.into_iter().filter(|class| *class != Class::Report) {
            change(&mut declared, class);
        }
        let (plan, report) = plan(&declared, &applied(&declared, INSTANCE), &running(), &Options::default());
        prop_assert!(plan.is_empty());
        prop_assert!(report.differences.is_empty() && report.pending.is_empty());
    }

    /// Each difference is told, and each leads to a step that a dearer one cannot make unneeded.
    #[test]
    fn every_difference_is_named_and_answered(changed in proptest::collection::btree_set(any_class(), 1..5)) {
        let mut declared = desired();
        let recorded = applied(&declared, INSTANCE);
        let changed: Vec<_> = changed.into_iter().filter(|class| *class != Class::Report).collect();
        for class in &changed {
            change(&mut declared, *class);
        }
        let (plan, report) = plan(&declared, &recorded, &running(), &Options::default());
        let told: BTreeMap<_, _> = report.differences.iter().map(|d| (d.class, d.key.clone())).collect();
        prop_assert_eq!(told.len(), changed.len());
        prop_assert_eq!(plan.is_empty(), changed.is_empty());
        let dearest = changed.iter().max();
        let expected = match dearest {
            Some(Class::Recreate) => Action::Recreate,
            Some(Class::Restart) => Action::UpdateMountAndRestart,
            _ => Action::Nothing,
        };
        prop_assert_eq!(plan.action, expected);
    }

    /// A reprovision and `--no-provision` keep to their own: no phase in the one, no engine step in the other.
    #[test]
    fn options_bound_the_plan(changed in proptest::collection::btree_set(any_class(), 0..5)) {
        let mut declared = desired();
        let recorded = applied(&declared, INSTANCE);
        for class in changed.into_iter().filter(|class| *class != Class::Report) {
            change(&mut declared, class);
        }
        let with = |provision| plan(&declared, &recorded, &running(), &Options { provision, ..Options::default() }).0;
        for planned in with(Provision::Skip).steps {
            prop_assert!(!matches!(planned.step, Step::Pack(_) | Step::Hook(_) | Step::Record));
        }
        for planned in with(Provision::Full).steps {
            prop_assert!(matches!(planned.step, Step::Pack(_) | Step::Hook(_)));
        }
    }
}

#[test]
fn a_first_boot_is_done_once_for_its_data() {
    let mut desired = desired();
    desired.first_boot = vec![("seed".to_owned(), None), ("told".to_owned(), Some("./tell".to_owned()))];
    let running = Observed::Running { instance: "i-1".to_owned() };
    let steps = |recorded: &Recorded, observed: &Observed, options: &Options| -> Vec<Step> {
        let (plan, report) = plan(&desired, recorded, observed, options);
        let steps: Vec<Step> = plan.steps.into_iter().map(|planned| planned.step).collect();
        let booted = steps.iter().filter(|step| matches!(step, Step::FirstBoot(_))).count();
        assert!(booted == 0 || booted == report.first_boot.len());
        steps
    };
    let (needed, anew) = (Options::default(), Options { recreate: true, ..Options::default() });
    let mut recorded = applied(&desired, "i-1");
    assert_eq!(steps(&recorded, &running, &needed)[..2], [Step::FirstBoot(0), Step::FirstBoot(1)]);
    let skipped = Options { provision: Provision::Skip, ..Options::default() };
    assert_eq!(steps(&recorded, &running, &skipped), []);
    // One that failed is where the next one goes on.
    recorded.first_boot.insert("seed".to_owned(), HoldsFor::Instance);
    assert_eq!(steps(&recorded, &running, &needed)[0], Step::FirstBoot(1));
    recorded.first_boot.insert("told".to_owned(), HoldsFor::Volumes);
    assert_eq!(steps(&recorded, &running, &needed), []);
    let again = steps(&recorded, &running, &anew);
    assert!(again.contains(&Step::FirstBoot(0)) && !again.contains(&Step::FirstBoot(1)), "{again:?}");
    let at = |step: &Step| again.iter().position(|one| one == step);
    assert!(at(&Step::Start) < at(&Step::FirstBoot(0)));
    assert!(at(&Step::FirstBoot(0)) < at(&Step::Hook(HookName::PostCreate)));
}
