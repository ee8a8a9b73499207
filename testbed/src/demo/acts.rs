//! What is done on the stage: kills and heals, reloads, a drain. Each is measured.
#![forbid(unsafe_code)]

use std::time::Duration;

use nearhop::event::{Event, EventKind};
use nearhop::ids::Family;
use nearhop::time::Nanos;

use super::show::{BRISK, CALM, Show};
use super::{DemoError, FAMILIES, Results};
use crate::lab::{Act, wait_until};
use crate::measure::{
    Cause, Conditions, Heal, HealResult, Kill, KillError, KillKind, KillResult, Window,
    measure_heal, measure_kill,
};
use crate::report::ReportedKill;
use crate::traffic::Awaited;

/// One kill, for the screen.
pub(super) struct Outcome {
    pub(super) site: String,
    pub(super) window: Window,
    pub(super) kills: Vec<Result<KillResult, KillError>>,
    pub(super) heals: Vec<HealResult>,
}

impl Show {
    /// Makes the next site the cheapest, kills it, waits until others serve, heals it, and waits
    /// until it serves again.
    pub(super) fn kill_and_heal(
        &mut self,
        kind: KillKind,
        results: &mut Results,
    ) -> Result<Outcome, DemoError> {
        self.promote_next(results)?;
        let site = self.stage.order[0].clone();
        let (window, kills) = self.kill(kind, &site, results)?;
        let heals = self.heal(kind, &site, Nanos(window.end_ns), results)?;
        results.heals.extend(heals.iter().cloned());
        Ok(Outcome { site, window, kills, heals })
    }

    /// A reload that moves every flow, and must lose none.
    fn promote_next(&mut self, results: &mut Results) -> Result<(), DemoError> {
        // A site that was killed before waits for nothing: an operator says so.
        self.stage.router.post("/v1/undamp")?;
        let start = Nanos::now();
        let mut order = self.stage.order.clone();
        order.rotate_left(1);
        self.stage.reorder(&order)?;
        let site = order[0].clone();
        self.wait_for_flows(&format!("{site} to answer every flow"), |now| now == site)?;
        let lost = self.lossless(start, "reload", &site, results)?;
        results.reloads.0 += lost.0;
        results.reloads.1 += lost.1;
        Ok(())
    }

    fn kill(
        &mut self,
        kind: KillKind,
        site: &str,
        results: &mut Results,
    ) -> Result<(Window, Vec<Result<KillResult, KillError>>), DemoError> {
        let start = self.prober.set_spacing(BRISK).map_err(DemoError::lab)?;
        self.wait_for_flows(&format!("{site} to serve when it is killed"), |now| now == site)?;
        // At any phase of the probes.
        let at = Nanos::now().max(start + LEAD) + self.phase.next();
        wait_until("the moment of the kill", Duration::from_secs(1), || Nanos::now() >= at)?;
        let act = self.stage.inflict(kind, site)?;
        self.wait_for_flows("another site to answer every flow", |now| now != site)?;
        let reported = &self.stage.events;
        wait_until("the router to emit the fault's events", Duration::from_secs(5), || {
            FAMILIES.iter().all(|&family| {
                reported.reported(act.before.0, |event| is_site(event, site, family, false))
            })
        })
        .map_err(|overdue| DemoError::NotServed(overdue.to_string()))?;
        let end = Nanos::now();
        self.prober.set_spacing(CALM).map_err(DemoError::lab)?;
        let taken = self.records(start..end, Awaited::Last)?;
        let events = self.stage.events.router_events(act.before.0);
        let window = Window { start_ns: start.0, fault_ns: act.before.0, end_ns: end.0 };
        let conditions = self.conditions(act, end);
        let next = self.stage.order[1].clone();
        let mut kills = Vec::new();
        for family in FAMILIES {
            let causes = vec![died(site, &window)];
            let (service, site) = (None, site.to_owned());
            let kill = Kill { kind, family, site, service, window, conditions, causes };
            let measured = measure_kill(&kill, &taken.traces, &events);
            match &measured {
                Ok(measured) => {
                    results.failures.extend(wrong_site(&measured.result, &next));
                    results.kills.push(measured.result.clone());
                }
                Err(error) => results.failures.push(error.to_string()),
            }
            kills.push(measured.as_ref().map(|m| m.result.clone()).map_err(Clone::clone));
            results.reported.push(ReportedKill { kill, measured });
        }
        Ok((window, kills))
    }

