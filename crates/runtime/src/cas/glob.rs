//! Patterns of inputs: which files a unit depends on.

use std::path::{Component, Path};

use globset::{GlobBuilder, GlobMatcher};

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a pattern of files: {why}")]
pub struct InvalidPattern {
    /// The pattern as it was given.
    pub pattern: String,
    /// The rule that it breaks.
    pub why: String,
}

/// Patterns, checked.
///
/// `*` and `?` stay within one name, `**` spans folders, `{a,b}` and `[a-z]` as usual; `\` takes away a meaning.
/// A pattern that fits a folder means all below it. Patterns are relative to the project's folder and never lead
/// out of it, not even by a symbolic link. `.git` is never part of them; files that git ignores are.
#[derive(Debug, Clone, Default)]
pub struct Globs(Vec<Pattern>);

#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) text: String,
    /// The names before the first that has a special character: a walk goes straight there.
    pub(super) literal: Vec<String>,
    /// For what follows; none if the names are all.
    matcher: Option<GlobMatcher>,
    /// The number of names in what it fits; none if any.
    depth: Option<usize>,
}

impl Globs {
    /// Checks patterns.
    ///
    /// # Errors
    /// [`InvalidPattern`] for the first that is empty, absolute, leads out of the project, or is malformed.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, InvalidPattern> {
        patterns.iter().map(|pattern| Pattern::new(pattern.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn patterns(&self) -> &[Pattern] {
        &self.0
    }

    /// How many patterns there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The places of the patterns that fit this path, or a folder that it lies in.
    #[must_use]
    pub fn fitting(&self, path: &Path) -> Vec<usize> {
        let fits = |pattern: &Pattern| {
            path.ancestors().any(|path| {
                let depth = path.components().count();
                pattern.leads_to(path) && depth >= pattern.literal.len() && pattern.fits(path, depth)
            })
        };
        self.0.iter().enumerate().filter(|(_, pattern)| fits(pattern)).map(|(at, _)| at).collect()
    }

    /// Whether a pattern may fit something in this folder.
    #[must_use]
    pub fn may_fit_below(&self, folder: &Path) -> bool {
        let depth = folder.components().count();
        self.0.iter().any(|pattern| {
            pattern.leads_to(folder) && (depth < pattern.literal.len() || pattern.reaches_below(depth))
        }) || !self.fitting(folder).is_empty()
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, InvalidPattern> {
        let refuse = |why: &str| InvalidPattern { pattern: text.to_owned(), why: why.to_owned() };
        if text.is_empty() {
            return Err(refuse("it is empty"));
        }
        let mut names = Vec::new();
        for component in Path::new(text).components() {
            match component {
                Component::Normal(name) => names.push(name.to_str().unwrap_or_default().to_owned()),
                Component::CurDir => {}
                Component::ParentDir => return Err(refuse("`..` leads out of the project")),
                Component::RootDir | Component::Prefix(_) => {
                    return Err(refuse("it must be relative to the project's folder"));
                }
            }
        }
        let literal: Vec<String> =
            names.iter().take_while(|name| !name.contains(['*', '?', '[', '{', '\\'])).cloned().collect();
        let is_literal = literal.len() == names.len();
        let any_depth =
            names.iter().any(|name| name.contains("**") || name.contains('{') || name.contains('}'));
        let glob = GlobBuilder::new(&names.join("/"))
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| refuse(&error.kind().to_string()))?;
        Ok(Self {
            text: text.to_owned(),
            matcher: (!is_literal).then(|| glob.compile_matcher()),
            depth: (!any_depth).then_some(names.len()),
            literal,
        })
    }

    /// Whether it fits this path, of which the names before the last already led here.
    pub(super) fn fits(&self, path: &Path, depth: usize) -> bool {
        match &self.matcher {
            None => self.literal.len() == depth,
            Some(_) if self.depth.is_some_and(|own| own != depth) => false,
            Some(matcher) => matcher.is_match(path),
        }
    }

    /// Whether its literal names lead to this path, or beyond it.
    fn leads_to(&self, path: &Path) -> bool {
        path.components().zip(&self.literal).all(|(part, name)| part.as_os_str() == name.as_str())
    }

    /// Whether it has no special character.
    pub(super) fn is_literal(&self) -> bool {
        self.matcher.is_none()
    }

    /// Whether it may fit something below a folder at this depth, where it led.
    pub(super) fn reaches_below(&self, depth: usize) -> bool {
        self.depth.is_none_or(|own| own > depth)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_in_the_project() {
        for (pattern, why) in [
            ("", "empty"),
            ("/etc/passwd", "relative"),
            ("../x", ".."),
            ("a/../../x", ".."),
            ("a/[b", "class"),
            ("{a", "alternate"),
        ] {
            let error = Globs::new(&[pattern]).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn the_literal_names_come_first() {
        for (pattern, literal, depth) in [
            ("src/a/*.rs", vec!["src", "a"], Some(3)),
            ("./src/", vec!["src"], Some(1)),
            ("src/**/x", vec!["src"], None),
            ("{a/b,c}", vec![], None),
            (".", vec![], Some(0)),
        ] {
            let globs = Globs::new(&[pattern]).unwrap();
            assert_eq!(
                (&globs.0[0].literal, globs.0[0].depth),
                (&literal.iter().map(|s| s.to_string()).collect(), depth),
                "{pattern}"
            );
        }
    }
}
