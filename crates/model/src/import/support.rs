//! How far something of another tool's file is supported: what the tables of the importers are made of.

/// A key of a file, or an argument in it, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// Its path: `build.args`, `services.*.image`, where a `*` stands for any name or item; or the argument: `--cap-add`.
    pub key: &'static str,
    /// How far it is supported.
    pub level: Level,
    /// What is left out, or what happens instead; empty where there is nothing to say.
    pub note: &'static str,
}

/// How far something is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It does what its specification says.
    Supported,
    /// A part of it does nothing.
    Partly,
    /// It is told, or refused, and does nothing.
    NotSupported,
}

pub(super) const fn full(key: &'static str) -> Support {
    Support { key, level: Level::Supported, note: "" }
}

pub(super) const fn partly(key: &'static str, note: &'static str) -> Support {
    Support { key, level: Level::Partly, note }
}

pub(super) const fn none(key: &'static str, note: &'static str) -> Support {
    Support { key, level: Level::NotSupported, note }
}
