//! Groups and routes: what the configuration wants against what is installed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use nearhop_fib::{Group, GroupId, IpPrefix, Member, Spread, TIER_MAX, WhenDead, WriteError};

use super::Control;
use super::cost::{Candidate, Ranked, rank};
use crate::config::model::{Affinity, RouteTarget, Service, Via, WhenAllDead};
use crate::event::MoveCause;
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

/// What waits to be published, and why flows move when it is.
#[derive(Debug, Default)]
pub(super) struct Unpublished {
    /// A configuration.
    pub(super) all: Option<(MoveCause, String)>,
    /// Services whose order changed.
    pub(super) services: BTreeMap<(String, Family), (MoveCause, String)>,
}

impl Unpublished {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_none() && self.services.is_empty()
    }
}

impl Control {
    /// Brings groups and routes to what the configuration wants. May be called again after an
    /// error, and goes on where it stopped.
    ///
    /// In no step does a lookup of any address give a third answer, neither the one before nor the one
    /// after. First new groups are made, also for old ones that prefixes come to or leave and whose
    /// contents change. Then prefixes are added, longest first, so that none is seen that a longer new
    /// one hides; then groups and prefixes change in place; then prefixes are removed, shortest first,
    /// so that none is uncovered that goes too.
    pub(super) fn install(&mut self) -> Result<Done, WriteError> {
        let desired = self.desired();
        #[cfg(test)]
        {
            self.considered += desired.len();
        }
        let mut done = Done::default();
        let changed_groups = self.make_groups(&desired, &mut done)?;
        let (mut added, mut changed) = (Vec::new(), Vec::new());
        for (&prefix, (source, key)) in &desired {
            let Some(group) = self.group_id(key) else { continue };
            match self.installed.get_mut(&prefix) {
                None => added.push((prefix, source, group)),
                Some(installed) if installed.group != group => {
                    changed.push((prefix, source, group));
                }
                Some(installed) if installed.source != *source => {
                    installed.source = source.clone();
                }
                Some(_) => {}
            }
        }
        added.sort_by_key(|&(prefix, ..)| Reverse(prefix.len()));
        let mut stale: Vec<IpPrefix> =
            self.installed.keys().filter(|prefix| !desired.contains_key(prefix)).copied().collect();
        stale.sort_by_key(|prefix| prefix.len());
        for (prefix, source, group) in added {
            self.install_route(prefix, source, group, &mut done)?;
        }
        for (key, content) in changed_groups {
            self.replace_group(key, content, &mut done)?;
        }
        for (prefix, source, group) in changed {
            self.install_route(prefix, source, group, &mut done)?;
        }
        for prefix in stale {
            self.writer.remove(prefix)?;
            self.installed.remove(&prefix);
            done.prefixes += 1;
            self.stepped();
        }
        self.drop_unused_groups(&desired)?;
        Ok(done)
    }

    fn install_route(
        &mut self,
        prefix: IpPrefix,
        source: &Source,
        group: GroupId,
        done: &mut Done,
    ) -> Result<(), WriteError> {
        self.writer.insert(prefix, group)?;
        self.installed.insert(prefix, Installed { source: source.clone(), group });
        done.prefixes += 1;
        self.stepped();
        Ok(())
    }

    /// Brings the groups of these services to their present order. Takes no longer for many routes.
    pub(super) fn install_services(&mut self) -> Result<Done, WriteError> {
        let mut done = Done::default();
        let dirty: Vec<(String, Family)> = self.unpublished.services.keys().cloned().collect();
        for (name, family) in dirty {
            for key in self.keys_of(&name, family) {
                let Some(state) = self.groups.get(&key) else { continue };
                let covering = covering_of(&state.content);
                let content = self.service_group(&name, family, covering);
                self.replace_group(&key, content, &mut done)?;
            }
        }
        Ok(done)
    }

    /// The groups of a service in one family.
    fn keys_of(&self, name: &str, family: Family) -> Vec<GroupKey> {
        let Some(service) = self.service(name) else { return Vec::new() };
        let of_family = |prefix: &&IpPrefix| Family::of(prefix.addr()) == family;
        let of_family = service.prefixes.iter().filter(of_family);
        let mut keys: Vec<GroupKey> = of_family.map(|&prefix| key_of(service, prefix)).collect();
        keys.dedup();
        keys
    }

