//! Reads `[[port]]`.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnetwork::IpNetwork;
use nearhop_fib::{IpPrefix, link_key};
use toml::Spanned;

use super::{WORKERS_MAX, inner_or, inner_or_default};
use crate::config::model::{Device, Port, Router};
use crate::config::value::{self, ValueError, one_of, text};
use crate::config::walk::Table;
use crate::kernel::netns::NetNs;
use crate::policy::{Facing, ReversePath};
use crate::port::EngineChoice;

impl Port {
    /// Has a link-local address from now on, if it has none: one that stays the same as long as the router's
    /// name and id and the port's name do, and that no other port has (as RFC 7217 asks, without secret).
    pub(super) fn have_link_local(&mut self, router: &Router) {
        if self.link_local().is_some() {
            return;
        }
        let owner = format!("{} {}", router.name, router.id.unwrap_or(Ipv4Addr::UNSPECIFIED));
        // All zeros would be the anycast address of all routers.
        let interface = link_key(&owner, &self.name).max(1);
        let address = Ipv6Addr::from_bits(LINK_LOCAL | u128::from(interface));
        self.addresses.extend(IpNetwork::new(address.into(), LINK_LOCAL_LEN));
    }
}

/// A port as written.
pub(in crate::config) struct RawPort {
    /// `None` if missing or invalid.
    pub(in crate::config) name: Option<Spanned<String>>,
    /// The name as written, even if invalid: other sections may refer to it.
    pub(in crate::config) known_as: Option<String>,
    /// `None` if missing or invalid.
    pub(in crate::config) tun: Option<Spanned<String>>,
    pub(in crate::config) netns: Option<Spanned<NetNs>>,
    pub(in crate::config) addresses: Vec<Spanned<IpNetwork>>,
    pub(in crate::config) peer_addresses: Vec<Spanned<IpNetwork>>,
    pub(in crate::config) peer_routes: Vec<Spanned<PeerRoute>>,
    pub(in crate::config) mtu: Option<Spanned<u16>>,
    pub(in crate::config) queues: Option<Spanned<usize>>,
    pub(in crate::config) facing: Facing,
    pub(in crate::config) reverse_path: ReversePath,
    /// Position of `[[port]]`.
    pub(in crate::config) span: Range<usize>,
    persist: bool,
    engine: EngineChoice,
    offloads: bool,
    join: bool,
}

/// A destination of `peer-routes`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum PeerRoute {
    /// All destinations of the families that the port has addresses of.
    Default,
    /// These.
    Prefix(IpPrefix),
}

impl RawPort {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let name = table.need("name", "name = \"fra\"", text("a name", port_name));
        let ethernet = table.later("interface", "an Ethernet port (interface)");
        if !ethernet && !table.has("tun") {
            table.missing("tun", "tun = \"nh-fra\", the port's device");
        }
        let address = || text("an address", value::interface_address);
        let raw = Self {
            name,
            known_as: table.as_written("name"),
            tun: table.get("tun", text("an interface name", interface_name)),
            netns: table.get("netns", text("a namespace", netns)),
            addresses: table.list("addresses", address()),
            peer_addresses: table.list("peer-addresses", address()),
            peer_routes: peer_routes(&mut table),
            mtu: table.get("mtu", value::integer(MTU_MIN..=u16::MAX)),
            queues: table.get("queues", value::integer(1..=WORKERS_MAX)),
            facing: inner_or_default(table.get("facing", text("a word", facing))),
            span: table.span(),
            persist: inner_or_default(table.get("persist", value::boolean)),
            reverse_path: inner_or_default(table.get("reverse-path", text("a word", reverse_path))),
            engine: inner_or_default(table.get("engine", text("a word", engine))),
            offloads: inner_or(table.get("offloads", value::boolean), true),
            join: inner_or(table.get("join", value::boolean), true),
        };
        table.later("policer", "a policer");
        table.finish();
        raw
    }

    /// The families of the addresses that the kernel's side has, or else the router's: those that a
    /// default route is for.
    pub(in crate::config) fn default_routes(&self) -> Vec<IpPrefix> {
        let peers = Some(&self.peer_addresses).filter(|peers| !peers.is_empty());
        let addresses = peers.unwrap_or(&self.addresses);
        let any_of = |v6: bool| addresses.iter().any(|address| address.get_ref().is_ipv6() == v6);
        let default = |v6: bool| -> IpAddr {
            if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
        };
        let families = [false, true].into_iter().filter(|&v6| any_of(v6));
        families.filter_map(|v6| IpPrefix::around(default(v6), 0)).collect()
    }

    /// What `peer-routes` stands for, each with its position.
    pub(in crate::config) fn routes_of_peer(&self) -> Vec<(IpPrefix, Range<usize>)> {
        let of = |route: &Spanned<PeerRoute>| {
            let prefixes = match *route.get_ref() {
                PeerRoute::Default => self.default_routes(),
                PeerRoute::Prefix(prefix) => vec![prefix],
            };
            let span = route.span();
            prefixes.into_iter().map(move |prefix| (prefix, span.clone()))
        };
        self.peer_routes.iter().flat_map(of).collect()
    }

    pub(super) fn into_model(self) -> Port {
        let peer_routes = self.routes_of_peer().into_iter().map(|(prefix, _)| prefix).collect();
        Port {
            name: inner_or_default(self.name),
            device: Device::Tun {
                name: inner_or_default(self.tun),
                persist: self.persist,
                queues: self.queues.map(Spanned::into_inner),
                offloads: self.offloads,
            },
            netns: inner_or(self.netns, NetNs::Here),
            addresses: self.addresses.into_iter().map(Spanned::into_inner).collect(),
            peer_addresses: self.peer_addresses.into_iter().map(Spanned::into_inner).collect(),
            peer_routes,
            mtu: inner_or(self.mtu, MTU_DEFAULT),
            reverse_path: self.reverse_path,
            facing: self.facing,
            engine: self.engine,
            join: self.join,
        }
    }
}

