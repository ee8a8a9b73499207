//! What every neighbour announces (their Adj-RIBs-In), and which path to a prefix is best (RFC 4271,
//! section 9.1).
//!
//! A path is kept as it came, with what became of it ([`Ruling`]): one that may not be used is shown, and all
//! are judged again when a policy changes. Pure: prefixes go in, and whoever publishes routes asks for the best
//! path of each prefix that a call reports as changed.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;
use std::sync::Arc;

use nearhop_fib::{IpPrefix, Prefix};

use super::import::Rulings;
use super::{
    Attributes, Choice, ChoiceRules, Import, LoopRules, Nlri, NotUsed, Path as Compared,
    PathSource, Role, Ruling, choose,
};
use crate::ids::{Family, NeighborId};

/// The paths of all neighbours.
#[derive(Debug, Default)]
pub struct Paths {
    neighbors: BTreeMap<NeighborId, Incoming>,
}

/// What is known of a neighbour whose paths are compared with others'.
#[derive(Clone, Debug, Eq, PartialEq)]
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
    /// Which of its paths are accepted (RFC 8212).
    pub import: Import,
    /// Whether bogons are refused too, besides martians.
    pub refuses_bogons: bool,
}

/// A path as it is kept.
#[derive(Clone, Debug)]
pub struct Path {
    /// What it says of itself, as it came.
    pub attributes: Arc<Attributes>,
    /// What became of it.
    pub ruling: Ruling,
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
    incoming: &'a Incoming,
}

/// What one neighbour announces.
#[derive(Debug)]
struct Incoming {
    sender: Sender,
    v4: BTreeMap<(Prefix<Ipv4Addr>, u32), Path>,
    v6: BTreeMap<(Prefix<Ipv6Addr>, u32), Path>,
    rulings: Rulings,
    /// How far its paths are judged again, if they are: behind this one.
    judged: Option<Judged>,
    /// It is to be forgotten; how many are left is known by the maps.
    is_leaving: bool,
}

/// How far a neighbour's paths are judged again.
#[derive(Clone, Copy, Debug)]
enum Judged {
    /// All up to this one.
    V4(Bound<(Prefix<Ipv4Addr>, u32)>),
    /// IPv4, and all up to this one.
    V6(Bound<(Prefix<Ipv6Addr>, u32)>),
}

impl Paths {
    /// A neighbour's session begins; paths of an earlier one have to be gone ([`Self::forget`]).
    pub fn begin(&mut self, neighbor: NeighborId, sender: Sender) {
        let (v4, v6) = (BTreeMap::new(), BTreeMap::new());
        let rulings = Rulings::default();
        let incoming = Incoming { sender, v4, v6, rulings, judged: None, is_leaving: false };
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
        let Incoming { sender, rulings, v4, v6, .. } = incoming;
        let ruling = rulings.judge(sender, nlri.prefix, attributes);
        let path = Path { attributes: Arc::clone(attributes), ruling };
        let before = match nlri.prefix {
            IpPrefix::V4(prefix) => v4.insert((prefix, nlri.path_id), path),
            IpPrefix::V6(prefix) => v6.insert((prefix, nlri.path_id), path),
        };
        if let Some(before) = before {
            rulings.drop(before.ruling);
        }
    }

    /// Other rules hold for what a neighbour announces: its paths are judged again, in steps of
    /// [`Self::judge_some`].
    pub fn change_rules(&mut self, neighbor: NeighborId, change: impl FnOnce(&mut Sender)) {
        if let Some(incoming) = self.neighbors.get_mut(&neighbor) {
            change(&mut incoming.sender);
            incoming.rulings.change();
            incoming.judged = Some(Judged::V4(Bound::Unbounded));
        }
    }

    /// Judges up to `budget` paths of a neighbour again, and reports the prefixes of those that another
    /// ruling changes. Returns whether all are judged.
    pub fn judge_some(
        &mut self,
        neighbor: NeighborId,
        budget: usize,
        mut changed: impl FnMut(IpPrefix),
    ) -> bool {
        let Some(incoming) = self.neighbors.get_mut(&neighbor) else { return true };
        let Incoming { sender, rulings, v4, v6, judged, .. } = incoming;
        let mut judge = |prefix: IpPrefix, path: &mut Path| {
            let before = path.ruling;
            path.ruling = rulings.judge(sender, prefix, &path.attributes);
            rulings.drop(before);
            if path.ruling != before {
                changed(prefix);
            }
        };
        for _ in 0..budget {
            match *judged {
                None => return true,
                Some(Judged::V4(from)) => {
                    let next = v4.range_mut((from, Bound::Unbounded)).next();
                    *judged = Some(match next {
                        Some((key, path)) => {
                            judge(IpPrefix::V4(key.0), path);
                            Judged::V4(Bound::Excluded(*key))
                        }
                        None => Judged::V6(Bound::Unbounded),
                    });
                }
                Some(Judged::V6(from)) => {
                    let next = v6.range_mut((from, Bound::Unbounded)).next();
                    *judged = next.map(|(key, path)| {
                        judge(IpPrefix::V6(key.0), path);
                        Judged::V6(Bound::Excluded(*key))
                    });
                }
            }
        }
        judged.is_none()
    }

