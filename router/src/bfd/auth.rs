//! Authentication of BFD Control packets: Keyed SHA1 and Meticulous Keyed SHA1 (RFC 5880, section 4.4 and
//! 6.7.4).
//!
//! Simple passwords and MD5 are refused: RFC 5880 asks for SHA1 of every implementation, and a password
//! that is sent in the clear keeps nobody out who can read.
#![forbid(unsafe_code)]

use std::fmt;

use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use super::packet::{AuthSection, CONTROL_LEN, Received};

/// How a session's packets are authenticated. Both ends have to say the same.
#[derive(Clone, Eq, PartialEq)]
pub struct Authentication {
    /// Whether the sequence number goes up with every packet, instead of now and then.
    pub meticulous: bool,
    /// Number of the key, which packets bear.
    pub key_id: u8,
    key: [u8; KEY_LEN],
}

/// The sequence numbers of a session that is authenticated.
#[derive(Clone, Debug)]
pub(super) struct Sequences {
    /// Of the last packet sent.
    sent: u32,
    /// Of the last packet that was accepted; `None` before the first one, and once they are too old.
    received: Option<u32>,
}

/// Why a packet is not believed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NotAuthentic {
    /// It has no authentication and should, or it has and should not.
    Presence,
    /// Another kind, key or length.
    Kind,
    /// Its sequence number was there before, or is too far ahead.
    Sequence,
    /// Its hash is wrong.
    Hash,
}

/// The longest key, in octets (RFC 5880, section 6.7.4).
pub const KEY_LEN: usize = 20;

/// Length of an authentication section, in octets.
pub const SECTION_LEN: usize = 8 + KEY_LEN;

impl Authentication {
    /// `None` if the key is empty or longer than [`KEY_LEN`] octets.
    pub fn new(meticulous: bool, key_id: u8, key: &[u8]) -> Option<Self> {
        let mut padded = [0; KEY_LEN];
        padded.get_mut(..key.len()).filter(|place| !place.is_empty())?.copy_from_slice(key);
        Some(Self { meticulous, key_id, key: padded })
    }

    const fn kind(&self) -> u8 {
        if self.meticulous { METICULOUS_KEYED_SHA1 } else { KEYED_SHA1 }
    }

    /// Fills in the section at the end of a packet that was written with room for it.
    pub(crate) fn sign(&self, sequence: u32, packet: &mut [u8]) {
        let Some((_, section)) = packet.split_at_mut_checked(CONTROL_LEN) else { return };
        let Some(section) = section.first_chunk_mut::<SECTION_LEN>() else { return };
        section[..4].copy_from_slice(&[self.kind(), SECTION_LEN as u8, self.key_id, 0]);
        section[4..8].copy_from_slice(&sequence.to_be_bytes());
        section[8..].copy_from_slice(&self.key);
        let hash = Sha1::digest(&*packet);
        packet[CONTROL_LEN + 8..].copy_from_slice(&hash);
    }

    /// The sequence number of a packet whose hash is right.
    fn open(&self, received: &Received<'_>) -> Result<u32, NotAuthentic> {
        let Some(AuthSection { kind, data }) = received.auth else {
            return Err(NotAuthentic::Presence);
        };
        let Ok(data) = <&[u8; SECTION_LEN - 2]>::try_from(data) else {
            return Err(NotAuthentic::Kind);
        };
        if kind != self.kind() || data[0] != self.key_id {
            return Err(NotAuthentic::Kind);
        }
        let hashed = Sha1::new()
            .chain_update(&received.bytes[..CONTROL_LEN + 8])
            .chain_update(self.key)
            .finalize();
        if !bool::from(hashed.as_slice().ct_eq(&data[6..])) {
            return Err(NotAuthentic::Hash);
        }
        Ok(u32::from_be_bytes([data[2], data[3], data[4], data[5]]))
    }
}

impl Sequences {
    /// `first` should be hard to guess (RFC 5880, section 6.8.1).
    pub(super) const fn new(first: u32) -> Self {
        Self { sent: first, received: None }
    }

    /// The number of the next packet. A number that changes for every packet is right for both kinds.
    pub(super) const fn next(&mut self) -> u32 {
        self.sent = self.sent.wrapping_add(1);
        self.sent
    }

    /// Believes a packet, or says why not; `multiplier` is the session's own (RFC 5880, section 6.7.4).
    pub(super) fn accept(
        &mut self,
        auth: Option<&Authentication>,
        received: &Received<'_>,
        multiplier: u8,
    ) -> Result<(), NotAuthentic> {
        let Some(auth) = auth else {
            return if received.auth.is_none() { Ok(()) } else { Err(NotAuthentic::Presence) };
        };
        let sequence = auth.open(received)?;
        if let Some(last) = self.received {
            let ahead = sequence.wrapping_sub(last);
            let least = u32::from(auth.meticulous);
            if !(least..=3 * u32::from(multiplier)).contains(&ahead) {
                return Err(NotAuthentic::Sequence);
            }
        }
        self.received = Some(sequence);
        Ok(())
    }

