//! Groups: what a set of prefixes shares. A group never changes; it is replaced.

use alloc::vec::Vec;
use core::fmt;

use crate::memory::{Slab, prefetch};
use crate::state::{AdjacencyId, PathId};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What a lookup finds: the number of a group.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupId(pub u32);

impl GroupId {
    /// What a lookup finds where no prefix covers the address.
    pub const NONE: Self = Self(u32::MAX);

    /// What tables store: 1 + the number, for 0 is no answer.
    #[inline]
    pub(crate) const fn word(self) -> u32 {
        self.0.wrapping_add(1)
    }

    /// The group that a table's word stands for.
    #[inline]
    pub(crate) const fn of_word(word: u32) -> Self {
        Self(word.wrapping_sub(1))
    }
}

/// One way to reach what a group stands for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Member {
    /// The path: its site, its liveness, how much it accepts.
    pub path: PathId,
    /// The way out.
    pub adjacency: AdjacencyId,
    /// Rank of its cost: 0 is the cheapest, at most [`TIER_MAX`].
    pub tier: u8,
    /// Its site's share among the sites of the tier, at least 1, however many links the site has.
    /// All links of a site in a tier have the same; if they do not, the greatest is meant.
    pub weight: u16,
    /// Its share among the links of its site, at least 1.
    pub link_weight: u16,
}

/// What becomes of packets when every member is down.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum WhenDead {
    /// Dropped, and answered with unreachable.
    #[default]
    Unreachable,
    /// Dropped silently.
    Drop,
    /// Sent to the member that would be chosen if all were alive.
    FailOpen,
    /// Treated by this group, such as that of the next shorter prefix.
    Covering(GroupId),
}

/// What a group's members are chosen by, within a tier.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Spread {
    /// By the flow: a flow stays where it is while its site lives.
    #[default]
    Flow,
    /// Packet by packet.
    Packet,
}

/// What a group does with packets.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Group {
    /// Sends them to one of its members.
    Forward {
        /// At most [`MEMBERS_MAX`], in any order.
        members: Vec<Member>,
        /// What happens when all are down.
        when_dead: WhenDead,
        /// How packets are spread over members of a tier.
        spread: Spread,
    },
    /// Hands them to the router itself.
    Local,
    /// Drops them silently.
    Blackhole,
    /// Drops them and answers with unreachable.
    Unreachable,
    /// Drops them and answers with administratively prohibited.
    Prohibit,
}

/// Members a group may have.
pub const MEMBERS_MAX: usize = 64;

/// The highest tier.
pub const TIER_MAX: u8 = 63;

/// The highest adjacency id a member may name.
pub const ADJACENCY_MAX: u32 = (1 << ADJACENCY_BITS) - 1;

/// The highest path id a member may name.
pub const PATH_MAX: u32 = (1 << PATH_BITS) - 1;

/// Why a group cannot be stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GroupError {
    /// An id beyond what a member's word holds.
    IdTooLarge,
    /// More members than [`MEMBERS_MAX`].
    TooManyMembers(usize),
    /// A tier above [`TIER_MAX`].
    TierTooHigh(u8),
    /// A member that weighs nothing.
    ZeroWeight,
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdTooLarge => f.write_str("a path or adjacency id is larger than a member holds"),
            Self::TooManyMembers(n) => {
                write!(f, "{n} members in a group that holds at most {MEMBERS_MAX}")
            }
            Self::TierTooHigh(tier) => write!(f, "tier {tier} is above {TIER_MAX}"),
            Self::ZeroWeight => f.write_str("a member's weight must be at least 1"),
        }
    }
}

impl core::error::Error for GroupError {}

impl Group {
    /// Checks what a member's word can hold.
    pub(crate) fn validate(&self) -> Result<(), GroupError> {
        let Self::Forward { members, .. } = self else { return Ok(()) };
        if members.len() > MEMBERS_MAX {
            return Err(GroupError::TooManyMembers(members.len()));
        }
        for member in members {
            if member.tier > TIER_MAX {
                return Err(GroupError::TierTooHigh(member.tier));
            }
            if member.weight == 0 || member.link_weight == 0 {
                return Err(GroupError::ZeroWeight);
            }
            if member.path.0 > PATH_MAX || member.adjacency.0 > ADJACENCY_MAX {
                return Err(GroupError::IdTooLarge);
            }
        }
        Ok(())
    }

