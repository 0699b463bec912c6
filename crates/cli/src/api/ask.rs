//! What is asked of engines and other slow ones: on threads of their own, each with a deadline and all of them bounded,
//! so that one that hangs holds up nobody else.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use setpoint_model::reconcile::Situation;
use setpoint_runtime::reconciler::control;
use setpoint_runtime::store::Unit;
use setpoint_runtime::{engine, reconciler};
use tokio::sync::{Semaphore, oneshot};

use super::problem::Problem;
use super::{ASKED, Api};

/// How long an engine may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// The stack of such a thread.
const STACK: usize = 512 * 1024;

/// Starts a thread for work that outlives the request.
pub(super) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Problem> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
    thread.spawn(work).map(drop).map_err(|error| Problem::internal(format!("no thread: {error}")))
}

impl Api {
    /// Asks on a thread of its own, and waits a few seconds for the answer.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Self) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Problem> {
        self.ask_within(&self.asked, ("questions", ASKED), DEADLINE, question).await
    }

    /// As [`Api::ask`], where there are so many places for questions of another kind, and with another deadline.
    pub(super) async fn ask_within<T: Send + 'static>(
        self: &Arc<Self>,
        places: &Arc<Semaphore>,
        (what, most): (&str, usize),
        deadline: Duration,
        question: impl FnOnce(&Self) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Problem> {
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| Problem::busy(what, most))?;
        let (answer, answered) = oneshot::channel();
        let api = Arc::clone(self);
        thread("api-ask", move || {
            // Whoever asked may be gone.
            let _ = answer.send(question(&api));
            drop(place);
        })?;
        let late = || {
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "no-answer", "the engine gives no answer")
                .hint("`setpoint doctor` says what is wrong with it")
        };
        let answered = tokio::time::timeout(deadline, answered).await.map_err(|_| late())?;
        let answer = answered.map_err(|_| Problem::internal("the question came to no end"))?;
        answer.map_err(|why| Problem::new(StatusCode::BAD_GATEWAY, "engine", why))
    }

    /// What is known of a unit that nobody keeps.
    pub(super) fn look(&self, unit: &Unit) -> Result<Situation, String> {
        let engine = engine::by_name(&unit.unit.engine, &self.roots, &self.variables)?;
        let doing = control::under_way(&self.store(), &self.roots, unit, 0);
        let doing = doing.map_err(|error| error.to_string())?;
        Ok(reconciler::unkept(engine.as_ref(), unit, doing))
    }
}
