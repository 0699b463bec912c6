//! Logins for registries: from the environment, or as `docker login` saved them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError as Trouble, DockerCredential, get_credential_from_reader};
use oci_client::secrets::RegistryAuth;

use super::error::ImageError;

/// Whose password it is.
pub(super) const USER: &str = "SETPOINT_REGISTRY_USER";
/// The password itself.
pub(super) const PASSWORD: &str = "SETPOINT_REGISTRY_PASSWORD";
/// The file that holds the password.
pub(super) const PASSWORD_FILE: &str = "SETPOINT_REGISTRY_PASSWORD_FILE";
/// How many bytes a password may have: more than any token, and less than what a wrong path may lead to.
const MOST: u64 = 64 << 10;

/// Logins for registries.
///
/// `SETPOINT_REGISTRY_USER` comes first, for whatever registry is asked, with the password in
/// `SETPOINT_REGISTRY_PASSWORD` or in the file that `SETPOINT_REGISTRY_PASSWORD_FILE` names; then the file
/// `config.json` in `DOCKER_CONFIG` or `~/.docker`, and the helpers that it names. Nothing is read before a registry is
/// asked, and nothing of it is ever printed.
#[derive(Clone, Default)]
pub struct Credentials {
    user: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    saved: Option<PathBuf>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Credentials {
    /// No logins at all.
    pub fn none() -> Credentials {
        Credentials::default()
    }

    /// From environment variables.
    pub fn from_env(environment: &BTreeMap<String, String>) -> Credentials {
        let get = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let folder = get("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| get("HOME").map(|home| PathBuf::from(home).join(".docker")));
        Credentials {
            user: get(USER),
            password: get(PASSWORD),
            password_file: get(PASSWORD_FILE).map(PathBuf::from),
            saved: folder.map(|folder| folder.join("config.json")),
        }
    }

    /// The files that hold passwords of registries: the one that the environment names, and what `docker login` wrote, unless
    /// helpers keep them all.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let holds_some = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .is_ok_and(|text| ["\"auth\"", "\"identitytoken\""].iter().any(|key| text.contains(key)))
        };
        self.password_file.clone().into_iter().chain(self.saved.clone().filter(holds_some)).collect()
    }

    /// The user and password that the environment gives.
    fn given(&self) -> Result<Option<(String, String)>, ImageError> {
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => return Err(ImageError::TwoPasswords),
            (Some(password), None) => password.clone(),
            (None, Some(path)) => password_in(path)?,
            (None, None) => return Ok(None),
        };
        match &self.user {
            Some(user) => Ok(Some((user.clone(), password))),
            None => Err(ImageError::PasswordOfNobody),
        }
    }

    /// The registry of a reference, and the reference in full.
    pub(crate) fn registry_of(reference: &str) -> Result<(String, String), ImageError> {
        let parsed = super::source::reference(reference)?;
        Ok((parsed.registry().to_owned(), parsed.whole()))
    }

    /// The user and password for a registry, if there is a login.
    pub(crate) fn login(&self, registry: &str) -> Result<Option<(String, String)>, ImageError> {
        Ok(match self.of(registry)? {
            RegistryAuth::Basic(user, password) => Some((user, password)),
            _ => None,
        })
    }

    /// The login for a registry.
    pub(super) fn of(&self, registry: &str) -> Result<RegistryAuth, ImageError> {
        if let Some((user, password)) = self.given()? {
            return Ok(RegistryAuth::Basic(user, password));
        }
        let Some(path) = &self.saved else { return Ok(RegistryAuth::Anonymous) };
        let unusable = |reason: String| ImageError::SavedLogin { registry: registry.to_owned(), reason };
        for server in names(registry) {
            let file = match File::open(path) {
                Ok(file) => file,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => break,
                Err(e) => return Err(unusable(format!("`{}`: {e}", path.display()))),
            };
            match get_credential_from_reader(BufReader::new(file), &server) {
                Ok(DockerCredential::UsernamePassword(user, password)) => {
                    return Ok(RegistryAuth::Basic(user, password));
                }
                Ok(DockerCredential::IdentityToken(_)) => {
                    return Err(unusable(
                        "it is an identity token, and only user and password are known".to_owned(),
                    ));
                }
                Err(Trouble::NoCredentialConfigured) => {}
                // This is how helpers say that they have none.
                Err(Trouble::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {}
                Err(trouble) => return Err(unusable(why(&trouble, path))),
            }
        }
        Ok(RegistryAuth::Anonymous)
    }
}

/// The password in a file: all of it but its last line end, which an editor adds and nobody means.
fn password_in(path: &Path) -> Result<String, ImageError> {
    let unusable = |reason: String| ImageError::PasswordFile { path: path.to_owned(), reason };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MOST + 1).read_to_string(&mut text))
        .map_err(|error| unusable(error.to_string()))?;
    if text.len() as u64 > MOST {
        return Err(unusable(format!("it has more than {MOST} bytes")));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    match line.strip_suffix('\r').unwrap_or(line) {
        "" => Err(unusable("it is empty".to_owned())),
        password => Ok(password.to_owned()),
    }
}

