//! The first bytes of the upper layer, of a packet or of the packet that an ICMP error quotes. They
//! identify a flow, and the request that an error is about.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use nearhop_fib::FlowKey;

use super::icmp::{self, Message};
use super::icmpv6;
use super::ipv4::Ipv4;
use super::ipv6::{Extensions, Ipv6};
use super::{Fragment, Meta, protocol};

/// The content of an ICMP or ICMPv6 error: which packet it is about, and what happened to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quoted {
    /// Source of the quoted packet.
    pub src: IpAddr,
    /// Destination of the quoted packet.
    pub dst: IpAddr,
    /// Its upper layer's protocol.
    pub protocol: u8,
    /// Its source port; 0 if the protocol has none.
    pub src_port: u16,
    /// Its destination port; 0 if the protocol has none.
    pub dst_port: u16,
    /// Whether it is an echo request; if not, the next two are 0.
    pub echo_request: bool,
    /// Its echo identifier.
    pub icmp_ident: u16,
    /// Its echo sequence number.
    pub icmp_seq: u16,
    /// Whether the error reports the destination, protocol or port as unreachable (not the packet
    /// as too big, expired or malformed).
    pub unreachable: bool,
    /// Type of the error, in the outer packet's family.
    pub kind: u8,
    /// Code of the error.
    pub code: u8,
    /// MTU of the next hop, if the packet was too big; 0 from routers that do not report it (RFC
    /// 1191 section 5).
    pub mtu: Option<u32>,
}

/// Reads `packet` if it is an unfragmented ICMP or ICMPv6 error with a valid checksum that quotes
/// enough to match it with a request: up to the ports, or the echo identifier and sequence number.
/// `meta` is what [`Meta::parse`] returned for `packet`.
pub fn quoted(packet: &[u8], meta: &Meta) -> Option<Quoted> {
    if meta.fragment != Fragment::Whole {
        return None;
    }
    let message = packet.get(meta.header_len..meta.len)?;
    let error = match (meta.src, meta.dst, meta.protocol) {
        (IpAddr::V4(_), _, protocol::ICMP) => IcmpError::of_icmp(message)?,
        (IpAddr::V6(src), IpAddr::V6(dst), protocol::ICMPV6) => {
            Message::parse(message).ok().filter(|message| icmpv6::is_valid(message, src, dst))?;
            IcmpError::of_icmpv6(message)?
        }
        _ => return None,
    };
    let upper = Upper::of_quote(error.quote, meta.src.is_ipv6())?;
    let [src_port, dst_port] = upper.ports_in_quote()?;
    let [icmp_ident, icmp_seq] = upper.echo_in_quote()?;
    Some(Quoted {
        src: upper.src,
        dst: upper.dst,
        protocol: upper.protocol,
        src_port,
        dst_port,
        echo_request: upper.is_echo_request(),
        icmp_ident,
        icmp_seq,
        unreachable: error.unreachable,
        kind: error.kind,
        code: error.code,
        mtu: error.mtu,
    })
}

/// Whether `packet`, whose [`Meta`] is `meta`, is an ICMP or ICMPv6 error that quotes a fragment
/// after the first, which does not say which flow it belongs to.
pub fn quotes_later_fragment(packet: &[u8], meta: &Meta) -> bool {
    let is_ipv6 = meta.src.is_ipv6();
    if meta.fragment != Fragment::Whole || !protocol::is_icmp(meta.protocol, is_ipv6) {
        return false;
    }
    let message = packet.get(meta.header_len..meta.len);
    let quote = message.and_then(|message| quote_in(message, is_ipv6));
    let quoted = quote.and_then(|quote| Upper::of_quote(quote, is_ipv6));
    quoted.is_some_and(|quoted| quoted.fragment == Fragment::Later)
}

