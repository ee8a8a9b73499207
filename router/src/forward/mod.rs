//! The forwarding step: what becomes of each packet of a batch. No I/O, no clock, no allocation per
//! packet: the same function runs in a worker, a test, a fuzzer and a simulation.
//!
//! ```text
//! parse ─▶ admit ─▶ lookup ─▶ select ─▶ TTL, MTU ─▶ transmissions, punts, counted drops
//! ```
//!
//! All lookups of a batch come before the first group is read. A group may be replaced in between by
//! one that leads to a port published before it, so the snapshot is looked at again for each port:
//! a packet never goes by an id newer than what it is looked up in.
#![forbid(unsafe_code)]

mod answer;
mod limit;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

use nearhop_fib::{Fib, FlowHash, GroupId, PathId, Selected, Spread};

pub use self::limit::TokenBucket;
pub use self::snapshot::{PortEntry, ProbePorts, Snapshot, Snapshots};
pub use self::state::{Counters, FIRST_PACKETS_MAX, FirstPacket, PathCount, WorkerState};
use crate::batch::{BURST, Batch, Transmission};
use crate::config::model::ReversePath;
use crate::packet::error::ErrorKind;
use crate::packet::martian::{destination_verdict, source_verdict};
use crate::packet::{Fragment, Meta, decrement_ttl, fragment, protocol};
use crate::port::PortId;
use crate::time::Nanos;
use crate::verdict::Verdict;

/// Decides every packet of `batch`: afterwards its transmissions and punts say what is to be done,
/// and every packet that ends here is counted in `state`.
///
/// Bounded work: [`BURST`] packets, each looked up at most three times (its source, its
/// destination, an error about it).
pub fn forward(
    batch: &mut Batch,
    fib: &Fib,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
    now: Nanos,
) {
    let mut admitted: [Option<Admitted>; BURST] = [const { None }; BURST];
    let snapshot = snapshots.load();
    for (index, slot) in admitted.iter_mut().enumerate().take(batch.len()) {
        state.counters.received += 1;
        match admit(batch, index, fib, snapshot) {
            Ok(packet) => *slot = Some(packet),
            Err(verdict) => state.counters.count(verdict),
        }
    }
    let mut step = Step { fib, snapshots, state, now };
    for (index, packet) in admitted.iter().enumerate().take(batch.len()) {
        if let Some(packet) = packet {
            step.decide(batch, index, packet);
        }
    }
}

/// Sends `packet`, made by the router itself, where the FIB says; a copy is put in `batch`. The
/// host stack's way out.
pub fn originate(
    packet: &[u8],
    batch: &mut Batch,
    fib: &Fib,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
    now: Nanos,
) {
    state.counters.originated += 1;
    let Ok(meta) = Meta::parse(packet) else {
        state.counters.count(Verdict::Truncated);
        return;
    };
    let group = fib.lookup(meta.dst);
    let mut step = Step { fib, snapshots, state, now };
    let verdict = match step.choose(group, &meta) {
        Selected::Member { path, adjacency } => match fib.port(adjacency).map(PortId) {
            Some(port) if batch.transmit_copy(packet, port, Some(path), Verdict::Originate) => {
                return;
            }
            Some(_) => Verdict::NoBuffer,
            None => Verdict::NoPort,
        },
        other => refusal(other).0,
    };
    step.state.counters.count(verdict);
}

/// A packet that may be forwarded, and where its destination leads.
struct Admitted {
    meta: Meta,
    group: GroupId,
}

/// Parses and checks packet `index`, cuts what follows it, and looks its destination up.
fn admit(
    batch: &mut Batch,
    index: usize,
    fib: &Fib,
    snapshot: &Snapshot,
) -> Result<Admitted, Verdict> {
    let (slot, bytes) = batch.packet(index);
    let meta = Meta::parse(bytes)?;
    batch.truncate(index, meta.len);
    if let Some(verdict) = source_verdict(meta.src, snapshot.martians) {
        return Err(verdict);
    }
    if let Some(verdict) = destination_verdict(meta.dst, snapshot.martians) {
        return Err(verdict);
    }
    if snapshot.is_directed_broadcast(meta.src) {
        return Err(Verdict::MartianSource);
    }
    if snapshot.is_directed_broadcast(meta.dst) {
        return Err(Verdict::Broadcast);
    }
    if !reverse_path_ok(&meta, slot.port, fib, snapshot) {
        return Err(Verdict::ReversePath);
    }
    Ok(Admitted { group: fib.lookup(meta.dst), meta })
}

