//! Batch lookups, compiled for what processors have.
//!
//! `unsafe` is here for calling code that needs instructions, after it was seen that the processor
//! has them.
#![allow(unsafe_code)]

#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod avx512;
mod clock;
#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod v4_ahead;
#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod v4_gather;
mod v4_portable;
#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod v6_avx512;
mod v6_portable;

use core::net::{Ipv4Addr, Ipv6Addr};

pub(crate) use self::clock::Trials;
use crate::group::GroupId;
use crate::{v4, v6};

/// A way to look a batch up. There is a value of those alone that the processor can run: see
/// [`codes_v4`] and [`codes_v6`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(all(target_arch = "x86_64", feature = "std", not(miri), not(loom))),
    allow(dead_code, reason = "which processor it is can be asked by `std` alone")
)]
pub(crate) enum Code {
    /// For any processor.
    Baseline,
    /// As this, after all that will be needed first was fetched.
    BaselineFar,
    /// Haswell and later, Zen and later.
    V3,
    /// As this, after all that will be needed first was fetched.
    V3Far,
    /// AVX-512: sixteen loads by one instruction. Not faster on every processor that has it.
    V4,
    /// AVX-512 with single loads; in IPv4 after all that will be needed first was fetched.
    V4Single,
}

impl Code {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::BaselineFar => "baseline-far",
            Self::V3 => "x86-64-v3",
            Self::V3Far => "x86-64-v3-far",
            Self::V4 => "x86-64-v4",
            Self::V4Single => "x86-64-v4-single",
        }
    }
}

/// The codes worth a trial for IPv4 on this processor.
pub(crate) fn codes_v4() -> &'static [Code] {
    match newest() {
        Code::V4 => &[Code::V4, Code::V3, Code::V4Single],
        Code::V3 => &[Code::V3, Code::V3Far],
        _ if HAS_CLOCK => &[Code::Baseline, Code::BaselineFar],
        _ => &[Code::Baseline],
    }
}

/// The same for IPv6.
pub(crate) fn codes_v6() -> &'static [Code] {
    match newest() {
        Code::V4 => &[Code::V4, Code::V3, Code::V4Single],
        Code::V3 => &[Code::V3],
        _ => &[Code::Baseline],
    }
}

