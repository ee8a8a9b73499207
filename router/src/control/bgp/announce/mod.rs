//! What is announced to whom: brought up to date in steps, each of which looks at so many services and
//! decides about so many prefixes.

pub(in crate::control) mod decide;
pub(in crate::control) mod leave;
pub(in crate::control) mod offers;
mod playbook;
pub(super) mod stale;
pub(in crate::control) mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use nearhop_fib::IpPrefix;

use self::decide::{Audience, Decision, Scene, decide};
use self::offers::Offered;
use self::stale::Stale;
use self::standing::Health;
use super::{Bgp, NeighborState};
use crate::bgp::lane::{BgpOrder, Change};
use crate::bgp::session::State;
use crate::bgp::{PerFamily, RefreshKind};
use crate::config::Config;
use crate::config::model;
use crate::control::services::Services;
use crate::ids::{Family, NeighborId};
use crate::put_back::{self, PutBack};
use crate::time::Nanos;

/// What is decided about a prefix.
pub struct Advertised<'a> {
    /// The prefix.
    pub prefix: IpPrefix,
    /// What it is of.
    pub of: &'a Offered,
    /// For each neighbour, in the order in which they were configured first.
    pub decisions: Vec<(&'a NeighborState, Decision)>,
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

    /// Services that are announced to a neighbour now, and would be to none if these playbooks were applied.
    pub(in crate::control) fn left_unannounced(
        &self,
        config: &Config,
        services: Services<'_>,
        names: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let applied = offers::playbooks(config, names);
        let scene = Scene { playbooks: &applied, ..self.announcements.scene() };
        let mut left = BTreeSet::new();
        let mut still = BTreeSet::new();
        for (&prefix, of) in &self.announcements.offered {
            let Offered::Service(name) = of else { continue };
            let Some(subject) = self.announcements.subject(services, prefix) else { continue };
            for state in self.neighbors.values() {
                if state.announced.contains_key(&prefix) {
                    let decision = decide(&subject, &audience(config, state), &scene);
                    let announced =
                        if decision.announce.is_some() { &mut still } else { &mut left };
                    announced.insert(name.clone());
                }
            }
        }
        left.retain(|name| !still.contains(name));
        left
    }

    /// All of what is announced may be another.
    fn mark_all(&mut self) {
        self.neighbors.values_mut().for_each(|state| state.stale.mark_all());
    }

    /// Announces and withdraws a part of what changed; `health` is what is known of a service's sites.
    pub(in crate::control) fn announce(
        &mut self,
        now: Nanos,
        config: &Config,
        services: Services<'_>,
        health: impl Fn(&model::Service, Family) -> Health,
    ) {
        self.go_on_leaving(now);
        for prefix in self.announcements.look_at_services(now, services, health) {
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
            self.serve(config, services, id, &mut left);
        }
    }

    /// Whether [`Self::announce`] has not brought everything up to date yet.
    pub(in crate::control) fn is_behind(&self) -> bool {
        !self.announcements.is_settled() || self.neighbors.values().any(is_behind)
    }

    /// When [`Self::announce`] has something to say although nothing happened.
    pub(in crate::control) fn poll_timeout(&self) -> Option<Nanos> {
        self.announcements.due()
    }

    /// Aggregates that are announced, if they are others than when it was last asked.
    pub(in crate::control) fn take_active_aggregates(&mut self) -> Option<&BTreeSet<IpPrefix>> {
        self.announcements.take_active()
    }

    /// What is decided about prefixes after one.
    pub(in crate::control) fn advertised<'a>(
        &'a self,
        config: &'a Config,
        services: Services<'a>,
        after: Option<IpPrefix>,
    ) -> impl Iterator<Item = Advertised<'a>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let prefixes = self.announcements.offered.range((from, Bound::Unbounded));
        prefixes.filter_map(move |(&prefix, of)| {
            let subject = self.announcements.subject(services, prefix)?;
            let scene = self.announcements.scene();
            let decide = |state| {
                let audience = audience(config, state);
                (state, decide(&subject, &audience, &scene).under(state.lease, &audience))
            };
            let decisions = self.neighbors.values().map(decide).collect();
            Some(Advertised { prefix, of, decisions })
        })
    }

    /// Decides again about prefixes of one neighbour, while there are some and some are `left`.
    fn serve(&mut self, config: &Config, services: Services<'_>, id: NeighborId, left: &mut usize) {
        let Self { announcements, neighbors, orders, store, .. } = self;
        let Some(state) = neighbors.get_mut(&id).filter(|state| is_behind(state)) else { return };
        announcements.served = Some(id);
        let mut news = std::mem::take(&mut state.stale);
        let mut said = std::mem::take(&mut state.announced);
        let (audience, scene) = (audience(config, state), announcements.scene());
        let mut changes: Vec<Change> = Vec::new();
        while *left > 0
            && let Some(prefix) = news.take(|after| following(&announcements.offered, &said, after))
        {
            *left -= 1;
            let subject = announcements.subject(services, prefix);
            let decision = subject.map(|subject| decide(&subject, &audience, &scene));
            match decision.and_then(|decision| decision.announce) {
                Some(attributes) => {
                    let is_again = *state.again.of(Family::of(prefix.addr()));
                    let before = said.get(&prefix);
                    if is_again || before.is_none_or(|before| **before != attributes) {
                        let attributes = store.intern(attributes);
                        changes.push((prefix, Some(Arc::clone(&attributes))));
                        said.insert(prefix, attributes);
                    }
                }
                None if said.remove(&prefix).is_some() => changes.push((prefix, None)),
                None => {}
            }
        }
        (state.stale, state.announced) = (news, said);
        let mut end = false;
        let mut again = PerFamily::NONE;
        if state.stale.is_empty() {
            again = std::mem::replace(&mut state.again, PerFamily::NONE);
            if announcements.is_settled() {
                end = std::mem::take(&mut state.owes_end);
            }
        }
        if end || !changes.is_empty() {
            orders.push(BgpOrder::Announce(id, changes, end));
        }
        for family in again.set() {
            orders.push(BgpOrder::Mark(id, family, RefreshKind::End));
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

/// The first prefix after one that may be announced, or is.
fn following<A, B>(
    offered: &BTreeMap<IpPrefix, A>,
    announced: &BTreeMap<IpPrefix, B>,
    after: Option<IpPrefix>,
) -> Option<IpPrefix> {
    let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
    let offered = offered.range(from).next().map(|(prefix, _)| *prefix);
    let announced = announced.range(from).next().map(|(prefix, _)| *prefix);
    [offered, announced].into_iter().flatten().min()
}

fn audience<'a>(config: &Config, state: &'a NeighborState) -> Audience<'a> {
    Audience {
        config: &state.config,
        state: state.state,
        families: state.families,
        next_hops: PerFamily::with(|family| next_hop_for(config, state.local(), family)),
        is_internal: state.is_internal,
        asn: config.bgp.as_ref().map_or(0, |bgp| bgp.asn),
    }
}

/// The next hop of what is announced in a family: the router's end, or its address of the other family on
/// the same port.
fn next_hop_for(config: &Config, local: IpAddr, family: Family) -> Option<IpAddr> {
    if Family::of(local) == family {
        return Some(local);
    }
    let has_local = |port: &&model::Port| port.addresses.iter().any(|net| net.ip() == local);
    let port = config.ports.iter().find(has_local);
    let addresses = port.map_or(&config.router.addresses, |port| &port.addresses);
    let usable = |ip: &IpAddr| {
        Family::of(*ip) == family && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
    };
    addresses.iter().map(ipnetwork::IpNetwork::ip).find(usable)
}

/// Prefixes that are decided about in a step, over all neighbours, and changes of an order to a session at
/// most.
const DECISIONS_PER_STEP: usize = 512;
