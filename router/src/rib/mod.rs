//! The routing information base: the routes of every source, which of them is best, and what their
//! next hops lead to. Pure: it knows no device, no thread and no forwarding table.
//!
//! ```text
//! tables of sources ──feed──▶ candidates ──best that resolves──▶ prefix ──▶ set of next hops
//!  (sorted, shared)            of a prefix                                  (interned, flattened)
//! ```
//!
//! * Each [`Source`] offers at most one route to a prefix; where several do, the order of sources decides.
//! * A route leads to a [`NextHops`], which is interned: routes that lead to the same share a [`SetId`].
//! * A next hop that is an address leads to what the longest route that covers it leads to, and so on:
//!   the least solution of these equations, so that addresses that only lead to each other lead nowhere.
//!   A route whose next hops all lead nowhere is not used; the next source's is.
//! * What a change may alter is noted as dirty, and nothing else is looked at by whoever publishes it.
#![forbid(unsafe_code)]

mod dirty;
mod feed;
mod next_hops;
mod resolve;
pub mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nearhop_fib::{Addr, IpPrefix, Prefix, PrefixMap};

pub use self::dirty::{Cursor, Dirty};
pub use self::feed::{Feed, Offered};
use self::next_hops::Sets;
pub use self::next_hops::{NextHop, NextHops, RankedHop, ServiceSet, SetId, Way};
use self::resolve::Tracked;
pub use self::resolve::Unresolved;

/// Who offers a route. Of several routes to a prefix, that of the first of these is best.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Source {
    /// Prefixes that an operator blocks.
    Block,
    /// The router's own addresses.
    Local,
    /// The networks of ports.
    Connected,
    /// Anycast services.
    Service,
    /// `[[route]]`.
    Static,
    /// A route file, by its place in the configuration: the first is best.
    File(u16),
    /// `[[bgp.aggregate]]`, while it is announced: what no service and nothing else has is discarded.
    Aggregate,
    /// BGP neighbours: the best of their paths.
    Bgp,
}

impl Source {
    /// One word for tables and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Aggregate => "aggregate",
            Self::Bgp => "bgp",
            Self::Block => "block",
            Self::Connected => "connected",
            Self::File(_) => "file",
            Self::Local => "local",
            Self::Service => "service",
            Self::Static => "static",
        }
    }
}

/// A route that a source offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Who offers it.
    pub source: Source,
    /// What it leads to.
    pub set: SetId,
}

/// What packets to a prefix follow: what stands for it in the FIB.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lead {
    /// What the used route leads to.
    pub set: SetId,
    /// Where that is the sites of a service: what packets that no site takes are led on to.
    pub next: Option<SetId>,
}

impl Lead {
    /// To a set, and nowhere else.
    pub const fn to(set: SetId) -> Self {
        Self { set, next: None }
    }
}

/// Routes by prefix and source.
#[derive(Default)]
pub struct Rib {
    v4: Table<Ipv4Addr>,
    v6: Table<Ipv6Addr>,
    sets: Sets,
    /// Next hops that are addresses, with what they lead to.
    tracked: BTreeMap<IpAddr, Tracked>,
    /// By the set of the route that covers them: those of `tracked`.
    over: HashMap<SetId, BTreeSet<IpAddr>>,
    /// Those of `tracked` that may lead elsewhere by now.
    stale: BTreeSet<IpAddr>,
    /// Sets that are new since the last [`Self::resolve`]: whatever leads to them is dirty anyway.
    fresh: BTreeSet<SetId>,
    /// Sets whose prefixes may all be dirty, and how far they were looked for.
    sweeping: BTreeSet<SetId>,
    swept: Option<IpPrefix>,
    dirty: Dirty,
}

/// Candidates of one family.
struct Table<A> {
    best: PrefixMap<A, Candidate>,
    /// Those that are not best, in the order of their sources; hardly any prefix has some.
    others: BTreeMap<Prefix<A>, Vec<Candidate>>,
}

impl<A: Addr> Default for Table<A> {
    fn default() -> Self {
        Self { best: PrefixMap::new(), others: BTreeMap::new() }
    }
}

