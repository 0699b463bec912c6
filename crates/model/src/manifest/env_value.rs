//! Environment variables, whose values may hold secrets by reference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::format::{Format, Malformed, in_schema, text_format};
use crate::names::SecretName;

/// One part of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text as it is.
    Literal(String),
    /// The value of a secret, put in when it is used.
    Secret(SecretName),
    /// A variable of the running container's own environment, put in when it is used.
    Inside {
        /// Its name.
        name: String,
        /// What stands there if it is not set; empty if nothing is said.
        default: String,
    },
}

/// The value of an environment variable: text, with `${secret.<name>}` where a secret goes. A `${` that is meant as
/// it is, is written `$${`; a `$` before anything else is only a `$`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvValue {
    parts: Vec<Part>,
}

impl EnvValue {
    /// Its parts, in order; two literals never stand side by side, and none is empty.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The secrets that it refers to, in order.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.parts.iter().filter_map(|part| match part {
            Part::Secret(name) => Some(name),
            Part::Literal(_) | Part::Inside { .. } => None,
        })
    }

    /// Whether it refers to a variable of the container.
    #[must_use]
    pub fn asks_inside(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Inside { .. }))
    }

    /// The text, if it is one as it is.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// A text as it is.
    #[must_use]
    pub fn literal(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { parts: if text.is_empty() { Vec::new() } else { vec![Part::Literal(text)] } }
    }

    /// A text as it is, but for `${containerEnv:NAME}`.
    #[must_use]
    pub fn of_devcontainer(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(INSIDE) {
            let Some(end) = rest[at..].find('}') else { break };
            literal.push_str(&rest[..at]);
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(inside(&rest[at + INSIDE.len()..at + end]));
            rest = &rest[at + end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Self { parts }
    }

    /// The whole value, with the secrets as the function gives them, and the variables of the container; its error is
    /// the first secret that it has not.
    ///
    /// # Errors
    /// The name of the secret without a value.
    pub fn resolve<'v>(
        &self,
        value: impl Fn(&SecretName) -> Option<&'v str>,
        container: &BTreeMap<String, String>,
    ) -> Result<String, &SecretName> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Secret(name) => text.push_str(value(name).ok_or(name)?),
                Part::Inside { name, default } => text.push_str(container.get(name).unwrap_or(default)),
            }
        }
        Ok(text)
    }
}

impl std::fmt::Display for EnvValue {
    /// As it is written in a manifest.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.parts {
            match part {
                Part::Literal(literal) => f.write_str(&literal.replace("${", "$${"))?,
                Part::Secret(name) => write!(f, "${{secret.{name}}}")?,
                Part::Inside { name, default } if default.is_empty() => write!(f, "{INSIDE}{name}}}")?,
                Part::Inside { name, default } => write!(f, "{INSIDE}{name}:{default}}}")?,
            }
        }
        Ok(())
    }
}

impl Format for EnvValue {
    const NAME: &'static str = "env-value";
    const DESCRIPTION: &'static str =
        "The value of a variable. `${secret.NAME}` is the value of a secret, `$${` is `${` as it is.";
    const EXAMPLE: &'static str = "${secret.api-token}";

