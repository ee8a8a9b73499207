use super::*;
use crate::packet::samples::{self, CLIENT_V4, CLIENT_V6, SERVICE_V4, SERVICE_V6, with_options};

fn pieces(packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, CannotFragment> {
    let mut all = Vec::new();
    let count = fragment(packet, mtu, &mut [0xee; 2000], |piece| all.push(piece.to_vec()))?;
    assert_eq!(count, all.len());
    assert_eq!(count, Fragments::plan(packet, mtu).unwrap().count());
    Ok(all)
}

/// A UDP packet with this many bytes after its IP header.
fn packet(payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|at| (at % 251) as u8).collect();
    samples::packet(CLIENT_V4, SERVICE_V4, 17, &payload)
}

/// Offset, payload length and more-fragments bit of each piece.
fn layout(pieces: &[Vec<u8>]) -> Vec<(usize, usize, bool)> {
    pieces
        .iter()
        .map(|piece| {
            let view = Ipv4::parse(piece).unwrap();
            (view.fragment_offset(), view.payload().len(), view.more_fragments())
        })
        .collect()
}

#[test]
fn example_of_rfc_791() {
    // Section 3.2, example fragmentation procedure, data of 452 bytes and MTU 280.
    let all = pieces(&packet(452), 280).unwrap();
    assert_eq!(layout(&all), [(0, 256, true), (256, 196, false)]);
}

#[test]
fn a_packet_that_fits_is_left_alone_even_with_df() {
    let mut whole = packet(100);
    whole[6] = 0x40;
    samples::fix_checksum(&mut whole);
    assert_eq!(pieces(&whole, 120).unwrap(), [whole.clone()]);
    let padded = [&whole[..], &[0; 9]].concat();
    assert_eq!(pieces(&padded, 120).unwrap(), [whole]);
}

#[test]
fn the_last_piece_may_fill_the_mtu() {
    // 1,500 has room for 1,480 bytes: a multiple of 8; 1,499 for 1,479, but only when last.
    assert_eq!(
        layout(&pieces(&packet(1472 + 1479), 1499).unwrap()),
        [(0, 1472, true), (1472, 1479, false)]
    );
    assert_eq!(
        layout(&pieces(&packet(1472 + 1480), 1499).unwrap()),
        [(0, 1472, true), (1472, 1472, true), (2944, 8, false)]
    );
}

#[test]
fn pieces_of_a_fragment_stay_where_it_was() {
    let middle = samples::fragment(&packet(160), 100, true);
    assert_eq!(layout(&pieces(&middle, 100).unwrap()), [(800, 80, true), (880, 80, true)]);
    let last = samples::fragment(&packet(150), 100, false);
    assert_eq!(layout(&pieces(&last, 100).unwrap()), [(800, 80, true), (880, 70, false)]);
}

#[test]
fn only_options_with_the_copy_bit_are_in_every_piece() {
    let record_route = [7, 7, 4, 0, 0, 0, 0];
    let router_alert = [148, 4, 1, 2];
    let options = [&[1][..], &record_route, &router_alert, &[0x82, 3, 9, 0]].concat();
    let all = pieces(&with_options(&packet(200), &options), 136).unwrap();
    let headers: Vec<_> =
        all.iter().map(|piece| Ipv4::parse(piece).unwrap().options().to_vec()).collect();
    let copied = [&router_alert[..], &[0x82, 3, 9, 0]].concat();
    assert_eq!(headers, [options, copied]);
    assert_eq!(layout(&all), [(0, 96, true), (96, 104, false)]);
}

#[test]
fn the_rest_of_the_header_is_in_every_piece() {
    let mut whole = packet(300);
    (whole[1], whole[4], whole[5], whole[6], whole[8]) = (0xb8, 0x12, 0x34, 0x80, 33);
    samples::fix_checksum(&mut whole);
    for piece in pieces(&whole, 100).unwrap() {
        let view = Ipv4::parse(&piece).unwrap();
        assert_eq!((view.tos(), view.ident(), view.ttl(), view.protocol()), (0xb8, 0x1234, 33, 17));
        assert_eq!((view.src(), view.dst()), (CLIENT_V4, SERVICE_V4));
        assert_eq!(view.flags_and_offset() & 0xc000, 0x8000, "reserved bit kept, DF clear");
    }
}

#[test]
fn what_cannot_be_cut_says_why() {
    let mut fixed = packet(100);
    fixed[6] = 0x40;
    samples::fix_checksum(&mut fixed);
    let mut broken = packet(100);
    broken[10] ^= 1;
    let v6 = samples::packet(CLIENT_V6, SERVICE_V6, 17, &[0; 100]);
    let options = with_options(&packet(100), &[1; 40]);
    for (case, bytes, mtu, want) in [
        ("DF", &fixed, 100, CannotFragment::DontFragment),
        ("IPv6", &v6, 100, CannotFragment::Ipv6),
        ("IPv6 that fits", &v6, 1500, CannotFragment::Ipv6),
        ("broken", &broken, 100, CannotFragment::Malformed(Verdict::BadHeaderChecksum)),
        ("small MTU", &packet(100), 27, CannotFragment::MtuTooSmall { need: 28 }),
        ("no MTU", &packet(100), 0, CannotFragment::MtuTooSmall { need: 28 }),
        ("long header", &options, 67, CannotFragment::MtuTooSmall { need: 68 }),
    ] {
        assert_eq!(pieces(bytes, mtu), Err(want), "{case}");
    }
    let refused = fragment(&packet(100), 100, &mut [0; 99], |_| panic!("emitted"));
    assert_eq!(refused, Err(CannotFragment::BufferTooSmall { need: 100 }));
}

#[test]
fn most_pieces_there_can_be() {
    let plan = |packet: &[u8]| Fragments::plan(packet, 28).unwrap().count();
    assert_eq!(plan(&packet(65_515)), 8190);
    assert_eq!(pieces(&packet(65_515), 28).unwrap().len(), 8190);
}
