//! The one writer: every structural change, and the grace period of everything that is unlinked.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::ops::Deref;

use crate::fib::Fib;
use crate::group::{
    ADJACENCY_MAX, Group, GroupError, GroupId, Groups, MEMBERS_MAX, Member, PATH_MAX,
};
use crate::lpm::TableWriter;
use crate::prefix::{IpPrefix, Prefix};
use crate::state::{AdjacencyId, Liveness, PathId, Reasons};
use crate::sync::{Arc, Ordering};

/// Changes the FIB. There is one; it never waits for readers and no reader waits for it.
///
/// What is unlinked (chunks of the tables, group lines, ids) is reused only after every reader has
/// passed a quiescent point. While a reader stalls, what waits for it is bounded by
/// [`RETIRED_MAX`]: further structural changes fail with [`WriteError::Stalled`] and change nothing;
/// changes of liveness go through all the same.
pub struct Writer {
    shared: Arc<Fib>,
    v4: TableWriter<core::net::Ipv4Addr>,
    v6: TableWriter<core::net::Ipv6Addr>,
    groups: Ids,
    adjacencies: Ids,
    paths: Ids,
    lines: Lines,
    retired: VecDeque<(u64, Retired)>,
    /// Groups that are removed, but still there for readers who found them before.
    removed: BTreeSet<u32>,
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
            v4: TableWriter::new(),
            v6: TableWriter::new(),
            groups: Ids::up_to(GROUP_MAX),
            adjacencies: Ids::up_to(ADJACENCY_MAX),
            paths: Ids::up_to(PATH_MAX),
            lines: Lines::default(),
            retired: VecDeque::new(),
            removed: BTreeSet::new(),
        }
    }

    /// Adds or replaces a route; gives back the group it led to before.
    pub fn insert(
        &mut self,
        prefix: IpPrefix,
        group: GroupId,
    ) -> Result<Option<GroupId>, WriteError> {
        self.members_of(group)?;
        Ok(match prefix {
            IpPrefix::V4(prefix) => self.v4.insert(&self.shared.v4, prefix, group),
            IpPrefix::V6(prefix) => self.v6.insert(&self.shared.v6, prefix, group),
        })
    }

    /// Removes a route; gives back the group it led to.
    pub fn remove(&mut self, prefix: IpPrefix) -> Result<Option<GroupId>, WriteError> {
        self.make_room(LEVELS_MAX)?;
        let retired = &mut self.retired;
        let qsbr = &self.shared.qsbr;
        Ok(match prefix {
            IpPrefix::V4(prefix) => self.v4.remove(&self.shared.v4, prefix, |chunk| {
                retired.push_back((qsbr.retire(), Retired::Chunk4(chunk)));
            }),
            IpPrefix::V6(prefix) => self.v6.remove(&self.shared.v6, prefix, |chunk| {
                retired.push_back((qsbr.retire(), Retired::Chunk6(chunk)));
            }),
        })
    }

    /// The group of exactly this prefix.
    pub fn get(&self, prefix: IpPrefix) -> Option<GroupId> {
        match prefix {
            IpPrefix::V4(prefix) => self.v4.get(prefix),
            IpPrefix::V6(prefix) => self.v6.get(prefix),
        }
    }

    /// The longest prefix that covers `addr`, and its group.
    pub fn longest_match(&self, addr: IpAddr) -> Option<(IpPrefix, GroupId)> {
        match addr {
            IpAddr::V4(addr) => self.v4.lookup(addr).map(|(p, group)| (p.into(), group)),
            IpAddr::V6(addr) => self.v6.lookup(addr).map(|(p, group)| (p.into(), group)),
        }
    }

    /// The longest prefix that covers `prefix` and is shorter than it.
    pub fn covering(&self, prefix: IpPrefix) -> Option<(IpPrefix, GroupId)> {
        match prefix {
            IpPrefix::V4(prefix) => self.v4.covering(prefix).map(|(p, group)| (p.into(), group)),
            IpPrefix::V6(prefix) => self.v6.covering(prefix).map(|(p, group)| (p.into(), group)),
        }
    }

    /// All routes: IPv4 before IPv6, then by address, the shorter prefix first.
    pub fn iter(&self) -> impl Iterator<Item = (IpPrefix, GroupId)> + '_ {
        let v4 = self.v4.iter().map(|(prefix, group)| (IpPrefix::V4(prefix), group));
        v4.chain(self.v6.iter().map(|(prefix, group)| (IpPrefix::V6(prefix), group)))
    }

    /// The routes that come after `prefix` in [`Self::iter`], to go on page by page.
    pub fn iter_after(&self, prefix: IpPrefix) -> impl Iterator<Item = (IpPrefix, GroupId)> + '_ {
        let (v4, v6) = match prefix {
            IpPrefix::V4(prefix) => (Some(Some(prefix)), None),
            IpPrefix::V6(prefix) => (None, Some(prefix)),
        };
        let v4 = v4.into_iter().flat_map(|after: Option<Prefix<_>>| self.v4.iter_after(after));
        v4.map(|(prefix, group)| (IpPrefix::V4(prefix), group))
            .chain(self.v6.iter_after(v6).map(|(prefix, group)| (IpPrefix::V6(prefix), group)))
    }

    /// How many routes there are, IPv4 and IPv6.
    pub fn len(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// A new adjacency that leaves by `port`, alive. `key` is what the link hash knows it by
    /// ([`crate::name_key`]).
    pub fn add_adjacency(&mut self, port: u16, key: u64) -> Result<AdjacencyId, WriteError> {
        self.reclaim();
        let id = self.adjacencies.take().ok_or(WriteError::IdsExhausted)?;
        let state = self.shared.liveness.adjacencies.grow_to(id);
        state.port.store(port, Ordering::Relaxed);
        state.key.store(key, Ordering::Relaxed);
        Liveness::store(&state.reasons, Reasons::NONE);
        Ok(AdjacencyId(id))
    }

    /// Retires an adjacency. The caller has replaced every group that names it.
    pub fn remove_adjacency(&mut self, id: AdjacencyId) -> Result<(), WriteError> {
        self.retire(Retired::Adjacency(id.0))
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
        let state = self.shared.liveness.paths.grow_to(id);
        state.site_key.store(site_key, Ordering::Relaxed);
        state.accept.store(accept, Ordering::Relaxed);
        state.epoch.fetch_add(1, Ordering::Relaxed);
        Liveness::store(&state.reasons, reasons);
        Ok(PathId(id))
    }

    /// Retires a path. The caller has replaced every group that names it.
    pub fn remove_path(&mut self, id: PathId) -> Result<(), WriteError> {
        self.retire(Retired::Path(id.0))
    }

    /// A new group.
    pub fn add_group(&mut self, group: &Group) -> Result<GroupId, WriteError> {
        group.validate()?;
        self.reclaim();
        let id = self.groups.take().ok_or(WriteError::IdsExhausted)?;
        let first = self.write_lines(group);
        self.shared.groups.link(GroupId(id), Some(first));
        Ok(GroupId(id))
    }

    /// Replaces a group under its id, for every prefix that leads to it, in O(1).
    pub fn replace_group(&mut self, id: GroupId, group: &Group) -> Result<(), WriteError> {
        group.validate()?;
        self.make_room(1)?;
        let members = self.members_of(id)?;
        let first = self.write_lines(group);
        if let Some(old) = self.shared.groups.link(id, Some(first)) {
            self.retire(Retired::Lines { first: old, count: Groups::lines_for(members) })?;
        }
        Ok(())
    }

    /// Retires a group. The caller has removed every route to it. Readers who found it before still
    /// get what it says: its lines go with its id, after the grace period.
    pub fn remove_group(&mut self, id: GroupId) -> Result<(), WriteError> {
        self.members_of(id)?;
        self.retire(Retired::Group(id.0))?;
        self.removed.insert(id.0);
        Ok(())
    }

    /// Makes everything reusable whose grace period is over; returns how many things wait still.
    pub fn reclaim(&mut self) -> usize {
        if self.retired.is_empty() {
            return 0;
        }
        let over = self.shared.qsbr.grace_over();
        while let Some(&(epoch, retired)) = self.retired.front() {
            if epoch > over {
                break;
            }
            self.retired.pop_front();
            match retired {
                Retired::Adjacency(id) => self.adjacencies.give_back(id),
                Retired::Chunk4(chunk) => self.v4.recycle(chunk),
                Retired::Chunk6(chunk) => self.v6.recycle(chunk),
                Retired::Group(id) => self.unlink_group(id),
                Retired::Lines { first, count } => self.lines.give_back(first, count),
                Retired::Path(id) => self.paths.give_back(id),
            }
        }
        self.retired.len()
    }

    /// Begins a grace period of what the caller itself unlinked: something that readers reach
    /// through what they find here, and that lives elsewhere.
    pub fn begin_grace(&self) -> Grace {
        Grace(self.shared.qsbr.retire())
    }

    /// Whether every reader has let go of what it held when `grace` began.
    pub fn is_over(&self, grace: Grace) -> bool {
        self.shared.qsbr.grace_over() >= grace.0
    }

    /// The online reader that has gone longest without a quiescent point, if something waits for
    /// it: its [`crate::Reader::slot`].
    pub fn slowest_reader(&self) -> Option<usize> {
        let &(epoch, _) = self.retired.front()?;
        let (reader, seen) = self.shared.qsbr.slowest()?;
        (seen < epoch).then_some(reader)
    }

    /// Sorts members so that a site's are neighbours, and writes them where no reader looks yet.
    fn write_lines(&mut self, group: &Group) -> u32 {
        let mut group = group.clone();
        if let Group::Forward { members, .. } = &mut group {
            members.sort_by_key(|member| (member.tier, self.site_key(member), member.adjacency));
        }
        let first = self.lines.take(Groups::lines_for(group.members_len()));
        self.shared.groups.write(first, &group);
        first
    }

    /// How many members a group has that exists and is not removed.
    fn members_of(&self, id: GroupId) -> Result<usize, WriteError> {
        let group = self.shared.groups.get(id).filter(|_| !self.removed.contains(&id.0));
        Ok(group.ok_or(WriteError::UnknownGroup)?.header.count)
    }

    /// Takes a removed group's id and lines back, now that nobody holds them.
    fn unlink_group(&mut self, id: u32) {
        let members = self.shared.groups.get(GroupId(id)).map_or(0, |group| group.header.count);
        if let Some(first) = self.shared.groups.link(GroupId(id), None) {
            self.lines.give_back(first, Groups::lines_for(members));
        }
        self.removed.remove(&id);
        self.groups.give_back(id);
    }

    fn site_key(&self, member: &Member) -> u64 {
        let state = self.shared.liveness.paths.get(member.path.0);
        state.map_or(0, |state| state.site_key.load(Ordering::Relaxed))
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

impl Group {
    fn members_len(&self) -> usize {
        match self {
            Self::Forward { members, .. } => members.len(),
            _ => 0,
        }
    }
}

/// A grace period: see [`Writer::begin_grace`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grace(u64);

/// Something unlinked that readers may still hold.
#[derive(Clone, Copy, Debug)]
enum Retired {
    Adjacency(u32),
    Chunk4(u32),
    Chunk6(u32),
    Group(u32),
    Lines { first: u32, count: usize },
    Path(u32),
}

/// Ids of one kind: the lowest that was never used, and those given back.
struct Ids {
    next: u32,
    max: u32,
    free: Vec<u32>,
}

impl Ids {
    fn up_to(max: u32) -> Self {
        Self { next: 0, max, free: Vec::new() }
    }

    fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let id = self.next;
            (id <= self.max).then(|| {
                self.next += 1;
                id
            })
        })
    }

    fn give_back(&mut self, id: u32) {
        self.free.push(id);
    }
}

/// Runs of group lines, by length.
#[derive(Default)]
struct Lines {
    next: u32,
    free: [Vec<u32>; LINES_MAX + 1],
}

impl Lines {
    fn take(&mut self, count: usize) -> u32 {
        self.free[count].pop().unwrap_or_else(|| {
            let first = self.next;
            self.next += count as u32;
            first
        })
    }

    fn give_back(&mut self, first: u32, count: usize) {
        self.free[count].push(first);
    }
}

/// Lines of the largest group.
const LINES_MAX: usize = (MEMBERS_MAX + 1).div_ceil(8);

/// The highest group id: a table's word has 31 bits for 1 + id.
const GROUP_MAX: u32 = (1 << 31) - 3;

/// Chunks that the removal of one route can unlink.
const LEVELS_MAX: usize = 16;

/// Below this, grace periods are not looked at in every call.
const RECLAIM_AT: usize = 1024;
