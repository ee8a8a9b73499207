//! One flow of a prober: its socket, its records, the site that answers it.
#![forbid(unsafe_code)]

use std::net::{SocketAddr, UdpSocket};

use log::warn;
use nearhop::time::Nanos;

use super::batch_io::enable_timestamps;
use super::buffers::deepen;
use super::probe::{ProbeError, ProbeOptions, any_of, family_of};
use super::protocol::FlowNow;
use super::ring::{Noted, Ring};
use super::wire::Probe as ProbeDatagram;
use crate::measure::{Arrival, Flow};

/// A flow with its socket. The socket is not connected, because on a connected one an ICMP error
/// would make the next send fail.
pub struct OpenFlow {
    /// The flow.
    pub flow: Flow,
    /// Bound to the flow's source port, not connected.
    pub socket: UdpSocket,
    /// Its records.
    pub ring: Ring,
    now: FlowNow,
    /// Index of the site in `now.site`.
    site: Option<u16>,
    /// The highest sequence number answered; older echoes do not count as moves.
    newest: u64,
}

/// Opens a socket per flow.
pub fn open_flows(options: &ProbeOptions) -> Result<Vec<OpenFlow>, ProbeError> {
    let count = options.to.len() * usize::from(options.flows);
    if usize::from(options.source_port) + count > usize::from(u16::MAX) {
        let (client, first) = (options.client.clone(), options.source_port);
        return Err(ProbeError::Ports { client, flows: count, first });
    }
    let flow = |id: usize| {
        let address = options.to[id / usize::from(options.flows)];
        let flow = Flow {
            client: options.client.clone(),
            id: id as u16,
            family: family_of(address),
            source_port: options.source_port + id as u16,
            destination: SocketAddr::new(address, options.echo_port),
        };
        let bound = UdpSocket::bind((any_of(address), flow.source_port));
        let socket = bound.map_err(|source| ProbeError::Socket {
            client: options.client.clone(),
            destination: flow.destination,
            source_port: flow.source_port,
            source,
        })?;
        deepen(&socket);
        if let Err(error) = enable_timestamps(&socket) {
            warn!("no kernel timestamps ({error}): arrivals carry the time of reading");
        }
        Ok(OpenFlow::new(flow, socket))
    };
    (0..count).map(flow).collect()
}

impl OpenFlow {
    fn new(flow: Flow, socket: UdpSocket) -> Self {
        let now = FlowNow {
            flow: flow.id,
            family: flow.family,
            site: None,
            heard_ns: 0,
            rtt_ns: 0,
            sent: 0,
            answered: 0,
        };
        Self { flow, socket, ring: Ring::new(RING_PROBES), now, site: None, newest: 0 }
    }

    /// Sends the next probe; returns whether the kernel accepted it.
    pub fn send(&mut self) -> bool {
        let sent_ns = Nanos::now().0;
        let seq = self.ring.sent(sent_ns);
        self.now.sent += 1;
        let datagram = ProbeDatagram { flow: self.flow.id.into(), seq, sent_ns }.encode();
        self.socket.send_to(&datagram, self.flow.destination).is_ok()
    }

    /// The site that answers now; `sites` are the names that arrivals refer to.
    pub fn latest(&self, sites: &[String]) -> FlowNow {
        let site = self.site.and_then(|site| sites.get(usize::from(site)).cloned());
        FlowNow { site, ..self.now.clone() }
    }

    /// Records an echo; returns the old and the new site if the flow has moved.
    pub fn heard(&mut self, seq: u64, sent_ns: u64, arrival: Arrival) -> Option<(u16, u16)> {
        if self.ring.answered(seq, arrival) != Noted::First {
            return None;
        }
        self.now.answered += 1;
        if self.site.is_some() && seq < self.newest {
            return None;
        }
        self.newest = seq;
        self.now.heard_ns = arrival.client_ns;
        self.now.rtt_ns = arrival.client_ns.saturating_sub(sent_ns);
        let before = self.site.replace(arrival.site);
        before.filter(|before| *before != arrival.site).map(|before| (before, arrival.site))
    }
}

/// Two minutes at 1 ms, 26 s at 0.2 ms.
const RING_PROBES: usize = 1 << 17;
