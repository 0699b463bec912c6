//! What engines can do: their differences, as data.

use crate::fingerprint::Class;
use crate::manifest::Env;

/// What an engine can change, and at what cost. The difference between engines is this data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The engine's name, as in the manifest.
    pub engine: &'static str,
    /// What a change of mounts, the workspace, `host_paths` or the network costs.
    pub mounts: Class,
    /// What a change of limits costs.
    pub limits: Class,
    /// Whose published ports are held by a process of our own.
    pub holds_ports: HoldsPorts,
    /// What a change of the container's other settings costs.
    pub container: Class,
    /// Whether a unit can have a network of its own that leads out.
    pub private_network: bool,
    /// Whether copies of volumes take no room of their own, where the file system can do that.
    pub copies_share_blocks: bool,
}

/// Whose published ports a process of our own holds, so that they outlive what they lead to; the engine publishes the
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldsPorts {
    /// Everybody's.
    All,
    /// Those of services that the manifest declares. What a compose file or a devcontainer.json describes is published
    /// as their own tools do it, which look for it there.
    OfServices,
    /// Nobody's.
    None,
}

impl Capabilities {
    /// Whether a unit's published ports are held by a process of our own.
    #[must_use]
    pub fn holds_ports(&self, env: &Env) -> bool {
        match self.holds_ports {
            HoldsPorts::All => true,
            HoldsPorts::OfServices => {
                env.service.as_ref().is_some_and(|service| !service.of_compose) && env.devcontainer.is_none()
            }
            HoldsPorts::None => false,
        }
    }

    /// What a change of a unit's ports costs: what is published by the engine is part of the container.
    pub(crate) fn ports(&self, env: &Env) -> Class {
        if self.holds_ports(env) { Class::Hot } else { self.container }
    }
}

#[cfg(test)]
impl Capabilities {
    /// Those of an engine of tests, where published ports are held of these.
    pub(crate) fn holding(holds_ports: HoldsPorts) -> Self {
        Self {
            engine: "some",
            mounts: Class::Recreate,
            limits: Class::Hot,
            holds_ports,
            container: Class::Recreate,
            private_network: true,
            copies_share_blocks: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Layer, parse};
    use crate::names::UnitName;

    #[test]
    fn ports_that_are_held_cost_nothing_and_those_of_the_engine_are_the_containers() {
        let text = "setpoint = 1\n[env.dev]\nimage = \"a\"\n[service.web]\nimage = \"a\"\n";
        let manifest = parse(&[Layer { name: "setpoint.toml", text }], "shop").unwrap();
        let unit = |name: &str| manifest.envs[&UnitName::new(name).unwrap()].clone();
        let (dev, web) = (unit("dev"), unit("web"));
        let mut of_compose = web.clone();
        of_compose.service.as_mut().unwrap().of_compose = true;
        for (holds_ports, held) in [
            (HoldsPorts::All, [true, true, true]),
            (HoldsPorts::OfServices, [false, true, false]),
            (HoldsPorts::None, [false, false, false]),
        ] {
            let capabilities = Capabilities::holding(holds_ports);
            let all = [&dev, &web, &of_compose];
            assert_eq!(all.map(|env| capabilities.holds_ports(env)), held, "{holds_ports:?}");
            let classes = held.map(|held| if held { Class::Hot } else { Class::Recreate });
            assert_eq!(all.map(|env| capabilities.ports(env)), classes, "{holds_ports:?}");
        }
    }
}
