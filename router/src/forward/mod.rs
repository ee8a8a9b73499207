//! The forwarding step: what becomes of each packet of a batch. No I/O, no clock, no allocation per
//! packet: the same function runs in a worker, a test, a fuzzer and a simulation.
//!
//! ```text
//! parse ─▶ admit ─▶ lookup ─▶ select ─▶ TTL, MTU ─▶ transmissions, punts, counted drops
//! ```
//!
//! Each stage is gone through for the whole batch before the next, so that the memory it needs is on
//! its way for many packets at once. And the order is what makes it safe: all lookups of a batch come
//! before the first group is read, all groups before the ports are: whatever was published before
//! an id that is found is seen by the time it is needed.
#![forbid(unsafe_code)]

mod answer;
mod cut;
mod limit;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nearhop_fib::{Fib, FlowHash, GroupId, Online, PathId, Selected, Spread};

pub use self::limit::TokenBucket;
pub use self::snapshot::{PortEntry, ProbePorts, Snapshot, Snapshots};
pub use self::state::{Counters, FIRST_PACKETS_MAX, FirstPacket, PathCount, WorkerState};
use crate::batch::{BURST, Batch};
use crate::config::model::ReversePath;
use crate::packet::error::ErrorKind;
use crate::packet::martian::{destination_verdict, source_verdict};
use crate::packet::offload::Shape;
use crate::packet::{Fragment, Meta, decrement_ttl, protocol};
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
    fib: &Online<'_>,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
    now: Nanos,
) {
    let admitted = admit_all(batch, fib, snapshots.load(), state);
    let groups = look_up(fib, &admitted[..batch.len()]);
    Step { fib, snapshots, state, now }.carry_out(batch, &admitted, &groups);
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
    let seed = snapshots.load().hash_seed;
    let mut step = Step { fib, snapshots, state, now };
    let verdict = match step.choose(group, &meta, seed) {
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

/// What is known of the packets of a batch that may be forwarded. The others are counted.
type Admitted = [Result<Meta, Verdict>; BURST];

fn admit_all(
    batch: &mut Batch,
    fib: &Fib,
    snapshot: &Snapshot,
    state: &mut WorkerState,
) -> Admitted {
    let mut admitted = [const { Err(Verdict::Truncated) }; BURST];
    for (index, slot) in admitted.iter_mut().enumerate().take(batch.len()) {
        // What is found is written where it stays: to move so much about costs as much as to find it.
        *slot = Meta::parse(batch.packet(index).1);
        if let Ok(meta) = slot
            && let Err(verdict) = admit(batch, index, meta, fib, snapshot)
        {
            *slot = Err(verdict);
        }
        let segments = segments(batch, index);
        state.counters.received += segments;
        if let Err(verdict) = slot {
            state.counters.count_all(*verdict, segments);
        }
    }
    admitted
}

/// How many packets packet `index` stands for. Everything is counted in these.
#[inline]
fn segments(batch: &Batch, index: usize) -> u64 {
    u64::from(batch.slot(index).shape.segments)
}

/// The groups that the destinations lead to, and their memory under way.
fn look_up(fib: &Online<'_>, admitted: &[Result<Meta, Verdict>]) -> [GroupId; BURST] {
    let mut groups = [GroupId::NONE; BURST];
    let mut v4 = Family { addrs: [Ipv4Addr::UNSPECIFIED; BURST], lanes: [0; BURST], count: 0 };
    let mut v6 = Family { addrs: [Ipv6Addr::UNSPECIFIED; BURST], lanes: [0; BURST], count: 0 };
    for (lane, meta) in admitted.iter().enumerate() {
        match meta.as_ref().map(|meta| meta.dst) {
            Ok(IpAddr::V4(addr)) => v4.add(lane, addr),
            Ok(IpAddr::V6(addr)) => v6.add(lane, addr),
            Err(_) => {}
        }
    }
    v4.look_up(&mut groups, |addrs, found| fib.lookup_batch_v4(addrs, found));
    v6.look_up(&mut groups, |addrs, found| fib.lookup_batch_v6(addrs, found));
    for &group in &groups[..admitted.len()] {
        fib.fetch_group(group);
    }
    groups
}

/// The destinations of one family, and which packets they are of.
struct Family<A> {
    addrs: [A; BURST],
    lanes: [u8; BURST],
    count: usize,
}

impl<A> Family<A> {
    fn add(&mut self, lane: usize, addr: A) {
        self.addrs[self.count] = addr;
        self.lanes[self.count] = lane as u8;
        self.count += 1;
    }

    fn look_up(&self, groups: &mut [GroupId; BURST], batch: impl FnOnce(&[A], &mut [GroupId])) {
        let mut found = [GroupId::NONE; BURST];
        batch(&self.addrs[..self.count], &mut found);
        for (&lane, &group) in self.lanes.iter().zip(&found).take(self.count) {
            groups[usize::from(lane)] = group;
        }
    }
}

/// Checks packet `index` and what was left out of it, and cuts what follows it.
fn admit(
    batch: &mut Batch,
    index: usize,
    meta: &Meta,
    fib: &Fib,
    snapshot: &Snapshot,
) -> Result<(), Verdict> {
    let (slot, bytes) = batch.packet(index);
    let shape = if slot.is_plain() {
        Shape::whole(meta)
    } else {
        slot.offload.check(&bytes[..meta.len], meta)?
    };
    batch.settle(index, meta.len, shape);
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
    if !reverse_path_ok(meta, slot.port, fib, snapshot) {
        return Err(Verdict::ReversePath);
    }
    Ok(())
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

/// What is to become of a packet.
#[derive(Clone, Copy)]
enum Fate {
    /// It was not admitted.
    Ended,
    Send(Way),
    /// The way out is not there any more.
    NoPort,
    Local,
    Refuse(Selected),
}

#[derive(Clone, Copy)]
struct Way {
    path: PathId,
    port: PortId,
    mtu: u16,
}

impl Step<'_> {
    fn carry_out(&mut self, batch: &mut Batch, admitted: &Admitted, groups: &[GroupId; BURST]) {
        let fates = self.decide(batch, admitted, groups);
        for (index, (meta, fate)) in admitted.iter().zip(fates).enumerate().take(batch.len()) {
            let Ok(meta) = meta else { continue };
            match fate {
                Fate::Ended => {}
                Fate::Send(way) => self.send(batch, index, meta, way),
                Fate::NoPort => {
                    self.state.counters.count_all(Verdict::NoPort, segments(batch, index));
                }
                Fate::Local => {
                    let verdict = self.local_verdict(batch, index, meta);
                    batch.punt(index, verdict);
                }
                Fate::Refuse(selected) => {
                    let (verdict, error) = refusal(selected);
                    self.drop(batch, index, meta, verdict, error);
                }
            }
        }
    }

    fn decide(
        &mut self,
        batch: &Batch,
        admitted: &Admitted,
        groups: &[GroupId; BURST],
    ) -> [Fate; BURST] {
        let seed = self.snapshots.load().hash_seed;
        let mut chosen = [Selected::NoRoute; BURST];
        for (index, slot) in chosen.iter_mut().enumerate().take(batch.len()) {
            if let Ok(meta) = &admitted[index] {
                let ingress = batch.slot(index).port;
                *slot = self.choose_onward(groups[index], meta, seed, ingress);
            }
        }
        let snapshot = self.snapshots.load();
        let fib = self.fib;
        let mut fates = [Fate::Ended; BURST];
        for ((fate, meta), &selected) in fates.iter_mut().zip(admitted).zip(&chosen) {
            *fate = match selected {
                _ if meta.is_err() => continue,
                Selected::Member { path, adjacency } => {
                    let port = fib.port(adjacency).map(PortId);
                    let entry = port.and_then(|port| Some((port, snapshot.port(port)?.mtu)));
                    entry.map_or(Fate::NoPort, |(port, mtu)| Fate::Send(Way { path, port, mtu }))
                }
                Selected::Local => Fate::Local,
                other => Fate::Refuse(other),
            };
        }
        fates
    }

    fn choose(&mut self, group: GroupId, meta: &Meta, seed: u64) -> Selected {
        self.fib.select_by(group, |spread| hash(self.state, meta, seed, spread))
    }

    /// As [`Self::choose`], but repair never sends a packet back out of the port it came in by.
    fn choose_onward(
        &mut self,
        group: GroupId,
        meta: &Meta,
        seed: u64,
        ingress: PortId,
    ) -> Selected {
        match self.choose(group, meta, seed) {
            Selected::Member { adjacency, .. } if self.fib.port(adjacency) == Some(ingress.0) => {
                let hash = hash(self.state, meta, seed, self.fib.spread(group));
                self.fib.select_onward(group, hash, ingress.0)
            }
            other => other,
        }
    }

    /// Checks TTL and MTU, rewrites the packet, and queues it.
    fn send(&mut self, batch: &mut Batch, index: usize, meta: &Meta, way: Way) {
        let Way { path, port: id, mtu } = way;
        if meta.ttl <= 1 {
            let error = Some(ErrorKind::TimeExceeded);
            return self.drop(batch, index, meta, Verdict::TtlExpired, error);
        }
        // Of a superframe, its segments have to fit.
        let shape = batch.slot(index).shape;
        let is_too_big = shape.segment_len > u32::from(mtu);
        if is_too_big && meta.dont_fragment {
            let error = Some(ErrorKind::TooBig { mtu: u32::from(mtu) });
            return self.drop(batch, index, meta, Verdict::TooBig, error);
        }
        if !decrement_ttl(batch.packet_mut(index).1) {
            let segments = u64::from(shape.segments);
            return self.state.counters.count_all(Verdict::TtlExpired, segments);
        }
        self.state.note_path(path, u64::from(shape.segments), shape.bytes(meta.len), self.now);
        if is_too_big {
            self.send_fragments(batch, index, way);
        } else {
            batch.transmit(index, id, Some(path), Verdict::Forward);
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
        self.state.counters.count_all(verdict, segments(batch, index));
        if let Some(error) = error {
            self.answer(batch, index, meta, error);
        }
    }
}

/// What a packet's member is chosen by.
fn hash(state: &mut WorkerState, meta: &Meta, seed: u64, spread: Spread) -> FlowHash {
    match spread {
        Spread::Flow => meta.flow.hash(seed),
        Spread::Packet => {
            state.packets_spread += 1;
            FlowHash::of_packet(state.packets_spread, seed ^ state.salt)
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
