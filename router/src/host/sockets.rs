//! TCP and UDP sockets over smoltcp's, for the daemon's own protocols and checks.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Duration;
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};

use super::Host;
use super::flows::{Ends, Flow};
use crate::port::PortId;
use crate::time::Nanos;

/// Names a socket or listener of one [`Host`]; never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SocketId(u64);

/// How a TCP connection or listener behaves.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// The port its packets leave by, without a route lookup, and have to come in by.
    pub pin: Option<PortId>,
    /// TTL of what it sends.
    pub ttl: u8,
    /// The least TTL of what it takes (GTSM, RFC 5082: 255 on both).
    pub min_ttl: u8,
    /// Bytes of the receive and of the send buffer.
    pub buffer: usize,
    /// Connections a listener holds until they are accepted, half-open ones included.
    pub backlog: usize,
}

/// Why a socket could not do it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SocketError {
    /// The local address is not the router's.
    #[error("{0} is not an address of this router")]
    NotOurs(IpAddr),
    /// Local and remote address are of different families, or the remote port is 0.
    #[error("cannot reach {remote} from {local}")]
    Unreachable {
        /// Local address.
        local: IpAddr,
        /// Remote end.
        remote: SocketAddr,
    },
    /// Another socket has the address and port, or no port is left for a connection.
    #[error("the port is in use, or none is left")]
    InUse,
    /// There is no such socket, or it is closed.
    #[error("the socket is closed")]
    Closed,
    /// A datagram larger than fits into a packet.
    #[error("{0} bytes do not fit into a packet")]
    TooLarge(usize),
    /// The send buffer is full; try again after the next poll.
    #[error("the send buffer is full")]
    Full,
}

/// How far a connection came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Being opened.
    Opening,
    /// Open since its latest packet, received then, or earlier.
    Open(Nanos),
    /// An ICMP error of this type and code quoted its SYN.
    Refused {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// When it was received.
        at: Nanos,
    },
    /// Closed, by a reset received then if it was never open.
    Closed(Nanos),
}

/// The sockets by their names.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    next: u64,
    tcp: BTreeMap<SocketId, Connection>,
    udp: BTreeMap<SocketId, (SocketHandle, SocketAddr)>,
    listeners: BTreeMap<SocketId, Listener>,
    /// Closed by their owner, not yet by the protocol.
    lingering: Vec<Connection>,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    handle: SocketHandle,
    ends: Ends,
}

#[derive(Debug)]
struct Listener {
    local: Option<IpAddr>,
    port: u16,
    options: TcpOptions,
    waiting: Vec<SocketHandle>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { pin: None, ttl: 64, min_ttl: 0, buffer: 65_536, backlog: 8 }
    }
}

impl Host {
    /// Accepts connections to `port` of one of the router's addresses, or of all of them.
    pub fn tcp_listen(
        &mut self,
        local: Option<IpAddr>,
        port: u16,
        options: TcpOptions,
    ) -> Result<SocketId, SocketError> {
        if let Some(address) = local.filter(|address| !self.has_address(*address)) {
            return Err(SocketError::NotOurs(address));
        }
        if port == 0 || self.flows.is_listening(local, port) {
            return Err(SocketError::InUse);
        }
        let rule = Flow::new(options.pin, options.min_ttl);
        self.flows.listen(local, port, rule);
        let mut listener = Listener { local, port, options, waiting: Vec::new() };
        for _ in 0..options.backlog.max(1) {
            listener.waiting.push(listener.open(&mut self.set));
        }
        let id = self.sockets.name();
        self.sockets.listeners.insert(id, listener);
        Ok(id)
    }

