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

/// Whether a graphic processor is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
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
            gpu: match (self.gpu, other.gpu) {
                (Some(gpu), Some(other)) => Some(gpu.max(other)),
                (gpu, other) => gpu.or(other),
            },
        }
    }
}

impl Gpu {
    /// What asks for at least as much as both.
    fn max(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, other) => other,
            (gpu, Self::No) => gpu,
            (
                Self::Required { cores, memory },
                Self::Required { cores: other_cores, memory: other_memory },
            ) => Self::Required { cores: cores.max(other_cores), memory: memory.max(other_memory) },
            (Self::Optional, other) => other,
            (gpu, Self::Optional) => gpu,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn most(a: Option<Gpu>, b: Option<Gpu>) -> Option<Gpu> {
        let asked = |gpu| HostRequirements { gpu, ..HostRequirements::default() };
        let one = asked(a.clone()).max(asked(b.clone()));
        assert_eq!(asked(b).max(asked(a)), one);
        one.gpu
    }

    #[test]
    fn of_two_graphic_processors_the_one_that_is_more_is_asked_for() {
        let required = |cores, memory: Option<u64>| Gpu::Required { cores, memory: memory.map(ByteSize) };
        assert_eq!(most(None, Some(Gpu::No)), Some(Gpu::No));
        assert_eq!(most(Some(Gpu::No), Some(Gpu::Optional)), Some(Gpu::Optional));
        assert_eq!(most(Some(Gpu::Optional), Some(required(None, None))), Some(required(None, None)));
        assert_eq!(
            most(Some(required(Some(2), None)), Some(required(Some(1), Some(8)))),
            Some(required(Some(2), Some(8)))
        );
    }
}
