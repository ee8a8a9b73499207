//! What an UPDATE means: which prefixes it announces and withdraws, and what its errors do (RFC 7606).
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::family::family_of;
use super::wire::{self, Parsed, Reach};
use super::{
    Announced, AttributeStore, Attributes, Disposition, Fault, MessageError, NextHop, Nlri,
    Notification, Update, UpdateContext, codes,
};
use crate::ids::Family;

/// Reads the body of an UPDATE. An error is one for which RFC 7606 asks for a reset: lengths that
/// contradict each other (3(b)), MP attributes more than once (3(g)), prefixes that cannot be read (3(j),
/// 5.3, 7.11, 7.12), and errors where no prefix says what they are about (5.2).
pub fn decode_update(
    body: &[u8],
    context: &UpdateContext,
    store: &mut AttributeStore,
) -> Result<Update, MessageError> {
    let sections = Sections::split(body)?;
    let spoken = SpokenAttributes::of(sections.attributes, &context.families)?;
    let ipv4 = context.families.ipv4;
    let ipv4_nlri = |bytes| {
        let nlri = wire::decode_ipv4_nlri(bytes, context.path_ids.ipv4)?;
        Ok(if ipv4 { nlri } else { Vec::new() })
    };
    let mut withdrawn = ipv4_nlri(sections.withdrawn)?;
    let mut parsed = wire::decode_attributes(&spoken.bytes, context)?;
    let ipv4_announced = ipv4_nlri(sections.nlri)?;
    parsed.check(context, !ipv4_announced.is_empty())?;
    let is_end = sections.is_end_of_rib(&parsed);

    let has_reachable =
        !sections.nlri.is_empty() || parsed.reach.is_some() || spoken.has_other_reach;
    let worst = parsed.faults.iter().max_by_key(|(fault, _)| fault.disposition);
    let strongest = worst.map(|(fault, _)| fault.disposition);
    if let Some((fault, notification)) = worst
        && fault.disposition == Disposition::TreatAsWithdraw
        && !has_reachable
    {
        return Err(MessageError {
            notification: notification.clone(),
            why: format!("{fault}, and no prefix says of what (RFC 7606, section 5.2)"),
        });
    }
    let unreach = parsed.unreach.take();
    let end_of_rib = is_end.then(|| unreach.as_ref().map_or(Family::Ipv4, |(family, _)| *family));
    withdrawn.extend(unreach.into_iter().flat_map(|(_, nlri)| nlri));
    let mut update = Update {
        end_of_rib: end_of_rib.filter(|family| *context.families.of(*family)),
        ..Update::default()
    };
    if strongest == Some(Disposition::TreatAsWithdraw) {
        withdrawn.extend(ipv4_announced);
        withdrawn.extend(parsed.reach.take().into_iter().flat_map(|reach| reach.nlri));
    } else {
        update.announced = parsed.announced(ipv4_announced, store);
    }
    update.withdrawn = withdrawn;
    update.faults = parsed.faults.into_iter().map(|(fault, _)| fault).collect();
    Ok(update)
}

/// The three fields of variable length.
#[derive(Clone, Copy, Debug)]
struct Sections<'a> {
    withdrawn: &'a [u8],
    attributes: &'a [u8],
    nlri: &'a [u8],
}

impl<'a> Sections<'a> {
    fn split(body: &'a [u8]) -> Result<Self, MessageError> {
        let too_long = |what: &str, len: usize, have: usize| MessageError {
            notification: Notification::new(codes::MALFORMED_ATTRIBUTES),
            why: format!("{what} of {len} octets in an UPDATE that has {have} left"),
        };
        let field = |bytes: &'a [u8], what| match bytes {
            [high, low, rest @ ..] => {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                rest.split_at_checked(len).ok_or_else(|| too_long(what, len, rest.len()))
            }
            _ => Err(too_long(what, 2, bytes.len())),
        };
        let (withdrawn, rest) = field(body, "withdrawn routes")?;
        let (attributes, nlri) = field(rest, "path attributes")?;
        Ok(Self { withdrawn, attributes, nlri })
    }

    /// RFC 4724, section 2: nothing at all, or an MP_UNREACH_NLRI without prefixes and nothing else.
    fn is_end_of_rib(&self, parsed: &Parsed) -> bool {
        let only = |header: &[u8]| {
            self.attributes.starts_with(header) && self.attributes.len() == header.len() + 3
        };
        let only_unreach = parsed.unreach.as_ref().is_some_and(|(_, nlri)| nlri.is_empty())
            && (only(&[0x80, MP_UNREACH, 3]) || only(&[0x90, MP_UNREACH, 0, 3]));
        let fields = self.withdrawn.is_empty() && self.nlri.is_empty();
        fields && (self.attributes.is_empty() || only_unreach)
    }
}

