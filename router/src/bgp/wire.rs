//! The codec: the only file that knows `rustbgpd-wire`.
//!
//! It reads and writes OPEN and path attributes. Everything it says comes out in types of our own, so that
//! another codec, or another version of this one, is a change to this file. What the codec does not decide
//! (which attributes have to be there, which error is the strongest, what is too long) is in
//! [`super::decode_update`] and [`super::Packing`].
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};

use nearhop_fib::IpPrefix;
use rustbgpd_wire as codec;
use rustbgpd_wire::{
    Afi, AsPathSegment, DecodeError, ErrorDisposition, PathAttribute, Prefix, RawAttribute, Safi,
};

use super::as_path::Segment;
use super::attributes::Partial;
use super::family::{FAMILIES, family_of};
use super::{
    Aggregator, AsPath, Attributes, Capability, Community, Disposition, ExtendedCommunity, Fault,
    LargeCommunity, MessageError, NextHop, Nlri, Notification, Open, Origin, RareAttributes,
    UnknownAttribute, UpdateContext,
};
use crate::ids::Family;

/// The path attributes of an UPDATE, as far as they could be read.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) origin: Option<Origin>,
    pub(super) as_path: Option<AsPath>,
    /// NEXT_HOP, of prefixes outside MP_REACH_NLRI.
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) med: Option<u32>,
    pub(super) local_pref: Option<u32>,
    pub(super) atomic_aggregate: bool,
    pub(super) partial: Partial,
    pub(super) communities: Box<[Community]>,
    pub(super) rare: RareAttributes,
    pub(super) reach: Option<Reach>,
    pub(super) unreach: Option<(Family, Vec<Nlri>)>,
    /// In the order in which they were found.
    pub(super) faults: Vec<(Fault, Notification)>,
}

/// MP_REACH_NLRI.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) family: Family,
    pub(super) next_hop: NextHop,
    pub(super) nlri: Vec<Nlri>,
}

/// Something that does not go into a message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(String);

/// Reads the body of an OPEN. Whether the values are acceptable is for [`super::negotiate`].
pub fn decode_open(body: &[u8]) -> Result<Open, MessageError> {
    let mut rest = body;
    let open =
        codec::OpenMessage::decode(&mut rest, body.len()).map_err(|error| message_error(&error))?;
    Ok(Open {
        as_field: open.my_as,
        hold_time_s: open.hold_time,
        router_id: open.bgp_identifier,
        capabilities: open.capabilities.iter().map(capability_from).collect(),
    })
}

/// Appends an OPEN, header included. Capabilities that need more than 255 octets take the form of RFC 9072.
pub fn encode_open(open: &Open, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let message = codec::OpenMessage {
        version: VERSION,
        my_as: open.as_field,
        hold_time: open.hold_time_s,
        bgp_identifier: open.router_id,
        capabilities: open.capabilities.iter().map(capability_to).collect(),
    };
    message.encode(out).map_err(|error| EncodeError(error.to_string()))
}

/// Reads prefixes of IPv4 that are outside of attributes.
pub(super) fn decode_ipv4_nlri(bytes: &[u8], path_ids: bool) -> Result<Vec<Nlri>, MessageError> {
    let nlri = |path_id, prefix: codec::Ipv4Prefix| {
        nlri_from(codec::NlriEntry { path_id, prefix: Prefix::V4(prefix) })
    };
    if path_ids {
        let entries =
            codec::nlri::decode_nlri_addpath(bytes).map_err(|error| message_error(&error))?;
        return Ok(entries
            .into_iter()
            .filter_map(|entry| nlri(entry.path_id, entry.prefix))
            .collect());
    }
    let prefixes = codec::nlri::decode_nlri(bytes).map_err(|error| message_error(&error))?;
    Ok(prefixes.into_iter().filter_map(|prefix| nlri(0, prefix)).collect())
}

