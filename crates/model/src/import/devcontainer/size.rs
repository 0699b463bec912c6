//! Sizes as Docker and devcontainer.json write them.

use super::wrong::Wrong;
use crate::manifest::ByteSize;

/// A size as Docker's command line reads it: a number, and `b`, `k`, `m`, `g`, `t` or `p` in any case, with or
/// without `b` or `ib` behind; each is 1024 times the one before.
pub(super) fn docker(text: &str) -> Result<ByteSize, Wrong> {
    let wrong =
        || Wrong::new(format!("`{text}` is not a size")).hint("write a number and a unit: `512m`, `2g`");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start().to_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    scaled(number, power).map(ByteSize).ok_or_else(wrong)
}

/// A size of `hostRequirements`: whole bytes, or with `kb`, `mb`, `gb` or `tb`, each 1024 times the one before.
pub(super) fn requirement(text: &str) -> Result<ByteSize, Wrong> {
    let wrong =
        || Wrong::new("a size is a whole number with `kb`, `mb`, `gb` or `tb`").hint("write it as `\"8gb\"`");
    let unit = text.find(|c: char| !c.is_ascii_digit()).map_or("", |split| &text[split..]);
    match unit.to_lowercase().as_str() {
        "" | "kb" | "mb" | "gb" | "tb" => docker(text).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// The whole bytes of a decimal number times 1024 to a power.
fn scaled(number: &str, power: u32) -> Option<u64> {
    let factor = 1024_u128.pow(power);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 15 || fraction.contains('.') {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let whole = u128::from(whole.parse::<u64>().ok()?).checked_mul(factor)?;
    // 10^15 is below 2^50, and so is the factor.
    u64::try_from(whole + u128::from(fraction.parse::<u64>().ok()?) * factor / scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_command_line_are_powers_of_1024_however_they_are_spelled() {
        for (text, bytes) in [
            ("1024", 1024),
            ("1b", 1),
            ("1k", 1024),
            ("1KB", 1024),
            ("1KiB", 1024),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("2 gb", 2 << 30),
            ("1t", 1 << 40),
        ] {
            assert_eq!(docker(text), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "g", "1x", "-1g", "1..5g", "1.g", "99999999999p", "1gbb"] {
            assert!(docker(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_requirement_is_a_whole_number_with_two_letters() {
        assert_eq!(requirement("8gb"), Ok(ByteSize(8 << 30)));
        assert_eq!(requirement("64GB"), Ok(ByteSize(64 << 30)));
        assert_eq!(requirement("4096"), Ok(ByteSize(4096)));
        for text in ["8g", "1.5gb", "many", "8 gb"] {
            assert!(requirement(text).is_err(), "{text}");
        }
    }
}
