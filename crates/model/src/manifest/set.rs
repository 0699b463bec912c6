//! `--set`: one assignment on the command line as a layer.

use toml::de::{DeTable, DeValue};

use super::problem::{Location, Problem};

/// The text of the layer for an assignment such as `env.dev.user=root`: the value is read as TOML, and taken as a
/// text if it is none.
///
/// # Errors
/// If it has no `=`, or what stands before it is not a path of keys.
pub fn set_layer(assignment: &str) -> Result<String, Problem> {
    let refuse = |what: &str| {
        let at = Location {
            file: "--set".to_owned(),
            line: 1,
            column: 1,
            source_line: assignment.to_owned(),
            length: u32::try_from(
                assignment.find('=').map_or(assignment, |at| &assignment[..at]).chars().count(),
            )
            .unwrap_or(u32::MAX)
            .max(1),
        };
        Problem::new("bad-set", what).at(at).hint("write `--set env.dev.user=root`")
    };
    let (key, value) =
        assignment.split_once('=').ok_or_else(|| refuse("there is no `=` in this assignment"))?;
    let (key, value) = (key.trim(), value.trim());
    let one_line = !key.contains(|c: char| c.is_control() || c == '#');
    if !one_line || DeTable::parse(&format!("{key} = 0")).is_err() {
        return Err(refuse("what stands before the `=` is not a path of keys"));
    }
    if DeValue::parse(value).is_ok() {
        return Ok(format!("{key} = {value}"));
    }
    Ok(format!("{key} = {}", toml::Value::String(value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_is_toml_and_else_a_text() {
        for (assignment, text) in [
            ("env.dev.user=root", "env.dev.user = \"root\""),
            ("env.dev.limits.cpus=1.5", "env.dev.limits.cpus = 1.5"),
            ("env.dev.packs=[\"uv\"]", "env.dev.packs = [\"uv\"]"),
            ("env.dev.packs=[uv]", "env.dev.packs = \"[uv]\""),
            ("env.dev.env.A=b=c", "env.dev.env.A = \"b=c\""),
            ("env.dev.env.\"x y\"=1", "env.dev.env.\"x y\" = 1"),
            ("project.name=", "project.name = \"\""),
        ] {
            assert_eq!(set_layer(assignment).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        for assignment in ["", "env.dev.user", "=root", "a b=1", "[env]\na=1", "a#=1", "a.=1"] {
            assert!(set_layer(assignment).is_err(), "{assignment}");
        }
    }

    proptest! {
        #[test]
        fn a_layer_is_always_toml_of_one_value(key in "[a-z.\"' ]{1,8}", value in ".{0,12}") {
            if let Ok(text) = set_layer(&format!("{key}={value}")) {
                let table = text.parse::<toml::Table>();
                prop_assert_eq!(table.map(|table| table.len()), Ok(1));
            }
        }
    }
}
