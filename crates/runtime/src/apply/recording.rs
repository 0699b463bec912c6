//! After a step: its success, taken into the record.

use std::time::Duration;

use jiff::Timestamp;
use setpoint_model::desired::FileDigest;
use setpoint_model::digest::{Digest, Encoder};
use setpoint_model::fingerprint::{Class, FORMAT, Leaf, LeafKey, Pack};
use setpoint_model::names::HookName;
use setpoint_model::plan::{Step, hook_owner, pack_owner};

use super::{Applier, ApplyError, label};
use crate::facts::PACKS;
use crate::observe::{Look, Unit};
use crate::record;
use crate::store::{self, PackRow, PhaseRow, Store};

impl Unit<'_> {
    /// Takes a hook into the record as done, because somebody vouches for it. Nothing runs.
    ///
    /// # Errors
    /// If the record cannot be written. Without a row there is nothing to do.
    pub fn mark_done(&self, store: &mut Store, look: &Look, hook: HookName) -> Result<(), ApplyError> {
        let (Some(row), Some(labels)) = (&look.row, look.seen.labels()) else { return Ok(()) };
        let (at, took) = (Timestamp::now(), Duration::ZERO);
        let declared =
            look.desired.fingerprint.iter().filter(|(key, leaf)| is_of_hook(hook, key, leaf.class));
        let leaves: Vec<_> = declared.map(|(key, leaf)| record::leaf(key, leaf)).collect();
        let (instance, outcome) = (labels.instance.clone(), store::PhaseOutcome::Succeeded);
        let phase = PhaseRow { hook, digest: None, instance, outcome, at, took };
        store.write(|writer| {
            writer.record_leaves(row.id, &leaves, at)?;
            writer.record_phase(row.id, &phase)
        })?;
        Ok(())
    }
}

/// Whether a leaf is recorded with a hook's success: its own, and those of its files, whatever a change of them
/// leads to.
fn is_of_hook(hook: HookName, key: &LeafKey, class: Class) -> bool {
    class == Class::Hook(hook) || key.owner.as_deref() == Some(hook.as_str())
}

impl Applier<'_, '_> {
    /// Takes the success of a step into the record, in one transaction with the journal.
    pub(super) fn record(&mut self, step: &Step, took: Duration) -> Result<(), ApplyError> {
        let declared = self.look.desired.fingerprint.clone();
        let changes = match step {
            Step::Image | Step::Stop => Changes::default(),
            Step::Remove => Changes { forget_instance: true, ..Changes::default() },
            Step::Create => {
                let mut changes = self.synchronised(|_, class| {
                    matches!(class, Class::Recreate | Class::Rebuild | Class::Report)
                });
                changes.forget_instance = true;
                changes
            }
            Step::Start => self.synchronised(|_, class| matches!(class, Class::Restart | Class::Hot)),
            Step::ApplyHot => self.synchronised(|_, class| class == Class::Hot),
            Step::Pack(index) => self.pack_changes(*index)?,
            Step::FirstBoot(_) => Changes::default(),
            Step::Hook(hook) => self.hook_changes(*hook)?,
            Step::Record => {
                let planned: Vec<Step> = self.look.plan.steps.iter().map(|p| p.step.clone()).collect();
                self.synchronised(|_, class| match class {
                    Class::Hook(hook) => !planned.contains(&Step::Hook(hook)),
                    Class::Packs => !planned.iter().any(|step| matches!(step, Step::Pack(_))),
                    Class::Rebuild => true,
                    _ => false,
                })
            }
        };
        let booted = match step {
            Step::FirstBoot(index) => self
                .first_boot(*index)
                .map(|of| Ok::<_, ApplyError>((of.name.clone(), self.unit.data(&self.spec.labels.instance)?)))
                .transpose()?,
            _ => None,
        };
        let trim = matches!(step, Step::Record).then_some(declared.packs.len());
        let forget: Vec<_> = self
            .look
            .recorded
            .fingerprint
            .iter()
            .filter(|(key, _)| key.owner.as_deref() != Some(HookName::Initialize.as_str()))
            .filter(|(_, leaf)| leaf.class != Class::Hook(HookName::Initialize))
            .map(|(key, _)| record::text(key))
            .collect();
        let remove: Vec<_> = changes.remove.iter().map(record::text).collect();
        let put: Vec<_> = changes.put.iter().map(|(key, leaf)| record::leaf(key, leaf)).collect();
        let instance = self.spec.labels.instance.clone();
        let (row, operation, creates, step) = (self.row, &self.operation, *step == Step::Create, label(step));
        let at = Timestamp::now();
        let unit = self.unit;
        self.store.write(|writer| {
            if let Some((step, data)) = &booted {
                writer.record_first_boot(unit.owner, &unit.env.name, step, data, at)?;
            }
            if changes.forget_instance {
                writer.remove_leaves(row, &forget)?;
                writer.cut_packs(row, 0)?;
                for hook in HookName::ALL.into_iter().filter(|hook| *hook != HookName::Initialize) {
                    writer.remove_phase(row, hook)?;
                }
                writer.set_instance(row, creates.then_some(instance.as_str()), at)?;
            }
            writer.record_leaves(row, &put, at)?;
            writer.remove_leaves(row, &remove)?;
            if let Some((position, pack)) = &changes.pack {
                let (name, digest) = (pack.name.to_string(), pack.digest);
                writer.put_pack(row, *position, &PackRow { name, digest, at, took })?;
            }
            if let Some(len) = trim {
                writer.cut_packs(row, len)?;
            }
            if let Some((hook, digest)) = changes.phase {
                let outcome = store::PhaseOutcome::Succeeded;
                let digest = Some(digest);
                writer.record_phase(
                    row,
                    &PhaseRow { hook, digest, instance: instance.clone(), outcome, at, took },
                )?;
            }
            writer.done(operation, &step, &serde_json::Value::Null, at)
        })?;
        Ok(())
    }

