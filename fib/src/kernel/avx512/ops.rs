//! Several loads by few instructions (AVX-512): sixteen by one, or each into its part of a register.
//!
//! `unsafe` is here for those instructions, and for reading the bytes of addresses, and for nothing
//! else. The callers' own steps are arithmetic on registers, which is safe.
#![allow(unsafe_code)]

use core::arch::asm;
use core::arch::x86_64::{
    __m128i, __m512i, _mm_cvtsi32_si128, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_setr_epi8,
    _mm_setzero_si128, _mm_shuffle_epi8, _mm_srl_epi32, _mm512_and_si512, _mm512_castsi128_si512,
    _mm512_castsi512_si128, _mm512_extracti32x4_epi32, _mm512_inserti32x4, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_srlv_epi32,
};
use core::net::{Ipv4Addr, Ipv6Addr};

pub(super) use core::arch::x86_64 as arch;

use crate::memory::prefetch_far;
use crate::sync::{AtomicU16, AtomicU32};
use crate::v6::Narrow;

/// Lanes of a register.
pub(super) const LANES: usize = 16;

/// Every index modulo the length, which is a power of two.
#[inline]
#[target_feature(enable = "avx512f")]
fn within(table: &[AtomicU32], index: __m512i) -> __m512i {
    assert!(table.len().is_power_of_two() && table.len() <= 1 << 31);
    _mm512_and_si512(index, _mm512_set1_epi32((table.len() as u32 - 1).cast_signed()))
}

/// The elements of these indices, modulo the length, which is a power of two.
///
/// Each load is what an acquire load is on this architecture: loads of one element are atomic,
/// since they are aligned, and later loads are not done before (Intel's manual, VPGATHERDD: "memory
/// ordering with other instructions follows the Intel-64 memory-ordering model").
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn gather_all(table: &[AtomicU32], index: __m512i) -> __m512i {
    let index = within(table, index);
    let mut found = _mm512_setzero_si512();
    // SAFETY: every index is below the length, by the line before, so each of the sixteen loads reads
    // an element of the slice. That they race with stores of other threads is why this is no
    // intrinsic: the language sees loads by an instruction of the machine, as by atomics. The mask is
    // made here, of a number: compilers make it of whatever
    // another mask register holds, and then this waits for what that was computed from, which may
    // be what the gather before it loads. (Zen 4: half the speed.)
    unsafe {
        asm!(
            "kmovw {mask}, {ones:e}",
            "vpgatherdd {found}{{{mask}}}, [{base} + 4*{index}]",
            found = inout(zmm_reg) found,
            mask = out(kreg) _,
            ones = in(reg) u32::MAX,
            index = in(zmm_reg) index,
            base = in(reg) table.as_ptr(),
            options(nostack, readonly, preserves_flags),
        );
    }
    found
}

/// The elements of these indices, modulo the length, by single loads. Some processors do sixteen of
/// these faster than a gather.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
pub(super) fn load_all(table: &[AtomicU32], index: __m512i) -> __m512i {
    let index = within(table, index);
    let low = _mm512_inserti32x4::<1>(
        _mm512_castsi128_si512(load_four(table, _mm512_castsi512_si128(index))),
        load_four(table, _mm512_extracti32x4_epi32::<1>(index)),
    );
    let low = _mm512_inserti32x4::<2>(low, load_four(table, _mm512_extracti32x4_epi32::<2>(index)));
    _mm512_inserti32x4::<3>(low, load_four(table, _mm512_extracti32x4_epi32::<3>(index)))
}

/// Four elements, each index of which is below the length.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn load_four(table: &[AtomicU32], index: __m128i) -> __m128i {
    let a = _mm_cvtsi128_si64(index).cast_unsigned();
    let b = _mm_extract_epi64::<1>(index).cast_unsigned();
    let mut found: __m128i;
    // SAFETY: an element of the slice each, says the caller. Why these are no loads of the language:
    // see `gather_all`.
    unsafe {
        asm!(
            "vmovd {found}, dword ptr [{base} + 4*{first}]",
            "vpinsrd {found}, {found}, dword ptr [{base} + 4*{second}], 1",
            "vpinsrd {found}, {found}, dword ptr [{base} + 4*{third}], 2",
            "vpinsrd {found}, {found}, dword ptr [{base} + 4*{fourth}], 3",
            found = out(xmm_reg) found,
            base = in(reg) table.as_ptr(),
            first = in(reg) a & 0xffff_ffff,
            second = in(reg) a >> 32,
            third = in(reg) b & 0xffff_ffff,
            fourth = in(reg) b >> 32,
            options(nostack, readonly, preserves_flags),
        );
    }
    found
}

