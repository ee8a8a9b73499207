//! Addresses that are never forwarded, as source or as destination.
//!
//! The caller checks for directed broadcasts, which depend on the ports' networks.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::Martians;
use crate::verdict::Verdict;

/// The verdict that drops packets from `address`; `None` if they may be forwarded.
///
/// Link-local sources are never forwarded (RFC 3927 section 7, RFC 4291 section 2.5.6), whatever
/// `martians` is.
#[inline]
pub fn source_verdict(address: IpAddr, martians: Martians) -> Option<Verdict> {
    match class(address, martians)? {
        AddressClass::LinkLocal => Some(Verdict::LinkLocal),
        AddressClass::Martian | AddressClass::Multicast | AddressClass::Broadcast => {
            (martians != Martians::Off).then_some(Verdict::MartianSource)
        }
    }
}

/// The verdict that drops packets to `address`; `None` if they may be forwarded.
///
/// Link-local, multicast and limited broadcast destinations are never forwarded, whatever
/// `martians` is.
#[inline]
pub fn destination_verdict(address: IpAddr, martians: Martians) -> Option<Verdict> {
    match class(address, martians)? {
        AddressClass::LinkLocal => Some(Verdict::LinkLocal),
        AddressClass::Multicast => Some(Verdict::Multicast),
        AddressClass::Broadcast => Some(Verdict::Broadcast),
        AddressClass::Martian => (martians != Martians::Off).then_some(Verdict::MartianDestination),
    }
}

/// A quick test that accepts most addresses: if `true`, [`source_verdict`] and
/// [`destination_verdict`] return `None` unless `martians` is strict. If `false`, they may still
/// return `None`.
#[inline]
pub fn is_ordinary(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            (1..224).contains(&first) && first != 127 && first != 169
        }
        // Global unicast (RFC 4291 section 2.4): the block that is currently allocated from.
        IpAddr::V6(address) => address.octets()[0] >> 5 == 1,
    }
}

/// Whether an address is link-local: 169.254/16 or fe80::/10.
#[inline]
pub const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The special range an address belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AddressClass {
    LinkLocal,
    Multicast,
    Broadcast,
    Martian,
}

#[inline]
fn class(address: IpAddr, martians: Martians) -> Option<AddressClass> {
    let found = match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    };
    if found.is_none() && martians == Martians::Strict && is_strict(address) {
        return Some(AddressClass::Martian);
    }
    found
}

#[inline]
fn class_v4(address: Ipv4Addr) -> Option<AddressClass> {
    match address.octets() {
        [224..=239, ..] => Some(AddressClass::Multicast),
        [255, 255, 255, 255] => Some(AddressClass::Broadcast),
        [0 | 127 | 240..=255, ..] => Some(AddressClass::Martian),
        [169, 254, ..] => Some(AddressClass::LinkLocal),
        _ => None,
    }
}

#[inline]
fn class_v6(address: Ipv6Addr) -> Option<AddressClass> {
    match address.octets()[0] {
        0xff => Some(AddressClass::Multicast),
        0xfe if address.is_unicast_link_local() => Some(AddressClass::LinkLocal),
        0 if is_v6_martian(address.to_bits()) => Some(AddressClass::Martian),
        _ => None,
    }
}

/// `::`, `::1` and `::ffff:0:0/96`.
const fn is_v6_martian(bits: u128) -> bool {
    bits <= 1 || bits >> 32 == 0xffff
}

/// Blocks for documentation, benchmarks and private networks (RFC 6890 and its registry).
#[cold]
fn is_strict(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            STRICT_V4.iter().any(|(net, len)| bits >> (32 - len) == net.to_bits() >> (32 - len))
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            STRICT_V6.iter().any(|(net, len)| bits >> (128 - len) == net.to_bits() >> (128 - len))
        }
    }
}

const STRICT_V4: [(Ipv4Addr, u8); 8] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // RFC 6598, shared by carriers
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // RFC 1918
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // RFC 5737
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // RFC 1918
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // RFC 2544, benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // RFC 5737
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // RFC 5737
];

