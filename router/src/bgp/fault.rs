//! What is wrong with what a neighbour sends, and what it is told.
#![forbid(unsafe_code)]

use std::fmt;

use crate::printable;

/// NOTIFICATION (RFC 4271, section 4.5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// What they are about.
    pub data: Vec<u8>,
}

/// A message that ends the session, and what the sender is told.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{why}")]
pub struct MessageError {
    /// What to send before the connection is closed.
    pub notification: Notification,
    /// What was expected, and what came.
    pub why: String,
}

/// Something wrong in an UPDATE that does not end the session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Type code of the attribute; 0 if it cannot be said.
    pub attribute: u8,
    /// What becomes of it.
    pub disposition: Disposition,
    /// What was expected, and what came.
    pub why: String,
}

/// How an error in an UPDATE is handled (RFC 7606, section 2), the weakest first: of several in one
/// UPDATE the strongest wins. Session reset is a [`MessageError`]. Disabling a family is not used.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Disposition {
    /// The attribute is left out, and the route used.
    DiscardAttribute,
    /// All prefixes of the UPDATE count as withdrawn.
    TreatAsWithdraw,
}

impl Notification {
    /// Without data.
    pub const fn new((code, subcode): (u8, u8)) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// With data.
    pub fn with((code, subcode): (u8, u8), data: impl Into<Vec<u8>>) -> Self {
        Self { code, subcode, data: data.into() }
    }

    /// Cease with a text for the operator of the other side (RFC 9003), as far as it fits: 255 octets,
    /// cut between characters. `kind` is [`codes::ADMIN_SHUTDOWN`] or [`codes::ADMIN_RESET`].
    pub fn shutdown(kind: (u8, u8), text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(SHUTDOWN_TEXT_MAX)];
        if text.is_empty() {
            return Self::new(kind);
        }
        let mut data = vec![text.len() as u8];
        data.extend_from_slice(text.as_bytes());
        Self::with(kind, data)
    }

    /// The text of an administrative shutdown or reset, fit to be shown; `None` if there is none, or
    /// none that RFC 9003 allows.
    pub fn shutdown_text(&self) -> Option<String> {
        if !matches!((self.code, self.subcode), codes::ADMIN_SHUTDOWN | codes::ADMIN_RESET) {
            return None;
        }
        let (len, rest) = self.data.split_first()?;
        let text = rest.get(..usize::from(*len)).filter(|text| !text.is_empty())?;
        str::from_utf8(text).ok().map(|text| printable::line(text).into_owned())
    }

    /// Code and subcode in words.
    pub fn label(&self) -> &'static str {
        let of_code = match self.code {
            1 => "message header error",
            2 => "OPEN error",
            3 => "UPDATE error",
            4 => "hold timer expired",
            5 => "finite state machine error",
            6 => "cease",
            7 => "ROUTE-REFRESH error",
            8 => "send hold timer expired",
            _ => "unknown error",
        };
        let known = LABELS.iter().find(|(codes, _)| *codes == (self.code, self.subcode));
        known.map_or(of_code, |(_, label)| label)
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.label(), self.code, self.subcode)?;
        match self.shutdown_text() {
            Some(text) => write!(f, ": \"{text}\""),
            None => Ok(()),
        }
    }
}

impl Disposition {
    /// Kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::DiscardAttribute => "discard-attribute",
            Self::TreatAsWithdraw => "treat-as-withdraw",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attribute {}: {} ({})", self.attribute, self.why, self.disposition.label())
    }
}

/// Codes and subcodes of NOTIFICATIONs (registry "BGP Error (Notification) Codes").
pub mod codes {
    /// The marker is not all ones.
    pub const NOT_SYNCHRONIZED: (u8, u8) = (1, 1);
    /// A message is too short or too long.
    pub const BAD_LENGTH: (u8, u8) = (1, 2);
    /// There is no such type of message.
    pub const BAD_TYPE: (u8, u8) = (1, 3);
    /// OPEN: something that has no subcode of its own.
    pub const OPEN_UNSPECIFIC: (u8, u8) = (2, 0);
    /// OPEN: not version 4.
    pub const UNSUPPORTED_VERSION: (u8, u8) = (2, 1);
    /// OPEN: another AS than configured.
    pub const BAD_PEER_AS: (u8, u8) = (2, 2);
    /// OPEN: the BGP identifier is 0, or our own within one AS.
    pub const BAD_IDENTIFIER: (u8, u8) = (2, 3);
    /// OPEN: an optional parameter other than capabilities.
    pub const UNSUPPORTED_PARAMETER: (u8, u8) = (2, 4);
    /// OPEN: a hold time of 1 or 2 s.
    pub const BAD_HOLD_TIME: (u8, u8) = (2, 6);
    /// OPEN: a capability that is needed is missing (RFC 5492).
    pub const UNSUPPORTED_CAPABILITY: (u8, u8) = (2, 7);
    /// OPEN: the roles of both sides do not go together (RFC 9234).
    pub const ROLE_MISMATCH: (u8, u8) = (2, 11);
    /// UPDATE: lengths that contradict each other, or MP attributes more than once.
    pub const MALFORMED_ATTRIBUTES: (u8, u8) = (3, 1);
    /// UPDATE: an MP attribute that cannot be read.
    pub const OPTIONAL_ATTRIBUTE: (u8, u8) = (3, 9);
    /// UPDATE: prefixes that cannot be read.
    pub const INVALID_NETWORK: (u8, u8) = (3, 10);
    /// Nothing came for the hold time.
    pub const HOLD_TIMER: (u8, u8) = (4, 0);
    /// A message that is not expected in OpenSent (RFC 6608).
    pub const UNEXPECTED_IN_OPEN_SENT: (u8, u8) = (5, 1);
    /// A message that is not expected in OpenConfirm (RFC 6608).
    pub const UNEXPECTED_IN_OPEN_CONFIRM: (u8, u8) = (5, 2);
    /// A message that is not expected in Established (RFC 6608).
    pub const UNEXPECTED_IN_ESTABLISHED: (u8, u8) = (5, 3);
    /// More prefixes than allowed (RFC 4486).
    pub const MAX_PREFIXES: (u8, u8) = (6, 1);
    /// An operator ends the session (RFC 9003).
    pub const ADMIN_SHUTDOWN: (u8, u8) = (6, 2);
    /// The neighbour is not configured any more.
    pub const DECONFIGURED: (u8, u8) = (6, 3);
    /// An operator restarts the session (RFC 9003).
    pub const ADMIN_RESET: (u8, u8) = (6, 4);
    /// The connection is not wanted.
    pub const CONNECTION_REJECTED: (u8, u8) = (6, 5);
    /// The configuration changed.
    pub const CONFIGURATION_CHANGE: (u8, u8) = (6, 6);
    /// There is another connection, which is kept.
    pub const COLLISION: (u8, u8) = (6, 7);
    /// Something that the router has no more of.
    pub const OUT_OF_RESOURCES: (u8, u8) = (6, 8);
    /// BFD has lost the neighbour (RFC 9384).
    pub const BFD_DOWN: (u8, u8) = (6, 10);
    /// ROUTE-REFRESH: BoRR or EoRR of another length than 23 (RFC 7313).
    pub const BAD_REFRESH_LENGTH: (u8, u8) = (7, 1);
    /// The neighbour takes nothing for the send hold time (RFC 9687).
    pub const SEND_HOLD_TIMER: (u8, u8) = (8, 0);
}

