//! What is announced to whom: brought up to date in steps, each of which looks at so many services and
//! decides about so many prefixes.

pub(in crate::control) mod decide;
mod learned;
pub(in crate::control) mod leave;
pub(in crate::control) mod offers;
mod playbook;
mod proof;
pub(in crate::control) mod reason;
pub(super) mod stale;
pub(in crate::control) mod standing;
pub(super) mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;

use ipnetwork::IpNetwork;
use nearhop_fib::IpPrefix;

use self::decide::{Audience, Decision, Scene, decide};
use self::learned::Learned;
use self::stale::Stale;
use self::standing::Health;
use self::told::{PathKey, Told};
use super::{Bgp, NeighborState};
use crate::bgp::lane::{BgpOrder, Change};
use crate::bgp::session::State;
use crate::bgp::{FAMILIES, NextHop, PerFamily, RefreshKind};
use crate::config::Config;
use crate::config::model;
use crate::control::select::Known;
use crate::control::services::Services;
use crate::ids::{Family, NeighborId};
use crate::put_back::{self, PutBack};
use crate::time::Nanos;

/// What is decided about a prefix.
pub struct Advertised<'a> {
    /// The prefix.
    pub prefix: IpPrefix,
    /// For each neighbour, in the order in which they were configured first.
    pub decisions: Vec<Decided<'a>>,
}

/// What is decided about a path to a prefix, for a neighbour.
pub struct Decided<'a> {
    /// The neighbour.
    pub neighbor: &'a NeighborState,
    /// What the prefix is of, or whose path it is.
    pub of: String,
    /// What is decided.
    pub decision: Decision,
}

impl Bgp {
    /// A service's sites may be well now, or no more.
    pub(in crate::control) fn mark(&mut self, service: &str) {
        if self.is_on {
            self.announcements.mark(service);
        }
    }

    /// These prefixes are blocked, and no others; those that `changed` were not, or are no more.
    pub(in crate::control) fn set_blocks(
        &mut self,
        config: &Config,
        blocks: &BTreeSet<IpPrefix>,
        changed: impl IntoIterator<Item = IpPrefix>,
    ) {
        self.announcements.set_blocks(config, blocks);
        for prefix in changed {
            self.neighbors.values_mut().for_each(|state| state.stale.mark(prefix));
        }
    }

    /// These playbooks are applied, and no others.
    pub(in crate::control) fn set_playbooks(&mut self, config: &Config, names: &BTreeSet<String>) {
        if self.announcements.set_playbooks(config, names) {
            self.mark_all();
        }
    }

    /// Services that are announced to a neighbour now, and would be to none if these playbooks of a configuration were
    /// applied: `NAME`, or `NAME/FAMILY` where those of the other family still would be.
    pub(in crate::control) fn left_unannounced(
        &self,
        config: &Config,
        services: Services<'_>,
        (playbooks, names): (&Config, &BTreeSet<String>),
    ) -> BTreeSet<String> {
        let applied = offers::playbooks(playbooks, names);
        let scene = Scene { playbooks: &applied, ..self.announcements.scene() };
        let mut left = BTreeSet::new();
        let mut still = BTreeSet::new();
        for (&prefix, of) in &self.announcements.offered {
            let offers::Offered::Service(name) = of else { continue };
            for (&id, state) in &self.neighbors {
                if state.announced.has(prefix) {
                    let subject = self.announcements.subject(services, prefix, &state.announced);
                    let Some(subject) = subject else { continue };
                    let decision = decide(&subject, &audience(config, (id, state)), &scene);
                    let announced =
                        if decision.announce.is_some() { &mut still } else { &mut left };
                    announced.insert((name.clone(), Family::of(prefix.addr())));
                }
            }
        }
        let is_left = |one: &(String, Family)| left.contains(one) && !still.contains(one);
        let text = |one: &(String, Family)| {
            let (name, family) = one;
            let is_partly = FAMILIES.iter().any(|other| still.contains(&(name.clone(), *other)));
            if is_partly { format!("{name}/{}", family.label()) } else { name.clone() }
        };
        left.iter().filter(|one| is_left(one)).map(text).collect()
    }

