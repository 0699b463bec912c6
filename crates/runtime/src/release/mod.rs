//! Releases: made of a commit and pushed to a registry, fetched and verified, and kept where projects that come from one
//! take their files from.

mod error;
mod fetch;
mod install;
mod kept;
mod make;
mod offline;
mod parcel;
mod publish;
mod repository;
mod scratch;
mod sign;
mod trust;

pub use error::ReleaseError;
pub use fetch::{Registry, Wanted};
pub use install::{Install, InstallError};
pub(crate) use install::{manifest_of, write as write_file};
pub use kept::{Kept, Releases};
pub use offline::{load, save, verify};
pub use parcel::Parcel;
pub use publish::{LOCK, Published, Publishing};
pub use sign::{Keys, SigningKey};
pub use trust::{admit, trust};
