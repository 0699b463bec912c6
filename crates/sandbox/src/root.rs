//! The file system of a sandbox: what is mounted where, before the old root is left.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use crate::error::SandboxError;
use crate::host_view::{self, LAYERED_VAR, REST, TOPS, VAR_OVERLAYS};
use crate::spec::{Home, Memory, Mount, Names, Root, SandboxSpec};
use crate::syscalls;

type Result<T> = std::result::Result<T, SandboxError>;

/// Builds the root in the calling process's own mount namespace, and moves into it.
pub(crate) fn enter(spec: &SandboxSpec, rootless: bool, scratch: &Path) -> Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)
        .map_err(|error| SandboxError::io("make private", "/", error))?;
    let builder = Builder { root: scratch, rootless, volatile: spec.volatile };
    match &spec.root {
        Root::HostView { state } => builder.host_view(state)?,
        Root::HostLayers { below, state } => builder.host_layers(below, state)?,
        Root::Layers { layers, state } => {
            let state = state.join("fs");
            builder.overlay(layers, &state, Path::new("/"))?;
        }
    }
    builder.kernel_folders()?;
    builder.names(&spec.names)?;
    for overlay in &spec.overlays {
        builder.place(&overlay.target, true)?;
        builder.overlay(&overlay.layers, &overlay.state, &overlay.target)?;
    }
    let memory = spec.memory.iter().map(|memory| (memory.target.as_path(), Appears::Memory(memory)));
    let mounts = spec.mounts.iter().map(|mount| (mount.target.as_path(), Appears::Mount(mount)));
    let mut all: Vec<_> = memory.chain(mounts).collect();
    // What lies deeper comes later, or it would be hidden.
    all.sort_by_key(|(target, _)| names(target).count());
    for (_, appears) in all {
        match appears {
            Appears::Memory(memory) => builder.memory(memory)?,
            Appears::Mount(mount) => builder.bind(mount)?,
        }
    }
    if let Some(home) = &spec.home {
        builder.home(home)?;
    }
    if let Some(main) = &spec.main {
        builder.place(&main.process.cwd, true)?;
    }
    builder.masks()?;
    leave_old_root(scratch)
}