impl<A: Addr> Table<A> {
    /// Returns whether the best changed, and what the source offered before.
    fn offer(&mut self, prefix: Prefix<A>, offered: Candidate) -> (bool, Option<SetId>) {
        let Some(best) = self.best.insert_new(prefix, offered) else { return (true, None) };
        if offered.source == best.source {
            let before = std::mem::replace(&mut best.set, offered.set);
            return (before != offered.set, Some(before));
        }
        let is_better = offered.source < best.source;
        let other = if is_better { std::mem::replace(best, offered) } else { offered };
        let others = self.others.entry(prefix).or_default();
        match others.binary_search_by_key(&other.source, |candidate| candidate.source) {
            Ok(place) => (is_better, Some(std::mem::replace(&mut others[place], other).set)),
            Err(place) => {
                others.insert(place, other);
                (is_better, None)
            }
        }
    }

    /// Returns whether the best changed.
    fn withdraw(&mut self, prefix: Prefix<A>, source: Source) -> bool {
        let Some(best) = self.best.get_mut(prefix) else { return false };
        let is_best = best.source == source;
        let Some(others) = self.others.get_mut(&prefix) else {
            if is_best {
                self.best.remove(prefix);
            }
            return is_best;
        };
        if is_best {
            *best = others.remove(0);
        } else {
            others.retain(|candidate| candidate.source != source);
        }
        if others.is_empty() {
            self.others.remove(&prefix);
        }
        is_best
    }

    fn candidates(&self, prefix: Prefix<A>) -> impl Iterator<Item = Candidate> + '_ {
        let best = self.best.get(prefix);
        let none_beside = best.is_none() || self.others.is_empty();
        let others = if none_beside { None } else { self.others.get(&prefix) };
        best.into_iter().chain(others.into_iter().flatten().copied())
    }

    /// The best route to the longest prefix that covers `addr` and is none of all addresses.
    fn covering(&self, addr: A) -> Option<(Prefix<A>, Candidate)> {
        self.best.longest_match(addr).filter(|(prefix, _)| prefix.len() > 0)
    }
}

impl Rib {
    /// A source has a route to this prefix now, instead of the one it had. Returns what that led to.
    pub fn offer(&mut self, prefix: IpPrefix, offered: Candidate) -> Option<SetId> {
        let (best_changed, before) = match prefix {
            IpPrefix::V4(prefix) => self.v4.offer(prefix, offered),
            IpPrefix::V6(prefix) => self.v6.offer(prefix, offered),
        };
        if before != Some(offered.set) {
            self.note_change(prefix, best_changed);
        }
        before
    }

    /// As [`PrefixMap::prefetch`].
    pub fn prefetch(&self, prefixes: impl Iterator<Item = IpPrefix> + Clone) {
        self.v4.best.prefetch(prefixes.clone().filter_map(IpPrefix::v4));
        self.v6.best.prefetch(prefixes.filter_map(IpPrefix::v6));
    }

    /// A source has no route to this prefix any more.
    pub fn withdraw(&mut self, prefix: IpPrefix, source: Source) {
        let best_changed = match prefix {
            IpPrefix::V4(prefix) => self.v4.withdraw(prefix, source),
            IpPrefix::V6(prefix) => self.v6.withdraw(prefix, source),
        };
        self.note_change(prefix, best_changed);
    }

    /// Every route that is offered to this prefix, the best source's first.
    pub fn candidates(&self, prefix: IpPrefix) -> Vec<Candidate> {
        match prefix {
            IpPrefix::V4(prefix) => self.v4.candidates(prefix).collect(),
            IpPrefix::V6(prefix) => self.v6.candidates(prefix).collect(),
        }
    }

    /// What a source's route to this prefix leads to, if it offers one.
    pub fn offered(&self, prefix: IpPrefix, source: Source) -> Option<SetId> {
        let is_it = |candidate: &Candidate| candidate.source == source;
        let found = match prefix {
            IpPrefix::V4(prefix) => self.v4.candidates(prefix).find(is_it),
            IpPrefix::V6(prefix) => self.v6.candidates(prefix).find(is_it),
        };
        found.map(|candidate| candidate.set)
    }

    /// The route that is used: the best of those that lead somewhere.
    pub fn used(&self, prefix: IpPrefix) -> Option<Candidate> {
        let leads = |candidate: &Candidate| self.sets.leads_somewhere(candidate.set);
        match prefix {
            IpPrefix::V4(prefix) => self.v4.candidates(prefix).find(leads),
            IpPrefix::V6(prefix) => self.v6.candidates(prefix).find(leads),
        }
    }