/// Path attributes without the MP attributes of families that are not exchanged: what they say is about
/// no route of this session. The codec would take those of families unknown to it for errors.
#[derive(Debug)]
struct SpokenAttributes<'a> {
    bytes: std::borrow::Cow<'a, [u8]>,
    /// Prefixes of such a family were announced.
    has_other_reach: bool,
}

impl<'a> SpokenAttributes<'a> {
    fn of(bytes: &'a [u8], families: &super::PerFamily<bool>) -> Result<Self, MessageError> {
        let mut spoken = Self { bytes: bytes.into(), has_other_reach: false };
        let mut kept: Option<Vec<u8>> = None;
        let mut seen = [0u32; 2];
        for (attribute, code, value) in RawAttributes(bytes) {
            let is_mp = matches!(code, MP_REACH | MP_UNREACH);
            if is_mp {
                seen[usize::from(code - MP_REACH)] += 1;
            }
            let is_other = is_mp
                && matches!(value, &[high, low, safi, ..]
                    if family_of(u16::from_be_bytes([high, low]), safi)
                        .is_none_or(|family| !families.of(family)));
            if is_other {
                spoken.has_other_reach |= code == MP_REACH;
                kept.get_or_insert_with(|| {
                    bytes[..attribute.as_ptr() as usize - bytes.as_ptr() as usize].to_vec()
                });
            } else if let Some(kept) = &mut kept {
                kept.extend_from_slice(attribute);
            }
        }
        // The codec finds the rest; it cannot find what is left out.
        if kept.is_some() && seen.into_iter().any(|times| times > 1) {
            return Err(MessageError {
                notification: Notification::new(codes::MALFORMED_ATTRIBUTES),
                why: "MP_REACH_NLRI or MP_UNREACH_NLRI more than once".into(),
            });
        }
        if let Some(kept) = kept {
            spoken.bytes = kept.into();
        }
        Ok(spoken)
    }
}

/// Attributes with type code and value. What is no attribute any more comes last, with code 0.
struct RawAttributes<'a>(&'a [u8]);

impl<'a> Iterator for RawAttributes<'a> {
    type Item = (&'a [u8], u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.0;
        let (header, len) = match *bytes {
            [] => return None,
            [flags, _, high, low, ..] if flags & EXTENDED_LENGTH != 0 => {
                (4, usize::from(u16::from_be_bytes([high, low])))
            }
            [flags, _, len, ..] if flags & EXTENDED_LENGTH == 0 => (3, usize::from(len)),
            _ => (bytes.len(), 1),
        };
        let Some((attribute, rest)) = bytes.split_at_checked(header + len) else {
            self.0 = &[];
            return Some((bytes, 0, &[]));
        };
        self.0 = rest;
        Some((attribute, attribute[1], &attribute[header..]))
    }
}

impl Parsed {
    /// Adds the faults that are seen only with the session in mind, and leaves out what an external
    /// neighbour may not say.
    fn check(&mut self, context: &UpdateContext, has_ipv4: bool) -> Result<(), MessageError> {
        if !context.internal {
            self.discard_internal();
        }
        self.check_reach(context)?;
        if !has_ipv4 && self.reach.is_none() {
            return Ok(());
        }
        let missing = [
            (self.origin.is_none(), ORIGIN, "ORIGIN"),
            (self.as_path.is_none(), AS_PATH, "AS_PATH"),
            (has_ipv4 && self.next_hop.is_none(), NEXT_HOP, "NEXT_HOP"),
        ];
        for (_, code, name) in missing.into_iter().filter(|(is_missing, ..)| *is_missing) {
            // What is there and malformed is not missing besides.
            if !self.faults.iter().any(|(fault, _)| fault.attribute == code) {
                self.withdraw(code, (3, 3), vec![code], format!("{name} is missing"));
            }
        }
        if let Some(next_hop) = self.next_hop.filter(|_| has_ipv4)
            && !is_host(next_hop.into())
        {
            let why = format!("next hop {next_hop} is no address of a host");
            self.withdraw(NEXT_HOP, (3, 8), next_hop.octets().to_vec(), why);
        }
        if let (Some(asn), Some(path)) = (context.first_as, &self.as_path)
            && path.first() != Some(asn)
        {
            let why = format!("AS path \"{path}\" does not begin with the neighbour's AS {asn}");
            self.withdraw(AS_PATH, (3, 11), Vec::new(), why);
        }
        Ok(())
    }

    /// LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST (RFC 7606, sections 7.5, 7.9 and 7.10).
    fn discard_internal(&mut self) {
        let cluster_list = std::mem::take(&mut self.rare.cluster_list);
        let came = [
            (self.local_pref.take().is_some(), LOCAL_PREF, "LOCAL_PREF"),
            (self.rare.originator_id.take().is_some(), ORIGINATOR_ID, "ORIGINATOR_ID"),
            (!cluster_list.is_empty(), CLUSTER_LIST, "CLUSTER_LIST"),
        ];
        for (_, attribute, name) in came.into_iter().filter(|(came, ..)| *came) {
            let why = format!("{name} from an external neighbour");
            let fault = Fault { attribute, disposition: Disposition::DiscardAttribute, why };
            self.faults.push((fault, Notification::new((3, 0))));
        }
    }