    /// The next connection that was opened to a listener, with its remote end.
    pub fn tcp_accept(&mut self, listener: SocketId) -> Option<(SocketId, SocketAddr)> {
        let entry = self.sockets.listeners.get_mut(&listener)?;
        let index = entry.waiting.iter().position(|&handle| {
            let state = self.set.get::<tcp::Socket>(handle).state();
            !matches!(state, tcp::State::Listen | tcp::State::SynReceived | tcp::State::Closed)
        })?;
        let fresh = entry.open(&mut self.set);
        let handle = std::mem::replace(&mut entry.waiting[index], fresh);
        let options = entry.options;
        let socket = self.set.get_mut::<tcp::Socket>(handle);
        socket.set_timeout(None);
        let local = socket.local_endpoint().map(address_of)?;
        let remote = socket.remote_endpoint().map(address_of)?;
        let ends = Ends { local, remote };
        self.flows.insert(ends, Flow::new(options.pin, options.min_ttl));
        let id = self.sockets.name();
        self.sockets.tcp.insert(id, Connection { handle, ends });
        Some((id, remote))
    }

    /// Opens a connection, from a port of its own in [`HOST_PORTS`].
    pub fn tcp_connect(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        options: TcpOptions,
    ) -> Result<SocketId, SocketError> {
        if !self.has_address(local) {
            return Err(SocketError::NotOurs(local));
        }
        let unreachable = SocketError::Unreachable { local, remote };
        if local.is_ipv4() != remote.is_ipv4() || remote.port() == 0 || remote.ip().is_unspecified()
        {
            return Err(unreachable);
        }
        let local = self.free_port(local, remote).ok_or(SocketError::InUse)?;
        let ends = Ends { local, remote };
        let mut socket = new_socket(&options);
        let connected =
            socket.connect(self.interface.context(), endpoint_of(remote), endpoint_of(local));
        connected.map_err(|_| unreachable)?;
        self.flows.insert(ends, Flow::new(options.pin, options.min_ttl));
        let id = self.sockets.name();
        let handle = self.set.add(socket);
        self.sockets.tcp.insert(id, Connection { handle, ends });
        Ok(id)
    }

    /// How far a connection came; `None` if it was closed by its owner, or lost its address.
    pub fn tcp_progress(&self, id: SocketId) -> Option<Progress> {
        let connection = self.sockets.tcp.get(&id)?;
        let flow = self.flows.get(connection.ends).copied().unwrap_or_default();
        let state = self.set.get::<tcp::Socket>(connection.handle).state();
        Some(match (state, flow.refused) {
            (tcp::State::SynSent, Some((kind, code, at))) => Progress::Refused { kind, code, at },
            (tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Listen, _) => {
                Progress::Opening
            }
            (tcp::State::Closed | tcp::State::TimeWait, _) => Progress::Closed(flow.last_rx),
            _ => Progress::Open(flow.last_rx),
        })
    }

    /// Queues as many of the bytes as fit; returns how many. 0 while the connection is being opened.
    pub fn tcp_send(&mut self, id: SocketId, bytes: &[u8]) -> Result<usize, SocketError> {
        let socket = self.tcp_socket(id)?;
        if !socket.may_send() && matches!(socket.state(), tcp::State::SynSent) {
            return Ok(0);
        }
        socket.send_slice(bytes).map_err(|_| SocketError::Closed)
    }

    /// Takes received bytes; returns how many. 0 if there are none now; [`SocketError::Closed`] when
    /// none will come any more.
    pub fn tcp_receive(&mut self, id: SocketId, buffer: &mut [u8]) -> Result<usize, SocketError> {
        let socket = self.tcp_socket(id)?;
        if matches!(socket.state(), tcp::State::SynSent | tcp::State::SynReceived) {
            return Ok(0);
        }
        socket.recv_slice(buffer).map_err(|_| SocketError::Closed)
    }

    /// Ends a connection in order: what is queued is still sent, for a minute at most.
    pub fn tcp_close(&mut self, id: SocketId) {
        if let Some(connection) = self.sockets.tcp.remove(&id) {
            let socket = self.set.get_mut::<tcp::Socket>(connection.handle);
            socket.close();
            socket.set_timeout(Some(LINGER));
            self.linger(connection);
        }
    }

    /// Ends a connection by a reset; nothing of it remains.
    pub fn tcp_abort(&mut self, id: SocketId) {
        if let Some(connection) = self.sockets.tcp.remove(&id) {
            self.set.get_mut::<tcp::Socket>(connection.handle).abort();
            self.linger(connection);
        }
    }

