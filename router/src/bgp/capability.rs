//! What speakers can do, as they say in their OPENs (RFC 5492).
#![forbid(unsafe_code)]

use std::fmt;

use super::family::{SAFI_UNICAST, afi_of, family_of};
use crate::ids::Family;

/// What a speaker can do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Capability {
    /// More than one path to a prefix (RFC 7911).
    AddPath(Vec<(Family, AddPath)>),
    /// BoRR and EoRR around a refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// Messages of up to 65,535 octets (RFC 8654).
    ExtendedMessage,
    /// IPv4 prefixes with IPv6 next hops (RFC 8950).
    ExtendedNextHop,
    /// AS numbers of four octets (RFC 6793), and the speaker's own.
    FourOctetAs(u32),
    /// Graceful restart (RFC 4724). Here it says only that End-of-RIB will be sent.
    GracefulRestart {
        /// Seconds that the sender needs to restart.
        restart_time_s: u16,
        /// The sender has just restarted.
        restarting: bool,
    },
    /// Next hops that have a link-local address only (draft-ietf-idr-linklocal-capability).
    LinkLocalNextHop,
    /// A family (RFC 4760).
    Multiprotocol(Family),
    /// Anything else, or with a value that makes no sense.
    Other {
        /// Code.
        code: u8,
        /// Value.
        value: Vec<u8>,
    },
    /// What the speaker is to its neighbour (RFC 9234).
    Role(Role),
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
}

/// Which directions several paths to a prefix may go, from one speaker's point of view.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct AddPath {
    /// It sends them.
    pub send: bool,
    /// It takes them.
    pub receive: bool,
}

/// What a speaker is to its neighbour (RFC 9234, section 3).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// It sells transit to the neighbour.
    Provider,
    /// It is a route server, the neighbour a client of it.
    RouteServer,
    /// It is a client of the neighbour, which is a route server.
    RouteServerClient,
    /// It buys transit from the neighbour.
    Customer,
    /// Both exchange their customers' routes.
    Peer,
}

impl Capability {
    /// What a capability with this code and value says.
    pub fn of(code: u8, value: &[u8]) -> Self {
        let known = match (code, value) {
            (1, &[high, low, _, safi]) => {
                family_of(u16::from_be_bytes([high, low]), safi).map(Self::Multiprotocol)
            }
            (2, []) => Some(Self::RouteRefresh),
            (5, tuples) => ExtendedNextHop::is_in(tuples).then_some(Self::ExtendedNextHop),
            (6, []) => Some(Self::ExtendedMessage),
            (9, &[value]) => Role::of(value).map(Self::Role),
            (64, &[high, low, ..]) => Some(Self::GracefulRestart {
                restart_time_s: u16::from_be_bytes([high & 0x0f, low]),
                restarting: high & 0x80 != 0,
            }),
            (65, &[a, b, c, d]) => Some(Self::FourOctetAs(u32::from_be_bytes([a, b, c, d]))),
            (69, tuples) => AddPath::read(tuples).map(Self::AddPath),
            (70, []) => Some(Self::EnhancedRouteRefresh),
            (77, []) => Some(Self::LinkLocalNextHop),
            _ => None,
        };
        known.unwrap_or_else(|| Self::Other { code, value: value.to_vec() })
    }

    /// Value on the wire, at most 255 octets.
    pub fn value(&self) -> Vec<u8> {
        match self {
            Self::AddPath(families) => families.iter().copied().flat_map(AddPath::tuple).collect(),
            Self::EnhancedRouteRefresh
            | Self::ExtendedMessage
            | Self::LinkLocalNextHop
            | Self::RouteRefresh => Vec::new(),
            Self::ExtendedNextHop => ExtendedNextHop::IPV4_OVER_IPV6.to_vec(),
            Self::FourOctetAs(asn) => asn.to_be_bytes().to_vec(),
            Self::GracefulRestart { restart_time_s, restarting } => {
                let flag = if *restarting { 0x8000 } else { 0 };
                (flag | restart_time_s & 0x0fff).to_be_bytes().to_vec()
            }
            Self::Multiprotocol(family) => {
                let [high, low] = afi_of(*family).to_be_bytes();
                vec![high, low, 0, SAFI_UNICAST]
            }
            Self::Other { value, .. } => value.clone(),
            Self::Role(role) => vec![role.value()],
        }
    }

    /// Code of the registry.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol(_) => 1,
            Self::RouteRefresh => 2,
            Self::ExtendedNextHop => 5,
            Self::ExtendedMessage => 6,
            Self::Role(_) => 9,
            Self::GracefulRestart { .. } => 64,
            Self::FourOctetAs(_) => 65,
            Self::AddPath(_) => 69,
            Self::EnhancedRouteRefresh => 70,
            Self::LinkLocalNextHop => 77,
            Self::Other { code, .. } => *code,
        }
    }
}

