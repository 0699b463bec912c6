//! The table of what the doctor looks for.

use serde::Serialize;

use super::finding::Level;

/// What is about to be done, over which a finding may stand in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A folder becomes a project that comes from a release.
    Init,
    /// Another version is taken into use.
    Upgrade,
    /// Data of a backup takes the place of what services have.
    Restore,
    /// A version is made for others.
    Release,
}

impl Purpose {
    /// The command, as it is typed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Upgrade => "upgrade",
            Self::Restore => "restore",
            Self::Release => "release",
        }
    }
}

/// What there is to say of a row, whoever meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The name that stays: for `--fix`, for machines, for the runbook.
    pub id: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What is not done over it.
    pub refuses: &'static [Purpose],
    /// What it finds.
    pub finds: &'static str,
    /// What `--fix` does about it; nothing where only a person can tell what is right.
    pub repair: Option<&'static str>,
}

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// The state cannot be read.
    StateDamaged,
    /// What is in effect cannot be read.
    ActiveDamaged,
    /// What is in effect is not what was committed.
    ActiveMissing,
    /// What runs is not what is in effect.
    ActiveContradicts,
    /// An upgrade was cut off.
    OpenTransaction,
    /// An upgrade could be brought to neither end.
    NeedsOperator,
    /// Another operation was cut off.
    UnfinishedOperation,
    /// A lock is held by a process that does not go on.
    StuckLock,
    /// What is kept of a unit cannot be read.
    UnitDamaged,
    /// A unit whose project is gone.
    OrphanUnit,
    /// A unit of this folder that is declared nowhere.
    UndeclaredUnit,
    /// Units of several versions.
    MixedVersions,
    /// Data of a later version.
    LedgerNewer,
    /// A migration that was edited after it was applied.
    MigrationChanged,
    /// A migration that was cut off, and may not be run again.
    MigrationHalf,
    /// A migration that was cut off, and is run again.
    MigrationUnfinished,
    /// A migration that was passed over.
    MigrationGap,
    /// A migration of which nobody knows whether the data has it.
    MigrationUnverified,
    /// The manifest says what cannot be.
    Manifest,
    /// The folder is not what is in effect for it.
    TwoModes,
    /// The release that is in effect is not here.
    NoRelease,
    /// An image whose tag says nothing.
    FloatingTag,
    /// An image of which nobody knows where it is from.
    UnknownImage,
    /// An image that is not the one that was released.
    UnlockedTag,
    /// An image for other processors.
    WrongArchitecture,
    /// A file that is made here, and was changed by somebody.
    EditedFile,
    /// Changes that are in no commit.
    DirtyTree,
    /// Data that goes with its container.
    AnonymousVolume,
    /// A volume that is not where the data is.
    VolumePath,
    /// A volume that should hold data.
    DataMissing,
    /// Too little room.
    DiskSpace,
    /// Too few files that can be made.
    DiskInodes,
    /// Images that only a login gives.
    RegistryPrivate,
    /// A login that is in the way.
    RegistryLogin,
    /// A registry that does not answer.
    RegistryUnreachable,
    /// A password in the address of a repository.
    CredentialInRemote,
    /// A secret that others can read.
    SecretReadable,
    /// A secret, or a variable, without a value.
    MissingSecret,
    /// A port that somebody else has.
    PortTaken,
    /// A clock that cannot be right.
    Clock,
    /// An engine that does not answer.
    EngineUnreachable,
    /// An engine that lacks what is asked of it.
    EngineOld,
    /// Limits that cannot be kept.
    CgroupControllers,
    /// Namespaces that are refused.
    UserNamespaces,
    /// A kernel without overlays.
    Overlay,
    /// A kernel without filters of system calls.
    SystemCallFilter,
    /// The same services, run by somebody else.
    LegacyStack,
}

const NEVER: &[Purpose] = &[];
const ON_A_BOX: &[Purpose] = &[Purpose::Init, Purpose::Upgrade, Purpose::Restore];
/// Other instances take the place of those that are there.
const REPLACED: &[Purpose] = &[Purpose::Upgrade, Purpose::Restore];
/// It is about data that an upgrade goes on with, and that a restore leads away from.
const UPGRADE: &[Purpose] = &[Purpose::Upgrade];
const INIT: &[Purpose] = &[Purpose::Init];
const ALL: &[Purpose] = &[Purpose::Init, Purpose::Upgrade, Purpose::Restore, Purpose::Release];

