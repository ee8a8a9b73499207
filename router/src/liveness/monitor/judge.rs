//! From what the checks of a leg say to its path's byte, and to what is reported of it.
#![forbid(unsafe_code)]

use nearhop_fib::{PathId, Reason};

use super::Monitor;
use crate::liveness::event::{self, MonitorEvent, MonitorEventKind};
use crate::time::Nanos;

impl Monitor {
    /// Makes a path's byte say what its checks say: worse at once, better after the hold. `stored`:
    /// when its packets were moved, if another byte did that.
    pub(super) fn judge(&mut self, now: Nanos, stored: Option<Nanos>, path: PathId, why: &str) {
        let Some(leg) = self.legs.get(&path) else { return };
        let well = leg.is_well();
        // Without either, nothing that the checks say helps.
        let carrier =
            self.has_carrier(leg.exit.port) && !self.fib.path_reasons(path).has(Reason::Bfd);
        if well || !carrier {
            self.end_doubt(now, path);
        } else if self.is_doubted(path) {
            return;
        }
        let Some(leg) = self.legs.get(&path) else { return };
        let before = self.fib.path_reasons(path);
        for reason in [Reason::Probe, Reason::Health] {
            if !well && leg.fails(reason) {
                self.fib.set_path_down(path, reason);
            }
        }
        if well && carrier {
            self.hold(now, path);
        }
        let Some(leg) = self.legs.get_mut(&path) else { return };
        for reason in [Reason::Probe, Reason::Health] {
            if well || !leg.fails(reason) {
                self.fib.clear_path_down(path, reason);
            }
        }
        if !(well && carrier)
            && let Some(until) = leg.hold_until.take()
        {
            self.holds.remove(&(until, path));
            self.fib.clear_path_down(path, Reason::Damped);
            // It was reported as damped, and is not even that now.
            leg.reported = false;
        }
        if self.fib.path_reasons(path) != before {
            self.changed();
        }
        self.report(now, stored, path, why);
    }

    /// A leg that is well again waits if it flapped, unless it waits already.
    pub(super) fn hold(&mut self, now: Nanos, path: PathId) {
        let Some(leg) = self.legs.get_mut(&path) else { return };
        let hold = leg.damping.hold();
        if hold.is_zero() || leg.up || leg.hold_until.is_some() {
            return;
        }
        let until = now + hold;
        leg.hold_until = Some(until);
        self.holds.insert((until, path));
        self.fib.set_path_down(path, Reason::Damped);
        let stored = self.stored(now);
        self.push(now, stored, MonitorEventKind::Damped { path, hold });
    }

    /// Uses the legs whose hold is over.
    pub(super) fn end_holds(&mut self, now: Nanos) {
        while let Some(&(at, path)) = self.holds.first().filter(|&&(at, _)| at <= now) {
            self.holds.remove(&(at, path));
            if let Some(leg) = self.legs.get_mut(&path) {
                leg.hold_until = None;
                self.fib.clear_path_down(path, Reason::Damped);
                self.changed();
                self.report(now, None, path, event::DAMPING_OVER);
            }
        }
    }

    /// Reports whether packets go there, if that changed.
    pub(super) fn report(&mut self, now: Nanos, stored: Option<Nanos>, path: PathId, why: &str) {
        let Some(port) = self.legs.get(&path).map(|leg| leg.exit.port) else { return };
        let reasons = self.fib.path_reasons(path);
        let up = self.has_carrier(port) && reasons.is_alive();
        let why = if reasons.has(Reason::Operator) { event::DISABLED } else { why };
        let Some(leg) = self.legs.get_mut(&path) else { return };
        if leg.up == up && leg.reported {
            return;
        }
        match (leg.up, up) {
            (true, false) => leg.damping.went_down(now),
            (false, true) => leg.damping.came_up(now),
            _ => {}
        }
        // Down from the start is no event, until there is a result.
        let no_result_yet = !leg.reported && !up && leg.is_undecided();
        leg.up = up;
        if !no_result_yet {
            leg.reported = true;
            let stored = stored.unwrap_or_else(|| self.stored(now));
            let (reason, rtt) = (why.to_owned(), self.round_trip(path));
            self.push(now, stored, MonitorEventKind::Leg { path, up, reason, rtt });
        }
    }

    pub(super) fn push(&mut self, t: Nanos, stored: Nanos, kind: MonitorEventKind) {
        self.events.push_back(MonitorEvent { t, stored, kind });
    }

    /// The time, right after a store.
    pub(super) fn stored(&self, now: Nanos) -> Nanos {
        self.clock.map_or(now, |clock| clock())
    }
}
