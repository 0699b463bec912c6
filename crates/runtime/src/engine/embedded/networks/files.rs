//! The files by which a unit resolves names: who is in its networks, and the host's servers of names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use setpoint_model::container::{Container, ExtraHost};
use setpoint_sandbox as sandbox;

use super::{About, Embedded, Member, members, networks_of};
use crate::engine::kept::read;
use crate::engine::{EngineError, UnitId};
use crate::paths::make_private_folder;

/// In a unit's folder: its `/etc/hosts`.
const HOSTS: &str = "hosts";
/// In a unit's folder: its `/etc/resolv.conf`.
const RESOLVER: &str = "resolv.conf";

const OF_HOST: &str = "/etc/resolv.conf";
/// What systemd's resolver, which listens on a loopback address, asks itself.
const OF_SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";

/// What always stands for the unit itself.
const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Writes who is in these networks for all who run in them.
pub(super) fn refresh(engine: &Embedded, networks: &BTreeSet<&str>) -> Result<(), EngineError> {
    let mut units = BTreeSet::new();
    for network in networks {
        units.extend(members(engine, network)?.into_iter().filter(|(_, of)| of.up).map(|(unit, _)| unit));
    }
    units.into_iter().try_for_each(|unit| write(engine, &UnitId(unit)))
}

/// Writes a unit's `/etc/hosts`.
fn write(engine: &Embedded, unit: &UnitId) -> Result<(), EngineError> {
    // One whose folder somebody removed is nobody's to find.
    let Some(file) = engine.unit_file(unit)? else { return Ok(()) };
    let settings = &file.container;
    let own_name = settings.hostname.clone().unwrap_or_else(|| file.labels.unit.to_string());
    let (mut gateway, mut found) = (None, Vec::new());
    for network in networks_of(engine, unit)? {
        let about: Option<About> = read(&engine.network(&network).join(super::ABOUT))?;
        gateway = gateway.or(about.map(|about| about.gateway));
        for (member, mut of) in members(engine, &network)? {
            if member == unit.as_str() {
                of.names.remove(&own_name);
                found.insert(0, (of.address, joined(std::iter::once(&own_name).chain(&of.names))));
            } else if of.up {
                found.push((of.address, joined(of.names.iter())));
            }
        }
    }
    let text = hosts(&settings.extra_hosts, gateway, &found);
    let path = engine.folder(unit).join(HOSTS);
    overwrite(&path, &text).map_err(EngineError::io("write", &path))
}

/// Writes the `/etc/hosts` of who is no unit, and sees the units of one network.
pub(super) fn of_visitor(
    folder: &Path,
    about: &About,
    members: &BTreeMap<String, Member>,
) -> Result<(), EngineError> {
    let up = members.values().filter(|member| member.up);
    let found: Vec<_> = up.map(|member| (member.address, joined(member.names.iter()))).collect();
    make_private_folder(folder).map_err(EngineError::io("make", folder))?;
    let path = folder.join(HOSTS);
    overwrite(&path, &hosts(&[], Some(about.gateway), &found)).map_err(EngineError::io("write", &path))
}

fn joined<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// An `/etc/hosts`: the loopback, what is declared, and who is in the networks.
fn hosts(extra: &[ExtraHost], gateway: Option<Ipv4Addr>, found: &[(Ipv4Addr, String)]) -> String {
    let mut text = LOOPBACK.to_owned();
    add_extra(&mut text, extra, gateway);
    for (address, names) in found {
        let _ = writeln!(text, "{address}\t{names}");
    }
    text
}

fn add_extra(text: &mut String, extra: &[ExtraHost], gateway: Option<Ipv4Addr>) {
    for ExtraHost { name, address } in extra {
        let gateway = gateway.unwrap_or(Ipv4Addr::LOCALHOST).to_string();
        let address = if address == "host-gateway" { &gateway } else { address };
        let _ = writeln!(text, "{address}\t{name}");
    }
}

