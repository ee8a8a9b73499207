//! Values by prefix, in order: a trie of nodes for eight bits each. The writer's routes are one.
//!
//! A node holds the prefixes that end in its bits as a bitmap over a complete binary tree: the one
//! of `l` of its bits with value `v` is bit `2^l + v`, so its shorter neighbours are found by
//! halving. What readers' tables must know of the routes (who covers whom, which slots no longer
//! prefix decides) are questions to one node, and mostly to one cache line.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::Range;

use crate::addr::Addr;
use crate::group::GroupId;
use crate::memory::prefetch;
use crate::prefix::Prefix;

/// Bits of a node. The model checker follows every atomic of the tables that have this stride,
/// so it gets the smallest that has two levels.
#[cfg(not(loom))]
pub(crate) const STRIDE: u8 = 8;
#[cfg(loom)]
pub(crate) const STRIDE: u8 = 1;

/// A value for each of any number of prefixes of one family.
///
/// Made for tables of the Internet, whose prefixes share nodes: of a full IPv4 table a prefix takes ten
/// bytes and one or two times its value.
///
/// ```
/// use nearhop_fib::PrefixMap;
/// use std::net::Ipv4Addr;
///
/// let mut map = PrefixMap::<Ipv4Addr, char>::new();
/// assert_eq!(map.insert("10.0.0.0/8".parse()?, 'a'), None);
/// assert_eq!(map.insert("10.1.0.0/16".parse()?, 'b'), None);
/// let (prefix, value) = map.longest_match(Ipv4Addr::new(10, 1, 2, 3)).ok_or("none covers it")?;
/// assert_eq!((prefix.len(), value), (16, 'b'));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PrefixMap<A, T> {
    /// The root is the first.
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    /// For each value of the first two strides, 1 + the node there: most ways begin here.
    shortcut: Vec<u32>,
    len: usize,
    family: PhantomData<A>,
}

/// The writer's routes.
pub(crate) type Rib<A> = PrefixMap<A, GroupId>;

/// The prefixes whose length ends in one stride, and what is below.
#[derive(Clone)]
pub(crate) struct Node<T> {
    /// Bit `2^l + v`: a prefix of `l` bits with value `v`. Only the root has bit 1, the empty one.
    prefixes: [u64; 8],
    /// The values of the prefixes, in the order of their bits.
    values: Vec<T>,
    /// Most nodes have none.
    children: Option<Box<Children>>,
}

/// The nodes below one.
#[derive(Clone, Default)]
struct Children {
    /// Bit `v`: a node below.
    bits: [u64; 4],
    /// Their numbers, in the order of their bits.
    nodes: Vec<u32>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { prefixes: [0; 8], values: Vec::new(), children: None }
    }
}

