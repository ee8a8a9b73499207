//! What is done to a network, and how it is done.
#![forbid(unsafe_code)]

use super::{Net, Router, Stuck};
use crate::config::Config;
use crate::port::memory::LinkState;
use crate::sim::link::{End, Impairment, LinkId};
use crate::sim::node::{Node, Part};
use crate::sim::site::Power;

/// Something that is done to the network. What needs the control part of a router that stands still
/// waits for it, and is forgotten with it if the router stops.
#[derive(Clone, Debug)]
pub enum Action {
    /// A router's leg flaps are forgiven.
    ClearDamping {
        /// Which router.
        node: usize,
    },
    /// A site is drained at one router, or taken back.
    Drain {
        /// Which router.
        node: usize,
        /// The site's name there.
        site: String,
        /// Whether it takes no new flows from now on.
        drained: bool,
    },
    /// A link does something else to packets than before.
    Impair {
        /// Which link.
        link: LinkId,
        /// What it does from now on.
        impairment: Impairment,
    },
    /// A link changes.
    Link {
        /// Which link.
        link: LinkId,
        /// How it is from now on.
        state: LinkState,
    },
    /// A router is told of the carrier of a port.
    News {
        /// Which router.
        node: usize,
        /// The port's name.
        port: String,
        /// Whether there is carrier.
        up: bool,
    },
    /// A site, or its server, dies or comes back.
    Power {
        /// Which site.
        site: usize,
        /// What works from now on.
        power: Power,
    },
    /// A router is given another configuration.
    Reload {
        /// Which router.
        node: usize,
        /// The configuration.
        config: Box<Config>,
    },
    /// A part of a router stands still, or goes on.
    Stall {
        /// Which router.
        node: usize,
        /// Which part.
        part: Part,
        /// Whether it stands still from now on.
        stalled: bool,
    },
    /// A router that was stopped starts, with the configuration it was given last.
    Start {
        /// Which router.
        node: usize,
    },
    /// A router is killed. Its neighbours' links keep their carrier; what comes to it is lost.
    Stop {
        /// Which router.
        node: usize,
    },
}

impl Net {
    pub(super) fn act(&mut self) -> Result<(), Stuck> {
        while let Some(entry) = self.agenda.first_entry().filter(|e| e.key().0 <= self.now) {
            let action = entry.remove();
            self.perform(action)?;
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), Stuck> {
        match action {
            Action::Link { link, state } => self.set_link(link, state),
            Action::Impair { link, impairment } => self.links[link.0].impairment = impairment,
            Action::Power { site, power } => self.sites[site].power = power,
            Action::Start { node } => return self.start(node),
            Action::Stop { node } => self.stop(node),
            Action::Stall { node, part, stalled } => return self.stall(node, part, stalled),
            Action::News { node, port, up } => {
                if self.routers[node].running {
                    let now = self.now;
                    self.wake(node).set_carrier(now, &port, up);
                }
            }
            Action::ClearDamping { node }
            | Action::Drain { node, .. }
            | Action::Reload { node, .. } => return self.control(node, action),
        }
        Ok(())
    }

    /// What the control part of a router is asked for.
    fn control(&mut self, node: usize, action: Action) -> Result<(), Stuck> {
        let (now, router) = (self.now, &mut self.routers[node]);
        if let Action::Reload { config, .. } = &action {
            router.config = (**config).clone();
        }
        if !router.running {
            return Ok(());
        }
        if router.node.stalls(Part::Control) {
            router.postponed.push(action);
            return Ok(());
        }
        let node = self.wake(node);
        match action {
            Action::ClearDamping { .. } => node.clear_damping(now),
            Action::Drain { site, drained, .. } => drop(node.drain(now, &site, drained)),
            Action::Reload { config, .. } => {
                node.apply(now, *config).map_err(|error| Stuck::Reload { now, error })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn stall(&mut self, index: usize, part: Part, stalled: bool) -> Result<(), Stuck> {
        let now = self.now;
        self.wake(index).stall(now, part, stalled);
        if part == Part::Worker || stalled {
            return Ok(());
        }
        let postponed = std::mem::take(&mut self.routers[index].postponed);
        postponed.into_iter().try_for_each(|action| self.control(index, action))
    }

    fn stop(&mut self, node: usize) {
        self.awake.remove(&node);
        let router = &mut self.routers[node];
        (router.running, router.timer) = (false, None);
        router.postponed.clear();
    }

    /// As a process that begins: it knows nothing, and reads the state of its ports.
    fn start(&mut self, index: usize) -> Result<(), Stuck> {
        if self.routers[index].running {
            return Ok(());
        }
        let (now, config) = (self.now, self.routers[index].config.clone());
        let node = Node::new(now, config.clone(), self.rng.next_u64())
            .map_err(|error| Stuck::Reload { now, error })?;
        self.routers[index] = Router::new(node, config);
        let down = |link: &super::Link| link.state == LinkState::Down;
        let ends = self.links.iter().filter(|link| down(link)).flat_map(|link| link.ends.clone());
        for end in ends.collect::<Vec<_>>() {
            if let End::Node(node, port) = end
                && node == index
            {
                self.routers[index].node.set_wire(&port, false);
                self.routers[index].node.set_carrier(now, &port, false);
            }
        }
        self.awake.insert(index);
        Ok(())
    }

    /// A router that has to be stepped in this turn, unless it does not run.
    fn wake(&mut self, node: usize) -> &mut Node {
        let router = &mut self.routers[node];
        if router.running {
            self.awake.insert(node);
        }
        &mut router.node
    }

    /// What is on the link is lost unless it is up. Both ends of a cut or healed link are told
    /// after the carrier delay; their devices refuse packets at once.
    fn set_link(&mut self, id: LinkId, state: LinkState) {
        let link = &mut self.links[id.0];
        let before = std::mem::replace(&mut link.state, state);
        if state != LinkState::Up {
            let flying = self.flying.len();
            self.flying.retain(|_, flying| flying.link != id);
            link.lost += (flying - self.flying.len()) as u64;
        }
        let (was, is) = (before != LinkState::Down, state != LinkState::Down);
        if was == is {
            return;
        }
        for end in self.links[id.0].ends.clone() {
            if let End::Node(node, port) = end {
                self.routers[node].node.set_wire(&port, is);
                self.at(self.now + self.carrier_delay, Action::News { node, port, up: is });
            }
        }
    }
}
