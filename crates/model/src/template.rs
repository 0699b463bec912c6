//! Texts with places that are filled in: derived secrets, and files that are made for a service. As Jinja has it, and
//! strict: what is not there is an error, never an empty text.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use sha2::{Digest as _, Sha256};

use crate::names::SecretName;

/// How much work a hash of a password is: 2 to the power of this many rounds.
const BCRYPT_COST: u32 = 10;
/// The longest text that bcrypt takes in whole, with the zero that it puts behind it.
const BCRYPT_LONGEST: usize = 71;

/// A text with places that are filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The text, with names of secrets as Jinja can read them.
    text: String,
    secrets: BTreeSet<SecretName>,
    /// Whether it asks for the project's version.
    versioned: bool,
}

/// What is wrong with a template, or could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct TemplateError {
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong, in one line.
    pub what: String,
}

/// What a template is filled in with.
#[derive(Debug, Clone, Default)]
pub struct Given<'a> {
    /// The values of secrets.
    pub secrets: BTreeMap<&'a SecretName, &'a str>,
    /// Those of them that were generated, and may be hashed as passwords.
    pub generated: BTreeSet<&'a SecretName>,
    /// Variables of the service that a file is for.
    pub env: BTreeMap<String, String>,
    /// The project's name, its version, and the unit's name; nothing of it for a secret.
    pub place: Option<Place<'a>>,
}

/// What a file is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The project's name.
    pub project: &'a str,
    /// The project's version.
    pub version: Option<&'a str>,
    /// The unit's name.
    pub unit: &'a str,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Where it is no template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (text, secrets) = readable(text);
        let environment = environment(&Given::default());
        let read = environment.template_from_str(&text).map_err(|error| wrong(&error))?;
        let versioned = read.undeclared_variables(false).contains("version");
        Ok(Self { text, secrets, versioned })
    }

    /// The secrets that it names.
    #[must_use]
    pub fn secrets(&self) -> &BTreeSet<SecretName> {
        &self.secrets
    }

    /// Whether it asks for the project's version.
    #[must_use]
    pub fn asks_version(&self) -> bool {
        self.versioned
    }

    /// The whole text.
    ///
    /// # Errors
    /// The first thing that is not there, or that a function does not take.
    pub fn render(&self, given: &Given<'_>) -> Result<String, TemplateError> {
        let environment = environment(given);
        let template = environment.template_from_str(&self.text).map_err(|error| wrong(&error))?;
        let secrets = given.secrets.iter().map(|(name, value)| (name.as_str(), *value));
        let mut names = BTreeMap::from([("secret", Value::from_pairs(secrets))]);
        if let Some(of) = given.place {
            let env = given.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            names.insert("env", Value::from_pairs(env));
            names.insert("project", Value::from(of.project));
            names.insert("unit", Value::from(of.unit));
            names.extend(of.version.map(|version| ("version", Value::from(version))));
        }
        template.render(Value::from_pairs(names)).map_err(|error| wrong(&error))
    }
}

fn wrong(error: &minijinja::Error) -> TemplateError {
    let kind = error.kind().to_string();
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::UndefinedError, None) => "this names something that is not there".to_owned(),
        (_, Some(detail)) if !detail.is_empty() => format!("{kind}: {detail}"),
        _ => kind,
    };
    TemplateError { line: error.line().and_then(|line| line.try_into().ok()).unwrap_or(1), what }
}

fn environment(given: &Given<'_>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(as_it_is());
    environment.add_function("hmac", hmac);
    environment.add_filter("hmac", hmac);
    environment.add_function("base64", base64);
    environment.add_filter("base64", base64);
    environment.add_function("sha256", sha256);
    environment.add_filter("sha256", sha256);
    environment.add_function("hex", hex);
    environment.add_filter("hex", hex);
    let of = |name: &&SecretName| given.secrets.get(*name).map(|value| (*value).to_owned());
    let generated: BTreeSet<String> = given.generated.iter().filter_map(of).collect();
    let hash = move |password: String| bcrypt(&password, &generated);
    environment.add_function("bcrypt", hash.clone());
    environment.add_filter("bcrypt", hash);
    environment
}

/// The usual syntax, by which a text keeps its last line's end.
fn as_it_is() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.keep_trailing_newline(true);
    syntax.build().unwrap_or_default()
}

