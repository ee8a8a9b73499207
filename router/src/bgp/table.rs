//! What every neighbour announces (their Adj-RIBs-In), and which path to a prefix is best (RFC 4271,
//! section 9.1).
//!
//! ```text
//! prefix ─▶ first path ─▶ next path ─▶ …     24 bytes each, in one list for all neighbours
//!             │ neighbour, path identifier, what became of it
//!             └─▶ attributes, shared by all paths that say the same
//! ```
//!
//! A path is kept as it came, with what became of it ([`Ruling`]): one that may not be used is shown, and all
//! are judged again when a policy changes. Pure: prefixes go in, and whoever publishes routes asks for the best
//! path of each prefix that a call reports as changed.
#![forbid(unsafe_code)]

mod entries;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nearhop_fib::{IpPrefix, PrefixMap};

use self::entries::{Entries, Entry, Index};
use super::import::Rulings;
use super::{
    Attributes, Choice, ChoiceRules, Import, LoopRules, Nlri, NotUsed, Path as Compared,
    PathSource, PerFamily, Role, Ruling, choose, rank,
};
use crate::ids::{Family, NeighborId};

/// The paths of all neighbours.
#[derive(Default)]
pub struct Paths {
    numbers: BTreeMap<NeighborId, Number>,
    /// By number.
    neighbors: Vec<Option<Incoming>>,
    v4: PrefixMap<Ipv4Addr, Index>,
    v6: PrefixMap<Ipv6Addr, Index>,
    entries: Entries,
    /// The last prefix at which paths of neighbours that are to be forgotten were looked for.
    swept: Option<IpPrefix>,
    /// Which prefixes are looked at again.
    again: Option<Again>,
}

/// A pass over all prefixes.
#[derive(Clone, Copy, Debug)]
struct Again {
    /// The last one that was looked at.
    after: Option<IpPrefix>,
    /// Whether each of them changes, not only those of which a path gets another ruling.
    all: bool,
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

/// A path with the neighbour that announces it.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The neighbour.
    pub neighbor: NeighborId,
    /// Which of its paths to the prefix (RFC 7911).
    pub path_id: u32,
    /// What it says of itself, as it came.
    pub attributes: &'a Arc<Attributes>,
    /// What became of it.
    pub ruling: Ruling,
    incoming: &'a Incoming,
}

/// What one neighbour announces.
#[derive(Debug)]
struct Incoming {
    id: NeighborId,
    sender: Sender,
    /// Paths by family.
    counts: PerFamily<usize>,
    rulings: Rulings,
    /// Its paths are judged again.
    is_judged: bool,
    /// It is to be forgotten.
    is_leaving: bool,
}

/// The number of a neighbour while it has paths: used again afterwards.
type Number = u16;

impl Paths {
    /// A neighbour's session begins; paths of an earlier one have to be gone ([`Self::forget`]).
    pub fn begin(&mut self, neighbor: NeighborId, sender: Sender) {
        let incoming = Incoming {
            id: neighbor,
            sender,
            counts: PerFamily::with(|_| 0),
            rulings: Rulings::default(),
            is_judged: false,
            is_leaving: false,
        };
        if let Some(&number) = self.numbers.get(&neighbor) {
            self.neighbors[usize::from(number)] = Some(incoming);
            return;
        }
        let free = self.neighbors.iter().position(Option::is_none);
        let place = free.unwrap_or(self.neighbors.len());
        let Ok(number) = Number::try_from(place) else {
            log::error!("there are more than {} BGP neighbours: one is ignored", Number::MAX);
            return;
        };
        match free {
            Some(place) => self.neighbors[place] = Some(incoming),
            None => self.neighbors.push(Some(incoming)),
        }
        self.numbers.insert(neighbor, number);
    }

    /// The paths of a neighbour are not used any more: its prefixes change, in steps of
    /// [`Self::forget_some`].
    pub fn forget(&mut self, neighbor: NeighborId) {
        let Some(&number) = self.numbers.get(&neighbor) else { return };
        if let Some(incoming) = &mut self.neighbors[usize::from(number)] {
            incoming.is_leaving = true;
        }
        self.release(number);
    }

    /// Whether a neighbour is to be forgotten and has paths left: no session of it may begin.
    pub fn is_leaving(&self, neighbor: NeighborId) -> bool {
        self.incoming(neighbor).is_some_and(|incoming| incoming.is_leaving)
    }

