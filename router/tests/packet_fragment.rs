//! Fragments, reassembled by a slow model and by smoltcp; smoltcp's own fragments are compared too.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod packet_support;

use std::collections::VecDeque;

use nearhop::packet::fragment::{CannotFragment, fragment};
use nearhop::packet::{Meta, ipv4};
use packet_support::plain_ipv4;
use proptest::prelude::*;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint, Ipv4Packet, UdpPacket};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn pieces_make_the_whole_again(
        head in packet_support::ipv4(), size in 0..5000usize, mtu in 60..1600usize
    ) {
        let whole = resized(head, size);
        let mut pieces = Vec::new();
        let cut = fragment(&whole, mtu, &mut [0xee; 1600], |piece| pieces.push(piece.to_vec()));
        let Ok(count) = cut else {
            prop_assert!(pieces.is_empty());
            return refused(&whole, mtu, cut.unwrap_err());
        };
        prop_assert_eq!(count, pieces.len());
        for piece in &pieces {
            prop_assert!(piece.len() <= mtu);
            prop_assert!(Meta::parse(piece).is_ok());
        }
        prop_assert_eq!(reassembled(&pieces), payload_and_place(&whole));
        // Fragmenting again, for a smaller MTU, yields the same.
        let mut smaller = Vec::new();
        for piece in &pieces {
            let keep = |piece: &[u8]| smaller.push(piece.to_vec());
            if fragment(piece, mtu.min(68), &mut [0; 1600], keep).is_err() {
                return Ok(());
            }
        }
        prop_assert_eq!(reassembled(&smaller), payload_and_place(&whole));
    }
}

#[test]
fn smoltcp_puts_pieces_together_in_any_order() {
    for (size, mtu) in [(1473, 1500), (4000, 1500), (1300, 576), (60_000, 9000), (1472, 1499)] {
        let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let whole = datagram(&payload);
        let mut pieces = Vec::new();
        fragment(&whole, mtu, &mut [0; 9000], |piece| pieces.push(piece.to_vec())).unwrap();
        assert!(pieces.len() > 1);
        for backwards in [false, true] {
            if backwards {
                pieces.reverse();
            }
            let mut host = Host::new(65_535);
            host.wire.rx.extend(pieces.iter().cloned());
            host.poll();
            let (got, _) = host.socket().recv().expect("a datagram");
            assert!(got == payload, "{size} bytes by {mtu}, backwards: {backwards}");
        }
    }
}

#[test]
fn smoltcp_cuts_at_the_same_places() {
    for (size, mtu) in [(1473, 1500), (4000, 1500), (1300, 576), (5000, 1499)] {
        let mut host = Host::new(mtu);
        let payload = vec![7; size];
        let client = IpEndpoint::new("192.0.2.1".parse().unwrap(), 9);
        host.socket().send_slice(&payload, client).unwrap();
        for _ in 0..20 {
            host.poll();
        }
        let theirs = places(host.wire.tx.make_contiguous());
        let mut pieces = Vec::new();
        fragment(&datagram(&payload), mtu, &mut [0; 1500], |piece| pieces.push(piece.to_vec()))
            .unwrap();
        assert_eq!(places(&pieces), theirs, "{size} bytes by {mtu}");
    }
}

/// The packet with `size` bytes of payload, at most what its IP header can address.
fn resized(mut head: Vec<u8>, size: usize) -> Vec<u8> {
    let header = usize::from(head[0] & 0xf) * 4;
    head.truncate(header);
    head.extend((0..size).map(|at| (at % 253) as u8));
    let total = (head.len() as u16).to_be_bytes();
    head[2..4].copy_from_slice(&total);
    packet_support::fix_checksum(&mut head);
    head
}

fn refused(whole: &[u8], mtu: usize, why: CannotFragment) -> Result<(), TestCaseError> {
    match why {
        CannotFragment::DontFragment => {
            let packet = Ipv4Packet::new_checked(whole).unwrap();
            prop_assert!(packet.dont_frag() && whole.len() > mtu);
        }
        CannotFragment::Malformed(verdict) => prop_assert_eq!(Meta::parse(whole), Err(verdict)),
        CannotFragment::MtuTooSmall { need } => prop_assert!(need > mtu && whole.len() > mtu),
        CannotFragment::BufferTooSmall { .. } | CannotFragment::Ipv6 => {
            return Err(TestCaseError::fail(format!("{why:?}")));
        }
    }
    Ok(())
}

/// Where the payload starts in its datagram, its bytes, and whether more follow.
fn payload_and_place(whole: &[u8]) -> (usize, Vec<u8>, bool) {
    let packet = Ipv4Packet::new_checked(whole).unwrap();
    (packet.frag_offset().into(), packet.payload().to_vec(), packet.more_frags())
}

/// Reassembles pieces in order; panics if they leave gaps, or differ where they overlap.
fn reassembled(pieces: &[Vec<u8>]) -> (usize, Vec<u8>, bool) {
    let first = Ipv4Packet::new_checked(&pieces[0][..]).unwrap();
    let start = usize::from(first.frag_offset());
    let mut payload = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let piece = Ipv4Packet::new_checked(&piece[..]).unwrap();
        assert!(piece.verify_checksum());
        assert_eq!(piece.get_key(), first.get_key());
        assert_eq!((piece.dscp(), piece.ecn()), (first.dscp(), first.ecn()));
        assert_eq!(piece.hop_limit(), first.hop_limit());
        assert_eq!(usize::from(piece.frag_offset()), start + payload.len());
        assert!(piece.more_frags() || index + 1 == pieces.len());
        payload.extend_from_slice(piece.payload());
    }
    let last = Ipv4Packet::new_checked(&pieces[pieces.len() - 1][..]).unwrap();
    (start, payload, last.more_frags())
}

fn places(packets: &[Vec<u8>]) -> Vec<(usize, usize, bool)> {
    packets
        .iter()
        .map(|bytes| {
            let packet = ipv4::Ipv4::parse(bytes).unwrap();
            (packet.fragment_offset(), packet.payload().len(), packet.more_fragments())
        })
        .collect()
}

/// A UDP datagram from port 9 of 192.0.2.1 to port 7 of 192.0.2.2, made by smoltcp.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8 + payload.len()];
    let len = bytes.len() as u16;
    let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
    packet.set_src_port(9);
    packet.set_dst_port(7);
    packet.set_len(len);
    packet.payload_mut().copy_from_slice(payload);
    packet.fill_checksum(&"192.0.2.1".parse().unwrap(), &"192.0.2.2".parse().unwrap());
    plain_ipv4(17, 0x1234, false, &bytes)
}

/// smoltcp at 192.0.2.2, with a socket on UDP port 7.
struct Host {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    wire: Wire,
}

impl Host {
    fn new(mtu: usize) -> Self {
        let mut wire = Wire { rx: VecDeque::new(), tx: VecDeque::new(), mtu };
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new("192.0.2.2".parse().unwrap(), 24)).unwrap();
        });
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 65_536]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(7).unwrap();
        let mut sockets = SocketSet::new(vec![]);
        let socket = sockets.add(socket);
        Self { interface, sockets, socket, wire }
    }

    fn poll(&mut self) {
        self.interface.poll(Instant::ZERO, &mut self.wire, &mut self.sockets);
    }

    fn socket(&mut self) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

/// Packets to and from smoltcp.
struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
    mtu: usize,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        self.0.push_back(bytes);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        self.rx.pop_front().map(|bytes| (Rx(bytes), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}
