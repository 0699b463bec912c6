//! Networks of units: bridges of the host, which units join when they start. What is known of them lies in the state.
//!
//! Everything here happens under one lock of the machine, because a range of addresses is the machine's to share; it
//! is held for a few milliseconds.

mod files;
mod pool;
mod way_out;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use setpoint_model::container::Container;
use setpoint_model::digest::Digest;
use setpoint_sandbox as sandbox;
use setpoint_sandbox::{OwnNetwork, Subnet};

use super::Embedded;
use crate::engine::kept::{entries, read, remove_tree, write};
use crate::engine::{Engine as _, EngineError, UnitId, UnitSpec, ports};
use crate::paths::make_private_folder;
use pool::Wish;

pub(super) use files::names;
pub(super) use way_out::is_there as leads_out;
pub(super) use wish::{check, has_own};

const NETWORKS: &str = "networks/v1";
const ABOUT: &str = "network.json";
const MEMBERS: &str = "members";
const LOCK: &str = ".lock";
/// Who is in a network without being a unit.
const VISITOR: &str = "visitor";
/// Every process of this network namespace has it, and no other one.
const MACHINE: &str = "/sys/class/net";

/// What is kept of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    version: u32,
    name: String,
    /// The name of its bridge.
    bridge: String,
    subnet: Subnet,
    /// The host's own address in it.
    gateway: Ipv4Addr,
    /// The part of it that units get addresses of; all of it if absent.
    range: Option<Subnet>,
    /// Whether nothing leads out of it by the user's will.
    internal: bool,
    /// The largest packet, in bytes; the kernel's choice if absent.
    mtu: Option<u32>,
}

impl About {
    /// Whether something leads out of it.
    fn leads_out(&self) -> bool {
        !self.internal && way_out::is_there()
    }
}

/// What is kept of a unit in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    address: Ipv4Addr,
    /// By what others in it find the unit.
    names: BTreeSet<String>,
    /// Whether it was started, and not stopped since.
    up: bool,
}

/// Held while networks change.
struct Held {
    _state: fs::File,
    _machine: Option<fs::File>,
}

impl Embedded {
    fn networks(&self) -> PathBuf {
        self.roots.state.join(NETWORKS)
    }

    fn network(&self, name: &str) -> PathBuf {
        self.networks().join(name)
    }

    fn hold_networks(&self) -> Result<Held, EngineError> {
        let folder = self.networks();
        make_private_folder(&folder).map_err(EngineError::io("make", &folder))?;
        let path = folder.join(LOCK);
        let options = || fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let state =
            options().and_then(|file| file.lock().map(|()| file)).map_err(EngineError::io("lock", &path))?;
        // Without it, the kernel refuses what would collide.
        let machine = fs::File::open(MACHINE).and_then(|file| file.lock().map(|()| file)).ok();
        Ok(Held { _state: state, _machine: machine })
    }

    /// A name of a device that is unique on this machine, for whatever this is of this state. Devices have names of 15
    /// bytes at most.
    fn device(&self, kind: &str, of: &str) -> String {
        let of_state = Digest::of_bytes(self.roots.state.as_os_str().as_encoded_bytes()).to_hex();
        let digest = Digest::of_bytes(format!("{of_state} {of}").as_bytes()).to_hex();
        format!("{kind}{}", &digest[..12])
    }
}

/// Leads a unit that is about to start into its networks, which are made where they are not there.
/// Gives the address, too, that its published ports lead to.
pub(super) fn join(
    engine: &Embedded,
    unit: &UnitId,
    spec: &UnitSpec,
) -> Result<(OwnNetwork, Option<Ipv4Addr>), EngineError> {
    let wishes = wish::of(unit, spec)?;
    let _held = engine.hold_networks()?;
    let wanted: BTreeSet<&str> = wishes.iter().map(|wish| wish.network.name.as_str()).collect();
    for name in networks_of(engine, unit)?.iter().filter(|name| !wanted.contains(name.as_str())) {
        leave(engine, unit, name)?;
    }
    sweep(engine)?;
    let mut joined = OwnNetwork::default();
    let mut leads_to = None;
    let mut has_way_out = false;
    for (index, wish) in wishes.iter().enumerate() {
        let about = ensure(engine, unit, wish)?;
        let address = address_of(engine, unit, wish, &about)?;
        let member = Member { address, names: wish.names.clone(), up: true };
        let path = engine.network(&about.name).join(MEMBERS).join(unit.as_str());
        write(&path, &member)?;
        let leads_out = about.leads_out() && !has_way_out;
        has_way_out |= leads_out;
        // Who comes from outside is better answered by a way that leads there.
        if leads_to.is_none() || leads_out {
            leads_to = Some(address);
        }
        let mut interface = interface(engine, &about, unit.as_str(), address);
        interface.name = format!("eth{index}");
        interface.hardware = wish.hardware.unwrap_or(interface.hardware);
        interface.gateway = interface.gateway.filter(|_| leads_out);
        joined.interfaces.push(interface);
    }
    files::refresh(engine, &wanted)?;
    Ok((joined, leads_to))
}

