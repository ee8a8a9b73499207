//! IPv4 headers (RFC 791), checked as RFC 1812 section 5.2.2 requires.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use super::checksum::Sum;
use super::meta::Fragment;
use super::{be16, be32};
use crate::verdict::Verdict;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// An IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    header: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Checks a received packet. Bytes after its total length are link padding and are ignored.
    ///
    /// # Errors
    /// The verdict to drop it with. RFC 1812 section 5.2.2 lists the checks. Version and header
    /// length are checked before the checksum because they determine which bytes it covers.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Verdict> {
        let mut packet = Self::split(bytes)?;
        if !Sum::ZERO.bytes(packet.header).bytes(packet.options).is_valid() {
            return Err(Verdict::BadHeaderChecksum);
        }
        packet.payload = packet.claimed_payload().ok_or(Verdict::BadTotalLength)?;
        if !packet.options.is_empty() {
            check_options(packet.options)?;
        }
        packet.check_fragment()?;
        Ok(packet)
    }

    /// Reads a packet that an ICMP error quotes. Such a packet is cut short, and routers may have
    /// rewritten its checksum and length, so only what locates the upper layer is checked.
    ///
    /// # Errors
    /// The verdict if the header is incomplete or malformed.
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, Verdict> {
        let packet = Self::split(bytes)?;
        Ok(Self { payload: packet.claimed_payload().unwrap_or(packet.payload), ..packet })
    }

    /// Bytes of the header, options included: 20 to 60.
    #[inline]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Type of service: DSCP and ECN.
    pub const fn tos(&self) -> u8 {
        self.header[TOS]
    }

    /// Bytes of header and payload, according to the header.
    #[inline]
    pub const fn total_len(&self) -> u16 {
        be16(self.header, TOTAL_LEN)
    }

    /// Identification, common to the fragments of one datagram.
    pub const fn ident(&self) -> u16 {
        be16(self.header, IDENT)
    }

    /// The don't-fragment bit.
    #[inline]
    pub const fn dont_fragment(&self) -> bool {
        self.flags_and_offset() & DONT_FRAGMENT != 0
    }

    /// The more-fragments bit.
    #[inline]
    pub const fn more_fragments(&self) -> bool {
        self.flags_and_offset() & MORE_FRAGMENTS != 0
    }

    /// Offset of this payload in the datagram, in bytes.
    #[inline]
    pub const fn fragment_offset(&self) -> usize {
        (self.flags_and_offset() & OFFSET) as usize * 8
    }

    /// Which part of a datagram this is.
    #[inline]
    pub const fn fragment(&self) -> Fragment {
        Fragment::new(self.fragment_offset(), self.more_fragments())
    }

    /// Time to live.
    #[inline]
    pub const fn ttl(&self) -> u8 {
        self.header[TTL]
    }

    /// Protocol of the payload.
    #[inline]
    pub const fn protocol(&self) -> u8 {
        self.header[PROTOCOL]
    }

    /// Header checksum.
    pub const fn checksum(&self) -> u16 {
        be16(self.header, CHECKSUM)
    }

    /// Source address.
    #[inline]
    pub const fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(be32(self.header, SRC))
    }

    /// Destination address.
    #[inline]
    pub const fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(be32(self.header, DST))
    }

    /// Options with their padding: 0 to 40 bytes.
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// The bytes after the header.
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Reserved bit, DF, MF and the offset in units of 8 bytes.
    #[inline]
    pub(super) const fn flags_and_offset(&self) -> u16 {
        be16(self.header, FLAGS)
    }

    /// The header without options.
    pub(super) const fn fixed(&self) -> &'a [u8; HEADER_LEN] {
        self.header
    }

    /// Splits off the header and the options; everything after them becomes the payload.
    #[inline]
    fn split(bytes: &'a [u8]) -> Result<Self, Verdict> {
        let (header, rest) = bytes.split_first_chunk().ok_or(Verdict::Truncated)?;
        if header[0] >> 4 != 4 {
            return Err(Verdict::NotIp);
        }
        let options_len = (usize::from(header[0] & 0xf) * 4)
            .checked_sub(HEADER_LEN)
            .ok_or(Verdict::BadHeaderLength)?;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(Verdict::Truncated)?;
        Ok(Self { header, options, payload })
    }

    /// The part of the payload that the total length covers; `None` if that length is impossible.
    #[inline]
    fn claimed_payload(&self) -> Option<&'a [u8]> {
        let len = usize::from(self.total_len()).checked_sub(self.header_len())?;
        self.payload.get(..len)
    }

    #[inline]
    fn check_fragment(&self) -> Result<(), Verdict> {
        let end = self.header_len() + self.fragment_offset() + self.payload.len();
        if end > usize::from(u16::MAX) { Err(Verdict::BadFragment) } else { Ok(()) }
    }
}

/// One option of an IPv4 header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ipv4Option<'a> {
    /// Type, length and data.
    pub bytes: &'a [u8],
}

impl Ipv4Option<'_> {
    /// Copied flag, class and number.
    pub fn kind(&self) -> u8 {
        self.bytes.first().copied().unwrap_or(END_OF_OPTIONS)
    }

    /// Whether every fragment carries it, not only the first (RFC 791 section 3.1).
    pub fn is_copied(&self) -> bool {
        self.kind() & 0x80 != 0
    }
}