    /// All of what is announced may be another.
    fn mark_all(&mut self) {
        self.neighbors.values_mut().for_each(|state| state.stale.mark_all());
    }

    /// Other paths to these prefixes may be announced onward.
    pub(in crate::control) fn mark_learned(
        &mut self,
        prefixes: impl IntoIterator<Item = IpPrefix>,
    ) {
        for prefix in prefixes {
            let hear = self.neighbors.values_mut().filter(|state| state.config.terms.takes_learned);
            hear.for_each(|state| state.stale.mark(prefix));
        }
    }

    /// Announces and withdraws a part of what changed; `health` is what is known of a service's sites.
    pub(in crate::control) fn announce(
        &mut self,
        now: Nanos,
        config: &Config,
        known: Known<'_>,
        health: impl Fn(&model::Service, Family) -> Health,
    ) {
        self.go_on_leaving(now);
        self.expire_proofs(now);
        for (&id, state) in &mut self.neighbors {
            if state.refreshes.expire(now) {
                log::warn!(
                    "bgp {}: its refresh has no end; what it left out is gone",
                    state.config.name
                );
                self.sweeping.insert(id);
            }
        }
        for prefix in self.announcements.look_at_services(now, known.services, health) {
            self.neighbors.values_mut().for_each(|state| state.stale.mark(prefix));
        }
        if !self.neighbors.values().any(is_behind) {
            return;
        }
        let mut left = DECISIONS_PER_STEP;
        let after = self.announcements.served.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.neighbors.range((after, Bound::Unbounded)).map(|(&id, _)| id);
        let turn: Vec<NeighborId> = later.chain(self.neighbors.keys().copied()).collect();
        for id in turn {
            if left == 0 {
                break;
            }
            self.serve(config, known, id, &mut left);
        }
    }

    /// Whether [`Self::announce`] has not brought everything up to date yet.
    pub(in crate::control) fn is_behind(&self) -> bool {
        !self.announcements.is_settled() || self.neighbors.values().any(is_behind)
    }

    /// When [`Self::announce`] has something to say although nothing happened.
    pub(in crate::control) fn poll_timeout(&self) -> Option<Nanos> {
        let refreshes = self.neighbors.values().filter_map(|state| state.refreshes.due());
        refreshes.chain(self.announcements.due()).min()
    }

    /// Aggregates that are announced, if they are others than when it was last asked.
    pub(in crate::control) fn take_active_aggregates(&mut self) -> Option<&BTreeSet<IpPrefix>> {
        self.announcements.take_active()
    }

