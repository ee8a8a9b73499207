//! What every neighbour announces (their Adj-RIBs-In), and which path to a prefix is best (RFC 4271,
//! section 9.1).
//!
//! ```text
//! prefix ─▶ first path ─▶ next path ─▶ …     16 bytes each, in one list for all neighbours
//!             │ neighbour, path identifier, what became of it
//!             └─▶ attributes, shared by all paths that say the same
//! ```
//!
//! A path is kept as it came, with what became of it ([`Ruling`]): one that may not be used is shown, and all
//! are judged again when a policy changes. Pure: prefixes go in, and whoever publishes routes asks for the best
//! path of each prefix that a call reports as changed.
#![forbid(unsafe_code)]

mod entries;
mod pages;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nearhop_fib::{IpPrefix, PrefixMap};

use self::entries::{Entries, Entry, Index, Key};
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

/// The paths to one prefix, until any path is added or removed.
#[derive(Clone, Copy, Debug)]
pub struct Chain(Option<Index>);

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
                let is_one = self.entries.chain(first).any(|(_, entry)| self.is_of_leaving(entry));
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

    /// A neighbour announces a path, instead of the one with the same identifier. Returns all to its prefix.
    pub fn announce(
        &mut self,
        neighbor: NeighborId,
        nlri: Nlri,
        attributes: &Arc<Attributes>,
    ) -> Chain {
        let number = self.numbers.get(&neighbor).copied();
        let incoming = number.and_then(|at| Some((at, self.neighbors[usize::from(at)].as_mut()?)));
        let Some((number, incoming)) = incoming else { return self.chain(nlri.prefix) };
        let Incoming { sender, rulings, counts, .. } = incoming;
        let ruling = rulings.judge(sender, nlri.prefix, attributes);
        let entry = Entry { attributes: Arc::clone(attributes), ruling, neighbor: number };
        // Mostly it is the only one: one look at the trie says where it is, and that it was not there.
        let place = self.entries.next_place();
        let head = match nlri.prefix {
            IpPrefix::V4(prefix) => self.v4.insert_new(prefix, place),
            IpPrefix::V6(prefix) => self.v6.insert_new(prefix, place),
        };
        let Some(&mut first) = head else {
            *counts.of_mut(nlri.family()) += 1;
            return Chain(Some(self.entries.add(nlri.path_id, entry)));
        };
        if let Some(known) = self.entries.find_mut(first, (number, nlri.path_id)) {
            rulings.drop(known.ruling);
            known.attributes = entry.attributes;
            known.ruling = ruling;
        } else {
            *counts.of_mut(nlri.family()) += 1;
            self.entries.insert_after(first, nlri.path_id, entry);
        }
        Chain(Some(first))
    }

    /// As [`PrefixMap::prefetch`].
    pub fn prefetch(&self, prefixes: impl Iterator<Item = IpPrefix> + Clone) {
        self.v4.prefetch(prefixes.clone().filter_map(IpPrefix::v4));
        self.v6.prefetch(prefixes.filter_map(IpPrefix::v6));
    }

    /// All paths to exactly this prefix.
    pub fn chain(&self, prefix: IpPrefix) -> Chain {
        Chain(self.head(prefix))
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
        self.remove(nlri.prefix, (number, nlri.path_id))
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
        let asked = heads
            .filter(move |(_, first)| self.entries.chain(*first).any(|(_, one)| is_asked(one)));
        asked.map(|(prefix, _)| prefix)
    }

    /// Every path to exactly this prefix, in no order of merit.
    pub fn of(&self, prefix: IpPrefix) -> impl Iterator<Item = Found<'_>> {
        self.in_chain(self.chain(prefix))
    }

    /// The path that packets to a prefix go by, if no other may be used.
    pub fn only(&self, chain: Chain) -> Option<Found<'_>> {
        let mut usable = self.in_chain(chain).filter(Found::is_accepted);
        usable.next().filter(|_| usable.next().is_none())
    }

    fn in_chain(&self, Chain(first): Chain) -> impl Iterator<Item = Found<'_>> {
        let entries = first.into_iter().flat_map(|first| self.entries.chain(first));
        entries.filter_map(|(path_id, entry)| {
            let incoming = self.neighbors[usize::from(entry.neighbor)].as_ref()?;
            let Entry { attributes, ruling, .. } = entry;
            (!incoming.is_leaving).then_some(Found {
                neighbor: incoming.id,
                path_id,
                attributes,
                ruling: *ruling,
                incoming,
            })
        })
    }

    /// The paths that packets to a prefix go by, each with its tier, the best first ([`rank`]).
    pub fn ranked(&self, chain: Chain, multipath: usize) -> Vec<(u8, Found<'_>)> {
        let mut usable = self.in_chain(chain).filter(Found::is_accepted);
        let Some(first) = usable.next() else { return Vec::new() };
        let Some(second) = usable.next() else { return vec![(0, first)] };
        let usable: Vec<Found<'_>> = [first, second].into_iter().chain(usable).collect();
        let ranked = with_compared(&usable, |paths| rank(paths, ChoiceRules::default(), multipath));
        ranked.into_iter().map(|(tier, at)| (tier, usable[at])).collect()
    }

    /// The best path to a prefix that may be used.
    pub fn best(&self, prefix: IpPrefix) -> Option<Found<'_>> {
        Some(self.ranked(self.chain(prefix), 1).first()?.1)
    }

    /// The paths to a prefix that may be used, the best first, `at_most` so many: each is the best of those behind
    /// it.
    pub fn best_first(&self, prefix: IpPrefix, at_most: usize) -> Vec<Found<'_>> {
        let mut usable: Vec<Found<'_>> = self.of(prefix).filter(Found::is_accepted).collect();
        let mut sorted = Vec::new();
        while sorted.len() < at_most
            && let Some(Choice { best, .. }) = choice(&usable)
        {
            sorted.push(usable.swap_remove(best));
        }
        sorted
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
        let leaving: Vec<Key> = self
            .head(prefix)
            .into_iter()
            .flat_map(|first| self.entries.chain(first))
            .filter(|(_, entry)| self.is_of_leaving(entry))
            .map(|(path_id, entry)| (entry.neighbor, path_id))
            .collect();
        for key in leaving {
            self.remove(prefix, key);
            self.release(key.0);
        }
    }

    /// Removes a path; whether there was one.
    fn remove(&mut self, prefix: IpPrefix, key: Key) -> bool {
        let Some(first) = self.head(prefix) else { return false };
        let Some((gone, head)) = self.entries.remove(first, key) else { return false };
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

    /// Whether it came from the router's own AS.
    pub fn is_internal(&self) -> bool {
        self.incoming.sender.internal
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
mod tests;
