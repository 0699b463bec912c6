//! Ports: those that are forwarded, those that are published, and what is said about them.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;

use super::reader::{Placed, Reader, below};
use super::support;
use super::wrong::Wrong;
use crate::container::PublishedPort;
use crate::manifest::Problem;

/// A port that is forwarded to the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardedPort {
    /// Whose port it is, by name; absent is the dev container itself.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for ForwardedPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

/// What is said about a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortAttributes {
    /// What it is called.
    pub label: Option<String>,
    /// `http` or `https`; absent is any.
    pub protocol: Option<String>,
    /// What happens when something begins to listen there.
    pub on_auto_forward: Option<OnAutoForward>,
    /// Whether it must be the same port on the host.
    pub require_local_port: Option<bool>,
    /// Whether more rights are asked for if the host's port needs them.
    pub elevate_if_needed: Option<bool>,
}

/// What happens when something begins to listen at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAutoForward {
    /// It is told.
    Notify,
    /// A browser is opened.
    OpenBrowser,
    /// A browser is opened the first time.
    OpenBrowserOnce,
    /// It is shown within the editor.
    OpenPreview,
    /// It is forwarded, and nothing is said.
    Silent,
    /// It is not forwarded.
    Ignore,
}

const ON_AUTO_FORWARD: [(&str, OnAutoForward); 6] = [
    ("notify", OnAutoForward::Notify),
    ("openBrowser", OnAutoForward::OpenBrowser),
    ("openBrowserOnce", OnAutoForward::OpenBrowserOnce),
    ("openPreview", OnAutoForward::OpenPreview),
    ("silent", OnAutoForward::Silent),
    ("ignore", OnAutoForward::Ignore),
];

/// A member of `forwardPorts`: a number or `host:port`.
pub(super) fn forwarded(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Option<ForwardedPort> {
    let text = match value {
        Value::NumberLit(number) => number.value.to_owned(),
        Value::StringLit(text) => text.value.to_string(),
        _ => {
            reader.wrong_type(path, value, "a port: a number or \"host:port\"");
            return None;
        }
    };
    let (host, port) = match text.rsplit_once(':') {
        Some(("localhost", port)) => (None, port),
        Some((host, port)) => (Some(host.to_owned()), port),
        None => (None, text.as_str()),
    };
    let read = match (port.split_once('-'), &host) {
        (Some((first, last)), None) if number(first).is_ok() && number(last).is_ok() => {
            Err(Wrong::new("ranges of ports cannot be forwarded").hint("name each of them"))
        }
        _ => number(port),
    };
    let host = host.filter(|host| {
        let is_port = number(host).is_ok();
        if is_port {
            let at = reader.place(value);
            reader.note(
                at,
                format!("`{text}` is forwarded as {port}: before the `:` stands a host, and not a port"),
            );
        }
        !is_port
    });
    match read {
        Ok(port) if host.as_deref() != Some("") => Some(ForwardedPort { host, port }),
        Ok(_) => {
            bad_port(reader, value, &text, Wrong::new("there is no host before the `:`"));
            None
        }
        Err(wrong) => {
            bad_port(reader, value, &text, wrong);
            None
        }
    }
}

fn bad_port(reader: &mut Reader<'_>, value: &Value<'_>, text: &str, wrong: Wrong) {
    reader.problem(value, wrong.problem("bad-port", format!("`{text}` is not a port")));
}

/// The members of `appPort`, each as the text of Docker's `--publish`.
pub(super) fn app_ports(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Vec<Placed<String>> {
    match value {
        Value::Array(array) => {
            let items = array.elements.iter().enumerate();
            items.filter_map(|(index, item)| app_port(reader, &format!("{path}[{index}]"), item)).collect()
        }
        _ => app_port(reader, path, value).into_iter().collect(),
    }
}

/// A number is published to this machine alone, as the same port; a text is as Docker reads it. A text that has
/// variables in it is checked once they are known.
fn app_port(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Option<Placed<String>> {
    let (given, text) = match value {
        Value::NumberLit(number) => (number.value.to_owned(), format!("127.0.0.1:{0}:{0}", number.value)),
        Value::StringLit(text) => (text.value.to_string(), text.value.to_string()),
        _ => {
            reader.wrong_type(path, value, "a port: a number or a text such as \"8080:80\"");
            return None;
        }
    };
    if !text.contains("${")
        && let Err(wrong) = published(&text)
    {
        bad_port(reader, value, &given, wrong);
        return None;
    }
    Some(Placed { value: text, at: reader.place(value) })
}

/// The ports that these texts of `appPort` publish.
///
/// # Errors
/// Those that are none.
pub fn published_ports(texts: &[Placed<String>]) -> Result<Vec<PublishedPort>, Vec<Problem>> {
    let mut ports = Vec::new();
    let mut problems = Vec::new();
    for text in texts {
        match published(&text.value) {
            Ok(more) => ports.extend(more),
            Err(wrong) => problems.push(
                wrong.problem("bad-port", format!("`{}` is not a port", text.value)).at(text.at.clone()),
            ),
        }
    }
    if problems.is_empty() { Ok(ports) } else { Err(problems) }
}

/// The ports of a text of Docker's `--publish`: `[[address:]host:]container[/protocol]`, where both ports may be
/// ranges of the same length.
pub(super) fn published(text: &str) -> Result<Vec<PublishedPort>, Wrong> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(
            Wrong::new(format!("there is no protocol `{protocol}`")).hint("it can be `tcp`, `udp` or `sctp`")
        );
    }
    let (before, container) = ports.rsplit_once(':').map_or((None, ports), |(a, b)| (Some(a), b));
    let (address, host) = match before {
        None => (None, None),
        Some(before) => match before.rsplit_once(':') {
            Some((address, host)) => (Some(address), Some(host)),
            None => (None, Some(before)),
        },
    };
    let address = address.map(|address| address.trim_start_matches('[').trim_end_matches(']').to_owned());
    if let Some(address) = &address
        && address.parse::<std::net::IpAddr>().is_err()
    {
        return Err(Wrong::new(format!("`{address}` is not an address"))
            .hint("write it as `127.0.0.1:8080:80`: address, port of the host, port inside"));
    }
    let container = range(container)?;
    let host = host.filter(|host| !host.is_empty()).map(range).transpose()?;
    if let Some(host) = &host
        && host.len() != container.len()
    {
        return Err(Wrong::new(format!(
            "{} ports of the host cannot be {} inside",
            host.len(),
            container.len()
        )));
    }
    Ok(container
        .enumerate()
        .map(|(index, port)| PublishedPort {
            container: port,
            protocol: protocol.clone(),
            address: address.clone(),
            host: host.as_ref().and_then(|host| host.clone().nth(index)),
        })
        .collect())
}

/// A port, or a range of them: `8000-8010`.
fn range(text: &str) -> Result<std::ops::RangeInclusive<u16>, Wrong> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(Wrong::new(format!("the range `{text}` ends before it begins")));
    }
    Ok(first..=last)
}

