//! Reads `[[bgp.playbook]]` and its steps.
#![forbid(unsafe_code)]

use std::ops::Range;

use nearhop_fib::IpPrefix;
use toml::Spanned;

use super::announce::RawAdditions;
use super::inner_or_default;
use crate::config::model::{Playbook, PlaybookStep};
use crate::config::value::{self, text};
use crate::config::walk::Table;

/// A playbook as written.
pub(in crate::config) struct RawPlaybook {
    /// `None` if missing or invalid.
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) steps: Vec<RawPlaybookStep>,
    /// Position of `[[bgp.playbook]]`.
    pub(in crate::config) span: Range<usize>,
}

/// A step of one as written.
pub(in crate::config) struct RawPlaybookStep {
    pub(in crate::config) neighbors: Vec<Spanned<String>>,
    pub(in crate::config) services: Vec<Spanned<String>>,
    pub(in crate::config) prefixes: Vec<Spanned<IpPrefix>>,
    pub(in crate::config) additions: RawAdditions,
    /// Position of `[[bgp.playbook.step]]`.
    pub(in crate::config) span: Range<usize>,
    withdraw: bool,
}

impl RawPlaybook {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let name = table.need("name", "name = \"leave-transit\"", text("a name", value::name));
        let raw = Self {
            name,
            steps: table
                .tables("step", "[[bgp.playbook.step]]")
                .into_iter()
                .map(RawPlaybookStep::read)
                .collect(),
            span: table.span(),
        };
        table.finish();
        raw
    }

    pub(super) fn into_model(self) -> Playbook {
        Playbook {
            name: inner_or_default(self.name),
            steps: self.steps.into_iter().map(RawPlaybookStep::into_model).collect(),
        }
    }
}

impl RawPlaybookStep {
    fn read(mut table: Table<'_>) -> Self {
        let raw = Self {
            neighbors: table.list("neighbors", text("a neighbor's name", value::name)),
            services: table.list("services", text("a service's name", value::name)),
            prefixes: table.list("prefixes", text("a prefix", value::prefix)),
            additions: RawAdditions::read(&mut table),
            withdraw: inner_or_default(table.get("withdraw", value::boolean)),
            span: table.span(),
        };
        table.finish();
        raw
    }

    /// Whether it changes nothing.
    pub(in crate::config) fn is_idle(&self) -> bool {
        !self.withdraw && self.additions.is_empty()
    }

    /// Whether it withdraws, and says something of what it withdraws.
    pub(in crate::config) fn contradicts_itself(&self) -> bool {
        self.withdraw && !self.additions.is_empty()
    }

    fn into_model(self) -> PlaybookStep {
        PlaybookStep {
            neighbors: self.neighbors.into_iter().map(Spanned::into_inner).collect(),
            services: self.services.into_iter().map(Spanned::into_inner).collect(),
            prefixes: self.prefixes.into_iter().map(Spanned::into_inner).collect(),
            withdraw: self.withdraw,
            additions: self.additions.into_model(),
        }
    }
}
