//! The `nearlab` command.
#![forbid(unsafe_code)]

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nearlab::{site, traffic};

/// Whole anycast networks out of Linux network namespaces.
#[derive(Parser)]
#[command(version)]
struct Nearlab {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Be a site: DNS, a web page and the probes' echo on its addresses.
    Site(site::SiteOptions),
    /// Be a client's prober, steered over standard input and output.
    Probe(traffic::ProbeOptions),
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let done: Result<(), Box<dyn Error>> = match Nearlab::parse().command {
        Command::Site(options) => site::run(&options).map_err(Into::into),
        Command::Probe(options) => traffic::probe::run(&options).map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(CANNOT)
        }
    }
}

/// The environment cannot do what was asked.
const CANNOT: u8 = 3;
