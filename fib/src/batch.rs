//! Batch lookups, compiled for what processors have.
//!
//! `unsafe` is here for calling code that needs instructions, right after it was seen that the
//! processor has them.
#![allow(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::group::GroupId;
use crate::{v4, v6};

/// Which code batches run: for the log, and for who measures.
pub fn batch_code() -> &'static str {
    if has_v3() { "x86-64-v3" } else { "baseline" }
}

pub(crate) fn v4<T: Copy>(
    table: &v4::Table,
    addrs: &[Ipv4Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri)))]
    if has_v3() {
        // SAFETY: the processor has what the function is compiled for, by the line before.
        return unsafe { v4_v3(table, addrs, found, make) };
    }
    table.lookup_each(addrs, found, make);
}

pub(crate) fn v6<T: Copy>(
    table: &v6::Table,
    addrs: &[Ipv6Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    if has_v4() {
        // SAFETY: as above.
        return unsafe { table.lookup_lanes(addrs, found, make) };
    }
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri)))]
    if has_v3() {
        // SAFETY: as above.
        return unsafe { v6_v3(table, addrs, found, make) };
    }
    table.lookup_each(addrs, found, make);
}

#[cfg(all(target_arch = "x86_64", feature = "std", not(miri)))]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn v4_v3<T: Copy>(
    table: &v4::Table,
    addrs: &[Ipv4Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    table.lookup_each(addrs, found, make);
}

#[cfg(all(target_arch = "x86_64", feature = "std", not(miri)))]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn v6_v3<T: Copy>(
    table: &v6::Table,
    addrs: &[Ipv6Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    table.lookup_each(addrs, found, make);
}

#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
#[inline]
fn has_v4() -> bool {
    has_v3()
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}

/// Haswell and later, Zen and later. What is detected is remembered by the standard library.
#[inline]
fn has_v3() -> bool {
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri)))]
    return std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("lzcnt")
        && std::arch::is_x86_feature_detected!("movbe")
        && std::arch::is_x86_feature_detected!("popcnt");
    #[cfg(not(all(target_arch = "x86_64", feature = "std", not(miri))))]
    false
}
