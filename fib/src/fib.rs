//! The whole: two tables, the groups, the liveness of paths; one [`Writer`], many [`Reader`]s.
//!
//! Order of publication: path and adjacency, then group, then FIB entry. A reader that looks up
//! first and reads groups afterwards never holds an id newer than what it can see.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Deref;

use crossbeam_utils::CachePadded;

use crate::flow::FlowHash;
use crate::group::{ADJACENCY_MAX, Group, GroupId, Groups, Kind, PATH_MAX, Spread, WhenDead};
use crate::kernel::{Trials, kernels_v4, kernels_v6};
use crate::prefix::IpPrefix;
use crate::qsbr::Qsbr;
use crate::select::{COVERING_MAX, Selected, each_living_site, select, select_to};
use crate::state::{AdjacencyId, Liveness, PathId, Reason, Reasons};
use crate::sync::{Arc, AtomicU32, Ordering};
use crate::writer::Writer;
use crate::{kernel, v4, v6};

/// What readers see. Reached through [`Online`].
pub struct Fib {
    pub(crate) v4: v4::Table,
    pub(crate) v6: v6::Table,
    pub(crate) groups: Groups,
    pub(crate) liveness: Liveness,
    pub(crate) qsbr: Qsbr,
    /// How many groups, group lines, paths and adjacencies have ever been in use.
    /// Written by the writer alone, and so not beside what lookups read.
    pub(crate) used: CachePadded<[AtomicU32; 4]>,
}

/// Makes an empty FIB for at most `readers_max` readers at a time.
///
/// ```
/// use nearhop_fib::{
///     ACCEPT_ALL, FlowKey, Group, Member, Reason, Selected, Spread, WhenDead, fib, name_key,
/// };
///
/// let (mut writer, handle) = fib(4);
/// let port = writer.add_adjacency(1, name_key("tun-fra"))?;
/// let path = writer.add_path(name_key("fra"), ACCEPT_ALL)?;
/// let members = vec![Member { path, adjacency: port, tier: 0, weight: 1, link_weight: 1 }];
/// let group = writer.add_group(&Group::Forward {
///     members,
///     when_dead: WhenDead::Unreachable,
///     spread: Spread::Flow,
/// })?;
/// writer.insert("198.51.100.0/24".parse()?, group)?;
///
/// let mut reader = handle.reader().expect("a slot is free");
/// let online = reader.online();
/// let found = online.lookup("198.51.100.7".parse()?);
/// let flow = FlowKey { dst: 7, ..FlowKey::default() }.hash(0);
/// assert_eq!(online.select(found, flow), Selected::Member { path, adjacency: port });
///
/// handle.set_path_down(path, Reason::Probe); // one byte moves every prefix
/// assert_eq!(online.select(found, flow), Selected::AllDead { answer: true });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn fib(readers_max: usize) -> (Writer, Handle) {
    let shared = Arc::new(Fib {
        v4: v4::Table::new(),
        v6: v6::Table::new(),
        groups: Groups::new(),
        liveness: Liveness::new(),
        qsbr: Qsbr::new(readers_max),
        used: CachePadded::default(),
    });
    let handle = Handle { shared: Arc::clone(&shared) };
    (Writer::new(shared), handle)
}

impl Fib {
    /// The group of the longest prefix that covers `addr`, or [`GroupId::NONE`].
    #[inline]
    pub fn lookup(&self, addr: IpAddr) -> GroupId {
        match addr {
            IpAddr::V4(addr) => self.v4.lookup(addr),
            IpAddr::V6(addr) => self.v6.lookup(addr),
        }
    }

    /// Whether lookups fall back on this prefix once they find nothing longer.
    pub(crate) fn falls_back_on(&self, prefix: IpPrefix) -> bool {
        match prefix {
            IpPrefix::V4(prefix) => self.v4.falls_back_on(prefix.len()),
            IpPrefix::V6(prefix) => self.v6.falls_back_on(prefix.len()),
        }
    }

