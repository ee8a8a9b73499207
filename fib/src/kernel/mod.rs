//! Batch lookups: kernels for what processors have, and the choice among them.
//!
//! | kernel | family | how |
//! |---|---|---|
//! | `portable` | both | loads one by one, as many under way as the processor looks ahead |
//! | `portable-ahead` | IPv4 | the same, after all slots of the batch were prefetched |
//! | `avx512-gather` | IPv4 | sixteen slots by one instruction: best where they come from a near cache |
//! | `avx512-ahead` | IPv4 | prefetched, then one by one into registers: best where they come from far |
//! | `avx512` | IPv6 | each step for sixteen addresses at once |
//!
//! `unsafe` is here for calling code that needs instructions, after it was seen that the processor
//! has them.
#![allow(unsafe_code)]

#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod avx512;
mod clock;
#[cfg(all(test, not(loom)))]
mod model;
mod v4_portable;
mod v6_portable;

use core::net::{Ipv4Addr, Ipv6Addr};

pub(crate) use self::clock::Trials;
use crate::group::GroupId;
use crate::{v4, v6};

/// A way to look a batch up. There is a value of those alone that the processor can run: see
/// [`kernels_v4`] and [`kernels_v6`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(all(target_arch = "x86_64", feature = "std", not(miri), not(loom))),
    allow(dead_code, reason = "which processor it is can be asked by `std` alone")
)]
pub(crate) enum Kernel {
    /// AVX-512, by single loads. For IPv6.
    Avx512,
    /// AVX-512, by single loads after all slots were prefetched. For IPv4.
    Avx512Ahead,
    /// AVX-512, sixteen loads by one instruction. For IPv4.
    Avx512Gather,
    /// For any processor.
    Portable,
    /// As this, after all slots were prefetched. For IPv4.
    PortableAhead,
}

impl Kernel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx512Ahead => "avx512-ahead",
            Self::Avx512Gather => "avx512-gather",
            Self::Portable => "portable",
            Self::PortableAhead => "portable-ahead",
        }
    }
}

/// The kernels worth a trial for IPv4 on this processor; then those for which there is no reason but
/// that of a caller.
pub(crate) fn kernels_v4() -> (&'static [Kernel], &'static [Kernel]) {
    const PORTABLE: &[Kernel] = &[Kernel::Portable, Kernel::PortableAhead];
    match (has_avx512(), HAS_CLOCK) {
        (true, _) => (&[Kernel::Avx512Gather, Kernel::Avx512Ahead], PORTABLE),
        (false, true) => (PORTABLE, &[]),
        (false, false) => (&[Kernel::Portable], &[]),
    }
}

/// The same for IPv6.
pub(crate) fn kernels_v6() -> (&'static [Kernel], &'static [Kernel]) {
    const PORTABLE: &[Kernel] = &[Kernel::Portable];
    if has_avx512() { (&[Kernel::Avx512], PORTABLE) } else { (PORTABLE, &[]) }
}

/// Looks up in IPv4.
#[inline]
pub(crate) fn v4<T: Copy>(
    kernel: Kernel,
    table: &v4::Table,
    addrs: &[Ipv4Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    match kernel {
        // SAFETY: there is a value of this kernel only where the processor can run it.
        #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
        Kernel::Avx512Ahead => unsafe { avx512::v4_ahead::lookup(table, addrs, found, make) },
        // SAFETY: as above.
        #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
        Kernel::Avx512Gather => unsafe { avx512::v4_gather::lookup(table, addrs, found, make) },
        Kernel::PortableAhead => table.lookup_each::<true, T>(addrs, found, make),
        _ => table.lookup_each::<false, T>(addrs, found, make),
    }
}

/// Looks up in IPv6.
#[inline]
pub(crate) fn v6<T: Copy>(
    kernel: Kernel,
    table: &v6::Table,
    addrs: &[Ipv6Addr],
    found: &mut [T],
    make: impl Fn(GroupId) -> T,
) {
    match kernel {
        // SAFETY: there is a value of this kernel only where the processor can run it.
        #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
        Kernel::Avx512 => unsafe { avx512::v6::lookup(table, addrs, found, make) },
        _ => table.lookup_each(addrs, found, make),
    }
}

/// Whether the processor can run the AVX-512 kernels.
fn has_avx512() -> bool {
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    return std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("lzcnt")
        && std::arch::is_x86_feature_detected!("movbe")
        && std::arch::is_x86_feature_detected!("popcnt");
    #[cfg(not(all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
    false
}

/// Whether [`crate::memory::settled_clock`] runs.
const HAS_CLOCK: bool = cfg!(all(target_arch = "x86_64", not(miri), not(loom)));

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::fib::{Fib, fib};
    use crate::group::Group;
    use crate::prefix::IpPrefix;
    use crate::writer::Writer;

    /// Whichever kernel this processor chooses, each that it can run finds what single lookups find.
    #[test]
    fn every_kernel_answers_as_single_lookups_do() {
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

    fn check_all(fib: &Fib, (v4s, v6s): &(Vec<Ipv4Addr>, Vec<Ipv6Addr>)) {
        // Those of other processors, by arrays for registers.
        check(fib, "model of ahead", v4s, |addrs, found| model::v4_ahead(&fib.v4, addrs, found));
        check(fib, "model of gather", v4s, |addrs, found| model::v4_gather(&fib.v4, addrs, found));
        check(fib, "model of IPv6", v6s, |addrs, found| model::v6(&fib.v6, addrs, found));
        let (tried, others) = kernels_v4();
        for kernel in tried.iter().chain(others) {
            check(fib, kernel.name(), v4s, |addrs, found| {
                v4(*kernel, &fib.v4, addrs, found, |group| group);
            });
        }
        let (tried, others) = kernels_v6();
        for kernel in tried.iter().chain(others) {
            check(fib, kernel.name(), v6s, |addrs, found| {
                v6(*kernel, &fib.v6, addrs, found, |group| group);
            });
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

    /// A batch of any size has the answers of single lookups.
    fn check<A: Copy + Into<core::net::IpAddr>>(
        fib: &Fib,
        kernel: &str,
        addrs: &[A],
        look_up: impl Fn(&[A], &mut [GroupId]),
    ) {
        for batch in BATCHES {
            let mut found = alloc::vec![GroupId(0); batch];
            for addrs in addrs.chunks(batch) {
                look_up(addrs, &mut found[..addrs.len()]);
                let want = addrs.iter().map(|&addr| fib.lookup(addr.into()));
                assert!(want.eq(found[..addrs.len()].iter().copied()), "{kernel}, {batch}");
            }
        }
    }

    const BATCHES: [usize; 8] = [1, 15, 16, 32, 33, 127, 128, 300];
}