/// Reads path attributes. MP attributes of other families than IPv4 and IPv6 unicast must not be among
/// them. An error is one for which RFC 7606 asks for a reset; all else is in [`Parsed::faults`].
pub(super) fn decode_attributes(
    bytes: &[u8],
    context: &UpdateContext,
) -> Result<Parsed, MessageError> {
    let mut path_ids = Vec::with_capacity(FAMILIES.len());
    path_ids.extend(context.path_ids.set().map(|family| (codec_afi(family), Safi::Unicast)));
    let decoded = codec::attribute::decode_path_attributes_revised(
        bytes,
        context.four_octet_as,
        context.internal,
        &path_ids,
    )
    .map_err(|error| message_error(&error))?;
    let mut parsed = Parsed::default();
    for malformed in decoded.malformed {
        let MessageError { notification, why } = message_error(&malformed.error);
        let disposition = match malformed.disposition {
            ErrorDisposition::AttributeDiscard => Disposition::DiscardAttribute,
            ErrorDisposition::TreatAsWithdraw => Disposition::TreatAsWithdraw,
            ErrorDisposition::SessionReset => return Err(MessageError { notification, why }),
        };
        let fault = Fault { attribute: malformed.type_code, disposition, why };
        parsed.faults.push((fault, notification));
    }
    let mut unknown = Vec::new();
    for attribute in decoded.attributes {
        parsed.faults.extend(undetected(&attribute));
        parsed.take(attribute, &mut unknown);
    }
    unknown.sort_by_key(|attribute: &UnknownAttribute| attribute.code);
    parsed.rare.unknown = unknown.into();
    Ok(parsed)
}

impl Parsed {
    fn take(&mut self, attribute: PathAttribute, unknown: &mut Vec<UnknownAttribute>) {
        let is_partial = attribute.flags() & FLAG_PARTIAL != 0;
        let partial = |which| if is_partial { which } else { Partial::NONE };
        let mut seen = Partial::NONE;
        match attribute {
            PathAttribute::Origin(origin) => self.origin = Some(origin_from(origin)),
            PathAttribute::AsPath(path) => self.as_path = Some(as_path_from(&path)),
            PathAttribute::NextHop(addr) => self.next_hop = Some(addr),
            PathAttribute::Med(med) => self.med = Some(med),
            PathAttribute::LocalPref(local_pref) => self.local_pref = Some(local_pref),
            PathAttribute::AtomicAggregate => self.atomic_aggregate = true,
            PathAttribute::Aggregator(aggregator) => {
                let codec::Aggregator { asn, router_id, .. } = aggregator;
                self.rare.aggregator = Some(Aggregator { asn, router_id });
                seen = partial(Partial::AGGREGATOR);
            }
            PathAttribute::Communities(values) | PathAttribute::CommunitiesPartial(values) => {
                self.communities = values.into_iter().map(Community).collect();
                seen = partial(Partial::COMMUNITIES);
            }
            PathAttribute::ExtendedCommunities(values)
            | PathAttribute::ExtendedCommunitiesPartial(values) => {
                let values = values.into_iter().map(|value| ExtendedCommunity(value.as_u64()));
                self.rare.extended = values.collect();
                seen = partial(Partial::EXTENDED);
            }
            PathAttribute::LargeCommunities(values)
            | PathAttribute::LargeCommunitiesPartial(values) => {
                self.rare.large = values.into_iter().map(large_from).collect();
                seen = partial(Partial::LARGE);
            }
            PathAttribute::OriginatorId(id) => self.rare.originator_id = Some(id),
            PathAttribute::ClusterList(ids) => self.rare.cluster_list = ids.into(),
            PathAttribute::OnlyToCustomer(asn) | PathAttribute::OnlyToCustomerPartial(asn) => {
                self.rare.only_to_customer = Some(asn);
                seen = partial(Partial::ONLY_TO_CUSTOMER);
            }
            PathAttribute::MpReachNlri(reach) => self.reach = reach_from(*reach),
            PathAttribute::MpUnreachNlri(unreach) => {
                let nlri = unreach.withdrawn.into_iter().filter_map(nlri_from).collect();
                self.unreach = family_from(unreach.afi, unreach.safi).map(|family| (family, nlri));
            }
            other => unknown.extend(unknown_from(&other)),
        }
        self.partial = self.partial.with(seen);
    }
}

