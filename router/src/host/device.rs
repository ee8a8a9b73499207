//! The two bounded queues between the router and smoltcp.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::IpAddr;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{Icmpv6Packet, Ipv4Packet, Ipv6Packet};

use super::Outgoing;
use super::flows::Flows;
use super::header::{Header, ICMP, ICMPV6, TCP};
use crate::ids::PortId;
use crate::limit::TokenBucket;
use crate::packet::martian::is_link_local;
use crate::time::Nanos;

/// Queues of received and outgoing packets. Buffers are reused.
#[derive(Debug)]
pub(super) struct Queues {
    rx: VecDeque<(Cause, Vec<u8>)>,
    tx: VecDeque<Outgoing>,
    spare: Vec<Vec<u8>>,
    mtu: usize,
    /// How many more packets smoltcp may take in this poll.
    pub(super) rx_budget: usize,
    pub(super) now: Nanos,
    /// For ICMP errors and resets, which anyone can trigger (RFC 4443, section 2.4 f).
    bucket: TokenBucket,
    pub(super) limited: u64,
}

impl Queues {
    pub(super) fn new(now: Nanos, mtu: usize) -> Self {
        Self {
            rx: VecDeque::with_capacity(RX_MAX),
            tx: VecDeque::with_capacity(TX_MAX),
            spare: Vec::new(),
            mtu,
            rx_budget: 0,
            now,
            bucket: TokenBucket::new(ERRORS_PER_SECOND, ERRORS_BURST),
            limited: 0,
        }
    }

    /// Queues a received packet; `false` if the queue is full.
    pub(super) fn receive(&mut self, cause: Cause, packet: &[u8]) -> bool {
        if self.rx.len() == RX_MAX {
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.rx.push_back((cause, buffer));
        true
    }

    pub(super) fn rx_len(&self) -> usize {
        self.rx.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.tx.len() < TX_MAX
    }

    /// Queues an outgoing packet. The caller has checked that there is room.
    pub(super) fn send(&mut self, outgoing: Outgoing) {
        self.tx.push_back(outgoing);
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Outgoing> {
        self.tx.pop_front()
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < RX_MAX && buffer.capacity() <= SPARE_MAX {
            self.spare.push(buffer);
        }
    }

    /// Whether the packet may be sent: errors and resets only within the rate limit.
    fn admit(&mut self, packet: &[u8], header: &Header) -> bool {
        let body = &packet[header.start..header.end];
        let limited = match header.protocol {
            ICMP => matches!(body.first(), Some(3 | 11 | 12)),
            ICMPV6 => body.first().is_some_and(|kind| *kind < 128),
            TCP => body.get(13).is_some_and(|flags| flags & TCP_RST != 0),
            _ => false,
        };
        let allowed = !limited || self.bucket.take(self.now);
        self.limited += u64::from(!allowed);
        allowed
    }
}

/// The packet that another answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause {
    /// The port it came in by.
    pub(super) port: PortId,
    /// The unicast address that ICMPv6 errors about it are sent from.
    pub(super) unicast: IpAddr,
}

/// The device that smoltcp sees during a poll.
pub(super) struct Wire<'a> {
    pub(super) queues: &'a mut Queues,
    pub(super) flows: &'a mut Flows,
}

pub(super) struct Rx(Vec<u8>);

pub(super) struct Tx<'a> {
    queues: &'a mut Queues,
    flows: &'a mut Flows,
    /// The packet that is being answered.
    cause: Option<Cause>,
}

impl Device for Wire<'_> {
    type RxToken<'a>
        = Rx
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        if self.queues.rx_budget == 0 || !self.queues.has_room() {
            return None;
        }
        let (cause, packet) = self.queues.rx.pop_front()?;
        self.queues.rx_budget -= 1;
        Some((Rx(packet), Tx { queues: self.queues, flows: self.flows, cause: Some(cause) }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        self.queues.has_room().then_some(Tx { queues: self.queues, flows: self.flows, cause: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.queues.mtu;
        capabilities
    }
}

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = self.queues.spare.pop().unwrap_or_default();
        packet.clear();
        packet.resize(len, 0);
        let result = f(&mut packet);
        let Some(header) = Header::parse(&packet) else { return result };
        let flow = self.flows.outgoing(&mut packet, &header);
        if flow.is_some() || self.queues.admit(&packet, &header) {
            // What belongs to no connection is an error or a reset about the packet received.
            let cause = self.cause.filter(|_| flow.is_none() || is_link_local(header.dst));
            let by = flow.and_then(|flow| flow.by).or(cause.map(|cause| cause.port));
            if header.protocol == ICMP && flow.is_none() {
                set_precedence(&mut packet);
            }
            if let Some(cause) = cause.filter(|_| header.protocol == ICMPV6) {
                set_source(&mut packet, &header, cause.unicast);
            }
            let pin = flow.and_then(|flow| flow.pin);
            self.queues.send(Outgoing { packet, pin, by });
        } else {
            self.queues.recycle(packet);
        }
        result
    }
}

/// Gives an error the precedence of internetwork control (RFC 1812, section 4.3.2.5).
fn set_precedence(packet: &mut [u8]) {
    let mut view = Ipv4Packet::new_unchecked(packet);
    view.set_dscp(INTERNETWORK_CONTROL);
    view.fill_checksum();
}

/// Gives an ICMPv6 message this source, which its checksum covers.
fn set_source(packet: &mut [u8], header: &Header, source: IpAddr) {
    let (IpAddr::V6(source), IpAddr::V6(dst)) = (source, header.dst) else { return };
    if header.src == IpAddr::V6(source) {
        return;
    }
    Ipv6Packet::new_unchecked(&mut *packet).set_src_addr(source);
    if let Some(body) = packet.get_mut(header.start..header.end) {
        Icmpv6Packet::new_unchecked(body).fill_checksum(&source, &dst);
    }
}

/// The most packets queued for smoltcp.
pub const RX_MAX: usize = 256;

/// The most packets queued for [`super::Host::poll_transmit`] before smoltcp has to wait.
const TX_MAX: usize = 256;

/// Buffers larger than this, in bytes, are not kept for reuse.
const SPARE_MAX: usize = 2_048;

const TCP_RST: u8 = 4;

/// Its code point: class selector 6 (RFC 2474).
const INTERNETWORK_CONTROL: u8 = 48;
const ERRORS_PER_SECOND: u32 = 200;
const ERRORS_BURST: u32 = 50;
