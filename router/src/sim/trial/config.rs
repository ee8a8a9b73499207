//! The configuration of a trial's routers.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::net::IpAddr;

use super::layout::{ADDRESSES, Layout, LegTarget, Speaks};
use crate::config::{Config, ConfigErrors};
use crate::sim::Draft;

impl Layout {
    /// The configuration of a router.
    pub(super) fn config(&self, router: usize) -> Result<Config, ConfigErrors> {
        let mut draft = Draft::without_services(&router_name(router));
        for (trunk, ends) in self.trunks.iter().enumerate().filter(|(_, e)| e.contains(&router)) {
            let host = if ends[0] == router { 1 } else { 2 };
            let name = router_name(self.across(trunk, router));
            port(&mut draft, &name, TRUNK, trunk, host);
        }
        for (site, _) in self.sites.iter().enumerate().filter(|(_, at)| **at == router) {
            port(&mut draft, &self.site_port(site), SITE, site, 1);
        }
        for (client, _) in self.clients.iter().enumerate().filter(|(_, at)| **at == router) {
            port(&mut draft, &client_name(client), CLIENT, client, 1);
        }
        self.routes(router, &mut draft);
        self.neighbors(router, &mut draft);
        for (service, legs) in self.legs[router].iter().enumerate() {
            if legs.is_empty() {
                continue;
            }
            let prefixes = self.addresses(router, service).flat_map(|address| PREFIXES[address]);
            draft.service(&service_name(service), prefixes).without_latency();
            if let Some(Speaks { min_sites, delay_ms, .. }) = self.speaks.get(router) {
                draft.service_keys(&format!(
                    "min-sites = {min_sites}\nannounce-delay = \"{delay_ms}ms\"\n"
                ));
                // Every other router looks whether packets reach its sites first.
                if router % 2 == 1 {
                    draft.service_keys("announce = \"proven\"\nprove-timeout = \"1s\"\n");
                }
            }
            for leg in legs {
                let name = self.leg_name(router, leg.to);
                let health = match leg.cost {
                    UNCHECKED => String::new(),
                    _ => self.health(router, leg.to),
                };
                draft.site(&name, &self.leg_port(router, leg.to), leg.cost, &health);
            }
        }
        draft.config()
    }

    /// Name of the port that a leg leaves by.
    pub(super) fn leg_port(&self, router: usize, to: LegTarget) -> String {
        match to {
            LegTarget::Site(site) => self.site_port(site),
            LegTarget::Trunk(_) => self.leg_name(router, to),
        }
    }

    /// Name of the port that the cable of a site is in. None is used again.
    pub(super) fn site_port(&self, site: usize) -> String {
        match self.plugs[site] {
            0 => site_name(site),
            times => format!("{}-{times}", site_name(site)),
        }
    }

    /// Adds routes to every client, and to every router that probes its neighbour over a trunk: the
    /// answers must return by that trunk, so the route leads through the neighbour.
    fn routes(&self, router: usize, draft: &mut Draft) {
        let mut route = |net: u8, number: usize, trunk: usize| {
            let via = router_name(self.across(trunk, router));
            draft.route(&format!("10.{net}.{number}.0/24"), &via);
            draft.route(&format!("fd00:{net}:{number:x}::/64"), &via);
        };
        for (client, &at) in self.clients.iter().enumerate().filter(|(_, at)| **at != router) {
            if let Some(trunk) = self.towards(router, at, None) {
                route(CLIENT, client, trunk);
            }
        }
        for (number, &[asks, asked]) in self.trunks.iter().enumerate() {
            if ![asks, asked].contains(&router)
                && let Some(trunk) = self.towards(router, asked, Some(asks))
            {
                route(TRUNK, number, trunk);
            }
        }
    }

