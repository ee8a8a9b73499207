//! The answers of `show` and `explain`: flat objects with units in their keys.

mod explain;

use std::collections::{BTreeMap, HashMap, HashSet};

use nearhop_fib::{Group, GroupId, IpPrefix, Member, PathId, Spread, WhenDead};
use serde_json::{Value, json};

pub use self::explain::explain;
use super::ApiError;
use super::pages::{Only, PER_PAGE, Page, PageRequest, prefix_of};
use crate::config::model::{Service, Site};
use crate::control::cost::{Ranked, Rule};
use crate::control::{Control, LegKey, LegState, PortState};
use crate::event::SlowStep;
use crate::host::HostStats;
use crate::ids::Family;
use crate::kernel::link::{LinkSetup, LinkStatus};
use crate::kernel::netns::{NetNs, Place};
use crate::liveness::LivenessReport;
use crate::liveness::leg::TcpCheckKey;
use crate::packet::offload::offload_names;
use crate::policy::CheckKind;
use crate::probe::{CheckSpec, CheckStats};
use crate::rib::{NextHop, NextHops, SetId, Source};
use crate::time::Nanos;
use crate::verdict::{Outcome, Verdict};
use crate::worker::{Polling, WorkerReport};

/// The state that answers are built from.
pub struct Facts<'a> {
    /// When they were looked at.
    pub now: Nanos,
    /// Services, legs, routes, groups.
    pub control: &'a Control,
    /// The sum of the counters of all workers and of the host stack.
    pub totals: WorkerReport,
    /// Workers by number.
    pub workers: Vec<WorkerFacts>,
    /// Counters of the host stack.
    pub host: HostStats,
    /// What the host thread's TCP checks have found.
    pub tcp_checks: Vec<(TcpCheckKey, CheckStats)>,
    /// Steps of the control and host threads that took too long.
    pub slow_steps: Vec<SlowStep>,
    /// The namespace in which each port's device was opened.
    pub opened: &'a BTreeMap<String, Place>,
    /// Requests a report from the liveness thread.
    pub liveness: &'a dyn Fn() -> Option<LivenessReport>,
}

impl Facts<'_> {
    fn age_ms(&self, since: Nanos) -> u64 {
        u64::try_from(self.now.since(since).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The answer to `show NOUN`.
pub fn show(facts: &Facts<'_>, noun: &str) -> Result<Value, ApiError> {
    let items = match noun {
        "adjacencies" => adjacencies(facts),
        "drops" => drops(facts),
        "host" => host(facts),
        "ports" => ports(facts),
        "router" => vec![router(facts)],
        "steps" => steps(facts),
        "verdicts" => verdicts(facts),
        "workers" => workers(facts),
        _ => {
            return Err(ApiError::not_found(format!("no such noun: {noun:?}")).with_help(
                "router, services, fib, routes, groups, adjacencies, ports, checks, drops, verdicts, \
                 workers, host, steps",
            ));
        }
    };
    Ok(json!({ "schema": format!("nearhop.{noun}.v1"), "items": items }))
}

/// The answer to `drain SITE`, or to `undrain SITE` if not `drained`: the services that have the
/// site.
pub fn drained(control: &Control, site: &str, drained: bool) -> Value {
    let services = control.config().services.iter();
    let items: Vec<Value> = services
        .filter(|service| service.sites.iter().any(|one| one.name == site))
        .map(|service| json!({ "site": site, "service": service.name, "drained": drained }))
        .collect();
    json!({ "schema": "nearhop.drain.v1", "items": items })
}

/// The answer to `reload`: the changes, as text.
pub fn reloaded(changes: &[String]) -> Value {
    let items: Vec<Value> = changes.iter().map(|change| json!({ "change": change })).collect();
    json!({ "schema": "nearhop.reload.v1", "items": items })
}

/// The answer to `undamp`.
pub fn undamped() -> Value {
    json!({ "schema": "nearhop.undamp.v1", "items": [] })
}

/// Every leg of a service, best first.
fn service_rows(facts: &Facts<'_>, service: &Service, items: &mut Vec<Value>) {
    let control = facts.control;
    let counters = &facts.totals.counters;
    for family in [Family::Ipv4, Family::Ipv6] {
        let of_family = |prefix: &&IpPrefix| Family::of(prefix.addr()) == family;
        let prefixes: Vec<String> =
            service.prefixes.iter().filter(of_family).map(IpPrefix::to_string).collect();
        if prefixes.is_empty() {
            continue;
        }
        let best = control.best_sites(service, family);
        for place in control.services().ranking(service, family) {
            let site = &service.sites[place.index];
            for (key, leg) in control.services().site_legs(&service.name, family, &site.name) {
                let is_best = best.contains(&site.name) && leg.up;
                let rule = control.against(&best, service, family, site);
                let why = Why { place: &place, rule, best: is_best };
                let mut item = leg_item(facts, service, site, (key, leg), why);
                let count = counters.paths.get(leg.path.0 as usize).copied();
                let count = count.unwrap_or_default();
                item["prefix"] = json!(prefixes);
                item["packets"] = json!(count.packets);
                item["bytes"] = json!(count.bytes);
                items.push(item);
            }
        }
    }
}

/// What a leg's place rests on.
#[derive(Clone, Copy)]
struct Why<'a> {
    place: &'a Ranked,
    /// By which rule the sites that packets go to are better.
    rule: Rule,
    /// Whether packets go there.
    best: bool,
}

fn leg_item(
    facts: &Facts<'_>,
    service: &Service,
    site: &Site,
    (key, leg): (&LegKey, &LegState),
    why_so: Why<'_>,
) -> Value {
    let Why { place, best, .. } = why_so;
    let control = facts.control;
    let drained = control.drained().contains(&site.name);
    json!({
        "service": service.name,
        "family": key.family,
        "best": best,
        "site": site.name,
        "port": key.port,
        "state": state(leg, drained),
        "cost": control.services().distance(service, key.family, &site.name, site.cost),
        "tier": place.tier,
        "latency_us": leg.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        "accept": control.writer().accept(leg.path).map(|accept| f64::from(accept) / 65_535.0),
        "age_ms": facts.age_ms(leg.since),
        "why": why(leg, drained, why_so),
    })
}

fn state(leg: &LegState, drained: bool) -> &'static str {
    match (leg.known, leg.up, drained) {
        (false, ..) => "waiting",
        (_, false, _) => "down",
        (_, true, true) => "drained",
        (_, true, false) => "up",
    }
}

