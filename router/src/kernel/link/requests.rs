//! The requests that `LinkSetup` sends (rtnetlink(7)); `tests/kernel_link.rs` asks the kernel whether
//! they are right.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::RawFd;

use ipnetwork::IpNetwork;

use super::super::netlink::Request;
use super::{KernelRoute, VethEnd};

/// All devices.
pub(in super::super) fn any_link() -> Request {
    Request::new(libc::RTM_GETLINK, &link_header(0, 0, 0))
}

/// A device by its name; `kind` is what to do with it (`RTM_*LINK`).
pub(super) fn named(kind: u16, interface: &str) -> Request {
    Request::new(kind, &link_header(0, 0, 0)).with_text(IFLA_IFNAME, interface)
}

pub(super) fn admin_state(interface: &str, up: bool) -> Request {
    let up_flag = libc::IFF_UP.cast_unsigned();
    let header = link_header(0, if up { up_flag } else { 0 }, up_flag);
    Request::new(libc::RTM_SETLINK, &header).with_text(IFLA_IFNAME, interface)
}

pub(super) fn mtu(interface: &str, mtu: u32) -> Request {
    named(libc::RTM_SETLINK, interface).with_number(IFLA_MTU, mtu)
}

pub(super) fn queue_len(interface: &str, packets: u32) -> Request {
    named(libc::RTM_SETLINK, interface).with_number(IFLA_TXQLEN, packets)
}

pub(super) fn namespace(interface: &str, netns: RawFd) -> Request {
    named(libc::RTM_SETLINK, interface).with(IFLA_NET_NS_FD, &netns.to_ne_bytes())
}

pub(super) fn no_link_local(interface: &str) -> Request {
    quiet(named(libc::RTM_SETLINK, interface))
}

/// A device by its index; `kind` is what to do with it (`RTM_*LINK`).
pub(in super::super) fn indexed(kind: u16, ifindex: u32) -> Request {
    Request::new(kind, &link_header(ifindex, 0, 0))
}

/// Sets the MTU of the device that the request names.
pub(in super::super) fn with_mtu(request: Request, mtu: u32) -> Request {
    request.with_number(IFLA_MTU, mtu)
}

/// Sets the operational state (`IF_OPER_*`) of the device that the request names.
pub(in super::super) fn operstate(request: Request, state: u8) -> Request {
    request.with(IFLA_OPERSTATE, &[state])
}

