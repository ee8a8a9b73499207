//! Longest-prefix match over a trie of fixed strides: a root indexed by the first bits, then chunks
//! of 2⁸ slots. Every prefix is written into all slots it decides (leaf pushing), so a lookup is a
//! few dependent loads and no comparison.
//!
//! Readers see each slot's old or new word, never anything else: a lookup that runs during an
//! update gives the old or the new answer for its address. A chunk is filled before it is linked,
//! and is reused only after every reader has let go of it.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Bound;

use crate::addr::Addr;
use crate::group::GroupId;
use crate::prefix::Prefix;
use crate::segments::Segments;
use crate::sync::{AtomicU32, Ordering};

/// What readers see. A slot's word is 0 for no route, 1 + a group id, or [`CHILD`] and a chunk.
///
/// Slots are written by the writer alone (release) and read by any reader (acquire): who sees a
/// chunk's number sees its slots, who sees a group's number sees its lines.
pub(crate) struct Table<A> {
    slots: Segments<AtomicU32>,
    family: core::marker::PhantomData<A>,
}

impl<A: Addr> Table<A> {
    pub(crate) fn new() -> Self {
        let slots = Segments::new(u32::from(A::ROOT_BITS));
        slots.grow_to(0);
        Self { slots, family: core::marker::PhantomData }
    }

    /// The group of the longest prefix that covers `addr`, or [`GroupId::NONE`].
    #[inline]
    pub(crate) fn lookup(&self, addr: A) -> GroupId {
        let mut word = self.load(addr.bits_at(0, A::ROOT_BITS) as u32);
        let mut at = A::ROOT_BITS;
        while word & CHILD != 0 {
            word = self.load(Self::base(word & !CHILD) + addr.bits_at(at, A::STRIDE) as u32);
            at += A::STRIDE;
        }
        GroupId(word.wrapping_sub(1))
    }

    /// Bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.bytes()
    }

    #[inline]
    fn load(&self, slot: u32) -> u32 {
        self.slots.get(slot).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Index of a chunk's first slot: the root's slots come before the first chunk.
    #[inline]
    fn base(chunk: u32) -> u32 {
        (1 << A::ROOT_BITS) + (chunk << A::STRIDE)
    }
}

/// The writer's side: the routes in order, and what it must know of each slot to undo a write.
pub(crate) struct TableWriter<A> {
    routes: BTreeMap<Prefix<A>, GroupId>,
    /// How many routes there are of each length.
    lengths: Vec<u32>,
    /// For each slot, 1 + the length of the prefix that decides it; 0 is none.
    owners: Vec<u8>,
    /// For each chunk, how many slots are chunks or decided by a prefix that ends inside it.
    own: Vec<u16>,
    free: Vec<u32>,
}

/// A place in the trie: its first slot, and how many bits of an address lead to it.
#[derive(Clone, Copy)]
struct Node {
    base: u32,
    depth: u8,
    chunk: Option<u32>,
}

/// What a slot is to say: the group, and the length of the prefix it is by.
#[derive(Clone, Copy)]
struct Leaf {
    word: u32,
    owner: u8,
}

impl Leaf {
    const NONE: Self = Self { word: 0, owner: 0 };
}

