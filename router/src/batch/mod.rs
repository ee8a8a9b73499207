//! The buffers that hold packets from a port's rx through the forwarding step to a port's tx.
//!
//! A worker owns one batch and refills it in every round: nothing is allocated per packet.
#![forbid(unsafe_code)]

mod frame;
mod join;
mod outgoing;
mod slot;

use nearhop_fib::{AdjacencyId, PathId};

pub use self::frame::Frame;
pub use self::outgoing::{Exit, MadeRoom, PREPEND_MAX, Transmission};
use self::outgoing::{MADE_MAX, PacketLocation, TRANSMISSIONS_MAX};
pub use self::slot::Slot;
use crate::ids::PortId;
use crate::packet::offload::join::Joined;
use crate::packet::offload::{OFFLOAD_LEN, Offload, Shape};
use crate::verdict::Verdict;

/// The most packets received in one round.
pub const BURST: usize = 64;

/// Free bytes before each received packet, for headers that are put in front ([`PREPEND_MAX`]). The
/// last [`OFFLOAD_LEN`] of them hold the offload header, as a device reads and writes it.
pub const HEADROOM: usize = 128;

/// Bytes of the largest IP packet: an IPv6 header and the largest payload length.
pub const PACKET_MAX: usize = 65_575;

/// A packet addressed to the router.
#[derive(Clone, Copy, Debug)]
pub struct Punt {
    /// Its index in the batch.
    pub index: usize,
    /// The lane that takes it.
    pub lane: LocalLane,
}

/// The engines of the router that receive packets addressed to it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LocalLane {
    /// BFD, of sessions that workers know.
    Bfd,
    /// ICMP, UDP and DNS checks.
    Checks,
    /// Both: fragments of datagrams that may be for either, which each reassembles.
    Fragments,
    /// The host stack.
    Host,
}

impl LocalLane {
    /// The verdict of a packet that this lane accepted.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Bfd => Verdict::Bfd,
            Self::Checks => Verdict::ProbeAnswer,
            Self::Fragments | Self::Host => Verdict::Local,
        }
    }
}

/// Up to [`BURST`] packets, their buffers, and the decisions about them.
///
/// Every buffer has room for a superframe. This costs address space only: a small packet touches
/// one page.
pub struct Batch {
    bytes: Box<[u8]>,
    slots: Vec<Slot>,
    /// Buffers used so far, including those of reads that returned no packet.
    taken: usize,
    port: PortId,
    /// Whether the router made the packets, and they only seem to come in by the port.
    is_injected: bool,
    /// Packets made during the step (errors, fragments, the host stack's packets), each preceded by
    /// an offload header.
    made: Vec<u8>,
    transmissions: Vec<Transmission>,
    punts: Vec<Punt>,
    /// During [`Self::join`]: the packets that others may be joined to, and their slots.
    heads: Vec<(Exit, u32, Joined)>,
}