/// The options of a header up to the end-of-list option. An option that overruns the header ends
/// the iteration with an error. At most 40 steps.
pub fn options(mut bytes: &[u8]) -> impl Iterator<Item = Result<Ipv4Option<'_>, Verdict>> {
    std::iter::from_fn(move || {
        let len = match *bytes {
            [] | [END_OF_OPTIONS, ..] => return None,
            [NO_OPERATION, ..] => 1,
            [_, len, ..] if len >= 2 => usize::from(len),
            _ => usize::MAX,
        };
        let Some((option, rest)) = bytes.split_at_checked(len) else {
            bytes = &[];
            return Some(Err(Verdict::BadOption));
        };
        bytes = rest;
        Some(Ok(Ipv4Option { bytes: option }))
    })
}

#[cold]
fn check_options(bytes: &[u8]) -> Result<(), Verdict> {
    for option in options(bytes) {
        if matches!(option?.kind(), LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE) {
            return Err(Verdict::SourceRoute);
        }
    }
    Ok(())
}

pub(super) const TOS: usize = 1;
pub(super) const TOTAL_LEN: usize = 2;
pub(super) const IDENT: usize = 4;
pub(super) const FLAGS: usize = 6;
pub(super) const TTL: usize = 8;
pub(super) const PROTOCOL: usize = 9;
pub(super) const CHECKSUM: usize = 10;
pub(super) const SRC: usize = 12;
pub(super) const DST: usize = 16;

pub(super) const DONT_FRAGMENT: u16 = 0x4000;
pub(super) const MORE_FRAGMENTS: u16 = 0x2000;
pub(super) const OFFSET: u16 = 0x1fff;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with these options, padded by the caller, and a valid total length and checksum.
    fn packet(options: &[u8], payload: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let total = HEADER_LEN + options.len() + payload;
        let mut bytes = vec![0; HEADER_LEN];
        bytes[0] = 0x40 | ((HEADER_LEN + options.len()) / 4) as u8;
        bytes[TTL] = 64;
        bytes[PROTOCOL] = 253;
        bytes[TOTAL_LEN..IDENT].copy_from_slice(&(total as u16).to_be_bytes());
        bytes.extend_from_slice(options);
        bytes.resize(total, 0xaa);
        change(&mut bytes);
        let header = usize::from(bytes[0] & 0xf) * 4;
        let sum = Sum::ZERO.bytes(&bytes[..header.min(bytes.len())]).checksum();
        bytes[CHECKSUM..SRC].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    #[test]
    fn header_checks_of_rfc_1812_and_options_of_rfc_791() {
        let with = |options: &[u8]| packet(options, 8, |_| ());
        let changed = |change: fn(&mut Vec<u8>)| packet(&[], 8, change);
        let record_route = [7, 7, 4, 0, 0, 0, 0, 0];
        for (case, bytes, want) in [
            ("plain", with(&[]), None),
            ("no payload", packet(&[], 0, |_| ()), None),
            ("link padding", changed(|b| b.extend([0; 20])), None),
            ("19 bytes", vec![0x45; 19], Some(Verdict::Truncated)),
            ("version 5", changed(|b| b[0] = 0x55), Some(Verdict::NotIp)),
            ("16-byte header", changed(|b| b[0] = 0x44), Some(Verdict::BadHeaderLength)),
            ("options beyond the end", changed(|b| b[0] = 0x4f), Some(Verdict::Truncated)),
            ("total below header", changed(|b| b[3] = 19), Some(Verdict::BadTotalLength)),
            ("total above packet", changed(|b| b[3] = 29), Some(Verdict::BadTotalLength)),
            ("record route", with(&record_route), None),
            ("router alert", with(&[148, 4, 0, 0]), None),
            ("unknown option", with(&[0x5e, 4, 1, 2]), None),
            ("end, then garbage", with(&[0, 131, 200, 7]), None),
            ("all no-operation", with(&[1; 40]), None),
            ("loose source route", with(&[131, 7, 4, 1, 2, 3, 4, 0]), Some(Verdict::SourceRoute)),
            ("strict, after nop", with(&[1, 137, 3, 4]), Some(Verdict::SourceRoute)),
            ("route already used up", with(&[131, 3, 4, 0]), Some(Verdict::SourceRoute)),
            ("option of length 0", with(&[7, 0, 0, 0]), Some(Verdict::BadOption)),
            ("option of length 1", with(&[7, 1, 0, 0]), Some(Verdict::BadOption)),
            ("option overruns", with(&[1, 7, 4, 0]), Some(Verdict::BadOption)),
            ("no length byte", with(&[1, 1, 1, 7]), Some(Verdict::BadOption)),
        ] {
            assert_eq!(Ipv4::parse(&bytes).err(), want, "{case}");
        }
    }

    #[test]
    fn any_single_bit_flipped_in_the_header_is_found() {
        let good = packet(&[148, 4, 0, 0], 8, |_| ());
        for bit in 0..24 * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Ipv4::parse(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_fragment_ends_within_a_datagram() {
        // 65,515 bytes fit after a header of 20: 8,187 units and 19 bytes.
        let at = |units: u16, payload| {
            packet(&[], payload, |b| b[FLAGS..TTL].copy_from_slice(&units.to_be_bytes()))
        };
        assert!(Ipv4::parse(&at(8187, 19)).is_ok());
        assert_eq!(Ipv4::parse(&at(8187, 20)).err(), Some(Verdict::BadFragment));
        assert_eq!(Ipv4::parse(&at(OFFSET, 8)).err(), Some(Verdict::BadFragment));
    }
}
