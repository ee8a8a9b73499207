//! Legs: one way to one site of one service in one family.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use nearhop_fib::PathId;

use super::cost::Distance;
use super::wanted::probes;
use crate::batch::Exit;
use crate::ids::Family;
use crate::liveness::leg::{Crowd, LegSpec};
use crate::policy::Combine;
use crate::probe::CheckSpec;
use crate::time::Nanos;

/// Every leg, and the checks that there are until their paths are released.
#[derive(Default)]
pub struct Legs {
    by_key: BTreeMap<LegKey, LegState>,
    by_path: HashMap<PathId, LegKey>,
    /// Checks that the prober has for each path, from when it is ordered to [`Self::release`].
    probes: HashMap<PathId, usize>,
    /// The newest version of a leg's checks.
    version: u64,
    /// Legs without a first result.
    unknown: usize,
}

/// What a leg is known by over reloads.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LegKey {
    /// Service name.
    pub service: String,
    /// Address family.
    pub family: Family,
    /// Site name.
    pub site: String,
    /// Name of the port it leaves by.
    pub port: String,
}

/// A leg in use.
#[derive(Clone, Debug)]
pub struct LegState {
    /// Its path in the FIB.
    pub path: PathId,
    /// Which of its checks are in force.
    pub version: u64,
    /// The way out of its packets.
    pub exit: Exit,
    /// Whether packets go there now.
    pub up: bool,
    /// Whether that is what its checks say.
    pub caution: Caution,
    /// Whether there was a first result.
    pub known: bool,
    /// Since when.
    pub since: Nanos,
    /// What decided it.
    pub reason: String,
    /// Latency as it counts for cost.
    pub distance: Distance,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Why none of its checks can be done, if so.
    pub impossible: Option<String>,
    pub(super) checks: Vec<CheckSpec>,
    pub(super) combine: Combine,
    crowd: Option<Crowd>,
}

/// Why a leg is not what its checks say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Caution {
    /// It is what they say.
    #[default]
    None,
    /// They pass, and it waits only because it flapped.
    Damped,
    /// They fail, and packets go there all the same, as those of many other sites fail too.
    Doubted,
}

impl LegState {
    /// Whether its checks pass, and it waits only because it flapped.
    pub fn is_damped(&self) -> bool {
        self.caution == Caution::Damped
    }

    /// What has to be answered for it to be up.
    pub fn checks(&self) -> &[CheckSpec] {
        &self.checks
    }
}

impl Legs {
    /// The leg of this key.
    pub fn get(&self, key: &LegKey) -> Option<&LegState> {
        self.by_key.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &LegKey) -> Option<&mut LegState> {
        self.by_key.get_mut(key)
    }

    /// The leg that a path is, if it is one.
    pub fn by_path(&self, path: PathId) -> Option<(&LegKey, &LegState)> {
        self.by_key.get_key_value(self.by_path.get(&path)?)
    }

    /// Every leg, in the order of its key.
    pub fn iter(&self) -> impl Iterator<Item = (&LegKey, &LegState)> {
        self.by_key.iter()
    }

    /// Legs from this key on.
    pub fn from(&self, key: LegKey) -> impl Iterator<Item = (&LegKey, &LegState)> + Clone {
        self.by_key.range(key..)
    }

    /// How many have had no result yet.
    pub fn unknown(&self) -> usize {
        self.unknown
    }

    /// How many checks the prober may have.
    pub(super) fn probes(&self) -> usize {
        self.probes.values().sum()
    }

    /// Forgets all but these; returns their paths, which stay taken until [`Self::release`].
    pub(super) fn retain(&mut self, stays: impl Fn(&LegKey) -> bool) -> Vec<PathId> {
        let mut gone = Vec::new();
        self.by_key.retain(|key, leg| {
            let keeps = stays(key);
            if !keeps {
                self.by_path.remove(&leg.path);
                self.unknown -= usize::from(!leg.known);
                gone.push(leg.path);
            }
            keeps
        });
        gone
    }

    /// Takes a new leg in: down until its checks speak. Returns what is to be watched.
    pub(super) fn add(&mut self, now: Nanos, key: LegKey, mut spec: LegSpec) -> LegSpec {
        self.version += 1;
        spec.version = self.version;
        let leg = LegState {
            path: spec.path,
            version: spec.version,
            exit: spec.exit,
            up: false,
            caution: Caution::None,
            known: false,
            since: now,
            reason: "no result yet".into(),
            distance: Distance::default(),
            rtt: None,
            checks: spec.checks.clone(),
            combine: spec.combine,
            crowd: spec.crowd,
            impossible: spec.impossible.clone(),
        };
        self.probes.insert(spec.path, probes(&spec.checks));
        self.unknown += 1;
        self.by_path.insert(spec.path, key.clone());
        self.by_key.insert(key, leg);
        spec
    }

    /// Gives a leg other checks; it keeps its state until they speak. Returns what is to be watched;
    /// `None` if they are the same.
    pub(super) fn change(&mut self, key: &LegKey, mut spec: LegSpec) -> Option<LegSpec> {
        let leg = self.by_key.get_mut(key)?;
        let was = (&leg.checks, leg.combine, &leg.impossible, leg.crowd);
        if was == (&spec.checks, spec.combine, &spec.impossible, spec.crowd) {
            return None;
        }
        leg.checks.clone_from(&spec.checks);
        leg.combine = spec.combine;
        leg.crowd = spec.crowd;
        leg.impossible.clone_from(&spec.impossible);
        self.version += 1;
        leg.version = self.version;
        (spec.path, spec.version) = (leg.path, leg.version);
        for check in &mut spec.checks {
            check.initial_up = leg.up;
        }
        self.probes.insert(spec.path, probes(&spec.checks));
        Some(spec)
    }

    /// Notes a verdict about a leg.
    pub(super) fn decide(&mut self, key: &LegKey, t: Nanos, up: bool, reason: &str) {
        let Some(leg) = self.by_key.get_mut(key) else { return };
        (leg.up, leg.caution) = (up, Caution::None);
        self.unknown -= usize::from(!std::mem::replace(&mut leg.known, true));
        leg.since = t;
        reason.clone_into(&mut leg.reason);
    }

    /// Nobody watches this path any more.
    pub(super) fn release(&mut self, path: PathId) {
        self.probes.remove(&path);
    }
}