/// Turns link-local addresses of the kernel's own off on the device that the request names.
pub(in super::super) fn quiet(request: Request) -> Request {
    let mode = nest().with(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
    let families = nest().with(libc::AF_INET6 as u16, mode.body());
    request.with(IFLA_AF_SPEC, families.body())
}

/// Has the device that the request names keep an IPv4 network's other addresses when the first of
/// them is deleted.
pub(in super::super) fn promoting(request: Request) -> Request {
    let on = nest().with_number(IPV4_DEVCONF_PROMOTE_SECONDARIES, 1);
    let conf = nest().with(IFLA_INET_CONF, on.body());
    let families = nest().with(libc::AF_INET as u16, conf.body());
    request.with(IFLA_AF_SPEC, families.body())
}

/// All addresses of a device. A kernel that does not filter sends those of all devices.
pub(in super::super) fn addresses_of(ifindex: u32) -> Request {
    // struct ifaddrmsg
    let mut header = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    header.extend(ifindex.to_ne_bytes());
    Request::new(libc::RTM_GETADDR, &header)
}

/// The routes of one family by a device, in the main table. A kernel that does not filter sends all.
pub(in super::super) fn routes_by(ifindex: u32, v6: bool) -> Request {
    let mut header = [0; RTMSG_LEN];
    header[0] = if v6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
    header[4] = libc::RT_TABLE_MAIN;
    Request::new(libc::RTM_GETROUTE, &header).with_number(libc::RTA_OIF, ifindex)
}

/// `one`, whose peer is `other`. Is sent in the namespace of `one`.
pub(super) fn veth(one: &VethEnd, other: &VethEnd, other_netns: RawFd) -> Request {
    let end = |end: &VethEnd| {
        let header = link_header(end.ifindex.unwrap_or(0), 0, 0);
        Request::new(libc::RTM_NEWLINK, &header).with_text(IFLA_IFNAME, &end.name)
    };
    // The peer is a link message of its own, header included.
    let peer = end(other).with(IFLA_NET_NS_FD, &other_netns.to_ne_bytes());
    let data = nest().with(VETH_INFO_PEER, peer.body());
    let info = nest().with_text(IFLA_INFO_KIND, "veth").with(IFLA_INFO_DATA, data.body());
    end(one).with(IFLA_LINKINFO, info.body())
}

/// `kind`: `RTM_NEWADDR` or `RTM_DELADDR`.
pub(in super::super) fn address(kind: u16, ifindex: u32, address: IpNetwork) -> Request {
    let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
    // struct ifaddrmsg
    let mut header = vec![family(address.ip()), address.prefix(), flags, libc::RT_SCOPE_UNIVERSE];
    header.extend(ifindex.to_ne_bytes());
    Request::new(kind, &header)
        .with_address(IFA_LOCAL, address.ip())
        .with_address(IFA_ADDRESS, address.ip())
}

/// `kind`: `RTM_NEWROUTE` or `RTM_DELROUTE`.
pub(super) fn route(kind: u16, ifindex: u32, route: &KernelRoute) -> Request {
    route_of(kind, ifindex, (route.to, route.gateway), libc::RTPROT_STATIC)
}

/// As [`route`], with the protocol that the kernel shows as its origin.
pub(in super::super) fn route_of(
    kind: u16,
    ifindex: u32,
    (to, gateway): (IpNetwork, Option<IpAddr>),
    protocol: u8,
) -> Request {
    let mut header = [0; RTMSG_LEN];
    header[..2].copy_from_slice(&[family(to.ip()), to.prefix()]);
    header[4..RTMSG_LEN - 4].copy_from_slice(&[
        libc::RT_TABLE_MAIN,
        protocol,
        if gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK },
        libc::RTN_UNICAST,
    ]);
    let mut request = Request::new(kind, &header).with_number(libc::RTA_OIF, ifindex);
    if to.prefix() > 0 {
        request = request.with_address(libc::RTA_DST, to.network());
    }
    if let Some(gateway) = gateway {
        request = request.with_address(libc::RTA_GATEWAY, gateway);
    }
    request
}

/// The question by which route packets to `address` go.
pub(super) fn route_to(address: IpAddr) -> Request {
    let mut header = [0; RTMSG_LEN];
    header[..2].copy_from_slice(&[family(address), if address.is_ipv4() { 32 } else { 128 }]);
    Request::new(libc::RTM_GETROUTE, &header).with_address(libc::RTA_DST, address)
}

/// `struct ifinfomsg`: family and device type are none, and `flags` counts where `change` is set.
fn link_header(ifindex: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    for (at, number) in [(4, ifindex), (8, flags), (12, change)] {
        header[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    header
}

/// Attributes that become the value of another one.
fn nest() -> Request {
    Request::new(0, &[])
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// `sizeof(struct rtmsg)`.
// Bytes of the headers of messages about links, addresses and routes.
pub(in super::super) const IFINFOMSG_LEN: usize = 16;
pub(in super::super) const IFADDRMSG_LEN: usize = 8;
pub(in super::super) const RTMSG_LEN: usize = 12;

// `<linux/if_link.h>`, `<linux/veth.h>` and `<linux/if_addr.h>`.
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
pub(in super::super) const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
pub(in super::super) const IFLA_INET_CONF: u16 = 1;
pub(in super::super) const IPV4_DEVCONF_PROMOTE_SECONDARIES: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
pub(in super::super) const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
pub(in super::super) const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
pub(in super::super) const IFA_ADDRESS: u16 = 1;
pub(in super::super) const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