/// Leads what is no unit, and starts when all units of a network run, into that network, and gives by what it resolves
/// names, in files of this folder. Nothing is kept of it: there is one at a time in a network.
pub(super) fn visit(
    engine: &Embedded,
    name: &str,
    folder: &Path,
) -> Result<(sandbox::Network, sandbox::Names), EngineError> {
    let _held = engine.hold_networks()?;
    let about = read::<About>(&engine.network(name).join(ABOUT))?;
    let about = about.ok_or_else(|| refused(name, "it is not there"))?;
    let members = members(engine, name)?;
    let mut taken: BTreeSet<Ipv4Addr> = members.values().map(|member| member.address).collect();
    taken.insert(about.gateway);
    let range = about.range.unwrap_or(about.subnet);
    let address = pool::free_address(about.subnet, range, &taken)
        .ok_or_else(|| refused(name, "none of its addresses is free"))?;
    let own = OwnNetwork { interfaces: vec![interface(engine, &about, VISITOR, address)] };
    let network = sandbox::Network::Own(own);
    files::of_visitor(folder, &about, &members)?;
    let names = files::names(folder, &network, &Container::default())?;
    Ok((network, names))
}

/// What leads somebody into a network, and out of it where something does.
fn interface(engine: &Embedded, about: &About, who: &str, address: Ipv4Addr) -> sandbox::Interface {
    sandbox::Interface {
        name: "eth0".to_owned(),
        outside: engine.device("sv-", &format!("{} {who}", about.name)),
        bridge: about.bridge.clone(),
        hardware: sandbox::hardware_address(address),
        address,
        prefix: about.subnet.prefix,
        gateway: about.leads_out().then_some(about.gateway),
    }
}

/// Leads a unit that is about to start as it was into the networks that it was in.
pub(super) fn resume(engine: &Embedded, unit: &UnitId) -> Result<(), EngineError> {
    mark(engine, unit, true)
}

/// Tells the others in its networks that a unit does not run any more. Its addresses stay its own.
pub(super) fn pause(engine: &Embedded, unit: &UnitId) -> Result<(), EngineError> {
    mark(engine, unit, false)
}

/// Marks a unit as one that is there, or is not, in all its networks; they are made again where the machine forgot them.
fn mark(engine: &Embedded, unit: &UnitId, up: bool) -> Result<(), EngineError> {
    if !engine.networks().exists() {
        return Ok(());
    }
    let _held = engine.hold_networks()?;
    let networks = networks_of(engine, unit)?;
    for name in &networks {
        let folder = engine.network(name);
        if let Some(about) =
            read::<About>(&folder.join(ABOUT))?.filter(|about| up && !sandbox::is_up(&about.bridge))
        {
            raise(&about)?;
        }
        let path = folder.join(MEMBERS).join(unit.as_str());
        if let Some(member) = read::<Member>(&path)?.filter(|member| member.up != up) {
            write(&path, &Member { up, ..member })?;
        }
    }
    files::refresh(engine, &networks.iter().map(String::as_str).collect())
}

/// Takes a unit that goes out of its networks, and removes those that nobody is in any more.
pub(super) fn forget(engine: &Embedded, unit: &UnitId) -> Result<(), EngineError> {
    if !engine.networks().exists() {
        return Ok(());
    }
    let _held = engine.hold_networks()?;
    networks_of(engine, unit)?.iter().try_for_each(|name| leave(engine, unit, name))?;
    sweep(engine)
}

/// What a unit has of its networks, for as long as it is set aside.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Memberships(Vec<(About, Member)>);

/// What a unit has of its networks now.
pub(super) fn memberships(engine: &Embedded, unit: &UnitId) -> Result<Memberships, EngineError> {
    if !engine.networks().exists() {
        return Ok(Memberships::default());
    }
    let _held = engine.hold_networks()?;
    let mut found = Vec::new();
    for name in networks_of(engine, unit)? {
        let folder = engine.network(&name);
        let member = read::<Member>(&folder.join(MEMBERS).join(unit.as_str()))?;
        if let (Some(about), Some(member)) = (read::<About>(&folder.join(ABOUT))?, member) {
            found.push((about, Member { up: false, ..member }));
        }
    }
    Ok(Memberships(found))
}

