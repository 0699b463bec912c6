//! Beginning: specs of the tests that there are.

use std::fs;
use std::path::{Path, PathBuf};

use setpoint_model::spec::{FOLDER, Runner, scaffold};

use super::{SpecError, Specs, Surroundings, files, runners};
use crate::store::Store;

/// Writes specs of the tests that there are in a folder, and gives their files.
///
/// # Errors
/// [`SpecError`] if there are specs already, or no tests, or a runner cannot say.
pub fn init(
    root: &Path,
    assignments: &[String],
    surroundings: Surroundings<'_>,
    store: &mut Store,
) -> Result<Vec<PathBuf>, SpecError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SpecError::Io { path, source }
    };
    let root = root.canonicalize().map_err(io(root))?;
    let folder = root.join(FOLDER);
    if !files(&root).map_err(io(&folder))?.is_empty() {
        return Err(SpecError::Exist(folder));
    }
    let specs = Specs { runners: runners(surroundings.roots, &root, assignments)?, specs: Vec::new(), root };
    let listings = specs.listings(detected(&specs.root), surroundings, store)?;
    let made = scaffold(&listings);
    if made.is_empty() {
        return Err(SpecError::NoTests(specs.root));
    }
    fs::create_dir_all(&folder).map_err(io(&folder))?;
    let mut written = Vec::new();
    for (id, text) in made {
        let path = folder.join(format!("{id}.toml"));
        fs::write(&path, text).map_err(io(&path))?;
        written.push(path);
    }
    Ok(written)
}

/// The runners that have something to run in a folder, by the files that say so.
pub(super) fn detected(root: &Path) -> Vec<Runner> {
    let has = |name: &str| root.join(name).is_file();
    let mut found = Vec::new();
    if has("Cargo.toml") {
        found.push(Runner::Cargo);
    }
    if has("pytest.ini")
        || [root.to_owned(), root.join("tests"), root.join("test")].iter().any(|at| has_pytest(at))
    {
        found.push(Runner::Pytest);
    }
    if has("go.mod") {
        found.push(Runner::Go);
    }
    if fs::read_to_string(root.join("package.json")).is_ok_and(|text| text.contains("\"vitest\"")) {
        found.push(Runner::Vitest);
    }
    found
}

fn has_pytest(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name.starts_with("test_") && name.ends_with(".py")) || name.ends_with("_test.py")
    })
}
