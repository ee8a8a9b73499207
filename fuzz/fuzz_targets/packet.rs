//! Bytes to packets and what the router makes of them: no panic, no byte read that is not there,
//! and every packet that is sent on (one hop older, cut, or an error about it) is one that this
//! router would accept itself.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use nearhop::packet::checksum::Sum;
use nearhop::packet::error::{self, ERROR_MAX, ErrorKind};
use nearhop::packet::fragment::Fragments;
use nearhop::packet::{Meta, decrement_ttl, quoted};
use nearhop::verdict::{Outcome, Verdict};

// The first two bytes are the MTU of the way out.
fuzz_target!(|bytes: &[u8]| {
    let Some((mtu, packet)) = bytes.split_first_chunk() else { return };
    let mtu = usize::from(u16::from_be_bytes(*mtu));
    check(packet, mtu);
    // Chance does not find checksums; most of the code is behind one.
    let mut packet = packet.to_vec();
    if repair_checksum(&mut packet).is_some() {
        assert_ne!(Meta::parse(&packet), Err(Verdict::BadHeaderChecksum));
        check(&packet, mtu);
    }
});

fn check(packet: &[u8], mtu: usize) {
    // These read no more of a packet than a header, whole or not: they take any bytes.
    decrement_ttl(&mut packet.to_vec());
    let cut = Fragments::plan(packet, mtu);
    match Meta::parse(packet) {
        Err(verdict) => {
            assert_eq!(verdict.outcome(), Outcome::Dropped, "{verdict:?}");
            if packet.first().is_some_and(|byte| byte >> 4 == 4) {
                assert!(cut.is_err(), "cut, although dropped as {verdict:?}");
            }
        }
        Ok(meta) => {
            assert!(meta.header_len <= meta.len && meta.len <= packet.len(), "{meta:?}");
            let packet = &packet[..meta.len];
            assert_eq!(Meta::parse(packet), Ok(meta), "padding counts");
            quoted(packet, &meta);
            one_hop_older(packet, meta);
            if let Ok(cut) = cut {
                pieces(&cut, packet, meta, mtu);
            }
            errors(packet, meta);
        }
    }
}

fn one_hop_older(packet: &[u8], meta: Meta) {
    let mut packet = packet.to_vec();
    let before = packet.clone();
    if decrement_ttl(&mut packet) {
        assert_eq!(Meta::parse(&packet), Ok(Meta { ttl: meta.ttl - 1, ..meta }));
    } else {
        assert!(meta.ttl <= 1 && packet == before, "{meta:?}");
    }
}

/// Pieces fit, are packets from the same sender to the same receiver, and carry every byte.
fn pieces(cut: &Fragments<'_>, packet: &[u8], meta: Meta, mtu: usize) {
    let (mut count, mut payload) = (0, Vec::new());
    let mut buffer = vec![0; mtu.max(meta.len)];
    let emitted = cut.each(&mut buffer, |piece| {
        assert!(piece.len() <= mtu, "{} bytes", piece.len());
        let of_piece = Meta::parse(piece).expect("a piece that is no packet");
        assert_eq!(of_piece.len, piece.len());
        assert_eq!((of_piece.src, of_piece.dst), (meta.src, meta.dst));
        assert_eq!((of_piece.ttl, of_piece.protocol), (meta.ttl, meta.protocol));
        payload.extend_from_slice(&piece[of_piece.header_len..]);
        count += 1;
    });
    assert_eq!(emitted, Ok(count));
    assert_eq!(count, cut.count());
    assert_eq!(payload, packet[meta.header_len..]);
}

fn errors(packet: &[u8], meta: Meta) {
    let source: IpAddr = match meta.src {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    for kind in KINDS.into_iter().filter(|kind| error::may_answer(*kind, packet, &meta)) {
        let mut out = [0; ERROR_MAX];
        let len = error::build(kind, packet, source, 0, &mut out).expect("room for every error");
        let answer = Meta::parse(&out[..len]).expect("an error that is no packet");
        assert_eq!((answer.src, answer.dst), (source, meta.src), "{kind:?}");
        assert!(!error::may_answer(kind, &out[..len], &answer), "an error about an error");
        let about = quoted(&out[..len], &answer).map(|quote| (quote.src, quote.dst));
        assert!(about.is_none_or(|about| about == (meta.src, meta.dst)), "{kind:?}: {about:?}");
    }
}

/// `None` if there is no IPv4 header to repair.
fn repair_checksum(packet: &mut [u8]) -> Option<()> {
    let first = *packet.first().filter(|byte| **byte >> 4 == 4)?;
    let header = packet.get_mut(..usize::from(first & 0xf) * 4)?;
    header.get_mut(10..12)?.fill(0);
    let sum = Sum::ZERO.bytes(header).checksum();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

const KINDS: [ErrorKind; 4] = [
    ErrorKind::TimeExceeded,
    ErrorKind::AdminProhibited,
    ErrorKind::TooBig { mtu: 1280 },
    ErrorKind::BadHeader { pointer: 4 },
];
