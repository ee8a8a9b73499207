//! The legs that a configuration has, and their checks: a pure function of it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nearhop_fib::{PathId, name_key};

use super::LegKey;
use crate::batch::Exit;
use crate::config::Config;
use crate::config::model::{Check, Port, Service, Site, Via};
use crate::ids::Family;
use crate::liveness::leg::{Crowd, LegSpec};
use crate::packet::martian::is_link_local;
use crate::probe::CheckSpec;

/// Every leg of these services of `config` whose port has a way out.
pub(super) fn wanted_legs<'a>(
    config: &'a Config,
    services: impl IntoIterator<Item = &'a Service>,
    exit_by: impl Fn(&str) -> Option<Exit>,
) -> BTreeMap<LegKey, LegSpec> {
    let ports: HashMap<&str, &Port> =
        config.ports.iter().map(|port| (port.name.as_str(), port)).collect();
    let mut wanted = BTreeMap::new();
    for service in services {
        for family in families(service) {
            for site in &service.sites {
                for via in &site.via {
                    let Via::Port(name) = via else { continue };
                    let (Some(port), Some(exit)) = (ports.get(name.as_str()), exit_by(name)) else {
                        continue;
                    };
                    let link = Link { config, service, family, port, exit };
                    wanted.insert(link.key(&site.name), link.leg(site));
                }
            }
        }
    }
    wanted
}

/// How many legs a service has at most, and how many checks of them the prober does.
pub(super) fn count_legs(service: &Service) -> (usize, usize) {
    let (mut legs, mut checks) = (0, 0);
    for family in families(service) {
        for site in &service.sites {
            let fits = |check: &&Check| check.target.is_none_or(|ip| Family::of(ip) == family);
            let probes = |check: &&Check| !check.kind.is_tcp();
            legs += site.via.len();
            checks += site.via.len() * site.health.iter().filter(fits).filter(probes).count();
        }
    }
    (legs, checks)
}

/// The services of `new` whose legs may be others than those of `old`.
pub(super) fn changed<'a>(
    old: &'a Config,
    of_old: impl Fn(&str) -> Option<&'a Service>,
    new: &'a Config,
) -> Vec<usize> {
    // By what a port or the router is called checks ask.
    let same_router = old.router.addresses == new.router.addresses;
    let by_name = |config: &'a Config| -> HashMap<&str, &Port> {
        config.ports.iter().map(|port| (&*port.name, port)).collect()
    };
    let (old_ports, new_ports) = (by_name(old), by_name(new));
    let same_port = |via: &Via| match via {
        Via::Port(name) => old_ports.get(&**name) == new_ports.get(&**name),
        Via::Address(_) => true,
    };
    let same_ports = |service: &Service| {
        let mut vias = service.sites.iter().flat_map(|site| &site.via);
        vias.all(same_port)
    };
    let is_changed = |service: &Service| {
        !same_router || of_old(&service.name) != Some(service) || !same_ports(service)
    };
    let services = new.services.iter().enumerate();
    services.filter(|(_, service)| is_changed(service)).map(|(index, _)| index).collect()
}

/// How many of these the prober does: each needs a source port of its own.
pub(super) fn probes(checks: &[CheckSpec]) -> usize {
    checks.iter().filter(|check| !check.is_tcp()).count()
}

/// The families that a service has prefixes of.
pub(super) fn families(service: &Service) -> Vec<Family> {
    let mut families: Vec<Family> =
        service.prefixes.iter().map(|prefix| Family::of(prefix.addr())).collect();
    families.sort_unstable();
    families.dedup();
    families
}

/// A service in one family, by one port.
struct Link<'a> {
    config: &'a Config,
    service: &'a Service,
    family: Family,
    port: &'a Port,
    exit: Exit,
}

impl Link<'_> {
    fn key(&self, site: &str) -> LegKey {
        LegKey {
            service: self.service.name.clone(),
            family: self.family,
            site: site.to_owned(),
            port: self.port.name.clone(),
        }
    }

    /// One that has checks is never without them: where they have no source it stays down.
    fn leg(&self, site: &Site) -> LegSpec {
        let asked = site.health.iter().filter_map(|check| Some((check, self.target(check)?)));
        let mut spec = LegSpec {
            path: PathId::default(),
            version: 0,
            exit: self.exit,
            checks: Vec::new(),
            combine: site.combine,
            impossible: None,
            disabled: false,
            crowd: Some(self.crowd(site)),
        };
        match self.source() {
            Some(source) => {
                let checks = asked.map(|(check, target)| self.check(check, source, target));
                spec.checks = checks.collect();
            }
            None if asked.count() > 0 => spec.impossible = Some(self.no_source()),
            None => {}
        }
        spec
    }

    fn crowd(&self, site: &Site) -> Crowd {
        let family = match self.family {
            Family::Ipv4 => 0,
            Family::Ipv6 => 1,
        };
        Crowd {
            service: name_key(&self.service.name) ^ family,
            site: name_key(&site.name),
            threshold: self.service.panic_threshold,
        }
    }

    /// The service's own address, unless configured otherwise, in each family on its own.
    fn target(&self, check: &Check) -> Option<IpAddr> {
        let mut own = self.service.prefixes.iter().map(|prefix| prefix.addr());
        match check.target {
            Some(target) => Some(target).filter(|ip| self.is_of_family(*ip)),
            None => own.find(|ip| self.is_of_family(*ip)),
        }
    }

    /// An address of the port, else of the router; a link-local one only if there is no other.
    fn source(&self) -> Option<IpAddr> {
        let of = |addresses: &[IpNetwork], link_local: bool| {
            let mut ips = addresses.iter().map(IpNetwork::ip);
            ips.find(|&ip| self.is_of_family(ip) && is_link_local(ip) == link_local)
        };
        let (port, router) = (&self.port.addresses, &self.config.router.addresses);
        of(port, false).or_else(|| of(router, false)).or_else(|| of(port, true))
    }

    fn no_source(&self) -> String {
        let family = match self.family {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        };
        let port = &self.port.name;
        format!("no check is possible: neither port {port} nor [router] has an {family} address")
    }

    fn check(&self, check: &Check, source: IpAddr, target: IpAddr) -> CheckSpec {
        CheckSpec {
            kind: check.kind.clone(),
            exit: self.exit,
            source,
            target,
            interval: check.interval,
            fall: check.fall,
            rise: check.rise,
            initial_up: check.initial_up,
        }
    }

    fn is_of_family(&self, ip: IpAddr) -> bool {
        Family::of(ip) == self.family
    }
}
