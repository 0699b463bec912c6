//! Who is told when a unit needs a person.

use super::super::alerts::Alerts;
use super::super::document::{Document, steps};
use super::super::env_value::{EnvValue, Part};
use super::super::problem::Problem;
use super::super::shape::AlertsSection;
use super::{check_argv, check_secrets};

/// Those that a section names.
pub(super) fn alerts(section: AlertsSection, document: &mut Document<'_>) -> Alerts {
    let place = steps!["alerts"];
    if section.webhook.is_none() && section.command.is_none() && !document.lacks(&place) {
        let problem = Problem::new("missing-key", "nobody is told of anything in [alerts]");
        document.at_key(&place, problem.hint("add `webhook` or `command`"));
    }
    if let Some(webhook) = &section.webhook {
        let at = steps!["alerts", "webhook"];
        check_secrets(webhook, &at, document);
        if !is_address(webhook) {
            let problem = Problem::new("bad-webhook", "this is no address to send something to");
            let hint = "an address such as `https://example.com/hook`, or `${secret.NAME}` for all of it";
            document.at_value(&at, problem.hint(hint));
        }
    }
    if let Some(argv) = &section.command {
        check_argv(argv, &steps!["alerts", "command"], document);
    }
    Alerts { webhook: section.webhook, command: section.command }
}

/// Whether it could be the address of a server, as far as it is known here: a secret may be all of it.
fn is_address(webhook: &EnvValue) -> bool {
    let is_plain = |part: &Part| match part {
        Part::Literal(text) => text.bytes().all(|byte| byte.is_ascii_graphic()),
        Part::Secret(_) => true,
        Part::Inside { .. } => false,
    };
    let begins = match webhook.parts() {
        [Part::Literal(text), rest @ ..] => ["https://", "http://"]
            .into_iter()
            .any(|scheme| text.strip_prefix(scheme).is_some_and(|host| !rest.is_empty() || !host.is_empty())),
        [Part::Secret(_), ..] => true,
        _ => false,
    };
    begins && webhook.parts().iter().all(is_plain)
}