    /// The changes that make the record equal to what is declared, for the leaves that are meant.
    fn synchronised(&self, meant: impl Fn(&LeafKey, Class) -> bool) -> Changes {
        let declared = &self.look.desired.fingerprint;
        let recorded = &self.look.recorded.fingerprint;
        Changes {
            put: declared
                .iter()
                .filter(|(key, leaf)| meant(key, leaf.class))
                .map(|(key, leaf)| (key.clone(), leaf.clone()))
                .collect(),
            remove: recorded
                .iter()
                .filter(|(key, leaf)| declared.get(key).is_none() && meant(key, leaf.class))
                .filter(|(key, _)| !self.look.desired.unresolved.contains(key))
                .map(|(key, _)| key.clone())
                .collect(),
            ..Changes::default()
        }
    }

    fn pack_changes(&mut self, index: usize) -> Result<Changes, ApplyError> {
        let pack = self.look.desired.fingerprint.packs[index].clone();
        let owner = pack_owner(&pack.name);
        let script = format!("{PACKS}/{}.sh", pack.name);
        let files = self.look.facts.packs.get(&pack.name).into_iter().flatten();
        let scripts = files.filter(|file| file.path == script).chain(&self.look.facts.pack_library).cloned();
        if self.was_edited(&owner, &scripts.collect::<Vec<_>>())? {
            return Ok(Changes::default());
        }
        let recorded = &self.look.recorded.fingerprint.packs;
        let alone = self.look.plan.steps.iter().filter(|p| matches!(p.step, Step::Pack(_))).count() == 1;
        let in_place =
            recorded.get(index).is_some_and(|old| old.name == pack.name) || index == recorded.len();
        // A pack that was asked for out of its turn changes no record of the order.
        let counts = in_place || !alone;
        let last = index + 1 == self.look.desired.fingerprint.packs.len();
        let mut changes = if last && self.edited.is_empty() && counts {
            self.synchronised(|_, class| class == Class::Packs)
        } else {
            self.synchronised(|key, class| class == Class::Packs && key.owner.as_deref() == Some(&owner))
        };
        let before_edited = self.edited.iter().any(|edited| edited.starts_with("pack "));
        changes.pack = (counts && !before_edited).then_some((index, pack));
        Ok(changes)
    }

    fn hook_changes(&mut self, hook: HookName) -> Result<Changes, ApplyError> {
        let owner = hook_owner(hook);
        let paths: Vec<_> =
            self.unit.env.hooks.get(&hook).into_iter().flat_map(|hook| hook.run.scripts()).collect();
        let files = self.look.facts.hooks.get(&hook).into_iter().flatten();
        let scripts = files.take(paths.len()).filter(|file| paths.contains(&file.path.as_str())).cloned();
        if self.was_edited(&owner, &scripts.collect::<Vec<_>>())? {
            return Ok(Changes::default());
        }
        let mut changes = self
            .synchronised(|key, class| class == Class::Hook(hook) || key.owner.as_deref() == Some(&owner));
        let mut encoder = Encoder::new("setpoint.phase", FORMAT);
        for (key, leaf) in &changes.put {
            encoder.text(&key.path).digest(leaf.digest);
        }
        changes.phase = Some((hook, encoder.finish()));
        Ok(changes)
    }

    /// Whether a script changed since it was digested: then nobody knows which bytes ran, and nothing is
    /// recorded of it.
    fn was_edited(&mut self, phase: &str, files: &[FileDigest]) -> Result<bool, ApplyError> {
        if files.is_empty() {
            return Ok(false);
        }
        let paths = files.iter().map(|file| file.path.clone()).collect();
        let now = self.unit.digests_now(paths)?;
        let edited = files.iter().zip(now).any(|(file, now)| file.digest != now);
        if edited {
            self.edited.push(phase.to_owned());
        }
        Ok(edited)
    }
}

/// What a step changes in the record.
#[derive(Debug, Default)]
struct Changes {
    put: Vec<(LeafKey, Leaf)>,
    remove: Vec<LeafKey>,
    pack: Option<(usize, Pack)>,
    phase: Option<(HookName, Digest)>,
    /// The instance is gone or new: nothing that was recorded of it holds, but for `initialize`, which is the
    /// host's.
    forget_instance: bool,
}
