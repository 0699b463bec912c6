//! Paths: inside the environment, on the host, and within the project.

use super::format::{Malformed, text_format};

/// A path without what means nothing: `.` parts, doubled and trailing slashes.
pub(super) fn tidy(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let joined = parts.join("/");
    match (path.starts_with('/'), joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Whether a part of the path goes up.
pub(super) fn goes_up(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// Whether `path` is `folder` or lies in it; both absolute and tidy.
pub(super) fn lies_in(path: &str, folder: &str) -> bool {
    folder == "/" || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn bad(what: String) -> Malformed {
    Malformed::new("bad-path", what)
}

/// Refuses what no path is: nothing at all, or a NUL character.
fn some(path: &str) -> Result<(), Malformed> {
    if path.trim().is_empty() {
        return Err(bad("this path is empty".into()));
    }
    if path.contains('\0') {
        return Err(bad("a path cannot hold a NUL character".into()));
    }
    Ok(())
}

text_format!(
    /// A path inside the environment, from its root.
    InsidePath, "inside-path", pattern: Some("^/"), example: "/workspace",
    |path: &str| {
        some(path)?;
        if !path.starts_with('/') {
            let malformed = bad(format!("`{path}` is not an absolute path"));
            return Err(if path.starts_with('~') {
                malformed.why("a home is not known before the environment exists").hint("write it out: `/home/dev/...`")
            } else {
                malformed.hint(format!("a path inside the environment begins at its root: `/{}`", tidy(path)))
            });
        }
        if goes_up(path) {
            return Err(bad(format!("`{path}` goes up by `..`")).hint("write where it leads"));
        }
        Ok(tidy(path))
    }
);

text_format!(
    /// A path on the host: absolute, from your home by `~/`, or from the project's folder.
    HostPath, "host-path", pattern: None, example: "~/.cargo",
    |path: &str| {
        some(path)?;
        Ok(tidy(path))
    }
);

text_format!(
    /// A path on the host: absolute, or from your home by `~/`.
    VisiblePath, "visible-path", pattern: Some("^(/|~/|~$)"), example: "~/.cargo/bin",
    |path: &str| {
        some(path)?;
        if !(path.starts_with('/') || path.starts_with("~/") || path == "~") {
            return Err(bad(format!("`{path}` begins neither at the root nor at your home"))
                .hint(format!("for example `~/{}`; the project's own folder is always there", tidy(path))));
        }
        if goes_up(path) {
            return Err(bad(format!("`{path}` goes up by `..`")).hint("write where it leads"));
        }
        Ok(tidy(path))
    }
);

text_format!(
    /// Files of the project, by a pattern from its folder: `*`, `?`, `[a-z]`, `{a,b}`, and `**` for any folders.
    InputGlob, "glob", pattern: Some("^[^/~]"), example: "crates/**",
    |glob: &str| {
        some(glob)?;
        let bad = |what: String| Malformed::new("bad-glob", what);
        if glob.starts_with(['/', '~']) {
            return Err(bad(format!("`{glob}` does not lie in the project"))
                .why("inputs are files of the project, so that everybody who has it has them")
                .hint("write it from the project's folder, such as `crates/**`"));
        }
        if goes_up(glob) {
            return Err(bad(format!("`{glob}` leaves the project by `..`"))
                .why("inputs are files of the project, so that everybody who has it has them"));
        }
        globset::Glob::new(glob).map_err(|error| {
            bad(format!("`{glob}` is not a pattern of files")).why(error.kind().to_string())
        })?;
        Ok(tidy(glob))
    }
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::format::Format;

    #[test]
    fn paths_are_compared_by_meaning() {
        for (path, plain) in
            [("/a//b/./c/", "/a/b/c"), ("/", "/"), ("./x.sh", "x.sh"), (".", "."), ("~/x/", "~/x")]
        {
            assert_eq!(tidy(path), plain);
        }
    }

    #[test]
    fn a_folder_holds_what_is_below_it_and_not_what_only_looks_so() {
        assert!(lies_in("/workspace/x", "/workspace"));
        assert!(lies_in("/workspace", "/workspace"));
        assert!(lies_in("/x", "/"));
        assert!(!lies_in("/workspaces", "/workspace"));
    }

    #[test]
    fn inputs_stay_within_the_project() {
        for glob in ["Cargo.*", "crates/**", "./a", "a/..b", "{a,b}/*.rs"] {
            assert!(InputGlob::parse(glob).is_ok(), "{glob}");
        }
        for glob in ["/etc/passwd", "~/x", "../x", "a/../../x", "a[", "{a", ""] {
            assert!(InputGlob::parse(glob).is_err(), "{glob}");
        }
    }
}
