//! Reassembles fragmented datagrams to the router.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use smoltcp::wire::Ipv4Packet;

use super::header::{Fragment, Header, IPV6_HEADER};
use crate::batch::PACKET_MAX;
use crate::ids::PortId;
use crate::time::Nanos;

/// Reassembles up to [`DATAGRAMS_MAX`] datagrams of both families at a time. The oldest is dropped
/// when another one begins; so is a datagram with overlapping fragments (RFC 8200, section 4.5,
/// applied to IPv4 too), one that exceeds 65,535 bytes, and one that is incomplete after
/// [`TIMEOUT`]. No ICMP error is sent about these. Fragments that came in by different ports are
/// never combined.
#[derive(Debug, Default)]
pub(super) struct Reassembler {
    /// Oldest first.
    datagrams: Vec<Datagram>,
    pub(super) given_up: u64,
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    began: Nanos,
    /// The IP header of the first fragment.
    header: Vec<u8>,
    payload: Vec<u8>,
    /// Ranges received, as (start, end), in order.
    pieces: Vec<(usize, usize)>,
    len: Option<usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    /// In IPv4; 0 in IPv6.
    protocol: u8,
    id: u32,
    port: PortId,
}

impl Reassembler {
    /// Adds a fragment. If it completes its datagram, returns that as one packet without fragment
    /// header.
    pub(super) fn add(
        &mut self,
        now: Nanos,
        port: PortId,
        packet: &[u8],
        header: &Header,
        fragment: Fragment,
    ) -> Option<Vec<u8>> {
        self.handle_timeout(now);
        let Header { src, dst, protocol, .. } = *header;
        // IPv6 distinguishes datagrams without it, and takes the first fragment's (RFC 8200, section
        // 4.5).
        let protocol = if src.is_ipv4() { protocol } else { 0 };
        let key = Key { src, dst, protocol, id: fragment.id, port };
        let whole = fragment.offset == 0 && !fragment.more;
        let found = self.datagrams.iter().position(|datagram| datagram.key == key && !whole);
        let index = found.unwrap_or_else(|| self.begin(now, key));
        if self.datagrams[index].take(packet, header, fragment).is_none() {
            self.datagrams.remove(index);
            self.given_up += 1;
            return None;
        }
        self.datagrams[index].is_complete().then(|| self.datagrams.remove(index).join()).flatten()
    }

    /// Drops datagrams that are incomplete after [`TIMEOUT`].
    pub(super) fn handle_timeout(&mut self, now: Nanos) {
        let before = self.datagrams.len();
        self.datagrams.retain(|datagram| datagram.began + TIMEOUT > now);
        self.given_up += (before - self.datagrams.len()) as u64;
    }

    /// When the oldest datagram is dropped; `None` without one. The value may change after
    /// [`Self::add`] and [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Nanos> {
        self.datagrams.first().map(|oldest| oldest.began + TIMEOUT)
    }

    fn begin(&mut self, now: Nanos, key: Key) -> usize {
        if self.datagrams.len() == DATAGRAMS_MAX {
            self.datagrams.remove(0);
            self.given_up += 1;
        }
        self.datagrams.push(Datagram {
            key,
            began: now,
            header: Vec::new(),
            payload: Vec::new(),
            pieces: Vec::new(),
            len: None,
        });
        self.datagrams.len() - 1
    }
}

impl Datagram {
    /// Adds a fragment; `None` if the datagram can no longer be completed.
    fn take(&mut self, packet: &[u8], header: &Header, fragment: Fragment) -> Option<()> {
        let bytes = packet.get(header.start..header.end)?;
        let (start, end) = (fragment.offset, fragment.offset + bytes.len());
        let fits = end + IPV6_HEADER <= PACKET_MAX && !bytes.is_empty();
        if !fits || (fragment.more && bytes.len() % 8 != 0) || self.pieces.len() >= PIECES_MAX {
            return None;
        }
        if !fragment.more && self.len.replace(end).is_some_and(|len| len != end) {
            return None;
        }
        let at = self.pieces.partition_point(|piece| piece.0 < start);
        if self.pieces.get(at) == Some(&(start, end)) {
            // RFC 8200, section 4.5: an exact duplicate may be ignored.
            return (self.payload.get(start..end) == Some(bytes)).then_some(());
        }
        let after_previous = at == 0 || self.pieces[at - 1].1 <= start;
        let before_next = self.pieces.get(at).is_none_or(|next| end <= next.0);
        let inside = self.len.is_none_or(|len| end <= len && self.payload.len() <= len);
        if !after_previous || !before_next || !inside {
            return None;
        }
        self.pieces.insert(at, (start, end));
        self.payload.resize(self.payload.len().max(end), 0);
        self.payload[start..end].copy_from_slice(bytes);
        if start == 0 {
            let header_len = if header.src.is_ipv4() { header.start } else { IPV6_HEADER };
            self.header = packet.get(..header_len)?.to_vec();
            if header.src.is_ipv6() {
                self.header[6] = header.protocol;
            }
        }
        Some(())
    }

    fn is_complete(&self) -> bool {
        let contiguous = self.pieces.windows(2).all(|pair| pair[0].1 == pair[1].0);
        let first = self.pieces.first().is_some_and(|piece| piece.0 == 0);
        first && contiguous && self.pieces.last().map(|piece| piece.1) == self.len
    }

    fn join(mut self) -> Option<Vec<u8>> {
        let mut packet = self.header;
        packet.append(&mut self.payload);
        let len = packet.len();
        if self.key.src.is_ipv4() {
            let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
            ip.set_total_len(u16::try_from(len).ok()?);
            ip.clear_flags();
            ip.set_frag_offset(0);
            ip.fill_checksum();
        } else {
            packet[4..6].copy_from_slice(&u16::try_from(len - IPV6_HEADER).ok()?.to_be_bytes());
        }
        Some(packet)
    }
}