    /// The next hop of MP_REACH_NLRI, made one that can be used: a link-local address that stands alone
    /// in whichever form, or beside a global one.
    fn check_reach(&mut self, context: &UpdateContext) -> Result<(), MessageError> {
        let Some(Reach { family, next_hop, .. }) = &mut self.reach else { return Ok(()) };
        let IpAddr::V6(addr) = next_hop.addr else {
            if *family == Family::Ipv4 && !is_host(next_hop.addr) {
                let why = format!("next hop {next_hop} is no address of a host");
                self.withdraw(MP_REACH, (3, 8), Vec::new(), why);
            }
            return Ok(());
        };
        if *family == Family::Ipv4 && !context.extended_next_hop {
            return Err(MessageError {
                notification: Notification::new(codes::OPTIONAL_ATTRIBUTE),
                why: format!("IPv6 next hop {addr} of IPv4 prefixes was not agreed on (RFC 8950)"),
            });
        }
        let beside = next_hop.link_local.filter(Ipv6Addr::is_unicast_link_local);
        let is_alone = addr.is_unicast_link_local() || addr.is_unspecified() && beside.is_some();
        let came = *next_hop;
        *next_hop = if is_alone {
            NextHop::new(beside.unwrap_or(addr).into())
        } else {
            NextHop { addr: addr.into(), link_local: beside }
        };
        let is_usable = if is_alone { context.link_local_next_hop } else { is_host(addr.into()) };
        if !is_usable {
            let why = format!("next hop {came} cannot be used here");
            self.withdraw(MP_REACH, (3, 8), Vec::new(), why);
        } else if came.link_local.is_some() && beside.is_none() {
            let why = format!("second next hop of {came} is not link-local");
            let disposition = Disposition::DiscardAttribute;
            let fault = Fault { attribute: MP_REACH, disposition, why };
            self.faults.push((fault, Notification::new((3, 8))));
        }
        Ok(())
    }

    fn withdraw(&mut self, attribute: u8, code: (u8, u8), data: Vec<u8>, why: String) {
        let fault = Fault { attribute, disposition: Disposition::TreatAsWithdraw, why };
        self.faults.push((fault, Notification::with(code, data)));
    }

    /// What is announced. [`Self::check`] found the mandatory attributes there.
    fn announced(&mut self, ipv4: Vec<Nlri>, store: &mut AttributeStore) -> Vec<Announced> {
        let ipv4 = match self.next_hop {
            Some(next_hop) if !ipv4.is_empty() => Some((NextHop::new(next_hop.into()), ipv4)),
            _ => None,
        };
        let reach = self.reach.take().map(|reach| (reach.next_hop, reach.nlri));
        let (Some(origin), Some(as_path)) = (self.origin, self.as_path.take()) else {
            return Vec::new();
        };
        let mut attributes = Attributes {
            origin,
            atomic_aggregate: self.atomic_aggregate,
            partial: self.partial,
            next_hop: NextHop::new(Ipv4Addr::UNSPECIFIED.into()),
            as_path,
            med: self.med,
            local_pref: self.local_pref,
            communities: std::mem::take(&mut self.communities),
            rare: None,
        };
        attributes.change_rare(|rare| *rare = std::mem::take(&mut self.rare));
        let both = [ipv4, reach].into_iter().flatten().filter(|(_, nlri)| !nlri.is_empty());
        let mut both = both.peekable();
        let mut announced = Vec::with_capacity(1);
        while let Some((next_hop, nlri)) = both.next() {
            // The last one takes them without a copy.
            let own = match both.peek() {
                Some(_) => attributes.clone(),
                None => std::mem::replace(&mut attributes, Attributes::originated(next_hop)),
            };
            let attributes = store.intern(Attributes { next_hop, ..own });
            announced.push(Announced { attributes, nlri });
        }
        announced
    }
}

/// Whether packets may be sent to it (RFC 4271, section 6.3), link-local addresses apart.
fn is_host(addr: IpAddr) -> bool {
    let is_broadcast = addr == IpAddr::V4(Ipv4Addr::BROADCAST);
    !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast() && !is_broadcast
}

/// Type codes of path attributes.
const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const LOCAL_PREF: u8 = 5;
const ORIGINATOR_ID: u8 = 9;
const CLUSTER_LIST: u8 = 10;
pub(super) const MP_REACH: u8 = 14;
pub(super) const MP_UNREACH: u8 = 15;

/// Flag: the length has two octets.
const EXTENDED_LENGTH: u8 = 0x10;
