//! The TCP connections of the router itself: the adjacency each is pinned to, the least TTL it accepts,
//! how its handshake ended, and ICMP errors about it.
//!
//! smoltcp evaluates handshakes too, but takes a SYN without acknowledgement for a simultaneous
//! open, after which any reset ends the connection. What decides a check is decided here.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::header::{Header, ICMP, ICMPV6, TCP, long, word};
use crate::batch::Exit;
use crate::ids::PortId;
use crate::packet::ipv6::FLOW_LABEL;
use crate::packet::martian::is_link_local;
use crate::packet::tcp::{ACK, RST, SYN, Tcp};
use crate::probe::{ErrorSeen, Ignore, Ignored, stamp};
use crate::secret::SecretRng;
use crate::time::Nanos;

/// The two ends of a TCP connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// Where connections lead: local address, remote end, and the port that they are pinned to.
pub(super) type Way = (IpAddr, SocketAddr, PortId);

/// How the handshake of a connection that the router opened ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Handshake {
    /// The remote end accepted it then.
    Opened(Nanos),
    /// The remote end refused it by an ICMP error that quotes the SYN.
    Refused {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// When it was received.
        at: Nanos,
    },
    /// The remote end reset it then, and acknowledged the SYN.
    Reset(Nanos),
}

/// A connection that the router opened or accepted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    /// The way out of its packets, by whose port they have to come in.
    pub(super) pin: Option<Exit>,
    /// Without a pin: the port by whose link its link-local addresses count.
    pub(super) link: Option<PortId>,
    /// The least TTL of its packets on arrival (GTSM, RFC 5082: 255).
    pub(super) min_ttl: u8,
    /// When its latest accepted packet was received.
    pub(super) last_rx: Nanos,
    /// IPv6 flow label of its packets, 20 random bits.
    label: u32,
    /// The latest SYN that the router sent.
    syn: Option<Syn>,
    /// How that ended.
    pub(super) handshake: Option<Handshake>,
    /// The remote end takes its SYN for part of another connection.
    pub(super) entangled: bool,
    /// Packets that changed nothing.
    pub(super) ignored: Ignored,
    /// The latest ICMP error that quoted its SYN.
    pub(super) last_error: Option<ErrorSeen>,
}

/// What an answer or an error has to repeat.
#[derive(Clone, Copy, Debug)]
struct Syn {
    seq: u32,
    /// IPv4 identification.
    ident: u16,
}

/// How a packet of a connection leaves; by a route if neither is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) pin: Option<Exit>,
    pub(super) by: Option<PortId>,
}

/// All connections, and the rules for connections to each listening TCP port.
#[derive(Debug)]
pub(super) struct Flows {
    connections: HashMap<Ends, Flow>,
    listeners: HashMap<(Option<IpAddr>, u16), Flow>,
    /// Ways that checks take, how many of them each, and what was ignored there that belongs to no
    /// connection.
    ways: BTreeMap<Way, (u32, Ignored)>,
    /// Whether any of these is not 0.
    has_strays: bool,
    /// The latest connections to listeners between link-local addresses that are not accepted yet: by which
    /// port each came in, and when. Beyond [`ARRIVALS_MAX`] the oldest is forgotten.
    arrivals: VecDeque<(Ends, PortId, Nanos)>,
    rng: SecretRng,
}

/// Why a segment is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Barred {
    /// It came in by another port than its connection is pinned to.
    WrongPort,
    /// Its TTL is below the minimum of its connection or listener.
    LowTtl,
    /// It would end a handshake, but does not acknowledge the SYN.
    Unacknowledged,
}

impl Flow {
    pub(super) fn new(pin: Option<Exit>, min_ttl: u8) -> Self {
        Self { pin, min_ttl, ..Self::default() }
    }

    /// The only port by which its packets come in; `None` is any.
    pub(super) fn port(&self) -> Option<PortId> {
        self.pin.map(|pin| pin.port).or(self.link)
    }

