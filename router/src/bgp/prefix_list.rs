//! Lists of prefixes with ranges of lengths.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;

use nearhop_fib::IpPrefix;

/// Prefixes, each with a range of lengths. The first that covers a prefix of a length in its range decides.
/// A lookup takes time for each length among the entries, however many entries there are.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct PrefixList {
    /// In the order in which they are asked.
    entries: Vec<PrefixEntry>,
    /// Which entries a prefix has, in their order; empty for short lists, which are asked one by one.
    by_prefix: HashMap<IpPrefix, Vec<u32>>,
    /// The lengths of these prefixes, the shortest first.
    lengths: Vec<u8>,
}

/// An entry of a prefix list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrefixEntry {
    /// What covers it.
    pub prefix: IpPrefix,
    /// The least length.
    pub ge: u8,
    /// The greatest length.
    pub le: u8,
    /// Whether a prefix in the range is in the list, or is not.
    pub permit: bool,
}

impl PrefixList {
    /// A list of these, asked in this order.
    pub fn new(entries: impl IntoIterator<Item = PrefixEntry>) -> Self {
        let mut list = Self { entries: entries.into_iter().collect(), ..Self::default() };
        if list.entries.len() > SHORT {
            for (at, entry) in (0..).zip(&list.entries) {
                list.by_prefix.entry(entry.prefix).or_default().push(at);
                list.lengths.push(entry.prefix.len());
            }
            list.lengths.sort_unstable();
            list.lengths.dedup();
        }
        list
    }

    /// The entries, in the order in which they are asked.
    pub fn entries(&self) -> &[PrefixEntry] {
        &self.entries
    }

    /// Whether the first entry that decides about `prefix` permits it. No entry is no.
    pub fn contains(&self, prefix: IpPrefix) -> bool {
        self.deciding(prefix).is_some_and(|entry| entry.permit)
    }

    fn deciding(&self, prefix: IpPrefix) -> Option<&PrefixEntry> {
        if self.lengths.is_empty() {
            return self.entries.iter().find(|entry| entry.covers(prefix));
        }
        let around = |len: &u8| IpPrefix::around(prefix.addr(), *len);
        let lengths = self.lengths.iter().take_while(|len| **len <= prefix.len());
        let found = lengths.filter_map(|len| self.by_prefix.get(&around(len)?));
        let first = |places: &Vec<u32>| {
            let fits = |at: &&u32| self.entries[**at as usize].has_length(prefix.len());
            places.iter().find(fits).copied()
        };
        found.filter_map(first).min().map(|at| &self.entries[at as usize])
    }
}

impl PrefixEntry {
    /// Exactly this prefix.
    pub fn exactly(prefix: IpPrefix) -> Self {
        Self { prefix, ge: prefix.len(), le: prefix.len(), permit: true }
    }

    /// This prefix and every longer one in it.
    pub fn or_longer(prefix: IpPrefix) -> Self {
        Self { le: bits(prefix), ..Self::exactly(prefix) }
    }

    fn has_length(&self, len: u8) -> bool {
        (self.ge..=self.le).contains(&len)
    }

    fn covers(&self, other: IpPrefix) -> bool {
        let is_around = match (self.prefix, other) {
            (IpPrefix::V4(own), IpPrefix::V4(other)) => own.covers(other),
            (IpPrefix::V6(own), IpPrefix::V6(other)) => own.covers(other),
            _ => false,
        };
        is_around && self.has_length(other.len())
    }
}

/// As the configuration writes it: `not 10.0.0.0/8 ge 16 le 24`.
impl fmt::Display for PrefixEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, longest) = (self.prefix.len(), bits(self.prefix));
        write!(f, "{}{}", if self.permit { "" } else { "not " }, self.prefix)?;
        // What `le` alone says of the least length is the prefix's own.
        if self.ge != own || self.le == longest && own != longest {
            write!(f, " ge {}", self.ge)?;
        }
        if self.le != longest && self.le != own { write!(f, " le {}", self.le) } else { Ok(()) }
    }
}

