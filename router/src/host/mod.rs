//! The host stack on the router's own addresses: it answers pings, refuses connections to closed
//! ports, and has TCP and UDP sockets.
//!
//! A [`Host`] is one smoltcp interface for IP packets, without threads, clock or devices. Punted
//! packets enter by [`Host::handle_packet`]. Outgoing packets come from [`Host::poll_transmit`];
//! they re-enter the forwarding step as local origin, or leave by the port that their connection is
//! pinned to.
//!
//! smoltcp can hold only a few addresses. It is configured to accept any address (`set_any_ip`),
//! and addresses are checked here, so there may be any number of them.
//!
//! Fragments are reassembled before smoltcp sees them, in both families: up to
//! [`fragment::DATAGRAMS_MAX`] datagrams at a time, each of up to 65,535 bytes. IPv6 packets with a
//! hop-by-hop header are dropped and counted; other extension headers are answered with a parameter
//! problem.
#![forbid(unsafe_code)]

mod answers;
pub mod check;
mod device;
mod flows;
pub mod fragment;
mod header;
mod icmp;
mod sockets;
mod tcp;

use std::collections::HashMap;
use std::net::IpAddr;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

pub use answers::{AnswerEnds, FragmentedAnswers};
pub use device::RX_MAX;
pub use flows::Handshake;
pub use sockets::{HOST_PORTS, Progress, SocketError, SocketId, TcpOptions};

use crate::batch::Exit;
use crate::ids::PortId;
use crate::packet::martian::is_link_local;
use crate::packet::protocol;
use crate::probe::SOURCE_PORTS;
use crate::secret::SecretRng;
use crate::time::Nanos;
use device::{Cause, Queues, Wire};
use flows::{Barred, Flows};
use fragment::Reassembler;
use header::{Header, ICMP, ICMPV6, IPV6_HOP_BY_HOP, TCP};
use sockets::Sockets;

/// The host stack.
///
/// After every call that takes `&mut self`, except the polls, call [`Self::poll`], then
/// [`Self::poll_transmit`] until `None`, then wait for a packet or until [`Self::poll_timeout`].
pub struct Host {
    addresses: HashMap<IpAddr, Vec<OwnAddress>>,
    interface: Interface,
    set: SocketSet<'static>,
    queues: Queues,
    flows: Flows,
    sockets: Sockets,
    reassembler: Reassembler,
    rng: SecretRng,
    mtu: usize,
    next_id: u32,
    stats: HostStats,
}

/// An address of the router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OwnAddress {
    /// The address.
    pub address: IpAddr,
    /// The port that a link-local address belongs to; others belong to all.
    pub port: Option<PortId>,
    /// The address that answers are sent from: the same, or for an anycast address a unicast one
    /// (RFC 4443 sections 2.2 and 4.2).
    pub unicast: IpAddr,
}

impl From<IpAddr> for OwnAddress {
    fn from(address: IpAddr) -> Self {
        Self { address, port: None, unicast: address }
    }
}

/// Configuration of a host stack.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The router's own addresses, any number.
    pub addresses: Vec<IpAddr>,
    /// Bytes of the largest packet it sends, from which its TCP segment size follows; at least
    /// 1,280 (a smaller value counts as 1,280). Packets that leave by an adjacency with a smaller
    /// MTU are fitted to that by [`crate::forward::originate`].
    pub mtu: u16,
    /// Seed of initial sequence numbers, source ports and identifiers; take it from the operating
    /// system's random source.
    pub seed: u64,
}

/// A packet that the host stack sends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outgoing {
    /// The packet, beginning with its IP header.
    pub packet: Vec<u8>,
    /// The way out that it takes without a route lookup.
    pub pin: Option<Exit>,
    /// Without a `pin`: the port that it leaves by, without a route lookup. Errors, resets, and
    /// answers to link-local addresses leave by the port of the packet that they are about.
    pub by: Option<PortId>,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HostStats {
    /// Packets passed to [`Host::handle_packet`].
    pub received: u64,
    /// Echo requests answered.
    pub echo_replies: u64,
    /// Packets with an invalid length, header checksum or ICMP checksum.
    pub malformed: u64,
    /// Packets to an address that is not the router's.
    pub not_ours: u64,
    /// Packets from an address that is never a valid source, or from the router's own.
    pub bad_source: u64,
    /// IPv6 packets with a hop-by-hop header.
    pub extension: u64,
    /// Packets dropped because the queue to smoltcp was full.
    pub rx_full: u64,
    /// Echo replies dropped because the queue of outgoing packets was full.
    pub tx_full: u64,
    /// Segments by another port than their connection is pinned to.
    pub wrong_port: u64,
    /// Segments with a TTL below the minimum of their connection or listener.
    pub low_ttl: u64,
    /// Resets and SYNs that do not acknowledge the SYN which they would answer.
    pub unacknowledged: u64,
    /// Datagrams that were not reassembled.
    pub fragments_given_up: u64,
    /// ICMP errors and resets not sent because of the rate limit.
    pub limited: u64,
    /// BGP connections from a range that has as many neighbours as it may.
    pub bgp_over_limit: u64,
    /// BGP connections from addresses of no neighbour and no range.
    pub bgp_strangers: u64,
    /// Advertisements of routers that are looked for.
    pub routers_heard: u64,
    /// Messages of router discovery that RFC 4861 refuses.
    pub discovery_refused: u64,
}

