//! IPv6 headers and extension headers: RFC 8200.
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use super::meta::Fragment;
use super::{be16, be32, protocol};
use crate::verdict::Verdict;

/// Bytes of a header without extension headers.
pub const HEADER_LEN: usize = 40;

/// An IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// Checks the fixed header of a received packet; [`Self::extensions`] checks the rest. Bytes
    /// after its payload length are link padding and are ignored.
    ///
    /// # Errors
    /// The verdict to drop it with.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Verdict> {
        let (header, rest) = split(bytes)?;
        let len = usize::from(be16(header, PAYLOAD_LEN));
        if len == 0 && header[NEXT_HEADER] == protocol::HOP_BY_HOP {
            return Err(no_payload_length(rest));
        }
        let payload = rest.get(..len).ok_or(Verdict::BadTotalLength)?;
        Ok(Self { header, payload })
    }

    /// Reads a packet that an ICMPv6 error quotes, which may be cut short.
    ///
    /// # Errors
    /// The verdict if the fixed header is incomplete or of another version.
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, Verdict> {
        let (header, rest) = split(bytes)?;
        let payload = rest.get(..usize::from(be16(header, PAYLOAD_LEN))).unwrap_or(rest);
        Ok(Self { header, payload })
    }

    /// Traffic class: DSCP and ECN.
    pub const fn traffic_class(&self) -> u8 {
        (be16(self.header, 0) >> 4) as u8
    }

    /// Flow label, 20 bits.
    #[inline]
    pub const fn flow_label(&self) -> u32 {
        be32(self.header, 0) & FLOW_LABEL
    }

    /// Bytes after the fixed header, according to the header.
    #[inline]
    pub const fn payload_len(&self) -> u16 {
        be16(self.header, PAYLOAD_LEN)
    }

    /// Protocol of the payload: an extension header or the upper layer.
    #[inline]
    pub const fn next_header(&self) -> u8 {
        self.header[NEXT_HEADER]
    }

    /// Hop limit.
    #[inline]
    pub const fn hop_limit(&self) -> u8 {
        self.header[HOP_LIMIT]
    }

    /// Source address.
    #[inline]
    pub const fn src(&self) -> Ipv6Addr {
        address(self.header, SRC)
    }

    /// Destination address.
    #[inline]
    pub const fn dst(&self) -> Ipv6Addr {
        address(self.header, DST)
    }

    /// Extension headers and upper layer.
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Walks the extension headers to the upper layer; at most [`EXTENSIONS_MAX`] of them.
    ///
    /// # Errors
    /// The verdict to drop the packet with.
    #[inline]
    pub fn extensions(&self) -> Result<Extensions, Verdict> {
        if is_extension(self.next_header()) {
            return walk(self.next_header(), self.payload);
        }
        Ok(Extensions { protocol: self.next_header(), len: 0, fragment: None })
    }
}

/// The extension headers between the fixed header and the upper layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extensions {
    /// Protocol of what follows: the upper layer, or an unknown extension header. In a non-first
    /// fragment, the protocol that the fragment header names for the start of the whole packet.
    pub protocol: u8,
    /// Bytes of the extension headers.
    pub len: usize,
    /// The fragment header, if present.
    pub fragment: Option<FragmentHeader>,
}

/// An IPv6 fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FragmentHeader {
    /// Where this header ends, in bytes after the fixed header.
    pub end: usize,
    /// Protocol of the first header of the fragmentable part; the same in every fragment.
    pub next_header: u8,
    /// Offset of this payload in the fragmentable part, in bytes.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// Identification, common to the fragments of one packet.
    pub ident: u32,
}

impl FragmentHeader {
    /// Which part of the packet this is. An atomic fragment (RFC 6946) is the whole packet.
    pub const fn fragment(&self) -> Fragment {
        Fragment::new(self.offset, self.more)
    }

