//! Offloads: work that a packet's sender left to the receiving side, which is completing checksums
//! and cutting superframes into segments. A TUN device with `vnet_hdr` puts a `struct
//! virtio_net_hdr` in front of each packet.
//!
//! The header's fields come from outside and cannot be trusted. [`Offload::check`] compares them
//! with the packet once, when it is admitted; later code relies on the [`Shape`] it returns.
//!
//! * [`Offload`]: the header; [`Offloads`]: the offloads that a port supports.
//! * [`complete`]: computes a partial checksum in full.
//! * [`segment`](mod@segment): cuts a superframe into segments.
//! * [`join`]: joins small packets of one flow into a superframe.
#![forbid(unsafe_code)]

pub mod join;
pub mod segment;
#[cfg(test)]
pub(crate) mod tests;

use super::checksum::Sum;
use super::tcp::Tcp;
use super::udp::{self, Udp};
use super::{Fragment, Meta, protocol};
use crate::verdict::Verdict;

/// Bytes of the header in front of each packet.
pub const OFFLOAD_LEN: usize = 10;

/// The most segments of a valid superframe: 65,535 bytes at the smallest segment size of any TCP
/// yield fewer.
pub const SEGMENTS_MAX: usize = 2048;

/// `struct virtio_net_hdr`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offload {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// [`GSO_NONE`] to [`GSO_UDP_L4`], possibly with [`GSO_ECN`].
    pub gso_type: u8,
    /// Bytes of all headers: a hint.
    pub hdr_len: u16,
    /// Payload bytes of each segment but the last.
    pub gso_size: u16,
    /// Offset of the first byte that the partial checksum still has to cover.
    pub csum_start: u16,
    /// Offset of the checksum field, relative to `csum_start`.
    pub csum_offset: u16,
}

/// The offloads that a port supports.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one flag of the kernel's")]
pub struct Offloads {
    /// Checksums of TCP and UDP.
    pub checksum: bool,
    /// TCP over IPv4 in superframes.
    pub tso4: bool,
    /// TCP over IPv6 in superframes.
    pub tso6: bool,
    /// TCP superframes may have ECN bits set.
    pub tso_ecn: bool,
    /// UDP over IPv4 in superframes.
    pub uso4: bool,
    /// UDP over IPv6 in superframes.
    pub uso6: bool,
}

/// What a packet is on the wire: one packet, or the segments of a superframe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// Number of packets on the wire, at least 1.
    pub segments: u16,
    /// Bytes of the largest of these IP packets.
    pub segment_len: u32,
    /// Bytes of IP and transport header in each segment; 0 unless it is a superframe.
    pub headers_len: u16,
}

/// Protocol and family of a superframe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SuperframeKind {
    Tcp4,
    Tcp6,
    Udp,
}

