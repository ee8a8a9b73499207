//! Counting bits by the instruction for it, which not every x86-64 has, so that compilers use it
//! only when told of the processor.
//!
//! `unsafe` is here for that one instruction, and for nothing else.
#![allow(unsafe_code)]

/// How bits are counted on this processor.
#[derive(Clone, Copy)]
pub(crate) struct Popcount {
    /// Private: it says what the processor can do, and [`Self::detect`] alone sets it.
    has_instruction: bool,
}

impl Popcount {
    pub(crate) fn detect() -> Self {
        Self { has_instruction: has_instruction() }
    }

    /// How many bits are set.
    #[inline]
    pub(crate) fn of(self, bits: u64) -> usize {
        #[cfg(all(target_arch = "x86_64", not(target_feature = "popcnt"), not(miri)))]
        if self.has_instruction {
            let count: u64;
            // SAFETY: the processor has the instruction, as `detect` found out; it reads one
            // register, and writes another and the flags.
            unsafe {
                core::arch::asm!(
                    "popcnt {count}, {bits}",
                    bits = in(reg) bits,
                    count = lateout(reg) count,
                    options(pure, nomem, nostack),
                );
            }
            return count as usize;
        }
        bits.count_ones() as usize
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn has_instruction() -> bool {
    use core::arch::x86_64::__cpuid;
    // Leaf 1 is there on every x86-64.
    __cpuid(1).ecx >> 23 & 1 != 0
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn has_instruction() -> bool {
    false
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_instruction_counts_as_the_compiler_does() {
        let (mut bits, fast) = (1_u64, Popcount::detect());
        for _ in 0..1000 {
            for bits in [bits, bits << 63, bits >> 7, 0, u64::MAX] {
                assert_eq!(fast.of(bits), bits.count_ones() as usize);
                assert_eq!(Popcount { has_instruction: false }.of(bits), fast.of(bits));
            }
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
    }
}
