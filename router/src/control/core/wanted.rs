//! The legs that a configuration has, and their checks: a pure function of it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use nearhop_fib::PathId;

use super::super::monitor::LegSpec;
use super::LegKey;
use crate::config::Config;
use crate::config::model::{Check, CheckKind, Port, Service, Via};
use crate::event::Family;
use crate::port::PortId;
use crate::probe::CheckSpec;

/// Every leg that `config` has and whose port has a number.
pub(super) fn wanted_legs(
    config: &Config,
    port_id: impl Fn(&str) -> Option<PortId>,
) -> BTreeMap<LegKey, LegSpec> {
    let ports: HashMap<&str, &Port> =
        config.ports.iter().map(|port| (port.name.as_str(), port)).collect();
    let mut wanted = BTreeMap::new();
    for service in &config.services {
        for family in families(service) {
            for site in &service.sites {
                for Via::Port(name) in &site.via {
                    let (Some(port), Some(id)) = (ports.get(name.as_str()), port_id(name)) else {
                        continue;
                    };
                    let link = Link { config, service, family, port, id };
                    let checks = site.health.iter().filter_map(|check| link.check(check));
                    let spec = LegSpec {
                        path: PathId::default(),
                        port: id,
                        checks: checks.collect(),
                        combine: site.combine,
                    };
                    wanted.insert(link.key(&site.name), spec);
                }
            }
        }
    }
    wanted
}

/// How many of these the prober does: each needs a source port of its own.
pub(super) fn probes(checks: &[CheckSpec]) -> usize {
    checks.iter().filter(|check| !matches!(check.kind, CheckKind::Tcp { .. })).count()
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
    id: PortId,
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

    /// A check asks the service's own address, unless told otherwise, in each family on its own.
    fn check(&self, check: &Check) -> Option<CheckSpec> {
        let of_family = |ip: &IpAddr| Family::of(*ip) == self.family;
        let mut own = self.service.prefixes.iter().map(|prefix| prefix.addr());
        let target = match check.target {
            Some(target) => Some(target).filter(of_family),
            None => own.find(of_family),
        }?;
        let addresses = self.port.addresses.iter().chain(&self.config.router.addresses);
        let source = addresses.map(ipnetwork::IpNetwork::ip).find(of_family)?;
        Some(CheckSpec {
            kind: check.kind.clone(),
            port: self.id,
            source,
            target,
            interval: check.interval,
            fall: check.fall,
            rise: check.rise,
            initial_up: check.initial_up,
        })
    }
}
