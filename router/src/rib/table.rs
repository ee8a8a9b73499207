//! The routes of one source, sorted.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nearhop_fib::{Addr, IpPrefix, Prefix};

/// A prefix, and the number of its target.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Entry<A> {
    /// The prefix.
    pub prefix: Prefix<A>,
    /// Which of the table's targets.
    pub target: u32,
}

impl<A: Addr> fmt::Debug for Entry<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.prefix, self.target)
    }
}

/// Prefixes, each once, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Prefixes {
    /// IPv4.
    pub v4: Vec<Entry<Ipv4Addr>>,
    /// IPv6.
    pub v6: Vec<Entry<Ipv6Addr>>,
}

/// Routes: prefixes that share targets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteTable<T> {
    /// The prefixes.
    pub prefixes: Arc<Prefixes>,
    /// The targets, each once.
    pub targets: Vec<T>,
}

/// Collects routes in any order.
pub struct Builder<T> {
    prefixes: Prefixes,
    targets: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { prefixes: Arc::default(), targets: Vec::new() }
    }
}

impl<T> RouteTable<T> {
    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.prefixes.v4.len() + self.prefixes.v6.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All routes in order, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = (IpPrefix, &T)> {
        let v4 = self.prefixes.v4.iter().map(|e| (IpPrefix::V4(e.prefix), e.target));
        let v6 = self.prefixes.v6.iter().map(|e| (IpPrefix::V6(e.prefix), e.target));
        v4.chain(v6).map(|(prefix, target)| (prefix, &self.targets[target as usize]))
    }

    /// The target of exactly this prefix.
    pub fn get(&self, prefix: IpPrefix) -> Option<&T> {
        let target = match prefix {
            IpPrefix::V4(prefix) => {
                let at =
                    self.prefixes.v4.binary_search_by_key(&prefix, |entry| entry.prefix).ok()?;
                self.prefixes.v4[at].target
            }
            IpPrefix::V6(prefix) => {
                let at =
                    self.prefixes.v6.binary_search_by_key(&prefix, |entry| entry.prefix).ok()?;
                self.prefixes.v6[at].target
            }
        };
        Some(&self.targets[target as usize])
    }
}

impl<T: Clone + Eq + Hash> Builder<T> {
    /// Without routes.
    pub fn new() -> Self {
        Self { prefixes: Prefixes::default(), targets: Vec::new(), numbers: HashMap::new() }
    }

    /// The number of a target.
    pub fn target(&mut self, target: T) -> u32 {
        *self.numbers.entry(target).or_insert_with_key(|target| {
            self.targets.push(target.clone());
            self.targets.len() as u32 - 1
        })
    }

    /// Adds a route. Of two to one prefix, the last counts.
    pub fn add(&mut self, prefix: IpPrefix, target: u32) {
        match prefix {
            IpPrefix::V4(prefix) => self.prefixes.v4.push(Entry { prefix, target }),
            IpPrefix::V6(prefix) => self.prefixes.v6.push(Entry { prefix, target }),
        }
    }

    /// All of them, in order.
    pub fn finish(mut self) -> RouteTable<T> {
        sort(&mut self.prefixes.v4);
        sort(&mut self.prefixes.v6);
        RouteTable { prefixes: Arc::new(self.prefixes), targets: self.targets }
    }
}

impl<T: Clone + Eq + Hash> Default for Builder<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash> FromIterator<(IpPrefix, T)> for RouteTable<T> {
    fn from_iter<I: IntoIterator<Item = (IpPrefix, T)>>(routes: I) -> Self {
        let mut builder = Builder::new();
        for (prefix, target) in routes {
            let target = builder.target(target);
            builder.add(prefix, target);
        }
        builder.finish()
    }
}

/// In order, each prefix once: the last of several.
fn sort<A: Addr>(entries: &mut Vec<Entry<A>>) {
    // Stable, so that the last of several stays the last.
    entries.sort_by_key(|entry| entry.prefix);
    entries.dedup_by(|later, kept| {
        let same = later.prefix == kept.prefix;
        if same {
            kept.target = later.target;
        }
        same
    });
    entries.shrink_to_fit();
}
