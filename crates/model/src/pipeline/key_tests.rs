use proptest::prelude::*;

use super::*;
use crate::manifest::{EnvValue, Network};
use crate::pipeline::ir::{EitherInput, Input, When};

fn name(text: &str) -> StepName {
    StepName::new(text).unwrap()
}

fn step() -> Step {
    let mut step = Step::new(name("test"), Run::Shell("make test".to_owned()));
    step.env.insert("CI".to_owned(), EnvValue::try_from("true".to_owned()).unwrap());
    step
}

fn unit(text: &str) -> UnitName {
    UnitName::new(text).unwrap()
}

fn service(image: &str) -> Fingerprint {
    let mut leaves = Fingerprint::default();
    leaves.insert_value("image", Class::Recreate, image);
    leaves
}

fn digest(text: &str) -> Digest {
    Digest::of_bytes(text.as_bytes())
}

fn surroundings() -> Surroundings {
    Surroundings {
        engine: "embedded 1".to_owned(),
        platform: "linux/x86_64".to_owned(),
        base: Base::Host(BTreeMap::from([("packages".to_owned(), digest("p"))])),
        take: vec![(name("a"), digest("a")), (name("b"), digest("b"))],
        source: digest("source"),
        host_paths: BTreeMap::new(),
        services: BTreeMap::new(),
    }
}

/// Whatever a step can see: a change of one of these is a change of the key.
fn visible() -> Vec<(&'static str, fn(&mut Step, &mut Surroundings))> {
    vec![
        ("command", |step, _| step.run = Run::Shell("make tests".to_owned())),
        ("argv instead of shell", |step, _| step.run = Run::Argv(vec!["make".to_owned(), "test".to_owned()])),
        ("argv", |step, _| step.run = Run::Argv(vec!["make test".to_owned()])),
        ("a variable", |step, _| {
            step.env.insert("CI".to_owned(), EnvValue::try_from("false".to_owned()).unwrap());
        }),
        ("another variable", |step, _| {
            step.env.insert("MORE".to_owned(), EnvValue::try_from(String::new()).unwrap());
        }),
        ("no variable", |step, _| step.env.clear()),
        ("a secret", |step, _| {
            step.env.insert("CI".to_owned(), EnvValue::try_from("${secret.token}".to_owned()).unwrap());
        }),
        ("workdir", |step, _| step.workdir = Some("sub".to_owned())),
        ("user", |step, _| step.user = Some("dev".to_owned())),
        ("network", |step, _| step.network = Network::None),
        ("a shared folder", |step, _| step.cache_dirs.push("/root/.cache".to_owned())),
        ("outputs", |step, _| step.outputs = Some(vec!["dist/**".to_owned()])),
        ("what is handed out", |step, _| step.artifacts.push("dist/**".to_owned())),
        ("no outputs", |step, _| step.outputs = Some(Vec::new())),
        ("a predicate", |step, _| step.cache.push(CachePolicy::Predicate(Value::Int("1".to_owned())))),
        ("a predicate of another kind", |step, _| {
            step.cache.push(CachePolicy::Predicate(Value::Str("1".to_owned())));
        }),
        ("two predicates", |step, _| {
            step.cache.push(CachePolicy::Predicate(Value::Int("1".to_owned())));
            step.cache.push(CachePolicy::Predicate(Value::Int("2".to_owned())));
        }),
        ("a variable of forever", |step, _| {
            step.cache = vec![CachePolicy::Forever { env: BTreeMap::from([("V".to_owned(), None)]) }];
        }),
        ("the value of that variable", |step, _| {
            let env = BTreeMap::from([("V".to_owned(), Some(String::new()))]);
            step.cache = vec![CachePolicy::Forever { env }];
        }),
        ("the engine", |_, around| around.engine = "embedded 2".to_owned()),
        ("the platform", |_, around| around.platform = "linux/aarch64".to_owned()),
        ("the host", |_, around| {
            around.base = Base::Host(BTreeMap::from([("packages".to_owned(), digest("q"))]));
        }),
        ("an image", |_, around| {
            around.base = Base::Image { reference: "debian".to_owned(), digest: "sha256:1".to_owned() };
        }),
        ("another image", |_, around| {
            around.base = Base::Image { reference: "debian".to_owned(), digest: "sha256:2".to_owned() };
        }),
        ("a parent", |_, around| around.base = Base::Result { step: name("up"), id: digest("r1") }),
        ("another result of the parent", |_, around| {
            around.base = Base::Result { step: name("up"), id: digest("r2") };
        }),
        ("the source", |_, around| around.source = digest("edited")),
        ("what is taken", |_, around| around.take[0].1 = digest("a2")),
        ("the order of what is taken", |_, around| around.take.reverse()),
        ("nothing taken", |_, around| around.take.clear()),
        ("what is seen of homes", |_, around| {
            around.host_paths.insert("~/.rustup".to_owned(), digest("r"));
        }),
        ("a service", |step, _| step.services.push(unit("db"))),
        ("what a service is", |_, around| {
            around.services.insert(unit("db"), service("postgres:16"));
        }),
        ("another image of it", |_, around| {
            around.services.insert(unit("db"), service("postgres:17"));
        }),
        ("the same of another", |_, around| {
            around.services.insert(unit("cache"), service("postgres:16"));
        }),
    ]
}

