//! Points at which the tests may kill this process. Without the feature `failpoints` there are none.

use setpoint_model::plan::Step;

/// Arms the point that `SETPOINT_CRASH_AT` names, such as `create.acted`: the process is killed there, as by
/// `kill -9`.
pub fn arm() {
    #[cfg(feature = "failpoints")]
    if let Ok(point) = std::env::var("SETPOINT_CRASH_AT") {
        let _ = fail::cfg_callback(point, || {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        });
    }
}

/// A point of a step: `announced` in the journal, `acted`, `recorded`.
#[cfg_attr(
    not(feature = "failpoints"),
    expect(unused_variables, reason = "there are no points without the feature")
)]
pub(crate) fn reached(step: &Step, when: &str) {
    #[cfg(feature = "failpoints")]
    passed(&format!("{}.{when}", crate::apply::label(step)));
}

/// A point of what is done without a plan: `adopt.acted`.
#[cfg_attr(
    not(feature = "failpoints"),
    expect(unused_variables, reason = "there are no points without the feature")
)]
pub(crate) fn passed(point: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(point);
}
