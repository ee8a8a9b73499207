//! Words of the trie. The first two bits are the kind, and the rest depends on it:
//!
//! ```text
//! 00 group (30)               an answer: 1 + the group, or 0 for none
//! 01 shift (5)  line (25)     a narrow line, for the value shifted
//! 10 shift (5)  base (25)     a table; its slot for a value is base + (value >> shift)
//! 11 0 line (29)              a wide line, for the value
//! 11 1 slot (29)              the next window: its word is in that slot
//! ```
//!
//! A table covers an aligned span of values that need not begin at 0. So `base` is the table's
//! first slot less what the span's first value shifted is, and the sum is taken modulo 2²⁵.
#![forbid(unsafe_code)]

/// A word, taken apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// 1 + the group, or 0.
    Answer(u32),
    Narrow {
        shift: u32,
        line: u32,
    },
    Table {
        shift: u32,
        base: u32,
    },
    Wide {
        line: u32,
    },
    Below {
        slot: u32,
    },
}

/// What the first two bits of a word say.
#[inline]
pub(crate) const fn tag(word: u32) -> u32 {
    word >> TAG_SHIFT
}

/// Takes a word apart.
#[inline]
pub(crate) fn kind(word: u32) -> Kind {
    let shift = shift_of(word);
    match tag(word) {
        ANSWER => Kind::Answer(word),
        NARROW => Kind::Narrow { shift, line: word & INDEX },
        TABLE => Kind::Table { shift, base: word & INDEX },
        _ if word & BELOW != 0 => Kind::Below { slot: word & (BELOW - 1) },
        _ => Kind::Wide { line: word & (BELOW - 1) },
    }
}

/// By how many bits a value is shifted for this table or narrow line.
#[inline]
pub(crate) const fn shift_of(word: u32) -> u32 {
    word >> INDEX_BITS & SHIFTS
}

/// The slot of a value in a table.
#[inline]
pub(crate) const fn slot_of(word: u32, value: u32) -> usize {
    (word.wrapping_add(value >> shift_of(word)) & INDEX) as usize
}

pub(crate) const fn narrow(shift: u32, line: u32) -> u32 {
    NARROW << TAG_SHIFT | shift << INDEX_BITS | line
}

pub(crate) const fn wide(line: u32) -> u32 {
    3 << TAG_SHIFT | line
}

/// A table whose slots from `first` on stand for the values from `start` on, `2^shift` each.
pub(crate) const fn table(shift: u32, first: u32, start: u32) -> u32 {
    TABLE << TAG_SHIFT | shift << INDEX_BITS | first.wrapping_sub(start >> shift) & INDEX
}

pub(crate) const fn below(slot: u32) -> u32 {
    3 << TAG_SHIFT | BELOW | slot
}

/// Whether it is an answer that a narrow line has room for.
#[inline]
pub(crate) const fn fits_narrow(word: u32) -> bool {
    word <= u16::MAX as u32
}

/// Whether it leads to the next window.
#[inline]
pub(crate) const fn is_below(word: u32) -> bool {
    word >= below(0)
}

pub(crate) const ANSWER: u32 = 0;
pub(crate) const NARROW: u32 = 1;
pub(crate) const TABLE: u32 = 2;

/// Bits of a table's or a narrow line's index.
pub(crate) const INDEX_BITS: u32 = 25;
pub(crate) const INDEX: u32 = (1 << INDEX_BITS) - 1;

/// Bits that say by how much to shift.
pub(crate) const SHIFTS: u32 = 31;

/// Where the first two bits begin.
pub(crate) const TAG_SHIFT: u32 = 30;

/// The first two bits.
#[cfg(any(test, all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
pub(crate) const TAGS: u32 = 3 << TAG_SHIFT;

const BELOW: u32 = 1 << 29;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_they_were_made_of() {
        for shift in [0, 1, 16, 31] {
            assert_eq!(kind(narrow(shift, INDEX)), Kind::Narrow { shift, line: INDEX });
            let start = 0xa000_0000;
            let word = table(shift, 8, start);
            assert!(matches!(kind(word), Kind::Table { shift: found, .. } if found == shift));
            assert_eq!(slot_of(word, start), 8);
            assert_eq!(slot_of(word, start | ((1 << shift) - 1)), 8);
            if shift < 28 {
                assert_eq!(slot_of(word, start + (5 << shift)), 13);
            }
        }
        let slot = BELOW - 1;
        assert_eq!(kind(wide(slot)), Kind::Wide { line: slot });
        assert_eq!(kind(below(slot)), Kind::Below { slot });
        assert!(is_below(below(0)) && !is_below(wide(1)) && !is_below(0x3fff_ffff));
        assert_eq!(kind(0x3fff_ffff), Kind::Answer(0x3fff_ffff));
        assert!(fits_narrow(0xffff) && !fits_narrow(0x1_0000) && !fits_narrow(below(0)));
    }
}