/// Gathers elements of half the size, each in the lower half of its lane.
///
/// Two neighbours are loaded together, so that every load is aligned, and one is shifted out.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn gather_halves(table: &[AtomicU16], index: __m512i) -> __m512i {
    #[allow(clippy::cast_ptr_alignment, reason = "it is looked at in the next line")]
    let pairs = table.as_ptr().cast::<AtomicU32>();
    assert!(pairs.is_aligned() && table.len().is_multiple_of(2));
    // SAFETY: the slice's own memory, as half as many elements of twice the size, aligned by the
    // line before. They are read by that one instruction alone, never as the language's
    // atomics, of which those of another size must not race with these.
    let pairs = unsafe { core::slice::from_raw_parts(pairs, table.len() / 2) };
    let found = gather_all(pairs, _mm512_srli_epi32::<1>(index));
    let shift = _mm512_and_si512(_mm512_slli_epi32::<4>(index), _mm512_set1_epi32(16));
    _mm512_and_si512(_mm512_srlv_epi32(found, shift), _mm512_set1_epi32(0xffff))
}

/// Sixteen addresses as numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn numbers(addrs: &[Ipv4Addr; LANES]) -> __m512i {
    use core::arch::x86_64::{_mm512_broadcast_i32x4, _mm512_loadu_si512, _mm512_shuffle_epi8};
    const {
        // SAFETY: both are plain bytes of one size. It is run by the compiler.
        let bytes: [u8; 4] = unsafe { core::mem::transmute(Ipv4Addr::new(1, 2, 3, 4)) };
        assert!(matches!(bytes, [1, 2, 3, 4]), "an address is its bytes in the network's order");
    }
    // SAFETY: reads the 64 bytes of the array; any alignment will do.
    let bytes = unsafe { _mm512_loadu_si512(addrs.as_ptr().cast()) };
    let order = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(order))
}

/// The bytes of four addresses, one after the other.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn bytes_of_four(addrs: &[Ipv6Addr; 4]) -> __m512i {
    const {
        let addr = Ipv6Addr::new(0x0102, 0x0304, 0x0506, 0x0708, 0x090a, 0x0b0c, 0x0d0e, 0x0f10);
        // SAFETY: both are plain bytes of one size. It is run by the compiler.
        let bytes: [u8; 16] = unsafe { core::mem::transmute(addr) };
        let mut nth = 0;
        while nth < 16 {
            assert!(bytes[nth] == nth as u8 + 1, "an address is its bytes in the network's order");
            nth += 1;
        }
    }
    // SAFETY: reads the 64 bytes of the array; any alignment will do.
    unsafe { core::arch::x86_64::_mm512_loadu_si512(addrs.as_ptr().cast()) }
}

/// The lanes of a register.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn to_array(register: __m512i) -> [u32; LANES] {
    // SAFETY: both are 64 plain bytes.
    unsafe { core::mem::transmute(register) }
}

/// A register with these lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn from_array(lanes: &[u32; LANES]) -> __m512i {
    // SAFETY: both are 64 plain bytes.
    unsafe { core::mem::transmute(*lanes) }
}

/// The answer of a line for the run `key` is in.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,popcnt")]
pub(super) fn find_in_line(line: &Narrow, key: u16) -> u32 {
    line.find_by_mask(key)
}

/// Addresses that [`load_eight`] takes.
pub(super) const EIGHT: usize = 8;

