//! TCP connections and listeners.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use smoltcp::wire::IpListenEndpoint;

use super::Host;
use super::flows::{Ends, Flow, Handshake, Way};
use super::sockets::{
    Connection, HOST_PORTS, Listener, Progress, SocketError, SocketId, TcpOptions, address_of,
    endpoint_of,
};
use crate::ids::PortId;
use crate::probe::{ErrorSeen, Ignored};

impl Host {
    /// Listens on `port` of one of the router's addresses, or of all of them.
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

    /// The next connection opened to a listener, and its remote end. One between link-local addresses counts
    /// by the port that it came in by alone: [`Self::tcp_port`].
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
        let is_known = self.flows.accept(ends, Flow::new(options.pin, options.min_ttl));
        let id = self.sockets.name();
        self.sockets.tcp.insert(id, Connection { handle, ends });
        if !is_known {
            self.tcp_abort(id);
            return None;
        }
        Some((id, remote))
    }

    /// The only port by which packets of a connection come in: the one it is pinned to, or the one whose link
    /// its link-local addresses are of. `None` is any.
    pub fn tcp_port(&self, id: SocketId) -> Option<PortId> {
        self.flows.get(self.sockets.tcp.get(&id)?.ends)?.port()
    }

    /// Opens a connection from the local port that the options name, or from a random free one in
    /// [`HOST_PORTS`].
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
        let local = self.free_port(local, remote, options.port).ok_or(SocketError::InUse)?;
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

    /// From now on packets of a connection need at least this TTL (RFC 5082).
    pub fn tcp_require_ttl(&mut self, id: SocketId, min_ttl: u8) {
        if let Some(connection) = self.sockets.tcp.get(&id) {
            self.flows.require_ttl(connection.ends, min_ttl);
        }
    }

    /// State of a connection; `None` if its owner closed it or its address was removed.
    pub fn tcp_progress(&self, id: SocketId) -> Option<Progress> {
        let connection = self.sockets.tcp.get(&id)?;
        let flow = self.flows.get(connection.ends).copied().unwrap_or_default();
        let state = self.set.get::<tcp::Socket>(connection.handle).state();
        Some(match (state, flow.handshake) {
            (tcp::State::SynSent, Some(Handshake::Refused { kind, code, at })) => {
                Progress::Refused { kind, code, at }
            }
            (tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Listen, _) => {
                Progress::Opening
            }
            (tcp::State::Closed | tcp::State::TimeWait, _) => Progress::Closed(flow.last_rx),
            _ => Progress::Open(flow.last_rx),
        })
    }

    /// How the handshake of a connection that the router opened ended, whatever came later; `None`
    /// while it is under way.
    pub fn tcp_handshake(&self, id: SocketId) -> Option<Handshake> {
        self.flows.get(self.sockets.tcp.get(&id)?.ends)?.handshake
    }

    /// Whether the remote end takes the SYN of a connection for part of another.
    pub(super) fn tcp_is_entangled(&self, id: SocketId) -> bool {
        let connection = self.sockets.tcp.get(&id);
        let flow = connection.and_then(|connection| self.flows.get(connection.ends));
        flow.is_some_and(|flow| flow.entangled && flow.handshake.is_none())
    }

    /// What was ignored about a connection that the router opened, and the latest ICMP error about
    /// it.
    pub(super) fn tcp_ignored(&self, id: SocketId) -> (Ignored, Option<ErrorSeen>) {
        let connection = self.sockets.tcp.get(&id);
        let flow = connection.and_then(|connection| self.flows.get(connection.ends));
        flow.map(|flow| (flow.ignored, flow.last_error)).unwrap_or_default()
    }

    /// Counts what is ignored on this way and belongs to no connection; see [`Self::take_strays`].
    pub(super) fn watch_way(&mut self, way: Way) {
        self.flows.watch(way);
    }

    /// Undoes [`Self::watch_way`].
    pub(super) fn unwatch_way(&mut self, way: Way) {
        self.flows.unwatch(way);
    }

    /// Takes what was ignored on the watched ways since the last call.
    pub(super) fn take_strays(&mut self) -> Vec<(Way, Ignored)> {
        self.flows.take_strays()
    }

    /// Queues as many of the bytes as fit; returns how many. 0 during the handshake.
    pub fn tcp_send(&mut self, id: SocketId, bytes: &[u8]) -> Result<usize, SocketError> {
        let socket = self.tcp_socket(id)?;
        if !socket.may_send() && matches!(socket.state(), tcp::State::SynSent) {
            return Ok(0);
        }
        socket.send_slice(bytes).map_err(|_| SocketError::Closed)
    }

    /// Takes received bytes; returns how many, 0 if there are none yet. [`SocketError::Closed`]
    /// once no more will come.
    pub fn tcp_receive(&mut self, id: SocketId, buffer: &mut [u8]) -> Result<usize, SocketError> {
        let socket = self.tcp_socket(id)?;
        if matches!(socket.state(), tcp::State::SynSent | tcp::State::SynReceived) {
            return Ok(0);
        }
        socket.recv_slice(buffer).map_err(|_| SocketError::Closed)
    }

    /// Closes a connection in order: queued bytes are still sent, for at most a minute.
    pub fn tcp_close(&mut self, id: SocketId) {
        if let Some(connection) = self.sockets.tcp.remove(&id) {
            let socket = self.set.get_mut::<tcp::Socket>(connection.handle);
            socket.close();
            socket.set_timeout(Some(LINGER));
            self.linger(connection);
        }
    }

    /// Closes a connection with a reset, and drops its state.
    pub fn tcp_abort(&mut self, id: SocketId) {
        if let Some(connection) = self.sockets.tcp.remove(&id) {
            self.set.get_mut::<tcp::Socket>(connection.handle).abort();
            self.linger(connection);
        }
    }

    /// Drops a connection without sending anything, for when its port is unusable.
    pub fn tcp_forget(&mut self, id: SocketId) {
        if let Some(connection) = self.sockets.tcp.remove(&id) {
            self.set.remove(connection.handle);
            self.flows.remove(connection.ends);
        }
    }

    /// Closes a listener; connections not accepted yet are reset.
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

    fn tcp_socket(&mut self, id: SocketId) -> Result<&mut tcp::Socket<'static>, SocketError> {
        let connection = self.sockets.tcp.get(&id).ok_or(SocketError::Closed)?;
        Ok(self.set.get_mut(connection.handle))
    }

    /// Keeps a closed connection until its last packets are sent. Beyond [`LINGERING_MAX`] the
    /// oldest is dropped.
    fn linger(&mut self, connection: Connection) {
        if self.sockets.lingering.len() >= LINGERING_MAX {
            let oldest = self.sockets.lingering.remove(0);
            self.set.remove(oldest.handle);
            self.flows.remove(oldest.ends);
        }
        self.sockets.lingering.push(connection);
    }

    /// A random local port in [`HOST_PORTS`], which may be in use.
    pub(super) fn draw_port(&mut self) -> u16 {
        HOST_PORTS.start() + self.rng.next_u16() % HOST_PORTS_COUNT
    }

    /// A local port without a connection to `remote`: the wanted one, or one searched from a random
    /// one on (RFC 6056, algorithm 1).
    fn free_port(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        wanted: Option<u16>,
    ) -> Option<SocketAddr> {
        let first = self.rng.next_u16() % HOST_PORTS_COUNT;
        let random = (0..HOST_PORTS_COUNT)
            .map(|step| HOST_PORTS.start() + (first + step) % HOST_PORTS_COUNT);
        wanted.into_iter().chain(random).map(|port| SocketAddr::new(local, port)).find(|&local| {
            let taken = self.flows.get(Ends { local, remote }).is_some();
            let listening = [None, Some(local.ip())]
                .iter()
                .any(|address| self.flows.is_listening(*address, local.port()));
            !taken && !listening
        })
    }
}

impl Listener {
    fn open(&self, set: &mut SocketSet<'_>) -> SocketHandle {
        let mut socket = new_socket(&self.options);
        socket.set_timeout(Some(HALF_OPEN));
        // Fails only for an open socket or port 0, and this is neither.
        let _ =
            socket.listen(IpListenEndpoint { addr: self.local.map(Into::into), port: self.port });
        set.add(socket)
    }
}

fn new_socket(options: &TcpOptions) -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; options.buffer.max(1)]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_hop_limit(Some(options.ttl.max(1)));
    // What is sent is whole already, and a withdrawal must not wait until the other end acknowledges what came
    // before, which it puts off for 10 to 40 ms.
    socket.set_nagle_enabled(false);
    socket
}

const HOST_PORTS_COUNT: u16 = 16_384;

/// How long a connection may stay half-open in a listener's backlog before it is dropped.
const HALF_OPEN: Duration = Duration::from_secs(10);

/// How long a connection that its owner closed may take to finish.
const LINGER: Duration = Duration::from_secs(60);

const LINGERING_MAX: usize = 1_024;
