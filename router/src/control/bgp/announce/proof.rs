//! Which prefixes packets reach a site of that come in by neighbours' ports: asked for before such a prefix is
//! announced first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nearhop_fib::IpPrefix;

use super::decide::Of;
use super::standing::Level;
use super::{global_address, port_of};
use crate::config::Config;
use crate::config::model::{AnnounceWhen, Neighbor, Port, Service};
use crate::control::bgp::{Bgp, local_of};
use crate::control::ports::Ports;
use crate::event::EventKind;
use crate::ids::{Family, PortId};
use crate::liveness::proof::{ProofId, ProofOrder, ProofSpec};
use crate::time::Nanos;

/// A prefix, and the name of a port by which packets to it come in.
type Way = (IpPrefix, String);

/// The proofs of all services that are announced once they have one.
#[derive(Default)]
pub(in crate::control::bgp) struct Proofs {
    known: BTreeMap<Way, Proof>,
    asked: BTreeMap<ProofId, Way>,
    /// Not asked for yet, and whom to ask.
    wanted: BTreeMap<Way, IpAddr>,
    /// Those that are waited for, by when they are no more.
    open: BTreeSet<(Nanos, Way)>,
    /// The ports of neighbours that hear of each of these services.
    ports: BTreeMap<String, BTreeSet<String>>,
    next_id: u64,
    orders: Vec<ProofOrder>,
}

/// How far a proof is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    /// It is waited for.
    Open {
        since: Nanos,
        /// Then it is waited for no more.
        until: Nanos,
        id: Option<ProofId>,
    },
    /// There is one, or it is waited for no more.
    Closed,
}

impl Bgp {
    /// Every worker has forwarded a packet from a neighbour's port to a site.
    pub(in crate::control) fn note_proof(&mut self, at: Nanos, id: ProofId) {
        let proven = self.announcements.proofs.close(at, id);
        self.close_proofs(at, proven);
    }

    /// What was to be proven and was not for long enough is announced all the same.
    pub(super) fn expire_proofs(&mut self, now: Nanos) {
        let over = self.announcements.proofs.expire(now);
        self.close_proofs(now, over);
    }

    fn close_proofs(&mut self, at: Nanos, closed: impl IntoIterator<Item = (IpPrefix, EventKind)>) {
        for (prefix, event) in closed {
            self.events.push((at, event));
            self.neighbors.values_mut().for_each(|state| state.stale.mark(prefix));
        }
    }

    /// Has what is wanted proven. What packets go by now has to be published.
    pub(in crate::control) fn ask_for_proofs(&mut self, config: &Config, ports: &Ports) {
        self.announcements.proofs.ask(config, ports);
    }

    /// Whether [`Self::ask_for_proofs`] has more to ask for.
    pub(in crate::control) fn wants_proofs(&self) -> bool {
        !self.announcements.proofs.wanted.is_empty()
    }

    /// Takes what the liveness engine is asked for.
    pub(in crate::control) fn take_proof_orders(&mut self) -> Vec<ProofOrder> {
        self.announcements.proofs.take_orders()
    }
}

impl Proofs {
    /// What is configured changes.
    pub(super) fn configure(&mut self, config: &Config) {
        self.ports.clear();
        let ways = ways_in(config);
        for service in config.services.iter().filter(|service| is_proven(service)) {
            let hear = ways.iter().filter(|(one, _)| Of::Service(service).is_exported(one));
            let ports = hear.map(|(_, port)| port.name.clone());
            self.ports.insert(service.name.clone(), ports.collect());
        }
        let prefixes = config.services.iter().filter(|service| is_proven(service));
        let prefixes: BTreeMap<IpPrefix, &BTreeSet<String>> = prefixes
            .flat_map(|service| service.prefixes.iter().map(|&prefix| (prefix, &service.name)))
            .filter_map(|(prefix, name)| Some((prefix, self.ports.get(name)?)))
            .collect();
        let is_gone =
            |(prefix, port): &Way| prefixes.get(prefix).is_none_or(|ports| !ports.contains(port));
        let gone: Vec<Way> = self.known.keys().filter(|way| is_gone(way)).cloned().collect();
        self.forget(&gone);
    }

    /// A prefix of a service may be announced as this.
    pub(super) fn note(&mut self, now: Nanos, service: &Service, prefix: IpPrefix, level: Level) {
        let Some(ports) = self.ports.get(&service.name) else { return };
        if level == Level::Withdrawn {
            let known = self.known.range((prefix, String::new())..);
            let of_prefix = known.map(|(way, _)| way).take_while(|(one, _)| *one == prefix);
            let gone: Vec<Way> = of_prefix.cloned().collect();
            return self.forget(&gone);
        }
        for port in ports {
            let way = (prefix, port.clone());
            if !self.known.contains_key(&way) {
                let until = now + service.announce.prove_timeout;
                self.known.insert(way.clone(), Proof::Open { since: now, until, id: None });
                self.open.insert((until, way.clone()));
                self.wanted.insert(way, target(service, prefix));
            }
        }
    }

