//! How a feature is called: where it comes from, and in which version.

use crate::manifest::{Problem, nearest};
use crate::names::is_loopback;

/// Where a feature comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A registry.
    Oci(OciReference),
    /// An archive at an address.
    Tarball {
        /// The address: `https://...`, or `http://...` on this machine.
        url: String,
    },
    /// A folder of the project.
    Local {
        /// Its path from the folder of the devcontainer.json, which begins with `./`.
        path: String,
    },
}

/// A feature in a registry. Its name is in small letters, since registries know no others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OciReference {
    /// The registry: `ghcr.io`.
    pub registry: String,
    /// Where it is there: `devcontainers/features`.
    pub namespace: String,
    /// Its own name: `node`.
    pub id: String,
    /// Which one of it.
    pub version: Version,
}

/// Which one of the things of a name in a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The one that this tag stands for now; nothing written is `latest`.
    Tag(String),
    /// Just this one: `sha256:...`.
    Digest(String),
}

/// Where the features that everyone uses are.
const COMMON: &str = "ghcr.io/devcontainers/features";

/// Features that were once called by a bare name, with what has taken their place.
const LEGACY: [(&str, &str); 28] = [
    ("anaconda", "anaconda"),
    ("aws-cli", "aws-cli"),
    ("azure-cli", "azure-cli"),
    ("common", "common-utils"),
    ("common-utils", "common-utils"),
    ("desktop-lite", "desktop-lite"),
    ("docker-from-docker", "docker-outside-of-docker"),
    ("docker-in-docker", "docker-in-docker"),
    ("docker-outside-of-docker", "docker-outside-of-docker"),
    ("dotnet", "dotnet"),
    ("git", "git"),
    ("git-lfs", "git-lfs"),
    ("github-cli", "github-cli"),
    ("go", "go"),
    ("golang", "go"),
    ("gradle", "java"),
    ("java", "java"),
    ("kubectl-helm-minikube", "kubectl-helm-minikube"),
    ("maven", "java"),
    ("node", "node"),
    ("nvidia-cuda", "nvidia-cuda"),
    ("powershell", "powershell"),
    ("python", "python"),
    ("ruby", "ruby"),
    ("rust", "rust"),
    ("sshd", "sshd"),
    ("terraform", "terraform"),
    ("nix", "nix"),
];

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// It is none, or of a kind that is no longer served.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::new("bad-feature", format!("`{text}` is not a feature"));
        if let Some(path) = text.strip_prefix("./") {
            if path.split('/').any(|part| part == "..") {
                return Err(outside(text));
            }
            return Ok(Self::Local { path: text.trim_end_matches('/').to_owned() });
        }
        if text.starts_with("../") || text.starts_with('/') {
            return Err(outside(text));
        }
        if is_address(text) {
            return archive(text);
        }
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [name] => Err(bare(name)),
            [owner, repository, feature] if *owner != "localhost" && !owner.contains(['.', ':']) => {
                Err(release(owner, repository, feature))
            }
            [_, _] => Err(wrong()
                .why("a feature in a registry has a registry, a place in it and a name")
                .hint(form())),
            [registry, ..] => oci(text, registry).map(Self::Oci),
            [] => Err(wrong().hint(form())),
        }
    }

    /// What it is called without a version: what `installsAfter` and `overrideFeatureInstallOrder` name.
    #[must_use]
    pub fn resource(&self) -> String {
        match self {
            Self::Oci(oci) => oci.resource(),
            Self::Tarball { url } => url.clone(),
            Self::Local { path } => path.clone(),
        }
    }
}

impl OciReference {
    /// Its name without a version: `ghcr.io/devcontainers/features/node`.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("{}/{}/{}", self.registry, self.namespace, self.id)
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Oci(oci) => match &oci.version {
                Version::Tag(tag) => write!(f, "{}:{tag}", oci.resource()),
                Version::Digest(digest) => write!(f, "{}@{digest}", oci.resource()),
            },
            Self::Tarball { url } => f.write_str(url),
            Self::Local { path } => f.write_str(path),
        }
    }
}

