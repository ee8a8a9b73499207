//! The writer's side of the IPv6 table: routes, and what a change of one means for the trie.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::edit::{Edit, Editor, Paint};
use super::parts::Leaf;
use super::store::Unlinked;
use super::{ANSWER, MIDDLES, ROOT_BITS, Table, WINDOW, root_of};
use crate::addr::Addr;
use crate::group::GroupId;
use crate::prefix::Prefix;
use crate::rib::{LARGE, Node, Rib, STRIDE, for_each};
use crate::sync::Ordering;

/// The routes, and the books of the trie's memory.
pub(crate) struct TableWriter {
    routes: Rib<Ipv6Addr>,
    editor: Editor,
}

/// What readers may still be in: to be given to [`TableWriter::recycle`] once they are not.
#[derive(Debug)]
pub(crate) enum Freed {
    /// As most changes leave behind.
    One(One),
    Many(Vec<One>),
}

/// See [`Unlinked`].
#[derive(Debug)]
pub(crate) struct One(Unlinked);

impl TableWriter {
    pub(crate) fn new() -> Self {
        Self { routes: Rib::new(), editor: Editor::new() }
    }

    /// Whether any so many changes still have room.
    pub(crate) fn has_room_for(&self, changes: usize) -> bool {
        self.editor.store.has_room_for(changes)
    }

    /// Leaves no more than so many lines, as a table of millions of routes would.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn leave_lines(&mut self, left: usize) {
        self.editor.store.leave_lines(left);
    }

    /// Adds or replaces a route; gives back what it had before.
    pub(crate) fn insert(
        &mut self,
        table: &Table,
        prefix: Prefix<Ipv6Addr>,
        group: GroupId,
        freed: impl FnOnce(Freed),
    ) -> Option<GroupId> {
        let leaf = Leaf { word: group.word(), owner: prefix.len() + 1 };
        let old = self.routes.insert(prefix, group);
        if old.is_none() && self.routes.len() == LARGE {
            table.use_huge_pages();
        }
        if old != Some(group) {
            if prefix.len() <= ROOT_LEN {
                self.write_root(table, prefix, leaf.word);
            } else if prefix.len() <= MIDDLE_LEN {
                self.write_middle(table, prefix, leaf.word);
            } else {
                self.edit(table, prefix, Paint::Cover(leaf));
            }
            self.hand_back(table, freed);
        }
        old
    }

    /// Removes a route; gives back what it had.
    pub(crate) fn remove(
        &mut self,
        table: &Table,
        prefix: Prefix<Ipv6Addr>,
        freed: impl FnOnce(Freed),
    ) -> Option<GroupId> {
        let old = self.routes.remove(prefix)?;
        // A word of 0 defers to what is asked next.
        let longer_than = |least: u8| {
            let heir = self.routes.covering(prefix).filter(|(heir, _)| heir.len() > least);
            heir.map_or(Leaf::NONE, |(heir, group)| Leaf {
                word: group.word(),
                owner: heir.len() + 1,
            })
        };
        if prefix.len() <= ROOT_LEN {
            self.write_root(table, prefix, longer_than(STRIDE).word);
        } else if prefix.len() <= MIDDLE_LEN {
            self.write_middle(table, prefix, longer_than(ROOT_LEN).word);
        } else {
            let paint = Paint::Uncover { owner: prefix.len() + 1, heir: longer_than(MIDDLE_LEN) };
            self.edit(table, prefix, paint);
        }
        self.hand_back(table, freed);
        Some(old)
    }

    /// What no reader can reach any more may be used again.
    pub(crate) fn recycle(&mut self, freed: Freed) {
        let store = &mut self.editor.store;
        match freed {
            Freed::One(One(one)) => store.recycle(one),
            Freed::Many(many) => many.into_iter().for_each(|One(one)| store.recycle(one)),
        }
    }

    /// Every route.
    pub(crate) fn routes(&self) -> &Rib<Ipv6Addr> {
        &self.routes
    }

    fn edit(&mut self, table: &Table, prefix: Prefix<Ipv6Addr>, paint: Paint) {
        let addr = prefix.addr();
        let depths = (ROOT_BITS..prefix.len().into()).step_by(WINDOW as usize);
        // The outermost window that no route is in any more.
        let empty = match paint {
            Paint::Cover(_) => None,
            Paint::Uncover { .. } => depths.into_iter().find(|&at| self.is_empty(addr, at)),
        };
        let edit = Edit { bits: addr.to_bits(), len: prefix.len().into(), paint, empty };
        self.editor.edit(table, &edit);
    }

    /// Whether no route of the window that begins after `at` bits is left that is in the trie.
    fn is_empty(&self, addr: Ipv6Addr, at: u32) -> bool {
        let Some(node) = self.routes.node(addr, at as u8) else { return true };
        at == ROOT_BITS && node.has_no_child()
    }

    fn hand_back(&mut self, table: &Table, freed: impl FnOnce(Freed)) {
        let store = &mut self.editor.store;
        store.note_use(table);
        match store.unlinked[..] {
            [] => {}
            [one] => {
                store.unlinked.clear();
                freed(Freed::One(One(one)));
            }
            _ => freed(Freed::Many(store.unlinked.drain(..).map(One).collect())),
        }
    }

    /// Writes what a prefix that the root tells apart says.
    fn write_root(&self, table: &Table, prefix: Prefix<Ipv6Addr>, word: u32) {
        if prefix.len() <= STRIDE {
            return table.short.follow(&self.routes, prefix);
        }
        let first = prefix.addr().bits_at(0, STRIDE);
        table.short.begin_change();
        for_each(&self.routes.decided(prefix), |value| {
            let start = &table.root[(first << STRIDE) + value];
            start[ANSWER].store(word, Ordering::Release);
        });
    }

    /// Writes what a prefix says that ends in the stride after the root's bits.
    fn write_middle(&mut self, table: &Table, prefix: Prefix<Ipv6Addr>, word: u32) {
        let addr = prefix.addr();
        let place = &table.middle[root_of(addr.to_bits())];
        table.short.begin_change();
        let store = &mut self.editor.store;
        let mut first = place.load(Ordering::Relaxed);
        if self.routes.node(addr, ROOT_LEN).is_none_or(Node::has_no_prefix) {
            place.store(0, Ordering::Release);
            if first != 0 {
                store.unlinked.push(Unlinked::Table { first, width: STRIDE.into() });
            }
            return;
        }
        if first == 0 {
            first = store.take_table(STRIDE.into());
            let slots = &table.slots[first as usize..][..MIDDLES];
            for slot in slots {
                slot.store(0, Ordering::Relaxed);
            }
        }
        for_each(&self.routes.decided(prefix), |value| {
            table.slots[first as usize + value].store(word, Ordering::Release);
        });
        place.store(first, Ordering::Release);
    }
}

/// Prefixes of up to so many bits are in the root.
const ROOT_LEN: u8 = ROOT_BITS as u8;

/// Prefixes of up to so many bits, and more than the root's, are in its middle tables.
pub(super) const MIDDLE_LEN: u8 = ROOT_LEN + STRIDE;