/// RFC 3704: strict is the feasible-path variant, for anycast sites answer from a shared address,
/// and a member that is down for us may still be up for them.
fn reverse_path_ok(meta: &Meta, port: PortId, fib: &Fib, snapshot: &Snapshot) -> bool {
    let check = snapshot.port(port).map_or(ReversePath::Off, |port| port.reverse_path);
    match check {
        ReversePath::Off => true,
        ReversePath::Loose => fib.leads_somewhere(fib.lookup(meta.src)),
        ReversePath::Strict => fib.ports(fib.lookup(meta.src)).any(|member| member == port.0),
    }
}

/// What one batch's decisions are made with.
struct Step<'a> {
    fib: &'a Fib,
    snapshots: &'a mut Snapshots,
    state: &'a mut WorkerState,
    now: Nanos,
}

impl Step<'_> {
    fn decide(&mut self, batch: &mut Batch, index: usize, packet: &Admitted) {
        let meta = &packet.meta;
        let ingress = batch.packet(index).0.port;
        match self.choose_onward(packet.group, meta, ingress) {
            Selected::Member { path, adjacency } => {
                let port = self.fib.port(adjacency).map(PortId);
                self.send(batch, index, meta, port, path);
            }
            Selected::Local => {
                let verdict = self.local_verdict(batch, index, meta);
                batch.punt(index, verdict);
            }
            other => {
                let (verdict, error) = refusal(other);
                self.drop(batch, index, meta, verdict, error);
            }
        }
    }

    fn choose(&mut self, group: GroupId, meta: &Meta) -> Selected {
        let hash = self.hash(group, meta);
        self.fib.select(group, hash)
    }

    /// As [`Self::choose`], but repair never sends a packet back out of the port it came in by.
    fn choose_onward(&mut self, group: GroupId, meta: &Meta, ingress: PortId) -> Selected {
        let hash = self.hash(group, meta);
        match self.fib.select(group, hash) {
            Selected::Member { adjacency, .. } if self.fib.port(adjacency) == Some(ingress.0) => {
                self.fib.select_onward(group, hash, ingress.0)
            }
            other => other,
        }
    }

    fn hash(&mut self, group: GroupId, meta: &Meta) -> FlowHash {
        let seed = self.snapshots.load().hash_seed;
        match self.fib.spread(group) {
            Spread::Flow => meta.flow.hash(seed),
            Spread::Packet => {
                self.state.packets_spread += 1;
                FlowHash::of_packet(self.state.packets_spread, seed ^ self.state.salt)
            }
        }
    }

    /// Checks TTL and MTU, rewrites the packet, and queues it.
    fn send(
        &mut self,
        batch: &mut Batch,
        index: usize,
        meta: &Meta,
        port: Option<PortId>,
        path: PathId,
    ) {
        let mtu_of = |id| Some((id, self.snapshots.load().port(id)?.mtu));
        let Some((id, mtu)) = port.and_then(mtu_of) else {
            return self.state.counters.count(Verdict::NoPort);
        };
        if meta.ttl <= 1 {
            let error = Some(ErrorKind::TimeExceeded);
            return self.drop(batch, index, meta, Verdict::TtlExpired, error);
        }
        if meta.len > usize::from(mtu) && meta.dont_fragment {
            let error = Some(ErrorKind::TooBig { mtu: u32::from(mtu) });
            return self.drop(batch, index, meta, Verdict::TooBig, error);
        }
        if !decrement_ttl(batch.packet_mut(index).1) {
            return self.state.counters.count(Verdict::TtlExpired);
        }
        self.state.note_path(path, meta.len, self.now);
        if meta.len > usize::from(mtu) {
            self.send_fragments(batch, index, id, mtu, path);
        } else {
            batch.transmit(index, id, Some(path), Verdict::Forward);
        }
    }

    /// All fragments or none: a datagram of which one is missing is worth nothing.
    fn send_fragments(
        &mut self,
        batch: &mut Batch,
        index: usize,
        port: PortId,
        mtu: u16,
        path: PathId,
    ) {
        let (packet, mut room) = batch.packet_and_room(index);
        let Ok(plan) = fragment::Fragments::plan(packet, usize::from(mtu)) else {
            return self.state.counters.count(Verdict::BadFragment);
        };
        // Each piece repeats the header: at most 60 bytes more than its share.
        let count = plan.count();
        if !room.has(count, packet.len() + count * 60) {
            return self.state.counters.count(Verdict::NoBuffer);
        }
        let piece = Transmission::template(port, Some(path), Verdict::FragmentSent);
        let sent = plan.each(&mut self.state.fragment_buffer, |bytes| room.put(bytes, piece));
        match sent {
            Ok(count) => {
                self.state.counters.split += count as u64;
                self.state.counters.count(Verdict::Fragmented);
            }
            Err(_) => self.state.counters.count(Verdict::NoBuffer),
        }
    }

    /// Which of the router's own parts a packet to it is for. ICMP that is not a request, and UDP to
    /// the prober's ports, is the prober's; so is an error about what the prober sent. Fragments are
    /// the host stack's: it puts them together, and a probe is never one.
    fn local_verdict(&mut self, batch: &Batch, index: usize, meta: &Meta) -> Verdict {
        if meta.fragment != Fragment::Whole {
            return Verdict::Local;
        }
        let probes = self.snapshots.load().probe_ports;
        let is_icmp = matches!(meta.protocol, protocol::ICMP | protocol::ICMPV6);
        let is_request =
            matches!(batch.packet(index).1.get(meta.header_len), Some(&ECHO_V4 | &ECHO_V6));
        match meta.flow.protocol {
            protocol::UDP if probes.has(meta.flow.dst_port) => Verdict::ProbeAnswer,
            protocol::ICMP | protocol::ICMPV6 if is_icmp && !is_request => Verdict::ProbeAnswer,
            _ => Verdict::Local,
        }
    }

    /// Counts a packet that ends here, and tells its sender where that is called for.
    fn drop(
        &mut self,
        batch: &mut Batch,
        index: usize,
        meta: &Meta,
        verdict: Verdict,
        error: Option<ErrorKind>,
    ) {
        self.state.counters.count(verdict);
        if let Some(error) = error {
            self.answer(batch, index, meta, error);
        }
    }
}

/// How a packet ends that no member took, and what its sender is told.
fn refusal(selected: Selected) -> (Verdict, Option<ErrorKind>) {
    match selected {
        Selected::NoRoute => (Verdict::NoRoute, Some(ErrorKind::NetUnreachable)),
        Selected::Blackhole => (Verdict::Blackhole, None),
        Selected::Unreachable => (Verdict::Unreachable, Some(ErrorKind::HostUnreachable)),
        Selected::Prohibit => (Verdict::Prohibit, Some(ErrorKind::AdminProhibited)),
        Selected::AllDead { answer } => {
            (Verdict::AllDead, answer.then_some(ErrorKind::HostUnreachable))
        }
        Selected::UTurn { answer } => {
            (Verdict::UTurn, answer.then_some(ErrorKind::HostUnreachable))
        }
        Selected::CoveringLoop => (Verdict::CoveringLoop, None),
        Selected::Local | Selected::Member { .. } => (Verdict::Local, None),
    }
}

/// ICMP echo request (RFC 792).
const ECHO_V4: u8 = 8;

/// ICMPv6 echo request (RFC 4443 section 4.1).
const ECHO_V6: u8 = 128;
