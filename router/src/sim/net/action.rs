//! What can be done to a network, and how it is done.
#![forbid(unsafe_code)]

use super::{Net, Router, RunError};
use crate::config::Config;
use crate::port::memory::LinkState;
use crate::sim::link::{Impairment, LinkEnd, LinkId};
use crate::sim::node::{Node, RouterThread};
use crate::sim::site::Power;

/// A change to the network. An action for the control thread of a router waits while that thread is
/// stalled, and is lost if the router stops meanwhile.
#[derive(Clone, Debug)]
pub enum Action {
    /// Ends the damping of a router's legs.
    ClearDamping {
        /// Which router.
        node: usize,
    },
    /// Drains a site at one router, or undrains it.
    Drain {
        /// Which router.
        node: usize,
        /// The site's name in that router's configuration.
        site: String,
        /// Whether it takes no new flows from now on.
        drained: bool,
    },
    /// Changes what a link does to packets.
    Impair {
        /// Which link.
        link: LinkId,
        /// What it does from now on.
        impairment: Impairment,
    },
    /// Changes the state of a link.
    Link {
        /// Which link.
        link: LinkId,
        /// Its state from now on.
        state: LinkState,
    },
    /// Reports the carrier of a port to a router.
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
    /// Gives a router another configuration.
    Reload {
        /// Which router.
        node: usize,
        /// The configuration.
        config: Box<Config>,
    },
    /// Stalls a thread of a router, or resumes it.
    Stall {
        /// Which router.
        node: usize,
        /// Which thread.
        part: RouterThread,
        /// Whether it is stalled from now on.
        stalled: bool,
    },
    /// Starts a stopped router, with the last configuration it was given.
    Start {
        /// Which router.
        node: usize,
    },
    /// Kills a router. Links to its neighbours keep their carrier; packets to it are lost.
    Stop {
        /// Which router.
        node: usize,
    },
}

impl Net {
    pub(super) fn act(&mut self) -> Result<(), RunError> {
        while let Some(entry) = self.agenda.first_entry().filter(|e| e.key().0 <= self.now) {
            let action = entry.remove();
            self.perform(action)?;
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), RunError> {
        match action {
            Action::Link { link, state } => self.set_link(link, state),
            Action::Impair { link, impairment } => self.links[link.0].impairment = impairment,
            Action::Power { site, power } => self.sites[site].power = power,
            Action::Start { node } => return self.start(node),
            Action::Stop { node } => self.stop(node),
            Action::Stall { node, part, stalled } => return self.stall(node, part, stalled),
            Action::News { node, port, up } => {
                if self.routers[node].running {
                    self.wake(node).set_carrier(&port, up);
                }
            }
            Action::ClearDamping { node }
            | Action::Drain { node, .. }
            | Action::Reload { node, .. } => return self.control(node, action),
        }
        Ok(())
    }

    /// Performs an action of the control thread, or postpones it while that thread is stalled.
    fn control(&mut self, node: usize, action: Action) -> Result<(), RunError> {
        let (now, router) = (self.now, &mut self.routers[node]);
        if let Action::Reload { config, .. } = &action {
            router.config = (**config).clone();
        }
        if !router.running {
            return Ok(());
        }
        if router.node.stalls(RouterThread::Control) {
            router.postponed.push(action);
            return Ok(());
        }
        let node = self.wake(node);
        match action {
            Action::ClearDamping { .. } => node.clear_damping(),
            Action::Drain { site, drained, .. } => drop(node.drain(now, &site, drained)),
            Action::Reload { config, .. } => {
                node.apply(now, *config).map_err(|error| RunError::Reload { now, error })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn stall(&mut self, index: usize, part: RouterThread, stalled: bool) -> Result<(), RunError> {
        self.wake(index).stall(part, stalled);
        if part != RouterThread::Control || stalled {
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

    /// Like a new process: it has no state, and reads that of its ports.
    fn start(&mut self, index: usize) -> Result<(), RunError> {
        if self.routers[index].running {
            return Ok(());
        }
        let (now, config) = (self.now, self.routers[index].config.clone());
        let node = Node::new(now, config.clone(), self.rng.next_u64())
            .map_err(|error| RunError::Reload { now, error })?;
        self.routers[index] = Router::new(node, config);
        let down = |link: &super::Link| link.state == LinkState::Down;
        let ends = self.links.iter().filter(|link| down(link)).flat_map(|link| link.ends.clone());
        for end in ends.collect::<Vec<_>>() {
            if let LinkEnd::Node(node, port) = end
                && node == index
            {
                self.routers[index].node.set_wire(&port, false);
                self.routers[index].node.set_carrier(&port, false);
            }
        }
        self.awake.insert(index);
        Ok(())
    }

    /// The router, which is stepped in this turn if it runs.
    fn wake(&mut self, node: usize) -> &mut Node {
        let router = &mut self.routers[node];
        if router.running {
            self.awake.insert(node);
        }
        &mut router.node
    }

    /// Packets on a link are lost unless it is up. The devices at both ends of a cut link refuse
    /// packets at once; the routers learn of a cut or heal after the carrier delay.
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
            if let LinkEnd::Node(node, port) = end {
                self.routers[node].node.set_wire(&port, is);
                self.at(self.now + self.carrier_delay, Action::News { node, port, up: is });
            }
        }
    }
}
