//! The one writer: every structural change, and the grace period of everything that is unlinked.

mod transaction;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Deref;

use crate::addr::Addr;
use crate::fib::Fib;
use crate::group::{
    ADJACENCY_MAX, GROUPS, Group, GroupError, GroupId, Groups, LINES, Layout, Member, PATH_MAX,
    SiteWord,
};
use crate::map::{Iter, LARGE};
use crate::prefix::{IpPrefix, Prefix};
use crate::space::Space;
use crate::state::{AdjacencyId, PathId, Reasons};
use crate::sync::{Arc, Ordering};
use crate::{v4, v6};

/// Changes the FIB. There is one; it never waits for readers and no reader waits for it.
///
/// What is unlinked (chunks of the tables, group lines, ids) is reused only after every reader has
/// passed a quiescent point. While a reader stalls, what waits for it is bounded by
/// [`RETIRED_MAX`]: further structural changes fail with [`WriteError::Stalled`] and change nothing;
/// changes of liveness go through all the same.
pub struct Writer {
    shared: Arc<Fib>,
    v4: v4::TableWriter,
    v6: v6::TableWriter,
    groups: Ids,
    adjacencies: Ids,
    paths: Ids,
    /// Of groups.
    lines: Space,
    retired: VecDeque<(u64, Retired)>,
    /// For each group id, how many routes lead there.
    routes_to: Vec<u32>,
}

pub use self::transaction::{CHANGES_MAX, TransactionError};

/// How many more there can be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Room {
    /// Groups.
    pub groups: usize,
    /// Adjacencies.
    pub adjacencies: usize,
    /// Paths.
    pub paths: usize,
}

/// Things that may wait for their grace period at a time.
pub const RETIRED_MAX: usize = 1 << 16;

/// Why a change was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WriteError {
    /// The group cannot be stored.
    Group(GroupError),
    /// Every id of this kind is in use.
    IdsExhausted,
    /// A reader has not passed a quiescent point for so long that nothing more can be retired.
    Stalled {
        /// [`crate::Reader::slot`] of that reader.
        reader: usize,
    },
    /// No group has this id.
    UnknownGroup,
    /// No adjacency has this id.
    UnknownAdjacency,
    /// No path has this id.
    UnknownPath,
    /// Routes lead to the group: they have to go first.
    GroupInUse {
        /// How many.
        routes: u32,
    },
    /// The IPv6 table has used up its address space.
    TableFull,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(error) => error.fmt(f),
            Self::IdsExhausted => f.write_str("every id of this kind is in use"),
            Self::Stalled { reader } => {
                write!(f, "reader {reader} stalls: {RETIRED_MAX} unlinked things wait for it")
            }
            Self::UnknownGroup => f.write_str("no group has this id"),
            Self::UnknownAdjacency => f.write_str("no adjacency has this id"),
            Self::UnknownPath => f.write_str("no path has this id"),
            Self::GroupInUse { routes } => {
                write!(f, "{routes} routes lead to the group: remove or replace them first")
            }
            Self::TableFull => f.write_str("the IPv6 table is full: no more routes fit"),
        }
    }
}

impl core::error::Error for WriteError {}

impl From<GroupError> for WriteError {
    fn from(error: GroupError) -> Self {
        Self::Group(error)
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Fib>) -> Self {
        Self {
            shared,
            v4: v4::TableWriter::new(),
            v6: v6::TableWriter::new(),
            groups: Ids::up_to(GROUP_MAX),
            adjacencies: Ids::up_to(ADJACENCY_MAX),
            paths: Ids::up_to(PATH_MAX),
            lines: Space::new(0, LINES as u32),
            retired: VecDeque::new(),
            routes_to: Vec::new(),
        }
    }

    /// Adds or replaces a route; returns its previous group.
    ///
    /// # Errors
    /// Nothing was changed. A reader that looked up meanwhile may have found the new answer.
    pub fn insert(
        &mut self,
        prefix: IpPrefix,
        group: GroupId,
    ) -> Result<Option<GroupId>, WriteError> {
        let old = self.change(prefix, Change::Put(group));
        self.commit();
        old
    }

