//! Routes that may not be used, or not be sent on, whatever the policy.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::Ipv4Addr;

use super::{Attributes, Role};

/// What a router knows of itself to notice its own routes when they come back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoopRules {
    /// Our AS.
    pub local_as: u32,
    /// How often our AS may be in a path (`allow-own-as`): several sites may share an AS. Usually 0.
    pub own_as_max: u8,
    /// Our BGP identifier, with which reflectors mark our routes (RFC 4456, section 8).
    pub router_id: Ipv4Addr,
    /// Our own cluster, if we are a reflector.
    pub cluster_id: Option<Ipv4Addr>,
}

/// Why a received route may not be used. It is kept and shown.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// It passed our cluster of reflectors (RFC 4456).
    ClusterLoop,
    /// It is our own, and came back by a reflector (RFC 4456).
    OriginatorLoop,
    /// Our AS is in its path more often than allowed (RFC 4271, section 9.1.2).
    OwnAs {
        /// How often.
        count: usize,
    },
    /// The neighbour should not have sent it on (RFC 9234, section 5).
    RouteLeak {
        /// The AS that said "only to customers".
        marked_by: u32,
    },
}

impl LoopRules {
    /// Why the route may not be used, if so.
    pub fn refusal(&self, attributes: &Attributes) -> Option<Refusal> {
        let count = attributes.as_path.count(self.local_as);
        if count > usize::from(self.own_as_max) {
            return Some(Refusal::OwnAs { count });
        }
        if attributes.originator_id() == Some(self.router_id) {
            return Some(Refusal::OriginatorLoop);
        }
        let own = self.cluster_id.filter(|id| attributes.cluster_list().contains(id));
        own.map(|_| Refusal::ClusterLoop)
    }
}

impl Refusal {
    /// Kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClusterLoop => "cluster-loop",
            Self::OriginatorLoop => "originator-loop",
            Self::OwnAs { .. } => "own-as",
            Self::RouteLeak { .. } => "route-leak",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterLoop => f.write_str("it passed this cluster of reflectors"),
            Self::OriginatorLoop => f.write_str("it is our own, sent back by a reflector"),
            Self::OwnAs { count } => write!(f, "our own AS is {count} times in its path"),
            Self::RouteLeak { marked_by } => {
                write!(f, "a leak: AS {marked_by} marked it \"only to customers\"")
            }
        }
    }
}

/// Applies the ingress rules of RFC 9234, section 5, to a route from a neighbour that is `remote_role` to
/// us: what Only to Customer has to say from now on, or that the route is a leak. The role is the
/// neighbour's as configured, whether or not it said so itself.
pub fn otc_received(
    attributes: &Attributes,
    remote_role: Role,
    remote_as: u32,
) -> Result<Option<u32>, Refusal> {
    let otc = attributes.only_to_customer();
    match (remote_role, otc) {
        (Role::Customer | Role::RouteServerClient, Some(marked_by)) => {
            Err(Refusal::RouteLeak { marked_by })
        }
        (Role::Peer, Some(marked_by)) if marked_by != remote_as => {
            Err(Refusal::RouteLeak { marked_by })
        }
        (Role::Provider | Role::Peer | Role::RouteServer, None) => Ok(Some(remote_as)),
        _ => Ok(otc),
    }
}

