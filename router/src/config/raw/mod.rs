//! The file as written, key by key, with the positions that later checks refer to. A refused value
//! has been reported; here its default takes its place.
#![forbid(unsafe_code)]

mod aggregate;
mod announce;
mod bfd;
mod bgp;
mod health;
mod playbook;
mod policy;
mod port;
mod routes;
mod service;
mod via;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::IpNetwork;
use toml::Spanned;
use toml::de::DeTable;

pub(super) use aggregate::RawAggregate;
pub(super) use announce::RawAdditions;
pub(super) use bfd::RawBfd;
pub(super) use bgp::{RawBgp, RawNeighbor};
pub(super) use health::RawCheck;
pub(super) use playbook::RawPlaybookStep;
pub(super) use policy::{RawPolicy, RawRule};
pub(super) use port::{MTU_DEFAULT, PeerRoute, RawPort};
pub(super) use routes::RawRoutes;
pub(super) use service::{RawService, RawSite};
pub(super) use via::{RawRoute, RawTarget, RawVia, target_of, via_of};

use super::model::{Api, Config, Port, Router};
use super::report::Report;
use super::value::{self, one_of, text};
use super::walk::Table;
use crate::policy::{LastSiteGuard, Martians};

/// The whole file.
pub(super) struct RawConfig {
    pub(super) router: RawRouter,
    pub(super) ports: Vec<RawPort>,
    pub(super) routes: Vec<RawRoute>,
    pub(super) route_files: Vec<RawRoutes>,
    pub(super) services: Vec<RawService>,
    pub(super) bgp: Option<RawBgp>,
    pub(super) api: RawApi,
}

/// `[router]`.
pub(super) struct RawRouter {
    pub(super) name: String,
    pub(super) id: Option<Ipv4Addr>,
    pub(super) workers: Option<usize>,
    pub(super) addresses: Vec<Spanned<IpNetwork>>,
    pub(super) martians: Martians,
    pub(super) hash_seed: u64,
    pub(super) busy_poll: Duration,
    pub(super) last_site_guard: LastSiteGuard,
    pub(super) state_dir: Option<PathBuf>,
}

/// `[api]`.
#[derive(Default)]
pub(super) struct RawApi {
    pub(super) socket: Option<Spanned<PathBuf>>,
    pub(super) http: Option<Spanned<SocketAddr>>,
}

impl RawConfig {
    pub(super) fn read<'t>(document: &'t Spanned<DeTable<'t>>, report: &'t Report) -> Self {
        let mut root = Table::new(document.get_ref(), 0..0, "the file", report);
        let router = root.table("router", "[router]").map(RawRouter::read);
        if !root.has("router") {
            root.missing("[router]", "a [router] section with at least a name");
        }
        let ports = root.tables("port", "[[port]]").into_iter().map(RawPort::read).collect();
        let routes = root.tables("route", "[[route]]").into_iter().map(RawRoute::read).collect();
        let route_files =
            root.tables("routes", "[[routes]]").into_iter().map(RawRoutes::read).collect();
        let services =
            root.tables("service", "[[service]]").into_iter().map(RawService::read).collect();
        let api = root.table("api", "[api]").map(RawApi::read);
        let bgp = root.table("bgp", "[bgp]").map(RawBgp::read);
        root.later("bfd", "BFD");
        root.later("policer", "a policer");
        root.finish();
        Self {
            router: router.unwrap_or_default(),
            ports,
            routes,
            route_files,
            services,
            bgp,
            api: api.unwrap_or_default(),
        }
    }

    /// Converts a file without mistakes into the model.
    pub(super) fn into_model(self) -> Config {
        let router = self.router.into_model();
        let on_links = self.bgp.iter().flat_map(|bgp| &bgp.neighbors);
        let on_links = on_links.filter_map(|one| Some(one.port.as_ref()?.get_ref().clone()));
        let on_links: BTreeSet<String> = on_links.collect();
        let mut ports: Vec<Port> = self.ports.into_iter().map(RawPort::into_model).collect();
        for port in ports.iter_mut().filter(|port| on_links.contains(&port.name)) {
            port.have_link_local(&router);
        }
        Config {
            router,
            ports,
            routes: self.routes.into_iter().map(RawRoute::into_model).collect(),
            route_files: self.route_files.into_iter().map(RawRoutes::into_model).collect(),
            services: self.services.into_iter().map(RawService::into_model).collect(),
            bgp: self.bgp.map(RawBgp::into_model),
            api: Api {
                socket: self.api.socket.map(Spanned::into_inner),
                http: self.api.http.map(Spanned::into_inner),
            },
        }
    }
}