    fn parse(text: &str) -> Result<Self, Malformed> {
        if let Some(at) = text.find('\0') {
            return Err(
                Malformed::new("bad-env-value", "a variable cannot hold a NUL character").range(at..at + 1)
            );
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("${") {
            let dollar = at + found;
            // `$${`: the first `$` says that the rest is meant as it is.
            if text[at..dollar].ends_with('$') {
                literal.push_str(&text[at..dollar]);
                literal.push('{');
                at = dollar + 2;
                continue;
            }
            literal.push_str(&text[at..dollar]);
            let (part, end) = reference(text, dollar)?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part);
            at = end;
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }
}

/// What begins a reference to a variable of the container, as a devcontainer.json writes it.
const INSIDE: &str = "${containerEnv:";

/// What stands between that and the brace.
fn inside(text: &str) -> Part {
    let (name, default) = text.split_once(':').unwrap_or((text, ""));
    Part::Inside { name: name.to_owned(), default: default.to_owned() }
}

/// What is referred to at `start`, where `${` is, and where the reference ends.
fn reference(text: &str, start: usize) -> Result<(Part, usize), Malformed> {
    let bad = |what: String, end: usize| {
        Malformed::new("bad-reference", what)
            .hint("a secret is `${secret.NAME}`; a `${` that is meant as it is, is `$${`")
            .range(start..end)
    };
    let Some(length) = text[start..].find('}') else {
        return Err(bad("this `${` is never closed".into(), text.len()));
    };
    let end = start + length + 1;
    if let Some(variable) = text[start..end - 1].strip_prefix(INSIDE) {
        return Ok((inside(variable), end));
    }
    let inner = text[start + 2..end - 1].trim();
    let Some(name) = inner.strip_prefix("secret.") else {
        let problem = bad(format!("`{}` does not refer to a secret", &text[start..end]), end);
        return Err(problem.why("only secrets, and variables of the container, can be put into a value"));
    };
    let name =
        SecretName::parse(name).map_err(|malformed| Malformed { range: Some(start..end), ..malformed })?;
    Ok((Part::Secret(name), end))
}

impl TryFrom<String> for EnvValue {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<EnvValue> for String {
    fn from(value: EnvValue) -> Self {
        value.to_string()
    }
}

in_schema!(EnvValue);

text_format!(
    /// The name of an environment variable.
    EnvName, "env-name", pattern: Some("^[^=\\u0000]+$"), example: "RUST_LOG",
    |text: &str| {
        let bad = |what: String| Err(Malformed::new("bad-env-name", what).hint("such as `RUST_LOG`"));
        match text {
            "" => bad("the name of a variable is empty".into()),
            _ if text.contains('=') => bad(format!("`{text}` cannot name a variable: there is a `=` in it")),
            _ if text.contains('\0') => bad("the name of a variable holds a NUL character".into()),
            _ => Ok(text.to_owned()),
        }
    }
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> Vec<Part> {
        EnvValue::parse(text).expect(text).parts
    }

    fn secret(name: &str) -> Part {
        Part::Secret(SecretName::new(name).expect(name))
    }

    #[test]
    fn secrets_stand_within_text() {
        let literal = |text: &str| Part::Literal(text.to_owned());
        assert_eq!(parts(""), []);
        assert_eq!(parts("a $HOME $"), [literal("a $HOME $")]);
        assert_eq!(parts("${secret.a}"), [secret("a")]);
        assert_eq!(
            parts("x${secret.a}${ secret.b }y"),
            [literal("x"), secret("a"), secret("b"), literal("y")]
        );
        assert_eq!(parts("$${HOME}"), [literal("${HOME}")]);
        assert_eq!(parts("$${secret.a}${secret.a}"), [literal("${secret.a}"), secret("a")]);
    }

    #[test]
    fn what_is_no_reference_says_where_it_is() {
        for (text, range) in
            [("x${secret.a", 1..11), ("${HOME}", 0..7), ("a ${secret.A} b", 2..13), ("${}", 0..3)]
        {
            assert_eq!(EnvValue::parse(text).expect_err(text).range, Some(range), "{text}");
        }
    }

    #[test]
    fn a_value_is_put_together_when_it_is_used() {
        let value = EnvValue::parse("postgres://u:${secret.pw}@db").expect("a value");
        assert_eq!(value.resolve(|_| Some("x"), &BTreeMap::new()).as_deref(), Ok("postgres://u:x@db"));
        assert_eq!(value.resolve(|_| None, &BTreeMap::new()).map_err(SecretName::as_str), Err("pw"));
    }

    #[test]
    fn a_variable_of_the_container_is_put_in_when_it_is_used() {
        let value = EnvValue::of_devcontainer("${containerEnv:PATH}:/x ${HOME} ${containerEnv:A:b}");
        let container = BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]);
        assert_eq!(value.resolve(|_| None, &container).as_deref(), Ok("/bin:/x ${HOME} b"));
        assert_eq!(EnvValue::parse(&value.to_string()), Ok(value));
    }

    proptest! {
        #[test]
        fn a_value_reads_back_as_it_is_written(text in "([a-z$ {}]|\\$\\{secret\\.[a-z]{1,3}\\}|\\$\\$\\{){0,12}") {
            if let Ok(value) = EnvValue::parse(&text) {
                prop_assert_eq!(EnvValue::parse(&value.to_string()), Ok(value));
            }
        }
    }
}