    /// Nothing was heard for twice the detection time: any number is the next one (section 6.8.1).
    pub(super) const fn forget(&mut self) {
        self.received = None;
    }
}

/// Without the key.
impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.meticulous { "meticulous-keyed-sha1" } else { "keyed-sha1" };
        write!(f, "{kind} with key {}", self.key_id)
    }
}

impl NotAuthentic {
    /// Kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Presence => "auth-missing",
            Self::Kind => "auth-kind",
            Self::Sequence => "auth-sequence",
            Self::Hash => "auth-hash",
        }
    }
}

const KEYED_SHA1: u8 = 4;
const METICULOUS_KEYED_SHA1: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bfd::packet::Control;

    fn auth(meticulous: bool) -> Authentication {
        Authentication::new(meticulous, 3, b"secret").unwrap()
    }

    fn packet(auth: &Authentication, sequence: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Control { multiplier: 3, my_discriminator: 9, ..Control::default() }
            .write(SECTION_LEN, &mut out);
        auth.sign(sequence, &mut out);
        out
    }

    fn accept(
        numbers: &mut Sequences,
        auth: &Authentication,
        bytes: &[u8],
    ) -> Result<(), NotAuthentic> {
        numbers.accept(Some(auth), &Received::parse(bytes).unwrap(), 3)
    }

    /// The hash is that of the packet with the key in its place, padded with zeros: computed here by
    /// another way than the code's.
    #[test]
    fn the_hash_is_that_of_the_packet_with_the_key_in_its_place() {
        let signed = packet(&auth(true), 0x0102_0304);
        let mut plain = signed.clone();
        plain[32..].copy_from_slice(b"secret\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(signed[32..], Sha1::digest(&plain)[..]);
        assert_eq!(signed[24..32], [5, 28, 3, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn sequence_numbers_are_taken_in_a_window() {
        for (meticulous, ahead, is_taken) in [
            (false, 0, true),
            (false, 9, true),
            (false, 10, false),
            (false, u32::MAX, false),
            (true, 0, false),
            (true, 1, true),
            (true, 9, true),
            (true, 10, false),
        ] {
            let auth = auth(meticulous);
            let mut numbers = Sequences::new(0);
            let first = u32::MAX - 2;
            assert_eq!(
                accept(&mut numbers, &auth, &packet(&auth, first)),
                Ok(()),
                "any number first"
            );
            let next = packet(&auth, first.wrapping_add(ahead));
            let expected = if is_taken { Ok(()) } else { Err(NotAuthentic::Sequence) };
            assert_eq!(accept(&mut numbers, &auth, &next), expected, "{meticulous} {ahead}");
            numbers.forget();
            assert_eq!(accept(&mut numbers, &auth, &packet(&auth, 77)), Ok(()));
        }
    }

    #[test]
    fn what_is_not_authentic_says_why_and_moves_no_window() {
        let own = auth(true);
        let mut numbers = Sequences::new(0);
        assert_eq!(accept(&mut numbers, &own, &packet(&own, 5)), Ok(()));
        let mut forged = packet(&own, 6);
        forged[20] ^= 1;
        let mut replaced = packet(&own, 6);
        replaced[31] ^= 1;
        let stranger = Authentication::new(true, 3, b"guess").unwrap();
        let other_key = Authentication::new(true, 4, b"secret").unwrap();
        let mut bare = Vec::new();
        Control { multiplier: 3, my_discriminator: 9, ..Control::default() }.write(0, &mut bare);
        for (bytes, why) in [
            (forged, NotAuthentic::Hash),
            (replaced, NotAuthentic::Hash),
            (packet(&stranger, 6), NotAuthentic::Hash),
            (packet(&other_key, 6), NotAuthentic::Kind),
            (packet(&auth(false), 6), NotAuthentic::Kind),
            (bare, NotAuthentic::Presence),
            (packet(&own, 5), NotAuthentic::Sequence),
        ] {
            assert_eq!(accept(&mut numbers, &own, &bytes), Err(why));
        }
        assert_eq!(accept(&mut numbers, &own, &packet(&own, 6)), Ok(()));
        let signed = packet(&own, 7);
        let without = numbers.accept(None, &Received::parse(&signed).unwrap(), 3);
        assert_eq!(without, Err(NotAuthentic::Presence));
    }

    #[test]
    fn a_key_has_one_to_twenty_octets_and_is_not_shown() {
        assert!(Authentication::new(true, 1, b"").is_none());
        assert!(Authentication::new(true, 1, &[7; 21]).is_none());
        assert!(Authentication::new(true, 1, &[7; 20]).is_some());
        assert_eq!(format!("{:?}", auth(false)), "keyed-sha1 with key 3");
    }
}
