//! The forwarding worker of a simulated router, without a thread.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::batch::{Batch, LocalLane};
use crate::engine::{PlaneEngine, PlaneShell};
use crate::forward::{Outlets, PortEntry, Snapshot, SyscallOutlets};
use crate::ids::PortId;
use crate::liveness::proof::Injection;
use crate::port::Queue;
use crate::port::counters::PortCounters;
use crate::port::news::PortTrouble;
use crate::time::Nanos;

/// The one worker of a simulated router.
pub(super) struct SimWorker {
    pub(super) plane: PlaneEngine,
    outlets: SyscallOutlets,
}

/// Where the packets for the router itself go; the answer is whether there was room.
pub(super) type Deliver<'a> = &'a mut dyn FnMut(LocalLane, PortId, &[u8]) -> bool;

impl SimWorker {
    pub(super) fn new(plane: PlaneEngine) -> Self {
        Self { plane, outlets: SyscallOutlets::default() }
    }

    /// Has its plane look at every port, then forward these; returns whether there was anything.
    pub(super) fn run(
        &mut self,
        now: Nanos,
        injected: VecDeque<Injection>,
        deliver: Deliver<'_>,
    ) -> bool {
        let ports: Vec<PortId> = self.plane.snapshot().ports().map(|(id, _)| id).collect();
        let mut shell = Shell { now, outlets: &mut self.outlets, deliver };
        let any = self.plane.turn(&ports.into_iter(), &mut shell) || !injected.is_empty();
        for one in injected {
            self.plane.inject(one.port, &one.packet, &mut shell);
        }
        any
    }
}

/// Ports in memory, and a clock that stands still.
struct Shell<'a> {
    now: Nanos,
    outlets: &'a mut SyscallOutlets,
    deliver: Deliver<'a>,
}

impl PlaneShell for Shell<'_> {
    /// A cut wire delivers nothing. The router learns of the cut separately, as from a kernel.
    fn receive(&mut self, id: PortId, snapshot: &Snapshot, batch: &mut Batch) -> bool {
        let port = snapshot.port(id);
        port.is_some_and(|port| port.device.rx(0, batch).is_ok_and(|count| count > 0))
    }

    fn counters(&mut self, id: PortId) -> &mut PortCounters {
        self.outlets.counters.entry(id).or_default()
    }

    fn deliver(&mut self, lane: LocalLane, id: PortId, packet: &[u8], _received: Nanos) -> bool {
        (self.deliver)(lane, id, packet)
    }

    /// The network reports a port's state, as a kernel does.
    fn report_trouble(&mut self, _trouble: PortTrouble) {}

    fn now(&mut self) -> Nanos {
        self.now
    }
}

impl Outlets for Shell<'_> {
    fn outlet(&mut self, id: PortId, port: &PortEntry) -> (&mut dyn Queue, &mut PortCounters) {
        self.outlets.outlet(id, port)
    }
}
