//! Superframes and partial checksums.

use super::*;
use crate::packet::offload::segment::Segments;
use crate::packet::offload::tests::{payload, superframe};
use crate::packet::offload::{GSO_NONE, OFFLOAD_LEN, Offloads};
use crate::packet::samples::{self, CLIENT_V4, CLIENT_V6, SERVICE_V4, SERVICE_V6};
use crate::port::Port;
use crate::port::queue::{SyscallQueue, send_all};

/// A rig whose clients are those of the samples.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.route(&format!("{CLIENT_V4}/32"), &[0]).route(&format!("{CLIENT_V6}/128"), &[0]);
    rig.route(&format!("{SERVICE_V4}/32"), &[1, 2]).route(&format!("{SERVICE_V6}/128"), &[1, 2]);
    rig
}

fn with(mut packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut packet);
    if packet[0] >> 4 == 4 {
        samples::fix_checksum(&mut packet);
    }
    packet
}

fn with_ttl(packet: Vec<u8>, ttl: u8) -> Vec<u8> {
    with(packet, |bytes| {
        let at = if bytes[0] >> 4 == 4 { 8 } else { 7 };
        bytes[at] = ttl;
    })
}

fn first_segment(packet: &[u8], offload: Offload) -> Vec<u8> {
    let plan = Segments::plan(packet, offload).unwrap();
    plan.write(0, &mut [0; 2000]).unwrap().to_vec()
}

#[test]
fn a_superframe_passes_whole_and_counts_as_its_segments() {
    for (ipv6, tcp) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut rig = rig();
        let (packet, offload) = superframe(ipv6, tcp, 1000, &[7; 9500]);
        let sent = rig.run_frame(0, &packet, offload);
        assert_eq!(sent, [(1, Verdict::Forward, with_ttl(packet.clone(), 63))]);
        assert_eq!((rig.state.counters.received, rig.of(Verdict::Forward)), (10, 10));
        let (_, frame) = rig.batch.frames(PortId(1)).next().unwrap();
        assert_eq!((frame.offload(), frame.segments()), (offload, 10));
        let path = rig.state.counters.paths[rig.legs[1].0.0 as usize];
        let headers = u64::from(offload.hdr_len);
        assert_eq!((path.packets, path.bytes), (10, 9500 + 10 * headers));
    }
}

#[test]
fn the_size_of_its_segments_decides_whether_it_fits() {
    // The adjacency's MTU is 1,400 bytes.
    for (size, fits) in [(1348, true), (1349, false)] {
        let mut rig = rig();
        let (packet, offload) = superframe(false, true, size, &[7; 9500]);
        let packet = with(packet, |bytes| bytes[6] = 0x40);
        let sent = rig.run_frame(0, &packet, offload);
        let want = if fits { Verdict::Forward } else { Verdict::Originate };
        assert_eq!(sent.iter().map(|sent| sent.1).collect::<Vec<_>>(), [want], "{size}");
        assert_eq!(rig.of(Verdict::TooBig), if fits { 0 } else { 8 });
        if !fits {
            let quoted = first_segment(&packet, offload);
            let error = &sent[0].2;
            assert_eq!(error[20..22], [3, 4], "fragmentation needed");
            assert_eq!(error[26..28], 1400_u16.to_be_bytes());
            assert_eq!(error[28..], quoted[..576 - 28]);
        }
    }
}

#[test]
fn ttl_expiry_on_a_superframe_is_one_error_about_its_first_segment() {
    for (ipv6, tcp) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut rig = rig();
        let (packet, offload) = superframe(ipv6, tcp, 100, &[7; 950]);
        let packet = with_ttl(packet, 1);
        let sent = rig.run_frame(0, &packet, offload);
        assert_eq!((sent.len(), sent[0].0, sent[0].1), (1, 0, Verdict::Originate));
        assert_eq!(rig.of(Verdict::TtlExpired), 10);
        let quote = &sent[0].2[if ipv6 { 48 } else { 28 }..];
        assert_eq!(quote, first_segment(&packet, offload));
        // The quoted packet is one the sender could have sent: its checksum is right.
        assert_eq!(payload(quote), [7; 100]);
    }
}

