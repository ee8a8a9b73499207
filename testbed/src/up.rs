//! `nearlab up`: runs a lab with its router, sites and traffic until Ctrl-C.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nearhop::time::Nanos;

use crate::console::Console;
use crate::doctor;
use crate::report::RunFolder;
use crate::scenario::wait_for_answers;
use crate::stage::{ECHO_PORT, Stage, StageError};
use crate::topology::{HOLD_TIME_S, NodeKind, Topology};
use crate::traffic::{Moved, ProbeOptions, Prober};
use crate::utc::Utc;

/// Options of `nearlab up`.
#[derive(Clone, Debug, clap::Args)]
pub struct UpOptions {
    /// The lab's topology; by default the built-in one of three sites.
    #[arg(value_name = "TOPOLOGY.toml")]
    pub file: Option<PathBuf>,
    /// Seed of the random decisions of impaired links.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Where run folders are created. A run folder has the logs of router and sites.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,
}

/// Builds the lab inside a sandbox, prints how to enter it, and reports every flow that moves until
/// a signal ends the program.
///
/// # Errors
/// The reason why the lab could not be started.
pub fn run(topology: Topology, options: &UpOptions) -> Result<(), StageError> {
    let console = Console::new(false);
    let report = doctor::run().map_err(StageError::lab)?;
    console.doctor(&report);
    if !report.ok() {
        return Err(StageError::Lab("this machine cannot build a lab; see above".into()));
    }
    check(&topology)?;
    let folder = RunFolder::create(&options.runs, Utc::now())?;
    let started = Nanos::now();
    let stage = Stage::build(topology, options.seed, &folder)?;
    stage.wait_for_sites()?;
    let mut probers = start_probers(&stage)?;
    for prober in &mut probers {
        wait_for_answers(prober, &stage)?;
    }
    let took = Nanos::now().since(started).as_secs_f64();
    console.line(format_args!("network  up, every flow answered in {took:.2} s"));
    say_how_to_enter(&console, &stage, &folder);
    follow(&console, &probers, started)
}

fn check(topology: &Topology) -> Result<(), StageError> {
    let routers = topology.nodes_of(NodeKind::Router).count();
    if routers == 1 {
        return Ok(());
    }
    Err(StageError::Lab(format!("expected a lab with one router, found {routers}")))
}

/// Starts a prober at each client, to every service.
fn start_probers(stage: &Stage) -> Result<Vec<Prober>, StageError> {
    let topology = stage.lab.topology();
    let to: Vec<_> = topology.services.iter().flat_map(|one| one.addresses.clone()).collect();
    let clients = topology.nodes_of(NodeKind::Client).filter(|_| !to.is_empty());
    let prober = |client: &str| {
        stage.start_prober(&ProbeOptions {
            client: client.to_owned(),
            to: to.clone(),
            flows: 4,
            source_port: 40_000,
            echo_port: ECHO_PORT,
            dns_port: 53,
            spacing_us: SPACING_US,
            dns_every_ms: 0,
        })
    };
    clients.map(|client| prober(&client.name)).collect()
}

fn say_how_to_enter(console: &Console, stage: &Stage, folder: &RunFolder) {
    let topology = stage.lab.topology();
    let nodes: Vec<_> = topology.nodes.iter().map(|node| node.name.as_str()).collect();
    let router = topology.nodes_of(NodeKind::Router).next().map_or("", |node| &node.name);
    console.line(format_args!("nodes    {}", nodes.join(", ")));
    console.line(format_args!("logs     {}", folder.path().display()));
    console.line("");
    console.line("The lab stays up until Ctrl-C. From another terminal:");
    // Of a service that sites announce, the router knows its routes alone.
    let announced = topology.services.iter().find(|service| service.is_announced());
    let address = announced.and_then(|service| service.addresses.first());
    let shown =
        address.map_or_else(|| "services".to_owned(), |address| format!("routes {address}"));
    console.line(format_args!("  nearlab shell {router} nearhop show {shown}"));
    console.line(format_args!("  nearlab shell {router} nearhop watch"));
    if let Some(site) = topology.nodes_of(NodeKind::Site).next() {
        let note = format!("   # noticed within the hold time, {HOLD_TIME_S} s");
        let note = announced.map_or("", |_| &note);
        console.line(format_args!("  nearlab shell {0} ip link set nh-{0} down{note}", site.name));
    }
    if announced.is_some() {
        console.line(format_args!("  nearlab shell {router} nearhop show bgp"));
        console.line("");
        console.line("Sites announce by BGP, each by a daemon whose own command works there:");
    }
    for announcer in stage.announcers() {
        let [about, commands @ ..] = announcer.examples();
        console.line(format_args!("  # {about}"));
        for command in commands {
            console.line(format_args!("  nearlab shell {} {command}", announcer.site()));
        }
    }
    console.line("");
}

/// Prints each flow that moves, in the order of time.
fn follow(console: &Console, probers: &[Prober], started: Nanos) -> ! {
    let mut seen = InOrder::default();
    loop {
        for (place, prober) in probers.iter().enumerate() {
            prober.moves().try_iter().for_each(|moved| seen.add(place, moved));
        }
        for (place, Moved { flow, from, to, t_ns }) in seen.take_before(Nanos::now() - SETTLED) {
            let at = Nanos(t_ns).since(started).as_secs_f64();
            let Some(of) = probers[place].flows().get(usize::from(flow)) else { continue };
            console.line(format_args!(
                "{at:>9.3} s  {} {} flow {flow}: {from} -> {to}",
                of.client,
                of.family.label()
            ));
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Moves that wait for earlier ones: flows, and probers, report theirs in any order.
#[derive(Default)]
struct InOrder(BTreeMap<(u64, usize, u16), Moved>);

impl InOrder {
    fn add(&mut self, prober: usize, moved: Moved) {
        self.0.insert((moved.t_ns, prober, moved.flow), moved);
    }

    /// Those before this time, each with the place of its prober.
    fn take_before(&mut self, time: Nanos) -> Vec<(usize, Moved)> {
        let later = self.0.split_off(&(time.0, 0, 0));
        let earlier = std::mem::replace(&mut self.0, later);
        earlier.into_iter().map(|((_, place, _), moved)| (place, moved)).collect()
    }
}

const SPACING_US: u64 = 10_000;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A move is known to all after this time, unless the machine stands still.
const SETTLED: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_come_in_the_order_of_time_whoever_reports_them_first() {
        let mut seen = InOrder::default();
        for (place, flow, t_ns) in [(0, 0, 30), (0, 1, 10), (1, 0, 20), (1, 1, 10), (0, 2, 40)] {
            seen.add(place, Moved { flow, from: "ams".into(), to: "fra".into(), t_ns });
        }
        let mut times = |before| {
            let taken = seen.take_before(Nanos(before));
            taken.into_iter().map(|(place, moved)| (moved.t_ns, place)).collect::<Vec<_>>()
        };
        assert_eq!(times(30), [(10, 0), (10, 1), (20, 1)]);
        assert_eq!(times(100), [(30, 0), (40, 0)]);
    }
}
