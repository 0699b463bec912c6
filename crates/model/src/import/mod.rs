//! Files of other tools, read as they are: from text to values of our own, and to notes on what has no equal here.

pub mod compose;
pub mod devcontainer;
mod support;
mod text;

pub use support::{Level, Support};
pub use text::Text;