/// Something that appears inside.
enum Appears<'a> {
    Memory(&'a Memory),
    Mount(&'a Mount),
}

/// The names that a path inside is made of.
fn names(path: &Path) -> impl Iterator<Item = &std::ffi::OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

fn leave_old_root(root: &Path) -> Result<()> {
    let error = |what: &'static str| move |error: rustix::io::Errno| SandboxError::io(what, root, error);
    rustix::process::chdir(root).map_err(error("enter"))?;
    rustix::process::pivot_root(".", ".").map_err(error("pivot to"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(error("leave what lay below"))?;
    rustix::process::chdir("/").map_err(error("enter"))
}

struct Builder<'a> {
    root: &'a Path,
    rootless: bool,
    volatile: bool,
}

impl Builder<'_> {
    fn inside(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn mount(&self, kind: &str, target: &str, flags: MountFlags, data: &str) -> Result<()> {
        let path = self.inside(target);
        let data = std::ffi::CString::new(data).map_err(|error| SandboxError::io("mount", target, error))?;
        rustix::mount::mount(kind, &path, kind, flags, data.as_c_str())
            .map_err(|error| SandboxError::io(&format!("mount {kind} on"), target, error))
    }

    fn folder(&self, path: &str, mode: u32) -> Result<()> {
        let path = self.inside(path);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&path)
            .map_err(|error| SandboxError::io("make", &path, error))
    }

    /// A new tmpfs as root, the host's system folders as overlays, everything that is personal as plain folders
    /// of the unit.
    fn host_view(&self, state: &Path) -> Result<()> {
        let fs_state = state.join("fs");
        rustix::mount::mount("tmpfs", self.root, "tmpfs", MountFlags::NODEV, c"mode=755")
            .map_err(|error| SandboxError::io("mount tmpfs on", self.root, error))?;
        for top in TOPS {
            let host = Path::new("/").join(top);
            match fs::symlink_metadata(&host) {
                Ok(metadata) if metadata.is_symlink() => {
                    let link =
                        fs::read_link(&host).map_err(|error| SandboxError::io("read", &host, error))?;
                    symlink(link, self.inside(top))
                        .map_err(|error| SandboxError::io("make", &host, error))?;
                }
                Ok(metadata) if metadata.is_dir() => {
                    self.folder(top, 0o755)?;
                    self.overlay(std::slice::from_ref(&host), &fs_state.join(top), &host)?;
                }
                _ => {}
            }
        }
        for plain in host_view::PLAIN {
            self.folder(plain, 0o755)?;
            self.bind_path(&fs_state.join(plain), &self.inside(plain), false)?;
        }
        for var in VAR_OVERLAYS {
            let host = Path::new("/").join(var);
            if host.is_dir() {
                self.folder(var, 0o755)?;
                self.overlay(std::slice::from_ref(&host), &fs_state.join(host_view::flat(var)), &host)?;
            }
        }
        Ok(())
    }

    /// An overlay as root, and one for each of the host's system folders, over what earlier ones like it left.
    fn host_layers(&self, below: &[PathBuf], state: &Path) -> Result<()> {
        // Most layers change little: a folder that a layer does not have is no layer.
        let left = |name: &str| {
            let uppers = below.iter().map(move |state| state.join("fs").join(name).join("upper"));
            uppers.filter(|upper| upper.is_dir()).collect::<Vec<_>>()
        };
        self.overlay(&left(REST), &state.join("fs").join(REST), Path::new("/"))?;
        for (name, host) in host_view::overlays(&LAYERED_VAR) {
            let layers: Vec<PathBuf> = std::iter::once(host.clone()).chain(left(&name)).collect();
            self.overlay(&layers, &state.join("fs").join(&name), &host)?;
        }
        Ok(())
    }

    /// Mounts an overlay of these folders, the lowest first, with what is written kept in `state`.
    fn overlay(&self, layers: &[PathBuf], state: &Path, target: &Path) -> Result<()> {
        let refused = |why: String| SandboxError::OverlayRefused { target: target.to_owned(), why };
        let (upper, work) = (state.join("upper"), state.join("work"));
        let mut options = vec![("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];
        if self.rootless {
            options.push(("userxattr", ""));
            options.retain(|(key, _)| *key != "metacopy" && *key != "redirect_dir");
        }
        if self.volatile {
            options.push(("volatile", ""));
        }
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|e| refused(e.to_string()))?;
        let context = context.as_fd();
        let configure = || -> std::result::Result<OwnedFd, String> {
            let set = |key: &str, value: &Path| {
                rustix::mount::fsconfig_set_string(context, key, value)
                    .map_err(|error| format!("{key}={}: {error}", value.display()))
            };
            self.set_lowers(layers, context, &set)?;
            set("upperdir", &upper)?;
            set("workdir", &work)?;
            for (key, value) in &options {
                let done = if value.is_empty() {
                    rustix::mount::fsconfig_set_flag(context, *key)
                } else {
                    rustix::mount::fsconfig_set_string(context, *key, *value)
                };
                done.map_err(|error| format!("{key}: {error}"))?;
            }
            rustix::mount::fsconfig_create(context).map_err(|error| error.to_string())?;
            rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
                .map_err(|error| error.to_string())
        };
        let mount = configure().map_err(refused)?;
        let place = self.inside(target);
        rustix::mount::move_mount(mount.as_fd(), "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|error| refused(error.to_string()))
    }

    /// Lower folders one by one where the kernel can (6.5 and later), else as one text, which it bounds.
    fn set_lowers(
        &self,
        layers: &[PathBuf],
        context: std::os::fd::BorrowedFd<'_>,
        set: &dyn Fn(&str, &Path) -> std::result::Result<(), String>,
    ) -> std::result::Result<(), String> {
        for (index, layer) in layers.iter().rev().enumerate() {
            let added = rustix::mount::fsconfig_set_string(context, "lowerdir+", layer.as_path());
            match added {
                Ok(()) => {}
                Err(rustix::io::Errno::INVAL) if index == 0 => {
                    let joined: Vec<_> = layers.iter().rev().map(|layer| layer.to_string_lossy()).collect();
                    return set("lowerdir", Path::new(&joined.join(":")));
                }
                Err(error) => return Err(format!("lowerdir+={}: {error}", layer.display())),
            }
        }
        Ok(())
    }

    /// A copy of a mounted tree, not yet mounted anywhere.
    fn copy_tree(&self, source: &Path, read_only: bool) -> Result<OwnedFd> {
        let error = |error: &dyn std::fmt::Display| SandboxError::io("mount", source, error);
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(CWD, source, flags).map_err(|e| error(&e))?;
        if read_only {
            syscalls::make_read_only(tree.as_fd(), true).map_err(|e| error(&e))?;
        }
        Ok(tree)
    }

    fn bind_path(&self, source: &Path, target: &Path, read_only: bool) -> Result<()> {
        let tree = self.copy_tree(source, read_only)?;
        rustix::mount::move_mount(tree.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|error| SandboxError::io("mount", source, error))
    }

    /// Binds a folder or a file of the host. Links inside never lead out of the root.
    fn bind(&self, mount: &Mount) -> Result<()> {
        let is_folder = fs::metadata(&mount.source)
            .map_err(|error| SandboxError::io("mount", &mount.source, error))?
            .is_dir();
        let target = self.place(&mount.target, is_folder)?;
        if mount.takes_what_is_there && is_folder {
            let there = PathBuf::from(format!("/proc/self/fd/{}", target.as_raw_fd()));
            copy_into_empty(&there, &mount.source, self.rootless)
                .map_err(|error| SandboxError::io("fill", &mount.source, error))?;
        }
        let tree = self.copy_tree(&mount.source, mount.read_only)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(tree.as_fd(), "", target.as_fd(), "", flags)
            .map_err(|error| SandboxError::io("mount", &mount.target, error))
    }

    /// Mounts a folder in memory.
    fn memory(&self, memory: &Memory) -> Result<()> {
        let error = |error: rustix::io::Errno| SandboxError::io("mount memory on", &memory.target, error);
        let target = self.place(&memory.target, true)?;
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(error)?;
        let set = |key: &str, value: String| {
            rustix::mount::fsconfig_set_string(context.as_fd(), key, value).map_err(error)
        };
        set("mode", format!("{:o}", memory.mode))?;
        if let Some(size) = memory.size {
            set("size", size.to_string())?;
        }
        rustix::mount::fsconfig_create(context.as_fd()).map_err(error)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(error)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(mount.as_fd(), "", target.as_fd(), "", flags).map_err(error)
    }

    /// Opens a path below the root, making what is missing.
    fn place(&self, target: &Path, is_folder: bool) -> Result<OwnedFd> {
        let error = |error: &dyn std::fmt::Display| SandboxError::io("make the mount point", target, error);
        let root =
            rustix::fs::open(self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| error(&e))?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = |path: &Path, flags: OFlags| {
            rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
        };
        if let Ok(found) = open(target, OFlags::PATH) {
            return Ok(found);
        }
        let names: Vec<_> = names(target).collect();
        let mut path = PathBuf::from("/");
        for (index, name) in names.iter().enumerate() {
            let parent = open(&path, OFlags::PATH | OFlags::DIRECTORY).map_err(|e| error(&e))?;
            path.push(name);
            let last = index + 1 == names.len();
            if open(&path, OFlags::PATH).is_ok() {
                continue;
            }
            let made = if last && !is_folder {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                rustix::fs::openat(&parent, *name, flags, Mode::from_raw_mode(0o644)).map(drop)
            } else {
                rustix::fs::mkdirat(&parent, *name, Mode::from_raw_mode(0o755))
            };
            made.map_err(|e| error(&e))?;
        }
        open(target, OFlags::PATH).map_err(|e| error(&e))
    }

    fn home(&self, home: &Home) -> Result<()> {
        let error = |error: rustix::io::Errno| SandboxError::io("make the home", &home.path, error);
        if self.inside(&home.path).symlink_metadata().is_ok() {
            return Ok(());
        }
        let made = self.place(&home.path, true)?;
        let (uid, gid) = (rustix::fs::Uid::from_raw(home.uid), rustix::fs::Gid::from_raw(home.gid));
        rustix::fs::chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).map_err(error)
    }

    /// `/proc`, `/dev`, `/sys`, `/run`, and what they hold.
    fn kernel_folders(&self) -> Result<()> {
        let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        for folder in ["proc", "dev", "sys", "run"] {
            self.folder(folder, 0o755)?;
        }
        self.folder("tmp", 0o1777)?;
        self.mount("proc", "proc", quiet, "")?;
        self.mount("tmpfs", "dev", MountFlags::NOSUID | MountFlags::NOEXEC, "mode=755,size=64k")?;
        for device in ["null", "zero", "full", "random", "urandom", "tty"] {
            let place = self.inside(format!("dev/{device}"));
            fs::write(&place, "").map_err(|error| SandboxError::io("make", &place, error))?;
            self.bind_path(&Path::new("/dev").join(device), &place, false)?;
        }
        for (link, to) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
            ("core", "/proc/kcore"),
        ] {
            symlink(to, self.inside(format!("dev/{link}")))
                .map_err(|error| SandboxError::io("make", link, error))?;
        }
        for folder in ["dev/pts", "dev/shm", "dev/mqueue"] {
            self.folder(folder, 0o755)?;
        }
        let terminals = MountFlags::NOSUID | MountFlags::NOEXEC;
        let group = if self.rootless { "" } else { ",gid=5" };
        self.mount("devpts", "dev/pts", terminals, &format!("newinstance,ptmxmode=0666,mode=0620{group}"))?;
        self.mount("tmpfs", "dev/shm", quiet, "mode=1777")?;
        self.mount("mqueue", "dev/mqueue", quiet, "")?;
        if self.mount("sysfs", "sys", quiet | MountFlags::RDONLY, "").is_err() {
            self.bind_path(Path::new("/sys"), &self.inside("sys"), true)?;
        }
        self.mount("tmpfs", "run", MountFlags::NOSUID | MountFlags::NODEV, "mode=755")?;
        self.folder("run/lock", 0o1777)
    }

    /// Name resolution as it is given, else as the host has it, whatever its own files link to.
    fn names(&self, names: &Names) -> Result<()> {
        for (name, given) in [("/etc/resolv.conf", &names.resolver), ("/etc/hosts", &names.hosts)] {
            let own = || fs::canonicalize(name).ok();
            let Some(source) = given.clone().or_else(own) else { continue };
            let target = match fs::read_link(self.inside(name)) {
                Ok(link) => Path::new("/etc").join(link),
                Err(_) => PathBuf::from(name),
            };
            self.bind(&Mount { source, target, read_only: true, takes_what_is_there: false })?;
        }
        Ok(())
    }

    /// Hides what tells of, or reaches into, the kernel.
    fn masks(&self) -> Result<()> {
        for file in [
            "proc/kcore",
            "proc/keys",
            "proc/latency_stats",
            "proc/timer_list",
            "proc/sched_debug",
            "proc/kmsg",
        ] {
            if self.inside(file).exists() {
                self.bind_path(Path::new("/dev/null"), &self.inside(file), false)?;
            }
        }
        for folder in ["proc/acpi", "proc/scsi", "sys/firmware"] {
            if self.inside(folder).is_dir() {
                self.mount("tmpfs", folder, MountFlags::RDONLY, "size=0")?;
            }
        }
        for path in ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"] {
            let place = self.inside(path);
            if place.exists() {
                self.bind_path(&place, &place, true)?;
            }
        }
        Ok(())
    }
}

