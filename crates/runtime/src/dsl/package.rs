//! The package that pipelines in Python import: it is part of this binary, and lies in the state by its digest.

use std::fs;
use std::path::PathBuf;

use setpoint_model::digest::{Digest, Encoder};

use super::DslError;
use crate::paths::{Roots, make_private_folder};

macro_rules! package {
    ($($name:literal),+ $(,)?) => {
        const FILES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../../sdk/python/setpoint/", $name)))),+];
    };
}

package!(
    "__init__.py",
    "_cache.py",
    "_emit.py",
    "_errors.py",
    "_evaluate.py",
    "_start.py",
    "_steps.py",
    "_targets.py",
    "_values.py",
);

/// What is in the package.
pub(super) fn digest() -> Digest {
    let mut encoder = Encoder::new("setpoint.python", 1);
    for (name, text) in FILES {
        encoder.text(name).text(text);
    }
    encoder.finish()
}

/// The folder that holds the package, written once.
pub(super) fn place(roots: &Roots) -> Result<PathBuf, DslError> {
    let packages = roots.state.join("sdk/python");
    let folder = packages.join(digest().short());
    if folder.is_dir() {
        return Ok(folder);
    }
    make_private_folder(&packages).map_err(DslError::io("make", &packages))?;
    let new = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(&packages)
        .map_err(DslError::io("make", &packages))?;
    let inside = new.path().join("setpoint");
    fs::create_dir(&inside).map_err(DslError::io("make", &inside))?;
    for (name, text) in FILES {
        let path = inside.join(name);
        fs::write(&path, text).map_err(DslError::io("write", &path))?;
    }
    match fs::rename(new.path(), &folder) {
        Err(error) if !folder.is_dir() => Err(DslError::io("make", &folder)(error)),
        // Another process may have been first.
        _ => Ok(folder),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_package_is_in_the_binary() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk/python/setpoint");
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            // For those who install it: the command, and the mark of types.
            .filter(|name| name.ends_with(".py") && name != "__main__.py")
            .collect();
        names.sort();
        assert_eq!(names, FILES.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    }
}
