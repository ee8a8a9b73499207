//! Formats values of the model as a configuration file would.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use crate::bgp::policy::Policy;
use crate::bgp::{AddPath, Role};
use crate::config::model::{
    Additions, Affinity, Aggregate, AggregateWhile, AnnounceWhen, BelowMin, Capacity, Check,
    Device, LinkBandwidth, Neighbor, NeighborRange, OnExit, Playbook, PlaybookStep, Port, Route,
    RouteFile, RouteTarget, Site, Via, WhenAllDead,
};
use crate::config::value::show_duration;
use crate::policy::{CheckKind, Combine, Facing, LastSiteGuard, Martians, ReversePath};
use crate::port::EngineChoice;

pub(super) fn port_text(port: &Port) -> String {
    device(&port.device)
}

pub(super) fn route_text(route: &Route) -> String {
    target(&route.target)
}

pub(super) fn target(target: &RouteTarget) -> String {
    match target {
        RouteTarget::Via(all) => vias(all),
        RouteTarget::Blackhole => "blackhole".into(),
        RouteTarget::Unreachable => "unreachable".into(),
        RouteTarget::Prohibit => "prohibit".into(),
    }
}

pub(super) fn site_text(site: &Site) -> String {
    format!("via {}, cost {}", vias(&site.via), site.cost)
}

pub(super) fn file(file: &RouteFile) -> String {
    format!("{} route(s) of {}", file.routes.len(), file.path.display())
}

pub(super) fn vias(vias: &[Via]) -> String {
    let name = |via: &Via| match via {
        Via::Address(address) => address.to_string(),
        Via::Port(name) => name.clone(),
    };
    listed(&vias.iter().map(name).collect::<Vec<_>>())
}

pub(super) fn device(device: &Device) -> String {
    let Device::Tun { name, persist, queues, offloads } = device;
    let persist = if *persist { ", persistent" } else { "" };
    let queues = queues.map_or(String::new(), |queues| format!(", {queues} queues"));
    let offloads = if *offloads { "" } else { ", no offloads" };
    format!("tun {name}{queues}{offloads}{persist}")
}

pub(super) fn health(checks: &[Check]) -> String {
    let texts: Vec<_> = checks.iter().map(check).collect();
    listed(&texts)
}

pub(super) fn guard(guard: LastSiteGuard) -> String {
    match guard {
        LastSiteGuard::Refuse => "refuse",
        LastSiteGuard::Warn => "warn",
    }
    .to_owned()
}

pub(super) fn neighbor(neighbor: &Neighbor) -> String {
    format!("{} as {}", address(neighbor), neighbor.asn)
}

/// The neighbor's address, or that it is learned.
pub(super) fn address(neighbor: &Neighbor) -> String {
    neighbor.address.map_or("learned".into(), |address| address.to_string())
}

pub(super) fn range(range: &NeighborRange) -> String {
    format!("{} as {}", range.prefix, range.template.asn)
}

pub(super) fn policy(policy: &Policy) -> String {
    format!("{} rule(s)", policy.rules.len())
}

/// The names of the rules of a policy, with what they say.
pub(super) fn rules(policy: &Policy) -> Vec<(&str, String)> {
    policy.rules.iter().map(|rule| (rule.name.as_str(), format!("{rule:?}"))).collect()
}

pub(super) fn additions(additions: &Additions) -> String {
    additions.to_string()
}

pub(super) fn aggregate(aggregate: &Aggregate) -> String {
    let word = match aggregate.condition {
        AggregateWhile::All => "all",
        AggregateWhile::Any => "any",
    };
    format!("{word} of {}", listed(&aggregate.services))
}

pub(super) fn playbook(playbook: &Playbook) -> String {
    let step = |step: &PlaybookStep| {
        let all = |names: &[String]| if names.is_empty() { "all".into() } else { listed(names) };
        let prefixes: Vec<String> = step.prefixes.iter().map(ToString::to_string).collect();
        let of = all(&[&step.services[..], &prefixes[..]].concat());
        let what = if step.withdraw { "withdraw".into() } else { additions(&step.additions) };
        format!("{what} ({of} to {})", all(&step.neighbors))
    };
    listed(&playbook.steps.iter().map(step).collect::<Vec<_>>())
}