    /// Ends a connection without a word, when there is no way to send one.
    pub fn tcp_forget(&mut self, id: SocketId) {
        if let Some(connection) = self.sockets.tcp.remove(&id) {
            self.set.remove(connection.handle);
            self.flows.remove(connection.ends);
        }
    }

    /// Ends a listener; connections not accepted yet are reset.
    pub fn tcp_unlisten(&mut self, listener: SocketId) {
        let Some(listener) = self.sockets.listeners.remove(&listener) else { return };
        self.flows.unlisten(listener.local, listener.port);
        for handle in listener.waiting {
            let socket = self.set.get_mut::<tcp::Socket>(handle);
            let ends = socket.local_endpoint().zip(socket.remote_endpoint());
            socket.abort();
            match ends {
                Some((local, remote)) => {
                    let ends = Ends { local: address_of(local), remote: address_of(remote) };
                    self.linger(Connection { handle, ends });
                }
                None => drop(self.set.remove(handle)),
            }
        }
    }

    /// Takes datagrams to this address and port, up to 64 waiting ones of 64 KiB together.
    pub fn udp_bind(&mut self, local: SocketAddr) -> Result<SocketId, SocketError> {
        if !self.has_address(local.ip()) {
            return Err(SocketError::NotOurs(local.ip()));
        }
        if local.port() == 0 || self.sockets.udp.values().any(|(_, bound)| *bound == local) {
            return Err(SocketError::InUse);
        }
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 65_536]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(endpoint_of(local)).map_err(|_| SocketError::InUse)?;
        let id = self.sockets.name();
        self.sockets.udp.insert(id, (self.set.add(socket), local));
        Ok(id)
    }

    /// Queues a datagram; it must fit into one packet of the host's MTU.
    pub fn udp_send(
        &mut self,
        id: SocketId,
        remote: SocketAddr,
        payload: &[u8],
    ) -> Result<(), SocketError> {
        let &(handle, local) = self.sockets.udp.get(&id).ok_or(SocketError::Closed)?;
        let room = self.mtu - if local.is_ipv4() { 28 } else { 48 };
        if payload.len() > room {
            return Err(SocketError::TooLarge(payload.len()));
        }
        if local.is_ipv4() != remote.is_ipv4() || remote.port() == 0 || remote.ip().is_unspecified()
        {
            return Err(SocketError::Unreachable { local: local.ip(), remote });
        }
        let socket = self.set.get_mut::<udp::Socket>(handle);
        socket.send_slice(payload, endpoint_of(remote)).map_err(|_| SocketError::Full)
    }

    /// Takes a datagram: its bytes (cut to the buffer) and who sent it.
    pub fn udp_receive(&mut self, id: SocketId, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let &(handle, _) = self.sockets.udp.get(&id)?;
        let (payload, meta) = self.set.get_mut::<udp::Socket>(handle).recv().ok()?;
        let len = payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&payload[..len]);
        Some((len, address_of(meta.endpoint)))
    }

    /// Ends a UDP socket.
    pub fn udp_close(&mut self, id: SocketId) {
        if let Some((handle, _)) = self.sockets.udp.remove(&id) {
            self.set.remove(handle);
        }
    }

    /// Renews listening sockets that timed out half-open, drops what is closed for good.
    pub(super) fn tend_sockets(&mut self) {
        for listener in self.sockets.listeners.values() {
            for &handle in &listener.waiting {
                let socket = self.set.get_mut::<tcp::Socket>(handle);
                if socket.state() == tcp::State::Closed && socket.remote_endpoint().is_none() {
                    let end = IpListenEndpoint {
                        addr: listener.local.map(Into::into),
                        port: listener.port,
                    };
                    // Only an open socket or port 0 is refused.
                    let _ = socket.listen(end);
                }
            }
        }
        let Self { sockets, set, flows, .. } = self;
        sockets.lingering.retain(|connection| {
            let socket = set.get::<tcp::Socket>(connection.handle);
            let ended = match socket.state() {
                tcp::State::Closed => socket.remote_endpoint().is_none(),
                state => state == tcp::State::TimeWait,
            };
            if ended {
                set.remove(connection.handle);
                flows.remove(connection.ends);
            }
            !ended
        });
    }

    /// Ends sockets whose address is not the router's any more.
    pub(super) fn end_homeless_sockets(&mut self) {
        let Self { addresses, sockets, set, flows, .. } = self;
        let keep = |connection: &Connection, set: &mut SocketSet<'_>, flows: &mut super::Flows| {
            let keep = addresses.contains(&connection.ends.local.ip());
            if !keep {
                set.remove(connection.handle);
                flows.remove(connection.ends);
            }
            keep
        };
        sockets.tcp.retain(|_, connection| keep(connection, set, flows));
        sockets.lingering.retain(|connection| keep(connection, set, flows));
        sockets.udp.retain(|_, (handle, local)| {
            let keep = addresses.contains(&local.ip());
            if !keep {
                set.remove(*handle);
            }
            keep
        });
    }

    fn tcp_socket(&mut self, id: SocketId) -> Result<&mut tcp::Socket<'static>, SocketError> {
        let connection = self.sockets.tcp.get(&id).ok_or(SocketError::Closed)?;
        Ok(self.set.get_mut(connection.handle))
    }

    /// Keeps a closed connection until its last packets are out. Beyond [`LINGERING_MAX`] the
    /// oldest is forgotten.
    fn linger(&mut self, connection: Connection) {
        if self.sockets.lingering.len() >= LINGERING_MAX {
            let oldest = self.sockets.lingering.remove(0);
            self.set.remove(oldest.handle);
            self.flows.remove(oldest.ends);
        }
        self.sockets.lingering.push(connection);
    }

    /// A local port that has no connection to `remote`, from a random one on (RFC 6056, algorithm 1).
    fn free_port(&mut self, local: IpAddr, remote: SocketAddr) -> Option<SocketAddr> {
        let first = self.rng.next_u16() % HOST_PORTS_COUNT;
        (0..HOST_PORTS_COUNT)
            .map(|step| HOST_PORTS.start() + (first + step) % HOST_PORTS_COUNT)
            .map(|port| SocketAddr::new(local, port))
            .find(|&local| {
                let taken = self.flows.get(Ends { local, remote }).is_some();
                let listening = [None, Some(local.ip())]
                    .iter()
                    .any(|address| self.flows.is_listening(*address, local.port()));
                !taken && !listening
            })
    }
}

