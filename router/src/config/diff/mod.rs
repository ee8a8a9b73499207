//! Describes what a reload changes.
#![forbid(unsafe_code)]

mod show;

use std::collections::HashMap;
use std::sync::Arc;

use super::model::{
    Aggregate, Api, Bgp, Config, Neighbor, NeighborRange, Playbook, Port, Route, RouteFile,
    RouteTarget, Router, Service, Site,
};
use crate::bgp::policy::Policy;
use crate::rib::table::RouteTable;
use show::{listed, or_default, port_text, route_text, site_text};

/// The differences, one line each: `+` for an addition, `-` for a removal, else the old value and
/// the new; of additions and removals of a kind, the first 20 and a count. Empty if nothing changed; the order of sections in the file does not matter.
pub fn diff(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Lines(Vec::new());
    lines.fields("router", &old.router, &new.router, &ROUTER);
    let name = |port: &Port| port.name.clone();
    lines.each(&old.ports, &new.ports, "port", name, port_text, |lines, old, new| {
        lines.fields(&format!("port {}", new.name), old, new, &PORT);
    });
    let prefix = |route: &Route| route.prefix.to_string();
    lines.each(&old.routes, &new.routes, "route", prefix, route_text, |lines, old, new| {
        lines.fields(&format!("route {}", new.prefix), old, new, &ROUTE);
    });
    let name = |file: &RouteFile| file.name.clone();
    lines.each(
        &old.route_files,
        &new.route_files,
        "routes",
        name,
        show::file,
        |lines, old, new| {
            lines.table(&format!("routes {}", new.name), &old.routes, &new.routes);
        },
    );
    let name = |service: &Service| service.name.clone();
    let text = |service: &Service| listed(&service.prefixes);
    lines.each(&old.services, &new.services, "service", name, text, Lines::service);
    lines.bgp(old.bgp.as_ref(), new.bgp.as_ref());
    lines.fields("api", &old.api, &new.api, &API);
    lines.0
}

struct Lines(Vec<String>);

