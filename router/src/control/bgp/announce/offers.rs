//! What may be announced, and how each of it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use nearhop_fib::IpPrefix;

use super::decide::{Of, Scene, Subject};
use super::leave::Leave;
use super::proof::Proofs;
use super::reason::Reason;
use super::standing::{Health, Level, Standing};
use super::told::Told;
use crate::bgp::PerFamily;
use crate::config::Config;
use crate::config::model::{Aggregate, AggregateWhile, Playbook, Service};
use crate::control::services::Services;
use crate::ids::{Family, NeighborId};
use crate::time::Nanos;

/// What may be announced, and how it stands.
#[derive(Default)]
pub(in crate::control::bgp) struct Announcements {
    /// Every prefix that may be announced.
    pub(super) offered: BTreeMap<IpPrefix, Offered>,
    standings: BTreeMap<String, PerFamily<Standing>>,
    pub(super) proofs: Proofs,
    /// When a service is looked at although nothing happened to it.
    due: BTreeMap<String, Nanos>,
    /// Services that may stand otherwise by now.
    unsure: BTreeSet<String>,
    /// The aggregates of each service.
    over: BTreeMap<String, Vec<IpPrefix>>,
    /// Aggregates that stand well enough to be announced.
    active: BTreeSet<IpPrefix>,
    is_active_new: bool,
    /// Those that are applied, in the order of the configuration.
    playbooks: Vec<Arc<Playbook>>,
    /// Prefixes that are blocked: whatever else they are of.
    blocks: BTreeSet<IpPrefix>,
    /// Whether all of it is about to be withdrawn, or is.
    pub(super) leave: Leave,
    /// The neighbour that was served last.
    pub(super) served: Option<NeighborId>,
}

/// What a prefix that may be announced is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Offered {
    /// An aggregate.
    Aggregate(Arc<Aggregate>),
    /// Nothing but that it is blocked.
    Block,
    /// The service of this name.
    Service(String),
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregate(_) => f.write_str("aggregate"),
            Self::Block => f.write_str("block"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}

impl Announcements {
    /// What is configured changes.
    pub(in crate::control::bgp) fn configure(&mut self, config: &Config) {
        self.offered.clear();
        self.unsure.clear();
        self.over.clear();
        if let Some(bgp) = &config.bgp {
            for service in &config.services {
                let prefixes = service.prefixes.iter();
                self.offered.extend(
                    prefixes.map(|&prefix| (prefix, Offered::Service(service.name.clone()))),
                );
                self.unsure.insert(service.name.clone());
            }
            for aggregate in &bgp.aggregates {
                for service in &aggregate.services {
                    self.over.entry(service.clone()).or_default().push(aggregate.prefix);
                }
                let offered = Offered::Aggregate(Arc::clone(aggregate));
                self.offered.entry(aggregate.prefix).or_insert(offered);
            }
        }
        if config.bgp.is_some() {
            let blocked = self.blocks.iter().map(|&prefix| (prefix, Offered::Block));
            self.offered.extend(blocked);
        }
        self.proofs.configure(config);
        self.standings.retain(|service, _| self.unsure.contains(service));
        self.due.retain(|service, _| self.unsure.contains(service));
        let aggregates: Vec<IpPrefix> = self.over.values().flatten().copied().collect();
        self.active.retain(|prefix| aggregates.contains(prefix));
        self.is_active_new = true;
        for prefix in aggregates {
            self.look_at_aggregate(prefix);
        }
    }

    /// These prefixes are blocked, and no others.
    pub(super) fn set_blocks(&mut self, config: &Config, blocks: &BTreeSet<IpPrefix>) {
        self.blocks.clone_from(blocks);
        self.configure(config);
    }

    /// A service's sites may be well now, or no more.
    pub(super) fn mark(&mut self, service: &str) {
        self.unsure.insert(service.to_owned());
    }

    /// Whether every service was looked at.
    pub(super) fn is_settled(&self) -> bool {
        self.unsure.is_empty()
    }

    /// When something changes although nothing happens.
    pub(super) fn due(&self) -> Option<Nanos> {
        let of_services = self.due.values().min().copied();
        let others = self.leave.due().into_iter().chain(self.proofs.due());
        of_services.into_iter().chain(others).min()
    }

    /// Aggregates that are announced, if they are others than when it was last asked.
    pub(super) fn take_active(&mut self) -> Option<&BTreeSet<IpPrefix>> {
        std::mem::take(&mut self.is_active_new).then_some(&self.active)
    }

