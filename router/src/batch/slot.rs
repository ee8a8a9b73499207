//! Metadata of a received packet.
#![forbid(unsafe_code)]

use crate::ids::PortId;
use crate::packet::offload::{Offload, Shape};

/// One received packet: where it is stored, its ingress port and its offload header.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The port it came in by.
    pub port: PortId,
    /// Its offload header, which was checked if the packet was admitted.
    pub offload: Offload,
    /// Its shape on the wire; a single packet until it is admitted.
    pub shape: Shape,
    /// Whether all bytes of its offload header are zero, as usual.
    pub(super) has_zero_offload: bool,
    /// Number of later packets joined to it.
    pub(super) joined: u16,
    /// Offset of its link header; equals `l3` without one, as on ports of IP packets.
    pub(super) l2: u32,
    /// Offset of its IP header.
    pub(super) l3: u32,
    /// Bytes of the IP packet.
    pub(super) len: u32,
}

impl Slot {
    /// Whether all bytes of its offload header are zero: it is neither a superframe nor has a
    /// partial or verified checksum.
    #[inline]
    pub fn has_zero_offload(&self) -> bool {
        self.has_zero_offload
    }

    /// Bytes of the link header in front of the IP header.
    pub fn link_header_len(&self) -> usize {
        (self.l3 - self.l2) as usize
    }

    /// Range of the IP packet in the batch's bytes.
    #[inline]
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.l3 as usize..self.l3 as usize + self.len as usize
    }
}
