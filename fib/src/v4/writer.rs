//! The writer's side of the IPv4 table.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::dir::{ROOT_BITS, root_slot};
use super::{CHILD, Table};
use crate::group::GroupId;
use crate::map::{Rib, STRIDE, for_each, node_depth, outside};
use crate::memory::HugePages;
use crate::prefix::Prefix;

/// The routes, and which chunks are free.
pub(crate) struct TableWriter {
    routes: Rib<Ipv4Addr>,
    /// Chunks below this have been in use.
    chunks: u32,
    free: Vec<u32>,
    huge_pages: HugePages,
}

/// What readers may still be in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Freed {
    /// A chunk that is linked no more.
    Chunk(u32),
    /// The narrow slots, after slots became wider.
    Narrow,
}

/// How many things one change of a route may free: a chunk, and the narrow slots.
pub(crate) const FREES_MAX: usize = 2;

impl TableWriter {
    pub(crate) fn new() -> Self {
        // A batch takes any number but 0 for a chunk's.
        Self { routes: Rib::new(), chunks: 1, free: Vec::new(), huge_pages: HugePages::default() }
    }

    /// Adds a route; one that is there already is replaced, or stays if not `replaces`. Returns the
    /// group that it had.
    pub(crate) fn insert(
        &mut self,
        table: &Table,
        (prefix, group): (Prefix<Ipv4Addr>, GroupId),
        replaces: bool,
        mut freed: impl FnMut(Freed),
    ) -> Option<GroupId> {
        debug_assert!(group.0 < CHILD - 1);
        let word = group.word();
        self.make_fit(table, word, &mut freed);
        let (node, old) = self.routes.insert_at(prefix, group, replaces);
        if old.is_some() && (old == Some(group) || !replaces) {
            return old;
        }
        if old.is_none() {
            let (advise, collapse) = (|| table.advise_huge_pages(), |_, nth| table.collapse(nth));
            self.huge_pages.note_growth(self.routes.len(), advise, collapse);
        }
        if prefix.len() > ROOT_BITS as u8 {
            self.have_chunk(table, prefix.addr(), &mut freed);
        }
        self.write(table, (prefix, Some(node)), word);
        old
    }

    /// Removes a route; returns its group.
    pub(crate) fn remove(
        &mut self,
        table: &Table,
        prefix: Prefix<Ipv4Addr>,
        mut freed: impl FnMut(Freed),
    ) -> Option<GroupId> {
        let old = self.routes.remove(prefix)?;
        // What a short prefix says is in the short table, and a slot defers to that.
        let heir = self.routes.covering(prefix);
        let heir = heir.filter(|(prefix, _)| !table.short.has(prefix.len()));
        let heir = heir.map_or(0, |(_, group)| group.word());
        self.make_fit(table, heir, &mut freed);
        let node = self.routes.find(prefix.addr(), node_depth(prefix.len()));
        self.write(table, (prefix, node), heir);
        if prefix.len() > ROOT_BITS as u8 {
            self.drop_chunk(table, prefix.addr(), &mut freed);
        }
        Some(old)
    }

    /// Takes what no reader can reach any more back into use.
    pub(crate) fn recycle(&mut self, table: &Table, freed: Freed) {
        match freed {
            Freed::Chunk(chunk) => self.free.push(chunk),
            Freed::Narrow => table.release_narrow(),
        }
    }

    /// Every route.
    pub(crate) fn routes(&self) -> &Rib<Ipv4Addr> {
        &self.routes
    }

    /// Writes `word` wherever a prefix, whose node is given, decides, or did until now.
    fn write(&self, table: &Table, (prefix, node): (Prefix<Ipv4Addr>, Option<usize>), word: u32) {
        let addr = prefix.addr();
        if table.short.has(prefix.len()) {
            return table.short.follow(&self.routes, prefix);
        }
        let values = self.routes.decided_in(node, prefix);
        let block = addr.to_bits() >> (32 - 2 * STRIDE);
        match node_depth(prefix.len()) / STRIDE {
            0 => for_each(&values, |value| {
                let first = (value as u32) << STRIDE;
                let addr = Ipv4Addr::from_bits(first << (32 - 2 * STRIDE));
                let open = open_values(&self.routes, addr, STRIDE);
                self.write_blocks(table, first, &open, word);
            }),
            1 => self.write_blocks(table, block & !STRIDE_MASK, &values, word),
            2 => self.write_block(table, block, &values, word),
            _ => {
                let chunk = table.root(root_slot(addr.to_bits())) & !CHILD;
                for_each(&values, |value| table.set_chunk(chunk, value, word));
            }
        }
    }

