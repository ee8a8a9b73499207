//! The fast parser for plain packets, the common case.
//!
//! A [`Meta`] does not fit in registers, and storing and reloading it costs more than parsing the
//! packet a second time. The few fields of a [`Plain`] stay in registers.
#![forbid(unsafe_code)]
#![allow(clippy::inline_always, reason = "fields stay in registers only if inlined")]

use std::net::{Ipv4Addr, Ipv6Addr};

use nearhop_fib::FlowKey;

use super::checksum::Sum;
#[cfg(doc)]
use super::meta::Meta;
use super::{be16, be32, ipv4, ipv6, protocol};

/// A plain packet: no fragment, no options, no extension headers, and ports directly after the IP
/// header. The fields are those of [`Meta`]; the others of that type are constant for such packets,
/// except the TTL and the IPv4 don't-fragment bit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plain<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Bytes of the IP packet. Any bytes after it are link padding, which the caller cuts off.
    pub len: usize,
    /// The flow, by which its site is chosen.
    pub flow: FlowKey,
}

impl Plain<Ipv4Addr> {
    /// Reads a plain packet, with all checks of [`Meta::parse`]. `None` for every other packet,
    /// valid or not.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk::<{ ipv4::HEADER_LEN }>()?;
        let ports = payload.first_chunk::<PORTS_LEN>()?;
        let len = usize::from(be16(header, ipv4::TOTAL_LEN));
        let fragment = be16(header, ipv4::FLAGS) & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET);
        let is_plain = header[0] == 0x45
            && fragment == 0
            && protocol::has_ports(header[ipv4::PROTOCOL])
            && (ipv4::HEADER_LEN + PORTS_LEN..=bytes.len()).contains(&len)
            && Sum::ZERO.bytes(header).is_valid();
        let (src, dst) = (be32(header, ipv4::SRC), be32(header, ipv4::DST));
        is_plain.then(|| Self {
            src: Ipv4Addr::from_bits(src),
            dst: Ipv4Addr::from_bits(dst),
            len,
            flow: FlowKey {
                src: u128::from(src),
                dst: u128::from(dst),
                protocol: header[ipv4::PROTOCOL],
                src_port: be16(ports, 0),
                dst_port: be16(ports, 2),
                label: 0,
            },
        })
    }
}

impl Plain<Ipv6Addr> {
    /// Reads a plain packet, with all checks of [`Meta::parse`]. `None` for every other packet,
    /// valid or not.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
        let ports = payload.first_chunk::<PORTS_LEN>()?;
        let payload_len = usize::from(be16(header, ipv6::PAYLOAD_LEN));
        let is_plain = header[0] >> 4 == 6
            && protocol::has_ports(header[ipv6::NEXT_HEADER])
            && (PORTS_LEN..=payload.len()).contains(&payload_len);
        let (src, dst) = (ipv6::address(header, ipv6::SRC), ipv6::address(header, ipv6::DST));
        is_plain.then(|| Self {
            src,
            dst,
            len: ipv6::HEADER_LEN + payload_len,
            flow: FlowKey {
                src: src.to_bits(),
                dst: dst.to_bits(),
                protocol: header[ipv6::NEXT_HEADER],
                src_port: be16(ports, 0),
                dst_port: be16(ports, 2),
                label: be32(header, 0) & ipv6::FLOW_LABEL,
            },
        })
    }
}

const PORTS_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::protocol::{DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDP_LITE};
    use crate::packet::samples::*;
    use crate::packet::{Fragment, Meta};

    /// Whether the packet is plain; asserts that [`Meta`] agrees if so.
    fn is_plain(bytes: &[u8]) -> bool {
        let v4 = Plain::<Ipv4Addr>::parse(bytes)
            .map(|plain| (plain.src.into(), plain.dst.into(), plain.len, plain.flow));
        let v6 = Plain::<Ipv6Addr>::parse(bytes)
            .map(|plain| (plain.src.into(), plain.dst.into(), plain.len, plain.flow));
        assert!(v4.is_none() || v6.is_none());
        let Some(plain) = v4.or(v6) else { return false };
        let meta = Meta::parse(bytes).expect("`Plain` accepted what `Meta` refuses");
        assert_eq!(plain, (meta.src, meta.dst, meta.len, meta.flow));
        assert_eq!(meta.fragment, Fragment::Whole);
        true
    }

    #[test]
    fn transports_with_ports_are_plain_and_nothing_else_is() {
        for protocol in [TCP, UDP, UDP_LITE, SCTP, DCCP] {
            for mut bytes in [
                packet(CLIENT_V4, SERVICE_V4, protocol, &ports(4000, 53)),
                packet(CLIENT_V6, SERVICE_V6, protocol, &ports(4000, 53)),
            ] {
                assert!(is_plain(&bytes), "{bytes:x?}");
                bytes.extend([0xee; 10]);
                assert!(is_plain(&bytes), "with padding");
                for len in 0..bytes.len() - 10 {
                    assert!(!is_plain(&bytes[..len]), "cut to {len}");
                }
                for (offset, more) in [(0, true), (1, false), (9, true)] {
                    assert!(!is_plain(&fragment(&bytes, offset, more)));
                }
            }
        }
        for other in [
            packet(CLIENT_V4, SERVICE_V4, ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]),
            packet(CLIENT_V6, SERVICE_V6, ICMPV6, &[128, 0, 0, 0, 0, 0, 0, 0]),
            packet(CLIENT_V4, SERVICE_V4, 47, &ports(4000, 53)),
            packet(CLIENT_V6, SERVICE_V6, 60, &[UDP, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2]),
            with_options(&packet(CLIENT_V4, SERVICE_V4, UDP, &ports(4000, 53)), &[148, 4, 0, 0]),
        ] {
            assert!(!is_plain(&other), "{other:x?}");
        }
    }

    #[test]
    fn any_bit_flipped_in_an_ipv4_header_is_found() {
        let good = packet(CLIENT_V4, SERVICE_V4, UDP, &ports(4000, 53));
        for bit in 0..20 * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_plain(&bad), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn says_what_meta_says(
            v6: bool,
            changes in prop::collection::vec((0..48_usize, any::<u8>()), 0..4),
            len in 0..60_usize,
        ) {
            let mut bytes = if v6 {
                packet(CLIENT_V6, SERVICE_V6, TCP, &ports(1, 2))
            } else {
                packet(CLIENT_V4, SERVICE_V4, UDP, &ports(3, 4))
            };
            bytes.resize(60, 0);
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if !v6 {
                fix_checksum(&mut bytes);
            }
            is_plain(&bytes);
            is_plain(&bytes[..len]);
        }
    }
}