    /// Refuses what cannot be reassembled (RFC 8200 section 4.5): a fragment other than the last
    /// whose length is not a multiple of 8, and one that ends beyond the largest payload.
    pub(super) fn check(&self, payload_len: usize) -> Result<(), Verdict> {
        let len = payload_len.saturating_sub(self.end);
        let before = self.end.saturating_sub(EXTENSION_UNIT);
        if (self.more && !len.is_multiple_of(8))
            || before + self.offset + len > usize::from(u16::MAX)
        {
            return Err(Verdict::BadFragment);
        }
        Ok(())
    }
}

/// Whether the walk parses this header. The others that RFC 7045 lists (mobility, HIP, Shim6) end
/// the walk like an upper layer; none of them carries a flow.
const fn is_extension(next_header: u8) -> bool {
    use protocol::{AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

#[cold]
fn walk(first: u8, payload: &[u8]) -> Result<Extensions, Verdict> {
    let mut at = Extensions { protocol: first, len: 0, fragment: None };
    for step in 0..=EXTENSIONS_MAX {
        if !is_extension(at.protocol) {
            return Ok(at);
        }
        if step == EXTENSIONS_MAX {
            break;
        }
        let rest = payload.get(at.len..).unwrap_or_default();
        let header = extension(at.protocol, rest)?;
        match at.protocol {
            protocol::HOP_BY_HOP if step > 0 => return Err(Verdict::BadOption),
            protocol::HOP_BY_HOP => check_options(header)?,
            protocol::ROUTING if header[2] == ROUTING_TYPE_0 => return Err(Verdict::SourceRoute),
            protocol::FRAGMENT if at.fragment.is_some() => return Err(Verdict::BadFragment),
            protocol::FRAGMENT => at.fragment = Some(fragment_header(at.len, header)),
            _ => {}
        }
        at.protocol = header[0];
        at.len += header.len();
        if at.fragment.is_some_and(|fragment| fragment.fragment() == Fragment::Later) {
            return Ok(at);
        }
    }
    Err(Verdict::TooManyExtensions)
}

/// The extension header at the start of `bytes`: 8 bytes at least.
fn extension(kind: u8, bytes: &[u8]) -> Result<&[u8], Verdict> {
    let [_, len, ..] = *bytes else { return Err(Verdict::BadOption) };
    let len = usize::from(len);
    let len = match kind {
        protocol::FRAGMENT => EXTENSION_UNIT,
        // The length field counts units of 4 bytes, minus 2 (RFC 4302 section 2.2).
        protocol::AUTHENTICATION => (len + 2) * 4,
        _ => (len + 1) * EXTENSION_UNIT,
    };
    bytes.get(..len).ok_or(Verdict::BadOption)
}

fn fragment_header(start: usize, header: &[u8]) -> FragmentHeader {
    let mut bytes = [0; EXTENSION_UNIT];
    bytes.copy_from_slice(&header[..EXTENSION_UNIT]);
    let offset = be16(&bytes, 2);
    FragmentHeader {
        end: start + EXTENSION_UNIT,
        next_header: bytes[0],
        offset: usize::from(offset & !7),
        more: offset & 1 != 0,
        ident: be32(&bytes, 4),
    }
}

/// Checks the first [`OPTIONS_MAX`] options of a hop-by-hop header. The limit bounds the cost of a
/// header full of padding.
fn check_options(header: &[u8]) -> Result<(), Verdict> {
    let mut options = header.get(2..).unwrap_or_default();
    for _ in 0..OPTIONS_MAX {
        let len = match *options {
            [] => break,
            [PAD_1, ..] => 1,
            [JUMBO_PAYLOAD, JUMBO_LEN, ..] => return Err(Verdict::Jumbogram),
            [_, len, ..] => 2 + usize::from(len),
            [_] => return Err(Verdict::BadOption),
        };
        options = options.get(len..).ok_or(Verdict::BadOption)?;
    }
    Ok(())
}

/// The verdict for a packet with hop-by-hop options and a payload length of 0: it is a jumbogram
/// (RFC 2675), or its length is wrong.
#[cold]
fn no_payload_length(rest: &[u8]) -> Verdict {
    let options = extension(protocol::HOP_BY_HOP, rest).unwrap_or_default();
    match check_options(options) {
        Err(Verdict::Jumbogram) => Verdict::Jumbogram,
        _ => Verdict::BadTotalLength,
    }
}

#[inline]
fn split(bytes: &[u8]) -> Result<(&[u8; HEADER_LEN], &[u8]), Verdict> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Verdict::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Verdict::NotIp);
    }
    Ok((header, rest))
}

