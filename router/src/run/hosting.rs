//! The host stack's place in the control thread: punted packets in, its own packets out by the FIB
//! or by the adjacency they are pinned to; and the TCP checks that run on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use crossbeam_channel::Receiver;
use ipnetwork::IpNetwork;
use nearhop_fib::{Handle, PathId, Reader};

use super::RunError;
use crate::batch::Batch;
use crate::config::Config;
use crate::forward::{
    Counters, Egress, Scratch, Snapshot, Snapshots, SyscallOutlets, WorkerState, originate,
};
use crate::host::check::TcpChecker;
use crate::host::{Host, HostConfig, HostStats};
use crate::ids::PortId;
use crate::liveness::leg::LegSpec;
use crate::packet::origin::clamp_mss;
use crate::policy::CheckKind;
use crate::probe::{CheckEvent, CheckId};
use crate::time::Nanos;
use crate::worker::{LanePacket, Reading};

/// Host stack, TCP checks and their way out.
pub(super) struct Hosting {
    host: Host,
    checker: TcpChecker,
    checks: HashMap<CheckId, (PathId, usize)>,
    reader: Reader,
    snapshots: Snapshots,
    batch: Batch,
    state: WorkerState,
    scratch: Scratch,
    outlets: SyscallOutlets,
    /// How far the workers have read their ports.
    reading: Reading,
}

impl Hosting {
    pub(super) fn new(
        fib: &Handle,
        snapshot: Arc<ArcSwap<Snapshot>>,
        changes: Arc<AtomicU64>,
        reading: Reading,
        (seed, now): (u64, Nanos),
    ) -> Result<Self, RunError> {
        let config = HostConfig { addresses: Vec::new(), mtu: MTU_MAX, seed };
        Ok(Self {
            host: Host::new(now, config),
            checker: TcpChecker::new(),
            checks: HashMap::new(),
            reader: fib.reader().ok_or_else(|| RunError::new("no reader is left"))?,
            snapshots: Snapshots::new(snapshot),
            batch: Batch::new(),
            state: WorkerState::new(usize::MAX, 1, changes),
            scratch: Scratch::default(),
            outlets: SyscallOutlets::default(),
            reading,
        })
    }

    /// The router's own addresses are these from now on.
    pub(super) fn configure(&mut self, config: &Config) {
        let own = config.ports.iter().flat_map(|port| &port.addresses);
        self.host.set_addresses(own.chain(&config.router.addresses).map(IpNetwork::ip));
    }

    /// Takes over the TCP checks of a leg; those it had before are forgotten.
    pub(super) fn watch(&mut self, now: Nanos, leg: &LegSpec) {
        self.forget(leg.path);
        for (index, spec) in leg.checks.iter().enumerate() {
            if !matches!(spec.kind, CheckKind::Tcp { .. }) {
                continue;
            }
            match self.checker.add(now, &self.host, spec.clone()) {
                Ok(id) => {
                    self.checks.insert(id, (leg.path, index));
                }
                Err(error) => log::error!("a TCP check cannot be done: {error}"),
            }
        }
    }

    pub(super) fn forget(&mut self, path: PathId) {
        let of_leg = |(id, (leg, _)): (&CheckId, &(PathId, usize))| (*leg == path).then_some(*id);
        for id in self.checks.iter().filter_map(of_leg).collect::<Vec<_>>() {
            self.checker.remove(&mut self.host, id);
            self.checks.remove(&id);
        }
    }

    /// A port is gone, and no check is left on it: another may get its number.
    pub(super) fn forget_port(&mut self, now: Nanos, port: PortId) {
        self.set_carrier(now, port, true);
    }

    pub(super) fn set_carrier(&mut self, now: Nanos, port: PortId, up: bool) {
        self.checker.set_carrier(now, &mut self.host, port, up);
    }

    /// A packet to the router. Its TCP asks for no larger segments than the way back has room for.
    pub(super) fn handle_packet(&mut self, mut packet: LanePacket) {
        if let Some(mtu) = self.snapshots.load().mtu_of(packet.port) {
            clamp_mss(&mut packet.bytes, usize::from(mtu));
        }
        self.host.handle_packet(packet.received, packet.port, &packet.bytes);
    }

    /// The lane of [`Self::handle_packet`] was emptied.
    pub(super) fn lane_was_emptied(&mut self) {
        self.reading.lane_was_emptied();
    }

    /// Runs stack and checks and sends what they say; returns the checks' verdicts. No check is
    /// called silent while its answers may lie unread, by workers or in `packets`.
    pub(super) fn poll(
        &mut self,
        now: Nanos,
        packets: &Receiver<LanePacket>,
    ) -> Vec<(PathId, usize, CheckEvent)> {
        self.host.poll(now);
        let (reading, snapshot) = (&mut self.reading, self.snapshots.load());
        self.checker.poll_unless(now, &mut self.host, |port, due| {
            reading.may_be_unread(now, (snapshot, port), due, || packets.is_empty())
        });
        self.host.poll(now);
        self.send();
        let mut verdicts = Vec::new();
        while let Some(event) = self.checker.poll_event() {
            if let Some(&(path, index)) = self.checks.get(&event.check) {
                verdicts.push((path, index, event));
            }
        }
        verdicts
    }

    /// When [`Self::poll`] is due next.
    pub(super) fn poll_timeout(&mut self, now: Nanos) -> Option<Nanos> {
        self.host.poll_timeout(now).into_iter().chain(self.checker.poll_timeout()).min()
    }

    /// What was sent, and what became of it.
    pub(super) fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// What became of the packets for the router.
    pub(super) fn stats(&self) -> HostStats {
        self.host.stats()
    }

    fn send(&mut self) {
        // Also with nothing to send: an old snapshot keeps the devices of removed ports open.
        self.snapshots.load();
        self.outlets.release();
        let online = self.reader.online();
        while let Some(mut outgoing) = self.host.poll_transmit() {
            self.batch.clear();
            let pin = outgoing.pin.map(|exit| exit.adjacency);
            originate(
                &mut outgoing.packet,
                pin,
                &mut self.batch,
                &online,
                &mut self.snapshots,
                &mut self.state,
            );
            let snapshot = self.snapshots.load();
            let (counters, scratch) = (&mut self.state.counters, &mut self.scratch);
            Egress { snapshot, counters, scratch }.send(&mut self.batch, &mut self.outlets);
        }
        // The workers, which read these ports, report the same.
        self.scratch.trouble.clear();
        self.outlets.release();
    }
}

/// The stack may make packets as large as there are: each is fitted to the way out it takes.
const MTU_MAX: u16 = u16::MAX;
