//! The versions that units are of.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::row::Row;
use crate::names::UnitName;

/// Whether all units of a project that are made of the project itself are of one version: the one that is in effect, if one
/// is.
#[must_use]
pub fn versions(units: &BTreeMap<UnitName, String>, active: Option<&str>) -> Option<Finding> {
    let all: BTreeSet<&str> = units.values().map(String::as_str).chain(active).collect();
    if units.is_empty() || all.len() < 2 {
        return None;
    }
    let shown: Vec<String> = units.iter().map(|(unit, version)| format!("{unit} {version}")).collect();
    let active = active.map(|version| format!("; {version} is in effect")).unwrap_or_default();
    let what = format!("units of several versions: {}{active}", shown.join(", "));
    let fix = "`setpoint upgrade --dry-run` says what makes them one again, `setpoint why` what differs";
    Some(Finding::of(Row::MixedVersions, "versions", what, fix))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn one_version_is_one_everywhere() {
        let told = |units: &[(&str, &str)], active| {
            let of = |(unit, version): &(&str, &str)| (UnitName::new(*unit).unwrap(), (*version).to_owned());
            versions(&units.iter().map(of).collect(), active).map(|finding| finding.what)
        };
        assert_eq!(told(&[], Some("1.0.0")), None);
        assert_eq!(told(&[("web", "1.0.0"), ("api", "1.0.0")], None), None);
        assert_eq!(told(&[("web", "1.0.0"), ("api", "1.0.0")], Some("1.0.0")), None);
        assert_eq!(
            told(&[("web", "1.0.0"), ("api", "1.1.0")], None).unwrap(),
            "units of several versions: api 1.1.0, web 1.0.0"
        );
        assert_eq!(
            told(&[("web", "1.0.0")], Some("1.1.0")).unwrap(),
            "units of several versions: web 1.0.0; 1.1.0 is in effect"
        );
    }
}