    /// Looks each address up, into the slot of the same index; stops at the end of the shorter slice.
    /// One by one: [`Online::lookup_batch_v4`] and [`Online::lookup_batch_v6`] are
    /// faster.
    pub fn lookup_batch(&self, addrs: &[IpAddr], found: &mut [GroupId]) {
        for (addr, slot) in addrs.iter().zip(found) {
            *slot = self.lookup(*addr);
        }
    }

    /// Chooses the member of `group` that a flow goes to now.
    #[inline]
    pub fn select(&self, group: GroupId, flow: FlowHash) -> Selected {
        select(&self.groups, &self.liveness, group, |_| flow, None)
    }

    /// Chooses as [`Self::select`] does. Calls `hash` once it knows what the members are chosen by, and
    /// not at all for a group that has none.
    #[inline]
    pub fn select_by(&self, group: GroupId, hash: impl FnOnce(Spread) -> FlowHash) -> Selected {
        select(&self.groups, &self.liveness, group, hash, None)
    }

    /// Prefetches the line that [`Self::select`] of this group reads first.
    #[inline]
    pub fn fetch_group(&self, group: GroupId) {
        self.groups.fetch(group);
    }

    /// As [`Self::select_by`] for each group, into the slot of the same index; stops at the end of the
    /// shorter slice. `hash` is given the index. The way for many flows at once.
    #[inline]
    pub fn select_batch(
        &self,
        groups: &[GroupId],
        mut hash: impl FnMut(usize, Spread) -> FlowHash,
        chosen: &mut [Selected],
    ) {
        let Self { groups: all, liveness, .. } = self;
        for (index, (&group, slot)) in groups.iter().zip(chosen).enumerate() {
            select_to(all, liveness, group, |spread| hash(index, spread), slot);
        }
    }

    /// Chooses for a packet that came in by `port`: a member that leads back there is chosen only if it
    /// would be with all members alive. Two routers that are each other's second
    /// choice would otherwise toss a packet to and fro.
    #[inline]
    pub fn select_onward(&self, group: GroupId, flow: FlowHash, port: u16) -> Selected {
        select(&self.groups, &self.liveness, group, |_| flow, Some(port))
    }

    /// Calls `each` with a living member of each site of `group`, whatever share of flows the site
    /// accepts: the link that the flow would take there.
    pub fn each_living_site(
        &self,
        group: GroupId,
        flow: FlowHash,
        each: impl FnMut(PathId, AdjacencyId),
    ) {
        each_living_site(&self.groups, &self.liveness, group, flow, each);
    }

    /// What the members of `group` are chosen by.
    #[inline]
    pub fn spread(&self, group: GroupId) -> Spread {
        self.groups.get(group).map_or(Spread::Flow, |group| group.header().spread)
    }

    /// A copy of a group, as [`Writer::add_group`] stored it: members in the order of `select`.
    pub fn group(&self, id: GroupId) -> Option<Group> {
        self.groups.get(id).map(crate::group::GroupRef::to_group)
    }

    /// Whether any member of a group leaves by `port`, dead ones and those of covering groups
    /// included (for reverse-path checks). Bounded work: at most [`COVERING_MAX`] groups.
    pub fn leads_by(&self, mut id: GroupId, port: u16) -> bool {
        for _ in 0..COVERING_MAX {
            let Some(group) = self.groups.get(id) else { return false };
            let header = group.header();
            let mut members = (0..header.count).filter_map(|index| group.member(index));
            if members.any(|member| self.port(member.adjacency()) == Some(port)) {
                return true;
            }
            let WhenDead::Covering(covering) = header.when_dead else { return false };
            id = covering;
        }
        false
    }

