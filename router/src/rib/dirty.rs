//! What has to be looked at again.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use nearhop_fib::IpPrefix;

use super::SetId;

/// Prefixes by their length, each as often as it was marked; and sets of next hops.
pub struct Dirty {
    v4: Vec<Vec<Ipv4Addr>>,
    v6: Vec<Vec<Ipv6Addr>>,
    /// No longer prefix of IPv4, and of IPv6, is dirty.
    longest: (u8, u8),
    sets: BTreeSet<SetId>,
}

/// A place among the dirty prefixes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cursor {
    /// Of IPv4, then of IPv6.
    bucket: usize,
    index: usize,
}

impl Default for Dirty {
    fn default() -> Self {
        let (v4, v6) = (vec![Vec::new(); 33], vec![Vec::new(); 129]);
        Self { v4, v6, longest: (0, 0), sets: BTreeSet::new() }
    }
}

impl Dirty {
    /// The used route to a prefix may be another.
    pub fn mark(&mut self, prefix: IpPrefix) {
        match prefix {
            IpPrefix::V4(prefix) => {
                self.longest.0 = self.longest.0.max(prefix.len());
                self.v4[usize::from(prefix.len())].push(prefix.addr());
            }
            IpPrefix::V6(prefix) => {
                self.longest.1 = self.longest.1.max(prefix.len());
                self.v6[usize::from(prefix.len())].push(prefix.addr());
            }
        }
    }

    /// What a set of next hops leads to may be another.
    pub fn mark_set(&mut self, set: SetId) {
        self.sets.insert(set);
    }

    /// Whether any prefix is dirty.
    pub fn has_prefixes(&self) -> bool {
        self.v4.iter().any(|bucket| !bucket.is_empty())
            || self.v6.iter().any(|bucket| !bucket.is_empty())
    }

    /// Takes the sets.
    pub fn take_sets(&mut self) -> BTreeSet<SetId> {
        std::mem::take(&mut self.sets)
    }

    /// Takes a prefix, one of the longest of its family that there are.
    pub fn take_longest(&mut self) -> Option<IpPrefix> {
        let Self { v4, v6, longest, .. } = self;
        if let Some(addr) = take_longest(v4, &mut longest.0) {
            return IpPrefix::around(addr.into(), longest.0);
        }
        let addr = take_longest(v6, &mut longest.1)?;
        IpPrefix::around(addr.into(), longest.1)
    }

    /// Up to so many that [`Self::take_longest`] takes next.
    pub fn longest(&self, most: usize) -> impl Iterator<Item = IpPrefix> + Clone + '_ {
        let (v4, v6) = (usize::from(self.longest.0), usize::from(self.longest.1));
        let v4 = last(&self.v4[v4], most).iter().map(|&addr| (addr.into(), self.longest.0));
        let v6 = last(&self.v6[v6], most).iter().map(|&addr| (addr.into(), self.longest.1));
        v4.chain(v6).take(most).filter_map(|(addr, len)| IpPrefix::around(addr, len))
    }

    /// The prefix at a place, which moves on; `None` at the end.
    pub fn next(&self, cursor: &mut Cursor) -> Option<IpPrefix> {
        loop {
            let (v4, bucket) = (self.v4.len(), cursor.bucket);
            let found = match bucket.checked_sub(v4) {
                None => self.v4[bucket].get(cursor.index).map(|&addr| (addr.into(), bucket)),
                Some(len) => self.v6.get(len)?.get(cursor.index).map(|&addr| (addr.into(), len)),
            };
            if let Some((addr, len)) = found {
                cursor.index += 1;
                return IpPrefix::around(addr, len as u8);
            }
            *cursor = Cursor { bucket: bucket + 1, index: 0 };
        }
    }
}

/// The last ones, at most so many.
fn last<A>(bucket: &[A], most: usize) -> &[A] {
    &bucket[bucket.len().saturating_sub(most)..]
}

/// The last of the last bucket that has any. No bucket behind `longest` has, which becomes that bucket's
/// number. The memory of a bucket that is empty goes.
fn take_longest<A>(buckets: &mut [Vec<A>], longest: &mut u8) -> Option<A> {
    loop {
        let bucket = &mut buckets[usize::from(*longest)];
        if let Some(addr) = bucket.pop() {
            return Some(addr);
        }
        *bucket = Vec::new();
        *longest = longest.checked_sub(1)?;
    }
}
