//! Whether a step is part of a run.

use std::collections::BTreeMap;

use globset::GlobBuilder;

use super::ir::When;

/// What conditions are about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occasion {
    /// The branch that is checked out, if one is.
    pub branch: Option<String>,
    /// The tags of the commit that is checked out.
    pub tags: Vec<String>,
    /// What led to the run.
    pub event: String,
    /// The caller's variables.
    pub env: BTreeMap<String, String>,
}

impl When {
    /// Whether it holds on this occasion.
    ///
    /// # Errors
    /// In words, the first thing that does not hold.
    pub fn holds(&self, occasion: &Occasion) -> Result<(), String> {
        let branch: Vec<&str> = occasion.branch.as_deref().into_iter().collect();
        let tags: Vec<&str> = occasion.tags.iter().map(String::as_str).collect();
        one_of("branch", &self.branch, &branch)?;
        one_of("tag", &self.tag, &tags)?;
        one_of("event", &self.event, &[occasion.event.as_str()])?;
        for (name, pattern) in &self.env {
            match occasion.env.get(name) {
                Some(value) if fits(pattern, value) => {}
                // The value may be a secret of the caller's.
                Some(_) => return Err(format!("{name} is not `{pattern}`")),
                None => return Err(format!("{name} is not set")),
            }
        }
        Ok(())
    }

    /// Whether it asks for what only the repository knows.
    #[must_use]
    pub fn asks_git(&self) -> bool {
        !self.branch.is_empty() || !self.tag.is_empty()
    }
}

fn one_of(what: &str, patterns: &[String], values: &[&str]) -> Result<(), String> {
    if patterns.is_empty() || values.iter().any(|value| patterns.iter().any(|pattern| fits(pattern, value))) {
        return Ok(());
    }
    let found = if values.is_empty() { "none".to_owned() } else { format!("`{}`", values.join(", ")) };
    Err(format!("{what} is {found}, not `{}`", patterns.join("`, `")))
}

/// A pattern that cannot be read fits what it says letter by letter.
fn fits(pattern: &str, value: &str) -> bool {
    match GlobBuilder::new(pattern).literal_separator(true).build() {
        Ok(glob) => glob.compile_matcher().is_match(value),
        Err(_) => pattern == value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn when(branch: &[&str], tag: &[&str], event: &[&str], env: &[(&str, &str)]) -> When {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        When {
            branch: list(branch),
            tag: list(tag),
            event: list(event),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn every_condition_has_to_hold() {
        let occasion = Occasion {
            branch: Some("release/1.2".to_owned()),
            tags: vec!["v1.2.0".to_owned()],
            event: "push".to_owned(),
            env: BTreeMap::from([("CI".to_owned(), "true".to_owned())]),
        };
        let table = [
            (when(&[], &[], &[], &[]), Ok(())),
            (when(&["main", "release/*"], &["v*"], &["push"], &[("CI", "t*")]), Ok(())),
            (when(&["main"], &[], &[], &[]), Err("branch is `release/1.2`, not `main`")),
            (when(&["release"], &[], &[], &[]), Err("branch is `release/1.2`, not `release`")),
            (when(&[], &["w*"], &[], &[]), Err("tag is `v1.2.0`, not `w*`")),
            (when(&[], &[], &["schedule", "manual"], &[]), Err("event is `push`, not `schedule`, `manual`")),
            (when(&[], &[], &[], &[("CI", "false")]), Err("CI is not `false`")),
            (when(&[], &[], &[], &[("NO", "*")]), Err("NO is not set")),
        ];
        for (when, expected) in table {
            assert_eq!(when.holds(&occasion), expected.map_err(str::to_owned), "{when:?}");
        }
        let nowhere = Occasion::default();
        assert_eq!(when(&["*"], &[], &[], &[]).holds(&nowhere), Err("branch is none, not `*`".to_owned()));
    }
}
