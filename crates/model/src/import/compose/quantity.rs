//! Sizes and times as Compose writes them.

use std::time::Duration;

/// The bytes of a size: a number, decimals allowed, and a unit in any case (`b`, `k`, `kb`, `kib`, … `p`), all of them
/// powers of 1024.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let mut letters = unit.chars();
    let power = match letters.next() {
        None => 0,
        Some('b') if unit == "b" => 0,
        Some(first) => {
            let rest = letters.as_str();
            let power = "kmgtp".find(first)? + 1;
            if !matches!(rest, "" | "b" | "ib") {
                return None;
            }
            power
        }
    };
    let factor = 1024_u64.checked_pow(u32::try_from(power).ok()?)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let number = number.parse::<f64>().ok().filter(|_| !number.starts_with('.') && !number.ends_with('.'))?;
    whole(number * factor as f64)
}

/// A time: numbers with units, `1m30s`, `1.5h`, `500ms`, also days and weeks; `0` needs none.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanoseconds: u64 = 0;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(split);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let factor: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return None,
        };
        let part = match number.parse::<u64>() {
            Ok(number) => number.checked_mul(factor)?,
            Err(_) => whole(number.parse::<f64>().ok()? * factor as f64)?,
        };
        nanoseconds = nanoseconds.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(nanoseconds))
}

/// The whole part of a number that is not negative and fits.
fn whole(number: f64) -> Option<u64> {
    (0.0..9e18).contains(&number).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_whatever_their_case() {
        for (text, size) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("300b", Some(300)),
            ("1k", Some(1024)),
            ("2KB", Some(2048)),
            ("64m", Some(64 << 20)),
            ("64 MB", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("1GiB", Some(1 << 30)),
            ("1T", Some(1 << 40)),
            ("", None),
            ("g", None),
            ("1x", None),
            ("1bb", None),
            ("-1", None),
            ("1.", None),
            ("1.2.3g", None),
            ("99999999999p", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }

    #[test]
    fn times_are_sums_of_numbers_with_units() {
        for (text, milliseconds) in [
            ("0", Some(0)),
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1h0m5s", Some(3_605_000)),
            ("1.5s", Some(1_500)),
            ("250ms", Some(250)),
            ("2000us", Some(2)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("30", None),
            ("s", None),
            ("1 s", None),
            ("-1s", None),
            ("1y", None),
            ("999999999w", None),
        ] {
            assert_eq!(duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }
}
