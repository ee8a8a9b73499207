//! Packets for the tests of the packet layer, made by smoltcp and at random.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each test file uses some of it")]

use proptest::prelude::*;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet};

/// Corrects an IPv4 header's checksum, if there is a header.
pub fn fix_checksum(bytes: &mut [u8]) {
    let Some(first) = bytes.first() else { return };
    let len = usize::from(first & 0xf) * 4;
    if first >> 4 == 4 && len >= 20 && len <= bytes.len() {
        Ipv4Packet::new_unchecked(bytes).fill_checksum();
    }
}

/// IPv4 packets that are mostly valid: any fields, half of the options valid.
pub fn ipv4() -> impl Strategy<Value = Vec<u8>> {
    (any::<[u8; 20]>(), ipv4_options(), payload(), flags()).prop_map(
        |(fields, options, payload, flags)| {
            let mut bytes = fields.to_vec();
            bytes.extend(&options);
            bytes.extend(&payload);
            bytes[0] = 0x45 + (options.len() / 4) as u8;
            let total = (bytes.len() as u16).to_be_bytes();
            bytes[2..4].copy_from_slice(&total);
            bytes[6..8].copy_from_slice(&flags.to_be_bytes());
            if fields[0] < 192 {
                bytes[9] = [1, 6, 17, 58][usize::from(fields[0] % 4)];
            }
            fix_checksum(&mut bytes);
            bytes
        },
    )
}

/// IPv6 packets that are mostly valid, most with extension headers.
pub fn ipv6() -> impl Strategy<Value = Vec<u8>> {
    let header = (prop::sample::select(vec![0u8, 43, 44, 51, 60, 60, 135]), any::<[u8; 24]>());
    let upper = prop::sample::select(vec![1u8, 6, 17, 58, 59, 132]);
    (any::<[u8; 40]>(), prop::collection::vec(header, 0..4), upper, payload()).prop_map(
        |(fields, headers, upper, payload)| {
            let mut bytes = fields.to_vec();
            bytes[0] = 0x60 | fields[0] & 0xf;
            let kinds: Vec<u8> =
                headers.iter().map(|(kind, _)| *kind).chain(std::iter::once(upper)).collect();
            bytes[6] = kinds[0];
            for (at, (kind, body)) in headers.iter().enumerate() {
                let mut body = *body;
                body[0] = kinds[at + 1];
                // 8, 16 or 24 bytes, in the unit of each kind.
                let units = body[1] % 3;
                body[1] = if *kind == 51 { units * 2 } else { units };
                let len = if *kind == 44 { 8 } else { usize::from(units) * 8 + 8 };
                if *kind == 0 && body[23] < 200 {
                    (body[2], body[3]) = (1, units * 8 + 4);
                }
                bytes.extend(&body[..len]);
            }
            bytes.extend(&payload);
            let len = (bytes.len() - 40) as u16;
            bytes[4..6].copy_from_slice(&len.to_be_bytes());
            bytes
        },
    )
}

/// The same packets, some with modified bytes, truncated or padded; half of those with a corrected
/// IPv4 checksum.
pub fn mutated(packets: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let len = prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    (packets, edits, len, any::<bool>()).prop_map(|(mut bytes, edits, len, fix)| {
        for (index, value) in edits {
            let at = index.index(bytes.len().min(60));
            bytes[at] = value;
        }
        if let Some(index) = len {
            let len = index.index(bytes.len() + 10);
            bytes.resize(len, 0xee);
        }
        if fix {
            fix_checksum(&mut bytes);
        }
        bytes
    })
}

/// An IPv4 packet made by smoltcp, without options.
pub fn plain_ipv4(protocol: u8, ident: u16, dont_fragment: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20 + payload.len()];
    let total = bytes.len() as u16;
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    packet.set_version(4);
    packet.set_header_len(20);
    packet.set_total_len(total);
    packet.set_ident(ident);
    packet.clear_flags();
    packet.set_dont_frag(dont_fragment);
    packet.set_hop_limit(64);
    packet.set_next_header(IpProtocol::from(protocol));
    packet.set_src_addr("192.0.2.1".parse().unwrap());
    packet.set_dst_addr("192.0.2.2".parse().unwrap());
    packet.payload_mut().copy_from_slice(payload);
    packet.fill_checksum();
    bytes
}

/// An IPv6 packet made by smoltcp, without extension headers.
pub fn plain_ipv6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40 + payload.len()];
    let mut packet = Ipv6Packet::new_unchecked(&mut bytes[..]);
    packet.set_version(6);
    packet.set_payload_len(payload.len() as u16);
    packet.set_hop_limit(64);
    packet.set_next_header(IpProtocol::from(protocol));
    packet.set_src_addr("2001:db8::1".parse().unwrap());
    packet.set_dst_addr("2001:db8::2".parse().unwrap());
    packet.payload_mut().copy_from_slice(payload);
    bytes
}

/// Any bytes.
pub fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..120)
}

fn ipv4_options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        3 => Just(vec![1]),
        3 => Just(vec![148, 4, 0, 0]),
        2 => Just(vec![7, 7, 4, 0, 0, 0, 0]),
        2 => Just(vec![130, 3, 9]),
        1 => Just(vec![131, 7, 4, 1, 2, 3, 4]),
        1 => Just(vec![0]),
        1 => prop::collection::vec(any::<u8>(), 1..6),
    ];
    prop_oneof![
        Just(vec![]),
        prop::collection::vec(option, 0..5).prop_map(|options| {
            let mut bytes = options.concat();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        })
    ]
}

/// Flags and offset: mostly none.
fn flags() -> impl Strategy<Value = u16> {
    prop_oneof![3 => Just(0), 2 => Just(0x4000), 1 => Just(0x2000), 2 => any::<u16>()]
}