/// Appends path attributes in the order of their types. `next_hop` is that of NEXT_HOP, where it is not in
/// MP_REACH_NLRI, which the caller writes. An AS_SET or AS 0 is refused (RFC 9774, RFC 7607).
pub(super) fn encode_attributes(
    attributes: &Attributes,
    next_hop: Option<Ipv4Addr>,
    four_octet_as: bool,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut list = Vec::with_capacity(8);
    list.push(PathAttribute::Origin(match attributes.origin {
        Origin::Igp => codec::Origin::Igp,
        Origin::Egp => codec::Origin::Egp,
        Origin::Incomplete => codec::Origin::Incomplete,
    }));
    list.push(PathAttribute::AsPath(as_path_to(&attributes.as_path)));
    list.extend(next_hop.map(PathAttribute::NextHop));
    list.extend(attributes.med.map(PathAttribute::Med));
    list.extend(attributes.local_pref.map(PathAttribute::LocalPref));
    list.extend(attributes.atomic_aggregate.then_some(PathAttribute::AtomicAggregate));
    if let Some(Aggregator { asn, router_id }) = attributes.aggregator() {
        let partial = attributes.partial.has(Partial::AGGREGATOR);
        list.push(PathAttribute::Aggregator(codec::Aggregator { asn, router_id, partial }));
    }
    if !attributes.communities.is_empty() {
        let values = attributes.communities.iter().map(|community| community.0).collect();
        list.push(if attributes.partial.has(Partial::COMMUNITIES) {
            PathAttribute::CommunitiesPartial(values)
        } else {
            PathAttribute::Communities(values)
        });
    }
    if let Some(rare) = &attributes.rare {
        rare_to(rare, attributes.partial, &mut list);
    }
    // Stable: AS4_PATH and AS4_AGGREGATOR follow what they belong to.
    list.sort_by_key(PathAttribute::type_code);
    codec::attribute::encode_path_attributes(&list, out, four_octet_as, false)
        .map_err(|error| EncodeError(error.to_string()))
}

/// What the codec reads without complaint.
fn undetected(attribute: &PathAttribute) -> Option<(Fault, Notification)> {
    let (code, why, data) = match attribute {
        PathAttribute::AsPath(path) => {
            let is_empty = |segment: &AsPathSegment| match segment {
                AsPathSegment::AsSequence(ases) | AsPathSegment::AsSet(ases) => ases.is_empty(),
            };
            let first = path.segments.iter().position(is_empty)?;
            ((3, 11), format!("segment {first} of the AS path is empty"), Vec::new())
        }
        PathAttribute::Unknown(raw) if raw.flags & FLAG_OPTIONAL == 0 => {
            let why = format!("attribute {} is unknown and not optional", raw.type_code);
            let mut data = vec![raw.flags & !FLAG_EXTENDED_LENGTH, raw.type_code];
            if let Ok(len) = u8::try_from(raw.data.len()) {
                data.push(len);
            } else {
                data[0] |= FLAG_EXTENDED_LENGTH;
                data.extend_from_slice(&(raw.data.len() as u16).to_be_bytes());
            }
            data.extend_from_slice(&raw.data);
            ((3, 2), why, data)
        }
        _ => return None,
    };
    let disposition = Disposition::TreatAsWithdraw;
    let fault = Fault { attribute: attribute.type_code(), disposition, why };
    Some((fault, Notification::with(code, data)))
}

fn rare_to(rare: &RareAttributes, partial: Partial, list: &mut Vec<PathAttribute>) {
    list.extend(rare.originator_id.map(PathAttribute::OriginatorId));
    if !rare.cluster_list.is_empty() {
        list.push(PathAttribute::ClusterList(rare.cluster_list.to_vec()));
    }
    if !rare.extended.is_empty() {
        let values = rare.extended.iter().map(|value| codec::ExtendedCommunity::new(value.0));
        let values = values.collect();
        list.push(if partial.has(Partial::EXTENDED) {
            PathAttribute::ExtendedCommunitiesPartial(values)
        } else {
            PathAttribute::ExtendedCommunities(values)
        });
    }
    if !rare.large.is_empty() {
        let large = |&LargeCommunity { global, local: [one, two] }: &LargeCommunity| {
            codec::LargeCommunity::new(global, one, two)
        };
        let values = rare.large.iter().map(large).collect();
        list.push(if partial.has(Partial::LARGE) {
            PathAttribute::LargeCommunitiesPartial(values)
        } else {
            PathAttribute::LargeCommunities(values)
        });
    }
    if let Some(asn) = rare.only_to_customer {
        list.push(if partial.has(Partial::ONLY_TO_CUSTOMER) {
            PathAttribute::OnlyToCustomerPartial(asn)
        } else {
            PathAttribute::OnlyToCustomer(asn)
        });
    }
    list.extend(rare.unknown.iter().map(|unknown| {
        PathAttribute::Unknown(RawAttribute {
            flags: unknown.flags,
            type_code: unknown.code,
            data: unknown.value.to_vec().into(),
        })
    }));
}

