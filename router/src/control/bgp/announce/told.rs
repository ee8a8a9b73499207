//! What a neighbour has heard of, and by which path identifiers.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use nearhop_fib::IpPrefix;

use crate::bgp::lane::Change;
use crate::bgp::{Attributes, Nlri};
use crate::ids::NeighborId;

/// Whose path is announced onward, and its identifier there.
pub(super) type PathKey = (NeighborId, u32);

/// What is announced to a neighbour.
#[derive(Clone, Debug, Default)]
pub struct Told {
    paths: BTreeMap<Nlri, ToldPath>,
}

/// A path that is announced.
#[derive(Clone, Debug)]
struct ToldPath {
    attributes: Arc<Attributes>,
    /// `None` is the router's own.
    of: Option<PathKey>,
}

impl Told {
    /// How many paths are announced.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether nothing is announced.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether any path to exactly this prefix is announced.
    pub fn has(&self, prefix: IpPrefix) -> bool {
        self.of(prefix).next().is_some()
    }

    /// The paths to exactly this prefix that are announced.
    pub fn of(&self, prefix: IpPrefix) -> impl Iterator<Item = (Nlri, &Arc<Attributes>)> {
        self.entries(prefix).map(|(nlri, path)| (nlri, &path.attributes))
    }

    /// The first prefix after one that is announced.
    pub fn following(&self, after: Option<IpPrefix>) -> Option<IpPrefix> {
        let last = |prefix| Bound::Excluded(Nlri { prefix, path_id: u32::MAX });
        let from = after.map_or(Bound::Unbounded, last);
        self.paths.range((from, Bound::Unbounded)).next().map(|(nlri, _)| nlri.prefix)
    }

    /// The prefixes of the router's own paths that are announced.
    pub fn own(&self) -> impl Iterator<Item = IpPrefix> {
        self.paths.iter().filter(|(_, path)| path.of.is_none()).map(|(nlri, _)| nlri.prefix)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.paths.clear();
    }

    /// These paths to a prefix are announced from now on, and no others. Adds what the neighbour has to hear to
    /// `changes`: what is another, and all of it if `is_again`. A path keeps its identifier while it is announced.
    pub(super) fn set(
        &mut self,
        prefix: IpPrefix,
        paths: Vec<(Option<PathKey>, Arc<Attributes>)>,
        (is_several, is_again): (bool, bool),
        changes: &mut Vec<Change>,
    ) {
        let known: Vec<(Nlri, Option<PathKey>)> =
            self.entries(prefix).map(|(nlri, path)| (nlri, path.of)).collect();
        let mut wanted: Vec<u32> = Vec::with_capacity(paths.len());
        let mut announced = Vec::with_capacity(paths.len());
        for (of, attributes) in paths {
            let same = known.iter().find(|(_, one)| *one == of).map(|(nlri, _)| nlri.path_id);
            let is_free =
                |id: &u32| known.iter().all(|(one, _)| one.path_id != *id) && !wanted.contains(id);
            let path_id = match same.filter(|_| is_several) {
                Some(same) => same,
                None if is_several => (OWN_PATH..=u32::MAX).find(is_free).unwrap_or(OWN_PATH),
                None => OWN_PATH,
            };
            wanted.push(path_id);
            announced.push((Nlri { prefix, path_id }, ToldPath { attributes, of }));
        }
        for (nlri, _) in known {
            if !wanted.contains(&nlri.path_id) {
                self.paths.remove(&nlri);
                changes.push((nlri, None));
            }
        }
        for (nlri, path) in announced {
            let before = self.paths.get(&nlri);
            if is_again || before.is_none_or(|before| before.attributes != path.attributes) {
                changes.push((nlri, Some(Arc::clone(&path.attributes))));
            }
            self.paths.insert(nlri, path);
        }
    }

    fn entries(&self, prefix: IpPrefix) -> impl Iterator<Item = (Nlri, &ToldPath)> {
        let all = Nlri { prefix, path_id: 0 }..=Nlri { prefix, path_id: u32::MAX };
        self.paths.range(all).map(|(nlri, path)| (*nlri, path))
    }
}

/// The identifier of the router's own path, and of the only one to a neighbour that takes one (RFC 7911). Some
/// take 0 for none.
const OWN_PATH: u32 = 1;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::bgp::NextHop;

    fn route(med: u32) -> Arc<Attributes> {
        let next_hop = NextHop::new(Ipv4Addr::new(192, 0, 2, 1).into());
        Arc::new(Attributes { med: Some(med), ..Attributes::originated(next_hop) })
    }

    /// What a neighbour has to hear, a text for each: `ID MED`, or `-ID`.
    fn heard(told: &mut Told, paths: &[(Option<u32>, u32)], several: bool) -> Vec<String> {
        let prefix = "203.0.113.0/24".parse().unwrap();
        let paths = paths.iter().map(|(of, med)| (of.map(|of| (NeighborId(of), 0)), route(*med)));
        let mut changes = Vec::new();
        told.set(prefix, paths.collect(), (several, false), &mut changes);
        let text = |(nlri, attributes): Change| match attributes {
            Some(attributes) => format!("{} {}", nlri.path_id, attributes.med.unwrap()),
            None => format!("-{}", nlri.path_id),
        };
        changes.into_iter().map(text).collect()
    }

    #[test]
    fn a_path_keeps_its_identifier_and_is_withdrawn_by_it() {
        let mut told = Told::default();
        let both = [(Some(7), 10), (Some(8), 20)];
        assert_eq!(heard(&mut told, &both, true), ["1 10", "2 20"]);
        assert!(heard(&mut told, &both, true).is_empty());
        // The other is better now, and says something else.
        assert_eq!(heard(&mut told, &[(Some(8), 5), (Some(7), 10)], true), ["2 5"]);
        assert_eq!(heard(&mut told, &[(Some(8), 5)], true), ["-1"]);
        assert_eq!(heard(&mut told, &[(Some(9), 1), (Some(8), 5)], true), ["1 1"]);
        // The identifier of one that goes is not another's at once.
        assert_eq!(heard(&mut told, &[(Some(6), 3), (Some(8), 5)], true), ["-1", "3 3"]);
        // The router's own instead of all.
        assert_eq!(heard(&mut told, &[(None, 0)], true), ["-2", "-3", "1 0"]);
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn a_neighbor_that_takes_one_path_hears_of_another_instead() {
        let mut told = Told::default();
        assert_eq!(heard(&mut told, &[(Some(7), 10)], false), ["1 10"]);
        assert!(heard(&mut told, &[(Some(8), 10)], false).is_empty(), "it hears the same");
        assert_eq!(heard(&mut told, &[(Some(7), 20)], false), ["1 20"]);
        assert_eq!(heard(&mut told, &[], false), ["-1"]);
        assert!(told.is_empty());
    }
}
