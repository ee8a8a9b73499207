//! What every neighbour announces (their Adj-RIBs-In), and which path to a prefix is best (RFC 4271,
//! section 9.1).
//!
//! A path that may not be used is kept with its [`Refusal`], to be shown. Pure: prefixes go in, and
//! whoever publishes routes asks for the best path of each prefix that a call reports as changed.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nearhop_fib::{IpPrefix, Prefix};

use super::{
    Attributes, ChoiceRules, Community, LoopRules, Nlri, Path as Compared, PathSource, Refusal,
    Role, choose, otc_received,
};
use crate::ids::{Family, NeighborId};

/// The paths of all neighbours.
#[derive(Debug, Default)]
pub struct Paths {
    neighbors: BTreeMap<NeighborId, Incoming>,
}

/// What is known of a neighbour whose paths are compared with others'.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sender {
    /// Its AS.
    pub asn: u32,
    /// Whether that is the router's own.
    pub internal: bool,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
    /// What it is to the router (RFC 9234).
    pub role: Option<Role>,
    /// What shows that a path is the router's own.
    pub loops: LoopRules,
    /// Whether its paths are accepted at all (RFC 8212).
    pub accepts: bool,
}

/// Why a path is not used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotUsed {
    /// The import policy accepts none.
    Policy,
    /// The prefix is one that nobody may announce.
    Bogon,
    /// A loop or a leak.
    Refused(Refusal),
}

/// A path as it is kept.
#[derive(Clone, Debug)]
pub struct Path {
    /// What it says of itself.
    pub attributes: Arc<Attributes>,
    /// Why it is not used.
    pub not_used: Option<NotUsed>,
}

/// A path with the neighbour that announces it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The neighbour.
    pub neighbor: NeighborId,
    /// Which of its paths to the prefix (RFC 7911).
    pub path_id: u32,
    /// The path.
    pub path: &'a Path,
    sender: &'a Sender,
}

/// What one neighbour announces.
#[derive(Debug)]
struct Incoming {
    sender: Sender,
    v4: BTreeMap<(Prefix<Ipv4Addr>, u32), Path>,
    v6: BTreeMap<(Prefix<Ipv6Addr>, u32), Path>,
    /// How many paths are not used.
    refused: usize,
    /// It is to be forgotten; how many are left is known by the maps.
    is_leaving: bool,
}

impl Paths {
    /// A neighbour's session begins; paths of an earlier one have to be gone ([`Self::forget`]).
    pub fn begin(&mut self, neighbor: NeighborId, sender: Sender) {
        let (v4, v6) = (BTreeMap::new(), BTreeMap::new());
        let incoming = Incoming { sender, v4, v6, refused: 0, is_leaving: false };
        self.neighbors.insert(neighbor, incoming);
    }

    /// The paths of a neighbour are not used any more: its prefixes change, in steps of
    /// [`Self::forget_some`].
    pub fn forget(&mut self, neighbor: NeighborId) {
        if let Some(incoming) = self.neighbors.get_mut(&neighbor) {
            incoming.is_leaving = true;
        }
    }

    /// Removes up to `budget` paths of a neighbour that is to be forgotten, and reports their prefixes.
    /// Returns whether it has none left.
    pub fn forget_some(
        &mut self,
        neighbor: NeighborId,
        budget: usize,
        mut changed: impl FnMut(IpPrefix),
    ) -> bool {
        let Some(incoming) = self.neighbors.get_mut(&neighbor) else { return true };
        for _ in 0..budget {
            let v4 = incoming.v4.pop_first().map(|((prefix, _), _)| IpPrefix::V4(prefix));
            let v6 = || incoming.v6.pop_first().map(|((prefix, _), _)| IpPrefix::V6(prefix));
            let Some(prefix) = v4.or_else(v6) else {
                self.neighbors.remove(&neighbor);
                return true;
            };
            changed(prefix);
        }
        false
    }

    /// A neighbour announces a path, instead of the one with the same identifier.
    pub fn announce(&mut self, neighbor: NeighborId, nlri: Nlri, attributes: &Arc<Attributes>) {
        let Some(incoming) = self.neighbors.get_mut(&neighbor) else { return };
        let not_used = incoming.sender.why_not(nlri.prefix, attributes);
        let mut attributes = Arc::clone(attributes);
        if attributes.has_community(Community::GRACEFUL_SHUTDOWN) && !incoming.sender.internal {
            // It is about to go: any other path is better (RFC 8326, section 4.2).
            Arc::make_mut(&mut attributes).local_pref = Some(0);
        }
        let path = Path { attributes, not_used };
        let before = match nlri.prefix {
            IpPrefix::V4(prefix) => incoming.v4.insert((prefix, nlri.path_id), path),
            IpPrefix::V6(prefix) => incoming.v6.insert((prefix, nlri.path_id), path),
        };
        incoming.refused += usize::from(not_used.is_some());
        incoming.refused -= usize::from(before.is_some_and(|before| before.not_used.is_some()));
    }