impl RawRouter {
    fn read(mut table: Table<'_>) -> Self {
        let martians = |word: &str| {
            let words = [
                ("default", Some(Martians::Default)),
                ("strict", Some(Martians::Strict)),
                ("off", Some(Martians::Off)),
            ];
            one_of(word, &words)
        };
        let guard = |word: &str| {
            let words =
                [("refuse", Some(LastSiteGuard::Refuse)), ("warn", Some(LastSiteGuard::Warn))];
            one_of(word, &words)
        };
        let raw = Self {
            name: inner_or_default(table.need(
                "name",
                "name = \"r1\"",
                text("a name", value::name),
            )),
            id: table.get("id", text("a dotted quad", router_id)).map(Spanned::into_inner),
            workers: table.get("workers", value::integer(1..=WORKERS_MAX)).map(Spanned::into_inner),
            addresses: table.list("addresses", text("an address", value::own_address)),
            martians: inner_or_default(table.get("martians", text("a word", martians))),
            hash_seed: inner_or_default(table.get("hash-seed", value::integer(0..=u64::MAX))),
            busy_poll: inner_or_default(table.get("busy-poll", text("a span of time", busy_poll))),
            last_site_guard: inner_or_default(table.get("last-site-guard", text("a word", guard))),
            state_dir: table
                .get("state-dir", text("a path", value::absolute_path))
                .map(Spanned::into_inner),
        };
        table.finish();
        raw
    }

    fn into_model(self) -> Router {
        Router {
            name: self.name,
            id: self.id,
            workers: self.workers,
            addresses: self.addresses.into_iter().map(Spanned::into_inner).collect(),
            martians: self.martians,
            hash_seed: self.hash_seed,
            busy_poll: self.busy_poll,
            last_site_guard: self.last_site_guard,
            state_dir: self.state_dir,
        }
    }
}

impl Default for RawRouter {
    fn default() -> Self {
        Self {
            name: String::new(),
            id: None,
            workers: None,
            addresses: Vec::new(),
            martians: Martians::Default,
            hash_seed: 0,
            busy_poll: Duration::ZERO,
            last_site_guard: LastSiteGuard::Refuse,
            state_dir: None,
        }
    }
}

impl RawApi {
    fn read(mut table: Table<'_>) -> Self {
        let raw = Self {
            socket: table.get("socket", text("a path", socket_path)),
            http: table.get("http", text("an address and port", http_address)),
        };
        table.finish();
        raw
    }
}

pub(super) fn inner_or_default<T: Default>(value: Option<Spanned<T>>) -> T {
    value.map(Spanned::into_inner).unwrap_or_default()
}

pub(super) fn inner_or<T>(value: Option<Spanned<T>>, default: T) -> T {
    value.map_or(default, Spanned::into_inner)
}

/// At most [`BUSY_POLL_MAX`]: beyond this, sleeping is cheaper than polling.
fn busy_poll(text: &str) -> Result<Duration, value::ValueError> {
    value::duration_in(Duration::ZERO..=BUSY_POLL_MAX)(text)
}

fn router_id(text: &str) -> Result<Ipv4Addr, value::ValueError> {
    let IpAddr::V4(id) = value::address(text)? else {
        return Err(value::ValueError::new("expected a dotted quad, such as \"192.0.2.1\""));
    };
    if id.is_unspecified() {
        return Err(value::ValueError::new("expected a router id other than zero (RFC 6286)"));
    }
    Ok(id)
}

fn http_address(text: &str) -> Result<SocketAddr, value::ValueError> {
    let expected = "expected ADDRESS:PORT, such as \"127.0.0.1:7780\" or \"[::1]:7780\"";
    value::parsed(expected)(text).map_err(|fault| match text.rsplit_once(':') {
        Some(("", port)) => fault.help(format!(
            "write \"127.0.0.1:{port}\" for this machine alone, \"[::]:{port}\" for all"
        )),
        Some((host, port)) if port.parse::<u16>().is_ok() => {
            let host =
                host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            match value::address(host) {
                Err(of_host) => of_host.help(expected),
                Ok(_) => fault,
            }
        }
        _ => fault,
    })
}

fn socket_path(text: &str) -> Result<PathBuf, value::ValueError> {
    let path = value::absolute_path(text)?;
    if text.len() > SOCKET_PATH_MAX {
        let expected = format!("expected at most {SOCKET_PATH_MAX} bytes, this is {}", text.len());
        return Err(
            value::ValueError::new(expected).because("the path does not fit a socket address")
        );
    }
    Ok(path)
}

const BUSY_POLL_MAX: Duration = Duration::from_millis(10);

/// More cores than any machine has.
pub(super) const WORKERS_MAX: usize = 256;

/// Bytes of `sun_path` (unix(7)) without its final zero.
const SOCKET_PATH_MAX: usize = 107;
