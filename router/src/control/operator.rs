//! What operators take out of service, and back in.

use std::collections::BTreeSet;
use std::time::Duration;

use nearhop_fib::{ACCEPT_ALL, ACCEPT_NONE, PathId};

use super::publish::SELECTIONS_AT_ONCE;
use super::select::Overrides;
use super::services::Services;
use super::{Control, Leave};
use crate::config::Config;
use crate::config::model::{Leaving, Service};
use crate::event::{EventKind, MoveCause};
use crate::time::Nanos;

impl Control {
    /// Takes a site out of service where any other is left, or back in; `false` if no service has it.
    pub fn drain(&mut self, now: Nanos, site: &str, drained: bool, by: &str) -> bool {
        if !self.has_site(site) {
            return false;
        }
        if self.selection.drain(site, drained) {
            self.mark_announcements(site);
            self.store_accepts();
            let kind = EventKind::Drain { by: by.to_owned(), site: site.to_owned(), drained };
            self.events.push_back((now, kind));
            let services = Services::new(&self.config, &self.legs, &self.ports);
            let with = services.keys(|service| service.sites.iter().any(|one| one.name == site));
            self.selection.look_at(with, (MoveCause::Operator, site));
            self.select_some(now, SELECTIONS_AT_ONCE);
        }
        true
    }

    /// Takes a site out of service whatever is left, or back in. Returns the paths that the liveness thread
    /// is to set down or clear; `None` if no service has the site.
    pub fn disable(
        &mut self,
        now: Nanos,
        site: &str,
        disabled: bool,
        by: &str,
    ) -> Option<Vec<PathId>> {
        if !self.has_site(site) {
            return None;
        }
        if !self.selection.disable(site, disabled) {
            return Some(Vec::new());
        }
        self.mark_announcements(site);
        let kind = EventKind::Disable { by: by.to_owned(), site: site.to_owned(), disabled };
        self.events.push_back((now, kind));
        let of_site = self.legs.iter().filter(|(key, _)| key.site == site);
        Some(of_site.map(|(_, leg)| leg.path).collect())
    }

    /// Takes back all that is announced, or announces it again; `false` if it was so before.
    pub fn drain_router(&mut self, now: Nanos, drained: bool, by: &str) -> bool {
        if !self.selection.drain_router(drained) {
            return false;
        }
        self.bgp.drain(now, drained, self.leaving().drain_wait);
        self.events.push_back((now, EventKind::RouterDrain { by: by.to_owned(), drained }));
        true
    }

    /// Applies a playbook, or undoes it; `false` if it was so before.
    pub fn play(&mut self, now: Nanos, playbook: &str, applied: bool, by: &str) -> bool {
        if !self.selection.play(playbook, applied) {
            return false;
        }
        self.bgp.set_playbooks(&self.config, &self.selection.overrides().playbooks);
        let (by, playbook) = (by.to_owned(), playbook.to_owned());
        self.events.push_back((now, EventKind::Playbook { by, playbook, applied }));
        true
    }

    /// Services that are announced now, and would be to nobody with these playbooks.
    pub fn left_unannounced(&self, playbooks: &BTreeSet<String>) -> BTreeSet<String> {
        self.bgp.left_unannounced(&self.config, self.services(), (&self.config, playbooks))
    }

    /// Services that are announced now, and would be to nobody by what another configuration has of the playbooks that
    /// are applied.
    pub fn left_by_playbooks_of(&self, config: &Config) -> BTreeSet<String> {
        let applied = &self.selection.overrides().playbooks;
        self.bgp.left_unannounced(&self.config, self.services(), (config, applied))
    }

    /// The process is about to end: takes back what is announced, as configured. Returns when it may end;
    /// `None` is at once.
    pub fn begin_exit(&mut self, now: Nanos) -> Option<Nanos> {
        let how = self.leaving();
        self.bgp.begin_exit(now, &how)
    }

    /// Whether the router takes back what it announces.
    pub fn leaves(&self) -> Leave {
        self.bgp.leaves()
    }

    fn leaving(&self) -> Leaving {
        self.config.bgp.as_ref().map(|bgp| bgp.leaving).unwrap_or_default()
    }

    /// Services that would have nobody left but drained sites, if this site were taken out too.
    pub fn served_by_last(&self, site: &str) -> BTreeSet<String> {
        self.selection.served_by_last(self.known(), site)
    }

    /// Services that this configuration would leave without a site that may serve, and that have one now.
    pub fn left_without(&self, config: &Config) -> Vec<String> {
        self.selection.left_without(&self.config.services, &config.services)
    }

    /// What operators took out of service before a restart; to be called before the first configuration.
    pub fn restore(&mut self, overrides: Overrides) {
        // What was withdrawn before is not announced to be withdrawn again.
        self.bgp.drain(Nanos::ZERO, overrides.router, Duration::ZERO);
        let blocked: Vec<_> = overrides.blocks.iter().collect();
        self.selection.restore(overrides);
        self.blocks_changed(blocked);
    }

    /// The sites that are drained.
    pub fn drained(&self) -> &BTreeSet<String> {
        &self.overrides().drained
    }

    /// What operators have taken out of service.
    pub fn overrides(&self) -> &Overrides {
        self.selection.overrides()
    }

    pub(super) fn has_site(&self, site: &str) -> bool {
        self.config.services.iter().any(|service| service.sites.iter().any(|s| s.name == site))
    }

    /// What is announced of the services that have this site may be another.
    fn mark_announcements(&mut self, site: &str) {
        let with = |service: &&Service| service.sites.iter().any(|one| one.name == site);
        for service in self.config.services.iter().filter(with) {
            self.bgp.mark(&service.name);
        }
    }

    pub(super) fn store_accepts(&self) {
        for (key, leg) in self.legs.iter() {
            self.handle.set_accept(leg.path, self.accept(&key.site));
        }
        self.changed();
    }

    pub(super) fn accept(&self, site: &str) -> u16 {
        if self.drained().contains(site) { ACCEPT_NONE } else { ACCEPT_ALL }
    }
}
