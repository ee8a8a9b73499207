//! BFD Control packets (RFC 5880, section 4.1) as the payload of a UDP datagram.
#![forbid(unsafe_code)]

use std::fmt;

/// State of a session, as both ends say it (RFC 5880, section 4.1).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// An operator wants the session down; this says nothing about the path.
    AdminDown,
    /// Nothing was heard lately, or the neighbour hears nothing.
    #[default]
    Down,
    /// The neighbour is heard, and does not know it yet.
    Init,
    /// Both hear each other.
    Up,
}

/// Why a session left Up last (RFC 5880, section 4.1).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Diagnostic {
    /// None.
    #[default]
    None,
    /// Nothing was heard for the detection time.
    Expired,
    /// The echo function failed; never sent.
    EchoFailed,
    /// The neighbour says that the session is down.
    NeighborDown,
    /// The forwarding plane was reset; never sent.
    ForwardingReset,
    /// The path is down, as something else knows: carrier.
    PathDown,
    /// A path that the session's is a part of is down; never sent.
    ConcatenatedPathDown,
    /// An operator wants it down.
    AdminDown,
    /// As the one before, in the other direction; never sent.
    ReverseConcatenatedPathDown,
    /// A number that RFC 5880 reserves.
    Other(u8),
}

/// A control packet without what authenticates it.
#[expect(clippy::struct_excessive_bools, reason = "bits of the packet, each for itself")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Control {
    /// Why the sender's session left Up last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// The sender wants an answer with `final` at once.
    pub poll: bool,
    /// The answer to one with `poll`.
    pub is_final: bool,
    /// The sender's BFD lives on when its control plane dies.
    pub control_plane_independent: bool,
    /// The sender wants no packets while the session is up, but those it polls for.
    pub demand: bool,
    /// So many missed packets in a row are a failure; at least 1.
    pub multiplier: u8,
    /// The sender's number for the session, not 0.
    pub my_discriminator: u32,
    /// The receiver's, or 0 while the sender does not know it.
    pub your_discriminator: u32,
    /// The least interval in which the sender wants to send, in microseconds.
    pub desired_min_tx_us: u32,
    /// The least interval in which the sender can receive, in microseconds; 0: it wants nothing sent.
    pub required_min_rx_us: u32,
    /// The least interval in which the sender reflects echo packets; 0: it reflects none.
    pub required_min_echo_rx_us: u32,
}

/// A packet as it came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Received<'a> {
    /// What it says.
    pub control: Control,
    /// What authenticates it; `None` if it has no such section.
    pub auth: Option<AuthSection<'a>>,
    /// The whole packet, without what follows its length: what a hash is computed over.
    pub bytes: &'a [u8],
}

/// What authenticates a packet (RFC 5880, section 4.2 to 4.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuthSection<'a> {
    /// The kind; see [`super::auth`].
    pub kind: u8,
    /// What follows kind and length.
    pub data: &'a [u8],
}

/// Why bytes are no control packet (RFC 5880, section 6.8.6).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Malformed {
    /// Shorter than a packet can be, or than it says.
    Short,
    /// Not version 1.
    Version,
    /// Its length is less than the least, or more than the datagram's.
    Length,
    /// A multiplier of 0.
    Multiplier,
    /// The multipoint bit is set.
    Multipoint,
    /// Its sender's discriminator is 0.
    NoDiscriminator,
    /// It names no session although its sender knows one: only a session that is down may.
    NoSession,
    /// Both poll and final.
    PollAndFinal,
    /// The authentication section does not fit in it.
    Auth,
}

/// A packet without authentication.
pub const CONTROL_LEN: usize = 24;

/// The longest packet that is sent: with a SHA1 hash.
pub const PACKET_LEN_MAX: usize = CONTROL_LEN + 28;

