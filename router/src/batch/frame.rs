//! A packet on its way out, as a device takes it.
#![forbid(unsafe_code)]

use crate::packet::offload::{OFFLOAD_LEN, Offload, Shape};

/// A packet, and before it the header that says what was left out of it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) link_header_len: u8,
    pub(super) shape: Shape,
    pub(super) joined: u16,
}

impl<'a> Frame<'a> {
    /// A frame of `bytes` that begin with the offload header of a whole packet; no link header.
    pub fn whole(bytes: &'a [u8]) -> Self {
        debug_assert!(bytes.len() >= OFFLOAD_LEN);
        let len = bytes.len().saturating_sub(OFFLOAD_LEN) as u32;
        Self { bytes, link_header_len: 0, shape: Shape::single(len), joined: 0 }
    }

    /// A frame of `bytes` whose header was checked: they are of `shape`.
    pub fn new(bytes: &'a [u8], shape: Shape) -> Self {
        debug_assert!(bytes.len() >= OFFLOAD_LEN);
        Self { bytes, link_header_len: 0, shape, joined: 0 }
    }

    /// All of it, as a device takes it: the offload header, the link header if there is one, the
    /// packet.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The link header; empty on ports of IP packets.
    #[inline]
    pub fn link_header(self) -> &'a [u8] {
        self.bytes.get(OFFLOAD_LEN..self.packet_start()).unwrap_or_default()
    }

    /// The IP packet.
    #[inline]
    pub fn packet(self) -> &'a [u8] {
        self.bytes.get(self.packet_start()..).unwrap_or_default()
    }

    /// What was left out of the IP packet, counted from its first byte.
    #[inline]
    pub fn offload(self) -> Offload {
        let offload = Offload::from_bytes(self.bytes.first_chunk().copied().unwrap_or_default());
        offload.moved_back_by(u16::from(self.link_header_len))
    }

    #[inline]
    fn packet_start(self) -> usize {
        OFFLOAD_LEN + usize::from(self.link_header_len)
    }

    /// How many packets it stands for.
    #[inline]
    pub fn segments(self) -> u64 {
        u64::from(self.shape.segments)
    }

    /// How many of them came alone and were joined to the first.
    #[inline]
    pub fn joined(self) -> u64 {
        u64::from(self.joined)
    }

    /// Bytes of IP packets that it stands for.
    #[inline]
    pub fn wire_bytes(self) -> u64 {
        self.shape.bytes(self.packet().len()) as u64
    }
}