/// The name without the version that it may have, in small letters.
pub(super) fn without_version(name: &str) -> String {
    let name = name.to_lowercase();
    if is_address(&name) {
        return name;
    }
    let name = name.split_once('@').map_or(name.as_str(), |(name, _)| name);
    let slash = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[slash..].find(':') {
        Some(colon) => name[..slash + colon].to_owned(),
        _ => name.to_owned(),
    }
}

fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// An archive at an address. Its file has a name that tells what it is.
fn archive(url: &str) -> Result<Reference, Problem> {
    let wrong = || Problem::new("bad-feature", format!("`{url}` is not a feature"));
    let is_here = |rest: &str| {
        let host = rest.split(['/', '?', '#']).next();
        host.is_some_and(|host| !host.contains('@') && is_loopback(host))
    };
    if let Some(rest) = url.strip_prefix("http://").filter(|rest| !is_here(rest)) {
        return Err(wrong()
            .why("an address must be safe")
            .hint(format!("write `https://{rest}`, if it is there")));
    }
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let file = path.rsplit('/').next().unwrap_or_default();
    let id = file.strip_prefix("devcontainer-feature-").and_then(|rest| rest.strip_suffix(".tgz"));
    if id.is_none_or(str::is_empty) {
        return Err(wrong()
            .why(format!("the file is called `{file}`"))
            .hint("the archive of a feature is called `devcontainer-feature-NAME.tgz`"));
    }
    Ok(Reference::Tarball { url: url.to_owned() })
}

fn oci(text: &str, registry: &str) -> Result<OciReference, Problem> {
    let wrong =
        |why: String| Problem::new("bad-feature", format!("`{text}` is not a feature")).why(why).hint(form());
    let (name, version) = match text.split_once('@') {
        Some((name, digest)) => {
            let Some(hex) = digest.strip_prefix("sha256:") else {
                return Err(Problem::new("bad-feature", format!("`{text}` is not a feature"))
                    .why("behind the `@` stands a digest, which begins with `sha256:`")
                    .hint(format!("for a version, write `{name}:{digest}`")));
            };
            if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(wrong(format!(
                    "`{digest}` is not a digest, which is `sha256:` and 64 digits of base 16"
                )));
            }
            (name, Version::Digest(digest.to_lowercase()))
        }
        None => {
            let slash = text.rfind('/').unwrap_or_default();
            match text[slash..].split_once(':') {
                Some((id, tag)) => {
                    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                    if tag.is_empty()
                        || tag.len() > 128
                        || !tag.chars().all(good)
                        || tag.starts_with(['.', '-'])
                    {
                        return Err(wrong(format!("`{tag}` is not a version")));
                    }
                    (&text[..slash + id.len()], Version::Tag(tag.to_owned()))
                }
                None => (text, Version::Tag("latest".to_owned())),
            }
        }
    };
    let rest = name.get(registry.len() + 1..).unwrap_or_default().to_lowercase();
    let registry = registry.to_lowercase();
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    for part in rest.split('/') {
        if part.is_empty()
            || !part.chars().all(good)
            || !part.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            return Err(wrong(format!("`{part}` cannot be a part of a name in a registry")));
        }
    }
    let host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:".contains(c);
    let Some((namespace, id)) = rest.rsplit_once('/') else {
        return Err(wrong("a feature in a registry has a registry, a place in it and a name".to_owned()));
    };
    if registry.is_empty() || !registry.chars().all(host) {
        return Err(wrong(format!("`{registry}` cannot be a registry")));
    }
    Ok(OciReference { namespace: namespace.to_owned(), id: id.to_owned(), registry, version })
}

fn form() -> String {
    format!(
        "a feature is called `{COMMON}/node:1`, `https://.../devcontainer-feature-NAME.tgz` or `./folder`"
    )
}

fn outside(text: &str) -> Problem {
    Problem::new("feature-outside", format!("the feature `{text}` does not lie beside the devcontainer.json"))
        .why(
            "a feature of the project is a folder below that of the devcontainer.json, written as `./folder`",
        )
        .hint("move it there")
}

/// A name without a registry, which once meant a feature that came with the tool.
fn bare(name: &str) -> Problem {
    let plain = name.split(['@', ':']).next().unwrap_or(name).to_lowercase();
    let problem = Problem::new("bare-feature", format!("the feature `{name}` has no registry"));
    let meant = nearest(&plain, LEGACY.iter().map(|(old, _)| *old));
    match LEGACY.iter().find(|(old, _)| Some(*old) == meant) {
        Some((_, new)) => problem
            .why("features with bare names came with an older tool, and are now in a registry")
            .hint(format!("write `{COMMON}/{new}:1`")),
        None => problem.hint(form()),
    }
}

