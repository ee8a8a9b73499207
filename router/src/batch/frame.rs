//! A packet to be sent, in the layout that devices take.
#![forbid(unsafe_code)]

use crate::packet::offload::{OFFLOAD_LEN, Offload, Shape};

/// A packet preceded by its offload header and, on ports with neighbours, a link header.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) link_header_len: u8,
    pub(super) shape: Shape,
    pub(super) joined: u16,
}

impl<'a> Frame<'a> {
    /// A frame of `bytes`, which begin with the offload header of a complete packet; it has no link
    /// header.
    pub fn whole(bytes: &'a [u8]) -> Self {
        debug_assert!(bytes.len() >= OFFLOAD_LEN);
        let len = bytes.len().saturating_sub(OFFLOAD_LEN) as u32;
        Self { bytes, link_header_len: 0, shape: Shape::single(len), joined: 0 }
    }

    /// A frame of `bytes`, which begin with an offload header that was checked and describes
    /// `shape`.
    pub fn new(bytes: &'a [u8], shape: Shape) -> Self {
        debug_assert!(bytes.len() >= OFFLOAD_LEN);
        Self { bytes, link_header_len: 0, shape, joined: 0 }
    }

    /// All bytes, as a device takes them: offload header, link header if any, packet.
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

    /// The packet's offload header, its offsets relative to the IP packet.
    #[inline]
    pub fn offload(self) -> Offload {
        let offload = Offload::from_bytes(self.bytes.first_chunk().copied().unwrap_or_default());
        offload.moved_back_by(u16::from(self.link_header_len))
    }

    #[inline]
    fn packet_start(self) -> usize {
        OFFLOAD_LEN + usize::from(self.link_header_len)
    }

    /// Number of packets on the wire.
    #[inline]
    pub fn segments(self) -> u64 {
        u64::from(self.shape.segments)
    }

    /// Number of these packets that were received separately and joined to the first.
    #[inline]
    pub fn joined(self) -> u64 {
        u64::from(self.joined)
    }

    /// Bytes of these IP packets on the wire.
    #[inline]
    pub fn wire_bytes(self) -> u64 {
        self.shape.bytes(self.packet().len()) as u64
    }
}
