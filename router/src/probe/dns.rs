//! DNS queries and what their answers say (RFC 1035, section 4).
#![forbid(unsafe_code)]

/// A question, encoded once: name, type A, class IN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Question(Box<[u8]>);

/// Why a name cannot be asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// A label is empty: `a..b`.
    #[error("has an empty label")]
    EmptyLabel,
    /// A label has more than 63 bytes.
    #[error("has a label of more than 63 bytes")]
    LabelTooLong,
    /// The name has more than 255 bytes.
    #[error("is longer than 255 bytes")]
    TooLong,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reply {
    /// The server works: any response code but the two below, NXDOMAIN included.
    Good,
    /// SERVFAIL or REFUSED.
    Bad,
}

impl Question {
    /// Encodes `name`; a dot at its end changes nothing, `.` alone is the root.
    pub(super) fn new(name: &str) -> Result<Self, NameError> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut bytes = Vec::with_capacity(name.len() + 6);
        for label in name.split('.').filter(|_| !name.is_empty()) {
            match label.len() {
                0 => return Err(NameError::EmptyLabel),
                len @ 1..=63 => bytes.push(len as u8),
                _ => return Err(NameError::LabelTooLong),
            }
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        if bytes.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        bytes.extend_from_slice(&[0, TYPE_A, 0, CLASS_IN]);
        Ok(Self(bytes.into()))
    }

    /// Bytes of a query.
    pub(super) fn query_len(&self) -> usize {
        HEADER + self.0.len()
    }

    /// Writes a query: recursion desired, one question, whose letters are small or capital as the
    /// bits of `case` say, over and over. Returns the part of the buffer it takes.
    pub(super) fn write_query<'a>(
        &self,
        id: u16,
        case: u64,
        buffer: &'a mut [u8; QUERY_MAX],
    ) -> &'a [u8] {
        let query = &mut buffer[..self.query_len()];
        query[..2].copy_from_slice(&id.to_be_bytes());
        query[2..HEADER].copy_from_slice(&[RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        query[HEADER..].copy_from_slice(&self.0);
        // Lengths of labels, type and class are below the codes of letters.
        let letters = query[HEADER..].iter_mut().filter(|byte| byte.is_ascii_alphabetic());
        for (index, letter) in letters.enumerate() {
            *letter = letter.to_ascii_lowercase() ^ ((case >> (index % 64)) as u8 & 1) << 5;
        }
        query
    }

    /// The id of a response to this question, in whatever case (some servers change it), and what
    /// it says; `None` for anything else.
    pub(super) fn read_reply(&self, message: &[u8]) -> Option<(u16, Reply)> {
        let (header, body) = message.split_at_checked(HEADER)?;
        let is_response = header[2] & (RESPONSE | OPCODE) == RESPONSE;
        let same_question =
            body.get(..self.0.len()).is_some_and(|asked| asked.eq_ignore_ascii_case(&self.0));
        if !is_response || header[4..6] != [0, 1] || !same_question {
            return None;
        }
        let reply = match header[3] & 0xf {
            SERVFAIL | REFUSED => Reply::Bad,
            _ => Reply::Good,
        };
        Some((u16::from_be_bytes([header[0], header[1]]), reply))
    }
}

/// Bytes of the longest query.
pub(super) const QUERY_MAX: usize = HEADER + NAME_MAX + 4;

const HEADER: usize = 12;
const NAME_MAX: usize = 255;
const TYPE_A: u8 = 1;
const CLASS_IN: u8 = 1;
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RECURSION_DESIRED: u8 = 1;
const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    fn query(name: &str, id: u16) -> Vec<u8> {
        let question = Question::new(name).unwrap();
        question.write_query(id, 0, &mut [0; QUERY_MAX]).to_vec()
    }

    #[test]
    fn a_query_is_read_by_another_implementation() {
        for (name, want) in [("example.org", "example.org."), ("a.b.c.", "a.b.c."), (".", ".")] {
            let message = Message::from_vec(&query(name, 0x1234)).unwrap();
            assert_eq!(message.metadata.id, 0x1234);
            assert!(message.metadata.recursion_desired);
            let asked = &message.queries[0];
            assert_eq!(asked.name().to_ascii(), want, "{name}");
            assert_eq!(asked.query_type(), RecordType::A);
        }
    }

    #[test]
    fn the_case_of_letters_is_drawn_and_nothing_else_changes() {
        let question = Question::new("Ab-9.example.org").unwrap();
        let plain = question.write_query(5, 0, &mut [0; QUERY_MAX]).to_vec();
        let mut buffer = [0; QUERY_MAX];
        let mixed = question.write_query(5, 0b1001_0000_0110, &mut buffer).to_vec();
        assert_eq!(&mixed[12..30], b"\x04aB-9\x07ExamplE\x03orG\0");
        assert!(mixed.eq_ignore_ascii_case(&plain) && mixed != plain);
        // The longest label there is: its length is the last code before the capital letters.
        let long = Question::new(&"x".repeat(63)).unwrap();
        let capital = long.write_query(5, u64::MAX, &mut buffer);
        assert_eq!((capital[12], capital[13], capital[75], capital[76]), (63, b'X', b'X', 0));
    }

    #[test]
    fn names_that_cannot_be_asked_for() {
        let long_label = "x".repeat(64);
        let long_name = ["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(63)].join(".");
        for (name, want) in [
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a..", NameError::EmptyLabel),
            (long_label.as_str(), NameError::LabelTooLong),
            (long_name.as_str(), NameError::TooLong),
        ] {
            assert_eq!(Question::new(name), Err(want), "{name}");
        }
    }

    #[test]
    fn replies_of_another_implementation_are_judged() {
        let question = Question::new("example.org").unwrap();
        for (case, name, code, kind, want) in [
            (
                "answer",
                "example.org.",
                ResponseCode::NoError,
                MessageType::Response,
                Some(Reply::Good),
            ),
            (
                "other case",
                "eXample.ORG.",
                ResponseCode::NoError,
                MessageType::Response,
                Some(Reply::Good),
            ),
            (
                "no such name",
                "example.org.",
                ResponseCode::NXDomain,
                MessageType::Response,
                Some(Reply::Good),
            ),
            (
                "broken",
                "example.org.",
                ResponseCode::ServFail,
                MessageType::Response,
                Some(Reply::Bad),
            ),
            (
                "refused",
                "example.org.",
                ResponseCode::Refused,
                MessageType::Response,
                Some(Reply::Bad),
            ),
            ("other name", "example.com.", ResponseCode::NoError, MessageType::Response, None),
            ("a query", "example.org.", ResponseCode::NoError, MessageType::Query, None),
        ] {
            let mut message = Message::new(7, kind, OpCode::Query);
            message.metadata.response_code = code;
            message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
            let bytes = message.to_vec().unwrap();
            assert_eq!(question.read_reply(&bytes), want.map(|reply| (7, reply)), "{case}");
        }
    }

    #[test]
    fn a_cut_reply_is_no_reply() {
        let question = Question::new("example.org").unwrap();
        let mut reply = query("example.org", 9);
        reply[2] |= RESPONSE;
        assert!(question.read_reply(&reply).is_some());
        for len in 0..reply.len() {
            assert_eq!(question.read_reply(&reply[..len]), None, "{len} bytes");
        }
    }
}
