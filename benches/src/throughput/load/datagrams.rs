//! Numbered datagrams on several flows: what arrives of them, and in which order.
#![forbid(unsafe_code)]

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nearhop::time::Nanos;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::super::subject::{SINK, SITE, Subject};
use super::{Figures, IN_FLIGHT, LOAD, UDP_HEADERS, bound, busy, connected};
use crate::failover::pass;
use crate::report::BenchError;
use crate::sys::set_udp_segment;

/// Single datagrams to an address behind the site, counted by the site's NIC.
pub(super) fn forwarded(subject: &mut Subject, payload: usize) -> Result<Figures, BenchError> {
    let flows = flows(subject, SINK, 9)?;
    count_forwarded(subject, payload, || {
        let mut sender = Sender::new(&flows, payload);
        sender.run_for(LOAD);
        sender.sent()
    })
}

/// The same in superframes, made by the sender's kernel as late as it can.
pub(super) fn superframes(subject: &mut Subject) -> Result<Figures, BenchError> {
    let payload = 512 - UDP_HEADERS;
    let flows = flows(subject, SINK, 9)?;
    for flow in &flows {
        set_udp_segment(flow, payload as u16).map_err(BenchError::environment)?;
    }
    let bytes = vec![0; payload * 64];
    count_forwarded(subject, payload, || {
        let until = Nanos::now() + LOAD;
        let mut sent = 0;
        while Nanos::now() < until {
            for flow in &flows {
                sent += if flow.send(&bytes).is_ok() { 64 } else { 0 };
            }
        }
        sent
    })
}

/// Runs `send`, and looks what the site's NIC and the processors did meanwhile.
fn count_forwarded(
    subject: &mut Subject,
    payload: usize,
    send: impl FnOnce() -> u64,
) -> Result<Figures, BenchError> {
    let before = subject.site_stats()?;
    let (start, busy_before) = (Nanos::now(), busy());
    let sent = send();
    let (took, busy) = (Nanos::now().since(start), busy().since(busy_before));
    pass(IN_FLIGHT);
    let after = subject.site_stats()?;
    // A superframe counts as one packet with one header; its bytes say how many it stands for.
    let frames = after.rx_packets - before.rx_packets;
    let headers = frames * (UDP_HEADERS as u64 + subject.link_header);
    let arrived = (after.rx_bytes - before.rx_bytes).saturating_sub(headers) / payload as u64;
    Ok(Figures {
        figure: arrived as f64 / took.as_secs_f64() / 1e6,
        unit: "Mpps",
        cpu_ns: Some(busy.as_nanos() as f64 / arrived.max(1) as f64),
        lost: Some(sent.saturating_sub(arrived) as f64 / sent.max(1) as f64),
        ..Figures::default()
    })
}

/// Single datagrams to an application that reads one in each call.
pub(super) fn delivered(subject: &mut Subject) -> Result<Figures, BenchError> {
    let receiver = bound(&subject.site, SITE)?;
    let port = receiver.local_addr().map_err(BenchError::environment)?.port();
    let flows = flows(subject, SITE, port)?;
    let stop = AtomicBool::new(false);
    let (start, busy_before) = (Nanos::now(), busy());
    let (sent, seen) = thread::scope(|scope| {
        let reading = scope.spawn(|| Seen::read(&receiver, &stop));
        let mut sender = Sender::new(&flows, 64 - UDP_HEADERS);
        sender.run_for(LOAD);
        pass(IN_FLIGHT);
        stop.store(true, Ordering::Release);
        (sender.sent(), reading.join())
    });
    let (took, busy) = (Nanos::now().since(start), busy().since(busy_before));
    let seen = seen.map_err(|_| BenchError::environment("the receiver panicked"))?;
    Ok(Figures {
        figure: seen.count as f64 / took.as_secs_f64() / 1e6,
        unit: "M/s",
        cpu_ns: Some(busy.as_nanos() as f64 / seen.count.max(1) as f64),
        lost: Some(sent.saturating_sub(seen.count) as f64 / sent.max(1) as f64),
        reordered: Some(seen.reordered as f64),
        ..Figures::default()
    })
}