/// Looks up in IPv4.
#[inline]
pub(crate) fn v4<T: Copy>(
    code: Code,
    table: &v4::Table,
    addrs: &[Ipv4Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    match code {
        Code::BaselineFar => v4_baseline::<true, T>(table, addrs, found, make),
        // SAFETY: who has such a code has such a processor.
        #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
        Code::V3 => unsafe { v4_v3::<false, T>(table, addrs, found, make) },
        // SAFETY: as above.
        #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
        Code::V3Far => unsafe { v4_v3::<true, T>(table, addrs, found, make) },
        // SAFETY: as above.
        #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
        Code::V4 => unsafe { table.lookup_lanes(addrs, found, make) },
        // SAFETY: as above.
        #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
        Code::V4Single => unsafe { table.lookup_far(addrs, found, make) },
        _ => v4_baseline::<false, T>(table, addrs, found, make),
    }
}

/// Not a part of whoever calls, as the others cannot be: what surrounds a small batch is to be small.
#[inline(never)]
fn v4_baseline<const FAR: bool, T: Copy>(
    table: &v4::Table,
    addrs: &[Ipv4Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    table.lookup_each::<FAR, T>(addrs, found, make);
}

/// Looks up in IPv6.
#[inline]
pub(crate) fn v6<T: Copy>(
    code: Code,
    table: &v6::Table,
    addrs: &[Ipv6Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    match code {
        // SAFETY: as above.
        #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
        Code::V3 | Code::V3Far => unsafe { v6_v3(table, addrs, found, make) },
        // SAFETY: as above.
        #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
        Code::V4 => unsafe { table.lookup_lanes::<true, T>(addrs, found, make) },
        // SAFETY: as above.
        #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
        Code::V4Single => unsafe { table.lookup_lanes::<false, T>(addrs, found, make) },
        _ => v6_baseline(table, addrs, found, make),
    }
}

#[inline(never)]
fn v6_baseline<T: Copy>(
    table: &v6::Table,
    addrs: &[Ipv6Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    table.lookup_each(addrs, found, make);
}

#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn v4_v3<const FAR: bool, T: Copy>(
    table: &v4::Table,
    addrs: &[Ipv4Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    table.lookup_each::<FAR, T>(addrs, found, make);
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

/// The last of [`Code`] that needs no more than this processor has, of those that fetch nothing.
fn newest() -> Code {
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    {
        let has_v3 = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("lzcnt")
            && std::arch::is_x86_feature_detected!("movbe")
            && std::arch::is_x86_feature_detected!("popcnt");
        let has_v4 = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl");
        match (has_v3, has_v4) {
            (true, true) => Code::V4,
            (true, false) => Code::V3,
            (false, _) => Code::Baseline,
        }
    }
    #[cfg(not(all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
    Code::Baseline
}

/// Whether [`crate::memory::settled_clock`] runs.
const HAS_CLOCK: bool = cfg!(all(target_arch = "x86_64", not(miri), not(loom)));

#[cfg(all(test, target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::fib::{Fib, fib};
    use crate::group::Group;
    use crate::prefix::IpPrefix;
    use crate::writer::Writer;

    /// Whichever code runs here by itself, every one that can finds what single lookups find.
    #[test]
    fn every_code_answers_as_single_lookups_do() {
        for groups in [300, 0x1_0000 + 300] {
            let (mut writer, _) = fib(1);
            let addrs = fill(&mut writer, groups);
            assert_eq!(writer.v4_slot_bits(), if groups > 0x7fff { 32 } else { 16 });
            check_all(&writer, &addrs);
            // With nothing short, and with a default route alone: then one word stands for all.
            let is_short = |prefix: &IpPrefix| prefix.len() < 8;
            let short: Vec<_> = writer.iter().filter(|(prefix, _)| is_short(prefix)).collect();
            assert!(short.len() > 10);
            for &(prefix, _) in &short {
                assert!(writer.remove(prefix).is_ok());
            }
            check_all(&writer, &addrs);
            for prefix in ["0.0.0.0/0", "::/0"] {
                let Ok(prefix) = prefix.parse() else { panic!("{prefix}") };
                assert!(writer.insert(prefix, short[0].1).is_ok());
            }
            check_all(&writer, &addrs);
        }
    }

    fn check_all(fib: &Fib, (v4, v6): &(Vec<Ipv4Addr>, Vec<Ipv6Addr>)) {
        for code in [Code::Baseline, Code::BaselineFar].iter().chain(codes_v4()) {
            check_v4(fib, *code, v4);
        }
        for code in [Code::Baseline].iter().chain(codes_v6()) {
            check_v6(fib, *code, v6);
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

    fn check_v4(fib: &Fib, code: Code, addrs: &[Ipv4Addr]) {
        for batch in BATCHES {
            let mut found = alloc::vec![GroupId(0); batch];
            for addrs in addrs.chunks(batch) {
                v4(code, &fib.v4, addrs, &mut found[..addrs.len()], |group| group);
                let want = addrs.iter().map(|&addr| fib.lookup(addr.into()));
                assert!(want.eq(found[..addrs.len()].iter().copied()), "{code:?}, {batch}");
            }
        }
    }

    fn check_v6(fib: &Fib, code: Code, addrs: &[Ipv6Addr]) {
        for batch in BATCHES {
            let mut found = alloc::vec![GroupId(0); batch];
            for addrs in addrs.chunks(batch) {
                v6(code, &fib.v6, addrs, &mut found[..addrs.len()], |group| group);
                let want = addrs.iter().map(|&addr| fib.lookup(addr.into()));
                assert!(want.eq(found[..addrs.len()].iter().copied()), "{code:?}, {batch}");
            }
        }
    }

    const BATCHES: [usize; 8] = [1, 15, 16, 32, 33, 127, 128, 300];
}
