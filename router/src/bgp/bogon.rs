//! Routes that nobody should announce: martians, and bogons between ASes.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use nearhop_fib::IpPrefix;

use super::prefix_list::{PrefixEntry, PrefixList, bits};
use super::{Attributes, Community};

/// A route that may not be announced: martians by nobody, the others by no external neighbour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bogon {
    /// This AS is in its path, and is nobody's in public (RFC 5398, RFC 6996).
    As(u32),
    /// This AS is in its path, and is nobody's anywhere (RFC 7607, RFC 6793, RFC 7300).
    MartianAs(u32),
    /// Its prefix is in a block that is never forwarded between networks, or covers multicast.
    MartianPrefix,
    /// Its prefix is for special use, or within one that is (RFC 6890).
    Prefix,
    /// Its prefix is longer than what is exchanged between ASes: /24 or /48.
    TooLong,
}

impl Bogon {
    /// What no neighbour may announce, whatever is configured. The prefix of all addresses is none.
    pub fn martian(prefix: IpPrefix, attributes: &Attributes) -> Option<Self> {
        if is_martian_prefix(prefix) {
            return Some(Self::MartianPrefix);
        }
        let mut ases = attributes.as_path.ases();
        ases.find(|asn| matches!(*asn, 0 | 23_456 | 65_535 | u32::MAX)).map(Self::MartianAs)
    }

    /// What no external neighbour should announce in public, martians apart. A prefix of one address to be
    /// discarded (RFC 7999) may be long; the prefix of all addresses is none, since a provider may be asked
    /// for it.
    pub fn of(prefix: IpPrefix, attributes: &Attributes) -> Option<Self> {
        if prefix.len() > 0 && may_be_special(prefix) && BOGON_PREFIXES.contains(prefix) {
            return Some(Self::Prefix);
        }
        let longest = if bits(prefix) == 32 { 24 } else { 48 };
        if prefix.len() > longest && !attributes.has_community(Community::BLACKHOLE) {
            return Some(Self::TooLong);
        }
        attributes.as_path.ases().find(|asn| !is_public_as(*asn)).map(Self::As)
    }

    /// Kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::As(_) => "bogon-as",
            Self::MartianAs(_) => "martian-as",
            Self::MartianPrefix => "martian-prefix",
            Self::Prefix => "bogon-prefix",
            Self::TooLong => "too-long",
        }
    }
}

impl fmt::Display for Bogon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As(asn) => write!(f, "AS {asn} in its path is private, or for documentation"),
            Self::MartianAs(asn) => write!(f, "AS {asn} in its path is nobody's"),
            Self::MartianPrefix => f.write_str("nobody may announce this prefix (RFC 6890)"),
            Self::Prefix => f.write_str("its addresses are for special use (RFC 6890)"),
            Self::TooLong => f.write_str("its prefix is longer than what ASes exchange"),
        }
    }
}

/// Whether an AS number is one that the public internet has: neither private nor reserved, nor for
/// documentation.
pub const fn is_public_as(asn: u32) -> bool {
    !matches!(asn, 0 | 23_456 | 64_496..=65_551 | 4_200_000_000..=u32::MAX)
}

fn is_martian_prefix(prefix: IpPrefix) -> bool {
    let len = prefix.len();
    match prefix.addr() {
        IpAddr::V4(addr) => {
            let [a, b, ..] = addr.octets();
            len > 0
                && (len >= 8 && (a == 0 || a == 127)
                    || a >= 224
                    || len >= 16 && (a, b) == (169, 254))
        }
        IpAddr::V6(addr) => {
            let segments = addr.segments();
            let first = segments[0];
            // Unspecified, loopback, and IPv4 in IPv6, mapped or compatible.
            let is_low = len >= 96 && segments[..5] == [0; 5] && matches!(segments[5], 0 | 0xffff);
            is_low || len >= 10 && first & 0xffc0 == 0xfe80 || len >= 8 && first & 0xff00 == 0xff00
        }
    }
}

/// Whether a prefix may be within a block for special use: most are not, and need no search. No such block is
/// shorter than 8 bits but those of whole first octets, or of all but 2000::/3.
fn may_be_special(prefix: IpPrefix) -> bool {
    match prefix.addr() {
        IpAddr::V4(addr) => {
            matches!(addr.octets()[0], 0 | 10 | 100 | 127 | 169 | 172 | 192 | 198 | 203 | 224..)
        }
        IpAddr::V6(addr) => {
            let first = addr.segments()[0];
            first >> 13 != 1 || matches!(first, 0x2001 | 0x2002 | 0x3ffe | 0x3fff)
        }
    }
}

static BOGON_PREFIXES: LazyLock<PrefixList> = LazyLock::new(|| {
    let ipv4 = SPECIAL_IPV4.iter().map(|(addr, len)| (IpAddr::V4(Ipv4Addr::from(*addr)), *len));
    let ipv6 = SPECIAL_IPV6.iter().map(|(addr, len)| (IpAddr::V6(Ipv6Addr::from(*addr)), *len));
    let entries = ipv4.chain(ipv6).filter_map(|(addr, len)| IpPrefix::around(addr, len));
    PrefixList::new(entries.map(PrefixEntry::or_longer))
});

