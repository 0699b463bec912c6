//! Work on a file system that may never answer: done on a thread that can be left behind.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::CasError;

/// Says what is being looked at. Cheap enough to be told of every file.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    steps: AtomicU64,
    at: Mutex<Vec<u8>>,
}

impl Progress {
    /// The next file is looked at.
    pub(crate) fn look_at(&self, path: &Path) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.clear();
        at.extend_from_slice(path.as_os_str().as_bytes());
        drop(at);
        self.alive();
    }

    /// The same file, but something has come of it.
    pub(crate) fn alive(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    fn path(&self) -> PathBuf {
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        std::ffi::OsString::from_vec(at.clone()).into()
    }
}

/// Does the work on a thread of its own, and gives up when nothing has moved for as long as `patience`. Work
/// that is long but goes on is never given up. What hangs in the kernel cannot be ended: its thread stays
/// behind, and ends with the process.
pub(crate) fn watch<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce(&Progress) -> T + Send + 'static,
) -> Result<T, CasError> {
    let progress = Arc::new(Progress::default());
    let (sender, receiver) = sync_channel(1);
    let theirs = Arc::clone(&progress);
    let thread = std::thread::Builder::new()
        .name("files".to_owned())
        .spawn(move || {
            // Nobody listens any more if the work took too long.
            let _ = sender.send(work(&theirs));
        })
        .map_err(|error| CasError::new(Path::new("/proc/self/task"), error))?;
    let mut seen = 0;
    loop {
        match receiver.recv_timeout(patience) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => {
                let now = progress.steps.load(Ordering::Relaxed);
                if now == seen {
                    return Err(CasError::Hung { path: progress.path(), after: patience });
                }
                seen = now;
            }
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("the thread sends before it ends"),
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    #[test]
    fn what_hangs_is_named() {
        let result = watch(SHORT, |progress| {
            progress.look_at(Path::new("/net/a"));
            progress.look_at(Path::new("/net/b"));
            std::thread::sleep(Duration::from_secs(60));
        });
        let Err(CasError::Hung { path, after }) = result else { panic!("{result:?}") };
        assert_eq!((path.as_path(), after), (Path::new("/net/b"), SHORT));
    }

    #[test]
    fn what_goes_on_is_waited_for() {
        let result = watch(SHORT, |progress| {
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(30));
                progress.alive();
            }
            7
        });
        assert_eq!(result.unwrap(), 7);
    }
}
