//! A routing netlink socket: requests with their answers, and the messages in a datagram.
//!
//! Requests are written and answers read attribute by attribute: a device or a kernel with an
//! attribute that no parser knows spoils no list of links.
#![forbid(unsafe_code)]

mod request;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO,
    NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NlaBuffer, NlasIterator,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

pub(super) use request::Request;

/// A socket in the namespace of the thread that opened it.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// `RTM_*` or `NLMSG_*`.
    pub kind: u16,
    /// Of the request it answers; 0 for a notification.
    pub sequence: u32,
    /// The list it is part of changed while it was read.
    pub interrupted: bool,
    flags: u16,
    payload: &'a [u8],
}

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The kernel's errno.
    pub source: io::Error,
    /// Its words, if it had any (extended acknowledgement).
    pub words: Option<String>,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Older kernels lack these two; the answers are then less wordy.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM_MAX) })
    }

    /// Also receives the notifications of `group` (`RTNLGRP_*`), and never blocks from here on.
    pub fn subscribe(&mut self, group: u32) -> io::Result<()> {
        self.socket.add_membership(group)?;
        self.socket.set_non_blocking(true)
    }

    /// Has the kernel send only what a list's request names, where it can.
    pub fn filter_lists(&self) {
        let _ = self.socket.set_netlink_get_strict_chk(true);
    }

    /// How much may wait to be read. The kernel doubles the figure and has a least one.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_recv_buffer_size(&self.socket, bytes)?)
    }

    /// Sends a request and hands each part of its answer to `part` until the kernel has
    /// acknowledged it. `Ok(true)` if a list changed while it was read: ask again.
    pub fn request(
        &mut self,
        flags: u16,
        request: Request,
        mut part: impl FnMut(Message<'_>),
    ) -> Result<bool, Refusal> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(ANSWER_TIMEOUT))
            .map_err(io::Error::from)?;
        let sequence = self.send(flags, request)?;
        let mut interrupted = false;
        loop {
            self.receive()?;
            for message in self.messages().filter(|message| message.sequence == sequence) {
                interrupted |= message.interrupted;
                match message.outcome() {
                    None => part(message),
                    Some(Ok(())) => return Ok(interrupted),
                    Some(Err(refusal)) => return Err(refusal),
                }
            }
        }
    }

    /// Sends a request; its answer bears the number returned.
    pub fn send(&mut self, flags: u16, request: Request) -> io::Result<u32> {
        // 0 marks what the kernel sends unasked.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, request.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        retry(|| self.socket.send(&bytes, 0))?;
        Ok(self.sequence)
    }

    /// Reads the next datagram, in place of the last one.
    pub fn receive(&mut self) -> io::Result<()> {
        self.buffer.clear();
        let len = retry(|| self.socket.recv(&mut self.buffer, libc::MSG_TRUNC))?;
        if len > self.buffer.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a netlink datagram of {len} bytes, expected at most {DATAGRAM_MAX}"),
            ));
        }
        Ok(())
    }

    /// The messages of the datagram read last.
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        messages(&self.buffer)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<'a> Message<'a> {
    /// The fixed header of `len` bytes and the attributes after it; `None` if it is cut short.
    pub fn parts(&self, len: usize) -> Option<(&'a [u8], Attributes<'a>)> {
        let (header, rest) = self.payload.split_at_checked(len)?;
        Some((header, Attributes(rest)))
    }

    /// Whether this ends an answer, and how.
    pub fn outcome(&self) -> Option<Result<(), Refusal>> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return None;
        }
        let code = self.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        if code == 0 {
            return Some(Ok(()));
        }
        let source = io::Error::from_raw_os_error(code.saturating_neg());
        Some(Err(Refusal { source, words: self.words() }))
    }

    /// The kernel's words: attribute 1 after the errno and the request it quotes.
    fn words(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let quoted = match self.kind {
            NLMSG_DONE => 0,
            _ if self.flags & NLM_F_CAPPED != 0 => NLMSG_HEADER_LEN,
            _ => {
                let len = self.payload.get(4..8)?.first_chunk()?;
                align(u32::from_ne_bytes(*len) as usize)
            }
        };
        let attributes = Attributes(self.payload.get(4 + quoted..)?);
        attributes.get(NLMSGERR_ATTR_MSG).map(text)
    }
}

/// Attributes of a message or of another attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of the first attribute of this kind.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// Kind and value of each, up to the first that is malformed.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let bytes = self.0;
        NlasIterator::new(bytes).map_while(
            move |attribute: Result<NlaBuffer<&[u8]>, DecodeError>| {
                let attribute = attribute.ok()?;
                let (kind, len) = (attribute.kind(), attribute.value_length());
                attribute.into_inner().get(4..4 + len).map(|value| (kind, value))
            },
        )
    }
}

/// A number in an attribute, in the machine's order.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A string in an attribute, with or without its final zero.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// The messages in a datagram, up to the first that is malformed.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let buffer = NetlinkBuffer::new_checked(datagram).ok()?;
        let len = buffer.length() as usize;
        let message = Message {
            kind: buffer.message_type(),
            sequence: buffer.sequence_number(),
            interrupted: buffer.flags() & NLM_F_DUMP_INTR != 0,
            flags: buffer.flags(),
            payload: datagram.get(NLMSG_HEADER_LEN..len)?,
        };
        datagram = datagram.get(align(len)..).unwrap_or_default();
        Some(message)
    })
}

/// Messages and attributes start at multiples of four bytes.
fn align(len: usize) -> usize {
    len.next_multiple_of(usize::from(NLMSG_ALIGNTO))
}

/// Calls again when a signal came in between.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Self {
        Self { source, words: None }
    }
}

const NLMSG_HEADER_LEN: usize = 16;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The kernel fills datagrams of 32 KiB at most (`netlink_dump`).
const DATAGRAM_MAX: usize = 64 << 10;

/// The kernel answers before `send` returns or as it is read: silence would be a bug.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLM_F_ACK;
    use proptest::prelude::*;

    use super::*;

    const IFLA_IFNAME: u16 = 3;

    #[test]
    fn a_refusal_carries_the_errno_and_a_request_after_it_is_answered() {
        let mut netlink = Netlink::open().unwrap();
        let mut get = |name: &str| {
            let request = Request::new(libc::RTM_GETLINK, &[0; 16]).with_text(IFLA_IFNAME, name);
            let mut parts = 0;
            let done = netlink.request(NLM_F_ACK, request, |_| parts += 1);
            (done, parts)
        };
        let (done, parts) = get("nh-not-there");
        assert_eq!((done.unwrap_err().source.raw_os_error(), parts), (Some(libc::ENODEV), 0));
        let (done, parts) = get("lo");
        assert_eq!((done.is_ok(), parts), (true, 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = message.outcome();
                if let Some((_, attributes)) = message.parts(16) {
                    prop_assert!(attributes.iter().count() <= bytes.len());
                }
            }
            prop_assert!(Attributes(&bytes).iter().count() <= bytes.len());
        }
    }
}