    /// Looks at up to [`SERVICES_PER_STEP`] services. Returns the prefixes that stand otherwise.
    pub(super) fn look_at_services(
        &mut self,
        now: Nanos,
        services: Services<'_>,
        health: impl Fn(&Service, Family) -> Health,
    ) -> Vec<IpPrefix> {
        let due = self.due.iter().filter(|(_, at)| **at <= now);
        self.unsure.extend(due.map(|(name, _)| name.clone()));
        let mut changed = Vec::new();
        for _ in 0..SERVICES_PER_STEP {
            let Some(name) = self.unsure.pop_first() else { break };
            self.due.remove(&name);
            let Some(service) = services.get(&name) else { continue };
            let mut is_changed = false;
            for family in [Family::Ipv4, Family::Ipv6] {
                let of_family = |prefix: &&IpPrefix| Family::of(prefix.addr()) == family;
                let mut prefixes = service.prefixes.iter().filter(of_family).peekable();
                if prefixes.peek().is_none() {
                    continue;
                }
                let standing = self.standings.entry(name.clone()).or_default().of_mut(family);
                let before = *standing;
                standing.update(now, &service.announce, health(service, family));
                for &prefix in prefixes.clone() {
                    self.proofs.note(now, service, prefix, standing.level.value);
                }
                if let Some(until) = standing.due() {
                    let at = self.due.entry(name.clone()).or_insert(until);
                    *at = until.min(*at);
                }
                if before != *standing {
                    is_changed = true;
                    changed.extend(prefixes.copied());
                }
            }
            if is_changed {
                for prefix in self.over.get(&name).cloned().unwrap_or_default() {
                    self.look_at_aggregate(prefix);
                    changed.push(prefix);
                }
            }
        }
        changed
    }

    /// Whether an aggregate stands well enough to be announced may be otherwise.
    fn look_at_aggregate(&mut self, prefix: IpPrefix) {
        let Some(Offered::Aggregate(aggregate)) = self.offered.get(&prefix) else { return };
        let (level, _, _) = self.of_parts(aggregate);
        let before = self.active.contains(&prefix);
        if level > Level::Withdrawn {
            self.active.insert(prefix);
        } else {
            self.active.remove(&prefix);
        }
        self.is_active_new |= before != self.active.contains(&prefix);
    }

    /// What applies to all of it.
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene { leave: self.leave, playbooks: &self.playbooks }
    }

    /// These playbooks are applied, and no others; `false` if it was so before.
    pub(super) fn set_playbooks(&mut self, config: &Config, names: &BTreeSet<String>) -> bool {
        let applied = playbooks(config, names);
        let is_new = applied != self.playbooks;
        self.playbooks = applied;
        is_new
    }

    /// A prefix as decisions are made about it for a neighbour that was told so much; `None` if it is not offered,
    /// or not looked at yet.
    pub(super) fn subject<'a>(
        &'a self,
        services: Services<'a>,
        prefix: IpPrefix,
        told: &Told,
    ) -> Option<Subject<'a>> {
        // What is announced already stays so.
        let proofs = (!told.has(prefix)).then_some(&self.proofs);
        match self.offered.get(&prefix)? {
            Offered::Service(name) => {
                let service = services.get(name)?;
                let standing = self.standing(name, Family::of(prefix.addr()))?;
                Some(Subject::of_service(prefix, service, (standing, proofs)))
            }
            Offered::Block => Some(Subject {
                prefix,
                of: Of::Block,
                level: Level::Full,
                weight: 0,
                why: Reason::Blocked,
                proofs: None,
            }),
            Offered::Aggregate(aggregate) => {
                let (level, announced, weight) = self.of_parts(aggregate);
                let (needed, all) = (aggregate.condition, aggregate.services.len());
                let why = Reason::Parts { announced, all, needed };
                let of = Of::Aggregate(aggregate);
                Some(Subject { prefix, of, level, weight, why, proofs: None })
            }
        }
    }

    /// How an aggregate stands, how many of its services are announced, and their weights.
    fn of_parts(&self, aggregate: &Aggregate) -> (Level, usize, u64) {
        let family = Family::of(aggregate.prefix.addr());
        let standings = || aggregate.services.iter().map(|name| self.standing(name, family));
        let levels = || standings().map(|one| one.map_or(Level::Withdrawn, |one| one.level.value));
        let level = match aggregate.condition {
            AggregateWhile::All => levels().min(),
            AggregateWhile::Any => levels().max(),
        };
        let announced = levels().filter(|level| *level > Level::Withdrawn).count();
        let weight = standings().flatten().map(|standing| standing.weight.value).sum();
        (level.unwrap_or_default(), announced, weight)
    }

    fn standing(&self, service: &str, family: Family) -> Option<&Standing> {
        self.standings.get(service).map(|standings| standings.of(family))
    }
}

/// The configured playbooks with these names.
pub(super) fn playbooks(config: &Config, names: &BTreeSet<String>) -> Vec<Arc<Playbook>> {
    let all = config.bgp.iter().flat_map(|bgp| &bgp.playbooks);
    all.filter(|playbook| names.contains(&playbook.name)).map(Arc::clone).collect()
}

/// Services that are looked at in a step, each with all of its sites.
const SERVICES_PER_STEP: usize = 32;