    /// Makes every group that prefixes will lead to. Returns those that are to be replaced in place, once
    /// the new prefixes hide from them what they hide, with their new contents.
    fn make_groups<'a>(
        &mut self,
        desired: &'a Desired,
        done: &mut Done,
    ) -> Result<Vec<(&'a GroupKey, Group)>, WriteError> {
        let moved = self.groups_in_motion(desired);
        let mut changed = Vec::new();
        // Groups that lead on to what covers them come after that, which is shorter.
        let (mut covering, plain): (Vec<_>, Vec<_>) = desired
            .iter()
            .map(|(&prefix, (_, key))| (prefix, key))
            .partition(|(_, key)| matches!(key, GroupKey::Service(_, _, Some(_))));
        covering.sort_by_key(|(prefix, _)| prefix.len());
        let mut seen: HashSet<&GroupKey> = HashSet::new();
        for (prefix, key) in plain.into_iter().chain(covering) {
            if !seen.insert(key) {
                continue;
            }
            let content = match key {
                GroupKey::Content(_) if self.groups.contains_key(key) => continue,
                GroupKey::Content(content) => content.clone(),
                GroupKey::Service(name, family, own) => {
                    let covering = own.and_then(|_| self.covering_group(desired, prefix));
                    self.service_group(name, *family, covering)
                }
            };
            match self.groups.get(key) {
                Some(state) if state.content == content => {}
                Some(state) if !moved.contains(&state.id) => changed.push((key, content)),
                _ => self.add_group(key, content, done)?,
            }
        }
        Ok(changed)
    }

    fn replace_group(
        &mut self,
        key: &GroupKey,
        content: Group,
        done: &mut Done,
    ) -> Result<(), WriteError> {
        let Some(state) = self.groups.get_mut(key) else { return Ok(()) };
        if state.content != content {
            self.writer.replace_group(state.id, &content)?;
            state.content = content;
            done.groups += 1;
            self.stepped();
        }
        Ok(())
    }

    /// Makes a group under a new id. One that the key stood for before stays until no prefix leads to it.
    fn add_group(
        &mut self,
        key: &GroupKey,
        content: Group,
        done: &mut Done,
    ) -> Result<(), WriteError> {
        let id = self.writer.add_group(&content)?;
        let before = self.groups.insert(key.clone(), GroupState { id, content });
        self.superseded.extend(before.map(|state| state.id));
        done.groups += 1;
        self.stepped();
        Ok(())
    }

    /// Groups that a prefix, or a group that leads on to what covers it, is about to leave or to come to:
    /// whoever comes by the old way must not see their new contents, nor by the new way their old ones.
    fn groups_in_motion(&self, desired: &Desired) -> HashSet<GroupId> {
        let mut moved = HashSet::new();
        for (prefix, installed) in &self.installed {
            let next = desired.get(prefix).and_then(|(_, key)| self.group_id(key));
            if next != Some(installed.group) {
                moved.insert(installed.group);
            }
        }
        for (prefix, (_, key)) in desired {
            let Some(next) = self.group_id(key) else { continue };
            if self.installed.get(prefix).is_none_or(|installed| installed.group != next) {
                moved.insert(next);
            }
        }
        for (key, state) in &self.groups {
            let GroupKey::Service(_, _, Some(prefix)) = key else { continue };
            let Some(covering) = covering_of(&state.content) else { continue };
            if self.covering_group(desired, *prefix) != Some(covering) {
                moved.insert(covering);
            }
        }
        moved
    }

    /// The group of the longest of the wanted prefixes that cover this one.
    fn covering_group(&self, desired: &Desired, prefix: IpPrefix) -> Option<GroupId> {
        let shorter = (0..prefix.len()).rev();
        let mut covers = shorter.filter_map(|len| IpPrefix::around(prefix.addr(), len));
        let (_, key) = covers.find_map(|prefix| desired.get(&prefix))?;
        self.group_id(key)
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
        while let Some(&id) = self.superseded.last() {
            self.writer.remove_group(id)?;
            self.superseded.pop();
        }
        Ok(())
    }

    /// A reader may see what is written so far.
    #[cfg_attr(not(test), expect(clippy::unused_self, clippy::missing_const_for_fn))]
    fn stepped(&mut self) {
        #[cfg(test)]
        if let Some(mut look) = self.after_step.take() {
            look();
            self.after_step = Some(look);
        }
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
                want(prefix, Source::Service(service.name.clone()), key_of(service, prefix));
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

    /// `covering`: the group to lead on to, where that is the service's policy.
    fn service_group(&self, name: &str, family: Family, covering: Option<GroupId>) -> Group {
        let Some(service) = self.service(name) else { return Group::Unreachable };
        let when_dead = match service.when_all_dead {
            WhenAllDead::Unreachable => WhenDead::Unreachable,
            WhenAllDead::Drop => WhenDead::Drop,
            WhenAllDead::FailOpen => WhenDead::FailOpen,
            WhenAllDead::Covering => covering.map_or(WhenDead::Unreachable, WhenDead::Covering),
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

/// What the group is known by that a prefix of this service leads to.
fn key_of(service: &Service, prefix: IpPrefix) -> GroupKey {
    let own = (service.when_all_dead == WhenAllDead::Covering).then_some(prefix);
    GroupKey::Service(service.name.clone(), Family::of(prefix.addr()), own)
}

/// The group that this one leads on to when it is dead.
fn covering_of(content: &Group) -> Option<GroupId> {
    match content {
        Group::Forward { when_dead: WhenDead::Covering(group), .. } => Some(*group),
        _ => None,
    }
}