/// What an ICMP message quotes, if it is of a type that does.
fn quote_in(message: &[u8], is_ipv6: bool) -> Option<&[u8]> {
    let has_quote = if is_ipv6 { icmpv6::has_quote } else { icmp::has_quote };
    let (header, quote) = message.split_first_chunk::<{ icmp::HEADER_LEN }>()?;
    has_quote(header[0]).then_some(quote)
}

/// The parsed header of an error.
struct IcmpError<'a> {
    kind: u8,
    code: u8,
    unreachable: bool,
    mtu: Option<u32>,
    quote: &'a [u8],
}

impl<'a> IcmpError<'a> {
    fn of_icmp(message: &'a [u8]) -> Option<Self> {
        let error = Message::parse(message).ok().filter(icmp::is_valid)?;
        if !icmp::has_quote(error.kind()) {
            return None;
        }
        let unreachable = error.kind() == icmp::UNREACHABLE;
        let too_big = unreachable && error.code() == icmp::FRAGMENTATION_NEEDED;
        Some(Self {
            kind: error.kind(),
            code: error.code(),
            unreachable: unreachable && !too_big,
            mtu: too_big.then(|| u32::from(icmp::mtu(&error))),
            quote: error.data(),
        })
    }

    fn of_icmpv6(message: &'a [u8]) -> Option<Self> {
        let error = Message::parse(message).ok()?;
        if !icmpv6::has_quote(error.kind()) {
            return None;
        }
        let unknown_protocol = error.kind() == icmpv6::PARAMETER_PROBLEM
            && error.code() == icmpv6::UNKNOWN_NEXT_HEADER;
        Some(Self {
            kind: error.kind(),
            code: error.code(),
            unreachable: error.kind() == icmpv6::UNREACHABLE || unknown_protocol,
            mtu: (error.kind() == icmpv6::PACKET_TOO_BIG).then(|| icmpv6::mtu(&error)),
            quote: error.data(),
        })
    }
}

/// Addresses and the first bytes of the upper layer, of either family.
pub(super) struct Upper<'a> {
    src: IpAddr,
    dst: IpAddr,
    label: u32,
    pub(super) protocol: u8,
    /// The protocol that every fragment of the datagram names.
    flow_protocol: u8,
    pub(super) fragment: Fragment,
    bytes: &'a [u8],
}

impl<'a> Upper<'a> {
    #[inline]
    pub(super) fn of_ipv4(packet: &Ipv4<'a>) -> Self {
        Self {
            src: packet.src().into(),
            dst: packet.dst().into(),
            label: 0,
            protocol: packet.protocol(),
            flow_protocol: packet.protocol(),
            fragment: packet.fragment(),
            bytes: packet.payload(),
        }
    }

    #[inline]
    pub(super) fn of_ipv6(packet: &Ipv6<'a>, extensions: &Extensions) -> Self {
        let fragment = extensions.fragment.map_or(Fragment::Whole, |header| header.fragment());
        let flow_protocol = match extensions.fragment {
            Some(header) if fragment != Fragment::Whole => header.next_header,
            _ => extensions.protocol,
        };
        Self {
            src: packet.src().into(),
            dst: packet.dst().into(),
            label: packet.flow_label(),
            protocol: extensions.protocol,
            flow_protocol,
            fragment,
            bytes: packet.payload().get(extensions.len..).unwrap_or_default(),
        }
    }

    /// The flow of a packet; see [`Meta::flow`].
    #[inline]
    pub(super) fn flow(&self) -> FlowKey {
        if self.is_icmp()
            && self.fragment == Fragment::Whole
            && let Some(flow) = self.quoted_flow()
        {
            return flow;
        }
        let [src_port, dst_port] = self.selectors().unwrap_or_default();
        self.key(src_port, dst_port)
    }

