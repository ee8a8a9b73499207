//! The groups that stand in the FIB for what prefixes lead to: made, compared and forgotten.

use std::ops::RangeInclusive;

use nearhop_fib::{Group, GroupId, IpPrefix, Spread, WhenDead, WriteError};

use super::{GroupState, Parts, Publisher};
use crate::rib::{Lead, NextHops, Rib, SetId};

impl Publisher {
    /// The group that stands for this, made if there is none.
    pub(super) fn group_for(
        &mut self,
        parts: &mut Parts<'_>,
        lead: Lead,
    ) -> Result<GroupId, WriteError> {
        if let Some(id) = self.group(lead) {
            return Ok(id);
        }
        let content = self.content(parts, lead)?.unwrap_or(Group::Unreachable);
        self.add_group(parts, lead, content)
    }

    pub(super) fn add_group(
        &mut self,
        parts: &mut Parts<'_>,
        lead: Lead,
        content: Group,
    ) -> Result<GroupId, WriteError> {
        let id = parts.fib.add_group(&content)?;
        let covered = covered_by(parts.rib, lead);
        self.covering.extend(covered.map(|prefix| (prefix.len(), prefix, lead.set)));
        self.onward.extend(lead.next.map(|next| (next, lead.set)));
        self.groups.insert(lead, GroupState { id, content, covered });
        self.done.groups += 1;
        self.stepped();
        Ok(id)
    }

    /// What a group is to be; `None` where it stands for what leads nowhere now: its prefixes leave it.
    pub(super) fn content(
        &mut self,
        parts: &mut Parts<'_>,
        lead: Lead,
    ) -> Result<Option<Group>, WriteError> {
        let is_gone = |set: SetId| parts.rib.next_hops(set).is_none();
        if is_gone(lead.set) || lead.next.is_some_and(is_gone) {
            return Ok(None);
        }
        let next = match led_on_to(parts.rib, lead) {
            Some(next) => Some(self.group_for(parts, next)?),
            None => None,
        };
        Ok(match parts.rib.next_hops(lead.set) {
            None => None,
            Some(NextHops::Local) => Some(Group::Local),
            Some(NextHops::Blackhole) => Some(Group::Blackhole),
            Some(NextHops::Unreachable) => Some(Group::Unreachable),
            Some(NextHops::Prohibit) => Some(Group::Prohibit),
            Some(NextHops::Service(service)) => Some(parts.services.group(service, next)),
            Some(NextHops::Via(_) | NextHops::Ranked(_)) => {
                let members = parts.rib.members(lead.set).to_vec();
                let (when_dead, spread) = (WhenDead::Unreachable, Spread::Flow);
                let leads = !members.is_empty();
                leads.then_some(Group::Forward { members, when_dead, spread })
            }
        })
    }

    /// A group of a service's set that leads on to another's, and to which nothing leads any more.
    pub(super) fn idle_group(&self, parts: &Parts<'_>, set: SetId) -> Option<Lead> {
        let is_named = |id| {
            let mut covering = self.covering.iter().map(|&(_, _, set)| Lead::to(set));
            covering.any(|lead| self.groups.get(&lead).and_then(covering_of) == Some(id))
        };
        let leads = self.groups.range(leads_of(set));
        let mut onward = leads.filter(|(lead, _)| lead.next.is_some());
        let is_idle = |id| parts.fib.routes_to(id) == 0 && !is_named(id);
        onward.find(|(_, state)| is_idle(state.id)).map(|(&lead, _)| lead)
    }

    pub(super) fn forget_group(
        &mut self,
        parts: &mut Parts<'_>,
        lead: Lead,
    ) -> Result<(), WriteError> {
        let Some(state) = self.groups.get(&lead) else { return Ok(()) };
        let (id, covered) = (state.id, state.covered);
        self.remove_group(parts, id)?;
        if let Some(prefix) = covered {
            self.covering.remove(&(prefix.len(), prefix, lead.set));
        }
        if let Some(next) = lead.next {
            self.onward.remove(&(next, lead.set));
        }
        self.groups.remove(&lead);
        Ok(())
    }

    /// One that a refused prefix still leads to is kept for the next publication.
    pub(super) fn remove_group(
        &mut self,
        parts: &mut Parts<'_>,
        id: GroupId,
    ) -> Result<(), WriteError> {
        match parts.fib.remove_group(id) {
            Err(WriteError::GroupInUse { .. }) => self.kept.push(id),
            outcome => outcome?,
        }
        Ok(())
    }
}

/// What the group that stands for this leads on to.
pub(super) fn led_on_to(rib: &Rib, lead: Lead) -> Option<Lead> {
    match lead.next {
        Some(next) => Some(Lead::to(next)),
        None => cover_of(rib, covered_by(rib, lead)?),
    }
}

/// The prefix whose cover the group that stands for this leads on to.
fn covered_by(rib: &Rib, lead: Lead) -> Option<IpPrefix> {
    match rib.next_hops(lead.set) {
        Some(NextHops::Service(service)) if lead.next.is_none() => service.prefix,
        _ => None,
    }
}

/// What packets to the next shorter prefix follow.
pub(super) fn cover_of(rib: &Rib, prefix: IpPrefix) -> Option<Lead> {
    let (shorter, _) = rib.used_covering(prefix)?;
    rib.lead(shorter)
}

/// All that a set is the first of.
pub(super) const fn leads_of(set: SetId) -> RangeInclusive<Lead> {
    Lead::to(set)..=Lead { set, next: Some(SetId(u32::MAX)) }
}

/// The sets that lead on to one.
pub(super) const fn onward_to(next: SetId) -> RangeInclusive<(SetId, SetId)> {
    (next, SetId(0))..=(next, SetId(u32::MAX))
}

/// The group that this one leads on to when it is dead.
pub(super) fn covering_of(state: &GroupState) -> Option<GroupId> {
    match &state.content {
        Group::Forward { when_dead: WhenDead::Covering(group), .. } => Some(*group),
        _ => None,
    }
}
