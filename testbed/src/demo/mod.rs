//! The demo: builds a lab, kills what carries its traffic in every way there is, and measures.
#![forbid(unsafe_code)]

mod acts;
mod screen;
mod show;
mod tables;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nearhop::ids::Family;
use nearhop::time::Nanos;

use crate::doctor;
use crate::lab::Lab;
use crate::measure::{
    HealResult, KillError, KillKind, KillResult, Standard, Summary, Wanted, Window, ms,
};
use crate::report::{LabEventKind, Machine, ReportedKill, Run, RunFolder};
use crate::topology::{NodeKind, Topology};
use crate::traffic::Awaited;
use crate::utc::Utc;
use acts::Outcome;
use screen::Screen;
use show::Show;

/// Arguments of `nearlab demo`.
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
    #[arg(long, value_name = "DIR", default_value = RUNS)]
    pub runs: PathBuf,
    /// Judge speed by absolute figures, whatever the machine: for benches on a quiet one.
    #[arg(long)]
    pub strict: bool,
    /// Kinds of kill, separated by commas; all four if not given.
    #[arg(long, value_delimiter = ',', value_name = "KINDS")]
    pub kinds: Vec<KillKindArg>,
    /// Build this lab instead of the built-in one: one client, one router, two sites or more.
    #[arg(long, value_name = "FILE")]
    pub topology: Option<PathBuf>,
    /// Makes the router hear of lost carrier so many milliseconds late: for the test that a router
    /// that is too slow fails.
    #[arg(long, value_name = "MS", hide = true)]
    pub test_carrier_delay_ms: Option<u32>,
}

/// A kind of kill, as typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum KillKindArg {
    /// The link is set down.
    Announced,
    /// Packets vanish and nobody is notified.
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
    let mut show = Show::build(topology(options)?, options.seed, &folder, &router_args(options))?;
    screen.built(&show.stage, started);
    show.wait_for_service()?;
    screen.ready(&mut show, started)?;
    let mut results = Results::default();
    let begun = Nanos::now();
    show.settle()?;
    match play(options, &screen, &mut show, &mut results) {
        Ok(()) => screen.drained(&results),
        // The rest would be measured on a lab that does not work any more; what is there is shown.
        Err(DemoError::NotServed(what)) => results.failures.push(what),
        Err(error) => return Err(error),
    }
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

/// All kills and heals, and the drain.
fn play(
    options: &DemoOptions,
    screen: &Screen,
    show: &mut Show,
    results: &mut Results,
) -> Result<(), DemoError> {
    for round in 0..options.repeat {
        for kind in options.kinds() {
            let outcome = show.kill_and_heal(kind, results)?;
            screen.kill(round + 1, kind, &outcome);
        }
    }
    show.drain_and_back(results)
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
    let mut show = Show::build(Topology::three_sites(), seed, &folder, &[])?;
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
        let standard = options.standard(ms_of(show.stage.detection()));
        let wanted = Wanted { kinds: options.kinds(), repeats: options.repeat.into() };
        let summary = Summary::new(&self.kills, &self.heals, &standard, &wanted, self.failures);
        show.stage.note(LabEventKind::Note { text: "end".into() })?;
        Ok(Run {
            started: Utc::now().rfc3339(),
            command: options.command(),
            seed: options.seed,
            machine: Machine::this(),
            method,
            sites: show.stage.sites(),
            traces: taken.traces,
            marks: show.finish_events()?,
            kills: self.reported,
            played: None,
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

impl DemoOptions {
    /// What to kill, in order.
    fn kinds(&self) -> Vec<KillKind> {
        if self.kinds.is_empty() {
            return KillKind::ALL.to_vec();
        }
        self.kinds.iter().map(|&arg| arg.into()).collect()
    }

    /// What a median blackout may be. A fault that nobody announces is known after `detection_ms`.
    fn standard(&self, detection_ms: f64) -> Standard {
        let of = |announced, others: [f64; 3]| {
            let kinds = [KillKind::Silent, KillKind::Server, KillKind::Site];
            let others = kinds.into_iter().zip(others);
            others.chain([(KillKind::Announced, announced)]).collect()
        };
        if self.strict {
            Standard::Absolute(of(1.0, [2.0, 5.0, 2.0].map(|more| detection_ms + more)))
        } else {
            Standard::Machine(of(0.0, [detection_ms; 3]))
        }
    }

    /// What to type for the same again.
    fn command(&self) -> String {
        let mut words = vec!["nearlab demo".to_owned()];
        words.push(format!("--repeat {} --seed {}", self.repeat, self.seed));
        if !self.kinds.is_empty() {
            let kinds: Vec<_> = self.kinds().iter().map(|kind| kind.label()).collect();
            words.push(format!("--kinds {}", kinds.join(",")));
        }
        if let Some(file) = &self.topology {
            words.push(format!("--topology {}", quoted(file)));
        }
        if self.runs.as_path() != Path::new(RUNS) {
            words.push(format!("--runs {}", quoted(&self.runs)));
        }
        if let Some(ms) = self.test_carrier_delay_ms {
            words.push(format!("--test-carrier-delay-ms {ms}"));
        }
        let flags = [(self.strict, "--strict"), (self.json, "--json"), (self.keep, "--keep")];
        words.extend(flags.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag.to_owned()));
        words.join(" ")
    }
}

impl From<KillKindArg> for KillKind {
    fn from(arg: KillKindArg) -> Self {
        match arg {
            KillKindArg::Announced => Self::Announced,
            KillKindArg::Silent => Self::Silent,
            KillKindArg::Server => Self::Server,
            KillKindArg::Site => Self::Site,
        }
    }
}

fn router_args(options: &DemoOptions) -> Vec<OsString> {
    let delay = options.test_carrier_delay_ms;
    delay.map(|ms| format!("--test-carrier-delay-ms={ms}").into()).into_iter().collect()
}

fn ms_of(span: Duration) -> f64 {
    ms(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

/// As a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+:@%,".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Where run folders are made unless something else is said.
const RUNS: &str = "runs";

/// Both families are measured at once.
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        demo: DemoOptions,
    }

    #[test]
    fn the_command_for_the_same_again_has_every_option() {
        for (typed, again) in [
            ("", "nearlab demo --repeat 5 --seed 7"),
            (
                "--json --keep --strict --kinds silent,site --seed 9 --repeat 2",
                "nearlab demo --repeat 2 --seed 9 --kinds silent,site --strict --json --keep",
            ),
            (
                "--runs /tmp/x --topology my.toml --test-carrier-delay-ms 20",
                "nearlab demo --repeat 5 --seed 7 --topology my.toml --runs /tmp/x \
                 --test-carrier-delay-ms 20",
            ),
        ] {
            let words = std::iter::once("demo").chain(typed.split_whitespace());
            let options = Command::parse_from(words).demo;
            assert_eq!(options.command(), again);
            // What it says, typed, says the same.
            let words = again.split_whitespace().skip(1);
            assert_eq!(Command::parse_from(words).demo.command(), again);
        }
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
    }
}
