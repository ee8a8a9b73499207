//! Numbered packets at a steady pace, and where and when each of them arrived.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::traffic::batch_io::sharpen_timers;
use nearlab::traffic::probe::sleep_until;

use super::config::Size;
use crate::report::BenchError;
use crate::sys::Capture;

/// The sampled flows, round robin.
pub struct Sender {
    socket: UdpSocket,
    to: Vec<SocketAddrV4>,
}

/// When each packet was sent, by number.
pub type Sent = Vec<Nanos>;

impl Sender {
    /// Sends from the client's namespace.
    pub fn open(client: &NetNs, size: Size) -> Result<Self, BenchError> {
        let socket = client
            .within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
            .map_err(BenchError::environment)?
            .map_err(BenchError::environment)?;
        let port = |flow: usize| FIRST_PORT + flow as u16;
        let to =
            (0..FLOWS).map(|flow| SocketAddrV4::new(size.destination(flow, FLOWS), port(flow)));
        Ok(Self { socket, to: to.collect() })
    }

    /// Sends until `stop`; packet `n` belongs to flow `n % FLOWS`.
    pub fn run(&self, stop: &AtomicBool) -> Sent {
        send_paced(&self.socket, &self.to, EVERY, stop)
    }
}

/// Sends numbered packets round robin until `stop`, one in each `every`. Pace is kept by the clock: what is late
/// is sent at once.
pub fn send_paced(
    socket: &UdpSocket,
    to: &[SocketAddrV4],
    every: Duration,
    stop: &AtomicBool,
) -> Sent {
    sharpen_timers();
    let start = Nanos::now();
    let mut sent = Vec::with_capacity(1 << 16);
    while !stop.load(Ordering::Acquire) {
        let number = sent.len();
        let due = start + every * number as u32;
        if Nanos::now() < due {
            sleep_until(due);
        }
        sent.push(Nanos::now());
        let payload = (number as u64 | MARK).to_be_bytes();
        // What does not leave does not arrive either, and that is what is looked at.
        let _ = socket.send_to(&payload, to[number % to.len()]);
    }
    sent
}

/// Captures what arrives at a site, on device `device` of its namespace.
pub fn capture(netns: &NetNs, device: &str) -> Result<Capture, BenchError> {
    let mut links = LinkSetup::open(netns).map_err(BenchError::environment)?;
    let ifindex = links.status(device).map_err(BenchError::environment)?.ifindex;
    netns
        .within(|| Capture::open(ifindex, RING))
        .map_err(BenchError::environment)?
        .map_err(BenchError::environment)
}

/// Arrivals of one site, in order: number and time.
pub fn arrivals(capture: &mut Capture) -> Result<Vec<(usize, Nanos)>, BenchError> {
    let mut found = Vec::new();
    capture.drain(|packet| {
        if let Some(number) = number(packet.bytes).filter(|_| !packet.outgoing) {
            found.push((number, packet.at));
        }
    });
    match capture.dropped() {
        Ok(0) => Ok(found),
        Ok(lost) => Err(BenchError::environment(format!("{lost} packets found a capture full"))),
        Err(error) => Err(BenchError::environment(error)),
    }
}

/// Sleeps for a time that belongs to the measurement.
pub fn pass(time: Duration) {
    let until = Nanos::now() + time;
    while Nanos::now() < until {
        thread::park_timeout(until.since(Nanos::now()));
    }
}

/// The number a packet of ours carries: IPv4 without options, UDP, eight bytes.
pub fn number(packet: &[u8]) -> Option<usize> {
    let payload: [u8; 8] = packet.get(28..36)?.try_into().ok()?;
    let value = u64::from_be_bytes(payload);
    (packet[0] == 0x45 && packet[9] == 17 && value & MARK == MARK)
        .then_some((value & !MARK) as usize)
}

/// Sampled flows.
pub const FLOWS: usize = 1_000;

/// Between two packets.
pub const EVERY: Duration = Duration::from_micros(25);

/// Packets a site can take between two looks: more than three seconds.
const RING: usize = 1 << 17;

const FIRST_PORT: u16 = 10_000;

/// Tells our packets from others.
pub const MARK: u64 = 0x6e68_0000_0000_0000;
