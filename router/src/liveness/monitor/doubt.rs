//! The panic threshold: when checks call many sites of a service dead at once, it is more likely that the checks
//! are wrong, or what they go through, than that all these sites died. So the later ones are used on until a
//! second burst of checks agrees. Carrier is always believed.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use nearhop_fib::PathId;

use super::Monitor;
use crate::ids::PortId;
use crate::liveness::event::MonitorEventKind;
use crate::liveness::leg::{Crowd, Leg};
use crate::time::Nanos;

/// What is thought of checks that call a leg dead.
#[derive(Debug, Default)]
pub(in crate::liveness) enum Doubt {
    /// They are believed.
    #[default]
    None,
    /// They are not until then; and what the first of them said.
    Until(Nanos, String),
    /// A second burst agreed.
    Agreed,
}

/// The sites of each service in each family, and those that checks called dead lately and still do.
#[derive(Default)]
pub(super) struct Crowds(BTreeMap<u64, Sites>);

#[derive(Default)]
struct Sites {
    /// How many legs each has.
    legs: BTreeMap<u64, usize>,
    deaths: VecDeque<(Nanos, u64)>,
}

/// Legs whose doubt ends, by when.
pub(super) type Doubts = BTreeSet<(Nanos, PathId)>;

impl Crowds {
    pub(super) fn add(&mut self, crowd: Option<Crowd>) {
        if let Some(crowd) = crowd {
            *self.0.entry(crowd.service).or_default().legs.entry(crowd.site).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, crowd: Option<Crowd>) {
        let Some(crowd) = crowd else { return };
        let Some(sites) = self.0.get_mut(&crowd.service) else { return };
        if let Some(legs) = sites.legs.get_mut(&crowd.site) {
            *legs -= 1;
            if *legs == 0 {
                sites.legs.remove(&crowd.site);
            }
        }
        if sites.legs.is_empty() {
            self.0.remove(&crowd.service);
        }
    }

    /// A site's checks pass again, or something else says that it is dead.
    fn forget(&mut self, crowd: Crowd) {
        if let Some(sites) = self.0.get_mut(&crowd.service) {
            sites.deaths.retain(|&(_, site)| site != crowd.site);
        }
    }

    /// Checks call another site dead. Returns whether that is too many in a second, and not the first.
    fn is_too_many(&mut self, now: Nanos, crowd: Crowd) -> bool {
        let Some(sites) = self.0.get_mut(&crowd.service) else { return false };
        while sites.deaths.front().is_some_and(|&(at, _)| now.since(at) > AT_ONCE) {
            sites.deaths.pop_front();
        }
        let others: BTreeSet<u64> =
            sites.deaths.iter().map(|&(_, site)| site).filter(|&site| site != crowd.site).collect();
        let percent = 100 * (others.len() + 1) / sites.legs.len().max(1);
        if !others.is_empty() && percent > usize::from(crowd.threshold) {
            return true;
        }
        sites.deaths.push_back((now, crowd.site));
        false
    }
}

impl Monitor {
    /// A leg's checks fail now. Whether it is used on all the same, until they have failed for longer.
    pub(super) fn doubts(&mut self, now: Nanos, path: PathId, why: &str) -> bool {
        let Some(leg) = self.legs.get_mut(&path) else { return false };
        let is_believed = leg.is_well() || leg.impossible || !leg.up;
        match (&leg.doubt, leg.crowd) {
            (Doubt::Until(..), _) => return !leg.is_well(),
            (Doubt::None, Some(crowd)) if !is_believed => {
                if !self.crowds.is_too_many(now, crowd) {
                    return false;
                }
            }
            _ => return false,
        }
        let burst = leg.burst();
        let until = now + burst;
        leg.doubt = Doubt::Until(until, why.to_owned());
        self.doubts.insert((until, path));
        self.push(now, now, MonitorEventKind::Doubted { path, until: Some(until) });
        true
    }

    /// A leg's checks pass, or its carrier is lost.
    pub(super) fn end_doubt(&mut self, now: Nanos, path: PathId) {
        let Some(leg) = self.legs.get_mut(&path) else { return };
        if let Some(crowd) = leg.crowd {
            self.crowds.forget(crowd);
        }
        if let Doubt::Until(until, _) = std::mem::take(&mut leg.doubt) {
            self.doubts.remove(&(until, path));
            self.push(now, now, MonitorEventKind::Doubted { path, until: None });
        }
    }

    /// Whether a leg is used although its checks fail.
    pub(super) fn is_doubted(&self, path: PathId) -> bool {
        self.legs.get(&path).is_some_and(|leg| matches!(leg.doubt, Doubt::Until(..)))
    }

    /// Believes the checks that have failed for a second burst. None whose answers may lie `unread`.
    pub(super) fn end_doubts(&mut self, now: Nanos, mut unread: impl FnMut(PortId, Nanos) -> bool) {
        let due: Vec<_> = self.doubts.iter().take_while(|(at, _)| *at <= now).copied().collect();
        for (until, path) in due {
            let Some(leg) = self.legs.get_mut(&path) else { continue };
            let Doubt::Until(at, why) = &mut leg.doubt else { continue };
            self.doubts.remove(&(until, path));
            if unread(leg.exit.port, until) {
                *at = now + UNREAD_RETRY;
                self.doubts.insert((*at, path));
                continue;
            }
            let why = std::mem::take(why);
            leg.doubt = Doubt::Agreed;
            self.judge(now, None, path, &why);
        }
    }
}

impl Leg {
    /// For how long its checks are not believed: in it, those that can pass again do so.
    fn burst(&self) -> Duration {
        let failing = self.checks.iter().filter(|check| !check.up);
        failing.map(|check| check.burst).max().unwrap_or_default()
    }
}

/// Deaths within so long are at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// When a leg is looked at again whose answers may lie unread.
const UNREAD_RETRY: Duration = Duration::from_millis(1);
