//! What a dev container asks of its host.

use jsonc_parser::ast::Value;

use super::reader::{Reader, below};
use super::{size, support};
use crate::manifest::{ByteSize, Problem};

/// What is asked of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRequirements {
    /// Processors, at least.
    pub cpus: Option<u32>,
    /// Memory, at least.
    pub memory: Option<ByteSize>,
    /// Room on its disk, at least.
    pub storage: Option<ByteSize>,
    /// Whether there is a graphic processor.
    pub gpu: Option<Gpu>,
}

/// Whether a graphic processor is asked for. What asks for more is greater.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gpu {
    /// It is not.
    No,
    /// It is used if there is one.
    Optional,
    /// There must be one.
    Required {
        /// Its cores, at least.
        cores: Option<u32>,
        /// Its memory, at least.
        memory: Option<ByteSize>,
    },
}

impl HostRequirements {
    /// The greater of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            cpus: self.cpus.max(other.cpus),
            memory: self.memory.max(other.memory),
            storage: self.storage.max(other.storage),
            gpu: self.gpu.max(other.gpu),
        }
    }
}

/// The value of `hostRequirements`.
pub(super) fn requirements(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> HostRequirements {
    let mut asked = HostRequirements::default();
    for member in reader.known_members(path, &support::keys_of("hostRequirements"), value) {
        let path = below(path, member.key);
        match member.key {
            "cpus" => asked.cpus = count(reader, &path, member.value),
            "memory" => asked.memory = size(reader, &path, member.value),
            "storage" => asked.storage = size(reader, &path, member.value),
            _ => asked.gpu = gpu(reader, &path, member.value),
        }
    }
    asked
}

fn gpu(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Option<Gpu> {
    let (mut cores, mut memory) = (None, None);
    match value {
        Value::BooleanLit(boolean) => {
            return Some(if boolean.value { Gpu::Required { cores, memory } } else { Gpu::No });
        }
        Value::StringLit(_) => return reader.word(path, value, &[("optional", ())]).map(|()| Gpu::Optional),
        Value::Object(_) => {}
        _ => {
            reader.wrong_type(path, value, "true, false, \"optional\" or an object");
            return None;
        }
    }
    for member in reader.known_members(path, &support::keys_of("hostRequirements.gpu"), value) {
        let path = below(path, member.key);
        match member.key {
            "cores" => cores = count(reader, &path, member.value),
            _ => memory = size(reader, &path, member.value),
        }
    }
    Some(Gpu::Required { cores, memory })
}

fn count(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Option<u32> {
    let Value::NumberLit(number) = value else {
        reader.wrong_type(path, value, "a number");
        return None;
    };
    let count = number.value.parse().ok().filter(|count| *count > 0);
    if count.is_none() {
        let what = format!("`{path}` cannot be {}", number.value);
        reader.problem(value, Problem::new("bad-number", what).why("it is a whole number, at least 1"));
    }
    count
}

fn size(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Option<ByteSize> {
    let text = match value {
        Value::NumberLit(number) => number.value.to_owned(),
        _ => reader.string(path, value)?.value,
    };
    match size::requirement(&text) {
        Ok(size) => Some(size),
        Err(wrong) => {
            reader.problem(value, wrong.problem("bad-size", format!("`{path}` cannot be `{text}`")));
            None
        }
    }
}