    /// Adds a session over each trunk of a router that speaks BGP.
    fn neighbors(&self, router: usize, draft: &mut Draft) {
        let Some(speaks) = self.speaks.get(router) else { return };
        let Speaks { hold_s, exports, bfd_ms, .. } = *speaks;
        draft.bgp(FIRST_AS + router as u32, &format!("10.255.0.{}", router + 1));
        let export = if exports { "services" } else { "none" };
        let more = format!("import = \"all\"\nexport = \"{export}\"\nhold-time = \"{hold_s}s\"\n");
        for (trunk, ends) in self.trunks.iter().enumerate().filter(|(_, e)| e.contains(&router)) {
            let other = self.across(trunk, router);
            let host = if ends[0] == other { 1 } else { 2 };
            let address = format!("10.{TRUNK}.{trunk}.{host}");
            let bfd = format!("bfd = {{ interval = \"{bfd_ms}ms\", multiplier = 4 }}\n");
            // Of every other trunk.
            let bfd = if trunk % 2 == 0 { &bfd } else { "" };
            let keys = format!("{more}{bfd}");
            draft.neighbor(&router_name(other), &address, FIRST_AS + other as u32, &keys);
        }
    }

    fn health(&self, router: usize, to: LegTarget) -> String {
        let mut text = "health = [\n".to_owned();
        let every = self.every_ms[router];
        let checks = match to {
            LegTarget::Trunk(_) => vec![("icmp = {}", 2 * every, 4, 3)],
            LegTarget::Site(site) => {
                let server = if self.over_tcp[site] {
                    "tcp = { port = 80 }"
                } else {
                    "dns = { name = \"www.example.\" }"
                };
                vec![("icmp = {}", every, 3, 5), (server, 2 * every, self.falls[router], 2)]
            }
        };
        for (check, every, fall, rise) in checks {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "    {{ {check}, interval = \"{every}ms\", fall = {fall}, rise = {rise} }},"
            );
        }
        text + "]"
    }
}

pub(super) fn router_name(router: usize) -> String {
    format!("r{router}")
}

pub(super) fn site_name(site: usize) -> String {
    format!("s{site}")
}

pub(super) fn service_name(service: usize) -> String {
    format!("www{service}")
}

pub(super) fn client_name(client: usize) -> String {
    format!("c{client}")
}

/// The addresses of a client, one per family; its router has host number 1.
pub(super) fn client_addresses(client: usize) -> [String; 2] {
    [format!("10.{CLIENT}.{client}.2"), format!("fd00:{CLIENT}:{client:x}::2")]
}

/// The trunk that an address between routers is of.
pub(super) fn trunk_of(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(v4) => match v4.octets() {
            [10, TRUNK, trunk, _] => Some(trunk.into()),
            _ => None,
        },
        IpAddr::V6(v6) => match v6.segments() {
            [0xfd00, TRUNK_V6, trunk, ..] => Some(trunk.into()),
            _ => None,
        },
    }
}

fn port(draft: &mut Draft, name: &str, net: u8, number: usize, host: u8) {
    let v4 = format!("10.{net}.{number}.{host}/24");
    let v6 = format!("fd00:{net}:{number:x}::{host}/64");
    draft.port(name, &v4, &v6);
}

/// The addresses that services share, of each family, with the port of the sites' echo servers.
pub(super) const SOCKETS: [[&str; 2]; ADDRESSES] = [
    ["198.51.100.53:7", "[2001:db8:53::53]:7"],
    ["198.51.100.54:7", "[2001:db8:53::54]:7"],
    ["198.51.100.55:7", "[2001:db8:53::55]:7"],
];

pub(super) const PREFIXES: [[&str; 2]; ADDRESSES] = [
    ["198.51.100.53/32", "2001:db8:53::53/128"],
    ["198.51.100.54/32", "2001:db8:53::54/128"],
    ["198.51.100.55/32", "2001:db8:53::55/128"],
];

/// The cost of the one leg that has no checks: cheaper than all others.
pub(super) const UNCHECKED: u32 = 1;

/// The AS of the first router; the next one's follows.
const FIRST_AS: u32 = 65_001;

/// Second byte of the IPv4 networks between routers.
const TRUNK: u8 = 100;

/// The same digits in the IPv6 networks.
const TRUNK_V6: u16 = 0x100;

/// Second byte of the IPv4 networks to sites.
const SITE: u8 = 101;

/// Second byte of the IPv4 networks to clients.
const CLIENT: u8 = 102;
