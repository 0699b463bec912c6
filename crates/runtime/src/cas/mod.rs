//! Digests of files: by content, each file read once and from then on only looked at.
//!
//! [`look`] does such work on a thread of its own, so that a file system that never answers is a named error:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use setpoint_runtime::cas::{Globs, StatCache, look};
//! # let (project, patience) = (tempfile::tempdir()?, std::time::Duration::from_secs(5));
//! # std::fs::write(project.path().join("Cargo.lock"), "")?;
//! let (root, globs) = (project.path().to_owned(), Globs::new(&["Cargo.lock", "src/**/*.rs"])?);
//! let mut cache = StatCache::in_memory();
//! let inputs = look(&mut cache, patience, move |files| files.inputs(&root, &globs))?;
//! assert_eq!(inputs.files.len(), 1);
//! assert_eq!(inputs.unmatched, ["src/**/*.rs"]);
//! # Ok(())
//! # }
//! ```

mod error;
mod glob;
mod inputs;
mod patience;
mod read;
mod stat_cache;
mod tree;

use std::time::Duration;

pub use error::CasError;
pub use glob::{Globs, InvalidPattern};
pub use inputs::{InputFile, Inputs};
pub(crate) use patience::{Progress, watch};
pub(crate) use read::content;
pub use read::{Script, read_once};
pub use stat_cache::StatCache;
pub(crate) use stat_cache::{Stamp, now};
pub use tree::{FileDigest, FileKind, Files};

/// Digests files through the cache, and gives up when the file system does not answer for as long as `patience`.
/// Work that is long but goes on is waited for.
///
/// # Errors
/// What `work` gives, or [`CasError::Hung`] with what was being looked at; the cache is empty then, and its file
/// as it was.
pub fn look<T: Send + 'static>(
    cache: &mut StatCache,
    patience: Duration,
    work: impl FnOnce(&mut Files<'_>) -> Result<T, CasError> + Send + 'static,
) -> Result<T, CasError> {
    let mut theirs = std::mem::take(cache);
    let (result, back) = patience::watch(patience, move |progress| {
        let result = work(&mut Files::new(&mut theirs, progress));
        (result, theirs)
    })?;
    *cache = back;
    result
}
