//! From the RIB to the FIB, a step at a time.
//!
//! In no step does a lookup of any address give a third answer, neither the one before nor the one
//! after. First new groups are made, also for old ones that prefixes come to or leave and whose contents
//! change. Then prefixes are added, longest first, so that none is seen that a longer new one hides; then
//! groups change in place, and prefixes; then prefixes are removed, shortest first, so that none is
//! uncovered that goes too.

mod ahead;
mod groups;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use nearhop_fib::{Group, GroupId, IpPrefix, WriteError, Writer};

use self::groups::{cover_of, covering_of, leads_of, led_on_to, onward_to};
use super::services::Services;
use crate::put_back::{self, PutBack};
use crate::rib::{Cursor, Lead, NextHops, Rib, SetId};

/// Publishes what is dirty in a RIB.
#[derive(Default)]
pub(super) struct Publisher {
    groups: BTreeMap<Lead, GroupState>,
    /// Groups that were given another id, until no prefix leads to them.
    superseded: Vec<GroupId>,
    /// Sets with a group that lead on to what covers this prefix, the shortest first.
    covering: BTreeSet<(u8, IpPrefix, SetId)>,
    /// Sets with a group that leads on to another set's, after that set.
    onward: BTreeSet<(SetId, SetId)>,
    /// Sets of services to which a prefix came that is looked at, or that a prefix may have left.
    touched: BTreeSet<SetId>,
    phase: Phase,
    /// What a group stands for whose contents may be others.
    unsure: VecDeque<Lead>,
    /// Groups that a prefix, or a group that leads on, is about to leave or to come to: whoever comes by
    /// the old way must not see their new contents, nor by the new way their old ones.
    moved: HashSet<GroupId>,
    /// What a group stands for that is replaced under its id.
    in_place: Vec<Lead>,
    changes: Vec<IpPrefix>,
    /// The shortest last.
    removals: Vec<IpPrefix>,
    /// Prefixes to be added, about, of which what is looked at is fetched.
    fetched: usize,
    /// Sets that are gone.
    gone: Vec<SetId>,
    /// Sets of services whose groups that lead on may have no prefix any more.
    idle: BTreeSet<SetId>,
    /// Prefixes that the FIB has no room for.
    refused: BTreeSet<IpPrefix>,
    /// Whether anything was removed since prefixes were refused: there may be room now.
    freed: bool,
    /// Groups that were to go, and that refused prefixes still lead to.
    kept: Vec<GroupId>,
    done: Done,
    /// Prefixes whose route may be another, if anybody wants to know.
    noted: Option<Vec<IpPrefix>>,
    /// Called whenever readers may see something new.
    #[cfg(test)]
    pub(super) after_step: Option<Box<dyn FnMut()>>,
    /// Prefixes that the FIB is to have room for.
    #[cfg(test)]
    pub(super) room: Option<usize>,
}

struct GroupState {
    id: GroupId,
    content: Group,
    /// The prefix whose cover it leads on to when it is dead.
    covered: Option<IpPrefix>,
}

/// What one publication changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Done {
    pub(super) groups: u64,
    pub(super) prefixes: u64,
    /// Prefixes that the FIB had no room for.
    pub(super) refused: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    /// Nothing is under way.
    #[default]
    Idle,
    /// Prefixes are looked for whose sets lead elsewhere.
    Sweep,
    /// Groups in motion are looked for.
    Motion(Cursor),
    /// Contents are compared, and groups made that cannot change in place.
    Contents,
    /// As [`Self::Sweep`], for sets whose group has another id.
    SweepMoved,
    /// Prefixes are added.
    Add,
    /// Groups change in place.
    InPlace,
    /// Prefixes change.
    Change,
    /// Prefixes are removed.
    Remove,
    /// Groups that nothing leads to are removed.
    Drop,
}

