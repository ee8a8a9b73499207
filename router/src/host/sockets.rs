//! TCP and UDP sockets on top of smoltcp, for the daemon's own protocols and checks.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};

use super::Host;
use super::flows::Ends;
use crate::batch::Exit;
use crate::time::Nanos;

/// Id of a socket or listener of one [`Host`]; never reused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SocketId(u64);

/// Options of a TCP connection or listener.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// The way out that its packets take without a route lookup, and by whose port they have to come
    /// in.
    pub pin: Option<Exit>,
    /// Local port of a connection that the router opens, if that is free, else a random one.
    pub port: Option<u16>,
    /// TTL of its outgoing packets.
    pub ttl: u8,
    /// The least TTL of its incoming packets (GTSM, RFC 5082: 255 for both).
    pub min_ttl: u8,
    /// Bytes of the receive buffer and of the send buffer.
    pub buffer: usize,
    /// The most connections of a listener that are not accepted yet, including half-open ones.
    pub backlog: usize,
}

/// Why a socket operation failed.
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
    /// Another socket uses the address and port, or no local port is free.
    #[error("the port is in use, or none is left")]
    InUse,
    /// The socket does not exist or is closed.
    #[error("the socket is closed")]
    Closed,
    /// The datagram, of this many bytes, does not fit into a packet.
    #[error("{0} bytes do not fit into a packet")]
    TooLarge(usize),
    /// The send buffer is full; try again after the next poll.
    #[error("the send buffer is full")]
    Full,
}

/// State of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// The handshake is under way.
    Opening,
    /// Open; its latest packet was received at this time.
    Open(Nanos),
    /// The remote end refused its SYN by an ICMP error of this type and code.
    Refused {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// When it was received.
        at: Nanos,
    },
    /// Closed; by a reset received at this time if it was never open.
    Closed(Nanos),
}

/// The sockets by their ids.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    next: u64,
    pub(super) tcp: BTreeMap<SocketId, Connection>,
    pub(super) udp: BTreeMap<SocketId, (SocketHandle, SocketAddr)>,
    pub(super) listeners: BTreeMap<SocketId, Listener>,
    /// Connections that their owner closed and the protocol has not.
    pub(super) lingering: Vec<Connection>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) handle: SocketHandle,
    pub(super) ends: Ends,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) local: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) options: TcpOptions,
    pub(super) waiting: Vec<SocketHandle>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { pin: None, port: None, ttl: 64, min_ttl: 0, buffer: 65_536, backlog: 8 }
    }
}

impl Host {
    /// Opens a socket for datagrams to this address and port. It queues up to 64 datagrams, of 64
    /// KiB together.
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

    /// Queues a datagram, which must fit into one packet of the host's MTU.
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

    /// Takes a received datagram: stores its bytes, truncated to the buffer, and returns their
    /// number and the sender.
    pub fn udp_receive(&mut self, id: SocketId, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let &(handle, _) = self.sockets.udp.get(&id)?;
        let (payload, meta) = self.set.get_mut::<udp::Socket>(handle).recv().ok()?;
        let len = payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&payload[..len]);
        Some((len, address_of(meta.endpoint)))
    }

    /// Closes a UDP socket.
    pub fn udp_close(&mut self, id: SocketId) {
        if let Some((handle, _)) = self.sockets.udp.remove(&id) {
            self.set.remove(handle);
        }
    }

    /// Replaces listening sockets that timed out half-open, and drops closed ones.
    pub(super) fn tend_sockets(&mut self) {
        for listener in self.sockets.listeners.values() {
            for &handle in &listener.waiting {
                let socket = self.set.get_mut::<tcp::Socket>(handle);
                if socket.state() == tcp::State::Closed && socket.remote_endpoint().is_none() {
                    let end = IpListenEndpoint {
                        addr: listener.local.map(Into::into),
                        port: listener.port,
                    };
                    // Fails only for an open socket or port 0.
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

    /// Drops sockets whose address is no longer the router's.
    pub(super) fn end_homeless_sockets(&mut self) {
        let Self { addresses, sockets, set, flows, .. } = self;
        let keep = |connection: &Connection, set: &mut SocketSet<'_>, flows: &mut super::Flows| {
            let keep = addresses.contains_key(&connection.ends.local.ip());
            if !keep {
                set.remove(connection.handle);
                flows.remove(connection.ends);
            }
            keep
        };
        sockets.tcp.retain(|_, connection| keep(connection, set, flows));
        sockets.lingering.retain(|connection| keep(connection, set, flows));
        sockets.udp.retain(|_, (handle, local)| {
            let keep = addresses.contains_key(&local.ip());
            if !keep {
                set.remove(*handle);
            }
            keep
        });
    }
}

impl Sockets {
    /// Number of connections that their owner closed and the protocol has not.
    #[cfg(test)]
    pub(super) fn lingering(&self) -> usize {
        self.lingering.len()
    }

    pub(super) fn name(&mut self) -> SocketId {
        self.next += 1;
        SocketId(self.next)
    }
}

pub(super) fn endpoint_of(address: SocketAddr) -> IpEndpoint {
    IpEndpoint::new(address.ip().into(), address.port())
}

pub(super) fn address_of(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr.into(), endpoint.port)
}

/// Local ports of connections that the router opens. Probes use the ports above.
pub const HOST_PORTS: std::ops::RangeInclusive<u16> = 32_768..=49_151;
