//! A server behind a router: answers echo requests, DNS queries and datagrams.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use crate::packet::build::{Datagram, Echo};
use crate::packet::error::{self, ERROR_MAX, ErrorKind};
use crate::packet::icmp::{self, Icmp};
use crate::packet::icmpv6::{self, Icmpv6};
use crate::packet::udp::Udp;
use crate::packet::{Fragment, Meta, protocol};

/// A simulated host that serves anycast addresses.
#[derive(Clone, Debug)]
pub struct Site {
    /// What it adds to each datagram it sends back.
    pub name: String,
    /// The addresses it answers for.
    pub addresses: Vec<IpAddr>,
    /// What still works.
    pub power: Power,
    /// Datagrams it answered, the DNS queries of checks left out.
    pub served: u64,
}

/// What of a site works.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Power {
    /// Everything.
    #[default]
    On,
    /// The kernel: it answers echoes and refuses datagrams with port unreachable.
    ServerDead,
    /// Nothing: it is silent.
    Off,
}

impl Site {
    /// A site that works.
    pub fn new(name: &str, addresses: &[IpAddr]) -> Self {
        let (name, addresses) = (name.to_owned(), addresses.to_vec());
        Self { name, addresses, power: Power::On, served: 0 }
    }

    /// What it sends back for a packet, if anything.
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
                let len = error::build(ErrorKind::PortUnreachable, packet, meta.dst, &mut out)?;
                out.truncate(len);
                Some(out)
            }
            protocol::UDP => self.datagram(&meta, upper),
            _ => None,
        }
    }

    fn datagram(&mut self, meta: &Meta, upper: &[u8]) -> Option<Vec<u8>> {
        let request = Udp::parse(upper).ok()?;
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
    let (ident, seq, data) = match meta.dst {
        IpAddr::V4(_) => {
            let request = Icmp::parse(upper).ok().filter(|m| m.kind() == icmp::ECHO_REQUEST)?;
            (request.ident(), request.seq(), request.data())
        }
        IpAddr::V6(_) => {
            let request = Icmpv6::parse(upper).ok().filter(|m| m.kind() == icmpv6::ECHO_REQUEST)?;
            (request.ident(), request.seq(), request.data())
        }
    };
    let mut out = vec![0; data.len() + HEADERS_MAX];
    let (src, dst) = (meta.dst, meta.src);
    let len = Echo { src, dst, ttl: TTL, reply: true, ident, seq, data }.write(&mut out)?;
    out.truncate(len);
    Some(out)
}

/// The query as its own answer: no error, no records (RFC 1035 section 4.1.1).
fn dns_answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut answer = query.to_vec();
    *answer.get_mut(2)? |= 0x80;
    *answer.get_mut(3)? &= 0xf0;
    Some(answer)
}

/// The port that is answered as a name server.
const DNS: u16 = 53;

/// IPv6 and UDP or echo.
const HEADERS_MAX: usize = 48;

const TTL: u8 = 64;