    fn header(&self) -> Header {
        let kind = match self {
            Self::Forward { members, when_dead, spread } => {
                let (when_dead, spread, count) = (*when_dead, *spread, members.len());
                let kind = Kind::Forward;
                return Header { kind, when_dead, spread, count, sites: 0, plain: 0 };
            }
            Self::Local => Kind::Local,
            Self::Blackhole => Kind::Blackhole,
            Self::Unreachable => Kind::Unreachable,
            Self::Prohibit => Kind::Prohibit,
        };
        let (when_dead, spread) = (WhenDead::Drop, Spread::Flow);
        Header { kind, when_dead, spread, count: 0, sites: 0, plain: 0 }
    }
}

/// What the first word of a group says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) when_dead: WhenDead,
    pub(crate) spread: Spread,
    pub(crate) count: usize,
    /// How many words of sites come after the members: see [`Layout`].
    pub(crate) sites: usize,
    /// See [`Layout`].
    pub(crate) plain: usize,
}

/// How a group's members are stored, besides their own words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    /// The site of each run of members, in their order; none if every site has one link of weight 1,
    /// and the members' own words have the weights of the sites.
    pub(crate) sites: Vec<SiteWord>,
    /// So many members at the beginning are sites of one link each, equal in weight, and all of the
    /// first tier.
    pub(crate) plain: usize,
}

/// The weight of a site, and how many links it has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SiteWord {
    pub(crate) weight: u16,
    pub(crate) links: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Forward,
    Local,
    Blackhole,
    Unreachable,
    Prohibit,
}

/// One cache line: a header and seven words, or eight words more of the same group. The words are
/// those of sites, if there are any, and then those of members.
#[derive(Default)]
#[cfg_attr(not(loom), repr(align(64)))]
pub(crate) struct GroupLine([AtomicU64; WORDS]);

/// Where groups live: group id → first line → lines that never change while they are linked.
pub(crate) struct Groups {
    /// For each id, 1 + the index of its first line; 0 is no group. Written by the writer
    /// (release, after the lines), read by readers (acquire).
    first_lines: Slab<AtomicU32, GROUPS>,
    /// Written before they are linked; read relaxed, under the acquire of `first_lines`.
    lines: Slab<GroupLine, LINES>,
}

impl Groups {
    pub(crate) fn new() -> Self {
        Self { first_lines: Slab::new(), lines: Slab::new() }
    }

    #[inline]
    pub(crate) fn get(&self, id: GroupId) -> Option<GroupRef<'_>> {
        let first = self.first_lines.get(id.0 as usize)?.load(Ordering::Acquire).checked_sub(1)?;
        let head = &self.lines[first as usize % LINES];
        Some(GroupRef { groups: self, first, head, header: head.0[0].load(Ordering::Relaxed) })
    }

    /// Fetches what [`Self::get`] reads first, and afterwards.
    #[inline]
    pub(crate) fn fetch(&self, id: GroupId) {
        if let Some(first) = self.first_lines.get(id.0 as usize) {
            prefetch(&self.lines[first.load(Ordering::Relaxed).wrapping_sub(1) as usize % LINES]);
        }
    }

    /// Writes a group into lines that no reader can reach.
    pub(crate) fn write(&self, first: u32, group: &Group, layout: &Layout) {
        let members: &[Member] = match group {
            Group::Forward { members, .. } => members,
            _ => &[],
        };
        let Layout { sites, plain } = layout;
        let header = Header { sites: sites.len(), plain: *plain, ..group.header() };
        let of_member = |member: &Member| match sites[..] {
            [] => member.pack(member.weight),
            _ => member.pack(member.link_weight),
        };
        let sites = sites.iter().map(|site| u64::from(site.weight) | u64::from(site.links) << 16);
        let words = core::iter::once(header.pack()).chain(members.iter().map(of_member));
        for (index, word) in words.chain(sites).enumerate() {
            let line = &self.lines[first as usize + index / WORDS];
            line.0[index % WORDS].store(word, Ordering::Relaxed);
        }
    }

    /// The first so many groups and lines have been in use.
    pub(crate) fn use_huge_pages(&self, groups: usize, lines: usize) {
        self.first_lines.use_huge_pages(groups);
        self.lines.use_huge_pages(lines);
    }

    /// Links lines to an id; returns the first line that was linked before.
    pub(crate) fn link(&self, id: GroupId, first: Option<u32>) -> Option<u32> {
        let slot = &self.first_lines[id.0 as usize];
        slot.swap(first.map_or(0, |line| line + 1), Ordering::AcqRel).checked_sub(1)
    }

    /// Bytes of the first so many groups and lines.
    pub(crate) fn bytes(groups: u32, lines: u32) -> usize {
        groups as usize * size_of::<AtomicU32>() + lines as usize * size_of::<GroupLine>()
    }

    /// How many lines a group takes.
    pub(crate) fn lines_for(members: usize, sites: usize) -> u32 {
        (1 + sites + members).div_ceil(WORDS) as u32
    }
}

