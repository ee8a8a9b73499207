//! Parses a topology: reports every mistake of the file at once, each with its position.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use nearhop::config::reader::{
    self, ConfigErrors, Finding, Report, Table, ValueError, article, did_you_mean, duration_in,
    integer, list_of, one_of, parsed, text,
};
use toml::Spanned;
use toml::de::DeValue;

use super::announce::announce;
use super::{
    Health, Impairment, KnownBy, Link, Node, NodeKind, Service, ServiceSite, Topology, quantity,
};

/// Reads and checks a topology; errors refer to the file as `file`.
pub(super) fn parse(file: &str, text: &str) -> Result<Topology, ConfigErrors> {
    reader::read(file, text, topology)
}

fn name(longest: usize) -> impl Fn(&str) -> Result<String, ValueError> {
    move |text| {
        // Names are used in file names, device names (at most 15 bytes) and TOML.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = (1..=longest).contains(&text.len()) && text.bytes().all(allowed);
        if fits && !text.starts_with('-') {
            return Ok(text.to_owned());
        }
        Err(ValueError::new(format!("expected 1 to {longest} letters, digits and hyphens"))
            .because(format!("{text:?} is not a name")))
    }
}

fn topology(root: &mut Table<'_>) -> Topology {
    let called = root.need("name", "name = \"my-lab\"", text("a name", name(LAB_NAME_MAX)));
    let report = root.report();
    let known = Known(root.tables("node", "[[node]]").into_iter().map(node).collect());
    known.check_unique(report);
    let links: Vec<_> = root.tables("link", "[[link]]").into_iter().collect();
    let (given, too_many) = (links.len(), links.get(LINKS_MAX).map(Table::span));
    if let Some(span) = too_many {
        let finding = Finding::mistake("too many links");
        report.add(finding.at(span, format!("a lab has at most {LINKS_MAX}")));
    }
    let links: Vec<Link> = links.into_iter().filter_map(|table| link(table, &known)).collect();
    if links.len() == given {
        known.check_every_host_has_a_link(report, &links);
    }
    let raw: Vec<_> = root.tables("service", "[[service]]").into_iter().collect();
    let raw: Vec<_> = raw.into_iter().map(|table| service(table, &known, &links)).collect();
    check_services(report, &raw);
    Topology {
        name: called.map(Spanned::into_inner).unwrap_or_default(),
        nodes: known.nodes(),
        links,
        services: raw.into_iter().map(|raw| raw.service).collect(),
    }
}

/// A node as written. Other sections may refer even to an invalid one.
struct RawNode {
    name: Option<Spanned<String>>,
    known_as: Option<String>,
    kind: Option<NodeKind>,
}

fn node(mut table: Table<'_>) -> RawNode {
    let kinds = |word: &str| {
        let kinds = [
            ("client", Some(NodeKind::Client)),
            ("site", Some(NodeKind::Site)),
            ("router", Some(NodeKind::Router)),
            ("plain", Some(NodeKind::Plain)),
        ];
        one_of(word, &kinds)
    };
    let raw = RawNode {
        name: table.need("name", "name = \"ams\"", text("a name", name(NAME_MAX))),
        known_as: table.as_written("name"),
        kind: table.need("kind", "kind = \"site\"", text("a word", kinds)).map(Spanned::into_inner),
    };
    table.finish();
    raw
}

/// The nodes, for what refers to them.
struct Known(Vec<RawNode>);

impl Known {
    fn nodes(&self) -> Vec<Node> {
        let node = |raw: &RawNode| {
            Some(Node { name: raw.name.as_ref()?.get_ref().clone(), kind: raw.kind? })
        };
        self.0.iter().filter_map(node).collect()
    }

    fn find(&self, name: &str) -> Option<&RawNode> {
        self.0.iter().find(|node| node.known_as.as_deref() == Some(name))
    }

    fn check_unique(&self, report: &Report) {
        let mut seen = BTreeSet::new();
        for name in self.0.iter().filter_map(|node| node.name.as_ref()) {
            check_unique(report, &mut seen, "node", name);
        }
    }

    /// Reports that no node, or none of `kind`, has this name.
    fn report_unknown(
        &self,
        report: &Report,
        span: std::ops::Range<usize>,
        name: &str,
        kind: Option<NodeKind>,
    ) {
        let fits = |node: &&RawNode| kind.is_none_or(|kind| node.kind == Some(kind));
        let names: Vec<&str> =
            self.0.iter().filter(fits).filter_map(|node| node.known_as.as_deref()).collect();
        let what = match kind {
            Some(NodeKind::Router) => "router",
            Some(NodeKind::Site) => "site",
            _ => "node",
        };
        let mut finding = Finding::mistake(format!("no {what} is named \"{name}\""))
            .at(span, list_of("known names", &names));
        if let Some(best) = did_you_mean(name, &names) {
            finding = finding.help(format!("did you mean \"{best}\"?"));
        }
        report.add(finding);
    }