impl HostStats {
    /// Label, count and explanation of each, in the order of a packet's way.
    pub const fn rows(&self) -> [(&'static str, u64, &'static str); 17] {
        [
            ("received", self.received, "packets for the host stack"),
            ("malformed", self.malformed, "a wrong length, header checksum or ICMP checksum"),
            ("not-ours", self.not_ours, "to an address that is not the router's"),
            ("bad-source", self.bad_source, "from an address that nobody sends from"),
            ("extension", self.extension, "IPv6 with a hop-by-hop header"),
            ("fragments-given-up", self.fragments_given_up, "datagrams that were not reassembled"),
            ("wrong-port", self.wrong_port, "by another port than their connection is pinned to"),
            ("low-ttl", self.low_ttl, "a TTL below their connection's minimum"),
            (
                "unacknowledged",
                self.unacknowledged,
                "resets and SYNs that do not acknowledge the SYN they would answer",
            ),
            ("rx-full", self.rx_full, "the stack's queue was full"),
            ("echo-replies", self.echo_replies, "echo requests answered"),
            ("tx-full", self.tx_full, "echo replies for which the outgoing queue had no room"),
            ("limited", self.limited, "ICMP errors and resets not sent because of the rate limit"),
            (
                "bgp-over-limit",
                self.bgp_over_limit,
                "BGP connections refused: their range has as many neighbours as it may",
            ),
            (
                "bgp-strangers",
                self.bgp_strangers,
                "BGP connections refused: from the address of no neighbour and no range",
            ),
            ("routers-heard", self.routers_heard, "advertisements of routers that are looked for"),
            (
                "discovery-refused",
                self.discovery_refused,
                "router discovery with what RFC 4861 does not allow",
            ),
        ]
    }
}

impl Host {
    /// A host without sockets.
    pub fn new(now: Nanos, config: HostConfig) -> Self {
        let mtu = usize::from(config.mtu).max(MTU_MIN);
        let mut rng = SecretRng::new(config.seed);
        let mut queues = Queues::new(now, mtu);
        let mut flows = Flows::new(rng.next_u64());
        let mut smoltcp = Config::new(HardwareAddress::Ip);
        smoltcp.random_seed = rng.next_u64();
        let mut wire = Wire { queues: &mut queues, flows: &mut flows };
        let mut interface = Interface::new(smoltcp, &mut wire, instant(now));
        interface.set_any_ip(true);
        Self {
            addresses: by_address(config.addresses),
            interface,
            set: SocketSet::new(Vec::new()),
            queues,
            flows,
            sockets: Sockets::default(),
            reassembler: Reassembler::default(),
            next_id: rng.next_u64() as u32,
            rng,
            mtu,
            stats: HostStats::default(),
        }
    }

    /// Replaces the addresses. Connections of removed addresses are dropped silently. Listeners
    /// stay, and work again if their address returns.
    pub fn set_addresses<A: Into<OwnAddress>>(&mut self, addresses: impl IntoIterator<Item = A>) {
        self.addresses = by_address(addresses);
        self.end_homeless_sockets();
    }