impl fmt::Debug for PrefixList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(ToString::to_string)).finish()
    }
}

/// Bits of an address of the prefix's family.
pub(super) fn bits(prefix: IpPrefix) -> u8 {
    match prefix {
        IpPrefix::V4(_) => 32,
        IpPrefix::V6(_) => 128,
    }
}

/// Entries up to which asking each is faster than finding the right ones.
const SHORT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }

    fn entry(text: &str, ge: u8, le: u8, permit: bool) -> PrefixEntry {
        PrefixEntry { prefix: prefix(text), ge, le, permit }
    }

    fn entries() -> Vec<PrefixEntry> {
        vec![
            entry("10.1.0.0/16", 16, 32, false),
            entry("10.0.0.0/8", 16, 24, true),
            entry("2001:db8::/32", 48, 48, true),
        ]
    }

    #[test]
    fn a_prefix_list_looks_at_lengths_and_the_first_entry_decides() {
        // More entries than are asked one by one change nothing about the others.
        let more = (0..20).map(|n| PrefixEntry::exactly(prefix(&format!("192.0.{n}.0/24"))));
        for list in [PrefixList::new(entries()), PrefixList::new(entries().into_iter().chain(more))]
        {
            for (text, expected) in [
                ("10.2.0.0/16", true),
                ("10.2.3.0/24", true),
                ("10.0.0.0/8", false),
                ("10.2.3.0/25", false),
                ("10.1.0.0/16", false),
                ("10.1.2.0/24", false),
                ("11.0.0.0/16", false),
                ("2001:db8:1::/48", true),
                ("2001:db8::/32", false),
                ("2001:db9:1::/48", false),
            ] {
                assert_eq!(list.contains(prefix(text)), expected, "{text} in {list:?}");
            }
        }
        assert!(!PrefixList::default().contains(prefix("10.0.0.0/8")));
    }

    /// The list that looks its entries up agrees with asking one after the other.
    #[test]
    fn a_long_list_answers_as_a_short_one_does() {
        let mut rng = crate::random::Rng::new(7);
        let mut draw = |most: u64| rng.below(most) as u32;
        for _ in 0..50 {
            let entries: Vec<PrefixEntry> = (0..40)
                .map(|_| {
                    let len = draw(9) as u8;
                    let addr = std::net::Ipv4Addr::from(draw(256) << 24).into();
                    let ge = len + draw(3) as u8;
                    let le = ge + draw(4) as u8;
                    let prefix = IpPrefix::around(addr, len).unwrap();
                    PrefixEntry { prefix, ge, le, permit: draw(2) == 0 }
                })
                .collect();
            let list = PrefixList::new(entries.clone());
            for _ in 0..500 {
                let addr = std::net::Ipv4Addr::from(draw(1 << 16) << 16).into();
                let one = IpPrefix::around(addr, draw(13) as u8).unwrap();
                let slow = entries.iter().find(|entry| entry.covers(one));
                assert_eq!(list.contains(one), slow.is_some_and(|entry| entry.permit), "{one}");
            }
        }
    }

    #[test]
    fn an_entry_is_written_as_it_is_configured() {
        for (one, text) in [
            (entry("10.0.0.0/8", 8, 8, true), "10.0.0.0/8"),
            (entry("10.0.0.0/8", 8, 24, true), "10.0.0.0/8 le 24"),
            (entry("10.0.0.0/8", 8, 32, true), "10.0.0.0/8 ge 8"),
            (entry("10.0.0.0/8", 16, 24, false), "not 10.0.0.0/8 ge 16 le 24"),
            (entry("10.0.0.1/32", 32, 32, true), "10.0.0.1/32"),
            (entry("2001:db8::/32", 48, 128, true), "2001:db8::/32 ge 48"),
        ] {
            assert_eq!(one.to_string(), text);
        }
    }
}
