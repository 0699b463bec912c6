//! Logins for registries: from the environment, or as `docker login` saved them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError as Trouble, DockerCredential, get_credential_from_reader};
use oci_client::secrets::RegistryAuth;

use super::error::ImageError;

/// Logins for registries.
///
/// `SETPOINT_REGISTRY_USER` and `SETPOINT_REGISTRY_PASSWORD` come first, for whatever registry is asked; then the
/// file `config.json` in `DOCKER_CONFIG` or `~/.docker`, and the helpers that it names. Nothing is read before a
/// registry is asked, and nothing of it is ever printed.
#[derive(Clone, Default)]
pub struct Credentials {
    login: Option<(String, String)>,
    file: Option<PathBuf>,
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
        let get = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let login = get("SETPOINT_REGISTRY_USER").zip(get("SETPOINT_REGISTRY_PASSWORD"));
        let folder = get("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| get("HOME").map(|home| PathBuf::from(home).join(".docker")));
        Credentials {
            login: login.map(|(user, password)| (user.clone(), password.clone())),
            file: folder.map(|folder| folder.join("config.json")),
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
        if let Some((user, password)) = &self.login {
            return Ok(RegistryAuth::Basic(user.clone(), password.clone()));
        }
        let Some(path) = &self.file else { return Ok(RegistryAuth::Anonymous) };
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

/// The names by which `docker login` saves a registry.
fn names(registry: &str) -> Vec<String> {
    if matches!(registry, "docker.io" | "index.docker.io") {
        return ["https://index.docker.io/v1/", "index.docker.io", "docker.io"].map(str::to_owned).to_vec();
    }
    vec![registry.to_owned(), format!("https://{registry}")]
}

/// Why a saved login cannot be used; what a helper printed is left out, for it may be the secret.
fn why(trouble: &Trouble, path: &std::path::Path) -> String {
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
}
