//! ICMPv6 messages: RFC 4443.
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use super::checksum::Sum;
use super::icmp::{HEADER_LEN, Message};
use super::protocol;

/// Whether the checksum of an ICMPv6 message between these addresses is right.
pub fn is_valid(message: &Message<'_>, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
    let len = HEADER_LEN + message.data().len();
    message.completes(Sum::pseudo(src.into(), dst.into(), protocol::ICMPV6, len))
}

/// MTU of the next hop in a "packet too big".
pub const fn mtu(message: &Message<'_>) -> u32 {
    message.rest_of_header()
}

/// Whether RFC 4443 section 2.4 e.1 and e.2 forbid errors about messages of this type: true of
/// errors, known or not, and of redirects.
pub const fn is_error(kind: u8) -> bool {
    has_quote(kind) || kind == REDIRECT
}

/// Whether messages of this type quote the packet they are about: every type below 128 is an error
/// with the same layout (RFC 4443 section 2.1).
pub const fn has_quote(kind: u8) -> bool {
    kind < ECHO_REQUEST
}

/// Type of destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Type of packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Type of time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Type of parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Type of an echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Type of an echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Type of router solicitation (RFC 4861).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Type of router advertisement (RFC 4861).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Type of redirect (RFC 4861).
pub const REDIRECT: u8 = 137;

/// Code of [`PARAMETER_PROBLEM`]: the next header is not known.
pub const UNKNOWN_NEXT_HEADER: u8 = 1;