/// A group as a reader sees it.
#[derive(Clone, Copy)]
pub(crate) struct GroupRef<'a> {
    groups: &'a Groups,
    first: u32,
    head: &'a GroupLine,
    /// Packed: of most groups little of it is looked at.
    header: u64,
}

impl GroupRef<'_> {
    #[inline]
    pub(crate) fn header(&self) -> Header {
        Header::unpack(self.header)
    }

    /// Member `index`, in the order they were written; `None` past the last.
    #[inline]
    pub(crate) fn member(&self, index: usize) -> Option<Word> {
        (index < self.header().count).then(|| Word(self.word(1 + index)))
    }

    /// The site `nth` in order, whose first member is `first`.
    #[inline]
    pub(crate) fn site(&self, nth: usize, first: Word) -> SiteWord {
        let header = self.header();
        if header.sites == 0 {
            return SiteWord { weight: first.weight(), links: 1 };
        }
        let word = self.word(1 + header.count + nth);
        SiteWord { weight: word as u16, links: (word >> 16) as u8 }
    }

    /// How many lines it is in.
    pub(crate) fn lines(&self) -> u32 {
        let header = self.header();
        Groups::lines_for(header.count, header.sites)
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        let (line, word) = (index / WORDS, index % WORDS);
        let more = || &self.groups.lines[(self.first as usize + line) % LINES];
        let line = if line == 0 { self.head } else { more() };
        line.0[word].load(Ordering::Relaxed)
    }

    /// Passes the members that are [`Layout::plain`] to `see`, in their order.
    #[inline]
    pub(crate) fn each_plain(&self, mut see: impl FnMut(Word)) {
        let plain = self.header().plain;
        for word in &self.head.0[1..][..plain.min(WORDS - 1)] {
            see(Word(word.load(Ordering::Relaxed)));
        }
        for index in WORDS - 1..plain {
            see(Word(self.word(1 + index)));
        }
    }

    /// The members with all that [`Member`] has.
    fn members(&self) -> impl Iterator<Item = Member> + '_ {
        let (mut nth, mut left, mut weight) = (0, 0, 0);
        (0..self.header().count).filter_map(move |index| {
            let word = self.member(index)?;
            if left == 0 {
                let site = self.site(nth, word);
                (nth, left, weight) = (nth + 1, site.links, site.weight);
            }
            left = left.saturating_sub(1);
            let link_weight = if self.header().sites == 0 { 1 } else { word.weight() };
            let (path, adjacency) = (word.path(), word.adjacency());
            Some(Member { path, adjacency, tier: word.tier(), weight, link_weight })
        })
    }

    pub(crate) fn to_group(self) -> Group {
        let Header { kind, when_dead, spread, .. } = self.header();
        match kind {
            Kind::Forward => {
                Group::Forward { members: self.members().collect(), when_dead, spread }
            }
            Kind::Local => Group::Local,
            Kind::Blackhole => Group::Blackhole,
            Kind::Unreachable => Group::Unreachable,
            Kind::Prohibit => Group::Prohibit,
        }
    }
}

impl Header {
    fn pack(self) -> u64 {
        let (when_dead, covering) = match self.when_dead {
            WhenDead::Unreachable => (0, 0),
            WhenDead::Drop => (1, 0),
            WhenDead::FailOpen => (2, 0),
            WhenDead::Covering(group) => (3, group.0),
        };
        self.count as u64
            | (self.kind as u64) << 8
            | when_dead << 12
            | u64::from(self.spread == Spread::Packet) << 16
            | (self.sites as u64) << 17
            | (self.plain as u64) << 24
            | u64::from(covering) << 32
    }

    #[inline]
    fn unpack(word: u64) -> Self {
        let kind = match (word >> 8) & 0xf {
            0 => Kind::Forward,
            1 => Kind::Local,
            2 => Kind::Blackhole,
            3 => Kind::Unreachable,
            _ => Kind::Prohibit,
        };
        let when_dead = match (word >> 12) & 0xf {
            0 => WhenDead::Unreachable,
            1 => WhenDead::Drop,
            2 => WhenDead::FailOpen,
            _ => WhenDead::Covering(GroupId((word >> 32) as u32)),
        };
        let spread = if word >> 16 & 1 == 0 { Spread::Flow } else { Spread::Packet };
        let (sites, plain) = ((word >> 17 & 0x7f) as usize, (word >> 24 & 0xff) as usize);
        Self { kind, when_dead, spread, count: (word & 0xff) as usize, sites, plain }
    }
}

