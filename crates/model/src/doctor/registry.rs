//! Registries: what they answer, and what that means.

use super::finding::Finding;
use super::row::Row;

/// What a registry answered who was asked for one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It gives it, or says that there is no such thing.
    Fine,
    /// It wants a login, and there is none.
    LoginNeeded,
    /// It refuses the login, and gives it to whoever has none.
    LoginInTheWay,
    /// It refuses the login.
    LoginRefused,
    /// It knows who asks, and does not give it to him.
    Forbidden,
    /// The login cannot be used, in these words; it was not asked.
    LoginUnusable(String),
    /// It does not answer, in these words.
    Unreachable(String),
}

/// What is to be said of a registry that was asked for something. `is_missing` says whether that is not here.
#[must_use]
pub fn registry(host: &str, asked: &str, answer: &Answer, is_missing: bool) -> Option<Finding> {
    let login = format!(
        "`docker login {host}`, or SETPOINT_REGISTRY_HOST={host} with SETPOINT_REGISTRY_USER and SETPOINT_REGISTRY_PASSWORD"
    );
    let (row, what, fix) = match answer {
        Answer::Fine => return None,
        Answer::LoginNeeded => (
            Row::RegistryPrivate,
            format!("{host} gives {asked} only to who logs in, and there is no login"),
            login,
        ),
        Answer::LoginRefused => (
            Row::RegistryPrivate,
            format!("{host} refuses the login that is saved for it: it gives {asked} to others only"),
            format!("log in anew: {login}"),
        ),
        Answer::Forbidden => (
            Row::RegistryPrivate,
            format!("{host} knows the login, and does not give {asked} to it"),
            format!("have the right to pull it given to that user, or log in as another: {login}"),
        ),
        Answer::LoginInTheWay => (
            Row::RegistryLogin,
            format!("{host} refuses the login that is saved for it, and gives {asked} to whoever has none"),
            format!("`docker logout {host}` takes the login away that has expired"),
        ),
        Answer::LoginUnusable(why) => {
            (Row::RegistryLogin, why.clone(), format!("mend that login, or make another: {login}"))
        }
        Answer::Unreachable(why) => {
            let what = format!("{host} does not answer ({why})");
            if !is_missing {
                return Some(Finding::info("registry", format!("{what}; all that is declared is here")));
            }
            let fix = "look at the network, the name and the proxy; `setpoint bundle` carries a release without one";
            (Row::RegistryUnreachable, format!("{what}, and {asked} is not here"), fix.to_owned())
        }
    };
    Some(Finding::of(row, "registry", what, fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_says_which_it_is() {
        let row = |answer: Answer, is_missing| {
            let finding = registry("r.example", "r.example/shop", &answer, is_missing);
            finding.map(|finding| finding.row.map_or("good to know", Row::id))
        };
        let unreachable = || Answer::Unreachable("no route".to_owned());
        for (answer, is_missing, expected) in [
            (Answer::Fine, true, None),
            (Answer::LoginNeeded, false, Some("registry-private")),
            (Answer::LoginRefused, false, Some("registry-private")),
            (Answer::Forbidden, false, Some("registry-private")),
            (Answer::LoginInTheWay, false, Some("registry-login")),
            (Answer::LoginUnusable("half a login".to_owned()), false, Some("registry-login")),
            (unreachable(), true, Some("registry-unreachable")),
            (unreachable(), false, Some("good to know")),
        ] {
            assert_eq!(row(answer.clone(), is_missing), expected, "{answer:?}");
        }
    }
}
