//! Reads `via` (a string, a table or a list of these), and `[[route]]`, which uses it.
#![forbid(unsafe_code)]

use nearhop_fib::IpPrefix;
use toml::Spanned;
use toml::de::DeValue;

use super::RawBfd;
use crate::config::finding::Finding;
use crate::config::model::{Route, RouteTarget, Via};
use crate::config::report::Report;
use crate::config::value::{self, text};
use crate::config::walk::{Node, Table, article};

/// A next hop as written: the name of a port.
pub(in crate::config) type RawVia = Spanned<String>;

/// A static route as written.
pub(in crate::config) struct RawRoute {
    /// `None` if missing or invalid.
    pub(in crate::config) prefix: Option<Spanned<IpPrefix>>,
    pub(in crate::config) target: RawTarget,
    pub(in crate::config) bfd: Option<RawBfd>,
}

/// Target of a route as written.
pub(in crate::config) enum RawTarget {
    Via(Vec<RawVia>),
    Word(RouteTarget),
}

impl RawRoute {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let prefix =
            table.need("prefix", "prefix = \"10.9.0.0/16\"", text("a prefix", value::prefix));
        if !table.has("via") {
            table.missing(
                "via",
                "via = \"PORT\" or an address, or \"blackhole\", \"unreachable\", \"prohibit\"",
            );
        }
        let report = table.report();
        let target = match table.node("via") {
            Some(node) => {
                word(node).map_or_else(|| RawTarget::Via(read_list(node, report)), RawTarget::Word)
            }
            None => RawTarget::Via(Vec::new()),
        };
        let bfd = RawBfd::read(&mut table);
        table.finish();
        Self { prefix, target, bfd }
    }

    pub(super) fn into_model(self) -> Route {
        let target = match self.target {
            RawTarget::Via(vias) => {
                RouteTarget::Via(vias.iter().map(|via| via_of(via.get_ref())).collect())
            }
            RawTarget::Word(target) => target,
        };
        let everything = IpPrefix::host(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let prefix = self.prefix.map_or(everything, Spanned::into_inner);
        Route { prefix, target, bfd: self.bfd.map(|bfd| bfd.model) }
    }
}

/// Reads the links of a site.
pub(super) fn read_links(table: &mut Table<'_>) -> Vec<RawVia> {
    let report = table.report();
    if let Some(node) = table.node("via") {
        return read_list(node, report);
    }
    table.missing("via", "via = \"PORT\", the port that leads to it");
    Vec::new()
}

/// What looks like an address is one: no port can be named so.
pub(in crate::config) fn via_of(word: &str) -> Via {
    word.parse().map_or_else(|_| Via::Port(word.to_owned()), Via::Address)
}

/// What a word stands for that a route's `via` accepts in place of a port's name.
pub(in crate::config) fn target_of(word: &str) -> Option<RouteTarget> {
    match word {
        "blackhole" => Some(RouteTarget::Blackhole),
        "unreachable" => Some(RouteTarget::Unreachable),
        "prohibit" => Some(RouteTarget::Prohibit),
        _ => None,
    }
}

/// Words that a route's `via` accepts in place of a port's name.
pub(super) const WORDS: [&str; 3] = ["blackhole", "unreachable", "prohibit"];

fn word(node: &Node<'_>) -> Option<RouteTarget> {
    target_of(node.get_ref().as_str()?)
}

fn read_list<'t>(node: &'t Node<'t>, report: &'t Report) -> Vec<RawVia> {
    let DeValue::Array(items) = node.get_ref() else {
        return read_one(node, report).into_iter().collect();
    };
    if items.is_empty() {
        let finding =
            Finding::mistake("via is empty").at(node.span(), "expected at least one port");
        report.add(finding);
    }
    items.iter().filter_map(|item| read_one(item, report)).collect()
}

fn read_one<'t>(node: &'t Node<'t>, report: &'t Report) -> Option<RawVia> {
    match node.get_ref() {
        DeValue::String(name) if WORDS.contains(&name.as_ref()) => {
            let finding = Finding::mistake(format!("{name:?} is not a port"))
                .at(node.span(), "this word is allowed only alone, as the via of a [[route]]");
            report.add(finding);
            None
        }
        DeValue::String(name) => Some(Spanned::new(node.span(), name.as_ref().to_owned())),
        DeValue::Table(entries) => read_table(Table::new(entries, node.span(), "this via", report)),
        other => {
            let found = article(other.type_str());
            let finding = Finding::mistake("via is not valid")
                .at(node.span(), format!("expected a port, a table or a list, found {found}"));
            report.add(finding);
            None
        }
    }
}

fn read_table(mut table: Table<'_>) -> Option<RawVia> {
    let tunnel = table.later("encap", "a tunnel (encap)");
    let gateway = table.later("gateway", "a next hop by its address (gateway)");
    table.ignore("remote");
    if !tunnel && !table.has("port") {
        table.missing("port", "port = \"NAME\"");
    }
    let port = table.get("port", text("a port's name", |name| Ok(name.to_owned())));
    table.finish();
    port.filter(|_| !tunnel && !gateway)
}