const LABELS: [((u8, u8), &str); 29] = [
    (codes::NOT_SYNCHRONIZED, "connection not synchronized"),
    (codes::BAD_LENGTH, "bad message length"),
    (codes::BAD_TYPE, "bad message type"),
    (codes::UNSUPPORTED_VERSION, "unsupported version"),
    (codes::BAD_PEER_AS, "bad peer AS"),
    (codes::BAD_IDENTIFIER, "bad BGP identifier"),
    (codes::UNSUPPORTED_PARAMETER, "unsupported optional parameter"),
    (codes::BAD_HOLD_TIME, "unacceptable hold time"),
    (codes::UNSUPPORTED_CAPABILITY, "unsupported capability"),
    (codes::ROLE_MISMATCH, "role mismatch"),
    (codes::MALFORMED_ATTRIBUTES, "malformed attribute list"),
    ((3, 2), "unrecognized well-known attribute"),
    ((3, 3), "missing well-known attribute"),
    ((3, 5), "attribute length error"),
    (codes::OPTIONAL_ATTRIBUTE, "optional attribute error"),
    (codes::INVALID_NETWORK, "invalid network field"),
    (codes::MAX_PREFIXES, "maximum number of prefixes reached"),
    (codes::ADMIN_SHUTDOWN, "administrative shutdown"),
    (codes::DECONFIGURED, "peer de-configured"),
    (codes::ADMIN_RESET, "administrative reset"),
    (codes::CONNECTION_REJECTED, "connection rejected"),
    (codes::CONFIGURATION_CHANGE, "other configuration change"),
    (codes::COLLISION, "connection collision resolution"),
    (codes::OUT_OF_RESOURCES, "out of resources"),
    ((6, 9), "hard reset"),
    (codes::BFD_DOWN, "BFD down"),
    (codes::UNEXPECTED_IN_OPEN_SENT, "unexpected message in OpenSent"),
    (codes::UNEXPECTED_IN_OPEN_CONFIRM, "unexpected message in OpenConfirm"),
    (codes::UNEXPECTED_IN_ESTABLISHED, "unexpected message in Established"),
];

/// Octets (RFC 9003, section 2).
const SHUTDOWN_TEXT_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_text_is_read_back_and_cut_between_characters() {
        let cease = Notification::shutdown(codes::ADMIN_SHUTDOWN, "maintenance until 14:00");
        assert_eq!(cease.shutdown_text().as_deref(), Some("maintenance until 14:00"));
        assert_eq!(cease.to_string(), "administrative shutdown (6/2): \"maintenance until 14:00\"");
        let long = Notification::shutdown(codes::ADMIN_RESET, &"ü".repeat(200));
        assert_eq!(long.data.len(), 255);
        assert_eq!(long.shutdown_text(), Some("ü".repeat(127)));
        assert_eq!(Notification::shutdown(codes::ADMIN_RESET, "").data, Vec::<u8>::new());
    }

    #[test]
    fn a_text_from_outside_is_no_risk_to_a_terminal_and_nonsense_is_none() {
        let text = |data: &[u8]| Notification::with((6, 2), data).shutdown_text();
        assert_eq!(text(b"\x05\x1b[31m").as_deref(), Some("\\u{1b}[31m"));
        assert_eq!(text(b"\x09short"), None);
        assert_eq!(text(b"\x02\xff\xfe"), None);
        assert_eq!(text(b""), None);
        assert_eq!(Notification::with((6, 3), *b"\x01a").shutdown_text(), None);
    }

    #[test]
    fn a_code_without_a_known_subcode_still_has_a_name() {
        assert_eq!(Notification::new((3, 99)).to_string(), "UPDATE error (3/99)");
        assert_eq!(Notification::new((99, 0)).to_string(), "unknown error (99/0)");
    }
}
