//! Points at which the tests may kill this process, or have it wait. Without the feature `failpoints` there are none.

use setpoint_model::plan::Step;

/// Arms the point that `SETPOINT_CRASH_AT` names, such as `create.acted`: the process is killed there, as by
/// `kill -9`. At the one that `SETPOINT_HOLD_AT` names it stops, as by `kill -STOP`, until somebody lets it go on.
pub fn arm() {
    #[cfg(feature = "failpoints")]
    {
        use rustix::process::{Signal, getpid, kill_process};
        for (variable, signal) in [("SETPOINT_CRASH_AT", Signal::KILL), ("SETPOINT_HOLD_AT", Signal::STOP)] {
            let Ok(point) = std::env::var(variable) else { continue };
            let _ = fail::cfg_callback(point, move || {
                let _ = kill_process(getpid(), signal);
            });
        }
    }
}

/// A point by its name.
#[cfg_attr(
    not(feature = "failpoints"),
    expect(unused_variables, reason = "there are no points without the feature")
)]
pub(crate) fn at(point: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(point);
}

/// A point of a step: `announced` in the journal, `acted`, `recorded`.
#[cfg_attr(
    not(feature = "failpoints"),
    expect(unused_variables, reason = "there are no points without the feature")
)]
pub(crate) fn reached(step: &Step, when: &str) {
    #[cfg(feature = "failpoints")]
    at(&format!("{}.{when}", crate::apply::label(step)));
}
