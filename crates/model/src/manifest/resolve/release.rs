//! How one version of the services takes the place of another.

use super::super::document::{Document, steps};
use super::super::problem::Problem;
use super::super::release::Release;
use super::super::shape::{LaneWord, ReleaseSection};
use crate::release::{Lane, Repository};

/// What a section says.
pub(super) fn release(section: ReleaseSection, document: &mut Document<'_>) -> Release {
    if section.from.is_some() {
        let what = "only a setpoint.toml that says nothing else can say where the project comes from";
        let problem = Problem::new("two-modes", what)
            .hint("take `from` out, or run `setpoint init oci://...` in an empty folder");
        document.at_key(&steps!["release", "from"], problem);
    }
    let usual = Release::default();
    Release {
        repository: section.repository.and_then(|text| Repository::parse(&text.0).ok()),
        files: section.files.into_iter().map(|pattern| pattern.0).collect(),
        lane: section.lane.map(|lane| match lane {
            LaneWord::Breaking => Lane::Breaking,
            LaneWord::Compatible => Lane::Compatible,
        }),
        keep: section.keep.map_or(usual.keep, u64::from),
        verify: section.verify.map_or(usual.verify, |of| of.0),
        steady: section.steady.map_or(usual.steady, |of| of.0),
        bake: section.bake.map_or(usual.bake, |of| of.0),
    }
}
