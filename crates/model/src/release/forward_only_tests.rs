//! What runs only when a change is committed, and leads forward only.

use super::fixtures::{change, copy, part, planned};
use super::ledger::{
    Applied, Data, Due, NO_VOLUME, Planned, Progress, Standing, Touched, due, standing, unfinished,
};
use super::migration::{Defaults, Migration, MigrationError, Stage};
use super::*;

const HEAD: &str = "# setpoint: in = \"db\"\n# setpoint: stage = \"forward_only\"\n";

fn parse(head: &str) -> Result<Migration, MigrationError> {
    let path = "migrations/1.0.0/2-drop.sh";
    Migration::parse(path, head, "c0ffee".to_owned(), &Defaults::default()).map(Option::unwrap)
}

fn repeatable() -> Migration {
    parse(&format!("{HEAD}# setpoint: idempotent = true\n")).unwrap()
}

/// An upgrade of what has data, with one that runs before the commit and one that runs after it.
fn upgrade() -> Upgrade {
    Upgrade {
        lane: Lane::Breaking,
        parts: vec![part("db")],
        copies: vec![copy("data", "db", 1)],
        migrations: vec![
            planned("1.0.0/1-add", "db", Stage::Post, &["data"]),
            planned("1.0.0/2-drop", "db", Stage::ForwardOnly, &["data"]),
        ],
        ..change()
    }
}

#[test]
fn it_says_that_it_may_be_repeated_and_nothing_takes_it_back() {
    assert_eq!(repeatable().stage, Stage::ForwardOnly);
    let error = parse(HEAD).unwrap_err().to_string();
    assert!(error.contains("1.0.0/2-drop.sh:2:") && error.contains("`idempotent = true`"), "{error}");
    let host = "# setpoint: in = \"host\"\n# setpoint: stage = \"forward_only\"\n# setpoint: idempotent = true\n\
                # setpoint: paths = [\"/srv\"]\n# setpoint: check = \"true\"\n";
    assert!(parse(host).unwrap_err().to_string().contains("not `forward_only`"));
    let down = "migrations/1.0.0/2-drop.down.sh";
    let error = repeatable().add_down(down, "", String::new(), &Defaults::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("{down}:1: nothing takes 1.0.0/2-drop back: it is `forward_only`"));
}

#[test]
fn it_runs_after_the_new_version_has_stayed_well() {
    let steps: Vec<String> = upgrade().steps().iter().map(ToString::to_string).collect();
    let at = |step: &str| steps.iter().position(|known| known == step).unwrap();
    assert!(at("verify db") < at("migrate 1.0.0/1-add") && at("migrate 1.0.0/1-add") < at("commit"));
    assert_eq!(steps[at("bake")..], ["bake", "migrate 1.0.0/2-drop", "clean"]);
    assert_eq!(steps.iter().filter(|step| *step == "migrate 1.0.0/2-drop").count(), 1);
}

#[test]
fn it_stays_due_where_the_change_was_cut_off() {
    let upgrade = upgrade();
    let Decision::RollForward(steps) = recover(&upgrade, &upgrade.steps(), 1) else { panic!() };
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["publish db", "bake", "clean"]);
}

#[test]
fn nothing_that_runs_before_the_commit_comes_after_it() {
    let mut upgrade = upgrade();
    assert_eq!(upgrade.check_order(), Ok(()));
    upgrade.migrations.push(planned("1.1.0/1-more", "db", Stage::ForwardOnly, &["data"]));
    assert_eq!(upgrade.check_order(), Ok(()));
    upgrade.migrations.push(planned("1.1.0/2-add", "db", Stage::Pre, &["data"]));
    let error = upgrade.check_order().unwrap_err().to_string();
    assert_eq!(error, "1.1.0/2-add comes after 1.0.0/2-drop, which runs only after the commit");
}