    /// Whether any neighbour is to be forgotten and has paths left.
    pub fn any_leaving(&self) -> bool {
        self.neighbors.iter().flatten().any(|incoming| incoming.is_leaving)
    }

    /// Removes paths of neighbours that are to be forgotten, and reports each prefix that had some.
    /// `budget` is about so many of these; of other prefixes it looks at [`LOOKS_PER_PATH`] instead of one.
    /// Returns what is left of it: something once no such neighbour is left.
    pub fn forget_some(&mut self, budget: usize, mut changed: impl FnMut(IpPrefix)) -> usize {
        let mut looks = budget.saturating_mul(LOOKS_PER_PATH);
        while looks > 0 && self.any_leaving() {
            looks -= 1;
            let mut found = Vec::new();
            let mut last = None;
            for (prefix, first) in self.heads_after(self.swept) {
                let is_one = self.entries.chain(first).any(|entry| self.is_of_leaving(entry));
                found.extend(is_one.then_some(prefix));
                last = Some(prefix);
                looks = looks.saturating_sub(if is_one { LOOKS_PER_PATH } else { 1 });
                if looks == 0 || found.len() >= FOUND_AT_ONCE {
                    break;
                }
            }
            // From the start again: one may have been told to leave on the way.
            self.swept = last;
            for prefix in found {
                self.drop_leaving(prefix);
                changed(prefix);
            }
        }
        looks / LOOKS_PER_PATH
    }

    /// A neighbour announces a path, instead of the one with the same identifier.
    pub fn announce(&mut self, neighbor: NeighborId, nlri: Nlri, attributes: &Arc<Attributes>) {
        let Some(&number) = self.numbers.get(&neighbor) else { return };
        let Some(incoming) = &mut self.neighbors[usize::from(number)] else { return };
        let Incoming { sender, rulings, counts, .. } = incoming;
        let ruling = rulings.judge(sender, nlri.prefix, attributes);
        let attributes = Arc::clone(attributes);
        let head = match nlri.prefix {
            IpPrefix::V4(prefix) => self.v4.get(prefix),
            IpPrefix::V6(prefix) => self.v6.get(prefix),
        };
        let is_it = |entry: &Entry| (entry.neighbor, entry.path_id) == (number, nlri.path_id);
        if let Some(known) = head.and_then(|first| self.entries.find_mut(first, is_it)) {
            rulings.drop(known.ruling);
            known.attributes = attributes;
            known.ruling = ruling;
            return;
        }
        *counts.of_mut(nlri.family()) += 1;
        let entry = Entry::new(number, nlri.path_id, attributes, ruling);
        if let Some(first) = head {
            self.entries.insert_after(first, entry);
        } else {
            let first = self.entries.add(entry);
            self.set_head(nlri.prefix, Some(first));
        }
    }

    /// Other rules hold for what a neighbour announces: its paths are judged again, in steps of
    /// [`Self::judge_some`].
    pub fn change_rules(&mut self, neighbor: NeighborId, change: impl FnOnce(&mut Sender)) {
        let Some(&number) = self.numbers.get(&neighbor) else { return };
        let Some(incoming) = &mut self.neighbors[usize::from(number)] else { return };
        change(&mut incoming.sender);
        incoming.rulings.change();
        incoming.is_judged = true;
        self.look_again(false);
    }

    /// The choice among paths is another: every prefix changes, in steps of [`Self::judge_some`].
    pub fn change_choice(&mut self) {
        self.look_again(true);
    }

    /// Whether [`Self::judge_some`] has anything to do.
    pub fn is_judging(&self) -> bool {
        self.again.is_some()
    }

