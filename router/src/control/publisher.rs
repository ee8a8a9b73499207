//! From the RIB to the FIB, a step at a time.
//!
//! In no step does a lookup of any address give a third answer, neither the one before nor the one
//! after. First new groups are made, also for old ones that prefixes come to or leave and whose contents
//! change. Then prefixes are added, longest first, so that none is seen that a longer new one hides; then
//! groups change in place, and prefixes; then prefixes are removed, shortest first, so that none is
//! uncovered that goes too.

mod ahead;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use nearhop_fib::{Group, GroupId, IpPrefix, Spread, WhenDead, WriteError, Writer};

use super::services::Services;
use crate::put_back::{self, PutBack};
use crate::rib::{Cursor, NextHops, Rib, SetId};

/// Publishes what is dirty in a RIB.
#[derive(Default)]
pub(super) struct Publisher {
    groups: BTreeMap<SetId, GroupState>,
    /// Groups that were given another id, until no prefix leads to them.
    superseded: Vec<GroupId>,
    /// Sets with a group that lead on to what covers this prefix, the shortest first.
    covering: BTreeSet<(u8, IpPrefix, SetId)>,
    phase: Phase,
    /// Sets whose group's contents may be others.
    unsure: VecDeque<SetId>,
    /// Groups that a prefix, or a group that leads on, is about to leave or to come to: whoever comes by
    /// the old way must not see their new contents, nor by the new way their old ones.
    moved: HashSet<GroupId>,
    /// Sets whose group is replaced under its id.
    in_place: Vec<SetId>,
    changes: Vec<IpPrefix>,
    /// The shortest last.
    removals: Vec<IpPrefix>,
    /// Prefixes to be added, about, of which what is looked at is fetched.
    fetched: usize,
    /// Sets that are gone.
    gone: Vec<SetId>,
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
        let sets = self.in_place.drain(..).chain(self.unsure.drain(..)).chain(self.gone.drain(..));
        sets.for_each(|set| rib.dirty().mark_set(set));
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

    /// The group of a set, if it was ever needed.
    pub(super) fn group(&self, set: SetId) -> Option<GroupId> {
        Some(self.groups.get(&set)?.id)
    }

