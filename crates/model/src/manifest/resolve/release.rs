//! How one version of the services takes the place of another.

use super::super::release::Release;
use super::super::shape::{LaneWord, ReleaseSection};
use crate::release::Lane;

/// What a section says.
pub(super) fn release(section: ReleaseSection) -> Release {
    let usual = Release::default();
    Release {
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
