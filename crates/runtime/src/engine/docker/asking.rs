//! From where a container can be asked over its network whether it is well.

use setpoint_model::container::NetworkMode;
use setpoint_model::manifest::Network;

use crate::engine::UnitSpec;

/// What the caller and the engine are to each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// Whether the containers' processes are processes of this machine.
    pub(super) is_here: bool,
    /// Whether the caller may enter their namespaces: he is root, or the engine is his own.
    pub(super) may_enter: bool,
    /// Whether the engine is in the caller's network, so that its bridges are there too.
    pub(super) shares_network: bool,
}

/// From where a container is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From its own network.
    Inside,
    /// From here, on its addresses.
    Across,
    /// From here, whose network it has.
    Loopback,
}

/// The way to a container.
///
/// # Errors
/// Why there is none, and what to do instead.
pub(super) fn way(sight: Sight, network: Reach) -> Result<Way, (&'static str, &'static str)> {
    const EXEC: &str = "use `exec`, with a program of the image";
    const ROOT: &str = "run setpoint as root, or use `exec`, with a program of the image";
    if !sight.is_here {
        return Err(("of what runs on another machine, or a virtual one", EXEC));
    }
    match network {
        _ if sight.may_enter => Ok(Way::Inside),
        Reach::Host if sight.shares_network => Ok(Way::Loopback),
        Reach::Bridges if sight.shares_network => Ok(Way::Across),
        _ => Err(("of what cannot be reached from here without the rights of root", ROOT)),
    }
}

/// What network a container has, as far as it matters from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The host's.
    Host,
    /// The engine's bridges.
    Bridges,
    /// None, another container's, or one that leads elsewhere.
    Elsewhere,
}

impl Reach {
    /// That of a unit.
    pub(super) fn of(spec: &UnitSpec) -> Self {
        let is_bridge = |name: &String| {
            let declared = spec.networks.iter().find(|network| network.name == *name);
            declared.is_some_and(|network| {
                !network.external && network.driver.as_ref().is_none_or(|driver| driver == "bridge")
            })
        };
        match (&spec.container.network, spec.network) {
            (Some(NetworkMode::Host), _) | (None, Network::Host) => Self::Host,
            (None, Network::Private) => Self::Bridges,
            (Some(NetworkMode::Networks(networks)), _) if networks.keys().all(is_bridge) => Self::Bridges,
            _ => Self::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_enter_asks_inside_and_others_where_they_reach_it() {
        let sight = |is_here, may_enter, shares_network| Sight { is_here, may_enter, shares_network };
        let all = [Reach::Host, Reach::Bridges, Reach::Elsewhere];
        for (sight, expected) in [
            (sight(true, true, false), [Some(Way::Inside); 3]),
            (sight(true, true, true), [Some(Way::Inside); 3]),
            (sight(true, false, true), [Some(Way::Loopback), Some(Way::Across), None]),
            (sight(true, false, false), [None; 3]),
            (sight(false, true, true), [None; 3]),
        ] {
            assert_eq!(all.map(|reach| way(sight, reach).ok()), expected, "{sight:?}");
        }
    }
}