    /// The reversed flow of the quoted packet. An echo identifier stays in the source port, where
    /// an echo request has it, whichever direction the quoted packet had.
    #[cold]
    fn quoted_flow(&self) -> Option<FlowKey> {
        let quote = quote_in(self.bytes, self.src.is_ipv6())?;
        let quoted = Upper::of_quote(quote, self.src.is_ipv6())?.unfragmented();
        let [src_port, dst_port] = quoted.selectors()?;
        let [src_port, dst_port] =
            if quoted.is_icmp() { [src_port, dst_port] } else { [dst_port, src_port] };
        let key = quoted.key(src_port, dst_port);
        Some(FlowKey { src: key.dst, dst: key.src, label: 0, ..key })
    }

    fn of_quote(bytes: &'a [u8], ipv6: bool) -> Option<Self> {
        if ipv6 {
            let packet = Ipv6::parse_quoted(bytes).ok()?;
            Some(Self::of_ipv6(&packet, &packet.extensions().ok()?))
        } else {
            Some(Self::of_ipv4(&Ipv4::parse_quoted(bytes).ok()?))
        }
    }

    /// A first fragment as the whole datagram: an error about it belongs to the flow that the
    /// datagram answers, which usually is not fragmented (RFC 7690).
    fn unfragmented(self) -> Self {
        if self.fragment != Fragment::First {
            return self;
        }
        Self { fragment: Fragment::Whole, flow_protocol: self.protocol, ..self }
    }

    #[inline]
    fn key(&self, src_port: u16, dst_port: u16) -> FlowKey {
        FlowKey {
            src: number(self.src),
            dst: number(self.dst),
            protocol: self.flow_protocol,
            src_port,
            dst_port,
            label: self.label,
        }
    }

    /// Source and destination port as defined for [`Meta::flow`]; `None` if the bytes are too
    /// short.
    #[inline]
    fn selectors(&self) -> Option<[u16; 2]> {
        if self.fragment != Fragment::Whole {
            Some([0, 0])
        } else if self.is_icmp() {
            self.icmp_selectors()
        } else {
            self.ports()
        }
    }

    /// Ports; zeros if the protocol has none, `None` if the bytes are too short.
    #[inline]
    fn ports(&self) -> Option<[u16; 2]> {
        if !protocol::has_ports(self.protocol) {
            return Some([0, 0]);
        }
        let [a, b, c, d] = *self.bytes.first_chunk()?;
        Some([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
    }

    fn icmp_selectors(&self) -> Option<[u16; 2]> {
        let [kind, _, _, _, high, low] = *self.bytes.first_chunk()?;
        let ident = if self.is_echo(kind) { u16::from_be_bytes([high, low]) } else { 0 };
        Some([ident, 0])
    }

    /// [`Self::ports`]; also `None` for a non-first fragment, which has no ports.
    fn ports_in_quote(&self) -> Option<[u16; 2]> {
        if self.fragment == Fragment::Later { None } else { self.ports() }
    }

    /// Identifier and sequence number of an echo request; zeros if it is something else, `None` if
    /// the bytes are too short.
    fn echo_in_quote(&self) -> Option<[u16; 2]> {
        if !self.is_echo_request() {
            return Some([0, 0]);
        }
        let [_, _, _, _, a, b, c, d] = *self.bytes.first_chunk()?;
        Some([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
    }

    #[inline]
    fn is_icmp(&self) -> bool {
        protocol::is_icmp(self.protocol, self.src.is_ipv6())
    }

    fn is_echo(&self, kind: u8) -> bool {
        match self.src {
            IpAddr::V4(_) => matches!(kind, icmp::ECHO_REQUEST | icmp::ECHO_REPLY),
            IpAddr::V6(_) => matches!(kind, icmpv6::ECHO_REQUEST | icmpv6::ECHO_REPLY),
        }
    }

    fn is_echo_request(&self) -> bool {
        let request = if self.src.is_ipv4() { icmp::ECHO_REQUEST } else { icmpv6::ECHO_REQUEST };
        self.is_icmp() && self.bytes.first() == Some(&request)
    }
}

#[inline]
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests;
