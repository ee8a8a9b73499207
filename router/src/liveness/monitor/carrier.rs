//! Ports: their carrier, and how their adjacencies and legs follow it.
#![forbid(unsafe_code)]

use nearhop_fib::{AdjacencyId, PathId, Reason};

use super::Monitor;
use crate::batch::Exit;
use crate::ids::PortId;
use crate::kernel::carrier::LinkEvent;
use crate::liveness::event::MonitorEventKind;
use crate::liveness::leg::Leg;
use crate::time::Nanos;

/// A port that is watched.
#[derive(Default)]
pub(super) struct PortCarrier {
    /// All ways out by it; their bytes follow its carrier at once.
    adjacencies: Vec<AdjacencyId>,
    pub(super) carrier: bool,
    /// Since when it is as it is.
    pub(super) since: Nanos,
}

/// Carrier that came or went, which the legs have yet to follow: the bytes of the port's adjacencies
/// have moved their packets already.
pub(super) struct CarrierChange {
    pub(super) t: Nanos,
    stored: Nanos,
    port: PortId,
    up: bool,
    /// Legs below this path have followed.
    next: PathId,
}

impl Monitor {
    /// Watches a port from now on. It has no carrier yet and no adjacencies.
    pub fn add_port(&mut self, port: PortId) {
        self.ports.insert(port, PortCarrier::default());
        self.unreported.insert(port);
        self.prober.set_carrier(Nanos::ZERO, port, false);
    }

    /// Makes an adjacency follow the carrier of its port, which is watched already; ignored
    /// otherwise.
    pub fn add_adjacency(&mut self, exit: Exit) {
        let Some(port) = self.ports.get_mut(&exit.port) else { return };
        if !port.adjacencies.contains(&exit.adjacency) {
            port.adjacencies.push(exit.adjacency);
        }
        if port.carrier {
            self.fib.clear_adjacency_down(exit.adjacency, Reason::Carrier);
        } else {
            self.fib.set_adjacency_down(exit.adjacency, Reason::Carrier);
        }
        self.changed();
    }

    /// Forgets an adjacency; no group names it any more.
    pub fn remove_adjacency(&mut self, exit: Exit) {
        if let Some(port) = self.ports.get_mut(&exit.port) {
            port.adjacencies.retain(|&adjacency| adjacency != exit.adjacency);
        }
    }

    /// Forgets a port and its adjacencies; its legs were removed before.
    pub fn remove_port(&mut self, port: PortId) {
        self.ports.remove(&port);
        self.unreported.insert(port);
        // Another may get its number.
        self.spreading.retain(|change| change.port != port);
        // To the prober, ports have carrier unless it hears otherwise.
        self.prober.set_carrier(Nanos::ZERO, port, true);
    }

    /// A port's carrier is there or not. Repeating it does nothing. Moves the packets of all the
    /// port's adjacencies at once, however many legs it has; [`LEGS_PER_TURN`] legs follow here, the
    /// rest in [`Self::handle_timeout`].
    pub fn handle_carrier(&mut self, now: Nanos, port: PortId, up: bool) {
        if self.ports.get(&port).is_none_or(|state| state.carrier == up) {
            return;
        }
        // Legs follow each change in turn: first the last one, where they have not yet.
        while self.spreading.iter().any(|change| change.port == port) {
            self.spread();
        }
        if let Some(state) = self.ports.get_mut(&port) {
            (state.carrier, state.since) = (up, now);
        }
        self.unreported.insert(port);
        if up {
            let flapping = self.flapping(port);
            self.push(now, now, MonitorEventKind::Carrier { port, up });
            for path in flapping {
                self.hold(now, path);
            }
            self.store_carrier(port);
        } else {
            self.store_carrier(port);
            let stored = self.stored(now);
            self.push(now, stored, MonitorEventKind::Carrier { port, up });
        }
        let stored = self.stored(now);
        self.prober.set_carrier(now, port, up);
        self.spreading.push_back(CarrierChange { t: now, stored, port, up, next: PathId(0) });
        self.spread();
        self.settle();
    }

    /// A port's device is gone from its namespace, and its carrier with it.
    pub fn handle_gone(&mut self, now: Nanos, port: PortId, ifindex: u32) {
        self.handle_carrier(now, port, false);
        let stored = self.stored(now);
        self.push(now, stored, MonitorEventKind::Gone { port, ifindex });
    }

    /// What the kernel says of a port's device. No check depends on it: it is only passed on.
    pub fn handle_link(&mut self, now: Nanos, port: PortId, link: &LinkEvent) {
        let LinkEvent { ifindex, name, mtu, .. } = link.clone();
        self.push(now, now, MonitorEventKind::Link { port, ifindex, name, mtu });
    }

    /// Whether legs of a port whose carrier changed have not followed yet: the next timeout is then
    /// due already, without being late.
    pub fn is_behind(&self) -> bool {
        !self.spreading.is_empty()
    }

    pub(super) fn has_carrier(&self, port: PortId) -> bool {
        self.ports.get(&port).is_some_and(|state| state.carrier)
    }

    /// Whether the leg has not followed its port's carrier yet.
    pub(super) fn is_to_follow(&self, path: PathId) -> bool {
        let port = self.legs.get(&path).map(|leg| leg.exit.port);
        self.spreading.iter().any(|change| Some(change.port) == port && change.next <= path)
    }

    /// Goes on with the oldest change: looks at [`LEGS_PER_TURN`] legs at most.
    pub(super) fn spread(&mut self) {
        let Some(change) = self.spreading.front_mut() else { return };
        let &mut CarrierChange { t, stored, port, up, .. } = change;
        let mut turn = self.legs.range(change.next..).take(LEGS_PER_TURN + 1);
        let mut affected = Vec::with_capacity(LEGS_PER_TURN);
        let seen = turn.by_ref().take(LEGS_PER_TURN);
        affected.extend(seen.filter(|(_, leg)| leg.exit.port == port).map(|(&path, _)| path));
        match turn.next() {
            Some((&path, _)) => change.next = path,
            None => drop(self.spreading.pop_front()),
        }
        for path in affected {
            self.follow(t, stored, path, up);
        }
    }

    fn follow(&mut self, now: Nanos, stored: Nanos, path: PathId, up: bool) {
        let Some(leg) = self.legs.get_mut(&path) else { return };
        if !up {
            for check in &mut leg.checks {
                check.up = false;
                check.known = true;
            }
        }
        self.judge(now, Some(stored), path, Reason::Carrier.label());
    }

    /// Makes the bytes of the port's adjacencies say what its carrier is.
    fn store_carrier(&self, port: PortId) {
        let Some(state) = self.ports.get(&port) else { return };
        for &adjacency in &state.adjacencies {
            if state.carrier {
                self.fib.clear_adjacency_down(adjacency, Reason::Carrier);
            } else {
                self.fib.set_adjacency_down(adjacency, Reason::Carrier);
            }
        }
        self.changed();
    }

    /// The legs of this port that flapped: they wait, from before their adjacency is up again.
    fn flapping(&self, port: PortId) -> Vec<PathId> {
        let waits =
            |leg: &Leg| leg.exit.port == port && leg.is_well() && !leg.damping.hold().is_zero();
        self.legs.iter().filter(|(_, leg)| waits(leg)).map(|(&path, _)| path).collect()
    }
}

/// Legs looked at in one turn of [`Monitor::handle_carrier`] and [`Monitor::handle_timeout`]: a
/// fraction of a millisecond of work, so that a port with ten thousand of them makes no probe late.
pub const LEGS_PER_TURN: usize = 256;
