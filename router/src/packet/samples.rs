//! Packets for unit tests, encoded by hand so that they share no code with what they test.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub const SERVICE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
pub const SERVICE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x53, 0, 0, 0, 0, 0x53);
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// A packet of either family between two addresses, with a TTL of 64 and no options or flags.
pub fn packet(
    src: impl Into<IpAddr>,
    dst: impl Into<IpAddr>,
    protocol: u8,
    upper: &[u8],
) -> Vec<u8> {
    match (src.into(), dst.into()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total = (20 + upper.len()) as u16;
            let mut bytes = vec![0x45, 0];
            bytes.extend(total.to_be_bytes());
            bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend(upper);
            fix_checksum(&mut bytes);
            bytes
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend((upper.len() as u16).to_be_bytes());
            bytes.extend([protocol, 64]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend(upper);
            bytes
        }
        _ => panic!("two families"),
    }
}

/// `packet` with these IPv4 flags and offset, or with an IPv6 fragment header before its upper
/// layer. `offset` counts units of 8 bytes.
pub fn fragment(packet: &[u8], offset: u16, more: bool) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    if bytes[0] >> 4 == 4 {
        let flags = offset | if more { 0x2000 } else { 0 };
        bytes[6..8].copy_from_slice(&flags.to_be_bytes());
        fix_checksum(&mut bytes);
        return bytes;
    }
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    let header = [bytes[6], 0, high, low, 0, 0, 0, 1];
    bytes[6] = 44;
    bytes[5] += 8;
    bytes.splice(40..40, header);
    bytes
}

/// `packet` with `options`, the length of which is a multiple of 4.
pub fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    bytes.splice(20..20, options.iter().copied());
    bytes[0] += (options.len() / 4) as u8;
    let total = (bytes.len() as u16).to_be_bytes();
    bytes[2..4].copy_from_slice(&total);
    fix_checksum(&mut bytes);
    bytes
}

/// Writes the checksum of an IPv4 header.
pub fn fix_checksum(bytes: &mut [u8]) {
    let len = usize::from(bytes[0] & 0xf) * 4;
    bytes[10..12].fill(0);
    let sum: u32 = bytes[..len].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Ports and four more bytes.
pub fn ports(src: u16, dst: u16) -> Vec<u8> {
    [src.to_be_bytes(), dst.to_be_bytes(), [0, 8], [0, 0]].concat()
}

/// An ICMP or ICMPv6 message with a checksum of zero: type, code, the next four bytes, data.
pub fn icmp(kind: u8, code: u8, word: u32, data: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0], &word.to_be_bytes(), data].concat()
}
