//! Clients: they send numbered packets and record which site answered each.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::packet::build::Datagram;
use crate::packet::udp::Udp;
use crate::packet::{Meta, protocol};
use crate::time::Nanos;

/// A host that sends to services.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// ICMP errors it received.
    pub errors: u64,
}

/// Number of a flow of a [`super::Net`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowId(pub usize);

/// Datagrams of one client to one service, all with the same ports.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Number of the client.
    pub client: usize,
    /// Its address and port.
    pub src: SocketAddr,
    /// The service's address and port.
    pub dst: SocketAddr,
    /// Time between two packets.
    pub interval: Duration,
    /// No packet is sent from then on.
    pub until: Nanos,
    /// When each packet was sent.
    pub sent: Vec<Nanos>,
    /// Answers, in order of arrival.
    pub arrivals: Vec<Arrival>,
    pub(super) next: Nanos,
}

/// An answer to one packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// When it arrived.
    pub t: Nanos,
    /// The number of the packet it answers.
    pub seq: usize,
    /// The site that sent it.
    pub site: String,
}

impl Flow {
    /// Number of packets sent in `[from, to)` that were not answered.
    pub fn lost(&self, from: Nanos, to: Nanos) -> usize {
        let mut answered = vec![false; self.sent.len()];
        for arrival in &self.arrivals {
            answered[arrival.seq] = true;
        }
        let sent = self.sent.iter().zip(answered);
        sent.filter(|&(&t, answered)| (from..to).contains(&t) && !answered).count()
    }

    /// The site that answered the last packet sent before `t`; `None` if none did.
    pub fn site_before(&self, t: Nanos) -> Option<&str> {
        let seq = self.sent.partition_point(|&sent| sent < t).checked_sub(1)?;
        let answer = self.arrivals.iter().find(|arrival| arrival.seq == seq)?;
        Some(&answer.site)
    }

    /// Whether answers arrived in another order than their packets were sent.
    pub fn reordered(&self) -> bool {
        !self.arrivals.is_sorted_by_key(|arrival| arrival.seq)
    }

    /// The moves from one site to another: the last answer before each and the first after it.
    pub fn moves(&self) -> impl Iterator<Item = (&Arrival, &Arrival)> {
        self.arrivals.windows(2).filter(|w| w[0].site != w[1].site).map(|w| (&w[0], &w[1]))
    }

    /// Builds the packet that is due. Its payload is the flow's number and its own.
    pub(super) fn send(&mut self, now: Nanos, id: FlowId) -> Option<Vec<u8>> {
        let mut payload = [0; PAYLOAD];
        payload[..4].copy_from_slice(&u32::try_from(id.0).ok()?.to_be_bytes());
        payload[4..].copy_from_slice(&u32::try_from(self.sent.len()).ok()?.to_be_bytes());
        self.sent.push(now);
        self.next = now + self.interval;
        let mut out = vec![0; 64];
        let (src, dst) = (self.src, self.dst);
        let len = Datagram { src, dst, ttl: 64, payload: &payload }.write(&mut out)?;
        out.truncate(len);
        Some(out)
    }
}

/// Direction of a packet of a flow.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Direction {
    ToSite,
    ToClient,
}

/// Reads the flow, number and site from a packet to a client; `None` if it is not an answer.
pub(super) fn read_answer(packet: &[u8]) -> Option<(FlowId, usize, String)> {
    let meta = Meta::parse(packet).ok()?;
    let (flow, seq, site) = read_payload(packet, &meta)?;
    Some((flow, seq, String::from_utf8_lossy(site).into_owned()))
}

/// Reads the flow of a packet, its number in that flow, and its direction. `None` if it belongs to
/// no flow in `flows`, or is damaged.
pub(super) fn read_numbers(packet: &[u8], flows: &[Flow]) -> Option<(FlowId, usize, Direction)> {
    let meta = Meta::parse(packet).ok()?;
    let (id, seq, _) = read_payload(packet, &meta)?;
    let flow = flows.get(id.0)?;
    let (client, service) = (flow.src.ip(), flow.dst.ip());
    if (meta.src, meta.dst) == (client, service) {
        return Some((id, seq, Direction::ToSite));
    }
    ((meta.src, meta.dst) == (service, client)).then_some((id, seq, Direction::ToClient))
}

fn read_payload<'p>(packet: &'p [u8], meta: &Meta) -> Option<(FlowId, usize, &'p [u8])> {
    if meta.protocol != protocol::UDP {
        return None;
    }
    let datagram = Udp::parse(&packet[meta.header_len..meta.len]).ok()?;
    let valid = datagram.is_valid(meta.src, meta.dst);
    let (numbers, rest) = datagram.payload().split_first_chunk::<PAYLOAD>().filter(|_| valid)?;
    let number = |at: usize| numbers[at..at + 4].iter().fold(0, |n, &b| n << 8 | usize::from(b));
    Some((FlowId(number(0)), number(4), rest))
}

/// Bytes of a flow's number and a packet's number.
const PAYLOAD: usize = 8;
