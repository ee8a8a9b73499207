//! Reads `[[service]]` and `[[service.site]]`.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::time::Duration;

use nearhop_fib::IpPrefix;
use toml::Spanned;
use toml::de::DeValue;

use super::RawBfd;
use super::announce::{RawAdditions, RawAnnounceRules};
use super::health::RawHealth;
use super::via::{RawVia, read_links, via_of};
use super::{inner_or, inner_or_default};
use crate::config::model::{Affinity, Service, Site, WhenAllDead};
use crate::config::value::{self, ValueError, one_of, text};
use crate::config::walk::Table;
use crate::policy::Combine;

/// A service as written.
pub(in crate::config) struct RawService {
    /// `None` if missing or invalid.
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) prefixes: Vec<Spanned<IpPrefix>>,
    pub(in crate::config) when_all_dead: Option<Spanned<WhenAllDead>>,
    pub(in crate::config) announce: RawAnnounceRules,
    pub(in crate::config) additions: RawAdditions,
    pub(in crate::config) sites: Vec<RawSite>,
    /// Position of `[[service]]`.
    pub(in crate::config) span: Range<usize>,
    affinity: Affinity,
    latency_unit: Option<Duration>,
    panic_threshold: u8,
}

/// A site as written.
pub(in crate::config) struct RawSite {
    /// `None` if missing or invalid.
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) via: Vec<RawVia>,
    pub(in crate::config) health: RawHealth,
    preference: u32,
    cost: u32,
    weight: u16,
    pub(in crate::config) bfd: Option<RawBfd>,
    combine: Combine,
}

impl RawService {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let name = table.need("name", "name = \"dns\"", text("a name", value::name));
        let prefixes = table.list("prefixes", text("a prefix", value::prefix));
        let empty = table.node("prefixes").and_then(|node| node.get_ref().as_array());
        if !table.has("prefixes") || empty.is_some_and(|items| items.is_empty()) {
            table.missing("prefixes", "prefixes = [\"198.51.100.53/32\"]");
        }
        let latency_unit = table.get("latency-unit", text("a span of time", latency_unit));
        let raw = Self {
            name,
            prefixes,
            when_all_dead: table.get("when-all-dead", text("a word", when_all_dead)),
            announce: RawAnnounceRules::read(&mut table),
            additions: RawAdditions::read(&mut table),
            sites: table
                .tables("site", "[[service.site]]")
                .into_iter()
                .map(RawSite::read)
                .collect(),
            span: table.span(),
            affinity: inner_or_default(table.get("affinity", text("a word", affinity))),
            panic_threshold: inner_or(
                table.get("panic-threshold", value::integer(1..=100)),
                PANIC_THRESHOLD_DEFAULT,
            ),
            latency_unit: inner_or(latency_unit, Some(LATENCY_UNIT_DEFAULT)),
        };
        table.later("compare", "an order of rules (compare)");
        table.later("policer", "a policer");
        table.finish();
        raw
    }

    pub(super) fn into_model(self) -> Service {
        Service {
            name: inner_or_default(self.name),
            prefixes: self.prefixes.into_iter().map(Spanned::into_inner).collect(),
            affinity: self.affinity,
            when_all_dead: inner_or_default(self.when_all_dead),
            latency_unit: self.latency_unit,
            panic_threshold: self.panic_threshold,
            announce: self.announce.into_model(),
            additions: self.additions.into_model(),
            sites: self.sites.into_iter().map(RawSite::into_model).collect(),
        }
    }
}

impl RawSite {
    fn read(mut table: Table<'_>) -> Self {
        let name = table.need("name", "name = \"fra\"", text("a name", value::name));
        let raw = Self {
            name,
            via: read_links(&mut table),
            health: RawHealth::read(&mut table),
            preference: inner_or(
                table.get("preference", value::integer(0..=u32::MAX)),
                PREFERENCE_DEFAULT,
            ),
            cost: inner_or(table.get("cost", value::integer(0..=COST_MAX)), COST_DEFAULT),
            weight: inner_or(table.get("weight", weight), WEIGHT_DEFAULT),
            combine: inner_or_default(table.get("combine", text("a word", combine))),
            bfd: RawBfd::read_of_site(&mut table),
        };
        if table.get("capacity", text("a rate", value::capacity)).is_some() {
            table.later("capacity", "spilling over when a capacity is reached (capacity)");
        }
        table.finish();
        raw
    }

    fn into_model(self) -> Site {
        Site {
            name: inner_or_default(self.name),
            via: self.via.iter().map(|via| via_of(via.get_ref())).collect(),
            preference: self.preference,
            cost: self.cost,
            weight: self.weight,
            capacity: None,
            health: self.health.into_model(),
            combine: self.combine,
            bfd: self.bfd.and_then(RawBfd::into_site_model),
        }
    }
}

fn affinity(word: &str) -> Result<Affinity, ValueError> {
    let words = [("none", Some(Affinity::None)), ("hash", Some(Affinity::Hash)), ("flow", None)];
    one_of(word, &words).map_err(|fault| match word {
        "flow" => ValueError::later("affinity \"flow\"").help("use \"hash\", or remove it"),
        _ => fault,
    })
}

fn when_all_dead(word: &str) -> Result<WhenAllDead, ValueError> {
    let words = [
        ("unreachable", Some(WhenAllDead::Unreachable)),
        ("drop", Some(WhenAllDead::Drop)),
        ("fail-open", Some(WhenAllDead::FailOpen)),
        ("covering", Some(WhenAllDead::Covering)),
    ];
    one_of(word, &words)
}

fn combine(word: &str) -> Result<Combine, ValueError> {
    one_of(word, &[("all", Some(Combine::All)), ("any", Some(Combine::Any))])
}

fn latency_unit(text: &str) -> Result<Option<Duration>, ValueError> {
    if text == "off" {
        return Ok(None);
    }
    let range = Duration::from_micros(1)..=Duration::from_secs(10);
    match value::duration_in(range)(text) {
        Ok(unit) => Ok(Some(unit)),
        Err(fault) if text.starts_with('0') => {
            Err(fault.help("write \"off\" to leave latency out of the cost"))
        }
        Err(fault) => Err(fault),
    }
}

fn weight(value: &DeValue<'_>) -> Result<u16, ValueError> {
    let range = value::integer(1..=u16::MAX);
    range(value).map_err(|fault| match value.as_integer().map(toml::de::DeInteger::as_str) {
        Some("0") => fault.help("to take a site out of service, use `nearhop drain SITE`"),
        _ => fault,
    })
}

/// In percent: more than half of the sites.
const PANIC_THRESHOLD_DEFAULT: u8 = 50;

const COST_DEFAULT: u32 = 10;
/// Leaves room for latency, which is added to it.
const COST_MAX: u32 = 1_000_000_000;
const LATENCY_UNIT_DEFAULT: Duration = Duration::from_millis(1);
const PREFERENCE_DEFAULT: u32 = 100;
const WEIGHT_DEFAULT: u16 = 1;