/// Why packets go to this leg, or why not.
fn why(leg: &LegState, drained: bool, Why { place, rule, best }: Why<'_>) -> String {
    if !leg.up {
        return format!("unreachable: {}", leg.impossible.as_ref().unwrap_or(&leg.reason));
    }
    match (drained, best, place.tier) {
        (true, false, _) => "drained by an operator".into(),
        (true, true, _) => "every site that is up is drained".into(),
        (false, true, 0) if place.rule == Rule::Equal => "lowest cost".into(),
        (false, true, _) => "lowest cost of the sites that are up".into(),
        (false, false, _) => rule.loser_text().into(),
    }
}

/// Rows of a paged noun, from where the request says.
///
/// # Errors
/// What the request goes on after is no prefix, group or service, or is gone.
pub fn page(facts: &Facts<'_>, request: &PageRequest) -> Result<Page, ApiError> {
    let after = request.after.as_deref();
    Ok(match request.noun {
        "services" => page_of_services(facts, after, request.count, service_rows)?,
        "checks" => {
            let probes = (facts.liveness)().map(|report| report.checks).unwrap_or_default();
            let tcp = facts.tcp_checks.iter().copied().collect();
            let known = KnownChecks { probes, tcp };
            page_of_services(facts, after, request.count, |facts, service, items| {
                check_rows(facts, &known, service, items);
            })?
        }
        "groups" => page_of_groups(facts, after, request.count)?,
        _ => page_of_prefixes(facts, request)?,
    })
}