    /// What is decided about prefixes after one.
    pub(in crate::control) fn advertised<'a>(
        &'a self,
        config: &'a Config,
        known: Known<'a>,
        after: Option<IpPrefix>,
    ) -> impl Iterator<Item = Advertised<'a>> {
        let learned = self.learned(known);
        let mut last = after;
        let prefixes = std::iter::from_fn(move || {
            let from = last.map_or(Bound::Unbounded, Bound::Excluded);
            let offered = self.announcements.offered.range((from, Bound::Unbounded)).next();
            let offered = offered.map(|(prefix, _)| *prefix);
            let of_others = self.exports_learned().then(|| learned.following(last)).flatten();
            last = [offered, of_others].into_iter().flatten().min();
            last
        });
        prefixes.filter_map(move |prefix| {
            let decisions = self.decisions(config, (known, learned), prefix);
            (!decisions.is_empty()).then_some(Advertised { prefix, decisions })
        })
    }

    /// What is decided about a prefix, for every neighbour; nothing of one that is not looked at yet.
    fn decisions<'a>(
        &'a self,
        config: &Config,
        (known, learned): (Known<'a>, Learned<'a>),
        prefix: IpPrefix,
    ) -> Vec<Decided<'a>> {
        let scene = self.announcements.scene();
        let mut all = Vec::new();
        if let Some(of) = self.announcements.offered.get(&prefix) {
            for (&id, neighbor) in &self.neighbors {
                let told = &neighbor.announced;
                let subject = self.announcements.subject(known.services, prefix, told);
                let Some(subject) = subject else { return all };
                let audience = audience(config, (id, neighbor));
                let decision = decide(&subject, &audience, &scene).under(neighbor.lease, &audience);
                all.push(Decided { neighbor, of: of.to_string(), decision });
            }
            return all;
        }
        for (&id, neighbor) in &self.neighbors {
            let audience = audience(config, (id, neighbor));
            for ((from, path_id), decision) in learned.decide(prefix, &audience, &scene) {
                let decision = decision.under(neighbor.lease, &audience);
                let from = self.neighbors.get(&from);
                let from = from.map_or("a neighbour that is gone", |state| &state.config.name);
                all.push(Decided { neighbor, of: format!("path {path_id} of {from}"), decision });
            }
        }
        all
    }

    /// Whether any neighbour hears of others' paths.
    fn exports_learned(&self) -> bool {
        self.neighbors.values().any(|state| state.config.terms.takes_learned)
    }

    fn learned<'a>(&'a self, known: Known<'a>) -> Learned<'a> {
        Learned { paths: &self.paths, rib: known.rib, neighbors: &self.neighbors }
    }

    /// Decides again about prefixes of one neighbour, while there are some and some are `left`.
    fn serve(&mut self, config: &Config, known: Known<'_>, id: NeighborId, left: &mut usize) {
        let Some(state) = self.neighbors.get_mut(&id).filter(|state| is_behind(state)) else {
            return;
        };
        self.announcements.served = Some(id);
        let mut news = std::mem::take(&mut state.stale);
        let mut said = std::mem::take(&mut state.announced);
        let mut changes: Vec<Change> = Vec::new();
        let mut store = std::mem::take(&mut self.store);
        if let Some(state) = self.neighbors.get(&id) {
            let (audience, scene) = (audience(config, (id, state)), self.announcements.scene());
            let learned = self.learned(known);
            let offered = &self.announcements.offered;
            while *left > 0
                && let Some(prefix) = news.take(|after| {
                    let of_others =
                        state.config.terms.takes_learned.then(|| learned.following(after));
                    following(offered, after)
                        .into_iter()
                        .chain(said.following(after))
                        .chain(of_others.flatten())
                        .min()
                })
            {
                let decisions: Vec<(Option<PathKey>, Decision)> = if offered.contains_key(&prefix) {
                    let subject = self.announcements.subject(known.services, prefix, &said);
                    subject.map(|one| (None, decide(&one, &audience, &scene))).into_iter().collect()
                } else {
                    let all = learned.decide(prefix, &audience, &scene).into_iter();
                    all.map(|(key, decision)| (Some(key), decision)).collect()
                };
                *left = left.saturating_sub(decisions.len().max(1));
                let paths = decisions
                    .into_iter()
                    .filter_map(|(of, decision)| Some((of, store.intern(decision.announce?))));
                let family = Family::of(prefix.addr());
                let how = (*audience.several_paths.of(family), *state.again.of(family));
                said.set(prefix, paths.collect(), how, &mut changes);
            }
        }
        self.store = store;
        self.send(id, (news, said), changes);
    }

    /// Orders what a neighbour has to hear, and keeps what is left to decide and what it has heard.
    fn send(&mut self, id: NeighborId, (news, said): (Stale, Told), changes: Vec<Change>) {
        let Some(state) = self.neighbors.get_mut(&id) else { return };
        (state.stale, state.announced) = (news, said);
        let mut end = false;
        let mut again = PerFamily::NONE;
        if state.stale.is_empty() {
            again = std::mem::replace(&mut state.again, PerFamily::NONE);
            if self.announcements.is_settled() {
                end = std::mem::take(&mut state.owes_end);
            }
        }
        if end || !changes.is_empty() {
            self.orders.push(BgpOrder::Announce(id, changes, end));
        }
        for family in again.set() {
            self.orders.push(BgpOrder::Mark(id, family, RefreshKind::End));
        }
    }
}

