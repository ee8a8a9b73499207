//! What the demo adds to its stage: one prober, whose flows are killed and measured.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::ops::Range;
use std::time::Duration;

use nearhop::time::Nanos;

use super::DemoError;
use crate::calibration::Calibration;
use crate::report::{Mark, RunFolder};
use crate::stage::{ECHO_PORT, Stage, patience};
use crate::topology::{NodeKind, Topology};
use crate::traffic::protocol::{FlowNow, RecordsHead};
use crate::traffic::{Awaited, ProbeOptions, Prober, Taken};

/// Everything that plays.
pub(super) struct Show {
    pub(super) stage: Stage,
    pub(super) prober: Prober,
    pub(super) phase: Phase,
    pub(super) calibration: Calibration,
}

impl Show {
    pub(super) fn build(
        topology: Topology,
        seed: u64,
        folder: &RunFolder,
        router_args: &[OsString],
    ) -> Result<Self, DemoError> {
        let client = topology.nodes_of(NodeKind::Client).next();
        let client = client.map(|node| node.name.clone()).unwrap_or_default();
        let stage = Stage::build_with(topology, seed, folder, router_args)?;
        let prober = start_prober(&stage, client)?;
        let calibration = Calibration::start().map_err(DemoError::lab)?;
        Ok(Self { stage, prober, phase: Phase(seed.max(1)), calibration })
    }

    /// Waits until every site is up, and the cheapest answers every flow.
    pub(super) fn wait_for_service(&mut self) -> Result<(), DemoError> {
        self.stage.wait_for_sites()?;
        let first = self.stage.order[0].clone();
        self.wait_for_flows(&format!("{first} to answer every flow"), |site| site == first)
    }

    /// Waits until who answers each flow is as `right` says, by a probe sent after this call.
    pub(super) fn wait_for_flows(
        &mut self,
        what: &str,
        right: impl Fn(&str) -> bool,
    ) -> Result<(), DemoError> {
        let since = Nanos::now().0;
        let all = |flows: &[FlowNow]| {
            flows
                .iter()
                .filter(|flow| flow.heard_ns.saturating_sub(flow.rtt_ns) >= since)
                .filter(|flow| flow.site.as_deref().is_some_and(&right))
                .count()
                == flows.len()
        };
        match self.prober.wait_until(FLOWS_BUDGET, all).map_err(DemoError::lab)? {
            Ok(_) => Ok(()),
            Err(last) => {
                let reported: Vec<String> = last
                    .iter()
                    .map(|f| format!("{} {}", f.family.label(), f.site.as_deref().unwrap_or("-")))
                    .collect();
                let budget = FLOWS_BUDGET.as_secs();
                let last = reported.join(", ");
                Err(DemoError::NotServed(format!("waited {budget} s for {what}; last: {last}")))
            }
        }
    }

    /// Lets probes of the first moments, sent while things were still coming up, fall out of sight.
    pub(super) fn settle(&mut self) -> Result<(), DemoError> {
        self.prober.set_spacing(CALM).map(drop).map_err(DemoError::lab)
    }

    pub(super) fn records(
        &mut self,
        range: Range<Nanos>,
        awaited: Awaited,
    ) -> Result<Taken, DemoError> {
        let links = &self.stage.lab.topology().links;
        let delay = links.iter().map(|link| link.impairment.delay).max().unwrap_or_default();
        self.prober.take_records(range, patience(awaited, delay)).map_err(DemoError::lab)
    }

    /// How things were measured, for the report.
    pub(super) fn method(&self, head: &RecordsHead) -> Vec<(String, String)> {
        let line = |what: &str, how: String| (what.to_owned(), how);
        vec![
            line("probes", format!("numbered UDP datagrams, {} flows", self.prober.flows().len())),
            line("spacing", format!("{BRISK:?} round a kill, {CALM:?} otherwise")),
            line("sender", head.pace.to_string()),
            line("receive times", self.prober.stamps().to_owned()),
            line("clock", "CLOCK_MONOTONIC of one machine, for all".into()),
            line("silent faults", format!("made by {}", self.stage.silence())),
            line("detection", self.detection()),
            line("wake-ups", "of a thread on each core, every millisecond".into()),
        ]
    }

    fn detection(&self) -> String {
        let silent = self.stage.detection();
        format!("carrier at once; ICMP echoes and DNS queries unanswered for {silent:?}")
    }

    /// What has happened, in the order of time, also on disk.
    pub(super) fn finish_events(&self) -> Result<Vec<Mark>, DemoError> {
        self.stage.events.finish()?;
        Ok(self.stage.events.marks())
    }

    /// Leaves everything as it is until a signal ends the program.
    pub(super) fn hold(self) -> ! {
        // The prober stays too: who enters the lab sees traffic.
        let _prober = self.prober;
        self.stage.hold()
    }
}

/// The moments of kills against the ticking of probes: xorshift64 (Marsaglia, 2003).
pub(super) struct Phase(u64);

impl Phase {
    /// A time below 10 ms.
    pub(super) fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % 10_000)
    }
}

fn start_prober(stage: &Stage, client: String) -> Result<Prober, DemoError> {
    stage.start_prober(&ProbeOptions {
        client,
        to: stage.lab.topology().services[0].addresses.clone(),
        flows: 4,
        source_port: 40_000,
        echo_port: ECHO_PORT,
        dns_port: 53,
        spacing_us: u64::try_from(CALM.as_micros()).unwrap_or(1_000),
        dns_every_ms: 10,
    })
}

/// Between two probes of a flow.
pub(super) const CALM: Duration = Duration::from_millis(1);

/// Between two probes of a flow, round a kill.
pub(super) const BRISK: Duration = Duration::from_micros(200);

/// For flows to move.
const FLOWS_BUDGET: Duration = Duration::from_secs(5);
