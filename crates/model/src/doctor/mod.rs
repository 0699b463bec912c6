//! The doctor's rules: what is wrong with a machine, a state and a project, by what was seen of them.
//!
//! Every kind of trouble is a [`Row`] with a name that stays; a [`Finding`] is a row that was met, or what is good to know.

mod files;
mod finding;
mod images;
mod machine;
mod migrations;
mod ports;
mod registry;
mod repository;
mod row;
mod state;
mod versions;
mod volumes;

#[cfg(test)]
mod reference_tests;

pub use files::{edited, readable};
pub use finding::{Finding, Level};
pub use images::{SeenImage, images};
pub use machine::{Clock, Space, clock, space};
pub use migrations::{mismatch, unfinished_migration};
pub use ports::{Listener, WantedPort, listeners, ports};
pub use registry::{Answer, registry};
pub use repository::{credential, dirty};
pub use row::{About, Purpose, Row};
pub use state::{Cut, SeenActive, active, cut, orphan, stuck, unfinished};
pub use versions::versions;
pub use volumes::{Kept, SeenVolumes, volumes};
