//! What is ours beside a container: the process that holds its published ports, and the one that asks whether it is well.
//! The container's label says what there is as it was made, a file in the state as it is by now.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, PortBinding};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use setpoint_model::capabilities::HoldsPorts;
use setpoint_model::container::{Health as Check, PublishedPort};
use setpoint_sandbox as sandbox;

use super::asking::{self, Reach, Sight, Way};
use super::{Docker, is_running, labels, says, spec, state};
use crate::cancel::Cancel;
use crate::engine::{Engine as _, EngineError, Health, UnitId, UnitSpec, checks, kept, ports};
use crate::paths::make_private_folder;

/// Where the state keeps it, in a folder for each unit.
const BESIDE: &str = "beside/v1";
const FILE: &str = "beside.json";

/// What is ours beside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beside {
    /// Whether its published ports are held, which is said when it is made; else they are the engine's.
    holds_ports: bool,
    /// Those that are held.
    ports: Vec<PublishedPort>,
    /// The check that asks it, if one does, and what network it has.
    check: Option<Check>,
    is_on_host: bool,
    /// Whether somebody starts it again when it ends.
    comes_back: bool,
    /// Which process the ports lead to and the check asks, as far as this was seen to.
    #[serde(default)]
    of: Option<sandbox::Running>,
}

impl Beside {
    /// What a unit is to have, whose ports are held or not; nothing if all is the engine's own.
    pub(super) fn of(spec: &UnitSpec, holds_ports: bool) -> Option<Self> {
        let check = spec.container.health.clone().filter(Check::asks);
        (holds_ports || check.is_some()).then(|| Self {
            holds_ports,
            ports: if holds_ports { spec.container.ports.clone() } else { Vec::new() },
            check,
            is_on_host: Reach::of(spec) == Reach::Host,
            comes_back: spec.comes_back,
            of: None,
        })
    }

    fn ports_to(&self, to: Ipv4Addr) -> Vec<sandbox::Port> {
        ports::leading_to(to, &self.ports, self.check.as_ref())
    }

    /// That its ports lead to this process of a container.
    fn lead(&self, running: &sandbox::Running, found: &ContainerInspectResponse) -> sandbox::Lead {
        // What the engine's own check says is told by whoever keeps the unit.
        let is_told = self.comes_back && engine_says(found).is_some();
        sandbox::Lead {
            running: running.clone(),
            listens: true,
            is_checked: self.check.is_some() || is_told,
            comes_back: self.comes_back,
            stands_in: false,
        }
    }
}

impl Docker {
    /// Whose ports are held: where the containers' addresses are reached from here, and any port may be taken.
    pub(super) fn holds_ports(&self) -> HoldsPorts {
        let listener = self.connected().ok().and_then(|connected| connected.is_here());
        let leads_there =
            listener.is_some_and(|listens| listens.user == 0 && sandbox::shares_network(listens.process));
        if geteuid().is_root() && leads_there { HoldsPorts::OfServices } else { HoldsPorts::None }
    }

    fn sight(&self) -> Result<Sight, EngineError> {
        let (listener, own) = (self.connected()?.is_here(), geteuid());
        Ok(Sight {
            is_here: listener.is_some(),
            may_enter: own.is_root() || listener.is_some_and(|listens| listens.user == own.as_raw()),
            shares_network: listener.is_some_and(|listens| sandbox::shares_network(listens.process)),
        })
    }

    /// Says of what would be ours beside a container why it cannot be.
    pub(super) fn check_beside(&self, spec: &UnitSpec) -> Result<(), EngineError> {
        for port in spec.container.ports.iter().filter(|_| spec.holds_ports) {
            ports::check(port).map_err(|(what, hint)| self.unsupported(what, &hint))?;
        }
        if !spec.container.health.as_ref().is_some_and(Check::asks) {
            return Ok(());
        }
        self.way(Reach::of(spec)).map(drop)
    }

    fn way(&self, reach: Reach) -> Result<Way, EngineError> {
        let refused = |(why, hint)| self.unsupported(format!("a health check by HTTP or TCP {why}"), hint);
        asking::way(self.sight()?, reach).map_err(refused)
    }

    fn beside_folder(&self, unit: &UnitId) -> PathBuf {
        self.roots.state.join(BESIDE).join(unit.as_str())
    }

    /// What is ours beside a container that is there.
    pub(super) fn beside(
        &self,
        unit: &UnitId,
        found: &ContainerInspectResponse,
    ) -> Result<Option<Beside>, EngineError> {
        if let Some(known) = kept::read(&self.beside_folder(unit).join(FILE))? {
            return Ok(Some(known));
        }
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
        let made = labels.and_then(|labels| labels.get(labels::BESIDE));
        Ok(made.and_then(|made| serde_json::from_str(made).ok()))
    }

