//! Frames that are wrong in all the ways there are, and now and then right.
#![forbid(unsafe_code)]

use std::net::{Ipv6Addr, SocketAddr};

use nearhop::packet::build::Datagram;
use nearhop::packet::checksum::Sum;
use nearhop::packet::offload::{GSO_TCP4, GSO_TCP6, GSO_UDP_L4, NEEDS_CSUM, OFFLOAD_LEN, Offload};
use nearhop::packet::protocol::{FRAGMENT, ICMP, ICMPV6, TCP, UDP};

use super::router::{CLIENT, SINK};
use crate::fib::random::Random;

/// Makes them.
pub struct Frames {
    random: Random,
    /// From which end the next one comes.
    from: usize,
    /// Where TCP's stream is, so that some segments follow others.
    seq: u32,
}

impl Frames {
    pub fn new(seed: u64) -> Self {
        Self { random: Random(seed), from: 0, seq: 0 }
    }

    /// The next one, from this end: an offload header and a packet.
    pub fn wrong(&mut self, from: usize) -> Vec<u8> {
        self.from = from;
        if self.one_in(20) {
            let len = self.below(300);
            return self.bytes(OFFLOAD_LEN + len);
        }
        let (packet, offload) = self.right();
        let mut frame = [&offload.to_bytes()[..], &packet].concat();
        for _ in 0..self.below(4) {
            self.change(&mut frame);
        }
        // Chance does not find checksums; most of the code is behind one.
        let is_ipv4 = frame.get(OFFLOAD_LEN).is_some_and(|first| first >> 4 == 4);
        if is_ipv4 && !self.one_in(4) {
            fix_checksum(&mut frame[OFFLOAD_LEN..]);
        }
        frame
    }

    /// One change to header or packet.
    fn change(&mut self, frame: &mut Vec<u8>) {
        match self.below(6) {
            0 | 1 => {
                let at = self.below(frame.len().min(OFFLOAD_LEN));
                frame[at] = self.below(256) as u8;
            }
            2 | 3 => {
                // Headers, and the headers that ICMP errors quote.
                let at = OFFLOAD_LEN + self.below(100);
                let byte = self.below(256) as u8;
                if let Some(slot) = frame.get_mut(at) {
                    *slot = byte;
                }
            }
            4 => {
                let len = self.below(frame.len()) + 1;
                frame.truncate(len);
            }
            _ => {
                let len = self.below(40);
                frame.extend(self.bytes(len));
            }
        }
    }

    /// A packet with a header that fits.
    fn right(&mut self) -> (Vec<u8>, Offload) {
        let ipv6 = self.one_in(2);
        // Of few sizes, so that some can be joined.
        let payload = [0, 1, 100, 100, 100, 333][self.below(6)];
        let payload = self.bytes(payload);
        match self.below(7) {
            0 => (self.ip(ipv6, UDP, &udp(&payload)), Offload::NONE),
            1 => {
                let kind = if ipv6 { 1 + self.below(4) as u8 } else { self.below(13) as u8 };
                // Of some kinds an error, which quotes a packet.
                let quoted = self.ip(ipv6, UDP, &udp(&payload[..payload.len().min(60)]));
                let upper = [&[kind, 0, 0, 0, 0, 0, 5, 0][..], &quoted].concat();
                (self.ip(ipv6, if ipv6 { ICMPV6 } else { ICMP }, &upper), Offload::NONE)
            }
            2 => {
                let mut packet = self.ip(ipv6, UDP, &udp(&payload));
                let offset = (self.below(0x2000) as u16).to_be_bytes();
                if ipv6 {
                    let header = [UDP, 0, offset[0], offset[1], 0, 0, 0, 1];
                    packet = self.ip(true, FRAGMENT, &[&header[..], &packet[40..]].concat());
                } else {
                    packet[6..8].copy_from_slice(&offset);
                }
                (packet, Offload::NONE)
            }
            3 => {
                // IPv4 options, or a walk over extension headers.
                let extra = self.below(5) * 8;
                let extra = self.bytes(extra);
                if ipv6 {
                    let upper = [&extra[..], &udp(&payload)].concat();
                    let first = [0, 43, 60, 51][self.below(4)];
                    (self.ip(true, first, &upper), Offload::NONE)
                } else {
                    let mut packet = self.ip(false, UDP, &[&extra[..], &udp(&payload)].concat());
                    packet[0] += (extra.len() / 4) as u8;
                    (packet, Offload::NONE)
                }
            }
            kind => self.superframe(ipv6, kind == 4, &payload),
        }
    }

