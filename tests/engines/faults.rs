//! Whatever call of an engine fails, before it acted or after: the `up` fails, and the next one ends where it should.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use setpoint_model::manifest::EngineKind;
use setpoint_model::plan::Options;
use setpoint_runtime::apply::{ApplyError, Settings};
use setpoint_runtime::cancel::Cancel;
use setpoint_runtime::engine::{self, Engine, UnitId};
use setpoint_runtime::observe::Unit;
use setpoint_runtime::paths::Roots;
use setpoint_runtime::project::Project;
use setpoint_runtime::store::Store;

use crate::faulty::Faulty;
use crate::place::{Deaf, Kind, Place, surroundings};

/// More calls than any `up` here makes.
const MANY: usize = 40;

pub fn of_the_embedded_engine(place: &Place) {
    try_all(place, Kind::Embedded, EngineKind::Embedded, &[false, true]);
}

pub fn of_docker(place: &Place) {
    try_all(place, Kind::Docker, EngineKind::Docker, &[true]);
}

fn try_all(place: &Place, kind: Kind, named: EngineKind, ways: &[bool]) {
    let subject = place.engine(kind);
    for acts in ways {
        for number in 0..MANY {
            let root = tempfile::Builder::new().prefix("faults-").tempdir_in(&subject.folder).unwrap();
            let (roots, variables) = surroundings(&root.path().join("own"), place.variables(kind));
            let one = Try { root: &root.path().join("shop"), roots, variables, named };
            fs::create_dir_all(one.root).unwrap();
            let rootfs = subject.folder.join("rootfs.tar");
            let fell = one.begin_and_go_on(&rootfs, number, *acts);
            one.clear();
            if !fell {
                assert!(number > 5, "only {number} calls");
                break;
            }
        }
    }
}

/// One project, with a state of its own.
struct Try<'a> {
    root: &'a Path,
    roots: Roots,
    variables: BTreeMap<String, String>,
    named: EngineKind,
}

impl Try<'_> {
    fn declare(&self, rootfs: &Path, more: &str) {
        let text = format!(
            "setpoint = 1\n[engine]\ndefault = \"{}\"\n[env.dev]\nrootfs = {rootfs:?}\n{more}[env.dev.hooks]\n\
             on_create = \"echo on_create >> log\"\npost_start = \"echo post_start >> log\"\n",
            self.named.as_str()
        );
        fs::write(self.root.join("setpoint.toml"), text).unwrap();
    }

    fn engine(&self) -> Box<dyn Engine> {
        engine::open(self.named, &self.roots, &self.variables)
    }

    /// An `up` with a fault at this call, then one without, then a change that asks for another container, the same way:
    /// whether the call was reached at all.
    fn begin_and_go_on(&self, rootfs: &Path, number: usize, acts: bool) -> bool {
        self.declare(rootfs, "");
        let first = self.up_with_fault(number, acts);
        self.up(self.engine().as_ref()).unwrap();
        assert!(self.is_settled(), "after a fault at call {number} of a creation");
        self.declare(rootfs, "user = \"dev\"\n");
        let second = self.up_with_fault(number, acts);
        self.up(self.engine().as_ref()).unwrap();
        assert!(self.is_settled(), "after a fault at call {number} of a recreation");
        let log = fs::read_to_string(self.root.join("log")).unwrap();
        assert!(log.lines().filter(|line| *line == "on_create").count() >= 2, "{log}");
        first || second
    }

    fn up_with_fault(&self, number: usize, acts: bool) -> bool {
        let engine = Faulty::failing(self.engine(), number, acts);
        let ended = self.up(&engine);
        assert_eq!(ended.is_err(), engine.has_failed(), "{ended:?}");
        engine.has_failed()
    }

    fn with_unit<T>(&self, engine: &dyn Engine, work: impl FnOnce(&Unit<'_>) -> T) -> T {
        let project = Project::load(&self.roots, self.root, &[]).unwrap();
        let env = project.env(None).unwrap();
        let id = UnitId::new(&project.root, &env.name);
        work(&Unit {
            roots: &self.roots,
            engine,
            project: &project,
            owner: &project.root,
            env,
            id,
            variables: &self.variables,
            home: None,
            refresh_secrets: false,
        })
    }

    fn up(&self, engine: &dyn Engine) -> Result<(), ApplyError> {
        // Everybody may write to the project's log.
        std::os::unix::fs::chown(self.root, Some(0), Some(0)).unwrap();
        fs::set_permissions(self.root, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        if self.root.join("log").exists() {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            fs::set_permissions(self.root.join("log"), open).unwrap();
        }
        self.with_unit(engine, |unit| {
            let mut store = Store::open(&self.roots)?;
            let look = unit.look(&store, &Options::default())?;
            let cancel = Cancel::default();
            let settings = Settings {
                watcher: &Deaf,
                cancel: &cancel,
                command: "up".to_owned(),
                is_withheld: false,
                idles: false,
            };
            unit.apply(&mut store, look, &settings).map(drop)
        })
    }

    fn is_settled(&self) -> bool {
        let engine = self.engine();
        self.with_unit(engine.as_ref(), |unit| {
            let store = Store::open(&self.roots).unwrap();
            unit.look(&store, &Options::default()).unwrap().plan.is_empty()
        })
    }

    fn clear(&self) {
        let engine = self.engine();
        self.with_unit(engine.as_ref(), |unit| {
            unit.engine.stop(&unit.id, std::time::Duration::ZERO, &Cancel::default()).unwrap();
            unit.engine.remove(&unit.id).unwrap();
        });
    }
}
