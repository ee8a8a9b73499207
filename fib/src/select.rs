//! Which member of a group a flow goes to: the cheapest tier that lives, in it the site by
//! weighted rendezvous hash, in the site the link by a second hash.
//!
//! Where no site that lives takes the flow, the last resorts are, in this order: sites that live and are
//! not drained, whatever share they take; sites that are only damped and not drained; the group that the
//! policy leads on to, such as what covers the prefix; drained sites; the rest of the policy ([`WhenDead`]). A site that an
//! operator has disabled serves nobody.
//!
//! Rendezvous hashing (Thaler and Ravishankar, 1998) ranks every site for every flow on its own,
//! so that a site's death moves only its own flows. Weights follow the logarithm method
//! (Schindelhauer and Schomaker, 2005): with u uniform, the least −log(u) / weight wins with
//! probability proportional to weight.

use core::hint::select_unpredictable;

use crate::flow::{FlowHash, negative_log2};
use crate::group::{GroupId, GroupRef, Groups, Kind, Spread, WhenDead, Word};
use crate::state::{ACCEPT_ALL, ACCEPT_NONE, AdjacencyId, Liveness, PathId, Reason};
use crate::sync::Ordering;

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Selected {
    /// Send it this way.
    Member {
        /// The path: site and leg.
        path: PathId,
        /// The way out.
        adjacency: AdjacencyId,
    },
    /// It is for the router itself.
    Local,
    /// No prefix covers it.
    NoRoute,
    /// A blackhole route.
    Blackhole,
    /// An unreachable route.
    Unreachable,
    /// A prohibit route.
    Prohibit,
    /// Every member is down.
    AllDead {
        /// Whether its sender gets an ICMP error.
        answer: bool,
    },
    /// Every member that lives leads back to where the packet came from, and none of them is the
    /// one that would be chosen if all were alive.
    UTurn {
        /// Whether its sender gets an ICMP error.
        answer: bool,
    },
    /// Covering groups refer to each other more than [`COVERING_MAX`] times.
    CoveringLoop,
}

impl From<Word> for Selected {
    #[inline]
    fn from(member: Word) -> Self {
        Self::Member { path: member.path(), adjacency: member.adjacency() }
    }
}

/// How often a dead group may pass a packet on to the covering one.
pub const COVERING_MAX: usize = 8;

/// Chooses for one flow. Bounded work: at most [`COVERING_MAX`] groups of 64 members, six times
/// each where sites refuse flows. Where an `ingress` is given, a member that leads back out of
/// that port is taken only if it would be chosen with all alive: none of a covering group, unless
/// nobody has a member before it.
pub(crate) fn select(
    groups: &Groups,
    liveness: &Liveness,
    id: GroupId,
    hash: impl FnOnce(Spread) -> FlowHash,
    ingress: Option<u16>,
) -> Selected {
    let Some(group) = groups.get(id) else { return Selected::NoRoute };
    let flow = hash(group.header().spread);
    select_any(groups, liveness, id, flow, ingress)
}

/// Chooses as [`select`] does without an `ingress`, and stores the result in `chosen`: results that
/// are returned in registers cost more.
#[inline]
pub(crate) fn select_to(
    groups: &Groups,
    liveness: &Liveness,
    id: GroupId,
    hash: impl FnOnce(Spread) -> FlowHash,
    chosen: &mut Selected,
) {
    let Some(group) = groups.get(id) else {
        *chosen = Selected::NoRoute;
        return;
    };
    let flow = hash(group.header().spread);
    match plain(group, liveness, flow) {
        Some(member) => *chosen = member.into(),
        None => *chosen = select_any(groups, liveness, id, flow, None),
    }
}

/// The choice of most groups most of the time, without a branch that hashes decide: the best of the
/// living sites of the first tier, if these have one link each and weigh the same; `None` if a site
/// takes a share of its flows only, or none lives.
#[inline]
fn plain(group: GroupRef<'_>, liveness: &Liveness, flow: FlowHash) -> Option<Word> {
    let (mut best, mut leading, mut is_plain) = (Word(0), 0, true);
    group.each_plain(|member| {
        let state = liveness.path(member.path());
        let is_alive = liveness.is_alive(member.path(), member.adjacency());
        is_plain &= state.accept.load(Ordering::Relaxed) == ACCEPT_ALL;
        // In the order of `Rank::is_ahead`: the greatest hash, and of equals the first, since members
        // are in the order of their keys.
        let hash = FlowHash::with_key(flow.site, state.site_key.load(Ordering::Relaxed));
        let hash = select_unpredictable(is_alive, hash | 1, 0);
        best.0 = select_unpredictable(hash > leading, member.0, best.0);
        leading = leading.max(hash);
    });
    (is_plain && leading != 0).then_some(best)
}

