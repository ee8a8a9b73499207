//! The demo: builds a lab, kills what carries its traffic in every way there is, and measures.
#![forbid(unsafe_code)]

mod acts;
mod screen;
mod show;

use std::path::{Path, PathBuf};

use nearhop::event::Family;
use nearhop::time::Nanos;

use crate::doctor;
use crate::lab::Lab;
use crate::measure::{
    Budgets, Expectation, HealResult, KillError, KillKind, KillResult, Summary, Window,
};
use crate::report::{LabEventKind, Machine, ReportedKill, Run, RunFolder};
use crate::topology::{NodeKind, Topology};
use crate::traffic::Awaited;
use crate::utc::Utc;
use acts::Outcome;
use screen::Screen;
use show::Show;

/// What `nearlab demo` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoOptions {
    /// How often each of the four kinds of kill is done.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Kills at the same moments again: the phase of each kill against the probes follows from it.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Print nothing but one line of JSON on standard output (nearlab.demo.v1).
    #[arg(long)]
    pub json: bool,
    /// Leave the lab up at the end, until Ctrl-C, and say how to enter it.
    #[arg(long)]
    pub keep: bool,
    /// Where run folders are made.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,
    /// Allow blackouts this many times longer than promised: for machines that are busy with
    /// other work.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub slack: f64,
    /// Kinds of kill, separated by commas; all four if not given.
    #[arg(long, value_delimiter = ',', value_name = "KINDS")]
    pub kinds: Vec<KillKindArg>,
    /// Build this lab instead of the built-in one: one client, one router, two sites or more.
    #[arg(long, value_name = "FILE")]
    pub topology: Option<PathBuf>,
}

/// A kind of kill, as typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum KillKindArg {
    /// The link is set down.
    Announced,
    /// Packets vanish and nobody is told.
    Silent,
    /// The site's server process gets SIGKILL.
    Server,
    /// The site loses power.
    Site,
}

/// Why a demo could not be run to its end.
pub use crate::stage::StageError as DemoError;

/// Runs the demo inside a sandbox; `true` if every expectation held.
///
/// # Errors
/// What kept it from reaching its end.
pub fn run(options: &DemoOptions) -> Result<bool, DemoError> {
    let screen = Screen::new(options.json);
    let report = doctor::run().map_err(DemoError::lab)?;
    screen.doctor(&report);
    if !report.ok() {
        return Err(DemoError::Lab("this machine cannot build a lab; see above".into()));
    }
    let folder = RunFolder::create(&options.runs, Utc::now())?;
    let started = Nanos::now();
    let mut show = Show::build(topology(options)?, options.seed, &folder)?;
    screen.built(&show.stage, started);
    show.wait_for_service()?;
    screen.ready(&mut show, started)?;
    let mut results = Results::default();
    let begun = Nanos::now();
    show.settle()?;
    for round in 0..options.repeat {
        for kind in kinds(options) {
            let outcome = show.kill_and_heal(kind, &mut results)?;
            screen.kill(round + 1, kind, &outcome);
        }
    }
    show.drain_and_back(&mut results)?;
    screen.drained(&results);
    let ended = Nanos::now();
    screen.dns(&show.prober.take_dns(begun..ended).map_err(DemoError::lab)?);
    let run = results.into_run(options, &mut show, begun, ended)?;
    finish(options, &folder, &screen, &run, started)?;
    if options.keep {
        screen.keep();
        show.hold();
    }
    Ok(run.summary.ok)
}

/// One kill of a demo, for whoever looks at the same lab by other means.
#[derive(Clone, Debug)]
pub struct Observed {
    /// How.
    pub kind: KillKind,
    /// Who died.
    pub site: String,
    /// When.
    pub window: Window,
    /// What the demo made of it: one for each family.
    pub kills: Vec<Result<KillResult, KillError>>,
}