/// Rows of services, about as many as are asked for.
fn page_of_services(
    facts: &Facts<'_>,
    after: Option<&str>,
    count: usize,
    rows: impl Fn(&Facts<'_>, &Service, &mut Vec<Value>),
) -> Result<Page, ApiError> {
    let services = &facts.control.config().services;
    let first = match after {
        None => 0,
        Some(name) => {
            let found = services.iter().position(|service| service.name == name);
            let gone = || ApiError::not_found(format!("after: no service is called {name:?} now"));
            1 + found.ok_or_else(|| gone().with_help("begin again without after"))?
        }
    };
    let mut page = Page::default();
    for service in services.iter().skip(first) {
        if page.count >= count || page.rows.len() >= PER_PAGE {
            page.next = services.get(first + page.count - 1).map(|last| last.name.clone());
            break;
        }
        rows(facts, service, &mut page.rows);
        page.count += 1;
    }
    Ok(page)
}

/// Groups, by the order in which their sets of next hops were first used.
fn page_of_groups(facts: &Facts<'_>, after: Option<&str>, count: usize) -> Result<Page, ApiError> {
    let no_group =
        |text: &str| ApiError::bad_request(format!("after: no group ends with {text:?}"));
    let after = after.map(|text| text.parse().map_err(|_| no_group(text))).transpose()?;
    let mut page = Page::default();
    for (number, set, group) in facts.control.groups_after(after).take(count) {
        page.rows.push(group_row(facts, set, group));
        page.count += 1;
        page.next = Some(number.to_string());
    }
    if page.count < count {
        page.next = None;
    }
    Ok(page)
}

fn group_row(facts: &Facts<'_>, set: SetId, id: GroupId) -> Value {
    let control = facts.control;
    let group = control.writer().group(id);
    let of = match control.rib().next_hops(set) {
        Some(NextHops::Service(of)) => Some(of),
        _ => None,
    };
    let members = group_members(control, id);
    let mut via: Vec<String> = members.iter().map(|member| port_name(control, member)).collect();
    via.sort_unstable();
    via.dedup();
    let (when_dead, spread) = match &group {
        Some(Group::Forward { when_dead, spread, .. }) => {
            (Some(when_dead_text(*when_dead)), Some(*spread))
        }
        _ => (None, None),
    };
    json!({
        "group": id.0,
        "kind": kind(group.as_ref()),
        "service": of.map(|of| &of.service),
        "family": of.map(|of| of.family),
        "via": via,
        "prefixes": control.writer().routes_to(id),
        "members": members.len(),
        "alive": members.iter().filter(|member| is_alive(control, member)).count(),
        "spread": spread.map(|spread| if spread == Spread::Flow { "flow" } else { "packet" }),
        "when_all_dead": when_dead,
    })
}

fn when_dead_text(when_dead: WhenDead) -> String {
    match when_dead {
        WhenDead::Unreachable => "unreachable".into(),
        WhenDead::Drop => "drop".into(),
        WhenDead::FailOpen => "fail-open".into(),
        WhenDead::Covering(group) => format!("covering: group {}", group.0),
    }
}

/// The ways out, one for each port.
fn adjacencies(facts: &Facts<'_>) -> Vec<Value> {
    let control = facts.control;
    let paths = &facts.totals.counters.paths;
    let row = |port: &PortState| {
        let reasons = control.writer().adjacency_reasons(port.adjacency);
        // Of routes that leave by it; services count by leg.
        let own = paths.get(port.path.0 as usize).copied().unwrap_or_default();
        json!({
            "adjacency": port.adjacency.0,
            "port": port.name(),
            "state": if reasons.is_alive() { "up" } else { "down" },
            "reasons": reasons.iter().map(nearhop_fib::Reason::label).collect::<Vec<_>>(),
            "mtu": port.mtu(),
            "packets": own.packets,
            "bytes": own.bytes,
        })
    };
    control.ports().map(row).collect()
}

/// Rows of `show fib`, which are those of what is installed, and of `show routes`, which are those of every
/// source.
fn page_of_prefixes(facts: &Facts<'_>, request: &PageRequest) -> Result<Page, ApiError> {
    let after = request.after.as_deref().map(|text| prefix_of("after", text)).transpose()?;
    let (writer, rib) = (facts.control.writer(), facts.control.rib());
    let of_fib = request.noun == "fib";
    let is_there = |prefix: &IpPrefix| {
        if of_fib { writer.get(*prefix).is_some() } else { !rib.candidates(*prefix).is_empty() }
    };
    let following = |after: Option<IpPrefix>| -> Box<dyn Iterator<Item = IpPrefix> + '_> {
        match after {
            _ if !of_fib => Box::new(rib.prefixes_after(after)),
            Some(after) => Box::new(writer.iter_after(after).map(|(prefix, _)| prefix)),
            None => Box::new(writer.iter().map(|(prefix, _)| prefix)),
        }
    };
    let found: Box<dyn Iterator<Item = IpPrefix> + '_> = match (request.only, after) {
        (Some(Only::Covering(_)), Some(_)) => Box::new(std::iter::empty()),
        (Some(Only::Covering(addr)), None) => {
            Box::new(writer.longest_match(addr).map(|(prefix, _)| prefix).into_iter())
        }
        (Some(Only::In(prefix)), None) => {
            Box::new(Some(prefix).filter(is_there).into_iter().chain(following(Some(prefix))))
        }
        (_, after) => following(after),
    };
    // What a prefix covers stands right behind it.
    let is_in = |prefix: IpPrefix| match request.only {
        Some(Only::In(outer)) => outer.len() <= prefix.len() && outer.contains(prefix.addr()),
        _ => true,
    };
    let mut page = Page::default();
    for prefix in found.take_while(|&prefix| is_in(prefix)).take(request.count) {
        match writer.get(prefix) {
            Some(group) if of_fib => fib_rows(facts, prefix, group, &mut page.rows),
            _ => route_rows(facts, prefix, &mut page.rows),
        }
        page.count += 1;
        page.next = Some(prefix.to_string());
        // A prefix may have many rows.
        if page.rows.len() >= PER_PAGE {
            return Ok(page);
        }
    }
    if page.count < request.count {
        page.next = None;
    }
    Ok(page)
}