    /// Whether packets to this group go anywhere: out of a port, were its members alive, or to the
    /// router itself (for reverse-path checks).
    pub fn leads_somewhere(&self, id: GroupId) -> bool {
        self.groups.get(id).is_some_and(|group| match group.header().kind {
            Kind::Forward => group.header().count > 0,
            Kind::Local => true,
            Kind::Blackhole | Kind::Unreachable | Kind::Prohibit => false,
        })
    }

    /// The port an adjacency leaves by.
    #[inline]
    pub fn port(&self, id: AdjacencyId) -> Option<u16> {
        (id.0 <= ADJACENCY_MAX).then(|| self.liveness.adjacency(id).port.load(Ordering::Relaxed))
    }

    /// Why an adjacency is down; none is alive.
    pub fn adjacency_reasons(&self, id: AdjacencyId) -> Reasons {
        self.liveness.adjacency(id).reasons.load()
    }

    /// Why a path is down; none is alive.
    pub fn path_reasons(&self, id: PathId) -> Reasons {
        self.liveness.path(id).reasons.load()
    }

    /// The share of flows a path's site takes, in 65,535ths.
    pub fn accept(&self, id: PathId) -> Option<u16> {
        (id.0 <= PATH_MAX).then(|| self.liveness.path(id).accept.load(Ordering::Relaxed))
    }
}

/// Makes readers, and changes liveness from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Fib>,
}

impl Handle {
    /// A new reader, or `None` if as many as were allowed exist.
    pub fn reader(&self) -> Option<Reader> {
        let slot = self.shared.qsbr.register()?;
        let (v4, v6) = (Trials::new(kernels_v4().0), Trials::new(kernels_v6().0));
        Some(Reader { shared: Arc::clone(&self.shared), slot, v4, v6 })
    }

    /// Sets a reason on an adjacency. Takes effect on every reader's next selection; O(1). Returns
    /// whether it was clear before. Ids that do not exist are ignored.
    pub fn set_adjacency_down(&self, id: AdjacencyId, reason: Reason) -> bool {
        id.0 <= ADJACENCY_MAX && self.shared.liveness.adjacency(id).reasons.set(reason)
    }

    /// Clears a reason on an adjacency; returns whether it was set.
    pub fn clear_adjacency_down(&self, id: AdjacencyId, reason: Reason) -> bool {
        id.0 <= ADJACENCY_MAX && self.shared.liveness.adjacency(id).reasons.clear(reason)
    }

    /// Sets a reason on a path; as [`Self::set_adjacency_down`].
    pub fn set_path_down(&self, id: PathId, reason: Reason) -> bool {
        id.0 <= PATH_MAX && self.shared.liveness.path(id).reasons.set(reason)
    }

    /// Clears a reason on a path; returns whether it was set.
    pub fn clear_path_down(&self, id: PathId, reason: Reason) -> bool {
        id.0 <= PATH_MAX && self.shared.liveness.path(id).reasons.clear(reason)
    }

    /// Sets the share of flows that a path's site takes, in 65,535ths.
    pub fn set_accept(&self, id: PathId, accept: u16) {
        if id.0 <= PATH_MAX {
            self.shared.liveness.path(id).accept.store(accept, Ordering::Release);
        }
    }

    /// Why a path is down.
    pub fn path_reasons(&self, id: PathId) -> Reasons {
        self.shared.path_reasons(id)
    }

    /// Why an adjacency is down.
    pub fn adjacency_reasons(&self, id: AdjacencyId) -> Reasons {
        self.shared.adjacency_reasons(id)
    }
}

/// One reader's place. A worker owns it and is [`Self::online`] while it has packets.
pub struct Reader {
    shared: Arc<Fib>,
    slot: usize,
    /// Which kernel looks its batches up, by family.
    v4: Trials,
    v6: Trials,
}