/// Gives a unit what it had of its networks, and no more.
pub(super) fn give_back(engine: &Embedded, unit: &UnitId, had: Memberships) -> Result<(), EngineError> {
    if had.0.is_empty() {
        return forget(engine, unit);
    }
    let _held = engine.hold_networks()?;
    let names: BTreeSet<&str> = had.0.iter().map(|(about, _)| about.name.as_str()).collect();
    for name in networks_of(engine, unit)?.iter().filter(|name| !names.contains(name.as_str())) {
        leave(engine, unit, name)?;
    }
    for (about, member) in &had.0 {
        let others = members(engine, &about.name)?;
        let taken = |(id, other): (&String, &Member)| other.address == member.address && id != unit.as_str();
        if others.iter().any(taken) {
            let why = format!("the address {} that it had is another unit's by now", member.address);
            return Err(refused(&about.name, why));
        }
        let folder = engine.network(&about.name);
        if read::<About>(&folder.join(ABOUT))?.is_none() {
            write(&folder.join(ABOUT), about)?;
        }
        write(&folder.join(MEMBERS).join(unit.as_str()), member)?;
    }
    files::refresh(engine, &names)
}

/// Says whether the networks of others that a unit is to be in are there.
pub(super) fn check_external(engine: &Embedded, spec: &UnitSpec) -> Result<(), EngineError> {
    let is_missing = |name: &&str| !engine.network(name).join(ABOUT).is_file();
    match spec.networks.iter().filter(|network| network.external).map(|of| of.name.as_str()).find(is_missing)
    {
        None => Ok(()),
        Some(name) => Err(refused(name, "it is declared as external, and is not there")),
    }
}

/// Says which unit has a port that is in use, where it is one of ours.
pub(super) fn with_owner(engine: &Embedded, error: EngineError) -> EngineError {
    ports::with_owner(error, |number| {
        engine.units().unwrap_or_default().into_iter().find_map(|(id, labels)| {
            let file = engine.unit_file(&id).ok().flatten().filter(|_| engine.running(&id).is_ok());
            let has =
                file.is_some_and(|file| file.container.ports.iter().any(|port| port.host == Some(number)));
            has.then_some(labels)
        })
    })
}

/// Why a network cannot be had.
fn refused(network: &str, why: impl Into<String>) -> EngineError {
    EngineError::Network { network: network.to_owned(), why: why.into() }
}

/// Sees to it that a network is there, and gives what is known of it.
fn ensure(engine: &Embedded, unit: &UnitId, wish: &Wish) -> Result<About, EngineError> {
    let name = &wish.network.name;
    let path = engine.network(name).join(ABOUT);
    let mut known = read::<About>(&path)?;
    if let Some(about) = known.take_if(|about| !is_as_declared(about, wish)) {
        let others = members(engine, name)?;
        if let Some((other, _)) = others.iter().find(|(id, of)| of.up && *id != unit.as_str()) {
            let why =
                format!("it was made with other settings, and {other} runs in it; stop its units first");
            return Err(refused(name, why));
        }
        take_down(&about)?;
    }
    if let Some(about) = known.as_ref().filter(|about| sandbox::is_up(&about.bridge)) {
        return Ok(about.clone());
    }
    if known.is_none() && wish.network.external {
        return Err(refused(name, "it is declared as external, and is not there"));
    }
    // What a start left that was killed, or what the machine was before it started anew.
    known.as_ref().map_or(Ok(()), take_down)?;
    let bridge = engine.device("sp-", name);
    sandbox::remove_device(&bridge)?;
    let taken = taken(engine, name)?;
    // The machine may have started anew, in other networks.
    let known = known.filter(|about| !taken.iter().any(|other| about.subnet.overlaps(*other)));
    let about = known.map_or_else(|| make(wish, bridge, &taken), Ok)?;
    write(&path, &about)?;
    raise(&about)?;
    Ok(about)
}

/// Makes a network's bridge, and its way out.
fn raise(about: &About) -> Result<(), EngineError> {
    match way_out::open(&about.bridge, about.subnet, about.internal) {
        // Nothing leads out of it without rules either.
        Err(_) if about.internal => {}
        opened => opened.map_err(|why| refused(&about.name, why))?,
    }
    Ok(sandbox::make_bridge(&sandbox::Bridge {
        name: about.bridge.clone(),
        address: about.gateway,
        prefix: about.subnet.prefix,
        mtu: about.mtu,
    })?)
}

/// Whether a network is what is declared of it now. Nothing is declared of one of others.
fn is_as_declared(about: &About, wish: &Wish) -> bool {
    let same = |declared: Option<Subnet>, has: Subnet| declared.is_none_or(|declared| declared == has);
    wish.network.external
        || (about.internal == wish.network.internal
            && about.mtu == wish.mtu
            && about.range == wish.range
            && same(wish.subnet, about.subnet)
            && wish.gateway.is_none_or(|declared| declared == about.gateway))
}