#[test]
fn a_checksum_that_was_left_out_is_completed_before_it_is_quoted() {
    let mut rig = rig();
    let (packet, offload) = superframe(false, false, 0, b"some data");
    let offload = Offload { gso_type: GSO_NONE, ..offload };
    let sent = rig.run_frame(0, &with_ttl(packet, 1), offload);
    assert_eq!(payload(&sent[0].2[28..]), b"some data");
}

#[test]
fn a_checksum_that_was_left_out_is_carried_on() {
    let mut rig = rig();
    let (packet, offload) = superframe(true, false, 0, b"some data");
    let offload = Offload { gso_type: GSO_NONE, ..offload };
    let sent = rig.run_frame(0, &packet, offload);
    assert_eq!(sent[0].2, with_ttl(packet, 63));
    let (_, frame) = rig.batch.frames(PortId(1)).next().unwrap();
    assert!(frame.offload().needs_checksum());
    assert!(Offloads::ALL.take(frame.offload(), true));
}

#[test]
fn a_superframe_without_df_is_cut_segment_by_segment_its_checksums_completed() {
    let mut rig = rig();
    let data: Vec<u8> = (0..4000_u32).map(|i| (i * 7) as u8).collect();
    let (packet, offload) = superframe(false, false, 1450, &data);
    let sent = rig.run_frame(0, &packet, offload);
    // Two segments are cut in two, the last fits.
    assert!(sent.iter().all(|(port, verdict, bytes)| {
        (*port, *verdict) == (1, Verdict::FragmentSent) && bytes.len() <= 1400
    }));
    assert_eq!((sent.len(), rig.of(Verdict::Fragmented), rig.state.counters.split), (5, 3, 5));
    let mut whole = Vec::new();
    for pieces in [&sent[0..2], &sent[2..4], &sent[4..]] {
        let mut datagram = pieces[0].2.clone();
        pieces[1..].iter().for_each(|piece| datagram.extend(&piece.2[20..]));
        datagram[6] = 0;
        let len = datagram.len() as u16;
        datagram[2..4].copy_from_slice(&len.to_be_bytes());
        samples::fix_checksum(&mut datagram);
        whole.extend(payload(&datagram));
    }
    assert_eq!(whole, data);
}

#[test]
fn a_checksum_is_completed_before_a_packet_is_cut() {
    let mut rig = rig();
    let (packet, offload) = superframe(false, false, 0, &[9; 1450]);
    let offload = Offload { gso_type: GSO_NONE, ..offload };
    let sent = rig.run_frame(0, &packet, offload);
    assert_eq!(sent.len(), 2);
    let mut datagram = sent[0].2.clone();
    datagram.extend(&sent[1].2[20..]);
    datagram[6] = 0;
    datagram[2..4].copy_from_slice(&1478_u16.to_be_bytes());
    samples::fix_checksum(&mut datagram);
    assert_eq!(payload(&datagram), [9; 1450]);
}

#[test]
fn a_lie_is_a_counted_drop_and_what_comes_after_is_forwarded() {
    let mut rig = rig();
    let (packet, good) = superframe(false, false, 100, &[7; 950]);
    for (count, offload) in [
        Offload { gso_size: 0, ..good },
        Offload { gso_size: 951, ..good },
        Offload { gso_type: 3, ..good },
        Offload { csum_start: 60_000, ..good },
        Offload { csum_offset: 60_000, ..good },
    ]
    .into_iter()
    .enumerate()
    {
        assert!(rig.run_frame(0, &packet, offload).is_empty());
        assert_eq!(rig.of(Verdict::BadOffload), count as u64 + 1);
    }
    assert_eq!(rig.run_frame(0, &packet, good).len(), 1);
}

