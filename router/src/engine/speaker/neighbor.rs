//! A neighbour's session and its two connections, one that each side opens.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use crossbeam_channel::Sender;

use super::BGP_PORT;
use super::ordered::Ordered;
use crate::batch::Exit;
use crate::bgp::lane::{BgpNews, Link, Peering};
use crate::bgp::session::{Action, Session, Side};
use crate::host::{Host, Progress as TcpProgress, SocketId, TcpOptions};
use crate::time::Nanos;

/// A neighbour that the control plane named.
pub(super) struct Neighbor {
    pub(super) peering: Peering,
    /// As configured or learned; without one there is no session yet.
    pub(super) address: Option<IpAddr>,
    pub(super) lane: Sender<BgpNews>,
    pub(super) lost: Arc<AtomicBool>,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) session: Session,
    pub(super) ordered: Ordered,
    pub(super) incoming: Option<SocketId>,
    pub(super) outgoing: Option<SocketId>,
    /// Whether the outgoing connection is still being made.
    pub(super) is_opening: bool,
    /// What did not fit into its lane; while there is any, no routes are read.
    pub(super) news: VecDeque<BgpNews>,
    /// Whether anything was moved into its lane in this poll.
    pub(super) has_news: bool,
    /// A message waits for room in the lane.
    pub(super) is_held: bool,
    /// BFD has lost the neighbour: its session begins again by then, or once BFD is up.
    pub(super) rests_until: Option<Nanos>,
}

impl Neighbor {
    pub(super) fn socket(&mut self, side: Side) -> &mut Option<SocketId> {
        match side {
            Side::Incoming => &mut self.incoming,
            Side::Outgoing => &mut self.outgoing,
        }
    }

    /// A connection that the neighbour opened, unless there is one that it knows of.
    pub(super) fn take_incoming(&mut self, now: Nanos, host: &mut Host, socket: SocketId) {
        if self.session.is_forgotten(now, Side::Incoming) {
            self.lose(now, host, Side::Incoming);
        }
        if self.incoming.is_some() || self.session.handle_connected(now, Side::Incoming).is_err() {
            host.tcp_abort(socket);
            return;
        }
        host.tcp_require_ttl(socket, self.session.config().min_ttl.unwrap_or(0));
        self.incoming = Some(socket);
    }

    /// What became of a connection that is being made.
    pub(super) fn follow(&mut self, now: Nanos, host: &mut Host) {
        let Some(socket) = self.outgoing.filter(|_| self.is_opening) else { return };
        match host.tcp_progress(socket) {
            Some(TcpProgress::Opening) => {}
            Some(TcpProgress::Open(_)) => {
                self.is_opening = false;
                if self.session.handle_connected(now, Side::Outgoing).is_err() {
                    host.tcp_abort(socket);
                    self.outgoing = None;
                }
            }
            _ => self.lose(now, host, Side::Outgoing),
        }
    }

    pub(super) fn lose(&mut self, now: Nanos, host: &mut Host, side: Side) {
        if let Some(socket) = self.socket(side).take() {
            host.tcp_abort(socket);
        }
        if side == Side::Outgoing {
            self.is_opening = false;
        }
        self.session.handle_closed(now, side);
    }

    /// Does what the session asks for.
    pub(super) fn act(&mut self, now: Nanos, host: &mut Host) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Connect { min_ttl } => self.connect(now, host, min_ttl),
                Action::Close { side, last } => {
                    let Some(socket) = self.socket(side).take() else { continue };
                    if side == Side::Outgoing {
                        self.is_opening = false;
                    }
                    let is_said = !last.is_empty() && host.tcp_send(socket, &last).is_ok();
                    if is_said { host.tcp_close(socket) } else { host.tcp_abort(socket) }
                }
            }
        }
    }

    fn connect(&mut self, now: Nanos, host: &mut Host, min_ttl: Option<u8>) {
        let options = TcpOptions {
            pin: self.peering.link.map(|Link { port, adjacency }| Exit { adjacency, port }),
            ttl: self.peering.ttl,
            min_ttl: min_ttl.unwrap_or(0),
            ..TcpOptions::default()
        };
        let remote = self.address.map(|address| SocketAddr::new(address, BGP_PORT));
        let opened =
            remote.and_then(|remote| host.tcp_connect(self.peering.local, remote, options).ok());
        match opened {
            Some(socket) => {
                self.outgoing = Some(socket);
                self.is_opening = true;
            }
            // An address whose port is not there; it is tried again.
            None => self.session.handle_closed(now, Side::Outgoing),
        }
    }

    /// Sends what the connections take.
    pub(super) fn write(&mut self, now: Nanos, host: &mut Host) {
        for side in [Side::Incoming, Side::Outgoing] {
            let Some(socket) = *self.socket(side) else { continue };
            for _ in 0..WRITES_PER_POLL {
                let bytes = self.session.transmit(now, side);
                if bytes.is_empty() {
                    break;
                }
                let Ok(count @ 1..) = host.tcp_send(socket, bytes) else { break };
                self.session.handle_sent(now, side, count);
            }
        }
    }
}

/// Fillings of a send buffer.
const WRITES_PER_POLL: usize = 4;
