//! The manifest of a project that comes from a release: all that it says is from where.

use super::document::{Document, steps};
use super::problem::Problem;
use super::source::Sources;
use super::tree::{Data, Node};
use super::{Layer, version};
use crate::manifest::format::Format as _;
use crate::manifest::scalars::RepositoryAddress;
use crate::release::Repository;

/// Where the project of this manifest comes from; nothing if it declares what it is made of itself.
///
/// # Errors
/// If it says both.
pub fn origin(layer: Layer<'_>) -> Result<Option<Repository>, Vec<Problem>> {
    // A text that is no TOML is told of where manifests are read.
    let Ok(tree) = Node::read(0, &layer) else { return Ok(None) };
    let mut document = Document::new(Sources::new(&[layer]), tree);
    let place = steps!["release", "from"];
    let Some(Node { data: Data::Text(from), .. }) = document.tree.find(&place) else { return Ok(None) };
    let repository = RepositoryAddress::parse(from);
    if !version::check(&mut document) {
        return Err(document.into_problems());
    }
    let own = |key: &String| !matches!(key.as_str(), "setpoint" | "release");
    let others = document.keys(&[]).into_iter().filter(own).map(|key| steps![key.as_str()].to_vec());
    let beside = document.keys(&steps!["release"]).into_iter().filter(|key| key != "from");
    let beside = beside.map(|key| steps!["release", key.as_str()].to_vec());
    for other in others.chain(beside).collect::<Vec<_>>() {
        let what = "a project that comes from a release declares nothing in setpoint.toml itself";
        let why = format!("`from` is at {}", document.key_location(&place));
        let problem = Problem::new("two-modes", what).why(why);
        let hint = "what is this machine's own stands in setpoint.local.toml; or take `from` out";
        document.at_key(&other, problem.hint(hint));
    }
    let repository = match repository {
        Ok(address) => Repository::parse(&address.0).ok(),
        Err(malformed) => {
            document.at_value(&place, Problem::new("bad-repository", malformed.to_string()));
            None
        }
    };
    if document.is_good() { Ok(repository) } else { Err(document.into_problems()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Repository>, Vec<String>> {
        let problems = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
        origin(Layer { name: "setpoint.toml", text }).map_err(problems)
    }

    #[test]
    fn a_project_says_where_it_comes_from_or_what_it_is_made_of() {
        let from = "setpoint = 1\n[release]\nfrom = \"oci://ghcr.io/acme/shop\"\n";
        assert_eq!(read(from), Ok(Some(Repository::parse("ghcr.io/acme/shop").unwrap())));
        assert_eq!(read("setpoint = 1\n[env.dev]\n"), Ok(None));
        assert_eq!(read("setpoint = "), Ok(None));
        let both = format!("{from}keep = 3\n[service.web]\nbuild = \".\"\n");
        let problems = read(&both).unwrap_err();
        assert_eq!(problems.len(), 2);
        for place in ["setpoint.toml:4:1", "setpoint.toml:5:2"] {
            assert!(problems.iter().any(|problem| problem.contains(place)), "{problems:?}");
        }
        assert!(read("setpoint = 1\n[release]\nfrom = \"shop\"\n").unwrap_err()[0].contains("no `/`"));
        assert!(read("setpoint = 2\n[release]\nfrom = \"ghcr.io/a/b\"\n").is_err());
    }
}
