//! What pipelines are written with: commands, folders, patterns, and the bounds of their cache.

use std::time::Duration;

use super::byte_size::ByteSize;
use super::env_value::EnvValue;
use super::format::{Malformed, text_format};
use super::paths::{InputGlob, goes_up, tidy};

/// How much the cache of pipelines may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// The room that it may take.
    pub max_size: ByteSize,
    /// How long a result is kept after its last use.
    pub max_age: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { max_size: ByteSize(20 << 30), max_age: Duration::from_secs(30 * 86_400) }
    }
}

text_format!(
    /// A command for `/bin/sh -c`.
    StepCommand, "shell-command", pattern: Some(r"^[\s\S]*\S[\s\S]*$"), example: "cargo test",
    |text: &str| {
        if text.trim().is_empty() {
            return Err(Malformed::new("empty-command", "this command is empty").hint("say what the step runs"));
        }
        if text.contains('\0') {
            return Err(Malformed::new("empty-command", "a command cannot hold a NUL character"));
        }
        Ok(text.to_owned())
    }
);

text_format!(
    /// When an earlier result may be taken: `none` is never, `forever` for as long as it is there.
    CacheWord, "cache-policy", pattern: Some("^(none|forever)$"), example: "none",
    |text: &str| match text {
        "none" | "forever" => Ok(text.to_owned()),
        other => Err(Malformed::new("bad-cache", format!("there is no policy `{other}` of the cache"))
            .hint(match crate::manifest::nearest(other, ["none", "forever"]) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`none`, `forever`, `{ ttl = \"1d\" }` or `{ on_change = [...] }`".to_owned(),
            })),
    }
);

text_format!(
    /// A folder inside: absolute, or from the workspace.
    SharedFolder, "shared-folder", pattern: None, example: "/root/.cargo/registry",
    |path: &str| folder(path)
);

text_format!(
    /// Where a step starts: absolute, or from the workspace.
    Workdir, "workdir", pattern: None, example: "crates/cli",
    |path: &str| folder(path)
);

text_format!(
    /// Files of the workspace, by a pattern from its top: `*`, `?`, `[a-z]`, `{a,b}`, and `**` for any folders.
    OutputGlob, "output-glob", pattern: Some("^[^/~]"), example: "dist/**",
    |glob: &str| InputGlob::parse(glob).map(|glob| glob.0).map_err(|mut malformed| {
        malformed.why = malformed.why.map(|_| "outputs lie in the workspace".to_owned());
        malformed
    })
);

text_format!(
    /// The value of a variable of a step. `${secret.NAME}` is the value of a secret, `${matrix.KEY}` that of a matrix,
    /// `$${` is `${` as it is.
    StepEnvValue, "step-env-value", pattern: None, example: "${matrix.profile}",
    |text: &str| {
        // With any value in the place of a matrix's, it is a value of a variable.
        let mut filled = text.to_owned();
        while let Some(begin) = filled.find("${matrix.") {
            let Some(length) = filled[begin..].find('}') else { break };
            filled.replace_range(begin..=begin + length, "");
        }
        EnvValue::parse(&filled).map(|_| text.to_owned()).map_err(|malformed| Malformed { range: None, ..malformed })
    }
);

text_format!(
    /// A key of a matrix: letters, digits, `_` and `-`.
    MatrixKey, "matrix-key", pattern: Some("^[A-Za-z_][A-Za-z0-9_-]*$"), example: "profile",
    |text: &str| {
        let good = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if good {
            return Ok(text.to_owned());
        }
        Err(Malformed::new("bad-name", format!("`{text}` cannot be a key of a matrix"))
            .hint("letters, digits, `_` and `-`, such as `profile`"))
    }
);

fn folder(path: &str) -> Result<String, Malformed> {
    let bad = |what: String| Malformed::new("bad-path", what);
    if path.trim().is_empty() || path.contains('\0') {
        return Err(bad("this path is empty".to_owned()).hint("absolute, or from the workspace"));
    }
    if path.starts_with('~') {
        return Err(bad(format!("`{path}` begins at a home"))
            .why("a step does not see the homes of the host")
            .hint("root's home inside is `/root`"));
    }
    if goes_up(path) {
        return Err(bad(format!("`{path}` goes up by `..`")).hint("write where it leads"));
    }
    Ok(tidy(path))
}
