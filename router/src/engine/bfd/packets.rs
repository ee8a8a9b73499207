//! Packets of BFD sessions: what is sent, and what workers let in.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::BfdEngine;
use crate::batch::{Batch, PACKET_MAX};
use crate::bfd::machine::{Ends, PORT, PORT_MULTIHOP, Transmit};
use crate::bfd::packet::PACKET_LEN_MAX;
use crate::bfd::session::SessionConfig;
use crate::forward::{Egress, KnownSession, Outlets, Scratch, Snapshot, Snapshots, originate};
use crate::packet::build::Datagram;
use crate::time::Nanos;

impl BfdEngine {
    /// Sends the packets that are due.
    pub fn transmit(
        &mut self,
        now: Nanos,
        snapshots: &mut Snapshots,
        (batch, scratch): (&mut Batch, &mut Scratch),
        outlets: &mut impl Outlets,
    ) {
        loop {
            batch.clear();
            let mut any = false;
            while batch.room_to_make().has(1, PACKET_MAX) {
                self.payload.clear();
                let transmit = self.machine.poll_transmit(now, &mut self.payload);
                let Some(transmit) = transmit else { break };
                any = true;
                self.queue(&transmit, snapshots, batch);
            }
            self.settle(now);
            if !any {
                break;
            }
            let (snapshot, counters) = (snapshots.load(), &mut self.state.counters);
            Egress { snapshot, counters, scratch }.send(batch, outlets);
        }
    }

    fn queue(&mut self, transmit: &Transmit, snapshots: &mut Snapshots, batch: &mut Batch) {
        let Some(watched) = self.sessions.get(&transmit.session) else { return };
        let Ends { local, remote, link } = transmit.ends;
        let to = if link.is_some() { PORT } else { PORT_MULTIHOP };
        let datagram = Datagram {
            src: SocketAddr::new(local, transmit.source_port),
            dst: SocketAddr::new(remote, to),
            ttl: u8::MAX,
            payload: &self.payload,
        };
        let mut packet = [0; HEADERS_MAX + PACKET_LEN_MAX];
        let Some(len) = datagram.write_classed(CS6, &mut packet) else { return };
        let pin = watched.exit.map(|exit| exit.adjacency);
        let online = self.reader.online();
        originate(&mut packet[..len], pin, batch, &online, snapshots, &mut self.state);
    }

    /// Workers know these sessions from now on; those that stay keep their policers.
    pub(super) fn publish(&self, snapshot: &Snapshot) {
        let before = snapshot.bfd.sessions();
        let mut known = HashMap::with_capacity(self.sessions.len());
        for (&id, watched) in &self.sessions {
            let Some((_, session, _)) = self.machine.get(id) else { continue };
            let (discriminator, rate) = (session.discriminator(), rate_of(session.config()));
            let same = before.get(&watched.ends);
            let same = same.filter(|one| (one.discriminator, one.rate) == (discriminator, rate));
            let entry =
                same.map_or_else(|| Arc::new(KnownSession::new(discriminator, rate)), Arc::clone);
            known.insert(watched.ends, entry);
        }
        snapshot.bfd.publish(known);
    }
}

/// Packets a second that the neighbour may send: it keeps to the interval that the session can receive in,
/// less up to a quarter (RFC 5880, section 6.8.7).
fn rate_of(config: &SessionConfig) -> u32 {
    let interval_us = config.intervals.required_min_rx_us.max(1);
    1_000_000_u32.div_ceil(interval_us).saturating_mul(4) / 3 + 1
}

/// Class selector 6, of what holds a network together (RFC 2474, RFC 4594).
const CS6: u8 = 48 << 2;

/// IPv6 and UDP.
const HEADERS_MAX: usize = 40 + 8;
