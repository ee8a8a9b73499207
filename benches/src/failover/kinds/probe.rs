//! Numbered datagrams from the client, who of the sites was given each, and when it came.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;

use super::super::traffic::{MARK, number, send_paced};
use crate::report::BenchError;
use crate::sys::Capture;

/// The application at a site. What a device has received and a filter drops does not come here.
pub struct Sink {
    taken: Arc<Mutex<HashSet<usize>>>,
    /// The highest number so far, plus one.
    next: Arc<AtomicUsize>,
}

impl Sink {
    /// Serves until the program ends, on a thread.
    pub fn open(netns: &NetNs) -> Result<Self, BenchError> {
        let socket = bind(netns, PORT)?;
        let sink = Self { taken: Arc::default(), next: Arc::default() };
        let (taken, next) = (Arc::clone(&sink.taken), Arc::clone(&sink.next));
        thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok(length) = socket.recv(&mut bytes) {
                let Some(number) = bytes[..length].try_into().ok().map(u64::from_be_bytes) else {
                    continue;
                };
                let number = (number & !MARK) as usize;
                taken.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
                next.fetch_max(number + 1, Ordering::AcqRel);
            }
        });
        Ok(sink)
    }

    /// The numbers taken since this was last asked.
    pub fn take(&self) -> HashSet<usize> {
        self.next.store(0, Ordering::Release);
        std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One more than the highest number since [`Self::take`].
    pub fn next(&self) -> usize {
        self.next.load(Ordering::Acquire)
    }

    /// How many of these numbers it has.
    pub fn count(&self, numbers: std::ops::Range<usize>) -> usize {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.filter(|number| taken.contains(number)).count()
    }
}

/// The client, round robin over some destinations.
pub struct Client {
    socket: Arc<UdpSocket>,
    to: Arc<Vec<SocketAddrV4>>,
    every: Duration,
}

/// The client at work.
pub struct Sending {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Nanos>>,
}

impl Client {
    /// Sends one datagram in each `every`.
    pub fn open(netns: &NetNs, to: &[Ipv4Addr], every: Duration) -> Result<Self, BenchError> {
        let to = to.iter().map(|address| SocketAddrV4::new(*address, PORT)).collect();
        Ok(Self { socket: Arc::new(bind(netns, 0)?), to: Arc::new(to), every })
    }

    /// Destinations.
    pub fn flows(&self) -> usize {
        self.to.len()
    }

    /// Time between two datagrams.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Begins to send, from number 0. What is late is sent at once.
    pub fn begin(&self) -> Sending {
        let stop = Arc::new(AtomicBool::new(false));
        let (socket, to, every) = (Arc::clone(&self.socket), Arc::clone(&self.to), self.every);
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || send_paced(&socket, &to, every, &stopped));
        Sending { stop, thread }
    }
}

impl Sending {
    /// Ends it; when each was sent.
    pub fn end(self) -> Result<Vec<Nanos>, BenchError> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| BenchError::environment("the client panicked"))
    }
}

/// What was seen at a site's device.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Probes that came in: number and time.
    pub probes: Vec<(usize, Nanos)>,
    /// BGP UPDATE messages that left.
    pub updates: Vec<Nanos>,
}

/// Reads a capture empty.
pub fn look(capture: &mut Capture) -> Result<Seen, BenchError> {
    let mut seen = Seen::default();
    capture.drain(|packet| {
        if packet.outgoing {
            if is_update(packet.bytes) {
                seen.updates.push(packet.at);
            }
        } else if let Some(number) = number(packet.bytes) {
            seen.probes.push((number, packet.at));
        }
    });
    match capture.dropped() {
        Ok(0) => Ok(seen),
        Ok(lost) => Err(BenchError::environment(format!("{lost} packets found a capture full"))),
        Err(error) => Err(BenchError::environment(error)),
    }
}

/// Whether an IPv4 packet's TCP payload begins with a BGP UPDATE.
fn is_update(packet: &[u8]) -> bool {
    let payload = || {
        let ip = usize::from(*packet.first()? & 15) * 4;
        (*packet.get(9)? == 6).then_some(())?;
        let tcp = usize::from(*packet.get(ip + 12)? >> 4) * 4;
        packet.get(ip + tcp..ip + tcp + 19)
    };
    payload().is_some_and(|bytes| bytes[..16] == [0xff; 16] && bytes[18] == 2)
}

fn bind(netns: &NetNs, port: u16) -> Result<UdpSocket, BenchError> {
    let socket = netns.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
    socket.map_err(BenchError::environment)?.map_err(BenchError::environment)
}

const PORT: u16 = 9_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keepalive_is_no_update() {
        let packet = |kind: u8| {
            let mut bytes = vec![0; 20 + 32];
            (bytes[0], bytes[9], bytes[32]) = (0x45, 6, 0x80);
            bytes.extend([0xff; 16]);
            bytes.extend([0, 19, kind]);
            bytes
        };
        assert!(is_update(&packet(2)));
        assert!(!is_update(&packet(4)));
        assert!(!is_update(&packet(2)[..60]));
    }
}