    /// The default route of a host uses its link, so a host must have exactly one.
    fn check_every_host_has_a_link(&self, report: &Report, links: &[Link]) {
        for node in self.0.iter().filter(|node| node.kind != Some(NodeKind::Router)) {
            let Some(name) = &node.name else { continue };
            let count = links.iter().filter(|link| link.host == *name.get_ref()).count();
            if count != 1 {
                let finding = Finding::mistake(format!("\"{}\" has {count} links", name.get_ref()))
                    .at(name.span(), "expected one, to a router")
                    .consequence();
                report.add(finding);
            }
        }
    }
}

fn link(mut table: Table<'_>, known: &Known) -> Option<Link> {
    let pair = table.need("ends", "ends = [\"ams\", \"r1\"]", ends);
    let impairment = impairment(&mut table);
    let report = table.report();
    table.finish();
    let pair = pair?;
    let span = pair.span();
    let [one, other] = pair.into_inner();
    for name in [&one, &other] {
        if known.find(name).is_none() {
            known.report_unknown(report, span.clone(), name, None);
        }
    }
    let (host, router) = match (known.find(&one)?.kind?, known.find(&other)?.kind?) {
        (NodeKind::Router, NodeKind::Router) => {
            let finding = Finding::mistake("links between two routers are not available yet");
            report.add(finding.at(span, "both are routers"));
            return None;
        }
        (_, NodeKind::Router) => (one, other),
        (NodeKind::Router, _) => (other, one),
        _ => {
            let finding = Finding::mistake("one end of a link must be a router");
            report.add(finding.at(span, "neither end is a router"));
            return None;
        }
    };
    Some(Link { host, router, impairment })
}

fn ends(value: &DeValue<'_>) -> Result<[String; 2], ValueError> {
    let expected = || ValueError::new("expected the names of two nodes");
    let items = value.as_array().ok_or_else(expected)?;
    let names = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
    let names: Vec<String> = names.collect::<Option<_>>().ok_or_else(expected)?;
    names.try_into().map_err(|_| expected())
}

fn impairment(table: &mut Table<'_>) -> Impairment {
    let time = || text("a span of time", duration_in(Duration::ZERO..=DELAY_MAX));
    let delay = table.get("delay", time()).map(Spanned::into_inner).unwrap_or_default();
    let jitter = table.get("jitter", time());
    if let Some(jitter) = jitter.as_ref().filter(|jitter| *jitter.get_ref() > delay) {
        let finding = Finding::mistake("jitter must be at most the delay")
            .at(jitter.span(), "jitter makes packets earlier by at most the delay");
        table.report().add(finding);
    }
    Impairment {
        delay,
        jitter: jitter.map(Spanned::into_inner).unwrap_or_default(),
        loss: table
            .get("loss", text("a percentage", quantity::share))
            .map(Spanned::into_inner)
            .unwrap_or_default(),
        rate: table.get("rate", text("a rate", quantity::rate)).map(Spanned::into_inner),
    }
}

/// A service, with the positions of what is checked against other services.
struct RawService {
    service: Service,
    name: Option<Spanned<String>>,
    addresses: Vec<Spanned<IpAddr>>,
    /// The sites that announce it.
    announcing: Vec<Spanned<String>>,
}

fn service(mut table: Table<'_>, known: &Known, links: &[Link]) -> RawService {
    let name = table.need("name", "name = \"dns\"", text("a name", name(LAB_NAME_MAX)));
    let router =
        table.need("router", "router = \"r1\"", text("a name", |text| Ok(text.to_owned())));
    let example = "addresses = [\"198.51.100.53\"]";
    let address = parsed("expected an address such as \"198.51.100.53\"");
    let addresses = table.list("addresses", text("an address", address));
    let empty = table.node("addresses").and_then(|node| node.get_ref().as_array());
    if !table.has("addresses") || empty.is_some_and(|items| items.is_empty()) {
        table.missing("addresses", example);
    }
    let report = table.report();
    let is_router = |name: &str| known.find(name).is_some_and(|n| n.kind == Some(NodeKind::Router));
    if let Some(router) = router.as_ref().filter(|router| !is_router(router.get_ref())) {
        known.report_unknown(report, router.span(), router.get_ref(), Some(NodeKind::Router));
    }
    let router = router.map(Spanned::into_inner).unwrap_or_default();
    let bare: Vec<IpAddr> = addresses.iter().map(|address| *address.get_ref()).collect();
    let mut seen = BTreeSet::new();
    let (mut sites, mut announcing) = (Vec::new(), Vec::new());
    for table in table.tables("sites", "sites = [{ name = \"ams\", cost = 10 }]") {
        let (name, site) = site(table, &bare);
        if let Some(name) = name {
            check_unique(report, &mut seen, "site", &name);
            check_site(report, &name, &router, known, links);
            let announces = site.as_ref().is_some_and(|site| site.announce().is_some());
            announcing.extend(announces.then_some(name));
        }
        sites.extend(site);
    }
    let health_span = table.has("health").then(|| table.span_of("health"));
    let health = table.table("health", "health = { interval = \"10ms\" }").map(health);
    table.finish();
    check_alike(report, &sites, &announcing, health_span);
    let service = Service {
        name: name.as_ref().map(|name| name.get_ref().clone()).unwrap_or_default(),
        router,
        addresses: bare,
        sites,
        health: health.unwrap_or_default(),
    };
    RawService { service, name, addresses, announcing }
}

