//! An engine in front of another one, that fails where a test says, or does everything twice.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use setpoint_model::capabilities::Capabilities;
use setpoint_model::container::HealthTest;
use setpoint_model::digest::Digest;
use setpoint_model::manifest::Limits;
use setpoint_model::pipeline::key;
use setpoint_runtime::cancel::Cancel;
use setpoint_runtime::engine::{
    Account, BaseSource, Engine, EngineError, ExecSpec, Hold, HostFacts, ImageFacts, Labels, NewVolume,
    OwnChanges, Process, Progress, Pull, Seen, StepSpec, UnitId, UnitSpec, UnitVolumes, Watch,
};
use setpoint_runtime::events::Watcher;

/// An engine in front of another one.
pub struct Faulty {
    inner: Box<dyn Engine>,
    /// Whether what may be repeated is.
    repeats: bool,
    /// After how many calls that change something one fails; none is never.
    fails_after: AtomicUsize,
    /// Whether the call that fails has done its work.
    acts: bool,
}

/// No call fails.
const NEVER: usize = usize::MAX;

impl Faulty {
    /// Does everything twice that may be done again: looking, preparing, stopping, removing, changing limits.
    pub fn repeating(inner: Box<dyn Engine>) -> Self {
        Self { inner, repeats: true, fails_after: AtomicUsize::new(NEVER), acts: false }
    }

    /// Fails at the call of this number among those that change something: before it acts, or after.
    pub fn failing(inner: Box<dyn Engine>, number: usize, acts: bool) -> Self {
        Self { inner, repeats: false, fails_after: AtomicUsize::new(number), acts }
    }

    /// Whether the fault has happened.
    pub fn has_failed(&self) -> bool {
        self.fails_after.load(Ordering::SeqCst) == NEVER
    }

    fn maybe<T>(&self, act: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
        let left = self.fails_after.load(Ordering::SeqCst);
        if left == NEVER {
            return act();
        }
        self.fails_after.store(if left == 0 { NEVER } else { left - 1 }, Ordering::SeqCst);
        if left > 0 {
            return act();
        }
        if self.acts {
            drop(act()?);
        }
        Err(EngineError::State { unit: "the engine".to_owned(), state: "was made to fail" })
    }

    fn again<T>(&self, act: impl Fn() -> Result<T, EngineError>) -> Result<T, EngineError> {
        if self.repeats {
            act()?;
        }
        act()
    }
}

