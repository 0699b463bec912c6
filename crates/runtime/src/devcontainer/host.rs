//! What a dev container asks of its host, beside what is there.

use std::path::Path;

use setpoint_model::import::devcontainer::{Gpu, HostRequirements};
use setpoint_model::manifest::ByteSize;

use crate::engine::{Engine, EngineError};

/// What is there of what may be asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    /// Processors, where that is known.
    cpus: Option<usize>,
    /// Bytes of memory, where that is known.
    memory: Option<u64>,
    /// Bytes that are free where the engine keeps its data, where that was asked for and is known.
    free: Option<u64>,
    /// Whether the engine can give graphic processors to containers, where they are asked for.
    gpus: bool,
}

impl Host {
    /// Looks at this machine, and asks the engine if only it knows what is asked for.
    pub(super) fn look(asked: &HostRequirements, engine: &dyn Engine) -> Result<Self, EngineError> {
        let cpus = std::thread::available_parallelism().ok().map(usize::from);
        let memory = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(memory_in);
        if asked.storage.is_none() && !wants_gpu(asked) {
            return Ok(Self { cpus, memory, ..Self::default() });
        }
        let of_engine = engine.host()?;
        let free = of_engine.data.as_deref().and_then(free_at);
        Ok(Self { cpus, memory, free, gpus: of_engine.gpus })
    }
}

/// The graphic processors that a container gets: those that are said, which the engine answers for itself; else all, where
/// they are asked for and it can give them.
pub(super) fn gpus(said: Option<String>, asked: &HostRequirements, host: &Host) -> Option<String> {
    said.or_else(|| (wants_gpu(asked) && host.gpus).then(|| "all".to_owned()))
}

/// Whether a graphic processor is used if there is one.
fn wants_gpu(asked: &HostRequirements) -> bool {
    matches!(asked.gpu, Some(Gpu::Optional | Gpu::Required { .. }))
}

/// Where a host is less than what is asked for, in words; `gpus` are those that the container gets.
///
/// What is free changes from look to look, so its number is not told.
pub(super) fn shortfalls(asked: &HostRequirements, gpus: Option<&str>, host: &Host) -> Vec<String> {
    let less =
        |wanted: Option<ByteSize>, has: Option<u64>| Some((wanted?, has?)).filter(|(w, has)| w.0 > *has);
    let mut told = Vec::new();
    if let (Some(wanted), Some(cpus)) = (asked.cpus, host.cpus)
        && wanted as usize > cpus
    {
        told.push(format!("it asks for {wanted} processors, and this machine has {cpus}"));
    }
    if let Some((wanted, total)) = less(asked.memory, host.memory) {
        told.push(format!("it asks for {} bytes of memory, and this machine has {total}", wanted.0));
    }
    if let Some((wanted, _)) = less(asked.storage, host.free) {
        told.push(format!(
            "it asks for {wanted} of storage, and less is free where the engine keeps its data"
        ));
    }
    if matches!(asked.gpu, Some(Gpu::Required { .. })) && gpus.is_none() {
        told.push("it asks for a graphic processor, and the engine says of none that it can give".to_owned());
    }
    told
}

/// The bytes of memory in `/proc/meminfo`.
fn memory_in(info: &str) -> Option<u64> {
    info.lines().find_map(|line| {
        let kibibytes = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?;
        Some(kibibytes.trim().parse::<u64>().ok()? * 1024)
    })
}

/// The bytes that are free for all at a folder, or where it will be made.
fn free_at(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|ancestor| ancestor.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(asked: HostRequirements) -> usize {
        let host = Host { cpus: Some(2), memory: Some(4 << 30), free: Some(10 << 30), gpus: false };
        let unknown = shortfalls(&asked, Some("all"), &Host::default());
        assert!(unknown.is_empty(), "nothing is told of what is not known: {unknown:?}");
        shortfalls(&asked, None, &host).len() * 10 + shortfalls(&asked, Some("1"), &host).len()
    }

    #[test]
    fn what_is_less_than_asked_for_is_told_and_nothing_else() {
        let nothing = HostRequirements::default;
        let size = |bytes| Some(ByteSize(bytes));
        let gpu = |gpu| HostRequirements { gpu: Some(gpu), ..nothing() };
        for (asked, expected) in [
            (nothing(), 0),
            (
                HostRequirements { cpus: Some(2), memory: size(4 << 30), storage: size(10 << 30), gpu: None },
                0,
            ),
            (HostRequirements { cpus: Some(3), ..nothing() }, 11),
            (HostRequirements { memory: size((4 << 30) + 1), ..nothing() }, 11),
            (HostRequirements { storage: size((10 << 30) + 1), ..nothing() }, 11),
            (gpu(Gpu::No), 0),
            (gpu(Gpu::Optional), 0),
            (gpu(Gpu::Required { cores: None, memory: None }), 10),
            (gpu(Gpu::Required { cores: Some(9), memory: size(1) }), 10),
        ] {
            assert_eq!(told(asked.clone()), expected, "{asked:?}");
        }
    }

    #[test]
    fn graphic_processors_are_given_where_they_are_asked_for_and_there() {
        let one = || Some("1".to_owned());
        let all = || Some("all".to_owned());
        let required = Gpu::Required { cores: None, memory: None };
        for (said, asked, is_there, given) in [
            (None, None, true, None),
            (None, Some(Gpu::No), true, None),
            (None, Some(Gpu::Optional), true, all()),
            (None, Some(Gpu::Optional), false, None),
            (None, Some(required.clone()), true, all()),
            (None, Some(required.clone()), false, None),
            (one(), Some(required), false, one()),
            (one(), None, true, one()),
        ] {
            let asked = HostRequirements { gpu: asked, ..HostRequirements::default() };
            let host = Host { gpus: is_there, ..Host::default() };
            assert_eq!(gpus(said, &asked, &host), given, "{asked:?}");
        }
    }

    #[test]
    fn memory_and_storage_are_read_of_this_machine() {
        assert_eq!(memory_in("MemFree: 1 kB\nMemTotal:        2048 kB\n"), Some(2 << 20));
        assert_eq!(memory_in("MemTotal: many\n"), None);
        let folder = tempfile::tempdir().unwrap();
        assert!(free_at(folder.path()).is_some_and(|free| free > 0));
        assert!(free_at(&folder.path().join("not/yet")).is_some_and(|free| free > 0));
    }
}
