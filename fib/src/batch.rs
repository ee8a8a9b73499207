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
    // SAFETY: `code` says only what the processor can run.
    unsafe {
        v4_by(code(), table, addrs, found, make);
    }
    #[cfg(not(all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
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
    // SAFETY: as above.
    unsafe {
        v6_by(code(), table, addrs, found, make);
    }
    #[cfg(not(all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
    table.lookup_each(addrs, found, make);
}

/// # Safety
/// The processor has what the code is compiled for.
#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
#[inline]
unsafe fn v4_by<T: Copy>(
    code: Code,
    table: &v4::Table,
    addrs: &[Ipv4Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    match code {
        Code::Baseline => table.lookup_each(addrs, found, make),
        // SAFETY: the caller's promise.
        Code::V3 => unsafe { v4_v3(table, addrs, found, make) },
        // SAFETY: the caller's promise.
        Code::V4 => unsafe { table.lookup_lanes(addrs, found, make) },
    }
}

/// # Safety
/// As [`v4_by`].
#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
#[inline]
unsafe fn v6_by<T: Copy>(
    code: Code,
    table: &v6::Table,
    addrs: &[Ipv6Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    match code {
        Code::Baseline => table.lookup_each(addrs, found, make),
        // SAFETY: the caller's promise.
        Code::V3 => unsafe { v6_v3(table, addrs, found, make) },
        // SAFETY: the caller's promise.
        Code::V4 => unsafe { table.lookup_lanes(addrs, found, make) },
    }
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

    #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
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
        let code = match newest() {
            Code::V4 if !crate::simd::is_gathering_fast() => Code::V3,
            code => code,
        };
        FOUND.store(code as u8, Ordering::Relaxed);
        code
    }

    /// The last of them that this processor can run.
    pub(super) fn newest() -> Code {
        match (has_v3(), has_v4()) {
            (true, true) => Code::V4,
            (true, false) => Code::V3,
            (false, _) => Code::Baseline,
        }
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

#[cfg(all(test, target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::fib::{Fib, fib_with};
    use crate::group::Group;
    use crate::options::{Options, V4Form};
    use crate::prefix::IpPrefix;
    use crate::writer::Writer;

    /// Whichever code runs here by itself, every one that can finds what single lookups find.
    #[test]
    fn every_code_answers_as_single_lookups_do() {
        for (v4, groups) in
            [(V4Form::Direct, 300), (V4Form::Compact, 300), (V4Form::Direct, 0x1_0000 + 300)]
        {
            let (mut writer, _) = fib_with(1, Options { v4 });
            let addrs = fill(&mut writer, groups);
            assert_eq!(writer.v4_slot_bits(), if groups > 0x7fff { 32 } else { 16 });
            for code in [Code::Baseline, Code::V3, Code::V4] {
                if code <= choice::newest() {
                    check(&writer, code, &addrs);
                }
            }
        }
    }

    /// Routes of all lengths, crowded and lone, to groups of which the last ones have the highest
    /// numbers; and addresses in and around them.
    fn fill(writer: &mut Writer, groups: usize) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
        let groups: Vec<GroupId> =
            (0..groups).filter_map(|_| writer.add_group(&Group::Local).ok()).collect();
        let mut random = 7_u128;
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for nth in 0..6000_u32 {
            random = random.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
            let bits = random ^ random >> 64;
            let crowded = [u128::MAX, u128::MAX >> 16, u128::MAX >> 28][nth as usize % 3];
            let addr = Ipv6Addr::from_bits(0x2001_0db8 << 96 & !crowded | bits & crowded);
            let old = Ipv4Addr::from_bits(
                0x0a00_0000 & !(crowded >> 96) as u32 | bits as u32 & (crowded >> 96) as u32,
            );
            let group = groups[groups.len() - 1 - (bits >> 100) as usize % 299];
            let (len4, len6) = ((bits >> 40) as u8 % 33, (bits >> 50) as u8 % 129);
            for prefix in [
                IpPrefix::new(trim(old.into(), len4), len4),
                IpPrefix::new(trim(addr.into(), len6), len6),
            ] {
                let Ok(prefix) = prefix else { panic!("{prefix:?}") };
                assert!(writer.insert(prefix, group).is_ok());
            }
            v4.extend([old, Ipv4Addr::from_bits(old.to_bits() ^ 1 << (nth % 32))]);
            v6.extend([addr, Ipv6Addr::from_bits(addr.to_bits() ^ 1 << (nth % 128))]);
        }
        (v4, v6)
    }

    fn trim(addr: core::net::IpAddr, len: u8) -> core::net::IpAddr {
        use crate::addr::Addr;
        match addr {
            core::net::IpAddr::V4(addr) => addr.truncated(len).into(),
            core::net::IpAddr::V6(addr) => addr.truncated(len).into(),
        }
    }

    fn check(fib: &Fib, code: Code, (addrs4, addrs6): &(Vec<Ipv4Addr>, Vec<Ipv6Addr>)) {
        for batch in [1, 15, 16, 32, 33, 127, 128, 300] {
            let mut found = alloc::vec![GroupId(0); batch];
            for addrs in addrs4.chunks(batch) {
                // SAFETY: the processor can run it, says whoever calls.
                unsafe { v4_by(code, &fib.v4, addrs, &mut found[..addrs.len()], |group| group) };
                let want = addrs.iter().map(|&addr| fib.lookup(addr.into()));
                assert!(want.eq(found[..addrs.len()].iter().copied()), "{code:?}, {batch}");
            }
            for addrs in addrs6.chunks(batch) {
                // SAFETY: as above.
                unsafe { v6_by(code, &fib.v6, addrs, &mut found[..addrs.len()], |group| group) };
                let want = addrs.iter().map(|&addr| fib.lookup(addr.into()));
                assert!(want.eq(found[..addrs.len()].iter().copied()), "{code:?}, {batch}");
            }
        }
    }
}
