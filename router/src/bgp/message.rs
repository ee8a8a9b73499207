//! Messages between BGP speakers, as values.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::family::{SAFI_UNICAST, afi_of, family_of};
use super::frame::{Frame, FrameKind, HEADER_LEN, MESSAGE_MAX, put_header};
use super::{
    AttributeStore, Attributes, Capability, Fault, MessageError, Nlri, Notification, PerFamily,
    codes, decode_update, wire,
};
use crate::ids::Family;

/// A message, whole and understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// OPEN.
    Open(Open),
    /// UPDATE.
    Update(Update),
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh(RouteRefresh),
}

/// OPEN (RFC 4271, section 4.2), its capabilities understood (RFC 5492).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    /// The AS of the fixed part: AS_TRANS (23456) if the real one needs four octets.
    pub as_field: u16,
    /// Hold time in seconds: 0, or at least 3.
    pub hold_time_s: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// In the order in which they came.
    pub capabilities: Vec<Capability>,
}

/// UPDATE (RFC 4271, section 4.3), after RFC 7606: what is announced has all it needs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Update {
    /// No longer reachable by the sender, or treated so.
    pub withdrawn: Vec<Nlri>,
    /// At most one for each family.
    pub announced: Vec<Announced>,
    /// The sender has announced all it has of this family (RFC 4724, section 2).
    pub end_of_rib: Option<Family>,
    /// What was wrong with it.
    pub faults: Vec<Fault>,
}

/// Prefixes with the same attributes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announced {
    /// What all of them say of themselves.
    pub attributes: Arc<Attributes>,
    /// The prefixes, all of one family.
    pub nlri: Vec<Nlri>,
}

/// ROUTE-REFRESH (RFC 2918, RFC 7313).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouteRefresh {
    /// Address family identifier.
    pub afi: u16,
    /// Subsequent address family identifier.
    pub safi: u8,
    /// What is meant.
    pub kind: RefreshKind,
}

/// Subtype of a ROUTE-REFRESH.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefreshKind {
    /// Begin of a refresh (BoRR): what is not announced until its end is gone.
    Begin,
    /// End of a refresh (EoRR).
    End,
    /// Anything else; to be ignored.
    Other(u8),
    /// All routes of the family, please.
    Request,
}

impl Message {
    /// Reads a message. UPDATEs are read as `context` says.
    pub fn decode(
        frame: Frame<'_>,
        context: &UpdateContext,
        store: &mut AttributeStore,
    ) -> Result<Self, MessageError> {
        match frame.kind {
            FrameKind::Update => decode_update(frame.body(), context, store).map(Self::Update),
            _ => Self::decode_other(frame),
        }
    }

    /// Reads a message that is no UPDATE.
    pub(super) fn decode_other(frame: Frame<'_>) -> Result<Self, MessageError> {
        let body = frame.body();
        match frame.kind {
            FrameKind::Keepalive => Ok(Self::Keepalive),
            FrameKind::Notification => Ok(Self::Notification(Notification {
                // The frame has at least these two.
                code: body[0],
                subcode: body[1],
                data: body[2..].to_vec(),
            })),
            FrameKind::Open => wire::decode_open(body).map(Self::Open),
            FrameKind::RouteRefresh => RouteRefresh::decode(frame).map(Self::RouteRefresh),
            FrameKind::Update => Err(MessageError {
                notification: Notification::new(codes::UNEXPECTED_IN_OPEN_SENT),
                why: "UPDATE before anything was agreed on".into(),
            }),
        }
    }

    /// Appends a KEEPALIVE.
    pub fn put_keepalive(out: &mut Vec<u8>) {
        put_header(FrameKind::Keepalive, 0, out);
    }
}

impl Notification {
    /// Appends it, header included. What does not fit into 4,096 octets of its data is left out.
    pub fn put(&self, out: &mut Vec<u8>) {
        let data = &self.data[..self.data.len().min(MESSAGE_MAX - HEADER_LEN - 2)];
        put_header(FrameKind::Notification, 2 + data.len(), out);
        out.extend_from_slice(&[self.code, self.subcode]);
        out.extend_from_slice(data);
    }
}

impl RouteRefresh {
    /// Of a family that is spoken here.
    pub const fn of(family: Family, kind: RefreshKind) -> Self {
        Self { afi: afi_of(family), safi: SAFI_UNICAST, kind }
    }

    /// The family it is about, if it is spoken here.
    pub const fn family(self) -> Option<Family> {
        family_of(self.afi, self.safi)
    }

    /// Appends it, header included.
    pub fn put(self, out: &mut Vec<u8>) {
        let [high, low] = self.afi.to_be_bytes();
        let subtype = match self.kind {
            RefreshKind::Request => 0,
            RefreshKind::Begin => 1,
            RefreshKind::End => 2,
            RefreshKind::Other(subtype) => subtype,
        };
        put_header(FrameKind::RouteRefresh, 4, out);
        out.extend_from_slice(&[high, low, subtype, self.safi]);
    }

    /// A request may be longer (RFC 5291): what follows asks for a filter, which was not agreed on.
    fn decode(frame: Frame<'_>) -> Result<Self, MessageError> {
        let body = frame.body();
        let kind = match body[2] {
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            other => RefreshKind::Other(other),
        };
        if matches!(kind, RefreshKind::Begin | RefreshKind::End) && body.len() != 4 {
            return Err(MessageError {
                notification: Notification::with(codes::BAD_REFRESH_LENGTH, frame.message),
                why: format!("begin or end of a refresh of {} octets, not 23", frame.message.len()),
            });
        }
        Ok(Self { afi: u16::from_be_bytes([body[0], body[1]]), safi: body[3], kind })
    }
}

impl Open {
    /// The AS of the sender.
    pub fn asn(&self) -> u32 {
        let four_octets = self.capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
        four_octets.unwrap_or(u32::from(self.as_field))
    }
}

/// What UPDATEs of a session mean depends on what both sides agreed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a capability of its own")]
pub struct UpdateContext {
    /// AS numbers have four octets.
    pub four_octet_as: bool,
    /// Both sides are in one AS.
    pub internal: bool,
    /// The neighbour's AS, if its announcements have to begin with it.
    pub first_as: Option<u32>,
    /// Families that are exchanged; NLRI of others are ignored.
    pub families: PerFamily<bool>,
    /// Whether NLRI come with path identifiers.
    pub path_ids: PerFamily<bool>,
    /// IPv4 prefixes may have IPv6 next hops.
    pub extended_next_hop: bool,
    /// Next hops may be link-local only: agreed on, or the session itself runs between link-local
    /// addresses.
    pub link_local_next_hop: bool,
}