impl State {
    const fn bits(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }

    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    /// As `show` writes it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AdminDown => "admin-down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

impl Diagnostic {
    const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Expired => 1,
            Self::EchoFailed => 2,
            Self::NeighborDown => 3,
            Self::ForwardingReset => 4,
            Self::PathDown => 5,
            Self::ConcatenatedPathDown => 6,
            Self::AdminDown => 7,
            Self::ReverseConcatenatedPathDown => 8,
            Self::Other(code) => code & 0x1f,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code & 0x1f {
            0 => Self::None,
            1 => Self::Expired,
            2 => Self::EchoFailed,
            3 => Self::NeighborDown,
            4 => Self::ForwardingReset,
            5 => Self::PathDown,
            6 => Self::ConcatenatedPathDown,
            7 => Self::AdminDown,
            8 => Self::ReverseConcatenatedPathDown,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no diagnostic",
            Self::Expired => "control detection time expired",
            Self::EchoFailed => "echo function failed",
            Self::NeighborDown => "neighbor signaled session down",
            Self::ForwardingReset => "forwarding plane reset",
            Self::PathDown => "path down",
            Self::ConcatenatedPathDown => "concatenated path down",
            Self::AdminDown => "administratively down",
            Self::ReverseConcatenatedPathDown => "reverse concatenated path down",
            Self::Other(code) => return write!(f, "diagnostic {code}"),
        })
    }
}

impl<'a> Received<'a> {
    /// Reads a datagram's payload: the rules of RFC 5880, section 6.8.6, that need no session.
    ///
    /// # Errors
    /// The first rule that it breaks; such a packet is discarded.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let (head, _) = payload.split_first_chunk::<CONTROL_LEN>().ok_or(Malformed::Short)?;
        if head[0] >> 5 != VERSION {
            return Err(Malformed::Version);
        }
        let flags = head[1];
        let has_auth = flags & AUTH != 0;
        let least = if has_auth { CONTROL_LEN + AUTH_HEADER_LEN } else { CONTROL_LEN };
        let len = usize::from(head[3]);
        if len < least || len > payload.len() {
            return Err(Malformed::Length);
        }
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let control = Control {
            diagnostic: Diagnostic::from_code(head[0]),
            state: State::from_bits(flags >> 6),
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            control_plane_independent: flags & INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            multiplier: head[2],
            my_discriminator: word(4),
            your_discriminator: word(8),
            desired_min_tx_us: word(12),
            required_min_rx_us: word(16),
            required_min_echo_rx_us: word(20),
        };
        control.sane(flags)?;
        let bytes = &payload[..len];
        let auth = if has_auth { Some(AuthSection::parse(&bytes[CONTROL_LEN..])?) } else { None };
        Ok(Self { control, auth, bytes })
    }
}

impl Control {
    fn sane(&self, flags: u8) -> Result<(), Malformed> {
        let may_name_nobody = matches!(self.state, State::Down | State::AdminDown);
        let faults = [
            (self.multiplier == 0, Malformed::Multiplier),
            (flags & MULTIPOINT != 0, Malformed::Multipoint),
            (self.my_discriminator == 0, Malformed::NoDiscriminator),
            (self.your_discriminator == 0 && !may_name_nobody, Malformed::NoSession),
            (self.poll && self.is_final, Malformed::PollAndFinal),
        ];
        faults.into_iter().find(|(is_one, _)| *is_one).map_or(Ok(()), |(_, fault)| Err(fault))
    }

    /// The packet's bytes, with room for `auth_len` octets of authentication, all zero.
    pub fn write(&self, auth_len: usize, out: &mut Vec<u8>) {
        out.clear();
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let flags = self.state.bits() << 6
            | flag(self.poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.control_plane_independent, INDEPENDENT)
            | flag(auth_len > 0, AUTH)
            | flag(self.demand, DEMAND);
        let len = CONTROL_LEN + auth_len;
        let len_octet = u8::try_from(len).unwrap_or(u8::MAX);
        out.extend([VERSION << 5 | self.diagnostic.code(), flags, self.multiplier, len_octet]);
        let words = [
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx_us,
            self.required_min_rx_us,
            self.required_min_echo_rx_us,
        ];
        out.extend(words.into_iter().flat_map(u32::to_be_bytes));
        out.resize(len, 0);
    }
}

impl<'a> AuthSection<'a> {
    fn parse(section: &'a [u8]) -> Result<Self, Malformed> {
        let [kind, len, ..] = *section else { return Err(Malformed::Auth) };
        let is_whole = usize::from(len) == section.len();
        let data = section.get(AUTH_HEADER_LEN..).filter(|_| is_whole).ok_or(Malformed::Auth)?;
        Ok(Self { kind, data })
    }
}

