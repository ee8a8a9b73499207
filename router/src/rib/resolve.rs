//! Next hops that are addresses: to which adjacencies the routes to them lead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use nearhop_fib::{IpPrefix, MEMBERS_MAX, Member};

use super::Rib;
use super::next_hops::{NextHop, NextHops, RankedHop, SetId, Way};

/// A next hop that is an address.
#[derive(Default)]
pub(super) struct Tracked {
    /// The longest prefix that covers it and has a route; not the one of all addresses.
    cover: Option<(IpPrefix, SetId)>,
    /// What it leads to, in order; nothing if it is unresolved.
    pub(super) ways: Vec<Way>,
    /// The sets it is in.
    sets: BTreeSet<SetId>,
}

/// Why an address leads nowhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unresolved {
    /// No route covers it but that of all addresses, which does not count.
    NoRoute,
    /// It is the router's own.
    Own,
    /// The route to it discards packets.
    Discarded,
    /// It belongs to a service, whose sites change by the flow.
    Service,
    /// It is needed to resolve itself.
    Loop,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoute => "no route but a default route leads to it",
            Self::Own => "it is the router's own address",
            Self::Discarded => "the route to it discards packets",
            Self::Service => "it is an address of a service",
            Self::Loop => "the route to it leads back to it",
        })
    }
}

impl Rib {
    /// The set of these next hops; to be released again. Routes may lead to it after the next
    /// [`Self::resolve`].
    pub fn hold(&mut self, mut hops: NextHops) -> SetId {
        match &mut hops {
            NextHops::Via(hops) => {
                hops.sort_unstable();
                hops.dedup();
            }
            NextHops::Ranked(hops) => {
                hops.sort_unstable();
                hops.dedup();
            }
            _ => {}
        }
        let (set, is_new) = self.sets.hold(hops);
        if is_new {
            let hops = self.next_hops(set);
            let addresses: Vec<IpAddr> = hops.into_iter().flat_map(NextHops::addresses).collect();
            for &address in &addresses {
                self.tracked.entry(address).or_default().sets.insert(set);
            }
            self.stale.extend(addresses);
            self.fresh.insert(set);
            self.flatten(set);
        }
        set
    }

    /// The set, if anybody holds it still, is held once more; whether it is. Cheaper than [`Self::hold`].
    pub fn hold_again(&mut self, set: SetId) -> bool {
        self.sets.hold_again(set)
    }

    /// The set is held once less; no route may lead to one that nobody holds.
    pub fn release(&mut self, set: SetId) {
        let Some(hops) = self.sets.release(set) else { return };
        self.dirty.mark_set(set);
        for address in hops.addresses() {
            let Some(tracked) = self.tracked.get_mut(&address) else { continue };
            tracked.sets.remove(&set);
            if tracked.sets.is_empty() {
                let cover = tracked.cover;
                self.unlink(address, cover);
                self.tracked.remove(&address);
                self.stale.remove(&address);
            }
        }
    }

    /// The set of exactly these next hops, if anybody holds it.
    pub fn find(&self, hops: &NextHops) -> Option<SetId> {
        self.sets.find(hops)
    }

    /// What was held under this number; `None` once it is held no more.
    pub fn next_hops(&self, set: SetId) -> Option<&NextHops> {
        Some(&self.sets.get(set)?.hops)
    }

    /// What a set of `Via` or `Ranked` leads to, in order.
    pub fn members(&self, set: SetId) -> &[Member] {
        self.sets.get(set).map_or(&[], |state| &state.members)
    }

