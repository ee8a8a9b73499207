//! Which ICMP errors take a check down at once, and counts of what is ignored.
//!
//! An error is easy to cause and easy to forge: anybody can send a packet with the router's address
//! as source and let it expire on the way, and whoever then reports it is no attacker. So an error
//! counts only if the target itself says that it refuses, and only if it quotes a request that is
//! outstanding, with what nobody else knows. A target that cannot be reached stays silent, which
//! `fall` is for.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;

use crate::packet::{icmp, icmpv6};

/// Why a packet about a check changed nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ignore {
    /// An answer that fits no request: another id, cookie, question or port, or a TCP reset or SYN
    /// without the right acknowledgement.
    Answer,
    /// An error that quotes something else than was sent, or a request sent too long ago.
    Mismatch,
    /// It came in by another port than the check's.
    OtherPort,
    /// An error that quotes too little to prove that its sender saw the request.
    ShortQuote,
    /// A refusal of a request that was answered before, or whose time had run out.
    Stale,
    /// An error of the way: time exceeded, parameter problem, packet too big, and unknown ones.
    Transit,
    /// The destination is unreachable, but that is no refusal: another code than port or protocol
    /// unreachable, or not from the target's own address.
    Unreachable,
}

/// Numbers of ignored packets, by reason.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ignored([u64; Ignore::ALL.len()]);

/// An ICMP or ICMPv6 error and its sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ErrorSeen {
    /// Source address of the error.
    pub from: IpAddr,
    /// Type, in the family of `from`.
    pub kind: u8,
    /// Code within the type.
    pub code: u8,
}

impl Ignore {
    /// Every reason, in the order of tables.
    pub const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::Transit,
        Self::Mismatch,
        Self::ShortQuote,
        Self::OtherPort,
        Self::Stale,
        Self::Answer,
    ];

    /// Its key in `show checks`: snake_case, never renamed.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Answer => "ignored_answer",
            Self::Mismatch => "ignored_mismatch",
            Self::OtherPort => "ignored_other_port",
            Self::ShortQuote => "ignored_short_quote",
            Self::Stale => "ignored_stale",
            Self::Transit => "ignored_transit",
            Self::Unreachable => "ignored_unreachable",
        }
    }
}

impl Ignored {
    /// How many were ignored for this reason.
    pub fn of(&self, reason: Ignore) -> u64 {
        let at = Ignore::ALL.iter().position(|other| *other == reason);
        at.map_or(0, |at| self.0[at])
    }

    pub(crate) fn count(&mut self, reason: Ignore) {
        if let Some(at) = Ignore::ALL.iter().position(|other| *other == reason) {
            self.0[at] += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

impl ErrorSeen {
    /// Whether the error, which quotes a request to `target`, is a refusal; if not, why it is
    /// ignored.
    pub(crate) fn judge(&self, target: IpAddr) -> Result<(), Ignore> {
        let (unreachable, refusal) = match self.from {
            IpAddr::V4(_) => (
                self.kind == icmp::UNREACHABLE && self.code != icmp::FRAGMENTATION_NEEDED,
                matches!(self.code, PROTOCOL_UNREACHABLE | PORT_UNREACHABLE),
            ),
            IpAddr::V6(_) => (self.kind == icmpv6::UNREACHABLE, self.code == PORT_UNREACHABLE_V6),
        };
        match (unreachable, refusal && self.from == target) {
            (false, _) => Err(Ignore::Transit),
            (true, false) => Err(Ignore::Unreachable),
            (true, true) => Ok(()),
        }
    }
}

impl fmt::Display for ErrorSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} from {}", self.kind, self.code, self.from)
    }
}

/// Codes of [`icmp::UNREACHABLE`].
const PROTOCOL_UNREACHABLE: u8 = 2;
const PORT_UNREACHABLE: u8 = 3;

/// Code of [`icmpv6::UNREACHABLE`]. The protocol-unreachable of IPv6 is a parameter problem, which
/// any router may send about a packet.
const PORT_UNREACHABLE_V6: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_port_and_protocol_unreachable_from_the_target_are_refusals() {
        let target4 = IpAddr::from([198, 51, 100, 53]);
        let target6: IpAddr = "2001:db8:53::53".parse().unwrap();
        for (target, hop, refusals) in [
            (target4, IpAddr::from([10, 1, 0, 2]), &[(3, 2), (3, 3)][..]),
            (target6, "fd00:1::2".parse().unwrap(), &[(1, 4)]),
        ] {
            for kind in 0..=255 {
                for code in 0..=255 {
                    let judge = |from| ErrorSeen { from, kind, code }.judge(target);
                    let is_refusal = refusals.contains(&(kind, code));
                    assert_eq!(judge(target).is_ok(), is_refusal, "{target}: {kind}/{code}");
                    let of_way = kind != refusals[0].0 || (target.is_ipv4() && code == 4);
                    let want = if of_way { Ignore::Transit } else { Ignore::Unreachable };
                    assert_eq!(judge(hop), Err(want), "{hop}: {kind}/{code}");
                }
            }
        }
    }

    #[test]
    fn each_reason_has_a_counter_and_a_key_of_its_own() {
        let mut ignored = Ignored::default();
        for (times, reason) in Ignore::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| ignored.count(reason));
        }
        let twice = ignored;
        ignored.add(&twice);
        for (times, reason) in Ignore::ALL.into_iter().enumerate() {
            assert_eq!(ignored.of(reason), 2 * (times as u64 + 1), "{reason:?}");
        }
        let keys: std::collections::BTreeSet<_> = Ignore::ALL.map(Ignore::key).into();
        assert_eq!(keys.len(), Ignore::ALL.len());
    }
}