/// HMAC-SHA-256 of a message, in hexadecimal digits; of none, if none is given.
fn hmac(key: String, message: Rest<String>) -> Result<String, minijinja::Error> {
    let invalid = |what: &'static str| minijinja::Error::new(ErrorKind::InvalidOperation, what);
    let message = match message.as_slice() {
        [] => "",
        [one] => one.as_str(),
        _ => return Err(invalid("hmac() takes a key and a message")),
    };
    let mut hmac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| invalid("hmac() cannot take this key"))?;
    hmac.update(message.as_bytes());
    Ok(digits(&hmac.finalize().into_bytes()))
}

fn base64(text: String) -> String {
    STANDARD.encode(text)
}

fn sha256(text: String) -> String {
    digits(&Sha256::digest(text.as_bytes()))
}

fn hex(text: String) -> String {
    digits(text.as_bytes())
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash of a password. Its salt comes from the password, so that the same one always has the same hash: this is
/// good only for what nobody can guess.
fn bcrypt(password: &str, generated: &BTreeSet<String>) -> Result<String, minijinja::Error> {
    let refuse = |what: String| Err(minijinja::Error::new(ErrorKind::InvalidOperation, what));
    if !generated.contains(password) {
        return refuse("bcrypt() takes a secret that was generated, and nothing else".to_owned());
    }
    if password.len() > BCRYPT_LONGEST {
        return refuse(format!("bcrypt() takes {BCRYPT_LONGEST} characters at most"));
    }
    let whole = blake3::derive_key("setpoint 2026 salt of bcrypt", password.as_bytes());
    let salt = std::array::from_fn(|at| whole[at]);
    match bcrypt::hash_with_salt(password, BCRYPT_COST, salt) {
        Ok(hash) => Ok(hash.to_string()),
        Err(_) => refuse("bcrypt() cannot take this text".to_owned()),
    }
}

/// The text with `secret.some-name` as `secret["some-name"]`, which Jinja would take for a difference, and the secrets
/// that it names.
fn readable(text: &str) -> (String, BTreeSet<SecretName>) {
    let mut found = BTreeSet::new();
    let mut readable = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, end)) = opening(rest) {
        readable.push_str(&rest[..at]);
        let inner = &rest[at..];
        let length = if end == "#}" {
            inner.find(end).map_or(inner.len(), |found| found + end.len())
        } else {
            block(inner, end, &mut readable, &mut found)
        };
        if end == "#}" {
            readable.push_str(&inner[..length]);
        }
        rest = &inner[length..];
        if is_raw(&inner[..length]) {
            let as_it_is = rest.find("endraw").unwrap_or(rest.len());
            readable.push_str(&rest[..as_it_is]);
            rest = &rest[as_it_is..];
        }
    }
    readable.push_str(rest);
    (readable, found)
}

/// Where the next place begins, and what ends it.
fn opening(text: &str) -> Option<(usize, &'static str)> {
    let of = |(open, close): (&str, &'static str)| Some((text.find(open)?, close));
    [("{{", "}}"), ("{%", "%}"), ("{#", "#}")].into_iter().filter_map(of).min()
}

/// Whether a block says that what follows is meant as it is.
fn is_raw(block: &str) -> bool {
    let inner = block.strip_prefix("{%").and_then(|block| block.strip_suffix("%}"));
    inner.is_some_and(|inner| inner.trim_matches(['-', '+']).trim() == "raw")
}

/// Makes a block readable, and gives its length.
fn block(text: &str, end: &str, readable: &mut String, found: &mut BTreeSet<SecretName>) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(end) {
            readable.push_str(end);
            return at + end.len();
        }
        let Some(first) = rest.chars().next() else { break };
        let length = match first {
            '"' | '\'' => quoted(rest, first),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let word = &rest[..length];
        readable.push_str(word);
        at += length;
        if word == "secret" && !text[..at - length].ends_with('.') {
            let after = &text[at..];
            if let Some((name, length)) = dotted(after, end) {
                readable.push_str(&format!("[\"{name}\"]"));
                found.insert(name);
                at += length;
            } else {
                found.extend(indexed(after));
            }
        }
    }
    at
}

/// The length of a quoted text, with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The name that follows as `.some-name`, and how long that is.
fn dotted(text: &str, end: &str) -> Option<(SecretName, usize)> {
    let rest = text.strip_prefix('.')?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let mut name = &rest[..length];
    if rest[length..].starts_with(end) {
        // `{{ secret.x-}}`: the end takes the white space away that follows.
        name = name.strip_suffix('-').unwrap_or(name);
    }
    Some((SecretName::new(name).ok()?, 1 + name.len()))
}

