use proptest::prelude::*;

use super::*;
use crate::batch::Exit;
use crate::packet::offload::segment::Segments;
use crate::packet::offload::tests::{payload, superframe};
use crate::packet::offload::{DATA_VALID, GSO_NONE, GSO_TCP4, GSO_UDP_L4, Offload, complete};
use crate::packet::samples;

const OUT: PortId = PortId(3);

/// A packet of flow `flow` with a completed checksum.
fn packet(ipv6: bool, tcp: bool, flow: u8, data: &[u8]) -> Vec<u8> {
    let (mut packet, offload) = superframe(ipv6, tcp, 0, data);
    let at = if ipv6 { 40 } else { 20 };
    // Ports are not in the pseudo header: its sum stays right.
    packet[at] = flow;
    if tcp {
        packet[at + 13] = 0x10;
    }
    complete(&mut packet, Offload { gso_type: GSO_NONE, ..offload });
    packet
}

fn udp(data: &[u8]) -> Vec<u8> {
    packet(false, false, 1, data)
}

/// The IPv4 identification.
fn numbered(mut packet: Vec<u8>, ident: u16) -> Vec<u8> {
    packet[4..6].copy_from_slice(&ident.to_be_bytes());
    samples::fix_checksum(&mut packet);
    packet
}

fn with(mut packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut packet);
    samples::fix_checksum(&mut packet);
    packet
}

/// Sends `packets` and joins them; returns the number of packets in each frame.
fn joined(packets: &[Vec<u8>]) -> (Batch, Vec<u64>) {
    joined_with(packets, Offload::NONE, Offloads::ALL)
}

fn joined_with(packets: &[Vec<u8>], offload: Offload, offloads: Offloads) -> (Batch, Vec<u64>) {
    let mut batch = Batch::new();
    for (index, packet) in packets.iter().enumerate() {
        assert!(batch.push_frame(packet, offload));
        let exit = Exit { port: OUT, ..Exit::default() };
        batch.transmit(index, exit, None, Verdict::Forward);
    }
    batch.join(OUT, offloads);
    let counts = batch.frames(OUT).map(|(_, frame)| frame.segments()).collect();
    (batch, counts)
}

/// The packets that a receiver gets from the frames.
fn taken_apart(batch: &Batch) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (_, frame) in batch.frames(OUT) {
        let plan = Segments::plan(frame.packet(), frame.offload()).unwrap();
        assert_eq!(plan.count() as u64, frame.segments());
        plan.each(&mut vec![0; PACKET_MAX], |segment| all.push(segment.to_vec()));
    }
    all
}

/// The packet with its identification set to zero, which has no meaning with DF set.
fn unnumbered(packet: &[u8]) -> Vec<u8> {
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        return numbered(packet.to_vec(), 0);
    }
    packet.to_vec()
}

#[test]
fn packets_of_a_flow_become_one_superframe_and_come_out_as_they_were() {
    let packets: Vec<_> = (0..40).map(|i| numbered(udp(&[i as u8; 22]), i)).collect();
    let (batch, counts) = joined(&packets);
    assert_eq!(counts, [40]);
    let (_, frame) = batch.frames(OUT).next().unwrap();
    assert_eq!((frame.offload().gso_type, frame.offload().gso_size), (GSO_UDP_L4, 22));
    assert_eq!((frame.joined(), frame.wire_bytes()), (39, 40 * 50));
    assert_eq!(taken_apart(&batch), packets);
}

#[test]
fn tcp_is_joined_while_only_the_sequence_goes_on() {
    let segment = |index: u16, flags: u8| {
        with(packet(false, true, 1, &[index as u8; 100]), |bytes| {
            bytes[4..6].copy_from_slice(&index.to_be_bytes());
            // The sequence number wraps within the second.
            let seq = (u32::MAX - 150).wrapping_add(u32::from(index) * 100);
            bytes[24..28].copy_from_slice(&seq.to_be_bytes());
            bytes[33] = flags;
            let pseudo = superframe(false, true, 0, &[0; 100]).0[36..38].to_vec();
            bytes[36..38].copy_from_slice(&pseudo);
            complete(bytes, Offload { flags: 1, csum_start: 20, csum_offset: 16, ..Offload::NONE });
        })
    };
    let data = [segment(0, 0x10), segment(1, 0x10), segment(2, 0x10)];
    let (batch, counts) = joined(&data);
    assert_eq!(counts, [3]);
    assert_eq!(batch.frames(OUT).next().unwrap().1.offload().gso_type, GSO_TCP4);
    assert_eq!(taken_apart(&batch), data);
    for (case, other) in [
        ("a hole", segment(0, 0x10)),
        ("a FIN", segment(1, 0x11)),
        ("ECE", segment(1, 0x50)),
        ("no ACK", segment(1, 0x00)),
        ("another window", with(data[1].clone(), |b| b[34] ^= 1)),
        ("another acknowledgment", with(data[1].clone(), |b| b[30] ^= 1)),
        ("another timestamp", with(data[1].clone(), |b| b[45] ^= 1)),
        ("a damaged byte", with(data[1].clone(), |b| b[60] ^= 1)),
    ] {
        assert_eq!(joined(&[data[0].clone(), other]).1, [1, 1], "{case}");
    }
    let psh_first = [segment(0, 0x18), segment(1, 0x10)];
    assert_eq!(joined(&psh_first).1, [1, 1], "PSH ends a superframe");
    let psh_last = [segment(0, 0x10), segment(1, 0x18)];
    let (batch, counts) = joined(&psh_last);
    assert_eq!(counts, [2]);
    assert_eq!(taken_apart(&batch), psh_last);
}

