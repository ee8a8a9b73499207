//! Groups and routes: what the configuration wants against what is installed.

use std::collections::{BTreeMap, HashSet};

use nearhop_fib::{Group, GroupId, IpPrefix, Member, Spread, TIER_MAX, WhenDead, WriteError};

use super::Control;
use super::cost::{Candidate, Ranked, rank};
use crate::config::model::{Affinity, RouteTarget, Service, Via, WhenAllDead};
use crate::ids::Family;

/// Where a route comes from. Where several give the same prefix, the first of these wins.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Source {
    /// One of the router's own addresses.
    Local,
    /// A port's network.
    Connected(String),
    /// An anycast service.
    Service(String),
    /// A configured route.
    Static,
}

impl Source {
    /// One word for tables and JSON.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Connected(_) => "connected",
            Self::Local => "local",
            Self::Service(_) => "service",
            Self::Static => "static",
        }
    }
}

/// What a group is known by: a service's is replaced when its order changes, any other is what its
/// contents are.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum GroupKey {
    /// Contents that no name stands for.
    Content(Group),
    /// A service in one family; the prefix distinguishes groups that lead on to what covers them.
    Service(String, Family, Option<IpPrefix>),
}

pub(super) struct GroupState {
    pub(super) id: GroupId,
    content: Group,
}

/// A route in the FIB.
pub(super) struct Installed {
    pub(super) source: Source,
    pub(super) group: GroupId,
}

/// What one publication changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Done {
    pub(super) groups: u64,
    pub(super) prefixes: u64,
}

type Desired = BTreeMap<IpPrefix, (Source, GroupKey)>;

impl Control {
    /// Brings groups and routes to what the configuration wants. May be called again after an
    /// error, and goes on where it stopped.
    pub(super) fn install(&mut self) -> Result<Done, WriteError> {
        let desired = self.desired();
        let mut done = Done::default();
        let covering = |key: &GroupKey| matches!(key, GroupKey::Service(_, _, Some(_)));
        for round in [false, true] {
            // Groups that lead on to what covers them come last: when all that may cover them is
            // there, and what covers them no more is gone.
            for (&prefix, (source, key)) in &desired {
                if covering(key) == round {
                    let group = self.install_group(prefix, key, &mut done)?;
                    self.install_route(prefix, source, group, &mut done)?;
                }
            }
            if !round {
                self.remove_stale(&desired, &mut done)?;
            }
        }
        self.drop_unused_groups(&desired)?;
        Ok(done)
    }

    fn remove_stale(&mut self, desired: &Desired, done: &mut Done) -> Result<(), WriteError> {
        let stale: Vec<IpPrefix> =
            self.installed.keys().filter(|prefix| !desired.contains_key(prefix)).copied().collect();
        for prefix in stale {
            self.writer.remove(prefix)?;
            self.installed.remove(&prefix);
            done.prefixes += 1;
        }
        Ok(())
    }

    fn install_group(
        &mut self,
        prefix: IpPrefix,
        key: &GroupKey,
        done: &mut Done,
    ) -> Result<GroupId, WriteError> {
        let content = match key {
            GroupKey::Content(group) => match self.groups.get(key) {
                Some(state) => return Ok(state.id),
                None => group.clone(),
            },
            GroupKey::Service(service, family, _) => self.service_group(service, *family, prefix),
        };
        match self.groups.get_mut(key) {
            Some(state) if state.content == content => Ok(state.id),
            Some(state) => {
                self.writer.replace_group(state.id, &content)?;
                state.content = content;
                done.groups += 1;
                Ok(state.id)
            }
            None => {
                let id = self.writer.add_group(&content)?;
                self.groups.insert(key.clone(), GroupState { id, content });
                done.groups += 1;
                Ok(id)
            }
        }
    }

    fn install_route(
        &mut self,
        prefix: IpPrefix,
        source: &Source,
        group: GroupId,
        done: &mut Done,
    ) -> Result<(), WriteError> {
        let same = |installed: &Installed| installed.group == group;
        if !self.installed.get(&prefix).is_some_and(same) {
            self.writer.insert(prefix, group)?;
            done.prefixes += 1;
        }
        self.installed.insert(prefix, Installed { source: source.clone(), group });
        Ok(())
    }

    fn drop_unused_groups(&mut self, desired: &Desired) -> Result<(), WriteError> {
        let used: HashSet<&GroupKey> = desired.values().map(|(_, key)| key).collect();
        let unused: Vec<GroupKey> =
            self.groups.keys().filter(|key| !used.contains(key)).cloned().collect();
        for key in unused {
            if let Some(state) = self.groups.get(&key) {
                self.writer.remove_group(state.id)?;
                self.groups.remove(&key);
            }
        }
        Ok(())
    }

