//! ICMP and ICMPv6 errors: when one may be sent (RFC 1812 section 4.3.2, RFC 4443 section 2.4), and
//! how it is encoded.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::envelope::Envelope;
use super::ipv4::Ipv4;
use super::ipv6::{self, Ipv6};
use super::martian::source_verdict;
use super::{Fragment, Meta, checksum::Sum, icmp, icmpv6, protocol};
use crate::policy::Martians;

/// Why an ICMP error is sent, in either family.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorKind {
    /// Communication is administratively prohibited.
    AdminProhibited,
    /// A header field has a value that is not understood, `pointer` bytes into the packet.
    BadHeader {
        /// Offset in the packet, in bytes.
        pointer: u32,
    },
    /// The destination's network is attached, but the host cannot be reached.
    HostUnreachable,
    /// There is no route to the destination.
    NetUnreachable,
    /// No application listens on the port.
    PortUnreachable,
    /// The protocol named `pointer` bytes into the packet is not implemented here.
    ProtocolUnreachable {
        /// Offset in the packet, in bytes; ICMP for IPv4 has no field for it.
        pointer: u32,
    },
    /// The TTL or hop limit reached zero.
    TimeExceeded,
    /// The packet exceeds the MTU of its adjacency and must not be fragmented here.
    TooBig {
        /// That MTU: bytes of the largest IP packet.
        mtu: u32,
    },
    /// An unknown option, `pointer` bytes into the packet, asks nodes that do not know it to report
    /// it.
    UnknownOption {
        /// Offset in the packet, in bytes.
        pointer: u32,
    },
}

impl ErrorKind {
    /// Type, code and the four bytes after the checksum, for IPv4 and for IPv6.
    ///
    /// IPv4: RFC 792, RFC 1191 section 4, RFC 1812 section 5.2.7.1. IPv6: RFC 4443 section 3.
    const fn table(self) -> [ErrorHeader; 2] {
        match self {
            Self::NetUnreachable => [header(3, 0, 0), header(1, 0, 0)],
            Self::AdminProhibited => [header(3, 13, 0), header(1, 1, 0)],
            Self::HostUnreachable => [header(3, 1, 0), header(1, 3, 0)],
            Self::PortUnreachable => [header(3, 3, 0), header(1, 4, 0)],
            Self::ProtocolUnreachable { pointer } => [header(3, 2, 0), header(4, 1, pointer)],
            Self::TooBig { mtu } => {
                let mtu_v4 = if mtu > 0xffff { 0xffff } else { mtu };
                [header(3, 4, mtu_v4), header(2, 0, mtu)]
            }
            Self::TimeExceeded => [header(11, 0, 0), header(3, 0, 0)],
            Self::BadHeader { pointer } => [header(12, 0, pointer << 24), header(4, 0, pointer)],
            Self::UnknownOption { pointer } => {
                [header(12, 0, pointer << 24), header(4, 2, pointer)]
            }
        }
    }

    /// Whether this error is also sent about multicast packets (RFC 4443 section 2.4 e.3): path MTU
    /// discovery and unknown options need it.
    const fn is_for_multicast(self) -> bool {
        matches!(self, Self::TooBig { .. } | Self::UnknownOption { .. })
    }
}

/// Whether an error of this kind may be sent about `packet`, whose [`Meta`] is `meta`.
///
/// No error may be sent about ICMP errors and redirects (unknown types count as errors), later
/// fragments in IPv4, a source that does not identify a single host (unspecified, loopback, multicast,
/// broadcast, reserved), a link-local source, to which nothing is routed, or multicast and
/// broadcast destinations, except IPv6 multicast packets that are too big or have an unknown
/// option. A later fragment of an IPv6 packet may be the only one that is too big; it is answered, unless
/// it is one of ICMPv6, whose type is in the first. The caller checks for directed broadcasts and applies
/// rate limits.
pub fn may_answer(kind: ErrorKind, packet: &[u8], meta: &Meta) -> bool {
    !(meta.fragment == Fragment::Later && hides_errors(meta))
        && source_verdict(meta.src, Martians::Default).is_none()
        && may_answer_to_destination(kind, meta.dst)
        && !is_icmp_error(packet, meta)
}