/// Every route to a prefix, the best source's first.
fn route_rows(facts: &Facts<'_>, prefix: IpPrefix, items: &mut Vec<Value>) {
    let control = facts.control;
    let (rib, writer) = (control.rib(), control.writer());
    let used = rib.used(prefix);
    for candidate in rib.candidates(prefix) {
        let group = control.group_of(candidate.set);
        let is_used = used == Some(candidate);
        let is_installed = is_used && group.is_some() && writer.get(prefix) == group;
        let members = group.map(|group| group_members(control, group)).unwrap_or_default();
        let lives = members.is_empty() || members.iter().any(|one| is_alive(control, one));
        let state = match (is_installed, lives) {
            (false, _) => "unused",
            (true, true) => "up",
            (true, false) => "down",
        };
        let why = match (is_used, is_installed) {
            (true, true) => None,
            (true, false) if control.is_unpublished() => Some("not installed yet".to_owned()),
            (true, false) => Some("not installed: no room in the FIB".to_owned()),
            (false, _) => why_not_used(control, candidate.set),
        };
        items.push(json!({
            "prefix": prefix.to_string(),
            "best": is_used,
            "source": source_text(control, candidate.source),
            "via": next_hop_names(control, candidate.set, &members),
            "kind": kind_of_set(rib.next_hops(candidate.set)),
            "state": state,
            "why": why,
        }));
    }
}

/// A route is not used because its next hops lead nowhere, or because another source's is better.
fn why_not_used(control: &Control, set: SetId) -> Option<String> {
    let rib = control.rib();
    let Some(NextHops::Via(hops)) = rib.next_hops(set) else {
        return Some("another source's is better".into());
    };
    if !rib.ways(set).is_empty() {
        return Some("another source's is better".into());
    }
    hops.iter().find_map(|hop| match hop {
        NextHop::Address(address) => {
            rib.why_nowhere(*address).map(|why| format!("next hop {address}: {why}"))
        }
        NextHop::Way(_) => None,
    })
}

/// Next hops as they were configured; of a service, the ports of its sites.
fn next_hop_names(control: &Control, set: SetId, members: &[Member]) -> Vec<String> {
    let name = |hop: &NextHop| match hop {
        NextHop::Address(address) => address.to_string(),
        NextHop::Way(way) => {
            control.port_of(way.path).map_or_else(|| "-".into(), |port| port.name().to_owned())
        }
    };
    let mut names: Vec<String> = match control.rib().next_hops(set) {
        Some(NextHops::Via(hops)) => hops.iter().map(name).collect(),
        _ => members.iter().map(|member| port_name(control, member)).collect(),
    };
    names.sort_unstable();
    names.dedup();
    names
}

fn kind_of_set(hops: Option<&NextHops>) -> &'static str {
    match hops {
        Some(NextHops::Via(_) | NextHops::Service(_)) => "forward",
        Some(NextHops::Local) => "local",
        Some(NextHops::Blackhole) => "blackhole",
        Some(NextHops::Unreachable) => "unreachable",
        Some(NextHops::Prohibit) => "prohibit",
        None => "none",
    }
}

