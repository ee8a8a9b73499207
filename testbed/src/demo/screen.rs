//! What the demo prints, line by line.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use nearhop::time::Nanos;

use super::acts::Outcome;
use super::show::Show;
use super::tables::{Mood, tables, verdict};
use super::{DemoError, Results};
use crate::console::Console;
use crate::doctor::Report;
use crate::measure::{KillError, KillKind, KillResult};
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
        self.line(format_args!("network  {sites} share {service}, up in {took:.2} s"));
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
        self.line(ROUNDS);
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
                "{round:>5}  {:<9}  {:<14}  {:<6}  {}  {:>6}  {:>7.2}  {:>7.3}",
                kind.label(),
                format!("{site} -> {}", r.to_site),
                r.family.label(),
                self.paint("1", format_args!("{:>8.2}", r.blackout_ms)),
                r.lost,
                r.detect_ms,
                r.repair_ms,
            ),
            Err(error) => self.paint("31", format!("{round:>5}  {error}")),
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
        for line in tables(&run.summary) {
            let colour = match line.mood {
                Mood::Plain => None,
                Mood::Good => Some("32"),
                Mood::Bad => Some("31"),
            };
            match colour {
                Some(colour) => self.line(self.paint(colour, line.text)),
                None => self.line(line.text),
            }
        }
        let took = Nanos::now().since(started).as_secs_f64();
        let (colour, verdict) = verdict(&run.summary);
        self.line(format_args!("{} · {took:.1} s", self.paint(colour, verdict)));
        self.line(format_args!("report   {}", page.display()));
        self.line(format_args!("again    {}", run.command));
    }

    pub(super) fn keep(&self) {
        self.line("");
        self.line("The lab stays up until Ctrl-C. From another terminal:");
        self.line("  nearlab shell client");
        self.line("  nearlab shell client dig @198.51.100.53 id.server CH TXT");
        self.line("  nearlab shell r1 nearhop --help");
    }
}

const ROUNDS: &str = "ROUND  KILL       DIED -> NEXT    FAMILY  BLACKOUT    LOST   DETECT   REPAIR";