/// The elements whose indices are the first bits of these addresses: log₂ of the table's length,
/// which is a power of two.
///
/// Two instructions for a load, and none to store what is loaded.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn load_eight(table: &[AtomicU16], addrs: &[Ipv4Addr; EIGHT]) -> [u16; EIGHT] {
    let (four, _) = addrs.as_chunks::<4>();
    let [a, b] = indices(table, &four[0]);
    let [c, d] = indices(table, &four[1]);
    let mut found = _mm_setzero_si128();
    // An acquire load each, as in `gather_all`.
    macro_rules! load {
        ($nth:literal, $index:expr) => {
            // SAFETY: `indices` gives only what is below the length, so this reads an element of
            // the slice. Why it is no load of the language: see `gather_all`.
            unsafe {
                asm!(
                    concat!("vpinsrw {found}, {found}, word ptr [{base} + 2*{index}], ", $nth),
                    found = inout(xmm_reg) found,
                    base = in(reg) table.as_ptr(),
                    index = in(reg) $index,
                    options(nostack, readonly, preserves_flags),
                );
            }
        };
    }
    load!(0, a & 0xffff_ffff);
    load!(1, a >> 32);
    load!(2, b & 0xffff_ffff);
    load!(3, b >> 32);
    load!(4, c & 0xffff_ffff);
    load!(5, c >> 32);
    load!(6, d & 0xffff_ffff);
    load!(7, d >> 32);
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute(found) }
}

/// Prefetches the elements that [`load_eight`] loads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn prefetch_eight(table: &[AtomicU16], addrs: &[Ipv4Addr; EIGHT]) {
    for four in addrs.as_chunks::<4>().0 {
        for two in indices(table, four) {
            let place = |index: u64| &table[index as usize % table.len()];
            prefetch_far(place(two & 0xffff_ffff));
            prefetch_far(place(two >> 32));
        }
    }
}

/// The first bits of four addresses, each in half of a number, and each below the table's length.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn indices(table: &[AtomicU16], addrs: &[Ipv4Addr; 4]) -> [u64; 2] {
    assert!(table.len().is_power_of_two() && table.len() <= 1 << 31);
    // SAFETY: both are 16 plain bytes.
    let bytes: __m128i = unsafe { core::mem::transmute(*addrs) };
    let order = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    let shift = _mm_cvtsi32_si128(32 - table.len().trailing_zeros().cast_signed());
    let found = _mm_srl_epi32(_mm_shuffle_epi8(bytes, order), shift);
    [_mm_cvtsi128_si64(found).cast_unsigned(), _mm_extract_epi64::<1>(found).cast_unsigned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[target_feature(enable = "avx512f,avx512bw")]
    fn check() {
        let table: [AtomicU32; 64] = core::array::from_fn(|n| AtomicU32::new(1000 + n as u32));
        let index: [u32; LANES] = core::array::from_fn(|n| 7 * n as u32);
        let register = from_array(&index);
        let all = to_array(gather_all(&table, register));
        assert_eq!(all, index.map(|n| 1000 + n % 64), "beyond the end it begins again");
        let halves: [AtomicU32; 64] =
            core::array::from_fn(|n| AtomicU32::new(((2 * n) | ((2 * n + 1) << 16)) as u32));
        // SAFETY: the array's own memory, seen in halves.
        let halves = unsafe { core::slice::from_raw_parts(halves.as_ptr().cast(), 128) };
        assert_eq!(to_array(gather_halves(halves, register)), index.map(|n| n % 128));
        let addrs = core::array::from_fn(|n| Ipv4Addr::from_bits(0x0102_0304 * n as u32));
        assert_eq!(to_array(numbers(&addrs)), addrs.map(Ipv4Addr::to_bits));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn check_eight() {
        let table: [AtomicU16; 64] = core::array::from_fn(|n| AtomicU16::new(1000 + n as u16));
        let addrs = core::array::from_fn(|n| {
            Ipv4Addr::from_bits(0xf9ab_cdef_u32.wrapping_mul(n as u32 + 1))
        });
        let want = addrs.map(|addr| 1000 + (addr.to_bits() >> 26) as u16);
        assert_eq!(load_eight(&table, &addrs), want);
        let table: [AtomicU16; 1] = [AtomicU16::new(7)];
        assert_eq!(load_eight(&table, &addrs), [7; EIGHT], "the first no bits are zero");
    }

    #[test]
    fn eight_are_loaded_as_one_by_one() {
        if std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor has the instructions, by the line before.
            unsafe { check_eight() };
        }
    }

    #[test]
    fn lanes_are_loaded_as_one_by_one() {
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
        {
            // SAFETY: the processor has the instructions, by the line before.
            unsafe { check() };
        }
    }
}
