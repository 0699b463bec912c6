//! What appears inside: the text of Docker's `--mount`, and the same as an object.

use jsonc_parser::ast::Value;

use super::reader::{Placed, Reader, below, opaque};
use super::size;
use super::wrong::Wrong;
use crate::container::{ContainerMount, MountSource};
use crate::manifest::nearest;

/// The fields of a mount, by the names that have an effect here, and the other names of each.
const FIELDS: [(&str, &[&str]); 10] = [
    ("type", &["type"]),
    ("source", &["source", "src"]),
    ("target", &["target", "destination", "dst"]),
    ("readonly", &["readonly", "ro"]),
    ("bind-propagation", &["bind-propagation"]),
    ("volume-nocopy", &["volume-nocopy"]),
    ("volume-subpath", &["volume-subpath"]),
    ("tmpfs-size", &["tmpfs-size"]),
    ("tmpfs-mode", &["tmpfs-mode"]),
    ("consistency", &["consistency"]),
];

/// Fields that Docker knows and that have no equal here.
const WITHOUT_EQUAL: [&str; 6] =
    ["bind-nonrecursive", "bind-recursive", "volume-driver", "volume-label", "volume-opt", "external"];

/// A mount with the fields of it that nothing is done with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadMount {
    pub(super) mount: ContainerMount,
    pub(super) ignored: Vec<String>,
}

/// A mount of a file: a text or an object.
pub(super) fn mount(
    reader: &mut Reader<'_>,
    path: &str,
    value: &Value<'_>,
) -> Option<Placed<ContainerMount>> {
    let at = reader.place(value);
    let read = match value {
        Value::StringLit(text) => from_text(&text.value),
        Value::Object(_) => {
            let mut fields = Vec::new();
            for member in reader.members(path, value) {
                let field = match member.value {
                    Value::Object(_) | Value::Array(_) => {
                        reader.wrong_type(&below(path, member.key), member.value, "a text");
                        return None;
                    }
                    Value::StringLit(text) => text.value.to_string(),
                    other => opaque(other).to_string(),
                };
                fields.push((member.key.to_owned(), Some(field)));
            }
            from_fields(fields)
        }
        _ => {
            reader.wrong_type(path, value, "a mount: a text or an object");
            return None;
        }
    };
    match read {
        Ok(read) => {
            for field in read.ignored {
                reader.note(at.clone(), format!("`{field}` of the mount has no effect here"));
            }
            Some(Placed { value: read.mount, at })
        }
        Err(wrong) => {
            reader.problem(value, wrong.problem("bad-mount", format!("`{path}` is not a mount")));
            None
        }
    }
}

/// A mount out of the text of Docker's `--mount`.
pub(super) fn from_text(text: &str) -> Result<ReadMount, Wrong> {
    if text.starts_with("${") && text.find('}') == Some(text.len() - 1) {
        return Err(Wrong::new("a mount cannot be a variable as a whole")
            .hint("write `type=...,source=...,target=...`; its fields may hold variables"));
    }
    if let Some((source, target)) = text.split_once(':').filter(|_| !text.contains('=')) {
        let kind = if source.starts_with('/') { "bind" } else { "volume" };
        let (target, read_only) = match target.strip_suffix(":ro") {
            Some(target) => (target, ",readonly"),
            None => (target, ""),
        };
        return Err(Wrong::new("it is written as for `--volume`, and this is a `--mount`")
            .hint(format!("write `type={kind},source={source},target={target}{read_only}`")));
    }
    let fields = comma_fields(text)
        .into_iter()
        .map(|field| match field.split_once('=') {
            Some((name, value)) => (name.trim().to_owned(), Some(value.to_owned())),
            None => (field.trim().to_owned(), None),
        })
        .collect();
    from_fields(fields)
}

/// The fields between commas; one in double quotes may hold commas.
fn comma_fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    fields.retain(|field| !field.trim().is_empty());
    fields
}

fn from_fields(fields: Vec<(String, Option<String>)>) -> Result<ReadMount, Wrong> {
    let mut given: Vec<(&str, Option<String>)> = Vec::new();
    let mut ignored = Vec::new();
    for (name, value) in fields {
        let known = FIELDS.iter().find(|(_, names)| names.contains(&name.to_lowercase().as_str()));
        match known {
            Some(("consistency", _)) => ignored.push(name),
            Some((field, _)) => given.push((field, value)),
            None if WITHOUT_EQUAL.contains(&name.as_str()) => ignored.push(name),
            None => {
                let all = FIELDS.iter().flat_map(|(_, names)| names.iter().copied());
                let wrong = Wrong::new(format!("a mount has no field `{name}`"));
                return Err(match nearest(&name, all) {
                    Some(meant) => wrong.hint(format!("did you mean `{meant}`?")),
                    None => wrong.hint("a mount reads `type=bind,source=/on/the/host,target=/inside`"),
                });
            }
        }
    }
    Ok(ReadMount { mount: assemble(&given)?, ignored })
}

