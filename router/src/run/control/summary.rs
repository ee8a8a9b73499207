//! What SIGUSR1 asks for: the state in a few lines of the log.
#![allow(clippy::disallowed_methods, reason = "part of a thread's shell")]

use super::ControlThread;
use crate::config::model::Service;
use crate::control::{PortState, Serving};
use crate::ids::Family;
use crate::verdict::{Outcome, Verdict};

impl ControlThread {
    /// Logs whether the router is ready, what its ports and services are at, and what it has counted.
    pub(super) fn log_summary(&self) {
        assert!(!self.options.test_panic, "--test-panic");
        for line in self.summary() {
            log::info!("state: {line}");
        }
    }

    fn summary(&self) -> Vec<String> {
        let control = &self.daemon.control;
        let config = control.config();
        let ready = match (self.ready, self.why_not_ready()) {
            (_, Some(why)) => format!("not ready: {why}"),
            (true, None) => "ready".to_owned(),
            (false, None) => "about to be ready".to_owned(),
        };
        let mut lines = vec![format!("{} is {ready}", config.router.name)];
        let (down, up): (Vec<&PortState>, Vec<&PortState>) =
            control.ports().partition(|port| port.fault.is_some() || !port.carrier);
        lines.push(format!("{} port(s) up, {} down", up.len(), down.len()));
        let down = down.iter().map(|port| {
            format!("port {} is down: {}", port.name(), port.why().unwrap_or_default())
        });
        lines.extend(first(down));
        lines.extend(first(config.services.iter().map(|service| self.serving(service))));
        let (overrides, (v4, v6)) = (control.overrides(), control.writer().len());
        lines.push(format!(
            "{} service(s), {v4} IPv4 and {v6} IPv6 prefixes; drained: {}; disabled: {}",
            config.services.len(),
            names(overrides.drained.iter()),
            names(overrides.disabled.iter()),
        ));
        lines.push(self.counts());
        lines
    }

    /// Who serves a service, in each family that it has.
    fn serving(&self, service: &Service) -> String {
        let control = &self.daemon.control;
        let has = |family: &Family| {
            service.prefixes.iter().any(|prefix| Family::of(prefix.addr()) == *family)
        };
        let families = [Family::Ipv4, Family::Ipv6].into_iter().filter(has);
        let line = |family: Family| {
            let Serving { sites, resort } = control.serving(service, family);
            let resort = resort.map(|resort| format!(" ({})", resort.text())).unwrap_or_default();
            let (of, up) = control
                .services()
                .legs_of(&service.name)
                .filter(|(key, _)| key.family == family)
                .fold((0, 0), |(all, up), (_, leg)| (all + 1, up + usize::from(leg.up)));
            let (name, family) = (&service.name, family.label());
            let sites = names(sites.iter());
            format!("{name}/{family} is served by {sites}{resort}, {up} of {of} links up")
        };
        families.map(line).collect::<Vec<_>>().join("; ")
    }

    fn counts(&self) -> String {
        let counters = self.totals().counters;
        let mut outcomes = Outcome::ALL.map(|outcome| (outcome, 0));
        for verdict in Verdict::ALL {
            for (outcome, count) in &mut outcomes {
                if verdict.outcome() == *outcome {
                    *count += counters.verdicts[*verdict as usize];
                }
            }
        }
        let outcomes = outcomes.map(|(outcome, count)| format!("{count} {}", outcome.label()));
        format!("packets: {} received, {}", counters.received, outcomes.join(", "))
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// The first [`LINES_MAX`], and how many more there are.
fn first(lines: impl ExactSizeIterator<Item = String>) -> impl Iterator<Item = String> {
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.take(LINES_MAX).chain((more > 0).then(|| format!("... and {more} more")))
}

/// Lines of a kind: a log is not `show`.
const LINES_MAX: usize = 50;