impl Offload {
    /// No offload: the packet is complete.
    pub const NONE: Self =
        Self { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    /// Decodes the header as a TUN device writes it, in the host's byte order.
    #[inline]
    pub fn from_bytes(bytes: [u8; OFFLOAD_LEN]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }

    /// Encodes the header as a TUN device reads it.
    #[inline]
    pub fn to_bytes(self) -> [u8; OFFLOAD_LEN] {
        let words = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset];
        let mut bytes = [self.flags, self.gso_type, 0, 0, 0, 0, 0, 0, 0, 0];
        for (field, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            field.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// The header after `by` bytes were put in front of the packet.
    #[inline]
    #[must_use]
    pub fn moved_by(self, by: u16) -> Self {
        if self == Self::NONE {
            return self;
        }
        let hdr_len = self.hdr_len.saturating_add(by);
        Self { hdr_len, csum_start: self.csum_start.saturating_add(by), ..self }
    }

    /// The header after the first `by` bytes of the packet were removed.
    #[inline]
    #[must_use]
    pub fn moved_back_by(self, by: u16) -> Self {
        let hdr_len = self.hdr_len.saturating_sub(by);
        Self { hdr_len, csum_start: self.csum_start.saturating_sub(by), ..self }
    }

    /// Whether the packet is complete. Such a header claims nothing that needs a check.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.flags & !DATA_VALID == 0 && self.gso_type == GSO_NONE
    }

    /// Whether the checksum is partial: its field holds only the sum of the pseudo header.
    #[inline]
    pub const fn needs_checksum(self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }

    /// Whether the kernel has verified the checksum.
    #[inline]
    pub const fn is_verified(self) -> bool {
        self.flags & DATA_VALID != 0
    }

    /// Whether the packet is a superframe.
    #[inline]
    pub const fn is_superframe(self) -> bool {
        self.gso_type != GSO_NONE
    }

    /// Checks the header against `packet`, which must have no padding after it.
    ///
    /// # Errors
    /// [`Verdict::BadOffload`] if they contradict each other, or the verdict on the transport
    /// header if that is incomplete.
    #[inline]
    pub fn check(self, packet: &[u8], meta: &Meta) -> Result<Shape, Verdict> {
        if self.is_none() {
            return Ok(Shape::whole(meta));
        }
        self.check_left_out(packet, meta)
    }

    /// The header of a packet that passed [`Self::check`], without fields that have no meaning for
    /// it.
    #[must_use]
    pub fn tidied(self, shape: Shape) -> Self {
        if self.is_none() {
            return Self { flags: self.flags & DATA_VALID, ..Self::NONE };
        }
        let gso_size = if self.is_superframe() { self.gso_size } else { 0 };
        Self { flags: NEEDS_CSUM, hdr_len: shape.headers_len, gso_size, ..self }
    }

    fn check_left_out(self, packet: &[u8], meta: &Meta) -> Result<Shape, Verdict> {
        let is_known = self.flags & !(NEEDS_CSUM | DATA_VALID) == 0;
        if !is_known || !self.needs_checksum() || meta.fragment != Fragment::Whole {
            return Err(Verdict::BadOffload);
        }
        if usize::from(self.hdr_len) > packet.len() {
            return Err(Verdict::BadOffload);
        }
        self.check_checksum(meta)?;
        match self.kind()? {
            Some(kind) => self.check_superframe(kind, packet, meta),
            None => Ok(Shape::whole(meta)),
        }
    }

    /// Checks where the checksum belongs. TCP and UDP have one valid position. The inside of a
    /// tunnelled packet is not parsed; its checksum only has to be within it.
    fn check_checksum(self, meta: &Meta) -> Result<(), Verdict> {
        let (start, offset) = (usize::from(self.csum_start), usize::from(self.csum_offset));
        let right = match meta.protocol {
            protocol::TCP => start == meta.header_len && offset == TCP_CHECKSUM,
            protocol::UDP => start == meta.header_len && offset == UDP_CHECKSUM,
            _ => start >= meta.header_len && offset % 2 == 0,
        };
        if right && start + offset + 2 <= meta.len { Ok(()) } else { Err(Verdict::BadOffload) }
    }

    fn check_superframe(
        self,
        kind: SuperframeKind,
        packet: &[u8],
        meta: &Meta,
    ) -> Result<Shape, Verdict> {
        let fits = match kind {
            SuperframeKind::Tcp4 => meta.protocol == protocol::TCP && meta.src.is_ipv4(),
            SuperframeKind::Tcp6 => meta.protocol == protocol::TCP && meta.src.is_ipv6(),
            SuperframeKind::Udp => meta.protocol == protocol::UDP,
        };
        if !fits {
            return Err(Verdict::BadOffload);
        }
        let upper = packet.get(meta.header_len..meta.len).ok_or(Verdict::Truncated)?;
        let header_len = if kind == SuperframeKind::Udp {
            if usize::from(Udp::parse(upper)?.datagram_len()) != upper.len() {
                return Err(Verdict::BadOffload);
            }
            udp::HEADER_LEN
        } else {
            Tcp::parse(upper)?.header_len()
        };
        let (payload, size) = (upper.len() - header_len, usize::from(self.gso_size));
        if size == 0 || size > payload || payload.div_ceil(size) > SEGMENTS_MAX {
            return Err(Verdict::BadOffload);
        }
        let headers_len = meta.header_len + header_len;
        Ok(Shape {
            segments: payload.div_ceil(size) as u16,
            segment_len: (headers_len + size) as u32,
            headers_len: headers_len as u16,
        })
    }

    fn kind(self) -> Result<Option<SuperframeKind>, Verdict> {
        match self.gso_type {
            GSO_NONE => Ok(None),
            GSO_UDP_L4 => Ok(Some(SuperframeKind::Udp)),
            kind if kind & !GSO_ECN == GSO_TCP4 => Ok(Some(SuperframeKind::Tcp4)),
            kind if kind & !GSO_ECN == GSO_TCP6 => Ok(Some(SuperframeKind::Tcp6)),
            _ => Err(Verdict::BadOffload),
        }
    }
}

impl Offloads {
    /// No offloads: every packet has to be complete and no superframe.
    pub const NONE: Self = Self {
        checksum: false,
        tso4: false,
        tso6: false,
        tso_ecn: false,
        uso4: false,
        uso6: false,
    };