impl Lines {
    /// Compares two lists by the items' keys: removed, changed, added.
    fn each<T: PartialEq>(
        &mut self,
        old: &[T],
        new: &[T],
        kind: &str,
        key: impl Fn(&T) -> String,
        text: impl Fn(&T) -> String,
        changed: impl Fn(&mut Self, &T, &T),
    ) {
        let index = |items: &'_ [T]| -> HashMap<String, usize> {
            items.iter().enumerate().map(|(index, item)| (key(item), index)).collect()
        };
        let (of_old, of_new) = (index(old), index(new));
        let mut removed = Listed::new("-", kind);
        let mut differing = 0;
        for item in old {
            let name = key(item);
            match of_new.get(&name).map(|&next| &new[next]) {
                None => removed.add(self, || format!("{name}: {}", text(item))),
                Some(next) if next != item => {
                    differing += 1;
                    if differing <= LISTED_MAX {
                        changed(self, item, next);
                    }
                }
                Some(_) => {}
            }
        }
        removed.finish(self);
        if differing > LISTED_MAX {
            self.0.push(format!("{} more {kind}(s) differ", differing - LISTED_MAX));
        }
        let mut added = Listed::new("+", kind);
        for item in new {
            let name = key(item);
            if !of_old.contains_key(&name) {
                added.add(self, || format!("{name}: {}", text(item)));
            }
        }
        added.finish(self);
    }

    /// Compares two tables of one file.
    fn table(&mut self, owner: &str, old: &RouteTable<RouteTarget>, new: &RouteTable<RouteTarget>) {
        let route = format!("{owner} route");
        let mut removed = Listed::new("-", &route);
        let mut changed = Listed::new("~", &route);
        let mut added = Listed::new("+", &route);
        let (mut before, mut after) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let first = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some((one, _)), Some((other, _))) => *one.min(other),
                (Some((one, _)), None) | (None, Some((one, _))) => *one,
            };
            let was = before.next_if(|(prefix, _)| *prefix == first).map(|(_, target)| target);
            let is = after.next_if(|(prefix, _)| *prefix == first).map(|(_, target)| target);
            match (was, is) {
                (Some(was), None) => {
                    removed.add(self, || format!("{first}: {}", show::target(was)));
                }
                (Some(was), Some(is)) if was != is => {
                    let (was, is) = (show::target(was), show::target(is));
                    changed.add(self, || format!("{first}: via {was} -> {is}"));
                }
                (None, Some(is)) => added.add(self, || format!("{first}: {}", show::target(is))),
                _ => {}
            }
        }
        for kind in [removed, changed, added] {
            kind.finish(self);
        }
    }

    /// Adds a line for each field that changed.
    fn fields<T>(&mut self, owner: &str, old: &T, new: &T, fields: &[Field<T>]) {
        for (name, text) in fields {
            let (before, after) = (text(old), text(new));
            if before != after {
                self.0.push(format!("{owner}: {name} {before} -> {after}"));
            }
        }
    }

    fn bgp(&mut self, old: Option<&Bgp>, new: Option<&Bgp>) {
        let asn = |bgp: Option<&Bgp>| bgp.map_or("off".into(), |bgp| bgp.asn.to_string());
        let (before, after) = (asn(old), asn(new));
        if before != after {
            self.0.push(format!("bgp: as {before} -> {after}"));
        }
        if let (Some(old), Some(new)) = (old, new) {
            self.fields("bgp", old, new, &BGP);
        }
        let policies = |bgp: Option<&Bgp>| bgp.map_or(Vec::new(), |bgp| bgp.policies.clone());
        let name = |policy: &Arc<Policy>| policy.name.clone();
        let text = |policy: &Arc<Policy>| show::policy(policy);
        let (before, after) = (policies(old), policies(new));
        self.each(&before, &after, "bgp policy", name, text, |lines, old, new| {
            lines.policy(old, new);
        });
        let aggregates = |bgp: Option<&Bgp>| bgp.map_or(Vec::new(), |bgp| bgp.aggregates.clone());
        let prefix = |one: &Arc<Aggregate>| one.prefix.to_string();
        let text = |one: &Arc<Aggregate>| show::aggregate(one);
        let (before, after) = (aggregates(old), aggregates(new));
        self.each(&before, &after, "bgp aggregate", prefix, text, |lines, old, new| {
            let owner = format!("bgp aggregate {}", new.prefix);
            lines.fields(&owner, &**old, &**new, &AGGREGATE);
        });
        let playbooks = |bgp: Option<&Bgp>| bgp.map_or(Vec::new(), |bgp| bgp.playbooks.clone());
        let name = |one: &Arc<Playbook>| one.name.clone();
        let text = |one: &Arc<Playbook>| show::playbook(one);
        let (before, after) = (playbooks(old), playbooks(new));
        self.each(&before, &after, "bgp playbook", name, text, |lines, old, new| {
            let steps = [("steps", show::playbook as fn(&Playbook) -> String)];
            lines.fields(&format!("bgp playbook {}", new.name), &**old, &**new, &steps);
        });
        let neighbors = |bgp: Option<&Bgp>| bgp.map_or(Vec::new(), |bgp| bgp.neighbors.clone());
        let name = |neighbor: &Neighbor| neighbor.name.clone();
        let (before, after) = (neighbors(old), neighbors(new));
        self.each(&before, &after, "bgp neighbor", name, show::neighbor, |lines, old, new| {
            lines.fields(&format!("bgp neighbor {}", new.name), old, new, &NEIGHBOR);
        });
        let ranges = |bgp: Option<&Bgp>| bgp.map_or(Vec::new(), |bgp| bgp.ranges.clone());
        let (before, after) = (ranges(old), ranges(new));
        let name = |range: &NeighborRange| range.template.name.clone();
        self.each(&before, &after, "bgp range", name, show::range, |lines, old, new| {
            let owner = format!("bgp range {}", new.template.name);
            lines.fields(&owner, old, new, &RANGE);
            // Its address is the range's, which is said.
            lines.fields(&owner, &old.template, &new.template, &NEIGHBOR[1..]);
        });
    }

    /// The rules that are new, others or gone; or that only their order is another.
    fn policy(&mut self, old: &Policy, new: &Policy) {
        let (before, after) = (show::rules(old), show::rules(new));
        let changed = after.iter().filter(|rule| !before.contains(rule)).map(|(name, _)| *name);
        let is_gone = |name: &&str| !after.iter().any(|(other, _)| other == name);
        let gone = before.iter().map(|(name, _)| *name).filter(is_gone);
        let changed: Vec<&str> = changed.chain(gone).collect();
        let what = if changed.is_empty() { "order".into() } else { listed(&changed) };
        self.0.push(format!("bgp policy {}: rules differ: {what}", new.name));
    }

    fn service(&mut self, old: &Service, new: &Service) {
        let owner = format!("service {}", new.name);
        self.fields(&owner, old, new, &SERVICE);
        let kind = format!("{owner} site");
        let name = |site: &Site| site.name.clone();
        self.each(&old.sites, &new.sites, &kind, name, site_text, |lines, old, new| {
            lines.fields(&format!("{kind} {}", new.name), old, new, &SITE);
        });
    }
}