/// Writes the error about `offender` into `out` and returns its length in bytes. `source` is the
/// address of the port it leaves by, in the offender's family.
///
/// The error quotes as much of the offender, without link padding, as fits 576 bytes in IPv4 (RFC
/// 1812 section 4.3.2.3) or 1,280 bytes in IPv6 (RFC 4443 section 2.4 c). Its TTL is 64. In IPv4
/// its precedence is internetwork control (RFC 1812 section 4.3.2.5), and because it may be
/// fragmented, it has the identification `ident`, which is not to be repeated soon (RFC 6864 section
/// 4.3).
///
/// `None` if the offender has no IP header, `source` is of the other family, or `out` is too small;
/// [`ERROR_MAX`] bytes are always enough.
pub fn build(
    kind: ErrorKind,
    offender: &[u8],
    source: IpAddr,
    ident: u16,
    out: &mut [u8],
) -> Option<usize> {
    let [v4, v6] = kind.table();
    let (sender, len) = sender_and_len(offender)?;
    let (fields, protocol, traffic_class, max) = match source {
        IpAddr::V4(_) => (v4, protocol::ICMP, INTERNETWORK_CONTROL, ERROR_MAX_V4),
        IpAddr::V6(_) => (v6, protocol::ICMPV6, 0, ERROR_MAX),
    };
    let ident = Some(ident);
    let envelope = Envelope { src: source, dst: sender, protocol, ttl: TTL, traffic_class, ident };
    let header = envelope.header_len();
    let quote = offender.get(..len.min(max - header - icmp::HEADER_LEN))?;
    let message_len = icmp::HEADER_LEN + quote.len();
    let message = out.get_mut(header..header + message_len)?;
    let (start, rest) = message.split_first_chunk_mut::<{ icmp::HEADER_LEN }>()?;
    rest.copy_from_slice(quote);
    *start = fields.bytes();
    let pseudo = if source.is_ipv4() { Sum::ZERO } else { envelope.pseudo(message_len) };
    let sum = pseudo.bytes(start).bytes(rest).checksum();
    start[2..4].copy_from_slice(&sum.to_be_bytes());
    envelope.write(out, message_len)
}

/// Bytes of the largest error.
pub const ERROR_MAX: usize = 1280;

/// The variable fields of an error's ICMP header, in one family.
#[derive(Clone, Copy)]
struct ErrorHeader {
    kind: u8,
    code: u8,
    word: u32,
}

impl ErrorHeader {
    /// The ICMP header with a checksum of zero.
    const fn bytes(self) -> [u8; icmp::HEADER_LEN] {
        let [a, b, c, d] = self.word.to_be_bytes();
        [self.kind, self.code, 0, 0, a, b, c, d]
    }
}

const fn header(kind: u8, code: u8, word: u32) -> ErrorHeader {
    ErrorHeader { kind, code, word }
}

fn may_answer_to_destination(kind: ErrorKind, dst: IpAddr) -> bool {
    match dst {
        IpAddr::V4(dst) => !dst.is_multicast() && !dst.is_broadcast(),
        IpAddr::V6(dst) => !dst.is_multicast() || kind.is_for_multicast(),
    }
}

/// Whether a later fragment is not answered (RFC 1812 section 4.3.2.7; RFC 4443 has no such rule).
fn hides_errors(meta: &Meta) -> bool {
    meta.src.is_ipv4() || meta.protocol == protocol::ICMPV6
}

/// Whether a packet is an ICMP error or redirect. A message without a type byte counts as one.
fn is_icmp_error(packet: &[u8], meta: &Meta) -> bool {
    let is_error: fn(u8) -> bool = match (meta.src, meta.protocol) {
        (IpAddr::V4(_), protocol::ICMP) => icmp::is_error,
        (IpAddr::V6(_), protocol::ICMPV6) => icmpv6::is_error,
        _ => return false,
    };
    match packet.get(meta.header_len..meta.len) {
        Some([kind, ..]) => is_error(*kind),
        _ => true,
    }
}

/// A packet's source, and its length in bytes without link padding.
fn sender_and_len(packet: &[u8]) -> Option<(IpAddr, usize)> {
    if let Ok(view) = Ipv4::parse_quoted(packet) {
        return Some((view.src().into(), view.header_len() + view.payload().len()));
    }
    let view = Ipv6::parse_quoted(packet).ok()?;
    Some((view.src().into(), ipv6::HEADER_LEN + view.payload().len()))
}

const ERROR_MAX_V4: usize = 576;
const TTL: u8 = 64;
const INTERNETWORK_CONTROL: u8 = 0xc0;

#[cfg(test)]
mod tests;
