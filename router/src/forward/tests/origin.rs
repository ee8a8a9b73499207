//! The router's own packets.

use super::*;
use crate::packet::origin;

impl Rig {
    /// Sends one of the router's own packets.
    fn originate(&mut self, packet: &[u8], pin: Option<AdjacencyId>) -> Vec<Sent> {
        self.batch.clear();
        let mut snapshots = Snapshots::new(Arc::clone(&self.published));
        let online = self.reader.online();
        let mut packet = packet.to_vec();
        super::originate(
            &mut packet,
            pin,
            &mut self.batch,
            &online,
            &mut snapshots,
            &mut self.state,
        );
        drop(online);
        for (transmission, _) in self.batch.transmissions() {
            self.state.counters.count(transmission.verdict);
        }
        self.assert_balance();
        self.batch.transmissions().map(|(t, b)| (t.exit.port.0, t.verdict, b.to_vec())).collect()
    }
}

const OWN: [(&str, &str); 2] =
    [("10.0.0.1:7", "198.51.100.53:53"), ("[fd00::1]:7", "[2001:db8:53::53]:53")];

#[test]
fn a_datagram_is_cut_for_the_way_it_takes_and_for_no_other() {
    let mut rig = Rig::new();
    // Another port has the smallest MTU there may be.
    let narrow = Adjacency::point_to_point(PortId(2), 1280);
    rig.with_snapshot(|snapshot| snapshot.adjacencies.set(AdjacencyId(2), Some(narrow)));
    for (src, dst) in OWN {
        // The router does not look for the MTU of an IPv6 path.
        let (mtu, least) = if src.starts_with('[') { (1280, 1220) } else { (1400, 1340) };
        let fits = udp(src, dst, least);
        assert_eq!(rig.originate(&fits, None), [(1, Verdict::Originate, fits)]);
        let large = udp(src, dst, 3000);
        let sent = rig.originate(&large, None);
        assert!(sent.len() == 3, "{}", sent.len());
        for (port, verdict, piece) in &sent {
            assert_eq!((*port, *verdict), (1, Verdict::FragmentSent));
            assert!(piece.len() <= mtu);
        }
        // The smaller MTU makes more fragments.
        assert_eq!(rig.originate(&udp(src, dst, 2600), Some(AdjacencyId(2))).len(), 3);
    }
    assert_eq!((rig.of(Verdict::Fragmented), rig.of(Verdict::FragmentSent)), (4, 12));
}

#[test]
fn fragments_of_two_datagrams_are_reported_apart() {
    let mut rig = Rig::new();
    let (src, dst) = OWN[0];
    let id = |sent: &[Sent]| [sent[0].2[4], sent[0].2[5]];
    let first = id(&rig.originate(&udp(src, dst, 3000), None));
    let second = id(&rig.originate(&udp(src, dst, 3000), None));
    assert_ne!(first, second);
}

#[test]
fn what_cannot_leave_is_counted() {
    let mut rig = Rig::new();
    let (src, dst) = OWN[0];
    assert_eq!(rig.originate(&udp(src, dst, 10), Some(AdjacencyId(9))), []);
    assert_eq!(rig.of(Verdict::NoPort), 1);
    assert_eq!(rig.originate(&udp(src, "203.0.113.1:1", 10), None), []);
    assert_eq!(rig.of(Verdict::NoRoute), 1);
    assert_eq!(rig.originate(&[0x45; 7], None), []);
    assert_eq!(rig.of(Verdict::Truncated), 1);
    // Each by what it is, and nothing as delivered that was delivered to nobody.
    let mut wrong = udp(src, dst, 10);
    wrong[10] ^= 1;
    assert_eq!(rig.originate(&wrong, None), []);
    assert_eq!((rig.of(Verdict::BadHeaderChecksum), rig.of(Verdict::Truncated)), (1, 1));
    assert_eq!(rig.originate(&[0x25; 40], None), []);
    assert_eq!(rig.of(Verdict::NotIp), 1);
    assert_eq!(rig.originate(&udp(src, "10.0.0.1:9", 10), None), []);
    assert_eq!((rig.of(Verdict::ToSelf), rig.of(Verdict::Local)), (1, 0));
    // Damaged, and larger than its way out takes.
    let mut large = udp(src, dst, 3000);
    large[10] ^= 1;
    assert_eq!(rig.originate(&large, Some(AdjacencyId(1))), []);
    assert_eq!((rig.of(Verdict::BadHeaderChecksum), rig.of(Verdict::TooBig)), (2, 0));
}

#[test]
fn a_connection_asks_for_segments_that_fit_its_way() {
    let mut rig = Rig::new();
    let mut syn = vec![0; 44];
    syn[..20].copy_from_slice(&[
        0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 198, 51, 100, 53,
    ]);
    let sum = crate::packet::checksum::Sum::ZERO.bytes(&syn[..20]).checksum();
    syn[10..12].copy_from_slice(&sum.to_be_bytes());
    // Data offset 6, SYN, an MSS of 1460.
    (syn[32], syn[33]) = (0x60, 2);
    syn[40..].copy_from_slice(&[2, 4, 5, 180]);
    let sent = rig.originate(&syn, None);
    assert_eq!(sent[0].2[40..], [2, 4, 5, 80], "1360 in 1400");
    let mut again = sent[0].2.clone();
    assert!(!origin::clamp_mss(&mut again, 1400));
}