impl<A: Addr> TableWriter<A> {
    pub(crate) fn new() -> Self {
        Self {
            routes: BTreeMap::new(),
            lengths: vec![0; usize::from(A::BITS) + 1],
            owners: vec![0; 1 << A::ROOT_BITS],
            own: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Adds or replaces a route; gives back what it had before.
    pub(crate) fn insert(
        &mut self,
        table: &Table<A>,
        prefix: Prefix<A>,
        group: GroupId,
    ) -> Option<GroupId> {
        debug_assert!(group.0 < CHILD - 1);
        let leaf = Leaf { word: group.0 + 1, owner: prefix.len() + 1 };
        let node = self.descend_or_build(table, prefix);
        self.cover(table, node, Self::span(node, prefix), leaf);
        let old = self.routes.insert(prefix, group);
        if old.is_none() {
            self.lengths[usize::from(prefix.len())] += 1;
        }
        old
    }

    /// Removes a route. Chunks that nothing needs any more are unlinked and handed to `retire`.
    pub(crate) fn remove(
        &mut self,
        table: &Table<A>,
        prefix: Prefix<A>,
        mut retire: impl FnMut(u32),
    ) -> Option<GroupId> {
        let old = self.routes.remove(&prefix)?;
        self.lengths[usize::from(prefix.len())] -= 1;
        let heir = self.covering(prefix).map_or(Leaf::NONE, |(shorter, group)| Leaf {
            word: group.0 + 1,
            owner: shorter.len() + 1,
        });
        let mut way = Self::way_to(table, prefix);
        if let Some(&node) = way.last() {
            self.uncover(table, node, Self::span(node, prefix), prefix.len() + 1, heir);
        }
        while let Some(node) = way.pop() {
            let (Some(chunk), Some(&parent)) = (node.chunk, way.last()) else { break };
            if self.own[chunk as usize] != 0 {
                break;
            }
            let slot =
                parent.base + prefix.addr().bits_at(parent.depth, Self::width(parent)) as u32;
            let leaf = Leaf { word: table.load(node.base), owner: self.owners[node.base as usize] };
            self.store(table, parent, slot, leaf);
            retire(chunk);
        }
        Some(old)
    }

    /// A chunk that no reader can reach any more may be used again.
    pub(crate) fn recycle(&mut self, chunk: u32) {
        self.free.push(chunk);
    }

    /// The group of exactly this prefix.
    pub(crate) fn get(&self, prefix: Prefix<A>) -> Option<GroupId> {
        self.routes.get(&prefix).copied()
    }

    /// The longest prefix that covers `addr`.
    pub(crate) fn lookup(&self, addr: A) -> Option<(Prefix<A>, GroupId)> {
        let host = Prefix::host(addr);
        self.get(host).map(|group| (host, group)).or_else(|| self.covering(host))
    }

    /// The longest prefix that covers `prefix` and is shorter.
    pub(crate) fn covering(&self, prefix: Prefix<A>) -> Option<(Prefix<A>, GroupId)> {
        (0..prefix.len())
            .rev()
            .filter(|&len| self.lengths[usize::from(len)] > 0)
            .filter_map(|len| Prefix::around(prefix.addr(), len))
            .find_map(|shorter| self.get(shorter).map(|group| (shorter, group)))
    }

    /// All routes in order: by address, the shorter first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Prefix<A>, GroupId)> + '_ {
        self.routes.iter().map(|(&prefix, &group)| (prefix, group))
    }

    /// The routes after `prefix`, in order.
    pub(crate) fn iter_after(
        &self,
        prefix: Option<Prefix<A>>,
    ) -> impl Iterator<Item = (Prefix<A>, GroupId)> + '_ {
        let from = prefix.map_or(Bound::Unbounded, Bound::Excluded);
        self.routes.range((from, Bound::Unbounded)).map(|(&prefix, &group)| (prefix, group))
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    /// The node in which `prefix` ends; chunks on the way are made.
    fn descend_or_build(&mut self, table: &Table<A>, prefix: Prefix<A>) -> Node {
        let mut node = Self::root();
        while prefix.len() > node.depth + Self::width(node) {
            let slot = node.base + prefix.addr().bits_at(node.depth, Self::width(node)) as u32;
            let word = table.load(slot);
            let chunk = if word & CHILD == 0 {
                let leaf = Leaf { word, owner: self.owners[slot as usize] };
                let chunk = self.build(table, leaf);
                // The chunk says all that the slot said, so no answer changes by linking it.
                self.store(table, node, slot, Leaf { word: CHILD | chunk, owner: LINK });
                chunk
            } else {
                word & !CHILD
            };
            node = Self::child(node, chunk);
        }
        node
    }

    /// The nodes from the root to the one in which `prefix` ends, as far as they exist.
    fn way_to(table: &Table<A>, prefix: Prefix<A>) -> Vec<Node> {
        let mut way = vec![Self::root()];
        let mut node = way[0];
        while prefix.len() > node.depth + Self::width(node) {
            let slot = node.base + prefix.addr().bits_at(node.depth, Self::width(node)) as u32;
            let word = table.load(slot);
            if word & CHILD == 0 {
                debug_assert!(false, "a route's chunks are there while it is");
                break;
            }
            node = Self::child(node, word & !CHILD);
            way.push(node);
        }
        way
    }

    /// A chunk full of `leaf`, not linked yet.
    fn build(&mut self, table: &Table<A>, leaf: Leaf) -> u32 {
        let chunk = self.free.pop().unwrap_or_else(|| {
            let chunk = self.own.len() as u32;
            self.own.push(0);
            self.owners.resize((Table::<A>::base(chunk) + (1 << A::STRIDE)) as usize, 0);
            chunk
        });
        self.own[chunk as usize] = 0;
        let base = Table::<A>::base(chunk);
        for slot in base..base + (1 << A::STRIDE) {
            table.slots.grow_to(slot).store(leaf.word, Ordering::Relaxed);
            self.owners[slot as usize] = leaf.owner;
        }
        chunk
    }

    /// Writes `leaf` into every slot of `span` and below that no longer prefix decides.
    fn cover(&mut self, table: &Table<A>, node: Node, span: (u32, u32), leaf: Leaf) {
        for slot in span.0..span.1 {
            let word = table.load(slot);
            if word & CHILD != 0 {
                let below = Self::child(node, word & !CHILD);
                self.cover(table, below, Self::whole(below), leaf);
            } else if self.owners[slot as usize] <= leaf.owner {
                self.store(table, node, slot, leaf);
            }
        }
    }

    /// Gives every slot of `span` and below that `owner` decides to `heir`.
    fn uncover(&mut self, table: &Table<A>, node: Node, span: (u32, u32), owner: u8, heir: Leaf) {
        for slot in span.0..span.1 {
            let word = table.load(slot);
            if word & CHILD != 0 {
                let below = Self::child(node, word & !CHILD);
                self.uncover(table, below, Self::whole(below), owner, heir);
            } else if self.owners[slot as usize] == owner {
                self.store(table, node, slot, heir);
            }
        }
    }

    /// Changes one slot, for readers and in the books.
    fn store(&mut self, table: &Table<A>, node: Node, slot: u32, leaf: Leaf) {
        if let Some(chunk) = node.chunk {
            let inside = |owner: u8| u16::from(owner > node.depth + 1);
            let own = &mut self.own[chunk as usize];
            *own = *own + inside(leaf.owner) - inside(self.owners[slot as usize]);
        }
        self.owners[slot as usize] = leaf.owner;
        table.slots.grow_to(slot).store(leaf.word, Ordering::Release);
    }

    fn root() -> Node {
        Node { base: 0, depth: 0, chunk: None }
    }

    fn child(node: Node, chunk: u32) -> Node {
        let depth = node.depth + Self::width(node);
        Node { base: Table::<A>::base(chunk), depth, chunk: Some(chunk) }
    }

    /// How many bits a node is indexed by.
    fn width(node: Node) -> u8 {
        if node.chunk.is_some() { A::STRIDE } else { A::ROOT_BITS }
    }

    /// The slots of a node.
    fn whole(node: Node) -> (u32, u32) {
        (node.base, node.base + (1 << Self::width(node)))
    }

    /// The slots of `node` that `prefix`, which ends in it, covers.
    fn span(node: Node, prefix: Prefix<A>) -> (u32, u32) {
        let width = Self::width(node);
        let free_bits = node.depth + width - prefix.len();
        let first = node.base + prefix.addr().bits_at(node.depth, width) as u32;
        (first, first + (1 << free_bits))
    }
}

/// Marks a slot's word as a chunk's number.
const CHILD: u32 = 1 << 31;

/// The owner of a slot that links a chunk: longer than any prefix.
const LINK: u8 = u8::MAX;