fn fib_rows(facts: &Facts<'_>, prefix: IpPrefix, group: GroupId, items: &mut Vec<Value>) {
    let control = facts.control;
    let source = used_source(control, prefix);
    let rows = members(facts, group);
    if rows.is_empty() {
        items.push(json!({
            "prefix": prefix.to_string(),
            "group": group.0,
            "kind": kind(control.writer().group(group).as_ref()),
            "source": source,
        }));
    }
    for mut row in rows {
        row["prefix"] = json!(prefix.to_string());
        row["group"] = json!(group.0);
        row["kind"] = json!("forward");
        row["source"] = json!(source);
        items.push(row);
    }
}

/// The members of a group, each with its state and why packets go there or why not.
fn members(facts: &Facts<'_>, group: GroupId) -> Vec<Value> {
    let control = facts.control;
    let members = group_members(control, group);
    let living = members.iter().filter(|member| is_alive(control, member));
    let takes = |member: &&Member| control.writer().accept(member.path) != Some(0);
    let best = living.clone().filter(takes).map(|member| member.tier).min();
    let best = best.or_else(|| living.map(|member| member.tier).min());
    members
        .iter()
        .map(|member| {
            let alive = is_alive(control, member);
            let mut item = match control.leg_of(member.path) {
                Some((key, leg)) => {
                    leg_of_member(facts, key, leg, alive && best == Some(member.tier))
                }
                None => json!({ "best": alive && best == Some(member.tier) }),
            };
            item["port"] = json!(port_name(control, member));
            item["tier"] = json!(member.tier);
            item["weight"] = json!(member.weight);
            item["reasons"] = json!(reasons(control, member));
            if item.get("state").is_none() {
                item["state"] = json!(if alive { "up" } else { "down" });
            }
            item
        })
        .collect()
}

fn leg_of_member(facts: &Facts<'_>, key: &LegKey, leg: &LegState, best: bool) -> Value {
    let control = facts.control;
    let found = control.services().get(&key.service).and_then(|service| {
        let ranking = control.services().ranking(service, key.family);
        let place = ranking.into_iter().find(|p| service.sites[p.index].name == key.site)?;
        Some((service, &service.sites[place.index], place))
    });
    match found {
        Some((service, site, place)) => {
            let sites = control.best_sites(service, key.family);
            let rule = control.against(&sites, service, key.family, site);
            leg_item(facts, service, site, (key, leg), Why { place: &place, rule, best })
        }
        None => json!({ "site": key.site, "best": best }),
    }
}

fn ports(facts: &Facts<'_>) -> Vec<Value> {
    let control = facts.control;
    let totals = &facts.totals.ports;
    let devices = devices(facts.opened);
    control
        .ports()
        .map(|port| {
            let count = totals.get(&port.id).copied().unwrap_or_default();
            let opened = facts.opened.get(port.name());
            // A device found under its name now may be another one.
            let place = opened.filter(|_| port.fault.is_none());
            let kernel = place.and_then(|place| devices.get(&(&place.netns, place.ifindex)));
            json!({
                "port": port.name(),
                "device": kernel.map(|link| link.name.clone()),
                "netns": opened.map(|place| place.netns.to_string()),
                "engine": engines(port),
                "kind": port.device.engine(),
                "queues": port.device.queues(),
                "offloads": offload_names(port.device.offloads()),
                "state": if port.carrier { "up" } else { "down" },
                "mtu": port.mtu(),
                "rx_packets": count.rx_packets,
                "rx_bytes": count.rx_bytes,
                "tx_packets": count.tx_packets,
                "tx_bytes": count.tx_bytes,
                "tx_dropped": count.tx_dropped,
                "packets_per_batch": ratio(count.rx_packets, count.rx_batches),
                "packets_per_read": ratio(count.rx_packets, count.rx_frames),
                "packets_per_write": ratio(count.tx_packets, count.tx_frames),
                "device_dropped": kernel.map(|link| link.stats.tx_dropped),
                "device_refused": kernel.map(|link| link.stats.rx_dropped),
                "why": port.why(),
            })
        })
        .collect()
}

