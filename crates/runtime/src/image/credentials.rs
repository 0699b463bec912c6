//! Logins for registries: from the environment, or as `docker login` saved them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError as Trouble, DockerCredential, get_credential_from_reader};
use oci_client::secrets::RegistryAuth;

use super::error::ImageError;

/// How the variables begin that give a login: `SETPOINT_REGISTRY_HOST`, or `SETPOINT_REGISTRY_NAME_HOST` of one among
/// several, and so on.
pub(crate) const PREFIX: &str = "SETPOINT_REGISTRY_";
/// The registry that it is for.
const HOST: &str = "HOST";
/// Whose password it is.
const USER: &str = "USER";
/// The password itself.
const PASSWORD: &str = "PASSWORD";
/// The file that holds the password.
const PASSWORD_FILE: &str = "PASSWORD_FILE";
/// What can be said of a login; of two that fit, the longer one comes first.
const FIELDS: [&str; 4] = [PASSWORD_FILE, PASSWORD, USER, HOST];
/// What these variables say together, for hints.
pub(crate) const VARIABLES: &str =
    "SETPOINT_REGISTRY_HOST, SETPOINT_REGISTRY_USER and SETPOINT_REGISTRY_PASSWORD";
/// How many bytes a password may have: more than any token, and less than what a wrong path may lead to.
const MOST: u64 = 64 << 10;

/// Logins for registries.
///
/// Those of the environment come first, each for the one registry that it names in `SETPOINT_REGISTRY_HOST`, with its user in
/// `SETPOINT_REGISTRY_USER`, and its password in `SETPOINT_REGISTRY_PASSWORD` or in the file that
/// `SETPOINT_REGISTRY_PASSWORD_FILE` names; of several, each has a name of its own after `REGISTRY_`. Then comes the file
/// `config.json` in `DOCKER_CONFIG` or `~/.docker`, and the helpers that it names. No login is given to another registry than
/// the one that it is for. Nothing is read before a registry is asked, and nothing of it is ever printed.
#[derive(Clone, Default)]
pub struct Credentials {
    given: BTreeMap<String, Given>,
    saved: Option<PathBuf>,
}

/// A login of the environment, by its name; the one without a name has an empty one.
#[derive(Clone, Default)]
struct Given {
    host: Option<String>,
    user: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// The variable that says something of a login.
fn variable(name: &str, field: &str) -> String {
    let name = if name.is_empty() { String::new() } else { format!("{name}_") };
    format!("{PREFIX}{name}{field}")
}

/// The name of the login that a variable says something of, and what.
fn read(variable: &str) -> Option<(&str, &'static str)> {
    let rest = variable.strip_prefix(PREFIX)?;
    FIELDS.into_iter().find_map(|field| match rest.strip_suffix(field)? {
        "" => Some(("", field)),
        name => Some((name.strip_suffix('_').filter(|name| !name.is_empty())?, field)),
    })
}

impl Given {
    /// Whether it is for this registry.
    fn is_for(&self, name: &str, registry: &str) -> Result<bool, ImageError> {
        let of = |field| variable(name, field);
        let Some(host) = &self.host else {
            return Err(ImageError::LoginForNobody { login: of(USER), host: of(HOST) });
        };
        if host.contains(['/', '@']) || host.contains(char::is_whitespace) {
            return Err(ImageError::NoHost { variable: of(HOST), value: host.clone() });
        }
        Ok(same(host) == same(registry))
    }

    /// The user and the password.
    fn login(&self, name: &str) -> Result<(String, String), ImageError> {
        let of = |field| variable(name, field);
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => {
                return Err(ImageError::TwoPasswords { one: of(PASSWORD), other: of(PASSWORD_FILE) });
            }
            (None, Some(path)) => password_in(path, &of(PASSWORD_FILE))?,
            (password, None) => password.clone().unwrap_or_default(),
        };
        match &self.user {
            Some(user) => Ok((user.clone(), password)),
            None => Err(ImageError::PasswordOfNobody { user: of(USER) }),
        }
    }
}

impl Credentials {
    /// No logins at all.
    pub fn none() -> Credentials {
        Credentials::default()
    }

