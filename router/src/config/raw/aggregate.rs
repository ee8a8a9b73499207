//! Reads `[[bgp.aggregate]]`.
#![forbid(unsafe_code)]

use nearhop_fib::IpPrefix;
use toml::Spanned;

use super::announce::RawAdditions;
use super::inner_or_default;
use crate::config::model::{Aggregate, AggregateWhile};
use crate::config::value::{self, ValueError, one_of, text};
use crate::config::walk::Table;

/// An aggregate as written.
pub(in crate::config) struct RawAggregate {
    /// `None` if missing or invalid.
    pub(in crate::config) prefix: Option<Spanned<IpPrefix>>,
    pub(in crate::config) services: Vec<Spanned<String>>,
    pub(in crate::config) additions: RawAdditions,
    condition: AggregateWhile,
}

impl RawAggregate {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let empty = table.node("services").and_then(|node| node.get_ref().as_array());
        if !table.has("services") || empty.is_some_and(|items| items.is_empty()) {
            table.missing("services", "services = [\"dns\"], those that it is announced for");
        }
        let raw = Self {
            prefix: table.need(
                "prefix",
                "prefix = \"198.51.100.0/24\"",
                text("a prefix", value::prefix),
            ),
            services: table.list("services", text("a service's name", value::name)),
            additions: RawAdditions::read(&mut table),
            condition: inner_or_default(table.get("while", text("a word", condition))),
        };
        table.finish();
        raw
    }

    /// `None` if it has no prefix, which was reported.
    pub(super) fn into_model(self) -> Option<Aggregate> {
        Some(Aggregate {
            prefix: self.prefix?.into_inner(),
            condition: self.condition,
            services: self.services.into_iter().map(Spanned::into_inner).collect(),
            additions: self.additions.into_model(),
        })
    }
}

fn condition(word: &str) -> Result<AggregateWhile, ValueError> {
    one_of(word, &[("any", Some(AggregateWhile::Any)), ("all", Some(AggregateWhile::All))])
}
