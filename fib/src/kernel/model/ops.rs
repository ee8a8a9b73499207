//! What the kernels are made of, on arrays.

use core::net::{Ipv4Addr, Ipv6Addr};

use self::arch::__m512i;
use crate::sync::{AtomicU16, AtomicU32, Ordering};
use crate::v6::Narrow;

pub(super) const LANES: usize = 16;
pub(super) const EIGHT: usize = 8;

/// The instructions that the kernels use by name.
pub(super) mod arch {
    use core::array::from_fn;

    pub(in super::super) type __m512i = [u32; 16];
    pub(in super::super) type __m128i = [u8; 16];
    pub(in super::super) type __mmask16 = u16;

    fn mask_of(is_set: impl Fn(usize) -> bool) -> __mmask16 {
        (0..16).fold(0, |mask, lane| mask | u16::from(is_set(lane)) << lane)
    }

    fn bytes(lanes: __m512i) -> [u8; 64] {
        from_fn(|at| lanes[at / 4].to_le_bytes()[at % 4])
    }

    fn lanes(bytes: &[u8; 64]) -> __m512i {
        from_fn(|lane| u32::from_le_bytes(from_fn(|at| bytes[4 * lane + at])))
    }

    /// Of each 128 bits, these of the lanes of one and then of the other.
    fn unpack(a: __m512i, b: __m512i, order: [usize; 4]) -> __m512i {
        from_fn(|lane| {
            let (quarter, from) = (lane / 4 * 4, order[lane % 4]);
            if from < 4 { a[quarter + from] } else { b[quarter + from - 4] }
        })
    }

    pub(in super::super) fn _mm512_set1_epi32(a: i32) -> __m512i {
        [a.cast_unsigned(); 16]
    }
    pub(in super::super) fn _mm512_setzero_si512() -> __m512i {
        [0; 16]
    }
    pub(in super::super) fn _mm512_add_epi32(a: __m512i, b: __m512i) -> __m512i {
        from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }
    pub(in super::super) fn _mm512_and_si512(a: __m512i, b: __m512i) -> __m512i {
        from_fn(|lane| a[lane] & b[lane])
    }
    pub(in super::super) fn _mm512_slli_epi32<const N: u32>(a: __m512i) -> __m512i {
        a.map(|lane| lane.checked_shl(N).unwrap_or(0))
    }
    pub(in super::super) fn _mm512_srli_epi32<const N: u32>(a: __m512i) -> __m512i {
        a.map(|lane| lane.checked_shr(N).unwrap_or(0))
    }
    pub(in super::super) fn _mm512_srlv_epi32(a: __m512i, count: __m512i) -> __m512i {
        from_fn(|lane| a[lane].checked_shr(count[lane]).unwrap_or(0))
    }
    pub(in super::super) fn _mm512_mask_mov_epi32(
        src: __m512i,
        mask: __mmask16,
        a: __m512i,
    ) -> __m512i {
        from_fn(|lane| if mask >> lane & 1 != 0 { a[lane] } else { src[lane] })
    }
    pub(in super::super) fn _mm512_maskz_mov_epi32(mask: __mmask16, a: __m512i) -> __m512i {
        _mm512_mask_mov_epi32([0; 16], mask, a)
    }
    pub(in super::super) fn _mm512_cmpeq_epi32_mask(a: __m512i, b: __m512i) -> __mmask16 {
        mask_of(|lane| a[lane] == b[lane])
    }
    pub(in super::super) fn _mm512_cmpgt_epu32_mask(a: __m512i, b: __m512i) -> __mmask16 {
        mask_of(|lane| a[lane] > b[lane])
    }
    pub(in super::super) fn _mm512_test_epi32_mask(a: __m512i, b: __m512i) -> __mmask16 {
        mask_of(|lane| a[lane] & b[lane] != 0)
    }
    pub(in super::super) fn _mm512_testn_epi32_mask(a: __m512i, b: __m512i) -> __mmask16 {
        mask_of(|lane| a[lane] & b[lane] == 0)
    }
    pub(in super::super) fn _mm512_permutexvar_epi32(index: __m512i, a: __m512i) -> __m512i {
        from_fn(|lane| a[index[lane] as usize % 16])
    }
    pub(in super::super) fn _mm512_unpacklo_epi32(a: __m512i, b: __m512i) -> __m512i {
        unpack(a, b, [0, 4, 1, 5])
    }
    pub(in super::super) fn _mm512_unpacklo_epi64(a: __m512i, b: __m512i) -> __m512i {
        unpack(a, b, [0, 1, 4, 5])
    }
    pub(in super::super) fn _mm512_unpackhi_epi64(a: __m512i, b: __m512i) -> __m512i {
        unpack(a, b, [2, 3, 6, 7])
    }
    pub(in super::super) fn _mm512_broadcast_i32x4(a: __m128i) -> __m512i {
        lanes(&from_fn(|at| a[at % 16]))
    }
    pub(in super::super) fn _mm512_shuffle_epi8(a: __m512i, order: __m512i) -> __m512i {
        let (a, order) = (bytes(a), bytes(order));
        lanes(&from_fn(|at| match order[at] {
            0x80.. => 0,
            from => a[at / 16 * 16 + usize::from(from % 16)],
        }))
    }
    #[allow(clippy::too_many_arguments, reason = "as the instruction has")]
    #[rustfmt::skip]
    pub(in super::super) fn _mm_setr_epi8(
        a: i8, b: i8, c: i8, d: i8, e: i8, f: i8, g: i8, h: i8,
        i: i8, j: i8, k: i8, l: i8, m: i8, n: i8, o: i8, p: i8,
    ) -> __m128i {
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p].map(i8::cast_unsigned)
    }
    #[allow(clippy::too_many_arguments, reason = "as the instruction has")]
    #[rustfmt::skip]
    pub(in super::super) fn _mm512_setr_epi32(
        a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32, h: i32,
        i: i32, j: i32, k: i32, l: i32, m: i32, n: i32, o: i32, p: i32,
    ) -> __m512i {
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p].map(i32::cast_unsigned)
    }
}

