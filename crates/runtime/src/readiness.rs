//! What a unit has come to, for those who wait for it.

use std::time::Duration;

use setpoint_model::import::compose::Condition;

use crate::engine::{Engine, EngineError, Health, Progress, UnitId};

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until a unit has come to what others need of it; gives why it will not, if it will not, and nothing if it is
/// not to be waited for any more.
///
/// # Errors
/// If the engine cannot be asked.
pub fn until(
    engine: &dyn Engine,
    unit: &UnitId,
    condition: Condition,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Result<(), String>>, EngineError> {
    let mut before = Progress::default();
    loop {
        let progress = engine.progress(unit)?;
        match come_to(condition, &progress) {
            // Whoever keeps it running has ended it since it was looked at last: why, its check has said.
            Some(Err(_)) if condition == Condition::Healthy && !progress.running && before.said.is_some() => {
                return Ok(Some(Err(fails(&before))));
            }
            Some(answer) => return Ok(Some(answer)),
            None if !goes_on() => return Ok(None),
            None => std::thread::sleep(PAUSE),
        }
        before = progress;
    }
}

/// Whether a unit has come to what others need of it; nothing while that is not known.
///
/// # Errors
/// Why it will not.
#[must_use]
pub fn come_to(condition: Condition, progress: &Progress) -> Option<Result<(), String>> {
    match condition {
        Condition::Started if progress.running || progress.ended == Some(0) => Some(Ok(())),
        Condition::Started => Some(Err(ended(progress))),
        Condition::Healthy => healthy(progress),
        Condition::Completed => completed(progress),
    }
}

/// Whether a unit is well; nothing while that is not known.
///
/// # Errors
/// Why it will not be.
#[must_use]
pub fn healthy(progress: &Progress) -> Option<Result<(), String>> {
    match (progress.running, progress.health) {
        (false, _) => Some(Err(ended(progress))),
        (true, Some(Health::Healthy)) => Some(Ok(())),
        (true, Some(Health::Unhealthy)) => Some(Err(fails(progress))),
        (true, Some(Health::Starting)) => None,
        (true, None) => Some(Err("it has no health check".to_owned())),
    }
}

/// Whether a unit has ended well; nothing while it runs.
///
/// # Errors
/// How it ended instead.
#[must_use]
pub fn completed(progress: &Progress) -> Option<Result<(), String>> {
    match progress.ended {
        Some(0) => Some(Ok(())),
        Some(_) => Some(Err(ended(progress))),
        // Nobody saw how it ended.
        None if !progress.running => Some(Err(ended(progress))),
        None => None,
    }
}

fn fails(progress: &Progress) -> String {
    let said = progress.said.iter().flat_map(|said| said.lines().last());
    let said: String = said.map(|line| format!(": {line}")).collect();
    format!("its health check fails{said}")
}

fn ended(progress: &Progress) -> String {
    progress.ended.map_or_else(|| "it does not run".to_owned(), |code| format!("it ended (exit {code})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wait_for_comes_to_an_end_even_if_nobody_saw_it() {
        let runs = Progress { running: true, ..Progress::default() };
        let ended = |code| Progress { ended: Some(code), ..Progress::default() };
        assert_eq!(completed(&runs), None);
        assert_eq!(completed(&ended(0)), Some(Ok(())));
        assert_eq!(completed(&ended(3)), Some(Err("it ended (exit 3)".to_owned())));
        assert_eq!(completed(&Progress::default()), Some(Err("it does not run".to_owned())));
        let said = Some("no\nlast".to_owned());
        let unwell = Progress { health: Some(Health::Unhealthy), said, ..runs };
        assert_eq!(healthy(&unwell), Some(Err("its health check fails: last".to_owned())));
        let started = |progress: &Progress| come_to(Condition::Started, progress);
        assert_eq!(started(&unwell), Some(Ok(())));
        assert_eq!(started(&ended(0)), Some(Ok(())));
        assert_eq!(started(&ended(3)), Some(Err("it ended (exit 3)".to_owned())));
    }
}
