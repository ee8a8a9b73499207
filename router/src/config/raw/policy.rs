//! Reads `[[bgp.policy]]` and its rules.
#![forbid(unsafe_code)]

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::bgp::asn;
use super::inner_or_default;
use crate::bgp::policy::{Change, Match, Policy, PolicyRule, Then};
use crate::bgp::{Community, LargeCommunity, NextHop, PrefixEntry, PrefixList};
use crate::config::value::{self, ValueError, one_of, text};
use crate::config::walk::Table;

/// A policy as written.
pub(in crate::config) struct RawPolicy {
    /// `None` if missing or invalid.
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) rules: Vec<RawRule>,
    /// Position of `[[bgp.policy]]`.
    pub(in crate::config) span: Range<usize>,
}

/// A rule as written.
pub(in crate::config) struct RawRule {
    /// `None` if missing or invalid.
    pub(in crate::config) name: Option<Spanned<String>>,
    /// Of `prefixes`, and of those in `not`.
    pub(in crate::config) prefixes: [Vec<Spanned<PrefixEntry>>; 2],
    pub(in crate::config) then: Option<Spanned<Then>>,
    pub(in crate::config) matches: Vec<Match>,
    /// Position of `[[bgp.policy.rule]]`.
    pub(in crate::config) span: Range<usize>,
    changes: Vec<Change>,
    prepend: Option<Prepend>,
}

/// Without an AS, the router's own.
#[derive(Clone, Copy)]
struct Prepend {
    asn: Option<u32>,
    times: u8,
}

/// A community of either size.
#[derive(Clone, Copy)]
enum AnyCommunity {
    Plain(Community),
    Large(LargeCommunity),
}

/// Reads every `[[bgp.policy]]`.
pub(super) fn policies(bgp: &mut Table<'_>) -> Vec<RawPolicy> {
    bgp.tables("policy", "[[bgp.policy]]").into_iter().map(RawPolicy::read).collect()
}

impl RawPolicy {
    fn read(mut table: Table<'_>) -> Self {
        let name = table.need("name", "name = \"from-peers\"", text("a name", value::name));
        let rules = table.tables("rule", "[[bgp.policy.rule]]");
        let rules = rules.into_iter().map(RawRule::read).collect();
        let span = table.span();
        table.finish();
        Self { name, rules, span }
    }

    pub(super) fn into_model(self, own_as: u32) -> Policy {
        let rules = self.rules.into_iter().map(|rule| rule.into_model(own_as)).collect();
        Policy { name: inner_or_default(self.name), rules }
    }
}

impl RawRule {
    fn read(mut table: Table<'_>) -> Self {
        let name = table.need("name", "name = \"customers\"", text("a name", value::name));
        let (mut matches, prefixes) = read_matches(&mut table);
        let mut not_prefixes = Vec::new();
        if let Some(mut not) = table.table("not", "not = { ... }") {
            let (none_of, prefixes) = read_matches(&mut not);
            not.finish();
            matches.push(Match::Not(none_of));
            not_prefixes = prefixes;
        }
        let changes = read_changes(&mut table);
        let prepend = table.get("prepend", prepend).map(Spanned::into_inner);
        let example = "then = \"accept\", \"next\" or \"refuse\"";
        let then = table.need("then", example, text("a word", then));
        let span = table.span();
        table.finish();
        Self { name, prefixes: [prefixes, not_prefixes], then, matches, span, changes, prepend }
    }

    /// Whether it changes anything.
    pub(in crate::config) fn has_changes(&self) -> bool {
        !self.changes.is_empty() || self.prepend.is_some()
    }

    fn into_model(self, own_as: u32) -> PolicyRule {
        let prepend = self
            .prepend
            .map(|Prepend { asn, times }| Change::Prepend { asn: asn.unwrap_or(own_as), times });
        PolicyRule {
            name: inner_or_default(self.name),
            matches: self.matches,
            changes: self.changes.into_iter().chain(prepend).collect(),
            then: self.then.map_or(Then::Refuse, Spanned::into_inner),
        }
    }
}

