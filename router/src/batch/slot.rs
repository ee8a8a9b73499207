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
    pub(super) is_plain: bool,
    /// How many packets that came later were joined to it.
    pub(super) joined: u16,
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Slot {
    /// Nothing was left out of it, and nothing else is said.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    #[inline]
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}
