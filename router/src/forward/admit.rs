//! The admit, lookup and select stages.
#![forbid(unsafe_code)]
#![allow(
    clippy::inline_always,
    reason = "inlining lets the compiler drop the branch on the family"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nearhop_fib::{Fib, FlowHash, GroupId, Online, Selected, Spread};

use super::{Counters, Snapshot, segments};
use crate::batch::{BURST, Batch};
use crate::ids::PortId;
use crate::packet::discovery::is_group;
use crate::packet::martian::{destination_verdict, is_link_local, is_ordinary, source_verdict};
use crate::packet::offload::Shape;
use crate::packet::quote::quotes_later_fragment;
use crate::packet::{Meta, Plain, destination};
use crate::policy::{Facing, Martians, ReversePath};
use crate::verdict::Verdict;

/// The packets of one batch that may be forwarded, in order. It is part of the worker's state
/// because clearing it for each batch would cost too much.
pub(super) struct Admitted {
    count: usize,
    passed: [Passed; BURST],
    groups: [GroupId; BURST],
    chosen: [Selected; BURST],
    /// Places of ICMP errors to services that quote a later fragment: their flow is not known.
    pub(super) without_flow: Vec<u8>,
    v4: Destinations<Ipv4Addr>,
    v6: Destinations<Ipv6Addr>,
}

/// The data kept of an admitted packet. The rest is rarely needed and parsed again when it is,
/// which costs no more than carrying it along.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    /// Its index in the batch.
    pub(super) index: usize,
    pub(super) flow: FlowHash,
}