    /// A neighbour has a path no more; whether it had it.
    pub fn withdraw(&mut self, neighbor: NeighborId, nlri: Nlri) -> bool {
        let Some(incoming) = self.neighbors.get_mut(&neighbor) else { return false };
        let gone = match nlri.prefix {
            IpPrefix::V4(prefix) => incoming.v4.remove(&(prefix, nlri.path_id)),
            IpPrefix::V6(prefix) => incoming.v6.remove(&(prefix, nlri.path_id)),
        };
        let Some(gone) = gone else { return false };
        incoming.refused -= usize::from(gone.not_used.is_some());
        true
    }

    /// How many paths a neighbour announces in a family.
    pub fn count(&self, neighbor: NeighborId, family: Family) -> usize {
        self.neighbors.get(&neighbor).map_or(0, |incoming| match family {
            Family::Ipv4 => incoming.v4.len(),
            Family::Ipv6 => incoming.v6.len(),
        })
    }

    /// How many paths of a neighbour may not be used.
    pub fn refused(&self, neighbor: NeighborId) -> usize {
        self.neighbors.get(&neighbor).map_or(0, |incoming| incoming.refused)
    }

    /// Every path to exactly this prefix, in no order of merit.
    pub fn of(&self, prefix: IpPrefix) -> impl Iterator<Item = Found<'_>> {
        let present = self.neighbors.iter().filter(|(_, incoming)| !incoming.is_leaving);
        present.flat_map(move |(&neighbor, incoming)| {
            let sender = &incoming.sender;
            let found = move |path_id, path| Found { neighbor, path_id, path, sender };
            let (v4, v6) = match prefix {
                IpPrefix::V4(prefix) => {
                    (Some(incoming.v4.range((prefix, 0)..=(prefix, u32::MAX))), None)
                }
                IpPrefix::V6(prefix) => {
                    (None, Some(incoming.v6.range((prefix, 0)..=(prefix, u32::MAX))))
                }
            };
            let v4 = v4.into_iter().flatten().map(move |((_, id), path)| found(*id, path));
            let v6 = v6.into_iter().flatten().map(move |((_, id), path)| found(*id, path));
            v4.chain(v6)
        })
    }

    /// The best path to a prefix that may be used.
    pub fn best(&self, prefix: IpPrefix) -> Option<Found<'_>> {
        let usable: Vec<Found<'_>> =
            self.of(prefix).filter(|found| found.path.not_used.is_none()).collect();
        let compared: Vec<Compared<'_>> = usable.iter().map(Found::compared).collect();
        let choice = choose(&compared, ChoiceRules::default())?;
        usable.get(choice.best).copied()
    }
}

impl Found<'_> {
    fn compared(&self) -> Compared<'_> {
        let Sender { internal, router_id, address, .. } = *self.sender;
        let (external, path_id) = (!internal, self.path_id);
        let from = PathSource { external, router_id, address, path_id, next_hop_cost: 0 };
        Compared { attributes: &self.path.attributes, from }
    }
}

impl Sender {
    fn why_not(&self, prefix: IpPrefix, attributes: &Attributes) -> Option<NotUsed> {
        if !self.accepts {
            return Some(NotUsed::Policy);
        }
        if is_bogon(prefix) {
            return Some(NotUsed::Bogon);
        }
        if let Some(refusal) = self.loops.refusal(attributes) {
            return Some(NotUsed::Refused(refusal));
        }
        let role = self.role.filter(|_| !self.internal)?;
        otc_received(attributes, role, self.asn).err().map(NotUsed::Refused)
    }
}