impl<A: Addr, T: Copy> Default for PrefixMap<A, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Addr, T: Copy> PrefixMap<A, T> {
    /// Without prefixes.
    pub fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            shortcut: vec![0; 1 << (2 * STRIDE)],
            len: 0,
            family: PhantomData,
        }
    }

    /// Adds a prefix, or gives it another value; returns its previous one.
    pub fn insert(&mut self, prefix: Prefix<A>, value: T) -> Option<T> {
        self.insert_at(prefix, value, true).1
    }

    /// Adds a prefix that is not there yet; returns the value of one that is, to be changed.
    pub fn insert_new(&mut self, prefix: Prefix<A>, value: T) -> Option<&mut T> {
        let node = self.make_node(prefix.addr(), node_depth(prefix.len()));
        let (node, index) = (&mut self.nodes[node], index_of(prefix));
        if node.has(index) {
            return node.get_mut(index);
        }
        node.insert(index, value);
        self.len += 1;
        None
    }

    /// As [`Self::insert`], but a prefix that is there keeps its value unless `replaces`. Also returns the
    /// prefix's node, for [`Self::decided_in`].
    pub(crate) fn insert_at(
        &mut self,
        prefix: Prefix<A>,
        value: T,
        replaces: bool,
    ) -> (usize, Option<T>) {
        let node = self.make_node(prefix.addr(), node_depth(prefix.len()));
        let (place, index) = (&mut self.nodes[node], index_of(prefix));
        let old = if replaces || !place.has(index) {
            place.insert(index, value)
        } else {
            place.get(index)
        };
        self.len += usize::from(old.is_none());
        (node, old)
    }

    /// Removes a prefix; returns its value.
    pub fn remove(&mut self, prefix: Prefix<A>) -> Option<T> {
        let depth = node_depth(prefix.len());
        let node = self.find(prefix.addr(), depth)?;
        let old = self.nodes[node].remove(index_of(prefix))?;
        self.len -= 1;
        if depth > 0 && self.nodes[node].is_empty() {
            self.prune(prefix.addr(), depth);
        }
        Some(old)
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: Prefix<A>) -> Option<T> {
        self.node(prefix.addr(), node_depth(prefix.len()))?.get(index_of(prefix))
    }

    /// The value of exactly this prefix, to be changed.
    pub fn get_mut(&mut self, prefix: Prefix<A>) -> Option<&mut T> {
        let node = self.find(prefix.addr(), node_depth(prefix.len()))?;
        self.nodes[node].get_mut(index_of(prefix))
    }

    /// Asks the processor to fetch what is looked at where some prefixes are, or are to be added: for calls
    /// about all of them that follow, each of which would wait for memory by itself.
    pub fn prefetch(&self, prefixes: impl Iterator<Item = Prefix<A>> + Clone) {
        let node = |prefix: Prefix<A>| {
            let node = self.find(prefix.addr(), node_depth(prefix.len()))?;
            Some((&self.nodes[node], index_of(prefix)))
        };
        for (node, index) in prefixes.clone().filter_map(node) {
            prefetch(&node.prefixes[index / 64]);
            prefetch(&node.values);
        }
        for (node, index) in prefixes.filter_map(node) {
            let rank = rank(&node.prefixes, index);
            node.values.get(rank).or(node.values.last()).into_iter().for_each(prefetch);
        }
    }

    /// The longest prefix that covers `addr`.
    pub fn longest_match(&self, addr: A) -> Option<(Prefix<A>, T)> {
        let host = Prefix::host(addr);
        self.get(host).map(|group| (host, group)).or_else(|| self.covering(host))
    }

    /// The longest prefix that covers `prefix` and is shorter.
    pub fn covering(&self, prefix: Prefix<A>) -> Option<(Prefix<A>, T)> {
        let (addr, last) = (prefix.addr(), node_depth(prefix.len()));
        // Of a node at `depth`, what covers the prefix.
        let in_node = |node: u32, depth: u8| {
            let node = &self.nodes[node as usize];
            let from = if depth == last { index_of(prefix) / 2 } else { node_index(addr, depth) };
            let index = node.nearest(from)?;
            let prefix = Prefix::around(addr, depth + index.ilog2() as u8)?;
            Some((prefix, node.get(index)?))
        };
        // From the innermost node outwards: most routes have their heir near by. The first two nodes
        // are passed over, and only looked into when nothing inside them has one.
        let outer = if last >= 2 * STRIDE { 2 * STRIDE } else { 0 };
        let inner =
            self.find(addr, outer).into_iter().flat_map(|from| self.way(from, outer, prefix));
        let mut nodes = [(0, 0); NODES_MAX];
        let count = nodes.iter_mut().zip(inner).map(|(place, node)| *place = node).count();
        let found = nodes[..count].iter().rev().find_map(|&(node, depth)| in_node(node, depth));
        if found.is_some() || outer == 0 {
            return found;
        }
        let first = self.nodes[0].child(addr.bits_at(0, STRIDE));
        first.and_then(|node| in_node(node, STRIDE)).or_else(|| in_node(0, 0))
    }

    /// The nodes on the way from one at `depth` to that of `prefix`, as far as they exist.
    fn way(
        &self,
        from: usize,
        depth: u8,
        prefix: Prefix<A>,
    ) -> impl Iterator<Item = (u32, u8)> + '_ {
        let (addr, last) = (prefix.addr(), node_depth(prefix.len()));
        core::iter::successors(Some((from as u32, depth)), move |&(node, depth)| {
            let is_last = depth >= last;
            let value = if is_last { 0 } else { addr.bits_at(depth, STRIDE) };
            let below = self.nodes[node as usize].child(value).filter(|_| !is_last)?;
            Some((below, depth + STRIDE))
        })
    }

    /// The node for lengths `depth + 1 ..= depth + STRIDE` on the way to `addr`.
    pub(crate) fn node(&self, addr: A, depth: u8) -> Option<&Node<T>> {
        self.find(addr, depth).map(|node| &self.nodes[node])
    }

    /// Which values of its node's stride `prefix` covers, and no longer prefix of the node does.
    pub(crate) fn decided(&self, prefix: Prefix<A>) -> [u64; 4] {
        self.decided_in(self.find(prefix.addr(), node_depth(prefix.len())), prefix)
    }

    /// As [`Self::decided`], where the node is known.
    pub(crate) fn decided_in(&self, node: Option<usize>, prefix: Prefix<A>) -> [u64; 4] {
        let depth = node_depth(prefix.len());
        let first = prefix.addr().bits_at(depth, STRIDE);
        let bits = prefix.len() - depth;
        let covered = match node {
            Some(node) if bits < STRIDE => self.nodes[node].covered(bits),
            _ => [0; 4],
        };
        outside(covered, first..first + (1 << (STRIDE - bits)))
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the trie, but for what the allocator adds.
    pub fn bytes(&self) -> usize {
        let numbers = |node: &Node<T>| {
            let below = |one: &Children| size_of::<Children>() + one.nodes.capacity() * 4;
            let below = node.children.as_deref().map_or(0, below);
            node.values.capacity() * size_of::<T>() + below
        };
        self.nodes.capacity() * size_of::<Node<T>>()
            + self.nodes.iter().map(numbers).sum::<usize>()
            + self.shortcut.len() * 4
    }

    /// All prefixes in order: by address, the shorter first.
    pub fn iter(&self) -> PrefixMapIter<'_, A, T> {
        let root = Place::new(&self.nodes, 0, 0, 0);
        PrefixMapIter { nodes: &self.nodes, addr: 0, places: vec![root], family: PhantomData }
    }

    /// The prefixes after one, which need not be there, in order.
    pub fn iter_after(&self, prefix: Prefix<A>) -> PrefixMapIter<'_, A, T> {
        let (addr, last) = (prefix.addr(), node_depth(prefix.len()));
        let mut places = Vec::new();
        let (mut node, mut depth) = (0, 0);
        while depth < last {
            let value = addr.bits_at(depth, STRIDE);
            // What is at this very value and shorter comes before the prefix.
            let at = ORDER_LEN_OF_VALUE * value + ORDER_LEN_OF_VALUE;
            places.push(Place::new(&self.nodes, node, depth, at));
            match self.nodes[node].child(value) {
                Some(below) => node = below as usize,
                None => break,
            }
            depth += STRIDE;
        }
        if depth == last {
            let at = order_of(index_of(prefix)) + 1;
            places.push(Place::new(&self.nodes, node, depth, at));
        }
        PrefixMapIter { nodes: &self.nodes, addr: addr.to_bits128(), places, family: PhantomData }
    }

    pub(crate) fn find(&self, addr: A, depth: u8) -> Option<usize> {
        let (mut node, mut at) = (0, 0);
        if depth >= 2 * STRIDE {
            let start = self.shortcut[addr.bits_at(0, 2 * STRIDE)].checked_sub(1)?;
            (node, at) = (start as usize, 2 * STRIDE);
        }
        while at < depth {
            node = self.nodes[node].child(addr.bits_at(at, STRIDE))? as usize;
            at += STRIDE;
        }
        Some(node)
    }

    fn make_node(&mut self, addr: A, depth: u8) -> usize {
        if let Some(node) = self.find(addr, depth) {
            return node;
        }
        let (mut node, mut at) = (0, 0);
        while at < depth {
            let value = addr.bits_at(at, STRIDE);
            at += STRIDE;
            node = match self.nodes[node].child(value) {
                Some(below) => below as usize,
                None => self.add_child(node, value),
            };
            if at == 2 * STRIDE {
                self.shortcut[addr.bits_at(0, 2 * STRIDE)] = node as u32 + 1;
            }
        }
        node
    }

    fn add_child(&mut self, parent: usize, value: usize) -> usize {
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() as u32 - 1
        });
        let children = self.nodes[parent].children.get_or_insert_default();
        let rank = rank(&children.bits, value);
        grow(&mut children.nodes);
        children.nodes.insert(rank, child);
        children.bits[value / 64] |= 1 << (value % 64);
        child as usize
    }

    /// Takes away the nodes on the way to the one at `depth` that nothing is in any more.
    fn prune(&mut self, addr: A, mut depth: u8) {
        while depth > 0 {
            let Some(node) = self.find(addr, depth).filter(|&node| self.nodes[node].is_empty())
            else {
                return;
            };
            if depth == 2 * STRIDE {
                self.shortcut[addr.bits_at(0, 2 * STRIDE)] = 0;
            }
            depth -= STRIDE;
            let Some(parent) = self.find(addr, depth) else { return };
            self.nodes[node] = Node::default();
            self.free.push(node as u32);
            let value = addr.bits_at(depth, STRIDE);
            let parent = &mut self.nodes[parent];
            let Some(children) = &mut parent.children else { return };
            let rank = rank(&children.bits, value);
            children.nodes.remove(rank);
            children.bits[value / 64] &= !(1 << (value % 64));
            if children.nodes.is_empty() {
                parent.children = None;
            }
        }
    }
}

