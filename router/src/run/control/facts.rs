//! What is shown and counted, from every thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use nearhop_fib::PathId;

use super::ControlThread;
use crate::api::views::{Facts, WorkerFacts};
use crate::bgp::session::Said;
use crate::ids::{NeighborId, PortId};
use crate::liveness::LivenessReport;
use crate::liveness::leg::TcpCheckKey;
use crate::probe::CheckStats;
use crate::run::host::{HostCall, HostReport};
use crate::run::liveness::Order;
use crate::time::Nanos;
use crate::worker::WorkerReport;

impl ControlThread {
    /// Workers count for good; the count of a new leg or port begins at what its number has by now.
    pub(super) fn count_anew(
        &mut self,
        (legs_before, ports_before): &(BTreeSet<PathId>, BTreeSet<PortId>),
    ) {
        let totals = self.totals();
        let (paths, ports) = self.numbers_in_use();
        self.counted_before.retain(|path, _| paths.contains(path));
        for &path in paths.difference(legs_before) {
            let count = totals.counters.paths.get(path.0 as usize).copied().unwrap_or_default();
            self.counted_before.insert(path, count);
        }
        self.ports_before.retain(|port, _| ports.contains(port));
        for &port in ports.difference(ports_before) {
            let count = totals.ports.get(&port).copied().unwrap_or_default();
            self.ports_before.insert(port, count);
        }
    }

    pub(super) fn numbers_in_use(&self) -> (BTreeSet<PathId>, BTreeSet<PortId>) {
        let control = &self.daemon.control;
        let legs = control.legs().map(|(_, leg)| leg.path);
        let paths = legs.chain(control.ports().map(|port| port.path)).collect();
        (paths, control.ports().map(|port| port.id).collect())
    }

    pub(super) fn host_report(&self) -> MutexGuard<'_, HostReport> {
        self.daemon.host_report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all workers and the host stack have counted.
    pub(super) fn totals(&self) -> WorkerReport {
        let mut totals = WorkerReport::default();
        for worker in &self.daemon.workers {
            totals.add(&worker.shared.counters.lock().unwrap_or_else(PoisonError::into_inner));
        }
        totals.counters.add(&self.host_report().counters);
        totals
    }

    /// What is known here. The liveness and host threads are not asked.
    pub(super) fn facts(&self) -> Facts<'_> {
        let mut totals = self.totals();
        for (path, before) in &self.counted_before {
            if let Some(count) = totals.counters.paths.get_mut(path.0 as usize) {
                count.packets = count.packets.saturating_sub(before.packets);
                count.bytes = count.bytes.saturating_sub(before.bytes);
            }
        }
        for (port, before) in &self.ports_before {
            if let Some(count) = totals.ports.get_mut(port) {
                *count = count.since(before);
            }
        }
        let workers = self.daemon.workers.iter().map(|worker| {
            let report = worker.shared.counters.lock().unwrap_or_else(PoisonError::into_inner);
            WorkerFacts { polling: report.polling, lookup_codes: report.lookup_codes }
        });
        let workers = workers.collect();
        let host = self.host_report();
        Facts {
            totals,
            workers,
            host: host.stats,
            sessions: host.bgp.iter().copied().collect(),
            steps: self.steps.times().iter().chain(&host.steps).copied().collect(),
            ..self.facts_of_routes()
        }
    }

    /// As [`Self::facts`], without what pages of routes do not show.
    pub(super) fn facts_of_routes(&self) -> Facts<'_> {
        Facts::of_control(Nanos::now(), &self.daemon.control, &self.opened)
    }

    /// What the host thread knows of the TCP checks of these paths.
    pub(super) fn tcp_checks(&self, paths: &BTreeSet<PathId>) -> BTreeMap<TcpCheckKey, CheckStats> {
        if paths.is_empty() {
            return BTreeMap::new();
        }
        let host = self.host_report();
        host.checks.iter().copied().filter(|(key, _)| paths.contains(&key.path)).collect()
    }

    /// The last messages of a BGP neighbour, which the host thread has.
    pub(super) fn transcript(&self, id: NeighborId) -> Option<Vec<Said>> {
        let (answer, wait) = crossbeam_channel::bounded(1);
        self.daemon.host.order(HostCall::Transcript(id, answer));
        wait.recv_timeout(LIVENESS_ANSWERS_WITHIN).ok()
    }

    /// What the liveness thread knows, and of the checks of these paths.
    pub(super) fn report(&self, paths: BTreeSet<PathId>) -> Option<LivenessReport> {
        let (answer, wait) = crossbeam_channel::bounded(1);
        self.daemon.liveness.order(Order::Report(paths, answer));
        wait.recv_timeout(LIVENESS_ANSWERS_WITHIN).ok()
    }
}

/// How long the liveness thread, or the host thread, may take to answer.
const LIVENESS_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
