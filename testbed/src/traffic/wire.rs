//! The datagram format of probes and echoes.
//!
//! | bytes | field | in a probe | in an echo |
//! |---|---|---|---|
//! | 0..4 | magic | `NLPQ` | `NLPA` |
//! | 4..8 | flow | the sender's number for it | as sent |
//! | 8..16 | seq | counts up by one per flow | as sent |
//! | 16..24 | sent, CLOCK_MONOTONIC ns | when it was sent | as sent |
//! | 24..32 | server time, CLOCK_MONOTONIC ns | zero | when it arrived at the site |
//! | 32..64 | the site's name, zero-padded | zero | name of the site that answers |
//!
//! Integers are big-endian. Both are 64 bytes long, so an echo is no amplification. They have
//! different magics, so an echo is never answered, and two sites cannot bounce datagrams endlessly.
#![forbid(unsafe_code)]

/// Length of a probe and of an echo, in bytes.
pub const PROBE_LEN: usize = 64;

/// The longest site name an echo can carry, in bytes.
pub const SITE_NAME_MAX: usize = 32;

/// A probe, as the client sends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Probe {
    /// The sender's number for the flow.
    pub flow: u32,
    /// Position in the flow, from 0.
    pub seq: u64,
    /// When it was sent, CLOCK_MONOTONIC nanoseconds.
    pub sent_ns: u64,
}

/// A site's answer to a [`Probe`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Echo<'a> {
    /// The answered probe.
    pub probe: Probe,
    /// When it arrived at the site, CLOCK_MONOTONIC nanoseconds.
    pub server_ns: u64,
    /// Name of the answering site.
    pub site: &'a str,
}

impl Probe {
    /// Encodes the datagram.
    pub fn encode(&self) -> [u8; PROBE_LEN] {
        let mut bytes = [0; PROBE_LEN];
        bytes[..4].copy_from_slice(PROBE_MAGIC);
        bytes[4..8].copy_from_slice(&self.flow.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.sent_ns.to_be_bytes());
        bytes
    }

    /// Decodes a datagram; `None` if it is not a probe.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; PROBE_LEN] = bytes.try_into().ok()?;
        (&bytes[..4] == PROBE_MAGIC).then(|| Self::fields(bytes))
    }

    fn fields(bytes: &[u8; PROBE_LEN]) -> Self {
        Self {
            flow: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            seq: word(bytes, 8),
            sent_ns: word(bytes, 16),
        }
    }
}

impl<'a> Echo<'a> {
    /// Decodes a datagram; `None` if it is not an echo.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let bytes: &[u8; PROBE_LEN] = bytes.try_into().ok()?;
        if &bytes[..4] != ECHO_MAGIC {
            return None;
        }
        let name = &bytes[32..];
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let site = std::str::from_utf8(&name[..end]).ok().filter(|site| !site.is_empty())?;
        Some(Self { probe: Probe::fields(bytes), server_ns: word(bytes, 24), site })
    }
}

/// Turns a probe into its echo, in place; returns `false` and changes nothing if it is not a probe.
/// A name longer than [`SITE_NAME_MAX`] is cut; a site refuses such names at its start.
pub fn answer_in_place(datagram: &mut [u8], server_ns: u64, site: &str) -> bool {
    if Probe::decode(datagram).is_none() {
        return false;
    }
    datagram[..4].copy_from_slice(ECHO_MAGIC);
    datagram[24..32].copy_from_slice(&server_ns.to_be_bytes());
    let name = &site.as_bytes()[..site.len().min(SITE_NAME_MAX)];
    datagram[32..].fill(0);
    datagram[32..32 + name.len()].copy_from_slice(name);
    true
}

fn word(bytes: &[u8; PROBE_LEN], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(word)
}

const PROBE_MAGIC: &[u8] = b"NLPQ";
const ECHO_MAGIC: &[u8] = b"NLPA";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_echo_is_not_answered_again() {
        let mut bytes = Probe { flow: 1, seq: 2, sent_ns: 3 }.encode();
        assert!(answer_in_place(&mut bytes, 4, "fra"));
        assert!(!answer_in_place(&mut bytes, 5, "ams"));
        assert_eq!(Echo::decode(&bytes).unwrap().site, "fra");
    }

    #[test]
    fn a_wrong_length_a_wrong_magic_and_an_empty_name_are_refused() {
        let probe = Probe { flow: 1, seq: 2, sent_ns: 3 }.encode();
        assert_eq!(Probe::decode(&probe[..PROBE_LEN - 1]), None);
        assert_eq!(Probe::decode(&[0; PROBE_LEN]), None);
        let mut nameless = probe;
        nameless[..4].copy_from_slice(ECHO_MAGIC);
        assert_eq!(Echo::decode(&nameless), None);
    }

    proptest! {
        #[test]
        fn every_field_survives(flow: u32, seq: u64, sent_ns: u64, server_ns: u64, site in "[a-z0-9-]{1,32}") {
            let probe = Probe { flow, seq, sent_ns };
            let mut bytes = probe.encode();
            prop_assert_eq!(Probe::decode(&bytes), Some(probe));
            prop_assert!(answer_in_place(&mut bytes, server_ns, &site));
            let echo = Echo::decode(&bytes).unwrap();
            prop_assert_eq!(echo, Echo { probe, server_ns, site: &site });
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (Probe::decode(&bytes), Echo::decode(&bytes));
        }
    }
}