    /// What there is to be beside a container that is about to start as this says.
    pub(super) fn declared_beside(
        &self,
        unit: &UnitId,
        spec: &UnitSpec,
    ) -> Result<Option<Beside>, EngineError> {
        // Whoever made it decided whether the engine has to publish its ports.
        let made = self.beside(unit, &self.known(unit)?)?;
        Ok(Beside::of(spec, made.is_some_and(|made| made.holds_ports)))
    }

    /// Starts a container. A port that is not to be had is found before anything runs.
    pub(super) fn launch(
        &self,
        unit: &UnitId,
        beside: Option<Beside>,
        is_withheld: bool,
        start: impl FnOnce() -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let Some(mut beside) = beside else { return start() };
        beside.of = None;
        self.keep_beside(unit, &beside)?;
        let claim = match is_withheld {
            true => None,
            false => self.take(unit, &beside.ports_to(Ipv4Addr::UNSPECIFIED))?,
        };
        start()?;
        let found = self.known(unit)?;
        let stands = match is_running(&found) {
            true => self.stand_by(unit, beside, &found, is_withheld),
            false => Ok(()),
        };
        drop(claim);
        stands.inspect_err(|_| {
            // What cannot be started as it is declared does not run.
            let _ = self.stop(unit, Duration::ZERO, &Cancel::default());
        })
    }

    fn take(&self, unit: &UnitId, wanted: &[sandbox::Port]) -> Result<Option<sandbox::Claim>, EngineError> {
        ports::take(&self.roots, unit, wanted).map_err(|error| {
            ports::with_owner(error, |number| {
                self.units().unwrap_or_default().into_iter().find_map(|(id, labels)| {
                    let has = |beside: &Beside| beside.ports.iter().any(|port| port.host == Some(number));
                    let known = self.inspect(&id).ok().flatten().filter(is_running)?;
                    self.beside(&id, &known).ok().flatten().filter(has).map(|_| labels)
                })
            })
        })
    }

    fn keep_beside(&self, unit: &UnitId, beside: &Beside) -> Result<(), EngineError> {
        kept::write(&self.make_beside_folder(unit)?.join(FILE), beside)
    }

    fn make_beside_folder(&self, unit: &UnitId) -> Result<PathBuf, EngineError> {
        let folder = self.beside_folder(unit);
        make_private_folder(&folder).map_err(EngineError::io("make", &folder))?;
        Ok(folder)
    }

    /// Has a container that runs asked, and its ports led there.
    fn stand_by(
        &self,
        unit: &UnitId,
        mut beside: Beside,
        found: &ContainerInspectResponse,
        is_withheld: bool,
    ) -> Result<(), EngineError> {
        let Some(running) = self.process_of(found)? else { return Ok(()) };
        let folder = self.make_beside_folder(unit)?;
        if let Some((ask, check)) = asked_by(&beside)
            && sandbox::checker(&folder, &running).is_none()
        {
            let check = checks::check(sandbox::Test::Ask(ask), check);
            let begun = sandbox::begin_checks(&check, &self.asked_from(&beside, found)?, &running, &folder);
            // One that has ended meanwhile is not asked.
            begun.or_else(|error| sandbox::watch(&running).map_or(Ok(()), |_| Err(error)))?;
        }
        self.tell_health(unit, &beside, &running, found)?;
        if !beside.ports.is_empty()
            && !is_withheld
            && let Some(claim) = self.take(unit, &beside.ports_to(self.address(found)?))?
        {
            claim.lead(&beside.lead(&running, found), &folder)?;
        }
        beside.of = Some(running);
        self.keep_beside(unit, &beside)
    }

    /// Tells what holds the ports of a container what the engine's own check says of it.
    fn tell_health(
        &self,
        unit: &UnitId,
        beside: &Beside,
        running: &sandbox::Running,
        found: &ContainerInspectResponse,
    ) -> Result<(), EngineError> {
        match (engine_says(found), beside.ports.is_empty(), &beside.check) {
            (Some(says), false, None) => {
                Ok(sandbox::tell_health(&self.make_beside_folder(unit)?, running, says)?)
            }
            _ => Ok(()),
        }
    }