    /// Evaluates a segment that came in by the right port while the handshake is under way.
    /// Segments that cannot change it are for smoltcp, which resets what is half open there.
    fn advance(&mut self, received: Nanos, header: &Header, segment: &[u8]) -> Result<(), Barred> {
        let (Some(syn), None) = (self.syn, self.handshake) else { return Ok(()) };
        let Ok(tcp) = Tcp::parse(segment) else { return Ok(()) };
        let acknowledges = tcp.flags() & ACK != 0 && tcp.ack() == syn.seq.wrapping_add(1);
        let flags = tcp.flags() & (SYN | ACK | RST);
        if flags == 0 || !tcp.is_valid(header.src, header.dst) {
            return Ok(());
        }
        if acknowledges {
            self.handshake = match flags {
                flags if flags & RST != 0 => Some(Handshake::Reset(received)),
                flags if flags & SYN != 0 => Some(Handshake::Opened(received)),
                _ => None,
            };
            return Ok(());
        }
        self.ignored.count(Ignore::Answer);
        if flags & RST != 0 || flags == SYN {
            return Err(Barred::Unacknowledged);
        }
        self.entangled = true;
        Ok(())
    }

    /// Evaluates an ICMP error whose quote has the ends of this connection.
    fn refuse(
        &mut self,
        now: Nanos,
        port: PortId,
        seen: ErrorSeen,
        quoted: &QuotedSegment,
    ) -> Result<(), Ignore> {
        if self.port().is_some_and(|own| own != port) {
            return Err(Ignore::OtherPort);
        }
        let seq = quoted.seq.ok_or(Ignore::ShortQuote)?;
        let unguessed = |syn: &Syn| match seen.from {
            IpAddr::V4(_) => syn.ident == quoted.ident,
            IpAddr::V6(_) => self.label == quoted.label,
        };
        if !self.syn.as_ref().is_some_and(|syn| syn.seq == seq && unguessed(syn)) {
            return Err(Ignore::Mismatch);
        }
        self.last_error = Some(seen);
        seen.judge(quoted.ends.remote.ip())?;
        if self.handshake.is_some() {
            return Err(Ignore::Stale);
        }
        self.handshake = Some(Handshake::Refused { kind: seen.kind, code: seen.code, at: now });
        Ok(())
    }
}