/// `"default"` or a list.
fn peer_routes(table: &mut Table<'_>) -> Vec<Spanned<PeerRoute>> {
    let read = || text("a prefix", peer_route);
    let alone = table.node("peer-routes").is_some_and(|node| node.get_ref().as_str().is_some());
    if alone {
        table.get("peer-routes", read()).into_iter().collect()
    } else {
        table.list("peer-routes", read())
    }
}

fn peer_route(text: &str) -> Result<PeerRoute, ValueError> {
    if text == "default" {
        return Ok(PeerRoute::Default);
    }
    value::prefix(text).map(PeerRoute::Prefix)
}

fn port_name(text: &str) -> Result<String, ValueError> {
    if super::via::WORDS.contains(&text) {
        return Err(ValueError::new("a route's via uses this word")
            .because(format!("no port may be named {text:?}")));
    }
    value::name(text)
}

/// Follows the kernel's rules, and forbids `%`, which the kernel expands as a pattern.
fn interface_name(text: &str) -> Result<String, ValueError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
    if text.is_empty() || text.len() > INTERFACE_MAX {
        return Err(ValueError::new(format!("expected 1 to {INTERFACE_MAX} bytes"))
            .because(format!("an interface name cannot have {} bytes", text.len())));
    }
    if text.contains(bad) || text == "." || text == ".." {
        return Err(ValueError::new("expected no space, '/', ':' or '%'")
            .because(format!("{text:?} is not an interface name")));
    }
    // The kernel's isspace() takes single bytes, and this one for a space of Latin-1.
    if let Some(c) = text.chars().find(|c| c.encode_utf8(&mut [0; 4]).bytes().any(|b| b == 0xa0)) {
        return Err(ValueError::new(format!("the kernel takes a byte of {c:?} for a space"))
            .because(format!("{text:?} is not an interface name")));
    }
    match text {
        // Directories of /proc/sys/net/ipv4/conf.
        "all" | "default" => {
            Err(ValueError::new("the kernel has settings of this name for all interfaces")
                .because(format!("no interface can be called {text:?}")))
        }
        "lo" => {
            Err(ValueError::new("every network namespace has a loopback interface of this name")
                .because("the device \"lo\" can be no port"))
        }
        _ => Ok(text.to_owned()),
    }
}

fn netns(text: &str) -> Result<NetNs, ValueError> {
    let dots = text == "." || text == "..";
    let relative = text.contains('/') && !text.starts_with('/');
    if text.is_empty() || dots || relative || text.contains('\0') {
        return Err(ValueError::new("expected a name under /run/netns, or an absolute path")
            .because(format!("{text:?} names no namespace")));
    }
    if text.len() > PATH_MAX || text.split('/').any(|part| part.len() > FILE_NAME_MAX) {
        let expected =
            format!("expected at most {PATH_MAX} bytes, {FILE_NAME_MAX} in a file's name");
        return Err(ValueError::new(expected).because("no file can have so long a name"));
    }
    Ok(NetNs::named(text))
}

fn reverse_path(word: &str) -> Result<ReversePath, ValueError> {
    let words = [
        ("off", Some(ReversePath::Off)),
        ("loose", Some(ReversePath::Loose)),
        ("strict", Some(ReversePath::Strict)),
    ];
    one_of(word, &words)
}

fn facing(word: &str) -> Result<Facing, ValueError> {
    one_of(word, &[("any", Some(Facing::Any)), ("clients", Some(Facing::Clients))])
}

fn engine(word: &str) -> Result<EngineChoice, ValueError> {
    let words = [
        ("auto", Some(EngineChoice::Auto)),
        ("epoll", Some(EngineChoice::Epoll)),
        ("io-uring", Some(EngineChoice::Uring)),
    ];
    one_of(word, &words)
}

pub(in crate::config) const MTU_DEFAULT: u16 = 1500;

/// Every IPv4 node forwards 68 bytes unfragmented (RFC 791 section 3.2).
const MTU_MIN: u16 = 68;

/// Bytes of a path and of each of its parts (`PATH_MAX` without its final zero, `NAME_MAX`).
const PATH_MAX: usize = 4095;
const FILE_NAME_MAX: usize = 255;

/// fe80::/64 (RFC 4291 section 2.5.6).
const LINK_LOCAL: u128 = 0xfe80 << 112;
const LINK_LOCAL_LEN: u8 = 64;

/// Bytes of `IFNAMSIZ` without its final zero.
const INTERFACE_MAX: usize = 15;
