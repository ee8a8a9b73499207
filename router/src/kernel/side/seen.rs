//! What the kernel reports of a device's side: parts of link, address and route messages.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::super::link::requests::{
    IFA_ADDRESS, IFA_LOCAL, IFADDRMSG_LEN, IFINFOMSG_LEN, IFLA_AF_SPEC, IFLA_INET_CONF,
    IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE, IPV4_DEVCONF_PROMOTE_SECONDARIES, RTMSG_LEN,
};
use super::super::netlink::{Attributes, Message, number, text};
use super::MARK;

/// The kernel's side of a device as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// The name of the device.
    pub name: String,
    /// Set up by the administrator.
    pub admin_up: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Whether the kernel makes link-local addresses of its own; `None` without IPv6.
    pub makes_link_local: Option<bool>,
    /// Whether IPv4 addresses stay when the first of their network goes; `None` without IPv4.
    pub promotes: Option<bool>,
    /// In the kernel's order.
    pub addresses: Vec<SeenAddress>,
    /// Of the main table.
    pub routes: Vec<SeenRoute>,
}

/// An address of the device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SeenAddress {
    /// Address and length of its network.
    pub network: IpNetwork,
    /// It names another address as the far end, which none of the router's does.
    pub has_peer: bool,
    /// Who added it, by a number that the kernel keeps (`IFA_PROTO`); 0 where unknown.
    pub origin: u8,
}

/// A route through the device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SeenRoute {
    /// Its destinations.
    pub to: IpNetwork,
    /// It is as one that the router adds: no gateway, the usual metric.
    pub is_plain: bool,
    /// Who added it (`rtm_protocol`).
    pub origin: u8,
}

impl Seen {
    /// Reads a link message's part about it.
    pub(super) fn take_link(&mut self, message: Message<'_>) {
        if message.kind != libc::RTM_NEWLINK {
            return;
        }
        let Some((header, attributes)) = message.parts(IFINFOMSG_LEN) else { return };
        let flags = number(&header[8..]).unwrap_or(0).cast_signed();
        self.admin_up = flags & libc::IFF_UP != 0;
        self.mtu = attributes.get(libc::IFLA_MTU).and_then(number).unwrap_or(0);
        self.name = attributes.get(libc::IFLA_IFNAME).map(text).unwrap_or_default();
        let families = Attributes(attributes.get(IFLA_AF_SPEC).unwrap_or_default());
        let v6 = families.get(libc::AF_INET6 as u16).map(Attributes);
        let mode = v6.and_then(|v6| v6.get(IFLA_INET6_ADDR_GEN_MODE)?.first().copied());
        self.makes_link_local = mode.map(|mode| mode != IN6_ADDR_GEN_MODE_NONE);
        let v4 = families.get(libc::AF_INET as u16).map(Attributes);
        let conf = v4.and_then(|v4| v4.get(IFLA_INET_CONF));
        let at = (usize::from(IPV4_DEVCONF_PROMOTE_SECONDARIES) - 1) * 4;
        self.promotes = conf.and_then(|conf| number(conf.get(at..)?)).map(|is_set| is_set != 0);
    }

    /// Reads an address message, if it is about this device.
    pub(super) fn take_address(&mut self, ifindex: u32, message: Message<'_>) {
        let parsed = || {
            let (header, attributes) = message.parts(IFADDRMSG_LEN)?;
            if message.kind != libc::RTM_NEWADDR || number(&header[4..])? != ifindex {
                return None;
            }
            let far = attributes.get(IFA_ADDRESS).and_then(address);
            // IPv6 has this one only for an address with a far end.
            let own = attributes.get(IFA_LOCAL).and_then(address).or(far)?;
            let network = IpNetwork::new(own, header[1]).ok()?;
            let has_peer = far.is_some_and(|far| far != own);
            let origin = attributes.get(IFA_PROTO).and_then(|value| value.first().copied());
            Some(SeenAddress { network, has_peer, origin: origin.unwrap_or(0) })
        };
        self.addresses.extend(parsed());
    }

    /// Reads a route message, if it is about this device and its main table.
    pub(super) fn take_route(&mut self, ifindex: u32, message: Message<'_>) {
        let parsed = || {
            let (header, attributes) = message.parts(RTMSG_LEN)?;
            let of_main = header[RTM_TABLE] == libc::RT_TABLE_MAIN;
            let is_meant = message.kind == libc::RTM_NEWROUTE
                && of_main
                && header[RTM_TYPE] == libc::RTN_UNICAST
                && attributes.get(libc::RTA_OIF).and_then(number) == Some(ifindex);
            if !is_meant {
                return None;
            }
            let v6 = is_v6(header);
            let metric = attributes.get(libc::RTA_PRIORITY).and_then(number).unwrap_or(0);
            let usual = if v6 { IPV6_METRIC } else { 0 };
            let is_plain = attributes.get(libc::RTA_GATEWAY).is_none()
                && metric == usual
                && header[RTM_TOS] == 0;
            let to = destinations(header, attributes)?;
            Some(SeenRoute { to, is_plain, origin: header[RTM_PROTOCOL] })
        };
        self.routes.extend(parsed());
    }
}

impl SeenAddress {
    /// Whether a router of this kind added it.
    pub(super) fn is_marked(&self) -> bool {
        self.origin == MARK
    }

    /// Whether it is a link-local one that the kernel made.
    pub(super) fn is_made_by_kernel(&self) -> bool {
        self.origin == IFAPROT_KERNEL_LL
    }
}

/// The destinations of a route message, from its header and its attributes.
pub(super) fn destinations(header: &[u8], attributes: Attributes<'_>) -> Option<IpNetwork> {
    let v6 = is_v6(header);
    let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let to = attributes.get(libc::RTA_DST).and_then(address).unwrap_or(any);
    IpNetwork::new(to, *header.get(1)?).ok()
}

fn is_v6(header: &[u8]) -> bool {
    header.first().is_some_and(|&family| i32::from(family) == libc::AF_INET6)
}

/// 4 or 16 bytes.
fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

// Where in a `struct rtmsg` a field is.
const RTM_TOS: usize = 3;
const RTM_TABLE: usize = 4;
const RTM_PROTOCOL: usize = 5;
const RTM_TYPE: usize = 7;

/// The metric of an IPv6 route that is added without one (`IP6_RT_PRIO_USER`).
const IPV6_METRIC: u32 = 1024;

// <linux/if_addr.h>
pub(super) const IFA_PROTO: u16 = 11;
const IFAPROT_KERNEL_LL: u8 = 3;