    /// The groups of sets after one, by its number.
    pub(super) fn groups_after(
        &self,
        after: Option<u32>,
    ) -> impl Iterator<Item = (u32, SetId, GroupId)> + '_ {
        let after = after.map_or(Bound::Unbounded, |number| Bound::Excluded(SetId(number)));
        let groups = self.groups.range((after, Bound::Unbounded));
        groups.map(|(&set, state)| (set.0, set, state.id))
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
        let mut covering = BTreeSet::new();
        for set in parts.rib.dirty().take_sets() {
            match self.groups.get(&set) {
                _ if parts.rib.next_hops(set).is_none() => self.gone.push(set),
                None => {}
                Some(state) => match state.covered {
                    Some(prefix) => drop(covering.insert((prefix.len(), prefix, set))),
                    None => self.unsure.push_back(set),
                },
            }
        }
        let any_prefixes = parts.rib.dirty().has_prefixes();
        // Groups that lead on to what covers them come after that, which is shorter.
        let covering = if any_prefixes { &self.covering } else { &covering };
        self.unsure.extend(covering.iter().map(|&(_, _, set)| set));
        let any_motion =
            any_prefixes && !self.unsure.is_empty() && !put_back::is(PutBack::GroupInPlace);
        if any_motion { Phase::Motion(Cursor::default()) } else { Phase::Contents }
    }

    fn note_motion(&mut self, parts: &mut Parts<'_>, mut cursor: Cursor) -> Phase {
        if let Some(prefix) = parts.rib.dirty().next(&mut cursor) {
            let used = parts.rib.used(prefix).map(|used| used.set);
            let now = parts.fib.get(prefix);
            let own = used.and_then(|set| self.group(set));
            if own != now || own.is_none() {
                self.moved.extend(used.and_then(|set| self.group_come_to(parts.rib, set)));
                self.moved.extend(now);
            }
            return Phase::Motion(cursor);
        }
        for &(_, prefix, set) in &self.covering {
            let Some(covering) = self.groups.get(&set).and_then(covering_of) else { continue };
            let next = parts.rib.used_covering(prefix).and_then(|(_, used)| self.group(used.set));
            if next != Some(covering) {
                self.moved.insert(covering);
                self.moved.extend(next);
            }
        }
        // Who is about to leave a group that leads on sees what it leads on to until then.
        let by_id: HashMap<GroupId, GroupId> = self
            .covering
            .iter()
            .filter_map(|(_, _, set)| self.groups.get(set))
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

    /// The group there is already that whoever comes to a set comes to: its own, or the one that a group
    /// that is to be made leads on to.
    fn group_come_to(&self, rib: &Rib, mut set: SetId) -> Option<GroupId> {
        loop {
            if let Some(id) = self.group(set) {
                return Some(id);
            }
            let (_, covering) = rib.used_covering(covered_by(rib, set)?)?;
            set = covering.set;
        }
    }

    fn compare_contents(&mut self, parts: &mut Parts<'_>) -> Result<Option<Phase>, WriteError> {
        let Some(set) = self.unsure.front().copied() else {
            return Ok(Some(Phase::SweepMoved));
        };
        if let Some(content) = self.content(parts, set)? {
            match self.groups.get(&set) {
                Some(state) if state.content == content => {}
                Some(state) if self.moved.contains(&state.id) => {
                    let old = state.id;
                    match self.add_group(parts, set, content) {
                        Ok(_) => {
                            self.superseded.push(old);
                            parts.rib.mark_prefixes(set);
                        }
                        Err(error) => as_it_was(error)?,
                    }
                }
                Some(_) => self.in_place.push(set),
                None => {}
            }
        }
        self.unsure.pop_front();
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
        let Some(used) = parts.rib.used(prefix) else {
            if parts.fib.get(prefix).is_some() {
                self.removals.push(prefix);
            }
            return Ok(None);
        };
        let placed = self.group_for(parts, used.set).and_then(|next| {
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
        let Some(&set) = self.in_place.last() else { return Ok(Some(Phase::Change)) };
        if let Some(content) = self.content(parts, set)?
            && let Some(state) = self.groups.get_mut(&set)
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
        if let Some(used) = parts.rib.used(prefix) {
            let next = self.group_for(parts, used.set);
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
        let Some(&set) = self.gone.last() else { return Ok(Some(Phase::Idle)) };
        if let Some(state) = self.groups.get(&set) {
            let (id, covered) = (state.id, state.covered);
            self.remove_group(parts, id)?;
            if let Some(prefix) = covered {
                self.covering.remove(&(prefix.len(), prefix, set));
            }
            self.groups.remove(&set);
        }
        self.gone.pop();
        Ok(None)
    }

    /// One that a refused prefix still leads to is kept for the next publication.
    fn remove_group(&mut self, parts: &mut Parts<'_>, id: GroupId) -> Result<(), WriteError> {
        match parts.fib.remove_group(id) {
            Err(WriteError::GroupInUse { .. }) => self.kept.push(id),
            outcome => outcome?,
        }
        Ok(())
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

    /// The group of a set, made if there is none.
    fn group_for(&mut self, parts: &mut Parts<'_>, set: SetId) -> Result<GroupId, WriteError> {
        if let Some(id) = self.group(set) {
            return Ok(id);
        }
        let content = self.content(parts, set)?.unwrap_or(Group::Unreachable);
        self.add_group(parts, set, content)
    }

    fn add_group(
        &mut self,
        parts: &mut Parts<'_>,
        set: SetId,
        content: Group,
    ) -> Result<GroupId, WriteError> {
        let id = parts.fib.add_group(&content)?;
        let covered = covered_by(parts.rib, set);
        self.covering.extend(covered.map(|prefix| (prefix.len(), prefix, set)));
        self.groups.insert(set, GroupState { id, content, covered });
        self.done.groups += 1;
        self.stepped();
        Ok(id)
    }

    /// What the group of a set is to be; `None` for a set that leads nowhere now: its prefixes leave it.
    fn content(&mut self, parts: &mut Parts<'_>, set: SetId) -> Result<Option<Group>, WriteError> {
        let covering =
            match covered_by(parts.rib, set).and_then(|prefix| parts.rib.used_covering(prefix)) {
                Some((_, used)) => Some(self.group_for(parts, used.set)?),
                None => None,
            };
        Ok(match parts.rib.next_hops(set) {
            None => None,
            Some(NextHops::Local) => Some(Group::Local),
            Some(NextHops::Blackhole) => Some(Group::Blackhole),
            Some(NextHops::Unreachable) => Some(Group::Unreachable),
            Some(NextHops::Prohibit) => Some(Group::Prohibit),
            Some(NextHops::Service(service)) => Some(parts.services.group(service, covering)),
            Some(NextHops::Via(_) | NextHops::Ranked(_)) => {
                let members = parts.rib.members(set).to_vec();
                let (when_dead, spread) = (WhenDead::Unreachable, Spread::Flow);
                let leads = !members.is_empty();
                leads.then_some(Group::Forward { members, when_dead, spread })
            }
        })
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

/// The prefix whose cover the group of a set leads on to.
fn covered_by(rib: &Rib, set: SetId) -> Option<IpPrefix> {
    match rib.next_hops(set) {
        Some(NextHops::Service(service)) => service.prefix,
        _ => None,
    }
}

/// The group that this one leads on to when it is dead.
fn covering_of(state: &GroupState) -> Option<GroupId> {
    match &state.content {
        Group::Forward { when_dead: WhenDead::Covering(group), .. } => Some(*group),
        _ => None,
    }
}

/// Prefixes of which what is looked at is fetched at once.
const FETCHED_AT_ONCE: usize = 16;

/// Units of a step's budget that the contents of a group cost besides one.
const GROUP_COSTS: usize = 31;