    /// Every route that the configuration wants.
    fn desired(&self) -> Desired {
        let mut desired = Desired::new();
        let mut want = |prefix: IpPrefix, source: Source, key: GroupKey| match desired.get(&prefix)
        {
            Some((present, _)) if *present <= source => {}
            _ => {
                desired.insert(prefix, (source, key));
            }
        };
        let own = self.config.ports.iter().flat_map(|port| &port.addresses);
        for network in own.chain(&self.config.router.addresses) {
            want(IpPrefix::host(network.ip()), Source::Local, GroupKey::Content(Group::Local));
        }
        for port in &self.config.ports {
            let source = Source::Connected(port.name.clone());
            let Some(group) = self.ports_group(std::slice::from_ref(&port.name)) else { continue };
            for network in &port.addresses {
                if let Some(prefix) = IpPrefix::around(network.ip(), network.prefix()) {
                    want(prefix, source.clone(), GroupKey::Content(group.clone()));
                }
            }
        }
        for service in &self.config.services {
            for &prefix in &service.prefixes {
                let covering = service.when_all_dead == WhenAllDead::Covering;
                let own = covering.then_some(prefix);
                let family = Family::of(prefix.addr());
                let key = GroupKey::Service(service.name.clone(), family, own);
                want(prefix, Source::Service(service.name.clone()), key);
            }
        }
        for route in &self.config.routes {
            if let Some(group) = self.route_group(&route.target) {
                want(route.prefix, Source::Static, GroupKey::Content(group));
            }
        }
        desired
    }

    fn route_group(&self, target: &RouteTarget) -> Option<Group> {
        Some(match target {
            RouteTarget::Blackhole => Group::Blackhole,
            RouteTarget::Unreachable => Group::Unreachable,
            RouteTarget::Prohibit => Group::Prohibit,
            RouteTarget::Via(vias) => {
                let names: Vec<String> = vias.iter().map(|Via::Port(name)| name.clone()).collect();
                return self.ports_group(&names);
            }
        })
    }

    /// A group that leaves by any of these ports.
    fn ports_group(&self, names: &[String]) -> Option<Group> {
        let members: Vec<Member> = names
            .iter()
            .filter_map(|name| self.ports.get(name))
            .map(|port| Member {
                path: port.path,
                adjacency: port.adjacency,
                tier: 0,
                weight: 1,
                link_weight: 1,
            })
            .collect();
        let when_dead = WhenDead::Unreachable;
        (!members.is_empty()).then_some(Group::Forward { members, when_dead, spread: Spread::Flow })
    }

    fn service_group(&self, name: &str, family: Family, prefix: IpPrefix) -> Group {
        let Some(service) = self.service(name) else { return Group::Unreachable };
        let when_dead = match service.when_all_dead {
            WhenAllDead::Unreachable => WhenDead::Unreachable,
            WhenAllDead::Drop => WhenDead::Drop,
            WhenAllDead::FailOpen => WhenDead::FailOpen,
            WhenAllDead::Covering => match self.writer.covering(prefix) {
                Some((_, group)) => WhenDead::Covering(group),
                None => WhenDead::Unreachable,
            },
        };
        let spread = match service.affinity {
            Affinity::None => Spread::Packet,
            Affinity::Hash => Spread::Flow,
        };
        Group::Forward { members: self.members(service, family), when_dead, spread }
    }

    /// A service's members: every link of every site, in the tiers of the cost rules.
    fn members(&self, service: &Service, family: Family) -> Vec<Member> {
        let legs = |site: usize| self.site_legs(&service.name, family, &service.sites[site].name);
        let ranked = self.ranking(service, family);
        let mut members = Vec::new();
        for Ranked { index, tier, .. } in ranked {
            let (tier, weight) = (tier.min(TIER_MAX), service.sites[index].weight);
            for (key, leg) in legs(index) {
                let Some(port) = self.ports.get(&key.port) else { continue };
                let (path, adjacency) = (leg.path, port.adjacency);
                members.push(Member { path, adjacency, tier, weight, link_weight: 1 });
            }
        }
        members
    }

    /// The service's sites from the best to the worst.
    pub fn ranking(&self, service: &Service, family: Family) -> Vec<Ranked> {
        let candidates: Vec<Candidate<'_>> = service
            .sites
            .iter()
            .map(|site| Candidate {
                name: &site.name,
                preference: site.preference,
                distance: self.distance(service, family, &site.name, site.cost),
            })
            .collect();
        rank(&candidates)
    }

    /// Configured cost and latency of a site: that of its nearest link.
    pub fn distance(&self, service: &Service, family: Family, site: &str, cost: u32) -> u64 {
        let legs = self.site_legs(&service.name, family, site);
        let nearest = legs.filter(|(_, leg)| leg.rtt.is_some() || leg.up);
        nearest.map(|(_, leg)| leg.distance.total(cost)).min().unwrap_or(u64::from(cost))
    }

    /// The group a service's prefixes lead to.
    pub fn group_id(&self, key: &GroupKey) -> Option<GroupId> {
        Some(self.groups.get(key)?.id)
    }
}