impl Engine for Faulty {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn check(&self, spec: &UnitSpec) -> Result<(), EngineError> {
        self.again(|| self.inner.check(spec))
    }
    fn observe(&self, unit: &UnitId) -> Result<Seen, EngineError> {
        self.again(|| self.inner.observe(unit))
    }
    fn progress(&self, unit: &UnitId) -> Result<Progress, EngineError> {
        self.again(|| self.inner.progress(unit))
    }
    fn ask(
        &self,
        unit: &UnitId,
        test: &HealthTest,
        at_most: Duration,
    ) -> Result<Result<(), String>, EngineError> {
        self.again(|| self.inner.ask(unit, test, at_most))
    }
    fn output(&self, unit: &UnitId, follow: bool) -> Result<Box<dyn std::io::Read + Send>, EngineError> {
        self.inner.output(unit, follow)
    }
    fn volumes(&self, project_root: &Path) -> Result<Vec<String>, EngineError> {
        self.again(|| self.inner.volumes(project_root))
    }
    fn volumes_of(&self, unit: &UnitId) -> Result<UnitVolumes, EngineError> {
        self.again(|| self.inner.volumes_of(unit))
    }
    fn is_empty(&self, unit: &UnitId, folder: &Path) -> Result<Option<bool>, EngineError> {
        self.again(|| self.inner.is_empty(unit, folder))
    }
    fn volume_folders(&self, names: &[String]) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        self.again(|| self.inner.volume_folders(names))
    }
    fn mounts_from(&self, folder: &Path) -> Result<bool, EngineError> {
        self.again(|| self.inner.mounts_from(folder))
    }
    fn volume_ids(&self, names: &[String]) -> Result<BTreeMap<String, String>, EngineError> {
        self.again(|| self.inner.volume_ids(names))
    }
    fn copy_volume(
        &self,
        unit: &UnitId,
        base: &BaseSource,
        from: &str,
        to: &str,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.copy_volume(unit, base, from, to, cancel)))
    }
    // What is read is read once.
    fn read_volume(
        &self,
        unit: &UnitId,
        base: &BaseSource,
        name: &str,
    ) -> Result<Box<dyn Read + Send>, EngineError> {
        self.inner.read_volume(unit, base, name)
    }
    fn fill_volume(
        &self,
        volume: &NewVolume<'_>,
        from: Box<dyn Read + Send>,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        self.inner.fill_volume(volume, from, cancel)
    }
    fn set_aside(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.set_aside(unit, generation)))
    }
    fn put_back(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.put_back(unit, generation)))
    }
    fn set_aside_of(&self, unit: &UnitId) -> Result<Vec<u64>, EngineError> {
        self.again(|| self.inner.set_aside_of(unit))
    }
    fn remove_aside(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.remove_aside(unit, generation)))
    }
    fn start_withheld(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.start_withheld(unit)))
    }
    fn has_held_ports(&self, unit: &UnitId) -> bool {
        self.inner.has_held_ports(unit)
    }
    fn lend(&self, unit: &UnitId, to: &UnitId) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.lend(unit, to)))
    }
    fn publish(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.publish(unit)))
    }
    fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.again(|| self.inner.remove_volume(name))
    }
    fn units(&self) -> Result<Vec<(UnitId, Labels)>, EngineError> {
        self.again(|| self.inner.units())
    }
    fn host(&self) -> Result<HostFacts, EngineError> {
        self.again(|| self.inner.host())
    }
    fn base_digest(&self, base: &BaseSource) -> Result<Option<String>, EngineError> {
        self.again(|| self.inner.base_digest(base))
    }
    fn image(&self, base: &BaseSource) -> Result<Option<ImageFacts>, EngineError> {
        self.again(|| self.inner.image(base))
    }
    fn environment(&self, unit: &UnitId) -> Result<BTreeMap<String, String>, EngineError> {
        self.again(|| self.inner.environment(unit))
    }
    fn prepare(
        &self,
        base: &BaseSource,
        pull: Pull,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<Option<String>, EngineError> {
        self.maybe(|| self.again(|| self.inner.prepare(base, pull, watcher, cancel)))
    }
    fn save(&self, base: &BaseSource, to: &Path, cancel: &Cancel) -> Result<(), EngineError> {
        self.again(|| self.inner.save(base, to, cancel))
    }
    fn load(
        &self,
        reference: &str,
        digest: &str,
        layout: &Path,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        self.again(|| self.inner.load(reference, digest, layout, watcher, cancel))
    }
    fn create(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        self.maybe(|| self.inner.create(unit, spec))
    }
    fn start(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        self.maybe(|| self.inner.start(unit, spec))
    }
    fn start_again(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.start_again(unit)))
    }
    fn watch(&self, unit: &UnitId) -> Result<Option<Watch>, EngineError> {
        self.again(|| self.inner.watch(unit))
    }
    fn stop(&self, unit: &UnitId, grace: Duration, cancel: &Cancel) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.stop(unit, grace, cancel)))
    }
    fn remove(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.remove(unit)))
    }
    fn set_limits(&self, unit: &UnitId, limits: &Limits) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.set_limits(unit, limits)))
    }
    fn hold(&self, unit: &UnitId) -> Result<Option<Hold>, EngineError> {
        self.again(|| self.inner.hold(unit))
    }
    fn set_ports(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        self.maybe(|| self.again(|| self.inner.set_ports(unit, spec)))
    }
    fn tend(&self, unit: &UnitId) -> Result<Vec<OwnedFd>, EngineError> {
        self.again(|| self.inner.tend(unit))
    }
    fn own_changes(&self, unit: &UnitId) -> Result<OwnChanges, EngineError> {
        self.again(|| self.inner.own_changes(unit))
    }
    fn default_user(&self, workspace: &Path) -> String {
        self.inner.default_user(workspace)
    }
    fn account(&self, unit: &UnitId, user: &str) -> Result<Account, EngineError> {
        self.again(|| self.inner.account(unit, user))
    }
    fn exec(&self, unit: &UnitId, spec: &ExecSpec) -> Result<Box<dyn Process>, EngineError> {
        self.maybe(|| self.inner.exec(unit, spec))
    }
    fn step_behaviour(&self) -> &'static str {
        self.inner.step_behaviour()
    }
    fn step_base(&self, base: &BaseSource) -> Result<Option<key::Base>, EngineError> {
        self.again(|| self.inner.step_base(base))
    }
    fn seen_on_host(&self, path: &Path) -> Result<Digest, EngineError> {
        self.again(|| self.inner.seen_on_host(path))
    }
    fn start_step(&self, step: &StepSpec) -> Result<Box<dyn Process>, EngineError> {
        self.inner.start_step(step)
    }
    fn seal_step(&self, step: &StepSpec) -> Result<(), EngineError> {
        self.inner.seal_step(step)
    }
    fn kept_elsewhere(&self, state: &Path) -> Result<Option<u64>, EngineError> {
        self.again(|| self.inner.kept_elsewhere(state))
    }
    fn sweep_steps(&self, kept: &dyn Fn() -> Vec<PathBuf>) -> Result<(), EngineError> {
        self.again(|| self.inner.sweep_steps(kept))
    }
}
