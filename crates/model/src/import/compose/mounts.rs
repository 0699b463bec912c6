//! What appears inside: `volumes` in short and in long, and `tmpfs`.

use std::collections::BTreeMap;

use super::node::{Data, Node};
use super::paths;
use super::report::Report;
use super::source::Place;
use super::types::Volume;
use super::{files, quantity};
use crate::container::{ContainerMount, MountSource};
use crate::manifest::{ByteSize, nearest};

/// How mounts below a folder may be passed on.
const PROPAGATION: [&str; 6] = ["shared", "slave", "private", "rshared", "rslave", "rprivate"];

/// What appears inside, in order; what comes later at the same place takes the place of what was there.
pub(super) fn read(
    report: &mut Report,
    node: &Node,
    volumes: &BTreeMap<String, Volume>,
) -> Vec<ContainerMount> {
    let Data::List(items) = &node.data else {
        report.wrong(node, "volumes", "a list");
        return Vec::new();
    };
    let mut mounts = Vec::new();
    for item in items {
        let mut reader = Mounts { report, volumes, at: &item.at };
        let mount = match &item.data {
            Data::Text(text) => reader.short(text),
            Data::Map(_) => reader.long(item),
            _ => {
                report.wrong(item, "volumes", "text or a map in every item");
                None
            }
        };
        if let Some(mount) = mount {
            place(&mut mounts, mount);
        }
    }
    mounts
}

/// Adds a mount, in the place of one with the same target.
pub(super) fn place(mounts: &mut Vec<ContainerMount>, mount: ContainerMount) {
    match mounts.iter_mut().find(|known| known.target == mount.target) {
        Some(known) => *known = mount,
        None => mounts.push(mount),
    }
}

/// `tmpfs`: `PATH[:OPTION,…]`, one or a list.
pub(super) fn tmpfs(report: &mut Report, node: &Node) -> Vec<ContainerMount> {
    let mut mounts = Vec::new();
    for text in report.one_or_more(node, "tmpfs") {
        let (target, written) = text.split_once(':').unwrap_or((&text, ""));
        let (mut size, mut mode, mut options, mut read_only) = (None, None, Vec::new(), false);
        for option in written.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", text)) if quantity::bytes(text).is_some() => {
                    size = quantity::bytes(text).map(ByteSize)
                }
                Some(("mode", text)) if u32::from_str_radix(text, 8).is_ok() => {
                    mode = u32::from_str_radix(text, 8).ok()
                }
                _ if option == "ro" => read_only = true,
                _ if option == "rw" => {}
                _ => options.push(option.to_owned()),
            }
        }
        if absolute(report, &node.at.part(&text), target) {
            let source = MountSource::Tmpfs { size, mode, options };
            place(&mut mounts, ContainerMount { target: paths::clean(target), read_only, source });
        }
    }
    mounts
}

fn absolute(report: &mut Report, at: &Place, target: &str) -> bool {
    let absolute = target.starts_with('/');
    if !absolute {
        let what = match target {
            "" => "this does not say where in the container it appears".to_owned(),
            _ => format!("`{target}` is no absolute path in the container"),
        };
        report.problem(
            at.problem("bad-mount", what).hint("such as `./data:/var/lib/data` or `data:/var/lib/data`"),
        );
    }
    absolute
}

struct Mounts<'r> {
    report: &'r mut Report,
    volumes: &'r BTreeMap<String, Volume>,
    at: &'r Place,
}

