//! The values of options of `docker run`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use super::{Draft, Placed, Wrong};
use crate::container::{
    Attachment, Container, ContainerMount, Device, ExtraHost, Health, Logging, MountSource, NetworkMode,
    Ulimit,
};
use crate::import::devcontainer::{mount as mounts, size};
use crate::manifest::{Location, Note};

/// A text that says something.
pub(super) fn filled(text: &str) -> Result<&str, Wrong> {
    if text.trim().is_empty() { Err(Wrong::new("its value is empty")) } else { Ok(text) }
}

/// A whole number.
pub(super) fn integer<T: FromStr>(text: &str) -> Result<T, Wrong> {
    text.trim().parse().map_err(|_| Wrong::new(format!("`{text}` is not a whole number that fits")))
}

/// Processors, in parts.
pub(super) fn cpus(text: &str) -> Result<f64, Wrong> {
    let wrong = || Wrong::new(format!("`{text}` is not a number of processors")).hint("such as `1.5`");
    let cpus: f64 = text.trim().parse().map_err(|_| wrong())?;
    if cpus.is_finite() && cpus > 0.0 { Ok(cpus) } else { Err(wrong()) }
}

/// Memory and swap together, or -1.
pub(super) fn memory_swap(text: &str) -> Result<i64, Wrong> {
    if text == "-1" {
        return Ok(-1);
    }
    i64::try_from(size::docker(text)?.0).map_err(|_| Wrong::new(format!("`{text}` is too much")))
}

/// Graphic processors.
pub(super) fn gpus(text: &str) -> Result<String, Wrong> {
    if text == "all" || text.parse::<u32>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("`{text}` is neither `all` nor a number of graphic processors"))
        .hint("write `--gpus=all`; single devices cannot be chosen"))
}

/// Seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, Wrong> {
    integer(text).map(Duration::from_secs)
}

/// A duration as Docker writes it: numbers with units and no spaces between them.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    humantime::parse_duration(text)
        .map_err(|_| Wrong::new(format!("`{text}` is not a duration")).hint("such as `30s` or `1m30s`"))
}

/// `name=value`.
pub(super) fn pair(text: &str) -> Result<(String, String), Wrong> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Wrong::new(format!("`{text}` is not a name and a value")).hint("write `name=value`")),
    }
}

/// A label, whose value may be left away.
pub(super) fn label(text: &str) -> Result<(String, String), Wrong> {
    let (name, value) = filled(text)?.split_once('=').unwrap_or((text, ""));
    Ok((filled(name)?.to_owned(), value.to_owned()))
}

/// A file that is read.
pub(super) fn file(files: &mut Vec<Placed<String>>, text: &str, at: &Location) -> Result<(), Wrong> {
    files.push(Placed { value: filled(text)?.to_owned(), at: at.clone() });
    Ok(())
}

/// A variable; without a value it is the caller's.
pub(super) fn env(run: &mut Draft, text: &str, at: &Location) -> Result<(), Wrong> {
    match filled(text)?.split_once('=') {
        Some(("", _)) => return Err(Wrong::new("it has no name before the `=`")),
        Some((name, value)) => {
            run.container.env.insert(name.to_owned(), value.to_owned());
        }
        None => run.env_of_caller.push(Placed { value: text.to_owned(), at: at.clone() }),
    }
    Ok(())
}

/// A name and its address, with `:` or `=` between them.
pub(super) fn extra_host(text: &str) -> Result<ExtraHost, Wrong> {
    match text.split_once(['=', ':']) {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => Ok(ExtraHost {
            name: name.to_owned(),
            address: address.trim_start_matches('[').trim_end_matches(']').to_owned(),
        }),
        _ => Err(Wrong::new(format!("`{text}` is not a name and an address")).hint("write `name:address`")),
    }
}

/// `path[:path-inside[:permissions]]`.
pub(super) fn device(text: &str) -> Result<Device, Wrong> {
    let permissions = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let (source, target, allowed) = match text.split(':').collect::<Vec<_>>().as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, allowed] if permissions(allowed) => (*source, *source, *allowed),
        [source, target] => (*source, *target, "rwm"),
        [source, target, allowed] if permissions(allowed) => (*source, *target, *allowed),
        _ => ("", "", ""),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(Wrong::new(format!("`{text}` is not a device"))
            .hint("write `/dev/of-the-host[:/dev/inside[:rwm]]`"));
    }
    Ok(Device { source: source.to_owned(), target: target.to_owned(), permissions: allowed.to_owned() })
}

/// `name=soft[:hard]`.
pub(super) fn ulimit(text: &str) -> Result<(String, Ulimit), Wrong> {
    let (name, limits) = pair(text)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
    let ulimit = Ulimit { soft: integer(soft)?, hard: integer(hard)? };
    if ulimit.hard != -1 && (ulimit.soft == -1 || ulimit.soft > ulimit.hard) {
        return Err(Wrong::new(format!(
            "the limit at first, {soft}, is above {hard}, up to where it may be raised"
        )));
    }
    Ok((name, ulimit))
}

