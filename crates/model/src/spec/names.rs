//! What specs and their criteria are called.

use serde::{Deserialize, Serialize};

use crate::manifest::format::{Format, Malformed, in_schema};

/// What a spec is called: `cart`, `E`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpecId(String);

/// Which criterion of a spec: a number, and a letter where one was split: `3`, `3b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct CriterionNumber {
    number: u32,
    part: Option<char>,
}

impl SpecId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Format for SpecId {
    const NAME: &'static str = "spec-id";
    const PATTERN: Option<&'static str> = Some("^[A-Za-z][A-Za-z0-9_-]{0,62}$");
    const DESCRIPTION: &'static str =
        "What the spec is called: criteria are named after it, such as `cart.1`.";
    const EXAMPLE: &'static str = "cart";
    fn parse(text: &str) -> Result<Self, Malformed> {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_good = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(known);
        if is_good && text.len() <= 63 {
            return Ok(Self(text.to_owned()));
        }
        Err(Malformed::new("bad-spec-id", format!("`{text}` is not the name of a spec"))
            .why("it is a letter, and then up to 62 letters, digits, `-` and `_`")
            .hint("such as `cart` or `E`"))
    }
}

impl Format for CriterionNumber {
    const NAME: &'static str = "criterion-number";
    const PATTERN: Option<&'static str> = Some("^[1-9][0-9]{0,5}[a-z]?$");
    const DESCRIPTION: &'static str = "The number of a criterion, with a letter where one was split.";
    const EXAMPLE: &'static str = "1";
    fn parse(text: &str) -> Result<Self, Malformed> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let mut rest = text[digits.len()..].chars();
        let part = rest.next();
        let is_plain = !digits.starts_with('0') && digits.len() <= 6 && rest.next().is_none();
        let number = digits.parse().ok().filter(|_| is_plain && digits.bytes().all(|c| c.is_ascii_digit()));
        number.map(|number| Self { number, part }).ok_or_else(|| {
            Malformed::new("bad-criterion-number", format!("`{text}` is not the number of a criterion"))
                .why("it is a number from 1, and a letter behind it where a criterion was split")
                .hint("such as `[criterion.1]` or `[criterion.1b]`")
        })
    }
}

impl TryFrom<String> for SpecId {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl TryFrom<String> for CriterionNumber {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

in_schema!(SpecId, CriterionNumber);

impl From<SpecId> for String {
    fn from(id: SpecId) -> Self {
        id.0
    }
}

impl std::fmt::Display for SpecId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::fmt::Display for CriterionNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.number)?;
        self.part.map_or(Ok(()), |part| write!(f, "{part}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criteria_are_in_the_order_of_their_numbers() {
        let mut numbers: Vec<_> =
            ["10", "2", "2b", "1"].iter().flat_map(|text| CriterionNumber::parse(text)).collect();
        numbers.sort();
        assert_eq!(numbers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1", "2", "2b", "10"]);
        for text in ["", "0", "01", "b", "1bc", "1 ", "-1", "+1", "1000000", "ü"] {
            assert!(CriterionNumber::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_spec_is_called_by_a_word() {
        for (text, good) in
            [("E", true), ("cart-2", true), ("", false), ("2", false), ("a b", false), ("ä", false)]
        {
            assert_eq!(SpecId::parse(text).is_ok(), good, "{text}");
        }
    }
}
