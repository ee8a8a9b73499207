//! Numbers that nobody can guess, from a seed so that a run can be repeated.
#![forbid(unsafe_code)]

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng};

use crate::packet::ipv6::FLOW_LABEL;
use crate::random::Rng;

/// ChaCha20 (RFC 8439) as a generator: who sees some of its numbers, as every target of a check
/// does, cannot compute the others. [`Rng`] would reveal its whole state in one cookie.
#[derive(Debug)]
pub(crate) struct SecretRng(ChaCha20Rng);

impl SecretRng {
    /// The same seed gives the same numbers. They are as secret as the seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut expand = Rng::new(seed);
        let mut key = [0; KEY_LEN];
        for word in key.chunks_exact_mut(4) {
            word.copy_from_slice(&(expand.next_u64() as u32).to_le_bytes());
        }
        Self::of_key(key)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub(crate) fn next_u16(&mut self) -> u16 {
        self.next_u32() as u16
    }

    /// An IPv6 flow label.
    pub(crate) fn next_label(&mut self) -> u32 {
        self.next_u32() & FLOW_LABEL
    }

    fn of_key(key: [u8; KEY_LEN]) -> Self {
        Self(ChaCha20Rng::from_seed(key))
    }
}

const KEY_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_published_key_stream() {
        // RFC 8439, appendix A.1, test vectors 1 and 2: the key is zero.
        let mut rng = SecretRng::of_key([0; KEY_LEN]);
        let mut bytes: Vec<u8> = Vec::new();
        (0..32).for_each(|_| bytes.extend(rng.next_u32().to_le_bytes()));
        assert_eq!(bytes[..8], [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
        assert_eq!(bytes[56..64], [0xc3, 0x87, 0xb6, 0x69, 0xb2, 0xee, 0x65, 0x86]);
        assert_eq!(bytes[64..72], [0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a]);
    }

    #[test]
    fn a_seed_decides_all_and_seeds_differ() {
        let numbers = |seed| {
            let mut rng = SecretRng::new(seed);
            (0..40).map(|_| rng.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert!(numbers(7).iter().zip(numbers(8)).all(|(one, other)| *one != other));
    }
}