/// The most datagrams reassembled at a time: at most 4 MiB.
pub const DATAGRAMS_MAX: usize = 64;

/// The most fragments of one datagram.
const PIECES_MAX: usize = 128;

/// RFC 8200, section 4.5; RFC 1122, section 3.3.2, recommends between one and two minutes.
const TIMEOUT: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{IpAddress, IpProtocol, IpRepr};

    use super::*;

    fn packet(ipv4: bool, len: usize) -> Vec<u8> {
        let ends = if ipv4 { ["192.0.2.1", "192.0.2.2"] } else { ["fd00::1", "fd00::2"] };
        let [src, dst] = ends.map(|end| IpAddress::from(end.parse::<IpAddr>().unwrap()));
        let repr = IpRepr::new(src, dst, IpProtocol::Udp, len, 64);
        let mut packet = vec![0; repr.buffer_len()];
        repr.emit(&mut packet[..], &smoltcp::phy::ChecksumCapabilities::default());
        for (n, byte) in packet[repr.header_len()..].iter_mut().enumerate() {
            *byte = (n * 7 % 251) as u8;
        }
        if ipv4 {
            Ipv4Packet::new_unchecked(&mut packet[..]).clear_flags();
            Ipv4Packet::new_unchecked(&mut packet[..]).set_ident(0x77);
            Ipv4Packet::new_unchecked(&mut packet[..]).fill_checksum();
        }
        packet
    }

    fn split(packet: &[u8], mtu: usize, id: u32) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut buffer = vec![0; mtu];
        let emit = |piece: &[u8]| pieces.push(piece.to_vec());
        crate::packet::origin::split(packet, mtu, id, &mut buffer, emit).unwrap();
        pieces
    }

    fn add(to: &mut Reassembler, now: Nanos, port: u16, packet: &[u8]) -> Option<Vec<u8>> {
        let header = Header::parse(packet).unwrap();
        to.add(now, PortId(port), packet, &header, header.fragment.unwrap())
    }

    #[test]
    fn the_first_fragment_says_what_an_ipv6_datagram_is() {
        let whole = packet(false, 3_000);
        let mut pieces = split(&whole, 1_280, 0x77);
        let mut reassembler = Reassembler::default();
        for piece in &mut pieces[1..] {
            piece[IPV6_HEADER] = 59;
            assert_eq!(add(&mut reassembler, Nanos::ZERO, 1, piece), None);
        }
        assert_eq!(add(&mut reassembler, Nanos::ZERO, 1, &pieces[0]), Some(whole));
    }

    proptest! {
        #[test]
        fn fragments_are_reassembled_in_any_order(
            ipv4 in any::<bool>(),
            len in 1_400..9_000_usize,
            mtu in 576..1_300_usize,
            order in proptest::collection::vec(any::<u16>(), 0..20),
        ) {
            let whole = packet(ipv4, len);
            let mut pieces = split(&whole, mtu, 0x77);
            for piece in &pieces {
                prop_assert!(piece.len() <= mtu);
                prop_assert!(Header::parse(piece).unwrap().fragment.is_some());
            }
            let count = pieces.len();
            for (n, at) in order.iter().enumerate() {
                pieces.swap(n % count, usize::from(*at) % count);
            }
            let mut reassembler = Reassembler::default();
            let last = pieces.pop().unwrap();
            for piece in &pieces {
                prop_assert_eq!(add(&mut reassembler, Nanos::ZERO, 1, piece), None);
                prop_assert_eq!(add(&mut reassembler, Nanos::ZERO, 1, piece), None, "a duplicate");
            }
            prop_assert_eq!(add(&mut reassembler, Nanos::ZERO, 2, &last), None, "by another port");
            prop_assert_eq!(add(&mut reassembler, Nanos::ZERO, 1, &last), Some(whole));
        }
    }

    #[test]
    fn overlapping_fragments_end_the_datagram() {
        for ipv4 in [true, false] {
            let pieces = split(&packet(ipv4, 3_000), 1_280, 5);
            let shifted = &split(&packet(ipv4, 3_000), 1_000, 5)[1];
            let mut reassembler = Reassembler::default();
            add(&mut reassembler, Nanos::ZERO, 1, &pieces[0]);
            assert_eq!(add(&mut reassembler, Nanos::ZERO, 1, shifted), None);
            assert_eq!(reassembler.given_up, 1);
            add(&mut reassembler, Nanos::ZERO, 1, &pieces[1]);
            assert_eq!(add(&mut reassembler, Nanos::ZERO, 1, &pieces[2]), None);
        }
    }

    #[test]
    fn memory_and_time_are_bounded() {
        let mut reassembler = Reassembler::default();
        for id in 0..1_000 {
            add(
                &mut reassembler,
                Nanos(u64::from(id)),
                1,
                &split(&packet(false, 3_000), 1_280, id)[0],
            );
        }
        assert_eq!(reassembler.datagrams.len(), DATAGRAMS_MAX);
        assert_eq!(reassembler.given_up, 1_000 - DATAGRAMS_MAX as u64);
        let first = reassembler.poll_timeout().unwrap();
        assert_eq!(first, Nanos(936) + TIMEOUT);
        reassembler.handle_timeout(Nanos(999) + TIMEOUT);
        assert_eq!((reassembler.poll_timeout(), reassembler.given_up), (None, 1_000));
    }
}