impl Flows {
    /// None yet. What its connections bear that nobody can guess follows from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            connections: HashMap::new(),
            listeners: HashMap::new(),
            ways: BTreeMap::new(),
            has_strays: false,
            arrivals: VecDeque::new(),
            rng: SecretRng::new(seed),
        }
    }

    pub(super) fn insert(&mut self, ends: Ends, flow: Flow) {
        let label = self.rng.next_label();
        self.connections.insert(ends, Flow { label, ..flow });
    }

    /// From now on packets of a connection need at least this TTL.
    pub(super) fn require_ttl(&mut self, ends: Ends, min_ttl: u8) {
        if let Some(flow) = self.connections.get_mut(&ends) {
            flow.min_ttl = min_ttl;
        }
    }

    /// Counts what is ignored on this way, for one check more.
    pub(super) fn watch(&mut self, way: Way) {
        self.ways.entry(way).or_default().0 += 1;
    }

    /// Undoes [`Self::watch`].
    pub(super) fn unwatch(&mut self, way: Way) {
        if let Some((checks, _)) = self.ways.get_mut(&way) {
            *checks = checks.saturating_sub(1);
            if *checks == 0 {
                self.ways.remove(&way);
            }
        }
    }

    /// Takes what was ignored on watched ways and belongs to no connection.
    pub(super) fn take_strays(&mut self) -> Vec<(Way, Ignored)> {
        if !std::mem::take(&mut self.has_strays) {
            return Vec::new();
        }
        let counted = self.ways.iter_mut().filter(|(_, (_, count))| *count != Ignored::default());
        counted.map(|(way, (_, count))| (*way, std::mem::take(count))).collect()
    }

    fn stray(&mut self, ends: Ends, port: PortId, reason: Ignore) {
        if let Some((_, ignored)) = self.ways.get_mut(&(ends.local.ip(), ends.remote, port)) {
            ignored.count(reason);
            self.has_strays = true;
        }
    }

    pub(super) fn remove(&mut self, ends: Ends) {
        self.connections.remove(&ends);
    }

    pub(super) fn get(&self, ends: Ends) -> Option<&Flow> {
        self.connections.get(&ends)
    }

    pub(super) fn listen(&mut self, local: Option<IpAddr>, port: u16, rule: Flow) {
        self.listeners.insert((local, port), rule);
    }

    pub(super) fn unlisten(&mut self, local: Option<IpAddr>, port: u16) {
        self.listeners.remove(&(local, port));
    }

    pub(super) fn is_listening(&self, local: Option<IpAddr>, port: u16) -> bool {
        self.listeners.contains_key(&(local, port))
    }

    /// Checks whether a received TCP segment may be passed to smoltcp.
    pub(super) fn incoming(
        &mut self,
        received: Nanos,
        port: PortId,
        packet: &[u8],
        header: &Header,
    ) -> Result<(), Barred> {
        let Some((from, to)) = header.ports(packet) else { return Ok(()) };
        let remote = SocketAddr::new(header.src, from);
        let ends = Ends { local: SocketAddr::new(header.dst, to), remote };
        let segment = &packet[header.start..header.end];
        if self.note_arrival(received, port, ends, segment) == Err(Barred::WrongPort) {
            return Err(Barred::WrongPort);
        }
        let Some(flow) = self.rule_mut(ends) else {
            if segment.get(13).is_some_and(|flags| flags & RST != 0) {
                self.stray(ends, port, Ignore::Answer);
            }
            return Ok(());
        };
        if flow.port().is_some_and(|own| own != port) {
            flow.ignored.count(Ignore::OtherPort);
            return Err(Barred::WrongPort);
        }
        if header.ttl < flow.min_ttl {
            return Err(Barred::LowTtl);
        }
        flow.advance(received, header, segment)?;
        flow.last_rx = received;
        Ok(())
    }

    /// A segment to a listener between link-local addresses, which mean nothing without a port: its
    /// connection belongs to the port that its SYN came in by.
    fn note_arrival(
        &mut self,
        now: Nanos,
        port: PortId,
        ends: Ends,
        segment: &[u8],
    ) -> Result<(), Barred> {
        if !is_scoped(ends) || self.connections.contains_key(&ends) {
            return Ok(());
        }
        self.arrivals.retain(|(_, _, at)| now.since(*at) < ARRIVAL_KEPT);
        if let Some((_, of, _)) = self.arrivals.iter().find(|(known, ..)| *known == ends) {
            return if *of == port { Ok(()) } else { Err(Barred::WrongPort) };
        }
        let is_syn = segment.get(13).is_some_and(|flags| flags & (SYN | ACK | RST) == SYN);
        if is_syn && self.rule_mut(ends).is_some() {
            if self.arrivals.len() == ARRIVALS_MAX {
                self.arrivals.pop_front();
            }
            self.arrivals.push_back((ends, port, now));
        }
        Ok(())
    }

    /// The port by whose link a connection to a listener counts; `None` if its addresses count by any, or it
    /// is not known any more.
    fn arrived_by(&self, ends: Ends) -> Option<PortId> {
        let arrival = self.arrivals.iter().find(|(known, ..)| *known == ends);
        arrival.map(|(_, port, _)| *port)
    }

    /// A connection to a listener is accepted, under this rule. `false` if it is between link-local
    /// addresses, and nobody knows any more of which port.
    pub(super) fn accept(&mut self, ends: Ends, rule: Flow) -> bool {
        let link = self.arrived_by(ends);
        self.arrivals.retain(|(known, ..)| *known != ends);
        self.insert(ends, Flow { link, ..rule });
        link.is_some() || rule.pin.is_some() || !is_scoped(ends)
    }

    /// Handles an ICMP error, which may refuse a connection that the router is opening: see
    /// [`crate::probe`]. Other errors are counted.
    pub(super) fn icmp_error(&mut self, now: Nanos, port: PortId, packet: &[u8], header: &Header) {
        let Some((seen, quoted)) = QuotedSegment::read(packet, header) else { return };
        if header.dst != quoted.ends.local.ip() {
            return;
        }
        match self.connections.get_mut(&quoted.ends) {
            Some(flow) => {
                if let Err(reason) = flow.refuse(now, port, seen, &quoted) {
                    flow.ignored.count(reason);
                }
            }
            None => self.stray(quoted.ends, port, Ignore::Mismatch),
        }
    }

    /// How an outgoing packet leaves, by the connection that it belongs to, which gets an identification or
    /// a flow label; `None` if it belongs to none.
    pub(super) fn outgoing(&mut self, packet: &mut [u8], header: &Header) -> Option<Leaving> {
        if header.protocol != TCP {
            return None;
        }
        let (from, to) = header.ports(packet)?;
        let remote = SocketAddr::new(header.dst, to);
        let ident = self.rng.next_u16();
        let ends = Ends { local: SocketAddr::new(header.src, from), remote };
        let arrived_by = self.arrived_by(ends);
        let flow = self.rule_mut(ends)?;
        stamp(packet, ident, flow.label);
        let body = &packet[header.start..header.end];
        if body.get(13).is_some_and(|flags| flags & (SYN | ACK) == SYN) {
            flow.syn = Some(Syn { seq: long(body, 4)?, ident });
        }
        Some(Leaving { pin: flow.pin, by: flow.link.or(arrived_by) })
    }

    /// The rule of the connection, or else of the listener.
    fn rule_mut(&mut self, ends: Ends) -> Option<&mut Flow> {
        let Ends { local, .. } = ends;
        if let Some(flow) = self.connections.get_mut(&ends) {
            return Some(flow);
        }
        let exact = (Some(local.ip()), local.port());
        let key = if self.listeners.contains_key(&exact) { exact } else { (None, local.port()) };
        self.listeners.get_mut(&key)
    }
}