impl Member {
    fn pack(self, weight: u16) -> u64 {
        u64::from(self.path.0)
            | u64::from(self.adjacency.0) << PATH_BITS
            | u64::from(self.tier) << (PATH_BITS + ADJACENCY_BITS)
            | u64::from(weight) << (PATH_BITS + ADJACENCY_BITS + TIER_BITS)
    }
}

/// A member as it is stored. Not zero: it has a weight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    #[inline]
    pub(crate) fn path(self) -> PathId {
        PathId(self.0 as u32 & PATH_MAX)
    }

    #[inline]
    pub(crate) fn adjacency(self) -> AdjacencyId {
        AdjacencyId((self.0 >> PATH_BITS) as u32 & ADJACENCY_MAX)
    }

    #[inline]
    pub(crate) fn tier(self) -> u8 {
        (self.0 >> (PATH_BITS + ADJACENCY_BITS)) as u8 & TIER_MAX
    }

    /// The link's, or where there are no words of sites the site's.
    #[inline]
    pub(crate) fn weight(self) -> u16 {
        (self.0 >> (PATH_BITS + ADJACENCY_BITS + TIER_BITS)) as u16
    }
}

/// 8-byte words in a line.
const WORDS: usize = 8;

const PATH_BITS: u32 = if cfg!(loom) { 3 } else { 22 };
const ADJACENCY_BITS: u32 = if cfg!(loom) { 3 } else { 18 };
const TIER_BITS: u32 = 6;

/// Groups and lines there is address space for; memory is taken as they are used.
pub(crate) const GROUPS: usize = if cfg!(loom) { 8 } else { 1 << 21 };
pub(crate) const LINES: usize = if cfg!(loom) { 8 } else { 1 << 21 };

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::vec;

    use super::*;

    fn member(n: u32) -> Member {
        Member {
            path: PathId(PATH_MAX - n),
            adjacency: AdjacencyId(ADJACENCY_MAX - n),
            tier: (n % 64) as u8,
            weight: u16::MAX - n as u16,
            link_weight: 1,
        }
    }

    #[test]
    fn a_group_of_any_size_reads_back_as_written() {
        let groups = Groups::new();
        for (count, links) in
            [0, 1, 6, 7, 8, 15, 16, 63, 64].into_iter().flat_map(|n| [1, 2, 5, 64].map(|l| (n, l)))
        {
            let mut members: Vec<Member> = (0..count).map(member).collect();
            let mut layout = Layout::default();
            for site in members.chunks_mut(links).filter(|_| links > 1) {
                let weight = site[0].weight;
                for member in site.iter_mut() {
                    (member.link_weight, member.weight) = (member.weight, weight);
                }
                layout.sites.push(SiteWord { weight, links: site.len() as u8 });
            }
            let sites = layout.sites.len();
            let (when_dead, spread) = (WhenDead::Covering(GroupId(77)), Spread::Packet);
            let group = Group::Forward { members, when_dead, spread };
            groups.write(100, &group, &layout);
            groups.link(GroupId(3), Some(100));
            let read = groups.get(GroupId(3)).unwrap();
            assert_eq!(read.lines(), Groups::lines_for(count as usize, sites));
            assert_eq!(read.to_group(), group);
        }
        assert_eq!(Groups::lines_for(7, 0), 1);
        assert_eq!(Groups::lines_for(8, 0), 2);
        assert_eq!(Groups::lines_for(64, 0), 9);
        assert_eq!(Groups::lines_for(64, 64), 17);
        for group in [Group::Local, Group::Blackhole, Group::Unreachable, Group::Prohibit] {
            groups.write(5, &group, &Layout::default());
            groups.link(GroupId(9), Some(5));
            assert_eq!(groups.get(GroupId(9)).unwrap().to_group(), group);
        }
        groups.link(GroupId(9), None);
        assert!(groups.get(GroupId(9)).is_none());
        assert!(groups.get(GroupId::NONE).is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let with = |change: fn(&mut Member)| {
            let mut one = member(0);
            change(&mut one);
            Group::Forward { members: vec![one], when_dead: WhenDead::Drop, spread: Spread::Flow }
                .validate()
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|m| m.tier = 64), Err(GroupError::TierTooHigh(64)));
        assert_eq!(with(|m| m.weight = 0), Err(GroupError::ZeroWeight));
        assert_eq!(with(|m| m.link_weight = 0), Err(GroupError::ZeroWeight));
        assert_eq!(with(|m| m.path.0 += 1), Err(GroupError::IdTooLarge));
        assert_eq!(with(|m| m.adjacency.0 += 1), Err(GroupError::IdTooLarge));
        let many = Group::Forward {
            members: vec![member(1); 65],
            when_dead: WhenDead::Drop,
            spread: Spread::Flow,
        };
        assert_eq!(many.validate(), Err(GroupError::TooManyMembers(65)));
    }
}
