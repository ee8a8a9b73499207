//! Reads `[bgp]` and `[[bgp.neighbor]]`.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use nearhop_fib::IpPrefix;
use toml::Spanned;
use toml::de::DeValue;

use super::aggregate::RawAggregate;
use super::announce::{RawTerms, lease, leaving};
use super::bfd::RawBfd;
use super::playbook::RawPlaybook;
use super::policy::{RawPolicy, policies};
use super::{inner_or, inner_or_default};
use crate::bgp::lease::LeaseRules;
use crate::bgp::policy::Policy;
use crate::bgp::{AddPath, Role, is_public_as};
use crate::config::model::{Bgp, Export, Import, Leaving, Neighbor, NeighborRange};
use crate::config::value::{self, ValueError, one_of, text};
use crate::config::walk::{Table, article};

/// `[bgp]` as written.
pub(in crate::config) struct RawBgp {
    /// `None` if missing or invalid.
    pub(in crate::config) asn: Option<Spanned<u32>>,
    pub(in crate::config) policies: Vec<RawPolicy>,
    pub(in crate::config) neighbors: Vec<RawNeighbor>,
    pub(in crate::config) aggregates: Vec<RawAggregate>,
    pub(in crate::config) playbooks: Vec<RawPlaybook>,
    multipath: u8,
    /// Position of `[bgp]`.
    pub(in crate::config) span: Range<usize>,
    leaving: Leaving,
    lease: LeaseRules,
}

/// A neighbor as written.
pub(in crate::config) struct RawNeighbor {
    pub(in crate::config) name: Option<Spanned<String>>,
    /// `None` if missing, as it is of one that is looked for on a port and of a range, or invalid.
    pub(in crate::config) address: Option<Spanned<IpAddr>>,
    /// Where neighbors of this kind come from.
    pub(in crate::config) range: Option<Spanned<IpPrefix>>,
    pub(in crate::config) limit: Option<Spanned<u16>>,
    pub(in crate::config) port: Option<Spanned<String>>,
    /// `None` if missing or invalid.
    pub(in crate::config) asn: Option<Spanned<u32>>,
    pub(in crate::config) local_address: Option<Spanned<IpAddr>>,
    pub(in crate::config) exports: Vec<Spanned<String>>,
    pub(in crate::config) role: Option<Spanned<Role>>,
    pub(in crate::config) multihop: Option<Spanned<u8>>,
    pub(in crate::config) ttl_security: Option<Spanned<bool>>,
    pub(in crate::config) terms: RawTerms,
    pub(in crate::config) bfd: Option<RawBfd>,
    /// Position of `[[bgp.neighbor]]`.
    pub(in crate::config) span: Range<usize>,
    /// `all`, `none`, or the name of a policy.
    pub(in crate::config) import: Option<Spanned<String>>,
    pub(in crate::config) export_policy: Option<Spanned<String>>,
    exports_word: Option<Export>,
    refuses_bogons: Option<bool>,
    passive: bool,
    hold_time: Duration,
    max_prefixes: u32,
    allow_own_as: u8,
    restart_after: Option<Duration>,
    add_path: AddPath,
    transcript_kib: usize,
    says_export: bool,
    says_address: bool,
}