    /// Adds a route where there is none to this prefix, and returns `None`; the group of one that is
    /// there, which stays.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub fn add(&mut self, prefix: IpPrefix, group: GroupId) -> Result<Option<GroupId>, WriteError> {
        let old = self.change(prefix, Change::Add(group));
        self.commit();
        old
    }

    /// Removes a route; returns its group.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub fn remove(&mut self, prefix: IpPrefix) -> Result<Option<GroupId>, WriteError> {
        let old = self.change(prefix, Change::Remove);
        self.commit();
        old
    }

    /// Adds, replaces or removes a route; to be followed by [`Self::commit`].
    fn change(&mut self, prefix: IpPrefix, change: Change) -> Result<Option<GroupId>, WriteError> {
        change.group().map_or(Ok(()), |group| self.has_group(group))?;
        self.make_room(FREES_MAX)?;
        let old = match self.change_table(prefix, change) {
            Err(v6::Full) if self.reclaim_some() => self.change_table(prefix, change),
            outcome => outcome,
        };
        let old = old.map_err(|v6::Full| WriteError::TableFull)?;
        let stays = matches!(change, Change::Add(_)) && old.is_some();
        if !stays {
            self.note_change(prefix, old, change.group());
        }
        Ok(old)
    }

    fn change_table(
        &mut self,
        prefix: IpPrefix,
        change: Change,
    ) -> Result<Option<GroupId>, v6::Full> {
        let Self { shared, v4, v6, retired, .. } = self;
        match prefix {
            IpPrefix::V4(prefix) => {
                let freed = |freed| retired.push_back((shared.qsbr.retire(), Retired::V4(freed)));
                Ok(match change {
                    Change::Put(group) => v4.insert(&shared.v4, (prefix, group), true, freed),
                    Change::Add(group) => v4.insert(&shared.v4, (prefix, group), false, freed),
                    Change::Remove => v4.remove(&shared.v4, prefix, freed),
                })
            }
            IpPrefix::V6(prefix) => match change {
                Change::Add(group) => v6.add(&shared.v6, prefix, group),
                _ => v6.change(&shared.v6, prefix, change.group()),
            },
        }
    }

    /// Undoes a change that was not committed and was begun at `mark`.
    fn undo(&mut self, (prefix, old): (IpPrefix, Option<GroupId>), mark: v6::Mark) {
        let new = self.get(prefix);
        if let IpPrefix::V6(prefix) = prefix {
            self.v6.undo(&self.shared.v6, (prefix, old), mark);
        } else {
            let Ok(_) = self.change_table(prefix, old.into()) else {
                unreachable!("IPv4 is never full")
            };
        }
        self.note_change(prefix, new, old);
    }

    /// Counts the routes of groups; retires a change that lookups fall back on.
    fn note_change(&mut self, prefix: IpPrefix, old: Option<GroupId>, new: Option<GroupId>) {
        // So that a reader that looks up again for each such change cannot do so for ever.
        if old != new && self.shared.falls_back_on(prefix) {
            self.retired.push_back((self.shared.qsbr.retire(), Retired::Nothing));
        }
        if let Some(new) = new {
            self.routes_to[new.0 as usize] += 1;
        }
        if let Some(old) = old {
            self.routes_to[old.0 as usize] -= 1;
        }
    }

    /// Retires what the changes since the last commit unlinked.
    fn commit(&mut self) {
        let Self { shared, v6, retired, .. } = self;
        v6.commit(&shared.v6, |freed| {
            retired.push_back((shared.qsbr.retire(), Retired::V6(freed)));
        });
    }

    /// Asks the processor to fetch what changes of these prefixes look at: for many of them that follow.
    pub fn prefetch(&self, prefixes: impl Iterator<Item = IpPrefix> + Clone) {
        let v4 = prefixes.clone().filter_map(IpPrefix::v4);
        v4.clone().for_each(|prefix| self.shared.v4.prefetch(prefix.addr()));
        self.v4.routes().prefetch(v4);
        self.v6.routes().prefetch(prefixes.filter_map(IpPrefix::v6));
    }

    /// The group of exactly this prefix.
    pub fn get(&self, prefix: IpPrefix) -> Option<GroupId> {
        match prefix {
            IpPrefix::V4(prefix) => self.v4.routes().get(prefix),
            IpPrefix::V6(prefix) => self.v6.routes().get(prefix),
        }
    }

    /// The longest prefix that covers `addr`, and its group.
    pub fn longest_match(&self, addr: IpAddr) -> Option<(IpPrefix, GroupId)> {
        match addr {
            IpAddr::V4(addr) => self.v4.routes().longest_match(addr).map(of_either),
            IpAddr::V6(addr) => self.v6.routes().longest_match(addr).map(of_either),
        }
    }

    /// The longest prefix that covers `prefix` and is shorter than it.
    pub fn covering(&self, prefix: IpPrefix) -> Option<(IpPrefix, GroupId)> {
        match prefix {
            IpPrefix::V4(prefix) => self.v4.routes().covering(prefix).map(of_either),
            IpPrefix::V6(prefix) => self.v6.routes().covering(prefix).map(of_either),
        }
    }

    /// How many routes lead to a group.
    pub fn routes_to(&self, group: GroupId) -> u32 {
        self.routes_to.get(group.0 as usize).copied().unwrap_or(0)
    }

    /// All routes: IPv4 before IPv6, then by address, the shorter prefix first.
    pub fn iter(&self) -> impl Iterator<Item = (IpPrefix, GroupId)> + '_ {
        in_order(self.v4.routes().iter(), self.v6.routes().iter())
    }

    /// The routes that come after `prefix` in [`Self::iter`], to go on page by page.
    pub fn iter_after(&self, prefix: IpPrefix) -> impl Iterator<Item = (IpPrefix, GroupId)> + '_ {
        let (v4, v6) = (self.v4.routes(), self.v6.routes());
        match prefix {
            IpPrefix::V4(prefix) => in_order(v4.iter_after(prefix), v6.iter()),
            IpPrefix::V6(prefix) => in_order(Iter::END, v6.iter_after(prefix)),
        }
    }

    /// Bytes of the writer's own copy of the routes, IPv4 and IPv6; [`Fib::memory`] is what
    /// readers see.
    pub fn routes_bytes(&self) -> (usize, usize) {
        (self.v4.routes().bytes(), self.v6.routes().bytes())
    }

    /// How many routes there are, IPv4 and IPv6.
    pub fn len(&self) -> (usize, usize) {
        (self.v4.routes().len(), self.v6.routes().len())
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// How many more of each kind can be added now; what is removed counts after its grace period.
    pub fn room(&self) -> Room {
        Room {
            groups: self.groups.room(),
            adjacencies: self.adjacencies.room(),
            paths: self.paths.room(),
        }
    }

    /// A new adjacency that leaves by `port`, alive. `key` is what the link hash knows it by
    /// ([`crate::link_key`]).
    pub fn add_adjacency(&mut self, port: u16, key: u64) -> Result<AdjacencyId, WriteError> {
        self.reclaim();
        let id = self.adjacencies.take().ok_or(WriteError::IdsExhausted)?;
        self.note_use();
        let state = self.shared.liveness.adjacency(AdjacencyId(id));
        state.port.store(port, Ordering::Relaxed);
        state.key.store(key, Ordering::Relaxed);
        state.reasons.store(Reasons::NONE);
        Ok(AdjacencyId(id))
    }

    /// Retires an adjacency. The caller has replaced every group that names it.
    pub fn remove_adjacency(&mut self, id: AdjacencyId) -> Result<(), WriteError> {
        self.adjacencies.is_taken(id.0).then_some(()).ok_or(WriteError::UnknownAdjacency)?;
        self.retire(Retired::Adjacency(id.0))?;
        self.adjacencies.forget(id.0);
        Ok(())
    }

    /// A new path, alive. `site_key` is what the site hash knows its site by ([`crate::name_key`]);
    /// `accept` is as for [`crate::Handle::set_accept`].
    pub fn add_path(&mut self, site_key: u64, accept: u16) -> Result<PathId, WriteError> {
        self.add_path_down(site_key, accept, Reasons::NONE)
    }

    /// As [`Self::add_path`], but down for `reasons` from the first moment.
    pub fn add_path_down(
        &mut self,
        site_key: u64,
        accept: u16,
        reasons: Reasons,
    ) -> Result<PathId, WriteError> {
        self.reclaim();
        let id = self.paths.take().ok_or(WriteError::IdsExhausted)?;
        self.note_use();
        let state = self.shared.liveness.path(PathId(id));
        state.site_key.store(site_key, Ordering::Relaxed);
        state.accept.store(accept, Ordering::Relaxed);
        state.reasons.store(reasons);
        Ok(PathId(id))
    }

    /// Retires a path. The caller has replaced every group that names it.
    pub fn remove_path(&mut self, id: PathId) -> Result<(), WriteError> {
        self.paths.is_taken(id.0).then_some(()).ok_or(WriteError::UnknownPath)?;
        self.retire(Retired::Path(id.0))?;
        self.paths.forget(id.0);
        Ok(())
    }

    /// A new group.
    pub fn add_group(&mut self, group: &Group) -> Result<GroupId, WriteError> {
        group.validate()?;
        self.reclaim();
        let (first, count) = self.write_lines(group)?;
        let Some(id) = self.groups.take() else {
            self.lines.recycle(first, count);
            return Err(WriteError::IdsExhausted);
        };
        self.note_use();
        self.shared.groups.link(GroupId(id), Some(first));
        self.routes_to.resize(self.routes_to.len().max(id as usize + 1), 0);
        if id as usize == LARGE {
            self.shared.groups.use_huge_pages(LARGE, self.lines.end_max() as usize);
        }
        Ok(GroupId(id))
    }

    /// Replaces a group under its id, for every prefix that leads to it, in O(1).
    pub fn replace_group(&mut self, id: GroupId, group: &Group) -> Result<(), WriteError> {
        group.validate()?;
        self.make_room(1)?;
        self.has_group(id)?;
        let count = self.lines_of(id);
        let (first, _) = self.write_lines(group)?;
        if let Some(old) = self.shared.groups.link(id, Some(first)) {
            self.retire(Retired::Lines { first: old, count })?;
        }
        Ok(())
    }

    /// Retires a group that no route leads to. Readers who found it before still get what it says:
    /// its lines go with its id, after the grace period. Other groups that name it as
    /// [`WhenDead::Covering`](crate::WhenDead::Covering) are the caller's to replace.
    pub fn remove_group(&mut self, id: GroupId) -> Result<(), WriteError> {
        self.has_group(id)?;
        match self.routes_to[id.0 as usize] {
            0 => self.retire(Retired::Group(id.0))?,
            routes => return Err(WriteError::GroupInUse { routes }),
        }
        self.groups.forget(id.0);
        Ok(())
    }

    /// Makes everything reusable whose grace period is over; returns how many things wait still.
    pub fn reclaim(&mut self) -> usize {
        if self.retired.is_empty() {
            return 0;
        }
        let over = self.shared.qsbr.grace_over();
        while self.retired.front().is_some_and(|&(epoch, _)| epoch <= over) {
            let Some((_, retired)) = self.retired.pop_front() else { break };
            match retired {
                Retired::Adjacency(id) => self.adjacencies.recycle(id),
                Retired::V4(freed) => self.v4.recycle(&self.shared.v4, freed),
                Retired::V6(freed) => self.v6.recycle(freed),
                Retired::Group(id) => self.unlink_group(id),
                Retired::Lines { first, count } => self.lines.recycle(first, count),
                Retired::Nothing => {}
                Retired::Path(id) => self.paths.recycle(id),
            }
        }
        self.retired.len()
    }

    /// Begins a grace period of what the caller itself unlinked: something that readers reach
    /// through what they find here, and that lives elsewhere.
    pub fn begin_grace(&self) -> Grace {
        Grace(self.shared.qsbr.retire())
    }

    /// Whether every reader has passed a quiescent point since `grace` began.
    pub fn is_over(&self, grace: Grace) -> bool {
        self.shared.qsbr.grace_over() >= grace.0
    }

    /// The online reader that has gone longest without a quiescent point, if something waits for
    /// it: its [`crate::Reader::slot`].
    pub fn slowest_reader(&self) -> Option<usize> {
        let epoch = self.retired.front()?.0;
        let (reader, seen) = self.shared.qsbr.slowest()?;
        (seen < epoch).then_some(reader)
    }

    /// Sorts members so that a site's are neighbours, and writes them where no reader looks yet.
    /// Returns the first line, and how many there are.
    fn write_lines(&mut self, group: &Group) -> Result<(u32, u32), WriteError> {
        let (mut group, mut layout) = (group.clone(), Layout::default());
        let mut count = 0;
        if let Group::Forward { members, .. } = &mut group {
            members.sort_by_key(|member| (member.tier, self.site_key(member), member.adjacency));
            layout = self.layout(members);
            count = members.len();
        }
        let count = Groups::lines_for(count, layout.sites.len());
        if !self.lines.has(count, 0) {
            self.reclaim();
        }
        let first = self.lines.take(count, 0).ok_or(WriteError::IdsExhausted)?;
        self.shared.groups.write(first, &group, &layout);
        self.note_use();
        Ok((first, count))
    }

    /// How these members, which are in order, are to be stored.
    fn layout(&self, members: &[Member]) -> Layout {
        let key = |member: &Member| (member.tier, self.site_key(member));
        let site_word = |links: &[Member]| SiteWord {
            weight: links.iter().map(|member| member.weight).max().unwrap_or(1),
            links: links.len() as u8,
        };
        let sites: Vec<SiteWord> =
            members.chunk_by(|a, b| key(a) == key(b)).map(site_word).collect();
        let first_tier = members.iter().take_while(|member| member.tier == members[0].tier).count();
        // A site of several links among the first so many sites: they are fewer than the members.
        let mut of_first_tier = sites.iter().take(first_tier);
        let is_plain = of_first_tier.all(|site| site.links == 1 && site.weight == sites[0].weight);
        let needs_words =
            members.iter().any(|member| member.link_weight != 1) || sites.len() < members.len();
        Layout {
            sites: if needs_words { sites } else { Vec::new() },
            plain: if is_plain { first_tier } else { 0 },
        }
    }

    /// Whether anything became reusable.
    fn reclaim_some(&mut self) -> bool {
        let waiting = self.retired.len();
        self.reclaim() < waiting
    }

    /// A group that exists and is not removed.
    fn has_group(&self, id: GroupId) -> Result<(), WriteError> {
        if self.groups.is_taken(id.0) { Ok(()) } else { Err(WriteError::UnknownGroup) }
    }

    /// For [`Fib::memory`].
    fn note_use(&self) {
        let lines = self.lines.end_max();
        let used = [self.groups.next, lines, self.paths.next, self.adjacencies.next];
        for (slot, used) in self.shared.used.iter().zip(used) {
            slot.store(used, Ordering::Relaxed);
        }
    }

    /// How many lines a group is in.
    fn lines_of(&self, id: GroupId) -> u32 {
        self.shared.groups.get(id).map_or(0, |group| group.lines())
    }

    /// Takes a removed group's id and lines back, now that nobody holds them.
    fn unlink_group(&mut self, id: u32) {
        let count = self.lines_of(GroupId(id));
        if let Some(first) = self.shared.groups.link(GroupId(id), None) {
            self.lines.recycle(first, count);
        }
        self.groups.recycle(id);
    }

    fn site_key(&self, member: &Member) -> u64 {
        self.shared.liveness.path(member.path).site_key.load(Ordering::Relaxed)
    }

    fn retire(&mut self, retired: Retired) -> Result<(), WriteError> {
        self.make_room(1)?;
        self.retired.push_back((self.shared.qsbr.retire(), retired));
        Ok(())
    }

    fn make_room(&mut self, count: usize) -> Result<(), WriteError> {
        if self.retired.len() + count <= RECLAIM_AT || self.reclaim() + count <= RETIRED_MAX {
            return Ok(());
        }
        let reader = self.shared.qsbr.slowest().map_or(0, |(reader, _)| reader);
        Err(WriteError::Stalled { reader })
    }
}