/// What the publisher works with.
pub(super) struct Parts<'a> {
    pub(super) fib: &'a mut Writer,
    pub(super) rib: &'a mut Rib,
    pub(super) services: Services<'a>,
}

impl Publisher {
    /// Begins, or begins again with what the RIB is by now.
    pub(super) fn begin(&mut self, rib: &mut Rib) {
        let prefixes = self.changes.drain(..).chain(self.removals.drain(..));
        let refused = std::mem::take(&mut self.refused);
        prefixes.chain(refused).for_each(|prefix| rib.dirty().mark(prefix));
        self.superseded.append(&mut self.kept);
        let leads = self.in_place.drain(..).chain(self.unsure.drain(..));
        let sets = leads.map(|lead| lead.set).chain(self.gone.drain(..));
        sets.for_each(|set| rib.dirty().mark_set(set));
        self.touched.append(&mut self.idle);
        self.moved.clear();
        self.freed = false;
        self.done.refused = 0;
        self.phase = Phase::Sweep;
    }

    /// Does up to about `budget` lookups and changes. Returns whether all is done, with what was.
    ///
    /// # Errors
    /// A reader stalls: to be called again later.
    pub(super) fn step(
        &mut self,
        parts: &mut Parts<'_>,
        budget: usize,
    ) -> Result<Option<Done>, WriteError> {
        let mut left = budget;
        while left > 0 {
            left -= 1;
            let next = match self.phase {
                Phase::Idle => return Ok(Some(std::mem::take(&mut self.done))),
                Phase::Sweep => {
                    parts.rib.resolve();
                    let done = parts.rib.sweep(left + 1);
                    left = if done { left } else { 0 };
                    done.then(|| self.plan(parts))
                }
                Phase::Motion(cursor) => Some(self.note_motion(parts, cursor)),
                Phase::Contents => {
                    left = left.saturating_sub(GROUP_COSTS);
                    self.compare_contents(parts)?
                }
                Phase::SweepMoved => {
                    let done = parts.rib.sweep(left + 1);
                    left = if done { left } else { 0 };
                    done.then_some(Phase::Add)
                }
                Phase::Add => self.add(parts)?,
                Phase::InPlace => {
                    left = left.saturating_sub(GROUP_COSTS);
                    self.replace(parts)?
                }
                Phase::Change => self.change(parts)?,
                Phase::Remove => self.remove(parts)?,
                Phase::Drop => self.drop_group(parts)?,
            };
            if let Some(next) = next {
                self.phase = next;
            }
        }
        Ok((self.phase == Phase::Idle).then(|| std::mem::take(&mut self.done)))
    }

    /// Whether [`Self::take_noted`] is asked after each publication.
    pub(super) fn note_prefixes(&mut self, wanted: bool) {
        self.noted = wanted.then(|| self.noted.take().unwrap_or_default());
    }

    /// Prefixes whose route may be another than when it was last asked.
    pub(super) fn take_noted(&mut self) -> Vec<IpPrefix> {
        self.noted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Sets of services whose prefixes may be led on elsewhere than when it was last asked.
    pub(super) fn take_touched(&mut self) -> BTreeSet<SetId> {
        std::mem::take(&mut self.touched)
    }

    /// The group that stands for this, if it was ever needed.
    pub(super) fn group(&self, lead: Lead) -> Option<GroupId> {
        Some(self.groups.get(&lead)?.id)
    }

    /// The groups after one, by what they stand for.
    pub(super) fn groups_after(
        &self,
        after: Option<Lead>,
    ) -> impl Iterator<Item = (Lead, GroupId)> + '_ {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let groups = self.groups.range((after, Bound::Unbounded));
        groups.map(|(&lead, state)| (lead, state.id))
    }

    /// How many groups there are.
    #[cfg(test)]
    pub(super) fn group_count(&self) -> usize {
        self.groups.len() + self.superseded.len()
    }

    /// Whether the FIB could not take this prefix.
    #[cfg(test)]
    pub(super) fn has_refused(&self, prefix: IpPrefix) -> bool {
        self.refused.contains(&prefix)
    }

