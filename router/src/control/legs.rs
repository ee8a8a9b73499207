//! Legs: one way to one site of one service in one family.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use nearhop_fib::{ACCEPT_ALL, ACCEPT_NONE, PathId, WriteError, name_key};

use super::cost::Distance;
use super::wanted::{changed, count_legs, probes, wanted_legs};
use super::{Control, MoveCause, Orders, PortState};
use crate::batch::Exit;
use crate::config::Config;
use crate::config::model::Service;
use crate::event::EventKind;
use crate::ids::Family;
use crate::liveness::leg::LegSpec;
use crate::policy::Combine;
use crate::probe::CheckSpec;
use crate::time::Nanos;

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

/// What has to have room while a configuration comes into force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amid {
    /// Checks of the prober.
    pub(super) probes: usize,
    /// Legs that there are not yet.
    pub(super) new_legs: usize,
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
    /// Whether there was a first verdict.
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
}

impl LegState {
    /// What has to be answered for it to be up.
    pub fn checks(&self) -> &[CheckSpec] {
        &self.checks
    }
}

impl Control {
    /// Makes the legs that the configuration has: new ones begin down for what is not known yet;
    /// ones whose checks changed keep their state until the new checks speak. `changed`: the services
    /// whose legs may be others than before, by their place.
    pub(super) fn plan_legs(
        &mut self,
        now: Nanos,
        changed: &[usize],
        orders: &mut Orders,
    ) -> Result<(), WriteError> {
        let config = Arc::clone(&self.config);
        let services = || changed.iter().map(|&index| &config.services[index]);
        let wanted = wanted_legs(&config, services(), |name| Some(self.ports.get(name)?.exit()));
        let others: HashSet<&str> = services().map(|service| &*service.name).collect();
        let stays = |key: &LegKey| {
            let is_same = !others.contains(&*key.service);
            is_same && self.service_index.contains_key(&key.service) || wanted.contains_key(key)
        };
        let gone: Vec<LegKey> = self.legs.keys().filter(|key| !stays(key)).cloned().collect();
        for key in gone {
            if let Some(leg) = self.legs.remove(&key) {
                self.by_path.remove(&leg.path);
                self.unknown -= usize::from(!leg.known);
                self.stopping.legs.push(leg.path);
            }
        }
        for (key, mut spec) in wanted {
            if let Some(leg) = self.legs.get_mut(&key) {
                let was = (&leg.checks, leg.combine, &leg.impossible);
                if was != (&spec.checks, spec.combine, &spec.impossible) {
                    leg.checks.clone_from(&spec.checks);
                    leg.combine = spec.combine;
                    leg.impossible.clone_from(&spec.impossible);
                    spec.path = leg.path;
                    self.version += 1;
                    spec.version = self.version;
                    leg.version = self.version;
                    for check in &mut spec.checks {
                        check.initial_up = leg.up;
                    }
                    self.probes.insert(spec.path, probes(&spec.checks));
                    orders.legs.push(spec);
                }
                continue;
            }
            self.add_leg(now, key, spec, orders)?;
        }
        Ok(())
    }

    fn add_leg(
        &mut self,
        now: Nanos,
        key: LegKey,
        mut spec: LegSpec,
        orders: &mut Orders,
    ) -> Result<(), WriteError> {
        let accept = if self.drained.contains(&key.site) { ACCEPT_NONE } else { ACCEPT_ALL };
        let reasons = spec.initial_reasons();
        spec.path = self.writer.add_path_down(name_key(&key.site), accept, reasons)?;
        self.version += 1;
        spec.version = self.version;
        let leg = LegState {
            path: spec.path,
            version: spec.version,
            exit: spec.exit,
            up: false,
            known: false,
            since: now,
            reason: "no verdict yet".into(),
            distance: Distance::default(),
            rtt: None,
            checks: spec.checks.clone(),
            combine: spec.combine,
            impossible: spec.impossible.clone(),
        };
        self.probes.insert(spec.path, probes(&spec.checks));
        self.unknown += 1;
        self.by_path.insert(spec.path, key.clone());
        self.legs.insert(key, leg);
        orders.legs.push(spec);
        Ok(())
    }

