//! IPv4 fragmentation on the way: RFC 791 section 3.2, RFC 1812 section 5.2.6. IPv6 has none.
#![forbid(unsafe_code)]

use super::checksum::Sum;
use super::ipv4::{self, Ipv4, options};
use crate::verdict::Verdict;

/// Cuts `packet` into pieces of `mtu` bytes at most and hands each to `emit`, in order, written
/// into `buffer`; returns how many. A packet that fits is handed over as it is. Every check comes
/// before the first piece.
///
/// # Errors
/// Why it cannot be done. Nothing was emitted then.
pub fn fragment(
    packet: &[u8],
    mtu: usize,
    buffer: &mut [u8],
    emit: impl FnMut(&[u8]),
) -> Result<usize, CannotFragment> {
    Fragments::plan(packet, mtu)?.each(buffer, emit)
}

/// A packet and how it is to be cut.
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    packet: Ipv4<'a>,
    mtu: usize,
    /// The header of all pieces but the first: options that are not copied are left out.
    later: Header,
}

impl<'a> Fragments<'a> {
    /// Checks that `packet` can be cut for `mtu`.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn plan(packet: &'a [u8], mtu: usize) -> Result<Self, CannotFragment> {
        if packet.first().is_some_and(|byte| byte >> 4 == 6) {
            return Err(CannotFragment::Ipv6);
        }
        let packet = Ipv4::parse(packet).map_err(CannotFragment::Malformed)?;
        let plan = Self { packet, mtu, later: Header::of_later(&packet) };
        if !plan.fits() && packet.dont_fragment() {
            return Err(CannotFragment::DontFragment);
        }
        let need = packet.header_len() + UNIT;
        if !plan.fits() && mtu < need {
            return Err(CannotFragment::MtuTooSmall { need });
        }
        Ok(plan)
    }

    /// How many pieces there will be: 1 if the packet fits, 8,190 at most.
    pub fn count(&self) -> usize {
        if self.fits() {
            return 1;
        }
        let rest = self.packet.payload().len() - self.first_len();
        1 + rest.saturating_sub(self.room()).div_ceil(self.room() / UNIT * UNIT) + 1
    }

    /// Emits the pieces; see [`fragment`].
    ///
    /// # Errors
    /// If `buffer` is smaller than the largest piece. Nothing was emitted then.
    pub fn each(
        &self,
        buffer: &mut [u8],
        mut emit: impl FnMut(&[u8]),
    ) -> Result<usize, CannotFragment> {
        let need = self.mtu.min(usize::from(self.packet.total_len()));
        let buffer = buffer.get_mut(..need).ok_or(CannotFragment::BufferTooSmall { need })?;
        let payload = self.packet.payload();
        let first_len = if self.fits() { payload.len() } else { self.first_len() };
        let (piece, mut rest) = payload.split_at(first_len);
        let first = Header::of_first(&self.packet);
        let mut offset = self.packet.fragment_offset();
        emit(first.write(buffer, offset, self.more(rest), piece));
        let mut count = 1;
        while !rest.is_empty() {
            offset += if count == 1 { first_len } else { self.later_len() };
            let len = if rest.len() <= self.room() { rest.len() } else { self.later_len() };
            let (piece, after) = rest.split_at(len);
            rest = after;
            emit(self.later.write(buffer, offset, self.more(rest), piece));
            count += 1;
        }
        Ok(count)
    }

    fn fits(&self) -> bool {
        usize::from(self.packet.total_len()) <= self.mtu
    }

    /// Payload bytes of the first piece, the packet not fitting.
    fn first_len(&self) -> usize {
        self.mtu.saturating_sub(self.packet.header_len()) / UNIT * UNIT
    }

    /// Payload bytes of the pieces between the first and the last.
    fn later_len(&self) -> usize {
        self.room() / UNIT * UNIT
    }

    /// Payload bytes of the last piece at most.
    fn room(&self) -> usize {
        self.mtu.saturating_sub(self.later.len)
    }

    /// Whether a piece is followed by others: by `rest`, or by what followed the whole packet.
    fn more(&self, rest: &[u8]) -> bool {
        !rest.is_empty() || self.packet.more_fragments()
    }
}

/// Why a packet cannot be fragmented.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CannotFragment {
    /// The buffer is smaller than the largest piece.
    BufferTooSmall {
        /// Bytes needed.
        need: usize,
    },
    /// Its sender forbids it.
    DontFragment,
    /// IPv6 is never fragmented on the way.
    Ipv6,
    /// It should have been dropped before.
    Malformed(Verdict),
    /// The MTU has no room for the header and 8 bytes.
    MtuTooSmall {
        /// Bytes needed.
        need: usize,
    },
}

/// The header of a piece.
#[derive(Clone, Debug)]
struct Header {
    bytes: [u8; HEADER_MAX],
    len: usize,
    flags: u16,
}

impl Header {
    fn of_first(packet: &Ipv4<'_>) -> Self {
        let mut header = Self::bare(packet);
        header.append(packet.options());
        header.finish()
    }

    fn of_later(packet: &Ipv4<'_>) -> Self {
        let mut header = Self::bare(packet);
        for option in options(packet.options()).flatten().filter(ipv4::Ipv4Option::is_copied) {
            header.append(option.bytes);
        }
        header.finish()
    }

    fn bare(packet: &Ipv4<'_>) -> Self {
        let flags = packet.flags_and_offset() & !(ipv4::MORE_FRAGMENTS | ipv4::OFFSET);
        let mut header = Self { bytes: [0; HEADER_MAX], len: 0, flags };
        header.append(packet.fixed());
        header
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Pads with end-of-list options, which are zero, and says how long it is.
    fn finish(mut self) -> Self {
        self.len = self.len.next_multiple_of(4);
        self.bytes[0] = 0x40 | (self.len / 4) as u8;
        self
    }

    /// Writes header and `piece` to the start of `buffer`, which is large enough, and returns both.
    fn write<'b>(&self, buffer: &'b mut [u8], offset: usize, more: bool, piece: &[u8]) -> &'b [u8] {
        let total = self.len + piece.len();
        let (header, payload) = buffer[..total].split_at_mut(self.len);
        payload.copy_from_slice(piece);
        header.copy_from_slice(&self.bytes[..self.len]);
        let more = if more { ipv4::MORE_FRAGMENTS } else { 0 };
        let flags = self.flags | more | (offset / UNIT) as u16;
        header[ipv4::TOTAL_LEN..ipv4::IDENT].copy_from_slice(&(total as u16).to_be_bytes());
        header[ipv4::FLAGS..ipv4::TTL].copy_from_slice(&flags.to_be_bytes());
        header[ipv4::CHECKSUM..ipv4::SRC].fill(0);
        let sum = Sum::ZERO.bytes(header).checksum();
        header[ipv4::CHECKSUM..ipv4::SRC].copy_from_slice(&sum.to_be_bytes());
        &buffer[..total]
    }
}

/// Fragments are cut at multiples of this many bytes.
const UNIT: usize = 8;

/// Bytes of the longest header.
const HEADER_MAX: usize = 60;

#[cfg(test)]
mod tests;
