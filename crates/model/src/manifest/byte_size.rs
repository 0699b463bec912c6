//! Sizes in bytes, compared by meaning: `512m` equals `536870912`.

use serde::{Deserialize, Serialize};

use super::format::{Format, Malformed, in_schema};

/// A number of bytes.
///
/// Its text is a number, decimals allowed, and a unit without a space between them:
///
/// | unit | is |
/// |---|---|
/// | none | bytes, whole ones |
/// | `k` `m` `g` `t`, in any case; `KiB` `MiB` `GiB` `TiB` | powers of 1024 |
/// | `kB` `MB` `GB` `TB` | powers of 1000 |
///
/// A part of a byte that is left over is dropped: `0.3k` is 307 bytes. Everything else is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// About this many bytes, in a few characters: `0`, `512B`, `1.5MiB`.
    #[must_use]
    pub fn rounded(self) -> String {
        const NAMES: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        match self.0 {
            0 => return "0".to_owned(),
            bytes @ 1..1024 => return format!("{bytes}B"),
            _ => {}
        }
        let mut amount = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while amount >= 1024.0 && unit + 1 < NAMES.len() {
            amount /= 1024.0;
            unit += 1;
        }
        if amount < 10.0 {
            format!("{amount:.1}{}", NAMES[unit])
        } else {
            format!("{amount:.0}{}", NAMES[unit])
        }
    }
}

const KIBI: u128 = 1024;
const KILO: u128 = 1000;

/// The units that are written out, with what they are worth. `k m g t` are apart, since their case is free.
const UNITS: [(&str, u128); 8] = [
    ("KiB", KIBI),
    ("MiB", KIBI * KIBI),
    ("GiB", KIBI * KIBI * KIBI),
    ("TiB", KIBI * KIBI * KIBI * KIBI),
    ("kB", KILO),
    ("MB", KILO * KILO),
    ("GB", KILO * KILO * KILO),
    ("TB", KILO * KILO * KILO * KILO),
];

/// What a unit is worth in bytes.
fn unit(text: &str) -> Option<u128> {
    let power = match text {
        "k" | "K" => 0,
        "m" | "M" => 1,
        "g" | "G" => 2,
        "t" | "T" => 3,
        _ => return UNITS.iter().find(|(name, _)| *name == text).map(|(_, bytes)| *bytes),
    };
    Some(UNITS[power].1)
}

impl Format for ByteSize {
    const NAME: &'static str = "byte-size";
    const PATTERN: Option<&'static str> = Some(r"^[0-9]+$|^[0-9]+(\.[0-9]+)?([kKmMgGtT]|[KMGT]iB|[kMGT]B)$");
    const TYPES: &'static [&'static str] = &["integer", "string"];
    const DESCRIPTION: &'static str = "A number of bytes: `k m g t` and `KiB MiB GiB TiB` are powers of 1024, \
         `kB MB GB TB` powers of 1000; a bare number is bytes.";
    const EXAMPLE: &'static str = "2GiB";

    fn parse(text: &str) -> Result<Self, Malformed> {
        let bad = |why: String| {
            Malformed::new("bad-size", format!("`{text}` is not a size"))
                .why(why)
                .hint("sizes are a number and a unit: `512m` and `512MiB` (powers of 1024), or `512MB` (powers of 1000)")
        };
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit_text) = text.split_at(split);
        if text.trim_start().starts_with('-') {
            return Err(bad("a size cannot be negative".into()));
        }
        if number.is_empty() {
            return Err(bad("it does not begin with a number".into()));
        }
        let factor = if unit_text.is_empty() {
            1
        } else {
            unit(unit_text).ok_or_else(|| {
                let why = match unit_text.trim_start() {
                    trimmed if trimmed != unit_text && unit(trimmed).is_some() => {
                        format!("there is a space before the unit; write `{number}{trimmed}`")
                    }
                    _ => format!("there is no unit `{unit_text}`"),
                };
                bad(why).range(split..text.len())
            })?
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(bad(format!("`{number}` is not a number")).range(0..split));
        }
        if factor == 1 && number.contains('.') {
            return Err(bad("a number without a unit is bytes, and there are no parts of a byte".into()));
        }
        bytes(whole, fraction, factor)
            .map(Self)
            .ok_or_else(|| bad("it is more bytes than a 64-bit number can hold".into()))
    }
}

/// The whole bytes of `whole.fraction` times a factor, exactly; nothing if they are more than fit.
fn bytes(whole: &str, fraction: &str, factor: u128) -> Option<u64> {
    let whole = u128::from(whole.parse::<u64>().ok()?);
    // More digits than these are below a byte, even for a TiB.
    let digits = &fraction[..fraction.len().min(20)];
    let numerator: u128 = digits.parse().ok()?;
    let scale = 10u128.pow(u32::try_from(digits.len()).ok()?);
    // 10^20 < 2^67 and a factor is at most 2^40: nothing here is near the end of 128 bits.
    u64::try_from(whole * factor + numerator * factor / scale).ok()
}

impl std::fmt::Display for ByteSize {
    /// The shortest text that means exactly this many bytes, in powers of 1024: `2GiB`, `1536`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = u128::from(self.0);
        let exact = UNITS[..4].iter().rev().find(|(_, unit)| bytes > 0 && bytes % unit == 0);
        match exact {
            Some((name, unit)) => f.pad(&format!("{}{name}", bytes / unit)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

in_schema!(ByteSize);

impl std::str::FromStr for ByteSize {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::format::number_or_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_by_meaning() {
        for (text, bytes) in [
            ("0", 0),
            ("536870912", 536_870_912),
            ("512m", 536_870_912),
            ("512M", 536_870_912),
            ("512MiB", 536_870_912),
            ("512MB", 512_000_000),
            ("1k", 1024),
            ("1K", 1024),
            ("1KiB", 1024),
            ("1kB", 1000),
            ("2g", 2 << 30),
            ("2GB", 2_000_000_000),
            ("1.5GiB", 3 << 29),
            ("0.3k", 307),
            ("007k", 7168),
            ("1t", 1 << 40),
            ("1TB", 1_000_000_000_000),
            ("1.0000000000000000000000000001k", 1024),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(ByteSize::parse(text).map(|size| size.0).ok(), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_says_where() {
        for (text, range) in [
            ("2Gib", Some(1..4)),
            ("2 GiB", Some(1..5)),
            ("1KB", Some(1..3)),
            ("1mb", Some(1..3)),
            ("5b", Some(1..2)),
            ("1.2.3g", Some(0..5)),
            (".5g", Some(0..2)),
            ("1.g", Some(0..2)),
            ("", None),
            ("g", None),
            ("-1g", None),
            ("1.5", None),
            ("1e3", Some(1..3)),
            ("18446744073709551616", None),
            ("99999999999999999999t", None),
            ("20000000t", None),
        ] {
            let malformed = ByteSize::parse(text).expect_err(text);
            assert_eq!(malformed.range, range, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_text_of_a_size_reads_back(bytes in any::<u64>(), shift in 0u32..50) {
            let size = ByteSize(bytes.wrapping_shl(shift));
            prop_assert_eq!(ByteSize::parse(&size.to_string()).ok(), Some(size));
        }

        #[test]
        fn reading_a_size_never_panics_and_keeps_to_the_pattern_in_the_schema(text in "[0-9.]{0,24}[ kKmMgGtTiB-]{0,4}") {
            let _ = ByteSize::parse(&text);
        }
    }
}