    /// Judges paths again, and reports the prefixes of those that another ruling changes. `budget` is about so
    /// many of these; of other prefixes it looks at [`LOOKS_PER_PATH`] instead of one. Returns what is left of
    /// it: something once all are judged.
    pub fn judge_some(&mut self, budget: usize, mut changed: impl FnMut(IpPrefix)) -> usize {
        let mut looks = budget.saturating_mul(LOOKS_PER_PATH);
        while looks > 0
            && let Some(Again { after, all }) = self.again
        {
            looks -= 1;
            let some = self.heads_after(after).take(looks.min(FOUND_AT_ONCE) + 1);
            let some: Vec<(IpPrefix, Index)> = some.collect();
            for &(prefix, first) in &some {
                let mut is_other = all;
                let neighbors = &mut self.neighbors;
                self.entries.for_each_mut(first, |entry| {
                    let Some(incoming) = &mut neighbors[usize::from(entry.neighbor)] else {
                        return;
                    };
                    if incoming.is_judged && !incoming.is_leaving {
                        let before = entry.ruling;
                        let Incoming { sender, rulings, .. } = incoming;
                        entry.ruling = rulings.judge(sender, prefix, &entry.attributes);
                        rulings.drop(before);
                        is_other |= entry.ruling != before;
                        looks = looks.saturating_sub(LOOKS_PER_PATH);
                    }
                });
                if is_other {
                    changed(prefix);
                    looks = looks.saturating_sub(LOOKS_PER_PATH);
                }
                looks = looks.saturating_sub(1);
                self.again = Some(Again { after: Some(prefix), all });
                if looks == 0 {
                    break;
                }
            }
            if some.is_empty() {
                self.again = None;
                self.neighbors.iter_mut().flatten().for_each(|one| one.is_judged = false);
            }
        }
        looks / LOOKS_PER_PATH
    }

    /// A neighbour has a path no more; whether it had it.
    pub fn withdraw(&mut self, neighbor: NeighborId, nlri: Nlri) -> bool {
        let Some(&number) = self.numbers.get(&neighbor) else { return false };
        self.remove(nlri.prefix, |entry| (entry.neighbor, entry.path_id) == (number, nlri.path_id))
    }

    /// How many paths a neighbour announces in a family.
    pub fn count(&self, neighbor: NeighborId, family: Family) -> usize {
        self.incoming(neighbor).map_or(0, |incoming| *incoming.counts.of(family))
    }

    /// How many paths of a neighbour may not be used.
    pub fn refused(&self, neighbor: NeighborId) -> usize {
        self.incoming(neighbor).map_or(0, |incoming| incoming.rulings.refused())
    }

    /// How many paths of a neighbour are refused why: by the labels of reasons, or `POLICY/RULE`.
    pub fn refusals(
        &self,
        neighbor: NeighborId,
    ) -> impl Iterator<Item = (Cow<'static, str>, usize)> {
        let incoming = self.incoming(neighbor);
        incoming.into_iter().flat_map(|incoming| incoming.rulings.refusals())
    }