/// What a step cannot see: a change of one of these is no change of the key.
fn invisible() -> Vec<(&'static str, fn(&mut Step, &mut Surroundings))> {
    vec![
        ("its name", |step, _| step.name = name("renamed")),
        ("order", |step, _| step.needs.push(name("other"))),
        ("more order", |step, _| step.after.push(name("other"))),
        ("how long it may take", |step, _| step.timeout_ms = Some(5)),
        ("tries", |step, _| step.retries = 3),
        ("how long its result is good for", |step, _| step.cache.push(CachePolicy::Ttl { ms: 5 })),
        ("whether it is kept", |step, _| step.cache = vec![CachePolicy::None]),
        ("how its inputs are written", |step, _| {
            step.inputs = Some(vec![Input::Either(EitherInput { glob: "**".to_owned(), optional: true })]);
        }),
        ("whether it is part of the run", |step, _| {
            step.when = When { event: vec!["push".to_owned()], ..When::default() };
        }),
        ("the workspace by its own name", |step, _| step.workdir = Some("/workspace".to_owned())),
        ("root by its own name", |step, _| step.user = Some("root".to_owned())),
    ]
}

fn changed(changes: &[fn(&mut Step, &mut Surroundings)]) -> Digest {
    let (mut step, mut surroundings) = (step(), surroundings());
    changes.iter().for_each(|change| change(&mut step, &mut surroundings));
    key(&step, &surroundings).digest()
}

#[test]
fn whatever_a_step_can_see_is_in_its_key() {
    let mut known = BTreeMap::from([(changed(&[]), "nothing")]);
    for (what, change) in visible() {
        if let Some(same) = known.insert(changed(&[change]), what) {
            panic!("a change of {what} has the key of {same}");
        }
    }
}

#[test]
fn whatever_a_step_cannot_see_is_not() {
    for (what, change) in invisible() {
        assert_eq!(changed(&[change]), changed(&[]), "{what}");
    }
}

#[test]
fn the_reference_of_an_image_is_shown_and_does_not_count() {
    let of = |reference: &str| {
        let base = Base::Image { reference: reference.to_owned(), digest: "sha256:1".to_owned() };
        key(&step(), &Surroundings { base, ..surroundings() })
    };
    assert_eq!(of("debian").digest(), of("debian:12").digest());
}

#[test]
fn a_key_has_all_its_256_bits() {
    assert_eq!(changed(&[]).to_hex().len(), 64);
}

proptest! {
    /// Any two sets of changes lead to the same key only if they lead to the same visible things.
    #[test]
    fn visible_changes_show_however_many_invisible_ones_are_around(
        seen in 0..30_usize, unseen in proptest::collection::vec(0..11_usize, 0..5)
    ) {
        let (visible, invisible) = (visible(), invisible());
        let hidden: Vec<_> = unseen.iter().filter_map(|at| invisible.get(*at)).collect();
        // What is not kept has no other policy: such a change may hide another one of the same field.
        prop_assume!(hidden.iter().all(|(what, _)| *what != "whether it is kept"));
        prop_assume!(hidden.iter().all(|(what, _)| !what.contains("own name")));
        let (_, change) = visible[seen % visible.len()];
        let mut all: Vec<_> = hidden.iter().map(|(_, change)| *change).collect();
        all.push(change);
        prop_assert_ne!(changed(&all), changed(&[]));
    }

    /// Fields never run into each other, whatever stands in them.
    #[test]
    fn texts_cannot_imitate_each_other(a in ".{0,12}", b in ".{0,12}") {
        let with = |run: &str, value: &str| {
            let mut step = step();
            step.run = Run::Shell(run.to_owned());
            let text = value.replace(['$', '\0'], "");
            step.env.insert("A".to_owned(), EnvValue::try_from(text).unwrap());
            key(&step, &surroundings()).digest()
        };
        prop_assert_eq!(with(&a, &b) == with(&b, &a), a == b);
    }
}
