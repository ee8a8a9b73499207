//! Cuts a superframe into segments, for ports that do not support it.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{Offload, Shape, TCP_CHECKSUM, UDP_CHECKSUM, complete, not_zero};
use crate::packet::checksum::Sum;
use crate::packet::{Meta, ipv4, ipv6, protocol, tcp};
use crate::verdict::Verdict;

/// A packet with a valid offload header, and how it is cut.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    packet: &'a [u8],
    offload: Offload,
    shape: Shape,
    ip_len: usize,
    ipv6: bool,
    tcp: bool,
}

impl<'a> Segments<'a> {
    /// Checks `packet` and `offload`. A packet that is no superframe is one segment.
    ///
    /// # Errors
    /// The verdict to drop the packet with.
    pub fn plan(packet: &'a [u8], offload: Offload) -> Result<Self, Verdict> {
        let meta = Meta::parse(packet)?;
        let packet = packet.get(..meta.len).ok_or(Verdict::Truncated)?;
        let shape = offload.check(packet, &meta)?;
        Ok(Self {
            packet,
            offload,
            shape,
            ip_len: meta.header_len,
            ipv6: meta.src.is_ipv6(),
            tcp: meta.protocol == protocol::TCP,
        })
    }

    /// Number of segments, 1 to [`SEGMENTS_MAX`](super::SEGMENTS_MAX).
    pub fn count(&self) -> usize {
        usize::from(self.shape.segments)
    }

    /// Bytes of all segments together.
    pub fn bytes(&self) -> usize {
        self.shape.bytes(self.packet.len())
    }

    /// Writes segment `index`, its checksum complete, to the start of `buffer` and returns it.
    /// `None` if there is no such segment, or if `buffer` is too small for it.
    pub fn write<'b>(&self, index: usize, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        if index >= self.count() {
            return None;
        }
        if !self.offload.is_superframe() {
            let out = buffer.get_mut(..self.packet.len())?;
            out.copy_from_slice(self.packet);
            complete(out, self.offload);
            return Some(out);
        }
        let headers_len = usize::from(self.shape.headers_len);
        let Range { start, end } = self.payload(index);
        let out = buffer.get_mut(..headers_len + end - start)?;
        out[..headers_len].copy_from_slice(&self.packet[..headers_len]);
        out[headers_len..].copy_from_slice(&self.packet[start..end]);
        self.fix_ip(index, out);
        if self.tcp {
            self.fix_tcp(index, &mut out[self.ip_len..]);
        } else {
            let len = (out.len() - self.ip_len) as u16;
            put(out, self.ip_len + UDP_LEN, len);
        }
        self.fix_checksum(out);
        Some(out)
    }

    /// Writes every segment into `buffer` and passes it to `emit`, in order.
    pub fn each(&self, buffer: &mut [u8], mut emit: impl FnMut(&[u8])) {
        for index in 0..self.count() {
            if let Some(segment) = self.write(index, buffer) {
                emit(segment);
            }
        }
    }

    /// The range of the superframe's bytes that are the payload of segment `index`.
    fn payload(&self, index: usize) -> Range<usize> {
        let size = usize::from(self.offload.gso_size);
        let start = usize::from(self.shape.headers_len) + index * size;
        start..(start + size).min(self.packet.len())
    }

    /// Sets the length and, in IPv4, the identification, which increases by one per segment as with
    /// the sender's own packets.
    fn fix_ip(&self, index: usize, out: &mut [u8]) {
        if self.ipv6 {
            let len = (out.len() - ipv6::HEADER_LEN) as u16;
            return put(out, ipv6::PAYLOAD_LEN, len);
        }
        let ident = get(out, ipv4::IDENT).wrapping_add(index as u16);
        put(out, ipv4::TOTAL_LEN, out.len() as u16);
        put(out, ipv4::IDENT, ident);
        put(out, ipv4::CHECKSUM, 0);
        let sum = Sum::ZERO.bytes(&out[..self.ip_len]).checksum();
        put(out, ipv4::CHECKSUM, sum);
    }

    /// Sets the sequence number; keeps FIN and PSH on the last segment only, and CWR on the first
    /// only (RFC 3168 section 6.1.2).
    fn fix_tcp(&self, index: usize, header: &mut [u8]) {
        let advance = (index * usize::from(self.offload.gso_size)) as u32;
        let Some(seq) = header.get_mut(4..8).and_then(|seq| seq.first_chunk_mut::<4>()) else {
            return;
        };
        *seq = u32::from_be_bytes(*seq).wrapping_add(advance).to_be_bytes();
        if index + 1 < self.count() {
            header[TCP_FLAGS] &= !(tcp::FIN | tcp::PSH);
        }
        if index > 0 {
            header[TCP_FLAGS] &= !tcp::CWR;
        }
    }

    /// The field holds the sum of the pseudo header with the superframe's length. This replaces
    /// that length with the segment's and adds the segment's bytes. The addresses are not summed
    /// again, so a routing header, which changes the destination, needs no special case.
    fn fix_checksum(&self, out: &mut [u8]) {
        let field = if self.tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
        let whole = (self.packet.len() - self.ip_len) as u16;
        let upper = &mut out[self.ip_len..];
        let sum = Sum::ZERO.bytes(upper).word32(u32::from(!whole)).word32(upper.len() as u32);
        put(upper, field, not_zero(sum.checksum()));
    }
}

fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Offset of the length in a UDP header.
const UDP_LEN: usize = 4;

/// Offset of the flags in a TCP header.
const TCP_FLAGS: usize = 13;
