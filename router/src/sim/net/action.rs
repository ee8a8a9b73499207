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
        /// Whether it serves only where nobody else is left.
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
    /// Moves a router's end of a link to another port of that router, which may not be there yet.
    Plug {
        /// Which router.
        node: usize,
        /// Which link.
        link: LinkId,
        /// Name of the port it is in from now on.
        port: String,
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
            Action::News { node, port, up } => self.tell_carrier(node, &port, up),
            Action::Plug { node, link, port } => self.plug(node, link, port),
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
        let router = self.wake(node);
        match action {
            Action::ClearDamping { .. } => router.clear_damping(),
            Action::Drain { site, drained, .. } => drop(router.drain(now, &site, drained)),
            Action::Reload { config, .. } => {
                let names = router.control().ports().map(|port| port.name().to_owned());
                let before: Vec<String> = names.collect();
                router.apply(now, *config).map_err(|error| RunError::Reload { now, error })?;
                self.records.begin(now, node);
                self.note_opened(node, &before);
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
        self.records.end(self.now, node);
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
        self.records.begin(now, index);
        self.note_opened(index, &[]);
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

    /// The port that the cable leaves has no carrier any more, and the one that it comes to has the link's;
    /// the router learns of both after the carrier delay. Packets on the link are lost.
    fn plug(&mut self, node: usize, id: LinkId, port: String) {
        let link = &mut self.links[id.0];
        let is_of_node = |end: &LinkEnd| matches!(end, LinkEnd::Node(of, _) if *of == node);
        let Some(place) = link.ends.iter().position(is_of_node) else { return };
        let old = std::mem::replace(&mut link.ends[place], LinkEnd::Node(node, port.clone()));
        let is_up = link.state != LinkState::Down;
        let flying = self.flying.len();
        self.flying.retain(|_, flying| flying.link != id);
        link.lost += (flying - self.flying.len()) as u64;
        let delayed = self.now + self.carrier_delay;
        if let LinkEnd::Node(_, old) = old {
            self.joined.remove(&(node, old.clone()));
            self.routers[node].node.set_wire(&old, false);
            self.at(delayed, Action::News { node, port: old, up: false });
        }
        self.joined.insert((node, port.clone()), (id, place));
        self.routers[node].node.set_wire(&port, is_up);
        self.at(delayed, Action::News { node, port, up: is_up });
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