impl<A: Addr> Rib<A> {
    /// The values that `prefix` covers, each with its group by prefixes of up to `len_max` bits, which
    /// is at most a stride. `prefix` is one of these, or was.
    pub(crate) fn short_answers(
        &self,
        prefix: Prefix<A>,
        len_max: u8,
    ) -> impl Iterator<Item = (usize, GroupId)> + '_ {
        let (root, first) = (&self.nodes[0], prefix.addr().bits_at(0, STRIDE));
        (first..first + (1 << (STRIDE - prefix.len()))).map(move |value| {
            let nearest = root.nearest(((1 << STRIDE) + value) >> (STRIDE - len_max));
            (value, nearest.and_then(|index| root.get(index)).unwrap_or(GroupId::NONE))
        })
    }
}

impl<'a, A: Addr, T: Copy> IntoIterator for &'a PrefixMap<A, T> {
    type Item = (Prefix<A>, T);
    type IntoIter = PrefixMapIter<'a, A, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Copy> Node<T> {
    /// The value of the prefix with this bit.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<T> {
        self.has(index).then(|| self.values[rank(&self.prefixes, index)])
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let rank = rank(&self.prefixes, index);
        if self.has(index) { self.values.get_mut(rank) } else { None }
    }

    /// The longest prefix of this node that covers `index` or is it.
    #[inline]
    fn nearest(&self, mut index: usize) -> Option<usize> {
        while index > 0 {
            if self.has(index) {
                return Some(index);
            }
            index /= 2;
        }
        None
    }

    /// Whether no prefix ends here.
    pub(crate) fn has_no_prefix(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether no prefix ends below.
    pub(crate) fn has_no_child(&self) -> bool {
        self.children.is_none()
    }

    /// Which of the `2^STRIDE` values a prefix of more than `len` of the node's bits covers.
    pub(crate) fn covered(&self, len: u8) -> [u64; 4] {
        let mut covered = [0; 4];
        for level in len + 1..=STRIDE {
            covered = spread(covered);
            let first = 1_usize << level;
            for (word, bits) in covered.iter_mut().enumerate().take((first / 64).max(1)) {
                *bits |= match first / 64 {
                    0 => self.prefixes[0] >> first & ((1 << first) - 1),
                    words => self.prefixes[words + word],
                };
            }
        }
        covered
    }

    /// The values at which a prefix begins, or a node is below.
    fn busy(&self) -> [u64; 4] {
        let mut busy = self.children.as_ref().map_or([0; 4], |children| children.bits);
        for_each(&self.prefixes, |index| {
            let value = order_of(index) / ORDER_LEN_OF_VALUE;
            busy[value / 64] |= 1 << (value % 64);
        });
        busy
    }

    fn has(&self, index: usize) -> bool {
        self.prefixes[index / 64] >> (index % 64) & 1 != 0
    }

    fn insert(&mut self, index: usize, value: T) -> Option<T> {
        let rank = rank(&self.prefixes, index);
        if self.has(index) {
            return Some(core::mem::replace(&mut self.values[rank], value));
        }
        grow(&mut self.values);
        self.values.insert(rank, value);
        self.prefixes[index / 64] |= 1 << (index % 64);
        None
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        let rank = rank(&self.prefixes, index);
        self.has(index).then(|| {
            self.prefixes[index / 64] &= !(1 << (index % 64));
            self.values.remove(rank)
        })
    }

    fn child(&self, value: usize) -> Option<u32> {
        let children = self.children.as_deref()?;
        let is_there = children.bits[value / 64] >> (value % 64) & 1 != 0;
        is_there.then(|| children.nodes[rank(&children.bits, value)])
    }

    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.children.is_none()
    }
}

