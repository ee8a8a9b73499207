//! The buffers packets travel in, from a port's rx through the forwarding step to a port's tx.
//!
//! A worker owns one batch and fills it anew in every round: nothing is allocated per packet.
#![forbid(unsafe_code)]

use crate::port::PortId;

/// Packets received in one round at most.
pub const BURST: usize = 64;

/// Free bytes before each received packet, for headers that are put in front.
pub const HEADROOM: usize = 128;

/// The largest IP packet.
pub const PACKET_MAX: usize = 65_535;

/// One received packet: where it lies and what it came by.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The port it came in by.
    pub port: PortId,
    start: u32,
    len: u32,
}

/// Up to [`BURST`] packets and their buffers.
pub struct Batch {
    bytes: Box<[u8]>,
    slots: Vec<Slot>,
    port: PortId,
}

impl Batch {
    /// An empty batch. Takes about 4 MiB of address space, of which only what packets touch is
    /// ever backed by memory.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; BURST * STRIDE].into_boxed_slice(),
            slots: Vec::with_capacity(BURST),
            port: PortId::default(),
        }
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.slots.clear();
    }

    /// Packets committed from here on came in by `port`.
    pub fn from_port(&mut self, port: PortId) {
        self.port = port;
    }

    /// How many more packets fit.
    pub fn room(&self) -> usize {
        BURST - self.slots.len()
    }

    /// Where the next packet's bytes go: [`PACKET_MAX`] bytes with [`HEADROOM`] before them.
    /// Empty when there is no room.
    pub fn next_buffer(&mut self) -> &mut [u8] {
        if self.room() == 0 {
            return &mut [];
        }
        let start = self.slots.len() * STRIDE + HEADROOM;
        &mut self.bytes[start..start + PACKET_MAX]
    }

    /// The first `len` bytes of [`Self::next_buffer`] are a packet now. Does nothing without room.
    pub fn commit(&mut self, len: usize) {
        debug_assert!(self.room() > 0 && len <= PACKET_MAX);
        if self.room() > 0 {
            let start = (self.slots.len() * STRIDE + HEADROOM) as u32;
            self.slots.push(Slot { port: self.port, start, len: len.min(PACKET_MAX) as u32 });
        }
    }

    /// Copies one packet in. `false` without room, or if it is larger than any IP packet.
    pub fn push(&mut self, packet: &[u8]) -> bool {
        if self.room() == 0 || packet.len() > PACKET_MAX {
            return false;
        }
        self.next_buffer()[..packet.len()].copy_from_slice(packet);
        self.commit(packet.len());
        true
    }

    /// How many packets there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Packet `index`: its slot and bytes.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    pub fn packet(&self, index: usize) -> (Slot, &[u8]) {
        let slot = self.slots[index];
        (slot, &self.bytes[slot.range()])
    }

    /// As [`Self::packet`], to change.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    pub fn packet_mut(&mut self, index: usize) -> (Slot, &mut [u8]) {
        let slot = self.slots[index];
        (slot, &mut self.bytes[slot.range()])
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Slot {
    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// Distance between two buffers. Not a multiple of the page: headers of a batch that lay at the
/// same offset of 64 KiB would fight for the same few sets of the first-level cache.
const STRIDE: usize = (HEADROOM + PACKET_MAX).next_multiple_of(64) + 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_batch_takes_no_more_and_gives_each_packet_back() {
        let mut batch = Batch::new();
        batch.from_port(PortId(7));
        for i in 0..BURST {
            assert!(batch.push(&[i as u8; 20]));
        }
        assert_eq!((batch.room(), batch.push(&[0; 20])), (0, false));
        assert!(batch.next_buffer().is_empty());
        for i in 0..BURST {
            let (slot, bytes) = batch.packet(i);
            assert_eq!((slot.port, bytes), (PortId(7), &[i as u8; 20][..]));
        }
        batch.clear();
        assert!(!batch.push(&vec![0; PACKET_MAX + 1]));
        assert!(batch.push(&vec![1; PACKET_MAX]));
        assert_eq!(batch.packet(0).1.len(), PACKET_MAX);
    }
}