impl std::fmt::Display for NotUsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy => f.write_str("import accepts nothing of this neighbour"),
            Self::Bogon => f.write_str("nobody may announce this prefix (RFC 6890)"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// Whether a prefix is inside a block that is never forwarded between networks (RFC 6890), or covers
/// multicast. The prefix of all addresses is none.
fn is_bogon(prefix: IpPrefix) -> bool {
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
            let first = addr.segments()[0];
            let is_low = len >= 96 && addr.segments()[..6] == [0; 6];
            is_low || len >= 10 && first & 0xffc0 == 0xfe80 || len >= 8 && first & 0xff00 == 0xff00
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::{AsPath, NextHop, Origin};

    const OWN: LoopRules = LoopRules {
        local_as: 65_001,
        own_as_max: 0,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        cluster_id: None,
    };

    fn sender(asn: u32, last: u8) -> Sender {
        let address = Ipv4Addr::new(10, 0, 0, last);
        let internal = asn == OWN.local_as;
        let (address, router_id) = (address.into(), address);
        Sender { asn, internal, router_id, address, role: None, loops: OWN, accepts: true }
    }

    fn route(path: &[u32]) -> Attributes {
        let next_hop = NextHop::new(Ipv4Addr::new(10, 0, 0, 9).into());
        Attributes { as_path: AsPath::sequence(path), ..Attributes::originated(next_hop) }
    }

    fn nlri(text: &str) -> Nlri {
        Nlri::new(text.parse().unwrap())
    }

    /// Each path is worse than the one before by the first rule that tells them apart.
    #[test]
    fn the_rules_apply_in_their_order() {
        let bases = [
            (sender(65_002, 2), Attributes { local_pref: Some(200), ..route(&[65_002, 1, 2, 3]) }),
            (sender(65_002, 9), route(&[65_002])),
            (sender(65_002, 8), route(&[65_002, 7])),
            (sender(65_002, 7), Attributes { med: Some(5), ..route(&[65_002, 7]) }),
            (sender(65_001, 2), Attributes { origin: Origin::Igp, ..route(&[65_003, 7]) }),
            (sender(65_001, 3), route(&[65_004, 7])),
            (sender(65_002, 1), Attributes { origin: Origin::Egp, ..route(&[65_002, 7]) }),
            (
                sender(65_002, 4),
                Attributes {
                    communities: [Community::GRACEFUL_SHUTDOWN].into(),
                    ..route(&[65_002])
                },
            ),
        ];
        let prefix = nlri("203.0.113.0/24");
        for order in [[0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0], [3, 7, 1, 5, 0, 2, 6, 4]]
        {
            let mut paths = Paths::default();
            for index in order {
                let (sender, attributes) = &bases[index];
                let id = NeighborId(index as u32);
                paths.begin(id, *sender);
                paths.announce(id, prefix, &Arc::new(attributes.clone()));
            }
            for (index, _) in bases.iter().enumerate() {
                let best = paths.best(prefix.prefix).unwrap();
                assert_eq!(best.neighbor, NeighborId(index as u32), "{order:?}");
                assert!(paths.withdraw(best.neighbor, prefix));
            }
            assert!(paths.best(prefix.prefix).is_none());
        }
    }

    #[test]
    fn what_may_not_be_used_is_kept_and_says_why() {
        let mut paths = Paths::default();
        paths.begin(NeighborId(1), sender(65_002, 2));
        let provider = Sender { role: Some(Role::Customer), ..sender(65_003, 3) };
        paths.begin(NeighborId(2), provider);
        paths.begin(NeighborId(3), Sender { accepts: false, ..sender(65_004, 4) });
        let mut leak = route(&[65_003]);
        leak.change_rare(|rare| rare.only_to_customer = Some(65_009));
        for (id, prefix, attributes, why) in [
            (1, "203.0.113.0/24", route(&[65_002, 65_001]), "our own AS is 1 times in its path"),
            (1, "127.0.0.0/8", route(&[65_002]), "nobody may announce this prefix (RFC 6890)"),
            (1, "fe80::/64", route(&[65_002]), "nobody may announce this prefix (RFC 6890)"),
            (2, "203.0.113.0/24", leak, "a leak: AS 65009 marked it \"only to customers\""),
            (3, "203.0.113.0/24", route(&[65_004]), "import accepts nothing of this neighbour"),
        ] {
            paths.announce(NeighborId(id), nlri(prefix), &Arc::new(attributes));
            let prefix = nlri(prefix).prefix;
            let found = paths.of(prefix).find(|found| found.neighbor == NeighborId(id)).unwrap();
            assert_eq!(found.path.not_used.unwrap().to_string(), why);
            assert!(paths.best(prefix).is_none());
        }
        paths.announce(NeighborId(1), nlri("0.0.0.0/0"), &Arc::new(route(&[65_002])));
        assert!(paths.best(nlri("0.0.0.0/0").prefix).is_some(), "a default route is no bogon");
    }

    #[test]
    fn a_neighbor_is_forgotten_in_steps_and_counts_no_more_at_once() {
        let mut paths = Paths::default();
        paths.begin(NeighborId(1), sender(65_002, 2));
        let route = Arc::new(route(&[65_002]));
        let all: Vec<Nlri> = (0..10)
            .map(|n| nlri(&format!("203.0.{n}.0/24")))
            .chain([nlri("2001:db8::/32")])
            .collect();
        for nlri in &all {
            paths.announce(NeighborId(1), *nlri, &route);
        }
        assert_eq!(paths.count(NeighborId(1), Family::Ipv4), 10);
        paths.forget(NeighborId(1));
        assert!(paths.best(all[9].prefix).is_none());
        let mut gone = Vec::new();
        assert!(!paths.forget_some(NeighborId(1), 4, |prefix| gone.push(prefix)));
        assert_eq!(gone.len(), 4);
        assert!(paths.forget_some(NeighborId(1), 100, |prefix| gone.push(prefix)));
        assert_eq!(gone, all.iter().map(|nlri| nlri.prefix).collect::<Vec<_>>());
    }
}
