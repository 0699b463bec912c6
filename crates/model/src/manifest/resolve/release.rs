//! How one version of the services takes the place of another.

use super::super::document::{Document, steps};
use super::super::nearest::nearest;
use super::super::problem::Problem;
use super::super::release::Release;
use super::super::shape::{LaneWord, MigrationsSection, ReleaseSection, StageWord};
use super::check_argv;
use crate::release::migration::{Defaults, Stage};
use crate::release::{Lane, Repository, Version};

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
        stand_in: section.stand_in.unwrap_or(usual.stand_in),
        keep: section.keep.map_or(usual.keep, u64::from),
        verify: section.verify.map_or(usual.verify, |of| of.0),
        steady: section.steady.map_or(usual.steady, |of| of.0),
        bake: section.bake.map_or(usual.bake, |of| of.0),
        migrations: migrations(section.migrations, document),
    }
}

fn migrations(section: MigrationsSection, document: &mut Document<'_>) -> Defaults {
    let services = document.keys(&steps!["service"]);
    let may_be_elsewhere = !document.keys(&steps!["stack"]).is_empty();
    if let Some(unit) = &section.r#in
        && !may_be_elsewhere
        && !services.iter().any(|service| service == unit.as_str())
    {
        let problem = Problem::new("unknown-unit", format!("there is no service `{unit}`"));
        let near = nearest(unit.as_str(), services.iter().map(String::as_str));
        let hint = near.map_or_else(
            || "name the service whose data they change".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        document.at_value(&steps!["release", "migrations", "in"], problem.hint(hint));
    }
    for (ending, argv) in &section.run {
        check_argv(argv, &steps!["release", "migrations", "run", ending.as_str()], document);
    }
    Defaults {
        r#in: section.r#in,
        stage: section.stage.map(|stage| match stage {
            StageWord::Pre => Stage::Pre,
            StageWord::Post => Stage::Post,
        }),
        run: section.run,
        timeout: section.timeout.map(|of| of.0),
        baseline: section.baseline.and_then(|text| Version::parse(&text.0).ok()),
    }
}
