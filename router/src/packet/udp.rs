//! UDP datagrams: RFC 768.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::checksum::Sum;
use super::{be16, protocol};
use crate::verdict::Verdict;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Takes the payload of an IP packet that is no fragment. Bytes after the datagram's own length
    /// are ignored.
    ///
    /// # Errors
    /// [`Verdict::Truncated`] below 8 bytes, [`Verdict::BadTotalLength`] if the length field is
    /// below 8 or above the bytes available.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Verdict> {
        let (header, rest) = bytes.split_first_chunk().ok_or(Verdict::Truncated)?;
        let payload = usize::from(be16(header, 4))
            .checked_sub(HEADER_LEN)
            .and_then(|len| rest.get(..len))
            .ok_or(Verdict::BadTotalLength)?;
        Ok(Self { header, payload })
    }

    /// Source port.
    pub const fn src_port(&self) -> u16 {
        be16(self.header, 0)
    }

    /// Destination port.
    pub const fn dst_port(&self) -> u16 {
        be16(self.header, 2)
    }

    /// Bytes of header and payload, at least 8.
    pub const fn datagram_len(&self) -> u16 {
        be16(self.header, 4)
    }

    /// Checksum; 0 means none, which only IPv4 allows.
    pub const fn checksum(&self) -> u16 {
        be16(self.header, 6)
    }

    /// Whether the checksum is right for a datagram between these addresses.
    pub fn is_valid(&self, src: IpAddr, dst: IpAddr) -> bool {
        if self.checksum() == 0 {
            return src.is_ipv4();
        }
        let len = HEADER_LEN + self.payload.len();
        Sum::pseudo(src, dst, protocol::UDP, len).bytes(self.header).bytes(self.payload).is_valid()
    }

    /// The data.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::{CLIENT_V4, CLIENT_V6, SERVICE_V4, SERVICE_V6, ports};

    #[test]
    fn no_checksum_is_for_ipv4_only() {
        let bytes = ports(4000, 53);
        let datagram = Udp::parse(&bytes).unwrap();
        assert!(datagram.is_valid(CLIENT_V4.into(), SERVICE_V4.into()));
        assert!(!datagram.is_valid(CLIENT_V6.into(), SERVICE_V6.into()), "RFC 8200 section 8.1");
    }
}
