//! Hiding secrets in what is shown or kept.

use super::Values;

/// Hides the values of secrets in text that is shown or kept: as they are, in base64 wherever they stand in what
/// was encoded, and percent-encoded. Values shorter than four characters stay: hiding them would tear every text
/// apart and hide nothing.
#[derive(Debug, Clone, Default)]
pub struct Mask(Vec<String>);

/// The shortest part of a base64 text that is taken for a secret's.
const SHORTEST_ENCODED: usize = 6;

impl Mask {
    /// A mask of these values.
    #[must_use]
    pub fn new(values: &Values) -> Self {
        Self::of(values.values().map(String::as_str))
    }

    /// A mask of these texts: each line of each.
    #[must_use]
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hidden: Vec<String> = texts
            .into_iter()
            .flat_map(str::lines)
            .map(str::to_owned)
            .filter(|v| v.len() >= 4)
            .flat_map(|value| forms(&value))
            .collect();
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        hidden.dedup();
        Self(hidden)
    }

    /// The bytes of the longest text that is hidden.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.0.first().map_or(0, String::len)
    }

    /// The text with each value replaced by `***`.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, value| text.replace(value, "***"))
    }
}

/// The ways in which a value may stand in a text.
fn forms(value: &str) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let mut forms = vec![value.to_owned()];
    // A value within something longer begins at one of three offsets; what does not depend on its neighbours is
    // the middle.
    for (offset, skipped) in [(0, 0), (1, 2), (2, 3)] {
        let padded = [vec![0; offset], value.as_bytes().to_vec()].concat();
        let whole = padded.len() / 3 * 4;
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let middle = encoded.get(skipped..whole).unwrap_or_default();
            if middle.len() >= SHORTEST_ENCODED {
                forms.push(middle.to_owned());
            }
        }
    }
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    for upper in [true, false] {
        let encoded = value.bytes().map(|byte| match byte {
            byte if kept(byte) => char::from(byte).to_string(),
            byte if upper => format!("%{byte:02X}"),
            byte => format!("%{byte:02x}"),
        });
        forms.push(encoded.collect());
    }
    forms
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use setpoint_model::names::SecretName;

    #[test]
    fn a_secret_is_hidden_in_whatever_form() {
        let secret = "p@ss/w0rd~~??>>";
        let mask = Mask::new(&Values::from([(SecretName::new("s").unwrap(), secret.to_owned())]));
        assert_eq!(mask.apply(&format!("a {secret} b")), "a *** b");
        assert_eq!(mask.apply("p%40ss%2Fw0rd~~%3F%3F%3E%3E"), "***");
        assert_eq!(mask.apply("p%40ss%2fw0rd~~%3f%3f%3e%3e"), "***");
        for before in ["", "u", "us", "user:", "user1:"] {
            for after in ["", "x", "xy"] {
                let text = format!("{before}{secret}{after}");
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    let hidden = mask.apply(&encoded);
                    // A few characters at the edges also hold bits of what stands beside.
                    assert!(
                        hidden.contains("***") && hidden.len() <= encoded.len() - 12,
                        "{encoded} {hidden}"
                    );
                }
            }
        }
        assert_eq!(mask.apply("nothing of it"), "nothing of it");
    }
}
