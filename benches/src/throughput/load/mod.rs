//! What is sent through a contestant, and what of it arrives. Every load is bounded in time.
#![forbid(unsafe_code)]

mod datagrams;
mod echo;
mod streams;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::wait_for;

use self::echo::Echo;
use super::subject::{CLIENT, SITE, Subject};
use crate::noise::processor_time;
use crate::report::BenchError;

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

/// Loads a contestant once.
pub type Load = fn(&mut Subject) -> Result<Figures, BenchError>;

/// Every measure.
pub const ALL: [(&str, Load); 10] = [
    (UDP_64, |subject| datagrams::forwarded(subject, 64 - UDP_HEADERS)),
    ("UDP 512 B, forwarded", |subject| datagrams::forwarded(subject, 512 - UDP_HEADERS)),
    ("UDP 1,500 B, forwarded", |subject| datagrams::forwarded(subject, 1500 - UDP_HEADERS)),
    (SUPERFRAMES, datagrams::superframes),
    (DELIVERED, datagrams::delivered),
    (TCP_1, |subject| streams::tcp(subject, 1, false)),
    ("TCP, 1 stream back", |subject| streams::tcp(subject, 1, true)),
    ("TCP, 4 streams", |subject| streams::tcp(subject, 4, false)),
    ("TCP, 4 streams back", |subject| streams::tcp(subject, 4, true)),
    (ROUND_TRIP, echo::round_trip),
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

/// How long each load lasts.
const LOAD: Duration = Duration::from_millis(300);

/// How long a packet may be under way.
const IN_FLIGHT: Duration = Duration::from_millis(20);
