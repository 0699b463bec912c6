//! The repository of git that a project lies in.

use super::finding::Finding;
use super::row::Row;

/// How many changed files are named.
const NAMED: usize = 10;

/// A remote whose address has a password or a token in it. Neither is ever told.
#[must_use]
pub fn credential(remote: &str, url: &str) -> Option<Finding> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let (user, host) = authority.rsplit_once('@')?;
    // A user alone is a name to a server of ssh, and a token to one of the web.
    let is_secret = user.contains(':') || matches!(scheme, "http" | "https");
    is_secret.then(|| {
        let what = format!("the address of the remote `{remote}` has a login in it ({scheme}://***@{host}/...)");
        let fix = format!(
            "withdraw that login at {host}, `git remote set-url {remote}` to the address without it, and let a credential \
             helper keep the next one"
        );
        Finding::of(Row::CredentialInRemote, "git", what, fix)
    })
}

/// Files that differ from the last commit, as `git status --porcelain` lists them.
#[must_use]
pub fn dirty(folder: &str, changes: &[String]) -> Option<Finding> {
    if changes.is_empty() {
        return None;
    }
    let count = changes.len();
    let mut lines = vec![match count {
        1 => format!("{folder} has 1 change that is in no commit:"),
        many => format!("{folder} has {many} changes that are in no commit:"),
    }];
    lines.extend(changes.iter().take(NAMED).map(|change| format!("  {}", change.trim_end())));
    if count > NAMED {
        lines.push(format!("  and {} more", count - NAMED));
    }
    let fix = "commit them, or put them aside by `git stash -u`; setpoint touches none of them";
    Some(Finding::of(Row::DirtyTree, "git", lines.join("\n"), fix))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_an_address_is_told_and_never_shown() {
        for (url, is_told) in [
            ("https://ann:hunter2@git.example/shop.git", true),
            ("https://ghp_hunter2@github.com/acme/shop.git", true),
            ("ssh://git:hunter2@git.example/shop.git", true),
            ("ssh://git@git.example/shop.git", false),
            ("git@git.example:acme/shop.git", false),
            ("https://git.example/acme/shop.git", false),
            ("https://git.example/a@b:c/shop.git", false),
            ("/srv/git/shop.git", false),
        ] {
            let finding = credential("origin", url);
            assert_eq!(finding.is_some(), is_told, "{url}");
            assert!(!format!("{finding:?}").contains("hunter2"), "{finding:?}");
        }
    }

    #[test]
    fn changes_are_listed_up_to_a_few() {
        let changes = |count: usize| (0..count).map(|n| format!(" M f{n}")).collect::<Vec<_>>();
        assert_eq!(dirty("/p", &[]), None);
        assert_eq!(dirty("/p", &changes(1)).unwrap().what, "/p has 1 change that is in no commit:\n   M f0");
        let many = dirty("/p", &changes(12)).unwrap().what;
        assert!(many.contains("12 changes") && many.ends_with("and 2 more"), "{many}");
    }
}