impl Mounts<'_> {
    /// `[SOURCE:]TARGET[:OPTION,…]`
    fn short(&mut self, text: &str) -> Option<ContainerMount> {
        // The drive of a path of Windows is part of the path, unless it is the name of a volume.
        let drive = text.len() > 2
            && text.as_bytes()[0].is_ascii_alphabetic()
            && text.get(1..3).is_some_and(|next| [":\\", ":/"].contains(&next))
            && !self.volumes.contains_key(&text[..1]);
        let from = if drive { 2 } else { 0 };
        let (source, rest) = match text[from..].find(':') {
            Some(found) => (Some(&text[..from + found]), &text[from + found + 1..]),
            None => (None, text),
        };
        let (target, written) = match source {
            Some(_) => rest.split_once(':').unwrap_or((rest, "")),
            None => (rest, ""),
        };
        if written.contains(':') {
            let problem = self.at.problem("bad-mount", format!("`{text}` has more parts than a mount has"));
            self.report.problem(problem.hint("there are up to three: `./data:/var/lib/data:ro`"));
            return None;
        }
        let (mut read_only, mut no_copy, mut propagation) = (false, false, None);
        for option in written.split(',') {
            match option {
                "ro" => read_only = true,
                "" | "rw" => {}
                "nocopy" => no_copy = true,
                "z" | "Z" => self.report.note(
                    &self.at.part(written),
                    format!("`{option}` is left out: files of the host are not relabelled"),
                ),
                "cached" | "delegated" | "consistent" => {
                    self.report.note(
                        &self.at.part(written),
                        format!("`{option}` is left out: it changes nothing on Linux"),
                    );
                }
                _ if PROPAGATION.contains(&option) => propagation = Some(option.to_owned()),
                _ => {
                    // Compose takes any word here and does nothing about it.
                    let text =
                        format!("`{option}` is left out: a mount has no such option; `ro` is read-only");
                    self.report.note(&self.at.part(option), text);
                }
            }
        }
        if !absolute(self.report, self.at, target) {
            return None;
        }
        let source = match source {
            None => MountSource::Volume { name: None, no_copy, subpath: None },
            Some("") => {
                self.report.problem(
                    self.at.problem("bad-mount", format!("nothing is said to appear at `{target}`")),
                );
                return None;
            }
            Some(source) if drive || !paths::is_relative(source) || source.starts_with('.') => {
                MountSource::Bind { source: paths::clean(source), create: true, propagation }
            }
            Some(name) => MountSource::Volume { name: Some(self.named(name)?), no_copy, subpath: None },
        };
        Some(ContainerMount { target: paths::clean(target), read_only, source })
    }

    fn long(&mut self, node: &Node) -> Option<ContainerMount> {
        let fields = self.report.fields(node, "services.*.volumes.*", "volumes")?;
        let mut text = |key: &str| fields.get(key).map(|node| self.report.text(node, key));
        let (kind, source, target) = (text("type"), text("source"), text("target"));
        let (source, target) = (source.flatten(), target.flatten().unwrap_or_default());
        let read_only =
            fields.get("read_only").and_then(|node| self.report.truth(node, "read_only")) == Some(true);
        if !absolute(self.report, self.at, &target) {
            return None;
        }
        let kind_at = fields.get("type").map_or(self.at, |node| &node.at);
        let source = match kind.flatten().as_deref() {
            Some("bind") => {
                let Some(source) = source else {
                    self.report.problem(self.at.problem(
                        "bad-mount",
                        format!("nothing is said to appear at `{target}`: `source` is missing"),
                    ));
                    return None;
                };
                let bind = fields
                    .get("bind")
                    .and_then(|node| self.report.fields(node, "services.*.volumes.*.bind", "bind"));
                let get = |key| bind.and_then(|bind| bind.get(key));
                let propagation = get("propagation").and_then(|node| self.report.text(node, "propagation"));
                let create =
                    get("create_host_path").and_then(|node| self.report.truth(node, "create_host_path"));
                // Compose makes a missing folder in the short form, and here where anything is said about the bind.
                let create = bind.is_some() && create != Some(false);
                MountSource::Bind { source: paths::clean(&source), create, propagation }
            }
            Some("volume") => {
                let path = "services.*.volumes.*.volume";
                let volume = fields.get("volume").and_then(|node| self.report.fields(node, path, "volume"));
                let get = |key| volume.and_then(|volume| volume.get(key));
                let no_copy = get("nocopy").and_then(|node| self.report.truth(node, "nocopy")) == Some(true);
                let subpath = get("subpath").and_then(|node| self.report.text(node, "subpath"));
                let name = match source.filter(|source| !source.is_empty()) {
                    Some(source) => Some(self.named(&source)?),
                    None => None,
                };
                MountSource::Volume { name, no_copy, subpath }
            }
            Some("tmpfs") => {
                let path = "services.*.volumes.*.tmpfs";
                let tmpfs = fields.get("tmpfs").and_then(|node| self.report.fields(node, path, "tmpfs"));
                let get = |key| tmpfs.and_then(|tmpfs| tmpfs.get(key));
                let size = get("size").and_then(|node| self.report.size(node, "size"));
                let mode = get("mode").and_then(|node| files::mode(self.report, node));
                MountSource::Tmpfs { size, mode, options: Vec::new() }
            }
            Some(kind @ ("image" | "npipe" | "cluster")) => {
                self.report.note(kind_at, format!("what is of type `{kind}` does not appear at `{target}`"));
                return None;
            }
            Some(kind) => {
                let problem = kind_at.problem("bad-mount", format!("there is no type of mount `{kind}`"));
                self.report.problem(problem.hint("there are `bind`, `volume` and `tmpfs`"));
                return None;
            }
            None => {
                let problem = self.at.problem("bad-mount", "this does not say of what `type` it is");
                self.report.problem(problem.hint("there are `bind`, `volume` and `tmpfs`"));
                return None;
            }
        };
        Some(ContainerMount { target: paths::clean(&target), read_only, source })
    }

    /// The name on the engine of a declared volume.
    fn named(&mut self, name: &str) -> Option<String> {
        if let Some(volume) = self.volumes.get(name) {
            return Some(volume.name.clone());
        }
        let problem = self.at.part(name).problem("unknown-volume", format!("no volume `{name}` is declared"));
        self.report.problem(match nearest(name, self.volumes.keys().map(String::as_str)) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None if name.contains('/') => problem.hint(format!("for a folder of the host write `./{name}`")),
            None => problem.hint(format!(
                "declare it at the top level: `volumes: {{ {name}: {{}} }}`; a folder of the host begins with `./`"
            )),
        });
        None
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::source::Source;
    use super::*;

    /// A mount in the short form, in short; or what is wrong with it.
    fn shown(text: &str) -> Result<String, &'static str> {
        let volume = |name: &str| Volume { name: format!("p_{name}"), ..Volume::default() };
        let volumes = ["data", "v"].map(|name| (name.to_owned(), volume(name))).into();
        let source = Source::new("compose.yaml", text);
        let at = Place { source: Rc::clone(&source), bytes: 0..text.len() };
        let mut report = Report::default();
        let mount = Mounts { report: &mut report, volumes: &volumes, at: &at }.short(text);
        let Some(mount) = mount.filter(|_| report.problems.is_empty()) else {
            return Err(report.problems[0].code);
        };
        let source = match mount.source {
            MountSource::Bind { source, propagation, .. } => {
                format!("folder {source}{}", propagation.map_or(String::new(), |kind| format!(" {kind}")))
            }
            MountSource::Volume { name, no_copy, .. } => {
                format!("volume {}{}", name.as_deref().unwrap_or("-"), if no_copy { " empty" } else { "" })
            }
            MountSource::Tmpfs { .. } => "memory".to_owned(),
        };
        let notes = "!".repeat(report.notes.len());
        Ok(format!("{source} at {}{}{notes}", mount.target, if mount.read_only { " ro" } else { "" }))
    }

    #[test]
    fn the_short_form_has_many_shapes() {
        for (text, expected) in [
            ("/data", "volume - at /data"),
            ("data:/data/", "volume p_data at /data"),
            ("v:/v:ro", "volume p_v at /v ro"),
            ("data:/data:nocopy,ro", "volume p_data empty at /data ro"),
            (".:/app", "folder . at /app"),
            ("./a/../b:/app:rw", "folder b at /app"),
            ("../b:/app", "folder ../b at /app"),
            ("~/b:/app", "folder ~/b at /app"),
            ("/b:/app:ro,rslave", "folder /b rslave at /app ro"),
            ("./b:/app:z,delegated", "folder b at /app!!"),
            ("C:\\b:/app", "folder C:\\b at /app"),
            ("c:/b:/app:ro", "folder c:/b at /app ro"),
            ("./b:/app:readonly", "folder b at /app!"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_mount_says_why() {
        for (text, code) in [
            ("", "bad-mount"),
            ("data", "bad-mount"),
            ("./a:b", "bad-mount"),
            (":/a", "bad-mount"),
            ("./a:/b:ro:what", "bad-mount"),
            ("other:/b", "unknown-volume"),
        ] {
            assert_eq!(shown(text), Err(code), "{text}");
        }
    }
}
