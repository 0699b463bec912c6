//! Versions: what a release holds, which generation of a project is in effect, how another takes its place, and what is
//! done about a change of them that was cut off.

mod active;
pub mod bundle;
mod lock;
mod pin;
#[cfg(test)]
mod pin_tests;
mod recover;
#[cfg(test)]
mod recover_tests;
mod repository;
mod upgrade;
mod version;

pub use active::Active;
pub use bundle::{BadBundle, Bundle, BundledFile, Migration, PinnedImage};
pub use lock::lock;
pub use pin::{Pins, VERSION_VARIABLE, on_host, pinned};
pub use recover::{Decision, Undo, recover};
pub use repository::{BadAddress, Origin, Repository, SCHEME};
pub use upgrade::{Copy, Holds, Kind, Lane, Load, Part, Step, Upgrade};
pub use version::{BadVersion, Version, latest, near, versions};
