//! A request to rtnetlink: its type, a fixed header and attributes.
#![forbid(unsafe_code)]

use std::iter;
use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Emitable as _, NetlinkPayload, NetlinkSerializable};

/// A message to the kernel without its netlink header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) struct Request {
    kind: u16,
    body: Vec<u8>,
}

impl Request {
    /// A request of type `kind` (`RTM_*`) with the fixed header of its family and no attributes.
    pub fn new(kind: u16, header: &[u8]) -> Self {
        Self { kind, body: header.to_vec() }
    }

    /// Appends an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let attribute = DefaultNla::new(kind, value.to_vec());
        let start = self.body.len();
        self.body.extend(iter::repeat_n(0, attribute.buffer_len()));
        attribute.emit(&mut self.body[start..]);
        self
    }

    /// Appends a string with its final zero.
    #[must_use]
    pub fn with_text(self, kind: u16, text: &str) -> Self {
        self.with(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Appends a number in the machine's order.
    #[must_use]
    pub fn with_number(self, kind: u16, number: u32) -> Self {
        self.with(kind, &number.to_ne_bytes())
    }

    /// Appends the 4 or 16 bytes of an address.
    #[must_use]
    pub fn with_address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.with(kind, &address.octets()),
            IpAddr::V6(address) => self.with(kind, &address.octets()),
        }
    }

    /// Header and attributes: the value of an attribute that holds others.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl From<Request> for NetlinkPayload<Request> {
    fn from(request: Request) -> Self {
        Self::InnerMessage(request)
    }
}
