//! Small values: how long, which port, whose account, which image.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::format::{Format, Malformed, in_schema, text_format};
use crate::release::{Repository, Version};

/// How long something may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Timeout(pub(super) Duration);

/// Reads how long something may take, as the manifest writes it: `90s`, `10m`, `1h 30m`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, Malformed> {
    Timeout::parse(text).map(|timeout| timeout.0)
}

impl Format for Timeout {
    const NAME: &'static str = "duration";
    const DESCRIPTION: &'static str = "How long: numbers with units, such as `90s`, `10m` or `1h 30m`.";
    const EXAMPLE: &'static str = "10m";
    fn parse(text: &str) -> Result<Self, Malformed> {
        let bad = |why: String| {
            Malformed::new("bad-duration", format!("`{text}` is not a duration"))
                .why(why)
                .hint("durations are numbers with units: `90s`, `10m`, `1h 30m`")
        };
        let duration = humantime::parse_duration(text).map_err(|error| {
            use humantime::DurationError as E;
            match error {
                E::UnknownUnit { start, end, unit, .. } if !unit.is_empty() => {
                    bad(format!("there is no unit `{unit}`")).range(start..end)
                }
                E::UnknownUnit { .. } => bad("its unit is missing".into()),
                E::InvalidCharacter(at) => bad("this does not belong in a duration".into())
                    .range(at..at + text[at..].chars().next().map_or(0, char::len_utf8)),
                E::NumberExpected(at) => bad("a number is missing here".into()).range(at..text.len()),
                E::Empty => bad("it is empty".into()),
                _ => bad("it is longer than can be counted".into()),
            }
        })?;
        if duration.is_zero() {
            return Err(bad("nothing can be done in no time".into()));
        }
        Ok(Self(duration))
    }
}

impl TryFrom<String> for Timeout {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

/// A port as it is written: `8080`, `80:8080`, `127.0.0.1:5432:5432`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port {
    /// The port inside.
    pub(super) inside: u16,
    /// The port on the host, where it is said.
    pub(super) outside: Option<u16>,
    /// The address on the host, where it is said.
    pub(super) address: Option<IpAddr>,
}

impl Format for Port {
    const NAME: &'static str = "port";
    const TYPES: &'static [&'static str] = &["integer", "string"];
    const DESCRIPTION: &'static str = "A port that something inside listens on.";
    const EXAMPLE: &'static str = "8080";
    fn parse(text: &str) -> Result<Self, Malformed> {
        let bad = |why: String| {
            Malformed::new("bad-port", format!("`{text}` is not a port"))
                .why(why)
                .hint("a port is a number from 1 to 65535, such as `8080`")
        };
        let number = |part: &str| match part.parse::<u16>() {
            Ok(port) if port > 0 && part.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
            _ if part == text => Err(Malformed { why: None, ..bad(String::new()) }),
            _ => Err(bad(format!("`{part}` is not a number from 1 to 65535"))),
        };
        let Some((outer, inside)) = text.rsplit_once(':') else {
            return Ok(Self { inside: number(text)?, outside: None, address: None });
        };
        let inside = number(inside)?;
        let (address, outside) = match outer.rsplit_once(':') {
            Some((address, outside)) => (Some(address), outside),
            None => (None, outer),
        };
        let outside = Some(number(outside)?);
        let parsed = |address: &str| {
            let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
            plain.parse().map_err(|_| bad(format!("`{address}` is not an address")))
        };
        Ok(Self { inside, outside, address: address.map(parsed).transpose()? })
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::format::number_or_text(deserializer)
    }
}

in_schema!(Timeout, Port);

/// Access rights of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FileMode(pub(super) u32);

impl Format for FileMode {
    const NAME: &'static str = "file-mode";
    const PATTERN: Option<&'static str> = Some("^0?[0-7]{3}$");
    const DESCRIPTION: &'static str = "Access rights, as three octal digits.";
    const EXAMPLE: &'static str = "0640";
    fn parse(text: &str) -> Result<Self, Malformed> {
        let digits = text.strip_prefix('0').filter(|digits| digits.len() == 3).unwrap_or(text);
        let is_octal = digits.len() == 3 && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        u32::from_str_radix(digits, 8).ok().filter(|_| is_octal).map(Self).ok_or_else(|| {
            Malformed::new("bad-mode", format!("`{text}` are no access rights"))
                .why("they are three octal digits: for its owner, its group, and everybody")
                .hint("such as `0640`")
        })
    }
}

