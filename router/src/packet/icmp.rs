//! ICMP messages: RFC 792, RFC 1191.
#![forbid(unsafe_code)]

use super::checksum::Sum;
use super::{be16, be32};
use crate::verdict::Verdict;

/// Bytes before the data of a message.
pub const HEADER_LEN: usize = 8;

/// A message of ICMP, or of ICMPv6, which has the same header.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    header: &'a [u8; HEADER_LEN],
    data: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes what follows the IP headers of a packet that is no fragment.
    ///
    /// # Errors
    /// [`Verdict::Truncated`] below 8 bytes, which every message has.
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

    /// Identifier of an echo.
    pub const fn ident(&self) -> u16 {
        be16(self.header, 4)
    }

    /// Sequence number of an echo.
    pub const fn seq(&self) -> u16 {
        be16(self.header, 6)
    }

    /// The four bytes after the checksum; their meaning depends on the type.
    pub const fn rest_of_header(&self) -> u32 {
        be32(self.header, 4)
    }

    /// The bytes after the header: an echo's data, or the packet that an error quotes.
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Whether the checksum is right, beginning with the sum of what precedes the message.
    pub(super) fn completes(&self, sum: Sum) -> bool {
        sum.bytes(self.header).bytes(self.data).is_valid()
    }
}

/// Whether the checksum of an ICMP message is right.
pub fn is_valid(message: &Message<'_>) -> bool {
    message.completes(Sum::ZERO)
}

/// MTU of the next hop in a "fragmentation needed" (RFC 1191 section 4); 0 from routers that predate
/// RFC 1191.
pub const fn mtu(message: &Message<'_>) -> u16 {
    be16(message.header, 6)
}

/// Whether RFC 1812 section 4.3.2.7 forbids errors about messages of this type: true of errors,
/// redirects and unknown types, false of requests and replies.
pub const fn is_error(kind: u8) -> bool {
    !matches!(kind, ECHO_REPLY | ECHO_REQUEST | 9 | 10 | 13..=18 | 42 | 43)
}

/// Whether messages of this type quote the packet they are about.
pub const fn has_quote(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// Type of an echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type of destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Type of source quench (deprecated by RFC 6633).
pub const SOURCE_QUENCH: u8 = 4;
/// Type of redirect.
pub const REDIRECT: u8 = 5;
/// Type of an echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type of time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type of parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of [`UNREACHABLE`]: larger than an MTU on the way, and DF set.
pub const FRAGMENTATION_NEEDED: u8 = 4;
