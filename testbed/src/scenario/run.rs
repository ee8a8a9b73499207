//! Plays a scenario on its stage.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nearhop::time::Nanos;

use super::judge::{Done, Record};
use super::{Deed, Expectation, Outcome, Scenario, StepOutcome, output};
use crate::announcer::Stance;
use crate::console::Console;
use crate::doctor;
use crate::measure::{KillKind, SUMMARY_SCHEMA, Summary, Trace};
use crate::report::{Expected, LabEventKind, Machine, Played, PlayedStep, Run, RunFolder};
use crate::stage::{ECHO_PORT, Stage, StageError, patience};
use crate::traffic::probe::sleep_until;
use crate::traffic::protocol::FlowNow;
use crate::traffic::{Awaited, ProbeOptions, Prober};
use crate::utc::Utc;

/// Arguments of `nearlab run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunOptions {
    /// The scenario.
    #[arg(value_name = "SCENARIO.toml")]
    pub file: PathBuf,
    /// Another seed than the file's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print nothing but one line of JSON on standard output (nearlab.run.v1).
    #[arg(long)]
    pub json: bool,
    /// Where run folders are made.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,
}

/// Plays it inside a sandbox; `true` if every expectation held.
///
/// # Errors
/// What kept it from reaching its end.
pub fn run(scenario: &Scenario, options: &RunOptions) -> Result<bool, StageError> {
    let console = Console::new(options.json);
    let report = doctor::run().map_err(StageError::lab)?;
    console.doctor(&report);
    if !report.ok() {
        return Err(StageError::Lab("this machine cannot build a lab; see above".into()));
    }
    let folder = RunFolder::create(&options.runs, Utc::now())?;
    let mut play = Play::build(scenario, &folder, &console)?;
    let played = play.steps(&console)?;
    let taken = play.records(&played)?;
    play.finish(&played, &taken, options, &folder)
}

/// A scenario being played.
struct Play<'a> {
    scenario: &'a Scenario,
    stage: Stage,
    probers: Vec<Prober>,
    done: Vec<Done>,
    /// How sites that are dead died.
    dead: BTreeMap<String, KillKind>,
}

impl<'a> Play<'a> {
    fn build(
        scenario: &'a Scenario,
        folder: &RunFolder,
        console: &Console,
    ) -> Result<Self, StageError> {
        let started = Nanos::now();
        let stage = Stage::build(scenario.topology.clone(), scenario.seed, folder)?;
        let (done, dead) = (Vec::new(), BTreeMap::new());
        let mut play = Self { scenario, stage, probers: Vec::new(), done, dead };
        play.stage.wait_for_sites()?;
        play.probers = start_probers(scenario, &play.stage)?;
        for prober in &mut play.probers {
            wait_for_answers(prober, &play.stage)?;
        }
        let took = Nanos::now().since(started).as_secs_f64();
        let sites = play.stage.sites().join(", ");
        console.line(format_args!("network  {sites} up, every flow answered in {took:.2} s"));
        Ok(play)
    }

    /// Takes each step at its time, or later by what steps before it took that should take no time:
    /// what counts is how far they are apart. Returns from when to when it was played.
    fn steps(&mut self, console: &Console) -> Result<Range<Nanos>, StageError> {
        let begin = Nanos::now() + LEAD;
        sleep_until(begin);
        self.stage.note(LabEventKind::Note { text: format!("{} begins", self.scenario.name) })?;
        let mut times = Times { begin, late: Duration::ZERO };
        for (index, step) in self.scenario.steps.iter().enumerate() {
            let at = times.at(step.at);
            sleep_until(at);
            console.line(format_args!("{:>7.3} s  {}", step.at.as_secs_f64(), step.deed));
            match &step.deed {
                Deed::Flap { .. } => self.flap(index, at, &step.deed)?,
                deed => {
                    let from = Nanos::now();
                    self.act(index, deed.clone())?;
                    let took = Nanos::now().since(from);
                    if times.took(took) {
                        let took = took.as_secs_f64();
                        console.line(format_args!("{:9}  took {took:.3} s: the rest is later", ""));
                    }
                }
            }
            if !step.expect.served_by.is_empty() {
                self.wait_for(&step.expect.served_by)?;
                let next = self.scenario.steps.get(index + 1);
                times.catch_up(Nanos::now(), next.map_or(self.scenario.lasts, |next| next.at));
            }
        }
        let end = times.at(self.scenario.lasts);
        sleep_until(end);
        Ok(begin..end)
    }

