//! The two address families behind one trait, so that every table is written once.

use core::fmt::{Debug, Display};
use core::hash::Hash;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// An IPv4 or IPv6 address, seen as an unsigned number whose first bit is the most significant.
pub trait Addr: Copy + Debug + Display + Eq + FromStr + Hash + Ord + Send + Sync + 'static {
    /// Bits of an address: 32 or 128.
    const BITS: u8;

    /// The address as a number, right-aligned in 128 bits.
    fn to_bits128(self) -> u128;

    /// The address with this number; bits above [`Self::BITS`] are ignored.
    fn from_bits128(bits: u128) -> Self;

    /// Bits `at .. at + count`, counted from the first; `count` is 1 to 16 and
    /// `at + count <= BITS`.
    fn bits_at(self, at: u8, count: u8) -> usize;

    /// All bits after the first `len` cleared.
    #[must_use]
    fn truncated(self, len: u8) -> Self {
        debug_assert!(len <= Self::BITS);
        if len == 0 {
            return Self::from_bits128(0);
        }
        let host_bits = u32::from(Self::BITS - len);
        Self::from_bits128(self.to_bits128() >> host_bits << host_bits)
    }

    /// All bits after the first `len` set: the last address of the prefix.
    #[must_use]
    fn last_of(self, len: u8) -> Self {
        debug_assert!(len <= Self::BITS);
        let host_bits = u32::from(Self::BITS - len);
        let host = if host_bits == 0 { 0 } else { u128::MAX >> (128 - host_bits) };
        Self::from_bits128(self.to_bits128() | host)
    }
}

impl Addr for Ipv4Addr {
    const BITS: u8 = 32;

    #[inline]
    fn to_bits128(self) -> u128 {
        u128::from(self.to_bits())
    }

    #[inline]
    fn from_bits128(bits: u128) -> Self {
        Self::from_bits(bits as u32)
    }

    #[inline]
    fn bits_at(self, at: u8, count: u8) -> usize {
        ((self.to_bits() << at) >> (32 - count)) as usize
    }
}

impl Addr for Ipv6Addr {
    const BITS: u8 = 128;

    #[inline]
    fn to_bits128(self) -> u128 {
        self.to_bits()
    }

    #[inline]
    fn from_bits128(bits: u128) -> Self {
        Self::from_bits(bits)
    }

    #[inline]
    fn bits_at(self, at: u8, count: u8) -> usize {
        ((self.to_bits() << at) >> (128 - count)) as usize
    }
}
