//! The `nearlab` command.
#![forbid(unsafe_code)]

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use nearhop::config::Style;
use nearhop::printable;
use nearlab::sandbox::{self, Options};
use nearlab::scenario::{self, FileErrors, Scenario};
use nearlab::topology::Topology;
use nearlab::{demo, doctor, lab, sim, site, traffic, up};

/// Whole anycast networks out of Linux network namespaces.
#[derive(Parser)]
#[command(name = "nearlab", version, infer_subcommands = true)]
#[command(
    after_help = "Exit status: 0 all expectations hold, 1 one does not, 2 wrong usage or a wrong \
    file, 3 this machine cannot do what was asked."
)]
struct Nearlab {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build an anycast network, kill its parts, and measure what its clients saw.
    Demo(demo::DemoOptions),
    /// Play a scenario: build its lab, do what it says, and judge what came of it.
    Run(scenario::RunOptions),
    /// Check topology and scenario files, and show every mistake in them.
    Validate {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Try whole routers on a fake clock by faults from a seed, without a lab.
    Sim(sim::SimOptions),
    /// Build a lab, start its router, sites and traffic, and leave it up until Ctrl-C.
    Up(up::UpOptions),
    /// Say what this machine has for labs, and what mends it where it lacks something.
    Doctor {
        /// Print nearlab.doctor.v1.
        #[arg(long)]
        json: bool,
    },
    /// Enter a node of a lab that is up, or run a command there.
    Shell {
        /// Which lab, if several are up.
        #[arg(long)]
        lab: Option<String>,
        /// Which node.
        node: String,
        /// What to run instead of a shell.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write one page per command into a directory.
    Man {
        /// Directory for the pages; created if absent.
        dir: Option<PathBuf>,
    },
    /// Print the version.
    Version,
    /// Be a site: DNS, a web page and the probes' echo on its addresses.
    Site(site::SiteOptions),
    /// Be a client's prober, steered over standard input and output.
    #[command(hide = true)]
    Probe(traffic::ProbeOptions),
    /// Be the `nearhop` command.
    #[command(hide = true, disable_help_flag = true)]
    Router {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = nearlab::dispatch(&args) {
        return code;
    }
    let command = Nearlab::parse().command;
    if let Command::Router { args } = command {
        return nearhop::cli::main(std::iter::once("nearhop".into()).chain(args));
    }
    nearhop::logging::start("RUST_LOG", "warn");
    run(command).unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "error: {}", printable::lines(&error.to_string()));
        ExitCode::from(CANNOT)
    })
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Demo(options) => {
            sandbox::enter(&Options::named("demo"))?;
            Ok(if demo::run(&options)? { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
        }
        Command::Run(options) => play(&options),
        Command::Validate { files } => Ok(validate(&files)),
        Command::Sim(options) => {
            Ok(if sim::run(&options)? { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
        }
        Command::Up(options) => stand(&options),
        Command::Doctor { json } => {
            let report = doctor::run()?;
            let text = if json { serde_json::to_string(&report)? } else { report.to_string() };
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            Ok(if report.ok() { ExitCode::SUCCESS } else { ExitCode::from(CANNOT) })
        }
        Command::Shell { lab, node, command } => {
            let status = lab::shell(lab.as_deref(), &node, &command)?;
            Ok(status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .map_or(ExitCode::FAILURE, ExitCode::from))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Nearlab::command(), "nearlab", &mut script);
            print(&script)
        }
        Command::Man { dir } => man(dir.as_deref()),
        Command::Version => print(Nearlab::command().render_version().as_bytes()),
        Command::Site(options) => {
            site::run(&options).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Probe(options) => {
            traffic::probe::run(&options).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Router { .. } => Ok(ExitCode::from(CANNOT)),
    }
}

/// Writes to standard output, which its reader may have closed.
fn print(bytes: &[u8]) -> Result<ExitCode, Box<dyn Error>> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// One page for all commands on standard output, or a page for each in a folder.
fn man(dir: Option<&Path>) -> Result<ExitCode, Box<dyn Error>> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        Man::new(Nearlab::command()).render(&mut page)?;
        return print(&page);
    };
    fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Nearlab::command(), dir))
        .map_err(|error| format!("cannot write manual pages to {}: {error}", dir.display()))?;
    print(format!("manual pages are in {}\n", dir.display()).as_bytes())
}

/// A wrong file is found before anything is built.
fn play(options: &scenario::RunOptions) -> Result<ExitCode, Box<dyn Error>> {
    let mut scenario = match Scenario::load(&options.file) {
        Ok(scenario) => scenario,
        Err(errors) => return Ok(wrong(&errors)),
    };
    scenario.seed = options.seed.unwrap_or(scenario.seed);
    sandbox::enter(&Options::named(&scenario.name))?;
    Ok(if scenario::run(&scenario, options)? { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn stand(options: &up::UpOptions) -> Result<ExitCode, Box<dyn Error>> {
    let topology = match options.file.as_deref().map(scenario::load_topology) {
        None => Topology::three_sites(),
        Some(Ok(topology)) => topology,
        Some(Err(errors)) => return Ok(wrong(&errors)),
    };
    sandbox::enter(&Options::named(&topology.name))?;
    up::run(topology, options)?;
    Ok(ExitCode::SUCCESS)
}

fn validate(files: &[PathBuf]) -> ExitCode {
    let check = |file: &PathBuf| {
        match scenario::validate(file) {
            Ok(summary) => drop(writeln!(std::io::stdout(), "{}: ok: {summary}", file.display())),
            Err(errors) => return wrong(&errors),
        }
        ExitCode::SUCCESS
    };
    let codes: Vec<ExitCode> = files.iter().map(check).collect();
    codes.into_iter().find(|code| *code != ExitCode::SUCCESS).unwrap_or(ExitCode::SUCCESS)
}

/// Every mistake, on standard error.
fn wrong(errors: &FileErrors) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{}", errors.render(Style::of_stderr()));
    ExitCode::from(USAGE)
}

/// An expectation did not hold.
const FAILED: u8 = 1;

/// Wrong usage, or a wrong file.
const USAGE: u8 = 2;

/// The environment cannot do what was asked.
const CANNOT: u8 = 3;