/// What a new network is.
fn make(wish: &Wish, bridge: String, taken: &[Subnet]) -> Result<About, EngineError> {
    let network = &wish.network;
    let subnet = match wish.subnet {
        None => pool::free(&network.name, taken).ok_or_else(|| {
            refused(&network.name, "the host has ways to all private addresses; declare a `subnet` for it")
        })?,
        Some(subnet) => match taken.iter().find(|other| subnet.overlaps(**other)) {
            None => subnet,
            Some(other) => {
                let why = format!(
                    "its addresses {subnet} are partly the host's own or another network's ({other})"
                );
                return Err(refused(&network.name, why));
            }
        },
    };
    Ok(About {
        version: 1,
        name: network.name.clone(),
        bridge,
        subnet,
        gateway: wish.gateway.unwrap_or_else(|| pool::first(subnet)),
        range: wish.range,
        internal: network.internal,
        mtu: wish.mtu,
    })
}

/// The ranges that another network than this one has.
fn taken(engine: &Embedded, name: &str) -> Result<Vec<Subnet>, EngineError> {
    let mut taken = sandbox::known_subnets()?;
    for other in entries(&engine.networks())?.iter().filter(|other| *other != name) {
        taken.extend(read::<About>(&engine.network(other).join(ABOUT))?.map(|about| about.subnet));
    }
    Ok(taken)
}

/// The address of a unit in a network: as it is declared, else the one that it had, else one that nobody has.
fn address_of(engine: &Embedded, unit: &UnitId, wish: &Wish, about: &About) -> Result<Ipv4Addr, EngineError> {
    let mut members = members(engine, &about.name)?;
    let had = members.remove(unit.as_str()).map(|member| member.address);
    let mut taken: BTreeSet<Ipv4Addr> = members.values().map(|member| member.address).collect();
    taken.insert(about.gateway);
    let Some(declared) = wish.address else {
        let kept = had.filter(|had| about.subnet.contains(*had) && !taken.contains(had));
        let free = || pool::free_address(about.subnet, about.range.unwrap_or(about.subnet), &taken);
        return kept.or_else(free).ok_or_else(|| refused(&about.name, "none of its addresses is free"));
    };
    if !about.subnet.contains(declared) {
        let why = format!("the address {declared} is not one of its addresses, {}", about.subnet);
        return Err(refused(&about.name, why));
    }
    if taken.contains(&declared) {
        let by = members.iter().find(|(_, member)| member.address == declared);
        let by = by.map_or("the host", |(unit, _)| unit.as_str());
        return Err(refused(&about.name, format!("the address {declared} is that of {by}")));
    }
    Ok(declared)
}

/// Takes a unit out of a network.
fn leave(engine: &Embedded, unit: &UnitId, name: &str) -> Result<(), EngineError> {
    let path = engine.network(name).join(MEMBERS).join(unit.as_str());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(EngineError::io("remove", &path)(error))
        }
        _ => files::refresh(engine, &BTreeSet::from([name])),
    }
}

/// Removes the networks that nobody is in, also those that a start or a removal left that was killed.
fn sweep(engine: &Embedded) -> Result<(), EngineError> {
    for name in entries(&engine.networks())? {
        let folder = engine.network(&name);
        if !members(engine, &name)?.is_empty() {
            continue;
        }
        // One whose record is damaged goes too: its device has a name of its own.
        match read::<About>(&folder.join(ABOUT)) {
            Ok(Some(about)) => take_down(&about)?,
            _ => sandbox::remove_device(&engine.device("sp-", &name))?,
        }
        remove_tree(&folder)?;
    }
    Ok(())
}

/// Removes what the machine has of a network.
fn take_down(about: &About) -> Result<(), EngineError> {
    sandbox::remove_device(&about.bridge)?;
    way_out::close(&about.bridge, about.subnet, about.internal);
    Ok(())
}

/// The networks that a unit is in.
fn networks_of(engine: &Embedded, unit: &UnitId) -> Result<Vec<String>, EngineError> {
    let mut all = entries(&engine.networks())?;
    all.retain(|name| engine.network(name).join(MEMBERS).join(unit.as_str()).is_file());
    Ok(all)
}

/// The units in a network, by their ids.
fn members(engine: &Embedded, network: &str) -> Result<BTreeMap<String, Member>, EngineError> {
    let folder = engine.network(network).join(MEMBERS);
    let mut found = BTreeMap::new();
    for unit in entries(&folder)? {
        if let Some(member) = read(&folder.join(&unit))? {
            found.insert(unit, member);
        }
    }
    Ok(found)
}
