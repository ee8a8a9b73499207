//! Prefixes of which a neighbour may have to hear something else.

use std::collections::BTreeSet;

use nearhop_fib::IpPrefix;

/// A set of prefixes, or all from one on, which takes no room however many they are.
#[derive(Clone, Debug, Default)]
pub(in crate::control::bgp) struct Stale {
    some: BTreeSet<IpPrefix>,
    rest: Rest,
}

/// Which are, besides those that are listed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Rest {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// All that follow this one.
    After(IpPrefix),
}

impl Stale {
    /// All of them are.
    pub(in crate::control::bgp) fn mark_all(&mut self) {
        self.some.clear();
        self.rest = Rest::All;
    }

    /// This one is.
    pub(super) fn mark(&mut self, prefix: IpPrefix) {
        let is_marked = match self.rest {
            Rest::None => false,
            Rest::All => true,
            Rest::After(after) => prefix > after,
        };
        if !is_marked {
            self.some.insert(prefix);
        }
    }

    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.some.is_empty() && self.rest == Rest::None
    }

    /// Takes one. `following` is the first of all prefixes after one.
    pub(super) fn take(
        &mut self,
        following: impl FnOnce(Option<IpPrefix>) -> Option<IpPrefix>,
    ) -> Option<IpPrefix> {
        if let Some(prefix) = self.some.pop_first() {
            return Some(prefix);
        }
        let next = match self.rest {
            Rest::None => return None,
            Rest::All => following(None),
            Rest::After(after) => following(Some(after)),
        };
        self.rest = next.map_or(Rest::None, Rest::After);
        next
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::*;

    #[test]
    fn each_prefix_comes_once_and_later_marks_are_kept() {
        let prefix = |n: u32| format!("10.0.0.{n}/32").parse::<IpPrefix>().unwrap();
        let all: BTreeSet<IpPrefix> = (1..=4).map(prefix).collect();
        let following = |after: Option<IpPrefix>| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            all.range((from, Bound::Unbounded)).next().copied()
        };
        let mut stale = Stale::default();
        assert!(stale.is_empty() && stale.take(following).is_none());
        stale.mark_all();
        assert_eq!(stale.take(following), Some(prefix(1)));
        assert_eq!(stale.take(following), Some(prefix(2)));
        stale.mark(prefix(1));
        stale.mark(prefix(4));
        let rest: Vec<_> = std::iter::from_fn(|| stale.take(following)).collect();
        assert_eq!(rest, [prefix(1), prefix(3), prefix(4)]);
        assert!(stale.is_empty());
    }
}
