//! What a unit may leave behind, and must not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The units of a state, by the names of their folders.
pub fn units(state: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(state.join("units/v1")) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .map(|name| name.trim_start_matches(".new-").trim_start_matches(".gone-").to_owned())
        .collect()
}

/// All that is left of a project's place and of its units: processes, mounts, control groups, folders.
pub fn left(place: &Path, units: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    left.extend(processes(place).into_iter().map(|(pid, line)| format!("process {pid}: {line}")));
    left.extend(mounts(place).into_iter().map(|mount| format!("mount {mount}")));
    left.extend(groups(units).into_iter().map(|group| format!("control group {}", group.display())));
    left.extend(networks(place));
    left.extend(asides(place).into_iter().map(|path| format!("folder {}", path.display())));
    left
}

/// How many projects live in this process.
static PROJECTS: AtomicUsize = AtomicUsize::new(0);

/// Makes this process the parent of whatever a dead process below it leaves behind, and counts a project.
pub fn adopt_orphans() {
    PROJECTS.fetch_add(1, Ordering::SeqCst);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
}

/// Takes a project out of the count: whether none is left, in a process that runs this test alone, as nextest's do.
pub fn is_last_project() -> bool {
    PROJECTS.fetch_sub(1, Ordering::SeqCst) == 1 && std::env::var_os("NEXTEST").is_some()
}

/// The living processes below this one, by number, with their command lines.
pub fn descendants() -> Vec<(u32, String)> {
    let mut known: Vec<u32> = vec![std::process::id()];
    let mut found = Vec::new();
    let all: Vec<(u32, u32)> = numbers().filter_map(|pid| Some((pid, living_parent(pid)?))).collect();
    let mut index = 0;
    while index < known.len() {
        let children = all.iter().filter(|(_, parent)| *parent == known[index]).map(|(pid, _)| *pid);
        let children: Vec<_> = children.collect();
        found.extend(children.iter().map(|pid| (*pid, command_line(*pid))));
        known.extend(children);
        index += 1;
    }
    found
}

fn numbers() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The parent of a process, unless it is dead and only waits to be collected.
fn living_parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") { None } else { fields.next()?.parse().ok() }
}

fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// Ends what mentions this place, and what is below this process: only a test that failed leaves such.
pub fn kill(place: &Path, with_descendants: bool) {
    let below = if with_descendants { descendants() } else { Vec::new() };
    for device in devices(place) {
        let _ = Command::new("ip").args(["link", "delete", &device]).stderr(Stdio::null()).status();
    }
    for (pid, _) in processes(place).into_iter().chain(below) {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
    }
}

/// The processes that were started with this place in their command line, work in it, or are rooted in one of its mounts.
pub fn processes(place: &Path) -> Vec<(u32, String)> {
    let place = place.to_string_lossy();
    let mut found = Vec::new();
    for pid in numbers().filter(|pid| *pid != std::process::id()) {
        let line = command_line(pid);
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        if line.contains(&*place) || cwd.to_string_lossy().starts_with(&*place) || mounts.contains(&*place) {
            found.push((pid, line));
        }
    }
    found
}

/// The mounts of this machine that mention this place.
pub fn mounts(place: &Path) -> Vec<String> {
    let place = place.to_string_lossy();
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter(|line| line.contains(&*place)).map(str::to_owned).collect()
}

/// The control groups of these units.
pub fn groups(units: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if units.iter().any(|unit| name.starts_with(unit.as_str())) {
                found.push(entry.path());
            } else {
                open.push(entry.path());
            }
        }
    }
    found
}

/// The folders of units that are being made or removed.
pub fn asides(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.join("state/units/v1")).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(".new-") || name.starts_with(".gone-")
        })
        .collect()
}

/// The networks of a state.
pub fn networks(place: &Path) -> Vec<String> {
    let entries = fs::read_dir(place.join("state/networks/v1")).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_name() != ".lock").map(|entry| entry.path());
    folders.map(|folder| format!("network {}", folder.display())).collect()
}

/// The devices of this machine that the networks of a state are.
pub fn devices(place: &Path) -> Vec<String> {
    let folders = fs::read_dir(place.join("state/networks/v1")).into_iter().flatten().flatten();
    let about = folders.filter_map(|folder| fs::read(folder.path().join("network.json")).ok());
    let about = about.filter_map(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    about.filter_map(|about| about["bridge"].as_str().map(str::to_owned)).collect()
}
