//! TCP segments: RFC 9293.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::checksum::Sum;
use super::{be16, be32, protocol};
use crate::verdict::Verdict;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    header: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// Takes the payload of an IP packet that is no fragment.
    ///
    /// # Errors
    /// [`Verdict::Truncated`] if the header is incomplete, [`Verdict::BadHeaderLength`] if its
    /// length field is below 20 bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Verdict> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Verdict::Truncated)?;
        let options_len = (usize::from(header[12] >> 4) * 4)
            .checked_sub(HEADER_LEN)
            .ok_or(Verdict::BadHeaderLength)?;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(Verdict::Truncated)?;
        Ok(Self { header, options, payload })
    }

    /// Source port.
    pub const fn src_port(&self) -> u16 {
        be16(self.header, 0)
    }

    /// Destination port.
    pub const fn dst_port(&self) -> u16 {
        be16(self.header, 2)
    }

    /// Sequence number.
    pub const fn seq(&self) -> u32 {
        be32(self.header, 4)
    }

    /// Acknowledgment number; valid only with [`ACK`].
    pub const fn ack(&self) -> u32 {
        be32(self.header, 8)
    }

    /// Bytes of the header, options included: 20 to 60.
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// The control bits: [`FIN`] to [`CWR`].
    pub const fn flags(&self) -> u8 {
        self.header[13]
    }

    /// Window, not scaled.
    pub const fn window(&self) -> u16 {
        be16(self.header, 14)
    }

    /// Checksum.
    pub const fn checksum(&self) -> u16 {
        be16(self.header, 16)
    }

    /// Urgent pointer.
    pub const fn urgent(&self) -> u16 {
        be16(self.header, 18)
    }

    /// Options with their padding: 0 to 40 bytes.
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// The data.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the checksum is right for a segment between these addresses.
    pub fn is_valid(&self, src: IpAddr, dst: IpAddr) -> bool {
        let len = self.header_len() + self.payload.len();
        Sum::pseudo(src, dst, protocol::TCP, len)
            .bytes(self.header)
            .bytes(self.options)
            .bytes(self.payload)
            .is_valid()
    }
}

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgment number is valid.
pub const ACK: u8 = 0x10;
/// The urgent pointer is valid.
pub const URG: u8 = 0x20;
/// Congestion was seen (RFC 3168).
pub const ECE: u8 = 0x40;
/// Congestion window was reduced (RFC 3168).
pub const CWR: u8 = 0x80;