/// Lines of one kind: the first [`LISTED_MAX`], and how many more there are.
struct Listed<'a> {
    sign: &'a str,
    kind: &'a str,
    count: usize,
}

impl<'a> Listed<'a> {
    const fn new(sign: &'a str, kind: &'a str) -> Self {
        Self { sign, kind, count: 0 }
    }

    fn add(&mut self, lines: &mut Lines, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.count <= LISTED_MAX {
            lines.0.push(format!("{} {} {}", self.sign, self.kind, text()));
        }
    }

    fn finish(self, lines: &mut Lines) {
        let more = self.count.saturating_sub(LISTED_MAX);
        if more > 0 {
            lines.0.push(format!("{} {more} more {}(s)", self.sign, self.kind));
        }
    }
}

/// Lines of a kind that are listed: a reload may change a million routes.
const LISTED_MAX: usize = 20;

/// A field's key, and the function that formats its value.
type Field<T> = (&'static str, fn(&T) -> String);

const ROUTE: [Field<Route>; 2] =
    [("via", route_text), ("bfd", |r| r.bfd.as_ref().map_or("off".into(), ToString::to_string))];

const ROUTER: [Field<Router>; 9] = [
    ("name", |r| r.name.clone()),
    ("id", |r| or_default(r.id.as_ref())),
    ("workers", |r| or_default(r.workers.as_ref())),
    ("addresses", |r| listed(&r.addresses)),
    ("martians", |r| show::martians(r.martians)),
    ("hash-seed", |r| r.hash_seed.to_string()),
    ("busy-poll", |r| show::span(r.busy_poll)),
    ("last-site-guard", |r| show::guard(r.last_site_guard)),
    ("state-dir", |r| show::path(r.state_dir.as_ref())),
];

const PORT: [Field<Port>; 10] = [
    ("device", |p| show::device(&p.device)),
    ("netns", |p| p.netns.to_string()),
    ("addresses", |p| listed(&p.addresses)),
    ("peer-addresses", |p| listed(&p.peer_addresses)),
    ("peer-routes", |p| listed(&p.peer_routes)),
    ("mtu", |p| p.mtu.to_string()),
    ("reverse-path", |p| show::reverse_path(p.reverse_path)),
    ("facing", |p| show::facing(p.facing)),
    ("engine", |p| show::engine(p.engine)),
    ("join", |p| p.join.to_string()),
];

const SERVICE: [Field<Service>; 11] = [
    ("prefixes", |s| listed(&s.prefixes)),
    ("affinity", |s| show::affinity(s.affinity)),
    ("when-all-dead", |s| show::when_all_dead(s.when_all_dead)),
    ("latency-unit", |s| show::latency_unit(s.latency_unit)),
    ("panic-threshold", |s| s.panic_threshold.to_string()),
    ("announce", |s| show::announce(s.announce.when)),
    ("prove-timeout", |s| show::span(s.announce.prove_timeout)),
    ("min-sites", |s| s.announce.min_sites.to_string()),
    ("below-min", |s| show::below_min(s.announce.below_min)),
    ("announce-delay", |s| show::span(s.announce.delay)),
    ("announced with", |s| show::additions(&s.additions)),
];

const SITE: [Field<Site>; 8] = [
    ("via", |s| show::vias(&s.via)),
    ("preference", |s| s.preference.to_string()),
    ("cost", |s| s.cost.to_string()),
    ("weight", |s| s.weight.to_string()),
    ("capacity", |s| show::capacity(s.capacity)),
    ("health", |s| show::health(&s.health)),
    ("combine", |s| show::combine(s.combine)),
    ("bfd", |s| s.bfd.as_ref().map_or("off".into(), ToString::to_string)),
];

const NEIGHBOR: [Field<Neighbor>; 24] = [
    ("address", |n| show::address(n)),
    ("port", |n| n.port.clone().unwrap_or("none".into())),
    ("as", |n| n.asn.to_string()),
    ("local-address", |n| or_default(n.local_address.as_ref())),
    ("import", |n| n.import.to_string()),
    ("bogons", |n| n.bogons().to_owned()),
    ("export", |n| n.export.to_string()),
    ("export-learned", |n| n.terms.takes_learned.to_string()),
    ("export-policy", |n| n.export_policy.as_ref().map_or("none".into(), |one| one.name.clone())),
    ("announced with", |n| show::additions(&n.terms.additions)),
    ("local-pref", |n| or_default(n.terms.local_pref.as_ref())),
    ("link-bandwidth", |n| show::link_bandwidth(n.terms.link_bandwidth)),
    ("blackhole", |n| n.terms.takes_blackholes.to_string()),
    ("role", |n| show::role(n.role)),
    ("multihop", |n| or_default(n.multihop.as_ref())),
    ("ttl-security", |n| n.ttl_security.to_string()),
    ("passive", |n| n.passive.to_string()),
    ("hold-time", |n| show::span(n.hold_time)),
    ("max-prefixes", |n| n.max_prefixes.to_string()),
    ("restart-after", |n| n.restart_after.map_or("never".into(), show::span)),
    ("allow-own-as", |n| n.allow_own_as.to_string()),
    ("add-path", |n| show::add_path(n.add_path)),
    ("bfd", |n| n.bfd.as_ref().map_or("off".into(), ToString::to_string)),
    ("transcript-kib", |n| (n.transcript / 1024).to_string()),
];

const RANGE: [Field<NeighborRange>; 2] =
    [("range", |r| r.prefix.to_string()), ("limit", |r| r.limit.to_string())];

const BGP: [Field<Bgp>; 6] = [
    ("multipath", |b| b.multipath.to_string()),
    ("drain-wait", |b| show::span(b.leaving.drain_wait)),
    ("on-exit", |b| show::on_exit(b.leaving.on_exit)),
    ("exit-wait", |b| show::span(b.leaving.exit_wait)),
    ("lease", |b| show::span(b.lease.after)),
    ("lease-withdraw", |b| b.lease.withdraw.map_or("never".into(), show::span)),
];

const AGGREGATE: [Field<Aggregate>; 2] =
    [("while", show::aggregate), ("announced with", |one| show::additions(&one.additions))];

const API: [Field<Api>; 2] = [
    ("socket", |a| show::path(a.socket.as_ref())),
    ("http", |a| a.http.map_or("off".into(), |http| http.to_string())),
];

#[cfg(test)]
mod tests;