impl TryFrom<String> for FileMode {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

in_schema!(FileMode);

text_format!(
    /// Whose account: a name or a number, and a group behind a `:` if it is another one.
    User, "user", pattern: Some("^([a-z_][a-z0-9_.-]*|[0-9]+)(:([a-z_][a-z0-9_.-]*|[0-9]+))?$"), example: "dev",
    |text: &str| {
        let part = |part: &str| {
            let name = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c));
            let number = part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u32>().is_ok();
            part.len() <= 32 && (name || number)
        };
        if text.splitn(2, ':').all(part) {
            return Ok(text.to_owned());
        }
        Err(Malformed::new("bad-user", format!("`{text}` is not a user"))
            .why("a user is a lower-case name or a number")
            .hint("such as `dev`, `1000` or `dev:staff`"))
    }
);

text_format!(
    /// What is asked for by HTTP: a path, and perhaps a query.
    HttpPath, "http-path", pattern: Some("^/[!-~]*$"), example: "/healthz",
    |text: &str| {
        // What else there may be would end the line of a request, or never reach a server.
        if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Ok(text.to_owned());
        }
        Err(Malformed::new("bad-http-path", format!("`{text}` cannot be asked for by HTTP"))
            .why("it is a path from `/`, of letters, digits and signs without white space and `#`")
            .hint("such as `/healthz`; the port stands in `port`"))
    }
);

text_format!(
    /// An image by its reference.
    ImageReference, "image", pattern: Some(r"^\S+$"), example: "debian:bookworm",
    |text: &str| {
        if !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Ok(text.to_owned());
        }
        Err(Malformed::new("bad-image", format!("`{text}` is not the reference of an image"))
            .why(if text.is_empty() { "it is empty" } else { "there is white space in it" })
            .hint("such as `debian:bookworm` or `ghcr.io/acme/tools:1.2`"))
    }
);

text_format!(
    /// A repository of a registry, with the registry's name.
    RepositoryAddress, "repository", pattern: Some(r"^(oci://)?[^/\s]+/\S+$"), example: "ghcr.io/acme/shop",
    |text: &str| {
        Repository::parse(text).map(String::from).map_err(|error| {
            Malformed::new("bad-repository", error.to_string()).hint("such as `ghcr.io/acme/shop`, without a version")
        })
    }
);

text_format!(
    /// A version of a project: three numbers.
    ReleaseVersion, "version", pattern: Some(r"^v?[0-9]+\.[0-9]+\.[0-9]+"), example: "0.3.0",
    |text: &str| {
        Version::parse(text)
            .map(|version| version.to_string())
            .map_err(|error| Malformed::new("bad-version", error.to_string()).hint("such as `0.3.0`"))
    }
);

text_format!(
    /// A text that says something.
    NonEmpty, "non-empty", pattern: Some(r"^[\s\S]*\S[\s\S]*$"), example: "text",
    |text: &str| {
        if text.trim().is_empty() {
            return Err(Malformed::new("empty", "this text is empty").hint("remove the key, or say something"));
        }
        Ok(text.to_owned())
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_rights_are_octal() {
        assert_eq!(
            ["0640", "400", "0777"].map(|text| FileMode::parse(text).map(|mode| mode.0)),
            [Ok(0o640), Ok(0o400), Ok(0o777)]
        );
        for text in ["", "0", "64", "0648", "+40", "04755", "u=rw"] {
            assert!(FileMode::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h 30m", 5400), ("1h30m", 5400), ("2d", 172_800)]
        {
            assert_eq!(Timeout::parse(text).ok(), Some(Timeout(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "10", "ten", "10 parsecs", "-1s", "0s", "1h?", "99999999999999999999s"] {
            assert!(Timeout::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_may_ask_for_a_port_and_an_address_of_the_host() {
        let address = |text: &str| Some(text.parse().expect(text));
        let port = |text| Port::parse(text).map(|port| (port.inside, port.outside, port.address)).ok();
        assert_eq!(port("8080"), Some((8080, None, None)));
        assert_eq!(port("80:8080"), Some((8080, Some(80), None)));
        assert_eq!(port("127.0.0.1:80:8080"), Some((8080, Some(80), address("127.0.0.1"))));
        assert_eq!(port("[::1]:80:8080"), Some((8080, Some(80), address("::1"))));
        for text in ["", "0", "65536", "+80", "http", "80:", ":80", "localhost:80:80", "80:80/udp"] {
            assert_eq!(port(text), None, "{text}");
        }
    }

    #[test]
    fn a_user_is_a_name_or_a_number() {
        for (text, good) in [
            ("dev", true),
            ("_apt", true),
            ("1000:1000", true),
            ("dev:staff", true),
            ("", false),
            ("Dev", false),
        ] {
            assert_eq!(User::parse(text).is_ok(), good, "{text}");
        }
        for text in ["a b", "dev:", "a:b:c", "-x", "99999999999"] {
            assert!(User::parse(text).is_err(), "{text}");
        }
    }
}