    /// The address of a container that ports can lead to.
    fn address(&self, found: &ContainerInspectResponse) -> Result<Ipv4Addr, EngineError> {
        let of_version_4 = addresses(found).find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let what = "publishing ports of a container without an address of version 4";
        of_version_4.ok_or_else(|| self.unsupported(what, "take `ports` out"))
    }

    /// The first process of a container; nothing if that has ended by now.
    fn process_of(&self, found: &ContainerInspectResponse) -> Result<Option<sandbox::Running>, EngineError> {
        let number = found.state.as_ref().and_then(|state| state.pid).and_then(|pid| i32::try_from(pid).ok());
        let Some(listens) = self.connected()?.is_here() else { return Ok(None) };
        let number = number.filter(|number| *number > 0);
        Ok(number.and_then(|number| sandbox::process_of(listens.process, number).ok()))
    }

    /// From where a container is asked.
    fn asked_from(
        &self,
        beside: &Beside,
        found: &ContainerInspectResponse,
    ) -> Result<sandbox::AskFrom, EngineError> {
        let reach = if beside.is_on_host { Reach::Host } else { Reach::Bridges };
        Ok(match self.way(reach)? {
            Way::Inside => sandbox::AskFrom::Inside(addresses(found).collect()),
            Way::Across => sandbox::AskFrom::Here(addresses(found).collect()),
            Way::Loopback => sandbox::AskFrom::Here(sandbox::LOOPBACK.to_vec()),
        })
    }

    /// Asks who listens in a container, once.
    pub(super) fn ask_once(
        &self,
        unit: &UnitId,
        question: sandbox::Ask,
        at_most: Duration,
    ) -> Result<Result<(), String>, EngineError> {
        let found = self.known(unit)?;
        let mode = found.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
        let reach = if mode == Some("host") { Reach::Host } else { Reach::Bridges };
        let addresses: Vec<IpAddr> = match self.way(reach)? {
            Way::Inside => {
                let running = self.process_of(&found)?.ok_or_else(|| state(unit, "is not running"))?;
                return Ok(sandbox::ask_inside(&running, question, at_most)?);
            }
            Way::Across => addresses(&found).collect(),
            Way::Loopback => sandbox::LOOPBACK.to_vec(),
        };
        Ok(sandbox::ask_from_here(&question, &addresses, at_most))
    }

    /// Whether a unit is asked by us.
    pub(super) fn is_asked(&self, unit: &UnitId) -> Result<bool, EngineError> {
        let known = kept::read::<Beside>(&self.beside_folder(unit).join(FILE))?;
        Ok(known.is_some_and(|beside| beside.check.is_some()))
    }

    /// What our check says of a container, if one of ours asks it.
    pub(super) fn asked(
        &self,
        unit: &UnitId,
        found: &ContainerInspectResponse,
    ) -> Result<Option<(Option<Health>, Option<String>)>, EngineError> {
        let Some(beside) = self.beside(unit, found)?.filter(|beside| beside.check.is_some()) else {
            return Ok(None);
        };
        if !is_running(found) {
            return Ok(Some((None, None)));
        }
        let running = self.process_of(found)?;
        let seen = running.filter(|running| beside.of.as_ref().is_some_and(|of| of.is_same(running)));
        let seen = seen.and_then(|running| sandbox::health(&self.beside_folder(unit), &running));
        let status = seen.as_ref().map_or(Health::Starting, |seen| checks::says(seen.status));
        Ok(Some((Some(status), seen.map(|seen| seen.said))))
    }

    /// Leads what comes to the ports of a container that runs to it, if they are ours to publish.
    pub(super) fn lead(&self, unit: &UnitId) -> Result<(), EngineError> {
        let Some(found) = self.inspect(unit)?.filter(is_running) else { return Ok(()) };
        match self.beside(unit, &found)? {
            Some(beside) => self.stand_by(unit, beside, &found, false),
            None => Ok(()),
        }
    }

    /// Leads what comes to the ports of a container to another one, which has the same.
    pub(super) fn lend_to(&self, unit: &UnitId, to: &UnitId) -> Result<(), EngineError> {
        let found = self.inspect(to)?.filter(is_running).ok_or_else(|| state(to, "is not running"))?;
        let running = self.process_of(&found)?.ok_or_else(|| state(to, "is not running"))?;
        let beside = self.beside(to, &found)?.ok_or_else(|| state(to, "publishes no ports"))?;
        let claim = self.take(unit, &beside.ports_to(self.address(&found)?))?;
        let claim = claim.ok_or_else(|| state(to, "publishes no ports"))?;
        let lead = ports::standing_in(beside.lead(&running, &found));
        Ok(claim.lead(&lead, &self.make_beside_folder(to)?)?)
    }

