//! Batches whose slots come from far: all fetched first, then loaded.
//!
//! A batch of 32 is as fast as the processor looks ahead into the next one. So there are as few
//! instructions as can be from one fetch to the next, and what is seldom needed is apart.
#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use super::ops::{EIGHT, load_eight, prefetch_eight};
use crate::group::GroupId;
use crate::kernel::v4_portable::{FETCHED, GROUP, Silence, or_else};
use crate::sync::AtomicU16;
use crate::v4::dir::Dir;
use crate::v4::slot::Slot;
use crate::v4::{Now, Table};

kernel! {
    /// As [`Self::lookup_each`].
    #[inline]
    pub(in crate::kernel) fn lookup<T: Copy>(
        table: &Table,
        addrs: &[Ipv4Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let silence = table.silence();
        let Now::Narrow(dir) = table.now() else {
            return table.lookup_each::<true, T>(addrs, found, make);
        };
        let (groups, rest) = addrs.as_chunks::<GROUP>();
        let (found_groups, found_rest) = found[..addrs.len()].as_chunks_mut::<GROUP>();
        let mut left = found_groups;
        for groups in groups.chunks(FETCHED / GROUP) {
            let (found, others) = left.split_at_mut(groups.len());
            left = others;
            for eight in groups.as_flattened().as_chunks().0 {
                prefetch_eight(dir.slots(), eight);
            }
            for (group, found) in groups.iter().zip(found) {
                lookup_eights(dir, group, silence, found, &make);
            }
        }
        if !rest.is_empty() {
            dir.fetch(rest);
            dir.lookup_group_apart(rest, silence, found_rest, &make);
        }
        table.recheck(silence, addrs, found, make);
    }
}

kernel! {
    /// As [`Self::lookup_group`], with what is loaded kept in registers.
    #[inline]
    fn lookup_eights<T: Copy>(
        dir: &Dir<AtomicU16>,
        addrs: &[Ipv4Addr; GROUP],
        silence: Silence<'_>,
        found: &mut [T; GROUP],
        make: impl Fn(GroupId) -> T,
    ) {
        let (eights, _) = addrs.as_chunks::<EIGHT>();
        let mut loaded = [[0; EIGHT]; GROUP / EIGHT];
        for (loaded, eight) in loaded.iter_mut().zip(eights) {
            *loaded = load_eight(dir.slots(), eight);
        }
        let short = AtomicU16::of_word(silence.common.unwrap_or_default());
        let mut any = [0; EIGHT];
        let (founds, _) = found.as_chunks_mut::<EIGHT>();
        for (found, loaded) in founds.iter_mut().zip(loaded) {
            for lane in 0..EIGHT {
                let raw = or_else(loaded[lane], short);
                found[lane] = make(GroupId(AtomicU16::group(raw)));
                any[lane] |= loaded[lane];
            }
        }
        let any = any.into_iter().fold(0, core::ops::BitOr::bitor);
        if AtomicU16::is_chunk(any) || silence.common.is_none() {
            dir.lookup_group_apart(addrs, silence, found, make);
        }
    }
}