/// Calls `each` with a living member of each site of a group, in order: the link that the flow
/// would take, were its site chosen. Bounded work: the 64 members of the group.
pub(crate) fn each_living_site(
    groups: &Groups,
    liveness: &Liveness,
    id: GroupId,
    flow: FlowHash,
    mut each: impl FnMut(PathId, AdjacencyId),
) {
    let Some(group) = groups.get(id) else { return };
    let choice = Choice { group, liveness, flow, barred: None };
    let (mut nth, mut next) = (0, 0);
    while let Some(site) = choice.site(nth, next) {
        (nth, next) = (nth + 1, site.end);
        if site.alive != 0
            && let Some(member) = choice.link(&site, site.alive)
        {
            each(member.path(), member.adjacency());
        }
    }
}

#[inline(never)]
fn select_any(
    groups: &Groups,
    liveness: &Liveness,
    id: GroupId,
    flow: FlowHash,
    ingress: Option<u16>,
) -> Selected {
    let Some(mut group) = groups.get(id) else { return Selected::NoRoute };
    let (mut drained, mut is_repair) = (None, false);
    for _ in 0..COVERING_MAX {
        match group.header().kind {
            Kind::Forward => {}
            Kind::Local => return Selected::Local,
            Kind::Blackhole => return Selected::Blackhole,
            Kind::Unreachable => return Selected::Unreachable,
            Kind::Prohibit => return Selected::Prohibit,
        }
        let mut choice = Choice { group, liveness, flow, barred: None };
        let best = choice.any().filter(|_| !is_repair);
        is_repair |= best.is_some();
        choice.barred = ingress.map(|port| Barred { port, best });
        if let Some(member) = choice.living().or_else(|| choice.damped()) {
            return member.into();
        }
        drained = drained.or_else(|| choice.drained());
        let refusal = match group.header().when_dead {
            WhenDead::Covering(covering) => match groups.get(covering) {
                Some(covering) => {
                    group = covering;
                    continue;
                }
                None => Selected::NoRoute,
            },
            WhenDead::Unreachable => choice.refusal(true),
            WhenDead::Drop => choice.refusal(false),
            WhenDead::FailOpen => {
                choice.any().map_or(Selected::AllDead { answer: true }, Selected::from)
            }
        };
        return drained.map_or(refusal, Selected::from);
    }
    drained.map_or(Selected::CoveringLoop, Selected::from)
}

/// The members of one site in one tier: neighbours in the group, for the writer sorts them so.
#[derive(Clone, Copy)]
struct Site {
    first: usize,
    end: usize,
    tier: u8,
    key: u64,
    weight: u64,
    /// Bit i: member `first + i` was alive when the site was looked at. Looked at once: a link that
    /// dies between two looks must not leave a site without any.
    alive: u64,
    accept: u16,
}

struct Choice<'a> {
    group: GroupRef<'a>,
    liveness: &'a Liveness,
    flow: FlowHash,
    barred: Option<Barred>,
}

/// The port a packet came in by, which repair does not send it back to.
#[derive(Clone, Copy)]
struct Barred {
    port: u16,
    /// The member that may lead there all the same.
    best: Option<Word>,
}

