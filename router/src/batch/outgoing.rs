//! Transmissions: received packets that are forwarded, and packets made during the step.
#![forbid(unsafe_code)]

use nearhop_fib::{AdjacencyId, PathId};

use super::BURST;
use crate::ids::PortId;
use crate::packet::offload::OFFLOAD_LEN;
use crate::verdict::Verdict;

/// The adjacency and the port by which a packet leaves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Exit {
    /// The adjacency.
    pub adjacency: AdjacencyId,
    /// The adjacency's port.
    pub port: PortId,
}

/// A packet to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Transmission {
    /// The adjacency it leaves by.
    pub exit: Exit,
    /// The path it was selected for; `None` for the router's own packets.
    pub path: Option<PathId>,
    /// The verdict it gets once the device has taken it.
    pub verdict: Verdict,
    /// Bytes of the link header that [`Batch::prepend`](super::Batch::prepend) put in front.
    pub(super) link_header_len: u8,
    pub(super) location: PacketLocation,
}

/// Where the bytes of a packet are stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum PacketLocation {
    Slot(u32),
    /// Range among the made packets; [`MADE_HEADROOM`] free bytes precede it.
    Made {
        start: u32,
        len: u32,
    },
}

impl Transmission {
    /// A transmission without bytes, to be passed to [`MadeRoom::put`].
    pub fn template(exit: Exit, path: Option<PathId>, verdict: Verdict) -> Self {
        Self { exit, path, verdict, link_header_len: 0, location: PacketLocation::Slot(0) }
    }
}

/// The room for packets that the step makes.
pub struct MadeRoom<'a> {
    pub(super) made: &'a mut Vec<u8>,
    pub(super) transmissions: &'a mut Vec<Transmission>,
}

impl MadeRoom<'_> {
    /// Whether `packets` more, of `bytes` together, fit.
    pub fn has(&self, packets: usize, bytes: usize) -> bool {
        self.made.len() + bytes + packets * MADE_HEADROOM <= MADE_MAX
            && self.transmissions.len() + packets + BURST <= TRANSMISSIONS_MAX
    }

    /// Queues a copy of `packet`. The caller has checked with [`Self::has`] that it fits.
    pub fn put(&mut self, packet: &[u8], like: Transmission) {
        let (start, len) = ((self.made.len() + MADE_HEADROOM) as u32, packet.len() as u32);
        self.made.extend_from_slice(&[0; MADE_HEADROOM]);
        self.made.extend_from_slice(packet);
        self.transmissions
            .push(Transmission { location: PacketLocation::Made { start, len }, ..like });
    }
}

/// The longest link header in bytes: an outer IPv6 header, UDP, GUE and Ethernet with a VLAN tag
/// fit.
pub const PREPEND_MAX: usize = 86;

/// Free bytes before each made packet.
pub(super) const MADE_HEADROOM: usize = PREPEND_MAX + OFFLOAD_LEN;

/// The most bytes made in one round: enough for two of the largest packets in small fragments, or
/// an error about each received packet.
pub(super) const MADE_MAX: usize = 384 * 1024;

/// The most packets sent in one round: the received ones, and those made from them.
pub(super) const TRANSMISSIONS_MAX: usize = 4096;