    /// Asks for a part of what is wanted: what packets go by now is published.
    fn ask(&mut self, config: &Config, ports: &Ports) {
        for _ in 0..ASKED_PER_STEP {
            let Some((way, target)) = self.wanted.pop_first() else { break };
            let Some(Proof::Open { id, .. }) = self.known.get_mut(&way) else { continue };
            let ends = ends(config, ports, &way.1, Family::of(target));
            // Where it cannot be asked it is waited for, and announced all the same.
            let Some((port, source)) = ends else { continue };
            let spec = ProofSpec { id: ProofId(self.next_id), port, source, target };
            self.next_id += 1;
            *id = Some(spec.id);
            self.asked.insert(spec.id, way);
            self.orders.push(ProofOrder::Begin(spec));
        }
    }

    /// One is there. Returns what it is of and what happened, unless it is waited for no more.
    fn close(&mut self, at: Nanos, id: ProofId) -> Option<(IpPrefix, EventKind)> {
        let way = self.asked.remove(&id)?;
        self.close_way(at, &way, true)
    }

    /// Those that were waited for long enough are waited for no more.
    fn expire(&mut self, now: Nanos) -> Vec<(IpPrefix, EventKind)> {
        let over = self.open.iter().take_while(|(until, _)| *until <= now);
        let over: Vec<Way> = over.map(|(_, way)| way.clone()).collect();
        over.iter().filter_map(|way| self.close_way(now, way, false)).collect()
    }

    /// When [`Self::expire`] is to be called.
    pub(super) fn due(&self) -> Option<Nanos> {
        self.open.first().map(|(until, _)| *until)
    }

    /// Until when a prefix is not announced to neighbours on a port, for want of a proof. One that nobody has
    /// looked at yet has a wait of its own before it.
    pub(super) fn open_until(&self, prefix: IpPrefix, port: &str) -> Option<Nanos> {
        match self.known.get(&(prefix, port.to_owned()))? {
            Proof::Open { until, .. } => Some(*until),
            Proof::Closed => None,
        }
    }

    /// Takes what the liveness engine is asked for.
    fn take_orders(&mut self) -> Vec<ProofOrder> {
        std::mem::take(&mut self.orders)
    }

    fn close_way(&mut self, at: Nanos, way: &Way, proven: bool) -> Option<(IpPrefix, EventKind)> {
        let proof = self.known.get_mut(way)?;
        let Proof::Open { since, until, id } = std::mem::replace(proof, Proof::Closed) else {
            return None;
        };
        self.open.remove(&(until, way.clone()));
        self.wanted.remove(way);
        if !proven {
            self.end(id);
        }
        let (prefix, port) = way;
        let waited_ms = u64::try_from(at.since(since).as_millis()).unwrap_or(u64::MAX);
        let (text, port) = (prefix.to_string(), port.clone());
        Some((*prefix, EventKind::Proof { prefix: text, port, proven, waited_ms }))
    }

    fn forget(&mut self, ways: &[Way]) {
        for way in ways {
            self.wanted.remove(way);
            if let Some(Proof::Open { id, until, .. }) = self.known.remove(way) {
                self.open.remove(&(until, way.clone()));
                self.end(id);
            }
        }
    }

    fn end(&mut self, id: Option<ProofId>) {
        let Some(id) = id else { return };
        self.asked.remove(&id);
        self.orders.push(ProofOrder::End(id));
    }
}

fn is_proven(service: &Service) -> bool {
    service.announce.when == AnnounceWhen::Proven
}

/// The neighbours that a configuration names or has ranges for, and the ports by which packets from them come in.
/// One of several hops away has none.
fn ways_in(config: &Config) -> Vec<(&Neighbor, &Port)> {
    let Some(bgp) = &config.bgp else { return Vec::new() };
    let fixed = bgp.neighbors.iter().filter_map(|neighbor| {
        let local = local_of(config, neighbor)?;
        Some((neighbor, port_of(config, neighbor, local)?))
    });
    let of_ranges = bgp.ranges.iter().filter_map(|range| {
        let is_on = |port: &&Port| {
            port.addresses.iter().any(|network| network.contains(range.prefix.addr()))
        };
        Some((&range.template, config.ports.iter().find(is_on)?))
    });
    fixed.chain(of_ranges).collect()
}

/// A port, and the router's address for answers to what seems to come in there.
fn ends(config: &Config, ports: &Ports, name: &str, family: Family) -> Option<(PortId, IpAddr)> {
    let own = &config.ports.iter().find(|port| port.name == name)?.addresses;
    let source = global_address(own.iter().chain(&config.router.addresses), family)?;
    Some((ports.get(name)?.id, source))
}

/// The address of a prefix that checks ask, else its own.
fn target(service: &Service, prefix: IpPrefix) -> IpAddr {
    let checks = service.sites.iter().flat_map(|site| &site.health);
    let mut targets = checks.filter_map(|check| check.target);
    targets.find(|target| prefix.contains(*target)).unwrap_or(prefix.addr())
}

/// Proofs that are asked for at once.
const ASKED_PER_STEP: usize = 64;
