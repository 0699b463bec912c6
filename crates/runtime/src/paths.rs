//! Where state and configuration lie.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use setpoint_model::digest::{Digest, Encoder};

/// The environment variables of the process that asks, as the edge saw them.
pub type Variables = BTreeMap<OsString, OsString>;

/// The folders under which everything lies that Setpoint keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Databases, locks, units, content.
    pub state: PathBuf,
    /// Keys, trust and the user's settings.
    pub config: PathBuf,
}

/// Why the roots cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// None of the variables that could say so is set.
    #[error("there is no place for Setpoint's {what}: neither {variable} nor HOME is set")]
    NoHome {
        /// `state` or `configuration`.
        what: &'static str,
        /// The variable that moves it.
        variable: &'static str,
    },
    /// A root would depend on the current folder.
    #[error("{variable} must be an absolute path, and is `{}`", value.display())]
    Relative {
        /// Which variable.
        variable: &'static str,
        /// What it holds.
        value: PathBuf,
    },
}

impl Roots {
    /// Finds the roots.
    ///
    /// State: `SETPOINT_STATE`, else `/var/lib/setpoint` for root, else `$XDG_STATE_HOME/setpoint`, else
    /// `~/.local/state/setpoint`. Configuration: `SETPOINT_CONFIG`, else `$XDG_CONFIG_HOME/setpoint`, else
    /// `~/.config/setpoint`, else `/etc/setpoint` for root. Empty variables count as unset, and so do relative
    /// ones of XDG, as its specification says.
    ///
    /// # Errors
    /// [`RootsError`] if no variable says where, or ours are relative.
    pub fn from_variables(variables: &Variables, is_root: bool) -> Result<Self, RootsError> {
        let state = match own(variables, "SETPOINT_STATE")? {
            Some(path) => path,
            None if is_root => PathBuf::from("/var/lib/setpoint"),
            None => below_home(variables, "XDG_STATE_HOME", ".local/state")
                .ok_or(RootsError::NoHome { what: "state", variable: "SETPOINT_STATE" })?,
        };
        let config = match own(variables, "SETPOINT_CONFIG")? {
            Some(path) => path,
            None => match below_home(variables, "XDG_CONFIG_HOME", ".config") {
                Some(path) => path,
                None if is_root => PathBuf::from("/etc/setpoint"),
                None => {
                    return Err(RootsError::NoHome { what: "configuration", variable: "SETPOINT_CONFIG" });
                }
            },
        };
        Ok(Self { state, config })
    }
}

/// One of our own variables, which has to be absolute.
fn own(variables: &Variables, variable: &'static str) -> Result<Option<PathBuf>, RootsError> {
    match set(variables, variable) {
        Some(value) if value.is_relative() => Err(RootsError::Relative { variable, value }),
        other => Ok(other),
    }
}

fn below_home(variables: &Variables, xdg: &str, default: &str) -> Option<PathBuf> {
    let base = set(variables, xdg)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(set(variables, "HOME").filter(|path| path.is_absolute())?.join(default)))?;
    Some(base.join("setpoint"))
}

fn set(variables: &Variables, name: &str) -> Option<PathBuf> {
    variables.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Makes a folder below a root, and those above it, for their user's eyes only.
pub(crate) fn make_private_folder(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// As [`make_private_folder`]; a folder that was not there has its name on the disk when this returns.
pub(crate) fn make_lasting_folder(path: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    make_private_folder(path)?;
    let above = missing.iter().filter_map(|folder| folder.parent());
    above.filter(|folder| !folder.as_os_str().is_empty()).try_for_each(sync_folder)
}

/// Waits until the names in a folder are on the disk.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// A path of the manifest with the home in place of a leading `~`.
#[must_use]
pub fn expand_home(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// Names files after a project, and one of its units where it is about one: a digest, for paths may be longer
/// than file names.
pub(crate) fn project_key(project_root: &Path, unit: Option<&str>) -> Digest {
    use std::os::unix::ffi::OsStrExt as _;
    Encoder::new("project key", 1).bytes(project_root.as_os_str().as_bytes()).option(unit).finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn roots(variables: &[(&str, &str)], is_root: bool) -> Result<Roots, RootsError> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Roots::from_variables(&variables, is_root)
    }

    fn found(variables: &[(&str, &str)], is_root: bool) -> (String, String) {
        let roots = roots(variables, is_root).unwrap();
        (roots.state.display().to_string(), roots.config.display().to_string())
    }

    #[test]
    fn the_first_variable_that_says_where_wins() {
        let home = ("HOME", "/home/a");
        for (variables, is_root, state, config) in [
            (vec![home], false, "/home/a/.local/state/setpoint", "/home/a/.config/setpoint"),
            (vec![home], true, "/var/lib/setpoint", "/home/a/.config/setpoint"),
            (vec![], true, "/var/lib/setpoint", "/etc/setpoint"),
            (
                vec![home, ("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c")],
                false,
                "/s/setpoint",
                "/c/setpoint",
            ),
            (
                vec![home, ("XDG_STATE_HOME", "s")],
                false,
                "/home/a/.local/state/setpoint",
                "/home/a/.config/setpoint",
            ),
            (vec![("SETPOINT_STATE", "/s"), ("SETPOINT_CONFIG", "/c")], false, "/s", "/c"),
            (vec![("SETPOINT_STATE", "/s"), ("SETPOINT_CONFIG", "/c")], true, "/s", "/c"),
            (
                vec![home, ("SETPOINT_STATE", "")],
                false,
                "/home/a/.local/state/setpoint",
                "/home/a/.config/setpoint",
            ),
        ] {
            assert_eq!(found(&variables, is_root), (state.to_owned(), config.to_owned()), "{variables:?}");
        }
    }

    #[test]
    fn nothing_to_go_by_is_an_error() {
        assert!(matches!(roots(&[], false), Err(RootsError::NoHome { what: "state", .. })));
        assert!(matches!(roots(&[("SETPOINT_STATE", "s")], true), Err(RootsError::Relative { .. })));
    }
}
