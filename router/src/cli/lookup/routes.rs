//! The routing table read from a file.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use nearhop_fib::{Group, GroupId, IpPrefix, WriteError, Writer, fib};

use super::input::Lines;
use crate::cli::output::Failure;

/// Every prefix of a file with its next hop.
pub(super) struct Routes {
    fib: Writer,
    /// Prefix and next hop by group number. Each prefix has a group of its own, so a lookup
    /// identifies the prefix.
    entries: Vec<(IpPrefix, Arc<[u8]>)>,
    names: HashSet<Arc<[u8]>>,
}

impl Routes {
    /// Reads `path`, or standard input for `-`. Any invalid line refuses the whole file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let name =
            if path == Path::new("-") { "<stdin>".into() } else { path.display().to_string() };
        let unreadable =
            |error: std::io::Error| Failure::usage(format!("cannot read {name}: {error}"));
        let mut lines = Lines::open(path).map_err(unreadable)?;
        let mut routes = Self { fib: fib(1).0, entries: Vec::new(), names: HashSet::new() };
        let mut wrong = Vec::new();
        while wrong.len() < WRONG_SHOWN {
            let line = match lines.next() {
                Ok(None) => break,
                Ok(Some(line)) => line,
                Err(error) => {
                    wrong.push(format!("{name}:{}: {error}", lines.number()));
                    break;
                }
            };
            if let Err(reason) = routes.take(line) {
                wrong.push(format!("{name}:{}: {reason}", lines.number()));
            }
        }
        if wrong.is_empty() { Ok(routes) } else { Err(Failure::usage(wrong.join("\nerror: "))) }
    }

    /// The longest prefix that covers `addr`, and its next hop.
    pub(super) fn find(&self, addr: IpAddr) -> Option<(IpPrefix, &[u8])> {
        let GroupId(number) = self.fib.lookup(addr);
        let (prefix, next_hop) = self.entries.get(number as usize)?;
        Some((*prefix, next_hop))
    }

    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let Some((prefix, next_hop)) = parse(line)? else { return Ok(()) };
        let next_hop = self.name(next_hop);
        if let Some(GroupId(known)) = self.fib.get(prefix) {
            self.entries[known as usize].1 = next_hop;
            return Ok(());
        }
        self.insert(prefix).map_err(|error| error.to_string())?;
        self.entries.push((prefix, next_hop));
        Ok(())
    }

    fn insert(&mut self, prefix: IpPrefix) -> Result<(), WriteError> {
        let group = self.fib.add_group(&Group::Blackhole)?;
        debug_assert_eq!(
            group.0 as usize,
            self.entries.len(),
            "ids count up while none is removed"
        );
        self.fib.insert(prefix, group).map(drop)
    }

    /// Stores each distinct next hop once: there are few, and many routes.
    fn name(&mut self, word: &[u8]) -> Arc<[u8]> {
        if let Some(name) = self.names.get(word) {
            return Arc::clone(name);
        }
        let name: Arc<[u8]> = word.into();
        self.names.insert(Arc::clone(&name));
        name
    }
}

/// Parses `PREFIX NEXTHOP`; `None` for a blank line or a comment.
fn parse(line: &[u8]) -> Result<Option<(IpPrefix, &[u8])>, String> {
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    let mut words = line.split(blank).filter(|word| !word.is_empty());
    let Some(prefix) = words.next().filter(|word| !word.starts_with(b"#")) else {
        return Ok(None);
    };
    let Some(next_hop) = words.next().filter(|word| !word.starts_with(b"#")) else {
        return Err("expected PREFIX NEXTHOP, found one word".into());
    };
    if let Some(more) = words.next().filter(|word| !word.starts_with(b"#")) {
        let more = String::from_utf8_lossy(more);
        return Err(format!("expected PREFIX NEXTHOP, found a third word, {more:?}"));
    }
    let text = str::from_utf8(prefix).map_err(|_| "the prefix is not UTF-8".to_owned())?;
    if !text.contains('/') {
        return Err(format!("{text:?} is not a prefix: it has no /LENGTH"));
    }
    let prefix = text.parse().map_err(|error| format!("{text:?} is not a prefix: {error}"))?;
    Ok(Some((prefix, next_hop)))
}

/// The most invalid lines shown before reading stops.
const WRONG_SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_a_prefix_and_a_word() {
        for (line, want) in [
            ("10.0.0.0/8 fra", Some(("10.0.0.0/8", "fra"))),
            ("2001:DB8::/32\t \tnh#1", Some(("2001:db8::/32", "nh#1"))),
            ("0.0.0.0/0 a # the default", Some(("0.0.0.0/0", "a"))),
            ("", None),
            ("# 10.0.0.0/8 fra", None),
            ("#", None),
        ] {
            let parsed = parse(line.as_bytes()).unwrap();
            let parsed =
                parsed.map(|(p, n)| (p.to_string(), String::from_utf8_lossy(n).into_owned()));
            assert_eq!(parsed, want.map(|(p, n)| (p.into(), n.into())), "{line}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (line, reason) in [
            (&b"10.0.0.1/8 fra"[..], "host bits are set: the prefix is 10.0.0.0/8"),
            (b"10.0.0.0 fra", "it has no /LENGTH"),
            (b"10.0.0.0/33 fra", "the prefix length must be 0 to 32"),
            (b"10.0.0.0/8", "found one word"),
            (b"10.0.0.0/8 # fra", "found one word"),
            (b"10.0.0.0/8 a b", "a third word, \"b\""),
            (b"fra 10.0.0.0/8", "it has no /LENGTH"),
            (b"a/8 fra", "not an IP address"),
            (b"\xff/8 fra", "not UTF-8"),
        ] {
            let said = parse(line).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }
}
