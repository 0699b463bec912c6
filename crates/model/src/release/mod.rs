//! Versions: what a release holds, which generation of a project is in effect, how another takes its place, and what is
//! done about a change of them that was cut off.

mod active;
pub mod bundle;
mod cost;
#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod forward_only_tests;
pub mod host_paths;
pub mod ledger;
mod lock;
pub mod migration;
#[cfg(test)]
mod migration_tests;
mod offer;
mod pin;
#[cfg(test)]
mod pin_tests;
mod recover;
#[cfg(test)]
mod recover_tests;
mod repository;
mod retention;
pub mod stand_in;
#[cfg(test)]
mod stand_in_tests;
mod upgrade;
mod version;
pub mod way_back;
#[cfg(test)]
mod way_back_tests;

pub use active::Active;
pub use bundle::{BadBundle, Bundle, BundledFile, PinnedImage};
pub use cost::{Cost, Timed};
pub use lock::{lock, locked};
pub use migration::{Migration, MigrationError, MigrationId};
pub use offer::{Offer, Standing, offers};
pub use pin::{Pins, VERSION_VARIABLE, on_host, pinned};
pub use recover::{Decision, Undo, recover};
pub use repository::{BadAddress, Origin, Repository, SCHEME};
pub use retention::needed;
pub use upgrade::{Copy, Holds, Kind, Lane, Load, Part, Put, Step, Upgrade, puts};
pub use version::{BadVersion, Version, latest, near, versions};