impl Admitted {
    pub(super) fn new() -> Self {
        let nobody = Passed { index: 0, flow: FlowHash { site: 0, label: 0 } };
        Self {
            count: 0,
            passed: [nobody; BURST],
            groups: [GroupId::NONE; BURST],
            chosen: [Selected::NoRoute; BURST],
            without_flow: Vec::with_capacity(BURST),
            v4: Destinations::new(Ipv4Addr::UNSPECIFIED),
            v6: Destinations::new(Ipv6Addr::UNSPECIFIED),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The index in the batch and the selection of an admitted packet.
    #[inline]
    pub(super) fn get(&self, place: usize) -> (usize, Selected) {
        (self.passed[place].index, self.chosen[place])
    }

    /// The group and the flow of an admitted packet.
    pub(super) fn group_and_flow(&self, place: usize) -> (GroupId, FlowHash) {
        (self.groups[place], self.passed[place].flow)
    }

    /// Checks every packet of `batch`; counts those that are dropped, and punts those to the router's
    /// link-local addresses, which are not looked up.
    pub(super) fn fill(&mut self, batch: &mut Batch, gate: &Gate<'_>, counters: &mut Counters) {
        (self.count, self.v4.count, self.v6.count) = (0, 0, 0);
        self.without_flow.clear();
        for index in 0..batch.len() {
            match self.admit(batch, index, gate, counters) {
                Ok(()) => {}
                Err(Verdict::Local) => {
                    let lane = gate.snapshot.locals.lane(batch.packet(index).1);
                    batch.punt(index, lane);
                }
                Err(verdict) => counters.count_all(verdict, segments(batch, index)),
            }
        }
        let count =
            if gate.is_injected { &mut counters.originated } else { &mut counters.received };
        *count += batch.len() as u64;
    }

    #[inline(always)]
    fn admit(
        &mut self,
        batch: &mut Batch,
        index: usize,
        gate: &Gate<'_>,
        counters: &mut Counters,
    ) -> Result<(), Verdict> {
        let (slot, bytes) = batch.packet(index);
        if slot.has_zero_offload() {
            if let Some(plain) = Plain::<Ipv4Addr>::parse(bytes) {
                return self.admit_plain(batch, index, gate, &plain);
            }
            if let Some(plain) = Plain::<Ipv6Addr>::parse(bytes) {
                return self.admit_plain(batch, index, gate, &plain);
            }
        }
        self.admit_any(batch, index, gate, counters)
    }

    #[inline(always)]
    fn admit_plain<A: Copy + Into<IpAddr>>(
        &mut self,
        batch: &mut Batch,
        index: usize,
        gate: &Gate<'_>,
        plain: &Plain<A>,
    ) -> Result<(), Verdict> {
        let (slot, bytes) = batch.packet(index);
        let port = slot.port;
        // Without padding, its slot has the right length and shape already.
        if plain.len != bytes.len() {
            batch.settle(index, plain.len, Shape::single(plain.len as u32));
        }
        gate.pass(plain.src.into(), plain.dst.into(), port)?;
        self.add(index, plain.dst.into(), plain.flow.hash(gate.seed));
        Ok(())
    }

    /// Admits any other packet: with options, a fragment, an ICMP message, one with offloads, or an
    /// invalid one.
    #[inline(never)]
    fn admit_any(
        &mut self,
        batch: &mut Batch,
        index: usize,
        gate: &Gate<'_>,
        counters: &mut Counters,
    ) -> Result<(), Verdict> {
        let (slot, bytes) = batch.packet(index);
        let meta = Meta::parse(bytes)?;
        let shape = slot.offload.check(&bytes[..meta.len], &meta)?;
        let port = slot.port;
        batch.settle(index, meta.len, shape);
        // `fill` counts one of its segments.
        counters.received += u64::from(shape.segments) - 1;
        gate.pass(meta.src, meta.dst, port)?;
        let packet = batch.packet(index).1;
        if gate.snapshot.services.has(meta.dst) && quotes_later_fragment(packet, &meta) {
            self.without_flow.push(self.count as u8);
        }
        self.add(index, meta.dst, meta.flow.hash(gate.seed));
        Ok(())
    }

    #[inline(always)]
    fn add(&mut self, index: usize, dst: IpAddr, flow: FlowHash) {
        match dst {
            IpAddr::V4(addr) => self.v4.add(self.count, addr),
            IpAddr::V6(addr) => self.v6.add(self.count, addr),
        }
        self.passed[self.count] = Passed { index, flow };
        self.count += 1;
    }

    /// Looks up the groups of all destinations and prefetches them.
    pub(super) fn look_up(&mut self, fib: &Online<'_>) {
        self.v4.look_up(&mut self.groups, |addrs, found| fib.lookup_batch_v4(addrs, found));
        self.v6.look_up(&mut self.groups, |addrs, found| fib.lookup_batch_v6(addrs, found));
        for &group in &self.groups[..self.count] {
            fib.fetch_group(group);
        }
    }

    /// Selects a member for each packet by `hash`. If that member leaves by the port the packet
    /// came in by because better ones are down, selects another: failover never makes a U-turn. Nor is
    /// a packet sent back to the link that it came from because its destination is an address of it: the
    /// other end has another, or routes it here again (RFC 4443 section 3.1).
    #[inline]
    pub(super) fn select(
        &mut self,
        batch: &Batch,
        (fib, snapshot): (&Fib, &Snapshot),
        mut hash: impl FnMut(FlowHash, Spread) -> FlowHash,
    ) {
        let Self { passed, groups, chosen, count, .. } = self;
        let (passed, groups, chosen) =
            (&passed[..*count], &groups[..*count], &mut chosen[..*count]);
        fib.select_batch(groups, |place, spread| hash(passed[place].flow, spread), chosen);
        for ((&Passed { index, flow }, &group), chosen) in passed.iter().zip(groups).zip(chosen) {
            let ingress = batch.slot(index).port;
            if let Selected::Member { adjacency, .. } = *chosen
                && fib.port(adjacency) == Some(ingress.0)
            {
                let flow = hash(flow, fib.spread(group));
                *chosen = fib.select_onward(group, flow, ingress.0);
                let is_back = matches!(*chosen, Selected::Member { adjacency, .. }
                    if fib.port(adjacency) == Some(ingress.0));
                if is_back && is_on_link(snapshot, ingress, batch.packet(index).1) {
                    *chosen = Selected::UTurn { answer: true };
                }
            }
        }
    }
}

/// Whether a packet is for an address of the link that it came in by, and for no service.
fn is_on_link(snapshot: &Snapshot, ingress: PortId, packet: &[u8]) -> bool {
    let networks = snapshot.port(ingress).map_or(&[][..], |port| &port.networks);
    let Some(dst) = destination(packet).filter(|_| !networks.is_empty()) else {
        return false;
    };
    networks.iter().any(|network| network.contains(dst)) && !snapshot.services.has(dst)
}

/// The destinations of one family, and the positions of their packets.
struct Destinations<A> {
    count: usize,
    addrs: [A; BURST],
    places: [u8; BURST],
    found: [GroupId; BURST],
}

impl<A: Copy> Destinations<A> {
    fn new(nowhere: A) -> Self {
        let (addrs, places) = ([nowhere; BURST], [0; BURST]);
        Self { count: 0, addrs, places, found: [GroupId::NONE; BURST] }
    }

    #[inline]
    fn add(&mut self, place: usize, addr: A) {
        self.addrs[self.count] = addr;
        self.places[self.count] = place as u8;
        self.count += 1;
    }

    fn look_up(&mut self, groups: &mut [GroupId; BURST], all: impl FnOnce(&[A], &mut [GroupId])) {
        let (addrs, found) = (&self.addrs[..self.count], &mut self.found[..self.count]);
        if addrs.is_empty() {
            return;
        }
        all(addrs, found);
        for (&place, &group) in self.places.iter().zip(&*found) {
            groups[usize::from(place)] = group;
        }
    }
}

/// The rules that packets are checked against.
pub(super) struct Gate<'a> {
    fib: &'a Fib,
    snapshot: &'a Snapshot,
    seed: u64,
    is_strict: bool,
    /// The router's own packets may come from its own addresses.
    is_injected: bool,
}

impl<'a> Gate<'a> {
    pub(super) fn new(fib: &'a Fib, snapshot: &'a Snapshot, is_injected: bool) -> Self {
        let is_strict = snapshot.martians == Martians::Strict;
        Self { fib, snapshot, seed: snapshot.hash_seed, is_strict, is_injected }
    }

