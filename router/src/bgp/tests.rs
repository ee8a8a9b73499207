//! UPDATEs as a whole: their errors, and there and back.
#![forbid(unsafe_code)]

mod errors;
mod there_and_back;

use std::net::Ipv4Addr;

use super::{AttributeStore, MessageError, PerFamily, Update, UpdateContext, decode_update};

/// An external neighbour in AS 64500, everything agreed on but path identifiers.
pub(super) const EXTERNAL: UpdateContext = UpdateContext {
    four_octet_as: true,
    internal: false,
    first_as: Some(64_500),
    families: PerFamily::BOTH,
    path_ids: PerFamily::NONE,
    extended_next_hop: false,
    link_local_next_hop: false,
};

/// A neighbour of our own AS.
pub(super) const INTERNAL: UpdateContext =
    UpdateContext { internal: true, first_as: None, ..EXTERNAL };

pub(super) const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A path attribute with a length of one octet.
fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    [&[flags, code, value.len() as u8][..], value].concat()
}

/// The body of an UPDATE with these fields.
fn body(withdrawn: &[u8], attributes: &[Vec<u8>], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let len = |field: &[u8]| (field.len() as u16).to_be_bytes();
    [&len(withdrawn)[..], withdrawn, &len(&attributes), &attributes, nlri].concat()
}

fn decode(body: &[u8], context: &UpdateContext) -> Result<Update, MessageError> {
    decode_update(body, context, &mut AttributeStore::default())
}