    /// Writes `word` to what no longer prefix decides of these blocks: values from the first on.
    fn write_blocks(&self, table: &Table, first: u32, values: &[u64; 4], word: u32) {
        for_each(values, |value| {
            let block = first | value as u32;
            let addr = Ipv4Addr::from_bits(block << (32 - 2 * STRIDE));
            let open = open_values(&self.routes, addr, 2 * STRIDE);
            self.write_block(table, block, &open, word);
        });
    }

    /// Writes `word` to these values of a block; of those that have chunks, to what no longer
    /// prefix decides.
    #[inline]
    fn write_block(&self, table: &Table, block: u32, values: &[u64; 4], word: u32) {
        let block = block as usize;
        table.paint(block, values, word, |value, chunk| {
            let slot = (block << STRIDE) + value;
            let addr = Ipv4Addr::from_bits((slot as u32) << (32 - ROOT_BITS));
            let open = open_values(&self.routes, addr, ROOT_BITS as u8);
            for_each(&open, |value| table.set_chunk(chunk & !CHILD, value, word));
        });
    }

    /// Continues with wider slots if a word does not fit.
    fn make_fit(&self, table: &Table, word: u32, freed: &mut impl FnMut(Freed)) {
        if !table.fits(word) {
            table.widen(self.chunks);
            freed(Freed::Narrow);
        }
    }

    /// Gives the /24 around `addr` a chunk, if it has none.
    fn have_chunk(&mut self, table: &Table, addr: Ipv4Addr, freed: &mut impl FnMut(Freed)) {
        let slot = root_slot(addr.to_bits());
        let word = table.root(slot);
        if word & CHILD != 0 {
            return;
        }
        let chunk = self.free.pop().unwrap_or_else(|| {
            self.chunks += 1;
            self.chunks - 1
        });
        self.make_fit(table, CHILD | chunk, freed);
        // It says all that the slot said, so no answer changes by linking it.
        (0..1 << STRIDE).for_each(|value| table.set_chunk(chunk, value, word));
        table.set_root(slot, CHILD | chunk);
    }

    /// Unlinks the chunk `addr` is in, if no route needs it.
    fn drop_chunk(&self, table: &Table, addr: Ipv4Addr, freed: &mut impl FnMut(Freed)) {
        let slot = root_slot(addr.to_bits());
        let word = table.root(slot);
        let is_needed = self.routes.node(addr, ROOT_BITS as u8).is_some_and(|n| !n.has_no_prefix());
        if word & CHILD == 0 || is_needed {
            return;
        }
        let chunk = word & !CHILD;
        table.set_root(slot, table.chunk(chunk, 0));
        freed(Freed::Chunk(chunk));
    }
}

/// The values of the stride at `depth`, on the way to `addr`, that no prefix which ends in it
/// decides.
fn open_values(routes: &Rib<Ipv4Addr>, addr: Ipv4Addr, depth: u8) -> [u64; 4] {
    let covered = routes.node(addr, depth).map_or([0; 4], |node| node.covered(0));
    outside(covered, 0..1 << STRIDE)
}

/// The bits of a stride, as a mask of an address shifted to end with it.
const STRIDE_MASK: u32 = (1 << STRIDE) - 1;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Between the two loads of each try the other route appears and the one that would be found
    /// goes, so that a try finds neither, for as long as the schedule lasts.
    #[test]
    fn a_lookup_never_misses_a_route_that_some_prefix_gives_at_every_moment() {
        let (table, mut writer) = (Table::new(), TableWriter::new());
        let (addr, short, long) = (Ipv4Addr::new(10, 0, 0, 1), "0.0.0.0/0", "10.0.0.0/16");
        let [short, long]: [Prefix<Ipv4Addr>; 2] = [short, long].map(|text| text.parse().unwrap());
        let group = |number| GroupId(number);
        writer.insert(&table, (short, group(0)), true, |_| ());
        let mut tries = 0;
        let word = table.short.while_unchanged(|| {
            tries += 1;
            let word = table.root(root_slot(addr.to_bits()));
            if tries < 100 {
                writer.insert(&table, (long, group(1)), true, |_| ());
                writer.remove(&table, short, |_| ());
            }
            let word = if word == 0 { table.short.get(0) } else { word };
            if tries < 100 {
                writer.insert(&table, (short, group(0)), true, |_| ());
                writer.remove(&table, long, |_| ());
            }
            word
        });
        assert_eq!((GroupId::of_word(word), tries), (GroupId(0), 100));
    }
}
