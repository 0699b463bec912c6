//! What our own files say of what the engine keeps of steps: whose it is, and which image is a state's.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine::EngineError;
use crate::paths::make_private_folder;

/// Where a state names its image. It lies there as in the upper folder of an overlay: of several states that are laid
/// on another, the topmost one's counts.
const IMAGE: &str = "fs/image/upper/image.json";
/// The version of that file.
const VERSION: u32 = 1;
/// How many digits tell one root of states from another.
const DIGITS: usize = 12;

/// The image that holds what a step, and those below it, changed of their file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptImage {
    version: u32,
    /// Which engine has it.
    pub(super) engine: String,
    /// Its id.
    pub(super) image: String,
    /// How many bytes it adds to the image that it lies on.
    pub(super) bytes: u64,
}

impl KeptImage {
    pub(super) fn new(engine: &str, image: String, bytes: u64) -> Self {
        Self { version: VERSION, engine: engine.to_owned(), image, bytes }
    }

    /// The image of a state; none where the step changed nothing of its file system.
    pub(super) fn of(state: &Path) -> Result<Option<Self>, EngineError> {
        let path = state.join(IMAGE);
        match fs::read(&path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(EngineError::io("read", &path)(error)),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(Self { version, .. }) if version != VERSION => {
                    Err(EngineError::Damaged { path, why: format!("its version is {version}") })
                }
                Ok(kept) => Ok(Some(kept)),
                Err(error) => Err(EngineError::Damaged { path, why: error.to_string() }),
            },
        }
    }

    pub(super) fn write(&self, state: &Path) -> Result<(), EngineError> {
        let path = state.join(IMAGE);
        let text = serde_json::to_vec(self).unwrap_or_default();
        make_private_folder(path.parent().unwrap_or(state)).map_err(EngineError::io("make", &path))?;
        fs::write(&path, text).map_err(EngineError::io("write", &path))
    }
}

/// Which root of states the engine keeps something for. A daemon may serve several.
#[derive(Debug)]
pub(super) struct Identity {
    path: PathBuf,
}

impl Identity {
    pub(super) fn new(state: &Path, engine: &str) -> Self {
        Self { path: state.join("engines/v1").join(engine) }
    }

    /// The identity; none if no step has run on this engine yet.
    pub(super) fn known(&self) -> Result<Option<String>, EngineError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EngineError::io("read", &self.path)(error)),
        }
    }

    /// The identity, made whole or not at all where there is none.
    pub(super) fn get(&self) -> Result<String, EngineError> {
        if let Some(known) = self.known()? {
            return Ok(known);
        }
        let folder = self.path.parent().unwrap_or(&self.path);
        make_private_folder(folder).map_err(EngineError::io("make", folder))?;
        let mut new = tempfile::NamedTempFile::new_in(folder).map_err(EngineError::io("make", &self.path))?;
        let identity = crate::random::hex().chars().take(DIGITS).collect::<String>();
        new.write_all(identity.as_bytes()).map_err(EngineError::io("write", &self.path))?;
        match new.persist_noclobber(&self.path) {
            Ok(_) => Ok(identity),
            // Another process was first.
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
                Ok(self.known()?.unwrap_or(identity))
            }
            Err(error) => Err(EngineError::io("write", &self.path)(error.error)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_identity_stays_and_differs_from_others() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let identity = Identity::new(one.path(), "docker");
        assert_eq!(identity.known().unwrap(), None);
        let made = identity.get().unwrap();
        assert_eq!((made.len(), identity.known().unwrap()), (DIGITS, Some(made.clone())));
        assert_eq!(Identity::new(one.path(), "docker").get().unwrap(), made);
        assert_ne!(Identity::new(two.path(), "docker").get().unwrap(), made);
        assert_ne!(Identity::new(one.path(), "podman").get().unwrap(), made);
    }

    #[test]
    fn the_image_of_the_topmost_state_is_that_of_all() {
        let folder = tempfile::tempdir().unwrap();
        let states = ["low", "top"].map(|name| folder.path().join(name));
        assert_eq!(KeptImage::of(&states[0]).unwrap(), None);
        for state in &states {
            let name = state.file_name().unwrap().to_str().unwrap();
            KeptImage::new("docker", format!("sha256:{name}"), 7).write(state).unwrap();
        }
        let sealed = folder.path().join("sealed");
        assert!(crate::snapshot::seal(&states[0], &sealed).unwrap().system);
        let overlays = crate::snapshot::overlays(&[sealed.clone(), states[1].clone()]).unwrap();
        let flat = folder.path().join("flat");
        for overlay in overlays {
            fs::create_dir_all(flat.join(&overlay).parent().unwrap()).unwrap();
            let layers = [sealed.join(&overlay), states[1].join(&overlay)];
            crate::flatten::flatten(&layers, &flat.join(&overlay)).unwrap();
        }
        assert_eq!(KeptImage::of(&flat).unwrap().unwrap().image, "sha256:top");
    }
}