    /// Waits until the last answer of every flow is from one of these sites, and was heard after this
    /// call. Whether that came about is judged later, by the records.
    fn wait_for(&mut self, sites: &[String]) -> Result<(), StageError> {
        let from = Nanos::now();
        let is_served = |flow: &FlowNow| {
            let by = flow.site.as_ref();
            flow.heard_ns > from.0 && by.is_some_and(|site| sites.contains(site))
        };
        for prober in &mut self.probers {
            let all = |flows: &[FlowNow]| flows.iter().all(is_served);
            let _ = prober.wait_until(STEP_BUDGET, all).map_err(StageError::lab)?;
        }
        Ok(())
    }

    /// Deaths at their own times; later where a return took long, so that between two deaths the
    /// site is back for as long as it says.
    fn flap(&mut self, index: usize, start: Nanos, deed: &Deed) -> Result<(), StageError> {
        let Deed::Flap { site, how, every, down, lasts } = deed else { return Ok(()) };
        let mut at = start;
        while at < start + *lasts {
            sleep_until(at);
            self.act(index, Deed::Kill { site: site.clone(), how: *how })?;
            sleep_until(at + *down);
            self.act(index, Deed::Heal { site: site.clone() })?;
            at = (at + *every).max(Nanos::now() + every.saturating_sub(*down));
        }
        Ok(())
    }

    fn act(&mut self, step: usize, deed: Deed) -> Result<(), StageError> {
        let from_ns = Nanos::now().0;
        let (stage, dead) = (&mut self.stage, &mut self.dead);
        match &deed {
            Deed::Kill { site, how } => {
                dead.insert(site.clone(), *how);
                stage.inflict(*how, site).map(drop)?;
            }
            Deed::Heal { site } => {
                if let Some(how) = dead.remove(site) {
                    stage.heal(how, site).map(drop)?;
                }
            }
            Deed::Flap { .. } => {}
            Deed::Drain(site) => stage.set_drained(site, true)?,
            Deed::Undrain(site) => stage.set_drained(site, false)?,
            Deed::Withdraw(site) => stage.take(site, Stance::Withdrawn, "withdraw")?,
            Deed::Announce(site) => stage.take(site, Stance::Announced, "announce")?,
            Deed::Reorder(order) => stage.reorder(order)?,
            Deed::Undamp => stage.ask("undamp")?,
        }
        self.done.push(Done { step, deed, from_ns, to_ns: Nanos::now().0 });
        Ok(())
    }

    /// The records of all probers, from the beginning on; none may be missing.
    fn records(&mut self, played: &Range<Nanos>) -> Result<Vec<Trace>, StageError> {
        let delays = self.scenario.topology.links.iter().map(|link| link.impairment.delay);
        let patience = patience(Awaited::Every, delays.max().unwrap_or_default());
        let mut traces = Vec::new();
        for prober in &mut self.probers {
            let taken = prober.take_records(played.clone(), patience).map_err(StageError::lab)?;
            if !taken.head.complete {
                let what = "the prober has lost some of its records; let the scenario last shorter";
                return Err(StageError::Lab(what.into()));
            }
            traces.extend(taken.traces);
        }
        Ok(traces)
    }

    fn finish(
        self,
        played: &Range<Nanos>,
        traces: &[Trace],
        options: &RunOptions,
        folder: &RunFolder,
    ) -> Result<bool, StageError> {
        let console = Console::new(options.json);
        let events = self.stage.events.router_events(0);
        let record = Record {
            begin_ns: played.start.0,
            end_ns: played.end.0,
            traces,
            done: &self.done,
            events: &events,
        };
        let outcome = Outcome::of(self.scenario, &record);
        folder.write_records(traces)?;
        write_outcome(folder.path(), &outcome)?;
        let page = folder.write_report(&self.page(&outcome, traces, options))?;
        output::outcome(&console, &outcome);
        let lines = self.stage.events.finish()?;
        output::failures(&console, &outcome.failures, &lines, played.start.0);
        let (colour, verdict) = if outcome.ok {
            ("32", "every expectation held")
        } else {
            ("31", "not every expectation held")
        };
        console.line(console.paint(colour, verdict));
        console.line(format_args!("report   {}", page.display()));
        if options.json {
            println!("{}", serde_json::to_string(&outcome).map_err(StageError::lab)?);
        }
        Ok(outcome.ok)
    }

    fn page(&self, outcome: &Outcome, traces: &[Trace], options: &RunOptions) -> Run {
        let failures =
            outcome.failures.iter().map(|one| format!("{}: {}", one.expect, one.what)).collect();
        let summary = Summary {
            schema: SUMMARY_SCHEMA.to_owned(),
            ok: outcome.ok,
            kills: Vec::new(),
            heals: Vec::new(),
            failures,
        };
        let file = options.file.display();
        Run {
            started: Utc::now().rfc3339(),
            command: format!("nearlab run {file} --seed {}", outcome.seed),
            seed: outcome.seed,
            machine: Machine::this(),
            method: vec![("silent faults".into(), format!("made by {}", self.stage.silence()))],
            sites: self.stage.sites(),
            traces: traces.to_vec(),
            marks: self.stage.events.marks(),
            kills: Vec::new(),
            played: Some(played(outcome)),
            summary,
        }
    }
}