    /// What is known to be dirty by now, in the order in which contents can be compared.
    fn plan(&mut self, parts: &mut Parts<'_>) -> Phase {
        let (mut covering, mut onward) = (BTreeSet::new(), Vec::new());
        for set in parts.rib.dirty().take_sets() {
            match parts.rib.next_hops(set) {
                None => {
                    self.gone.push(set);
                    continue;
                }
                Some(NextHops::Service(_)) => drop(self.touched.insert(set)),
                Some(_) => {}
            }
            for (&lead, state) in self.groups.range(leads_of(set)) {
                match state.covered {
                    Some(prefix) => drop(covering.insert((prefix.len(), prefix, set))),
                    None if lead.next.is_some() => onward.push(lead),
                    None => self.unsure.push_back(lead),
                }
            }
        }
        // Groups that lead on come after what they lead on to. What covers a prefix is shorter.
        self.unsure.extend(onward);
        let any_prefixes = parts.rib.dirty().has_prefixes();
        let covering = if any_prefixes { &self.covering } else { &covering };
        self.unsure.extend(covering.iter().map(|&(_, _, set)| Lead::to(set)));
        let any_motion =
            any_prefixes && !self.unsure.is_empty() && !put_back::is(PutBack::GroupInPlace);
        if any_motion { Phase::Motion(Cursor::default()) } else { Phase::Contents }
    }

    fn note_motion(&mut self, parts: &mut Parts<'_>, mut cursor: Cursor) -> Phase {
        if let Some(prefix) = parts.rib.dirty().next(&mut cursor) {
            let lead = parts.rib.lead(prefix);
            let now = parts.fib.get(prefix);
            let own = lead.and_then(|lead| self.group(lead));
            if own != now || own.is_none() {
                self.moved.extend(lead.and_then(|lead| self.group_come_to(parts.rib, lead)));
                self.moved.extend(now);
            }
            return Phase::Motion(cursor);
        }
        for &(_, prefix, set) in &self.covering {
            let state = self.groups.get(&Lead::to(set));
            let Some(covering) = state.and_then(covering_of) else { continue };
            let next = cover_of(parts.rib, prefix).and_then(|lead| self.group(lead));
            if next != Some(covering) {
                self.moved.insert(covering);
                self.moved.extend(next);
            }
        }
        // Who is about to leave a group that leads on sees what it leads on to until then.
        let covering = self.covering.iter().map(|&(_, _, set)| Lead::to(set));
        let onward = self.onward.iter().map(|&(next, set)| Lead { set, next: Some(next) });
        let by_id: HashMap<GroupId, GroupId> = covering
            .chain(onward)
            .filter_map(|lead| self.groups.get(&lead))
            .filter_map(|state| Some((state.id, covering_of(state)?)))
            .collect();
        let mut work: Vec<GroupId> = self.moved.iter().copied().collect();
        while let Some(id) = work.pop() {
            if let Some(&on) = by_id.get(&id)
                && self.moved.insert(on)
            {
                work.push(on);
            }
        }
        Phase::Contents
    }

    /// The group there is already that whoever comes by this way comes to: its own, or the one that a group
    /// that is to be made leads on to.
    fn group_come_to(&self, rib: &Rib, mut lead: Lead) -> Option<GroupId> {
        loop {
            if let Some(id) = self.group(lead) {
                return Some(id);
            }
            lead = led_on_to(rib, lead)?;
        }
    }

