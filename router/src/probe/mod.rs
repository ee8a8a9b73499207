//! Is the target there, and how far away is it?
//!
//! A [`Prober`] sends ICMP echo requests, UDP datagrams and DNS queries out of given ports and
//! judges what comes back. It is sans-IO: bytes and `now` in, bytes and [`CheckEvent`]s out. One
//! [`CheckState`] decides each check, whatever carries it; the TCP checks of
//! [`crate::host::check`] use the same machine.
//!
//! The rules, once for all kinds:
//!
//! * A check is down before its first result, unless it is configured up.
//! * It goes down exactly `interval × fall` after the last answered request was *sent*, unless
//!   requests left late or answers may lie unread ([`Prober::handle_timeout_unless`]); a check
//!   that never answered gets its first result `interval × fall` after its first request was due,
//!   and one that answers without ever passing `rise`, after `interval × (fall + rise)`.
//! * It comes up when `rise` requests in a row were answered, each within `interval × fall`.
//! * A refusal takes it down at once: an ICMP error from the target's own address which says that the
//!   port or protocol is unreachable, comes in by the check's own port, and quotes an outstanding
//!   request with what nobody else knows; or a TCP reset that acknowledges it. Every other error is
//!   counted by its reason ([`Ignore`]) and changes nothing: the target may still be silent.
//!   - IPv4: the packet's identification (random, DF set), and the UDP checksum, the TCP sequence
//!     number or the whole data of an echo.
//!   - IPv6: the flow label (random), and the UDP payload (as far as an error has room for it), the
//!     TCP sequence number or the whole data of an echo.
//! * Its source port or echo identifier is drawn again each minute, and, at most once in ten
//!   seconds, after a packet that had it right and the rest wrong.
//! * A port without carrier takes its checks down at once; nothing is sent until it is back.
#![forbid(unsafe_code)]

pub mod check;
mod dns;
mod draw;
mod prober;
mod refusal;
mod rtt;
mod target;
mod wire;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use check::{Answer, CheckState, Rule, Verdict};
pub use dns::NameError;
pub(crate) use draw::{REDRAW_EVERY, REDRAW_LIMIT};
pub use prober::{AddError, Prober, ProberStats, Transmit};
pub(crate) use prober::{phase_of, start_delay};
pub use refusal::{ErrorSeen, Ignore, Ignored};
pub(crate) use wire::stamp;

use crate::batch::Exit;
use crate::policy::CheckKind;
pub(crate) use crate::random::Rng;
use crate::time::Nanos;

/// Names a check of one [`Prober`] or TCP checker; not reused before thousands of others were.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CheckId(pub u32);

/// What to check, by which way, how often.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckSpec {
    /// What is sent and expected.
    pub kind: CheckKind,
    /// The way out of the requests; answers count only if they come in by its port.
    pub exit: Exit,
    /// Source address of the requests, one of the router's own.
    pub source: IpAddr,
    /// Whom to ask; of the same family as `source`.
    pub target: IpAddr,
    /// Between two requests.
    pub interval: Duration,
    /// Silent for `interval × fall` is down; below 2 is taken as 2 (see [`Rule::fall`]).
    pub fall: u32,
    /// As many answers in a row are up.
    pub rise: u32,
    /// Up before the first result.
    pub initial_up: bool,
}

impl CheckSpec {
    /// Whether the host stack does it ([`crate::host::check`]), not the prober.
    pub const fn is_tcp(&self) -> bool {
        self.kind.is_tcp()
    }
}

/// A check went up or down, or its first result is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CheckEvent {
    /// Which check.
    pub check: CheckId,
    /// When it was noticed: the `now` of the call, or the time the deciding packet was received.
    pub t: Nanos,
    /// When it was due; earlier than `t` by as much as a timer was handled late.
    pub due: Nanos,
    /// Whether the target counts as there.
    pub up: bool,
    /// Why.
    pub cause: Cause,
}

/// What decided a verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// `rise` answers in a row.
    Answered,
    /// No answer for `interval × fall`, but bad ones (a DNS server that says SERVFAIL).
    BadAnswer,
    /// The port has no carrier.
    Carrier,
    /// Configured so until there is a result.
    Initial,
    /// The target's own ICMP or ICMPv6 error about an outstanding request.
    Refused {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
    },
    /// A TCP reset in answer to an outstanding request.
    Reset,
    /// No answer for `interval × fall`.
    Silent,
}

impl Cause {
    /// One of each.
    pub const ALL: [Self; 7] = [
        Self::Answered,
        Self::BadAnswer,
        Self::Carrier,
        Self::Initial,
        Self::Refused { kind: 3, code: 3 },
        Self::Reset,
        Self::Silent,
    ];

    /// One word for events and tables: kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::BadAnswer => "bad-answer",
            Self::Carrier => "carrier",
            Self::Initial => "initial",
            Self::Refused { .. } => "refused",
            Self::Reset => "reset",
            Self::Silent => "silent",
        }
    }
}

/// What is known about one check.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CheckStats {
    /// Round-trip time of the latest answer whose request is certain.
    pub rtt_last: Option<Duration>,
    /// Smoothed round-trip time, outliers left out.
    pub rtt_ewma: Option<Duration>,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered in time.
    pub answered: u64,
    /// Requests whose time ran out, or that were forgotten with the carrier or a refusal.
    pub lost: u64,
    /// Answers that came after their request's time had run out.
    pub late: u64,
    /// Answers to requests answered before.
    pub duplicate: u64,
    /// Answers that say the target does not work, and refusals.
    pub bad: u64,
    /// Packets about this check that changed nothing.
    pub ignored: Ignored,
    /// The latest ICMP error that quoted one of its requests, whatever it meant.
    pub last_error: Option<ErrorSeen>,
    /// Whether the target counts as there.
    pub up: bool,
    /// Whether there was a result yet (`initial_up` is one).
    pub known: bool,
    /// Since when `up` is so.
    pub since: Nanos,
}

/// UDP source ports of probes: the dynamic ports of RFC 6335, section 6. The host stack's own
/// sockets keep below them.
pub const SOURCE_PORTS: RangeInclusive<u16> = 49_152..=65_535;

#[cfg(test)]
mod tests;