    /// What packets to this prefix follow.
    pub fn lead(&self, prefix: IpPrefix) -> Option<Lead> {
        let used = self.used(prefix)?;
        let next = match used.source {
            Source::Service => self.next_best(prefix).map(|next| next.set),
            _ => None,
        };
        Some(Lead { set: used.set, next })
    }

    /// The route that would be used without the service that the used one is of, if its packets are led on there
    /// when no site takes them.
    pub fn next_best(&self, prefix: IpPrefix) -> Option<Candidate> {
        match prefix {
            IpPrefix::V4(prefix) => self.next_of(self.v4.candidates(prefix)),
            IpPrefix::V6(prefix) => self.next_of(self.v6.candidates(prefix)),
        }
    }

    fn next_of(&self, candidates: impl Iterator<Item = Candidate>) -> Option<Candidate> {
        let mut leading = candidates.filter(|one| self.sets.leads_somewhere(one.set));
        match self.next_hops(leading.next()?.set) {
            Some(NextHops::Service(service)) if service.leads_on => leading.next(),
            _ => None,
        }
    }

    /// The used route to the longest prefix that covers this one and is shorter.
    pub fn used_covering(&self, prefix: IpPrefix) -> Option<(IpPrefix, Candidate)> {
        let shorter = (0..prefix.len()).rev();
        let mut covers = shorter.filter_map(|len| IpPrefix::around(prefix.addr(), len));
        covers.find_map(|prefix| Some((prefix, self.used(prefix)?)))
    }

    /// The prefixes that have a route after one, or all: IPv4 before IPv6, then by address, the shorter
    /// first.
    pub fn prefixes_after(&self, after: Option<IpPrefix>) -> impl Iterator<Item = IpPrefix> + '_ {
        let (v4, v6) = match after {
            None => (Some(self.v4.best.iter()), self.v6.best.iter()),
            Some(IpPrefix::V4(prefix)) => {
                (Some(self.v4.best.iter_after(prefix)), self.v6.best.iter())
            }
            Some(IpPrefix::V6(prefix)) => (None, self.v6.best.iter_after(prefix)),
        };
        let v4 = v4.into_iter().flatten().map(|(prefix, _)| IpPrefix::V4(prefix));
        v4.chain(v6.map(|(prefix, _)| IpPrefix::V6(prefix)))
    }

    /// Why an address leads nowhere; `None` if it leads somewhere, or is no next hop.
    pub fn why_nowhere(&self, address: IpAddr) -> Option<Unresolved> {
        let nowhere = self.tracked.get(&address)?.ways.is_empty();
        nowhere.then(|| self.why_unresolved(address))
    }

    /// How many prefixes have a route, IPv4 and IPv6.
    pub fn len(&self) -> (usize, usize) {
        (self.v4.best.len(), self.v6.best.len())
    }

    /// Whether no source offers anything.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// What may be altered since it was last looked at. To be asked after [`Self::resolve`] and
    /// [`Self::sweep`].
    pub fn dirty(&mut self) -> &mut Dirty {
        &mut self.dirty
    }

    /// The used route of every prefix that leads to this set may be another, or lead elsewhere: they are
    /// looked for by [`Self::sweep`].
    pub fn mark_prefixes(&mut self, set: SetId) {
        self.sweeping.insert(set);
        self.swept = None;
    }

    /// Looks at up to `budget` routes for prefixes that are dirty because of their sets. Returns whether
    /// all are found.
    pub fn sweep(&mut self, budget: usize) -> bool {
        if self.sweeping.is_empty() {
            return true;
        }
        let looked_at: Vec<IpPrefix> = self.prefixes_after(self.swept).take(budget).collect();
        let leads = |candidate: Candidate| self.sweeping.contains(&candidate.set);
        for &prefix in &looked_at {
            let is_dirty = match prefix {
                IpPrefix::V4(prefix) => self.v4.candidates(prefix).any(leads),
                IpPrefix::V6(prefix) => self.v6.candidates(prefix).any(leads),
            };
            if is_dirty {
                self.dirty.mark(prefix);
            }
        }
        if looked_at.len() < budget {
            self.swept = None;
            self.sweeping.clear();
            return true;
        }
        self.swept = looked_at.last().copied();
        false
    }

    fn note_change(&mut self, prefix: IpPrefix, best_changed: bool) {
        self.dirty.mark(prefix);
        if best_changed && !self.tracked.is_empty() {
            self.note_cover(prefix);
        }
    }
}
