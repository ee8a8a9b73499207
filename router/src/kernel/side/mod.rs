//! What the kernel's side of a port is to be like, and how it is brought there.
//!
//! A [`Side`] says what is configured, [`Seen`] what the kernel reports, and `plan` is the
//! difference, as changes in an order that the kernel's habits call for. [`SideLink::settle`] makes these
//! changes and compares again until there is no difference, because one change may undo what another did:
//! an MTU below 1,280 takes all IPv6 of a device away, and so does a device that is set down.
//!
//! What others have added is left alone. What the router adds bears its mark ([`MARK`]), so that a
//! router that starts later recognises what an earlier one left on a persistent device.
#![forbid(unsafe_code)]

mod link;
mod plan;
mod seen;
mod watch;

use std::fmt;

use ipnetwork::IpNetwork;

pub use link::{Settled, SideError, SideLink};
pub use plan::Mine;
pub use seen::{Seen, SeenAddress, SeenRoute};
pub use watch::{SideWatch, Touched};

/// What the kernel's side of a port is to be like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Side {
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// The kernel makes no IPv6 link-local address of its own on it, and so solicits no routers.
    pub quiet: bool,
    /// Addresses; of several in one IPv4 network the first is the one that packets leave from.
    pub addresses: Vec<IpNetwork>,
    /// Destinations that are reached through the device.
    pub routes: Vec<IpNetwork>,
}

/// One step towards what is configured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Sets the MTU in bytes.
    Mtu(u32),
    /// Sets an MTU that lets IPv6 in, without a link-local address of the kernel's own.
    QuietMtu(u32),
    /// Turns link-local addresses of the kernel's own off.
    Quiet,
    /// Lets IPv4 addresses stay when the first address of their network goes.
    Promote,
    /// Adds an address.
    AddAddress(IpNetwork),
    /// Deletes an address.
    DeleteAddress(IpNetwork),
    /// Adds a route.
    AddRoute(IpNetwork),
    /// Deletes a route.
    DeleteRoute(IpNetwork),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu(mtu) | Self::QuietMtu(mtu) => write!(f, "set MTU {mtu}"),
            Self::Quiet => f.write_str("turn off link-local addresses"),
            Self::Promote => f.write_str("make addresses independent of each other"),
            Self::AddAddress(address) => write!(f, "add address {address}"),
            Self::DeleteAddress(address) => write!(f, "delete address {address}"),
            Self::AddRoute(to) => write!(f, "add route {to}"),
            Self::DeleteRoute(to) => write!(f, "delete route {to}"),
        }
    }
}

/// What the router marks its own addresses (`IFA_PROTO`, since Linux 5.18) and routes (`rtm_protocol`)
/// with. Nobody is known to use this number.
pub const MARK: u8 = 110;

/// An MTU below this has the kernel take all IPv6 off a device (RFC 8200 section 5).
const IPV6_MTU_MIN: u32 = 1280;