/// Prefixes in order, with their values.
pub struct PrefixMapIter<'a, A, T> {
    nodes: &'a [Node<T>],
    /// Its leading bits are the way to the innermost place.
    addr: u128,
    places: Vec<Place>,
    family: PhantomData<A>,
}

/// The writer's routes in order.
pub(crate) type Iter<'a, A> = PrefixMapIter<'a, A, GroupId>;

impl<A, T> PrefixMapIter<'_, A, T> {
    /// No prefixes.
    pub(crate) const END: Self =
        Self { nodes: &[], addr: 0, places: Vec::new(), family: PhantomData };
}

/// How far a node has been walked.
struct Place {
    node: usize,
    depth: u8,
    /// Which of [`ORDER_LEN_OF_VALUE`] × `2^STRIDE` things is next.
    at: usize,
    /// At which values there is something.
    busy: [u64; 4],
}

impl Place {
    fn new<T: Copy>(nodes: &[Node<T>], node: usize, depth: u8, at: usize) -> Self {
        Self { node, depth, at, busy: nodes[node].busy() }
    }
}

impl<A: Addr, T: Copy> Iterator for PrefixMapIter<'_, A, T> {
    type Item = (Prefix<A>, T);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let place = self.places.last_mut()?;
            let (value, what) = (place.at / ORDER_LEN_OF_VALUE, place.at % ORDER_LEN_OF_VALUE);
            match next_bit(&place.busy, value) {
                Some(busy) if busy > value => {
                    place.at = ORDER_LEN_OF_VALUE * busy;
                    continue;
                }
                Some(_) => {}
                None => {
                    self.places.pop();
                    continue;
                }
            }
            place.at += 1;
            let node = &self.nodes[place.node];
            let depth = place.depth;
            if what <= usize::from(STRIDE) {
                let host = usize::from(STRIDE) - what;
                let index = (1 << what) + (value >> host);
                if value & ((1 << host) - 1) == 0 && node.has(index) {
                    let addr = with_bits::<A>(self.addr, depth, value);
                    let prefix = Prefix::around(A::from_bits128(addr), depth + what as u8)?;
                    return Some((prefix, node.get(index)?));
                }
            } else if let Some(below) = node.child(value) {
                self.addr = with_bits::<A>(self.addr, depth, value);
                let (node, depth) = (below as usize, depth + STRIDE);
                self.places.push(Place::new(self.nodes, node, depth, 0));
            }
        }
    }
}

