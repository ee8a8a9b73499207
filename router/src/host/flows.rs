//! The TCP connections of the router itself: the adjacency each is pinned to, the least TTL it accepts,
//! and ICMP errors about it.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::header::{Header, ICMP, ICMPV6, TCP, word};
use crate::batch::Exit;
use crate::ids::PortId;
use crate::time::Nanos;

/// The two ends of a TCP connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// A connection that the router opened or accepted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    /// The way out of its packets, by whose port they have to come in.
    pub(super) pin: Option<Exit>,
    /// The least TTL of its packets on arrival (GTSM, RFC 5082: 255).
    pub(super) min_ttl: u8,
    /// When its latest accepted packet was received.
    pub(super) last_rx: Nanos,
    /// Sequence number of the SYN that the router sent.
    syn: Option<u32>,
    /// Type, code and time of arrival of an ICMP error that quoted its SYN.
    pub(super) refused: Option<(u8, u8, Nanos)>,
}

/// All connections, and the rules for connections to each listening TCP port.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: HashMap<Ends, Flow>,
    listeners: HashMap<(Option<IpAddr>, u16), Flow>,
}

/// Why a segment is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Barred {
    /// It came in by another port than its connection is pinned to.
    WrongPort,
    /// Its TTL is below the minimum of its connection or listener.
    LowTtl,
}

impl Flow {
    pub(super) fn new(pin: Option<Exit>, min_ttl: u8) -> Self {
        Self { pin, min_ttl, ..Self::default() }
    }
}

impl Flows {
    pub(super) fn insert(&mut self, ends: Ends, flow: Flow) {
        self.flows.insert(ends, flow);
    }

    pub(super) fn remove(&mut self, ends: Ends) {
        self.flows.remove(&ends);
    }

    pub(super) fn get(&self, ends: Ends) -> Option<&Flow> {
        self.flows.get(&ends)
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
        let local = SocketAddr::new(header.dst, to);
        let Some(flow) = self.rule_mut(Ends { local, remote }) else { return Ok(()) };
        if flow.pin.is_some_and(|pin| pin.port != port) {
            return Err(Barred::WrongPort);
        }
        if header.ttl < flow.min_ttl {
            return Err(Barred::LowTtl);
        }
        flow.last_rx = received;
        Ok(())
    }

    /// Records an ICMP unreachable or time-exceeded that quotes the SYN of a connection being
    /// opened and came in by its port. Other errors do not fail a connection.
    pub(super) fn icmp_error(&mut self, now: Nanos, port: PortId, packet: &[u8], header: &Header) {
        let Some((kind, code, ends, seq)) = quoted_segment(packet, header) else { return };
        let Some(flow) = self.flows.get_mut(&ends) else { return };
        let by_its_port = flow.pin.is_none_or(|pin| pin.port == port);
        if header.dst == ends.local.ip() && by_its_port && flow.syn == Some(seq) {
            flow.refused.get_or_insert((kind, code, now));
        }
    }

    /// The pin of the connection that an outgoing packet belongs to; the outer `None` if it belongs
    /// to none.
    #[allow(clippy::option_option, reason = "an unpinned connection differs from no connection")]
    pub(super) fn outgoing(&mut self, packet: &[u8], header: &Header) -> Option<Option<Exit>> {
        if header.protocol != TCP {
            return None;
        }
        let (from, to) = header.ports(packet)?;
        let remote = SocketAddr::new(header.dst, to);
        let flow = self.rule_mut(Ends { local: SocketAddr::new(header.src, from), remote })?;
        let body = &packet[header.start..header.end];
        if body.get(13).is_some_and(|flags| flags & (TCP_SYN | TCP_ACK) == TCP_SYN) {
            flow.syn = Some(u32::from(word(body, 4)?) << 16 | u32::from(word(body, 6)?));
        }
        Some(flow.pin)
    }

    /// The rule of the connection, or else of the listener.
    fn rule_mut(&mut self, ends: Ends) -> Option<&mut Flow> {
        let Ends { local, .. } = ends;
        if let Some(flow) = self.flows.get_mut(&ends) {
            return Some(flow);
        }
        let exact = (Some(local.ip()), local.port());
        let key = if self.listeners.contains_key(&exact) { exact } else { (None, local.port()) };
        self.listeners.get_mut(&key)
    }
}

/// Type, code, the quoted connection as seen from here, and the quoted sequence number.
fn quoted_segment(packet: &[u8], header: &Header) -> Option<(u8, u8, Ends, u32)> {
    let body = packet.get(header.start..header.end)?;
    let (kind, code) = (*body.first()?, *body.get(1)?);
    let quoted = body.get(8..)?;
    let (src, dst, protocol, rest) = match (header.protocol, kind, code) {
        (ICMP, 3, 4) => return None,
        (ICMP, 3 | 11, _) => {
            let len = usize::from(quoted.first()? & 0xf) * 4;
            let address =
                |at: usize| quoted.get(at..at + 4)?.try_into().ok().map(|a: [u8; 4]| a.into());
            let first = word(quoted, 6)? & FRAGMENT_OFFSET == 0;
            (
                address(12)?,
                address(16)?,
                *quoted.get(9)?,
                quoted.get(len..).filter(|_| first && len >= 20)?,
            )
        }
        (ICMPV6, 1 | 3, _) => {
            let address =
                |at: usize| quoted.get(at..at + 16)?.try_into().ok().map(|a: [u8; 16]| a.into());
            (address(8)?, address(24)?, *quoted.get(6)?, quoted.get(40..)?)
        }
        _ => return None,
    };
    let (src, dst): (IpAddr, IpAddr) = (src, dst);
    let local = SocketAddr::new(src, word(rest, 0)?);
    let remote = SocketAddr::new(dst, word(rest, 2)?);
    let seq = u32::from(word(rest, 4)?) << 16 | u32::from(word(rest, 6)?);
    (protocol == TCP).then_some((kind, code, Ends { local, remote }, seq))
}

const FRAGMENT_OFFSET: u16 = 0x1fff;
const TCP_SYN: u8 = 2;
const TCP_ACK: u8 = 16;