pub(super) fn link_bandwidth(choice: LinkBandwidth) -> String {
    let word = match choice {
        LinkBandwidth::Off => "off",
        LinkBandwidth::Auto => "auto",
        LinkBandwidth::Transitive => "transitive",
        LinkBandwidth::NonTransitive => "non-transitive",
    };
    word.into()
}

pub(super) fn on_exit(choice: OnExit) -> String {
    let word = match choice {
        OnExit::End => "end",
        OnExit::GracefulShutdown => "graceful-shutdown",
        OnExit::Withdraw => "withdraw",
    };
    word.into()
}

pub(super) fn role(role: Option<Role>) -> String {
    role.map_or("none", Role::label).into()
}

pub(super) fn add_path(add_path: AddPath) -> String {
    let word = match (add_path.send, add_path.receive) {
        (false, false) => "off",
        (false, true) => "receive",
        (true, false) => "send",
        (true, true) => "both",
    };
    word.into()
}

pub(super) fn martians(martians: Martians) -> String {
    let word = match martians {
        Martians::Default => "default",
        Martians::Strict => "strict",
        Martians::Off => "off",
    };
    word.into()
}

pub(super) fn reverse_path(check: ReversePath) -> String {
    let word = match check {
        ReversePath::Off => "off",
        ReversePath::Loose => "loose",
        ReversePath::Strict => "strict",
    };
    word.into()
}

pub(super) fn facing(facing: Facing) -> String {
    let word = match facing {
        Facing::Any => "any",
        Facing::Clients => "clients",
    };
    word.into()
}

pub(super) fn engine(engine: EngineChoice) -> String {
    let word = match engine {
        EngineChoice::Auto => "auto",
        EngineChoice::Epoll => "epoll",
        EngineChoice::Uring => "io-uring",
    };
    word.into()
}

/// A duration; zero is `off`.
pub(super) fn span(span: Duration) -> String {
    if span.is_zero() { "off".into() } else { show_duration(span) }
}

pub(super) fn affinity(affinity: Affinity) -> String {
    let word = match affinity {
        Affinity::None => "none",
        Affinity::Hash => "hash",
    };
    word.into()
}

pub(super) fn announce(choice: AnnounceWhen) -> String {
    let word = match choice {
        AnnounceWhen::Always => "always",
        AnnounceWhen::Healthy => "healthy",
        AnnounceWhen::Proven => "proven",
    };
    word.into()
}

pub(super) fn below_min(choice: BelowMin) -> String {
    let word = match choice {
        BelowMin::Withdraw => "withdraw",
        BelowMin::Deprioritise => "deprioritise",
    };
    word.into()
}

pub(super) fn when_all_dead(choice: WhenAllDead) -> String {
    let word = match choice {
        WhenAllDead::Unreachable => "unreachable",
        WhenAllDead::Drop => "drop",
        WhenAllDead::FailOpen => "fail-open",
        WhenAllDead::Covering => "covering",
    };
    word.into()
}

pub(super) fn combine(combine: Combine) -> String {
    let word = match combine {
        Combine::All => "all",
        Combine::Any => "any",
    };
    word.into()
}

pub(super) fn latency_unit(unit: Option<Duration>) -> String {
    unit.map_or("off".into(), show_duration)
}

pub(super) fn capacity(capacity: Option<Capacity>) -> String {
    capacity.map_or("unlimited".into(), |c| format!("{} packets/s", c.packets_per_second))
}

pub(super) fn path(path: Option<&PathBuf>) -> String {
    path.map_or("default".into(), |path| path.display().to_string())
}

pub(super) fn or_default<T: Display>(value: Option<&T>) -> String {
    value.map_or("default".into(), ToString::to_string)
}

/// Items joined by commas, or `none`.
pub(super) fn listed<T: Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".into();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn check(check: &Check) -> String {
    let kind = match &check.kind {
        CheckKind::Icmp => "icmp".to_owned(),
        CheckKind::Udp { port, payload } => format!("udp {port} \"{}\"", payload.escape_ascii()),
        CheckKind::Dns { port, name } => format!("dns {port} {name}"),
        CheckKind::Tcp { port } => format!("tcp {port}"),
    };
    let target = check.target.map_or(String::new(), |target| format!(" to {target}"));
    let initial = if check.initial_up { " initial up" } else { "" };
    let interval = show_duration(check.interval);
    format!("{kind}{target} every {interval} fall {} rise {}{initial}", check.fall, check.rise)
}
