//! A simulated server: answers echo requests, DNS queries and datagrams, and accepts TCP
//! connections up to the handshake that a check needs.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use crate::packet::build::{Datagram, Echo};
use crate::packet::checksum::Sum;
use crate::packet::error::{self, ERROR_MAX, ErrorKind};
use crate::packet::icmp::{self, Message};
use crate::packet::icmpv6;
use crate::packet::tcp::Tcp;
use crate::packet::udp::Udp;
use crate::packet::{Fragment, Meta, protocol};

/// A simulated host that serves anycast addresses.
#[derive(Clone, Debug)]
pub struct Site {
    /// Appended to each datagram it sends back.
    pub name: String,
    /// The anycast addresses it answers.
    pub addresses: Vec<IpAddr>,
    /// Which of its parts work.
    pub power: Power,
    /// Datagrams it answered, not counting DNS queries of checks.
    pub served: u64,
}

/// Which parts of a site work.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Power {
    /// Everything.
    #[default]
    On,
    /// Only the kernel: it answers echo requests, rejects datagrams with port unreachable and
    /// connections with a reset.
    ServerDead,
    /// Nothing: it is silent.
    Off,
}

impl Site {
    /// A site that is fully working.
    pub fn new(name: &str, addresses: &[IpAddr]) -> Self {
        let (name, addresses) = (name.to_owned(), addresses.to_vec());
        Self { name, addresses, power: Power::On, served: 0 }
    }

    /// The answer to a packet, if it sends one.
    pub fn answer(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        if self.power == Power::Off {
            return None;
        }
        let meta = Meta::parse(packet).ok()?;
        if !self.addresses.contains(&meta.dst) || meta.fragment != Fragment::Whole {
            return None;
        }
        let upper = &packet[meta.header_len..meta.len];
        match meta.protocol {
            protocol::ICMP | protocol::ICMPV6 => echo_reply(&meta, upper),
            protocol::UDP if self.power == Power::ServerDead => {
                let mut out = vec![0; ERROR_MAX];
                let len = error::build(ErrorKind::PortUnreachable, packet, meta.dst, 0, &mut out)?;
                out.truncate(len);
                Some(out)
            }
            protocol::UDP => self.datagram(&meta, upper),
            protocol::TCP => handshake(&meta, packet, self.power == Power::On),
            _ => None,
        }
    }

    fn datagram(&mut self, meta: &Meta, upper: &[u8]) -> Option<Vec<u8>> {
        let request = Udp::parse(upper).ok().filter(|udp| udp.is_valid(meta.src, meta.dst))?;
        let payload = if request.dst_port() == DNS {
            dns_answer(request.payload())?
        } else {
            self.served += 1;
            [request.payload(), self.name.as_bytes()].concat()
        };
        let src = SocketAddr::new(meta.dst, request.dst_port());
        let dst = SocketAddr::new(meta.src, request.src_port());
        let mut out = vec![0; payload.len() + HEADERS_MAX];
        let len = Datagram { src, dst, ttl: TTL, payload: &payload }.write(&mut out)?;
        out.truncate(len);
        Some(out)
    }
}

fn echo_reply(meta: &Meta, upper: &[u8]) -> Option<Vec<u8>> {
    let (ident, seq, data) = match (meta.src, meta.dst) {
        (_, IpAddr::V4(_)) => {
            let request = Message::parse(upper).ok().filter(icmp::is_valid)?;
            let request = Some(request).filter(|m| m.kind() == icmp::ECHO_REQUEST)?;
            (request.ident(), request.seq(), request.data())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let request =
                Message::parse(upper).ok().filter(|message| icmpv6::is_valid(message, src, dst))?;
            let request = Some(request).filter(|m| m.kind() == icmpv6::ECHO_REQUEST)?;
            (request.ident(), request.seq(), request.data())
        }
        _ => return None,
    };
    let mut out = vec![0; data.len() + HEADERS_MAX];
    let (src, dst) = (meta.dst, meta.src);
    let len = Echo { src, dst, ttl: TTL, reply: true, ident, seq, data }.write(&mut out)?;
    out.truncate(len);
    Some(out)
}

/// Accepts or resets a SYN (RFC 9293 section 3.10.7.1). Ignores every other segment: checks end
/// their connections by a reset.
fn handshake(meta: &Meta, packet: &[u8], accept: bool) -> Option<Vec<u8>> {
    let request = Tcp::parse(&packet[meta.header_len..meta.len]).ok()?;
    if request.flags() & (SYN | ACK | RST) != SYN {
        return None;
    }
    let mut header = packet[..meta.header_len].to_vec();
    match meta.dst {
        IpAddr::V4(_) => {
            header[2..4].copy_from_slice(&(meta.header_len as u16 + SEGMENT).to_be_bytes());
            header[10..12].fill(0);
            swap(&mut header, 12, 4);
            let sum = Sum::ZERO.bytes(&header).checksum();
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        IpAddr::V6(_) => {
            header[4..6].copy_from_slice(&SEGMENT.to_be_bytes());
            swap(&mut header, 8, 16);
        }
    }
    let mut segment = [0; SEGMENT as usize];
    segment[..2].copy_from_slice(&request.dst_port().to_be_bytes());
    segment[2..4].copy_from_slice(&request.src_port().to_be_bytes());
    segment[8..12].copy_from_slice(&request.seq().wrapping_add(1).to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = ACK | if accept { SYN } else { RST };
    segment[14..16].fill(0xff);
    let sum = Sum::pseudo(meta.dst, meta.src, protocol::TCP, segment.len()).bytes(&segment);
    segment[16..18].copy_from_slice(&sum.checksum().to_be_bytes());
    header.extend_from_slice(&segment);
    Some(header)
}

/// Swaps the two addresses of `len` bytes that begin at `at`.
fn swap(header: &mut [u8], at: usize, len: usize) {
    let (src, dst) = header[at..at + 2 * len].split_at_mut(len);
    src.swap_with_slice(dst);
}

/// The query as its own response: no error, no records (RFC 1035 section 4.1.1).
fn dns_answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut answer = query.to_vec();
    *answer.get_mut(2)? |= 0x80;
    *answer.get_mut(3)? &= 0xf0;
    Some(answer)
}

/// The port on which it answers as a name server.
const DNS: u16 = 53;

/// Bytes of IPv6 plus UDP or echo headers.
const HEADERS_MAX: usize = 48;

const TTL: u8 = 64;

/// Bytes of a TCP header without options.
const SEGMENT: u16 = 20;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
