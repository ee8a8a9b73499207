//! Writes a router's configuration from the topology.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::{Health, LinkPlan, NodeKind, ROUTER_AS, Service, Topology};

/// The configuration as TOML.
pub(super) fn config(topology: &Topology, router: &str) -> String {
    let name = quoted(router);
    let mut text =
        format!("[router]\nname = {name}\nworkers = {WORKERS}\nhash-seed = {HASH_SEED}\n");
    let neighbors = neighbors(topology, router);
    if let Some((plan, _)) = neighbors.first() {
        push(&mut text, &format!("id = \"{}\"", plan.router_addresses[0].ip()));
    }
    for plan in topology.plans().iter().filter(|plan| plan.router == router) {
        let is_client = topology.nodes_of(NodeKind::Client).any(|node| node.name == plan.host);
        port(&mut text, plan, is_client);
    }
    let of_router = topology.services.iter().filter(|service| service.router == router);
    for service in of_router.filter(|service| !service.is_announced()) {
        anycast(&mut text, service);
    }
    bgp(&mut text, &neighbors);
    text
}

/// The links of the sites that announce services, with their ASes.
fn neighbors(topology: &Topology, router: &str) -> Vec<(LinkPlan, u32)> {
    let plans = topology.plans().into_iter().filter(|plan| plan.router == router);
    let asn = |plan: &LinkPlan| topology.announcing().find(|(site, _)| *site == plan.host);
    plans.filter_map(|plan| asn(&plan).map(|(_, announce)| (plan, announce.asn))).collect()
}

fn bgp(text: &mut String, neighbors: &[(LinkPlan, u32)]) {
    if neighbors.is_empty() {
        return;
    }
    push(text, &format!("\n[bgp]\nas = {ROUTER_AS}"));
    for (plan, asn) in neighbors {
        push(text, "\n[[bgp.neighbor]]");
        push(text, &format!("name = {}", quoted(&plan.host)));
        push(text, &format!("address = \"{}\"", plan.host_addresses[0].ip()));
        push(
            text,
            &format!(
                "as = {asn}\nimport = \"all\"\nexport = \"none\"\nhold-time = \"{HOLD_TIME_S}s\""
            ),
        );
    }
}

fn port(text: &mut String, plan: &LinkPlan, is_client: bool) {
    push(text, "\n[[port]]");
    push(text, &format!("name = {}", quoted(&plan.host)));
    push(text, &format!("tun = {}", quoted(&plan.device)));
    push(text, &format!("netns = {}", quoted(&plan.router_device_netns)));
    push(text, &format!("addresses = {}", list(&plan.router_addresses)));
    // On an impaired link the host's NIC is another device, which the lab configures.
    if plan.is_direct() {
        push(text, &format!("peer-addresses = {}", list(&plan.host_addresses)));
    }
    if is_client {
        push(text, "facing = \"clients\"");
    }
}

fn anycast(text: &mut String, service: &Service) {
    let prefixes: Vec<_> = service.addresses.iter().map(|one| IpNetwork::from(*one)).collect();
    push(text, "\n[[service]]");
    push(text, &format!("name = {}", quoted(&service.name)));
    push(text, &format!("prefixes = {}", list(&prefixes)));
    // Costs must not depend on how busy the machine is.
    push(text, "latency-unit = \"off\"");
    for site in &service.sites {
        push(text, "\n[[service.site]]");
        let cost = site.cost().unwrap_or_default();
        push(text, &format!("name = {0}\nvia = {0}\ncost = {cost}", quoted(&site.name)));
        push(text, &health(service.health));
    }
}

fn push(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

/// The checker allows only letters, digits and hyphens in names, so no escaping is needed.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn list(networks: &[IpNetwork]) -> String {
    let items: Vec<_> = networks.iter().map(|one| quoted(&text_of(one))).collect();
    format!("[{}]", items.join(", "))
}

fn text_of(network: &IpNetwork) -> String {
    match network.ip() {
        IpAddr::V4(address) => format!("{address}/{}", network.prefix()),
        IpAddr::V6(address) => format!("{address}/{}", network.prefix()),
    }
}

/// Echo checks test the link and the host, DNS checks the server; a site is up while both are
/// answered. A dead server is detected after 3 queries, or earlier by ICMP unreachable.
fn health(health: Health) -> String {
    let interval = health.interval.unwrap_or(INTERVAL).as_micros();
    let rhythm = |rise: u32| {
        let (fall, rise) = (health.fall.unwrap_or(FALL), health.rise.unwrap_or(rise));
        format!("interval = \"{}\", fall = {fall}, rise = {rise}", micros(interval))
    };
    let (echo, query) = (rhythm(RISE_ECHO), rhythm(RISE_QUERY));
    format!(
        "health = [\n    {{ icmp = {{}}, {echo} }},\n    \
         {{ dns = {{ port = 53, name = \"site.example.\" }}, {query} }},\n]"
    )
}

fn micros(us: u128) -> String {
    if us.is_multiple_of(1_000) { format!("{}ms", us / 1_000) } else { format!("{us}us") }
}

pub(super) const INTERVAL: Duration = Duration::from_millis(10);
pub(super) const FALL: u32 = 3;
/// How long a neighbour may be silent. Only a death that nobody announces takes so long to be noticed,
/// and a shorter time would find a live daemon dead on a busy machine.
pub const HOLD_TIME_S: u32 = 9;
const RISE_ECHO: u32 = 5;
const RISE_QUERY: u32 = 3;

/// Workers of a lab's router, on any machine: a lab also shows that flows keep their order over
/// several workers.
const WORKERS: usize = 2;

/// Any but the built-in one, of which a router warns: nobody aims flows at a lab.
const HASH_SEED: u64 = 7;