/// Makes room for one more in a list that many nodes have: by an eighth, not by doubling, and what the
/// allocator would round up to anyway.
fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        let least = list.len() + list.len() / 8 + 1;
        let bytes = least * size_of::<T>() + CHUNK_HEADER;
        let bytes = bytes.next_multiple_of(CHUNK).max(CHUNK_MIN) - CHUNK_HEADER;
        list.reserve_exact((bytes / size_of::<T>().max(1)).max(least) - list.len());
    }
}

/// The depth of the node in which a prefix of `len` bits ends.
#[inline]
pub(crate) fn node_depth(len: u8) -> u8 {
    len.saturating_sub(1) / STRIDE * STRIDE
}

/// The bit of a prefix in its node.
#[inline]
fn index_of<A: Addr>(prefix: Prefix<A>) -> usize {
    let depth = node_depth(prefix.len());
    let bits = prefix.len() - depth;
    (1 << bits) + (prefix.addr().bits_at(depth, STRIDE) >> (STRIDE - bits))
}

/// The bit of the whole stride at `depth` on the way to `addr`.
#[inline]
fn node_index<A: Addr>(addr: A, depth: u8) -> usize {
    (1 << STRIDE) + addr.bits_at(depth, STRIDE)
}

/// The bits of `span` that are not set.
pub(crate) fn outside(covered: [u64; 4], span: Range<usize>) -> [u64; 4] {
    let below = |end: usize, word: usize| match end.saturating_sub(word * 64) {
        0 => 0,
        bits @ 1..=63 => (1 << bits) - 1,
        _ => u64::MAX,
    };
    let mut open = covered;
    for (word, bits) in open.iter_mut().enumerate() {
        *bits = !*bits & below(span.end, word) & !below(span.start, word);
    }
    open
}