    fn compare_contents(&mut self, parts: &mut Parts<'_>) -> Result<Option<Phase>, WriteError> {
        let Some(lead) = self.unsure.front().copied() else {
            return Ok(Some(Phase::SweepMoved));
        };
        let mut is_superseded = false;
        if let Some(content) = self.content(parts, lead)? {
            match self.groups.get(&lead) {
                Some(state) if state.content == content => {}
                Some(state) if self.moved.contains(&state.id) => {
                    let old = state.id;
                    match self.add_group(parts, lead, content) {
                        Ok(_) => {
                            self.superseded.push(old);
                            parts.rib.mark_prefixes(lead.set);
                            is_superseded = true;
                        }
                        Err(error) => as_it_was(error)?,
                    }
                }
                Some(_) => self.in_place.push(lead),
                None => {}
            }
        }
        self.unsure.pop_front();
        if is_superseded && lead.next.is_none() {
            // Before what comes by way of those.
            let onward = self.onward.range(onward_to(lead.set)).map(|&(next, set)| (set, next));
            for (set, next) in onward {
                self.unsure.push_front(Lead { set, next: Some(next) });
            }
        }
        Ok(None)
    }

    fn add(&mut self, parts: &mut Parts<'_>) -> Result<Option<Phase>, WriteError> {
        if self.fetched == 0 {
            let next: Vec<IpPrefix> = parts.rib.dirty().longest(FETCHED_AT_ONCE).collect();
            parts.rib.prefetch(next.iter().copied());
            parts.fib.prefetch(next.iter().copied());
            self.fetched = FETCHED_AT_ONCE;
        }
        self.fetched -= 1;
        let Some(prefix) = parts.rib.dirty().take_longest() else {
            return Ok(Some(Phase::InPlace));
        };
        if let Some(noted) = &mut self.noted {
            noted.push(prefix);
        }
        let Some(lead) = parts.rib.lead(prefix) else {
            if parts.fib.get(prefix).is_some() {
                self.removals.push(prefix);
            }
            return Ok(None);
        };
        self.touch(parts.rib, lead);
        let placed = self.group_for(parts, lead).and_then(|next| {
            let there = self.add_new(parts, prefix, next)?;
            self.changes.extend(there.filter(|&now| now != next).map(|_| prefix));
            Ok(())
        });
        let outcome = self.note_refusal(placed, prefix);
        if outcome.is_err() {
            parts.rib.dirty().mark(prefix);
        }
        outcome.map(|()| None)
    }

    fn replace(&mut self, parts: &mut Parts<'_>) -> Result<Option<Phase>, WriteError> {
        let Some(&lead) = self.in_place.last() else { return Ok(Some(Phase::Change)) };
        if let Some(content) = self.content(parts, lead)?
            && let Some(state) = self.groups.get_mut(&lead)
            && state.content != content
        {
            match parts.fib.replace_group(state.id, &content) {
                Ok(()) => {
                    state.content = content;
                    self.done.groups += 1;
                    self.stepped();
                }
                Err(error) => as_it_was(error)?,
            }
        }
        self.in_place.pop();
        Ok(None)
    }

    fn change(&mut self, parts: &mut Parts<'_>) -> Result<Option<Phase>, WriteError> {
        let Some(&prefix) = self.changes.last() else { return Ok(Some(Phase::Remove)) };
        if let Some(lead) = parts.rib.lead(prefix) {
            let next = self.group_for(parts, lead);
            let placed = next.and_then(|next| match parts.fib.get(prefix) {
                Some(now) if now == next => Ok(()),
                _ => self.insert(parts, prefix, next),
            });
            self.note_refusal(placed, prefix)?;
        } else {
            // Its last path was withdrawn meanwhile. What it leads to may be about to go.
            self.removals.push(prefix);
        }
        self.changes.pop();
        Ok(None)
    }

    fn remove(&mut self, parts: &mut Parts<'_>) -> Result<Option<Phase>, WriteError> {
        let Some(&prefix) = self.removals.last() else {
            if !std::mem::take(&mut self.freed) || self.refused.is_empty() {
                self.idle.extend(&self.touched);
                return Ok(Some(Phase::Drop));
            }
            for prefix in std::mem::take(&mut self.refused) {
                parts.rib.dirty().mark(prefix);
            }
            self.done.refused = 0;
            return Ok(Some(Phase::Add));
        };
        if parts.fib.remove(prefix)?.is_some() {
            self.freed = true;
            self.done.prefixes += 1;
            self.stepped();
        }
        self.removals.pop();
        Ok(None)
    }

