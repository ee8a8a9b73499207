//! What the calls of our own table are named: here alone, for all that measures it.
#![forbid(unsafe_code)]

use nearhop_fib::{GroupId, IpPrefix, Memory, Online};

use super::keys::{Route, Word};

/// The calls of [`Online`] for one family.
pub trait Lookup: Word {
    /// Many addresses at once.
    fn batch(fib: &Online<'_>, addrs: &[Self::Addr], found: &mut [GroupId]);
    /// As [`Self::batch`], stored as DPDK stores it: 64 bits for each address.
    fn stored(fib: &Online<'_>, addrs: &[Self::Addr], out: &mut [u64]);
    /// One address.
    fn one(fib: &Online<'_>, addr: Self) -> GroupId;
    /// Bytes of the family's table.
    fn bytes(memory: Memory) -> usize;
}

impl Lookup for u32 {
    #[inline]
    fn batch(fib: &Online<'_>, addrs: &[Self::Addr], found: &mut [GroupId]) {
        fib.lookup_batch_v4(addrs, found);
    }
    #[inline]
    fn stored(fib: &Online<'_>, addrs: &[Self::Addr], out: &mut [u64]) {
        fib.lookup_batch_v4_as(addrs, out, |group| u64::from(group.0));
    }
    #[inline]
    fn one(fib: &Online<'_>, addr: Self) -> GroupId {
        fib.lookup(addr.ip())
    }
    fn bytes(memory: Memory) -> usize {
        memory.v4
    }
}

impl Lookup for u128 {
    #[inline]
    fn batch(fib: &Online<'_>, addrs: &[Self::Addr], found: &mut [GroupId]) {
        fib.lookup_batch_v6(addrs, found);
    }
    #[inline]
    fn stored(fib: &Online<'_>, addrs: &[Self::Addr], out: &mut [u64]) {
        fib.lookup_batch_v6_as(addrs, out, |group| u64::from(group.0));
    }
    #[inline]
    fn one(fib: &Online<'_>, addr: Self) -> GroupId {
        fib.lookup(addr.ip())
    }
    fn bytes(memory: Memory) -> usize {
        memory.v6
    }
}

/// The route's prefix as the FIB takes it.
pub fn prefix<W: Word>(route: &Route<W>) -> IpPrefix {
    match IpPrefix::new(route.bits.ip(), route.len) {
        Ok(prefix) => prefix,
        Err(error) => unreachable!("the table's prefixes were read as such: {error}"),
    }
}