/// A port.
pub(super) fn number(text: &str) -> Result<u16, Wrong> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ if digits => Err(Wrong::new("ports are from 1 to 65535")),
        _ => Err(Wrong::new(format!("`{text}` is not a number")).hint("ports are from 1 to 65535")),
    }
}

/// `portsAttributes`: by a port, a range of ports, `host:port`, or an expression for the command that listens.
pub(super) fn attributes_by_port(
    reader: &mut Reader<'_>,
    path: &str,
    value: &Value<'_>,
) -> BTreeMap<String, PortAttributes> {
    reader
        .members(path, value)
        .into_iter()
        .map(|member| {
            let path = below(path, member.key);
            (member.key.to_owned(), attributes(reader, "portsAttributes.*", &path, member.value))
        })
        .collect()
}

/// What is said about a port; the section is where the keys stand in the table of what is supported.
pub(super) fn attributes(
    reader: &mut Reader<'_>,
    section: &str,
    path: &str,
    value: &Value<'_>,
) -> PortAttributes {
    let mut attributes = PortAttributes::default();
    for member in reader.known_members(path, &support::keys_of(section), value) {
        let path = below(path, member.key);
        match member.key {
            "label" => attributes.label = reader.string(&path, member.value).map(|label| label.value),
            "protocol" => {
                let words = [("http", "http"), ("https", "https")];
                attributes.protocol = reader.word(&path, member.value, &words).map(str::to_owned);
            }
            "onAutoForward" => {
                attributes.on_auto_forward = reader.word(&path, member.value, &ON_AUTO_FORWARD);
            }
            "requireLocalPort" => attributes.require_local_port = reader.boolean(&path, member.value),
            _ => attributes.elevate_if_needed = reader.boolean(&path, member.value),
        }
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        published(text)
            .unwrap()
            .into_iter()
            .map(|port| {
                let host = port.host.map_or_else(|| "any".to_owned(), |host| host.to_string());
                format!("{} {host} {}/{}", port.address.unwrap_or_default(), port.container, port.protocol)
            })
            .collect()
    }

    #[test]
    fn a_published_port_is_read_as_docker_reads_it() {
        assert_eq!(shown("80"), [" any 80/tcp"]);
        assert_eq!(shown("8080:80/UDP"), [" 8080 80/udp"]);
        assert_eq!(shown("127.0.0.1:8080:80"), ["127.0.0.1 8080 80/tcp"]);
        assert_eq!(shown("127.0.0.1::80"), ["127.0.0.1 any 80/tcp"]);
        assert_eq!(shown("[::1]:8080:80"), ["::1 8080 80/tcp"]);
        assert_eq!(shown("8000-8001:9000-9001"), [" 8000 9000/tcp", " 8001 9001/tcp"]);
        assert_eq!(shown("65534-65535"), [" any 65534/tcp", " any 65535/tcp"]);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", "0", "65536", "x", "80/http", "9-8", "1-2:3-5", "host:80:80", "80:", ":-1", "+80"] {
            assert!(published(text).is_err(), "{text}");
        }
    }
}
