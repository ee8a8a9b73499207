//! Routes that are taken only where there is no other.
#![forbid(unsafe_code)]

use super::{Attributes, Community};

impl Attributes {
    /// Adds communities, each of which it does not have already.
    pub fn add_communities(&mut self, added: &[Community]) {
        let known = &self.communities;
        let new: Vec<Community> =
            added.iter().filter(|one| !known.contains(one)).copied().collect();
        if !new.is_empty() {
            self.communities = known.iter().copied().chain(new).collect();
        }
    }

    /// Makes it a route that is taken only where there is no other: by GRACEFUL_SHUTDOWN, and, as neighbours
    /// need not honour that (RFC 8326), by all else that a neighbour compares. `own_as` is this router's;
    /// `None` within the AS.
    pub fn deprioritise(&mut self, own_as: Option<u32>) {
        self.add_communities(&[Community::GRACEFUL_SHUTDOWN]);
        self.med = Some(u32::MAX);
        match own_as {
            None => self.local_pref = Some(0),
            Some(asn) => self.as_path = self.as_path.prepend(asn, PREPENDED),
        }
    }

    /// Whether it was deprioritised already, or is of the kind that means something else.
    pub fn is_deprioritised(&self) -> bool {
        self.communities.contains(&Community::GRACEFUL_SHUTDOWN)
    }
}

/// ASes that a deprioritised route has more than others.
const PREPENDED: u8 = 3;
