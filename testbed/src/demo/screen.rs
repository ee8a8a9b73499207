//! What the demo tells a person, line by line.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use nearhop::time::Nanos;

use super::acts::Outcome;
use super::show::Show;
use super::{DemoError, Results};
use crate::console::Console;
use crate::doctor::Report;
use crate::measure::{KillError, KillKind, KillResult, KillSummary};
use crate::report::Run;
use crate::stage::Stage;
use crate::traffic::protocol::DnsRecord;

/// Where lines go.
pub(super) struct Screen(Console);

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        Self(Console::new(json))
    }

    fn line(&self, line: impl Display) {
        self.0.line(line);
    }

    fn paint(&self, colour: &str, text: impl Display) -> String {
        self.0.paint(colour, text)
    }

    pub(super) fn doctor(&self, report: &Report) {
        self.0.doctor(report);
    }

    pub(super) fn built(&self, stage: &Stage, started: Nanos) {
        let took = Nanos::now().since(started).as_secs_f64();
        let sites = stage.order.join(", ");
        let service: Vec<String> =
            stage.lab.topology().services[0].addresses.iter().map(ToString::to_string).collect();
        let service = service.join(" and ");
        self.line(format_args!("network  {sites} share {service}            up in {took:.2} s"));
    }

    pub(super) fn ready(&self, show: &mut Show, started: Nanos) -> Result<(), DemoError> {
        let took = Nanos::now().since(started).as_secs_f64();
        self.line(format_args!(
            "routing  every site up, every flow answered         at {took:.2} s"
        ));
        for flow in show.prober.latest().map_err(DemoError::lab)?.iter().step_by(4) {
            let site = flow.site.as_deref().unwrap_or("nobody");
            let rtt = flow.rtt_ns / 1000;
            self.line(format_args!("         client {} -> {site}   {rtt} µs", flow.family.label()));
        }
        self.line("");
        self.line("  round  kill       site  family   blackout  lost        detect   publish    repair  to");
        Ok(())
    }

    pub(super) fn kill(&self, round: u32, kind: KillKind, outcome: &Outcome) {
        for result in &outcome.kills {
            self.line(self.kill_line(round, kind, &outcome.site, result));
        }
        let lost: u64 = outcome.heals.iter().map(|heal| heal.lost).sum();
        if lost > 0 {
            let text = format!("         heal of {}: {lost} probes lost", outcome.site);
            self.line(self.paint("31", text));
        }
    }

    fn kill_line(
        &self,
        round: u32,
        kind: KillKind,
        site: &str,
        result: &Result<KillResult, KillError>,
    ) -> String {
        match result {
            Ok(r) => format!(
                "  {round:>5}  {:<9}  {site:<4}  {}  {} {:>5}/{:<5} {:>8.3} {:>9.3} {:>9.3}  {}",
                kind.label(),
                r.family.label(),
                self.paint("1", format_args!("{:>7.2} ms", r.blackout_ms)),
                r.lost,
                r.sent,
                r.detect_ms,
                r.publish_ms,
                r.repair_ms,
                r.to_site
            ),
            Err(error) => self.paint("31", format!("  {round:>5}  {error}")),
        }
    }

    pub(super) fn drained(&self, results: &Results) {
        let ((reloaded, lost_r), (drained, lost_d)) = (results.reloads, results.drains);
        self.line("");
        self.line(format_args!("reloads  {lost_r} of {reloaded} probes lost"));
        self.line(format_args!("drain    {lost_d} of {drained} probes lost, there and back"));
    }

    /// Who answered the DNS queries that went along with the probes; the latest are kept.
    pub(super) fn dns(&self, queries: &[DnsRecord]) {
        let mut sites = BTreeMap::<&str, usize>::new();
        for answer in queries.iter().filter_map(|query| query.answer.as_ref()) {
            *sites.entry(answer.site.as_deref().unwrap_or("unnamed")).or_default() += 1;
        }
        let answered: usize = sites.values().sum();
        let by: Vec<String> = sites.iter().map(|(site, count)| format!("{site} {count}")).collect();
        let lost = queries.len() - answered;
        let (asked, by) = (queries.len(), by.join(", "));
        self.line(format_args!("dns      {asked} queries: {by}; {lost} unanswered, as sites died"));
    }

    pub(super) fn summary(&self, run: &Run, page: &Path, started: Nanos) {
        self.line("");
        self.line("KILL       FAMILY  P50 MS  MAX MS  BUDGET  LOST  REORDERED  DETECT  PUBLISH  REPAIR  FROM -> TO");
        for kill in &run.summary.kills {
            self.line(self.summary_line(run, kill));
        }
        let lost: u64 = run.summary.heals.iter().map(|heal| heal.lost).sum();
        let sent: u64 = run.summary.heals.iter().map(|heal| heal.sent).sum();
        let moves: u64 = run.summary.kills.iter().map(|kill| kill.unexplained_moves).sum::<u64>()
            + run.summary.heals.iter().map(|heal| heal.unexplained_moves).sum::<u64>();
        let resolution = run.summary.kills.iter().map(|k| k.resolution_ms).fold(0.0, f64::max);
        self.line(format_args!(
            "times in milliseconds · heals lost {lost} of {sent} · unexplained moves {moves} · resolution {resolution:.2} ms"
        ));
        for failure in &run.summary.failures {
            self.line(self.paint("31", format_args!("FAILED   {failure}")));
        }
        let verdict = if run.summary.ok {
            self.paint("32", "every expectation held")
        } else {
            self.paint("31", "not every expectation held")
        };
        let took = Nanos::now().since(started).as_secs_f64();
        self.line(format_args!("{verdict} · {took:.1} s"));
        self.line(format_args!("report   {}", page.display()));
        self.line(format_args!("again    {}", run.command));
    }

    fn summary_line(&self, run: &Run, kill: &KillSummary) -> String {
        let budget = run.budgets.get(&kill.kind).map_or(f64::INFINITY, |budget| budget.p50_ms);
        let met = kill.blackout_ms.p50 <= budget;
        let p50 = format!("{:>6.2}", kill.blackout_ms.p50);
        format!(
            "{:<9}  {:<6}  {}  {:>6.2}  {:>6.1}  {:>4}  {:>9}  {:>6.2}  {:>7.3}  {:>6.2}  {} -> {}",
            kill.kind.label(),
            kill.family.label(),
            self.paint(if met { "32" } else { "31" }, p50),
            kill.blackout_ms.max,
            budget,
            kill.lost,
            kill.reordered,
            kill.detect_ms,
            kill.publish_ms,
            kill.repair_ms,
            kill.from_site,
            kill.to_site
        )
    }

    pub(super) fn keep(&self) {
        self.line("");
        self.line("The lab stays up until Ctrl-C. From another terminal:");
        self.line("  nearlab shell client");
        self.line("  nearlab shell client dig @198.51.100.53 id.server CH TXT");
        self.line("  nearlab shell r1 nearhop --help");
    }
}