/// Sends numbered datagrams on all flows in turn, a few in each call.
struct Sender<'a> {
    flows: &'a [UdpSocket],
    payload: usize,
    /// The next number of each flow.
    next: Vec<u32>,
}

impl<'a> Sender<'a> {
    fn new(flows: &'a [UdpSocket], payload: usize) -> Self {
        Self { flows, payload, next: vec![0; flows.len()] }
    }

    fn run_for(&mut self, time: Duration) {
        let mut bytes = vec![0; self.payload * BURST];
        let until = Nanos::now() + time;
        while Nanos::now() < until {
            for (index, flow) in self.flows.iter().enumerate() {
                for (number, datagram) in (self.next[index]..).zip(bytes.chunks_mut(self.payload)) {
                    datagram[..4].copy_from_slice(&(index as u32).to_be_bytes());
                    datagram[4..8].copy_from_slice(&number.to_be_bytes());
                }
                self.next[index] += send_burst(flow, &bytes, self.payload);
            }
        }
    }

    fn sent(&self) -> u64 {
        self.next.iter().map(|&next| u64::from(next)).sum()
    }
}

/// Says how many the kernel took.
fn send_burst(flow: &UdpSocket, bytes: &[u8], payload: usize) -> u32 {
    let slices: Vec<[IoSlice<'_>; 1]> =
        bytes.chunks(payload).map(|datagram| [IoSlice::new(datagram)]).collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        (0..slices.len()).map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<MMsgHdr<'_>> = slices
        .iter()
        .zip(&mut controls)
        .map(|(slice, control)| MMsgHdr::new(slice, control))
        .collect();
    sendmmsg(flow, &mut messages, SendFlags::empty()).map_or(0, |sent| sent as u32)
}

/// What a receiver saw.
#[derive(Default)]
struct Seen {
    count: u64,
    reordered: u64,
}

impl Seen {
    fn read(receiver: &UdpSocket, stop: &AtomicBool) -> Self {
        let mut seen = Self::default();
        let mut next = [0_u32; FLOWS];
        let mut buffer = [0; 2048];
        while !stop.load(Ordering::Acquire) {
            let Ok(len @ 8..) = receiver.recv(&mut buffer) else { continue };
            debug_assert!(len < buffer.len());
            seen.note(&buffer, &mut next);
        }
        seen
    }

    fn note(&mut self, datagram: &[u8], next: &mut [u32; FLOWS]) {
        let word = |at: usize| datagram.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
        let (Some(flow), Some(number)) = (word(0), word(4)) else { return };
        let (flow, number) = (u32::from_be_bytes(*flow), u32::from_be_bytes(*number));
        let Some(next) = next.get_mut(flow as usize) else { return };
        self.count += 1;
        if number < *next {
            self.reordered += 1;
        } else {
            *next = number + 1;
        }
    }
}

/// Sockets of the client, each a flow of its own.
fn flows(subject: &Subject, to: Ipv4Addr, port: u16) -> Result<Vec<UdpSocket>, BenchError> {
    let to = SocketAddr::new(to.into(), port);
    (0..FLOWS).map(|_| connected(&subject.client, to)).collect()
}

/// Flows of one load.
const FLOWS: usize = 8;

/// Datagrams in one call of the sender.
const BURST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_each_flow_and_lost_ones_are_not_out_of_order() {
        let datagram = |flow: u32, number: u32| [flow.to_be_bytes(), number.to_be_bytes()].concat();
        let (mut seen, mut next) = (Seen::default(), [0; FLOWS]);
        for (flow, number) in [(0, 0), (1, 0), (0, 2), (1, 1), (0, 1), (0, 3)] {
            seen.note(&datagram(flow, number), &mut next);
        }
        assert_eq!((seen.count, seen.reordered), (6, 1));
        seen.note(&datagram(FLOWS as u32, 0), &mut next);
        seen.note(&[0; 7], &mut next);
        assert_eq!(seen.count, 6, "what is not ours is not counted");
    }
}