    /// A neighbour has a path no more; whether it had it.
    pub fn withdraw(&mut self, neighbor: NeighborId, nlri: Nlri) -> bool {
        let Some(incoming) = self.neighbors.get_mut(&neighbor) else { return false };
        let gone = match nlri.prefix {
            IpPrefix::V4(prefix) => incoming.v4.remove(&(prefix, nlri.path_id)),
            IpPrefix::V6(prefix) => incoming.v6.remove(&(prefix, nlri.path_id)),
        };
        let Some(gone) = gone else { return false };
        incoming.rulings.drop(gone.ruling);
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
        self.neighbors.get(&neighbor).map_or(0, |incoming| incoming.rulings.refused())
    }

    /// How many paths of a neighbour are refused why: by the labels of reasons, or `POLICY/RULE`.
    pub fn refusals(
        &self,
        neighbor: NeighborId,
    ) -> impl Iterator<Item = (Cow<'static, str>, usize)> {
        let incoming = self.neighbors.get(&neighbor);
        incoming.into_iter().flat_map(|incoming| incoming.rulings.refusals())
    }

    /// The prefixes after one, or all, to which a neighbour, or any, announces a path: in the order of
    /// [`IpPrefix`]. Each takes a look at every neighbour.
    pub fn prefixes_after(
        &self,
        after: Option<IpPrefix>,
        of: Option<NeighborId>,
    ) -> impl Iterator<Item = IpPrefix> + '_ {
        let mut last = after;
        std::iter::from_fn(move || {
            let asked = self.neighbors.iter().filter(|(id, _)| of.is_none_or(|of| of == **id));
            let present = asked.filter(|(_, incoming)| !incoming.is_leaving);
            last = present.filter_map(|(_, incoming)| incoming.next_after(last)).min();
            last
        })
    }

    /// Every path to exactly this prefix, in no order of merit.
    pub fn of(&self, prefix: IpPrefix) -> impl Iterator<Item = Found<'_>> {
        let present = self.neighbors.iter().filter(|(_, incoming)| !incoming.is_leaving);
        present.flat_map(move |(&neighbor, incoming)| {
            let found = move |path_id, path| Found { neighbor, path_id, path, incoming };
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
        let usable: Vec<Found<'_>> = self.of(prefix).filter(Found::is_accepted).collect();
        match usable[..] {
            [only] => Some(only),
            _ => usable.get(choice(&usable)?.best).copied(),
        }
    }
}