pub(super) fn gather_all(table: &[AtomicU32], index: __m512i) -> __m512i {
    index.map(|index| table[index as usize % table.len()].load(Ordering::Acquire))
}

pub(super) fn load_all(table: &[AtomicU32], index: __m512i) -> __m512i {
    gather_all(table, index)
}

pub(super) fn gather_halves(table: &[AtomicU16], index: __m512i) -> __m512i {
    index.map(|index| table[index as usize % table.len()].load(Ordering::Acquire).into())
}

pub(super) fn numbers(addrs: &[Ipv4Addr; LANES]) -> __m512i {
    addrs.map(Ipv4Addr::to_bits)
}

pub(super) fn bytes_of_four(addrs: &[Ipv6Addr; 4]) -> __m512i {
    core::array::from_fn(|lane| {
        let octets = addrs[lane / 4].octets();
        u32::from_le_bytes(core::array::from_fn(|at| octets[lane % 4 * 4 + at]))
    })
}

pub(super) fn to_array(register: __m512i) -> [u32; LANES] {
    register
}

pub(super) fn from_array(lanes: &[u32; LANES]) -> __m512i {
    *lanes
}

pub(super) fn find_in_line(line: &Narrow, key: u16) -> u32 {
    line.find(key)
}

pub(super) fn load_eight(table: &[AtomicU16], addrs: &[Ipv4Addr; EIGHT]) -> [u16; EIGHT] {
    let bits = table.len().trailing_zeros();
    addrs.map(|addr| {
        let index = u64::from(addr.to_bits()) >> (32 - bits);
        table[index as usize].load(Ordering::Acquire)
    })
}

pub(super) fn prefetch_eight(_: &[AtomicU16], _: &[Ipv4Addr; EIGHT]) {}
