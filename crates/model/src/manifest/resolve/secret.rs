//! Secrets: exactly one source each, and none that is derived from itself.

use std::collections::BTreeMap;

use super::super::document::{Document, steps};
use super::super::env_value::EnvName;
use super::super::nearest::nearest;
use super::super::problem::Problem;
use super::super::secret::{Secret, SecretSource};
use super::super::shape::SecretSection;
use super::super::tree::Step;
use super::{check_argv, only_one};
use crate::circle::circles;
use crate::names::SecretName;
use crate::template::Template;

/// The sources that a secret can have.
const SOURCES: [&str; 5] = ["env", "file", "command", "generate", "derive"];

/// The secret that a section means.
pub(super) fn secret(
    name: &SecretName,
    section: SecretSection,
    document: &mut Document<'_>,
) -> Option<Secret> {
    let place = steps!["secret", name.as_str()];
    let given = only_one(&place, &SOURCES, document, |first, second| {
        Problem::new("two-sources", format!("the secret `{name}` has two sources: `{first}` and `{second}`"))
    });
    if given == 0 && !document.lacks(&place) {
        let problem = Problem::new("missing-source", format!("the secret `{name}` has no source"));
        let hint = "say where its value comes from: `generate`, `env`, `file`, `command` or `derive`";
        document.at_key(&place, problem.hint(hint));
    }
    if let Some(argv) = &section.command {
        check_argv(argv, &steps!["secret", name.as_str(), "command"], document);
    }
    let source = if let Some(EnvName(name)) = section.env {
        SecretSource::Env { name }
    } else if let Some(path) = section.file {
        SecretSource::File { path: path.0 }
    } else if let Some(argv) = section.command {
        SecretSource::Command { argv }
    } else if let Some(form) = section.generate {
        SecretSource::Generate { form }
    } else {
        derived(section.derive?.0, &steps!["secret", name.as_str(), "derive"], document)?
    };
    Some(Secret { source, at: document.key_location(&place) })
}

/// A text that other secrets are put into.
fn derived(text: String, place: &[Step], document: &mut Document<'_>) -> Option<SecretSource> {
    let template = match Template::parse(&text) {
        Ok(template) => template,
        Err(error) => {
            let problem = Problem::new("bad-template", format!("this cannot be derived: {error}"));
            document.at_value(place, problem.hint(r#"such as `derive = "user:{{ secret.password }}"`"#));
            return None;
        }
    };
    for secret in template.secrets() {
        if let Some(problem) = undeclared(secret, document) {
            document.at_value(place, problem);
        }
    }
    if template.secrets().is_empty() {
        let problem = Problem::new("no-secret", "there is no secret in this text");
        let hint = "put one into it as `{{ secret.NAME }}`; a text that is none is nobody's secret";
        document.at_value(place, problem.hint(hint));
    }
    Some(SecretSource::Derive { text, template })
}

/// Reports secrets that are derived from themselves.
pub(super) fn check_circles(secrets: &BTreeMap<SecretName, Secret>, document: &mut Document<'_>) {
    let needed = |name: &SecretName| match secrets.get(name).map(|secret| &secret.source) {
        Some(SecretSource::Derive { template, .. }) => {
            template.secrets().iter().filter_map(|name| Some(secrets.get_key_value(name)?.0)).collect()
        }
        _ => Vec::new(),
    };
    for circle in circles(secrets.keys(), needed) {
        let chain: String = circle.iter().map(|name| format!("{name} → ")).collect();
        let what = format!("these secrets are derived from each other: {chain}{}", circle[0]);
        let problem = Problem::new("cycle", what).why("none of them could be the first to have a value");
        let place = steps!["secret", circle[0].as_str(), "derive"];
        document.at_key(&place, problem.hint("let one of them have another source"));
    }
}

/// What is to be said of a secret that is not declared.
pub(super) fn undeclared(secret: &SecretName, document: &Document<'_>) -> Option<Problem> {
    let declared = document.keys(&steps!["secret"]);
    if declared.iter().any(|name| name == secret.as_str()) {
        return None;
    }
    let problem = Problem::new("unknown-secret", format!("the secret `{secret}` is not declared"));
    Some(problem.hint(match nearest(secret.as_str(), declared.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it as `[secret.{secret}]` with `generate`, `env`, `file` or `command`"),
    }))
}