/// Which of these is best, and by which rule each other one loses; `None` if there is none.
pub fn choice(usable: &[Found<'_>]) -> Option<Choice> {
    let used: Vec<Cow<'_, Attributes>> = usable.iter().map(Found::used).collect();
    let compared: Vec<Compared<'_>> =
        usable.iter().zip(&used).map(|(found, attributes)| found.compared(attributes)).collect();
    choose(&compared, ChoiceRules::default())
}

impl Incoming {
    fn next_after(&self, after: Option<IpPrefix>) -> Option<IpPrefix> {
        let (v4, v6) = match after {
            None => (Some(Bound::Unbounded), Bound::Unbounded),
            Some(IpPrefix::V4(after)) => {
                (Some(Bound::Excluded((after, u32::MAX))), Bound::Unbounded)
            }
            Some(IpPrefix::V6(after)) => (None, Bound::Excluded((after, u32::MAX))),
        };
        let v4 = v4.and_then(|from| self.v4.range((from, Bound::Unbounded)).next());
        let v6 = || self.v6.range((v6, Bound::Unbounded)).next();
        v4.map(|((prefix, _), _)| IpPrefix::V4(*prefix))
            .or_else(|| v6().map(|((prefix, _), _)| IpPrefix::V6(*prefix)))
    }
}

impl<'a> Found<'a> {
    /// Whether it may be used.
    pub fn is_accepted(&self) -> bool {
        self.path.ruling.is_accepted()
    }

    /// The attributes that it is used with: as the policy changes them.
    pub fn used(&self) -> Cow<'a, Attributes> {
        let Incoming { rulings, sender, .. } = self.incoming;
        rulings.used(sender, self.path.ruling, &self.path.attributes)
    }

    /// Why it may not be used, if so. `prefix` is its prefix.
    pub fn why_not(&self, prefix: IpPrefix) -> Option<NotUsed> {
        let Incoming { rulings, sender, .. } = self.incoming;
        rulings.why(sender, (prefix, self.path.ruling), &self.path.attributes)
    }

    /// The policy and rule that accepted it, if one did.
    pub fn accepted_by(&self) -> Option<String> {
        self.incoming.rulings.accepted_by(self.path.ruling)
    }

    fn compared<'b>(&self, attributes: &'b Attributes) -> Compared<'b> {
        let Sender { internal, router_id, address, .. } = self.incoming.sender;
        let (external, path_id) = (!internal, self.path_id);
        let from = PathSource { external, router_id, address, path_id, next_hop_cost: 0 };
        Compared { attributes, from }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::policy::{self, Match, Policy, PolicyRule, Then};
    use crate::bgp::{AsPath, Community, NextHop, Origin};

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
        let (import, refuses_bogons) = (Import::All, false);
        Sender { asn, internal, router_id, address, role: None, loops: OWN, import, refuses_bogons }
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
                paths.begin(id, sender.clone());
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
        paths.begin(NeighborId(3), Sender { import: Import::None, ..sender(65_004, 4) });
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
            assert_eq!(found.why_not(prefix).unwrap().to_string(), why);
            assert!(paths.best(prefix).is_none());
        }
        paths.announce(NeighborId(1), nlri("0.0.0.0/0"), &Arc::new(route(&[65_002])));
        assert!(paths.best(nlri("0.0.0.0/0").prefix).is_some(), "a default route is no bogon");
    }

    /// Another policy acts on what came before it, some paths at a time, and what came is as it was.
    #[test]
    fn paths_are_judged_again_in_steps_when_a_policy_changes() {
        let rule = |name: &str, asn, changes, then| PolicyRule {
            name: name.into(),
            matches: vec![Match::AsInPath(asn)],
            changes,
            then,
        };
        let prefer = vec![policy::Change::LocalPref(300)];
        let rules = vec![
            rule("no 7", 7, vec![], Then::Refuse),
            rule("prefer 8", 8, prefer, Then::Accept),
            rule("rest", 65_002, vec![], Then::Accept),
        ];
        let policy = Import::Policy(Arc::new(Policy { name: "in".into(), rules }));
        let (mut paths, from) = (Paths::default(), NeighborId(1));
        paths.begin(from, sender(65_002, 2));
        let (plain, seven, eight) = (route(&[65_002]), route(&[65_002, 7]), route(&[65_002, 8]));
        for (last, route) in [plain, seven, eight].into_iter().enumerate() {
            let route = Arc::new(route);
            paths.announce(from, nlri(&format!("203.0.{last}.0/24")), &route);
            paths.announce(from, nlri(&format!("2001:db8:{last}::/48")), &route);
        }
        paths.change_rules(from, |sender| sender.import = policy.clone());
        let mut changed = Vec::new();
        let mut steps = 0;
        while !paths.judge_some(from, 2, |prefix| changed.push(prefix.to_string())) {
            steps += 1;
            assert!(changed.len() <= 2 * steps);
        }
        assert!(steps >= 3, "in steps");
        assert_eq!(changed.len(), 6, "each has another ruling: {changed:?}");
        let refused = nlri("203.0.1.0/24").prefix;
        assert!(paths.best(refused).is_none());
        assert_eq!((paths.refused(from), paths.refusals(from).count()), (2, 1));
        let best = paths.best(nlri("2001:db8:2::/48").prefix).unwrap();
        assert_eq!((best.used().local_pref, best.path.attributes.local_pref), (Some(300), None));
        assert_eq!(best.accepted_by().as_deref(), Some("in/prefer 8"));

        paths.change_rules(from, |sender| sender.import = Import::All);
        changed.clear();
        assert!(paths.judge_some(from, 100, |prefix| changed.push(prefix.to_string())));
        assert_eq!((changed.len(), paths.refused(from)), (6, 0));
        assert_eq!(paths.best(refused).unwrap().used().local_pref, None);
        // Nothing that is the same is reported.
        paths.change_rules(from, |sender| sender.refuses_bogons = false);
        assert!(paths.judge_some(from, 100, |prefix| panic!("{prefix} is as it was")));
    }

    #[test]
    fn prefixes_of_several_neighbours_come_in_order_and_each_once() {
        let mut paths = Paths::default();
        let all = [("10.0.0.0/8", 1), ("10.0.0.0/8", 2), ("10.0.0.0/16", 2), ("2001:db8::/32", 1)];
        for id in [1, 2] {
            paths.begin(NeighborId(id), sender(65_002, id as u8));
        }
        for (prefix, id) in all {
            for path_id in [0, u32::MAX] {
                let one = Nlri { path_id, ..nlri(prefix) };
                paths.announce(NeighborId(id), one, &Arc::new(route(&[65_002])));
            }
        }
        let found = |paths: &Paths, after: Option<&str>, of: Option<u32>| -> Vec<String> {
            let after = after.map(|text| text.parse().unwrap());
            paths.prefixes_after(after, of.map(NeighborId)).map(|one| one.to_string()).collect()
        };
        assert_eq!(found(&paths, None, None), ["10.0.0.0/8", "10.0.0.0/16", "2001:db8::/32"]);
        assert_eq!(found(&paths, Some("10.0.0.0/8"), None), ["10.0.0.0/16", "2001:db8::/32"]);
        assert_eq!(found(&paths, None, Some(2)), ["10.0.0.0/8", "10.0.0.0/16"]);
        assert_eq!(found(&paths, Some("2001:db8::/32"), None), [""; 0]);
        paths.forget(NeighborId(2));
        assert_eq!(found(&paths, None, None), ["10.0.0.0/8", "2001:db8::/32"]);
    }

    #[test]
    fn a_path_stays_small() {
        assert_eq!(size_of::<Path>(), 16);
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
