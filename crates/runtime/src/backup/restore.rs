//! The change that a restore is: the version that is in effect, on data of a backup.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use setpoint_model::backup::{Contents, Part, What, volume_name};
use setpoint_model::import::compose::Volume;
use setpoint_model::manifest::Data;
use setpoint_model::names::UnitName;
use setpoint_model::release::ledger::{Due, Planned};
use setpoint_model::release::migration::Stage;
use setpoint_model::release::{Active, Copy, Holds, Kind, Lane, Load, MigrationId, Upgrade};

use super::command;
use super::error::BackupError;
use super::place::Opened;
use crate::cancel::Cancel;
use crate::engine::{Engine, NewVolume};
use crate::observe::{Look, Unit};
use crate::store::Store;
use crate::upgrade;

/// Where the parts of a backup go in a project.
struct Target<'a> {
    /// The volume, as it is declared.
    declared: &'a Volume,
    /// A service that has it.
    unit: &'a Unit<'a>,
    holds: Holds,
}

/// The change that restores parts of a backup. Units are all services, in the order in which they start.
///
/// # Errors
/// If the project does not have what the backup is of, or what it is built on is another by now.
pub fn change(
    units: &[(Unit<'_>, Look)],
    contents: &Contents,
    parts: &[&Part],
    from: &Active,
    keep: u64,
) -> Result<Upgrade, BackupError> {
    let generation = from.generation + 1;
    let mut targets: Vec<Target<'_>> = Vec::new();
    let mut loads = Vec::new();
    for part in parts {
        match &part.what {
            What::Volume { volume, .. } => targets.push(target(units, contents, volume, &part.layer)?),
            What::Dump => {
                let unit = part.units.first().and_then(|name| unit(units, name));
                let Some(unit) = unit.filter(|unit| commands(unit).is_some()) else {
                    let name = part.units.first().map(UnitName::as_str).unwrap_or_default();
                    return Err(BackupError::NotHere(format!(
                        "it has what a command of {name} wrote, and this project has no service of that name with `backup.restore`"
                    )));
                };
                let mut volumes = unit.env.volumes().peekable();
                if volumes.peek().is_none() || unit.env.volumes().any(|volume| volume.external) {
                    return Err(BackupError::NotHere(format!(
                        "{} keeps data in no volume of its own, or in one that is external: nothing would lead back from \
                         what its command restores",
                        unit.env.name
                    )));
                }
                loads.push(Load { unit: unit.env.name.clone(), layer: part.layer.clone() });
                targets.extend(volumes.map(|declared| Target { declared, unit, holds: Holds::Nothing }));
            }
        }
    }
    let replaced: BTreeSet<&str> = targets.iter().map(|target| target.declared.name.as_str()).collect();
    let has_one = |unit: &Unit<'_>| unit.env.volumes().any(|volume| replaced.contains(volume.name.as_str()));
    let touched: Vec<_> = units.iter().filter(|(unit, _)| has_one(unit)).collect();
    if let Some((unit, _)) = touched.iter().find(|(_, look)| upgrade::is_there(look) && look.moves()) {
        return Err(BackupError::NotHere(format!(
            "the image of {} was changed in the manifest and is not in effect yet: `setpoint upgrade` comes first",
            unit.env.name
        )));
    }
    let migrations = migrations(&targets, parts);
    let copies: Vec<Copy> = targets
        .iter()
        .map(|target| Copy {
            declared: target.declared.name.clone(),
            from: from.volume(&target.declared.name).to_owned(),
            to: format!("{}.{generation}", target.declared.name),
            of: target.unit.env.name.clone(),
            holds: target.holds.clone(),
            bytes: 0,
        })
        .collect();
    let mut volumes = from.volumes.clone();
    volumes.extend(copies.iter().map(|copy| (copy.declared.clone(), copy.to.clone())));
    let mut restored = from.restored.clone();
    restored.extend(copies.iter().map(|copy| (copy.declared.clone(), contents.version.clone())));
    let engine = units.first().map(|(unit, _)| unit.engine.capabilities().engine).unwrap_or_default();
    Ok(Upgrade {
        kind: Kind::Restore,
        lane: Lane::Breaking,
        engine: engine.to_owned(),
        from: from.clone(),
        to: Active { generation, volumes, restored, ..from.clone() },
        parts: touched.iter().map(|(unit, look)| upgrade::part(unit, look)).collect(),
        copies,
        loads,
        makes: Vec::new(),
        saves: Vec::new(),
        puts: Vec::new(),
        downs: Vec::new(),
        migrations,
        keep,
    })
}

/// What the data of a backup has is noted of the volumes that it goes to.
fn migrations(targets: &[Target<'_>], parts: &[&Part]) -> Vec<Planned> {
    let mut planned: BTreeMap<MigrationId, Planned> = BTreeMap::new();
    for part in parts {
        let is_of = |target: &&Target<'_>| match (&part.what, &target.holds) {
            (What::Volume { .. }, Holds::Filled(layer)) => *layer == part.layer,
            (What::Dump, Holds::Nothing) => part.units.contains(&target.unit.env.name),
            _ => false,
        };
        for (target, applied) in
            targets.iter().filter(is_of).flat_map(|target| part.migrations.iter().map(move |of| (target, of)))
        {
            let of = planned.entry(applied.id.clone()).or_insert_with(|| Planned {
                id: applied.id.clone(),
                sha256: applied.sha256.clone(),
                unit: Some(target.unit.env.name.clone()),
                stage: Stage::Pre,
                due: Due::Cover,
                touches: Vec::new(),
                paths: Vec::new(),
            });
            of.touches.push(target.declared.name.clone());
        }
    }
    planned.into_values().collect()
}

fn unit<'a>(units: &'a [(Unit<'a>, Look)], name: &UnitName) -> Option<&'a Unit<'a>> {
    units.iter().map(|(unit, _)| unit).find(|unit| unit.env.name == *name)
}

fn commands<'a>(unit: &'a Unit<'_>) -> Option<&'a setpoint_model::manifest::BackupCommands> {
    unit.env.service.as_ref()?.backup.as_ref()
}

/// Where the files of a volume go.
fn target<'a>(
    units: &'a [(Unit<'a>, Look)],
    contents: &Contents,
    volume: &str,
    layer: &str,
) -> Result<Target<'a>, BackupError> {
    let all = || {
        units.iter().flat_map(|(unit, _)| {
            let project = unit.project.manifest.project.name.as_str();
            unit.env.volumes().map(move |declared| (volume_name(project, &declared.name), declared, unit))
        })
    };
    let found = all().find(|(name, declared, _)| *name == volume && !declared.external);
    let Some((_, declared, unit)) = found else {
        let known =
            all().map(|(name, ..)| name).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
        return Err(BackupError::NotHere(format!(
            "the backup of {} has a volume `{volume}`, and this project has no such: it has {}",
            contents.project,
            if known.is_empty() { "none" } else { &known }
        )));
    };
    Ok(Target { declared, unit, holds: Holds::Filled(layer.to_owned()) })
}