    /// What the machine was like from shortly before the fault until flows had moved.
    fn conditions(&self, act: Act, end: Nanos) -> Conditions {
        let wake = self.calibration.latest_wake(act.before - BESIDE..end);
        let ns = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Conditions { call_ns: ns(act.after.since(act.before)), wake_ns: ns(wake) }
    }

    /// Heals, and measures from before the heal until the site serves again.
    fn heal(
        &mut self,
        kind: KillKind,
        site: &str,
        start: Nanos,
        results: &mut Results,
    ) -> Result<Vec<HealResult>, DemoError> {
        self.stage.router.post("/v1/undamp")?;
        let act = self.stage.heal(kind, site)?;
        self.wait_for_flows(&format!("{site} to answer every flow again"), |now| now == site)?;
        let end = Nanos::now();
        let taken = self.records(start..end, Awaited::Every)?;
        if !taken.head.complete {
            results.failures.push(format!("heal of {site}: some records are gone"));
        }
        let window = Window { start_ns: start.0, fault_ns: act.before.0, end_ns: end.0 };
        let heal = |family| {
            let (site, causes) = (site.to_owned(), Vec::new());
            measure_heal(&Heal { kind, family, site, window, causes }, &taken.traces)
        };
        Ok(FAMILIES.into_iter().map(heal).collect())
    }

    /// Drains the cheapest site and takes it back; neither may lose anything.
    pub(super) fn drain_and_back(&mut self, results: &mut Results) -> Result<(), DemoError> {
        let (site, next) = (self.stage.order[0].clone(), self.stage.order[1].clone());
        for (verb, to) in [("drain", &next), ("undrain", &site)] {
            let start = Nanos::now();
            self.stage.ask(&format!("{verb}/{site}"))?;
            self.wait_for_flows(&format!("{to} to answer every flow"), |now| now == to)?;
            let lost = self.lossless(start, verb, to, results)?;
            results.drains.0 += lost.0;
            results.drains.1 += lost.1;
        }
        Ok(())
    }

    /// Probes sent and lost from `start` until now; a loss, or a move that the change does not
    /// explain, is a failure.
    fn lossless(
        &mut self,
        start: Nanos,
        what: &str,
        to: &str,
        results: &mut Results,
    ) -> Result<(u64, u64), DemoError> {
        let end = Nanos::now();
        let taken = self.records(start..end, Awaited::Every)?;
        let window = Window { start_ns: start.0, fault_ns: start.0, end_ns: end.0 };
        let (mut sent, mut lost) = (0, 0);
        for family in FAMILIES {
            let heal = Heal {
                kind: KillKind::Announced,
                family,
                site: to.to_owned(),
                window,
                causes: Vec::new(),
            };
            let result = measure_heal(&heal, &taken.traces);
            sent += result.sent;
            lost += result.lost;
            if result.lost + result.unexplained_moves > 0 {
                results.failures.push(format!(
                    "{what} to {to}, {}: {} of {} probes lost, {} unexplained moves",
                    family.label(),
                    result.lost,
                    result.sent,
                    result.unexplained_moves
                ));
            }
        }
        Ok((sent, lost))
    }
}

/// Of living sites the cheapest takes over, and no other.
fn wrong_site(kill: &KillResult, expected: &str) -> Option<String> {
    (kill.to_site != expected).then(|| {
        format!(
            "{} kill of {}, {}: taken over by {}, expected {expected}, the next cheapest",
            kill.kind,
            kill.from_site,
            kill.family.label(),
            if kill.to_site.is_empty() { "nobody" } else { &kill.to_site }
        )
    })
}

fn died(site: &str, window: &Window) -> Cause {
    Cause {
        from_ns: window.fault_ns,
        to_ns: window.end_ns,
        why: format!("{site} died"),
        leaves: Some(site.to_owned()),
        enters: None,
    }
}

fn is_site(event: &Event, name: &str, of: Family, is_up: bool) -> bool {
    matches!(&event.kind, EventKind::Site { site, family, up, .. }
        if site == name && *family == of && *up == is_up)
}

/// A machine that is late is so for longer than a failover takes: this long before the fault counts too.
const BESIDE: Duration = Duration::from_millis(5);

/// Probes at the brisk pace before each kill.
const LEAD: Duration = Duration::from_millis(30);
