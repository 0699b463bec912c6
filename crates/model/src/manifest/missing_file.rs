//! A file that the manifest names and that is not there.

use super::env::{NeededFile, Purpose};
use super::nearest::nearest;
use super::problem::Problem;

impl Problem {
    /// The problem that a needed file is not there. `existing` are the paths that could have been meant, written
    /// like the needed one; the nearest is suggested.
    #[must_use]
    pub fn missing_file<S: AsRef<str>>(file: &NeededFile, existing: &[S]) -> Self {
        let problem = Self::new("missing-file", format!("{} is missing: `{}`", file.purpose, file.path));
        let names = existing.iter().map(|path| (stem(path.as_ref()), path.as_ref()));
        let near = nearest(stem(&file.path), names.clone().map(|(stem, _)| stem))
            .and_then(|near| names.clone().find(|(stem, _)| *stem == near));
        let hint = match (near, &file.purpose) {
            (Some((name, _)), Purpose::Pack(_)) => format!("did you mean `{name}`?"),
            (Some((_, path)), _) => format!("did you mean `{path}`?"),
            (None, Purpose::Pack(_)) if !existing.is_empty() => {
                let names: Vec<&str> = names.map(|(stem, _)| stem).collect();
                format!("write that script, or take a pack that is there: {}", names.join(", "))
            }
            (None, Purpose::Pack(_)) => "write that script, or take the pack out of the list".to_owned(),
            (None, Purpose::Hook(_)) => {
                "one word with a `/` is a script of the project; write it, or write the command as a list"
                    .to_owned()
            }
            (None, Purpose::Template(_)) => "write it, or take the file out of `files`".to_owned(),
            (None, Purpose::Rootfs(_) | Purpose::Image(_)) => {
                "name a folder or an archive that is there".to_owned()
            }
        };
        problem.at(file.at.clone()).hint(hint)
    }
}

/// The name of a file without its folder and its extension.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    }
}
