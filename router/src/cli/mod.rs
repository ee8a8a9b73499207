//! The `nearhop` command as a function, called by the binary and by the lab, which embeds the
//! router.
//!
//! Answers go to standard output, everything else to standard error. Exit status: 0 for success, 1
//! for an expectation that failed, 2 for wrong usage or configuration, 3 if the environment cannot
//! do what was asked, 4 if the router that `watch` follows has ended. If the reader closes standard output early, the command ends quietly.
#![forbid(unsafe_code)]

mod args;
mod cell;
mod check;
mod client;
mod complete;
mod lookup;
mod manual;
mod output;
mod run;
mod screen;
mod show;
pub mod socket;
mod table;
mod top;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command, PlaybookArgs, PlaybookCommand, SiteArgs, TakeOutArgs};
use output::Failure;

use crate::printable;

/// Runs the command. `args` are the arguments of a process; the first is its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // Usage errors quote them.
    let is_printable = |text: &str| !text.contains(printable::is_unprintable);
    let are_printable = args.iter().all(|arg| arg.to_str().is_some_and(is_printable));
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version take this path too. A closed pipe is no failure.
            if are_printable {
                let _ = error.print();
            } else {
                output::complain(&printable::lines(&error.render().to_string()));
            }
            return ExitCode::from(if error.use_stderr() { output::USAGE } else { 0 });
        }
    };
    dispatch(&cli.command).unwrap_or_else(Failure::report)
}

fn dispatch(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Show(args) => client::show(args),
        Command::Explain(args) => client::explain(args),
        Command::Watch(args) => watch::run(args),
        Command::Top(args) => top::run(args),
        Command::Drain(args) => match &args.site {
            Some(site) => client::put_override(&args.client, site, "drain", args.force),
            None => client::affect(&args.client, "/v1/drain-router"),
        },
        Command::Undrain(args) => match &args.site {
            Some(site) => client::put_override(&args.client, site, "undrain", false),
            None => client::affect(&args.client, "/v1/undrain-router"),
        },
        Command::Disable(TakeOutArgs { site: SiteArgs { site, client }, force }) => {
            client::put_override(client, site, "disable", *force)
        }
        Command::Enable(SiteArgs { site, client }) => {
            client::put_override(client, site, "enable", false)
        }
        Command::Playbook(PlaybookArgs { what }) => {
            let (PlaybookCommand::Apply(args) | PlaybookCommand::Undo(args)) = what;
            let verb = if matches!(what, PlaybookCommand::Apply(_)) { "apply" } else { "undo" };
            client::play(&args.client, verb, &args.playbook, args.force)
        }
        Command::Block(args) => client::block(&args.client, "block", &args.prefix, args.force),
        Command::Unblock(args) => client::block(&args.client, "unblock", &args.prefix, false),
        Command::Undamp(args) => client::undamp(args),
        Command::Clear(args) => client::clear(args),
        Command::Reload(args) => client::reload(args),
        Command::Lookup(args) => lookup::run(args),
        Command::Completions(args) => manual::completions(args.shell),
        Command::Man(args) => manual::man(args.dir.as_deref()),
        Command::Version => {
            output::answer(Cli::command().render_version().trim_end()).map(|()| ExitCode::SUCCESS)
        }
        Command::Complete(args) => complete::run(args),
    }
}
