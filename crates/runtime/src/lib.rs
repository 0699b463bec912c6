//! All of Setpoint's effects but the terminal: state, content, images, engines, and the one interpreter of plans.

mod accounts;
pub mod apply;
pub mod cancel;
pub mod cas;
pub mod engine;
pub mod events;
pub mod facts;
pub mod failpoints;
pub mod hooks;
mod host;
pub mod image;
pub mod lock;
pub mod logs;
pub mod observe;
pub mod paths;
pub mod pipeline;
pub mod project;
pub mod record;
pub mod runs;
pub mod secrets;
pub mod session;
pub mod store;