    /// The prefixes after one, or all, to which a neighbour, or any, announces a path: in the order of
    /// [`IpPrefix`]. It takes a look at each prefix that any neighbour announces.
    pub fn prefixes_after(
        &self,
        after: Option<IpPrefix>,
        of: Option<NeighborId>,
    ) -> impl Iterator<Item = IpPrefix> + '_ {
        let of = of.map(|of| self.numbers.get(&of).copied());
        let is_asked = move |entry: &Entry| {
            of.is_none_or(|of| of == Some(entry.neighbor)) && !self.is_of_leaving(entry)
        };
        let heads = self.heads_after(after);
        let asked = heads.filter(move |(_, first)| self.entries.chain(*first).any(is_asked));
        asked.map(|(prefix, _)| prefix)
    }

    /// Every path to exactly this prefix, in no order of merit.
    pub fn of(&self, prefix: IpPrefix) -> impl Iterator<Item = Found<'_>> {
        let entries = self.head(prefix).into_iter().flat_map(|first| self.entries.chain(first));
        entries.filter_map(|entry| {
            let incoming = self.neighbors[usize::from(entry.neighbor)].as_ref()?;
            let Entry { path_id, attributes, ruling, .. } = entry;
            (!incoming.is_leaving).then_some(Found {
                neighbor: incoming.id,
                path_id: *path_id,
                attributes,
                ruling: *ruling,
                incoming,
            })
        })
    }

    /// The paths that packets to a prefix go by, each with its tier, the best first ([`rank`]).
    pub fn ranked(&self, prefix: IpPrefix, multipath: usize) -> Vec<(u8, Found<'_>)> {
        let mut usable = self.of(prefix).filter(Found::is_accepted);
        let Some(first) = usable.next() else { return Vec::new() };
        let Some(second) = usable.next() else { return vec![(0, first)] };
        let usable: Vec<Found<'_>> = [first, second].into_iter().chain(usable).collect();
        let ranked = with_compared(&usable, |paths| rank(paths, ChoiceRules::default(), multipath));
        ranked.into_iter().map(|(tier, at)| (tier, usable[at])).collect()
    }

    /// The best path to a prefix that may be used.
    pub fn best(&self, prefix: IpPrefix) -> Option<Found<'_>> {
        Some(self.ranked(prefix, 1).first()?.1)
    }

    /// A pass over all prefixes begins, or begins again.
    fn look_again(&mut self, all: bool) {
        let all = all || self.again.is_some_and(|again| again.all);
        self.again = Some(Again { after: None, all });
    }

    fn incoming(&self, neighbor: NeighborId) -> Option<&Incoming> {
        self.neighbors[usize::from(*self.numbers.get(&neighbor)?)].as_ref()
    }

    fn is_of_leaving(&self, entry: &Entry) -> bool {
        let neighbor = &self.neighbors[usize::from(entry.neighbor)];
        neighbor.as_ref().is_some_and(|incoming| incoming.is_leaving)
    }

    /// Forgets a neighbour that is to leave once it has no paths.
    fn release(&mut self, number: Number) {
        let place = &mut self.neighbors[usize::from(number)];
        if let Some(incoming) = place
            && incoming.is_leaving
            && incoming.counts.ipv4 + incoming.counts.ipv6 == 0
        {
            self.numbers.remove(&incoming.id);
            *place = None;
        }
    }

    fn drop_leaving(&mut self, prefix: IpPrefix) {
        let leaving: Vec<(Number, u32)> = self
            .head(prefix)
            .into_iter()
            .flat_map(|first| self.entries.chain(first))
            .filter(|entry| self.is_of_leaving(entry))
            .map(|entry| (entry.neighbor, entry.path_id))
            .collect();
        for (number, path_id) in leaving {
            self.remove(prefix, |entry| (entry.neighbor, entry.path_id) == (number, path_id));
            self.release(number);
        }
    }

    /// Removes the path that is meant; whether there was one.
    fn remove(&mut self, prefix: IpPrefix, is_it: impl Fn(&Entry) -> bool) -> bool {
        let Some(first) = self.head(prefix) else { return false };
        let Some((gone, head)) = self.entries.remove(first, is_it) else { return false };
        if head != Some(first) {
            self.set_head(prefix, head);
        }
        if let Some(incoming) = &mut self.neighbors[usize::from(gone.neighbor)] {
            incoming.rulings.drop(gone.ruling);
            *incoming.counts.of_mut(Family::of(prefix.addr())) -= 1;
        }
        true
    }

    fn head(&self, prefix: IpPrefix) -> Option<Index> {
        match prefix {
            IpPrefix::V4(prefix) => self.v4.get(prefix),
            IpPrefix::V6(prefix) => self.v6.get(prefix),
        }
    }

    fn set_head(&mut self, prefix: IpPrefix, head: Option<Index>) {
        match (prefix, head) {
            (IpPrefix::V4(prefix), Some(head)) => self.v4.insert(prefix, head),
            (IpPrefix::V6(prefix), Some(head)) => self.v6.insert(prefix, head),
            (IpPrefix::V4(prefix), None) => self.v4.remove(prefix),
            (IpPrefix::V6(prefix), None) => self.v6.remove(prefix),
        };
    }

    fn heads_after(&self, after: Option<IpPrefix>) -> impl Iterator<Item = (IpPrefix, Index)> + '_ {
        let (v4, v6) = match after {
            None => (Some(self.v4.iter()), self.v6.iter()),
            Some(IpPrefix::V4(prefix)) => (Some(self.v4.iter_after(prefix)), self.v6.iter()),
            Some(IpPrefix::V6(prefix)) => (None, self.v6.iter_after(prefix)),
        };
        let v4 = v4.into_iter().flatten().map(|(prefix, head)| (IpPrefix::V4(prefix), head));
        v4.chain(v6.map(|(prefix, head)| (IpPrefix::V6(prefix), head)))
    }
}

/// Which of these is best, and by which rule each other one loses; `None` if there is none.
pub fn choice(usable: &[Found<'_>]) -> Option<Choice> {
    with_compared(usable, |paths| choose(paths, ChoiceRules::default()))
}

/// Passes paths on with the attributes that they are used with.
fn with_compared<T>(usable: &[Found<'_>], compare: impl FnOnce(&[Compared<'_>]) -> T) -> T {
    let used: Vec<Cow<'_, Attributes>> = usable.iter().map(Found::used).collect();
    let paths = usable.iter().zip(&used);
    let paths: Vec<Compared<'_>> =
        paths.map(|(found, attributes)| found.compared(attributes)).collect();
    compare(&paths)
}