impl Malformed {
    /// Kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Version => "version",
            Self::Length => "length",
            Self::Multiplier => "multiplier",
            Self::Multipoint => "multipoint",
            Self::NoDiscriminator => "no-discriminator",
            Self::NoSession => "no-session",
            Self::PollAndFinal => "poll-and-final",
            Self::Auth => "auth-section",
        }
    }
}

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const INDEPENDENT: u8 = 0x08;
const AUTH: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// Kind and length.
const AUTH_HEADER_LEN: usize = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By RFC 5880's figure, by hand: version 1, no diagnostic, down, multiplier 3, number 7, nobody known, a
    /// second each way, 50 ms for echo.
    const DOWN: [u8; 24] = [
        0x20, 0x40, 3, 24, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0x0f, 0x42, 0x40, 0, 0,
        0xc3, 0x50,
    ];

    fn down() -> Control {
        Control {
            state: State::Down,
            multiplier: 3,
            my_discriminator: 7,
            desired_min_tx_us: 1_000_000,
            required_min_rx_us: 1_000_000,
            required_min_echo_rx_us: 50_000,
            ..Control::default()
        }
    }

    #[test]
    fn a_packet_is_as_the_figure_of_the_rfc() {
        let received = Received::parse(&DOWN).unwrap();
        assert_eq!((received.control, received.auth), (down(), None));
        let mut out = Vec::new();
        down().write(0, &mut out);
        assert_eq!(out, DOWN);
        let padded: Vec<u8> = DOWN.into_iter().chain([9; 5]).collect();
        assert_eq!(Received::parse(&padded).unwrap().bytes, DOWN, "what follows is not looked at");
    }

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        let with = |changes: &[(usize, u8)]| {
            let mut bytes = DOWN;
            for &(at, byte) in changes {
                bytes[at] = byte;
            }
            Received::parse(&bytes).map(|_| ()).unwrap_err()
        };
        assert_eq!(Received::parse(&DOWN[..23]).unwrap_err(), Malformed::Short);
        for (changes, fault) in [
            (&[(0, 0x00)][..], Malformed::Version),
            (&[(0, 0x40)], Malformed::Version),
            (&[(3, 23)], Malformed::Length),
            (&[(3, 25)], Malformed::Length),
            (&[(1, 0x44)], Malformed::Length),
            (&[(2, 0)], Malformed::Multiplier),
            (&[(1, 0x41)], Malformed::Multipoint),
            (&[(7, 0)], Malformed::NoDiscriminator),
            (&[(1, 0x80)], Malformed::NoSession),
            (&[(1, 0xc0)], Malformed::NoSession),
            (&[(1, 0x70)], Malformed::PollAndFinal),
        ] {
            assert_eq!(with(changes), fault, "{changes:?}");
        }
        let mut authentic: Vec<u8> = DOWN.into_iter().chain([1, 3, 9]).collect();
        (authentic[1], authentic[3]) = (0x44, 27);
        let section = AuthSection { kind: 1, data: &[9] };
        assert_eq!(Received::parse(&authentic).unwrap().auth, Some(section));
        authentic[25] = 4;
        assert_eq!(Received::parse(&authentic).unwrap_err(), Malformed::Auth);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (diagnostic, state, bits, multiplier) in (0u8..32, 0u8..4, 0u8..16, 1u8..),
            (my, your) in (1u32.., 1u32..), (tx, rx, echo) in any::<(u32, u32, u32)>(),
            auth_len in prop_oneof![Just(0), 2usize..=28],
        ) {
            let control = Control {
                diagnostic: Diagnostic::from_code(diagnostic),
                state: State::from_bits(state),
                poll: bits & 3 == 1,
                is_final: bits & 3 == 2,
                control_plane_independent: bits & 4 != 0,
                demand: bits & 8 != 0,
                multiplier,
                my_discriminator: my,
                your_discriminator: your,
                desired_min_tx_us: tx,
                required_min_rx_us: rx,
                required_min_echo_rx_us: echo,
            };
            let mut out = Vec::new();
            control.write(auth_len, &mut out);
            if auth_len > 0 {
                out[CONTROL_LEN + 1] = u8::try_from(auth_len).unwrap();
            }
            let received = Received::parse(&out).unwrap();
            prop_assert_eq!(received.control, control);
            prop_assert_eq!(received.auth.is_some(), auth_len > 0);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Received::parse(&bytes);
        }
    }
}
