//! Backups: what services keep, in a folder or a registry, by digests; and the way back.

mod command;
mod copies;
mod document;
mod drill;
mod error;
mod folder;
mod part;
mod passing;
mod place;
mod restore;
mod take;
mod tree;

pub(crate) use copies::{Copier, Wanted};
pub use drill::{Drill, Drilled};
pub use error::BackupError;
pub(crate) use passing::{Passing, drilled};
pub use passing::{fetched, is_left, tidy, tidy_all};
pub use place::{Address, Listed, Opened, Place, list, open};
pub use restore::{change, record_first_boots};
pub use take::{Made, Plan, Taking};
