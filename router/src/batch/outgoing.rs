//! What leaves: packets of the batch as they are, and packets that are made during the step.
#![forbid(unsafe_code)]

use nearhop_fib::{AdjacencyId, PathId};

use super::BURST;
use crate::ids::PortId;
use crate::packet::offload::OFFLOAD_LEN;
use crate::verdict::Verdict;

/// By which adjacency a packet leaves, and whose that is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Exit {
    /// The adjacency.
    pub adjacency: AdjacencyId,
    /// Its port.
    pub port: PortId,
}

/// A packet that is to leave.
#[derive(Clone, Copy, Debug)]
pub struct Transmission {
    /// The way out.
    pub exit: Exit,
    /// The path it was chosen for; `None` for the router's own.
    pub path: Option<PathId>,
    /// How it is counted once the device has taken it.
    pub verdict: Verdict,
    /// Bytes that [`Batch::prepend`](super::Batch::prepend) put in front.
    pub(super) link_header_len: u8,
    pub(super) location: PacketLocation,
}

/// Where its bytes are.
#[derive(Clone, Copy, Debug)]
pub(super) enum PacketLocation {
    Slot(u32),
    /// Of the packet; [`MADE_HEADROOM`] bytes are before it.
    Made {
        start: u32,
        len: u32,
    },
}

impl Transmission {
    /// A transmission whose bytes are yet to be made.
    pub fn template(exit: Exit, path: Option<PathId>, verdict: Verdict) -> Self {
        Self { exit, path, verdict, link_header_len: 0, location: PacketLocation::Slot(0) }
    }
}

/// Room for packets that the step makes.
pub struct MadeRoom<'a> {
    pub(super) made: &'a mut Vec<u8>,
    pub(super) transmissions: &'a mut Vec<Transmission>,
}

impl MadeRoom<'_> {
    /// Whether `packets` more with `bytes` in all fit.
    pub fn has(&self, packets: usize, bytes: usize) -> bool {
        self.made.len() + bytes + packets * MADE_HEADROOM <= MADE_MAX
            && self.transmissions.len() + packets + BURST <= TRANSMISSIONS_MAX
    }

    /// Adds one; the caller asked [`Self::has`] before.
    pub fn put(&mut self, packet: &[u8], like: Transmission) {
        let (start, len) = ((self.made.len() + MADE_HEADROOM) as u32, packet.len() as u32);
        self.made.extend_from_slice(&[0; MADE_HEADROOM]);
        self.made.extend_from_slice(packet);
        self.transmissions
            .push(Transmission { location: PacketLocation::Made { start, len }, ..like });
    }
}

/// The longest that is put in front of a packet: an outer IPv6 header, UDP, GUE and Ethernet with a
/// VLAN tag fit.
pub const PREPEND_MAX: usize = 86;

/// Free bytes before each packet that is made.
pub(super) const MADE_HEADROOM: usize = PREPEND_MAX + OFFLOAD_LEN;

/// Bytes of packets made in one round: two of the largest packets in small fragments, or an error
/// about each packet received.
pub(super) const MADE_MAX: usize = 384 * 1024;

/// Packets sent in one round at most: each received one, and what is made of them.
pub(super) const TRANSMISSIONS_MAX: usize = 4096;
