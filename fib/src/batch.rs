//! Batch lookups, compiled for what processors have.
//!
//! `unsafe` is here for calling code that needs instructions, after it was seen that the processor
//! has them.
#![allow(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::group::GroupId;
use crate::{v4, v6};

/// Which code batches run: for the log, and for who measures.
pub fn batch_code() -> &'static str {
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    return match code() {
        Code::Baseline => "baseline",
        Code::V3 => "x86-64-v3",
        Code::V4 => "x86-64-v4",
    };
    #[cfg(not(all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
    "baseline"
}

#[inline]
pub(crate) fn v4<T: Copy>(
    table: &v4::Table,
    addrs: &[Ipv4Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    match code() {
        Code::Baseline => {}
        // SAFETY: `code` says so only of a processor with what the function is compiled for.
        Code::V3 => return unsafe { v4_v3(table, addrs, found, make) },
        // SAFETY: as above.
        Code::V4 => return unsafe { table.lookup_lanes(addrs, found, make) },
    }
    table.lookup_each(addrs, found, make);
}

#[inline]
pub(crate) fn v6<T: Copy>(
    table: &v6::Table,
    addrs: &[Ipv6Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    match code() {
        Code::Baseline => {}
        // SAFETY: as above.
        Code::V3 => return unsafe { v6_v3(table, addrs, found, make) },
        // SAFETY: as above.
        Code::V4 => return unsafe { table.lookup_lanes(addrs, found, make) },
    }
    table.lookup_each(addrs, found, make);
}

#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn v4_v3<T: Copy>(
    table: &v4::Table,
    addrs: &[Ipv4Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    table.lookup_each(addrs, found, make);
}

#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
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
use self::choice::{Code, code};

/// Which code is right for this processor, found out once.
#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod choice {
    use core::sync::atomic::{AtomicU8, Ordering};

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub(super) enum Code {
        /// Any x86-64.
        Baseline = 1,
        /// Haswell and later, Zen and later.
        V3 = 2,
        /// AVX-512, on a processor that loads sixteen lanes faster by one instruction than one by
        /// one.
        V4 = 3,
    }

    /// 0, or a [`Code`]. Relaxed: nothing else hangs on it, and who finds out twice finds the same.
    static FOUND: AtomicU8 = AtomicU8::new(0);

    #[inline]
    pub(super) fn code() -> Code {
        match FOUND.load(Ordering::Relaxed) {
            1 => Code::Baseline,
            2 => Code::V3,
            3 => Code::V4,
            _ => find_out(),
        }
    }

    #[cold]
    fn find_out() -> Code {
        let code = match (has_v3(), has_v4()) {
            (true, true) if crate::simd::is_gathering_fast() => Code::V4,
            (true, _) => Code::V3,
            (false, _) => Code::Baseline,
        };
        FOUND.store(code as u8, Ordering::Relaxed);
        code
    }

    fn has_v3() -> bool {
        std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("lzcnt")
            && std::arch::is_x86_feature_detected!("movbe")
            && std::arch::is_x86_feature_detected!("popcnt")
    }

    fn has_v4() -> bool {
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
    }
}