impl Deref for Writer {
    type Target = Fib;

    /// The writer may read whenever it likes: it alone decides when something is reused.
    fn deref(&self) -> &Fib {
        &self.shared
    }
}

fn of_either<A: Addr>((prefix, group): (Prefix<A>, GroupId)) -> (IpPrefix, GroupId)
where
    IpPrefix: From<Prefix<A>>,
{
    (prefix.into(), group)
}

fn in_order<'a>(
    v4: Iter<'a, Ipv4Addr>,
    v6: Iter<'a, Ipv6Addr>,
) -> impl Iterator<Item = (IpPrefix, GroupId)> + 'a {
    v4.map(of_either).chain(v6.map(of_either))
}

/// What becomes of a route.
#[derive(Clone, Copy)]
enum Change {
    /// It leads to this group.
    Put(GroupId),
    /// It leads to this group unless it is there already.
    Add(GroupId),
    Remove,
}

impl Change {
    const fn group(self) -> Option<GroupId> {
        match self {
            Self::Put(group) | Self::Add(group) => Some(group),
            Self::Remove => None,
        }
    }
}

impl From<Option<GroupId>> for Change {
    fn from(group: Option<GroupId>) -> Self {
        group.map_or(Self::Remove, Self::Put)
    }
}

/// A grace period: see [`Writer::begin_grace`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grace(u64);

