//! What is sent through a contestant, and what of it arrives. Every load is bounded in time.
#![forbid(unsafe_code)]

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nearhop::port::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::wait_for;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::subject::{CLIENT, SINK, SITE, Subject};
use crate::failover::pass;
use crate::noise::processor_time;
use crate::report::BenchError;
use crate::stats::Summary;
use crate::sys::set_udp_segment;

/// What one load of one round gave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// The figure.
    pub figure: f64,
    /// Its unit.
    pub unit: &'static str,
    /// Of round trips, in microseconds.
    pub p99: Option<f64>,
    /// What the whole machine did for one packet: sender and receiver are in it.
    pub cpu_ns: Option<f64>,
    /// Share of what was sent that did not arrive.
    pub lost: Option<f64>,
    /// Packets that arrived after a later one of their flow.
    pub reordered: Option<f64>,
}

type Load = fn(&mut Subject) -> Result<Figures, BenchError>;

/// Every measure.
pub const ALL: [(&str, Load); 10] = [
    (UDP_64, |subject| forwarded(subject, 64 - UDP_HEADERS)),
    ("UDP 512 B, forwarded", |subject| forwarded(subject, 512 - UDP_HEADERS)),
    ("UDP 1,500 B, forwarded", |subject| forwarded(subject, 1500 - UDP_HEADERS)),
    (SUPERFRAMES, superframes),
    (DELIVERED, delivered),
    (TCP_1, |subject| tcp(subject, 1, false)),
    ("TCP, 1 stream back", |subject| tcp(subject, 1, true)),
    ("TCP, 4 streams", |subject| tcp(subject, 4, false)),
    ("TCP, 4 streams back", |subject| tcp(subject, 4, true)),
    (ROUND_TRIP, round_trip),
];

pub const UDP_64: &str = "UDP 64 B, forwarded";
pub const SUPERFRAMES: &str = "UDP superframes of 64 x 512 B, forwarded";
pub const DELIVERED: &str = "UDP 64 B, delivered to a socket";
pub const TCP_1: &str = "TCP, 1 stream";
pub const ROUND_TRIP: &str = "round trip, p50";

/// Waits until packets come back: neighbours are known, carriers there.
pub fn warm(subject: &Subject) -> Result<(), BenchError> {
    let echo = Echo::start(&subject.site)?;
    let socket = connected(&subject.client, SocketAddr::new(SITE.into(), echo.port))?;
    wait_for("a first answer", Duration::from_secs(10), || {
        socket.send(&[0]).map_err(|error| error.to_string())?;
        socket.recv(&mut [0; 8]).map(drop).map_err(|error| error.to_string())
    })
    .map_err(BenchError::environment)
}

/// Single datagrams to an address behind the site, counted by the site's NIC.
fn forwarded(subject: &mut Subject, payload: usize) -> Result<Figures, BenchError> {
    let flows = flows(subject, SINK, 9)?;
    count_forwarded(subject, payload, || {
        let mut sender = Sender::new(&flows, payload);
        sender.run_for(LOAD);
        sender.sent()
    })
}

