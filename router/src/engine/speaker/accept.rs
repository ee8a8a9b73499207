//! Connections that neighbours open: where the speaker listens, and whose each one is.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::neighbor::Neighbor;
use super::{BGP_PORT, Speaker};
use crate::bgp::lane::Knock;
use crate::host::{Host, TcpOptions};
use crate::time::Nanos;

impl Speaker {
    /// The addresses of the router are others now: it listens where it can.
    pub fn listen(&mut self, host: &mut Host) {
        let of_neighbors = self.neighbors.values().map(|neighbor| neighbor.peering.local);
        let wanted: BTreeSet<IpAddr> = of_neighbors.chain(self.ranges.locals()).collect();
        let gone: Vec<IpAddr> =
            self.listeners.keys().filter(|address| !wanted.contains(address)).copied().collect();
        for address in gone {
            if let Some(listener) = self.listeners.remove(&address) {
                host.tcp_unlisten(listener);
            }
        }
        for local in wanted {
            if self.listeners.contains_key(&local) {
                continue;
            }
            // Whose connections may come from afar is decided once it is known who connects.
            let options = TcpOptions { ttl: u8::MAX, ..TcpOptions::default() };
            if let Ok(listener) = host.tcp_listen(Some(local), BGP_PORT, options) {
                self.listeners.insert(local, listener);
            }
        }
    }

    /// Takes connections that neighbours opened, and resets those of anybody else.
    pub(super) fn accept(&mut self, now: Nanos, host: &mut Host) {
        for (local, listener) in &self.listeners {
            for _ in 0..ACCEPTED_PER_POLL {
                let Some((socket, remote)) = host.tcp_accept(*listener) else { break };
                // Link-local addresses are told apart by the port alone.
                let port = host.tcp_port(socket);
                let is_meant = |one: &&mut Neighbor| {
                    (one.address, one.peering.local) == (Some(remote.ip()), *local)
                        && one.peering.link.is_none_or(|link| Some(link.port) == port)
                };
                if let Some(neighbor) = self.neighbors.values_mut().find(is_meant) {
                    neighbor.take_incoming(now, host, socket);
                    continue;
                }
                let dynamic = self.neighbors.values().map(|one| &one.peering);
                let dynamic = dynamic.filter(|one| one.session.dynamic);
                let dynamic = dynamic.filter_map(|one| one.address);
                let knock = Knock { at: now, address: remote.ip(), local: *local };
                self.has_news |= self.ranges.hold(host, (knock, socket), dynamic);
            }
        }
    }
}

/// Connections taken of each listener between two looks at anything else.
const ACCEPTED_PER_POLL: usize = 8;
