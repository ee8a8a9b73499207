//! Fitting the router's own packets to the adjacency they leave by: fragmentation at the source,
//! and clamping the TCP maximum segment size.
#![forbid(unsafe_code)]

use super::checksum::{self, Sum};
use super::ipv6::HEADER_LEN as IPV6_HEADER;
use super::{Fragment, Meta, protocol, tcp};

/// Cuts `packet`, which the router made, into fragments of at most `mtu` bytes with identification
/// `id`, writes each into `buffer` and passes it to `emit`, in order. A packet that fits is emitted
/// unchanged. A source may always fragment: RFC 791 section 3.2, RFC 8200 section 4.5.
///
/// Returns the number of fragments. Returns `None` and emits nothing if the packet is malformed or
/// already a fragment, has IPv6 extension headers, or if `mtu` or `buffer` is too small.
pub fn split(
    packet: &[u8],
    mtu: usize,
    id: u32,
    buffer: &mut [u8],
    mut emit: impl FnMut(&[u8]),
) -> Option<usize> {
    if packet.len() <= mtu {
        emit(packet);
        return Some(1);
    }
    let meta = Meta::parse(packet).ok().filter(|meta| meta.fragment == Fragment::Whole)?;
    let is_ipv6 = meta.src.is_ipv6();
    // Destination options can come before or after the fragment header; the router sends none.
    if is_ipv6 && meta.header_len != IPV6_HEADER {
        return None;
    }
    let (header, payload) = packet.get(..meta.len)?.split_at_checked(meta.header_len)?;
    let own = if is_ipv6 { FRAGMENT_HEADER } else { 0 };
    let step = mtu.checked_sub(header.len() + own)? / UNIT * UNIT;
    if step == 0 || buffer.len() < mtu {
        return None;
    }
    let mut count = 0;
    for (index, piece) in payload.chunks(step).enumerate() {
        let offset = index * step;
        let position = FragmentPosition { id, offset, more: offset + piece.len() < payload.len() };
        emit(if is_ipv6 {
            position.write_v6(header, piece, buffer)?
        } else {
            position.write_v4(header, piece, buffer)?
        });
        count += 1;
    }
    Some(count)
}

/// The most bytes of `packet`, which the router made or which asks it for segments, by an adjacency with
/// this MTU. The router follows no path MTU, so in IPv6 it is the least of all links (RFC 8201 section 1).
pub fn mtu_of_own(packet: &[u8], mtu: usize) -> usize {
    let is_ipv6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
    if is_ipv6 { mtu.min(IPV6_MTU_MIN) } else { mtu }
}

/// Lowers the maximum segment size in a SYN to what fits in a packet of `mtu` bytes, and updates
/// the checksum (RFC 9293 section 3.7.1). Returns whether the packet was changed.
pub fn clamp_mss(packet: &mut [u8], mtu: usize) -> bool {
    let Ok(meta) = Meta::parse(packet) else { return false };
    if meta.protocol != protocol::TCP || meta.fragment != Fragment::Whole {
        return false;
    }
    let ip = if meta.src.is_ipv6() { IPV6_HEADER } else { 20 };
    let room = u16::try_from(mtu.saturating_sub(ip + tcp::HEADER_LEN)).unwrap_or(u16::MAX);
    let Some(segment) = packet.get_mut(meta.header_len..meta.len) else { return false };
    let Some(at) = tcp::Tcp::parse(segment).ok().and_then(|view| mss_at(&view)) else {
        return false;
    };
    let mss = u16::from_be_bytes([segment[at], segment[at + 1]]);
    if mss <= room {
        return false;
    }
    segment[at..at + 2].copy_from_slice(&room.to_be_bytes());
    let sum = u16::from_be_bytes([segment[CHECKSUM], segment[CHECKSUM + 1]]);
    // The checksum covers 16-bit words from the header's first byte on; an odd offset swaps them.
    let sum = if at.is_multiple_of(2) {
        checksum::update(sum, mss, room)
    } else {
        checksum::update(sum, mss.swap_bytes(), room.swap_bytes())
    };
    segment[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Offset in the segment of the value of a SYN's MSS option.
fn mss_at(segment: &tcp::Tcp<'_>) -> Option<usize> {
    if segment.flags() & tcp::SYN == 0 {
        return None;
    }
    let options = segment.options();
    let mut at = 0;
    // At most 40 steps: options are at most 40 bytes, and each step advances.
    while let Some(&kind) = options.get(at) {
        match (kind, options.get(at + 1)) {
            (0, _) | (_, None) => return None,
            (1, _) => at += 1,
            (2, Some(4)) => return options.get(at + 2..at + 4).map(|_| tcp::HEADER_LEN + at + 2),
            (_, Some(&len)) if len >= 2 => at += usize::from(len),
            _ => return None,
        }
    }
    None
}

/// Bytes that every IPv6 link carries (RFC 8200 section 5).
const IPV6_MTU_MIN: usize = 1_280;

/// Identification, offset in bytes and more-fragments bit of a fragment.
#[derive(Clone, Copy)]
struct FragmentPosition {
    id: u32,
    offset: usize,
    more: bool,
}

impl FragmentPosition {
    fn write_v4<'b>(self, header: &[u8], piece: &[u8], out: &'b mut [u8]) -> Option<&'b [u8]> {
        let len = header.len() + piece.len();
        let out = out.get_mut(..len)?;
        out[..header.len()].copy_from_slice(header);
        out[header.len()..].copy_from_slice(piece);
        let more = if self.more { 0x2000 } else { 0 };
        let position = u16::try_from(self.offset / UNIT).ok()? | more;
        out[2..4].copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
        out[4..6].copy_from_slice(&(self.id as u16).to_be_bytes());
        out[6..8].copy_from_slice(&position.to_be_bytes());
        out[10..12].fill(0);
        let sum = Sum::ZERO.bytes(&out[..header.len()]).checksum();
        out[10..12].copy_from_slice(&sum.to_be_bytes());
        Some(out)
    }

    fn write_v6<'b>(self, header: &[u8], piece: &[u8], out: &'b mut [u8]) -> Option<&'b [u8]> {
        let len = header.len() + FRAGMENT_HEADER + piece.len();
        let out = out.get_mut(..len)?;
        let (fixed, rest) = out.split_at_mut(header.len());
        fixed.copy_from_slice(header);
        rest[..2].copy_from_slice(&[fixed[NEXT_HEADER], 0]);
        let position = u16::try_from(self.offset).ok()? | u16::from(self.more);
        rest[2..4].copy_from_slice(&position.to_be_bytes());
        rest[4..8].copy_from_slice(&self.id.to_be_bytes());
        rest[8..].copy_from_slice(piece);
        fixed[NEXT_HEADER] = protocol::FRAGMENT;
        fixed[4..6].copy_from_slice(&u16::try_from(rest.len()).ok()?.to_be_bytes());
        Some(out)
    }
}

/// Fragment offsets count in units of this many bytes (RFC 791, RFC 8200).
const UNIT: usize = 8;

/// Bytes of an IPv6 fragment header.
const FRAGMENT_HEADER: usize = 8;

/// Offset of the next-header field in an IPv6 header.
const NEXT_HEADER: usize = 6;

/// Offset of the checksum in a TCP header.
const CHECKSUM: usize = 16;

#[cfg(test)]
mod tests;
