//! Digests: BLAKE3-256 over a canonical encoding of named, length-prefixed fields.

use serde::{Deserialize, Serialize};

/// A BLAKE3-256 digest. Its text form is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A text that is not a digest of 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest of 64 hexadecimal digits")]
pub struct InvalidDigest(pub String);

impl Digest {
    /// The digest of bytes as they are, without a domain: for the content of a file.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// A digest from its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// All 64 digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The first 8 digits: what people are shown.
    #[must_use]
    pub fn short(self) -> String {
        self.to_hex()[..8].to_owned()
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`InvalidDigest`] if the text is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        blake3::Hash::from_hex(text)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| InvalidDigest(text.to_owned()))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_hex()
    }
}

/// Builds a digest from fields. Two different sequences of calls never feed the hash the same bytes: every
/// field is a tag byte, a length and the bytes, behind the domain and its format version.
pub struct Encoder(blake3::Hasher);

impl Encoder {
    /// Begins an encoding. The domain says what is digested, the version how.
    #[must_use]
    pub fn new(domain: &str, version: u32) -> Self {
        let mut encoder = Self(blake3::Hasher::new());
        encoder.field(b'd', domain.as_bytes());
        encoder.field(b'v', &version.to_le_bytes());
        encoder
    }

    fn field(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update(&[tag]);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// A text field.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.field(b's', text.as_bytes());
        self
    }

    /// A field of bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.field(b'b', bytes);
        self
    }

    /// A number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.field(b'n', &number.to_le_bytes());
        self
    }

    /// A yes or a no.
    pub fn flag(&mut self, flag: bool) -> &mut Self {
        self.field(b'f', &[u8::from(flag)]);
        self
    }

    /// A digest that was made before.
    pub fn digest(&mut self, digest: Digest) -> &mut Self {
        self.field(b'h', &digest.0);
        self
    }

    /// Says that a list of this many items follows, so that the boundary between two lists counts.
    pub fn list(&mut self, len: usize) -> &mut Self {
        self.field(b'l', &(len as u64).to_le_bytes());
        self
    }

    /// Something that may be absent; absent is not the same as empty.
    pub fn option(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.flag(true).text(text),
            None => self.flag(false),
        }
    }

    /// The digest of all that was put in.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_form_reads_back() {
        let digest = Digest::of_bytes(b"x");
        assert_eq!(Digest::parse(&digest.to_hex()), Ok(digest));
        assert!(Digest::parse("abc").is_err());
        assert_eq!(digest.short().len(), 8);
    }

    proptest! {
        #[test]
        fn fields_never_run_into_each_other(a in proptest::collection::vec(".{0,6}", 0..5),
                                            b in proptest::collection::vec(".{0,6}", 0..5)) {
            let digest = |fields: &[String]| {
                let mut encoder = Encoder::new("test", 1);
                for field in fields {
                    encoder.text(field);
                }
                encoder.finish()
            };
            prop_assert_eq!(a == b, digest(&a) == digest(&b));
        }

        #[test]
        fn domain_and_version_separate(text in ".{0,12}") {
            let digest = |domain: &str, version| Encoder::new(domain, version).text(&text).finish();
            prop_assert_ne!(digest("a", 1), digest("b", 1));
            prop_assert_ne!(digest("a", 1), digest("a", 2));
        }
    }
}