impl RawBgp {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let raw = Self {
            asn: table.need("as", "as = 65001, this router's AS", asn),
            multipath: inner_or(table.get("multipath", value::integer(1..=64)), 1),
            span: table.span(),
            policies: policies(&mut table),
            leaving: leaving(&mut table),
            lease: lease(&mut table),
            aggregates: table
                .tables("aggregate", "[[bgp.aggregate]]")
                .into_iter()
                .map(RawAggregate::read)
                .collect(),
            playbooks: table
                .tables("playbook", "[[bgp.playbook]]")
                .into_iter()
                .map(RawPlaybook::read)
                .collect(),
            neighbors: table
                .tables("neighbor", "[[bgp.neighbor]]")
                .into_iter()
                .map(RawNeighbor::read)
                .collect(),
        };
        table.finish();
        raw
    }

    pub(super) fn into_model(self) -> Bgp {
        let asn = inner_or_default(self.asn);
        let policies = self.policies.into_iter().map(|policy| Arc::new(policy.into_model(asn)));
        let policies: Vec<Arc<Policy>> = policies.collect();
        let (mut neighbors, mut ranges) = (Vec::new(), Vec::new());
        for raw in self.neighbors {
            let limit = raw.limit.as_ref().map_or(LIMIT_DEFAULT, |limit| *limit.get_ref());
            let range = raw.range.as_ref().map(|range| *range.get_ref());
            let neighbor = raw.into_model(asn, &policies);
            match range {
                Some(prefix) => ranges.push(NeighborRange { prefix, limit, template: neighbor }),
                None => neighbors.push(neighbor),
            }
        }
        let aggregates = self.aggregates.into_iter().filter_map(RawAggregate::into_model);
        let aggregates = aggregates.map(Arc::new).collect();
        let playbooks = self.playbooks.into_iter().map(RawPlaybook::into_model);
        let playbooks = playbooks.map(Arc::new).collect();
        Bgp {
            asn,
            multipath: self.multipath,
            policies,
            aggregates,
            playbooks,
            leaving: self.leaving,
            lease: self.lease,
            neighbors,
            ranges,
        }
    }
}

impl RawNeighbor {
    fn read(mut table: Table<'_>) -> Self {
        let (exports, exports_word) = exports(&mut table);
        let raw = Self {
            name: table.get("name", text("a name", value::name)),
            address: if table.has("port") || table.has("range") {
                table.get("address", text("an address", address))
            } else {
                let example =
                    "address = \"10.0.9.254\", the neighbor's, or port = \"uplink\", where it is";
                table.need("address", example, text("an address", address))
            },
            range: table.get("range", text("a prefix", value::prefix)),
            limit: table.get("limit", value::integer(1..=LIMIT_MAX)),
            port: table.get("port", text("a port's name", value::name)),
            says_address: table.has("address"),
            asn: table.need("as", "as = 65002, the neighbor's AS", asn),
            local_address: table.get("local-address", text("an address", address)),
            says_export: table.has("export"),
            exports,
            exports_word,
            import: table.get("import", text("a word", value::name)),
            export_policy: table.get("export-policy", text("a policy's name", value::name)),
            refuses_bogons: table.get("bogons", text("a word", bogons)).map(Spanned::into_inner),
            role: table.get("role", text("a word", role)),
            multihop: table.get("multihop", value::integer(2..=u8::MAX)),
            terms: RawTerms::read(&mut table),
            bfd: RawBfd::read(&mut table),
            ttl_security: table.get("ttl-security", value::boolean),
            passive: inner_or_default(table.get("passive", value::boolean)),
            hold_time: inner_or(
                table.get("hold-time", text("a span of time", hold_time)),
                HOLD_TIME_DEFAULT,
            ),
            max_prefixes: inner_or(
                table.get("max-prefixes", value::integer(1..=MAX_PREFIXES_MAX)),
                MAX_PREFIXES_DEFAULT,
            ),
            restart_after: table
                .get("restart-after", text("a span of time", restart_after))
                .map(Spanned::into_inner),
            allow_own_as: inner_or_default(table.get("allow-own-as", value::integer(0..=10))),
            add_path: inner_or_default(table.get("add-path", text("a word", add_path))),
            transcript_kib: inner_or(
                table.get("transcript-kib", value::integer(0..=TRANSCRIPT_MAX)),
                TRANSCRIPT_DEFAULT,
            ),
            span: table.span(),
        };
        table.later("password", "TCP authentication (password)");
        table.finish();
        raw
    }

    /// What it is called: its name, or its address, with the port if that is link-local, or the port that it is
    /// looked for on.
    pub(in crate::config) fn called(&self) -> Option<String> {
        let name = self.name.as_ref().map(|name| name.get_ref().clone());
        let range = || self.range.as_ref().map(|range| range.get_ref().to_string());
        let port = self.port.as_ref().map(Spanned::get_ref);
        let name = name.or_else(|| match (self.address.as_ref().map(Spanned::get_ref), port) {
            (Some(address), Some(port)) => Some(format!("{address}%{port}")),
            (Some(address), None) => Some(address.to_string()),
            (None, port) => port.filter(|_| self.is_looked_for()).cloned(),
        });
        name.or_else(range)
    }

