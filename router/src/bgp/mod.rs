//! BGP, without sockets and without a clock (RFC 4271 and what updates it).
//!
//! ```text
//! bytes ─▶ frame ─▶ wire, update ─▶ Update ─▶ rules ─▶ who keeps what neighbours announce
//!            │                                                     │
//!            └─────────── session (one neighbour) ◀─ pack ◀─ announce, withdraw
//! ```
//!
//! * [`Frame`] cuts messages out of the stream. [`wire`] is the codec, [`decode_update`] what RFC 7606 makes
//!   of its errors: an [`Update`] has only prefixes that may be used, and prefixes that are withdrawn.
//! * `rules` says which of the announced routes may not be used: loops (RFC 4271, RFC 4456) and leaks
//!   (RFC 9234). Such routes are kept and shown with their [`Refusal`].
//! * [`Packing`] makes UPDATEs of routes, none longer than agreed on.
//! * [`policy`] is which routes are taken and sent, and what is changed in them; [`Bogon`]s are announced by
//!   nobody. A [`Ruling`] is what became of a path by all of these.
//! * [`choose`] is which of several paths is used, and by which rule each other one loses.
//! * [`session`] is the machine that speaks with one neighbour; [`negotiate()`] what both agree on.
//! * [`lease`] is whether what is announced may stand while others take no turns.
//! * [`Attributes`] are shared by all routes with the same ones; [`AttributeStore`] is where they meet.
//!
//! Spoken are IPv4 and IPv6 unicast. What the neighbour says of other families is ignored.
#![forbid(unsafe_code)]

mod as_path;
mod attributes;
pub mod backoff;
mod bogon;
mod capability;
mod community;
mod decision;
mod deprioritise;
mod family;
mod fault;
mod frame;
mod import;
pub mod lane;
pub mod lease;
mod message;
mod negotiate;
mod pack;
pub mod policy;
mod prefix_list;
mod rules;
pub mod session;
pub mod table;
mod update;
pub mod wire;

#[cfg(test)]
mod tests;

pub use as_path::{AsPath, Segment};
pub use attributes::{
    Aggregator, AttributeStore, Attributes, NextHop, Origin, Partial, RareAttributes,
    UnknownAttribute,
};
pub use bogon::{Bogon, is_public_as};
pub use capability::{AddPath, Capability, Role};
pub use community::{Community, ExtendedCommunity, LargeCommunity};
pub use decision::{
    Choice, ChoiceRule, ChoiceRules, Loss, Path, PathSource, choose, compare, rank,
};
pub use family::{FAMILIES, Nlri, PerFamily, SAFI_UNICAST, afi_of, family_of};
pub use fault::{Disposition, Fault, MessageError, Notification, codes};
pub use frame::{EXTENDED_MAX, Frame, FrameKind, HEADER_LEN, MESSAGE_MAX};
pub use import::{Import, NotUsed, Ruling};
pub use message::{Announced, Message, Open, RefreshKind, RouteRefresh, Update, UpdateContext};
pub use negotiate::{Negotiated, negotiate, own_open};
pub use pack::{PackError, Packing};
pub use prefix_list::{PrefixEntry, PrefixList};
pub use rules::{LoopRules, Refusal, otc_received, otc_to_send};
pub use update::decode_update;