impl<'a> Found<'a> {
    /// Whether it may be used.
    pub fn is_accepted(&self) -> bool {
        self.ruling.is_accepted()
    }

    /// The attributes that it is used with: as the policy changes them.
    pub fn used(&self) -> Cow<'a, Attributes> {
        let Incoming { rulings, sender, .. } = self.incoming;
        rulings.used(sender, self.ruling, self.attributes)
    }

    /// Why it may not be used, if so. `prefix` is its prefix.
    pub fn why_not(&self, prefix: IpPrefix) -> Option<NotUsed> {
        let Incoming { rulings, sender, .. } = self.incoming;
        rulings.why(sender, (prefix, self.ruling), self.attributes)
    }

    /// The policy and rule that accepted it, if one did.
    pub fn accepted_by(&self) -> Option<String> {
        self.incoming.rulings.accepted_by(self.ruling)
    }

    fn compared<'b>(&self, attributes: &'b Attributes) -> Compared<'b> {
        let Sender { internal, router_id, address, .. } = self.incoming.sender;
        let (external, path_id) = (!internal, self.path_id);
        let from = PathSource { external, router_id, address, path_id, next_hop_cost: 0 };
        Compared { attributes, from }
    }
}

/// Prefixes without a path that is to go that cost as much as one with it.
pub const LOOKS_PER_PATH: usize = 8;