impl Row {
    /// All rows, in the order in which they are told.
    pub const ALL: [Self; 47] = [
        Self::StateDamaged,
        Self::ActiveDamaged,
        Self::ActiveMissing,
        Self::ActiveContradicts,
        Self::OpenTransaction,
        Self::NeedsOperator,
        Self::UnfinishedOperation,
        Self::StuckLock,
        Self::UnitDamaged,
        Self::OrphanUnit,
        Self::UndeclaredUnit,
        Self::MixedVersions,
        Self::LedgerNewer,
        Self::MigrationChanged,
        Self::MigrationHalf,
        Self::MigrationUnfinished,
        Self::MigrationGap,
        Self::MigrationUnverified,
        Self::Manifest,
        Self::TwoModes,
        Self::NoRelease,
        Self::FloatingTag,
        Self::UnknownImage,
        Self::UnlockedTag,
        Self::WrongArchitecture,
        Self::EditedFile,
        Self::DirtyTree,
        Self::AnonymousVolume,
        Self::VolumePath,
        Self::DataMissing,
        Self::DiskSpace,
        Self::DiskInodes,
        Self::RegistryPrivate,
        Self::RegistryLogin,
        Self::RegistryUnreachable,
        Self::CredentialInRemote,
        Self::SecretReadable,
        Self::MissingSecret,
        Self::PortTaken,
        Self::Clock,
        Self::EngineUnreachable,
        Self::EngineOld,
        Self::CgroupControllers,
        Self::UserNamespaces,
        Self::Overlay,
        Self::SystemCallFilter,
        Self::LegacyStack,
    ];