#[test]
fn what_a_segment_cannot_differ_in_keeps_packets_apart() {
    let first = numbered(udp(&[1; 30]), 7);
    let next = |change: &dyn Fn(&mut Vec<u8>)| with(numbered(udp(&[2; 30]), 8), change);
    assert_eq!(joined(&[first.clone(), next(&|_| ())]).1, [2]);
    for (case, other) in [
        ("TTL", next(&|b| b[8] -= 1)),
        ("DSCP", next(&|b| b[1] ^= 0x20)),
        ("ECN", next(&|b| b[1] ^= 0x02)),
        ("DF", next(&|b| b[6] ^= 0x40)),
        ("identification", next(&|b| b[5] = 9)),
        ("destination", with(next(&|b| b[19] ^= 1), |b| b[26..28].fill(0))),
        ("ports", packet(false, false, 2, &[2; 30])),
        ("options", samples::with_options(&next(&|_| ()), &[1, 1, 1, 0])),
        ("no checksum", next(&|b| b[26..28].fill(0))),
        ("a damaged byte", next(&|b| b[40] ^= 1)),
        ("a longer one", numbered(udp(&[2; 31]), 8)),
        ("an empty one", numbered(udp(&[]), 8)),
        ("a fragment", samples::fragment(&next(&|_| ()), 0, true)),
        ("another family", packet(true, false, 1, &[2; 30])),
        ("TCP", packet(false, true, 1, &[2; 30])),
    ] {
        assert_eq!(joined(&[first.clone(), other.clone()]).1, [1, 1], "{case}");
        assert_eq!(joined(&[other, first.clone()]).1.len(), 2, "{case}, the other way round");
    }
    let v6 = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = packet(true, false, 1, &[2; 30]);
        change(&mut bytes);
        bytes
    };
    let plain = v6(&|_| ());
    assert_eq!(joined(&[plain.clone(), plain.clone()]).1, [2]);
    for (case, other) in [
        ("hop limit", v6(&|b| b[7] -= 1)),
        ("traffic class", v6(&|b| b[0] ^= 1)),
        ("flow label", v6(&|b| b[3] ^= 1)),
        ("no checksum", v6(&|b| b[46..48].fill(0))),
    ] {
        assert_eq!(joined(&[plain.clone(), other]).1, [1, 1], "{case}");
    }
}

#[test]
fn a_corrupt_packet_is_not_laundered_wherever_it_stands() {
    let good = |i: u16| numbered(udp(&[i as u8; 30]), i);
    let bad = |i: u16| with(good(i), |b| b[40] ^= 1);
    for packets in [
        vec![bad(0), good(1), good(2)],
        vec![good(0), bad(1), good(2)],
        vec![good(0), good(1), bad(2)],
    ] {
        let (batch, _) = joined(&packets);
        assert_eq!(taken_apart(&batch), packets);
    }
}

#[test]
fn what_the_kernel_verified_is_believed_and_what_it_left_out_needs_no_look() {
    let bad = with(udp(&[1; 30]), |b| b[26] ^= 1);
    let packets = [numbered(bad.clone(), 1), numbered(bad, 2)];
    let verified = Offload { flags: DATA_VALID, ..Offload::NONE };
    assert_eq!(joined_with(&packets, verified, Offloads::ALL).1, [2]);
    let partial = Offload { flags: 1, csum_start: 20, csum_offset: 6, ..Offload::NONE };
    let (batch, counts) = joined_with(&packets, partial, Offloads::ALL);
    assert_eq!(counts, [2]);
    assert_eq!(taken_apart(&batch).iter().map(|p| payload(p).len()).sum::<usize>(), 60);
}

#[test]
fn only_the_last_segment_is_shorter() {
    let sizes = [30, 30, 10, 30, 30, 40, 40];
    let packets: Vec<_> =
        sizes.iter().zip(0..).map(|(&len, i)| numbered(udp(&vec![1; len]), i)).collect();
    let (batch, counts) = joined(&packets);
    assert_eq!(counts, [3, 2, 2]);
    assert_eq!(taken_apart(&batch), packets);
}

