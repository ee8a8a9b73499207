//! Numbers that nobody can guess, from a seed so that a run can be repeated.
#![forbid(unsafe_code)]

use super::Rng;

/// ChaCha20 (RFC 8439) as a generator: who sees some of its numbers, as every target of a check
/// does, cannot compute the others. [`Rng`] would reveal its whole state in one cookie.
#[derive(Clone, Debug)]
pub(crate) struct SecretRng {
    /// Constants, key, counter, nonce.
    state: [u32; WORDS],
    block: [u32; WORDS],
    /// Words of the block that were taken.
    taken: usize,
}

impl SecretRng {
    /// The same seed gives the same numbers. They are as secret as the seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut expand = Rng::new(seed);
        let mut key = [0; KEY_WORDS];
        key.fill_with(|| expand.next_u64() as u32);
        Self::of_key(key)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        if self.taken == WORDS {
            self.refill();
        }
        let word = self.block[self.taken];
        self.taken += 1;
        word
    }

    pub(crate) fn next_u16(&mut self) -> u16 {
        self.next_u32() as u16
    }

    fn of_key(key: [u32; KEY_WORDS]) -> Self {
        let mut state = [0; WORDS];
        state[..4].copy_from_slice(&CONSTANTS);
        state[4..COUNTER].copy_from_slice(&key);
        Self { state, block: [0; WORDS], taken: WORDS }
    }

    fn refill(&mut self) {
        let mut block = self.state;
        for _ in 0..DOUBLE_ROUNDS {
            // The columns of the block, then its diagonals. Constant indices take a third of the
            // time of a table of them.
            quarter_round::<0, 4, 8, 12>(&mut block);
            quarter_round::<1, 5, 9, 13>(&mut block);
            quarter_round::<2, 6, 10, 14>(&mut block);
            quarter_round::<3, 7, 11, 15>(&mut block);
            quarter_round::<0, 5, 10, 15>(&mut block);
            quarter_round::<1, 6, 11, 12>(&mut block);
            quarter_round::<2, 7, 8, 13>(&mut block);
            quarter_round::<3, 4, 9, 14>(&mut block);
        }
        for (word, start) in block.iter_mut().zip(self.state) {
            *word = word.wrapping_add(start);
        }
        self.block = block;
        self.taken = 0;
        // 256 GB until the counter begins again, and then with another nonce.
        self.state[COUNTER] = self.state[COUNTER].wrapping_add(1);
        if self.state[COUNTER] == 0 {
            self.state[COUNTER + 1] = self.state[COUNTER + 1].wrapping_add(1);
        }
    }
}

#[inline]
fn quarter_round<const A: usize, const B: usize, const C: usize, const D: usize>(
    block: &mut [u32; WORDS],
) {
    block[A] = block[A].wrapping_add(block[B]);
    block[D] = (block[D] ^ block[A]).rotate_left(16);
    block[C] = block[C].wrapping_add(block[D]);
    block[B] = (block[B] ^ block[C]).rotate_left(12);
    block[A] = block[A].wrapping_add(block[B]);
    block[D] = (block[D] ^ block[A]).rotate_left(8);
    block[C] = block[C].wrapping_add(block[D]);
    block[B] = (block[B] ^ block[C]).rotate_left(7);
}

const WORDS: usize = 16;
const KEY_WORDS: usize = 8;
const COUNTER: usize = 12;
const DOUBLE_ROUNDS: usize = 10;

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_published_key_stream() {
        // RFC 8439, appendix A.1, test vectors 1 and 2: the key is zero.
        let mut rng = SecretRng::of_key([0; KEY_WORDS]);
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