/// The names by which `docker login` saves a registry.
fn names(registry: &str) -> Vec<String> {
    if matches!(registry, "docker.io" | "index.docker.io") {
        return ["https://index.docker.io/v1/", "index.docker.io", "docker.io"].map(str::to_owned).to_vec();
    }
    vec![registry.to_owned(), format!("https://{registry}")]
}

/// Why a saved login cannot be used; what a helper printed is left out, for it may be the secret.
fn why(trouble: &Trouble, path: &Path) -> String {
    let path = path.display();
    match trouble {
        Trouble::HelperCommunicationError => "its credential helper could not be run".to_owned(),
        Trouble::MalformedHelperResponse => "its credential helper gave no JSON".to_owned(),
        Trouble::HelperFailure { helper, .. } => format!("the credential helper `{helper}` failed"),
        Trouble::CredentialDecodingError => format!("its `auth` in `{path}` is not in Base64"),
        Trouble::CredentialMismatchError => format!("`auth` and `username` in `{path}` differ"),
        Trouble::NoCredentialConfigured | Trouble::ConfigNotFound => "there is none".to_owned(),
        Trouble::ConfigReadError => format!("`{path}` cannot be read"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Credentials {
        Credentials::from_env(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_environment_comes_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let json = r#"{"auths":{"r.example":{"auth":"YW5uOnNlY3JldA=="}}}"#;
        std::fs::write(folder.path().join("config.json"), json).unwrap();
        let path = folder.path().to_str().unwrap();
        let saved = from(&[("DOCKER_CONFIG", path)]);
        assert!(saved.of("r.example").unwrap() == RegistryAuth::Basic("ann".into(), "secret".into()));
        assert!(saved.of("other.example").unwrap() == RegistryAuth::Anonymous);
        let both = from(&[
            ("DOCKER_CONFIG", path),
            ("SETPOINT_REGISTRY_USER", "ben"),
            ("SETPOINT_REGISTRY_PASSWORD", "hidden"),
        ]);
        assert!(both.of("r.example").unwrap() == RegistryAuth::Basic("ben".into(), "hidden".into()));
        assert_eq!(format!("{both:?}"), "Credentials(..)");
    }

    #[test]
    fn no_file_is_no_login_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert!(from(&[("HOME", path)]).of("r.example").unwrap() == RegistryAuth::Anonymous);
        std::fs::write(folder.path().join("config.json"), "{").unwrap();
        let error = from(&[("DOCKER_CONFIG", path)]).of("r.example").unwrap_err();
        assert!(matches!(error, ImageError::SavedLogin { .. }), "{error}");
    }

    #[test]
    fn a_password_is_taken_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let given = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            from(&[(USER, "ann"), (PASSWORD_FILE, path.to_str().unwrap())]).login("r.example")
        };
        for (text, password) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret\n\n", "secret\n"),
            (" sec ret \n", " sec ret "),
            ("{\n  \"key\": 1\n}\n", "{\n  \"key\": 1\n}"),
        ] {
            assert_eq!(given(text.as_bytes()).unwrap(), Some(("ann".to_owned(), password.to_owned())));
        }
        let long = vec![b'a'; MOST as usize + 1];
        for (text, why) in [
            (&b""[..], "it is empty"),
            (b"\n", "it is empty"),
            (b"\xffsecret", "UTF-8"),
            (&long, "more than 65536 bytes"),
        ] {
            let error = given(text).unwrap_err();
            assert!(matches!(error, ImageError::PasswordFile { .. }), "{error}");
            assert!(error.to_string().contains(why), "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert!(error.hint().unwrap().contains(PASSWORD_FILE));
        }
    }

    #[test]
    fn a_login_that_the_environment_gives_by_halves_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let (missing, folder) = (missing.to_str().unwrap(), folder.path().to_str().unwrap());
        let error = |pairs: &[(&str, &str)]| {
            let credentials = from(pairs);
            let error = credentials.login("r.example").unwrap_err();
            let text = format!("{error} {error:?} {:?} {credentials:?}", error.hint().unwrap());
            assert!(!text.contains("hidden"), "{text}");
            text
        };
        assert!(error(&[(USER, "ann"), (PASSWORD_FILE, missing)]).contains("No such file"));
        assert!(error(&[(USER, "ann"), (PASSWORD_FILE, folder)]).contains("directory"));
        assert!(error(&[(USER, "ann"), (PASSWORD, "hidden"), (PASSWORD_FILE, missing)]).contains("both set"));
        assert!(error(&[(PASSWORD, "hidden")]).contains("is not"));
        // What is empty is not set, as in builds of others that see no secrets: they go on without a login.
        let empty = from(&[(USER, "ann"), (PASSWORD, ""), (PASSWORD_FILE, "")]);
        assert_eq!(empty.login("r.example").unwrap(), None);
    }
}
