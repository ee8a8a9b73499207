//! Publication in steps, and what follows from one that ended.

use std::collections::BTreeSet;

use nearhop_fib::WriteError;

use super::Control;
use super::bgp::BgpParts;
use super::publication::Published;
use super::publisher::{Done, Parts};
use super::select::{Known, ServiceKey};
use super::services::Services;
use crate::config::model::{Service, WhenAllDead};
use crate::event::{EventKind, MoveCause};
use crate::rib::NextHops;
use crate::time::Nanos;

impl Control {
    /// Publishes a part of what is to be published, about a millisecond's worth. Returns whether all is
    /// published; what that lets go of is then in [`Self::take_stopping`].
    ///
    /// # Errors
    /// A reader stalls, so nothing more can be unlinked; to be called again later.
    pub fn publish_step(&mut self, now: Nanos) -> Result<bool, WriteError> {
        self.publish_some(now, self.changes_per_step)
    }

    pub(super) fn publish_some(&mut self, now: Nanos, changes: usize) -> Result<bool, WriteError> {
        if self.bgp.note_losses(&self.handle) {
            self.changed();
        }
        let changes = changes - self.take_withdrawals(changes / WITHDRAWALS_SHARE);
        if !self.selection.is_settled() {
            self.select_some(now, changes.div_ceil(CHANGES_PER_SELECTION));
            return Ok(!self.is_unpublished());
        }
        if self.routing.feed(changes.saturating_mul(ROUTES_PER_CHANGE)) {
            return Ok(false);
        }
        let begins = !self.publication.is_under_way();
        if begins && self.discards.is_behind() {
            self.discards.step(&mut self.routing.rib, changes);
            self.publication.owe_routes();
            return Ok(false);
        }
        if begins && self.bgp.has_news() && !self.bgp.is_due() {
            let (rib, fib) = (&mut self.routing.rib, &mut self.writer);
            let mut parts = BgpParts { rib, fib, config: &self.config };
            if self.bgp.step(&mut parts, changes, &mut self.events) {
                self.publication.owe_routes();
            }
            self.watch_begun();
            return Ok(false);
        }
        if begins {
            self.bgp.note_publication();
        }
        if self.publication.is_idle() {
            self.stopping.paths.extend(self.bgp.take_retired());
            return Ok(!self.bgp.has_news());
        }
        let services = Services::new(&self.config, &self.legs, &self.ports);
        let mut parts = Parts { fib: &mut self.writer, rib: &mut self.routing.rib, services };
        let Some(published) = self.publication.step(&mut parts, changes, self.clock)? else {
            return Ok(false);
        };
        self.finish(now, published);
        Ok(!self.is_unpublished() && !self.bgp.has_news())
    }

    /// Withdrawals of neighbours, up to so many: each prefix that has another path leads there at once, whatever
    /// waits to be published. Returns how many it took.
    fn take_withdrawals(&mut self, budget: usize) -> usize {
        if !self.publication.admits_moves() {
            return 0;
        }
        let mut changed = Vec::new();
        let rib = &mut self.routing.rib;
        let taken = self.bgp.take_withdrawals(rib, budget, &mut changed);
        if changed.is_empty() {
            return taken;
        }
        rib.resolve();
        let services = Services::new(&self.config, &self.legs, &self.ports);
        let mut parts = Parts { fib: &mut self.writer, rib, services };
        for prefix in changed {
            self.publication.publisher.move_at_once(&mut parts, prefix);
        }
        self.publication.owe_routes();
        self.changed();
        taken
    }

    /// Publishes all there is to publish, however long it takes.
    ///
    /// # Errors
    /// As [`Self::publish_step`].
    pub fn publish(&mut self, now: Nanos) -> Result<(), WriteError> {
        while !self.publish_step(now)? {}
        Ok(())
    }

    fn finish(&mut self, now: Nanos, Published { why, done, took }: Published) {
        self.owes_parting |= why.all.is_some();
        // Link-local next hops of a neighbour that is gone lead by its port until they are forgotten.
        if self.owes_parting && !self.bgp.is_forgetting() {
            self.owes_parting = false;
            self.ports.begin_parting(&self.config, &self.writer);
            self.finish_parting();
        }
        self.changed();
        let rib = &self.routing.rib;
        let touched = self.publication.publisher.take_touched().into_iter();
        let led_on = touched.filter_map(|set| match rib.next_hops(set) {
            Some(NextHops::Service(of)) => Some((of.service.clone(), of.family)),
            _ => None,
        });
        let led_on: BTreeSet<ServiceKey> = led_on.collect();
        self.bgp.mark_learned(self.publication.publisher.take_noted());
        self.stopping.paths.extend(self.bgp.take_retired());
        let Done { groups, prefixes, refused } = done;
        if groups + prefixes + refused > 0 {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let kind = EventKind::Publish { groups, prefixes, refused, took_us };
            self.events.push_back((now, kind));
        }
        // Where a configuration was published too, it may have changed everything.
        if let Some((cause, member)) = why.all {
            let services = Services::new(&self.config, &self.legs, &self.ports);
            self.selection.look_at_all(services, (cause, &member));
        } else {
            if why.routes {
                // What covers a service may be another, or the next best route to a prefix of it.
                let services = Services::new(&self.config, &self.legs, &self.ports);
                let covered = |one: &Service| one.when_all_dead == WhenAllDead::Covering;
                let keys = services.keys(covered).into_iter().chain(led_on);
                self.selection.look_at(keys, (MoveCause::Configuration, "bgp"));
            }
            for (key, (cause, member)) in why.services {
                self.selection.look_at([key], (cause, &member));
            }
        }
        self.select_some(now, SELECTIONS_AT_ONCE);
    }

    pub(super) fn select_some(&mut self, now: Nanos, budget: usize) {
        let services = Services::new(&self.config, &self.legs, &self.ports);
        let known = Known { services, rib: &self.routing.rib };
        self.events.extend(self.selection.step(known, now, budget));
    }

    /// Whether something waits for [`Self::publish_step`].
    pub fn is_unpublished(&self) -> bool {
        !self.publication.is_idle() || !self.selection.is_settled() || self.discards.is_behind()
    }

    /// Takes ports that are configured no more out of the snapshot, once nobody can lead to them.
    pub(super) fn finish_parting(&mut self) {
        if let Some(ways_out) = self.ports.finish_parting(&self.config, &self.writer) {
            self.stopping.ports.extend(ways_out);
            self.publish_snapshot();
        }
    }

    pub(super) fn publish_snapshot(&mut self) {
        self.snapshots.publish(&self.config, &self.ports);
    }
}

/// Routes that a feed looks at in the time of one change of the FIB.
const ROUTES_PER_CHANGE: usize = 8;

/// Changes of the FIB in the time of one look at the sites of a service.
const CHANGES_PER_SELECTION: usize = 32;

/// The part of a step's changes that withdrawals ahead of their turn may be.
const WITHDRAWALS_SHARE: usize = 8;

/// Services whose sites are looked at in the step that ends a publication, or that drains a site.
pub(super) const SELECTIONS_AT_ONCE: usize = 16;

/// About a millisecond's worth.
pub(super) const CHANGES_PER_STEP: usize = 512;
