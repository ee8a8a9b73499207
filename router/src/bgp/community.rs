//! Communities: marks that routes bear, of three sizes.
#![forbid(unsafe_code)]

use std::fmt;

/// RFC 1997.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Community(pub u32);

impl Community {
    /// Not to be sent out of this AS (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// Not to be sent to anybody (RFC 1997).
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// Not to be sent out of this AS, members of a confederation included (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// About to be withdrawn: whoever has another path should take it now (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// Packets to the prefix are to be discarded (RFC 7999).
    pub const BLACKHOLE: Self = Self(0xffff_029a);

    /// `high:low`.
    pub const fn new(high: u16, low: u16) -> Self {
        Self((high as u32) << 16 | low as u32)
    }

    /// Both halves.
    pub const fn halves(self) -> (u16, u16) {
        ((self.0 >> 16) as u16, self.0 as u16)
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NO_EXPORT => f.write_str("no-export"),
            Self::NO_ADVERTISE => f.write_str("no-advertise"),
            Self::NO_EXPORT_SUBCONFED => f.write_str("no-export-subconfed"),
            Self::GRACEFUL_SHUTDOWN => f.write_str("graceful-shutdown"),
            Self::BLACKHOLE => f.write_str("blackhole"),
            _ => {
                let (high, low) = self.halves();
                write!(f, "{high}:{low}")
            }
        }
    }
}

/// RFC 4360: eight octets, of which the first one or two are the type.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ExtendedCommunity(pub u64);

impl ExtendedCommunity {
    /// The bandwidth of a way out of an AS, in octets a second (draft-ietf-idr-link-bandwidth).
    /// It stays within the AS it is sent to.
    pub fn link_bandwidth(asn: u16, octets_per_second: f32) -> Self {
        let header = u64::from(NON_TRANSITIVE_TWO_OCTET) << 56 | u64::from(LINK_BANDWIDTH) << 48;
        Self(header | u64::from(asn) << 32 | u64::from(octets_per_second.to_bits()))
    }

    /// The same in a form that goes on to other ASes, as later versions of the draft have it.
    pub fn transitive_link_bandwidth(asn: u16, octets_per_second: f32) -> Self {
        let non_transitive = u64::from(NON_TRANSITIVE) << 56;
        Self(Self::link_bandwidth(asn, octets_per_second).0 & !non_transitive)
    }

    /// AS and octets a second, if it is a bandwidth; also the transitive form that some send.
    pub fn as_link_bandwidth(self) -> Option<(u16, f32)> {
        let [kind, sub, high, low, ..] = self.0.to_be_bytes();
        let bandwidth = f32::from_bits(self.0 as u32);
        let is_one = kind & !NON_TRANSITIVE == 0 && sub == LINK_BANDWIDTH;
        // A float may be anything; only these are amounts.
        (is_one && bandwidth.is_finite() && bandwidth >= 0.0)
            .then_some((u16::from_be_bytes([high, low]), bandwidth))
    }

    /// Whether it goes on to other ASes.
    pub const fn is_transitive(self) -> bool {
        self.0.to_be_bytes()[0] & NON_TRANSITIVE == 0
    }
}

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((asn, bandwidth)) = self.as_link_bandwidth() {
            return write!(f, "link-bandwidth:{asn}:{bandwidth}");
        }
        let [kind, sub, value @ ..] = self.0.to_be_bytes();
        let name = match sub {
            2 => "target",
            3 => "origin",
            _ => return write!(f, "{:#018x}", self.0),
        };
        // Two octets and four, or four and two.
        let (high, low) = ((self.0 >> 32) as u16, self.0 as u32);
        let (first, last) = ((self.0 >> 16) as u32, self.0 as u16);
        match (kind, value) {
            (0, _) => write!(f, "{name}:{high}:{low}"),
            (1, [one, two, three, four, ..]) => {
                write!(f, "{name}:{one}.{two}.{three}.{four}:{last}")
            }
            (2, _) => write!(f, "{name}:{first}L:{last}"),
            _ => write!(f, "{:#018x}", self.0),
        }
    }
}

/// RFC 8092.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LargeCommunity {
    /// The AS whose meaning it has.
    pub global: u32,
    /// What that AS says it means.
    pub local: [u32; 2],
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local[0], self.local[1])
    }
}

/// Bit of the type.
const NON_TRANSITIVE: u8 = 0x40;

const NON_TRANSITIVE_TWO_OCTET: u8 = 0x40;

/// Subtype.
const LINK_BANDWIDTH: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_written_as_other_routers_write_it() {
        let cases = [
            (Community::new(65_001, 7).to_string(), "65001:7"),
            (Community::new(0xffff, 0x029a).to_string(), "blackhole"),
            (ExtendedCommunity(0x0002_0048_0000_0001).to_string(), "target:72:1"),
            (ExtendedCommunity(0x0103_0a00_0001_0007).to_string(), "origin:10.0.0.1:7"),
            (ExtendedCommunity(0x0202_0001_0000_0007).to_string(), "target:65536L:7"),
            (ExtendedCommunity(0x030c_0000_0000_0008).to_string(), "0x030c000000000008"),
            (LargeCommunity { global: 1, local: [2, 3] }.to_string(), "1:2:3"),
        ];
        for (written, expected) in cases {
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn bandwidth_is_read_back_and_nonsense_is_none() {
        let community = ExtendedCommunity::link_bandwidth(65_001, 1.25e9);
        assert_eq!(community.0.to_be_bytes(), [0x40, 4, 0xfd, 0xe9, 0x4e, 0x95, 0x02, 0xf9]);
        assert_eq!(community.as_link_bandwidth(), Some((65_001, 1.25e9)));
        assert!(!community.is_transitive());
        let transitive = ExtendedCommunity::transitive_link_bandwidth(65_001, 1.25e9);
        assert_eq!(transitive.0.to_be_bytes()[0], 0);
        assert!(transitive.is_transitive());
        assert_eq!(transitive.as_link_bandwidth(), Some((65_001, 1.25e9)));
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            assert_eq!(ExtendedCommunity::link_bandwidth(1, bad).as_link_bandwidth(), None);
        }
        assert_eq!(ExtendedCommunity(0x0002_0048_0000_0001).as_link_bandwidth(), None);
    }
}
