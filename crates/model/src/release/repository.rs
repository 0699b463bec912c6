//! Where releases lie: a repository of an OCI registry, and a version in it.

use serde::{Deserialize, Serialize};

use super::version::{BadVersion, Version};

/// What an address of a release begins with.
pub const SCHEME: &str = "oci://";

/// A repository of a registry, with the registry's name: `ghcr.io/acme/shop`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(String);

/// Why a text is no repository, or no address of a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is no repository.
    #[error("`{text}` is no repository of a registry: {why}")]
    Repository {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It names no version.
    #[error("`{0}` names no version")]
    NoVersion(String),
    /// What it names as the version is none.
    #[error(transparent)]
    Version(#[from] BadVersion),
}

impl Repository {
    /// Reads a repository; `oci://` before it means nothing.
    ///
    /// # Errors
    /// [`BadAddress::Repository`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let bad = |why| BadAddress::Repository { text: text.to_owned(), why };
        let plain = text.strip_prefix(SCHEME).unwrap_or(text);
        let (host, path) = plain.split_once('/').ok_or(bad("it has no `/`"))?;
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        let is_host = host.contains(['.', ':']) || host == "localhost";
        let of_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if !is_host || name.is_empty() || !host.chars().all(of_host) {
            return Err(bad("it does not begin with the name of a registry, such as `ghcr.io`"));
        }
        let of_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_part = |part: &str| {
            part.starts_with(of_path)
                && part.ends_with(of_path)
                && part.chars().all(|c| of_path(c) || matches!(c, '.' | '_' | '-'))
        };
        if !path.split('/').all(is_part) {
            return Err(bad("after the registry come names of lower-case letters, digits, `.`, `_` and `-`"));
        }
        Ok(Self(plain.to_owned()))
    }

    /// The repository, as references begin with it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its address, as manifests and people write it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Repository {
    type Error = BadAddress;
    fn try_from(text: String) -> Result<Self, BadAddress> {
        Self::parse(&text)
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
        repository.0
    }
}

/// A version of a repository: `oci://ghcr.io/acme/shop:v0.3.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where it lies.
    pub repository: Repository,
    /// Which it is.
    pub version: Version,
}

impl Origin {
    /// Reads the address of a release.
    ///
    /// # Errors
    /// [`BadAddress`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let is_tag = |(_, tag): &(&str, &str)| !tag.contains('/');
        match text.rsplit_once(':').filter(is_tag) {
            Some((repository, version)) => {
                Ok(Self { repository: Repository::parse(repository)?, version: Version::parse(version)? })
            }
            None => {
                let repository = Repository::parse(text)?;
                Err(BadAddress::NoVersion(repository.address()))
            }
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.repository.address(), self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_repository_and_a_version() {
        for (text, repository, version) in [
            ("oci://ghcr.io/acme/shop:v0.3.0", "ghcr.io/acme/shop", "0.3.0"),
            ("127.0.0.1:5000/shop:1.0.0-rc.1", "127.0.0.1:5000/shop", "1.0.0-rc.1"),
            ("oci://localhost/a/b_c/d.e:2.0.0", "localhost/a/b_c/d.e", "2.0.0"),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert_eq!(
                (origin.repository.as_str(), origin.version.to_string().as_str()),
                (repository, version)
            );
            assert_eq!(Origin::parse(&origin.to_string()).unwrap(), origin);
        }
    }

    #[test]
    fn what_is_no_address_is_told() {
        for (text, why) in [
            ("oci://ghcr.io/acme/shop", "names no version"),
            ("oci://ghcr.io:5000/acme/shop", "names no version"),
            ("oci://ghcr.io/acme/shop:latest", "`latest` is no version"),
            ("acme/shop:1.0.0", "does not begin with the name of a registry"),
            ("shop", "has no `/`"),
            ("oci://ghcr.io/Acme:1.0.0", "lower-case"),
            ("oci://ghcr.io/../x:1.0.0", "lower-case"),
            ("oci://:5/x:1.0.0", "name of a registry"),
            ("", "has no `/`"),
        ] {
            let error = Origin::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
