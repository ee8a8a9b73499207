//! Settings that the configuration reads and several parts of the router act on.
#![forbid(unsafe_code)]

/// Which source and destination addresses are refused.
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

/// What becomes of a command that would leave a service without a site.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LastSiteGuard {
    /// It is refused, unless it is forced.
    #[default]
    Refuse,
    /// It is carried out, with a warning.
    Warn,
}

/// Reverse-path check (RFC 3704).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReversePath {
    /// None.
    #[default]
    Off,
    /// The route to the source leads out of a port or to the router itself.
    Loose,
    /// The packet came in by a port of any member of the route to its source, dead members
    /// included.
    Strict,
}

/// Who is behind a port.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Facing {
    /// Anybody.
    #[default]
    Any,
    /// Clients of the services. They do not send from the services' addresses.
    Clients,
}

/// How the checks of one leg are combined.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Combine {
    /// Up while all of them are up.
    #[default]
    All,
    /// Up while at least one of them is up.
    Any,
}

/// What a check sends and expects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CheckKind {
    /// ICMP or ICMPv6 echo.
    Icmp,
    /// A datagram to this port; any answer from that port counts.
    Udp {
        /// Destination port.
        port: u16,
        /// What to send.
        payload: Vec<u8>,
    },
    /// A DNS query over UDP; any answer but SERVFAIL and REFUSED counts.
    Dns {
        /// Destination port.
        port: u16,
        /// Name in the query.
        name: String,
    },
    /// A TCP connection to this port.
    Tcp {
        /// Destination port.
        port: u16,
    },
}

impl CheckKind {
    /// Whether the host stack does it, not the prober.
    pub const fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }
}

/// The most checks of one prober.
pub const CHECKS_MAX: usize = 16_384;
