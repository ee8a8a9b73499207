use proptest::prelude::*;
use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

use super::segment::Segments;
use super::*;
use crate::packet::samples::{self, CLIENT_V4, CLIENT_V6, SERVICE_V4, SERVICE_V6};

/// A superframe with the sum of its pseudo header in the checksum field, as a kernel makes it.
pub(crate) fn superframe(ipv6: bool, tcp: bool, size: u16, payload: &[u8]) -> (Vec<u8>, Offload) {
    let mut upper = if tcp {
        let mut header =
            vec![0x0f, 0xa0, 0, 53, 0, 0, 0, 9, 0, 0, 0, 7, 0x80, 0x18, 1, 0, 0, 0, 0, 0];
        header.extend([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
        header
    } else {
        let len = (8 + payload.len()) as u16;
        [&[0x0f, 0xa0, 0, 53][..], &len.to_be_bytes(), &[0, 0]].concat()
    };
    let headers = upper.len();
    upper.extend(payload);
    let protocol = if tcp { 6 } else { 17 };
    let (src, dst) = if ipv6 {
        (CLIENT_V6.into(), SERVICE_V6.into())
    } else {
        (CLIENT_V4.into(), SERVICE_V4.into())
    };
    let at = if tcp { 16 } else { 6 };
    let pseudo = !Sum::pseudo(src, dst, protocol, upper.len()).checksum();
    upper[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    let packet = samples::packet(src, dst, protocol, &upper);
    let ip_len = packet.len() - upper.len();
    let gso_type = match (tcp, ipv6) {
        (true, false) => GSO_TCP4,
        (true, true) => GSO_TCP6,
        (false, _) => GSO_UDP_L4,
    };
    let offload = Offload {
        flags: NEEDS_CSUM,
        gso_type,
        hdr_len: (ip_len + headers) as u16,
        gso_size: size,
        csum_start: ip_len as u16,
        csum_offset: at as u16,
    };
    (packet, offload)
}

/// Payload of a TCP or UDP packet all of whose lengths and checksums smoltcp finds right.
pub(crate) fn payload(packet: &[u8]) -> Vec<u8> {
    let (src, dst, protocol, upper): (IpAddress, IpAddress, u8, &[u8]) = if packet[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_checked(packet).unwrap();
        assert!(ip.verify_checksum() && usize::from(ip.total_len()) == packet.len());
        (ip.src_addr().into(), ip.dst_addr().into(), packet[9], &packet[20..])
    } else {
        let ip = Ipv6Packet::new_checked(packet).unwrap();
        assert_eq!(usize::from(ip.payload_len()) + 40, packet.len());
        (ip.src_addr().into(), ip.dst_addr().into(), packet[6], &packet[40..])
    };
    if protocol == 17 {
        let udp = UdpPacket::new_checked(upper).unwrap();
        assert!(udp.verify_checksum(&src, &dst) && udp.checksum() != 0);
        assert_eq!(usize::from(udp.len()), upper.len());
        return udp.payload().to_vec();
    }
    let tcp = TcpPacket::new_checked(upper).unwrap();
    assert!(tcp.verify_checksum(&src, &dst));
    tcp.payload().to_vec()
}

fn segments(packet: &[u8], offload: Offload) -> Result<Vec<Vec<u8>>, Verdict> {
    let plan = Segments::plan(packet, offload)?;
    let mut all = Vec::new();
    plan.each(&mut vec![0; 65_575], |segment| all.push(segment.to_vec()));
    assert_eq!(all.len(), plan.count());
    assert_eq!(all.iter().map(Vec::len).sum::<usize>(), plan.bytes());
    Ok(all)
}

fn check(packet: &[u8], offload: Offload) -> Result<Shape, Verdict> {
    offload.check(packet, &Meta::parse(packet).unwrap())
}

#[test]
fn the_header_is_read_and_written_as_the_kernel_does() {
    let bytes = [1, 0x84, 2, 0, 3, 0, 4, 0, 5, 1];
    let offload = Offload::from_bytes(bytes);
    assert_eq!((offload.flags, offload.gso_type), (1, 0x84));
    assert_eq!(offload.csum_offset, u16::from_ne_bytes([5, 1]));
    assert_eq!(offload.to_bytes(), bytes);
}

#[test]
fn a_superframe_is_taken_apart_as_its_sender_would_have_sent_it() {
    let data: Vec<u8> = (0..3500_u32).map(|i| i as u8).collect();
    for ipv6 in [false, true] {
        for tcp in [false, true] {
            let (mut packet, offload) = superframe(ipv6, tcp, 1000, &data);
            if !ipv6 {
                packet[4..6].copy_from_slice(&0xffff_u16.to_be_bytes());
                samples::fix_checksum(&mut packet);
            }
            let shape = check(&packet, offload).unwrap();
            let headers = usize::from(offload.hdr_len);
            assert_eq!((shape.segments, shape.segment_len as usize), (4, headers + 1000));
            let all = segments(&packet, offload).unwrap();
            let lens: Vec<_> = all.iter().map(|segment| segment.len() - headers).collect();
            assert_eq!(lens, [1000, 1000, 1000, 500]);
            let payloads: Vec<u8> = all.iter().flat_map(|segment| payload(segment)).collect();
            assert_eq!(payloads, data);
            if !ipv6 {
                let idents: Vec<_> = all.iter().map(|s| u16::from_be_bytes([s[4], s[5]])).collect();
                assert_eq!(idents, [0xffff, 0, 1, 2]);
            }
            if tcp {
                let ip = headers - 32;
                let seqs: Vec<_> = all.iter().map(|s| s[ip + 6..ip + 8].to_vec()).collect();
                let want = [9_u16, 1009, 2009, 3009].map(|seq| seq.to_be_bytes().to_vec());
                assert_eq!(seqs, want);
                let flags: Vec<_> = all.iter().map(|s| s[ip + 13]).collect();
                assert_eq!(flags, [0x10, 0x10, 0x10, 0x18], "PSH on the last alone");
            }
        }
    }
}

#[test]
fn fin_is_on_the_last_segment_and_cwr_on_the_first() {
    let (mut packet, mut offload) = superframe(false, true, 10, &[7; 30]);
    packet[20 + 13] = 0x10 | tcp_flags::FIN | tcp_flags::CWR;
    offload.gso_type |= GSO_ECN;
    let flags: Vec<_> = segments(&packet, offload).unwrap().iter().map(|s| s[33]).collect();
    assert_eq!(flags, [0x90, 0x10, 0x11]);
}

#[test]
fn a_checksum_that_was_left_out_is_completed() {
    for (ipv6, tcp) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut packet, offload) = superframe(ipv6, tcp, 0, b"odd");
        let offload = Offload { gso_type: GSO_NONE, gso_size: 0, ..offload };
        assert_eq!(check(&packet, offload).unwrap().segments, 1);
        assert_eq!(payload(&segments(&packet, offload).unwrap()[0]), b"odd");
        complete(&mut packet, offload);
        assert_eq!(payload(&packet), b"odd");
    }
}

#[test]
fn a_datagram_whose_sum_is_zero_says_so_by_all_ones() {
    let (mut packet, offload) = superframe(false, false, 0, &[0, 0]);
    let offload = Offload { gso_type: GSO_NONE, gso_size: 0, ..offload };
    // Data that makes up for all else: the sum of everything is all ones.
    let sum = Sum::ZERO.bytes(&packet[20..]).checksum();
    packet[28..30].copy_from_slice(&sum.to_be_bytes());
    complete(&mut packet, offload);
    assert_eq!(packet[26..28], [0xff, 0xff]);
    payload(&packet);
}

#[test]
fn every_lie_is_found() {
    let (packet, good) = superframe(false, false, 100, &[1; 1000]);
    let (tcp6, good_tcp6) = superframe(true, true, 100, &[1; 1000]);
    assert!(check(&packet, good).is_ok() && check(&tcp6, good_tcp6).is_ok());
    let lies = [
        ("size 0", Offload { gso_size: 0, ..good }),
        ("size above the packet", Offload { gso_size: 1001, ..good }),
        ("unknown type", Offload { gso_type: 3, ..good }),
        ("type of no kernel", Offload { gso_type: 0x42, ..good }),
        ("UDP with ECN", Offload { gso_type: GSO_UDP_L4 | GSO_ECN, ..good }),
        ("another protocol", Offload { gso_type: GSO_TCP4, ..good }),
        ("unknown flag", Offload { flags: 5, ..good }),
        ("no checksum to be completed", Offload { flags: 0, ..good }),
        ("start before the header", Offload { csum_start: 0, ..good }),
        ("start past the end", Offload { csum_start: 5000, ..good }),
        ("offset past the end", Offload { csum_offset: u16::MAX, ..good }),
        ("offset of TCP", Offload { csum_offset: 16, ..good }),
        ("headers past the end", Offload { hdr_len: 1029, ..good }),
    ];
    for (lie, offload) in lies {
        assert_eq!(check(&packet, offload), Err(Verdict::BadOffload), "{lie}");
    }
    let other_family = Offload { gso_type: GSO_TCP4, ..good_tcp6 };
    assert_eq!(check(&tcp6, other_family), Err(Verdict::BadOffload));
    let many = superframe(true, true, 1, &[1; SEGMENTS_MAX + 1]);
    assert_eq!(check(&many.0, many.1), Err(Verdict::BadOffload), "too many segments");
    let most = superframe(true, true, 1, &[1; SEGMENTS_MAX]);
    assert!(check(&most.0, most.1).is_ok());
}

#[test]
fn a_superframe_without_its_inner_header_is_refused() {
    for tcp in [false, true] {
        let (_, offload) = superframe(false, tcp, 4, &[1; 40]);
        for len in 0..if tcp { 20 } else { 8 } {
            let protocol = if tcp { 6 } else { 17 };
            let short = samples::packet(CLIENT_V4, SERVICE_V4, protocol, &vec![0; len]);
            let hdr_len = 0;
            assert!(check(&short, Offload { hdr_len, ..offload }).is_err(), "{len} bytes");
        }
    }
    let (packet, offload) = superframe(false, true, 4, &[1; 40]);
    let mut long = packet;
    long[32] = 0xf0;
    long.truncate(20 + 40);
    long[2..4].copy_from_slice(&60_u16.to_be_bytes());
    samples::fix_checksum(&mut long);
    assert!(check(&long, Offload { hdr_len: 0, ..offload }).is_err(), "TCP header overruns");
}

#[test]
fn a_fragment_has_nothing_left_out() {
    let (packet, offload) = superframe(false, false, 100, &[1; 1000]);
    let fragment = samples::fragment(&packet, 0, true);
    assert_eq!(check(&fragment, offload), Err(Verdict::BadOffload));
}

#[test]
fn a_port_takes_what_it_was_opened_for() {
    let (_, udp) = superframe(false, false, 100, &[1; 1000]);
    let (_, tcp) = superframe(false, true, 100, &[1; 1000]);
    let ecn = Offload { gso_type: GSO_TCP4 | GSO_ECN, ..tcp };
    let partial = Offload { gso_type: GSO_NONE, ..udp };
    let no_uso4 = Offloads { uso4: false, ..Offloads::ALL };
    for (offloads, taken) in [
        (Offloads::ALL, [true, true, true, true, true]),
        (Offloads::NONE, [true, false, false, false, false]),
        (no_uso4, [true, true, false, true, true]),
        (Offloads { tso_ecn: false, ..Offloads::ALL }, [true, true, true, true, false]),
    ] {
        let asked = [Offload::NONE, partial, udp, tcp, ecn];
        assert_eq!(asked.map(|offload| offloads.take(offload, false)), taken, "{offloads:?}");
    }
    assert!(no_uso4.take(udp, true), "the family counts");
}

proptest! {
    /// Whatever a header claims about a packet is refused or is true: segments can be made of it,
    /// and all parse.
    #[test]
    fn no_claim_makes_what_does_not_parse(
        bytes in prop::array::uniform10(any::<u8>()),
        near in any::<bool>(),
        tcp in any::<bool>(),
        ipv6 in any::<bool>(),
        size in 0..300_u16,
        len in 0..600_usize,
    ) {
        let (packet, good) = superframe(ipv6, tcp, size, &vec![3; len]);
        let wild = Offload::from_bytes(bytes);
        let offload = if near { Offload { hdr_len: wild.hdr_len % 64, ..good } } else { wild };
        if let Ok(all) = segments(&packet, offload) {
            for segment in all {
                prop_assert_eq!(Meta::parse(&segment).map(|meta| meta.len), Ok(segment.len()));
            }
        }
    }

    #[test]
    fn segments_together_are_the_superframe(
        ipv6 in any::<bool>(),
        tcp in any::<bool>(),
        size in 1..2000_u16,
        data in prop::collection::vec(any::<u8>(), 1..4000),
    ) {
        prop_assume!(usize::from(size) <= data.len() && data.len().div_ceil(size.into()) <= 2048);
        let (packet, offload) = superframe(ipv6, tcp, size, &data);
        let all = segments(&packet, offload).unwrap();
        prop_assert!(all.iter().all(|segment| segment.len() <= usize::from(offload.hdr_len + size)));
        let together: Vec<u8> = all.iter().flat_map(|segment| payload(segment)).collect();
        prop_assert_eq!(together, data);
    }
}

use crate::packet::tcp as tcp_flags;
