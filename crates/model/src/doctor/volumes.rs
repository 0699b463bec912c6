//! Where the data of a service lies.

use super::finding::Finding;
use super::row::Row;

/// A path at which an image keeps its data, and what is there in the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The path, inside.
    pub path: String,
    /// Whether a named volume, a folder of the host or memory is mounted there, or above it.
    pub is_held: bool,
    /// Whether nothing is in it; nothing where that cannot be told.
    pub is_empty: Option<bool>,
}

/// What was seen of a service's data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenVolumes {
    /// The unit.
    pub unit: String,
    /// The paths at which its image keeps its data.
    pub kept: Vec<Kept>,
    /// Its named volumes, by where they are mounted.
    pub named: Vec<(String, String)>,
    /// Its named volumes that its first boot was done for, and that are empty.
    pub emptied: Vec<String>,
}

/// What is to be said of a service's data.
#[must_use]
pub fn volumes(seen: &SeenVolumes) -> Vec<Finding> {
    let unit = &seen.unit;
    let mut found = Vec::new();
    for kept in seen.kept.iter().filter(|kept| !kept.is_held && kept.is_empty == Some(false)) {
        let path = &kept.path;
        let runbook = |row: Row| row.runbook().unwrap_or_default();
        found.push(match seen.named.first() {
            None => Finding::of(
                Row::AnonymousVolume,
                unit,
                format!("`{unit}` keeps data at {path}, where no volume with a name is: it goes with the container"),
                format!("declare a volume there and copy the data into it, step by step: {}", runbook(Row::AnonymousVolume)),
            ),
            Some((at, name)) => Finding::of(
                Row::VolumePath,
                unit,
                format!("`{unit}` has the volume {name} at {at}, and its image keeps its data at {path}, where none is"),
                format!("mount {name} at {path} and copy the data into it, step by step: {}", runbook(Row::VolumePath)),
            ),
        });
    }
    found.extend(seen.emptied.iter().map(|name| {
        let what = format!("the first boot of `{unit}` was done for the volume {name}, and nothing is in it");
        let fix = "put the data back from a backup before anything else is done";
        Finding::of(Row::DataMissing, unit, what, fix)
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(seen: &SeenVolumes) -> Vec<&'static str> {
        volumes(seen).iter().filter_map(|finding| Some(finding.row?.id())).collect()
    }

    #[test]
    fn data_without_a_name_is_told() {
        let kept = |is_held, is_empty| Kept { path: "/data".to_owned(), is_held, is_empty };
        let named = vec![("/var/lib/db".to_owned(), "shop_data".to_owned())];
        for (kept, named, expected) in [
            (kept(false, Some(false)), vec![], vec!["anonymous-volume"]),
            (kept(false, Some(false)), named.clone(), vec!["volume-path"]),
            (kept(false, Some(true)), named.clone(), vec![]),
            (kept(false, None), vec![], vec![]),
            (kept(true, Some(false)), named, vec![]),
        ] {
            let unit = "db".to_owned();
            assert_eq!(rows(&SeenVolumes { unit, kept: vec![kept], named, emptied: Vec::new() }), expected);
        }
    }

    #[test]
    fn data_that_is_gone_is_told() {
        let emptied = vec!["shop_data".to_owned()];
        assert_eq!(
            rows(&SeenVolumes { unit: "db".to_owned(), emptied, ..SeenVolumes::default() }),
            ["data-missing"]
        );
    }
}
