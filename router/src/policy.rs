//! What is configured and acted on in several places.
#![forbid(unsafe_code)]

/// Which sources and destinations are refused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Martians {
    /// Those that no network may forward.
    #[default]
    Default,
    /// Documentation, benchmark and private blocks too.
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
    /// There is a route to the source that leads out of a port or to the router itself.
    Loose,
    /// The packet came in by a port of any member of the route to its source, dead ones included.
    Strict,
}

/// How several checks make one verdict.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Combine {
    /// Up while all are.
    #[default]
    All,
    /// Up while one is.
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
        /// What to send.
        payload: Vec<u8>,
    },
    /// A DNS query over UDP; an answer without SERVFAIL or REFUSED counts.
    Dns {
        /// Destination port.
        port: u16,
        /// Name asked for.
        name: String,
    },
    /// A TCP connection to this port.
    Tcp {
        /// Destination port.
        port: u16,
    },
}

/// One for each UDP source port of [`SOURCE_PORTS`].
pub const CHECKS_MAX: usize = 16_384;