    /// Whether its address is learned from its router advertisements.
    pub(in crate::config) fn is_looked_for(&self) -> bool {
        self.port.is_some() && !self.says_address
    }

    /// Where what it is called stands.
    pub(in crate::config) fn called_at(&self) -> Range<usize> {
        let of_address = self.address.as_ref().map(Spanned::span);
        let of_range = self.range.as_ref().map(Spanned::span);
        let of_port = self.port.as_ref().map(Spanned::span);
        let of_name = self.name.as_ref().map(Spanned::span);
        of_name.or(of_address).or(of_range).or(of_port).unwrap_or(self.span.clone())
    }

    /// Whether a service is announced to it, if at all.
    pub(in crate::config) fn hears_of(&self, service: &str) -> bool {
        match &self.exports_word {
            Some(Export::AllServices) => true,
            Some(Export::Aggregates) => false,
            Some(Export::Services(names)) => names.iter().any(|name| name == service),
            None => self.exports.iter().any(|name| name.get_ref() == service),
        }
    }

    /// Whether it says nothing of what is accepted and sent, or of one of both.
    pub(in crate::config) fn silent_about(&self) -> Option<&'static str> {
        match (self.import.is_some(), self.says_export) {
            (true, true) => None,
            (true, false) => Some("export"),
            (false, true) => Some("import"),
            (false, false) => Some("import and export"),
        }
    }

    fn into_model(self, own_as: u32, policies: &[Arc<Policy>]) -> Neighbor {
        let named = |name: &Spanned<String>| {
            policies.iter().find(|policy| policy.name == *name.get_ref()).map(Arc::clone)
        };
        let import = match self.import.as_ref().map(|name| name.get_ref().as_str()) {
            Some("all") => Import::All,
            _ => self.import.as_ref().and_then(named).map_or(Import::None, Import::Policy),
        };
        let export_policy = self.export_policy.as_ref().and_then(named);
        let asn = self.asn.as_ref().map_or(0, |asn| *asn.get_ref());
        let name = self.called().unwrap_or_default();
        let exports: Vec<String> = self.exports.into_iter().map(Spanned::into_inner).collect();
        let network = self.range.as_ref().map(|range| range.get_ref().addr());
        let address = self.address.map(Spanned::into_inner).or(network);
        Neighbor {
            name,
            template: None,
            address,
            port: self.port.map(Spanned::into_inner),
            asn,
            local_address: self.local_address.map(Spanned::into_inner),
            import,
            // In a lab everything is private, and inside an AS routes are as long as it likes.
            refuses_bogons: self.refuses_bogons.unwrap_or(is_public_as(asn) && asn != own_as),
            export_policy,
            export: self.exports_word.unwrap_or(Export::Services(exports)),
            terms: self.terms.into_model(),
            role: self.role.map(Spanned::into_inner),
            multihop: self.multihop.map(Spanned::into_inner),
            ttl_security: inner_or_default(self.ttl_security),
            passive: self.passive || network.is_some(),
            hold_time: self.hold_time,
            max_prefixes: self.max_prefixes,
            restart_after: self.restart_after,
            allow_own_as: self.allow_own_as,
            add_path: self.add_path,
            bfd: self.bfd.map(|bfd| bfd.model),
            transcript: self.transcript_kib * 1024,
        }
    }
}

/// `"none"`, `"services"`, `"aggregates"`, or a list of services' names.
fn exports(table: &mut Table<'_>) -> (Vec<Spanned<String>>, Option<Export>) {
    let word = table.node("export").filter(|node| node.get_ref().as_str().is_some());
    if word.is_none() {
        return (table.list("export", text("a service's name", value::name)), None);
    }
    let words = [("none", Some(0)), ("services", Some(1)), ("aggregates", Some(2))];
    let word = table.get("export", text("a word", |word: &str| one_of(word, &words)));
    let export = match word.map(Spanned::into_inner) {
        Some(1) => Export::AllServices,
        Some(2) => Export::Aggregates,
        _ => Export::Services(Vec::new()),
    };
    (Vec::new(), Some(export))
}

