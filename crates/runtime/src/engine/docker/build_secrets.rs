//! The values of a build's secrets, read when it begins and forgotten when it ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use setpoint_model::container::{Build, BuildSecret};

use crate::paths::expand_home;
use crate::secrets::Mask;

/// How many bytes a secret has at most: what Docker's own client lets through.
const LONGEST: u64 = 500 << 10;

/// Why a build's secret cannot be had. No variant ever carries a value.
#[derive(Debug, thiserror::Error)]
pub enum BuildSecretError {
    /// The variable is not set.
    #[error("the secret `{id}` of the build {build}: the environment variable {variable} is not set")]
    NotSet {
        /// Its id.
        id: String,
        /// What is built: the Dockerfile.
        build: String,
        /// The variable that it comes from.
        variable: String,
    },
    /// The file cannot be read.
    #[error("the secret `{id}` of the build {build}: cannot read {}: {source}", path.display())]
    Io {
        /// Its id.
        id: String,
        /// What is built: the Dockerfile.
        build: String,
        /// The file that it comes from.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no secret that a builder takes.
    #[error("the secret `{id}` of the build {build} is longer than {} KiB, the most that a builder takes", LONGEST >> 10)]
    TooLong {
        /// Its id.
        id: String,
        /// What is built: the Dockerfile.
        build: String,
    },
}

impl BuildSecretError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotSet { variable, .. } => {
                format!("set {variable} and run this again, or take the secret from a `file`")
            }
            Self::Io { .. } => "write the file, or name another one; nothing was built".to_owned(),
            Self::TooLong { id, .. } => format!("name another file for `{id}`"),
        }
    }
}

/// The values of a build's secrets, by their ids. `name` is what the build is called in messages.
///
/// # Errors
/// If one has no value.
pub(super) fn read(
    build: &Build,
    name: &str,
    project: &Path,
    variables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Vec<u8>>, BuildSecretError> {
    let home = variables.get("HOME").map(Path::new);
    let value = |(id, secret): (&String, &BuildSecret)| {
        let (id, build) = (id.clone(), name.to_owned());
        let value = match secret {
            BuildSecret::Env(variable) => match variables.get(variable) {
                Some(value) => value.clone().into_bytes(),
                None => return Err(BuildSecretError::NotSet { id, build, variable: variable.clone() }),
            },
            BuildSecret::File(path) => {
                let path = project.join(expand_home(path, home));
                match contents(&path) {
                    Ok(value) => value,
                    Err(source) => return Err(BuildSecretError::Io { id, build, path, source }),
                }
            }
        };
        if value.len() as u64 > LONGEST {
            return Err(BuildSecretError::TooLong { id, build });
        }
        Ok((id, value))
    };
    build.secrets.iter().map(value).collect()
}

/// The bytes of a file, as far as they are not too many.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut value)?;
    Ok(value)
}

/// What hides these values in the output of the build.
pub(super) fn mask(secrets: &BTreeMap<String, Vec<u8>>) -> Mask {
    let texts: Vec<_> = secrets.values().map(|value| String::from_utf8_lossy(value)).collect();
    Mask::of(texts.iter().map(AsRef::as_ref))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn read_one(secret: BuildSecret, project: &Path) -> Result<Vec<u8>, BuildSecretError> {
        let build = Build { secrets: [("tok".to_owned(), secret)].into(), ..Build::default() };
        let home = project.join("home").to_string_lossy().into_owned();
        let variables = [("HOME", home.as_str()), ("SET", "word"), ("EMPTY", "")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut values = read(&build, "Dockerfile", project, &variables.into())?;
        Ok(values.remove("tok").unwrap())
    }

    #[test]
    fn a_secret_comes_byte_by_byte_from_its_file_or_its_variable() {
        let project = tempfile::tempdir().unwrap();
        std::fs::create_dir(project.path().join("home")).unwrap();
        std::fs::write(project.path().join("token"), b"a\xff\n").unwrap();
        std::fs::write(project.path().join("home/.npmrc"), "at home").unwrap();
        let absolute = project.path().join("token").to_string_lossy().into_owned();
        for (secret, value) in [
            (BuildSecret::File("token".into()), &b"a\xff\n"[..]),
            (BuildSecret::File(absolute), b"a\xff\n"),
            (BuildSecret::File("~/.npmrc".into()), b"at home"),
            (BuildSecret::Env("SET".into()), b"word"),
            (BuildSecret::Env("EMPTY".into()), b""),
        ] {
            assert_eq!(read_one(secret, project.path()).unwrap(), value);
        }
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let project = tempfile::tempdir().unwrap();
        let told = |secret| {
            let error = read_one(secret, project.path()).unwrap_err();
            format!("{error}; {}", error.hint())
        };
        let unset = told(BuildSecret::Env("UNSET".into()));
        assert!(unset.contains("`tok` of the build Dockerfile: the environment variable UNSET is not set"));
        assert!(unset.contains("; set UNSET and run this again"));
        let gone = told(BuildSecret::File("gone".into()));
        assert!(gone.contains(&format!("{}: No such file", project.path().join("gone").display())), "{gone}");
        assert!(told(BuildSecret::File(".".into())).contains("Is a directory"));
        assert!(told(BuildSecret::File("/dev/zero".into())).contains("longer than 500 KiB"));
    }
}