#[test]
fn on_a_copy_it_comes_before_what_does_not_lead_forward_only() {
    let later = "# setpoint: in = \"db\"\n# setpoint: idempotent = true\n";
    let later = Migration::parse("migrations/1.1.0/1-add.sh", later, String::new(), &Defaults::default());
    let later = later.unwrap().unwrap();
    let stages = |declared: &[&Migration], lane: Lane, touches: &str| {
        let touched = Touched { is_there: true, version: Version::parse("0.9.0").ok(), ..Touched::default() };
        let volumes = [(touches.to_owned(), touched)].into();
        let declared: Vec<_> =
            declared.iter().map(|&migration| (migration.clone(), vec![touches.to_owned()])).collect();
        let planned = due(&declared, &Data { volumes, lane, baseline: None }).unwrap();
        planned.into_iter().map(|planned: Planned| planned.stage).collect::<Vec<_>>()
    };
    let (own, both) = ([&repeatable()], [&repeatable(), &later]);
    // Both run on the copy: the service starts for the one, and again after the other.
    let migrations = vec![
        planned("1.0.0/2-drop", "db", Stage::Post, &["data"]),
        planned("1.1.0/1-add", "db", Stage::Pre, &["data"]),
    ];
    assert_eq!(Upgrade { migrations, ..upgrade() }.check_order(), Ok(()));
    assert_eq!(stages(&own, Lane::Breaking, "data"), [Stage::ForwardOnly]);
    assert_eq!(stages(&both, Lane::Breaking, "data"), [Stage::Post, Stage::Pre]);
    assert_eq!(stages(&both, Lane::Compatible, "data"), [Stage::ForwardOnly, Stage::Pre]);
    assert_eq!(stages(&both, Lane::Breaking, NO_VOLUME), [Stage::ForwardOnly, Stage::Pre]);
}

#[test]
fn what_was_to_run_when_its_version_came_stays_due() {
    let asked =
        parse(&format!("{HEAD}# setpoint: idempotent = true\n# setpoint: check = \"true\"\n")).unwrap();
    for (migration, wanted) in [(repeatable(), Due::Run), (asked, Due::Ask)] {
        let applied = |progress| {
            // It may be mended as long as it has not ended.
            let was = Applied { id: migration.id.clone(), sha256: "other".to_owned(), progress };
            let (version, is_there) = (Version::parse("1.0.0").ok(), true);
            let touched = Touched { is_there, version, applied: vec![was] };
            let volumes = [("data".to_owned(), touched)].into();
            Data { volumes, lane: Lane::Compatible, baseline: None }
        };
        let declared = [(migration.clone(), vec!["data".to_owned()])];
        let of = |progress| standing(&migration, &declared[0].1, &applied(progress));
        assert_eq!(of(Progress::Awaited), Ok(Standing::Due(wanted)));
        assert_eq!(of(Progress::Begun), Ok(Standing::Due(Due::Run)));
        assert!(of(Progress::Done).is_err());
        assert_eq!(unfinished(&declared, &applied(Progress::Awaited)), [&migration.id]);
        // A version before, which does not know it, finds nothing that it had to know.
        assert_eq!(due(&[], &applied(Progress::Awaited)), Ok(Vec::new()));
    }
}

#[test]
fn running_it_again_pushes_out_no_earlier_generation() {
    let again = Upgrade { parts: Vec::new(), copies: Vec::new(), ..upgrade() };
    let again = Upgrade { migrations: again.migrations[1..].to_vec(), ..again };
    let steps: Vec<String> = again.steps().iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["steady", "commit", "bake", "migrate 1.0.0/2-drop"]);
    assert!(again.only_leads_forward() && !upgrade().only_leads_forward());
    // A version that brings nothing else is one all the same.
    let new = Active { version: Some("1.1.0".to_owned()), ..again.to.clone() };
    assert!(!Upgrade { to: new, ..again }.only_leads_forward());
}

#[test]
fn the_data_of_before_leads_back_where_all_that_it_touches_was_copied() {
    let mut upgrade = upgrade();
    assert_eq!(upgrade.point_of_no_return(), None);
    upgrade.migrations[1].touches.push("other".to_owned());
    assert_eq!(upgrade.point_of_no_return().unwrap().to_string(), "1.0.0/2-drop");
}