/// The name that follows as `["some-name"]`.
fn indexed(text: &str) -> Option<SecretName> {
    let rest = text.trim_start().strip_prefix('[')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (name, _) = rest[1..].split_once(quote)?;
    SecretName::new(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> SecretName {
        SecretName::new(text).expect(text)
    }

    fn named(text: &str) -> Vec<String> {
        Template::parse(text).expect(text).secrets.iter().map(ToString::to_string).collect()
    }

    fn filled(text: &str) -> Result<String, (u32, String)> {
        let (a, pw) = (name("a"), name("db-password"));
        let given = Given {
            secrets: [(&a, "alpha"), (&pw, "p4ss")].into(),
            generated: [&pw].into(),
            env: [("PORT".to_owned(), "80".to_owned())].into(),
            place: Some(Place { project: "shop", version: None, unit: "web" }),
        };
        Template::parse(text)
            .and_then(|template| template.render(&given))
            .map_err(|error| (error.line, error.what))
    }

    #[test]
    fn a_name_may_hold_a_dash() {
        assert_eq!(filled("u:{{ secret.db-password }}!").as_deref(), Ok("u:p4ss!"));
        assert_eq!(filled("{{secret.db-password-}}  x").as_deref(), Ok("p4ssx"));
        assert_eq!(filled("{{ secret['db-password'] ~ secret.a }}").as_deref(), Ok("p4ssalpha"));
        assert_eq!(
            filled("{% if secret.a == 'alpha' %}{{ 'secret.b' }}{% endif %}\n").as_deref(),
            Ok("secret.b\n")
        );
        assert_eq!(
            filled("{# secret.x #}{% raw %}{{ secret.y }}{% endraw %}").as_deref(),
            Ok("{{ secret.y }}")
        );
        assert_eq!(
            filled("secret.z {{ env.PORT }} {{ project }}/{{ unit }}").as_deref(),
            Ok("secret.z 80 shop/web")
        );
    }

    #[test]
    fn the_secrets_that_are_named_are_known() {
        assert_eq!(named("{{ hmac(secret.x-y, secret.b) }} {{ secret[\"c\"] }}"), ["b", "c", "x-y"]);
        assert_eq!(named("secret.a {# {{ secret.b }} #} {{ env.secret.c }} {{ 'secret.d' }}"), [""; 0]);
        assert_eq!(named("{% raw %}{{ secret.a }}{% endraw %}{{ secret.b }}"), ["b"]);
    }

    #[test]
    fn the_functions_are_those_of_others() {
        // RFC 2104 has no vector without a message; this is what OpenSSL says.
        let of = |text: &str| filled(text).expect(text);
        assert_eq!(
            of("{{ hmac('key', 'The quick brown fox jumps over the lazy dog') }}"),
            "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
        );
        assert_eq!(of("{{ hmac(secret.a) }}"), of("{{ secret.a | hmac('') }}"));
        assert_eq!(
            of("{{ sha256('abc') }}"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(of("{{ base64(secret.a) }} {{ secret.a | hex }}"), "YWxwaGE= 616c706861");
        let hash = of("{{ bcrypt(secret.db-password) }}");
        assert!(bcrypt::verify("p4ss", &hash).unwrap_or_default(), "{hash}");
        assert_eq!(of("{{ secret.db-password | bcrypt }}"), hash);
    }

    #[test]
    fn what_is_not_there_is_an_error_with_its_line() {
        for (text, line) in [
            ("a\n{{ secret.none }}", 2),
            ("{{ version }}", 1),
            ("\n\n{{ env.HOME }}", 3),
            ("x\n{{ nothing() }}", 2),
            ("{{ secret.a", 1),
            ("a\n{% if %}", 2),
            ("{{ bcrypt(secret.a) }}", 1),
            ("{{ hmac(secret.a, 'b', 'c') }}", 1),
            ("{% include 'x' %}", 1),
        ] {
            assert_eq!(filled(text).map_err(|(line, _)| line), Err(line), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_places_stays_as_it_is(text in "[a-z.\" \n'}%#-]{0,40}") {
            prop_assert_eq!(filled(&text), Ok(text));
        }

        #[test]
        fn no_text_is_too_odd(text in "(\\{\\{|\\}\\}|\\{%|%\\}|secret\\.|[a-z\"'\\-. ]|é){0,14}") {
            let _ = filled(&text);
            let (readable, _) = readable(&text);
            prop_assert!(readable.len() >= text.len());
        }
    }
}
