//! Small packets of one flow as a superframe, which costs the way out one write.
//!
//! What comes out of it again, segment by segment, is what went in, bit by bit; but for the
//! identification of IPv4 packets that may not be fragmented, which means nothing (RFC 6864 section
//! 4.1). So packets are joined only if they are alike in everything a segment cannot differ in: TTL,
//! DSCP, ECN, DF, addresses, ports; they have no options or extension headers; in TCP all but
//! sequence number and PSH is equal too. A superframe's checksum is made anew, so a wrong one would
//! be laundered: each is looked at before, unless the kernel did or the sender has left it out. A
//! datagram without checksum stays alone: it would get one.
#![forbid(unsafe_code)]

use super::{GSO_TCP4, GSO_TCP6, GSO_UDP_L4, NEEDS_CSUM, Offload, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::packet::checksum::Sum;
use crate::packet::{be16, ipv4, ipv6, protocol, tcp, udp};

/// A packet that others may be joined to, or that was joined to another.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    transport: Transport,
    ipv6: bool,
    /// Bytes of the headers.
    headers_len: usize,
    /// Bytes of the packet, with what was joined to it.
    len: usize,
    /// Payload bytes of each segment but the last.
    size: usize,
    segments: usize,
    offload: Offload,
    /// It is known that its checksum is right, or that it has none yet.
    is_verified: bool,
    /// A shorter segment or a PSH was the last.
    is_closed: bool,
    /// What the last one had: TCP's flags.
    flags: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Transport {
    Tcp,
    Udp,
}

impl Joined {
    /// Looks whether others may be joined to `packet`, which was admitted and has no padding. `None`
    /// if it has to stay alone.
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

    /// How many packets it stands for.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// A few bits that are the same for all packets of a flow; `packet` is the one it was made of.
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

    /// Puts the payload of `next` behind what is in `buffer`, which begins with this packet, if both
    /// may be joined. `false`, and nothing has changed, if not.
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

    /// Makes headers of what was joined; says how long the packet is now, and what was left out of
    /// it. Changes nothing if nothing was joined.
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

    /// Segments get identifications that go up by one. Where DF is set they mean nothing.
    fn has_next_ident(&self, mine: &[u8], next: &[u8]) -> bool {
        get(mine, ipv4::FLAGS) & ipv4::DONT_FRAGMENT != 0
            || get(mine, ipv4::IDENT).wrapping_add(self.segments as u16) == get(next, ipv4::IDENT)
    }

    /// Acknowledgment, header length, window, urgent pointer, and options are equal, the sequence
    /// number follows. Flags were looked at before.
    fn has_next_seq(&self, mine: &[u8], next: &[u8], ip_len: usize) -> bool {
        let seq = |bytes: &[u8]| u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let sent = (self.len - self.headers_len) as u32;
        seq(mine).wrapping_add(sent) == seq(next)
            && alike(mine, next, 8, TCP_FLAGS)
            && alike(mine, next, 14, TCP_CHECKSUM)
            && alike(mine, next, 18, self.headers_len - ip_len)
    }

    /// Looks at the checksum, once.
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
            // One that is wrong is not looked at again: nothing may be joined to it.
            self.is_closed |= !self.is_verified;
        }
        self.is_verified
    }
}

fn is_unfragmented(packet: &[u8]) -> bool {
    get(packet, ipv4::FLAGS) & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET) == 0
}

/// A datagram with a checksum, and with nothing behind it.
fn is_joinable_udp(upper: &[u8], offload: Offload) -> bool {
    upper.first_chunk().is_some_and(|header: &[u8; udp::HEADER_LEN]| {
        usize::from(be16(header, 4)) == upper.len()
            && (be16(header, UDP_CHECKSUM) != 0 || offload.needs_checksum())
    })
}

/// Data that goes on: no flag but ACK and PSH.
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

/// Bytes of a superframe: what an IPv4 packet can say.
const LEN_MAX: usize = 65_535;

/// Packets in one superframe: what every kernel with USO takes (`UDP_MAX_SEGMENTS`).
pub const JOINED_MAX: usize = 64;

/// Where a TCP header has its flags.
const TCP_FLAGS: usize = 13;
