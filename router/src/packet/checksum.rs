//! The Internet checksum: in full (RFC 1071) and incremental (RFC 1624).
#![forbid(unsafe_code)]

use std::net::IpAddr;

/// A running one's complement sum of 16-bit words. It is kept in the host's byte order and
/// converted once at the end: the sum of byte-swapped words is the byte-swapped sum (RFC 1071
/// section 2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sum(u64);

impl Sum {
    /// Nothing summed yet.
    pub const ZERO: Self = Self(0);

    /// The sum of an upper layer's pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1).
    /// `len` is the length of that layer's header and data in bytes.
    pub fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Self {
        Self::ZERO.address(src).address(dst).word32(u32::from(protocol)).word32(len as u32)
    }

    /// Adds bytes. Only the last call may have an odd length, which is padded with a zero byte.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // 2^16 is 1 modulo 2^16 - 1, so wider words have the same sum once folded.
        let (words, rest) = bytes.as_chunks::<4>();
        let sum = words.iter().fold(self.0, |sum, word| sum + u64::from(u32::from_ne_bytes(*word)));
        if rest.is_empty() {
            return Self(sum);
        }
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        Self(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// Adds 32 bits.
    #[inline]
    #[must_use]
    pub const fn word32(self, word: u32) -> Self {
        Self(self.0 + word.to_be() as u64)
    }

    /// The value for the checksum field, provided that the field was summed as zero.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !u16::from_be(self.folded())
    }

    /// Whether the checksum is right, provided that its field was summed too.
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.folded() == 0xffff
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.bytes(&address.octets()),
            IpAddr::V6(address) => self.bytes(&address.octets()),
        }
    }

    #[inline]
    const fn folded(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }
}

/// The checksum of a header after one of its 16-bit words changed from `old` to `new`.
///
/// RFC 1624 equation 3. Equation 4 and RFC 1141 (`HC - ~m - m'`) yield 0xffff where the sum over
/// the whole header gives 0x0000, which some receivers refuse.
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = !checksum as u32 + !old as u32 + new as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// [`update`] for a TTL that goes down by one: the 16-bit word that holds it loses 0x0100, whatever
/// the TTL was.
#[inline]
pub const fn with_less_ttl(checksum: u16) -> u16 {
    let sum = checksum as u32 + 0x0100;
    (sum + (sum >= 0xffff) as u32) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 section 1, one byte at a time.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for (at, byte) in bytes.iter().enumerate() {
            sum += u32::from(*byte) << if at % 2 == 0 { 8 } else { 0 };
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::ZERO.bytes(&bytes).checksum(), !0xddf2);
    }

    #[test]
    fn example_of_rfc_1624() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn one_less_ttl_is_an_update_of_its_word() {
        for checksum in 0..=u16::MAX {
            for old in [0x0211, 0xff06, 0x4000, 0x80ff] {
                assert_eq!(with_less_ttl(checksum), update(checksum, old, old - 0x0100));
            }
        }
    }

    #[test]
    fn largest_sum_folds() {
        let bytes = vec![0xff; 65_535];
        assert_eq!(Sum::ZERO.bytes(&bytes).checksum(), slow(&bytes));
        assert_eq!(Sum(u64::MAX).folded(), 0xffff);
        assert_eq!(Sum(0xffff_fffe_ffff_ffff).folded(), 0xfffe);
    }

    proptest! {
        #[test]
        fn sum_is_that_of_the_slow_way(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::ZERO.bytes(&bytes).checksum(), slow(&bytes));
        }

        #[test]
        fn update_is_a_new_sum(
            mut words in prop::collection::vec(
                prop_oneof![Just(0u16), Just(0xffff), any::<u16>()], 1..10
            ),
            new in prop_oneof![Just(0u16), Just(0xffff), any::<u16>()],
        ) {
            // An IP header always has a word that is not zero; an all-zero sum has two checksums.
            words.push(0x4500);
            let whole = |words: &[u16]| {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
                slow(&bytes)
            };
            let (before, old) = (whole(&words), words[0]);
            words[0] = new;
            prop_assert_eq!(update(before, old, new), whole(&words));
        }
    }
}