/// Whether the ends mean something only together with a port.
fn is_scoped(ends: Ends) -> bool {
    is_link_local(ends.local.ip()) || is_link_local(ends.remote.ip())
}

/// A TCP segment of the router's own that an ICMP error quotes.
struct QuotedSegment {
    ends: Ends,
    /// Sequence number, if it was quoted.
    seq: Option<u32>,
    /// IPv4 identification; 0 in IPv6.
    ident: u16,
    /// IPv6 flow label; 0 in IPv4.
    label: u32,
}

impl QuotedSegment {
    fn read(packet: &[u8], header: &Header) -> Option<(ErrorSeen, Self)> {
        let body = packet.get(header.start..header.end)?;
        let (kind, code) = (*body.first()?, *body.get(1)?);
        let quoted = body.get(8..)?;
        let (src, dst, protocol, rest) = match (header.protocol, kind) {
            (ICMP, 3 | 4 | 5 | 11 | 12) => {
                let len = usize::from(quoted.first()? & 0xf) * 4;
                let address =
                    |at: usize| quoted.get(at..at + 4)?.try_into().ok().map(|a: [u8; 4]| a.into());
                let first = word(quoted, 6)? & FRAGMENT_OFFSET == 0;
                let rest = quoted.get(len..).filter(|_| first && len >= 20)?;
                (address(12)?, address(16)?, *quoted.get(9)?, rest)
            }
            (ICMPV6, 0..=127) => {
                let address = |at: usize| {
                    quoted.get(at..at + 16)?.try_into().ok().map(|a: [u8; 16]| a.into())
                };
                (address(8)?, address(24)?, *quoted.get(6)?, quoted.get(40..)?)
            }
            _ => return None,
        };
        if protocol != TCP {
            return None;
        }
        let (src, dst): (IpAddr, IpAddr) = (src, dst);
        let local = SocketAddr::new(src, word(rest, 0)?);
        let remote = SocketAddr::new(dst, word(rest, 2)?);
        let (ident, label) = match header.src {
            IpAddr::V4(_) => (word(quoted, 4)?, 0),
            IpAddr::V6(_) => (0, long(quoted, 0)? & FLOW_LABEL),
        };
        let ends = Ends { local, remote };
        let seen = ErrorSeen { from: header.src, kind, code };
        Some((seen, Self { ends, seq: long(rest, 4), ident, label }))
    }
}

const FRAGMENT_OFFSET: u16 = 0x1fff;

/// More than all listeners between link-local addresses have in their backlogs.
const ARRIVALS_MAX: usize = 64;

/// Longer than a listener keeps a connection that is not open yet.
const ARRIVAL_KEPT: Duration = Duration::from_secs(15);