impl Choice<'_> {
    /// Why no member was chosen.
    fn refusal(&self, answer: bool) -> Selected {
        let unbarred = Choice { barred: None, ..*self };
        if self.barred.is_some() && unbarred.drained().is_some() {
            return Selected::UTurn { answer };
        }
        Selected::AllDead { answer }
    }

    /// A living member: of a site that accepts the flow, else of one that is not drained.
    #[inline]
    fn living(&self) -> Option<Word> {
        let site = self
            .best(|site| site.alive != 0 && self.accepts(site))
            .or_else(|| self.best(|site| site.alive != 0 && site.accept != ACCEPT_NONE))?;
        self.link(&site, site.alive)
    }

    /// A member that is only damped, of a site that is not drained.
    #[cold]
    fn damped(&self) -> Option<Word> {
        self.resort(|site| site.accept != ACCEPT_NONE, |member| self.is_well(member))
    }

    /// A member that is damped at most, of whatever site.
    #[cold]
    fn drained(&self) -> Option<Word> {
        self.resort(|_| true, |member| self.is_well(member))
    }

    /// The member that would be chosen if all were alive that no operator has disabled.
    fn any(&self) -> Option<Word> {
        self.resort(
            |_| true,
            |member| !self.liveness.path(member.path()).reasons.load().has(Reason::Operator),
        )
    }

    /// Of the best eligible site, a link that is eligible.
    fn resort(
        &self,
        eligible: impl Fn(&Site) -> bool,
        is_eligible: impl Fn(Word) -> bool,
    ) -> Option<Word> {
        let links = |site: &Site| {
            let members = (site.first..site.end).filter_map(|index| self.group.member(index));
            let bits = members.enumerate().map(|(nth, link)| u64::from(is_eligible(link)) << nth);
            bits.fold(0, |all, bit| all | bit)
        };
        let site = self.best(|site| eligible(site) && links(site) != 0)?;
        self.link(&site, links(&site))
    }

    /// The best-ranked site that is eligible, in the first tier that has one.
    #[inline]
    fn best(&self, eligible: impl Fn(&Site) -> bool) -> Option<Site> {
        let mut best: Option<(Site, Option<Rank>)> = None;
        let (mut nth, mut next) = (0, 0);
        while let Some(site) = self.site(nth, next) {
            (nth, next) = (nth + 1, site.end);
            if !eligible(&site) {
                continue;
            }
            let Some((leader, rank)) = &mut best else {
                best = Some((site, None));
                continue;
            };
            if site.tier != leader.tier {
                break;
            }
            // Most tiers have one eligible site, and need no rank at all.
            let leading = *rank.get_or_insert_with(|| self.rank(leader));
            let challenge = self.rank(&site);
            if challenge.is_ahead(leading) {
                best = Some((site, Some(challenge)));
            }
        }
        best.map(|(site, _)| site)
    }

    /// The site `nth` in order, whose members begin at `first`.
    #[inline]
    fn site(&self, nth: usize, first: usize) -> Option<Site> {
        let head = self.group.member(first)?;
        let stored = self.group.site(nth, head);
        let state = self.liveness.path(head.path());
        let mut site = Site {
            first,
            end: first + usize::from(stored.links),
            tier: head.tier(),
            key: state.site_key.load(Ordering::Relaxed),
            weight: stored.weight.into(),
            alive: u64::from(self.is_alive(head)),
            accept: state.accept.load(Ordering::Relaxed),
        };
        for index in first + 1..site.end {
            site.alive |= u64::from(self.is_alive(self.group.member(index)?)) << (index - first);
        }
        Some(site)
    }

    /// The link inside a site, of those whose bit is set in `eligible`.
    #[inline]
    fn link(&self, site: &Site, eligible: u64) -> Option<Word> {
        let mut best: Option<(Word, Rank)> = None;
        for index in site.first..site.end {
            let member = self.group.member(index)?;
            if eligible >> (index - site.first) & 1 == 0 {
                continue;
            }
            if site.end - site.first == 1 {
                return Some(member);
            }
            let key = self.liveness.adjacency(member.adjacency()).key.load(Ordering::Relaxed);
            let rank = Rank::new(self.flow.link(), key, u64::from(member.weight()));
            if best.as_ref().is_none_or(|(_, leading)| rank.is_ahead(*leading)) {
                best = Some((member, rank));
            }
        }
        best.map(|(member, _)| member)
    }

    #[inline]
    fn rank(&self, site: &Site) -> Rank {
        Rank::new(self.flow.site, site.key, site.weight)
    }

    #[inline]
    fn accepts(&self, site: &Site) -> bool {
        site.accept == ACCEPT_ALL || self.flow.accept_hash(site.key) < site.accept
    }

    #[inline]
    fn is_alive(&self, member: Word) -> bool {
        self.liveness.is_alive(member.path(), member.adjacency())
            && self.barred.is_none_or(|barred| self.is_allowed(member, barred))
    }

    fn is_well(&self, member: Word) -> bool {
        self.liveness.is_well(member.path(), member.adjacency())
            && self.barred.is_none_or(|barred| self.is_allowed(member, barred))
    }

    fn is_allowed(&self, member: Word, barred: Barred) -> bool {
        let port = self.liveness.adjacency(member.adjacency()).port.load(Ordering::Relaxed);
        port != barred.port || barred.best == Some(member)
    }
}

/// What a site or a link is compared by.
#[derive(Clone, Copy)]
struct Rank {
    hash: u64,
    weight: u64,
    key: u64,
}

impl Rank {
    #[inline]
    fn new(flow: u64, key: u64, weight: u64) -> Self {
        Self { hash: FlowHash::with_key(flow, key), weight, key }
    }

    /// Whether this ranks before `other`: the less −log(hash) per weight, then the greater hash,
    /// then the key. Of equal weights the greater hash has the less logarithm, so that none need be
    /// taken. Logarithms are below 2⁴⁰ and weights below 2¹⁶, so the products fit.
    #[inline]
    fn is_ahead(self, other: Self) -> bool {
        if self.weight != other.weight {
            let mine = negative_log2(self.hash) * other.weight;
            let theirs = negative_log2(other.hash) * self.weight;
            if mine != theirs {
                return mine < theirs;
            }
        }
        (other.hash | 1, self.key) < (self.hash | 1, other.key)
    }
}