/// The same in superframes, made by the sender's kernel as late as it can.
fn superframes(subject: &mut Subject) -> Result<Figures, BenchError> {
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
    // A superframe counts as one packet with one header; its bytes tell how many it stands for.
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
fn delivered(subject: &mut Subject) -> Result<Figures, BenchError> {
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

/// Streams to the site, or from it, for a while.
fn tcp(subject: &mut Subject, streams: usize, back: bool) -> Result<Figures, BenchError> {
    let listener = subject.site.within(|| TcpListener::bind((SITE, 0)));
    let listener = listener.map_err(BenchError::environment)?.map_err(BenchError::environment)?;
    let to = listener.local_addr().map_err(BenchError::environment)?;
    let mut ends = Vec::new();
    for _ in 0..streams {
        let connect = || TcpStream::connect_timeout(&to, PATIENCE);
        let near = subject.client.within(connect).map_err(BenchError::environment)?;
        let near = near.map_err(BenchError::environment)?;
        let (far, _) = listener.accept().map_err(BenchError::environment)?;
        for end in [&near, &far] {
            end.set_read_timeout(Some(PATIENCE)).map_err(BenchError::environment)?;
            end.set_write_timeout(Some(PATIENCE)).map_err(BenchError::environment)?;
        }
        ends.push(if back { (far, near) } else { (near, far) });
    }
    let start = Nanos::now();
    let received: u64 = thread::scope(|scope| {
        let running: Vec<_> = ends
            .into_iter()
            .map(|(mut from, mut to)| {
                scope.spawn(move || {
                    let data = vec![0; 1 << 17];
                    let until = start + LOAD;
                    while Nanos::now() < until && from.write_all(&data).is_ok() {}
                });
                scope.spawn(move || {
                    let mut buffer = vec![0; 1 << 18];
                    let mut received = 0;
                    while let Ok(len @ 1..) = to.read(&mut buffer) {
                        received += len as u64;
                    }
                    received
                })
            })
            .collect();
        running.into_iter().map(|reader| reader.join().unwrap_or(0)).sum()
    });
    let seconds = Nanos::now().since(start).as_secs_f64();
    let figure = received as f64 * 8.0 / seconds / 1e9;
    Ok(Figures { figure, unit: "Gbit/s", ..Figures::default() })
}

/// Datagrams to an echo and back, one at a time.
fn round_trip(subject: &mut Subject) -> Result<Figures, BenchError> {
    let echo = Echo::start(&subject.site)?;
    let socket = connected(&subject.client, SocketAddr::new(SITE.into(), echo.port))?;
    let mut times = Vec::new();
    let until = Nanos::now() + LOAD;
    while Nanos::now() < until {
        let sent = Nanos::now();
        socket.send(&[0; 36]).map_err(BenchError::environment)?;
        if socket.recv(&mut [0; 64]).is_ok() {
            times.push(Nanos::now().since(sent).as_nanos() as f64 / 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    let p99 = times.get(times.len() * 99 / 100).copied();
    let figure = Summary::of(times).p50;
    Ok(Figures { figure, unit: "us", p99, ..Figures::default() })
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

/// A thread at the site that sends back what it is sent.
struct Echo {
    port: u16,
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Echo {
    fn start(site: &NetNs) -> Result<Self, BenchError> {
        let socket = bound(site, SITE)?;
        let port = socket.local_addr().map_err(BenchError::environment)?.port();
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = std::sync::Arc::clone(&stop);
        let run = move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Acquire) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..len], from);
                }
            }
        };
        let thread = thread::Builder::new().name("echo".into()).spawn(run);
        Ok(Self { port, stop, thread: Some(thread.map_err(BenchError::environment)?) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sockets of the client, each a flow of its own.
fn flows(subject: &Subject, to: Ipv4Addr, port: u16) -> Result<Vec<UdpSocket>, BenchError> {
    let to = SocketAddr::new(to.into(), port);
    (0..FLOWS).map(|_| connected(&subject.client, to)).collect()
}

fn connected(client: &NetNs, to: SocketAddr) -> Result<UdpSocket, BenchError> {
    let socket = bound(client, CLIENT)?;
    socket.connect(to).map_err(BenchError::environment)?;
    Ok(socket)
}

fn bound(netns: &NetNs, address: Ipv4Addr) -> Result<UdpSocket, BenchError> {
    let socket = netns.within(|| UdpSocket::bind((IpAddr::from(address), 0)));
    let socket = socket.map_err(BenchError::environment)?.map_err(BenchError::environment)?;
    socket.set_read_timeout(Some(IN_FLIGHT)).map_err(BenchError::environment)?;
    Ok(socket)
}

/// Processor time that the whole machine has used.
fn busy() -> Nanos {
    let (ticks, _) = processor_time();
    Nanos(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// Bytes of IPv4 and UDP headers.
const UDP_HEADERS: usize = 28;

/// Flows of one load.
const FLOWS: usize = 8;

/// Datagrams in one call of the sender.
const BURST: usize = 16;

/// How long each load lasts.
const LOAD: Duration = Duration::from_millis(300);

/// How long a packet may be under way.
const IN_FLIGHT: Duration = Duration::from_millis(20);

const PATIENCE: Duration = Duration::from_secs(5);

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
