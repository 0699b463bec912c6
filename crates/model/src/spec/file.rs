//! The shape of `specs/*.toml`, and its reading: by the manifest's own rules, with all that is wrong told at once.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::manifest::document::{Document, steps};
use crate::manifest::format::Named;
use crate::manifest::scalars::NonEmpty;
use crate::manifest::source::Sources;
use crate::manifest::tree::Node;
use crate::manifest::{Layer, Problem, document, schema};

use super::{Cited, Criterion, CriterionNumber, Proof, Reference, Requirement, Spec, SpecId};

/// What has to hold, and what shows that it does. See the guide to specs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "specs/*.toml")]
struct SpecFile {
    /// What the spec is called.
    id: SpecId,
    /// What it is about, in a few words.
    #[schemars(extend("examples" = ["The cart"]))]
    title: NonEmpty,
    /// What it is for.
    #[schemars(extend("examples" = ["Nobody pays for what is not in the cart."]))]
    intent: NonEmpty,
    /// Its criteria, by number. A number that was given stays: others name it.
    #[serde(default)]
    criterion: Named<CriterionNumber, CriterionSection>,
}

/// One thing that has to hold: with `tests` that show it, or the `gap` that keeps it from being shown.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CriterionSection {
    /// What has to hold.
    #[schemars(extend("examples" = ["The total is the sum of the prices."]))]
    text: NonEmpty,
    /// The tests that show it: all of them have to pass.
    #[schemars(length(min = 1), extend("examples" = [["cargo:shop::tests::prices_are_added"]]))]
    tests: Option<Vec<Reference>>,
    /// Why nothing shows it yet.
    #[schemars(extend("examples" = ["refunds come with the next release"]))]
    gap: Option<NonEmpty>,
    /// What the tests need; where it is not there, they are skipped.
    #[serde(default)]
    #[schemars(extend("examples" = [["docker"]]))]
    requires: Vec<Requirement>,
}

/// The JSON Schema (draft 2020-12) of `specs/*.toml`, for editors. It is checked in as
/// `docs/reference/spec.schema.json`.
#[must_use]
pub fn json_schema() -> Json {
    schema::of::<SpecFile>()
}

/// Reads a project's specs, in the order of their names, from its files: each a name for problems and a text.
///
/// # Errors
/// Everything that is wrong, in the order of files and lines.
pub fn parse(files: &[Layer<'_>]) -> Result<Vec<Spec>, Vec<Problem>> {
    let mut specs: Vec<Spec> = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match parse_one(file) {
            Ok(spec) => match specs.iter().find(|other| other.id == spec.id) {
                Some(first) => problems.push(
                    Problem::new("duplicate", format!("there are two specs `{}`", spec.id))
                        .at(spec.at)
                        .why(format!("the other one is at {}", first.at))
                        .hint("call one of them something else"),
                ),
                None => specs.push(spec),
            },
            Err(more) => problems.extend(more),
        }
    }
    specs.sort_by(|a, b| a.id.cmp(&b.id));
    if problems.is_empty() { Ok(specs) } else { Err(problems) }
}

fn parse_one(file: &Layer<'_>) -> Result<Spec, Vec<Problem>> {
    let sources = Sources::new(std::slice::from_ref(file));
    let tree = match Node::read(0, file) {
        Ok(tree) => tree,
        Err(problems) => return Err(document::located(&sources, problems)),
    };
    let mut document = Document::new(sources, tree);
    let Some(read) = document.read::<SpecFile>(json_schema, |_| Vec::new()) else {
        return Err(document.into_problems());
    };
    let criteria = read.criterion.0.into_iter();
    let criteria: Vec<Criterion> = criteria
        .filter_map(|(number, section)| criterion(&read.id, number, section, &mut document))
        .collect();
    if criteria.is_empty() && !document.lacks(&[]) && document.is_good() {
        let problem = Problem::new("missing-criterion", "there is no criterion in this spec");
        document.at_key(&[], problem.hint("add `[criterion.1]` with its `text`, and `tests` or a `gap`"));
    }
    let at = document.value_location(&steps!["id"]);
    let (title, intent) = (read.title.0, read.intent.0);
    let spec = Spec { id: read.id, title, intent, criteria, at };
    if document.is_good() { Ok(spec) } else { Err(document.into_problems()) }
}

fn criterion(
    spec: &SpecId,
    number: CriterionNumber,
    section: CriterionSection,
    document: &mut Document<'_>,
) -> Option<Criterion> {
    let name = number.to_string();
    let table = steps!["criterion", name.as_str()];
    let at = document.key_location(&table);
    let proof = match (section.tests, section.gap) {
        (Some(_), Some(_)) => {
            let problem = Problem::new("duplicate", format!("criterion {name} has `tests` and a `gap`"));
            let hint =
                format!("keep one of them, or split it: what is not shown yet is `[criterion.{name}b]`");
            document.at_key(&steps!["criterion", name.as_str(), "gap"], problem.hint(hint));
            return None;
        }
        (None, None) if document.lacks(&table) => return None,
        (None, None) => {
            let problem = Problem::new(
                "missing-key",
                format!("nothing shows criterion {name}, and no reason is given"),
            );
            document
                .at_key(&table, problem.hint("name its `tests`, or say why there are none: `gap = \"...\"`"));
            return None;
        }
        (None, Some(gap)) => Proof::Gap(gap.0),
        (Some(tests), None) => Proof::Tests(cited(tests, &name, document)?),
    };
    let (text, requires) = (section.text.0, section.requires);
    Some(Criterion { spec: spec.clone(), number, text, proof, requires, at })
}

/// The tests of a criterion with their places, each once.
fn cited(tests: Vec<Reference>, criterion: &str, document: &mut Document<'_>) -> Option<Vec<Cited>> {
    if tests.is_empty() {
        let problem = Problem::new("missing-key", "this list of tests is empty");
        document.at_value(
            &steps!["criterion", criterion, "tests"],
            problem.hint("name one, or say why there is none: `gap = \"...\"`"),
        );
        return None;
    }
    let mut cited: Vec<Cited> = Vec::new();
    for (index, reference) in tests.into_iter().enumerate() {
        let place = steps!["criterion", criterion, "tests", index];
        if cited.iter().any(|other| other.reference == reference) {
            let problem = Problem::new("duplicate", "this test is there twice");
            document.at_value(&place, problem.hint("keep one of them"));
        } else {
            cited.push(Cited { reference, at: document.value_location(&place) });
        }
    }
    Some(cited)
}
