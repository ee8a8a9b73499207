//! What is known of a received packet besides its bytes.
#![forbid(unsafe_code)]

use crate::ids::PortId;
use crate::packet::offload::{Offload, Shape};

/// One received packet: where it lies and what it came by.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The port it came in by.
    pub port: PortId,
    /// What of it was left out; checked if it was admitted.
    pub offload: Offload,
    /// What it is on a wire, once it was admitted; one packet before.
    pub shape: Shape,
    /// Nothing was left out: its header is all zeros, as of most packets.
    pub(super) has_zero_offload: bool,
    /// How many packets that came later were joined to it.
    pub(super) joined: u16,
    /// Where its link header begins; `l3` where there is none, as on a port of IP packets.
    pub(super) l2: u32,
    /// Where its IP header begins.
    pub(super) l3: u32,
    /// Bytes from there on.
    pub(super) len: u32,
}

impl Slot {
    /// Nothing was left out of it, and nothing else is said.
    #[inline]
    pub fn has_zero_offload(&self) -> bool {
        self.has_zero_offload
    }

    /// Bytes of the link header that stands before the IP header.
    pub fn link_header_len(&self) -> usize {
        (self.l3 - self.l2) as usize
    }

    /// Where the IP packet lies in the batch's bytes.
    #[inline]
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.l3 as usize..self.l3 as usize + self.len as usize
    }
}
