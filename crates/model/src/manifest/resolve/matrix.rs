//! One step for each combination of the values of its matrix.

use std::collections::BTreeMap;

use super::super::document::Document;
use super::super::env_value::EnvValue;
use super::super::problem::Problem;
use super::super::tree::Step as Place;
use crate::names::StepName;
use crate::pipeline::ir::{Input, Run, Step};

/// How many steps a matrix may make.
const MOST: usize = 256;

/// The values of one combination, by key.
pub(super) type Combination = BTreeMap<String, String>;

/// All combinations, each with the name of its step.
pub(super) fn expand(
    name: &StepName,
    matrix: &BTreeMap<String, Vec<String>>,
    place: &[Place],
    document: &mut Document<'_>,
) -> Vec<(StepName, Combination)> {
    let at = |key: &str| [place, &["matrix".into(), key.into()]].concat();
    let number = matrix.values().try_fold(1_usize, |number, values| number.checked_mul(values.len()));
    if number.is_none_or(|number| number > MOST) {
        let what = format!("this matrix makes more than {MOST} steps");
        let problem = Problem::new("bad-matrix", what).hint("give it fewer keys or values");
        document.at_key(&[place, &["matrix".into()]].concat(), problem);
        return Vec::new();
    }
    let mut combinations = vec![Combination::new()];
    for (key, values) in matrix {
        if values.is_empty() {
            let problem = Problem::new("bad-matrix", format!("`{key}` has no values, so there is no step"));
            document.at_value(&at(key), problem.hint("give it at least one"));
        }
        combinations = combinations
            .iter()
            .flat_map(|known| {
                values.iter().map(|value| {
                    let mut combination = known.clone();
                    combination.insert(key.clone(), value.clone());
                    combination
                })
            })
            .collect();
    }
    let mut named: Vec<(StepName, Combination)> = Vec::with_capacity(combinations.len());
    for combination in combinations {
        let words = std::iter::once(name.to_string()).chain(combination.values().map(|value| slug(value)));
        let text = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
        let place = [place, &["matrix".into()]].concat();
        match StepName::new(text) {
            Err(error) => {
                let problem =
                    Problem::new("bad-matrix", format!("a step of this matrix would be `{}`", error.text));
                document.at_key(&place, problem.why(error.why).hint("use shorter names or values"));
            }
            Ok(full) if named.iter().any(|(known, _)| *known == full) => {
                let problem =
                    Problem::new("bad-matrix", format!("two steps of this matrix would be `{full}`"));
                let problem = problem.why("names of steps hold only lower-case letters, digits and `-`");
                document.at_key(&place, problem.hint("use values that differ by those"));
            }
            Ok(full) => named.push((full, combination)),
        }
    }
    named
}

/// What a value looks like in a name.
fn slug(value: &str) -> String {
    let mut slug = String::new();
    for c in value.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// Puts the values of a combination where `${matrix.KEY}` stands.
///
/// # Errors
/// The first key that the matrix does not have, with the key of the step where it stands.
pub(super) fn fill(step: &mut Step, values: &Combination) -> Result<(), (&'static str, String)> {
    let put = |key: &'static str, text: &mut String| replace(text, values).map_err(|unknown| (key, unknown));
    match &mut step.run {
        Run::Shell(text) => put("run", text)?,
        Run::Argv(argv) => argv.iter_mut().try_for_each(|word| put("run", word))?,
    }
    step.image.iter_mut().try_for_each(|image| put("image", image))?;
    step.workdir.iter_mut().try_for_each(|workdir| put("workdir", workdir))?;
    step.cache_dirs.iter_mut().try_for_each(|folder| put("cache_dirs", folder))?;
    step.artifacts.iter_mut().try_for_each(|pattern| put("artifacts", pattern))?;
    step.outputs.iter_mut().flatten().try_for_each(|pattern| put("outputs", pattern))?;
    step.inputs.iter_mut().flatten().try_for_each(|input| match input {
        Input::Required(glob) => put("inputs", glob),
        Input::Either(input) => put("inputs", &mut input.glob),
    })
}

/// The same for the values of variables, before they are taken apart into text and secrets.
pub(super) fn fill_env(text: &str, values: &Combination) -> Result<EnvValue, String> {
    let mut text = text.to_owned();
    replace(&mut text, values)?;
    // What was good before its parts were replaced is good after.
    EnvValue::try_from(text).map_err(|malformed| malformed.to_string())
}

fn replace(text: &mut String, values: &Combination) -> Result<(), String> {
    const BEGIN: &str = "${matrix.";
    let mut from = 0;
    while let Some(begin) = text[from..].find(BEGIN).map(|at| from + at) {
        let Some(length) = text[begin..].find('}') else { return Ok(()) };
        let key = &text[begin + BEGIN.len()..begin + length];
        let value = values.get(key).ok_or_else(|| key.to_owned())?;
        text.replace_range(begin..=begin + length, value);
        from = begin + value.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_their_keys_did_and_are_not_looked_at_again() {
        let values =
            BTreeMap::from([("a".to_owned(), "${matrix.b}".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let filled = |text: &str| {
            let mut text = text.to_owned();
            replace(&mut text, &values).map(|()| text)
        };
        assert_eq!(filled("x ${matrix.b}${matrix.a} $b"), Ok("x 2${matrix.b} $b".to_owned()));
        assert_eq!(filled("${matrix.c}"), Err("c".to_owned()));
        assert_eq!(filled("${matrix"), Ok("${matrix".to_owned()));
    }

    #[test]
    fn a_value_has_a_part_in_a_name() {
        for (value, expected) in [("3.12", "3-12"), ("Release", "release"), ("-x-", "x"), ("a  b", "a-b")] {
            assert_eq!(slug(value), expected);
        }
    }
}