#[test]
fn all_segments_share_the_fate_of_a_superframe_that_is_refused_or_punted() {
    let mut rig = rig();
    let (packet, offload) = superframe(false, false, 100, &[7; 950]);
    rig.group(&format!("{SERVICE_V4}/32"), &Group::Blackhole);
    assert!(rig.run_frame(0, &packet, offload).is_empty());
    assert_eq!(rig.of(Verdict::Blackhole), 10);
    rig.group(&format!("{SERVICE_V4}/32"), &Group::Local);
    assert!(rig.run_frame(0, &packet, offload).is_empty());
    assert_eq!(rig.of(Verdict::Local), 10);
    let martian = with(packet, |bytes| bytes[12..16].copy_from_slice(&[127, 0, 0, 1]));
    assert!(rig.run_frame(0, &martian, offload).is_empty());
    assert_eq!(rig.of(Verdict::MartianSource), 10);
}

/// A deterministic random number generator: the same frames in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    /// A frame with a few bytes of header, packet or both changed.
    fn mutated(&mut self) -> (Vec<u8>, Offload) {
        let [ipv6, tcp] = [self.below(2) == 1, self.below(2) == 1];
        let payload = vec![7; self.below(400) + 1];
        let (mut packet, offload) = superframe(ipv6, tcp, self.below(200) as u16, &payload);
        let mut header = offload.to_bytes();
        for _ in 0..self.below(4) {
            match self.below(3) {
                0 => header[self.below(OFFLOAD_LEN)] = self.below(256) as u8,
                1 => {
                    let at = self.below(packet.len().min(60));
                    packet[at] = self.below(256) as u8;
                }
                _ => packet.truncate(self.below(packet.len()) + 1),
            }
        }
        if packet.len() >= 20 && packet[0] == 0x45 && self.below(4) > 0 {
            samples::fix_checksum(&mut packet);
        }
        (packet, Offload::from_bytes(header))
    }
}

/// Sends ten thousand mutated frames (or as many as `NEARHOP_FRAMES` says) through the step,
/// joining, and both kinds of ports: every one is sent or counted, and completed packets parse.
/// After each batch a valid packet is still forwarded.
#[test]
fn mutated_frames_are_sent_or_counted_and_forwarding_goes_on() {
    let frames = std::env::var("NEARHOP_FRAMES").ok().and_then(|count| count.parse().ok());
    let mut numbers = Numbers(0x6e65_6172_686f_7021);
    let mut rig = rig();
    let ports = [Offloads::ALL, Offloads::NONE].map(|o| MemoryPort::pair_with(1 << 17, o).0);
    let mut buffer = vec![0; OFFLOAD_LEN + crate::batch::PACKET_MAX];
    for _ in 0..frames.unwrap_or(10_000_u64).div_ceil(BURST as u64) {
        rig.batch.clear();
        rig.batch.from_port(PortId(0));
        for _ in 1..BURST {
            let (packet, offload) = numbers.mutated();
            assert!(rig.batch.push_frame(&packet, offload));
        }
        let (good, offload) = superframe(false, false, 100, &[7; 950]);
        assert!(rig.batch.push_frame(&good, offload));
        let sent = rig.run_batch();
        // Errors about others come last.
        let last = sent.iter().rfind(|sent| sent.1 != Verdict::Originate);
        assert_eq!(last.map(|sent| sent.1), Some(Verdict::Forward));
        rig.batch.join(PortId(1), Offloads::ALL);
        for port in &ports {
            let mut queue = SyscallQueue::new(Arc::clone(port) as Arc<dyn Port>, 0);
            let to = (PortId(1), &**port as &dyn Port);
            let (mut reported, mut before) = (0, 0);
            rig.batch.frames(PortId(1)).for_each(|(_, frame)| before += frame.segments());
            send_all(&mut queue, to, &rig.batch, &mut buffer, &mut |sent| {
                assert!(sent.result.is_ok(), "{:?}", sent.result);
                reported += sent.packets;
            });
            assert_eq!(reported, before);
            for (packet, offload) in port.drain_frames() {
                let meta = Meta::parse(&packet).unwrap();
                assert_eq!(offload.check(&packet, &meta).map(|_| meta.len), Ok(packet.len()));
            }
        }
    }
    assert!(rig.of(Verdict::BadOffload) > 100 && rig.of(Verdict::Forward) > 1000);
}
