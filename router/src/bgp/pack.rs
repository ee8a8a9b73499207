//! Routes packed into UPDATEs that are not too long.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};

use super::family::{SAFI_UNICAST, afi_of};
use super::frame::{FrameKind, HEADER_LEN, put_header};
use super::update::{MP_REACH, MP_UNREACH};
use super::wire::{self, EncodeError};
use super::{Attributes, NextHop, Nlri, PerFamily};
use crate::ids::Family;

/// How UPDATEs to a neighbour are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packing {
    /// AS numbers have four octets.
    pub four_octet_as: bool,
    /// Whether NLRI go with path identifiers.
    pub path_ids: PerFamily<bool>,
    /// Next hops that are only link-local go as one address, not as two.
    pub link_local_next_hop: bool,
    /// Octets of the longest message: 4,096, or 65,535 (RFC 8654).
    pub max_len: usize,
}

/// Why routes cannot be announced.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PackError {
    /// They cannot be written at all.
    #[error("attributes cannot be written: {0}")]
    Encode(#[from] EncodeError),
    /// They do not fit into a message, not even with a single prefix.
    #[error("an UPDATE with these attributes and one prefix has {len} octets; {max} are allowed")]
    TooLong {
        /// Octets of the message.
        len: usize,
        /// Octets that are allowed.
        max: usize,
    },
}

impl Packing {
    /// Appends one UPDATE that announces as many of `nlri` as fit, at least one; returns how many. They
    /// have to be of one family. On an error nothing is appended.
    pub fn announce(
        &self,
        attributes: &Attributes,
        nlri: &[Nlri],
        out: &mut Vec<u8>,
    ) -> Result<usize, PackError> {
        let Some(first) = nlri.first() else { return Ok(0) };
        let next_hop = match (first.family(), attributes.next_hop.addr) {
            (Family::Ipv4, IpAddr::V4(addr)) => Some(addr),
            _ => None,
        };
        let mut encoded = Vec::new();
        wire::encode_attributes(attributes, next_hop, self.four_octet_as, &mut encoded)?;
        match next_hop {
            Some(_) => self.announce_ipv4(&encoded, nlri, out),
            None => self.announce_mp(attributes.next_hop, &encoded, nlri, out),
        }
    }

    /// Appends one UPDATE that withdraws as many of `nlri` as fit; returns how many. They have to be of
    /// one family.
    pub fn withdraw(&self, nlri: &[Nlri], out: &mut Vec<u8>) -> usize {
        let Some(first) = nlri.first() else { return 0 };
        let family = first.family();
        let fixed = HEADER_LEN + 4 + if family == Family::Ipv4 { 0 } else { MP_HEADER_LEN + 3 };
        // A withdrawal of one prefix always fits.
        let (count, len) = self.fitting(nlri, self.max_len - fixed);
        put_header(FrameKind::Update, fixed - HEADER_LEN + len, out);
        if family == Family::Ipv4 {
            put_len(len, out);
            self.put(&nlri[..count], out);
            put_len(0, out);
        } else {
            put_len(0, out);
            put_len(MP_HEADER_LEN + 3 + len, out);
            put_mp_header(MP_UNREACH, family, 3 + len, out);
            self.put(&nlri[..count], out);
        }
        count
    }

    /// Appends an UPDATE that says that all routes of `family` have been sent (RFC 4724, section 2).
    pub fn end_of_rib(family: Family, out: &mut Vec<u8>) {
        let [high, low] = afi_of(family).to_be_bytes();
        let body: &[u8] = match family {
            Family::Ipv4 => &[0; 4],
            Family::Ipv6 => &[0, 0, 0, 6, 0x80, MP_UNREACH, 3, high, low, SAFI_UNICAST],
        };
        put_header(FrameKind::Update, body.len(), out);
        out.extend_from_slice(body);
    }

