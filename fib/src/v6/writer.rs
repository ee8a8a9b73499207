//! The writer's side of the IPv6 table: routes, and what a change of one means for the trie.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::edit::{Edit, Leaf, Nodes, Paint};
use super::{ANSWER, Table, WINDOW};
use crate::addr::Addr;
use crate::group::GroupId;
use crate::prefix::Prefix;
use crate::rib::{LARGE, Rib, STRIDE, for_each};
use crate::sync::Ordering;

/// The routes, and the books of the trie's memory.
pub(crate) struct TableWriter {
    routes: Rib<Ipv6Addr>,
    nodes: Nodes,
}

/// What readers may still be in: to be given to [`TableWriter::recycle`] once they are not.
#[derive(Debug)]
pub(crate) struct Freed {
    pub(super) lines: Vec<u32>,
    /// Words of tables.
    pub(super) tables: Vec<u32>,
}

impl TableWriter {
    pub(crate) fn new() -> Self {
        Self { routes: Rib::new(), nodes: Nodes::new() }
    }

    /// Whether any so many changes still have room.
    pub(crate) fn has_room_for(&self, changes: usize) -> bool {
        self.nodes.has_room_for(changes)
    }

    /// Leaves no more than so many lines, as a table of millions of routes would.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn leave_lines(&mut self, left: usize) {
        self.nodes.leave_lines(left);
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
            if u32::from(prefix.len()) > WINDOW {
                self.edit(table, prefix, Paint::Cover(leaf), freed);
            } else {
                self.write_root(table, prefix, leaf.word);
            }
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
        // What shorter prefixes say is in the root and before it, and a word of 0 defers to that.
        let longer_than = |least: u32| {
            let heir = self.routes.covering(prefix);
            let heir = heir.filter(|(heir, _)| u32::from(heir.len()) > least);
            heir.map_or(Leaf::NONE, |(heir, group)| Leaf {
                word: group.word(),
                owner: heir.len() + 1,
            })
        };
        if u32::from(prefix.len()) > WINDOW {
            let paint = Paint::Uncover { owner: prefix.len() + 1, heir: longer_than(WINDOW) };
            self.edit(table, prefix, paint, freed);
        } else {
            self.write_root(table, prefix, longer_than(STRIDE.into()).word);
        }
        Some(old)
    }

    /// What no reader can reach any more may be used again.
    pub(crate) fn recycle(&mut self, freed: Freed) {
        self.nodes.recycle(freed);
    }

    /// Every route.
    pub(crate) fn routes(&self) -> &Rib<Ipv6Addr> {
        &self.routes
    }

    fn edit(
        &mut self,
        table: &Table,
        prefix: Prefix<Ipv6Addr>,
        paint: Paint,
        freed: impl FnOnce(Freed),
    ) {
        let addr = prefix.addr();
        let depths = (WINDOW..u32::from(prefix.len())).step_by(WINDOW as usize);
        // The outermost node that no route is in any more.
        let empty = match paint {
            Paint::Cover(_) => None,
            Paint::Uncover { .. } => {
                depths.into_iter().find(|&at| self.routes.node(addr, at as u8).is_none())
            }
        };
        let edit = Edit { bits: addr.to_bits(), len: prefix.len().into(), paint, empty };
        if let Some(left_behind) = self.nodes.edit(table, &edit) {
            freed(left_behind);
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
}
