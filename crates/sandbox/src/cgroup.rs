//! Control groups, version 1 and 2, behind one small interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::SandboxError;
use crate::spec::Limits;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// The group that all of ours lie in.
const PARENT: &str = "setpoint";
/// The period that processor time is counted over, in microseconds.
const PERIOD: u64 = 100_000;
/// The controllers that limits need.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// The control group of a sandbox: one folder with version 2, one a controller with version 1. Only controllers
/// that have a limit to keep are used, for every process that joins one waits for the kernel for milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    folders: Vec<Folder>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Folder {
    /// With version 1, its controller; none with version 2.
    controller: Option<String>,
    path: PathBuf,
}

/// Which control groups this machine offers to this user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "version")]
pub enum Offer {
    /// Version 1, with these controllers writable.
    V1 {
        /// Names of controllers.
        controllers: Vec<String>,
    },
    /// Version 2, with these controllers delegated.
    V2 {
        /// Names of controllers.
        controllers: Vec<String>,
    },
    /// None that this user may change.
    None {
        /// What was looked for.
        why: String,
    },
}

impl Offer {
    /// What this machine offers to this user.
    #[must_use]
    pub fn find() -> Self {
        Self::find_in(Path::new(MOUNT), own_v2_group().as_deref())
    }

    fn find_in(mount: &Path, own: Option<&Path>) -> Self {
        if let Some(home) = v2_home(mount, own) {
            let listed = fs::read_to_string(home.join("cgroup.controllers")).unwrap_or_default();
            let controllers =
                CONTROLLERS.into_iter().filter(|name| listed.split_whitespace().any(|l| l == *name));
            return Self::V2 { controllers: controllers.map(str::to_owned).collect() };
        }
        let controllers: Vec<_> = CONTROLLERS
            .into_iter()
            .filter(|name| writable(&mount.join(name)) && mount.join(name).join("cgroup.procs").exists())
            .map(str::to_owned)
            .collect();
        if controllers.is_empty() {
            return Self::None {
                why: format!("nothing below {} is writable for this user", mount.display()),
            };
        }
        Self::V1 { controllers }
    }
}

/// Whether these limits can be kept here, before anything is made.
///
/// # Errors
/// [`SandboxError::NoCgroup`] for the first that no controller can keep.
pub fn check_limits(limits: &Limits) -> Result<(), SandboxError> {
    let (offered, why) = match Offer::find() {
        Offer::V1 { controllers } | Offer::V2 { controllers } => {
            let why = format!("this machine offers {}", controllers.join(", "));
            (controllers, why)
        }
        Offer::None { why } => (Vec::new(), why),
    };
    let missing = |name: &&str| is_limited(limits, name) && !offered.iter().any(|offer| offer == name);
    match CONTROLLERS.into_iter().find(missing) {
        Some(controller) => Err(SandboxError::NoCgroup { controller: controller.to_owned(), why }),
        None => Ok(()),
    }
}

/// The folder that our groups are made in with version 2: the root's for root, the delegated one of the caller's
/// session otherwise.
fn v2_home(mount: &Path, own: Option<&Path>) -> Option<PathBuf> {
    if !mount.join("cgroup.controllers").exists() {
        return None;
    }
    if writable(mount) {
        return Some(mount.to_owned());
    }
    let own = mount.join(own?.strip_prefix("/").ok()?);
    // Processes may lie in leaves only: ours goes beside the caller's group, not into it.
    own.ancestors()
        .skip(1)
        .take_while(|folder| *folder != mount)
        .find(|folder| writable(folder))
        .map(Path::to_owned)
}

fn own_v2_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