/// Calls `each` with every bit that is set.
#[inline]
pub(crate) fn for_each<const N: usize>(bits: &[u64; N], mut each: impl FnMut(usize)) {
    for (word, &bits) in bits.iter().enumerate() {
        let mut left = bits;
        while left != 0 {
            each(word * 64 + left.trailing_zeros() as usize);
            left &= left - 1;
        }
    }
}

/// The first bit that is set, from one on.
fn next_bit(bits: &[u64; 4], from: usize) -> Option<usize> {
    let word = from / 64;
    let first = bits.get(word)? >> (from % 64) << (from % 64);
    let rest = bits.iter().enumerate().skip(word + 1).map(|(word, &bits)| (word, bits));
    let (word, bits) = core::iter::once((word, first)).chain(rest).find(|&(_, bits)| bits != 0)?;
    Some(word * 64 + bits.trailing_zeros() as usize)
}

/// Where a prefix's bit comes in the order of its node.
fn order_of(index: usize) -> usize {
    let bits = index.ilog2() as usize;
    let value = (index - (1 << bits)) << (usize::from(STRIDE) - bits);
    ORDER_LEN_OF_VALUE * value + bits
}

/// `addr` with `value` in the stride at `depth`, and zeros after it.
fn with_bits<A: Addr>(addr: u128, depth: u8, value: usize) -> u128 {
    let after = u32::from(A::BITS - depth);
    let kept = if after == 128 { 0 } else { addr >> after << after };
    kept | (value as u128) << (after - u32::from(STRIDE))
}

/// How many bits below `bit` are set.
#[inline]
fn rank<const N: usize>(bits: &[u64; N], bit: usize) -> usize {
    let whole: u32 = bits[..bit / 64].iter().map(|word| word.count_ones()).sum();
    (whole + (bits[bit / 64] & ((1 << (bit % 64)) - 1)).count_ones()) as usize
}

/// Each of the first 128 bits twice.
fn spread(bits: [u64; 4]) -> [u64; 4] {
    let twice = |half: u64| {
        let mut x = half & 0xffff_ffff;
        x = (x | x << 16) & 0x0000_ffff_0000_ffff;
        x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
        x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        x = (x | x << 2) & 0x3333_3333_3333_3333;
        x = (x | x << 1) & 0x5555_5555_5555_5555;
        x | x << 1
    };
    [twice(bits[0]), twice(bits[0] >> 32), twice(bits[1]), twice(bits[1] >> 32)]
}

/// What the usual allocator rounds to, the least it takes, and what it keeps of that for itself.
const CHUNK: usize = 16;
const CHUNK_MIN: usize = 32;
const CHUNK_HEADER: usize = 8;

/// Nodes on the way to a prefix, at most.
const NODES_MAX: usize = 128 / STRIDE as usize;

/// Routes from which on a table's memory is worth huge pages.
pub(crate) const LARGE: usize = 1 << 13;

/// For each value of a stride: the prefixes that begin there, the shortest first (0 bits, of
/// which only the root has one, to `STRIDE` bits), then the node below.
const ORDER_LEN_OF_VALUE: usize = STRIDE as usize + 2;
