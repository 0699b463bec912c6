//! Whether what tests need is there.

use std::collections::BTreeMap;

use setpoint_model::manifest::EngineKind;
use setpoint_model::spec::Requirement;

use crate::paths::Roots;
use crate::{engine, host};

/// Why something that tests need is not there; nothing if it is.
pub(super) fn lack(
    requirement: &Requirement,
    roots: &Roots,
    variables: &BTreeMap<String, String>,
) -> Option<String> {
    let of_engine = |kind| match engine::open(kind, roots, variables).units() {
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    };
    match requirement {
        Requirement::Docker => of_engine(EngineKind::Docker),
        Requirement::Podman => of_engine(EngineKind::Podman),
        Requirement::Network => (!has_way_out()).then(|| "this machine has no default route".to_owned()),
        Requirement::Root => {
            (!rustix::process::geteuid().is_root()).then(|| "this is not the user root".to_owned())
        }
        Requirement::Program(name) => {
            let path = variables.get("PATH").map_or("", String::as_str);
            let is_there = std::env::split_paths(path).any(|folder| host::is_executable(&folder.join(name)));
            (!is_there).then(|| "it is not in PATH".to_owned())
        }
    }
}

/// Whether packets to anywhere have a way, by the kernel's own tables.
fn has_way_out() -> bool {
    let lines = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    // Destination and mask are zero; the one that refuses everything stands on the loopback interface.
    let by_v4 = lines("/proc/net/route").lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000")
    });
    let by_v6 = lines("/proc/net/ipv6_route").lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_default =
            words.first().is_some_and(|to| to.bytes().all(|c| c == b'0')) && words.get(1) == Some(&"00");
        is_default && words.last().is_some_and(|interface| *interface != "lo")
    });
    by_v4 || by_v6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_there_when_it_can_be_executed() {
        let roots = Roots { state: "/nowhere".into(), config: "/nowhere".into() };
        let variables = BTreeMap::from([("PATH".to_owned(), "/nowhere:/bin:/etc".to_owned())]);
        let lack = |name: &str| lack(&Requirement::Program(name.to_owned()), &roots, &variables);
        assert_eq!(lack("sh"), None);
        assert_eq!(lack("passwd-of-nobody"), Some("it is not in PATH".to_owned()));
        assert!(lack("group").is_some());
    }
}
