//! The writer's side of the IPv6 table: routes, and what a change of one means for the trie.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::edit::{Edit, Editor, Paint};
pub(crate) use super::journal::Mark;
use super::parts::Leaf;
pub(crate) use super::store::Full;
use super::store::{Place, Unlinked};
use super::{ANSWER, MIDDLES, ROOT_BITS, Table, WINDOW, root_of};
use crate::addr::Addr;
use crate::group::GroupId;
use crate::map::{Node, Rib, STRIDE, for_each};
use crate::memory::HugePages;
use crate::prefix::Prefix;
use crate::sync::Ordering;

/// The routes, and the books of the trie's memory.
pub(crate) struct TableWriter {
    routes: Rib<Ipv6Addr>,
    editor: Editor,
    huge_pages: HugePages,
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
        Self { routes: Rib::new(), editor: Editor::new(), huge_pages: HugePages::default() }
    }

    /// Leaves no more than so many lines and slots, as a table of millions of routes would.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn leave(&mut self, lines: usize, slots: u32) {
        self.editor.store.leave(lines, slots);
    }

    /// Adds a route, and returns `None`; the group of one that is there, which stays. To be followed
    /// as [`Self::change`].
    ///
    /// # Errors
    /// There is no room: nothing was changed.
    pub(crate) fn add(
        &mut self,
        table: &Table,
        prefix: Prefix<Ipv6Addr>,
        group: GroupId,
    ) -> Result<Option<GroupId>, Full> {
        let mark = self.editor.store.mark();
        let (_, old) = self.routes.insert_at(prefix, group, false);
        if old.is_none() {
            self.follow(table, mark, (prefix, None), Some(group))?;
        }
        Ok(old)
    }

    /// Adds, replaces or with `None` removes a route; returns its previous group. To be followed by
    /// [`Self::commit`], after any number of changes, or by [`Self::undo`].
    ///
    /// # Errors
    /// There is no room: nothing was changed.
    pub(crate) fn change(
        &mut self,
        table: &Table,
        prefix: Prefix<Ipv6Addr>,
        group: Option<GroupId>,
    ) -> Result<Option<GroupId>, Full> {
        let mark = self.editor.store.mark();
        let old = self.set_route(prefix, group);
        if old != group {
            self.follow(table, mark, (prefix, old), group)?;
        }
        Ok(old)
    }

    /// The table follows a route that changed, or the route does not change either.
    fn follow(
        &mut self,
        table: &Table,
        mark: Mark,
        (prefix, old): (Prefix<Ipv6Addr>, Option<GroupId>),
        group: Option<GroupId>,
    ) -> Result<(), Full> {
        if old.is_none() {
            let advise = || table.advise_huge_pages();
            let collapse = |slab, nth| table.collapse(slab, nth);
            self.huge_pages.note_growth(self.routes.len(), advise, collapse);
        }
        let written = self.write(table, prefix, group);
        if written.is_err() {
            self.editor.store.roll_back(table, mark);
            self.set_route(prefix, old);
        }
        written
    }

    /// How much was changed since the last commit: for [`Self::undo`].
    pub(crate) fn mark(&self) -> Mark {
        self.editor.store.mark()
    }

    /// Undoes the last change that is not undone yet and was begun at `mark`.
    pub(crate) fn undo(
        &mut self,
        table: &Table,
        (prefix, old): (Prefix<Ipv6Addr>, Option<GroupId>),
        mark: Mark,
    ) {
        self.editor.store.roll_back(table, mark);
        let new = self.set_route(prefix, old);
        if prefix.len() <= ROOT_LEN && new != old {
            self.write_root(table, prefix, old);
        }
    }

    /// Keeps what was changed; passes what readers may still be in to `freed`.
    pub(crate) fn commit(&mut self, table: &Table, freed: impl FnOnce(Freed)) {
        let store = &mut self.editor.store;
        store.note_use(table);
        let mut unlinked = store.commit();
        match unlinked.len() {
            0 => {}
            1 => {
                let Some(one) = unlinked.next() else { return };
                freed(Freed::One(One(one)));
            }
            _ => freed(Freed::Many(unlinked.map(One).collect())),
        }
    }

    /// Takes what no reader can reach any more back into use.
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

    fn set_route(&mut self, prefix: Prefix<Ipv6Addr>, group: Option<GroupId>) -> Option<GroupId> {
        match group {
            Some(group) => self.routes.insert(prefix, group),
            None => self.routes.remove(prefix),
        }
    }

    /// Makes the table follow the routes after a change of `prefix`.
    fn write(
        &mut self,
        table: &Table,
        prefix: Prefix<Ipv6Addr>,
        group: Option<GroupId>,
    ) -> Result<(), Full> {
        self.editor.store.is_removal = group.is_none();
        if prefix.len() > MIDDLE_LEN {
            self.write_trie(table, prefix, group)
        } else if prefix.len() > ROOT_LEN {
            self.write_middle(table, prefix, group)
        } else {
            self.write_root(table, prefix, group);
            Ok(())
        }
    }

    /// The word of a route or, where there is none, of its heir among those longer than `least`
    /// bits: 0 defers to shorter ones.
    fn leaf(&self, prefix: Prefix<Ipv6Addr>, group: Option<GroupId>, least: u8) -> Leaf {
        let own = group.map(|group| (prefix, group));
        let heir = || self.routes.covering(prefix).filter(|(heir, _)| heir.len() > least);
        own.or_else(heir).map_or(Leaf::NONE, |(prefix, group)| Leaf {
            word: group.word(),
            owner: prefix.len() + 1,
        })
    }

    fn write_trie(
        &mut self,
        table: &Table,
        prefix: Prefix<Ipv6Addr>,
        group: Option<GroupId>,
    ) -> Result<(), Full> {
        let (addr, len) = (prefix.addr(), prefix.len());
        let leaf = self.leaf(prefix, group, MIDDLE_LEN);
        let paint = match group {
            Some(_) => Paint::Cover(leaf),
            None => Paint::Uncover { owner: len + 1, heir: leaf },
        };
        // The outermost window that no route is in any more.
        let mut depths = (ROOT_BITS..len.into()).step_by(WINDOW as usize);
        let empty = depths.find(|&at| group.is_none() && self.is_empty(addr, at));
        self.editor.edit(table, &Edit { bits: addr.to_bits(), len: len.into(), paint, empty })
    }

    /// Whether no route of the window that begins after `at` bits is left that is in the trie.
    fn is_empty(&self, addr: Ipv6Addr, at: u32) -> bool {
        let Some(node) = self.routes.node(addr, at as u8) else { return true };
        at == ROOT_BITS && node.has_no_child()
    }

    /// Writes the answer of a prefix that the root distinguishes.
    fn write_root(&self, table: &Table, prefix: Prefix<Ipv6Addr>, group: Option<GroupId>) {
        if prefix.len() <= STRIDE {
            return table.short.follow(&self.routes, prefix);
        }
        let word = self.leaf(prefix, group, STRIDE).word;
        let first = prefix.addr().bits_at(0, STRIDE);
        table.short.begin_change();
        for_each(&self.routes.decided(prefix), |value| {
            let start = &table.root[(first << STRIDE) + value];
            start[ANSWER].store(word, Ordering::Release);
        });
    }

    /// Writes the answer of a prefix that ends in the stride after the root's bits.
    fn write_middle(
        &mut self,
        table: &Table,
        prefix: Prefix<Ipv6Addr>,
        group: Option<GroupId>,
    ) -> Result<(), Full> {
        let addr = prefix.addr();
        let leaf = Leaf { owner: 0, ..self.leaf(prefix, group, ROOT_LEN) };
        let place = Place::Middle(root_of(addr.to_bits()));
        table.short.begin_change();
        let store = &mut self.editor.store;
        let mut first = place.load(table);
        if self.routes.node(addr, ROOT_LEN).is_none_or(Node::has_no_prefix) {
            store.link(table, place, Leaf::NONE);
            if first != 0 {
                store.unlink_one(Unlinked::Table { first, width: STRIDE.into() });
            }
            return Ok(());
        }
        let is_new = first == 0;
        if is_new {
            first = store.take_table(STRIDE.into())?;
            let slots = &table.slots[first as usize..][..MIDDLES];
            for slot in slots {
                slot.store(0, Ordering::Relaxed);
            }
        }
        for_each(&self.routes.decided(prefix), |value| {
            store.link(table, Place::Slot(first as usize + value), leaf);
        });
        if is_new {
            store.link(table, place, Leaf { word: first, owner: 0 });
        }
        Ok(())
    }
}

/// Prefixes of up to so many bits are in the root.
const ROOT_LEN: u8 = ROOT_BITS as u8;

/// Prefixes of up to so many bits, and more than the root's, are in its middle tables.
pub(super) const MIDDLE_LEN: u8 = ROOT_LEN + STRIDE;
