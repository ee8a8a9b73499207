//! The least that speaks BGP: it opens a session, and sends what was encoded before.
#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::wait_for;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::report::BenchError;

/// An established session.
pub struct Speaker {
    stream: TcpStream,
}

/// Both ends of a session.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// This end, whose address is the BGP identifier too.
    pub local: Ipv4Addr,
    /// Its AS.
    pub asn: u32,
    /// The other end.
    pub remote: Ipv4Addr,
}

impl Speaker {
    /// Opens a session from a namespace, once the other end listens.
    ///
    /// # Errors
    /// The other end refuses for too long, or does not speak BGP.
    pub fn open(netns: &NetNs, ends: Ends) -> Result<Self, BenchError> {
        let opened = wait_for("a BGP session", OPENED_WITHIN, || {
            let opened =
                netns.within(|| Self::try_open(ends)).map_err(|error| error.to_string())?;
            opened.map_err(|error| format!("{} to {}: {error}", ends.local, ends.remote))
        });
        opened.map_err(BenchError::environment)
    }

    fn try_open(ends: Ends) -> io::Result<Self> {
        let socket: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::from((ends.local, 0)))?;
        connect(&socket, &SocketAddr::new(IpAddr::V4(ends.remote), 179))?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(&open(ends))?;
        let kind = read_message(&mut stream)?;
        if kind != OPEN {
            let why = format!("message of type {kind} instead of an OPEN");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        stream.write_all(&message(KEEPALIVE, &[]))?;
        while read_message(&mut stream)? != KEEPALIVE {}
        // What comes is of no interest; it must not fill the connection.
        let mut reader = stream.try_clone()?;
        reader.set_read_timeout(None)?;
        thread::spawn(move || {
            let mut sink = [0; 4096];
            while matches!(reader.read(&mut sink), Ok(1..)) {}
        });
        Ok(Self { stream })
    }

    /// Sends these bytes; returns when the first of them was sent.
    ///
    /// # Errors
    /// The session ends.
    pub fn send(&mut self, bytes: &[u8]) -> Result<Nanos, BenchError> {
        let begun = Nanos::now();
        self.stream.write_all(bytes).map_err(BenchError::environment)?;
        Ok(begun)
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        // The thread that reads has the socket too.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The type of the next message.
fn read_message(stream: &mut TcpStream) -> io::Result<u8> {
    let mut header = [0; 19];
    stream.read_exact(&mut header)?;
    let len = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let mut body = vec![0; len.saturating_sub(header.len())];
    stream.read_exact(&mut body)?;
    Ok(header[18])
}

/// Both families, four-octet AS numbers, and no hold time: nobody has to send KEEPALIVEs.
fn open(ends: Ends) -> Vec<u8> {
    let mut body = vec![4];
    body.extend_from_slice(&u16::try_from(ends.asn).unwrap_or(23_456).to_be_bytes());
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&ends.local.octets());
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend_from_slice(&ends.asn.to_be_bytes());
    body.extend_from_slice(&[capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.extend_from_slice(&capabilities);
    message(OPEN, &body)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend_from_slice(&(19 + body.len() as u16).to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

const OPEN: u8 = 1;
const KEEPALIVE: u8 = 4;

/// A router that lost a session waits before it takes the neighbour back.
const OPENED_WITHIN: Duration = Duration::from_mins(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