/// Whether they are refused.
fn bogons(word: &str) -> Result<bool, ValueError> {
    one_of(word, &[("refuse", Some(true)), ("accept", Some(false))])
}

fn role(word: &str) -> Result<Role, ValueError> {
    let words = [
        ("provider", Some(Role::Provider)),
        ("customer", Some(Role::Customer)),
        ("peer", Some(Role::Peer)),
        ("route-server", Some(Role::RouteServer)),
        ("route-server-client", Some(Role::RouteServerClient)),
    ];
    one_of(word, &words)
}

fn add_path(word: &str) -> Result<AddPath, ValueError> {
    let words = [
        ("off", Some(AddPath { send: false, receive: false })),
        ("receive", Some(AddPath { send: false, receive: true })),
        ("send", Some(AddPath { send: true, receive: false })),
        ("both", Some(AddPath { send: true, receive: true })),
    ];
    one_of(word, &words)
}

/// A number that an AS can have (RFC 7607, RFC 6793, RFC 7300).
pub(super) fn asn(value: &DeValue<'_>) -> Result<u32, ValueError> {
    let asn = value::integer(0..=u32::MAX)(value).map_err(|fault| match value {
        DeValue::String(_) => {
            ValueError::new(format!("expected a number, found {}", article("string")))
                .help("write 65001 without quotes; 1.10 is written 65546")
        }
        _ => fault,
    })?;
    let reserved = match asn {
        0 => "no AS has the number 0 (RFC 7607)",
        AS_TRANS => "23456 stands for larger numbers (RFC 6793)",
        65_535 | u32::MAX => "the last AS number is reserved (RFC 7300)",
        _ => return Ok(asn),
    };
    Err(ValueError::new(reserved).because(format!("no router can have AS {asn}")))
}

fn address(text: &str) -> Result<IpAddr, ValueError> {
    let address: IpAddr =
        value::parsed("expected an address, such as \"10.0.9.254\" or \"2001:db8::1\"")(text)?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(ValueError::new("expected the address of one router"));
    }
    Ok(address)
}

fn restart_after(text: &str) -> Result<Duration, ValueError> {
    value::duration_in(RESTART_AFTER_MIN..=RESTART_AFTER_MAX)(text)
}

/// Zero, or three seconds at least (RFC 4271 section 4.2).
fn hold_time(text: &str) -> Result<Duration, ValueError> {
    let span = value::duration_in(Duration::ZERO..=HOLD_TIME_MAX)(text)?;
    if span.subsec_nanos() != 0 || (!span.is_zero() && span < HOLD_TIME_MIN) {
        return Err(ValueError::new("expected 0s (never), or whole seconds from 3s on (RFC 4271)"));
    }
    Ok(span)
}

const AS_TRANS: u32 = 23_456;

/// RFC 4271 section 10.
const HOLD_TIME_DEFAULT: Duration = Duration::from_secs(90);
const HOLD_TIME_MIN: Duration = Duration::from_secs(3);
const HOLD_TIME_MAX: Duration = Duration::from_secs(65_535);

/// Sooner it is a session that flaps.
const RESTART_AFTER_MIN: Duration = Duration::from_secs(1);
const RESTART_AFTER_MAX: Duration = Duration::from_hours(24);

/// The global table twice.
const MAX_PREFIXES_DEFAULT: u32 = 2_500_000;
const MAX_PREFIXES_MAX: u32 = 10_000_000;

/// Neighbors of a range at once: each has room for its news.
const LIMIT_DEFAULT: u16 = 100;
const LIMIT_MAX: u16 = 1000;

/// KiB: the OPENs and a dozen of UPDATEs.
const TRANSCRIPT_DEFAULT: usize = 16;
const TRANSCRIPT_MAX: usize = 4096;