    /// The name that stays.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.about().id
    }

    /// The row of this name.
    #[must_use]
    pub fn named(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.id() == id)
    }

    /// Where the runbook tells a person what to do, for a row over which something is not done.
    #[must_use]
    pub fn runbook(self) -> Option<String> {
        let about = self.about();
        (!about.refuses.is_empty()).then(|| format!("docs/runbook.md#{}", about.id))
    }

    /// What there is to say of it.
    #[must_use]
    pub fn about(self) -> About {
        let of = |id, level, refuses, finds| About { id, level, refuses, finds, repair: None };
        use Level::{Info, Refuse, Repairable};
        match self {
            Self::StateDamaged => of(
                "state-damaged",
                Refuse,
                ON_A_BOX,
                "the database of the state, with the journal in it, cannot be read, or is of a newer version",
            ),
            Self::ActiveDamaged => of(
                "active-damaged",
                Refuse,
                ON_A_BOX,
                "the file cannot be read that says which generation is in effect",
            ),
            Self::ActiveMissing => About {
                repair: Some("writes what the journal says was committed, if all its volumes are there"),
                ..of(
                    "active-missing",
                    Refuse,
                    ON_A_BOX,
                    "the journal says that a generation was committed, and the file of what is in effect is gone, or of an \
                     earlier one",
                )
            },
            Self::ActiveContradicts => of(
                "active-contradicts",
                Refuse,
                &[Purpose::Init, Purpose::Upgrade],
                "a unit has another volume than the generation in effect says, or that volume is not there",
            ),
            Self::OpenTransaction => About {
                repair: Some("brings it to one of its two ends, as `setpoint recover` does"),
                ..of("open-transaction", Repairable, INIT, "an upgrade was cut off, and nobody is at it")
            },
            Self::NeedsOperator => of(
                "needs-operator",
                Refuse,
                ON_A_BOX,
                "an upgrade failed, and so did the way back: neither version is whole",
            ),
            Self::UnfinishedOperation => {
                of("unfinished-operation", Repairable, NEVER, "an operation on a unit was cut off")
            }
            Self::StuckLock => of(
                "stuck-lock",
                Refuse,
                ON_A_BOX,
                "a unit or the project is locked by a process that was stopped, or hangs in the kernel",
            ),
            Self::UnitDamaged => {
                of("unit-damaged", Refuse, REPLACED, "what is kept of a unit on the engine cannot be read")
            }
            Self::OrphanUnit => of(
                "orphan-unit",
                Repairable,
                NEVER,
                "a unit on the engine belongs to a folder without a project",
            ),
            Self::UndeclaredUnit => of(
                "undeclared-unit",
                Repairable,
                INIT,
                "a unit on the engine belongs to this folder, and nothing here declares it",
            ),
            Self::MixedVersions => {
                of("mixed-versions", Repairable, NEVER, "units of the project are of several versions")
            }
            Self::LedgerNewer => of(
                "ledger-newer",
                Refuse,
                UPGRADE,
                "a migration was applied to the data that is not in this version: the data is of a later one",
            ),
            Self::MigrationChanged => of(
                "migration-changed",
                Refuse,
                UPGRADE,
                "a migration has another text than when it was applied",
            ),
            Self::MigrationHalf => of(
                "migration-half",
                Refuse,
                UPGRADE,
                "a migration was begun on the data and has not ended, and does not say that it may be run again",
            ),
            Self::MigrationUnfinished => of(
                "migration-unfinished",
                Repairable,
                NEVER,
                "a migration was to run on the data and has not ended; the next upgrade runs it",
            ),
            Self::MigrationGap => of(
                "migration-gap",
                Refuse,
                UPGRADE,
                "a migration was passed over: what comes after it was applied, or other data that it touches has it",
            ),
            Self::MigrationUnverified => of(
                "migration-unverified",
                Refuse,
                UPGRADE,
                "the data was there before its ledger, and nothing tells whether it has a migration",
            ),
            Self::Manifest => of(
                "manifest",
                Refuse,
                &[Purpose::Upgrade, Purpose::Restore, Purpose::Release],
                "the manifest says what cannot be, such as a service with both `image` and `build`",
            ),
            Self::TwoModes => of(
                "two-modes",
                Refuse,
                &[Purpose::Upgrade, Purpose::Restore, Purpose::Release],
                "a release is in effect here, and the manifest declares the project itself; or the other way round",
            ),
            Self::NoRelease => of(
                "no-release",
                Refuse,
                REPLACED,
                "the release that is in effect is not in the state, or is damaged there",
            ),
            Self::FloatingTag => of(
                "floating-tag",
                Repairable,
                NEVER,
                "a service's image has no tag, or `latest`: it is another one at any time",
            ),
            Self::UnknownImage => of(
                "unknown-image",
                Repairable,
                NEVER,
                "a service's image was made on this machine, under a name of a registry's: nobody knows of what",
            ),
            Self::UnlockedTag => of(
                "unlocked-tag",
                Repairable,
                NEVER,
                "a tag means another image here than the one that `setpoint.lock` says was released",
            ),
            Self::WrongArchitecture => of(
                "wrong-architecture",
                Refuse,
                REPLACED,
                "an image is for other processors than the engine's",
            ),
            Self::EditedFile => About {
                repair: Some(
                    "writes a pinned project's `setpoint.toml` as it was made; what was there is kept beside it",
                ),
                ..of("edited-file", Repairable, NEVER, "a file that Setpoint makes was edited by hand")
            },
            Self::DirtyTree => of(
                "dirty-tree",
                Info,
                INIT,
                "the project's folder is a clone of a repository, with changes that are in no commit",
            ),
            Self::AnonymousVolume => of(
                "anonymous-volume",
                Refuse,
                REPLACED,
                "data lies where a service's image keeps it, and no volume with a name is there: it goes with the container",
            ),
            Self::VolumePath => of(
                "volume-path",
                Refuse,
                REPLACED,
                "a service has a volume, and its image keeps its data elsewhere, where there is none",
            ),
            Self::DataMissing => of(
                "data-missing",
                Refuse,
                UPGRADE,
                "a service's first boot was done for a volume, and that is empty",
            ),
            Self::DiskSpace => of(
                "disk-space",
                Refuse,
                ALL,
                "less than 256 MiB are free where the state or the engine keeps its files",
            ),
            Self::DiskInodes => of(
                "disk-inodes",
                Refuse,
                ALL,
                "fewer than 1,000 files can be made where the state or the engine keeps its files",
            ),
            Self::RegistryPrivate => of(
                "registry-private",
                Repairable,
                NEVER,
                "a registry gives what is declared only to who logs in, and there is no login, or one that may not",
            ),
            Self::RegistryLogin => of(
                "registry-login",
                Repairable,
                NEVER,
                "a registry refuses the login that is saved, and needs none; or that login cannot be used",
            ),
            Self::RegistryUnreachable => of(
                "registry-unreachable",
                Repairable,
                NEVER,
                "a registry does not answer, and something that is declared is not here",
            ),
            Self::CredentialInRemote => of(
                "credential-in-remote",
                Repairable,
                NEVER,
                "the address of a remote of git has a password or a token in it",
            ),
            Self::SecretReadable => About {
                repair: Some("takes the right to read it from everybody else"),
                ..of("secret-readable", Repairable, NEVER, "a file with a secret can be read by everybody")
            },
            Self::MissingSecret => of(
                "missing-secret",
                Refuse,
                REPLACED,
                "a secret or a variable that a unit needs has no value here",
            ),
            Self::PortTaken => {
                of("port-taken", Refuse, REPLACED, "somebody else listens on a port that a unit publishes")
            }
            Self::Clock => of(
                "clock",
                Repairable,
                NEVER,
                "the clock is behind what was recorded, or far from the engine's",
            ),
            Self::EngineUnreachable => {
                of("engine-unreachable", Refuse, ALL, "the engine that the project declares does not answer")
            }
            Self::EngineOld => {
                of("engine-old", Refuse, ALL, "the engine is of a version that lacks what is asked of it")
            }
            Self::CgroupControllers => of(
                "cgroup-controllers",
                Refuse,
                REPLACED,
                "limits are declared, and the controllers that keep them are not delegated to this user",
            ),
            Self::UserNamespaces => of(
                "user-namespaces",
                Refuse,
                ON_A_BOX,
                "the kernel refuses user namespaces to whoever is not root",
            ),
            Self::Overlay => of("overlay", Refuse, ON_A_BOX, "the kernel has no overlay file system"),
            Self::SystemCallFilter => {
                of("system-call-filter", Refuse, ON_A_BOX, "the kernel cannot filter system calls")
            }
            Self::LegacyStack => of(
                "legacy-stack",
                Refuse,
                ON_A_BOX,
                "a Compose project of the same folder or name runs beside this one",
            ),
        }
    }
}
