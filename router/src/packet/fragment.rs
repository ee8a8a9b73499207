//! IPv4 fragmentation by routers: RFC 791 section 3.2, RFC 1812 section 5.2.6. IPv6 has none.
#![forbid(unsafe_code)]

use super::checksum::Sum;
use super::ipv4::{self, Ipv4, options};
use crate::verdict::Verdict;

/// Cuts `packet` into fragments of at most `mtu` bytes, writes each into `buffer` and passes it to
/// `emit`, in order; returns how many there were. A packet that fits is emitted unchanged.
///
/// # Errors
/// Why it cannot be fragmented. In that case nothing was emitted.
pub fn fragment(
    packet: &[u8],
    mtu: usize,
    buffer: &mut [u8],
    emit: impl FnMut(&[u8]),
) -> Result<usize, CannotFragment> {
    Fragments::plan(packet, mtu)?.each(buffer, emit)
}

/// A packet and how it is cut into fragments.
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    packet: Ipv4<'a>,
    mtu: usize,
    /// The header of every fragment but the first: without the options that are not copied.
    later: Header,
}

impl<'a> Fragments<'a> {
    /// Checks that `packet` can be cut into fragments of at most `mtu` bytes.
    ///
    /// # Errors
    /// Why the packet cannot be fragmented.
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

    /// How many fragments there are: 1 if the packet fits, at most 8,190.
    pub fn count(&self) -> usize {
        if self.fits() {
            return 1;
        }
        let rest = self.packet.payload().len() - self.first_len();
        1 + rest.saturating_sub(self.room()).div_ceil(self.room() / UNIT * UNIT) + 1
    }

    /// Writes each fragment into `buffer` and passes it to `emit`; returns how many there were.
    ///
    /// # Errors
    /// If `buffer` is smaller than the largest fragment. In that case nothing was emitted.
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

    /// Payload bytes of the first fragment, if the packet does not fit.
    fn first_len(&self) -> usize {
        self.mtu.saturating_sub(self.packet.header_len()) / UNIT * UNIT
    }

    /// Payload bytes of the fragments between the first and the last.
    fn later_len(&self) -> usize {
        self.room() / UNIT * UNIT
    }

    /// The most payload bytes of the last fragment, which need not be a multiple of 8.
    fn room(&self) -> usize {
        self.mtu.saturating_sub(self.later.len)
    }

    /// The more-fragments bit: set if `rest` follows, or if it was set in `packet` itself.
    fn more(&self, rest: &[u8]) -> bool {
        !rest.is_empty() || self.packet.more_fragments()
    }
}

/// Why a packet cannot be fragmented.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CannotFragment {
    /// The buffer is smaller than the largest fragment.
    BufferTooSmall {
        /// Bytes needed.
        need: usize,
    },
    /// Its sender set DF.
    DontFragment,
    /// Routers never fragment IPv6.
    Ipv6,
    /// Its header is invalid; the packet should have been dropped earlier.
    Malformed(Verdict),
    /// The MTU has no room for the header and 8 bytes.
    MtuTooSmall {
        /// Bytes needed.
        need: usize,
    },
}

/// The header of a fragment.
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

    /// Pads with end-of-list options, which are zero, and sets the header length.
    fn finish(mut self) -> Self {
        self.len = self.len.next_multiple_of(4);
        self.bytes[0] = 0x40 | (self.len / 4) as u8;
        self
    }

    /// Writes header and `piece` to the start of `buffer` and returns both. The caller has checked
    /// that they fit.
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

/// Fragment offsets count in units of this many bytes.
const UNIT: usize = 8;

/// Bytes of the longest header.
const HEADER_MAX: usize = 60;

#[cfg(test)]
mod tests;