impl Reader {
    /// Goes online: from here until the guard is dropped, what is looked up stays valid between two
    /// calls of [`Online::quiescent`]. A reader that stays online without quiescent points holds
    /// back the reuse of ids, and nothing else.
    pub fn online(&mut self) -> Online<'_> {
        self.shared.qsbr.online(self.slot);
        Online { reader: self }
    }

    /// The number by which [`Writer::slowest_reader`] names this reader.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Looks batches up by the kernel of this name alone, in each family that has it; returns whether
    /// one has. So that a count of instructions does not depend on the clock.
    pub fn keep_batch_code(&mut self, name: &str) -> bool {
        self.v4.keep(name, kernels_v4().1) | self.v6.keep(name, kernels_v6().1)
    }

    /// The kernels that look batches of IPv4 and of IPv6 addresses up now. A reader finds the fastest
    /// by timing those there are for the processor, while it looks up.
    pub fn batch_codes(&self) -> [&'static str; 2] {
        [self.v4.now().name(), self.v6.now().name()]
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.qsbr.unregister(self.slot);
    }
}

/// An online reader: dereferences to the FIB.
pub struct Online<'a> {
    reader: &'a mut Reader,
}

impl Online<'_> {
    /// Declares that the caller uses no id any more that it found before. Takes `&mut` so that nothing
    /// borrowed from the FIB outlives it; ids are plain numbers, and to forget them is up to the
    /// caller.
    #[inline]
    pub fn quiescent(&mut self) {
        self.reader.shared.qsbr.quiescent(self.reader.slot);
    }

    /// Looks each address up, into the slot of the same index; stops at the end of the shorter slice.
    /// The way for many addresses at once.
    pub fn lookup_batch_v4(&self, addrs: &[Ipv4Addr], found: &mut [GroupId]) {
        self.lookup_batch_v4_as(addrs, found, |group| group);
    }

    /// Looks up as [`Self::lookup_batch_v4`] does, and stores what `make` returns for each group.
    /// `make` may be called more than once for an address.
    pub fn lookup_batch_v4_as<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let count = addrs.len().min(found.len());
        let (addrs, found) = (&addrs[..count], &mut found[..count]);
        self.reader.v4.batch(count, |kernel| kernel::v4(kernel, &self.v4, addrs, found, make));
    }

    /// As [`Self::lookup_batch_v4`].
    pub fn lookup_batch_v6(&self, addrs: &[Ipv6Addr], found: &mut [GroupId]) {
        self.lookup_batch_v6_as(addrs, found, |group| group);
    }

    /// As [`Self::lookup_batch_v4_as`].
    pub fn lookup_batch_v6_as<T: Copy>(
        &self,
        addrs: &[Ipv6Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let count = addrs.len().min(found.len());
        let (addrs, found) = (&addrs[..count], &mut found[..count]);
        self.reader.v6.batch(count, |kernel| kernel::v6(kernel, &self.v6, addrs, found, make));
    }
}

impl Deref for Online<'_> {
    type Target = Fib;

    #[inline]
    fn deref(&self) -> &Fib {
        &self.reader.shared
    }
}

impl Drop for Online<'_> {
    fn drop(&mut self) {
        self.reader.shared.qsbr.offline(self.reader.slot);
    }
}

/// Bytes of memory by what they hold.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// The IPv4 table that readers see.
    pub v4: usize,
    /// The IPv6 table that readers see.
    pub v6: usize,
    /// Groups.
    pub groups: usize,
    /// Adjacencies and paths.
    pub liveness: usize,
}

impl Fib {
    /// Bits of a slot of the IPv4 table: 16 while numbers of groups fit, 32 from then on.
    pub fn v4_slot_bits(&self) -> u32 {
        self.v4.slot_bits()
    }

    /// Bytes of what readers see, by part.
    pub fn memory(&self) -> Memory {
        let used = |kind: usize| self.used[kind].load(Ordering::Relaxed);
        Memory {
            v4: self.v4.bytes(),
            v6: self.v6.bytes(),
            groups: Groups::bytes(used(0), used(1)),
            liveness: Liveness::bytes(used(2), used(3)),
        }
    }
}
