//! Something for each of the two families that are spoken: IPv4 and IPv6 unicast.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use nearhop_fib::IpPrefix;

use crate::ids::Family;

/// One `T` for each family.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct PerFamily<T> {
    /// IPv4 unicast (AFI 1, SAFI 1).
    pub ipv4: T,
    /// IPv6 unicast (AFI 2, SAFI 1).
    pub ipv6: T,
}

/// A prefix, and which of its neighbour's paths to it is meant.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Nlri {
    /// The prefix.
    pub prefix: IpPrefix,
    /// Path identifier (RFC 7911); 0 where none is exchanged.
    pub path_id: u32,
}

impl<T> PerFamily<T> {
    /// That of `family`.
    pub const fn of(&self, family: Family) -> &T {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// That of `family`, to be changed.
    pub const fn of_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }

    /// What `make` returns for each.
    pub fn with(mut make: impl FnMut(Family) -> T) -> Self {
        Self { ipv4: make(Family::Ipv4), ipv6: make(Family::Ipv6) }
    }
}

impl PerFamily<bool> {
    /// Both.
    pub const BOTH: Self = Self { ipv4: true, ipv6: true };

    /// Neither.
    pub const NONE: Self = Self { ipv4: false, ipv6: false };

    /// Only `family`.
    pub fn only(family: Family) -> Self {
        Self::with(|other| other == family)
    }

    /// Those that are set.
    pub fn set(self) -> impl Iterator<Item = Family> {
        FAMILIES.into_iter().filter(move |family| *self.of(*family))
    }
}

impl Nlri {
    /// A prefix without path identifier.
    pub const fn new(prefix: IpPrefix) -> Self {
        Self { prefix, path_id: 0 }
    }

    /// The prefix's family.
    pub const fn family(self) -> Family {
        match self.prefix {
            IpPrefix::V4(_) => Family::Ipv4,
            IpPrefix::V6(_) => Family::Ipv6,
        }
    }

    /// Octets on the wire.
    pub fn wire_len(self, with_path_id: bool) -> usize {
        1 + usize::from(self.prefix.len()).div_ceil(8) + if with_path_id { 4 } else { 0 }
    }

    /// Appends it as it goes over the wire.
    pub fn put(self, with_path_id: bool, out: &mut Vec<u8>) {
        if with_path_id {
            out.extend_from_slice(&self.path_id.to_be_bytes());
        }
        let len = self.prefix.len();
        out.push(len);
        let octets = usize::from(len).div_ceil(8);
        match self.prefix.addr() {
            IpAddr::V4(addr) => out.extend_from_slice(&addr.octets()[..octets]),
            IpAddr::V6(addr) => out.extend_from_slice(&addr.octets()[..octets]),
        }
    }
}

/// Address family identifier (RFC 4760).
pub const fn afi_of(family: Family) -> u16 {
    match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    }
}

/// The family that both numbers stand for, if it is spoken here.
pub const fn family_of(afi: u16, safi: u8) -> Option<Family> {
    match (afi, safi) {
        (1, SAFI_UNICAST) => Some(Family::Ipv4),
        (2, SAFI_UNICAST) => Some(Family::Ipv6),
        _ => None,
    }
}

/// Both, in the order in which they are sent.
pub const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Subsequent address family identifier.
pub const SAFI_UNICAST: u8 = 1;
