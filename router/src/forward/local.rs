//! Chooses the lane for packets addressed to the router.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use crate::batch::LocalLane;
use crate::bfd::machine::{PORT, PORT_MULTIHOP};
use crate::packet::{Fragment, Meta, protocol};

/// Rules for packets addressed to the router; the first that matches decides. Packets that match
/// none, and all fragments, go to the host stack, which reassembles them. Fragments of a protocol
/// that a rule sends elsewhere by its ports go there too.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Locals(Vec<Local>);

/// One rule: which packets go to which lane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Local {
    /// The upper-layer protocol.
    pub protocol: u8,
    /// Destination ports; for ICMP and ICMPv6, message types.
    pub ports: RangeInclusive<u16>,
    /// The lane they go to.
    pub lane: LocalLane,
}

impl Locals {
    /// The rules of a router that sends its checks from the UDP ports `udp`. BFD has its ports; packets to
    /// those of checks, and ICMP other than echo requests and router discovery, go to the checks: they may be
    /// answers, or errors about requests.
    pub fn of_checks(udp: RangeInclusive<u16>) -> Self {
        let checks = |protocol, ports| Local { protocol, ports, lane: LocalLane::Checks };
        let bfd =
            |port| Local { protocol: protocol::UDP, ports: port..=port, lane: LocalLane::Bfd };
        Self(vec![
            bfd(PORT),
            bfd(PORT_MULTIHOP),
            checks(protocol::UDP, udp),
            // Every type but the echo request (RFC 792; RFC 4443 section 4.1) and router discovery (RFC 4861).
            checks(protocol::ICMP, 0..=7),
            checks(protocol::ICMP, 9..=255),
            checks(protocol::ICMPV6, 0..=127),
            checks(protocol::ICMPV6, 129..=132),
            checks(protocol::ICMPV6, 135..=255),
        ])
    }

    /// The lane for a packet to one of the router's addresses.
    pub fn lane(&self, packet: &[u8]) -> LocalLane {
        let Ok(meta) = Meta::parse(packet) else { return LocalLane::Host };
        if meta.fragment != Fragment::Whole {
            // A later fragment has no ports.
            let elsewhere = |local: &Local| local.lane != LocalLane::Host;
            let fits = |local: &Local| local.protocol == protocol::UDP && elsewhere(local);
            let is_udp = meta.flow.protocol == protocol::UDP;
            let both = is_udp && self.0.iter().any(fits);
            return if both { LocalLane::Fragments } else { LocalLane::Host };
        }
        // An error is for whoever sent what it quotes: its flow is that packet's, reversed.
        let of = meta.flow.protocol;
        let port = if protocol::is_icmp(of, meta.src.is_ipv6()) {
            packet.get(meta.header_len).copied().map(u16::from)
        } else {
            protocol::has_ports(of).then_some(meta.flow.dst_port)
        };
        let Some(port) = port else { return LocalLane::Host };
        let fits = |local: &&Local| local.protocol == of && local.ports.contains(&port);
        self.0.iter().find(fits).map_or(LocalLane::Host, |local| local.lane)
    }
}

impl FromIterator<Local> for Locals {
    fn from_iter<I: IntoIterator<Item = Local>>(locals: I) -> Self {
        Self(locals.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::build::{Datagram, Echo};

    fn udp(dst: &str) -> Vec<u8> {
        let src = if dst.starts_with('[') { "[fd00::2]:9" } else { "10.0.0.2:9" };
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let mut out = vec![0; 200];
        let len = Datagram { src, dst, ttl: 64, payload: b"x" }.write(&mut out).unwrap();
        out.truncate(len);
        out
    }

    #[test]
    fn the_first_entry_that_fits_decides() {
        let locals: Locals = [
            Local { protocol: protocol::UDP, ports: 100..=199, lane: LocalLane::Checks },
            Local { protocol: protocol::UDP, ports: 0..=u16::MAX, lane: LocalLane::Host },
        ]
        .into_iter()
        .collect();
        for (dst, lane) in [
            ("10.0.0.1:99", LocalLane::Host),
            ("10.0.0.1:100", LocalLane::Checks),
            ("[fd00::1]:199", LocalLane::Checks),
            ("[fd00::1]:200", LocalLane::Host),
        ] {
            assert_eq!(locals.lane(&udp(dst)), lane, "{dst}");
        }
    }

    #[test]
    fn bfd_has_its_ports() {
        let locals = Locals::of_checks(49_152..=65_535);
        for (dst, lane) in [
            ("10.0.0.1:3784", LocalLane::Bfd),
            ("[fd00::1]:4784", LocalLane::Bfd),
            ("10.0.0.1:3785", LocalLane::Host),
        ] {
            assert_eq!(locals.lane(&udp(dst)), lane, "{dst}");
        }
    }

    #[test]
    fn echo_requests_and_router_discovery_are_the_hosts_and_all_other_icmp_the_checks() {
        let locals = Locals::of_checks(49_152..=65_535);
        for (src, dst, at, hosts) in
            [("10.0.0.2", "10.0.0.1", 20, &[8][..]), ("fd00::2", "fd00::1", 40, &[128, 133, 134])]
        {
            let mut packet = vec![0; 200];
            let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
            let echo = Echo { src, dst, ttl: 64, ident: 1, seq: 2, reply: false, data: b"x" };
            let len = echo.write(&mut packet).unwrap();
            packet.truncate(len);
            for kind in 0..=255 {
                packet[at] = kind;
                let expected =
                    if hosts.contains(&kind) { LocalLane::Host } else { LocalLane::Checks };
                assert_eq!(locals.lane(&packet), expected, "type {kind}");
            }
        }
        assert_eq!(locals.lane(&[0x45]), LocalLane::Host, "damaged");
    }

    #[test]
    fn an_error_goes_to_the_sender_of_what_it_quotes() {
        let locals = Locals::of_checks(49_152..=65_535);
        let error = |quoted: &[u8]| {
            let mut out = [0; crate::packet::error::ERROR_MAX];
            let kind = crate::packet::error::ErrorKind::HostUnreachable;
            let from = std::net::IpAddr::from([10, 0, 0, 9]);
            let len = crate::packet::error::build(kind, quoted, from, 0, &mut out).unwrap();
            out[..len].to_vec()
        };
        // A segment of a connection of the router's own, and a datagram of a check's.
        let mut tcp = udp("10.0.0.1:179");
        tcp[9] = protocol::TCP;
        tcp.resize(60, 0);
        tcp[2..4].copy_from_slice(&60_u16.to_be_bytes());
        tcp[32] = 0x50;
        tcp[10..12].fill(0);
        let sum = crate::packet::checksum::Sum::ZERO.bytes(&tcp[..20]).checksum();
        tcp[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(locals.lane(&error(&tcp)), LocalLane::Host);
        let mut check = udp("10.0.0.1:53");
        check[20..22].copy_from_slice(&50_000_u16.to_be_bytes());
        assert_eq!(locals.lane(&error(&check)), LocalLane::Checks);
    }
}
