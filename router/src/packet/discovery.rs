//! Router discovery (RFC 4861): solicitations and advertisements, as far as routers that look for each other
//! on a link need them. What an advertisement says to hosts is ignored.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv6Addr};

use super::envelope::Envelope;
use super::icmp::Message;
use super::{Fragment, Meta, icmpv6, ipv6, protocol};

/// A valid message of router discovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Discovery {
    /// Somebody asks for advertisements.
    Solicitation,
    /// The router with this link-local address is there.
    Advertisement(Ipv6Addr),
}

/// Why a message of router discovery is ignored (RFC 4861 sections 6.1.1 and 6.1.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Invalid {
    /// A fragment, which RFC 6980 forbids.
    Fragment,
    /// Its hop limit is not 255: it may come from beyond the link.
    HopLimit,
    /// Its checksum is wrong.
    Checksum,
    /// Its code is not 0.
    Code,
    /// It is shorter than its type allows, or an option is empty or cut off.
    Length,
    /// An advertisement from an address that is not link-local.
    Source,
}

impl Discovery {
    /// Reads a packet; `None` if it is no message of router discovery.
    pub fn parse(packet: &[u8]) -> Option<Result<Self, Invalid>> {
        let meta = Meta::parse(packet).ok()?;
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (meta.src, meta.dst) else { return None };
        if meta.protocol != protocol::ICMPV6 || matches!(meta.fragment, Fragment::Later) {
            return None;
        }
        let body = packet.get(meta.header_len..meta.len)?;
        let message = Message::parse(body).ok()?;
        let kind = message.kind();
        if !matches!(kind, icmpv6::ROUTER_SOLICITATION | icmpv6::ROUTER_ADVERTISEMENT) {
            return None;
        }
        Some(check(&meta, &message, body, (src, dst)).map(|()| match kind {
            icmpv6::ROUTER_SOLICITATION => Self::Solicitation,
            _ => Self::Advertisement(src),
        }))
    }
}

/// An advertisement of a router that is nobody's default router: its lifetime is 0, and it says nothing else.
pub fn advertisement(src: Ipv6Addr) -> Vec<u8> {
    let mut body = [0; ADVERTISEMENT_LEN];
    body[0] = icmpv6::ROUTER_ADVERTISEMENT;
    packet(src, ALL_NODES, &mut body)
}

/// A question for advertisements.
pub fn solicitation(src: Ipv6Addr) -> Vec<u8> {
    let mut body = [0; SOLICITATION_LEN];
    body[0] = icmpv6::ROUTER_SOLICITATION;
    packet(src, ALL_ROUTERS, &mut body)
}

/// Whether messages of router discovery are sent to this group of a link.
pub fn is_group(address: IpAddr) -> bool {
    address == ALL_NODES || address == ALL_ROUTERS
}

fn check(
    meta: &Meta,
    message: &Message<'_>,
    body: &[u8],
    (src, dst): (Ipv6Addr, Ipv6Addr),
) -> Result<(), Invalid> {
    let is_advertisement = message.kind() == icmpv6::ROUTER_ADVERTISEMENT;
    if meta.fragment != Fragment::Whole {
        return Err(Invalid::Fragment);
    }
    if meta.ttl != HOP_LIMIT {
        return Err(Invalid::HopLimit);
    }
    if !icmpv6::is_valid(message, src, dst) {
        return Err(Invalid::Checksum);
    }
    if message.code() != 0 {
        return Err(Invalid::Code);
    }
    let fixed = if is_advertisement { ADVERTISEMENT_LEN } else { SOLICITATION_LEN };
    let mut options = body.get(fixed..).ok_or(Invalid::Length)?;
    while !options.is_empty() {
        let len = options.get(1).map_or(0, |&units| usize::from(units) * 8);
        options = options.get(len..).filter(|_| len > 0).ok_or(Invalid::Length)?;
    }
    if is_advertisement && !src.is_unicast_link_local() {
        return Err(Invalid::Source);
    }
    Ok(())
}

fn packet(src: Ipv6Addr, dst: Ipv6Addr, body: &mut [u8]) -> Vec<u8> {
    let envelope = Envelope {
        src: src.into(),
        dst: dst.into(),
        protocol: protocol::ICMPV6,
        ttl: HOP_LIMIT,
        traffic_class: INTERNETWORK_CONTROL,
        ident: None,
    };
    let sum = envelope.pseudo(body.len()).bytes(body).checksum();
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut out = [&[0; ipv6::HEADER_LEN][..], body].concat();
    // There is room for all of it, and both addresses are of one family.
    let _ = envelope.write(&mut out, body.len());
    out
}

