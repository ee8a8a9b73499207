//! Packets that checks send: ICMP and ICMPv6 echoes, UDP datagrams.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use super::checksum::Sum;
use super::envelope::Envelope;
use super::{icmp, icmpv6, protocol, udp};

/// An ICMP or ICMPv6 echo request or reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Echo<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the source's family.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Whether this is a reply.
    pub reply: bool,
    /// Identifier.
    pub ident: u16,
    /// Sequence number.
    pub seq: u16,
    /// Data that the reply repeats.
    pub data: &'a [u8],
}

impl Echo<'_> {
    /// Writes the packet to the start of `out` and returns its length in bytes. Routers must not
    /// fragment it.
    ///
    /// `None` if the addresses differ in family, or the packet exceeds `out` or what IP allows.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let [kind, protocol] = match (self.src, self.reply) {
            (IpAddr::V4(_), false) => [icmp::ECHO_REQUEST, protocol::ICMP],
            (IpAddr::V4(_), true) => [icmp::ECHO_REPLY, protocol::ICMP],
            (IpAddr::V6(_), false) => [icmpv6::ECHO_REQUEST, protocol::ICMPV6],
            (IpAddr::V6(_), true) => [icmpv6::ECHO_REPLY, protocol::ICMPV6],
        };
        let [ident, seq] = [self.ident.to_be_bytes(), self.seq.to_be_bytes()];
        let header = [kind, 0, 0, 0, ident[0], ident[1], seq[0], seq[1]];
        let envelope = envelope(self.src, self.dst, protocol, self.ttl);
        let len = header.len() + self.data.len();
        let pseudo = if self.src.is_ipv4() { Sum::ZERO } else { envelope.pseudo(len) };
        let sum = pseudo.bytes(&header).bytes(self.data).checksum();
        write(&envelope, header, 2, sum, self.data, out)
    }
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Datagram<'a> {
    /// Source address and port.
    pub src: SocketAddr,
    /// Destination address, of the source's family, and port.
    pub dst: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The data.
    pub payload: &'a [u8],
}

impl Datagram<'_> {
    /// Writes the packet to the start of `out` and returns its length in bytes. Routers must not
    /// fragment it.
    ///
    /// `None` if the addresses differ in family, or the packet exceeds `out` or what IP allows.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        self.write_classed(0, out)
    }

    /// As [`Self::write`], with a type of service or traffic class.
    pub fn write_classed(&self, traffic_class: u8, out: &mut [u8]) -> Option<usize> {
        let len = udp::HEADER_LEN + self.payload.len();
        let [src, dst] = [self.src.port().to_be_bytes(), self.dst.port().to_be_bytes()];
        let total = u16::try_from(len).ok()?.to_be_bytes();
        let header = [src[0], src[1], dst[0], dst[1], total[0], total[1], 0, 0];
        let (src, dst) = (self.src.ip(), self.dst.ip());
        let envelope = Envelope { traffic_class, ..envelope(src, dst, protocol::UDP, self.ttl) };
        let sum = match envelope.pseudo(len).bytes(&header).bytes(self.payload).checksum() {
            // Zero means "no checksum" (RFC 768); 0xffff is the same sum in one's complement.
            0 => 0xffff,
            sum => sum,
        };
        write(&envelope, header, 6, sum, self.payload, out)
    }
}

/// Probes forbid fragmentation: with fragments, a probe would fail when any one of them is lost.
fn envelope(src: IpAddr, dst: IpAddr, protocol: u8, ttl: u8) -> Envelope {
    Envelope { src, dst, protocol, ttl, traffic_class: 0, ident: None }
}

/// Writes the packet and stores `sum` at offset `at` of the upper layer's header.
fn write(
    envelope: &Envelope,
    mut header: [u8; 8],
    at: usize,
    sum: u16,
    data: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    header[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let len = header.len() + data.len();
    let start = envelope.header_len();
    let (to_header, to_data) = out.get_mut(start..start + len)?.split_first_chunk_mut()?;
    *to_header = header;
    to_data.copy_from_slice(data);
    envelope.write(out, len)
}

#[cfg(test)]
mod tests;
