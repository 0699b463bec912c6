//! How long runs are kept.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Runs;
use super::kept::EVENTS;

/// How many runs of a project are kept.
pub(super) const KEPT: usize = 50;
/// For how long.
pub(super) const AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Removes the runs that are too many or too old; never this one, and never one that goes on. What cannot be
/// removed is tried again at the end of the next run.
pub(super) fn trim(runs: &Runs, present: u64) {
    let Ok(numbers) = runs.numbers() else { return };
    let too_many = numbers.len().saturating_sub(KEPT);
    for (place, number) in numbers.into_iter().enumerate() {
        let folder = runs.folder_of(number);
        // Numbers are in order of time: the first that may stay ends the search.
        if place >= too_many && !is_old(&folder) {
            return;
        }
        if number != present {
            remove(&folder);
        }
    }
}

/// Whether nothing has been added to a run's folder for too long.
fn is_old(folder: &Path) -> bool {
    let changed = std::fs::metadata(folder).and_then(|metadata| metadata.modified());
    let age = changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
    age.is_some_and(|age| age > AGE)
}

fn remove(folder: &Path) {
    // Held until the folder is gone.
    let events = File::open(folder.join(EVENTS));
    if let Ok(events) = &events
        && events.try_lock().is_err()
    {
        return;
    }
    let _ = std::fs::remove_dir_all(folder);
}
