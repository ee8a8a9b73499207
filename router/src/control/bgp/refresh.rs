//! Refreshes whose begin and end a neighbour marks (RFC 7313): what it does not announce in between is gone.

use std::collections::{BTreeSet, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use nearhop_fib::{IpPrefix, Prefix};

use super::Bgp;
use crate::bgp::session::Received;
use crate::bgp::table::Paths;
use crate::bgp::{FAMILIES, Nlri, PerFamily};
use crate::ids::{Family, NeighborId};
use crate::time::Nanos;

/// The refreshes of a neighbour that are under way.
#[derive(Debug, Default)]
pub(super) struct Refreshes(PerFamily<Option<Refresh>>);

/// A refresh of one family.
#[derive(Debug, Default)]
struct Refresh {
    /// What was announced since it began. Paths need no mark of their own: most are never refreshed.
    fresh: HashSet<Nlri>,
    progress: Progress,
    /// When it ends by itself; `None` until time was first looked at.
    due: Option<Nanos>,
}

/// How far a refresh is.
#[derive(Clone, Copy, Debug, Default)]
enum Progress {
    /// Its end has not come.
    #[default]
    Receiving,
    /// Its end has come: stale paths are looked for after this prefix.
    Sweeping { after: Option<IpPrefix> },
}

impl Refreshes {
    /// A refresh begins, or begins again; or it ends. Returns whether there is something to sweep.
    pub(super) fn note(&mut self, received: &Received) -> bool {
        match received {
            Received::RefreshBegin(family) => *self.0.of_mut(*family) = Some(Refresh::default()),
            Received::RefreshEnd(family) => {
                if let Some(refresh) = self.0.of_mut(*family) {
                    refresh.progress = Progress::Sweeping { after: before(*family) };
                    return true;
                }
            }
            Received::Update(_) => {}
        }
        false
    }

    /// Ends refreshes whose end has not come for [`RECEIVING_MAX`]: what was not announced in that time is gone.
    /// Returns whether there is something to sweep.
    pub(super) fn expire(&mut self, now: Nanos) -> bool {
        let mut any = false;
        for family in FAMILIES {
            let Some(refresh) = self.0.of_mut(family) else { continue };
            if matches!(refresh.progress, Progress::Receiving)
                && *refresh.due.get_or_insert(now + RECEIVING_MAX) <= now
            {
                refresh.progress = Progress::Sweeping { after: before(family) };
                any = true;
            }
        }
        any
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn due(&self) -> Option<Nanos> {
        let of = |family| {
            let refresh = self.0.of(family).as_ref()?;
            refresh.due.filter(|_| matches!(refresh.progress, Progress::Receiving))
        };
        FAMILIES.into_iter().filter_map(of).min()
    }

    /// The neighbour announces a path.
    pub(super) fn announced(&mut self, nlri: Nlri) {
        if let Some(refresh) = self.0.of_mut(nlri.family()) {
            refresh.fresh.insert(nlri);
        }
    }

    /// Looks at up to `budget` prefixes of a neighbour, and returns how many it looked at, the paths that
    /// are stale, and whether it has seen all.
    fn sweep(&mut self, id: NeighborId, paths: &Paths, budget: usize) -> (usize, Vec<Nlri>, bool) {
        let (mut looked_at, mut stale) = (0, Vec::new());
        for family in FAMILIES {
            let Some(refresh) = self.0.of_mut(family) else { continue };
            let Progress::Sweeping { after } = refresh.progress else { continue };
            let of_family = |prefix: &IpPrefix| Family::of(prefix.addr()) == family;
            for prefix in paths.prefixes_after(after, Some(id)).take_while(of_family) {
                if looked_at == budget {
                    return (looked_at, stale, false);
                }
                looked_at += 1;
                refresh.progress = Progress::Sweeping { after: Some(prefix) };
                let own = paths.of(prefix).filter(|found| found.neighbor == id);
                let nlri = own.map(|found| Nlri { prefix, path_id: found.path_id });
                stale.extend(nlri.filter(|nlri| !refresh.fresh.contains(nlri)));
            }
            *self.0.of_mut(family) = None;
        }
        (looked_at, stale, true)
    }
}

impl Bgp {
    /// Removes stale paths of neighbours whose refreshes have ended, looking at up to `budget` prefixes.
    /// Returns how many it looked at, and the prefixes that changed.
    pub(super) fn sweep_some(&mut self, budget: usize) -> (usize, BTreeSet<IpPrefix>) {
        let (mut left, mut changed) = (budget, BTreeSet::new());
        for id in self.sweeping.iter().copied().collect::<Vec<_>>() {
            let Some(state) = self.neighbors.get_mut(&id) else {
                self.sweeping.remove(&id);
                continue;
            };
            let (looked_at, stale, done) = state.refreshes.sweep(id, &self.paths, left);
            left -= looked_at;
            for nlri in stale {
                if self.paths.withdraw(id, nlri) {
                    changed.insert(nlri.prefix);
                }
            }
            if !done {
                break;
            }
            self.sweeping.remove(&id);
        }
        (budget - left, changed)
    }
}

/// How long stale routes are kept in a refresh (RFC 7313, section 4, leaves it open): a full table comes in
/// seconds, by a slow neighbour in minutes.
const RECEIVING_MAX: Duration = Duration::from_mins(10);

/// The last prefix before those of a family.
fn before(family: Family) -> Option<IpPrefix> {
    match family {
        Family::Ipv4 => None,
        Family::Ipv6 => Prefix::new(Ipv4Addr::BROADCAST, 32).ok().map(IpPrefix::V4),
    }
}
