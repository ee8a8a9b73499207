//! From TOML to a topology: every mistake of the file at once, each with its place.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceSpan};
use serde::Deserialize;
use toml::Spanned;

use super::{Impairment, Link, Node, NodeKind, Service, ServiceSite, Topology, quantity};

/// A topology that cannot be built.
#[derive(Debug, Diagnostic, thiserror::Error)]
#[error("{} in the lab's topology: {}", count(mistakes.len()), first(mistakes))]
pub struct TopologyError {
    #[source_code]
    source_code: NamedSource<String>,
    #[label(collection)]
    labels: Vec<LabeledSpan>,
    /// Each mistake: what was expected, what was found.
    pub mistakes: Vec<String>,
}

/// Reads and checks; `file` is the name that errors show.
pub(super) fn parse(file: &str, text: &str) -> Result<Topology, TopologyError> {
    let mut findings = Findings::default();
    let topology = match toml::from_str::<RawTopology>(text) {
        Ok(raw) => Some(findings.topology(raw)),
        Err(error) => {
            findings.note(&error.span().unwrap_or(0..0), error.message());
            None
        }
    };
    match topology {
        Some(topology) if findings.0.is_empty() => Ok(topology),
        _ => Err(findings.into_error(file, text)),
    }
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTopology {
    name: Spanned<String>,
    #[serde(default)]
    node: Vec<RawNode>,
    #[serde(default)]
    link: Vec<RawLink>,
    #[serde(default)]
    service: Vec<RawService>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: Spanned<String>,
    kind: NodeKind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLink {
    ends: Spanned<[String; 2]>,
    delay: Option<Spanned<String>>,
    jitter: Option<Spanned<String>>,
    loss: Option<Spanned<String>>,
    rate: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    name: Spanned<String>,
    router: Spanned<String>,
    addresses: Spanned<Vec<IpAddr>>,
    sites: Vec<RawSite>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSite {
    name: Spanned<String>,
    cost: u32,
}

/// Mistakes so far, with their places.
#[derive(Default)]
struct Findings(Vec<(Range<usize>, String)>);

impl Findings {
    fn note(&mut self, span: &Range<usize>, what: impl Into<String>) {
        self.0.push((span.clone(), what.into()));
    }

    fn topology(&mut self, raw: RawTopology) -> Topology {
        self.check_name(&raw.name, usize::MAX);
        let nodes = self.nodes(raw.node);
        let links = self.links(raw.link, &nodes);
        self.check_every_host_has_a_link(&raw.name, &nodes, &links);
        let services = self.services(raw.service, &nodes, &links);
        Topology { name: raw.name.into_inner(), nodes, links, services }
    }

    fn nodes(&mut self, raw: Vec<RawNode>) -> Vec<Node> {
        let mut seen = BTreeSet::new();
        for node in &raw {
            self.check_name(&node.name, NAME_MAX);
            self.check_unique(&mut seen, "node", &node.name);
        }
        let node = |raw: RawNode| Node { name: raw.name.into_inner(), kind: raw.kind };
        raw.into_iter().map(node).collect()
    }

    fn links(&mut self, raw: Vec<RawLink>, nodes: &[Node]) -> Vec<Link> {
        if let Some(link) = raw.get(LINKS_MAX) {
            self.note(&link.ends.span(), format!("a lab has at most {LINKS_MAX} links"));
        }
        let links: Vec<_> = raw.into_iter().filter_map(|link| self.link(link, nodes)).collect();
        links.into_iter().map(|(_, link)| link).collect()
    }

    fn link(&mut self, raw: RawLink, nodes: &[Node]) -> Option<(Range<usize>, Link)> {
        let impairment = self.impairment(&raw);
        let span = raw.ends.span();
        let [one, other] = raw.ends.into_inner();
        let kind = |name: &str| nodes.iter().find(|node| node.name == name).map(|node| node.kind);
        for name in [&one, &other] {
            if kind(name).is_none() {
                self.note(&span, format!("no node is called \"{name}\"; {}", known(nodes)));
            }
        }
        let (host, router) = match (kind(&one)?, kind(&other)?) {
            (NodeKind::Router, NodeKind::Router) => {
                self.note(&span, "a link between two routers is not built yet");
                return None;
            }
            (_, NodeKind::Router) => (one, other),
            (NodeKind::Router, _) => (other, one),
            _ => {
                self.note(&span, "one end of a link is a router");
                return None;
            }
        };
        Some((span, Link { host, router, impairment }))
    }

    fn impairment(&mut self, raw: &RawLink) -> Impairment {
        let delay = self.quantity(raw.delay.as_ref(), quantity::duration).unwrap_or_default();
        let jitter = self.quantity(raw.jitter.as_ref(), quantity::duration).unwrap_or_default();
        if let Some(text) = raw.jitter.as_ref().filter(|_| jitter > delay) {
            self.note(&text.span(), "jitter is at most the delay");
        }
        Impairment {
            delay,
            jitter,
            loss: self.quantity(raw.loss.as_ref(), quantity::share).unwrap_or_default(),
            rate: self.quantity(raw.rate.as_ref(), quantity::rate),
        }
    }

    fn quantity<T>(
        &mut self,
        text: Option<&Spanned<String>>,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = text?;
        let parsed = parse(text.get_ref());
        parsed.map_err(|what| self.note(&text.span(), what)).ok()
    }

    /// The default route of a host leads out of its link, so there must be exactly one.
    fn check_every_host_has_a_link(
        &mut self,
        lab: &Spanned<String>,
        nodes: &[Node],
        links: &[Link],
    ) {
        for node in nodes.iter().filter(|node| node.kind != NodeKind::Router) {
            let count = links.iter().filter(|link| link.host == node.name).count();
            if count != 1 && self.0.is_empty() {
                let name = &node.name;
                self.note(&lab.span(), format!("\"{name}\" has {count} links, expected one"));
            }
        }
    }

    fn services(&mut self, raw: Vec<RawService>, nodes: &[Node], links: &[Link]) -> Vec<Service> {
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for service in &raw {
            self.check_name(&service.name, usize::MAX);
            self.check_unique(&mut names, "service", &service.name);
            self.check_service(service, nodes, links);
            for address in service.addresses.get_ref() {
                if !addresses.insert(*address) {
                    let what = format!("the address {address} is given twice");
                    self.note(&service.addresses.span(), what);
                }
            }
        }
        raw.into_iter().map(service).collect()
    }

    fn check_service(&mut self, service: &RawService, nodes: &[Node], links: &[Link]) {
        let router = service.router.get_ref();
        if !nodes.iter().any(|node| node.name == *router && node.kind == NodeKind::Router) {
            self.note(&service.router.span(), format!("no router is called \"{router}\""));
        }
        if service.addresses.get_ref().is_empty() {
            self.note(&service.addresses.span(), "a service has at least one address");
        }
        let mut seen = BTreeSet::new();
        for site in &service.sites {
            self.check_unique(&mut seen, "site", &site.name);
            let name = site.name.get_ref();
            let is_site = |node: &&Node| node.name == *name && node.kind == NodeKind::Site;
            if nodes.iter().find(is_site).is_none() {
                self.note(&site.name.span(), format!("no site is called \"{name}\""));
            } else if !links.iter().any(|link| link.host == *name && link.router == *router) {
                self.note(&site.name.span(), format!("\"{name}\" has no link to \"{router}\""));
            }
        }
    }

    /// Names become parts of file names, of device names (at most 15 bytes) and of TOML.
    fn check_name(&mut self, name: &Spanned<String>, longest: usize) {
        let text = name.get_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = !text.is_empty() && text.len() <= longest.min(64);
        if !fits || !text.bytes().all(allowed) || text.starts_with('-') {
            let longest = longest.min(64);
            let rule = format!("a name is 1 to {longest} letters, digits and hyphens");
            self.note(&name.span(), rule);
        }
    }

    fn check_unique(&mut self, seen: &mut BTreeSet<String>, what: &str, name: &Spanned<String>) {
        if !seen.insert(name.get_ref().clone()) {
            self.note(
                &name.span(),
                format!("two of kind {what} are called \"{}\"", name.get_ref()),
            );
        }
    }

    fn into_error(self, file: &str, text: &str) -> TopologyError {
        let label = |(span, what): &(Range<usize>, String)| {
            LabeledSpan::new_with_span(Some(what.clone()), SourceSpan::from(span.clone()))
        };
        TopologyError {
            source_code: NamedSource::new(file, text.to_owned()),
            labels: self.0.iter().map(label).collect(),
            mistakes: self.0.into_iter().map(|(_, what)| what).collect(),
        }
    }
}

fn service(raw: RawService) -> Service {
    let site = |raw: RawSite| ServiceSite { name: raw.name.into_inner(), cost: raw.cost };
    Service {
        name: raw.name.into_inner(),
        router: raw.router.into_inner(),
        addresses: raw.addresses.into_inner(),
        sites: raw.sites.into_iter().map(site).collect(),
    }
}

fn known(nodes: &[Node]) -> String {
    let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
    format!("there are: {}", names.join(", "))
}

fn count(mistakes: usize) -> String {
    if mistakes == 1 { "a mistake".to_owned() } else { format!("{mistakes} mistakes") }
}

fn first(mistakes: &[String]) -> &str {
    mistakes.first().map_or("", String::as_str)
}

/// With "nh-" before it a name is a device's, which has at most 15 bytes.
const NAME_MAX: usize = 12;
/// The number of the link is one byte of its IPv4 addresses.
const LINKS_MAX: usize = 256;