    /// From environment variables.
    pub fn from_env(environment: &BTreeMap<String, String>) -> Credentials {
        let mut given: BTreeMap<String, Given> = BTreeMap::new();
        for (name, value) in environment.iter().filter(|(_, value)| !value.is_empty()) {
            let Some((name, field)) = read(name) else { continue };
            let login = given.entry(name.to_owned()).or_default();
            match field {
                HOST => login.host = Some(value.clone()),
                USER => login.user = Some(value.clone()),
                PASSWORD => login.password = Some(value.clone()),
                _ => login.password_file = Some(PathBuf::from(value)),
            }
        }
        // Without a password it is none, as in builds of others that see no secrets: they go on without a login.
        given.retain(|_, login| login.password.is_some() || login.password_file.is_some());
        let get = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let folder = get("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| get("HOME").map(|home| PathBuf::from(home).join(".docker")));
        Credentials { given, saved: folder.map(|folder| folder.join("config.json")) }
    }

    /// Whether a variable of the environment says something of a login that is no secret itself.
    #[must_use]
    pub fn is_open(variable: &str) -> bool {
        read(variable).is_some_and(|(_, field)| field != PASSWORD)
    }

    /// The files that hold passwords of registries: those that the environment names, and what `docker login` wrote, unless
    /// helpers keep them all.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let holds_some = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .is_ok_and(|text| ["\"auth\"", "\"identitytoken\""].iter().any(|key| text.contains(key)))
        };
        let given = self.given.values().filter_map(|login| login.password_file.clone());
        given.chain(self.saved.clone().filter(holds_some)).collect()
    }

    /// The user and password that the environment gives for a registry.
    fn given(&self, registry: &str) -> Result<Option<(String, String)>, ImageError> {
        let mut found: Option<&str> = None;
        for (name, login) in &self.given {
            if !login.is_for(name, registry)? {
                continue;
            }
            if let Some(one) = found.replace(name) {
                let (one, other) = (variable(one, HOST), variable(name, HOST));
                return Err(ImageError::TwoLogins { registry: registry.to_owned(), one, other });
            }
        }
        found.map(|name| self.given[name].login(name)).transpose()
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
        if let Some((user, password)) = self.given(registry)? {
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
fn password_in(path: &Path, variable: &str) -> Result<String, ImageError> {
    let unusable = |reason: String| ImageError::PasswordFile {
        path: path.to_owned(),
        reason,
        variable: variable.to_owned(),
    };
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

/// A registry by the one of its names that is compared.
fn same(registry: &str) -> String {
    match registry.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// The names by which `docker login` saves a registry.
fn names(registry: &str) -> Vec<String> {
    if same(registry) == "docker.io" {
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

    /// The one login of the environment, for `r.example`.
    fn one(fields: &[(&str, &str)]) -> Credentials {
        let named = fields.iter().map(|(field, value)| (variable("", field), (*value).to_owned()));
        Credentials::from_env(&named.chain([(variable("", HOST), "r.example".to_owned())]).collect())
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
            ("SETPOINT_REGISTRY_HOST", "R.example"),
            ("SETPOINT_REGISTRY_USER", "ben"),
            ("SETPOINT_REGISTRY_PASSWORD", "hidden"),
        ]);
        assert!(both.of("r.example").unwrap() == RegistryAuth::Basic("ben".into(), "hidden".into()));
        assert!(both.of("other.example").unwrap() == RegistryAuth::Anonymous);
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
            one(&[(USER, "ann"), (PASSWORD_FILE, path.to_str().unwrap())]).login("r.example")
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
            assert!(error.hint().unwrap().contains("SETPOINT_REGISTRY_PASSWORD_FILE"));
        }
    }

    #[test]
    fn a_login_that_the_environment_gives_by_halves_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let (missing, folder) = (missing.to_str().unwrap(), folder.path().to_str().unwrap());
        let error = |pairs: &[(&str, &str)]| {
            let credentials = one(pairs);
            let error = credentials.login("r.example").unwrap_err();
            let text = format!("{error} {error:?} {:?} {credentials:?}", error.hint().unwrap());
            assert!(!text.contains("hidden"), "{text}");
            text
        };
        assert!(error(&[(USER, "ann"), (PASSWORD_FILE, missing)]).contains("No such file"));
        assert!(error(&[(USER, "ann"), (PASSWORD_FILE, folder)]).contains("directory"));
        assert!(error(&[(USER, "ann"), (PASSWORD, "hidden"), (PASSWORD_FILE, missing)]).contains("both set"));
        assert!(error(&[(PASSWORD, "hidden")]).contains("SETPOINT_REGISTRY_USER is not"));
        // What is empty is not set, as in builds of others that see no secrets: they go on without a login.
        let empty = one(&[(USER, "ann"), (PASSWORD, ""), (PASSWORD_FILE, "")]);
        assert_eq!(empty.login("r.example").unwrap(), None);
    }

    #[test]
    fn each_login_is_for_one_registry() {
        let two = from(&[
            ("SETPOINT_REGISTRY_HOST", "r.example:5000"),
            ("SETPOINT_REGISTRY_USER", "ann"),
            ("SETPOINT_REGISTRY_PASSWORD", "one"),
            ("SETPOINT_REGISTRY_THE_HUB_HOST", "docker.io"),
            ("SETPOINT_REGISTRY_THE_HUB_USER", "ben"),
            ("SETPOINT_REGISTRY_THE_HUB_PASSWORD", "two"),
        ]);
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (registry, expected) in [
            ("r.example:5000", login("ann", "one")),
            ("index.docker.io", login("ben", "two")),
            ("docker.io", login("ben", "two")),
            ("r.example", None),
            ("r.example:5001", None),
            ("r.example:5000.evil.example", None),
            ("a.r.example:5000", None),
            ("ghcr.io", None),
        ] {
            assert_eq!(two.login(registry).unwrap(), expected, "{registry}");
        }
    }

    #[test]
    fn a_login_is_given_to_nobody_while_it_does_not_say_to_whom() {
        let of = |host: &[(&str, &str)]| {
            let login = [("SETPOINT_REGISTRY_USER", "ann"), ("SETPOINT_REGISTRY_PASSWORD", "hidden")];
            from(&[&login, host].concat()).login("r.example").unwrap_err()
        };
        for (host, told) in [
            (&[][..], "SETPOINT_REGISTRY_HOST is not"),
            (&[("SETPOINT_REGISTRY_HOST", "https://r.example")], "is `https://r.example`"),
            (&[("SETPOINT_REGISTRY_HOST", "r.example/shop")], "a registry is a host"),
            (
                &[
                    ("SETPOINT_REGISTRY_HOST", "r.example"),
                    ("SETPOINT_REGISTRY_B_HOST", "r.example"),
                    ("SETPOINT_REGISTRY_B_PASSWORD", "other"),
                ],
                "SETPOINT_REGISTRY_HOST and SETPOINT_REGISTRY_B_HOST both give a login for r.example",
            ),
        ] {
            let error = of(host);
            assert!(error.to_string().contains(told), "{error}");
            assert!(!format!("{error} {:?}", error.hint().unwrap()).contains("hidden"));
        }
    }

    #[test]
    fn variables_are_told_apart_by_their_ends() {
        for (name, expected) in [
            ("SETPOINT_REGISTRY_HOST", Some(("", HOST))),
            ("SETPOINT_REGISTRY_PASSWORD_FILE", Some(("", PASSWORD_FILE))),
            ("SETPOINT_REGISTRY_MY_CI_PASSWORD_FILE", Some(("MY_CI", PASSWORD_FILE))),
            ("SETPOINT_REGISTRY_MY_CI_PASSWORD", Some(("MY_CI", PASSWORD))),
            ("SETPOINT_REGISTRY_GHOST", None),
            ("SETPOINT_REGISTRY__HOST", None),
            ("SETPOINT_REGISTRY_TOKEN", None),
            ("REGISTRY_HOST", None),
        ] {
            assert_eq!(read(name), expected, "{name}");
        }
        assert!(Credentials::is_open("SETPOINT_REGISTRY_A_PASSWORD_FILE"));
        assert!(!Credentials::is_open("SETPOINT_REGISTRY_A_PASSWORD"));
    }
}