impl Sockets {
    /// Connections that their owner closed and the protocol did not yet.
    #[cfg(test)]
    pub(super) fn lingering(&self) -> usize {
        self.lingering.len()
    }

    fn name(&mut self) -> SocketId {
        self.next += 1;
        SocketId(self.next)
    }
}

impl Listener {
    fn open(&self, set: &mut SocketSet<'_>) -> SocketHandle {
        let mut socket = new_socket(&self.options);
        socket.set_timeout(Some(HALF_OPEN));
        // Only an open socket or port 0 is refused, and it is neither.
        let _ =
            socket.listen(IpListenEndpoint { addr: self.local.map(Into::into), port: self.port });
        set.add(socket)
    }
}

fn new_socket(options: &TcpOptions) -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; options.buffer.max(1)]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_hop_limit(Some(options.ttl.max(1)));
    socket
}

fn endpoint_of(address: SocketAddr) -> IpEndpoint {
    IpEndpoint::new(address.ip().into(), address.port())
}

fn address_of(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr.into(), endpoint.port)
}

/// Local ports of connections that the router opens; probes use those above.
pub const HOST_PORTS: std::ops::RangeInclusive<u16> = 32_768..=49_151;

const HOST_PORTS_COUNT: u16 = 16_384;

/// How long a connection may stay half-open in a listener's backlog.
const HALF_OPEN: Duration = Duration::from_secs(10);

/// How long a connection closed by its owner may take.
const LINGER: Duration = Duration::from_secs(60);

const LINGERING_MAX: usize = 1_024;
