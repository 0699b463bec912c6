//! What a unit may leave behind, and must not.

use std::fs;
use std::path::{Path, PathBuf};

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
    left.extend(asides(place).into_iter().map(|path| format!("folder {}", path.display())));
    left
}

/// Ends what mentions this place: only a test that failed leaves such.
pub fn kill(place: &Path) {
    for (pid, _) in processes(place) {
        let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
}

/// The processes that were started with this place in their command line, work in it, or are rooted in one of its mounts.
pub fn processes(place: &Path) -> Vec<(u32, String)> {
    let place = place.to_string_lossy();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
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
