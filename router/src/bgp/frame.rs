//! Messages cut out of a stream of bytes (RFC 4271, section 4.1 and 6.1).
#![forbid(unsafe_code)]

use super::{MessageError, Notification, codes};

/// A whole message whose header is right. What the body says is not looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// Type.
    pub kind: FrameKind,
    /// The whole message.
    pub message: &'a [u8],
}

/// Type of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameKind {
    /// KEEPALIVE.
    Keepalive,
    /// NOTIFICATION.
    Notification,
    /// OPEN.
    Open,
    /// ROUTE-REFRESH.
    RouteRefresh,
    /// UPDATE.
    Update,
}

impl<'a> Frame<'a> {
    /// The message that `bytes` begin with; `None` if its end is missing. A wrong header is an error as
    /// soon as the wrong octet is there. `max_len` is 4,096, or 65,535 if extended messages (RFC 8654)
    /// may come.
    pub fn first(bytes: &'a [u8], max_len: usize) -> Result<Option<Self>, MessageError> {
        let marker = &bytes[..bytes.len().min(MARKER_LEN)];
        if let Some(at) = marker.iter().position(|octet| *octet != 0xff) {
            return Err(MessageError {
                notification: Notification::new(codes::NOT_SYNCHRONIZED),
                why: format!("octet {at} of the marker is {:#04x}, not 0xff", marker[at]),
            });
        }
        let Some(&[high, low, kind]) = bytes.get(MARKER_LEN..HEADER_LEN) else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let kind = FrameKind::of(kind)?;
        let allowed = kind.allowed(max_len);
        if !allowed.contains(&len) {
            return Err(MessageError {
                notification: Notification::with(codes::BAD_LENGTH, [high, low]),
                why: format!(
                    "{} of {len} octets; {} to {} are allowed",
                    kind.label(),
                    allowed.start(),
                    allowed.end()
                ),
            });
        }
        Ok(bytes.get(..len).map(|message| Self { kind, message }))
    }

    /// What follows the header.
    pub fn body(&self) -> &'a [u8] {
        &self.message[HEADER_LEN..]
    }
}

impl FrameKind {
    /// Value on the wire.
    pub const fn value(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    /// As RFCs write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Keepalive => "KEEPALIVE",
            Self::Notification => "NOTIFICATION",
            Self::Open => "OPEN",
            Self::RouteRefresh => "ROUTE-REFRESH",
            Self::Update => "UPDATE",
        }
    }

    /// That of a message, as its header says.
    pub(super) fn of_message(message: &[u8]) -> Option<Self> {
        Self::of(*message.get(HEADER_LEN - 1)?).ok()
    }

    fn of(value: u8) -> Result<Self, MessageError> {
        match value {
            1 => Ok(Self::Open),
            2 => Ok(Self::Update),
            3 => Ok(Self::Notification),
            4 => Ok(Self::Keepalive),
            5 => Ok(Self::RouteRefresh),
            _ => Err(MessageError {
                notification: Notification::with(codes::BAD_TYPE, [value]),
                why: format!("message of type {value}; types 1 to 5 are known"),
            }),
        }
    }

    /// Lengths that a message of this type can have. OPEN and KEEPALIVE are never extended (RFC 8654,
    /// section 4).
    fn allowed(self, max_len: usize) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Keepalive => HEADER_LEN..=HEADER_LEN,
            Self::Notification => HEADER_LEN + 2..=max_len,
            Self::Open => HEADER_LEN + 10..=MESSAGE_MAX,
            Self::RouteRefresh | Self::Update => HEADER_LEN + 4..=max_len,
        }
    }
}

/// Appends the header of a message whose body of `body_len` octets follows; the whole has to be at most
/// 65,535 octets long.
pub(super) fn put_header(kind: FrameKind, body_len: usize, out: &mut Vec<u8>) {
    debug_assert!(HEADER_LEN + body_len <= EXTENDED_MAX, "{} of {body_len}", kind.label());
    out.extend_from_slice(&[0xff; MARKER_LEN]);
    out.extend_from_slice(&((HEADER_LEN + body_len) as u16).to_be_bytes());
    out.push(kind.value());
}

const MARKER_LEN: usize = 16;

/// Octets of a header.
pub const HEADER_LEN: usize = 19;

/// Octets of the longest message, unless longer ones were agreed on.
pub const MESSAGE_MAX: usize = 4096;

/// Octets of the longest extended message (RFC 8654).
pub const EXTENDED_MAX: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(len: u16, kind: u8) -> Vec<u8> {
        let [high, low] = len.to_be_bytes();
        [&[0xff; 16][..], &[high, low, kind]].concat()
    }

    #[test]
    fn a_message_is_cut_out_when_its_last_octet_is_there() {
        let mut bytes = header(23, 2);
        bytes.extend([0; 4]);
        for len in 0..bytes.len() {
            assert_eq!(Frame::first(&bytes[..len], MESSAGE_MAX), Ok(None), "{len} octets");
        }
        bytes.push(0xff);
        let frame = Frame::first(&bytes, MESSAGE_MAX).unwrap().unwrap();
        assert_eq!(
            (frame.kind, frame.message.len(), frame.body()),
            (FrameKind::Update, 23, &[0; 4][..])
        );
    }

    #[test]
    fn a_wrong_header_is_answered_as_rfc_4271_6_1_says() {
        let mut marker = header(19, 4);
        marker[3] = 0;
        let cases = [
            ("marker", marker[..4].to_vec(), (1, 1), vec![]),
            ("below 19", header(18, 4), (1, 2), vec![0, 18]),
            ("above 4,096", header(4097, 2), (1, 2), vec![0x10, 1]),
            ("OPEN below 29", header(28, 1), (1, 2), vec![0, 28]),
            ("UPDATE below 23", header(22, 2), (1, 2), vec![0, 22]),
            ("NOTIFICATION below 21", header(20, 3), (1, 2), vec![0, 20]),
            ("KEEPALIVE of 20", header(20, 4), (1, 2), vec![0, 20]),
            ("ROUTE-REFRESH below 23", header(22, 5), (1, 2), vec![0, 22]),
            ("type 0", header(19, 0), (1, 3), vec![0]),
            ("type 6", header(19, 6), (1, 3), vec![6]),
        ];
        for (case, bytes, codes, data) in cases {
            let error = Frame::first(&bytes, MESSAGE_MAX).expect_err(case);
            assert_eq!(error.notification, Notification::with(codes, data), "{case}: {error}");
        }
    }

    #[test]
    fn extended_messages_are_for_those_that_may_be_long() {
        let max = |kind: u8| {
            let fits = |len: &u16| Frame::first(&header(*len, kind), EXTENDED_MAX).is_ok();
            [19, 23, 4096, 4097, 65_535].into_iter().filter(fits).max()
        };
        assert_eq!([1, 2, 3, 4, 5].map(max), [4096, 65_535, 65_535, 19, 65_535].map(Some));
    }
}