fn writable(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

impl Cgroup {
    /// Makes the control group of this name and sets its limits.
    ///
    /// # Errors
    /// [`SandboxError::NoCgroup`] if a limit is asked for that no controller can keep.
    pub(crate) fn make(name: &str, limits: &Limits) -> Result<Self, SandboxError> {
        Self::make_in(Path::new(MOUNT), own_v2_group().as_deref(), name, limits)
    }

    fn make_in(mount: &Path, own: Option<&Path>, name: &str, limits: &Limits) -> Result<Self, SandboxError> {
        let needed: Vec<&str> = CONTROLLERS.into_iter().filter(|name| is_limited(limits, name)).collect();
        if needed.is_empty() {
            return Ok(Self::default());
        }
        let folders = match (Offer::find_in(mount, own), v2_home(mount, own)) {
            (Offer::V2 { controllers }, Some(home)) => {
                let parent = home.join(PARENT);
                delegate(&home, &controllers);
                make_folder(&parent)?;
                delegate(&parent, &controllers);
                vec![Folder { controller: None, path: parent.join(name) }]
            }
            (Offer::V1 { controllers }, _) => controllers
                .into_iter()
                .filter(|name| needed.contains(&name.as_str()))
                .map(|name_of| Folder {
                    path: mount.join(&name_of).join(PARENT).join(name),
                    controller: Some(name_of),
                })
                .collect(),
            _ => Vec::new(),
        };
        let group = Self { folders };
        for folder in &group.folders {
            make_folder(&folder.path)?;
        }
        if let Err(error) = group.set(limits) {
            group.remove();
            return Err(error);
        }
        Ok(group)
    }

    /// Moves the calling process into the group.
    pub(crate) fn join(&self) -> Result<(), SandboxError> {
        for folder in &self.folders {
            let path = folder.path.join("cgroup.procs");
            fs::write(&path, "0").map_err(|error| SandboxError::io("join", &path, error))?;
        }
        Ok(())
    }

    /// Takes over the limits for processes that run, with the controllers that these limits need besides those in
    /// use. Gives the group as it is then.
    pub(crate) fn change(
        &self,
        name: &str,
        limits: &Limits,
        processes: &dyn Fn() -> Vec<i32>,
    ) -> Result<Self, SandboxError> {
        let mut group = self.clone();
        for folder in Self::make(name, limits)?.folders {
            if !group.folders.contains(&folder) {
                group.folders.push(folder);
            }
        }
        group.set(limits)?;
        // A process may be born between the look and the move; its parent has moved by the second look.
        for _ in 0..2 {
            for (folder, pid) in
                group.folders.iter().flat_map(|folder| processes().into_iter().map(move |pid| (folder, pid)))
            {
                let _ = fs::write(folder.path.join("cgroup.procs"), pid.to_string());
            }
        }
        Ok(group)
    }

    /// Sets limits; an absent one is lifted.
    ///
    /// # Errors
    /// [`SandboxError::NoCgroup`] if no controller can keep one.
    pub(crate) fn set(&self, limits: &Limits) -> Result<(), SandboxError> {
        let or_max = |value: Option<u64>| value.map_or_else(|| "max".to_owned(), |value| value.to_string());
        let quota = limits.cpus.map(|cpus| (cpus * 100_000.0).round().max(1000.0) as u64);
        let memory = limits.memory.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
        let v1_quota = quota.map_or_else(|| "-1".to_owned(), |quota| quota.to_string());
        self.set_one(
            "memory",
            limits.memory.is_some(),
            "memory.limit_in_bytes",
            &memory,
            "memory.max",
            &or_max(limits.memory),
        )?;
        self.set_one(
            "cpu",
            quota.is_some(),
            "cpu.cfs_quota_us",
            &v1_quota,
            "cpu.max",
            &format!("{} {PERIOD}", or_max(quota)),
        )?;
        let pids = or_max(limits.pids);
        self.set_one("pids", limits.pids.is_some(), "pids.max", &pids, "pids.max", &pids)
    }

    fn set_one(
        &self,
        controller: &str,
        asked: bool,
        v1_file: &str,
        v1_value: &str,
        v2_file: &str,
        v2_value: &str,
    ) -> Result<(), SandboxError> {
        let place = self.folders.iter().find_map(|folder| match folder.controller.as_deref() {
            None => Some((folder.path.join(v2_file), v2_value)),
            Some(name) if name == controller => Some((folder.path.join(v1_file), v1_value)),
            Some(_) => None,
        });
        let no_controller = |why: String| SandboxError::NoCgroup { controller: controller.to_owned(), why };
        match place {
            Some((path, value)) if asked || path.exists() => {
                fs::write(&path, value).map_err(|error| no_controller(format!("{}: {error}", path.display())))
            }
            None if asked => Err(no_controller(match Offer::find() {
                Offer::None { why } => why,
                offer => format!("this machine offers {offer:?}"),
            })),
            _ => Ok(()),
        }
    }

    /// The limits that are in force, as the kernel took them.
    #[must_use]
    pub fn effective(&self) -> Limits {
        let read = |controller: &str, v1: &str, v2: &str| {
            let folder = self
                .folders
                .iter()
                .find(|folder| folder.controller.as_deref().is_none_or(|c| c == controller))?;
            let file = if folder.controller.is_some() { v1 } else { v2 };
            fs::read_to_string(folder.path.join(file)).ok()
        };
        // Version 1 says "no limit" by a number close to the largest one.
        let number = |text: Option<String>| text?.trim().parse::<u64>().ok().filter(|bytes| *bytes < 1 << 60);
        let cpus = read("cpu", "cpu.cfs_quota_us", "cpu.max")
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .map(|quota| quota as f64 / PERIOD as f64);
        Limits {
            memory: number(read("memory", "memory.limit_in_bytes", "memory.max")),
            cpus,
            pids: number(read("pids", "pids.max", "pids.max")),
        }
    }

    /// Removes the group, once its last process is gone. What stays behind is empty and harmless.
    pub(crate) fn remove(&self) {
        let until = Instant::now() + Duration::from_millis(500);
        for folder in &self.folders {
            while let Err(error) = fs::remove_dir(&folder.path) {
                if error.kind() == std::io::ErrorKind::NotFound || Instant::now() > until {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            if let Some(parent) = folder.path.parent() {
                // Only the last sandbox can take the common parent with it.
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

fn is_limited(limits: &Limits, controller: &str) -> bool {
    match controller {
        "memory" => limits.memory.is_some(),
        "cpu" => limits.cpus.is_some(),
        _ => limits.pids.is_some(),
    }
}

/// Lets groups below this one use the controllers.
fn delegate(folder: &Path, controllers: &[String]) {
    for controller in controllers {
        let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn make_folder(path: &Path) -> Result<(), SandboxError> {
    // Another sandbox's end may take the common parent away between the two calls: try again.
    for _ in 0..20 {
        match fs::create_dir_all(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => return other.map_err(|error| SandboxError::io("make", path, error)),
        }
    }
    Err(SandboxError::io("make", path, "it vanished again and again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a version 2 tree.
    fn v2_tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("cgroup.controllers"), "cpuset cpu io memory pids").unwrap();
        tree
    }

    #[test]
    fn version_2_gets_one_folder_with_the_limits_in_its_files() {
        let tree = v2_tree();
        let limits = Limits { memory: Some(1 << 20), cpus: Some(1.5), pids: Some(64) };
        let group = Cgroup::make_in(tree.path(), None, "dev-1", &limits).unwrap();
        let file = |name: &str| fs::read_to_string(tree.path().join("setpoint/dev-1").join(name)).unwrap();
        assert_eq!(file("memory.max"), "1048576");
        assert_eq!(file("cpu.max"), "150000 100000");
        assert_eq!(file("pids.max"), "64");
        assert_eq!(group.effective(), limits);
        group.set(&Limits::default()).unwrap();
        assert_eq!(file("memory.max"), "max");
        assert_eq!(file("cpu.max"), "max 100000");
    }

    #[test]
    fn version_2_of_a_user_lies_beside_his_own_group() {
        let tree = v2_tree();
        let own = "/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope";
        fs::create_dir_all(tree.path().join(&own[1..])).unwrap();
        let home = v2_home(tree.path(), Some(Path::new(own))).unwrap();
        // Root may write everywhere, so the tree's own top is the home here.
        assert_eq!(home, tree.path());
    }

    #[test]
    fn a_limit_without_a_controller_is_refused_by_name_and_none_is_no_error() {
        let empty = tempfile::tempdir().unwrap();
        let refused =
            Cgroup::make_in(empty.path(), None, "x", &Limits { pids: Some(1), ..Limits::default() });
        assert!(matches!(refused, Err(SandboxError::NoCgroup { controller, .. }) if controller == "pids"));
        assert_eq!(Cgroup::make_in(empty.path(), None, "x", &Limits::default()).unwrap(), Cgroup::default());
    }
}