#[test]
fn flows_are_joined_apart_and_none_overtakes_itself() {
    let of = |flow: u8, i: u16| numbered(packet(false, false, flow, &[i as u8; 30]), i);
    // The third packet of flow 1 cannot be joined; later ones must not be sent before it.
    let odd = with(of(1, 3), |b| b[8] -= 1);
    let packets =
        [of(1, 1), of(2, 1), of(1, 2), of(2, 2), odd.clone(), of(1, 4), of(2, 3), of(1, 5)];
    let (batch, counts) = joined(&packets);
    assert_eq!(counts.iter().sum::<u64>(), 8);
    let out = taken_apart(&batch);
    for flow in [1, 2] {
        let of_flow = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
            all.iter().filter(|packet| packet[20] == flow).cloned().collect()
        };
        assert_eq!(of_flow(&out), of_flow(&packets), "flow {flow}");
    }
}

#[test]
fn a_port_gets_only_superframes_it_supports() {
    let packets = [numbered(udp(&[1; 30]), 1), numbered(udp(&[2; 30]), 2)];
    for offloads in [
        Offloads::NONE,
        Offloads { uso4: false, ..Offloads::ALL },
        Offloads { checksum: true, ..Offloads::NONE },
    ] {
        assert_eq!(joined_with(&packets, Offload::NONE, offloads).1, [1, 1], "{offloads:?}");
    }
    let mut batch = joined(&packets[..1]).0;
    batch.join(PortId(4), Offloads::ALL);
    assert_eq!(batch.frames(OUT).count(), 1, "another port's packets are not touched");
}

#[test]
fn a_superframe_never_outgrows_what_its_length_can_say() {
    let packets: Vec<_> = (0..64).map(|i| numbered(udp(&[i as u8; 1472]), i)).collect();
    let (batch, counts) = joined(&packets);
    assert_eq!(counts, [44, 20]);
    assert!(batch.frames(OUT).all(|(_, frame)| frame.packet().len() <= 65_535));
    assert_eq!(taken_apart(&batch), packets);
}

proptest! {
    /// For any packets that leave by a port, joining and segmenting yields each flow's original
    /// packets, bit by bit and in order.
    #[test]
    fn joined_and_taken_apart_nothing_has_changed(
        packets in prop::collection::vec(
            (0..4_u8, any::<(bool, bool)>(), 0..40_usize, 0..12_u8, any::<bool>()), 1..64
        ),
    ) {
        let mut seq = 9_u32;
        let packets: Vec<Vec<u8>> = packets
            .into_iter()
            .zip(0_u16..)
            .map(|((flow, (ipv6, tcp), len, change, fragmentable), i)| {
                let mut bytes = packet(ipv6, tcp, flow, &vec![i as u8; 30 - len / 36]);
                let upper = if ipv6 { 40 } else { 20 };
                if tcp {
                    bytes[upper + 4..upper + 8].copy_from_slice(&seq.to_be_bytes());
                    seq += 30;
                    bytes[upper + 13] = if change == 5 { 0x18 } else { 0x10 };
                    let field = upper + 16;
                    bytes[field..field + 2].fill(0);
                    let addresses = &bytes[if ipv6 { 8 } else { 12 }..upper];
                    let sum = crate::packet::checksum::Sum::ZERO
                        .bytes(addresses)
                        .word32(6)
                        .word32((bytes.len() - upper) as u32)
                        .bytes(&bytes[upper..])
                        .checksum();
                    bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
                }
                match change {
                    0 => bytes[if ipv6 { 7 } else { 8 }] -= 1,
                    1 => bytes[1] ^= 0x10,
                    2 => { let last = bytes.len() - 1; bytes[last] ^= 1; }
                    3 if !tcp => bytes[upper + 6..upper + 8].fill(0),
                    _ => {}
                }
                if ipv6 {
                    return bytes;
                }
                bytes[6] = if fragmentable { 0 } else { 0x40 };
                numbered(bytes, i)
            })
            .collect();
        let (batch, counts) = joined(&packets);
        prop_assert_eq!(counts.iter().sum::<u64>(), packets.len() as u64);
        let out = taken_apart(&batch);
        let key = |p: &[u8]| {
            let upper = if p[0] >> 4 == 6 { 40 } else { 20 };
            (p[0] >> 4, if upper == 40 { p[6] } else { p[9] }, p[upper])
        };
        for packet in &packets {
            let of = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
                all.iter().filter(|p| key(p) == key(packet)).map(|p| unnumbered(p)).collect()
            };
            prop_assert_eq!(of(&out), of(&packets));
        }
    }
}

/// An error quotes checks of the router by identification and checksum.
#[test]
fn what_the_router_sends_itself_is_not_joined_and_has_whole_checksums() {
    let mut batch = Batch::new();
    let exit = Exit { port: OUT, ..Exit::default() };
    let packets: Vec<_> = (0..10).map(|i| numbered(udp(&[7; 22]), 0x1111 * i)).collect();
    for packet in &packets {
        assert!(batch.transmit_copy(packet, exit, None, Verdict::Originate));
    }
    batch.join(OUT, Offloads::ALL);
    let frames: Vec<_> = batch.frames(OUT).map(|(_, frame)| frame).collect();
    assert_eq!(frames.len(), packets.len());
    for (frame, packet) in frames.iter().zip(&packets) {
        assert_eq!((frame.packet(), frame.segments()), (&packet[..], 1));
        assert!(!frame.offload().needs_checksum());
    }
}
