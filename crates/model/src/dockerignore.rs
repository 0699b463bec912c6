//! What a `.dockerignore` keeps out of a build's context.

use globset::{GlobBuilder, GlobMatcher};

/// The patterns of a `.dockerignore`. The last one that fits a path, or a folder above it, decides.
#[derive(Debug, Clone, Default)]
pub struct DockerIgnore {
    patterns: Vec<(GlobMatcher, bool)>,
}

impl DockerIgnore {
    /// Reads the file. Its patterns go from the context's top; `#` begins a comment, `!` takes back what an earlier one
    /// keeps out. One that is malformed fits nothing, as with Docker's own client it is an error that nobody could
    /// have built with.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let patterns = text.trim_start_matches('\u{feff}').lines().filter_map(|line| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            let (line, out) = line.strip_prefix('!').map_or((line, true), |line| (line.trim(), false));
            let parts: Vec<&str> = line.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
            let pattern = parts.join("/");
            Some((matcher(&pattern)?, out))
        });
        Self { patterns: patterns.collect() }
    }

    /// Whether a path is kept out, which goes from the context's top.
    #[must_use]
    pub fn keeps_out(&self, path: &str) -> bool {
        let fits = |pattern: &GlobMatcher| {
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            ends.into_iter().any(|end| pattern.is_match(&path[..end]))
        };
        self.patterns.iter().rev().find(|(pattern, _)| fits(pattern)).is_some_and(|(_, out)| *out)
    }

    /// Whether nothing below a folder that is kept out can come back.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.patterns.iter().all(|(_, out)| *out)
    }
}

/// Docker's patterns: `*` and `?` stay within a name, `**` spans folders, a backslash takes away a meaning.
pub(crate) fn matcher(pattern: &str) -> Option<GlobMatcher> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build().ok()?;
    Some(glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_fits_decides() {
        let ignore =
            DockerIgnore::new("# no\nnode_modules\n*.log\n**/tmp\n/dist/\n!dist/keep\n\n!important.log\n");
        for out in ["node_modules", "node_modules/a/b", "x.log", "a/b/tmp", "tmp", "dist/x"] {
            assert!(ignore.keeps_out(out), "{out}");
        }
        for kept in ["src/x.log", "important.log", "dist/keep", "dist/keep/x", "web/node_modules"] {
            assert!(!ignore.keeps_out(kept), "{kept}");
        }
        assert!(!ignore.is_final());
        assert!(DockerIgnore::new("a\nb").is_final());
    }

    #[test]
    fn everything_but_some_is_a_common_form() {
        let ignore = DockerIgnore::new("**\n!src\n!Cargo.*");
        assert!(ignore.keeps_out("target/x") && ignore.keeps_out("README.md"));
        assert!(!ignore.keeps_out("src/main.rs") && !ignore.keeps_out("Cargo.toml"));
    }
}