fn site(
    mut table: Table<'_>,
    addresses: &[IpAddr],
) -> (Option<Spanned<String>>, Option<ServiceSite>) {
    let name = table.need("name", "name = \"ams\"", text("a name", |text| Ok(text.to_owned())));
    let announced = table.has("announce");
    let example = "announce = { by = \"bird\", as = 65001 }";
    let bgp = table.table("announce", example).map(|table| announce(table, addresses));
    let cost = if announced {
        let cost = table.get("cost", integer(0..=u32::MAX));
        if let Some(cost) = cost {
            let finding = Finding::mistake("a site has a cost or announces, not both");
            table.report().add(finding.at(cost.span(), "BGP decides what it is worth"));
        }
        None
    } else {
        table.need("cost", "cost = 10", integer(0..=u32::MAX)).map(Spanned::into_inner)
    };
    table.finish();
    let known_by = cost.map(KnownBy::Cost).or(bgp.map(KnownBy::Bgp));
    let site = name.as_ref().zip(known_by);
    let site = site.map(|(name, known_by)| ServiceSite { name: name.get_ref().clone(), known_by });
    (name, site)
}

/// The router knows all sites of a service in the same way, and checks only those with costs.
fn check_alike(
    report: &Report,
    sites: &[ServiceSite],
    announcing: &[Spanned<String>],
    health: Option<std::ops::Range<usize>>,
) {
    let Some(first) = announcing.first() else { return };
    if announcing.len() < sites.len() {
        let finding = Finding::mistake("some sites of the service announce it, others have costs");
        report.add(finding.at(first.span(), "this one announces: let all of them, or none"));
    }
    if let Some(span) = health {
        let finding = Finding::mistake("sites that announce a service are not checked");
        report.add(finding.at(span, "leave it out: the router believes BGP"));
    }
}

fn check_site(
    report: &Report,
    name: &Spanned<String>,
    router: &str,
    known: &Known,
    links: &[Link],
) {
    let (span, name) = (name.span(), name.get_ref());
    match known.find(name) {
        Some(node) if node.kind.is_none_or(|kind| kind == NodeKind::Site) => {
            let is_link = |link: &Link| link.host == *name && link.router == router;
            let consistent = known.find(router).is_some() && node.kind.is_some();
            if consistent && !links.iter().any(is_link) {
                let finding = Finding::mistake(format!("\"{name}\" has no link to \"{router}\""))
                    .at(span, "the service's router needs a link to each of its sites")
                    .consequence();
                report.add(finding);
            }
        }
        _ => known.report_unknown(report, span, name, Some(NodeKind::Site)),
    }
}

fn health(mut table: Table<'_>) -> Health {
    let interval = duration_in(Duration::from_millis(1)..=Duration::from_mins(1));
    let health = Health {
        interval: table.get("interval", text("a span of time", interval)).map(Spanned::into_inner),
        fall: table.get("fall", integer(1..=1_000)).map(Spanned::into_inner),
        rise: table.get("rise", integer(1..=1_000)).map(Spanned::into_inner),
    };
    table.finish();
    health
}

fn check_services(report: &Report, services: &[RawService]) {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    let mut announcing = BTreeSet::new();
    for service in services {
        if let Some(name) = &service.name {
            check_unique(report, &mut names, "service", name);
        }
        for site in &service.announcing {
            if !announcing.insert(site.get_ref().as_str()) {
                let what = format!("\"{}\" announces two services", site.get_ref());
                let label = "a site has one BGP daemon: let it announce both in one service";
                report.add(Finding::mistake(what).at(site.span(), label));
            }
        }
        for address in &service.addresses {
            if !addresses.insert(*address.get_ref()) {
                let what = format!("the address {} is given twice", address.get_ref());
                report.add(Finding::mistake(what).at(address.span(), "again"));
            }
        }
    }
}

fn check_unique(report: &Report, seen: &mut BTreeSet<String>, what: &str, name: &Spanned<String>) {
    if !seen.insert(name.get_ref().clone()) {
        let message = format!("two of kind {what} are named \"{}\"", name.get_ref());
        let label = format!("{} of this name is already defined above", article(what));
        report.add(Finding::mistake(message).at(name.span(), label));
    }
}

const DELAY_MAX: Duration = Duration::from_hours(1);
const LAB_NAME_MAX: usize = 64;
/// The index of a link is one byte of its IPv4 addresses.
const LINKS_MAX: usize = 256;
/// With the prefix "nh-" it is the name of a device, which has at most 15 bytes.
const NAME_MAX: usize = 12;