impl NeighborState {
    /// A session has begun: all is announced, then End-of-RIB.
    pub(super) fn begin_announcing(&mut self) {
        self.end_announcing();
        self.stale.mark_all();
        self.owes_end = true;
    }

    /// A session has ended, and the neighbour has forgotten all.
    pub(super) fn end_announcing(&mut self) {
        if !put_back::is(PutBack::AnnouncedBefore) {
            self.announced.clear();
        }
        self.stale = Stale::default();
        (self.again, self.owes_end) = (PerFamily::NONE, false);
    }

    /// The neighbour wants to hear all of a family once more (RFC 2918).
    pub(super) fn announce_again(&mut self, family: Family) {
        *self.again.of_mut(family) = true;
        self.stale.mark_all();
    }
}

fn is_behind(state: &NeighborState) -> bool {
    // The news of the state come after those of the session's beginning.
    let is_heard = state.state == State::Established || put_back::is(PutBack::StateUnnoticed);
    is_heard && (!state.stale.is_empty() || state.owes_end)
}

/// The first prefix after one that may be announced.
fn following<A>(offered: &BTreeMap<IpPrefix, A>, after: Option<IpPrefix>) -> Option<IpPrefix> {
    let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
    offered.range(from).next().map(|(prefix, _)| *prefix)
}

/// The port of a neighbour's link, which the router's end of the session is on. There is none if that is an address
/// of the router itself.
fn port_of<'a>(
    config: &'a Config,
    neighbor: &model::Neighbor,
    local: IpAddr,
) -> Option<&'a model::Port> {
    config.ports.iter().find(|port| match &neighbor.port {
        Some(name) => port.name == *name,
        None => port.addresses.iter().any(|net| net.ip() == local),
    })
}

fn audience<'a>(config: &'a Config, (id, state): (NeighborId, &'a NeighborState)) -> Audience<'a> {
    let negotiated = state.negotiated.as_deref();
    Audience {
        config: &state.config,
        state: state.state,
        families: state.families,
        port: port_of(config, &state.config, state.local()).map(|port| &*port.name),
        next_hops: PerFamily::with(|family| next_hop_for(config, state, family)),
        several_paths: PerFamily::with(|family| {
            negotiated.is_some_and(|negotiated| negotiated.add_path.of(family).send)
        }),
        id,
        is_internal: state.is_internal,
        asn: config.bgp.as_ref().map_or(0, |bgp| bgp.asn),
    }
}

/// The next hop of what is announced in a family: the router's end, or its address of the other family on
/// the same port. On a link the router's link-local address, beside a global one of the port if it has one (RFC
/// 2545 section 3), also for IPv4 if the neighbour takes that (RFC 8950).
fn next_hop_for(config: &Config, state: &NeighborState, family: Family) -> Option<NextHop> {
    let local = state.local();
    let port = port_of(config, &state.config, local);
    let addresses = port.map_or(&config.router.addresses, |port| &port.addresses);
    let global = |family| global_address(addresses, family);
    if let (Some(_), IpAddr::V6(on_link)) = (&state.config.port, local) {
        let takes_ipv6 = state.negotiated.as_ref().is_some_and(|both| both.extended_next_hop);
        if family == Family::Ipv4 && !takes_ipv6 {
            return global(family).map(NextHop::new);
        }
        return Some(match global(Family::Ipv6) {
            Some(addr) => NextHop { addr, link_local: Some(on_link) },
            None => NextHop::new(local),
        });
    }
    if Family::of(local) == family {
        return Some(NextHop::new(local));
    }
    global(family).map(NextHop::new)
}

/// The first address of a family that means something beyond its link.
fn global_address<'a>(
    own: impl IntoIterator<Item = &'a IpNetwork>,
    family: Family,
) -> Option<IpAddr> {
    let is_on_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let is_usable = |ip: &IpAddr| Family::of(*ip) == family && !is_on_link(ip);
    own.into_iter().map(IpNetwork::ip).find(is_usable)
}

/// Prefixes that are decided about in a step, over all neighbours, and changes of an order to a session at
/// most.
const DECISIONS_PER_STEP: usize = 512;
