//! ICMPv6 messages: RFC 4443.
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use super::checksum::Sum;
use super::{be16, be32, protocol};
use crate::verdict::Verdict;

/// Bytes before the data of an error or echo.
pub const HEADER_LEN: usize = 8;

/// An ICMPv6 message.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6<'a> {
    header: &'a [u8; HEADER_LEN],
    data: &'a [u8],
}

impl<'a> Icmpv6<'a> {
    /// Takes the upper layer of an IPv6 packet that is no fragment.
    ///
    /// # Errors
    /// [`Verdict::Truncated`] below 8 bytes, which every message of RFC 4443 has.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Verdict> {
        let (header, data) = bytes.split_first_chunk().ok_or(Verdict::Truncated)?;
        Ok(Self { header, data })
    }

    /// Message type.
    pub const fn kind(&self) -> u8 {
        self.header[0]
    }

    /// Code within the type.
    pub const fn code(&self) -> u8 {
        self.header[1]
    }

    /// Checksum.
    pub const fn checksum(&self) -> u16 {
        be16(self.header, 2)
    }

    /// Whether the checksum is right for a message between these addresses.
    pub fn is_valid(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        let len = HEADER_LEN + self.data.len();
        Sum::pseudo(src.into(), dst.into(), protocol::ICMPV6, len)
            .bytes(self.header)
            .bytes(self.data)
            .is_valid()
    }

    /// Identifier of an echo.
    pub const fn ident(&self) -> u16 {
        be16(self.header, 4)
    }

    /// Sequence number of an echo.
    pub const fn seq(&self) -> u16 {
        be16(self.header, 6)
    }

    /// MTU of the next hop in a "packet too big".
    pub const fn mtu(&self) -> u32 {
        be32(self.header, 4)
    }

    /// The four bytes after the checksum; their meaning depends on the type.
    pub const fn rest_of_header(&self) -> u32 {
        be32(self.header, 4)
    }

    /// The bytes after the header: an echo's data, or the packet that an error quotes.
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }
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
/// Type of redirect (RFC 4861).
pub const REDIRECT: u8 = 137;

/// Code of [`PARAMETER_PROBLEM`]: the next header is not known.
pub const UNKNOWN_NEXT_HEADER: u8 = 1;