/// Applies the egress rules of RFC 9234, section 5, to a route for a neighbour that is `remote_role` to us:
/// what Only to Customer has to say, or that the route must not be sent.
pub fn otc_to_send(
    attributes: &Attributes,
    remote_role: Role,
    local_as: u32,
) -> Result<Option<u32>, Refusal> {
    let otc = attributes.only_to_customer();
    match (remote_role, otc) {
        (Role::Provider | Role::Peer | Role::RouteServer, Some(marked_by)) => {
            Err(Refusal::RouteLeak { marked_by })
        }
        (Role::Customer | Role::Peer | Role::RouteServerClient, None) => Ok(Some(local_as)),
        _ => Ok(otc),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::{AsPath, NextHop};

    const REMOTE: u32 = 64_500;
    const LOCAL: u32 = 64_496;
    const OTHER: u32 = 64_511;

    fn route(otc: Option<u32>) -> Attributes {
        let mut route = Attributes::originated(NextHop::new(Ipv4Addr::new(192, 0, 2, 1).into()));
        route.change_rare(|rare| rare.only_to_customer = otc);
        route
    }

    const fn leak(marked_by: u32) -> Result<Option<u32>, Refusal> {
        Err(Refusal::RouteLeak { marked_by })
    }

    #[test]
    fn otc_of_received_routes_follows_rfc_9234_5() {
        // (what the neighbour is, OTC as received) to the OTC that is kept.
        let table = [
            (Role::Customer, None, Ok(None)),
            (Role::Customer, Some(OTHER), leak(OTHER)),
            (Role::Customer, Some(REMOTE), leak(REMOTE)),
            (Role::RouteServerClient, None, Ok(None)),
            (Role::RouteServerClient, Some(REMOTE), leak(REMOTE)),
            (Role::Peer, None, Ok(Some(REMOTE))),
            (Role::Peer, Some(REMOTE), Ok(Some(REMOTE))),
            (Role::Peer, Some(OTHER), leak(OTHER)),
            (Role::Provider, None, Ok(Some(REMOTE))),
            (Role::Provider, Some(OTHER), Ok(Some(OTHER))),
            (Role::RouteServer, None, Ok(Some(REMOTE))),
            (Role::RouteServer, Some(OTHER), Ok(Some(OTHER))),
        ];
        for (role, otc, expected) in table {
            assert_eq!(otc_received(&route(otc), role, REMOTE), expected, "{role}, OTC {otc:?}");
        }
    }

    #[test]
    fn otc_of_sent_routes_follows_rfc_9234_5() {
        let table = [
            (Role::Customer, None, Ok(Some(LOCAL))),
            (Role::Customer, Some(OTHER), Ok(Some(OTHER))),
            (Role::RouteServerClient, None, Ok(Some(LOCAL))),
            (Role::RouteServerClient, Some(OTHER), Ok(Some(OTHER))),
            (Role::Peer, None, Ok(Some(LOCAL))),
            (Role::Peer, Some(LOCAL), leak(LOCAL)),
            (Role::Provider, None, Ok(None)),
            (Role::Provider, Some(OTHER), leak(OTHER)),
            (Role::RouteServer, None, Ok(None)),
            (Role::RouteServer, Some(OTHER), leak(OTHER)),
        ];
        for (role, otc, expected) in table {
            assert_eq!(otc_to_send(&route(otc), role, LOCAL), expected, "{role}, OTC {otc:?}");
        }
    }

    #[test]
    fn own_routes_are_noticed_when_they_come_back() {
        let own = Ipv4Addr::new(10, 0, 0, 1);
        let rules = LoopRules { local_as: LOCAL, own_as_max: 0, router_id: own, cluster_id: None };
        let path = |ases: &[u32]| Attributes { as_path: AsPath::sequence(ases), ..route(None) };
        assert_eq!(rules.refusal(&path(&[REMOTE, OTHER])), None);
        let twice = path(&[REMOTE, LOCAL, LOCAL]);
        assert_eq!(rules.refusal(&twice), Some(Refusal::OwnAs { count: 2 }));
        assert_eq!(
            LoopRules { own_as_max: 1, ..rules }.refusal(&twice),
            Some(Refusal::OwnAs { count: 2 })
        );
        assert_eq!(LoopRules { own_as_max: 2, ..rules }.refusal(&twice), None);

        let mut reflected = path(&[]);
        reflected.change_rare(|rare| rare.originator_id = Some(own));
        assert_eq!(rules.refusal(&reflected), Some(Refusal::OriginatorLoop));
        let mut clusters = path(&[]);
        clusters.change_rare(|rare| rare.cluster_list = [Ipv4Addr::new(10, 0, 0, 9), own].into());
        assert_eq!(rules.refusal(&clusters), None);
        let reflector = LoopRules { cluster_id: Some(own), ..rules };
        assert_eq!(reflector.refusal(&clusters), Some(Refusal::ClusterLoop));
    }
}
