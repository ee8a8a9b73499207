//! The buffers packets travel in, from a port's rx through the forwarding step to a port's tx.
//!
//! A worker owns one batch and fills it anew in every round: nothing is allocated per packet.
#![forbid(unsafe_code)]

use nearhop_fib::PathId;

use crate::port::PortId;
use crate::verdict::Verdict;

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

/// A packet that is to leave by a port.
#[derive(Clone, Copy, Debug)]
pub struct Transmission {
    /// The way out.
    pub port: PortId,
    /// The path it was chosen for; `None` for the router's own.
    pub path: Option<PathId>,
    /// How it is counted once the device has taken it.
    pub verdict: Verdict,
    place: Place,
}

/// A packet for the router itself.
#[derive(Clone, Copy, Debug)]
pub struct Punt {
    /// Which packet.
    pub index: usize,
    /// For whom, and how it is counted once it was handed over.
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Slot(u32),
    Made { start: u32, len: u32 },
}

/// Up to [`BURST`] packets, their buffers, and what is to become of them.
pub struct Batch {
    bytes: Box<[u8]>,
    slots: Vec<Slot>,
    port: PortId,
    /// Packets made during the step: errors, fragments, the host stack's own.
    made: Vec<u8>,
    transmissions: Vec<Transmission>,
    punts: Vec<Punt>,
}

impl Batch {
    /// An empty batch. Takes about 4 MiB of address space, of which only what packets touch is
    /// ever backed by memory.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; BURST * STRIDE].into_boxed_slice(),
            slots: Vec::with_capacity(BURST),
            port: PortId::default(),
            made: Vec::with_capacity(MADE_MAX),
            transmissions: Vec::with_capacity(TRANSMISSIONS_MAX),
            punts: Vec::with_capacity(BURST),
        }
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.made.clear();
        self.transmissions.clear();
        self.punts.clear();
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

    /// Cuts packet `index` to its first `len` bytes.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    pub fn truncate(&mut self, index: usize, len: usize) {
        let slot = &mut self.slots[index];
        slot.len = slot.len.min(len as u32);
    }

    /// Packet `index` leaves by `port`.
    pub fn transmit(&mut self, index: usize, port: PortId, path: Option<PathId>, verdict: Verdict) {
        let place = Place::Slot(index as u32);
        self.transmissions.push(Transmission { port, path, verdict, place });
    }

    /// A copy of `packet` leaves by `port`. `false` if there is no room for it.
    #[must_use]
    pub fn transmit_copy(
        &mut self,
        packet: &[u8],
        port: PortId,
        path: Option<PathId>,
        verdict: Verdict,
    ) -> bool {
        let mut room = MadeRoom { made: &mut self.made, transmissions: &mut self.transmissions };
        let fits = room.has(1, packet.len());
        if fits {
            room.put(packet, Transmission::template(port, path, verdict));
        }
        fits
    }

    /// Packet `index`, and the room for packets made of it.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    pub fn packet_and_room(&mut self, index: usize) -> (&[u8], MadeRoom<'_>) {
        let packet = &self.bytes[self.slots[index].range()];
        (packet, MadeRoom { made: &mut self.made, transmissions: &mut self.transmissions })
    }

    /// Packet `index` is for the router itself.
    pub fn punt(&mut self, index: usize, verdict: Verdict) {
        self.punts.push(Punt { index, verdict });
    }

    /// What is to be sent, in order, with the bytes.
    pub fn transmissions(&self) -> impl Iterator<Item = (Transmission, &[u8])> {
        self.transmissions.iter().map(|&transmission| {
            let bytes = match transmission.place {
                Place::Slot(index) => self.packet(index as usize).1,
                Place::Made { start, len } => &self.made[start as usize..(start + len) as usize],
            };
            (transmission, bytes)
        })
    }

    /// What is for the router itself, in order, with the port it came in by and the bytes.
    pub fn punts(&self) -> impl Iterator<Item = (Punt, PortId, &[u8])> {
        self.punts.iter().map(|&punt| {
            let (slot, bytes) = self.packet(punt.index);
            (punt, slot.port, bytes)
        })
    }
}

impl Transmission {
    /// A transmission whose bytes are yet to be made.
    pub fn template(port: PortId, path: Option<PathId>, verdict: Verdict) -> Self {
        Self { port, path, verdict, place: Place::Slot(0) }
    }
}

/// Room for packets that the step makes.
pub struct MadeRoom<'a> {
    made: &'a mut Vec<u8>,
    transmissions: &'a mut Vec<Transmission>,
}

impl MadeRoom<'_> {
    /// Whether `packets` more with `bytes` in all fit.
    pub fn has(&self, packets: usize, bytes: usize) -> bool {
        self.made.len() + bytes <= MADE_MAX
            && self.transmissions.len() + packets + BURST <= TRANSMISSIONS_MAX
    }

    /// Adds one; the caller asked [`Self::has`] before.
    pub fn put(&mut self, packet: &[u8], like: Transmission) {
        let (start, len) = (self.made.len() as u32, packet.len() as u32);
        self.made.extend_from_slice(packet);
        self.transmissions.push(Transmission { place: Place::Made { start, len }, ..like });
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

/// Bytes of packets made in one round: two of the largest packets in small fragments, or an error
/// about each packet received.
const MADE_MAX: usize = 256 * 1024;

/// Packets sent in one round at most: each received one, and what is made of them.
const TRANSMISSIONS_MAX: usize = 4096;

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
