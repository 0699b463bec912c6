//! Texts with a form of their own: each is one type that parses it, and that stands in the schema by name, so that
//! the check of a manifest, its reading and the schema that editors use cannot disagree.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::Error as _;

use super::problem::Problem;

/// Why a text does not have the form that its place wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Malformed {
    /// The code of the problem that this becomes.
    pub code: &'static str,
    /// What is wrong, in one line.
    pub what: String,
    /// Why.
    pub why: Option<String>,
    /// What to write instead.
    pub hint: Option<String>,
    /// Which bytes of the text are meant, where it is not all of it.
    pub range: Option<Range<usize>>,
}

impl Malformed {
    pub(crate) fn new(code: &'static str, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), why: None, hint: None, range: None }
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn range(mut self, range: Range<usize>) -> Self {
        self.range = Some(range);
        self
    }

    /// The problem, so far without its place.
    pub(crate) fn into_problem(self) -> Problem {
        Problem { code: self.code, at: None, what: self.what, why: self.why, hint: self.hint }
    }
}

/// A text with a form of its own.
pub(crate) trait Format: Sized {
    /// Its name in the schema.
    const NAME: &'static str;
    /// What editors are told about it as a regular expression, where it can be said so.
    const PATTERN: Option<&'static str> = None;
    /// The JSON types that it may be written as.
    const TYPES: &'static [&'static str] = &["string"];
    /// What it is, for people.
    const DESCRIPTION: &'static str;
    /// One that is good.
    const EXAMPLE: &'static str;

    /// Reads it.
    fn parse(text: &str) -> Result<Self, Malformed>;
}

/// The schema of a format.
pub(crate) fn schema<F: Format>() -> Schema {
    let types = match F::TYPES {
        [one] => serde_json::json!(one),
        several => serde_json::json!(several),
    };
    let mut schema = schemars::json_schema!({
        "description": F::DESCRIPTION.trim(),
        "type": types,
        "format": F::NAME,
        "examples": [F::EXAMPLE],
    });
    if let Some(pattern) = F::PATTERN {
        schema.insert("pattern".to_owned(), pattern.into());
    }
    schema
}

/// Reads a format that may also be written as a number.
pub(crate) fn number_or_text<'de, F: Format, D: serde::Deserializer<'de>>(from: D) -> Result<F, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written<'a> {
        Number(i64),
        Text(#[serde(borrow)] Cow<'a, str>),
    }
    match Written::deserialize(from)? {
        Written::Number(number) => F::parse(&number.to_string()),
        Written::Text(text) => F::parse(&text),
    }
    .map_err(D::Error::custom)
}

/// Gives a format its place in the schema.
macro_rules! in_schema {
    ($($type:ty),+ $(,)?) => {$(
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                <Self as $crate::manifest::format::Format>::NAME.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::manifest::format::schema::<Self>()
            }
        }
    )+};
}
pub(crate) use in_schema;

/// A format that is kept as one text: gives it its type, its reading and its place in the schema.
macro_rules! text_format {
    ($(#[doc = $doc:literal])+ $type:ident, $name:literal, pattern: $pattern:expr, example: $example:literal, $parse:expr) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub(crate) struct $type(pub(crate) String);

        impl $crate::manifest::format::Format for $type {
            const NAME: &'static str = $name;
            const PATTERN: Option<&'static str> = $pattern;
            const DESCRIPTION: &'static str = concat!($($doc),+);
            const EXAMPLE: &'static str = $example;
            fn parse(text: &str) -> Result<Self, $crate::manifest::format::Malformed> {
                $parse(text).map(Self)
            }
        }

        impl TryFrom<String> for $type {
            type Error = $crate::manifest::format::Malformed;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                <Self as $crate::manifest::format::Format>::parse(&text)
            }
        }

        $crate::manifest::format::in_schema!($type);
    };
}
pub(crate) use text_format;

/// A table whose keys have a form of their own.
#[derive(Debug, Deserialize)]
#[serde(transparent, bound = "K: Ord + Deserialize<'de>, V: Deserialize<'de>")]
pub(crate) struct Named<K, V>(pub(crate) BTreeMap<K, V>);

impl<K, V> Default for Named<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Format, V: JsonSchema> JsonSchema for Named<K, V> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("{}-to-{}", K::NAME, V::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "object",
            "propertyNames": schema::<K>(),
            "additionalProperties": generator.subschema_for::<V>(),
        })
    }
}

/// Checks a text against the format of this name. A format that is not one of ours has nothing against it.
pub(crate) fn check(name: &str, text: &str) -> Result<(), Malformed> {
    FORMATS.iter().find(|known| known.name == name).map_or(Ok(()), |known| (known.check)(text))
}

struct Known {
    name: &'static str,
    check: fn(&str) -> Result<(), Malformed>,
}

const fn known<F: Format>() -> Known {
    Known { name: F::NAME, check: |text| F::parse(text).map(drop) }
}

/// All formats.
const FORMATS: &[Known] = &[
    known::<crate::names::UnitName>(),
    known::<crate::names::PackName>(),
    known::<crate::names::SecretName>(),
    known::<crate::names::PipelineName>(),
    known::<crate::names::StepName>(),
    known::<super::project_name::ProjectName>(),
    known::<super::byte_size::ByteSize>(),
    known::<super::scalars::FileMode>(),
    known::<super::scalars::Timeout>(),
    known::<super::scalars::Port>(),
    known::<super::scalars::User>(),
    known::<super::scalars::ImageReference>(),
    known::<super::scalars::HttpPath>(),
    known::<super::scalars::RepositoryAddress>(),
    known::<super::scalars::ReleaseVersion>(),
    known::<super::scalars::NonEmpty>(),
    known::<super::env_value::EnvName>(),
    known::<super::env_value::EnvValue>(),
    known::<super::paths::InsidePath>(),
    known::<super::paths::HostPath>(),
    known::<super::paths::VisiblePath>(),
    known::<super::paths::InputGlob>(),
    known::<super::hook::CommandText>(),
    known::<super::pipeline::StepCommand>(),
    known::<super::pipeline::SharedFolder>(),
    known::<super::pipeline::Workdir>(),
    known::<super::pipeline::OutputGlob>(),
    known::<super::pipeline::MatrixKey>(),
    known::<super::pipeline::CacheWord>(),
    known::<super::pipeline::StepEnvValue>(),
    known::<crate::spec::SpecId>(),
    known::<crate::spec::CriterionNumber>(),
    known::<crate::spec::Reference>(),
    known::<crate::spec::Requirement>(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_format_is_in_a_schema() {
        let schema = format!("{} {}", crate::manifest::json_schema(), crate::spec::json_schema());
        for known in FORMATS {
            assert!(schema.contains(&format!("\"format\":\"{}\"", known.name)), "{}", known.name);
        }
    }
}