    /// The addresses among next hops that lead nowhere, each with the reason.
    pub fn unresolved(&self) -> impl Iterator<Item = (IpAddr, Unresolved)> + '_ {
        let nowhere = self.tracked.iter().filter(|(_, tracked)| tracked.ways.is_empty());
        nowhere.map(|(&address, _)| (address, self.why_unresolved(address)))
    }

    /// The best routes to prefixes that cover next hops have changed: brings what these lead to up to
    /// date, and what leads on to them.
    pub fn resolve(&mut self) {
        let affected = self.affected();
        let mut before = BTreeMap::new();
        for &address in &affected {
            let cover = self.cover_of(address);
            let Some(tracked) = self.tracked.get_mut(&address) else { continue };
            let was = std::mem::replace(&mut tracked.cover, cover);
            before.insert(address, std::mem::take(&mut tracked.ways));
            self.unlink(address, was);
            if let Some((_, set)) = cover {
                self.over.entry(set).or_default().insert(address);
            }
        }
        // From nothing upwards, until nothing is added.
        let mut work: Vec<IpAddr> = affected.into_iter().collect();
        while let Some(address) = work.pop() {
            let cover = self.tracked.get(&address).and_then(|tracked| tracked.cover);
            let ways = cover.map(|(_, set)| self.ways_of_hops(set)).unwrap_or_default();
            let Some(tracked) = self.tracked.get_mut(&address) else { continue };
            if tracked.ways != ways {
                tracked.ways = ways;
                work.extend(self.dependants(address));
            }
        }
        let mut sets = BTreeSet::new();
        for (address, ways) in before {
            if let Some(tracked) = self.tracked.get(&address).filter(|now| now.ways != ways) {
                sets.extend(&tracked.sets);
            }
        }
        for set in sets {
            self.flatten(set);
        }
        self.fresh.clear();
    }

    /// A prefix has another best route.
    pub(super) fn note_cover(&mut self, prefix: IpPrefix) {
        let last = match prefix {
            IpPrefix::V4(prefix) => prefix.last().into(),
            IpPrefix::V6(prefix) => prefix.last().into(),
        };
        let inside = self.tracked.range(prefix.addr()..=last);
        let follows =
            |tracked: &Tracked| tracked.cover.is_none_or(|(cover, _)| cover.len() <= prefix.len());
        let stale = inside.filter(|(_, tracked)| follows(tracked)).map(|(&address, _)| address);
        self.stale.extend(stale);
    }

    /// Takes those whose cover may have changed, and all that lead on to them.
    fn affected(&mut self) -> BTreeSet<IpAddr> {
        let mut affected = std::mem::take(&mut self.stale);
        let mut work: Vec<IpAddr> = affected.iter().copied().collect();
        while let Some(address) = work.pop() {
            for above in self.dependants(address) {
                if affected.insert(above) {
                    work.push(above);
                }
            }
        }
        affected
    }

    /// Those whose cover leads to this address.
    fn dependants(&self, address: IpAddr) -> Vec<IpAddr> {
        let sets = self.tracked.get(&address).map(|tracked| &tracked.sets);
        let over = sets.into_iter().flatten().filter_map(|set| self.over.get(set));
        over.flatten().copied().collect()
    }

    fn cover_of(&self, address: IpAddr) -> Option<(IpPrefix, SetId)> {
        Some(match address {
            IpAddr::V4(address) => {
                let (prefix, best) = self.v4.covering(address)?;
                (IpPrefix::V4(prefix), best.set)
            }
            IpAddr::V6(address) => {
                let (prefix, best) = self.v6.covering(address)?;
                (IpPrefix::V6(prefix), best.set)
            }
        })
    }

    fn unlink(&mut self, address: IpAddr, cover: Option<(IpPrefix, SetId)>) {
        let Some((_, set)) = cover else { return };
        let Some(over) = self.over.get_mut(&set) else { return };
        over.remove(&address);
        if over.is_empty() {
            self.over.remove(&set);
        }
    }

    /// What an address leads to whose cover leads to this set, in order: of several tiers to the first.
    fn ways_of_hops(&self, set: SetId) -> Vec<Way> {
        let hops = match self.next_hops(set) {
            Some(NextHops::Via(hops)) => hops,
            Some(NextHops::Ranked(hops)) => {
                let members = self.ranked_members(hops);
                let best = members.iter().take_while(|member| member.tier == members[0].tier);
                let way = |member: &Member| Way { path: member.path, adjacency: member.adjacency };
                let ways: BTreeSet<Way> = best.map(way).collect();
                return ways.into_iter().collect();
            }
            _ => return Vec::new(),
        };
        let mut ways = BTreeSet::new();
        for hop in hops {
            match hop {
                NextHop::Way(way) => {
                    ways.insert(*way);
                }
                NextHop::Address(address) => {
                    ways.extend(self.tracked.get(address).map_or(&[][..], |t| &t.ways));
                }
            }
        }
        ways.into_iter().take(MEMBERS_MAX).collect()
    }

    /// What next hops with tiers lead to, the best first. Two of a session that lead to one adjacency are the
    /// better of them.
    fn ranked_members(&self, hops: &[RankedHop]) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::new();
        for &RankedHop { tier, path, address, ref way, weight } in hops {
            let ways = match way {
                Some(way) => std::slice::from_ref(way),
                None => self.tracked.get(&address).map_or(&[][..], |tracked| &tracked.ways),
            };
            for way in ways {
                let adjacency = way.adjacency;
                if members.iter().any(|one| (one.path, one.adjacency) == (path, adjacency)) {
                    continue;
                }
                let link_weight = weight;
                members.push(Member { path, adjacency, tier, weight, link_weight });
            }
        }
        members.truncate(MEMBERS_MAX);
        // A session weighs as much as its next hops together.
        let all = members.clone();
        for member in &mut members {
            let of_session =
                all.iter().filter(|one| (one.tier, one.path) == (member.tier, member.path));
            let weights = of_session.map(|one| u32::from(one.link_weight));
            let is_only = weights.clone().count() == 1;
            member.weight = u16::try_from(weights.sum::<u32>()).unwrap_or(u16::MAX);
            if is_only {
                member.link_weight = 1;
            }
        }
        members
    }

    fn members_of_hops(&self, set: SetId) -> Vec<Member> {
        if let Some(NextHops::Ranked(hops)) = self.next_hops(set) {
            return self.ranked_members(hops);
        }
        let member = |Way { path, adjacency }: Way| Member {
            path,
            adjacency,
            tier: 0,
            weight: 1,
            link_weight: 1,
        };
        self.ways_of_hops(set).into_iter().map(member).collect()
    }

    fn flatten(&mut self, set: SetId) {
        let members = self.members_of_hops(set);
        let Some(state) = self.sets.get_mut(set).filter(|state| state.members != members) else {
            return;
        };
        let was = std::mem::replace(&mut state.members, members);
        let flips = was.is_empty() != state.members.is_empty();
        self.dirty.mark_set(set);
        if flips && !self.fresh.contains(&set) {
            // Routes that lead there are used now, or are no more.
            self.mark_prefixes(set);
        }
    }

    pub(super) fn why_unresolved(&self, address: IpAddr) -> Unresolved {
        let mut seen = BTreeSet::from([address]);
        let mut work = vec![address];
        while let Some(address) = work.pop() {
            let Some((_, set)) = self.tracked.get(&address).and_then(|tracked| tracked.cover)
            else {
                return Unresolved::NoRoute;
            };
            match self.next_hops(set) {
                Some(NextHops::Local) => return Unresolved::Own,
                Some(NextHops::Service(_)) => return Unresolved::Service,
                Some(hops @ (NextHops::Via(_) | NextHops::Ranked(_))) => {
                    work.extend(hops.addresses().filter(|&next| seen.insert(next)));
                }
                _ => return Unresolved::Discarded,
            }
        }
        // Every way on leads to an address that was seen before.
        Unresolved::Loop
    }
}