    /// Whether this is one of the router's addresses.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address)
    }

    /// The address from which a packet to `address`, by `port`, is answered.
    fn answer_from(&self, address: IpAddr, port: PortId) -> IpAddr {
        let mut own = self.addresses.get(&address).into_iter().flatten();
        let fits = |own: &&OwnAddress| own.port.is_none_or(|own| own == port);
        own.find(fits).map_or(address, |own| own.unicast)
    }

    /// Handles a packet to the router, received at this time by this port. Bounded: at most one
    /// packet is queued. [`HostStats`] counts the result.
    pub fn handle_packet(&mut self, received: Nanos, port: PortId, packet: &[u8]) {
        self.stats.received += 1;
        let Some(header) = Header::parse(packet) else {
            self.stats.malformed += 1;
            return;
        };
        if !self.has_address(header.dst) {
            self.stats.not_ours += 1;
        } else if !self.can_be_source(header.src) {
            self.stats.bad_source += 1;
        } else if header.src.is_ipv6() && header.protocol == IPV6_HOP_BY_HOP {
            // smoltcp would parse the headers after it, which bypasses the checks of pins and TTL.
            self.stats.extension += 1;
        } else if let Some(fragment) = header.fragment {
            let whole = self.reassembler.add(received, port, packet, &header, fragment);
            if let Some((whole, header)) = whole.and_then(|p| Header::parse(&p).map(|h| (p, h)))
                && !is_for_checks(&whole, &header)
            {
                self.handle_whole(received, port, &whole, &header);
            }
        } else {
            self.handle_whole(received, port, packet, &header);
        }
    }

    /// Runs smoltcp: at most 64 packets in, and as many out as the queue holds.
    pub fn poll(&mut self, now: Nanos) {
        self.queues.now = now;
        self.queues.rx_budget = RX_PER_POLL;
        self.reassembler.handle_timeout(now);
        let mut wire = Wire { queues: &mut self.queues, flows: &mut self.flows };
        self.interface.poll(instant(now), &mut wire, &mut self.set);
        self.tend_sockets();
    }

    /// The next packet to send; call until `None` after every [`Self::poll`].
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Outgoing> {
        self.queues.poll_transmit()
    }

    /// When to call [`Self::poll`] next, which is `now` while packets are queued; `None` is never.
    /// The value may change after any other call that takes `&mut self`.
    #[must_use]
    pub fn poll_timeout(&mut self, now: Nanos) -> Option<Nanos> {
        if self.queues.rx_len() > 0 {
            return Some(now);
        }
        let stack = self.interface.poll_at(instant(now), &self.set);
        let stack = stack.map(|at| Nanos(at.total_micros().unsigned_abs() * 1_000));
        [stack, self.reassembler.poll_timeout()].into_iter().flatten().min()
    }

    /// Counters.
    pub fn stats(&self) -> HostStats {
        let (given_up, limited) = (self.reassembler.given_up, self.queues.limited);
        HostStats { fragments_given_up: given_up, limited, ..self.stats }
    }

    fn can_be_source(&self, address: IpAddr) -> bool {
        let nobody = address.is_unspecified() || address.is_multicast() || address.is_loopback();
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        // A neighbour on one port may have a link-local address that is the router's on another;
        // the forwarding step refuses a port's own.
        let own = self.has_address(address) && !is_link_local(address);
        !nobody && !broadcast && !own
    }

    fn handle_whole(&mut self, received: Nanos, port: PortId, packet: &[u8], header: &Header) {
        match (header.protocol, header.src.is_ipv4()) {
            (ICMP, true) | (ICMPV6, false) => {
                self.handle_icmp(received, port, packet, header);
            }
            (TCP, _) => match self.flows.incoming(received, port, packet, header) {
                Err(Barred::WrongPort) => self.stats.wrong_port += 1,
                Err(Barred::LowTtl) => self.stats.low_ttl += 1,
                Err(Barred::Unacknowledged) => self.stats.unacknowledged += 1,
                Ok(()) => self.enqueue(port, packet, header),
            },
            (IPV6_HOP_BY_HOP, false) => self.stats.extension += 1,
            _ => self.enqueue(port, packet, header),
        }
    }

    fn enqueue(&mut self, port: PortId, packet: &[u8], header: &Header) {
        let cause = Cause { port, unicast: self.answer_from(header.dst, port) };
        if !self.queues.receive(cause, packet) {
            self.stats.rx_full += 1;
        }
    }

    /// Handles an ICMP message. Echo requests are answered here, because smoltcp sends no more than
    /// one MTU. Errors are matched with connections, which smoltcp does not do. Other messages are
    /// ignored.
    fn handle_icmp(&mut self, received: Nanos, port: PortId, packet: &[u8], header: &Header) {
        if !icmp::is_valid(packet, header) {
            self.stats.malformed += 1;
            return;
        }
        self.flows.icmp_error(received, port, packet, header);
        self.next_id = self.next_id.wrapping_add(1);
        let answer = Header { dst: self.answer_from(header.dst, port), ..*header };
        let Some(reply) = icmp::echo_reply(packet, &answer, self.next_id as u16) else { return };
        if !self.queues.has_room() {
            self.stats.tx_full += 1;
            return;
        }
        self.stats.echo_replies += 1;
        let is_on_link = is_link_local(header.src) || is_link_local(header.dst);
        self.queues.send(Outgoing { packet: reply, pin: None, by: is_on_link.then_some(port) });
    }
}

/// Whether a datagram that came in fragments answers a check, which has reassembled it too.
fn is_for_checks(packet: &[u8], header: &Header) -> bool {
    let to = header.ports(packet).map(|(_, to)| to);
    header.protocol == protocol::UDP && to.is_some_and(|to| SOURCE_PORTS.contains(&to))
}

fn by_address<A: Into<OwnAddress>>(
    addresses: impl IntoIterator<Item = A>,
) -> HashMap<IpAddr, Vec<OwnAddress>> {
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for own in addresses.into_iter().map(Into::into) {
        all.entry(own.address).or_default().push(own);
    }
    all
}

/// Converts to smoltcp's clock of microseconds. Rounding down makes its timers late by less than
/// one.
fn instant(now: Nanos) -> Instant {
    Instant::from_micros(i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX))
}

/// The least MTU of an IPv6 link (RFC 8200, section 5), in bytes.
const MTU_MIN: usize = 1_280;

const RX_PER_POLL: usize = 64;

#[cfg(test)]
mod tests;