/// The codec frames capabilities; their values are read by [`Capability::of`].
fn capability_from(capability: &codec::Capability) -> Capability {
    let mut raw = Vec::new();
    match capability.encode(&mut raw) {
        Ok(()) => Capability::of(raw[0], &raw[2..]),
        // What was just read has no more than 255 octets, so this does not happen.
        Err(_) => Capability::Other { code: capability.code(), value: Vec::new() },
    }
}

fn capability_to(capability: &Capability) -> codec::Capability {
    codec::Capability::Unknown { code: capability.code(), data: capability.value().into() }
}

fn reach_from(reach: codec::MpReachNlri) -> Option<Reach> {
    Some(Reach {
        family: family_from(reach.afi, reach.safi)?,
        next_hop: NextHop { addr: reach.next_hop, link_local: reach.link_local_next_hop },
        nlri: reach.announced.into_iter().filter_map(nlri_from).collect(),
    })
}

/// The codec has checked the length, so every entry is one.
fn nlri_from(entry: codec::NlriEntry) -> Option<Nlri> {
    let (addr, len): (IpAddr, u8) = match entry.prefix {
        Prefix::V4(prefix) => (prefix.addr.into(), prefix.len),
        Prefix::V6(prefix) => (prefix.addr.into(), prefix.len),
    };
    Some(Nlri { prefix: IpPrefix::around(addr, len)?, path_id: entry.path_id })
}

/// An attribute that means nothing here, as octets.
fn unknown_from(attribute: &PathAttribute) -> Option<UnknownAttribute> {
    let (flags, code) = (attribute.flags(), attribute.type_code());
    let value = match attribute {
        PathAttribute::Unknown(raw) => raw.data.to_vec(),
        PathAttribute::Ipv6ExtendedCommunities(values)
        | PathAttribute::Ipv6ExtendedCommunitiesPartial(values) => {
            values.iter().flat_map(|value| *value.as_bytes()).collect()
        }
        PathAttribute::PmsiTunnel(tunnel) | PathAttribute::PmsiTunnelPartial(tunnel) => {
            let mut value = Vec::new();
            tunnel.encode(&mut value);
            value
        }
        _ => return None,
    };
    // How its length was written is no part of it.
    let flags = flags & !FLAG_EXTENDED_LENGTH;
    (flags & FLAG_TRANSITIVE != 0).then(|| UnknownAttribute { flags, code, value: value.into() })
}

fn as_path_from(path: &codec::AsPath) -> AsPath {
    AsPath::of_segments(path.segments.iter().map(|segment| match segment {
        AsPathSegment::AsSequence(ases) => Segment::Sequence(ases),
        AsPathSegment::AsSet(ases) => Segment::Set(ases),
    }))
}

fn as_path_to(path: &AsPath) -> codec::AsPath {
    let segments = path.segments().map(|segment| match segment {
        Segment::Sequence(ases) => AsPathSegment::AsSequence(ases.to_vec()),
        Segment::Set(ases) => AsPathSegment::AsSet(ases.to_vec()),
    });
    codec::AsPath { segments: segments.collect() }
}

fn large_from(value: codec::LargeCommunity) -> LargeCommunity {
    LargeCommunity { global: value.global_admin, local: [value.local_data1, value.local_data2] }
}

fn origin_from(origin: codec::Origin) -> Origin {
    match origin {
        codec::Origin::Igp => Origin::Igp,
        codec::Origin::Egp => Origin::Egp,
        codec::Origin::Incomplete => Origin::Incomplete,
    }
}

fn family_from(afi: Afi, safi: Safi) -> Option<Family> {
    family_of(afi as u16, safi as u8)
}

fn codec_afi(family: Family) -> Afi {
    match family {
        Family::Ipv4 => Afi::Ipv4,
        Family::Ipv6 => Afi::Ipv6,
    }
}

fn message_error(error: &DecodeError) -> MessageError {
    let (code, subcode, data) = error.to_notification();
    MessageError {
        notification: Notification::with((code.as_u8(), subcode), data.to_vec()),
        why: error.to_string(),
    }
}

const VERSION: u8 = 4;

/// Flags of path attributes.
const FLAG_OPTIONAL: u8 = 0x80;
const FLAG_TRANSITIVE: u8 = 0x40;
const FLAG_PARTIAL: u8 = 0x20;
const FLAG_EXTENDED_LENGTH: u8 = 0x10;