fn played(outcome: &Outcome) -> Played {
    let step = |step: &StepOutcome| PlayedStep {
        at_ms: step.at_ms,
        what: step.what.clone(),
        outage_ms: step.outage_ms,
        lost: step.lost,
        sent: step.sent,
        moves: step.moves,
        served_by: step.served_by.clone(),
    };
    let expected = |one: &Expectation| Expected {
        key: one.expect.clone(),
        wanted: one.wanted.clone(),
        found: one.found.clone(),
        held: one.held,
    };
    Played {
        scenario: outcome.scenario.clone(),
        steps: outcome.steps.iter().map(step).collect(),
        expectations: outcome.expectations.iter().map(expected).collect(),
    }
}

/// When steps are taken.
struct Times {
    begin: Nanos,
    late: Duration,
}

impl Times {
    fn at(&self, planned: Duration) -> Nanos {
        self.begin + planned + self.late
    }

    /// What comes next was planned for then: it is later if that is past already.
    fn catch_up(&mut self, now: Nanos, planned: Duration) {
        self.late += now.since(self.at(planned));
    }

    /// A step took so long. Returns whether what follows is later for it.
    fn took(&mut self, long: Duration) -> bool {
        let is_late = long > LATE_FROM;
        self.late += if is_late { long } else { Duration::ZERO };
        is_late
    }
}

/// One for each `[[flow]]`, each with source ports of its own.
fn start_probers(scenario: &Scenario, stage: &Stage) -> Result<Vec<Prober>, StageError> {
    let mut port = FIRST_PORT;
    let mut probers = Vec::new();
    for flow in &scenario.flows {
        let options = ProbeOptions {
            client: flow.from.clone(),
            to: flow.to.clone(),
            flows: flow.count,
            source_port: port,
            echo_port: ECHO_PORT,
            dns_port: 53,
            spacing_us: u64::try_from(flow.every.as_micros()).unwrap_or(u64::MAX),
            dns_every_ms: 0,
        };
        port = port.saturating_add(u16::try_from(flow.to.len()).unwrap_or(u16::MAX) * flow.count);
        probers.push(stage.start_prober(&options)?);
    }
    Ok(probers)
}

/// Waits until each flow has been answered, by a site that may answer while all are well.
pub(crate) fn wait_for_answers(prober: &mut Prober, stage: &Stage) -> Result<(), StageError> {
    let may = stage.may_answer();
    let is_served = |flow: &FlowNow| flow.site.as_deref().is_some_and(|site| may.contains(&site));
    let all = |flows: &[FlowNow]| flows.iter().all(is_served);
    match prober.wait_until(ANSWERS_BUDGET, all).map_err(StageError::lab)? {
        Ok(_) => Ok(()),
        Err(last) => {
            let silent = last.iter().filter(|flow| !is_served(flow)).count();
            let may = may.join(" or ");
            let what = format!("{silent} flows had no answer from {may} in {ANSWERS_BUDGET:?}");
            Err(StageError::Lab(what))
        }
    }
}

fn write_outcome(folder: &Path, outcome: &Outcome) -> Result<(), StageError> {
    let text = serde_json::to_string_pretty(outcome).map_err(StageError::lab)?;
    fs::write(folder.join("summary.json"), text + "\n").map_err(StageError::lab)
}

/// A step that took longer, on a machine that is busy, postpones what follows it.
const LATE_FROM: Duration = Duration::from_millis(50);

/// For a step to come to what it is expected to; ten times what silence of a BGP neighbour takes.
const STEP_BUDGET: Duration = Duration::from_secs(90);

/// From the first answers to the beginning.
const LEAD: Duration = Duration::from_millis(100);
const ANSWERS_BUDGET: Duration = Duration::from_secs(10);
const FIRST_PORT: u16 = 40_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_took_long_postpones_what_follows_and_others_do_not() {
        let (begin, ms) = (Nanos(1_000_000_000), Duration::from_millis);
        let mut times = Times { begin, late: Duration::ZERO };
        assert!(!times.took(ms(50)));
        assert_eq!(times.at(ms(700)), begin + ms(700));
        assert!(times.took(ms(1_900)));
        assert!(times.took(ms(100)));
        assert_eq!(times.at(ms(700)), begin + ms(2_700));
    }
}