    /// Checks a packet's addresses, and its source against the port it came in by.
    ///
    /// # Errors
    /// The verdict of a packet that is not forwarded: why it is dropped, or that it is delivered.
    #[inline(always)]
    fn pass(&self, src: IpAddr, dst: IpAddr, port: PortId) -> Result<(), Verdict> {
        if self.is_strict || !(is_ordinary(src) & is_ordinary(dst)) {
            self.pass_odd(src, dst, port)?;
        }
        let entry = self.snapshot.port(port);
        let watched = match entry {
            Some(entry) if entry.facing == Facing::Clients => &self.snapshot.client_sources,
            _ => &self.snapshot.martian_sources,
        };
        if watched.has(src) {
            self.pass_watched(src, port)?;
        }
        if self.snapshot.directed_broadcasts.has(dst) {
            return Err(Verdict::Broadcast);
        }
        match entry.map_or(ReversePath::Off, |entry| entry.reverse_path) {
            ReversePath::Off => Ok(()),
            check => self.pass_back(check, src, port),
        }
    }

    /// Checks a source that may not come in by every port. An exception for a port, such as one to
    /// the host's own kernel, belongs here: it costs other packets nothing.
    #[inline(never)]
    fn pass_watched(&self, src: IpAddr, port: PortId) -> Result<(), Verdict> {
        if self.is_injected {
            return Ok(());
        }
        if self.snapshot.martian_sources.has(src) {
            return Err(Verdict::MartianSource);
        }
        // A service's address. Sites elsewhere may answer across this router, by a port that leads
        // to them.
        let leads_there = self.fib.leads_by(self.fib.lookup(src), port.0);
        if leads_there { Ok(()) } else { Err(Verdict::ServiceSource) }
    }

    #[inline(never)]
    fn pass_odd(&self, src: IpAddr, dst: IpAddr, port: PortId) -> Result<(), Verdict> {
        let martians = self.snapshot.martians;
        let ends = [source_verdict(src, martians), destination_verdict(dst, martians)];
        let Some(first) = ends.into_iter().flatten().next() else { return Ok(()) };
        let is_link_local = ends.into_iter().flatten().all(|end| end == Verdict::LinkLocal);
        let may_be_delivered = is_link_local || is_group(dst);
        let delivered = may_be_delivered.then(|| self.deliver(src, dst, port)).flatten();
        Err(delivered.unwrap_or(first))
    }

    /// What becomes of a packet between link-local addresses, or between one and an address of the
    /// router: it is delivered by the port that the link-local address belongs to (RFC 4291 section
    /// 2.5.6 and RFC 3927 section 7 forbid only to forward it). So is one from a link-local address, or
    /// from a host that has none yet, to a group that routers are discovered by. `None` if it is not for
    /// the router.
    fn deliver(&self, src: IpAddr, dst: IpAddr, port: PortId) -> Option<Verdict> {
        let entry = self.snapshot.port(port)?;
        let own = &entry.link_locals;
        let is_own = if is_group(dst) {
            let is_on_link = is_link_local(src) || src == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            entry.has_discovery && is_on_link
        } else if is_link_local(dst) {
            own.contains(&dst)
        } else {
            let group = self.fib.lookup(dst);
            let flow = FlowHash::of_packet(0, 0);
            self.fib.select(group, flow) == Selected::Local
        };
        if !is_own {
            return None;
        }
        let is_from_here = own.contains(&src) || self.snapshot.martian_sources.has(src);
        Some(if is_from_here { Verdict::MartianSource } else { Verdict::Local })
    }

    /// The reverse-path check. Strict is the feasible-path variant of RFC 3704: sites answer from
    /// the shared anycast address, and a member that is down here may be up for its own side.
    #[inline(never)]
    fn pass_back(&self, check: ReversePath, src: IpAddr, port: PortId) -> Result<(), Verdict> {
        if self.is_injected {
            return Ok(());
        }
        let group = self.fib.lookup(src);
        let is_ok = match check {
            ReversePath::Off => true,
            ReversePath::Loose => self.fib.leads_somewhere(group),
            ReversePath::Strict => self.fib.leads_by(group, port.0),
        };
        if is_ok { Ok(()) } else { Err(Verdict::ReversePath) }
    }
}