fn assemble(given: &[(&str, Option<String>)]) -> Result<ContainerMount, Wrong> {
    let field = |name: &str| given.iter().rev().find(|(field, _)| *field == name).map(|(_, value)| value);
    let text = |name: &str| match field(name) {
        Some(None) => Err(Wrong::new(format!("its `{name}` has no value"))),
        Some(Some(value)) => Ok(Some(value.clone()).filter(|value| !value.is_empty())),
        None => Ok(None),
    };
    let flag = |name: &str| match field(name) {
        None => Ok(false),
        Some(None) => Ok(true),
        Some(Some(value)) => match value.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(Wrong::new(format!("its `{name}` is `{other}`, and not `true` or `false`"))),
        },
    };
    let Some(target) = text("target")? else {
        return Err(Wrong::new("it does not say where it appears").hint("add `target=/a/path/inside`"));
    };
    if !target.starts_with(['/', '$']) {
        return Err(Wrong::new(format!("its target `{target}` is not an absolute path")));
    }
    let source = match text("type")?.as_deref() {
        Some("bind") => MountSource::Bind {
            source: text("source")?.ok_or_else(|| {
                Wrong::new("it does not say what of the host appears").hint("add `source=/on/the/host`")
            })?,
            create: false,
            propagation: text("bind-propagation")?,
        },
        None | Some("volume") => MountSource::Volume {
            name: text("source")?,
            no_copy: flag("volume-nocopy")?,
            subpath: text("volume-subpath")?,
        },
        Some("tmpfs") => MountSource::Tmpfs {
            size: text("tmpfs-size")?.map(|size| size::docker(&size)).transpose()?,
            mode: text("tmpfs-mode")?.map(|mode| octal(&mode)).transpose()?,
            options: Vec::new(),
        },
        Some(kind @ ("npipe" | "cluster" | "image")) => {
            return Err(Wrong::new(format!("mounts of type `{kind}` are not supported"))
                .hint("it can be `bind`, `volume` or `tmpfs`"));
        }
        Some(kind) => {
            let meant = nearest(kind, ["bind", "volume", "tmpfs"])
                .map_or_else(String::new, |meant| format!("did you mean `{meant}`? "));
            return Err(Wrong::new(format!("there is no type `{kind}`"))
                .hint(format!("{meant}it can be `bind`, `volume` or `tmpfs`")));
        }
    };
    Ok(ContainerMount { target, read_only: flag("readonly")?, source })
}

/// Access rights, written in base 8.
pub(super) fn octal(text: &str) -> Result<u32, Wrong> {
    u32::from_str_radix(text, 8)
        .map_err(|_| Wrong::new(format!("`{text}` are no access rights")).hint("write them as `1777`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ByteSize;

    fn read(text: &str) -> ContainerMount {
        from_text(text).unwrap().mount
    }

    #[test]
    fn a_folder_of_the_host_appears_inside() {
        let source = MountSource::Bind { source: "/a".into(), create: false, propagation: None };
        let mount = ContainerMount { target: "/b".into(), read_only: false, source: source.clone() };
        for text in
            ["type=bind,source=/a,target=/b", "type=bind,src=/a,dst=/b", "destination=/b,src=/a,type=bind"]
        {
            assert_eq!(read(text), mount, "{text}");
        }
        for text in ["type=bind,src=/a,dst=/b,readonly", "type=bind,src=/a,dst=/b,ro=true"] {
            assert!(read(text).read_only, "{text}");
        }
        assert!(!read("type=bind,src=/a,dst=/b,readonly=false").read_only);
        let shared = read("type=bind,src=/a,dst=/b,bind-propagation=rslave").source;
        assert!(matches!(shared, MountSource::Bind { propagation: Some(how), .. } if how == "rslave"));
    }

    #[test]
    fn without_a_type_it_is_a_volume() {
        let volume = |name: Option<&str>| MountSource::Volume {
            name: name.map(str::to_owned),
            no_copy: false,
            subpath: None,
        };
        assert_eq!(read("source=data,target=/data").source, volume(Some("data")));
        assert_eq!(read("type=volume,target=/data").source, volume(None));
        assert_eq!(read("source=,target=/data").source, volume(None));
        let part = read("src=data,dst=/data,volume-nocopy=true,volume-subpath=a/b").source;
        assert_eq!(
            part,
            MountSource::Volume { name: Some("data".into()), no_copy: true, subpath: Some("a/b".into()) }
        );
    }

    #[test]
    fn memory_has_a_size_and_rights() {
        assert_eq!(
            read("type=tmpfs,dst=/run,tmpfs-size=64m,tmpfs-mode=1770").source,
            MountSource::Tmpfs { size: Some(ByteSize(64 << 20)), mode: Some(0o1770), options: vec![] }
        );
        assert!(from_text("type=tmpfs,dst=/run,tmpfs-mode=rw").is_err());
    }

    #[test]
    fn a_field_in_quotes_may_hold_a_comma() {
        assert_eq!(read("type=bind,\"source=/a,b\",target=/c").target, "/c");
    }

    #[test]
    fn what_has_no_effect_is_told_and_what_there_is_none_of_is_refused() {
        let read = from_text("type=bind,src=/a,dst=/b,consistency=cached,bind-recursive=disabled").unwrap();
        assert_eq!(read.ignored, ["consistency", "bind-recursive"]);
        for text in ["", "type=bind", "type=bind,src=/a,dst=b", "target", "src=/a,dst=/b,frobnicate=1"] {
            assert!(from_text(text).is_err(), "{text}");
        }
        for variable in ["${localEnv:MOUNT}", "${localEnv:MOUNT:type=bind,target=/x}"] {
            assert_eq!(from_text(variable).unwrap_err().why, "a mount cannot be a variable as a whole");
        }
        let wrong = from_text("cache:/x:ro").unwrap_err();
        assert_eq!(wrong.hint.as_deref(), Some("write `type=volume,source=cache,target=/x,readonly`"));
    }
}
