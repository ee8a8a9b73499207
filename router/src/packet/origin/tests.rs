use std::net::IpAddr;

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv6FragmentHeader, Ipv6Packet, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::*;

fn ends(ipv6: bool) -> [IpAddress; 2] {
    let ends = if ipv6 { ["fd00::1", "fd00::2"] } else { ["192.0.2.1", "192.0.2.2"] };
    ends.map(|end| IpAddress::from(end.parse::<IpAddr>().unwrap()))
}

fn ip(ipv6: bool, protocol: IpProtocol, len: usize) -> (IpRepr, Vec<u8>) {
    let [src, dst] = ends(ipv6);
    let repr = IpRepr::new(src, dst, protocol, len, 64);
    let mut packet = vec![0; repr.buffer_len()];
    repr.emit(&mut packet[..], &ChecksumCapabilities::default());
    (repr, packet)
}

/// A SYN as smoltcp writes it.
fn syn(ipv6: bool, mss: Option<u16>, odd: bool) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: 40_000,
        dst_port: 179,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(77),
        ack_number: None,
        window_len: 1000,
        window_scale: odd.then_some(2),
        max_seg_size: mss,
        sack_permitted: odd,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (header, mut packet) = ip(ipv6, IpProtocol::Tcp, repr.buffer_len());
    let [src, dst] = ends(ipv6);
    let mut view = TcpPacket::new_unchecked(&mut packet[header.header_len()..]);
    repr.emit(&mut view, &src, &dst, &ChecksumCapabilities::default());
    packet
}

fn mss_of(packet: &[u8], ipv6: bool) -> Option<u16> {
    let [src, dst] = ends(ipv6);
    let view = TcpPacket::new_checked(&packet[if ipv6 { 40 } else { 20 }..]).unwrap();
    TcpRepr::parse(&view, &src, &dst, &ChecksumCapabilities::default()).unwrap().max_seg_size
}

#[test]
fn a_syn_asks_for_no_more_than_the_way_out_has_room_for() {
    for ipv6 in [false, true] {
        for odd in [false, true] {
            let room = if ipv6 { 1_220 } else { 1_240 };
            let mut packet = syn(ipv6, Some(1_460), odd);
            assert!(clamp_mss(&mut packet, 1_280));
            // The parser of another project takes it, checksum included.
            assert_eq!(mss_of(&packet, ipv6), Some(room));
            assert!(!clamp_mss(&mut packet, 1_280), "it fits now");
            assert!(!clamp_mss(&mut syn(ipv6, Some(536), odd), 1_280));
            assert!(!clamp_mss(&mut syn(ipv6, None, odd), 1_280));
        }
    }
    // Only SYNs have the option.
    let mut data = syn(false, Some(1_460), false);
    data[20 + 13] = tcp::ACK;
    assert!(!clamp_mss(&mut data, 1_280));
}

#[test]
fn an_option_at_an_odd_place_keeps_the_checksum_right() {
    let mut packet = syn(false, Some(1_460), true);
    // A no-operation first, and one at the end less.
    let options = &mut packet[40..];
    let end = options.len();
    options.rotate_right(1);
    options[0] = 1;
    assert!(end >= 8);
    let [src, dst] = ends(false);
    TcpPacket::new_unchecked(&mut packet[20..]).fill_checksum(&src, &dst);
    assert!(clamp_mss(&mut packet, 1_280));
    assert!(TcpPacket::new_unchecked(&packet[20..]).verify_checksum(&src, &dst));
    assert_eq!(packet[40..45], [1, 2, 4, 4, 216]);
}

proptest! {
    #[test]
    fn fragments_are_whole_again_by_another_parser(
        ipv6 in any::<bool>(),
        len in 1..20_000_usize,
        mtu in 68..3_000_usize,
        id in any::<u32>(),
    ) {
        let (_, mut packet) = ip(ipv6, IpProtocol::Udp, len);
        let start = if ipv6 { 40 } else { 20 };
        for (n, byte) in packet[start..].iter_mut().enumerate() {
            *byte = (n * 7 % 251) as u8;
        }
        let mut whole = vec![0; len];
        let mut last_seen = false;
        let mut buffer = vec![0; 3_000];
        let count = split(&packet, mtu, id, &mut buffer, |piece| {
            assert!(piece.len() <= mtu);
            if packet.len() <= mtu {
                assert_eq!(piece, packet);
                (whole, last_seen) = (packet[start..].to_vec(), true);
                return;
            }
            let (found, offset, more, payload) = if ipv6 {
                let view = Ipv6Packet::new_checked(piece).unwrap();
                assert_eq!(u8::from(view.next_header()), protocol::FRAGMENT);
                let header = Ipv6FragmentHeader::new_checked(&piece[42..]).unwrap();
                assert_eq!(piece[40], protocol::UDP);
                let offset = usize::from(header.frag_offset()) * UNIT;
                (header.ident(), offset, header.more_frags(), &piece[48..])
            } else {
                let view = Ipv4Packet::new_checked(piece).unwrap();
                assert!(view.verify_checksum() && !view.dont_frag());
                let offset = usize::from(view.frag_offset());
                (u32::from(view.ident()), offset, view.more_frags(), &piece[20..])
            };
            assert_eq!(found, if ipv6 { id } else { id & 0xffff });
            whole[offset..offset + payload.len()].copy_from_slice(payload);
            assert_eq!(more, offset + payload.len() < len);
            last_seen |= !more;
        });
        prop_assert!(count.is_some_and(|count| count >= 1) && last_seen);
        prop_assert_eq!(&whole, &packet[start..]);
    }
}

#[test]
fn what_cannot_be_cut_is_left_alone() {
    let (_, packet) = ip(true, IpProtocol::Udp, 3_000);
    let mut buffer = vec![0; 3_000];
    let mut cut = |packet: &[u8], mtu| split(packet, mtu, 1, &mut buffer, |_| panic!("emitted"));
    assert_eq!(cut(&packet, 48), None, "no room for a single unit");
    assert_eq!(cut(&packet, 3_001), None, "the buffer is smaller");
    assert_eq!(cut(&packet[..100], 90), None, "damaged");
}