/// `owner/repository/feature@version`, which once meant a release on GitHub.
fn release(owner: &str, repository: &str, feature: &str) -> Problem {
    let plain = feature.split(['@', ':']).next().unwrap_or(feature);
    Problem::new("bare-feature", format!("the feature `{owner}/{repository}/{feature}` has no registry"))
        .why("features in releases of GitHub are no longer served")
        .hint(format!("write `ghcr.io/{owner}/{repository}/{plain}`, if it is there").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_in_a_registry_at_an_address_or_in_the_project() {
        for (text, shown, resource) in [
            (
                "ghcr.io/devcontainers/features/node:1",
                "ghcr.io/devcontainers/features/node:1",
                "ghcr.io/devcontainers/features/node",
            ),
            ("ghcr.io/A/Features/Go", "ghcr.io/a/features/go:latest", "ghcr.io/a/features/go"),
            ("localhost/a/go", "localhost/a/go:latest", "localhost/a/go"),
            ("localhost:5000/a/go:1.2.3", "localhost:5000/a/go:1.2.3", "localhost:5000/a/go"),
            (
                "https://example.com/v1/devcontainer-feature-x.tgz?raw=1",
                "https://example.com/v1/devcontainer-feature-x.tgz?raw=1",
                "https://example.com/v1/devcontainer-feature-x.tgz?raw=1",
            ),
            (
                "http://127.0.0.1:8000/devcontainer-feature-x.tgz",
                "http://127.0.0.1:8000/devcontainer-feature-x.tgz",
                "http://127.0.0.1:8000/devcontainer-feature-x.tgz",
            ),
            ("./mine/", "./mine", "./mine"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.to_string().as_str(), reference.resource().as_str()), (shown, resource));
        }
        let digest = format!("ghcr.io/a/b/c@sha256:{}", "0f".repeat(32));
        assert_eq!(Reference::parse(&digest).unwrap().to_string(), digest);
    }

    #[test]
    fn what_is_no_feature_is_told_with_the_name_that_was_meant() {
        let hint = |text: &str| Reference::parse(text).unwrap_err().hint.unwrap_or_default();
        assert_eq!(hint("git"), "write `ghcr.io/devcontainers/features/git:1`");
        assert_eq!(
            hint("docker-from-docker@latest"),
            "write `ghcr.io/devcontainers/features/docker-outside-of-docker:1`"
        );
        assert_eq!(hint("codspace/Features/x@v1"), "write `ghcr.io/codspace/features/x`, if it is there");
        assert_eq!(hint("http://x.org/a.tgz"), "write `https://x.org/a.tgz`, if it is there");
        assert_eq!(
            hint("https://x.org/x.tgz"),
            "the archive of a feature is called `devcontainer-feature-NAME.tgz`"
        );
        for text in [
            "http://localhost:1@x.org/devcontainer-feature-x.tgz",
            "http://localhost.x.org/devcontainer-feature-x.tgz",
            "https://x.org/devcontainer-feature-.tgz",
            "https://x.org/devcontainer-feature-x.tgz/",
            "https://x.org/?devcontainer-feature-x.tgz",
            "",
            "a/b",
            "ghcr.io/x",
            "../x",
            "/x",
            "./a/../../b",
            "ghcr.io/a/b:",
            "ghcr.io/a//b",
            "ghcr.io/a/b@sha256:1",
            "ghcr.io/a/b c:1",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_version_comes_off_a_name() {
        for (name, plain) in [
            ("ghcr.io/a/b:1", "ghcr.io/a/b"),
            ("localhost:5000/a/B", "localhost:5000/a/b"),
            ("ghcr.io/a/b@sha256:00", "ghcr.io/a/b"),
            ("https://x:8080/a.tgz", "https://x:8080/a.tgz"),
            ("http://localhost/@A:1", "http://localhost/@a:1"),
            ("git", "git"),
        ] {
            assert_eq!(without_version(name), plain);
        }
    }
}