/// Not globally reachable (registry "IANA IPv4 Special-Purpose Address"), and multicast.
const SPECIAL_IPV4: [([u8; 4], u8); 13] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 2, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Not globally reachable (registry "IANA IPv6 Special-Purpose Address"), multicast, and what is not
/// given out at all: everything but 2000::/3.
const SPECIAL_IPV6: [([u16; 8], u8); 9] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 3),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48),
    ([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
    ([0x4000, 0, 0, 0, 0, 0, 0, 0], 2),
    ([0x8000, 0, 0, 0, 0, 0, 0, 0], 1),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::{AsPath, NextHop};

    fn prefix(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }

    /// What is passed over without a search is in no block.
    #[test]
    fn every_prefix_in_a_block_for_special_use_is_looked_for() {
        let blocks_v4 = SPECIAL_IPV4.iter().map(|(addr, len)| (IpAddr::from(*addr), *len));
        let blocks_v6 = SPECIAL_IPV6.iter().map(|(addr, len)| (IpAddr::from(*addr), *len));
        let mut rng = crate::random::Rng::new(3);
        for (addr, len) in blocks_v4.chain(blocks_v6) {
            for _ in 0..1000 {
                let host = u128::from(rng.below(u64::MAX)) << 64 | u128::from(rng.below(u64::MAX));
                let (inside, longest) = match addr {
                    IpAddr::V4(addr) => {
                        let host = host as u32 & u32::MAX.checked_shr(len.into()).unwrap_or(0);
                        (IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() | host)), 32)
                    }
                    IpAddr::V6(addr) => {
                        let host = host & u128::MAX.checked_shr(len.into()).unwrap_or(0);
                        (IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() | host)), 128)
                    }
                };
                let len = len + rng.below(u64::from(longest - len) + 1) as u8;
                let prefix = IpPrefix::around(inside, len).unwrap();
                assert!(BOGON_PREFIXES.contains(prefix) && may_be_special(prefix), "{prefix}");
            }
        }
        assert!(!may_be_special(prefix("8.8.8.0/24")) && !may_be_special(prefix("2a00::/16")));
    }

    fn route(path: &[u32]) -> Attributes {
        let next_hop = NextHop::new(Ipv4Addr::new(192, 0, 2, 1).into());
        Attributes { as_path: AsPath::sequence(path), ..Attributes::originated(next_hop) }
    }

    #[test]
    fn bogons_are_what_no_external_neighbour_should_announce() {
        let good = route(&[1, 2, 3]);
        for (text, expected) in [
            ("8.8.8.0/24", None),
            ("1.0.0.0/8", None),
            ("2606:4700::/32", None),
            ("0.0.0.0/0", None),
            ("::/0", None),
            ("10.1.0.0/16", Some(Bogon::Prefix)),
            ("192.168.0.0/16", Some(Bogon::Prefix)),
            ("224.0.0.0/8", Some(Bogon::Prefix)),
            ("255.255.255.0/24", Some(Bogon::Prefix)),
            ("2001:db8:1::/48", Some(Bogon::Prefix)),
            ("fe80::/10", Some(Bogon::Prefix)),
            ("fc00::/7", Some(Bogon::Prefix)),
            ("64:ff9b::/96", Some(Bogon::Prefix)),
            ("8.8.8.0/25", Some(Bogon::TooLong)),
            ("2606:4700::/49", Some(Bogon::TooLong)),
        ] {
            assert_eq!(Bogon::of(prefix(text), &good), expected, "{text}");
        }
        let black = Attributes { communities: [Community::BLACKHOLE].into(), ..route(&[1, 2, 3]) };
        assert_eq!(Bogon::of(prefix("8.8.8.8/32"), &black), None, "RFC 7999");
        for asn in [64_496, 64_512, 65_551, 4_200_000_000] {
            let route = route(&[1, asn]);
            assert_eq!(Bogon::of(prefix("8.8.8.0/24"), &route), Some(Bogon::As(asn)));
        }
        for asn in [1, 64_495, 65_552, 4_199_999_999] {
            let route = route(&[asn]);
            assert_eq!(Bogon::of(prefix("8.8.8.0/24"), &route), None, "{asn}");
        }
    }

    #[test]
    fn martians_are_what_nobody_may_announce() {
        for (text, expected) in [
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("0.0.0.0/8", true),
            ("127.0.0.0/8", true),
            ("169.254.0.0/16", true),
            ("224.0.0.0/4", true),
            ("192.0.0.0/2", false),
            ("224.0.0.0/3", true),
            ("255.255.255.255/32", true),
            ("10.0.0.0/8", false),
            ("::1/128", true),
            ("::ffff:0:0/96", true),
            ("fe80::/10", true),
            ("ff00::/8", true),
            ("2001:db8::/32", false),
            ("64:ff9b::/96", false),
        ] {
            let found = Bogon::martian(prefix(text), &route(&[1]));
            assert_eq!(found, expected.then_some(Bogon::MartianPrefix), "{text}");
        }
        for asn in [0, 23_456, 65_535, u32::MAX] {
            let found = Bogon::martian(prefix("10.0.0.0/8"), &route(&[1, asn]));
            assert_eq!(found, Some(Bogon::MartianAs(asn)));
            assert!(!is_public_as(asn));
        }
        assert_eq!(Bogon::martian(prefix("10.0.0.0/8"), &route(&[65_001])), None);
    }
}