/// The matches of a rule or of its `not`, and where the entries of its prefix list stand.
fn read_matches(table: &mut Table<'_>) -> (Vec<Match>, Vec<Spanned<PrefixEntry>>) {
    let mut matches = Vec::new();
    // Of several values one has to fit.
    let mut any = |mut values: Vec<Match>| match values.len() {
        0 => {}
        1 => matches.append(&mut values),
        _ => matches.push(Match::Any(values)),
    };
    let prefixes = table.list("prefixes", text("a prefix", prefix_entry));
    if !prefixes.is_empty() {
        let entries = prefixes.iter().map(|entry| *entry.get_ref());
        any(vec![Match::Prefix(PrefixList::new(entries))]);
    }
    any(each(table, "origin-as", origin).into_iter().map(Match::OriginAs).collect());
    any(each(table, "first-as", asn).into_iter().map(Match::FirstAs).collect());
    any(each(table, "as-in-path", asn).into_iter().map(Match::AsInPath).collect());
    let longest = table.get("path-length-max", value::integer(0..=PATH_LENGTH_MAX));
    any(longest.map(|max| Match::PathLengthMax(max.into_inner())).into_iter().collect());
    let plain = table.list("communities", text("a community", community));
    any(plain.into_iter().map(|one| Match::Community(one.into_inner())).collect());
    let large = table.list("large-communities", text("a large community", large_community));
    any(large.into_iter().map(|one| Match::LargeCommunity(one.into_inner())).collect());
    (matches, prefixes)
}

fn read_changes(table: &mut Table<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    let local_pref = table.get("local-pref", value::integer(0..=u32::MAX));
    changes.extend(local_pref.map(|value| Change::LocalPref(value.into_inner())));
    changes.extend(table.get("med", med).map(|value| Change::Med(value.into_inner())));
    let next_hop = table.get("next-hop", text("an address", value::address));
    changes.extend(next_hop.map(|addr| Change::NextHop(NextHop::new(addr.into_inner()))));
    let is_word = table.node("remove-communities").is_some_and(|node| node.get_ref().is_str());
    if is_word {
        let found = table.get("remove-communities", text("a word", all_communities));
        changes.extend(found.map(|_| Change::RemoveCommunities));
    } else {
        let removed = table.list("remove-communities", text("a community", any_community));
        changes.extend(removed.into_iter().map(|one| match one.into_inner() {
            AnyCommunity::Plain(one) => Change::RemoveCommunity(one),
            AnyCommunity::Large(one) => Change::RemoveLargeCommunity(one),
        }));
    }
    let added = table.list("add-communities", text("a community", community));
    changes.extend(added.into_iter().map(|one| Change::AddCommunity(one.into_inner())));
    let added = table.list("add-large-communities", text("a large community", large_community));
    changes.extend(added.into_iter().map(|one| Change::AddLargeCommunity(one.into_inner())));
    changes
}

/// A value, or a list of them.
fn each<'t, T>(
    table: &mut Table<'t>,
    key: &'static str,
    read: impl Fn(&DeValue<'t>) -> Result<T, ValueError>,
) -> Vec<T> {
    if table.node(key).is_some_and(|node| node.get_ref().is_array()) {
        return table.list(key, read).into_iter().map(Spanned::into_inner).collect();
    }
    table.get(key, read).map(Spanned::into_inner).into_iter().collect()
}

/// An entry of a prefix list: `PREFIX`, then `ge N` and `le N`; `not` before it takes out what fits.
fn prefix_entry(text: &str) -> Result<PrefixEntry, ValueError> {
    let mut words = text.split_whitespace().peekable();
    let permit = words.next_if_eq(&"not").is_none();
    let prefix = value::prefix(words.next().unwrap_or_default())?;
    let (own, longest) = (prefix.len(), PrefixEntry::or_longer(prefix).le);
    let (mut ge, mut le) = (None, None);
    while let Some(word) = words.next() {
        let bound = match word {
            "ge" if ge.is_none() => &mut ge,
            "le" if le.is_none() => &mut le,
            "ge" | "le" => return Err(ValueError::new(format!("{word} is given twice"))),
            _ => {
                return Err(ValueError::new("expected \"[not] PREFIX [ge N] [le N]\"")
                    .because(format!("{word:?} is neither ge nor le"))
                    .help(
                        "for example \"10.0.0.0/8 ge 16 le 24\": prefixes of 16 to 24 bits in it",
                    ));
            }
        };
        let number = words.next().and_then(|word| word.parse::<u8>().ok());
        let Some(number) = number.filter(|number| (own..=longest).contains(number)) else {
            let label = format!("expected {word} {own} to {word} {longest}");
            let why = "a prefix in it has as many bits at least, and an address at most";
            return Err(ValueError::new(label).because(why));
        };
        *bound = Some(number);
    }
    let (least, most) = (ge.unwrap_or(own), le.unwrap_or(if ge.is_some() { longest } else { own }));
    if least > most {
        let fault = ValueError::new(format!("ge {least} is more than le {most}"));
        return Err(fault.because("no prefix fits").help(format!("write ge {most} le {least}")));
    }
    Ok(PrefixEntry { prefix, ge: least, le: most, permit })
}