/// What tells the data of a volume that takes the place of another: what was done once for the one was done for the other.
fn id_for(engine: &dyn Engine, replaced: &str, part: &Part) -> Result<String, BackupError> {
    let there = engine.volume_ids(&[replaced.to_owned()])?.remove(replaced);
    Ok(match (there, &part.what) {
        (Some(id), _) => id,
        (None, What::Volume { id, .. }) => id.clone(),
        (None, What::Dump) => String::new(),
    })
}

/// Records, where this machine has had no such data, that what was once done for the data of a backup is done.
///
/// # Errors
/// If the engine cannot be asked, or the state not written.
pub fn record_first_boots(
    store: &mut Store,
    units: &[(Unit<'_>, Look)],
    contents: &Contents,
    restored: &Upgrade,
) -> Result<(), BackupError> {
    for (unit, _) in units.iter().filter(|(unit, _)| restored.part(&unit.env.name).is_some()) {
        let name = &unit.env.name;
        let Some(done) = contents.units.get(name).map(|of| &of.first_boot) else { continue };
        let own: Vec<&Copy> = restored.copies.iter().filter(|copy| has(unit, &copy.declared)).collect();
        let held: Vec<String> = own.iter().map(|copy| copy.from.clone()).collect();
        if !unit.engine.volume_ids(&held)?.is_empty() {
            continue;
        }
        let id = |copy: &&Copy| {
            let layer = match &copy.holds {
                Holds::Filled(layer) => layer,
                _ => return None,
            };
            match contents.parts.iter().find(|part| part.layer == *layer).map(|part| &part.what) {
                Some(What::Volume { id, .. }) => Some((copy.declared.clone(), id.clone())),
                _ => None,
            }
        };
        let data = Data { volumes: own.iter().filter_map(id).collect(), instance: String::new() };
        if data.volumes.is_empty() {
            continue;
        }
        let (root, now) = (&unit.project.root, Timestamp::now());
        store.write(|writer| {
            done.iter().try_for_each(|step| writer.record_first_boot(root, name, step, &data, now))
        })?;
    }
    Ok(())
}

fn has(unit: &Unit<'_>, declared: &str) -> bool {
    unit.env.volumes().any(|volume| volume.name == declared)
}

impl Opened {
    /// Makes the volume that a copy of a change is, with the files of its part.
    ///
    /// # Errors
    /// If the part cannot be read, or the engine does not take it.
    pub(crate) fn fill(
        &self,
        unit: &Unit<'_>,
        copy: &Copy,
        layer: &str,
        cancel: &Cancel,
    ) -> Result<(), BackupError> {
        let part = self.part(layer).ok_or_else(|| self.lacks(layer))?;
        let declared = unit.env.volumes().find(|of| of.name == copy.declared);
        let declared = Volume { name: copy.to.clone(), ..declared.cloned().unwrap_or_default() };
        let (id, base) = (id_for(unit.engine, &copy.from, part)?, unit.base()?);
        let volume = NewVolume { declared: &declared, owner: &unit.project.root, id: &id, base: &base };
        Ok(unit.engine.fill_volume(&volume, self.read(part)?, cancel)?)
    }

    /// Has a service take in what a backup has of it.
    ///
    /// # Errors
    /// If the part cannot be read, or the command fails.
    pub(crate) fn load(&self, unit: &Unit<'_>, layer: &str, cancel: &Cancel) -> Result<(), BackupError> {
        let part = self.part(layer).ok_or_else(|| self.lacks(layer))?;
        let commands = commands(unit).ok_or_else(|| self.lacks(layer))?;
        command::load(unit, commands, self.read(part)?, cancel)
    }

    fn lacks(&self, layer: &str) -> BackupError {
        BackupError::refused(&self.listed.name, format!("it lacks its part {layer}"))
    }
}
