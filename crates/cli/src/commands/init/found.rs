//! What a folder holds that a manifest could be made of.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use setpoint_model::names::PackName;

use super::tart::Tart;

/// Files that tell what a project is.
const TELLING: [&str; 14] = [
    "Cargo.toml",
    "Cargo.lock",
    "package-lock.json",
    "package.json",
    "pyproject.toml",
    "uv.lock",
    "go.mod",
    "go.sum",
    ".devcontainer/devcontainer.json",
    ".devcontainer.json",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The telling files, as paths in the folder.
    pub(super) files: BTreeSet<String>,
    /// The packs that have a script, `base` first, then by name.
    pub(super) packs: Vec<PackName>,
    /// What remo-tart's `project.toml` says.
    pub(super) tart: Option<Tart>,
}

impl Found {
    /// Looks into a folder; `tart` is the file of remo-tart, where it is not at one of its usual places.
    pub(super) fn in_folder(folder: &Path, tart: Option<&Path>) -> std::io::Result<Self> {
        fs::read_dir(folder)?;
        let files =
            TELLING.into_iter().filter(|file| folder.join(file).is_file()).map(str::to_owned).collect();
        let usual = [".tart/project.toml", "project.toml"].map(|file| folder.join(file));
        let given = tart.map(Path::to_owned).into_iter();
        let mut texts = given.chain(usual).map(|file| fs::read_to_string(file).unwrap_or_default());
        let mut tart = texts.find_map(|text| Tart::parse(&text));
        if let Some(tart) = &mut tart {
            tart.provision_exists =
                tart.provision.as_ref().is_some_and(|script| folder.join(script).is_file());
        }
        Ok(Self { files, packs: packs(&folder.join(".setpoint/packs")), tart })
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.files.contains(file)
    }
}

/// The packs of a folder; `_lib.sh` is no pack.
fn packs(folder: &Path) -> Vec<PackName> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        PackName::new(name.strip_suffix(".sh")?).ok()
    };
    let mut packs: Vec<_> = entries.filter_map(Result::ok).filter_map(name).collect();
    packs.sort_by_key(|pack| (pack.as_str() != "base", pack.clone()));
    packs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[package]");
        write("README.md", "");
        for pack in ["_lib", "uv", "base", "Bad Name"] {
            write(&format!(".setpoint/packs/{pack}.sh"), "");
        }
        write("project.toml", "packs = [\"uv\"]\n[scripts]\nprovision = \"setup.sh\"");
        write("setup.sh", "");
        let found = Found::in_folder(folder.path(), None).unwrap();
        assert_eq!(found.files, BTreeSet::from(["Cargo.toml".to_owned()]));
        assert_eq!(found.packs.iter().map(PackName::as_str).collect::<Vec<_>>(), ["base", "uv"]);
        assert!(found.tart.unwrap().provision_exists);
    }
}