/// An AS; `local` is the neighbor's own, of which there is none in the path.
fn origin(value: &DeValue<'_>) -> Result<Option<u32>, ValueError> {
    match value.as_str() {
        Some(word) => one_of(word, &[("local", Some(()))]).map(|()| None),
        None => asn(value).map(Some),
    }
}

fn med(value: &DeValue<'_>) -> Result<Option<u32>, ValueError> {
    match value.as_str() {
        Some(word) => one_of(word, &[("none", Some(()))]).map(|()| None),
        None => value::integer(0..=u32::MAX)(value).map(Some),
    }
}

fn then(word: &str) -> Result<Then, ValueError> {
    let words = [
        ("accept", Some(Then::Accept)),
        ("next", Some(Then::Next)),
        ("refuse", Some(Then::Refuse)),
    ];
    one_of(word, &words)
}

fn all_communities(word: &str) -> Result<(), ValueError> {
    one_of(word, &[("all", Some(()))])
        .map_err(|fault| fault.help("or a list, such as [\"65001:7\"]"))
}

/// A number of times, or `{ as = 65001, times = 2 }`.
fn prepend(value: &DeValue<'_>) -> Result<Prepend, ValueError> {
    let times = value::integer(1..=PREPEND_MAX);
    let DeValue::Table(entries) = value else {
        return times(value)
            .map(|times| Prepend { asn: None, times })
            .map_err(|fault| fault.help("for another AS, write { as = 65001, times = 2 }"));
    };
    let expected = || ValueError::new("expected { as = 65001, times = 2 }");
    let mut prepend = Prepend { asn: None, times: 1 };
    for (key, value) in entries {
        match key.get_ref().as_ref() {
            "as" => prepend.asn = Some(asn(value.get_ref())?),
            "times" => prepend.times = times(value.get_ref())?,
            other => return Err(expected().because(format!("{other:?} is not known"))),
        }
    }
    if prepend.asn.is_none() { Err(expected().because("the AS is missing")) } else { Ok(prepend) }
}

fn any_community(text: &str) -> Result<AnyCommunity, ValueError> {
    if text.split(':').count() == 3 {
        return large_community(text).map(AnyCommunity::Large);
    }
    community(text).map(AnyCommunity::Plain)
}

/// `HIGH:LOW`, or the name of a well-known one.
pub(in crate::config) fn community(text: &str) -> Result<Community, ValueError> {
    if let Some((_, known)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
        return Ok(*known);
    }
    let parts: Vec<&str> = text.split(':').collect();
    let halves: Vec<u16> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    if let ([high, low], 2) = (&halves[..], parts.len()) {
        return Ok(Community::new(*high, *low));
    }
    let fault = ValueError::new("expected two numbers up to 65535, such as \"65001:7\"")
        .because(format!("{text:?} is not a community"));
    Err(match parts.len() {
        3 => fault.help("this is a large community: it goes into the list of these"),
        2 if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') => {
            fault.help("a larger AS has large communities: \"4200000000:7:1\"")
        }
        _ => {
            let names: Vec<&str> = WELL_KNOWN.iter().map(|(name, _)| *name).collect();
            fault.help(format!("or a name: {}", names.join(", ")))
        }
    })
}

/// `AS:NUMBER:NUMBER`.
pub(in crate::config) fn large_community(text: &str) -> Result<LargeCommunity, ValueError> {
    let parts: Vec<Option<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    match parts[..] {
        [Some(global), Some(one), Some(two)] => Ok(LargeCommunity { global, local: [one, two] }),
        _ => Err(ValueError::new("expected three numbers, such as \"4200000000:7:1\"")
            .because(format!("{text:?} is not a large community"))),
    }
}

const WELL_KNOWN: [(&str, Community); 5] = [
    ("no-export", Community::NO_EXPORT),
    ("no-advertise", Community::NO_ADVERTISE),
    ("no-export-subconfed", Community::NO_EXPORT_SUBCONFED),
    ("graceful-shutdown", Community::GRACEFUL_SHUTDOWN),
    ("blackhole", Community::BLACKHOLE),
];

/// ASes in a path that a rule may ask for.
const PATH_LENGTH_MAX: usize = 10_000;

/// Longer paths are refused by many (RFC 7454 has no number; 50 is usual).
const PREPEND_MAX: u8 = 32;
