//! Reads `bfd`: `true`, or a table of what differs from the defaults and, of a site, with whom.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::{inner_or, inner_or_default};
use crate::bfd::auth::{Authentication, KEY_LEN};
use crate::config::finding::Finding;
use crate::config::model::{Bfd, SiteBfd};
use crate::config::value::{self, ValueError, one_of, text};
use crate::config::walk::{Table, article};

/// `bfd` as written.
pub(in crate::config) struct RawBfd {
    pub(in crate::config) model: Bfd,
    /// Of a site, the addresses of its hosts.
    pub(in crate::config) targets: Vec<Spanned<IpAddr>>,
    /// Position of `multihop`.
    pub(in crate::config) multihop: Option<Range<usize>>,
    /// Position of the value.
    pub(in crate::config) span: Range<usize>,
}

impl RawBfd {
    /// Takes the key `bfd` of a neighbor or a route; `None` without one, or with `false`.
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        Self::read_of(table, false)
    }

    /// Takes the key `bfd` of a site.
    pub(super) fn read_of_site(table: &mut Table<'_>) -> Option<Self> {
        Self::read_of(table, true)
    }

    /// `None` if it has no target.
    pub(super) fn into_site_model(self) -> Option<SiteBfd> {
        let targets: Vec<IpAddr> = self.targets.into_iter().map(Spanned::into_inner).collect();
        (!targets.is_empty()).then_some(SiteBfd { bfd: self.model, targets })
    }

    fn read_of(table: &mut Table<'_>, of_site: bool) -> Option<Self> {
        let report = table.report();
        let node = table.node("bfd")?;
        let span = node.span();
        match node.get_ref() {
            DeValue::Boolean(true) => {
                let model = Bfd::default();
                Some(Self { model, targets: Vec::new(), multihop: None, span })
            }
            DeValue::Boolean(false) => None,
            DeValue::Table(entries) => {
                Some(read_table(Table::new(entries, span.clone(), "bfd", report), of_site))
            }
            other => {
                let found = article(other.type_str());
                let finding = Finding::mistake("bfd is not valid")
                    .at(span, format!("expected true or a table, found {found}"))
                    .help("for example bfd = { interval = \"10ms\", multiplier = 3 }");
                report.add(finding);
                None
            }
        }
    }
}

fn read_table(mut table: Table<'_>, of_site: bool) -> RawBfd {
    let span = table.span();
    let default = Bfd::default();
    let intervals = text("a span of time", value::duration_in(INTERVAL_MIN..=INTERVAL_MAX));
    let interval = inner_or(table.get("interval", intervals), default.interval);
    let multiplier =
        inner_or(table.get("multiplier", value::integer(1..=u8::MAX)), default.multiplier);
    let multihop = if of_site { None } else { table.get("multihop", value::boolean) };
    let targets = if of_site { targets(&mut table) } else { Vec::new() };
    let passive = inner_or_default(table.get("passive", value::boolean));
    let auth = table.table("auth", "auth = { type = \"keyed-sha1\", key-id = 1, key = \"...\" }");
    let auth = auth.and_then(read_auth);
    table.finish();
    let at = multihop.as_ref().map(Spanned::span);
    let multihop = multihop.map(Spanned::into_inner);
    let model = Bfd { interval, multiplier, passive, multihop, auth };
    RawBfd { model, targets, multihop: at, span }
}

/// One address, or a list of them.
fn targets(table: &mut Table<'_>) -> Vec<Spanned<IpAddr>> {
    let read = text("an address", value::address);
    if table.node("target").is_some_and(|node| node.get_ref().is_array()) {
        return table.list("target", read);
    }
    table.get("target", read).into_iter().collect()
}

fn read_auth(mut table: Table<'_>) -> Option<Authentication> {
    let kind = table.need("type", "type = \"meticulous-keyed-sha1\"", text("a word", meticulous));
    let key_id =
        table.need("key-id", "key-id = 1, as the neighbor has it", value::integer(0..=u8::MAX));
    let key = table.need("key", "key = \"...\", as the neighbor has it", text("a string", key));
    table.finish();
    let (kind, key_id, key) = (kind?.into_inner(), key_id?.into_inner(), key?.into_inner());
    Authentication::new(kind, key_id, key.as_bytes())
}

/// Whether each packet has another sequence number.
fn meticulous(word: &str) -> Result<bool, ValueError> {
    one_of(word, &[("keyed-sha1", Some(false)), ("meticulous-keyed-sha1", Some(true))])
}

/// The refusal does not repeat what was written: it is secret.
fn key(text: &str) -> Result<String, ValueError> {
    if (1..=KEY_LEN).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    let expected = format!("expected 1 to {KEY_LEN} octets (RFC 5880)");
    Err(ValueError::new(expected).because(format!("a key of {} octets", text.len())))
}

/// The greatest is what a packet has room for, in whole hours.
const INTERVAL_MIN: Duration = Duration::from_micros(300);
const INTERVAL_MAX: Duration = Duration::from_mins(1);