/// Beside a folder that is filled: what is being copied, and what is copied and not yet in its place.
const COPYING: &str = "copying";
const COPIED: &str = "copied";

/// Copies what lies in a folder, with owners, modes and links, into one that is empty; nothing into one that is not. It
/// stays the folder that it is, since others may have it mounted. Whoever fills it has the folder above to himself;
/// killed in the middle, the next one goes on.
fn copy_into_empty(from: &Path, to: &Path, rootless: bool) -> std::io::Result<()> {
    let above = to.parent().unwrap_or(to);
    let (copying, copied) = (above.join(COPYING), above.join(COPIED));
    let held = fs::File::open(above)?;
    held.lock()?;
    match fs::remove_dir_all(&copying) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if !copied.exists() {
        if fs::read_dir(to)?.next().is_some() {
            return Ok(());
        }
        copy_folder(from, &copying, rootless)?;
        fs::rename(&copying, &copied)?;
    }
    like(to, &copied, rootless)?;
    for entry in fs::read_dir(&copied)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        // What somebody made there meanwhile stays.
        if place.symlink_metadata().is_err() {
            fs::rename(entry.path(), place)?;
        }
    }
    fs::remove_dir_all(&copied)
}

fn copy_folder(from: &Path, to: &Path, rootless: bool) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, source, copy) = (entry.file_type()?, entry.path(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&source, &copy, rootless)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &copy)?;
            if !rootless {
                let owner = entry.metadata()?;
                lchown(&copy, Some(owner.uid()), Some(owner.gid()))?;
            }
        } else if kind.is_file() {
            fs::copy(&source, &copy)?;
            like(&copy, &source, rootless)?;
        }
    }
    like(to, from, rootless)
}

/// Gives a folder or file the owner and mode of another.
pub(crate) fn like(folder: &Path, model: &Path, rootless: bool) -> std::io::Result<()> {
    let metadata = fs::metadata(model)?;
    if !rootless {
        chown(folder, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}
