//! A BGP speaker that says exactly what a test gives it, right or wrong.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use nearhop::bgp::{Frame, FrameKind, MESSAGE_MAX};
use nearhop::kernel::netns::NetNs;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::support;

/// One connection, on which both sides have said OPEN and KEEPALIVE.
pub struct Speaker {
    stream: TcpStream,
    heard: Vec<u8>,
}

/// Who speaks with whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub asn: u32,
    pub id: Ipv4Addr,
    /// The hold time that is proposed, in seconds. No KEEPALIVE is said after the first: with 0 none has to be.
    pub hold_s: u16,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// By a NOTIFICATION of this code and subcode.
    Notified(u8, u8),
    /// Without a word.
    Closed,
}

impl Speaker {
    /// Tries until the other side answers and wants the session.
    pub fn open(netns: &NetNs, ends: Ends) -> Self {
        support::wait_for("a session", || Self::try_open(netns, ends).ok())
    }

    /// One attempt.
    pub fn try_open(netns: &NetNs, ends: Ends) -> io::Result<Self> {
        let mut speaker = Self::connect(netns, ends)?;
        speaker.send(&open(ends));
        speaker.hear(FrameKind::Open)?;
        speaker.send(&message(4, &[]));
        speaker.hear(FrameKind::Keepalive)?;
        Ok(speaker)
    }

    /// Connects, and says nothing yet.
    pub fn connect(netns: &NetNs, ends: Ends) -> io::Result<Self> {
        Ok(Self::of(dial(netns, ends)?))
    }

    /// On a connection, on which nothing is said yet.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(READ_FOR)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, heard: Vec::new() }
    }

    /// Says these bytes. That the other side is gone is found out by [`Self::end`].
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says an UPDATE of these parts.
    pub fn update(&mut self, withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) {
        self.send(&update(withdrawn, attributes, nlri));
    }

    /// Waits for the end of the session.
    pub fn end(mut self) -> End {
        support::wait_for("the end of the session", || self.poll_end())
    }

    /// How the session ended, if it has.
    pub fn poll_end(&mut self) -> Option<End> {
        while let Some((kind, bytes)) = self.next() {
            if kind == FrameKind::Notification {
                return Some(End::Notified(bytes[19], bytes[20]));
            }
        }
        match self.read() {
            Ok(true) => None,
            Ok(false) | Err(_) => Some(End::Closed),
        }
    }

    /// The connection.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn hear(&mut self, wanted: FrameKind) -> io::Result<()> {
        for _ in 0..READS_MAX {
            match self.next() {
                Some((kind, _)) if kind == wanted => return Ok(()),
                Some((kind, bytes)) => {
                    let what = format!("{kind:?} {bytes:?} for {wanted:?}");
                    return Err(io::Error::other(what));
                }
                None if self.read()? => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Takes the next whole message.
    fn next(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        let frame = Frame::first(&self.heard, MESSAGE_MAX).expect("a message that can be one")?;
        let (kind, bytes) = (frame.kind, frame.message.to_vec());
        self.heard.drain(..bytes.len());
        Some((kind, bytes))
    }

    /// Reads what is there within a moment; `false` at the end.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 8192];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(len) => {
                self.heard.extend_from_slice(&buffer[..len]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// A connection to port 179.
pub fn dial(netns: &NetNs, ends: Ends) -> io::Result<TcpStream> {
    let connected = netns.within(|| {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::from((ends.from, 0)))?;
        connect(&socket, &SocketAddr::from((ends.to, 179)))?;
        Ok::<_, io::Error>(TcpStream::from(socket))
    });
    connected.map_err(io::Error::other)?
}

/// An OPEN with four octets of AS and IPv4 and IPv6 unicast.
pub fn open(ends: Ends) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 2, 0, 65, 4];
    capabilities.extend_from_slice(&ends.asn.to_be_bytes());
    let len = u8::try_from(capabilities.len()).unwrap();
    let mut body = vec![4];
    body.extend_from_slice(&u16::try_from(ends.asn).unwrap_or(23_456).to_be_bytes());
    body.extend_from_slice(&ends.hold_s.to_be_bytes());
    body.extend_from_slice(&ends.id.octets());
    body.extend_from_slice(&[len + 2, 2, len]);
    body.extend_from_slice(&capabilities);
    message(1, &body)
}

/// An UPDATE of these parts.
pub fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let len = |part: &[u8]| u16::try_from(part.len()).unwrap().to_be_bytes();
    let body = [&len(withdrawn)[..], withdrawn, &len(attributes), attributes, nlri].concat();
    message(2, &body)
}

/// A message of a type.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(19 + body.len()).unwrap();
    [&[0xff; 16][..], &len.to_be_bytes(), &[kind], body].concat()
}

/// An attribute with one octet of length.
pub fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    [&[flags, code, u8::try_from(value.len()).unwrap()], value].concat()
}

/// An IPv4 prefix as in UPDATEs.
pub fn nlri(prefix: &str) -> Vec<u8> {
    let (address, len) = prefix.split_once('/').unwrap();
    let (address, len): (Ipv4Addr, u8) = (address.parse().unwrap(), len.parse().unwrap());
    let octets = address.octets();
    [&[len], &octets[..usize::from(len.div_ceil(8))]].concat()
}

/// An AS_PATH of one sequence.
pub fn as_path(path: &[u32]) -> Vec<u8> {
    let mut value = vec![2, u8::try_from(path.len()).unwrap()];
    for asn in path {
        value.extend_from_slice(&asn.to_be_bytes());
    }
    attribute(0x40, 2, if path.is_empty() { &[] } else { &value })
}

/// One read waits for so long at most.
const READ_FOR: Duration = Duration::from_millis(20);

/// Reads for one message, before the whole attempt is repeated.
const READS_MAX: usize = 500;
