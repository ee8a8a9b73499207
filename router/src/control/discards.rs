//! Routes of the RIB that discard: those of sources that come and go without a configuration.

use std::collections::{BTreeMap, BTreeSet};

use nearhop_fib::IpPrefix;

use crate::rib::{Candidate, NextHops, Rib, Source};

/// Which prefixes are discarded, and which are to be.
#[derive(Default)]
pub(super) struct Discards {
    offered: BTreeMap<Source, BTreeSet<IpPrefix>>,
    /// Whether each of these is to be discarded, in place of what was before.
    changes: BTreeMap<(Source, IpPrefix), bool>,
}

impl Discards {
    /// A source discards these from now on, and no others.
    pub(super) fn set(&mut self, source: Source, prefixes: &BTreeSet<IpPrefix>) {
        self.changes.retain(|(of, _), _| *of != source);
        let offered = self.offered.entry(source).or_default();
        let gone = offered.difference(prefixes).map(|&prefix| ((source, prefix), false));
        let new = prefixes.difference(offered).map(|&prefix| ((source, prefix), true));
        self.changes.extend(gone.chain(new));
    }

    /// Whether the RIB lacks something of it.
    pub(super) fn is_behind(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Brings up to so many routes to the RIB. Not while a publication is under way.
    pub(super) fn step(&mut self, rib: &mut Rib, routes: usize) {
        for _ in 0..routes {
            let Some(((source, prefix), is_discarded)) = self.changes.pop_first() else { return };
            let offered = self.offered.entry(source).or_default();
            let set = rib.hold(NextHops::Blackhole);
            if is_discarded {
                rib.offer(prefix, Candidate { source, set });
                offered.insert(prefix);
            } else {
                rib.withdraw(prefix, source);
                offered.remove(&prefix);
                // As often as it was held: once just now, and once when it was offered.
                rib.release(set);
                rib.release(set);
            }
        }
    }
}
