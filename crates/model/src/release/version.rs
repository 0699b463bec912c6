//! Versions of a project, and which come before which.

/// A version of a project, by the rules of semantic versioning. A leading `v` means nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(semver::Version);

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no version: {why}")]
pub struct BadVersion {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// How many versions are named on each side of one that is not there.
const NEAR: usize = 2;

impl Version {
    /// Reads a version: `0.3.0`, `v1.0.0-rc.1`.
    ///
    /// # Errors
    /// If it is none, or has what no tag of a registry can have.
    pub fn parse(text: &str) -> Result<Self, BadVersion> {
        let bad = |why: String| BadVersion { text: text.to_owned(), why };
        let version = semver::Version::parse(text.strip_prefix('v').unwrap_or(text))
            .map_err(|error| bad(format!("{error}; it is three numbers, such as `0.3.0`")))?;
        if !version.build.is_empty() {
            return Err(bad("a registry cannot hold what comes after the `+`".to_owned()));
        }
        Ok(Self(version))
    }

    /// Whether it is one to try, and not one to go to unasked.
    #[must_use]
    pub fn is_trial(&self) -> bool {
        !self.0.pre.is_empty()
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The versions among names, in order; what is none is left out.
pub fn versions<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Version> {
    let mut found: Vec<_> = names.into_iter().filter_map(|name| Version::parse(name).ok()).collect();
    found.sort();
    found.dedup();
    found
}

/// The latest version that is not one to try; the latest of those, if there is no other.
#[must_use]
pub fn latest(known: &[Version]) -> Option<&Version> {
    known.iter().filter(|version| !version.is_trial()).max().or_else(|| known.iter().max())
}

/// The versions next to one that is not there, and the latest, in order. `known` is in order.
#[must_use]
pub fn near<'a>(wanted: &Version, known: &'a [Version]) -> Vec<&'a Version> {
    let at = known.partition_point(|version| version < wanted);
    let mut near: Vec<_> = known.iter().skip(at.saturating_sub(NEAR)).take(NEAR.min(at) + NEAR).collect();
    near.extend(known.last().filter(|last| !near.contains(last)));
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(versions: &[&Version]) -> Vec<String> {
        versions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn versions_are_in_order_and_a_leading_v_means_nothing() {
        let known = versions(["v1.10.0", "1.9.0", "latest", "1.10.0-rc.1", "1.10.0", "sha256-aa.sig", "2.0"]);
        assert_eq!(shown(&known.iter().collect::<Vec<_>>()), ["1.9.0", "1.10.0-rc.1", "1.10.0"]);
        assert!(Version::parse("1.0.0+linux").unwrap_err().to_string().contains("after the `+`"));
        assert!(Version::parse("1.2").unwrap_err().to_string().contains("three numbers"));
    }

    #[test]
    fn the_latest_is_no_trial_unless_there_is_nothing_else() {
        let known = versions(["1.0.0", "2.0.0-rc.1"]);
        assert_eq!(latest(&known).unwrap().to_string(), "1.0.0");
        assert_eq!(latest(&known[1..]).unwrap().to_string(), "2.0.0-rc.1");
        assert_eq!(latest(&[]), None);
    }

    #[test]
    fn those_next_to_one_that_is_not_there_are_named() {
        let known = versions(["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "1.0.0"]);
        let near_to = |text: &str| shown(&near(&Version::parse(text).unwrap(), &known));
        assert_eq!(near_to("0.3.1"), ["0.2.0", "0.3.0", "0.4.0", "0.5.0", "1.0.0"]);
        assert_eq!(near_to("0.0.1"), ["0.1.0", "0.2.0", "1.0.0"]);
        assert_eq!(near_to("9.0.0"), ["0.5.0", "1.0.0"]);
        assert!(near(&Version::parse("1.0.0").unwrap(), &[]).is_empty());
    }
}
