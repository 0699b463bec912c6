//! What a run needs for the time being, and what is put right before and after it: leases, orphans, bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::RunError;
use super::{Runner, services};
use crate::engine::{Engine, EngineError};
use crate::lock::{Lease, Retirement};
use crate::paths::{Roots, make_private_folder};
use crate::remove::remove_tree;
use crate::snapshot::Snapshots;
use crate::source::SourceStore;
use crate::store::StoreError;
use crate::store::cache::{CacheDb, Evicted};

const SCRATCH: &str = "scratch/v1";
/// How many trees of sources are kept at most: most differ in a few files from another.
const TREES: usize = 200;

/// The folder of a run, with the lease that says that its process lives. Removed when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    _lease: Lease,
}

impl Scratch {
    pub(super) fn new(roots: &Roots) -> Result<Self, RunError> {
        let now = jiff::Timestamp::now().as_nanosecond();
        let name = format!("run-{}-{now:x}", std::process::id());
        let lease = Lease::take(roots, &name)?;
        let folder = roots.state.join(SCRATCH).join(&name);
        make_private_folder(&folder).map_err(|source| RunError::Io {
            what: "make",
            path: folder.clone(),
            source,
        })?;
        Ok(Self { name, folder, _lease: lease })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is swept by the next run; it has to find of which services.
        if services::left(&self.folder).is_empty() {
            let _ = remove_tree(&self.folder);
        }
    }
}

/// What is in use or kept, less the folders of these runs. The runs first: whatever becomes a snapshot meanwhile is
/// among one or the other.
fn kept(roots: &Roots, snapshots: &Snapshots, dead: &BTreeMap<String, Retirement>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(roots.state.join(SCRATCH)).into_iter().flatten().filter_map(Result::ok);
    let is_dead =
        |entry: &std::fs::DirEntry| entry.file_name().to_str().is_some_and(|name| dead.contains_key(name));
    let mut kept: Vec<PathBuf> = entries.filter(|entry| !is_dead(entry)).map(|entry| entry.path()).collect();
    kept.extend(snapshots.paths());
    kept
}

/// Removes what the engine holds of steps that are not running and keeps for snapshots that are no more.
pub(crate) fn sweep_engine(
    roots: &Roots,
    engine: &dyn Engine,
    snapshots: &Snapshots,
) -> Result<(), EngineError> {
    engine.sweep_steps(&|| kept(roots, snapshots, &BTreeMap::new()))
}

/// Ends the leases of runs whose processes died, and removes what they left. Costs next to nothing if none did.
pub(super) fn sweep(
    roots: &Roots,
    engine: &dyn Engine,
    variables: &BTreeMap<String, String>,
    cache: &mut CacheDb,
    snapshots: &Snapshots,
) -> Result<(), RunError> {
    let scratch = roots.state.join(SCRATCH);
    let known: BTreeSet<String> = cache.write(|writer| writer.leases())?.into_iter().collect();
    let folders = std::fs::read_dir(&scratch).into_iter().flatten().filter_map(Result::ok);
    let folders = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut dead = BTreeMap::new();
    for name in known.iter().cloned().chain(folders).collect::<BTreeSet<_>>() {
        if let Some(retired) = Retirement::begin(roots, &name)? {
            dead.insert(name, retired);
        }
    }
    // Before the folders go in which their steps may still write.
    engine.sweep_steps(&|| kept(roots, snapshots, &dead))?;
    for name in dead.keys() {
        let folder = scratch.join(name);
        // Those that cannot be removed now are found by their folder again.
        if services::take_down_left(roots, variables, &folder).is_ok() {
            let _ = remove_tree(&folder);
            cache.write(|writer| writer.end_lease(name))?;
        }
    }
    if !dead.is_empty() {
        sweep_snapshots(cache, snapshots)?;
        drop(dead);
        sweep_engine(roots, engine, snapshots)?;
    }
    Ok(())
}

/// Removes the services of steps of all runs, those that go on too; gives what kept some of them from it.
#[must_use]
pub fn take_down_services(roots: &Roots, variables: &BTreeMap<String, String>) -> Vec<EngineError> {
    let runs = std::fs::read_dir(roots.state.join(SCRATCH)).into_iter().flatten().filter_map(Result::ok);
    runs.filter_map(|run| services::take_down_left(roots, variables, &run.path()).err()).collect()
}

/// Removes every snapshot that nothing lies on; gives how many there were. What engines keep for them elsewhere goes
/// with [`sweep_engine`].
pub(crate) fn sweep_snapshots(cache: &mut CacheDb, snapshots: &Snapshots) -> Result<usize, StoreError> {
    // Within the transaction nobody moves a snapshot to its place.
    let aside = cache.write(|writer| {
        let alive: BTreeSet<_> = writer.live_layers()?.into_iter().collect();
        snapshots.put_aside(&alive).map_err(|error| writer.not_kept(Path::new("snapshots"), error))
    })?;
    Snapshots::remove(&aside);
    Ok(aside.len())
}

/// Puts the cache in order after a run that added to it: counts what is new, makes it durable, and forgets what is
/// out of bounds.
pub(super) fn settle(
    runner: &Runner<'_>,
    cache: &mut CacheDb,
    snapshots: &Snapshots,
    lease: &str,
) -> Result<Evicted, RunError> {
    let (roots, bounds) = (runner.roots, runner.bounds);
    let (uncounted, not_durable) = cache.write(|writer| Ok((writer.uncounted()?, writer.not_durable()?)))?;
    let count = |layer| {
        let mut size = snapshots.size(layer).ok()?;
        size.bytes += runner.engine.kept_elsewhere(&snapshots.path(layer)).ok().flatten().unwrap_or(0);
        Some((layer, size))
    };
    let sizes: Vec<_> = uncounted.into_iter().filter_map(count).collect();
    // If the disk refuses, the layers are not called durable; they are good as long as the machine runs.
    let durable = if !not_durable.is_empty() && snapshots.sync().is_ok() { not_durable } else { Vec::new() };
    let evicted = cache.write(|writer| {
        sizes.iter().try_for_each(|(layer, size)| writer.counted(*layer, size))?;
        writer.durable(&durable)?;
        writer.end_lease(lease)?;
        writer.evict(bounds)
    })?;
    if evicted.results > 0 {
        sweep_snapshots(cache, snapshots)?;
    }
    let sources = SourceStore::new(roots);
    // As with the layers, what is not durable is good as long as the machine runs.
    let _ = sources.sync();
    sources.collect(TREES, bounds.age)?;
    Ok(evicted)
}