    /// A leg went up or down.
    pub(super) fn leg_changed(
        &mut self,
        t: Nanos,
        path: PathId,
        up: bool,
        reason: &str,
        stored: Nanos,
    ) {
        let Some(key) = self.by_path.get(&path).cloned() else { return };
        let before = self.distance_of(&key);
        let Some(leg) = self.legs.get_mut(&key) else { return };
        leg.up = up;
        self.unknown -= usize::from(!std::mem::replace(&mut leg.known, true));
        leg.since = t;
        reason.clone_into(&mut leg.reason);
        let kind = EventKind::Site {
            service: key.service.clone(),
            site: key.site.clone(),
            family: key.family,
            port: key.port.clone(),
            up,
            reason: reason.to_owned(),
            stored_ns: stored.0,
        };
        self.events.push_back((t, kind));
        let cause = if up { MoveCause::CheaperUp } else { MoveCause::MemberDied };
        if self.distance_of(&key) != before {
            // A site is as far as its nearest link that is up or measured.
            self.owe((key.service.clone(), key.family), cause, &key.site);
        }
        if !self.unpublished.is_empty() && self.publication.is_none() && self.feeds.is_empty() {
            // What a stalled reader holds back is published later.
            let _ = self.publish_step(t);
        }
        self.reselect_one(t, (key.service, key.family), cause, &key.site);
    }

    /// Takes smoothed round-trip times; groups whose order changes by them are published.
    ///
    /// # Errors
    /// As [`Control::publish_step`].
    pub fn handle_round_trips(
        &mut self,
        now: Nanos,
        times: impl IntoIterator<Item = (PathId, Duration)>,
    ) -> Result<(), WriteError> {
        for (path, rtt) in times {
            self.note_round_trip(path, rtt);
        }
        self.publish_step(now).map(drop)
    }

    /// What it moves is to be published.
    pub(super) fn note_round_trip(&mut self, path: PathId, rtt: Duration) {
        let Some(key) = self.by_path.get(&path).cloned() else { return };
        let unit = self.services().get(&key.service).and_then(|service| service.latency_unit);
        // One that is measured for the first time counts from now on, also if it is in no whole unit.
        let before = self.distance_of(&key);
        let Some(leg) = self.legs.get_mut(&key) else { return };
        leg.rtt = Some(rtt);
        if let Some(unit) = unit {
            leg.distance.measured(rtt, unit);
        }
        if self.distance_of(&key) != before {
            self.owe((key.service, key.family), MoveCause::CheaperUp, &key.site);
        }
    }

    /// How far the site of a leg is.
    fn distance_of(&self, key: &LegKey) -> Option<u64> {
        let service = self.services().get(&key.service)?;
        Some(self.services().distance(service, key.family, &key.site, 0))
    }

    /// What there would be at most while `config` comes into force: what there is, of legs that go too,
    /// and what is new.
    pub(super) fn amid(&self, config: &Config) -> Amid {
        // Legs by a port that is not open yet are new, whatever number it gets.
        let exit = |name: &str| Some(self.ports.get(name).map(PortState::exit).unwrap_or_default());
        let is_new = |(key, spec): &(&LegKey, &LegSpec)| {
            self.legs.get(key).is_none_or(|leg| leg.checks != spec.checks)
        };
        let of_old = |name: &str| self.services().get(name);
        let mut amid = Amid { probes: self.probes.values().sum::<usize>(), new_legs: 0 };
        let changed = changed(&self.config, of_old, config);
        let (known, new): (Vec<&Service>, Vec<&Service>) = changed
            .into_iter()
            .map(|index| &config.services[index])
            .partition(|service| of_old(&service.name).is_some());
        for (legs, probes) in new.into_iter().map(count_legs) {
            amid.new_legs += legs;
            amid.probes += probes;
        }
        let wanted = wanted_legs(config, known, exit);
        let probes = wanted.iter().filter(is_new).map(|(_, spec)| probes(&spec.checks));
        amid.probes += probes.sum::<usize>();
        amid.new_legs += wanted.keys().filter(|key| !self.legs.contains_key(key)).count();
        amid
    }
}