/// By what a unit that is about to start in this network resolves names. The file of who is in its own networks is
/// there by now.
pub(in crate::engine::embedded) fn names(
    folder: &Path,
    network: &sandbox::Network,
    settings: &Container,
) -> Result<sandbox::Names, EngineError> {
    let (hosts, resolver) = (folder.join(HOSTS), folder.join(RESOLVER));
    let give = |path: PathBuf, text: &str| {
        overwrite(&path, text).map_err(EngineError::io("write", &path)).map(|()| path)
    };
    Ok(match network {
        sandbox::Network::Own(_) => {
            let of_host = fs::read_to_string(OF_HOST).unwrap_or_default();
            let of_systemd = fs::read_to_string(OF_SYSTEMD).unwrap_or_default();
            let text = self::resolver(&of_host, &of_systemd);
            sandbox::Names { hosts: Some(hosts), resolver: Some(give(resolver, &text)?) }
        }
        // As the other unit has them, if it has any.
        sandbox::Network::Of(other) => {
            let of_other = |name: &str| Some(other.join(name)).filter(|path| path.is_file());
            sandbox::Names { hosts: of_other(HOSTS), resolver: of_other(RESOLVER) }
        }
        _ if settings.extra_hosts.is_empty() => sandbox::Names::default(),
        _ => {
            let mut text = fs::read_to_string("/etc/hosts").unwrap_or_else(|_| LOOPBACK.to_owned());
            if !text.ends_with('\n') {
                text.push('\n');
            }
            add_extra(&mut text, &settings.extra_hosts, None);
            sandbox::Names { hosts: Some(give(hosts, &text)?), resolver: None }
        }
    })
}

/// The host's servers of names, without those that listen on the host's own loopback, which nobody inside reaches. If
/// there are no others, those that the host's resolver asks itself.
fn resolver(of_host: &str, of_systemd: &str) -> String {
    let is_reachable = |line: &str| match line.trim().strip_prefix("nameserver") {
        None => true,
        Some(server) => {
            let server = server.trim().split('%').next().unwrap_or_default();
            !server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    };
    let reachable = |text: &str| {
        text.lines().filter(|line| is_reachable(line)).fold(String::new(), |all, line| all + line + "\n")
    };
    let (first, second) = (reachable(of_host), reachable(of_systemd));
    let names_one = |text: &str| text.lines().any(|line| line.trim().starts_with("nameserver"));
    match names_one(&first) || !names_one(&second) {
        true => first,
        false => second,
    }
}

/// Writes a file in its place, since units have it mounted: a reader sees the old text or the new one, which may have
/// empty lines at its end for a moment.
fn overwrite(path: &Path, text: &str) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o644).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let padded = format!("{text}{}", "\n".repeat(length.saturating_sub(text.len())));
    file.write_all_at(padded.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_on_the_loopback_is_replaced() {
        let real = "nameserver 10.0.0.1\nsearch home\n";
        assert_eq!(resolver(real, ""), real);
        assert_eq!(resolver("nameserver 127.0.0.53\noptions edns0\n", real), real);
        assert_eq!(resolver("nameserver 127.0.0.1\nnameserver 10.0.0.1\n", "x"), "nameserver 10.0.0.1\n");
        assert_eq!(resolver("nameserver ::1\nsearch home\n", ""), "search home\n");
    }

    #[test]
    fn hosts_begin_with_the_loopback() {
        let extra = [("docker", "host-gateway"), ("db", "10.9.9.9")]
            .map(|(name, address)| ExtraHost { name: name.to_owned(), address: address.to_owned() });
        let gateway = Ipv4Addr::new(10, 1, 1, 1);
        let text = hosts(&extra, Some(gateway), &[(Ipv4Addr::new(10, 1, 1, 2), "web www".to_owned())]);
        assert_eq!(text, format!("{LOOPBACK}10.1.1.1\tdocker\n10.9.9.9\tdb\n10.1.1.2\tweb www\n"));
    }

    #[test]
    fn a_file_stays_the_one_that_it_is() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        overwrite(&path, "one\ntwo\n").unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        overwrite(&path, "1\n").unwrap();
        assert_eq!(
            (fs::read_to_string(&path).unwrap().as_str(), fs::metadata(&path).unwrap().ino()),
            ("1\n", before)
        );
    }
}