impl AddPath {
    /// Tuples of families that are spoken here, the others left out (RFC 7911, section 4); `None` if
    /// there is none. A direction that is none leaves its tuple out.
    fn read(value: &[u8]) -> Option<Vec<(Family, Self)>> {
        let (tuples, []) = value.as_chunks::<4>() else { return None };
        let known = |&[high, low, safi, mode]: &[u8; 4]| {
            let family = family_of(u16::from_be_bytes([high, low]), safi)?;
            let add_path = Self { receive: mode & 1 != 0, send: mode & 2 != 0 };
            (1..=3).contains(&mode).then_some((family, add_path))
        };
        let known: Vec<_> = tuples.iter().filter_map(known).collect();
        (!known.is_empty()).then_some(known)
    }

    fn tuple((family, add_path): (Family, Self)) -> [u8; 4] {
        let [high, low] = afi_of(family).to_be_bytes();
        [high, low, SAFI_UNICAST, u8::from(add_path.receive) | u8::from(add_path.send) << 1]
    }
}

/// Value of the capability of RFC 8950: tuples of three numbers of two octets.
struct ExtendedNextHop;

impl ExtendedNextHop {
    /// AFI and SAFI of the prefixes, AFI of the next hop.
    const IPV4_OVER_IPV6: [u8; 6] = [0, 1, 0, SAFI_UNICAST, 0, 2];

    fn is_in(value: &[u8]) -> bool {
        let (tuples, rest) = value.as_chunks::<6>();
        rest.is_empty() && tuples.contains(&Self::IPV4_OVER_IPV6)
    }
}

impl Role {
    /// The role with this value.
    pub const fn of(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Provider),
            1 => Some(Self::RouteServer),
            2 => Some(Self::RouteServerClient),
            3 => Some(Self::Customer),
            4 => Some(Self::Peer),
            _ => None,
        }
    }

    /// Value on the wire.
    pub const fn value(self) -> u8 {
        match self {
            Self::Provider => 0,
            Self::RouteServer => 1,
            Self::RouteServerClient => 2,
            Self::Customer => 3,
            Self::Peer => 4,
        }
    }

    /// The only one that the neighbour of one with this role can have (RFC 9234, section 4.2).
    #[must_use]
    pub const fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Customer => Self::Provider,
            Self::Peer => Self::Peer,
        }
    }

    /// Kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::RouteServer => "route-server",
            Self::RouteServerClient => "route-server-client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_reads_back_as_itself() {
        let add_path = vec![
            (Family::Ipv4, AddPath { send: true, receive: false }),
            (Family::Ipv6, AddPath { send: true, receive: true }),
        ];
        let all = [
            Capability::AddPath(add_path),
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedMessage,
            Capability::ExtendedNextHop,
            Capability::FourOctetAs(4_200_000_000),
            Capability::GracefulRestart { restart_time_s: 120, restarting: true },
            Capability::LinkLocalNextHop,
            Capability::Multiprotocol(Family::Ipv6),
            Capability::Other { code: 75, value: vec![1, 2] },
            Capability::Role(Role::RouteServerClient),
            Capability::RouteRefresh,
        ];
        for capability in all {
            assert_eq!(Capability::of(capability.code(), &capability.value()), capability);
        }
    }

    #[test]
    fn values_that_make_no_sense_are_kept_as_they_came() {
        let cases: [(u8, &[u8]); 10] = [
            (1, &[0, 1, 0]),
            (1, &[0, 1, 0, 128]),
            (2, &[1]),
            (5, &[0, 1, 0, 1, 0, 1]),
            (9, &[5]),
            (9, &[]),
            (65, &[0, 1]),
            (69, &[]),
            (69, &[0, 1, 1]),
            (69, &[0, 1, 128, 3]),
        ];
        for (code, value) in cases {
            let other = Capability::Other { code, value: value.to_vec() };
            assert_eq!(Capability::of(code, value), other);
        }
    }

    #[test]
    fn families_not_spoken_here_hide_none_that_are() {
        let add_path = [0, 1, 128, 3, 0, 2, 1, 1, 0, 1, 1, 7];
        let receive = AddPath { send: false, receive: true };
        assert_eq!(
            Capability::of(69, &add_path),
            Capability::AddPath(vec![(Family::Ipv6, receive)])
        );
        let next_hop = [0, 1, 0, 128, 0, 2, 0, 1, 0, 1, 0, 2];
        assert_eq!(Capability::of(5, &next_hop), Capability::ExtendedNextHop);
    }

    #[test]
    fn roles_go_together_in_pairs() {
        for value in 0..=4 {
            let role = Role::of(value).unwrap();
            assert_eq!((role.value(), role.counterpart().counterpart()), (value, role));
        }
        assert_eq!(Role::Provider.counterpart(), Role::Customer);
        assert_eq!(Role::RouteServer.counterpart(), Role::RouteServerClient);
        assert_eq!(Role::Peer.counterpart(), Role::Peer);
    }
}
