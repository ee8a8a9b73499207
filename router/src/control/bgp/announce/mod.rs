//! What is announced to whom: brought up to date in steps, each of which looks at so many services and
//! decides about so many prefixes.

pub(in crate::control) mod decide;
pub(in crate::control) mod leave;
pub(super) mod stale;
pub(in crate::control) mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use nearhop_fib::IpPrefix;

use self::decide::{Audience, Decision, Scene, Subject, decide};
use self::leave::Leave;
use self::stale::Stale;
use self::standing::{Health, Standing};
use super::{Bgp, NeighborState};
use crate::bgp::lane::{BgpOrder, Change};
use crate::bgp::session::State;
use crate::bgp::{AttributeStore, PerFamily};
use crate::config::Config;
use crate::config::model;
use crate::control::services::Services;
use crate::ids::{Family, NeighborId};
use crate::put_back::{self, PutBack};
use crate::time::Nanos;

/// What may be announced, and how it stands.
#[derive(Default)]
pub(super) struct Announcements {
    /// Every prefix that may be announced.
    offered: BTreeMap<IpPrefix, Offered>,
    standings: BTreeMap<String, PerFamily<Standing>>,
    /// When a service is looked at although nothing happened to it.
    due: BTreeMap<String, Nanos>,
    /// Services that may stand otherwise by now.
    unsure: BTreeSet<String>,
    /// Whether all of it is about to be withdrawn, or is.
    leave: Leave,
    /// Equal attributes are one, so that prefixes share UPDATEs.
    store: AttributeStore,
    /// The neighbour that was served last.
    served: Option<NeighborId>,
}

/// What is decided about a prefix.
pub struct Advertised<'a> {
    /// The prefix.
    pub prefix: IpPrefix,
    /// What it is of.
    pub of: &'a Offered,
    /// For each neighbour, in the order in which they were configured first.
    pub decisions: Vec<(&'a NeighborState, Decision)>,
}

/// What a prefix that may be announced is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Offered {
    /// The service of this name.
    Service(String),
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}

impl Announcements {
    /// What is configured changes.
    pub(super) fn configure(&mut self, config: &Config) {
        let services = config.services.iter().filter(|_| config.bgp.is_some());
        self.offered.clear();
        self.unsure.clear();
        for service in services {
            let prefixes = service.prefixes.iter();
            self.offered
                .extend(prefixes.map(|&prefix| (prefix, Offered::Service(service.name.clone()))));
            self.unsure.insert(service.name.clone());
        }
        self.standings.retain(|service, _| self.unsure.contains(service));
        self.due.retain(|service, _| self.unsure.contains(service));
    }

    fn standing(&self, service: &str, family: Family) -> Option<&Standing> {
        self.standings.get(service).map(|standings| standings.of(family))
    }
}

impl Bgp {
    /// A service's sites may be well now, or no more.
    pub(in crate::control) fn mark(&mut self, service: &str) {
        if self.is_on {
            self.announcements.unsure.insert(service.to_owned());
        }
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
        self.look_at_services(now, services, health);
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
        !self.announcements.unsure.is_empty() || self.neighbors.values().any(is_behind)
    }

    /// When [`Self::announce`] has something to say although nothing happened.
    pub(in crate::control) fn poll_timeout(&self) -> Option<Nanos> {
        let of_services = self.announcements.due.values().min().copied();
        of_services.into_iter().chain(self.announcements.leave.due()).min()
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
            let decide = |state| (state, decide(&subject, &audience(config, state), &scene));
            let decisions = self.neighbors.values().map(decide).collect();
            Some(Advertised { prefix, of, decisions })
        })
    }

    fn look_at_services(
        &mut self,
        now: Nanos,
        services: Services<'_>,
        health: impl Fn(&model::Service, Family) -> Health,
    ) {
        let Announcements { due, unsure, standings, offered, .. } = &mut self.announcements;
        unsure.extend(due.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()));
        for _ in 0..SERVICES_PER_STEP {
            let Some(name) = unsure.pop_first() else { break };
            due.remove(&name);
            let Some(service) = services.get(&name) else { continue };
            let of_service = standings.entry(name.clone()).or_default();
            for family in [Family::Ipv4, Family::Ipv6] {
                let of_family = |prefix: &&IpPrefix| Family::of(prefix.addr()) == family;
                let mut prefixes = service.prefixes.iter().filter(of_family).peekable();
                if prefixes.peek().is_none() {
                    continue;
                }
                let standing = of_service.of_mut(family);
                let before = *standing;
                standing.update(now, &service.announce, health(service, family));
                if let Some(until) = standing.due() {
                    let at = due.entry(name.clone()).or_insert(until);
                    *at = until.min(*at);
                }
                if before == *standing {
                    continue;
                }
                for &prefix in prefixes.filter(|prefix| offered.contains_key(*prefix)) {
                    self.neighbors.values_mut().for_each(|state| state.stale.mark(prefix));
                }
            }
        }
    }

    /// Decides again about prefixes of one neighbour, while there are some and some are `left`.
    fn serve(&mut self, config: &Config, services: Services<'_>, id: NeighborId, left: &mut usize) {
        let Self { announcements, neighbors, orders, .. } = self;
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
                        let attributes = announcements.store.intern(attributes);
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
        if state.stale.is_empty() {
            state.again = PerFamily::NONE;
            if announcements.unsure.is_empty() {
                end = std::mem::take(&mut state.owes_end);
            }
        }
        if end || !changes.is_empty() {
            orders.push(BgpOrder::Announce(id, changes, end));
        }
    }
}

impl Announcements {
    fn scene(&self) -> Scene {
        Scene { leave: self.leave }
    }

    fn subject<'a>(&'a self, services: Services<'a>, prefix: IpPrefix) -> Option<Subject<'a>> {
        let Offered::Service(name) = self.offered.get(&prefix)?;
        let service = services.get(name)?;
        let standing = self.standing(&service.name, Family::of(prefix.addr()))?;
        Some(Subject { prefix, service, standing })
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
        self.owes_end = true;
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

/// Services that are looked at in a step, each with all of its sites.
const SERVICES_PER_STEP: usize = 32;

/// Prefixes that are decided about in a step, over all neighbours, and changes of an order to a session at
/// most.
const DECISIONS_PER_STEP: usize = 512;