impl Batch {
    /// An empty batch. Reserves about 4 MiB of address space; only pages that packets touch use
    /// memory.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; BURST * STRIDE].into_boxed_slice(),
            slots: Vec::with_capacity(BURST),
            taken: 0,
            port: PortId::default(),
            is_injected: false,
            made: Vec::with_capacity(MADE_MAX),
            transmissions: Vec::with_capacity(TRANSMISSIONS_MAX),
            punts: Vec::with_capacity(BURST),
            heads: Vec::with_capacity(BURST),
        }
    }

    /// Removes all packets.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.taken = 0;
        self.is_injected = false;
        self.made.clear();
        self.transmissions.clear();
        self.punts.clear();
    }

    /// Sets the port that packets added from now on came in by.
    pub fn from_port(&mut self, port: PortId) {
        self.port = port;
    }

    /// Adds a packet that the router made, which is to be forwarded as if it had come in by a port. Has to be
    /// the only one.
    pub fn inject(&mut self, port: PortId, packet: &[u8]) {
        debug_assert!(self.is_empty());
        self.from_port(port);
        self.is_injected = self.push(packet);
    }

    /// Whether the router made what was received.
    pub fn is_injected(&self) -> bool {
        self.is_injected
    }

    /// Number of packets that can still be added.
    pub fn room(&self) -> usize {
        BURST - self.taken
    }

    /// The buffer for the next packet: [`PACKET_MAX`] bytes, preceded by [`HEADROOM`]. Empty when
    /// the batch is full.
    pub fn next_buffer(&mut self) -> &mut [u8] {
        self.next_frame().get_mut(OFFLOAD_LEN..).unwrap_or_default()
    }

    /// The buffer for the next packet, beginning with room for its offload header. Empty when the
    /// batch is full.
    pub fn next_frame(&mut self) -> &mut [u8] {
        self.next_frames().next().unwrap_or_default()
    }

    /// The buffers for the next packets, in order, each beginning with room for its offload header.
    pub fn next_frames(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let buffers = self.bytes.chunks_exact_mut(STRIDE).skip(self.taken);
        buffers.map(|buffer| &mut buffer[HEADROOM - OFFLOAD_LEN..][..OFFLOAD_LEN + PACKET_MAX])
    }

    /// Adds the first `len` bytes of [`Self::next_buffer`] as a packet without offloads. Does
    /// nothing when the batch is full.
    pub fn commit(&mut self, len: usize) {
        debug_assert!(self.room() > 0 && len <= PACKET_MAX);
        if self.room() > 0 {
            self.put_slot(self.taken, len, Offload::NONE);
            self.taken += 1;
        }
    }

    /// Adds the packets that reads stored in [`Self::next_frames`]. Each of `lens` is the length of
    /// one buffer's content in bytes, including the offload header; `None` if the read returned
    /// nothing.
    pub fn commit_frames(&mut self, lens: impl IntoIterator<Item = Option<usize>>) {
        let first = self.taken;
        for (buffer, len) in (first..BURST).zip(lens) {
            let Some(len) = len else { continue };
            let start = buffer * STRIDE + HEADROOM;
            let header = &self.bytes[start - OFFLOAD_LEN..];
            let header = header.first_chunk().copied().unwrap_or_default();
            // A read shorter than the offload header becomes an empty packet, which is counted as
            // truncated.
            self.note_slot(start as u32, len.saturating_sub(OFFLOAD_LEN), header);
            self.taken = buffer + 1;
        }
    }

    /// Adds a copy of `packet`. `false` if the batch is full or the packet exceeds [`PACKET_MAX`].
    #[inline]
    pub fn push(&mut self, packet: &[u8]) -> bool {
        self.push_frame(packet, Offload::NONE)
    }

    /// Adds a copy of `packet` with this offload header. `false` if the batch is full or the packet
    /// exceeds [`PACKET_MAX`].
    #[inline]
    pub fn push_frame(&mut self, packet: &[u8], offload: Offload) -> bool {
        if self.room() == 0 || packet.len() > PACKET_MAX {
            return false;
        }
        let start = self.taken * STRIDE + HEADROOM;
        self.bytes[start..start + packet.len()].copy_from_slice(packet);
        self.put_slot(self.taken, packet.len(), offload);
        self.taken += 1;
        true
    }

    /// Number of received packets.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no packet was received.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Packet `index`: its slot and its bytes.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    #[inline]
    pub fn packet(&self, index: usize) -> (&Slot, &[u8]) {
        let slot = &self.slots[index];
        (slot, &self.bytes[slot.range()])
    }

    /// Packet `index`: its slot and its bytes, mutable.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    #[inline]
    pub fn packet_mut(&mut self, index: usize) -> (&Slot, &mut [u8]) {
        let slot = &self.slots[index];
        (slot, &mut self.bytes[slot.range()])
    }

    /// The slot of packet `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    #[inline]
    pub fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }

    /// Records that packet `index` was admitted: cuts it to `len` bytes, sets its shape, and clears
    /// offload fields that have no meaning for it.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    #[inline]
    pub fn settle(&mut self, index: usize, len: usize, shape: Shape) {
        let slot = &mut self.slots[index];
        slot.len = slot.len.min(len as u32);
        slot.shape = shape;
        if slot.has_zero_offload {
            return;
        }
        let tidied = slot.offload.tidied(shape);
        if tidied != slot.offload {
            self.set_offload(index, tidied);
        }
    }

    /// Queues packet `index` to leave by `exit`.
    #[inline]
    pub fn transmit(&mut self, index: usize, exit: Exit, path: Option<PathId>, verdict: Verdict) {
        let location = PacketLocation::Slot(index as u32);
        self.transmissions.push(Transmission { exit, path, verdict, link_header_len: 0, location });
    }

    /// Queues a copy of `packet` to leave by `exit`. `false` if there is no room for it.
    #[must_use]
    pub fn transmit_copy(
        &mut self,
        packet: &[u8],
        exit: Exit,
        path: Option<PathId>,
        verdict: Verdict,
    ) -> bool {
        let mut room = self.room_to_make();
        let fits = room.has(1, packet.len());
        if fits {
            room.put(packet, Transmission::template(exit, path, verdict));
        }
        fits
    }

    /// Packet `index`, and the room for packets made from it.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    pub fn packet_and_room(&mut self, index: usize) -> (&[u8], MadeRoom<'_>) {
        let packet = &self.bytes[self.slots[index].range()];
        (packet, MadeRoom { made: &mut self.made, transmissions: &mut self.transmissions })
    }

    /// Queues packet `index` for `lane`.
    pub fn punt(&mut self, index: usize, lane: LocalLane) {
        self.punts.push(Punt { index, lane });
    }

    /// The room for packets that are not made from a received one.
    pub fn room_to_make(&mut self) -> MadeRoom<'_> {
        MadeRoom { made: &mut self.made, transmissions: &mut self.transmissions }
    }

    /// The queued transmissions and their IP packets, in order.
    pub fn transmissions(&self) -> impl ExactSizeIterator<Item = (Transmission, &[u8])> {
        self.transmissions.iter().map(|&sent| (sent, self.frame(&sent).packet()))
    }

    /// Puts the link header that `header_of` returns for its adjacency, at most [`PREPEND_MAX`]
    /// bytes, in front of each packet that leaves by `port`. Afterwards these packets can be
    /// neither joined nor changed.
    pub fn prepend<'a>(&mut self, port: PortId, header_of: impl Fn(AdjacencyId) -> &'a [u8]) {
        for sent in self.transmissions.iter_mut().filter(|sent| sent.exit.port == port) {
            let header = header_of(sent.exit.adjacency);
            debug_assert!(header.len() <= PREPEND_MAX);
            if header.is_empty() {
                continue;
            }
            let (bytes, l3, offload) = match sent.location {
                PacketLocation::Slot(index) => {
                    let slot = &self.slots[index as usize];
                    (&mut self.bytes[..], slot.l3 as usize, slot.offload)
                }
                PacketLocation::Made { start, .. } => {
                    (&mut self.made[..], start as usize, Offload::NONE)
                }
            };
            let l2 = l3 - header.len();
            bytes[l2..l3].copy_from_slice(header);
            let offload = offload.moved_by(header.len() as u16);
            bytes[l2 - OFFLOAD_LEN..l2].copy_from_slice(&offload.to_bytes());
            sent.link_header_len = header.len() as u8;
        }
    }

    /// The transmissions by `port` and their frames, in order.
    pub fn frames(&self, port: PortId) -> impl Iterator<Item = (Transmission, Frame<'_>)> {
        let sent = self.transmissions.iter().filter(move |sent| sent.exit.port == port);
        sent.map(|&sent| (sent, self.frame(&sent)))
    }

    /// Stores the ports that packets leave by in `ports`, each once, in the order of their first
    /// packets.
    pub fn ports_out(&self, ports: &mut Vec<PortId>) {
        ports.clear();
        for sent in &self.transmissions {
            // Usually it is the port found last.
            if !ports.iter().rev().any(|port| *port == sent.exit.port) {
                ports.push(sent.exit.port);
            }
        }
    }

    /// The packets addressed to the router, in order: each with its ingress port and its bytes.
    pub fn punts(&self) -> impl Iterator<Item = (Punt, PortId, &[u8])> {
        self.punts.iter().map(|&punt| {
            let (slot, bytes) = self.packet(punt.index);
            (punt, slot.port, bytes)
        })
    }

    fn frame(&self, sent: &Transmission) -> Frame<'_> {
        let link_header_len = sent.link_header_len;
        let before = OFFLOAD_LEN + usize::from(link_header_len);
        match sent.location {
            PacketLocation::Slot(index) => {
                let slot = self.slots[index as usize];
                let range = slot.range();
                let bytes = &self.bytes[range.start - before..range.end];
                Frame { bytes, link_header_len, shape: slot.shape, joined: slot.joined }
            }
            PacketLocation::Made { start, len } => {
                let start = start as usize;
                let bytes = &self.made[start - before..start + len as usize];
                Frame { bytes, link_header_len, shape: Shape::single(len), joined: 0 }
            }
        }
    }

    #[inline]
    fn put_slot(&mut self, buffer: usize, len: usize, offload: Offload) {
        let start = (buffer * STRIDE + HEADROOM) as u32;
        let header = offload.to_bytes();
        self.bytes[start as usize - OFFLOAD_LEN..start as usize].copy_from_slice(&header);
        self.note_slot(start, len, header);
    }

    /// Adds the packet whose bytes begin at `start`; its offload header is in front of it.
    #[inline]
    fn note_slot(&mut self, start: u32, len: usize, header: [u8; OFFLOAD_LEN]) {
        let has_zero_offload = header == [0; OFFLOAD_LEN];
        let offload = if has_zero_offload { Offload::NONE } else { Offload::from_bytes(header) };
        let len = len.min(PACKET_MAX) as u32;
        let shape = Shape::single(len);
        let (port, joined, l2, l3) = (self.port, 0, start, start);
        self.slots.push(Slot { port, offload, shape, has_zero_offload, joined, l2, l3, len });
    }

    /// Sets a packet's offload header, also in front of its bytes, where devices read it.
    fn set_offload(&mut self, index: usize, offload: Offload) {
        let slot = &mut self.slots[index];
        slot.offload = offload;
        slot.has_zero_offload = offload == Offload::NONE;
        let start = slot.l3 as usize;
        self.bytes[start - OFFLOAD_LEN..start].copy_from_slice(&offload.to_bytes());
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// Distance between two buffers in bytes. Not a multiple of the page size: headers at the same
/// offset of 64 KiB would compete for a few sets of the first-level cache.
const STRIDE: usize = (HEADROOM + PACKET_MAX).next_multiple_of(64) + 64;

#[cfg(test)]
mod tests;