const STRICT_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48), // RFC 5180, benchmarks
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // RFC 3849
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // RFC 9637
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),  // RFC 4193
];

#[cfg(test)]
mod tests {
    use nearhop_fib::IpPrefix;

    use super::*;
    use Martians::{Default, Off, Strict};

    #[test]
    fn first_last_and_neighbours_of_every_block() {
        use Verdict::{Broadcast, LinkLocal, MartianDestination as To, MartianSource as From};
        let blocks = [
            ("0.0.0.0/8", Default, From, To),
            ("127.0.0.0/8", Default, From, To),
            ("169.254.0.0/16", Off, LinkLocal, LinkLocal),
            ("224.0.0.0/4", Default, From, Verdict::Multicast),
            ("240.0.0.0/5", Default, From, To),
            ("255.255.255.255/32", Default, From, Broadcast),
            ("::/128", Default, From, To),
            ("::1/128", Default, From, To),
            ("::ffff:0:0/96", Default, From, To),
            ("fe80::/10", Off, LinkLocal, LinkLocal),
            ("ff00::/8", Default, From, Verdict::Multicast),
            ("10.0.0.0/8", Strict, From, To),
            ("100.64.0.0/10", Strict, From, To),
            ("172.16.0.0/12", Strict, From, To),
            ("192.0.2.0/24", Strict, From, To),
            ("192.168.0.0/16", Strict, From, To),
            ("198.18.0.0/15", Strict, From, To),
            ("198.51.100.0/24", Strict, From, To),
            ("203.0.113.0/24", Strict, From, To),
            ("2001:2::/48", Strict, From, To),
            ("2001:db8::/32", Strict, From, To),
            ("3fff::/20", Strict, From, To),
            ("fc00::/7", Strict, From, To),
        ];
        for (block, from, source, destination) in blocks {
            let (first, last) = ends(block);
            for address in [first, last] {
                for level in [Off, Default, Strict] {
                    let listed = rank(level) >= rank(from);
                    let want = listed.then_some(source);
                    assert_eq!(source_verdict(address, level), want, "{address} {level:?}");
                    let always = matches!(destination, Verdict::Multicast | Broadcast);
                    let want = (listed || always).then_some(destination);
                    assert_eq!(destination_verdict(address, level), want, "{address} {level:?}");
                }
            }
        }
    }

    #[test]
    fn ordinary_addresses_pass() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::2",
            "::fffe:ffff:ffff",
            "::1:0:0:0",
            "64:ff9b::1",
            "2001:1:ffff::",
            "2001:db7::1",
            "3fff:1000::",
            "fbff::1",
            "fe00::1",
            "fec0::1",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(source_verdict(address, Strict), None, "{address}");
            assert_eq!(destination_verdict(address, Strict), None, "{address}");
        }
    }

    #[test]
    fn an_ordinary_address_is_in_no_block_but_strict_ones() {
        let v4 =
            (0..=u16::MAX).map(|high| Ipv4Addr::new((high >> 8) as u8, high as u8, 1, 1).into());
        let v6 = (0..=u16::MAX).map(|high| Ipv6Addr::new(high, 0, 0, 0, 0, 0, 0, 1).into());
        let addresses: Vec<IpAddr> = v4.chain(v6).collect();
        let ordinary = addresses.iter().filter(|address| is_ordinary(**address));
        let ordinary: Vec<&IpAddr> = ordinary.collect();
        for address in &ordinary {
            assert_eq!(source_verdict(**address, Default), None, "{address}");
            assert_eq!(destination_verdict(**address, Default), None, "{address}");
        }
        assert_eq!(ordinary.len(), 221 * 256 + 0x2000);
    }

    fn rank(level: Martians) -> u8 {
        match level {
            Off => 0,
            Default => 1,
            Strict => 2,
        }
    }

    fn ends(block: &str) -> (IpAddr, IpAddr) {
        match block.parse().unwrap() {
            IpPrefix::V4(prefix) => (prefix.addr().into(), prefix.last().into()),
            IpPrefix::V6(prefix) => (prefix.addr().into(), prefix.last().into()),
        }
    }
}
