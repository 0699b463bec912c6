//! The machine: what the kernel lets this user do, and the room on its disks.

use std::path::Path;

use setpoint_model::doctor::{Finding, Row, Space, space};
use setpoint_model::manifest::Limits;
use setpoint_sandbox::Offer;
use setpoint_sandbox::probe::Features;

use crate::room::Room;

/// What the machine can do, and what the declared limits ask of it. Where units are sandboxes of our own, what it cannot
/// do is in the way; elsewhere it is good to know.
#[must_use]
pub fn of_features(features: &Features, limits: &[Limits], is_needed: bool) -> Vec<Finding> {
    let lacks = |row, subject: &str, what: String, fix: &str| match is_needed {
        true => Finding::of(row, subject, what, fix),
        false => Finding::info(subject, what).fix(fix),
    };
    let mut found = vec![match &features.seccomp {
        Ok(()) => Finding::ok("kernel", features.kernel.clone()),
        Err(why) => {
            let fix = "use a kernel with CONFIG_SECCOMP_FILTER, as every distribution's is";
            lacks(Row::SystemCallFilter, "kernel", format!("{}: {why}", features.kernel), fix)
        }
    }];
    found.push(match &features.user_namespaces {
        Ok(()) => Finding::ok("user namespaces", "they can be made"),
        Err(why) if !features.rootless => {
            Finding::info("user namespaces", format!("{why}; root does not need them"))
        }
        Err(why) => lacks(
            Row::UserNamespaces,
            "user namespaces",
            why.clone(),
            "`sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000` and, on Ubuntu, \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        ),
    });
    if features.rootless && !features.newuidmap {
        found.push(
            Finding::info("other users", "without newuidmap a rootless environment has one user only")
                .fix("install the package uidmap (shadow-utils elsewhere)"),
        );
    }
    found.push(match &features.overlay {
        Ok(()) => Finding::ok("overlay", "the kernel has it"),
        Err(why) => lacks(Row::Overlay, "overlay", why.clone(), "`modprobe overlay`"),
    });
    found.push(of_limits(&features.cgroup, limits, is_needed));
    found.push(of_networks(features));
    found
}

/// Whether units can have networks of their own.
fn of_networks(features: &Features) -> Finding {
    let subject = "private networks";
    match &features.packet_filter {
        _ if features.rootless => Finding::info(subject, "none: they need the rights of root")
            .fix("run setpoint as root, or use the host's network, or Docker"),
        Some(program) => Finding::ok(subject, format!("with a way out by {program}")),
        None => Finding::info(subject, "nothing leads out of them: there is neither iptables nor nft")
            .fix("install the package iptables or nftables"),
    }
}

fn of_limits(offer: &Offer, limits: &[Limits], is_needed: bool) -> Finding {
    let subject = "limits";
    let (controllers, what) = match offer {
        Offer::V1 { controllers } => (controllers.as_slice(), "cgroup version 1".to_owned()),
        Offer::V2 { controllers } => (controllers.as_slice(), "cgroup version 2".to_owned()),
        Offer::None { why } => (&[][..], why.clone()),
    };
    let lacks = |name: &&str| !controllers.iter().any(|controller| controller == name);
    let missing: Vec<_> = ["memory", "cpu", "pids"].into_iter().filter(lacks).collect();
    let needed = |name: &&&str| {
        limits.iter().any(|limits| match **name {
            "memory" => limits.memory.is_some(),
            "cpu" => limits.cpus.is_some(),
            _ => limits.pids.is_some(),
        })
    };
    let declared: Vec<&str> = missing.iter().filter(needed).copied().collect();
    let fix = "run setpoint in a session of systemd's that is delegated these controllers, or as root";
    if missing.is_empty() {
        Finding::ok(subject, format!("{what}: memory, cpu, pids"))
    } else if declared.is_empty() || !is_needed {
        let why =
            if declared.is_empty() { "none is declared" } else { "the engine keeps those that are declared" };
        let what =
            format!("{what}; no limits on {} can be kept by setpoint itself ({why})", missing.join(", "));
        Finding::info(subject, what).fix(fix)
    } else {
        let what = format!("{what}; the declared limits on {} cannot be kept", declared.join(", "));
        Finding::of(Row::CgroupControllers, subject, what, fix)
    }
}

/// The room where a folder lies, or will lie.
#[must_use]
pub fn disk(folder: &Path, elsewhere: &str) -> Vec<Finding> {
    match Room::of(folder) {
        Ok(Room { free, files, .. }) => {
            space(&folder.display().to_string(), Space { free, files }, elsewhere)
        }
        Err(error) => {
            let what = format!("cannot look at {}: {error}", folder.display());
            vec![Finding::of(Row::DiskSpace, "disk", what, "see what is wrong with that file system")]
        }
    }
}

#[cfg(test)]
mod tests {
    use setpoint_model::doctor::Level;

    use super::*;

    fn features() -> Features {
        Features {
            kernel: "6.8.0".to_owned(),
            rootless: true,
            user_namespaces: Ok(()),
            overlay: Ok(()),
            seccomp: Ok(()),
            cgroup: Offer::V2 { controllers: ["memory", "cpu", "pids"].map(str::to_owned).to_vec() },
            newuidmap: true,
            packet_filter: Some("iptables".to_owned()),
        }
    }

    fn bad() -> Features {
        Features {
            user_namespaces: Err("Operation not permitted".to_owned()),
            overlay: Err("no overlay".to_owned()),
            seccomp: Err("no filters".to_owned()),
            cgroup: Offer::None { why: "nothing is writable".to_owned() },
            newuidmap: false,
            packet_filter: None,
            ..features()
        }
    }

    #[test]
    fn a_good_machine_has_only_good_findings() {
        let of_root = Features { rootless: false, ..features() };
        assert!(of_features(&of_root, &[], true).iter().all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn every_problem_of_a_machine_has_a_row_and_a_fix() {
        let limits = Limits { pids: Some(10), ..Limits::default() };
        let found = of_features(&bad(), &[limits], true);
        let rows: Vec<_> = found.iter().filter_map(|finding| Some(finding.row?.id())).collect();
        assert_eq!(rows, ["system-call-filter", "user-namespaces", "overlay", "cgroup-controllers"]);
        assert!(found.iter().all(|finding| finding.fix.is_some()), "{found:?}");
    }

    #[test]
    fn what_only_our_own_sandboxes_need_is_in_nobody_elses_way() {
        let limits = Limits { pids: Some(10), ..Limits::default() };
        assert!(of_features(&bad(), &[limits], false).iter().all(|finding| finding.row.is_none()));
        let of_root = Features { rootless: false, ..bad() };
        let rows: Vec<_> =
            of_features(&of_root, &[], true).into_iter().filter_map(|found| found.row).collect();
        assert!(!rows.contains(&Row::UserNamespaces), "root needs none: {rows:?}");
    }

    #[test]
    fn a_limit_that_cannot_be_kept_is_a_problem_only_where_it_is_declared() {
        let offer = Offer::V2 { controllers: vec!["memory".to_owned()] };
        let of = |limits: Limits| of_limits(&offer, &[limits], true).level;
        assert_eq!(of(Limits::default()), Level::Info);
        assert_eq!(of(Limits { cpus: Some(1.5), ..Limits::default() }), Level::Refuse);
    }

    #[test]
    fn the_disk_of_a_folder_is_that_of_the_nearest_one_that_is_there() {
        assert!(!disk(Path::new("/no/such/folder"), "").is_empty());
    }
}