#[inline]
pub(super) const fn address(header: &[u8; HEADER_LEN], at: usize) -> Ipv6Addr {
    let high = (be32(header, at) as u128) << 96 | (be32(header, at + 4) as u128) << 64;
    let low = (be32(header, at + 8) as u128) << 32 | be32(header, at + 12) as u128;
    Ipv6Addr::from_bits(high | low)
}

/// The most extension headers followed in one packet. RFC 8200 section 4.1 lists six positions;
/// packets in the wild use one or two.
pub const EXTENSIONS_MAX: usize = 8;

/// The most hop-by-hop options checked in one packet.
const OPTIONS_MAX: usize = 16;

/// The mask of the flow label in the first 32 bits.
pub(crate) const FLOW_LABEL: u32 = 0x000f_ffff;
pub(super) const PAYLOAD_LEN: usize = 4;
pub(super) const NEXT_HEADER: usize = 6;
pub(super) const HOP_LIMIT: usize = 7;
pub(super) const SRC: usize = 8;
pub(super) const DST: usize = 24;

const EXTENSION_UNIT: usize = 8;
const ROUTING_TYPE_0: u8 = 0;
const PAD_1: u8 = 0;
const JUMBO_PAYLOAD: u8 = 0xc2;
const JUMBO_LEN: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[0] = 0x60;
        bytes[PAYLOAD_LEN..NEXT_HEADER].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        bytes[NEXT_HEADER] = next_header;
        bytes.extend_from_slice(payload);
        bytes
    }

    fn walked(next_header: u8, payload: &[u8]) -> Result<(u8, usize), Verdict> {
        let bytes = packet(next_header, payload);
        Ipv6::parse(&bytes)?.extensions().map(|found| (found.protocol, found.len))
    }

    /// `count` destination option headers, then UDP.
    fn chain(count: usize) -> Vec<u8> {
        let mut bytes = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
        if let Some(last) = bytes.len().checked_sub(8) {
            bytes[last] = 17;
        }
        bytes
    }

    #[test]
    fn fixed_header() {
        let good = packet(59, &[0; 8]);
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        let padded = [good.as_slice(), &[0; 6]].concat();
        let zero_options = changed(PAYLOAD_LEN + 1, 0);
        let zero_options = [&zero_options[..6], &[0], &zero_options[7..]].concat();
        let mut jumbo = zero_options.clone();
        jumbo[HEADER_LEN..].copy_from_slice(&[59, 0, 0xc2, 4, 0, 1, 0, 0]);
        for (case, bytes, want) in [
            ("good", good.clone(), None),
            ("link padding", padded, None),
            ("39 bytes", good[..39].to_vec(), Some(Verdict::Truncated)),
            ("nothing", vec![], Some(Verdict::Truncated)),
            ("version 7", changed(0, 0x70), Some(Verdict::NotIp)),
            ("longer than it is", changed(PAYLOAD_LEN + 1, 9), Some(Verdict::BadTotalLength)),
            ("empty payload", changed(PAYLOAD_LEN + 1, 0), None),
            ("options in no payload", zero_options, Some(Verdict::BadTotalLength)),
            ("jumbogram", jumbo, Some(Verdict::Jumbogram)),
        ] {
            assert_eq!(Ipv6::parse(&bytes).err(), want, "{case}");
        }
    }

    #[test]
    fn extension_headers() {
        use Verdict::{BadFragment, BadOption, Jumbogram, SourceRoute, TooManyExtensions};
        let pad = [17, 0, 1, 4, 0, 0, 0, 0];
        let after_pad = |next: u8, more: &[u8]| [&[next], &pad[1..], more].concat();
        for (case, next_header, payload, want) in [
            ("none", 17, vec![], Ok((17, 0))),
            ("hop-by-hop", 0, pad.to_vec(), Ok((17, 8))),
            ("then destination", 0, after_pad(60, &pad), Ok((17, 16))),
            ("hop-by-hop second", 60, after_pad(0, &pad), Err(BadOption)),
            ("authentication", 51, [&[6, 2][..], &[0; 14]].concat(), Ok((6, 16))),
            ("encrypted", 50, vec![0; 20], Ok((50, 0))),
            ("no next header", 60, after_pad(59, &[]), Ok((59, 8))),
            ("unknown", 60, after_pad(140, &[17, 0, 0, 0, 0, 0, 0, 0]), Ok((140, 8))),
            ("mobility", 135, vec![59, 0, 0, 0, 0, 0, 0, 0], Ok((135, 0))),
            ("routing 0", 43, vec![17, 0, 0, 0, 0, 0, 0, 0], Err(SourceRoute)),
            ("routing 4", 43, vec![17, 0, 4, 0, 0, 0, 0, 0], Ok((17, 8))),
            ("first fragment", 44, vec![17, 0, 0, 1, 0, 0, 0, 0], Ok((17, 8))),
            ("later fragment", 44, vec![60, 0, 0, 8, 0, 0, 0, 0], Ok((60, 8))),
            ("fragment in one", 44, [44, 0, 0, 1, 0, 0, 0, 0].repeat(2), Err(BadFragment)),
            ("overruns", 60, vec![17, 1, 1, 4, 0, 0, 0, 0], Err(BadOption)),
            ("7 bytes", 60, vec![17, 0, 1, 4, 0, 0, 0], Err(BadOption)),
            ("one byte", 60, vec![17], Err(BadOption)),
            ("nothing there", 60, vec![], Err(BadOption)),
            ("option overruns", 0, vec![17, 0, 5, 5, 0, 0, 0, 0], Err(BadOption)),
            ("half an option", 0, vec![17, 0, 1, 3, 0, 0, 0, 5], Err(BadOption)),
            ("jumbo", 0, vec![17, 0, 0xc2, 4, 0, 0, 0, 8], Err(Jumbogram)),
            ("eight", 60, chain(8), Ok((17, 64))),
            ("nine", 60, chain(9), Err(TooManyExtensions)),
        ] {
            assert_eq!(walked(next_header, &payload), want, "{case}");
        }
    }

    #[test]
    fn padding_costs_no_more_than_a_few_options() {
        // 2,046 one-byte pads, then an option that overruns: beyond what is looked at.
        let mut header = vec![0; 2048];
        (header[0], header[1], header[2047]) = (17, 255, 5);
        assert_eq!(walked(0, &header), Ok((17, 2048)));
    }

    #[test]
    fn fragments_can_be_put_together_again() {
        let fragment = |offset: usize, more, before| FragmentHeader {
            end: before + EXTENSION_UNIT,
            next_header: 17,
            offset,
            more,
            ident: 1,
        };
        for (case, header, payload_len, want) in [
            ("first", fragment(0, true, 0), 24, Ok(())),
            ("first of odd length", fragment(0, true, 0), 23, Err(Verdict::BadFragment)),
            ("last of odd length", fragment(8, false, 0), 23, Ok(())),
            ("ends at the limit", fragment(65_528, false, 0), 15, Ok(())),
            ("ends beyond", fragment(65_528, false, 0), 16, Err(Verdict::BadFragment)),
            ("headers before count", fragment(65_520, false, 8), 23, Ok(())),
            ("and push it beyond", fragment(65_520, false, 8), 24, Err(Verdict::BadFragment)),
        ] {
            assert_eq!(header.check(payload_len), want, "{case}");
        }
    }
}
