//! What processes inside may do: capabilities and system calls, with Docker's defaults.

use std::collections::BTreeMap;

use caps::{CapSet, Capability, CapsHashSet};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

use crate::error::SandboxError;

/// The capabilities that root keeps inside; those that Docker leaves by default.
const KEPT: [Capability; 14] = [
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_CHROOT,
];

/// System calls that nothing inside needs and that reach the kernel outside of what namespaces confine. The list
/// follows what Docker's default profile refuses.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// The calls that only some machines have.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// The flags of `clone` that make namespaces.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

fn refused(what: &str, why: impl std::fmt::Display) -> SandboxError {
    SandboxError::io("set", what, why)
}

/// Bounds what any process from here on can ever gain.
pub(crate) fn bound_capabilities() -> Result<(), SandboxError> {
    let error = |error| refused("bounding capabilities", error);
    let kept: CapsHashSet = KEPT.into_iter().collect();
    for capability in caps::read(None, CapSet::Bounding).map_err(error)? {
        if !kept.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(error)?;
        }
    }
    Ok(())
}

/// Leaves root inside with the kept capabilities. An ordinary user loses all by becoming one.
pub(crate) fn drop_capabilities() -> Result<(), SandboxError> {
    let error = |error| refused("capabilities", error);
    let has = caps::read(None, CapSet::Permitted).map_err(error)?;
    let kept: CapsHashSet = KEPT.into_iter().filter(|capability| has.contains(capability)).collect();
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(error)?;
    caps::set(None, CapSet::Effective, &kept).map_err(error)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(error)
}

/// Gives up all rights of root, for good; what cannot be given up is not there.
pub(crate) fn give_up() {
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let _ = caps::clear(None, set);
    }
    let _ = rustix::thread::set_no_new_privs(true);
}

/// The filters of system calls, compiled. Made before a fork, installed after it.
pub(crate) struct Filters(Vec<BpfProgram>);

impl Filters {
    /// Compiles them.
    pub(crate) fn compile() -> Result<Self, SandboxError> {
        let always = |calls: &[i64]| -> BTreeMap<i64, Vec<SeccompRule>> {
            calls.iter().map(|call| (*call, Vec::new())).collect()
        };
        let mut refuse = always(REFUSED);
        refuse.extend(always(REFUSED_HERE));
        let mut clone = Vec::new();
        for bit in (0..64).map(|bit| 1_u64 << bit).filter(|bit| NEW_NAMESPACES & bit != 0) {
            let operator = SeccompCmpOp::MaskedEq(bit);
            let condition =
                SeccompCondition::new(0, SeccompCmpArgLen::Qword, operator, bit).map_err(filter)?;
            clone.push(SeccompRule::new(vec![condition]).map_err(filter)?);
        }
        refuse.insert(libc::SYS_clone, clone);
        // Its flags lie in memory, where a filter cannot see them; libraries fall back to `clone`.
        let absent = always(&[libc::SYS_clone3]);
        let mut filters = vec![compile(refuse, libc::EPERM)?, compile(absent, libc::ENOSYS)?];
        if cfg!(target_arch = "x86_64") {
            filters.push(no_x32());
        }
        Ok(Self(filters))
    }

    /// Installs them for this process and all that it starts.
    pub(crate) fn install(&self) -> Result<(), SandboxError> {
        rustix::thread::set_no_new_privs(true).map_err(|error| refused("no_new_privs", error))?;
        self.0.iter().try_for_each(|program| seccompiler::apply_filter(program).map_err(filter))
    }
}

/// Refuses the numbers of the x32 variant of every call, by which a list of refusals would be bypassed where a kernel
/// offers them.
fn no_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    let word = |code: u32| u16::try_from(code).unwrap_or(0);
    let load = word(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
    let at_least = word(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K);
    let end = word(libc::BPF_RET | libc::BPF_K);
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    vec![
        sock_filter { code: load, jt: 0, jf: 0, k: 0 },
        sock_filter { code: at_least, jt: 0, jf: 1, k: X32 },
        sock_filter { code: end, jt: 0, jf: 0, k: refused },
        sock_filter { code: end, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ]
}

fn filter(error: impl std::fmt::Display) -> SandboxError {
    refused("filter of system calls", error)
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram, SandboxError> {
    let arch = std::env::consts::ARCH.try_into().map_err(filter)?;
    let action = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, action, arch).map_err(filter)?.try_into().map_err(filter)
}