    fn drop_group(&mut self, parts: &mut Parts<'_>) -> Result<Option<Phase>, WriteError> {
        if let Some(&id) = self.superseded.last() {
            self.remove_group(parts, id)?;
            self.superseded.pop();
            return Ok(None);
        }
        if let Some(&set) = self.idle.first() {
            match self.idle_group(parts, set) {
                Some(lead) => self.forget_group(parts, lead)?,
                None => drop(self.idle.pop_first()),
            }
            return Ok(None);
        }
        let Some(&set) = self.gone.last() else { return Ok(Some(Phase::Idle)) };
        // First those that lead on there.
        let onward = self.onward.range(onward_to(set)).next();
        let onward = onward.map(|&(next, set)| Lead { set, next: Some(next) });
        let own = || self.groups.range(leads_of(set)).next().map(|(&lead, _)| lead);
        match onward.or_else(own) {
            Some(lead) => self.forget_group(parts, lead)?,
            None => drop(self.gone.pop()),
        }
        Ok(None)
    }

    /// Notes a service that a prefix leads to.
    fn touch(&mut self, rib: &Rib, lead: Lead) {
        if matches!(rib.next_hops(lead.set), Some(NextHops::Service(_))) {
            self.touched.insert(lead.set);
        }
    }

    /// Passes a stalled reader on; notes any other refusal.
    fn note_refusal(
        &mut self,
        placed: Result<(), WriteError>,
        prefix: IpPrefix,
    ) -> Result<(), WriteError> {
        match placed {
            Ok(()) => Ok(()),
            Err(error @ WriteError::Stalled { .. }) => Err(error),
            Err(error) => {
                if self.refused.is_empty() {
                    log::error!("{prefix} is not installed: {error}");
                }
                self.done.refused += u64::from(self.refused.insert(prefix));
                Ok(())
            }
        }
    }

    fn insert(
        &mut self,
        parts: &mut Parts<'_>,
        prefix: IpPrefix,
        group: GroupId,
    ) -> Result<(), WriteError> {
        // Changes too may need room.
        #[cfg(test)]
        self.look_for_room(parts)?;
        parts.fib.insert(prefix, group)?;
        self.done.prefixes += 1;
        self.stepped();
        Ok(())
    }

    /// Adds a prefix that is not there; the group of one that is, which stays.
    fn add_new(
        &mut self,
        parts: &mut Parts<'_>,
        prefix: IpPrefix,
        group: GroupId,
    ) -> Result<Option<GroupId>, WriteError> {
        #[cfg(test)]
        if parts.fib.get(prefix).is_none() {
            self.look_for_room(parts)?;
        }
        let there = parts.fib.add(prefix, group)?;
        if there.is_none() {
            self.done.prefixes += 1;
            self.stepped();
        }
        Ok(there)
    }

    #[cfg(test)]
    fn look_for_room(&self, parts: &Parts<'_>) -> Result<(), WriteError> {
        let (v4, v6) = parts.fib.len();
        let is_full = self.room.is_some_and(|room| v4 + v6 >= room);
        if is_full { Err(WriteError::TableFull) } else { Ok(()) }
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
}

/// Passes a stalled reader on; a group that finds no room stays as it was.
fn as_it_was(error: WriteError) -> Result<(), WriteError> {
    if matches!(error, WriteError::Stalled { .. }) {
        return Err(error);
    }
    log::error!("a group stays as it was: {error}");
    Ok(())
}

/// Prefixes of which what is looked at is fetched at once.
const FETCHED_AT_ONCE: usize = 16;

/// Units of a step's budget that the contents of a group cost besides one.
const GROUP_COSTS: usize = 31;