/// All nodes of a link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// All routers of a link.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// What no router between may have decremented.
const HOP_LIMIT: u8 = 255;

/// Class selector 6 (RFC 2474), in the place of the traffic class.
const INTERNETWORK_CONTROL: u8 = 48 << 2;

/// Bytes before the options.
const ADVERTISEMENT_LEN: usize = 16;
const SOLICITATION_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum::Sum;

    const FROM: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    /// The packet with a right checksum again, after `change`; its length grows or shrinks with it.
    fn changed(mut packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        change(&mut packet);
        let len = packet.len() - ipv6::HEADER_LEN;
        packet[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        packet[42..44].fill(0);
        let address = |at: usize| -> IpAddr {
            Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap()).into()
        };
        let sum = Sum::pseudo(address(8), address(24), protocol::ICMPV6, len);
        let sum = sum.bytes(&packet[40..]).checksum();
        packet[42..44].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    #[test]
    fn an_advertisement_is_as_rfc_4861_says_and_read_again() {
        let packet = advertisement(FROM);
        assert_eq!(packet.len(), 56);
        assert_eq!((packet[6], packet[7]), (58, 255), "ICMPv6, hop limit 255");
        assert_eq!(packet[24..40], ALL_NODES.octets());
        assert_eq!((packet[40], packet[41]), (134, 0));
        assert_eq!(packet[44..56], [0; 12], "no hop limit, flags, lifetime, times");
        assert_eq!(Discovery::parse(&packet), Some(Ok(Discovery::Advertisement(FROM))));
        let asked = solicitation(FROM);
        assert_eq!((asked.len(), asked[40]), (48, 133));
        assert_eq!(asked[24..40], ALL_ROUTERS.octets());
        assert_eq!(Discovery::parse(&asked), Some(Ok(Discovery::Solicitation)));
    }

    #[test]
    fn what_a_host_would_be_told_is_ignored() {
        // A lifetime, a prefix and a link-layer address, as of a router that serves hosts.
        let full = changed(advertisement(FROM), |packet| {
            packet[46..48].copy_from_slice(&1800_u16.to_be_bytes());
            packet.extend([1, 1, 2, 0, 0, 0, 0, 1]);
            packet.extend([&[3, 4][..], &[0; 30]].concat());
        });
        assert_eq!(Discovery::parse(&full), Some(Ok(Discovery::Advertisement(FROM))));
    }

    #[test]
    fn what_rfc_4861_refuses_is_refused() {
        type Change = fn(&mut Vec<u8>);
        let changes: [(Change, Invalid); 8] = [
            (|packet| packet[7] = 254, Invalid::HopLimit),
            (|packet| packet[41] = 1, Invalid::Code),
            (|packet| packet.truncate(48), Invalid::Length),
            (|packet| packet.extend([1, 0, 0, 0, 0, 0, 0, 0]), Invalid::Length),
            (|packet| packet.extend([1, 2, 0, 0, 0, 0, 0, 0]), Invalid::Length),
            (|packet| packet.push(1), Invalid::Length),
            (|packet| packet[8] = 0x20, Invalid::Source),
            (|packet| packet[8..24].fill(0), Invalid::Source),
        ];
        for (index, (change, why)) in changes.into_iter().enumerate() {
            let packet = changed(advertisement(FROM), change);
            assert_eq!(Discovery::parse(&packet), Some(Err(why)), "change {index}");
        }
        let mut wrong = advertisement(FROM);
        wrong[43] ^= 1;
        assert_eq!(Discovery::parse(&wrong), Some(Err(Invalid::Checksum)));
        // A host that has no address yet may ask.
        let asked = changed(solicitation(FROM), |packet| packet[8..24].fill(0));
        assert_eq!(Discovery::parse(&asked), Some(Ok(Discovery::Solicitation)));
    }

    #[test]
    fn a_first_fragment_is_refused_and_other_packets_are_others() {
        let whole = advertisement(FROM);
        let mut first = whole[..40].to_vec();
        first[6] = protocol::FRAGMENT;
        first.extend([58, 0, 0, 1, 0, 0, 0, 9]);
        first.extend(&whole[40..56]);
        first[4..6].copy_from_slice(&24_u16.to_be_bytes());
        assert_eq!(Discovery::parse(&first), Some(Err(Invalid::Fragment)));
        let echo = changed(whole.clone(), |packet| packet[40] = icmpv6::ECHO_REQUEST);
        assert_eq!(Discovery::parse(&echo), None);
        for len in 0..whole.len() {
            assert_eq!(Discovery::parse(&whole[..len]), None, "{len} bytes of it");
        }
    }
}