/// Builds the built-in lab, calls `built`, kills and heals once in each way, and calls `killed`
/// after each heal. Writes a run folder, without a report, under `runs`.
///
/// # Errors
/// What kept it from reaching its end, what was expected and did not hold, or what a callback said.
pub fn observe(
    seed: u64,
    runs: &Path,
    built: &mut dyn FnMut(&Lab) -> Result<(), DemoError>,
    killed: &mut dyn FnMut(Observed) -> Result<(), DemoError>,
) -> Result<(), DemoError> {
    let folder = RunFolder::create(runs, Utc::now())?;
    let mut show = Show::build(Topology::three_sites(), seed, &folder)?;
    show.wait_for_service()?;
    built(&show.stage.lab)?;
    show.settle()?;
    let mut results = Results::default();
    for kind in KillKind::ALL {
        let Outcome { site, window, kills, .. } = show.kill_and_heal(kind, &mut results)?;
        killed(Observed { kind, site, window, kills })?;
    }
    match results.failures.as_slice() {
        [] => Ok(()),
        failures => Err(DemoError::Lab(failures.join("; "))),
    }
}

/// Writes the run folder and the summary.
fn finish(
    options: &DemoOptions,
    folder: &RunFolder,
    screen: &Screen,
    run: &Run,
    started: Nanos,
) -> Result<(), DemoError> {
    folder.write_records(&run.traces)?;
    folder.write_summary(&run.summary)?;
    let page = folder.write_report(run)?;
    screen.summary(run, &page, started);
    if options.json {
        println!("{}", serde_json::to_string(&run.summary).map_err(DemoError::lab)?);
    }
    Ok(())
}

/// Everything that was measured.
#[derive(Default)]
struct Results {
    kills: Vec<KillResult>,
    heals: Vec<HealResult>,
    reported: Vec<ReportedKill>,
    failures: Vec<String>,
    /// Probes sent and lost over reloads, and over the drain and its end.
    reloads: (u64, u64),
    drains: (u64, u64),
}

impl Results {
    fn into_run(
        self,
        options: &DemoOptions,
        show: &mut Show,
        begun: Nanos,
        ended: Nanos,
    ) -> Result<Run, DemoError> {
        let taken = show.records(begun..ended, Awaited::Last)?;
        let method = show.method(&taken.head);
        let budgets = budgets(options.slack);
        let summary = Summary::new(&self.kills, &self.heals, &budgets, self.failures);
        show.stage.note(LabEventKind::Note { text: "end".into() })?;
        Ok(Run {
            started: Utc::now().rfc3339(),
            command: format!("nearlab demo --repeat {} --seed {}", options.repeat, options.seed),
            seed: options.seed,
            machine: Machine::this(),
            method,
            sites: show.stage.sites(),
            traces: taken.traces,
            marks: show.finish_events()?,
            kills: self.reported,
            budgets,
            summary,
        })
    }
}

fn topology(options: &DemoOptions) -> Result<Topology, DemoError> {
    let topology = match &options.topology {
        None => Topology::three_sites(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| DemoError::Lab(format!("{}: {error}", path.display())))?;
            Topology::parse(&path.to_string_lossy(), &text).map_err(DemoError::lab)?
        }
    };
    let count = |kind| topology.nodes_of(kind).count();
    let fits = (count(NodeKind::Client), count(NodeKind::Router)) == (1, 1)
        && count(NodeKind::Site) >= 2
        && topology.services.len() == 1;
    if fits {
        return Ok(topology);
    }
    Err(DemoError::Lab(
        "the demo needs a lab of one client, one router, one service and two sites or more".into(),
    ))
}

fn kinds(options: &DemoOptions) -> Vec<KillKind> {
    if options.kinds.is_empty() {
        return KillKind::ALL.to_vec();
    }
    let kind = |arg: &KillKindArg| match arg {
        KillKindArg::Announced => KillKind::Announced,
        KillKindArg::Silent => KillKind::Silent,
        KillKindArg::Server => KillKind::Server,
        KillKindArg::Site => KillKind::Site,
    };
    options.kinds.iter().map(kind).collect()
}

/// What is promised of the median blackout. A silent fault is known when three probes, 10 ms apart,
/// are missed; 2 ms more are allowed for everything else, 5 for a server.
fn budgets(slack: f64) -> Budgets {
    let budget = |ms: f64| Expectation { p50_ms: ms * slack };
    Budgets::from([
        (KillKind::Announced, budget(1.0)),
        (KillKind::Silent, budget(32.0)),
        (KillKind::Server, budget(35.0)),
        (KillKind::Site, budget(32.0)),
    ])
}

/// Both families are measured at once.
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];
