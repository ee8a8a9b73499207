//! Sends the transmissions of a batch. Workers, the host stack, the checks and the simulator all
//! send through this code.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Counters, PortEntry, Snapshot};
use crate::batch::{Batch, PACKET_MAX};
use crate::ids::PortId;
use crate::packet::offload::OFFLOAD_LEN;
use crate::port::counters::PortCounters;
use crate::port::news::PortTrouble;
use crate::port::queue::{Sent, SyscallQueue, send_all};
use crate::port::{PortError, Queue};
use crate::verdict::Verdict;

/// Sends a batch's transmissions and counts each packet by its device's result.
pub struct Egress<'a> {
    /// Ports and adjacencies.
    pub snapshot: &'a Snapshot,
    /// Counts the verdict of each transmission.
    pub counters: &'a mut Counters,
    /// Buffers, reused for every batch.
    pub scratch: &'a mut Scratch,
}

/// The queues a sender writes to.
pub trait Outlets {
    /// The queue of a port to send by, and the port counters to count in.
    fn outlet(&mut self, id: PortId, port: &PortEntry) -> (&mut dyn Queue, &mut PortCounters);
}

/// Buffers for sending, and device failures seen.
pub struct Scratch {
    /// Room for a frame of the largest packet.
    segment: Box<[u8]>,
    ports: Vec<PortId>,
    /// Ports whose devices were down or gone, since the caller last cleared it.
    pub trouble: Vec<PortTrouble>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            segment: vec![0; OFFLOAD_LEN + PACKET_MAX].into_boxed_slice(),
            ports: Vec::new(),
            trouble: Vec::new(),
        }
    }
}

impl Scratch {
    /// Room for a frame of the largest packet, free for use between two batches.
    pub fn segment(&mut self) -> &mut [u8] {
        &mut self.segment
    }
}

impl Egress<'_> {
    /// Sends all transmissions, port by port; packets of a port leave in the order they were
    /// queued. Bounded by the capacity of a batch.
    pub fn send(&mut self, batch: &mut Batch, outlets: &mut impl Outlets) {
        let mut ports = std::mem::take(&mut self.scratch.ports);
        batch.ports_out(&mut ports);
        for &id in &ports {
            match self.snapshot.port(id) {
                Some(port) => self.send_by(id, port, batch, outlets),
                None => {
                    for (_, frame) in batch.frames(id) {
                        self.counters.count_all(Verdict::NoPort, frame.segments());
                    }
                }
            }
        }
        self.scratch.ports = ports;
    }

    fn send_by(
        &mut self,
        id: PortId,
        port: &PortEntry,
        batch: &mut Batch,
        outlets: &mut impl Outlets,
    ) {
        if port.join {
            batch.join(id, port.device.offloads());
        }
        if port.has_link_headers {
            let adjacencies = &self.snapshot.adjacencies;
            batch.prepend(id, |adjacency| {
                adjacencies.get(adjacency).map_or(&[][..], |adjacency| &adjacency.prepend)
            });
        }
        let (queue, counted) = outlets.outlet(id, port);
        let Scratch { segment, trouble, .. } = &mut *self.scratch;
        let counters = &mut *self.counters;
        send_all(queue, (id, &*port.device), batch, segment, &mut |sent| {
            count_sent(&sent, counted, counters);
            if let Err(error @ (PortError::Down | PortError::Gone)) = &sent.result {
                let news = PortTrouble { port: id, gone: matches!(error, PortError::Gone) };
                if trouble.last() != Some(&news) {
                    trouble.push(news);
                }
            }
        });
    }
}

fn count_sent(sent: &Sent, port: &mut PortCounters, counters: &mut Counters) {
    match &sent.result {
        Ok(()) => {
            port.tx_packets += sent.packets;
            port.tx_frames += 1;
            port.tx_bytes += sent.bytes;
            counters.count_all(sent.transmission.verdict, sent.packets - sent.joined);
            counters.count_all(Verdict::Joined, sent.joined);
        }
        Err(error) => {
            port.tx_dropped += sent.packets;
            counters.count_all(drop_verdict(error), sent.packets);
        }
    }
}

/// The verdict of a packet that its device did not take.
fn drop_verdict(error: &PortError) -> Verdict {
    match error {
        PortError::Full => Verdict::TxFull,
        PortError::Down | PortError::Gone => Verdict::TxDown,
        PortError::Engine(_) | PortError::Refused(_) => Verdict::TxRefused,
    }
}

/// The outlets of a sender that reads no port. It writes to queue 0 of each, which any thread may
/// do, with one system call per packet.
#[derive(Default)]
pub struct SyscallOutlets {
    /// Counters by port.
    pub counters: BTreeMap<PortId, PortCounters>,
    queue: Option<SyscallQueue>,
}

impl Outlets for SyscallOutlets {
    fn outlet(&mut self, id: PortId, port: &PortEntry) -> (&mut dyn Queue, &mut PortCounters) {
        let queue = self.queue.insert(SyscallQueue::new(Arc::clone(&port.device), 0));
        (queue, self.counters.entry(id).or_default())
    }
}

impl SyscallOutlets {
    /// Drops its reference to the last port's device.
    pub fn release(&mut self) {
        self.queue = None;
    }
}

#[cfg(test)]
mod tests;
