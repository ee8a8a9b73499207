//! A source's table becomes another, some routes at a time.

use std::sync::Arc;

use nearhop_fib::{Addr, IpPrefix, Prefix};

use super::table::{Entry, Prefixes};
use super::{Candidate, Rib, SetId, Source};

/// What a source offers.
#[derive(Clone, Debug, Default)]
pub struct Offered {
    /// Its prefixes.
    pub prefixes: Arc<Prefixes>,
    /// The set of each target.
    pub sets: Vec<SetId>,
}

/// The way from one table of a source to the next. Holds the sets of the first until it is done.
#[derive(Debug)]
pub struct Feed {
    source: Source,
    old: Offered,
    new: Offered,
    v4: Place,
    v6: Place,
}

/// How far two lists are merged.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    old: usize,
    new: usize,
}

impl Feed {
    /// From what a source offers to what it will.
    pub fn new(source: Source, old: Offered, new: Offered) -> Self {
        Self { source, old, new, v4: Place::default(), v6: Place::default() }
    }

    /// Merges up to about `budget` routes. Returns whether all are; then the sets of the first table are
    /// released.
    pub fn step(&mut self, rib: &mut Rib, budget: usize) -> bool {
        let Self { source, old, new, v4, v6 } = self;
        let sets = (&*old.sets, &*new.sets);
        let mut change = |prefix: IpPrefix, set: Option<SetId>| match set {
            Some(set) => {
                rib.offer(prefix, Candidate { source: *source, set });
            }
            None => rib.withdraw(prefix, *source),
        };
        let of_v4 = (&*old.prefixes.v4, &*new.prefixes.v4);
        let of_v6 = (&*old.prefixes.v6, &*new.prefixes.v6);
        let left = v4.merge(of_v4, sets, budget, |prefix, set| change(IpPrefix::V4(prefix), set));
        let left = v6.merge(of_v6, sets, left, |prefix, set| change(IpPrefix::V6(prefix), set));
        let done = left > 0;
        if done {
            old.sets.drain(..).for_each(|set| rib.release(set));
            old.prefixes = Arc::default();
        }
        done
    }
}

impl Place {
    /// Passes on the prefixes whose set differs. Returns what is left of the budget.
    fn merge<A: Addr>(
        &mut self,
        (old, new): (&[Entry<A>], &[Entry<A>]),
        (old_sets, new_sets): (&[SetId], &[SetId]),
        budget: usize,
        mut change: impl FnMut(Prefix<A>, Option<SetId>),
    ) -> usize {
        for left in (1..=budget).rev() {
            let (before, after) = (old.get(self.old), new.get(self.new));
            let first = match (before, after) {
                (None, None) => return left,
                (Some(before), Some(after)) => before.prefix.min(after.prefix),
                (Some(one), None) | (None, Some(one)) => one.prefix,
            };
            let set_of = |entry: Option<&Entry<A>>, sets: &[SetId], at: &mut usize| {
                let entry = entry.filter(|entry| entry.prefix == first)?;
                *at += 1;
                sets.get(entry.target as usize).copied()
            };
            let was = set_of(before, old_sets, &mut self.old);
            let is = set_of(after, new_sets, &mut self.new);
            if was != is {
                change(first, is);
            }
        }
        0
    }
}