    /// Sets what is kept of what is ours beside a container aside with it, or puts it back.
    pub(super) fn move_beside(&self, from: &UnitId, to: &UnitId) -> Result<(), EngineError> {
        let (from, to) = (self.beside_folder(from), self.beside_folder(to));
        if !from.exists() {
            return Ok(());
        }
        kept::remove(&to)?;
        std::fs::rename(&from, &to).map_err(EngineError::io("move", &from))
    }

    /// Publishes the ports that are declared now of a container that runs, if they are ours to publish.
    pub(super) fn set_published(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        let found = self.known(unit)?;
        let Some(mut beside) = self.beside(unit, &found)?.filter(|beside| beside.holds_ports) else {
            let published = found.host_config.and_then(|host| host.port_bindings);
            if !spec.holds_ports || bound(published) == bound(spec::ports(&spec.container)) {
                return Ok(());
            }
            return Err(self.unsupported(
                "changing the ports of a container that was made when the engine published them",
                "`setpoint up --recreate`",
            ));
        };
        if beside.ports == spec.container.ports {
            return Ok(());
        }
        beside.ports.clone_from(&spec.container.ports);
        if beside.ports.is_empty() {
            self.take(unit, &[])?;
        }
        self.stand_by(unit, beside, &found, false)
    }

    /// Sees to it that what is ours beside a container that runs is there, and about this run of it.
    pub(super) fn tend_beside(&self, unit: &UnitId) -> Result<Vec<OwnedFd>, EngineError> {
        let Some(found) = self.inspect(unit)?.filter(is_running) else { return Ok(Vec::new()) };
        let Some(beside) = self.beside(unit, &found)? else { return Ok(Vec::new()) };
        let Some(running) = self.process_of(&found)? else { return Ok(Vec::new()) };
        self.tell_health(unit, &beside, &running, &found)?;
        let all = beside.check.iter().len() + usize::from(!beside.ports.is_empty());
        let watches = || -> Vec<OwnedFd> {
            let checker = sandbox::checker(&self.beside_folder(unit), &running);
            checker.into_iter().chain(ports::holder(&self.roots, unit).watch()).collect()
        };
        let known = watches();
        if known.len() == all && beside.of.as_ref().is_some_and(|of| of.is_same(&running)) {
            return Ok(known);
        }
        self.stand_by(unit, beside, &found, false)?;
        Ok(watches())
    }

    /// Ends what is ours beside a container that is about to go, or has gone.
    pub(super) fn forget_beside(&self, unit: &UnitId) -> Result<(), EngineError> {
        ports::holder(&self.roots, unit).end()?;
        self.forget_kept_beside(unit)
    }

    /// Removes what is kept of what was ours beside a container.
    pub(super) fn forget_kept_beside(&self, unit: &UnitId) -> Result<(), EngineError> {
        kept::remove(&self.beside_folder(unit))
    }
}

/// What the engine's own check says of a container, if it has one.
fn engine_says(found: &ContainerInspectResponse) -> Option<sandbox::Status> {
    Some(match says(found.state.as_ref()?.health.as_ref()?.status?)? {
        Health::Starting => sandbox::Status::Starting,
        Health::Healthy => sandbox::Status::Healthy,
        Health::Unhealthy => sandbox::Status::Unhealthy,
    })
}

fn asked_by(beside: &Beside) -> Option<(sandbox::Ask, &Check)> {
    let check = beside.check.as_ref()?;
    Some((checks::asks(check.test.as_ref()?)?, check))
}

/// The addresses of a container in its networks.
fn addresses(found: &ContainerInspectResponse) -> impl Iterator<Item = IpAddr> {
    let networks = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let all = networks.into_iter().flat_map(|networks| networks.values());
    all.flat_map(|network| [&network.ip_address, &network.global_ipv6_address])
        .filter_map(|address| address.as_ref()?.parse().ok())
}

/// Ports that an engine publishes, as they can be compared.
fn bound(ports: Option<HashMap<String, Option<Vec<PortBinding>>>>) -> BTreeSet<(String, String, String)> {
    let every = |address: Option<String>| address.filter(|text| text != "0.0.0.0").unwrap_or_default();
    let of_port = |(port, bindings): (String, Option<Vec<PortBinding>>)| {
        bindings
            .unwrap_or_default()
            .into_iter()
            .map(move |binding| (port.clone(), every(binding.host_ip), binding.host_port.unwrap_or_default()))
    };
    ports.unwrap_or_default().into_iter().flat_map(of_port).collect()
}
