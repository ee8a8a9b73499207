//! Configured policies that several parts of the router apply.
#![forbid(unsafe_code)]

/// Which source and destination addresses are refused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Martians {
    /// Addresses that no network forwards.
    #[default]
    Default,
    /// Also documentation, benchmark and private blocks.
    Strict,
    /// None.
    Off,
}

/// Reverse-path check (RFC 3704).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReversePath {
    /// None.
    #[default]
    Off,
    /// The source has a route that leads out of a port or to the router itself.
    Loose,
    /// The packet came in by a port of any member of the route to its source, dead ones included.
    Strict,
}

/// How the outcomes of several checks combine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Combine {
    /// Up while all checks are up.
    #[default]
    All,
    /// Up while at least one check is up.
    Any,
}

/// What a check sends and expects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CheckKind {
    /// ICMP or ICMPv6 echo.
    Icmp,
    /// A datagram to this port; any answer from it counts.
    Udp {
        /// Destination port.
        port: u16,
        /// The datagram's payload.
        payload: Vec<u8>,
    },
    /// A DNS query over UDP; an answer without SERVFAIL or REFUSED counts.
    Dns {
        /// Destination port.
        port: u16,
        /// The name to query.
        name: String,
    },
    /// A TCP connection to this port.
    Tcp {
        /// Destination port.
        port: u16,
    },
}

/// The most checks: one for each UDP source port of [`SOURCE_PORTS`](crate::probe::SOURCE_PORTS).
pub const CHECKS_MAX: usize = 16_384;
