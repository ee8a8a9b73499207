//! Batches of IPv6 addresses, by instructions that any processor has.
#![forbid(unsafe_code)]

use core::net::Ipv6Addr;

use crate::group::GroupId;
use crate::map::for_each;
use crate::sync::Ordering;
use crate::v6::{LINES, NODE, ROOT_BITS, SLOTS, STEPS, Table, WINDOW, word};

impl Table {
    /// As [`Self::lookup`] for each address, into the slot of the same index of `found`, which is as
    /// long.
    #[inline(never)]
    pub(crate) fn lookup_each<T: Copy>(
        &self,
        addrs: &[Ipv6Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let (groups, rest) = addrs.as_chunks::<GROUP>();
        let (found, found_rest) = found.as_chunks_mut::<GROUP>();
        for (group, found) in groups.iter().zip(found) {
            self.lookup_group(group, found, &make);
        }
        for (addr, found) in rest.iter().zip(found_rest) {
            *found = make(self.lookup(*addr));
        }
    }

    /// Step by step for all of a group, so that loads of different addresses overlap. No step has
    /// a branch, and those without a load are done for several addresses at once. What few
    /// addresses need is done for those alone: to guess who they are would cost more than the work.
    #[inline]
    fn lookup_group<T: Copy>(
        &self,
        addrs: &[Ipv6Addr; GROUP],
        found: &mut [T; GROUP],
        make: impl Fn(GroupId) -> T,
    ) {
        let changes = self.short.changes();
        let (root, slots, narrow) = (&*self.root, &*self.slots, &*self.narrow);
        let (mut words, mut values) = ([0; GROUP], [0; GROUP]);
        for lane in 0..GROUP {
            // The first half of an address is all that these steps look at.
            let bits = (addrs[lane].to_bits() >> 64) as u64;
            words[lane] = root[(bits >> (64 - ROOT_BITS)) as usize][NODE].load(Ordering::Acquire);
            values[lane] = ((bits << ROOT_BITS) >> (64 - WINDOW)) as u32;
        }
        let (mut places, mut said) = ([0; GROUP], [0; GROUP]);
        for _ in 0..STEPS {
            for lane in 0..GROUP {
                let slot = word::slot_of(words[lane], values[lane]) as u32;
                places[lane] = choose(word::tag(words[lane]) == word::TABLE, slot, 0);
            }
            for lane in 0..GROUP {
                said[lane] = slots[places[lane] as usize % SLOTS].load(Ordering::Acquire);
            }
            for lane in 0..GROUP {
                words[lane] = choose(places[lane] == 0, words[lane], said[lane]);
            }
        }
        for lane in 0..GROUP {
            let is_line = word::tag(words[lane]) == word::NARROW;
            places[lane] = choose(is_line, words[lane] & word::INDEX, 0);
            values[lane] >>= word::shift_of(words[lane]);
        }
        for lane in 0..GROUP {
            said[lane] = narrow[places[lane] as usize % LINES].find(values[lane] as u16);
        }
        let mut left = 0_u32;
        for lane in 0..GROUP {
            words[lane] = choose(places[lane] == 0, words[lane], said[lane]);
            let group = words[lane].wrapping_sub(1);
            found[lane] = make(GroupId(group));
            // Bit 30 or 31: no answer yet.
            left |= ((group | group >> 1) >> 30 & 1) << lane;
        }
        for_each(&[left.into()], |lane| {
            let bits = addrs[lane].to_bits();
            let word = self.answer(self.descend(words[lane], bits), bits);
            found[lane] = make(GroupId::of_word(word));
        });
        if self.short.changes() != changes {
            for_each(&[left.into()], |lane| found[lane] = make(self.lookup(addrs[lane])));
        }
    }
}

/// `yes` or `no`, by arithmetic: compilers make of a condition what is slow on some processors, a
/// branch, or stores and loads under a mask.
#[inline]
fn choose(condition: bool, yes: u32, no: u32) -> u32 {
    let mask = u32::from(condition).wrapping_neg();
    (yes & mask) | (no & !mask)
}

/// Addresses looked up together.
const GROUP: usize = if cfg!(loom) { 2 } else { 32 };
