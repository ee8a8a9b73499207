//! Batches whose slots come from far: all fetched first, then loaded with as few instructions as can
//! be, for the fewer there are the further the processor looks ahead, into the next batch too.
#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use super::dir::{Dir, FETCHED, GROUP};
use super::{Now, Table};
use crate::group::GroupId;
use crate::simd::{EIGHT, load_eight};
use crate::sync::AtomicU16;

impl Table {
    /// As [`Self::lookup_each`].
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
    pub(crate) fn lookup_far<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let changes = self.short.changes();
        if let Now::Narrow(dir) = self.now() {
            dir.lookup_far(addrs, (self, changes), found, make);
        } else {
            self.lookup_each::<true, T>(addrs, found, make);
        }
    }
}

impl Dir<AtomicU16> {
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn lookup_far<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        at: (&Table, u32),
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        for (addrs, found) in addrs.chunks(FETCHED).zip(found.chunks_mut(FETCHED)) {
            self.fetch(addrs);
            let (groups, rest) = addrs.as_chunks::<GROUP>();
            let (found, found_rest) = found.as_chunks_mut::<GROUP>();
            for (group, found) in groups.iter().zip(found) {
                let mut loaded = [0; GROUP];
                for (loaded, addrs) in
                    loaded.as_chunks_mut::<EIGHT>().0.iter_mut().zip(group.as_chunks().0)
                {
                    *loaded = load_eight(self.slots(), addrs);
                }
                self.finish(group, &loaded, at, found, &make);
            }
            self.lookup_group(rest, at, found_rest, &make);
        }
    }
}
