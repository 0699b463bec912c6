use super::Active;
use super::ledger::{
    Applied, Data, Due, NO_VOLUME, ON_HOST, Planned, Progress, Standing, Touched, due, standing, unfinished,
    wrong,
};
use super::migration::{Defaults, File, Migration, MigrationError, MigrationId, Place, Stage};
use super::upgrade::Lane;
use super::version::Version;
use crate::names::UnitName;

fn id(text: &str) -> MigrationId {
    MigrationId::try_from(text.to_owned()).unwrap()
}

fn parse(path: &str, text: &str, defaults: &Defaults) -> Result<Option<Migration>, MigrationError> {
    Migration::parse(path, text, "c0ffee".to_owned(), defaults)
}

/// A migration in `db`, whose checksum is its name, and which touches `data`.
fn migration(text: &str) -> (Migration, Vec<String>) {
    let path = format!("migrations/{text}.sh");
    let found = Migration::parse(&path, "# setpoint: in = \"db\"\n", text.to_owned(), &Defaults::default());
    (found.unwrap().unwrap(), vec!["data".to_owned()])
}

fn applied(text: &str, progress: Progress) -> Applied {
    Applied { id: id(text), sha256: text.to_owned(), progress }
}

/// Data that is there, with this ledger.
fn data(done: &[&str]) -> Data<'static> {
    let applied = done.iter().map(|text| applied(text, Progress::Done)).collect();
    let volumes = [("data".to_owned(), Touched { is_there: true, applied, version: None })].into();
    Data { volumes, lane: Lane::Breaking, baseline: None }
}

fn names(planned: &[Planned]) -> Vec<(String, Due)> {
    planned.iter().map(|planned| (planned.id.to_string(), planned.due)).collect()
}

#[test]
fn a_path_says_version_place_and_name() {
    for (path, is_down) in [("10-orders-by-day.sql", false), ("10-orders-by-day.down.sql", true)] {
        let path = format!("migrations/v0.4.0/{path}");
        let found = File::of(&path).unwrap().unwrap();
        let said = (found.id.to_string(), found.ending, found.is_down);
        assert_eq!(said, ("0.4.0/10-orders-by-day".to_owned(), "sql", is_down));
    }
    assert!(id("0.4.0/2-b") < id("0.4.0/10-a") && id("0.9.0/1-a") < id("0.10.0/1-a"));
    for elsewhere in
        ["migrations/0001_initial.py", "migrations/x/1-a.sql", "src/0.4.0/1-a.sql", "migrations/0.4.0/.keep"]
    {
        assert_eq!(File::of(elsewhere), Ok(None), "{elsewhere}");
    }
    for bad in ["a.sql", "1.sql", "1-a", "x/1-a.sh", "1-a b.sh", "1-a.up.sh", "1-.down.sh", "-1-a.sh"] {
        let path = format!("migrations/0.4.0/{bad}");
        let found = File::of(&path);
        assert!(matches!(found, Err(MigrationError::Path { .. })), "{bad}");
    }
}

