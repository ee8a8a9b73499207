//! Joins small packets of one flow into a superframe, which needs only one write to send.
//!
//! Segmenting the superframe yields the original packets, bit by bit, except for the identification
//! of IPv4 packets with DF set, which has no meaning (RFC 6864 section 4.1). Packets are therefore
//! joined only if they agree in everything that is common to all segments: TTL, DSCP, ECN, DF,
//! addresses and ports, and in TCP every field but the sequence number and PSH. They have no IP
//! options or extension headers. The superframe's checksum is computed again, which would hide a
//! corrupt packet: each checksum is verified first, unless the kernel did so or it is partial. A
//! UDP datagram without checksum is not joined, because it would get one.
#![forbid(unsafe_code)]

use super::{GSO_TCP4, GSO_TCP6, GSO_UDP_L4, NEEDS_CSUM, Offload, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::packet::checksum::Sum;
use crate::packet::{be16, ipv4, ipv6, protocol, tcp, udp};

/// A packet that can be joined to another, or that others were joined to.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    transport: Transport,
    ipv6: bool,
    /// Bytes of the headers.
    headers_len: usize,
    /// Bytes of the packet, including what was joined to it.
    len: usize,
    /// Payload bytes of each segment but the last.
    size: usize,
    segments: usize,
    offload: Offload,
    /// Its checksum was verified or is partial.
    is_verified: bool,
    /// Nothing more may be joined: the last segment was shorter or had PSH.
    is_closed: bool,
    /// TCP flags of the last segment.
    flags: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Transport {
    Tcp,
    Udp,
}

impl Joined {
    /// Checks whether `packet`, which was admitted and has no padding, can be joined. `None` if
    /// not.
    #[inline]
    pub fn new(packet: &[u8], offload: Offload) -> Option<Self> {
        if offload.is_superframe() {
            return None;
        }
        let (ipv6, ip_len, protocol) = match packet.first()? {
            0x45 if packet.len() > ipv4::HEADER_LEN && is_unfragmented(packet) => {
                (false, ipv4::HEADER_LEN, packet[ipv4::PROTOCOL])
            }
            0x60..=0x6f if packet.len() > ipv6::HEADER_LEN => {
                (true, ipv6::HEADER_LEN, packet[ipv6::NEXT_HEADER])
            }
            _ => return None,
        };
        let upper = &packet[ip_len..];
        let transport = match protocol {
            protocol::UDP if is_joinable_udp(upper, offload) => Transport::Udp,
            protocol::TCP if is_joinable_tcp(upper) => Transport::Tcp,
            _ => return None,
        };
        let transport_len = match transport {
            Transport::Udp => udp::HEADER_LEN,
            Transport::Tcp => usize::from(upper[12] >> 4) * 4,
        };
        let size = upper.len().checked_sub(transport_len).filter(|size| *size > 0)?;
        let flags = if transport == Transport::Tcp { upper[TCP_FLAGS] } else { 0 };
        Some(Self {
            transport,
            ipv6,
            headers_len: ip_len + transport_len,
            len: packet.len(),
            size,
            segments: 1,
            offload,
            is_verified: offload.needs_checksum() || offload.is_verified(),
            is_closed: flags & tcp::PSH != 0,
            flags,
        })
    }

    /// Whether it is TCP, and whether IPv6.
    pub fn kind(&self) -> (bool, bool) {
        (self.transport == Transport::Tcp, self.ipv6)
    }

    /// Number of packets joined, this one included.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// A short hash that is the same for all packets of a flow. `packet` is the one passed to
    /// [`Self::new`].
    #[inline]
    pub fn flow_bits(&self, packet: &[u8]) -> u64 {
        let word = |at: usize| {
            packet
                .get(at..at + 4)
                .and_then(|b| b.first_chunk())
                .map_or(0, |b| u32::from_le_bytes(*b))
        };
        let ip_len = self.ip_len();
        let (src, dst) = if self.ipv6 { (20, 36) } else { (ipv4::SRC, ipv4::DST) };
        let bits = u64::from(word(src) ^ word(ip_len)) << 32 | u64::from(word(dst));
        bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
    }

    /// Appends the payload of `next`, which is `packet`, to this packet at the start of `buffer`.
    /// Returns `false` and changes nothing if they cannot be joined.
    #[inline]
    pub fn join(&mut self, buffer: &mut [u8], next: &mut Self, packet: &[u8]) -> bool {
        let len = self.len + next.size;
        if self.is_closed || next.size > self.size || len > LEN_MAX.min(buffer.len()) {
            return false;
        }
        let is_alike = (self.transport, self.ipv6, self.headers_len)
            == (next.transport, next.ipv6, next.headers_len)
            && next.segments == 1
            && self.segments < JOINED_MAX
            && self.has_like_headers(buffer, packet);
        if !is_alike || !self.verify(&buffer[..self.len]) || !next.verify(packet) {
            return false;
        }
        buffer[self.len..len].copy_from_slice(&packet[next.headers_len..]);
        self.len = len;
        self.segments += 1;
        self.is_closed = next.size < self.size || next.is_closed;
        self.flags = next.flags;
        true
    }

    /// Writes the headers of the superframe; returns its length in bytes and its offload header.
    /// Changes nothing if nothing was joined.
    pub fn finish(&self, buffer: &mut [u8]) -> (usize, Offload) {
        if self.segments == 1 {
            return (self.len, self.offload);
        }
        let ip_len = self.ip_len();
        let upper_len = (self.len - ip_len) as u16;
        let (ip, upper) = buffer[..self.len].split_at_mut(ip_len);
        if self.ipv6 {
            put(ip, ipv6::PAYLOAD_LEN, upper_len);
        } else {
            put(ip, ipv4::TOTAL_LEN, self.len as u16);
            put(ip, ipv4::CHECKSUM, 0);
            let sum = Sum::ZERO.bytes(ip).checksum();
            put(ip, ipv4::CHECKSUM, sum);
        }
        let (protocol, field, gso_type) = match (self.transport, self.ipv6) {
            (Transport::Udp, _) => (protocol::UDP, UDP_CHECKSUM, GSO_UDP_L4),
            (Transport::Tcp, false) => (protocol::TCP, TCP_CHECKSUM, GSO_TCP4),
            (Transport::Tcp, true) => (protocol::TCP, TCP_CHECKSUM, GSO_TCP6),
        };
        match self.transport {
            Transport::Udp => put(upper, 4, upper_len),
            Transport::Tcp => upper[TCP_FLAGS] = self.flags,
        }
        let addresses = if self.ipv6 { &ip[ipv6::SRC..] } else { &ip[ipv4::SRC..] };
        let pseudo = Sum::ZERO.bytes(addresses).word32(u32::from(protocol));
        put(upper, field, !pseudo.word32(u32::from(upper_len)).checksum());
        let offload = Offload {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: self.headers_len as u16,
            gso_size: self.size as u16,
            csum_start: ip_len as u16,
            csum_offset: field as u16,
        };
        (self.len, offload)
    }

    fn ip_len(&self) -> usize {
        if self.ipv6 { ipv6::HEADER_LEN } else { ipv4::HEADER_LEN }
    }

    #[inline]
    fn has_like_headers(&self, mine: &[u8], next: &[u8]) -> bool {
        let ip_len = self.ip_len();
        let ip = if self.ipv6 {
            alike(mine, next, 0, 4) && alike(mine, next, ipv6::NEXT_HEADER, ipv6::HEADER_LEN)
        } else {
            alike(mine, next, 0, 2)
                && alike(mine, next, ipv4::FLAGS, ipv4::CHECKSUM)
                && alike(mine, next, ipv4::SRC, ipv4::HEADER_LEN)
                && self.has_next_ident(mine, next)
        };
        let (mine, next) = (&mine[ip_len..], &next[ip_len..]);
        ip && alike(mine, next, 0, 4)
            && match self.transport {
                Transport::Udp => true,
                Transport::Tcp => self.has_next_seq(mine, next, ip_len),
            }
    }

    /// Whether the IPv4 identifications are consecutive, as segmentation makes them. With DF set
    /// they have no meaning.
    fn has_next_ident(&self, mine: &[u8], next: &[u8]) -> bool {
        get(mine, ipv4::FLAGS) & ipv4::DONT_FRAGMENT != 0
            || get(mine, ipv4::IDENT).wrapping_add(self.segments as u16) == get(next, ipv4::IDENT)
    }

    /// Whether the sequence numbers are consecutive and acknowledgment, header length, window,
    /// urgent pointer and options are equal. The caller has compared the flags.
    fn has_next_seq(&self, mine: &[u8], next: &[u8], ip_len: usize) -> bool {
        let seq = |bytes: &[u8]| u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let sent = (self.len - self.headers_len) as u32;
        seq(mine).wrapping_add(sent) == seq(next)
            && alike(mine, next, 8, TCP_FLAGS)
            && alike(mine, next, 14, TCP_CHECKSUM)
            && alike(mine, next, 18, self.headers_len - ip_len)
    }

    /// Verifies the checksum unless that was done before.
    fn verify(&mut self, packet: &[u8]) -> bool {
        if !self.is_verified {
            let (addresses, protocol) = if self.ipv6 {
                (&packet[ipv6::SRC..ipv6::HEADER_LEN], packet[ipv6::NEXT_HEADER])
            } else {
                (&packet[ipv4::SRC..ipv4::HEADER_LEN], packet[ipv4::PROTOCOL])
            };
            let upper = &packet[self.ip_len()..];
            let pseudo = Sum::ZERO.bytes(addresses).word32(u32::from(protocol));
            self.is_verified = pseudo.word32(upper.len() as u32).bytes(upper).is_valid();
            // Closing a packet with a wrong checksum avoids verifying it again.
            self.is_closed |= !self.is_verified;
        }
        self.is_verified
    }
}

fn is_unfragmented(packet: &[u8]) -> bool {
    get(packet, ipv4::FLAGS) & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET) == 0
}

