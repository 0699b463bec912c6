//! Room and time.

use super::finding::Finding;
use super::row::Row;

const MIB: u64 = 1024 * 1024;
/// Below this much free space nothing can be relied on.
const TOO_LITTLE: u64 = 256 * MIB;
/// Below this much the next image may not fit.
const LITTLE: u64 = 2048 * MIB;
/// With fewer files than this to be made nothing can be relied on.
const TOO_FEW: u64 = 1_000;
/// With fewer the next image may not fit.
const FEW: u64 = 50_000;
/// How far clocks may be apart, in seconds.
const APART: u64 = 120;

/// The room in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that may still be written.
    pub free: u64,
    /// Files that may still be made; nothing where there is no bound to that.
    pub files: Option<u64>,
}

/// Whether there is room enough for what lies in a folder.
#[must_use]
pub fn space(folder: &str, space: Space, elsewhere: &str) -> Vec<Finding> {
    let tenths = space.free * 10 / (1024 * MIB);
    let what = format!("{}.{} GiB free for {folder}", tenths / 10, tenths % 10);
    let fix = format!("free some space, or {elsewhere}");
    let mut found = vec![match space.free {
        0..TOO_LITTLE => Finding::of(Row::DiskSpace, "disk", what, fix),
        TOO_LITTLE..LITTLE => Finding::info("disk", what).fix(fix),
        _ => Finding::ok("disk", what),
    }];
    let fix = format!("remove small files (caches, old packages), or {elsewhere}");
    match space.files {
        Some(files @ 0..TOO_FEW) => {
            let what = format!("only {files} more files can be made for {folder}: the inodes are used up");
            found.push(Finding::of(Row::DiskInodes, "disk", what, fix));
        }
        Some(files @ TOO_FEW..FEW) => {
            let what = format!("only {files} more files can be made for {folder} (inodes)");
            found.push(Finding::info("disk", what).fix(fix));
        }
        _ => {}
    }
    found
}

/// Points in time, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// What the clock says.
    pub now: u64,
    /// What was recorded last.
    pub recorded: Option<u64>,
    /// What the engine's clock says.
    pub engine: Option<u64>,
}

/// Whether the clock can be right.
#[must_use]
pub fn clock(clock: Clock) -> Option<Finding> {
    let fix =
        "set the clock (`timedatectl set-ntp true`); logins, certificates and times of waiting depend on it";
    if let Some(ahead) = clock.recorded.and_then(|at| at.checked_sub(clock.now)).filter(|by| *by > APART) {
        let what = format!("the clock is {} behind what was recorded here last", span(ahead));
        return Some(Finding::of(Row::Clock, "clock", what, fix));
    }
    let apart = clock.engine.map(|engine| engine.abs_diff(clock.now)).filter(|by| *by > APART)?;
    let what = format!("the clock and that of the engine are {} apart", span(apart));
    Some(Finding::of(Row::Clock, "clock", what, fix))
}

fn span(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0..HOUR => format!("{} minutes", seconds / MINUTE),
        HOUR..DAY => format!("{} hours", seconds / HOUR),
        _ => format!("{} days", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn room_is_enough_little_or_too_little() {
        let level = |free, files| {
            let found = space("/s", Space { free, files }, "move it");
            found.iter().map(|finding| finding.level).max()
        };
        for (free, files, expected) in [
            (10 * MIB, None, Level::Refuse),
            (1000 * MIB, None, Level::Info),
            (5000 * MIB, None, Level::Ok),
            (5000 * MIB, Some(10), Level::Refuse),
            (5000 * MIB, Some(2000), Level::Info),
            (5000 * MIB, Some(1_000_000), Level::Ok),
        ] {
            assert_eq!(level(free, files), Some(expected), "{free} {files:?}");
        }
        assert_eq!(space("/s", Space { free: 5120 * MIB, files: None }, "")[0].what, "5.0 GiB free for /s");
    }

    #[test]
    fn a_clock_that_was_set_back_is_told() {
        let told = |now, recorded, engine| clock(Clock { now, recorded, engine }).map(|finding| finding.what);
        assert_eq!(told(1000, None, None), None);
        assert_eq!(told(1000, Some(1060), Some(900)), None);
        assert_eq!(told(1000, Some(500), None), None);
        let back = told(1000, Some(1000 + 3 * 86_400), None);
        assert_eq!(back.as_deref(), Some("the clock is 3 days behind what was recorded here last"));
        let apart = told(10_000, None, Some(2_000));
        assert_eq!(apart.as_deref(), Some("the clock and that of the engine are 2 hours apart"));
    }
}