/// The kernel's side of every port, from a list of the devices in each namespace.
fn devices(opened: &BTreeMap<String, Place>) -> HashMap<(&NetNs, u32), LinkStatus> {
    let mut devices = HashMap::new();
    for netns in opened.values().map(|place| &place.netns).collect::<HashSet<_>>() {
        // A namespace that can no longer be entered shows no devices.
        let links = LinkSetup::open(netns).and_then(|mut links| links.list()).unwrap_or_default();
        devices.extend(links.into_iter().map(|link| ((netns, link.ifindex), link)));
    }
    devices
}

/// The ratio, rounded to one decimal.
fn ratio(packets: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| (packets as f64 / of as f64 * 10.0).round() / 10.0)
}

/// The I/O engines that workers use on the port; usually one.
fn engines(port: &PortState) -> String {
    let mut names: Vec<&str> = port.engines.values().copied().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { port.device.engine().to_owned() } else { names.join(", ") }
}

/// How one worker waits and looks up.
pub struct WorkerFacts {
    /// How it waits for packets.
    pub polling: Polling,
    /// Name of the code that looks up IPv4, and of that for IPv6.
    pub lookup_codes: [&'static str; 2],
}

/// Counters of every verdict.
fn verdicts(facts: &Facts<'_>) -> Vec<Value> {
    let counters = &facts.totals.counters;
    let seen = Verdict::ALL.iter().filter(|verdict| counters.of(**verdict) > 0);
    seen.map(|verdict| {
        let outcome = match verdict.outcome() {
            Outcome::Tx => "sent",
            Outcome::Punt => "punted",
            Outcome::Drop => "dropped",
        };
        let (label, text) = (verdict.label(), verdict.text());
        let packets = counters.of(*verdict);
        json!({ "verdict": label, "outcome": outcome, "packets": packets, "text": text })
    })
    .collect()
}

/// The router itself, and the thread that decides what is alive.
fn router(facts: &Facts<'_>) -> Value {
    let config = &facts.control.config();
    let liveness = (facts.liveness)();
    let late = liveness.as_ref().map(|report| report.lateness_max.as_micros());
    json!({
        "router": config.router.name,
        "id": config.router.id,
        "workers": facts.workers.len(),
        "ports": config.ports.len(),
        "services": config.services.len(),
        "liveness_late_us": late.map(|late| u64::try_from(late).unwrap_or(u64::MAX)),
        "probes_unsent": liveness.map(|report| report.unsent),
    })
}

/// What became of the packets for the router's own addresses.
fn host(facts: &Facts<'_>) -> Vec<Value> {
    let row =
        |(counter, packets, text)| json!({ "counter": counter, "packets": packets, "text": text });
    facts.host.rows().into_iter().map(row).collect()
}

/// Steps of threads that took 10 ms or longer: somebody waited for them.
fn steps(facts: &Facts<'_>) -> Vec<Value> {
    let liveness = (facts.liveness)().map(|report| report.slow_steps).unwrap_or_default();
    let row = |slow: &SlowStep| {
        let longest = u64::try_from(slow.longest.as_micros()).unwrap_or(u64::MAX);
        let (thread, step, count) = (slow.thread, slow.step, slow.count);
        json!({ "thread": thread, "step": step, "count": count, "longest_us": longest })
    };
    liveness.iter().chain(&facts.slow_steps).map(row).collect()
}

/// How each worker waits for packets and looks up.
fn workers(facts: &Facts<'_>) -> Vec<Value> {
    let busy_poll = facts.control.config().router.busy_poll;
    let each = facts.workers.iter().enumerate();
    each.map(|(worker, WorkerFacts { polling, lookup_codes: [v4, v6] })| {
        json!({
            "worker": worker,
            "busy_poll_us": busy_poll.as_micros() as u64,
            "sleeps": polling.sleeps,
            "found_awake": polling.found,
            "busy_ms": polling.busy_ns / 1_000_000,
            "lookups_v4_by": v4,
            "lookups_v6_by": v6,
        })
    })
    .collect()
}

fn drops(facts: &Facts<'_>) -> Vec<Value> {
    let counters = &facts.totals.counters;
    let mut items: Vec<Value> = Verdict::ALL
        .iter()
        .filter(|verdict| verdict.outcome() == Outcome::Drop && counters.of(**verdict) > 0)
        .map(|verdict| {
            json!({
                "reason": verdict.label(),
                "packets": counters.of(*verdict),
                "text": verdict.text(),
            })
        })
        .collect();
    let errors = [
        ("errors-limited", counters.errors_limited, "ICMP errors not sent because of rate limits"),
        ("errors-unroutable", counters.errors_unroutable, "ICMP errors without a route back"),
    ];
    let held_back = errors.into_iter().filter(|(_, packets, _)| *packets > 0);
    items.extend(held_back.map(
        |(reason, packets, text)| json!({ "reason": reason, "packets": packets, "text": text }),
    ));
    items
}

/// What checks have found.
struct KnownChecks {
    probes: BTreeMap<PathId, Vec<CheckStats>>,
    tcp: BTreeMap<TcpCheckKey, CheckStats>,
}

/// Every check of a service: its target and its state.
fn check_rows(facts: &Facts<'_>, known: &KnownChecks, service: &Service, items: &mut Vec<Value>) {
    for (key, leg) in facts.control.services().legs_of(&service.name) {
        let mut probes = known.probes.get(&leg.path).map_or(&[][..], Vec::as_slice).iter();
        for (index, check) in leg.checks().iter().enumerate() {
            let stats = if check.is_tcp() {
                known.tcp.get(&TcpCheckKey { path: leg.path, version: leg.version, index })
            } else {
                probes.next()
            };
            let mut item = check_item(facts, key, check, stats);
            item["check"] = json!(index);
            items.push(item);
        }
    }
}

/// `stats`: `None` until the check has begun.
fn check_item(
    facts: &Facts<'_>,
    key: &LegKey,
    check: &CheckSpec,
    stats: Option<&CheckStats>,
) -> Value {
    let state = match stats {
        Some(stats) if !stats.known => "waiting",
        Some(stats) if stats.up => "up",
        Some(_) => "down",
        None => "waiting",
    };
    json!({
        "target": check.target.to_string(),
        "site": key.site,
        "service": key.service,
        "port": key.port,
        "kind": check_label(&check.kind),
        "state": state,
        "latency_us": stats.and_then(|stats| stats.rtt_ewma).map(|rtt| rtt.as_micros() as u64),
        "age_ms": stats.map(|stats| facts.age_ms(stats.since)),
        "sent": stats.map(|stats| stats.sent),
        "answered": stats.map(|stats| stats.answered),
        "lost": stats.map(|stats| stats.lost),
    })
}

fn check_label(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::Dns { .. } => "dns",
        CheckKind::Icmp => "icmp",
        CheckKind::Tcp { .. } => "tcp",
        CheckKind::Udp { .. } => "udp",
    }
}