/// Something unlinked that readers may still hold.
#[derive(Debug)]
enum Retired {
    Adjacency(u32),
    V4(v4::Freed),
    V6(v6::Freed),
    Group(u32),
    Lines {
        first: u32,
        count: u32,
    },
    /// A change that lookups under way have to see: see [`crate::short`].
    Nothing,
    Path(u32),
}

/// Ids of one kind, handed out: one that was given back, else the lowest that was never used.
struct Ids {
    next: u32,
    max: u32,
    free: Vec<u32>,
    /// Whether an id was handed out, and not removed since.
    taken: Vec<bool>,
}

impl Ids {
    fn up_to(max: u32) -> Self {
        Self { next: 0, max, free: Vec::new(), taken: Vec::new() }
    }

    fn take(&mut self) -> Option<u32> {
        let id = self.free.pop().or_else(|| (self.next <= self.max).then_some(self.next))?;
        if id == self.next {
            self.next += 1;
            self.taken.push(false);
        }
        self.taken[id as usize] = true;
        Some(id)
    }

    fn room(&self) -> usize {
        self.free.len() + (self.max as usize + 1).saturating_sub(self.next as usize)
    }

    #[inline]
    fn is_taken(&self, id: u32) -> bool {
        self.taken.get(id as usize).is_some_and(|&is_taken| is_taken)
    }

    /// Nobody is to name it any more; to be given back when nobody can.
    fn forget(&mut self, id: u32) {
        self.taken[id as usize] = false;
    }

    fn recycle(&mut self, id: u32) {
        self.free.push(id);
    }
}

/// The highest group id.
const GROUP_MAX: u32 = GROUPS as u32 - 1;

/// Entries of the list of what is retired that one change of a route may take: what IPv4 frees, and
/// one for a change that lookups fall back on. Of IPv6 there is one.
const FREES_MAX: usize = v4::FREES_MAX + 1;

/// Below this, grace periods are not looked at in every call.
const RECLAIM_AT: usize = 1024;

#[cfg(all(test, not(loom)))]
mod tests;