    fn announce_ipv4(
        &self,
        attributes: &[u8],
        nlri: &[Nlri],
        out: &mut Vec<u8>,
    ) -> Result<usize, PackError> {
        let fixed = HEADER_LEN + 4 + attributes.len();
        let (count, len) = self.fitting(nlri, self.room_beside(fixed, nlri[0])?);
        put_header(FrameKind::Update, fixed - HEADER_LEN + len, out);
        put_len(0, out);
        put_len(attributes.len(), out);
        out.extend_from_slice(attributes);
        self.put(&nlri[..count], out);
        Ok(count)
    }

    /// MP_REACH_NLRI comes first, as RFC 7606, section 5.1, asks.
    fn announce_mp(
        &self,
        next_hop: NextHop,
        attributes: &[u8],
        nlri: &[Nlri],
        out: &mut Vec<u8>,
    ) -> Result<usize, PackError> {
        let mut hop = Vec::with_capacity(33);
        self.put_next_hop(next_hop, &mut hop);
        // AFI, SAFI, next hop with its length, a reserved octet.
        let value = 3 + hop.len() + 1;
        let fixed = HEADER_LEN + 4 + MP_HEADER_LEN + value + attributes.len();
        let (count, len) = self.fitting(nlri, self.room_beside(fixed, nlri[0])?);
        put_header(FrameKind::Update, fixed - HEADER_LEN + len, out);
        put_len(0, out);
        put_len(MP_HEADER_LEN + value + len + attributes.len(), out);
        put_mp_header(MP_REACH, nlri[0].family(), value + len, out);
        out.extend_from_slice(&hop);
        out.push(0);
        self.put(&nlri[..count], out);
        out.extend_from_slice(attributes);
        Ok(count)
    }

    fn room_beside(&self, fixed: usize, first: Nlri) -> Result<usize, PackError> {
        let len = fixed + first.wire_len(*self.path_ids.of(first.family()));
        match self.max_len.checked_sub(fixed) {
            Some(room) if len <= self.max_len => Ok(room),
            _ => Err(PackError::TooLong { len, max: self.max_len }),
        }
    }

    /// How many of `nlri` fit into `room` octets, and how many octets they have.
    fn fitting(&self, nlri: &[Nlri], room: usize) -> (usize, usize) {
        let mut len = 0;
        let mut count = 0;
        for nlri in nlri {
            let more = nlri.wire_len(*self.path_ids.of(nlri.family()));
            if len + more > room {
                break;
            }
            len += more;
            count += 1;
        }
        (count, len)
    }

    fn put(&self, nlri: &[Nlri], out: &mut Vec<u8>) {
        for nlri in nlri {
            nlri.put(*self.path_ids.of(nlri.family()), out);
        }
    }

    fn put_next_hop(&self, next_hop: NextHop, out: &mut Vec<u8>) {
        let global = match next_hop.addr {
            // IPv6 prefixes with an IPv4 next hop (RFC 4291, section 2.5.5.2).
            IpAddr::V4(addr) => Ipv4Addr::to_ipv6_mapped(&addr),
            IpAddr::V6(addr) => addr,
        };
        let is_alone = global.is_unicast_link_local() && next_hop.link_local.is_none();
        // Without the capability there have to be two addresses; FRR writes them so.
        let second =
            if is_alone && !self.link_local_next_hop { Some(global) } else { next_hop.link_local };
        out.push(if second.is_some() { 32 } else { 16 });
        out.extend_from_slice(&global.octets());
        out.extend(second.into_iter().flat_map(|addr| addr.octets()));
    }
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(len as u16).to_be_bytes());
}

/// Header of an MP attribute, with AFI and SAFI, which count for `len`.
fn put_mp_header(code: u8, family: Family, len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&[OPTIONAL_EXTENDED, code]);
    put_len(len, out);
    out.extend_from_slice(&afi_of(family).to_be_bytes());
    out.push(SAFI_UNICAST);
}

/// Flags, type and a length of two octets.
const MP_HEADER_LEN: usize = 4;

const OPTIONAL_EXTENDED: u8 = 0x90;
