//! What has to be looked at again.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use nearhop_fib::IpPrefix;

use super::SetId;

/// Prefixes by their length, each as often as it was marked; and sets of next hops.
pub struct Dirty {
    v4: Vec<Vec<Ipv4Addr>>,
    v6: Vec<Vec<Ipv6Addr>>,
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
        Self { v4: vec![Vec::new(); 33], v6: vec![Vec::new(); 129], sets: BTreeSet::new() }
    }
}

impl Dirty {
    /// The used route to a prefix may be another.
    pub fn mark(&mut self, prefix: IpPrefix) {
        match prefix {
            IpPrefix::V4(prefix) => self.v4[usize::from(prefix.len())].push(prefix.addr()),
            IpPrefix::V6(prefix) => self.v6[usize::from(prefix.len())].push(prefix.addr()),
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
        let v4 = take_longest(&mut self.v4).map(|(addr, len)| (addr.into(), len));
        let (addr, len) =
            v4.or_else(|| take_longest(&mut self.v6).map(|(addr, len)| (addr.into(), len)))?;
        IpPrefix::around(addr, len)
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

/// The last of the last bucket that has any, and that bucket's number. The memory of a bucket that is
/// empty then goes.
fn take_longest<A>(buckets: &mut [Vec<A>]) -> Option<(A, u8)> {
    let filled = buckets.iter().rposition(|bucket| !bucket.is_empty())?;
    let bucket = &mut buckets[filled];
    let addr = bucket.pop()?;
    if bucket.is_empty() {
        *bucket = Vec::new();
    }
    Some((addr, filled as u8))
}