/// Prefixes of paths that are to go, that are noted before these go.
const FOUND_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        while paths.is_judging() {
            paths.judge_some(2, |prefix| changed.push(prefix.to_string()));
            steps += 1;
            assert!(changed.len() <= 2 * steps);
        }
        assert!(steps >= 3, "in steps");
        assert_eq!(changed.len(), 6, "each has another ruling: {changed:?}");
        let refused = nlri("203.0.1.0/24").prefix;
        assert!(paths.best(refused).is_none());
        assert_eq!((paths.refused(from), paths.refusals(from).count()), (2, 1));
        let best = paths.best(nlri("2001:db8:2::/48").prefix).unwrap();
        assert_eq!((best.used().local_pref, best.attributes.local_pref), (Some(300), None));
        assert_eq!(best.accepted_by().as_deref(), Some("in/prefer 8"));

        paths.change_rules(from, |sender| sender.import = Import::All);
        changed.clear();
        assert!(paths.judge_some(100, |prefix| changed.push(prefix.to_string())) > 50);
        assert_eq!((changed.len(), paths.refused(from)), (6, 0));
        assert_eq!(paths.best(refused).unwrap().used().local_pref, None);
        // Nothing that is the same is reported.
        paths.change_rules(from, |sender| sender.refuses_bogons = false);
        assert!(paths.judge_some(100, |prefix| panic!("{prefix} is as it was")) > 50);
        // Another choice concerns all of them.
        paths.change_choice();
        changed.clear();
        while paths.is_judging() {
            paths.judge_some(2, |prefix| changed.push(prefix.to_string()));
        }
        assert_eq!(changed.len(), 6);
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
        paths.begin(NeighborId(2), sender(65_003, 3));
        paths.announce(NeighborId(2), all[3], &route);
        paths.announce(NeighborId(2), nlri("198.51.100.0/24"), &route);
        paths.forget(NeighborId(1));
        assert!(paths.best(all[9].prefix).is_none());
        assert!(paths.is_leaving(NeighborId(1)) && paths.any_leaving());
        let mut gone = Vec::new();
        assert_eq!(paths.forget_some(4, |prefix| gone.push(prefix)), 0);
        assert!((3..=4).contains(&gone.len()), "about as many: {gone:?}");
        assert!(paths.forget_some(100, |prefix| gone.push(prefix)) > 80);
        assert_eq!(gone, all.iter().map(|nlri| nlri.prefix).collect::<Vec<_>>());
        assert!(!paths.is_leaving(NeighborId(1)) && !paths.any_leaving());
        assert_eq!(paths.best(all[3].prefix).unwrap().neighbor, NeighborId(2));
        // One without paths is gone at once, and its number is another's.
        paths.begin(NeighborId(3), sender(65_004, 4));
        paths.forget(NeighborId(3));
        assert!(!paths.any_leaving());
        paths.begin(NeighborId(4), sender(65_005, 5));
        assert_eq!(paths.neighbors.len(), 2);
    }

    #[derive(Clone, Debug)]
    enum Act {
        Announce(u32, usize, u32, u32),
        Withdraw(u32, usize, u32),
        Forget(u32),
        ForgetSome(usize),
    }

    const PREFIXES: [&str; 6] =
        ["0.0.0.0/0", "9.0.0.0/8", "9.1.0.0/16", "9.1.1.0/24", "2001:db8::/32", "2001:db8:1::/48"];

    fn acts() -> impl Strategy<Value = Act> {
        let (neighbor, prefix, path_id) = (0..3_u32, 0..PREFIXES.len(), 0..3_u32);
        let announce = (neighbor.clone(), prefix.clone(), path_id.clone(), 0..4_u32);
        prop_oneof![
            4 => announce.prop_map(|(n, p, id, med)| Act::Announce(n, p, id, med)),
            2 => (neighbor.clone(), prefix, path_id).prop_map(|(n, p, id)| Act::Withdraw(n, p, id)),
            1 => neighbor.prop_map(Act::Forget),
            1 => (0..4_usize).prop_map(Act::ForgetSome),
        ]
    }

    proptest! {
        #[test]
        fn it_has_what_a_plain_list_has(acts in proptest::collection::vec(acts(), 1..60)) {
            let mut paths = Paths::default();
            let mut model = BTreeMap::new();
            for act in acts {
                match act {
                    Act::Announce(n, ..) if paths.is_leaving(NeighborId(n)) => {}
                    Act::Announce(n, prefix, path_id, med) => {
                        let id = NeighborId(n);
                        if paths.incoming(id).is_none() {
                            paths.begin(id, sender(65_002 + n, n as u8));
                        }
                        let prefix = PREFIXES[prefix].parse().unwrap();
                        // A path of which the AS is our own is kept and not used.
                        let own = if med == 3 { OWN.local_as } else { 65_002 };
                        let route = Attributes { med: Some(med), ..route(&[own]) };
                        paths.announce(id, Nlri { prefix, path_id }, &Arc::new(route));
                        model.insert((prefix, n, path_id), med);
                    }
                    Act::Withdraw(n, ..) if paths.is_leaving(NeighborId(n)) => {}
                    Act::Withdraw(n, prefix, path_id) => {
                        let prefix = PREFIXES[prefix].parse().unwrap();
                        let had = model.remove(&(prefix, n, path_id)).is_some();
                        prop_assert_eq!(paths.withdraw(NeighborId(n), Nlri { prefix, path_id }), had);
                    }
                    Act::Forget(n) => {
                        paths.forget(NeighborId(n));
                        model.retain(|&(_, of, _), _| of != n);
                    }
                    Act::ForgetSome(budget) => drop(paths.forget_some(budget, |_| {})),
                }
                let mut all = BTreeMap::new();
                for prefix in paths.prefixes_after(None, None) {
                    for found in paths.of(prefix) {
                        let key = (prefix, found.neighbor.0, found.path_id);
                        let med = found.attributes.med.unwrap();
                        prop_assert_eq!(!found.is_accepted(), med == 3);
                        prop_assert!(all.insert(key, med).is_none());
                    }
                }
                prop_assert_eq!(&all, &model);
                for n in (0..3).filter(|n| !paths.is_leaving(NeighborId(*n))) {
                    let of = |wanted: fn(&IpPrefix, u32) -> bool| {
                        let mut count = 0;
                        for ((prefix, of, _), med) in &model {
                            count += usize::from(*of == n && wanted(prefix, *med));
                        }
                        count
                    };
                    let id = NeighborId(n);
                    let v4 = of(|prefix, _| matches!(prefix, IpPrefix::V4(_)));
                    let v6 = of(|prefix, _| matches!(prefix, IpPrefix::V6(_)));
                    prop_assert_eq!(paths.count(id, Family::Ipv4), v4);
                    prop_assert_eq!(paths.count(id, Family::Ipv6), v6);
                    prop_assert_eq!(paths.refused(id), of(|_, med| med == 3));
                }
            }
            for n in 0..3 {
                paths.forget(NeighborId(n));
            }
            paths.forget_some(1000, |_| {});
            prop_assert!(!paths.any_leaving());
            prop_assert!(paths.v4.is_empty() && paths.v6.is_empty() && paths.numbers.is_empty());
        }
    }
}
