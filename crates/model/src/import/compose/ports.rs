//! Published ports, in short and in long.

use std::net::IpAddr;

use super::node::{Data, Node};
use super::report::Report;
use crate::container::PublishedPort;

/// Why a port cannot be read.
type Why = String;

/// The ports that a service publishes, each once.
pub(super) fn read(report: &mut Report, node: &Node) -> Vec<PublishedPort> {
    let Data::List(items) = &node.data else {
        report.wrong(node, "ports", "a list");
        return Vec::new();
    };
    let mut ports: Vec<PublishedPort> = Vec::new();
    for item in items {
        let read = match &item.data {
            Data::Text(text) | Data::Number(text) => short(text),
            Data::Map(_) => match long(report, item) {
                Some(read) => read,
                None => continue,
            },
            _ => {
                report.wrong(item, "ports", "text, a number or a map in every item");
                continue;
            }
        };
        match read {
            Ok(Read { ports: read, picks }) => {
                if picks {
                    let text = "of several ports of the host, the first is taken for one of the container";
                    report.note(&item.at, text);
                }
                for port in read {
                    if !ports.contains(&port) {
                        ports.push(port);
                    }
                }
            }
            Err(why) => {
                let shown = item.scalar().map_or_else(|| "this".to_owned(), |text| format!("`{text}`"));
                let problem = item.at.problem("bad-port", format!("{shown} is not a port")).why(why);
                report
                    .problem(problem.hint(
                        "such as `8080:80`, `127.0.0.1:8080:80`, `8000-8010:8000-8010` or `53:53/udp`",
                    ));
            }
        }
    }
    ports
}

struct Read {
    ports: Vec<PublishedPort>,
    /// Whether the host's port is one of several.
    picks: bool,
}

/// `[[ADDRESS:][HOST]:]CONTAINER[/PROTOCOL]`
fn short(text: &str) -> Result<Read, Why> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let (rest, container) = match rest.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), container),
        None => (None, rest),
    };
    let (address, host) = match rest.map(|rest| (rest, rest.rsplit_once(':'))) {
        None => ("", ""),
        // An address alone, as in `[::1]:80`, stands where the host's port would.
        Some((rest, _)) if rest.ends_with(']') => (rest, ""),
        Some((rest, None)) => ("", rest),
        Some((_, Some(both))) => both,
    };
    expand(address, host, container, protocol)
}

fn long(report: &mut Report, node: &Node) -> Option<Result<Read, Why>> {
    let fields = report.fields(node, "services.*.ports.*", "ports")?;
    let mut get = |key: &str| match fields.get(key) {
        Some(node) => report.scalar(node, key),
        None => Some(String::new()),
    };
    let (container, host, address) = (get("target")?, get("published")?, get("host_ip")?);
    let protocol = Some(get("protocol")?).filter(|text| !text.is_empty()).unwrap_or_else(|| "tcp".to_owned());
    if container.is_empty() {
        return Some(Err("it does not say which port of the container: `target` is missing".to_owned()));
    }
    Some(expand(&address, &host, &container, &protocol))
}

/// Every single port of ranges.
fn expand(address: &str, host: &str, container: &str, protocol: &str) -> Result<Read, Why> {
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("there is no protocol `{protocol}`; there are `tcp`, `udp` and `sctp`"));
    }
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(match address {
            "localhost" => "`localhost` is a name; its address is `127.0.0.1`".to_owned(),
            _ => format!("`{address}` is not an address"),
        });
    }
    let address = Some(address.to_owned()).filter(|address| !address.is_empty());
    let container = range(container)?;
    let host = if host.is_empty() { None } else { Some(range(host)?) };
    let picks = host.as_ref().is_some_and(|host| host.len() > 1 && container.len() == 1);
    if let Some(host) = host.as_ref().filter(|host| !picks && host.len() != container.len()) {
        return Err(format!(
            "{} ports of the host do not fit {} of the container",
            host.len(),
            container.len()
        ));
    }
    let port = |(at, container): (usize, u16)| PublishedPort {
        container,
        protocol: protocol.clone(),
        address: address.clone(),
        host: host.as_ref().map(|host| host[at]).filter(|host| *host != 0),
    };
    if container.contains(&0) {
        return Err("a container has no port 0".to_owned());
    }
    Ok(Read { ports: container.into_iter().enumerate().map(port).collect(), picks })
}

/// The ports of `80` or `8000-8010`.
fn range(text: &str) -> Result<Vec<u16>, Why> {
    let number = |text: &str| {
        text.trim().parse::<u16>().map_err(|_| match text.trim() {
            "" => "a port is missing".to_owned(),
            text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("`{text}` is more than the highest port, 65535")
            }
            text => format!("`{text}` is not a number"),
        })
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first > last {
        return Err(format!("`{text}` goes backwards"));
    }
    Ok((first..=last).collect())
}

/// Ports that a service says it listens on, as they are written.
pub(super) fn exposed(report: &mut Report, node: &Node) -> std::collections::BTreeSet<String> {
    let mut ports = std::collections::BTreeSet::new();
    for (text, at) in report.scalars(node, "expose") {
        let (port, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        match expand("", "", port, protocol) {
            Ok(_) => {
                ports.insert(text);
            }
            Err(why) => {
                let problem = at.problem("bad-port", format!("`{text}` is not a port")).why(why);
                report.problem(problem.hint("`expose` takes ports of the container alone: `3000`, `53/udp`"));
            }
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The ports in short: `address:host->container/protocol`.
    fn shown(text: &str) -> Result<Vec<String>, Why> {
        let one = |port: &PublishedPort| {
            let host = port.host.map_or("*".to_owned(), |host| host.to_string());
            let address = port.address.as_ref().map_or(String::new(), |address| format!("{address} "));
            format!("{address}{host}->{}/{}", port.container, port.protocol)
        };
        Ok(short(text)?.ports.iter().map(one).collect())
    }

    #[test]
    fn the_short_form_has_many_shapes() {
        for (text, expected) in [
            ("80", &["*->80/tcp"] as &[&str]),
            ("8080:80", &["8080->80/tcp"]),
            ("22:22", &["22->22/tcp"]),
            ("53:53/udp", &["53->53/udp"]),
            ("127.0.0.1:8080:80", &["127.0.0.1 8080->80/tcp"]),
            ("127.0.0.1::80", &["127.0.0.1 *->80/tcp"]),
            ("[::1]:8080:80", &["::1 8080->80/tcp"]),
            ("[::1]:80", &["::1 *->80/tcp"]),
            ("[127.0.0.1]:80", &["127.0.0.1 *->80/tcp"]),
            ("::1:8080:80", &["::1 8080->80/tcp"]),
            (":80", &["*->80/tcp"]),
            ("0:80", &["*->80/tcp"]),
            ("3000-3001", &["*->3000/tcp", "*->3001/tcp"]),
            ("9090-9091:8080-8081/TCP", &["9090->8080/tcp", "9091->8081/tcp"]),
            ("8000-8010:80", &["8000->80/tcp"]),
        ] {
            let expected = expected.iter().map(|&port| port.to_owned()).collect();
            assert_eq!(shown(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_port_says_why() {
        for text in [
            "",
            "x",
            "80:",
            "70000",
            "80:70000",
            "localhost:80:80",
            "80/http",
            "9-8",
            "1-3:1-2",
            "0",
            "a:b:c:d",
            "80-",
        ] {
            assert!(shown(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9:\\[\\]/a-]{0,16}") {
            let _ = short(&text);
        }
    }
}