/// Whether a datagram has a checksum and no bytes after it.
fn is_joinable_udp(upper: &[u8], offload: Offload) -> bool {
    upper.first_chunk().is_some_and(|header: &[u8; udp::HEADER_LEN]| {
        usize::from(be16(header, 4)) == upper.len()
            && (be16(header, UDP_CHECKSUM) != 0 || offload.needs_checksum())
    })
}

/// Whether the segment has no flags but ACK and PSH.
fn is_joinable_tcp(upper: &[u8]) -> bool {
    upper.first_chunk().is_some_and(|header: &[u8; tcp::HEADER_LEN]| {
        let header_len = usize::from(header[12] >> 4) * 4;
        header[TCP_FLAGS] & !tcp::PSH == tcp::ACK
            && (tcp::HEADER_LEN..=upper.len()).contains(&header_len)
    })
}

fn alike(a: &[u8], b: &[u8], from: usize, to: usize) -> bool {
    a[from..to] == b[from..to]
}

fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The most bytes of a superframe: the largest IPv4 total length.
const LEN_MAX: usize = 65_535;

/// The most packets in a superframe; every kernel with USO takes this many (`UDP_MAX_SEGMENTS`).
pub const JOINED_MAX: usize = 64;

/// Offset of the flags in a TCP header.
const TCP_FLAGS: usize = 13;
