//! One connection with the neighbour: its bytes and its timers.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::frame::{EXTENDED_MAX, Frame, MESSAGE_MAX};
use super::super::{Message, MessageError, Negotiated, UpdateContext};
use super::State;
use super::record::Record;
use crate::time::Nanos;

/// A connection. What it may say and hear is for [`super::Session`].
#[derive(Debug)]
pub(super) struct Link {
    /// OpenSent, OpenConfirm or Established.
    pub(super) state: State,
    /// We said nothing of capabilities.
    pub(super) bare: bool,
    /// Since the neighbour's OPEN.
    pub(super) agreed: Option<Agreed>,
    /// When it became established.
    pub(super) since: Nanos,
    input: Buffer,
    output: Buffer,
    hold: Option<Duration>,
    hold_due: Option<Nanos>,
    pub(super) keepalive_due: Option<Nanos>,
    send_hold: Duration,
    send_due: Option<Nanos>,
}

/// What both sides agreed on, and how UPDATEs are read therefore.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) negotiated: Negotiated,
    pub(super) context: UpdateContext,
}

/// Bytes that are taken from the front.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Link {
    /// A connection that was just made; the neighbour has `open_hold` for its OPEN.
    pub(super) fn new(now: Nanos, bare: bool, send_hold: Duration, open_hold: Duration) -> Self {
        Self {
            state: State::OpenSent,
            bare,
            agreed: None,
            since: now,
            input: Buffer::default(),
            output: Buffer::default(),
            hold: Some(open_hold),
            hold_due: Some(now + open_hold),
            keepalive_due: None,
            send_hold,
            send_due: None,
        }
    }

    /// How many bytes from the neighbour it takes now.
    pub(super) fn room(&self) -> usize {
        let most = (MESSAGES_READ_AHEAD * self.message_max()).min(INPUT_MAX);
        most.saturating_sub(self.input.len())
    }

    /// The longest message that the neighbour may send.
    fn message_max(&self) -> usize {
        self.agreed.as_ref().map_or(MESSAGE_MAX, |agreed| agreed.negotiated.receive_max)
    }

    /// Takes as many of `bytes` as it has room for; returns how many.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.input.append(|input| input.extend_from_slice(&bytes[..count]));
        count
    }

    /// The message that is next. An error if it can be none.
    pub(super) fn next_frame(&self) -> Result<Option<Frame<'_>>, MessageError> {
        Frame::first(self.input.rest(), self.message_max())
    }

    /// What is not read yet.
    pub(super) fn unread(&self) -> &[u8] {
        self.input.rest()
    }

    /// The message of [`Self::next_frame`] was handled, or will be.
    pub(super) fn consume(&mut self, len: usize) {
        self.input.skip(len);
    }

    /// Bytes for the neighbour.
    pub(super) fn output(&self) -> &[u8] {
        self.output.rest()
    }

    /// Appends bytes for the neighbour. From now on it has to take some.
    pub(super) fn say<T>(
        &mut self,
        now: Nanos,
        record: &mut Record,
        put: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> T {
        let before = self.output.len();
        let result = self.output.append(put);
        record.said(now, &self.output.rest()[before..]);
        if self.output.len() > 0 && self.send_due.is_none() {
            self.send_due = Some(now + self.send_hold);
        }
        result
    }

    /// The neighbour's side took `count` bytes.
    pub(super) fn sent(&mut self, now: Nanos, count: usize) {
        if count == 0 {
            return;
        }
        self.output.skip(count.min(self.output.len()));
        let is_waiting = self.output.len() > 0;
        self.send_due = is_waiting.then(|| now + self.send_hold);
    }

    /// Says a KEEPALIVE, unless something waits already, which says as much.
    pub(super) fn say_keepalive(&mut self, now: Nanos, record: &mut Record) {
        if self.output.len() == 0 {
            self.say(now, record, Message::put_keepalive);
        }
    }

    /// From now on silence for `hold` is an error, and for `send_hold` of the neighbour's side too.
    pub(super) fn set_hold(&mut self, now: Nanos, hold: Duration, send_hold: Duration) {
        self.hold = (hold > Duration::ZERO).then_some(hold);
        self.send_hold = send_hold;
        self.heard(now);
    }

    /// The neighbour said something.
    pub(super) fn heard(&mut self, now: Nanos) {
        self.hold_due = self.hold.map(|hold| now + hold);
    }

    /// Whether the neighbour was silent for the hold time: never while a message of it waits unread.
    pub(super) fn is_silent(&self, now: Nanos) -> bool {
        self.hold_due.is_some_and(|due| due <= now) && !self.is_unread()
    }

    /// Whether the neighbour took nothing for the send hold time.
    pub(super) fn is_stuck(&self, now: Nanos) -> bool {
        self.send_due.is_some_and(|due| due <= now)
    }

    /// The earliest timer.
    pub(super) fn due(&self) -> Option<Nanos> {
        let hold = self.hold_due.filter(|_| !self.is_unread());
        [hold, self.keepalive_due, self.send_due].into_iter().flatten().min()
    }

    /// A whole message waits, or an error, which ends the session as soon as it is read.
    fn is_unread(&self) -> bool {
        !matches!(self.next_frame(), Ok(None))
    }
}

impl Buffer {
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn skip(&mut self, count: usize) {
        self.start += count;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    fn append<T>(&mut self, put: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        // Moves each byte at most once for each byte that was taken.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        put(&mut self.bytes)
    }
}

/// For the neighbour's OPEN (RFC 4271, section 8.2.2: "a large value").
pub(super) const OPEN_HOLD: Duration = Duration::from_mins(4);

/// The same, of one that came from a range: others wait for its place.
pub(super) const DYNAMIC_OPEN_HOLD: Duration = Duration::from_secs(15);

/// Messages of the greatest length for which there is room: each neighbour has memory for so many, and most
/// messages are shorter.
const MESSAGES_READ_AHEAD: usize = 4;

/// Room for the longest message, so that a whole one can always wait.
const INPUT_MAX: usize = EXTENDED_MAX + 1;
