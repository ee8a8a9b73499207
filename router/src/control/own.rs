//! The router's own addresses, and the broadcasts of its networks, as configured.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use nearhop_fib::IpPrefix;

use crate::config::Config;
use crate::forward::AddressSet;
use crate::packet::martian::is_link_local;
use crate::policy::Martians;

/// An address of the router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Own<'a> {
    pub(super) address: IpAddr,
    /// The port a link-local address belongs to; the same address may belong to others too.
    pub(super) port: Option<&'a str>,
    /// The unicast address that it answers from.
    pub(super) unicast: IpAddr,
}

/// The addresses of the router, then those of its ports, then subnet-router anycast addresses.
pub(super) fn all(config: &Config) -> impl Iterator<Item = Own<'_>> {
    let own = |port: Option<_>, address, unicast| {
        let port = port.filter(|_| is_link_local(address));
        Own { address, port, unicast }
    };
    let router = config.router.addresses.iter().map(|network| (None, network));
    let of_ports = || {
        config.ports.iter().flat_map(|port| {
            port.addresses.iter().map(|network| (Some(port.name.as_str()), network))
        })
    };
    let unicast =
        router.chain(of_ports()).map(move |(port, network)| own(port, network.ip(), network.ip()));
    let taken = taken(config);
    let anycast = of_ports().filter_map(move |(port, network)| {
        let address = subnet_router(*network).filter(|&address| !taken.has(address))?;
        Some(own(port, address, network.ip()))
    });
    unicast.chain(anycast)
}

/// The anycast address of all routers of a network (RFC 4291 section 2.6.1). Networks of two
/// addresses (RFC 6164) or one have none.
fn subnet_router(network: IpNetwork) -> Option<IpAddr> {
    match network {
        IpNetwork::V6(v6) if v6.prefix() < 127 => Some(v6.network().into()),
        _ => None,
    }
}

/// Addresses that are configured to be something else than a network's anycast address.
fn taken(config: &Config) -> AddressSet {
    let ports = config.ports.iter().flat_map(|port| &port.addresses);
    let own = ports.chain(&config.router.addresses).map(|network| IpPrefix::host(network.ip()));
    let services = config.services.iter().flat_map(|service| service.prefixes.iter().copied());
    let routes =
        config.routes.iter().map(|route| route.prefix).filter(|prefix| prefix.len() == 128);
    own.chain(services).chain(routes).collect()
}

/// Of [`all`], the addresses that the router has on every port.
fn on_every_port<'a>(all: &'a [Own<'a>]) -> impl Iterator<Item = &'a Own<'a>> {
    all.iter().filter(|own| !is_link_local(own.address))
}

/// Sources that no packet from a port may have, from [`all`] and [`broadcasts`].
pub(super) fn martian_sources(all: &[Own<'_>], broadcasts: &[Ipv4Addr]) -> Vec<IpPrefix> {
    let own = on_every_port(all).map(|own| own.address);
    let sources = own.chain(broadcasts.iter().copied().map(IpAddr::from));
    sources.map(IpPrefix::host).collect()
}

/// Of [`all`], the link-local addresses of each port that has any.
pub(super) fn link_locals<'a>(all: &[Own<'a>]) -> HashMap<&'a str, Vec<IpAddr>> {
    let mut of_ports: HashMap<&str, Vec<IpAddr>> = HashMap::new();
    for own in all {
        if let Some(port) = own.port {
            of_ports.entry(port).or_default().push(own.address);
        }
    }
    of_ports
}

/// The sources of ICMP errors that leave by a port without an address of their family: an address
/// of the router, else of another port, of these the router ID first. Without any, IPv4 has an
/// address reserved for this (RFC 7600); in IPv6 no error is sent.
pub(super) fn error_sources(
    config: &Config,
    all: &[Own<'_>],
) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let own = || on_every_port(all).filter(|own| own.address == own.unicast).map(|own| own.address);
    let of_router = config.router.addresses.iter().map(IpNetwork::ip).filter_map(v4);
    let mut of_router = of_router.filter(|ip| !ip.is_link_local());
    let id = config.router.id.filter(|&id| own().any(|ip| ip == id));
    let v4 = of_router.next().or(id).or_else(|| own().find_map(v4));
    (Some(v4.unwrap_or(DUMMY_V4)), own().find_map(v6))
}

/// Broadcast addresses of connected networks, which are not forwarded (RFC 2644). Networks of two
/// addresses or one have none (RFC 3021). Where martians are strict, the obsolete form with host
/// bits of zero (RFC 1812 section 4.2.3.1) counts too, unless a longer prefix has that address.
pub(super) fn broadcasts(config: &Config) -> Vec<Ipv4Addr> {
    let networks = config.ports.iter().flat_map(|port| &port.addresses);
    let networks = networks.filter_map(|network| match network {
        IpNetwork::V4(network) if network.prefix() < 31 => Some(network),
        _ => None,
    });
    let is_strict = config.router.martians == Martians::Strict;
    let each = networks.flat_map(|network| {
        let old = is_strict && !has_longer(config, network.network(), network.prefix());
        [Some(network.broadcast()), old.then(|| network.network())].into_iter().flatten()
    });
    each.collect()
}

/// Whether any configured prefix longer than `len` contains `address`, of whatever source, in use or not.
fn has_longer(config: &Config, address: Ipv4Addr, len: u8) -> bool {
    let longer = |prefix: IpPrefix| prefix.len() > len && prefix.contains(address.into());
    let connected = config.ports.iter().flat_map(|port| &port.addresses);
    let own = connected.clone().chain(&config.router.addresses).map(IpNetwork::ip);
    let services = config.services.iter().flat_map(|service| service.prefixes.iter().copied());
    let in_files = (len + 1..=32).filter_map(|len| IpPrefix::around(address.into(), len));
    own.map(IpPrefix::host).any(longer)
        || connected.filter_map(|net| IpPrefix::around(net.ip(), net.prefix())).any(longer)
        || services.chain(config.routes.iter().map(|route| route.prefix)).any(longer)
        || in_files
            .into_iter()
            .any(|prefix| config.route_files.iter().any(|file| file.routes.get(prefix).is_some()))
}

/// The networks that these addresses of a port are in.
pub(super) fn networks(addresses: &[IpNetwork]) -> impl Iterator<Item = IpPrefix> + '_ {
    addresses.iter().filter_map(|net| IpPrefix::around(net.ip(), net.prefix()))
}

pub(super) fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

pub(super) fn v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(ip),
    }
}

/// The IPv4 dummy address (RFC 7600 section 4.8).
const DUMMY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