#[test]
fn a_head_says_how_it_runs() {
    let text = "#!/bin/sh\n# Orders.\n# setpoint: in = \"web\"\n# setpoint: idempotent = true\n\necho\n# setpoint: in = \"no\"\n";
    let read = parse("migrations/1.0.0/1-a.sh", text, &Defaults::default()).unwrap().unwrap();
    let web = Place::Service(UnitName::new("web").unwrap());
    assert_eq!((read.r#in, read.idempotent, read.stage), (web, true, Stage::Pre));
    assert_eq!(read.run, ["/bin/sh"]);
    let defaults = Defaults {
        r#in: Some(UnitName::new("db").unwrap()),
        stage: Some(Stage::Post),
        run: [("sql".to_owned(), vec!["psql".to_owned(), "-f".to_owned()])].into(),
        ..Defaults::default()
    };
    let sql = |text: &str| parse("migrations/1.0.0/1-a.sql", text, &defaults);
    let read = sql("-- setpoint: check = \"test -e /x\"\n-- setpoint: timeout = \"5s\"\nSELECT 1;\n")
        .unwrap()
        .unwrap();
    assert_eq!((read.run.join(" "), read.stage), ("psql -f".to_owned(), Stage::Post));
    assert_eq!(
        (read.check.unwrap().join(" "), read.timeout.as_secs()),
        ("/bin/sh -c test -e /x".to_owned(), 5)
    );
    for (text, says) in [
        ("-- setpoint: inn = 1\n", "unknown field"),
        ("-- setpoint: in = \"X\"\n", "lower-case"),
        ("-- setpoint: timeout = \"5\"\n", "not a duration"),
        ("-- setpoint: stage = \"now\"\n", "unknown variant"),
        ("-- setpoint: check = []\n", "no program"),
    ] {
        let error = sql(text).unwrap_err().to_string();
        assert!(error.contains(says) && error.starts_with("migrations/1.0.0/1-a.sql:1:"), "{error}");
    }
    let nobody = parse("migrations/1.0.0/1-a.sql", "", &Defaults::default());
    assert!(nobody.unwrap_err().to_string().contains("in which service"));
}

#[test]
fn what_runs_on_the_host_says_what_it_changes_and_how_that_is_told() {
    // What is said of all of them is of services, whatever they are called.
    let defaults = Defaults {
        r#in: Some(UnitName::new("host").unwrap()),
        stage: Some(Stage::Post),
        ..Defaults::default()
    };
    let head = |lines: &[&str]| {
        let text: String = lines.iter().map(|line| format!("# setpoint: {line}\n")).collect();
        parse("migrations/1.0.0/1-a.sh", &text, &defaults).map(Option::unwrap)
    };
    let (host, paths, check) = ("in = \"host\"", "paths = [\"./conf/\", \"/srv/x\"]", "check = \"true\"");
    let read = head(&[host, paths, check]).unwrap();
    assert_eq!((read.r#in.paths(), read.stage), (&["conf".to_owned(), "/srv/x".to_owned()][..], Stage::Pre));
    assert_eq!(head(&[host, paths, check, "stage = \"post\""]).unwrap().stage, Stage::Post);
    let service = head(&[]).unwrap();
    assert_eq!((service.r#in.service(), service.stage), (defaults.r#in.as_ref(), Stage::Post));
    for (lines, says) in [
        (&[host, check][..], "`paths`"),
        (&[host, "paths = []", check], "names nothing"),
        (&[host, "paths = [\"../x\"]", check], "`../x` cannot be saved: it has a `..`"),
        (&[host, paths], "`check`"),
        (&[host, paths, check, "touches = [\"data\"]"], "`touches`"),
        (&[host, paths, check, "user = \"root\""], "`user`"),
        (&["in = \"db\"", paths], "only what runs on the host"),
        (&[paths], "only what runs on the host"),
    ] {
        let error = head(lines).unwrap_err().to_string();
        assert!(error.contains(says), "{lines:?}: {error}");
    }
}

#[test]
fn what_runs_on_the_host_is_asked_where_nothing_tells_of_it_and_may_run_on_shared_data() {
    let text = "# setpoint: in = \"host\"\n# setpoint: paths = [\"/srv\"]\n# setpoint: check = \"true\"\n";
    let of = |path: &str| parse(path, text, &Defaults::default()).unwrap().unwrap();
    let declared = [(of("migrations/0.2.0/1-a.sh"), vec![ON_HOST.to_owned()])];
    let (old, new) = (Version::parse("0.1.0").unwrap(), Version::parse("0.2.0").unwrap());
    let on = |version: Option<&Version>, baseline, applied: &[Applied]| {
        let (version, applied) = (version.cloned(), applied.to_vec());
        let volumes = [(ON_HOST.to_owned(), Touched { is_there: true, applied, version })].into();
        due(&declared, &Data { volumes, lane: Lane::Compatible, baseline }).unwrap()
    };
    assert_eq!(names(&on(Some(&old), None, &[])), [("0.2.0/1-a".to_owned(), Due::Run)]);
    for (version, baseline) in [(None, None), (None, Some(&new)), (Some(&new), None)] {
        let planned = on(version, baseline, &[]);
        assert_eq!(names(&planned), [("0.2.0/1-a".to_owned(), Due::Ask)], "{version:?}");
        assert_eq!((&planned[0].unit, planned[0].paths.as_slice()), (&None, &["/srv".to_owned()][..]));
    }
    let done = Applied { sha256: "c0ffee".to_owned(), ..applied("0.2.0/1-a", Progress::Done) };
    assert!(on(None, None, &[done]).is_empty());
}

#[test]
fn what_was_written_before_anything_ran_on_the_host_is_read() {
    let planned =
        r#"{"id":"0.2.0/1-a","sha256":"c0","unit":"db","stage":"pre","due":"run","touches":["data"]}"#;
    let planned: Planned = serde_json::from_str(planned).unwrap();
    assert_eq!((planned.unit.unwrap().as_str(), planned.paths.len()), ("db", 0));
    let active: Active = serde_json::from_str(r#"{"generation":1,"version":null,"volumes":{}}"#).unwrap();
    assert_eq!((active.volume(ON_HOST), &active.host), (ON_HOST, &None));
}

#[test]
fn what_was_not_applied_runs_in_order() {
    let declared = ["0.2.0/1-b", "0.1.0/2-x", "0.1.0/1-a", "0.10.0/1-z"].map(migration);
    let run = |names: &[&str]| names.iter().map(|&name| (name.to_owned(), Due::Run)).collect::<Vec<_>>();
    let mut fresh = data(&[]);
    fresh.volumes.clear();
    let all = names(&due(&declared, &fresh).unwrap());
    assert_eq!(all, run(&["0.1.0/1-a", "0.1.0/2-x", "0.2.0/1-b", "0.10.0/1-z"]));
    let rest = due(&declared, &data(&["0.1.0/1-a", "0.1.0/2-x"])).unwrap();
    assert_eq!(names(&rest), run(&["0.2.0/1-b", "0.10.0/1-z"]));
    assert!(
        due(&declared, &data(&["0.1.0/1-a", "0.1.0/2-x", "0.2.0/1-b", "0.10.0/1-z"])).unwrap().is_empty()
    );
}

#[test]
fn what_does_not_belong_together_is_named() {
    let declared = ["0.1.0/1-a", "0.2.0/1-b"].map(migration);
    let gap = MigrationError::Gap { id: "0.1.0/1-a".to_owned(), later: "0.2.0/1-b".to_owned() };
    assert_eq!(due(&declared, &data(&["0.2.0/1-b"])), Err(gap.clone()));
    let unknown = MigrationError::Unknown { id: "0.3.0/1-c".to_owned() };
    assert_eq!(due(&declared, &data(&["0.1.0/1-a", "0.3.0/1-c"])), Err(unknown.clone()));
    // All of it is told, whatever comes first.
    let all = wrong(&declared, &data(&["0.2.0/1-b", "0.3.0/1-c"]));
    assert_eq!(all, [unknown, gap]);
    let mut other = data(&["0.1.0/1-a"]);
    other.volumes.get_mut("data").unwrap().applied[0].sha256 = "other".to_owned();
    let changed = MigrationError::Changed {
        id: "0.1.0/1-a".to_owned(),
        was: "other".to_owned(),
        is: "0.1.0/1-a".to_owned(),
    };
    assert_eq!(due(&declared, &other), Err(changed));
    let same = ["0.1.0/1-a", "0.1.0/1-b"].map(migration);
    assert!(matches!(due(&same, &data(&[])), Err(MigrationError::SamePlace { .. })));
    let (both, _) = migration("0.1.0/1-a");
    let touches = ["data".to_owned(), "files".to_owned()];
    let found = standing(&both, &touches, &data(&["0.1.0/1-a"]));
    assert!(matches!(found, Err(MigrationError::Partly { not_to, .. }) if not_to == "files"));
}

#[test]
fn data_that_no_ledger_tells_of_is_looked_at() {
    let (old, new) = (Version::parse("0.1.0").unwrap(), Version::parse("0.2.0").unwrap());
    let mut declared = ["0.2.0/1-b"].map(migration);
    let due_on = |declared: &[(Migration, Vec<String>)], data: &Data<'_>| {
        due(declared, data).map(|planned| planned[0].due)
    };
    // What comes after the version that has worked on it cannot have been applied.
    let of = |version: Option<&Version>| {
        let mut data = data(&[]);
        data.volumes.get_mut("data").unwrap().version = version.cloned();
        data
    };
    assert_eq!(due_on(&declared, &of(Some(&old))), Ok(Due::Run));
    let unverified = Err(MigrationError::Unverified { id: "0.2.0/1-b".to_owned() });
    for version in [None, Some(&new)] {
        assert_eq!(due_on(&declared, &of(version)), unverified);
    }
    assert_eq!(due_on(&declared, &Data { baseline: Some(&new), ..data(&[]) }), Ok(Due::Cover));
    declared[0].0.check = Some(vec!["true".to_owned()]);
    assert_eq!(due_on(&declared, &data(&[])), Ok(Due::Ask));
}

#[test]
fn on_data_that_is_not_copied_only_what_may_be_repeated_runs() {
    let mut declared = ["0.2.0/1-a", "0.1.0/1-x"].map(migration);
    let shared = |progress: &[Applied]| {
        let volumes =
            [("data".to_owned(), Touched { is_there: true, applied: progress.to_vec(), version: None })]
                .into();
        Data { volumes, lane: Lane::Compatible, baseline: None }
    };
    let before = applied("0.1.0/1-x", Progress::Done);
    let begun = [before.clone(), applied("0.2.0/1-a", Progress::Begun)];
    assert!(matches!(
        due(&declared, &shared(std::slice::from_ref(&before))),
        Err(MigrationError::NotRepeatable { .. })
    ));
    assert!(matches!(due(&declared, &shared(&begun)), Err(MigrationError::HalfApplied { .. })));
    declared[0].0.idempotent = true;
    assert_eq!(due(&declared, &shared(&begun)).unwrap().len(), 1);
    assert_eq!(unfinished(&declared, &shared(&begun)), [&id("0.2.0/1-a")]);
    assert_eq!(unfinished(&declared, &shared(std::slice::from_ref(&before))), [] as [&MigrationId; 0]);
    // What touches no volume is on no copy either.
    let (mut nowhere, _) = migration("0.2.0/1-a");
    let touches = [NO_VOLUME.to_owned()];
    let mut elsewhere = data(&[]);
    elsewhere.volumes =
        [(NO_VOLUME.to_owned(), Touched { is_there: true, applied: vec![before], version: None })].into();
    let found = standing(&nowhere, &touches, &elsewhere);
    assert!(matches!(found, Err(MigrationError::NotRepeatable { .. })));
    nowhere.idempotent = true;
    assert_eq!(standing(&nowhere, &touches, &elsewhere), Ok(Standing::Due(Due::Run)));
}