    /// All offloads.
    pub const ALL: Self =
        Self { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso4: true, uso6: true };

    /// Whether a port with these offloads takes a packet of this family with header `offload`.
    #[inline]
    pub const fn take(self, offload: Offload, ipv6: bool) -> bool {
        match offload.gso_type {
            GSO_NONE => self.checksum || !offload.needs_checksum(),
            GSO_TCP4 => self.tso4,
            GSO_TCP6 => self.tso6,
            GSO_UDP_L4 => self.uso(ipv6),
            kind if kind == GSO_TCP4 | GSO_ECN => self.tso4 && self.tso_ecn,
            kind if kind == GSO_TCP6 | GSO_ECN => self.tso6 && self.tso_ecn,
            _ => false,
        }
    }

    /// Whether UDP superframes of this family are supported.
    #[inline]
    pub const fn uso(self, ipv6: bool) -> bool {
        if ipv6 { self.uso6 } else { self.uso4 }
    }

    /// Whether TCP superframes of this family are supported.
    #[inline]
    pub const fn tso(self, ipv6: bool) -> bool {
        if ipv6 { self.tso6 } else { self.tso4 }
    }

    /// Their usual short names, for `show ports`.
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            (self.checksum, "csum"),
            (self.tso4, "tso4"),
            (self.tso6, "tso6"),
            (self.tso_ecn, "tso-ecn"),
            (self.uso4, "uso4"),
            (self.uso6, "uso6"),
        ];
        all.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)).collect()
    }
}

/// The names of `offloads` for the log and `show ports`, separated by spaces.
pub fn offload_names(offloads: Offloads) -> String {
    let names = offloads.names();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

impl Shape {
    /// The shape of a packet that is no superframe.
    #[inline]
    pub const fn whole(meta: &Meta) -> Self {
        Self::single(meta.len as u32)
    }

    /// One packet of `len` bytes.
    #[inline]
    pub const fn single(len: u32) -> Self {
        Self { segments: 1, segment_len: len, headers_len: 0 }
    }

    /// Bytes of all segments together, for a superframe of `len` bytes.
    #[inline]
    pub const fn bytes(self, len: usize) -> usize {
        len + (self.segments as usize - 1) * self.headers_len as usize
    }
}

/// Completes a partial checksum. `offload` has passed [`Offload::check`]. Does nothing if the
/// checksum is not partial.
pub fn complete(packet: &mut [u8], offload: Offload) {
    if !offload.needs_checksum() {
        return;
    }
    let Some(summed) = packet.get_mut(usize::from(offload.csum_start)..) else { return };
    let sum = not_zero(Sum::ZERO.bytes(summed).checksum());
    let at = usize::from(offload.csum_offset);
    if let Some(field) = summed.get_mut(at..at + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// In UDP, 0 means "no checksum" (RFC 768); 0xffff is the same sum in one's complement.
const fn not_zero(sum: u16) -> u16 {
    if sum == 0 { 0xffff } else { sum }
}

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
pub const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`.
pub const DATA_VALID: u8 = 2;
/// `VIRTIO_NET_HDR_GSO_NONE`.
pub const GSO_NONE: u8 = 0;
/// `VIRTIO_NET_HDR_GSO_TCPV4`.
pub const GSO_TCP4: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV6`.
pub const GSO_TCP6: u8 = 4;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`.
pub const GSO_UDP_L4: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`.
pub const GSO_ECN: u8 = 0x80;

/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: usize = 16;

/// Offset of the checksum in a UDP header.
const UDP_CHECKSUM: usize = 6;