/// `[source:]target[:options]`.
pub(super) fn volume(run: &mut Draft, text: &str, at: &Location) -> Result<(), Wrong> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => {
            return Err(
                Wrong::new(format!("`{text}` has too many parts")).hint("write `source:/inside[:ro]`")
            );
        }
    };
    if !target.starts_with('/') {
        return Err(Wrong::new(format!("`{target}` is not an absolute path inside"))
            .hint("write `source:/inside[:ro]`"));
    }
    let (mut read_only, mut no_copy, mut propagation) = (false, false, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" => no_copy = true,
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                propagation = Some(option.to_owned());
            }
            "z" | "Z" | "cached" | "delegated" | "consistent" | "default" => {
                let text = format!("`{option}` of the volume has no effect here");
                run.notes.push(Note { at: at.clone(), text });
            }
            _ => {
                return Err(
                    Wrong::new(format!("there is no option `{option}`")).hint("such as `ro` or `nocopy`")
                );
            }
        }
    }
    let source = match source {
        Some("") => return Err(Wrong::new("there is nothing before the `:`")),
        Some(path) if path.starts_with(['/', '.', '~']) => {
            MountSource::Bind { source: path.to_owned(), create: true, propagation }
        }
        name => MountSource::Volume { name: name.map(str::to_owned), no_copy, subpath: None },
    };
    run.container.mounts.push(ContainerMount { target: target.to_owned(), read_only, source });
    Ok(())
}

/// The text of `--mount`.
pub(super) fn mount(run: &mut Draft, text: &str, at: &Location) -> Result<(), Wrong> {
    let read = mounts::from_text(text)?;
    for field in read.ignored {
        run.notes.push(Note { at: at.clone(), text: format!("`{field}` of the mount has no effect here") });
    }
    run.container.mounts.push(read.mount);
    Ok(())
}

/// `target[:options]`.
pub(super) fn tmpfs(text: &str) -> Result<ContainerMount, Wrong> {
    let (target, given) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') {
        return Err(Wrong::new(format!("`{target}` is not an absolute path inside")));
    }
    let (mut read_only, mut size, mut mode, mut options) = (false, None, None, Vec::new());
    for option in given.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", text)) => size = Some(size::docker(text)?),
            Some(("mode", text)) => mode = Some(mounts::octal(text)?),
            None if option == "ro" => read_only = true,
            _ => options.push(option.to_owned()),
        }
    }
    let source = MountSource::Tmpfs { size, mode, options };
    Ok(ContainerMount { target: target.to_owned(), read_only, source })
}

/// A network: a mode, a name, or `name=...,alias=...`.
pub(super) fn network(run: &mut Draft, text: &str) -> Result<(), Wrong> {
    let mode = match filled(text)? {
        "none" => NetworkMode::None,
        "host" => NetworkMode::Host,
        "default" | "bridge" => return Ok(()),
        other => match other.strip_prefix("container:") {
            Some(name) => NetworkMode::Container(filled(name)?.to_owned()),
            None => {
                let (name, attachment) = named_network(other)?;
                return join(run, name, attachment);
            }
        },
    };
    if run.container.network.as_ref().is_some_and(|network| *network != mode) {
        return Err(Wrong::new(format!(
            "`{text}` goes with no other network, and another one is already given"
        )));
    }
    run.container.network = Some(mode);
    Ok(())
}

/// Puts a container into one more network of a name.
fn join(run: &mut Draft, name: String, attachment: Attachment) -> Result<(), Wrong> {
    match run.container.network.get_or_insert_with(|| NetworkMode::Networks(BTreeMap::new())) {
        NetworkMode::Networks(networks) => {
            run.first_network.get_or_insert_with(|| name.clone());
            networks.insert(name, attachment);
            Ok(())
        }
        _ => {
            Err(Wrong::new(format!("the network that is already given goes with no other, such as `{name}`")))
        }
    }
}

fn named_network(text: &str) -> Result<(String, Attachment), Wrong> {
    if !text.contains('=') {
        return Ok((text.to_owned(), Attachment::default()));
    }
    let mut name = None;
    let mut attachment = Attachment::default();
    for field in text.split(',') {
        let (key, value) = pair(field)?;
        match key.as_str() {
            "name" => name = Some(value),
            "alias" => attachment.aliases.extend([value]),
            "ip" => attachment.ipv4 = Some(value),
            "ip6" => attachment.ipv6 = Some(value),
            "mac-address" => attachment.mac = Some(value),
            "gw-priority" => attachment.priority = Some(integer(&value)?),
            _ => {
                return Err(Wrong::new(format!("a network has no field `{key}`"))
                    .hint("the fields are `name`, `alias`, `ip`, `ip6`, `mac-address` and `gw-priority`"));
            }
        }
    }
    name.map(|name| (name, attachment)).ok_or_else(|| Wrong::new("it does not name the network"))
}

/// Where the engine keeps output, so far.
pub(super) fn logging(container: &mut Container) -> &mut Logging {
    container.logging.get_or_insert_with(|| Logging { driver: None, options: BTreeMap::new() })
}

/// The check of whether a container is well, so far.
pub(super) fn health(container: &mut Container) -> &mut Health {
    container.health.get_or_insert_with(Health::default)
}
