//! Which known word was probably meant.

/// What other tools call a thing that is called otherwise here.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("environment", "env"),
    ("environments", "env"),
    ("packages", "packs"),
    ("volume", "mounts"),
    ("volumes", "mounts"),
    ("img", "image"),
    ("dockerfile", "build"),
    ("working_dir", "workspace"),
    ("workspace_folder", "workspace"),
    ("remote_user", "user"),
    ("depends_on", "needs"),
    ("builds_in", "from"),
    ("steps", "step"),
    ("pipelines", "pipeline"),
    ("sources", "inputs"),
    ("paths", "inputs"),
    ("retry", "retries"),
    ("if", "when"),
    ("command", "run"),
    ("cmd", "run"),
    ("script", "run"),
    ("mem", "memory"),
    ("cpu", "cpus"),
    ("src", "source"),
    ("dst", "target"),
    ("destination", "target"),
    ("ro", "read_only"),
    ("test", "tests"),
    ("on_create_command", "on_create"),
    ("update_content_command", "update_content"),
    ("post_create_command", "post_create"),
    ("post_start_command", "post_start"),
    ("post_attach_command", "post_attach"),
    ("initialize_command", "initialize"),
];

/// The word of `known` that is nearest to `word`, if one is near enough to be meant.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let plain = plain(word);
    let meant = OTHER_NAMES.iter().find(|(other, _)| *other == plain).map(|(_, ours)| *ours);
    let far = (plain.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| {
            let other = self::plain(candidate);
            let begins = other.len() >= 3
                && (plain.starts_with(&other) || plain.len() >= 3 && other.starts_with(&plain));
            let distance = match strsim::osa_distance(&plain, &other) {
                _ if meant == Some(candidate) => 0,
                distance if begins => distance.min(far).min(other.len() - 1),
                distance => distance,
            };
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= far && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The word in snake_case, so that `postCreate`, `post-create` and `post_create` are the same.
fn plain(word: &str) -> String {
    let mut plain = String::with_capacity(word.len() + 4);
    let mut after_lower = false;
    for c in word.chars() {
        if c.is_uppercase() && after_lower {
            plain.push('_');
        }
        after_lower = c.is_lowercase();
        if c == '-' {
            plain.push('_');
        } else {
            plain.extend(c.to_lowercase());
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_a_stranger_is_not() {
        let known = ["packs", "ports", "env", "mounts", "post_create", "image"];
        for (word, meant) in [
            ("pakcs", Some("packs")),
            ("Packs", Some("packs")),
            ("port", Some("ports")),
            ("volumes", Some("mounts")),
            ("postCreateCommand", Some("post_create")),
            ("post-create", Some("post_create")),
            ("img", Some("image")),
            ("enviroment", Some("env")),
            ("post_cre", Some("post_create")),
            ("frobnicate", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
