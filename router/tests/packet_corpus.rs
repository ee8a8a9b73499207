//! Unusual packets, captured or constructed, also truncated and modified: no panic, and a verdict
//! that a reviewer can read.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod packet_support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nearhop::packet::error::{ERROR_MAX, ErrorKind, build, may_answer};
use nearhop::packet::fragment::{Fragments, fragment};
use nearhop::packet::martian::{destination_verdict, source_verdict};
use nearhop::packet::{Fragment, Meta, decrement_ttl, icmp, icmpv6, ipv4, ipv6, quoted, tcp, udp};
use nearhop::policy::Martians;

#[test]
fn verdicts_of_the_corpus() {
    let mut counts = BTreeMap::new();
    for (_, bytes) in corpus() {
        *counts.entry(verdict(&bytes)).or_insert(0) += 1;
    }
    let mut table = String::new();
    for (verdict, count) in counts {
        writeln!(table, "{count:5} {verdict}").unwrap();
    }
    insta::assert_snapshot!(table);
}

#[test]
fn every_packet_goes_through_everything() {
    let mut answered = 0;
    for (_, bytes) in corpus() {
        answered += usize::from(exercise(&bytes));
    }
    assert!(answered > 500, "{answered} packets could be answered");
}

#[test]
fn every_truncation_is_a_drop() {
    for (name, bytes) in corpus() {
        let Ok(meta) = Meta::parse(&bytes) else {
            for len in 0..bytes.len() {
                exercise(&bytes[..len]);
            }
            continue;
        };
        for len in 0..meta.len {
            assert!(Meta::parse(&bytes[..len]).is_err(), "{name}: {len} of {} bytes", meta.len);
        }
        assert_eq!(Meta::parse(&bytes[..meta.len]), Ok(meta), "{name}");
    }
}

#[test]
fn every_byte_changed() {
    for (_, bytes) in corpus() {
        for at in 0..bytes.len().min(96) {
            for change in [0x01, 0x80, 0xff] {
                let mut odd = bytes.clone();
                odd[at] ^= change;
                exercise(&odd);
                packet_support::fix_checksum(&mut odd);
                exercise(&odd);
            }
        }
    }
}

/// Name of the capture and frame, and the IP packet.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/packets/odd-ip.hex.txt.gz");
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let packets: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(entry).collect();
    assert!(packets.len() > 1000);
    packets
}

fn entry(line: &str) -> (String, Vec<u8>) {
    let (name, hex) = line.rsplit_once(' ').unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    (name.to_owned(), hex.as_bytes().chunks(2).map(byte).collect())
}

/// The forwarding step's verdict before any route lookup.
fn verdict(bytes: &[u8]) -> &'static str {
    let checked = Meta::parse(bytes).and_then(|meta| {
        let source = source_verdict(meta.src, Martians::Default);
        source.or(destination_verdict(meta.dst, Martians::Default)).map_or(Ok(()), Err)
    });
    checked.err().map_or("ok", |verdict| verdict.label())
}

/// Runs every operation on a packet; returns whether it may be answered.
fn exercise(bytes: &[u8]) -> bool {
    let mut answers = [0; ERROR_MAX];
    for source in [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        for kind in [ErrorKind::TimeExceeded, ErrorKind::TooBig { mtu: 1280 }] {
            if let Some(len) = build(kind, bytes, source, 0, &mut answers) {
                let answer = &answers[..len];
                let meta = Meta::parse(answer).expect("a good packet");
                assert_eq!((meta.src, meta.len), (source, len));
                assert!(!may_answer(kind, answer, &meta));
                quoted(answer, &meta);
            }
        }
    }
    views(bytes);
    cut(bytes);
    let Ok(meta) = Meta::parse(bytes) else { return false };
    assert!(meta.header_len <= meta.len && meta.len <= bytes.len());
    quoted(bytes, &meta);
    let mut next = bytes.to_vec();
    if decrement_ttl(&mut next) {
        let want = Meta { ttl: meta.ttl - 1, ..meta };
        assert_eq!(Meta::parse(&next), Ok(want));
    } else {
        assert!(meta.ttl <= 1 && next == bytes);
    }
    may_answer(ErrorKind::TimeExceeded, bytes, &meta)
}

fn cut(bytes: &[u8]) {
    for mtu in [0, 68, 131, 576] {
        let count = Fragments::plan(bytes, mtu).map(|plan| plan.count());
        let mut pieces = 0;
        let done = fragment(bytes, mtu, &mut [0; 2000], |piece| {
            pieces += 1;
            let meta = Meta::parse(piece).expect("a good packet");
            assert!(piece.len() <= mtu && meta.len == piece.len());
        });
        assert_eq!(done, count);
        assert_eq!(done.unwrap_or(0), pieces);
    }
}

fn views(bytes: &[u8]) {
    for view in [ipv4::Ipv4::parse(bytes), ipv4::Ipv4::parse_quoted(bytes)].into_iter().flatten() {
        assert_eq!(
            view.fragment() == Fragment::First,
            view.fragment_offset() == 0 && view.more_fragments()
        );
        ipv4::options(view.options()).for_each(drop);
        uppers(view.payload());
    }
    for view in [ipv6::Ipv6::parse(bytes), ipv6::Ipv6::parse_quoted(bytes)].into_iter().flatten() {
        if let Ok(found) = view.extensions() {
            uppers(&view.payload()[found.len..]);
        }
    }
}

fn uppers(bytes: &[u8]) {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    udp::Udp::parse(bytes).map(|view| (view.is_valid(v4, v4), view.is_valid(v6, v6))).ok();
    tcp::Tcp::parse(bytes).map(|view| (view.is_valid(v4, v4), view.is_valid(v6, v6))).ok();
    let loopback = Ipv6Addr::LOCALHOST;
    icmp::Message::parse(bytes)
        .map(|view| (icmp::is_valid(&view), icmpv6::is_valid(&view, loopback, loopback)))
        .ok();
}