    fn ip(&mut self, ipv6: bool, protocol: u8, upper: &[u8]) -> Vec<u8> {
        if ipv6 {
            let len = (upper.len() as u16).to_be_bytes();
            let head = [0x60, 0, 0, 0, len[0], len[1], protocol, 64];
            let [src, dst] =
                if self.from == 0 { [CLIENT_V6, SINK_V6] } else { [SINK_V6, CLIENT_V6] };
            return [&head[..], &src.octets(), &dst.octets(), upper].concat();
        }
        let len = ((20 + upper.len()) as u16).to_be_bytes();
        let [src, dst] = if self.from == 0 { [CLIENT, SINK] } else { [SINK, CLIENT] };
        let flags = if self.one_in(2) { DONT_FRAGMENT } else { 0 };
        let head = [0x45, 0, len[0], len[1], 0, 0, flags, 0, 64, protocol, 0, 0];
        let mut packet = [&head[..], &src.octets(), &dst.octets(), upper].concat();
        fix_checksum(&mut packet);
        packet
    }

    fn superframe(&mut self, ipv6: bool, tcp: bool, payload: &[u8]) -> (Vec<u8>, Offload) {
        let (headers, upper, at) = if tcp {
            let mut header =
                [0x0f, 0xa0, 0, 53, 0, 0, 0, 0, 0, 0, 0, 7, 0x50, 0x10, 1, 0, 0, 0, 0, 0];
            header[4..8].copy_from_slice(&self.seq.to_be_bytes());
            self.seq = self.seq.wrapping_add(payload.len() as u32);
            (20, [&header[..], payload].concat(), 16)
        } else {
            (8, udp(payload), 6)
        };
        let ip_len = if ipv6 { 40 } else { 20 };
        let gso_type = match (tcp, ipv6) {
            (true, false) => GSO_TCP4,
            (true, true) => GSO_TCP6,
            (false, _) => GSO_UDP_L4,
        };
        let offload = Offload {
            flags: NEEDS_CSUM,
            gso_type: if self.one_in(2) { 0 } else { gso_type },
            hdr_len: ip_len + headers,
            gso_size: self.below(200) as u16,
            csum_start: ip_len,
            csum_offset: at,
        };
        (self.ip(ipv6, if tcp { TCP } else { UDP }, &upper), offload)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.random.bits() as u8).collect()
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.below(end.max(1) as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// A datagram that has to arrive, with its frame's header.
pub fn good(number: u32) -> Vec<u8> {
    let (src, dst) = (SocketAddr::new(CLIENT.into(), 4000), SocketAddr::new(SINK.into(), GOOD));
    let payload = number.to_be_bytes();
    let datagram = Datagram { src, dst, ttl: 64, payload: &payload };
    let mut frame = vec![0; OFFLOAD_LEN + 32];
    let written = datagram.write(&mut frame[OFFLOAD_LEN..]);
    assert_eq!(written, Some(32), "20 bytes of IPv4, 8 of UDP, and the number");
    frame
}

/// The number in a good packet.
pub fn number_of(packet: &[u8]) -> Option<u32> {
    let is_good = packet.len() == 32 && packet[0] == 0x45 && packet[22..24] == GOOD.to_be_bytes();
    let number = packet.get(28..)?.first_chunk()?;
    is_good.then(|| u32::from_be_bytes(*number))
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    [&[0x0f, 0xa0, 0, 53][..], &len.to_be_bytes(), &[0, 0], payload].concat()
}

/// As far as there is a header to fix.
fn fix_checksum(packet: &mut [u8]) {
    let header_len = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    if let Some(header) = packet.get_mut(..header_len).filter(|header| header.len() >= 20) {
        header[10..12].fill(0);
        let sum = Sum::ZERO.bytes(header).checksum();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const SINK_V6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 9);

/// The port that good packets go to. No packet of 32 bytes is made of others for it but by chance, for
/// which there is no room in a run.
const GOOD: u16 = 4242;

/// In the first byte of flags and offset.
const DONT_FRAGMENT: u8 = 0x40;
