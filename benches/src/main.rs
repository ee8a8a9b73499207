//! Measures nearhop and its peers, interleaved in one run.
//!
//! `cargo run --profile dist -p nearhop-benches -- NAME [--json FILE]`; BENCHMARKING.md says how each
//! figure is made and how to read it.
#![deny(unsafe_code)]

mod bfd;
mod captures;
mod daemon;
mod failover;
mod fib;
mod forward;
mod frames;
mod fulltable;
#[cfg(test)]
#[path = "../../router/tests/support/kernel.rs"]
mod kernel;
mod lab;
mod linux;
mod noise;
mod program;
mod report;
#[cfg(test)]
#[path = "../../router/tests/support/skip.rs"]
mod skip;
mod soak;
mod starve;
mod stats;
mod svg;
mod sys;
mod throughput;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use nearlab::{sandbox, site, traffic};

use noise::Noise;
use report::{Bench, BenchError};

/// Measures nearhop and its peers, interleaved in one run.
#[derive(Clone, Debug, Parser)]
#[command(name = "nearhop-benches", after_help = names())]
struct Cli {
    /// Which bench, or `all`.
    name: String,
    /// Also write the figures as nearhop.bench.v1; one line for each bench.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Conclude although other programs use the processor.
    #[arg(long)]
    noisy: bool,
    /// Rounds, or faults of each kind and size; targets are judged over their medians. 11 by
    /// default, for `throughput` 21, for `fulltable` 5, for `bfd` 3.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: Option<u32>,
    /// Leave the peers out.
    #[arg(long)]
    alone: bool,
    /// Leave this peer out, by its name (`throughput`) or its first word (`failover`, `fib`).
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    without: Vec<String>,
    /// Leave out whatever no target is about (`throughput`): more rounds in the same time.
    #[arg(long)]
    judged: bool,
    /// Make only measures that have this in their names (`failover`, `throughput`).
    #[arg(long, value_name = "TEXT", default_value = "")]
    measure: String,
    /// Also draw the table as a bar chart (`fib`, `throughput`).
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    feed: fulltable::Feed,
    #[command(flatten)]
    failures: failover::Failures,
}

/// A bench's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// How many repeats.
    pub repeat: u32,
    /// Without peers.
    pub alone: bool,
    /// Without these.
    pub without: &'a [String],
    /// Without what no target is about.
    pub judged: bool,
    /// Only measures that have this in their names.
    pub measure: &'a str,
    /// Where to draw the figures.
    pub svg: Option<&'a Path>,
    /// Who announces what.
    pub feed: fulltable::Feed,
    /// How often which failures are made.
    pub failures: failover::Failures,
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = nearlab::dispatch(&args) {
        return code;
    }
    if args.first().is_some_and(|first| first == ROUTER) {
        return nearhop::cli::main(
            std::iter::once("nearhop".into()).chain(args.into_iter().skip(1)),
        );
    }
    if args.first().is_some_and(|first| first == "soak") {
        return soak::main(&args);
    }
    if args.first().is_some_and(|first| first == "frames") {
        return frames::main(&args);
    }
    if args.first().is_some_and(|first| GUESTS.iter().any(|guest| first == guest)) {
        return be(Guest::parse());
    }
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.status())
        }
    }
}

/// The other processes of a demo's lab, which start this very program.
#[derive(Debug, Parser)]
enum Guest {
    /// As `nearlab site`.
    Site(site::SiteOptions),
    /// As `nearlab probe`.
    Probe(traffic::ProbeOptions),
}

fn be(guest: Guest) -> ExitCode {
    let ended = match guest {
        Guest::Site(options) => site::run(&options).map_err(|error| error.to_string()),
        Guest::Probe(options) => traffic::probe::run(&options).map_err(|error| error.to_string()),
    };
    ended.map_or_else(
        |error| {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(3)
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run(cli: &Cli) -> Result<ExitCode, BenchError> {
    let chosen = choose(&cli.name)?;
    cli.feed.check()?;
    if !cfg!(dist) {
        let note = "not built with --profile dist: not to be compared with BENCHMARKING.md";
        let _ = writeln!(std::io::stderr(), "note: {note}");
    }
    // Labs are never on the host; to be done while there is one thread.
    let mut sandbox = sandbox::Options::named("bench");
    // RPS can be set and real-time scheduling asked for outside of user namespaces alone.
    let is_root = rustix::process::geteuid().is_root();
    let wants_root = |(name, _): &_| ["failover", "throughput"].contains(name);
    sandbox.user_namespace &= !(is_root && chosen.iter().any(wants_root));
    sandbox::enter(&sandbox).map_err(BenchError::environment)?;
    let (mut met, mut quiet) = (true, true);
    let mut lines = String::new();
    for (name, bench) in chosen {
        noise::refuse_if_busy(cli.noisy)?;
        let mut noise = Noise::begin();
        let repeat = cli.repeat.unwrap_or(match name {
            "throughput" => 21,
            "fulltable" => 5,
            "bfd" => 3,
            _ => 11,
        });
        let (alone, judged, svg) = (cli.alone, cli.judged, cli.svg.as_deref());
        let (without, measure) = (&*cli.without, &*cli.measure);
        let rows = bench(
            Wish {
                repeat,
                alone,
                without,
                judged,
                measure,
                svg,
                feed: cli.feed,
                failures: cli.failures,
            },
            &mut noise,
        )?;
        let bench = Bench::new(name, noise.end(), rows);
        println!("{bench}");
        met &= bench.met();
        quiet &= cli.noisy || bench.is_quiet();
        lines += &serde_json::to_string(&bench).map_err(BenchError::environment)?;
        lines.push('\n');
    }
    if let Some(path) = &cli.json {
        std::fs::write(path, lines).map_err(|error| {
            BenchError::environment(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    if !quiet {
        return Err(BenchError::environment(
            "others used too much of the processors by the end: these figures prove nothing",
        ));
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::from(MISSED) })
}

type Run = fn(Wish<'_>, &mut Noise) -> Result<Vec<report::Row>, BenchError>;

fn choose(name: &str) -> Result<Vec<(&'static str, Run)>, BenchError> {
    if name == "all" {
        return Ok(BENCHES.to_vec());
    }
    if let Some(&bench) = BENCHES.iter().find(|(known, _)| *known == name) {
        return Ok(vec![bench]);
    }
    Err(BenchError::usage(format!("no bench is called \"{name}\"; {}", names())))
}

fn names() -> String {
    let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
    format!("there are: {}, all", names.join(", "))
}

const BENCHES: &[(&str, Run)] = &[
    ("bfd", bfd::run),
    ("captures", captures::run),
    ("failover", failover::run),
    ("fib", fib::run),
    ("forward", forward::run),
    ("fulltable", fulltable::run),
    ("starve", starve::run),
    ("throughput", throughput::run),
];

/// First argument that makes this program the `nearhop` command.
pub const ROUTER: &str = "router";

/// First arguments of the other processes of a demo's lab.
const GUESTS: [&str; 2] = ["site", "probe"];

/// A target was missed.
const MISSED: u8 = 1;