fn group_members(control: &Control, group: GroupId) -> Vec<Member> {
    match control.writer().group(group) {
        Some(Group::Forward { members, .. }) => members,
        _ => Vec::new(),
    }
}

/// Where the used route to a prefix comes from.
fn used_source(control: &Control, prefix: IpPrefix) -> Option<String> {
    Some(source_text(control, control.source(prefix)?))
}

/// A file is told by its name.
fn source_text(control: &Control, source: Source) -> String {
    let file = match source {
        Source::File(index) => control.config().route_files.get(usize::from(index)),
        _ => None,
    };
    let label = source.label();
    file.map_or_else(|| label.to_owned(), |file| format!("{label} {}", file.name))
}

fn kind(group: Option<&Group>) -> &'static str {
    match group {
        Some(Group::Blackhole) => "blackhole",
        Some(Group::Forward { .. }) => "forward",
        Some(Group::Local) => "local",
        Some(Group::Prohibit) => "prohibit",
        Some(Group::Unreachable) => "unreachable",
        None => "none",
    }
}

fn is_alive(control: &Control, member: &Member) -> bool {
    control.writer().path_reasons(member.path).is_alive()
        && control.writer().adjacency_reasons(member.adjacency).is_alive()
}

fn reasons(control: &Control, member: &Member) -> Vec<&'static str> {
    let adjacency = control.writer().adjacency_reasons(member.adjacency);
    let path = control.writer().path_reasons(member.path);
    adjacency.iter().chain(path.iter()).map(nearhop_fib::Reason::label).collect()
}

fn port_name(control: &Control, member: &Member) -> String {
    let id = control.writer().port(member.adjacency);
    let port = control.ports().find(|port| Some(port.id.0) == id);
    port.map_or_else(|| "-".into(), |port| port.name().to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
