//! The command-line grammar.
#![forbid(unsafe_code)]

mod noun;
mod texts;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use self::texts::{BLOCK, DISABLE, DRAIN, ENABLE, LOOKUP, UNDRAIN, WATCH};
use super::watch::Since;
use crate::api::nouns::Noun;
use crate::event::EventKind;
use crate::logging::LogFormat;

/// A userspace router for anycast: one address, many sites, every packet to the nearest site that
/// is up.
#[derive(Debug, Parser)]
#[command(name = "nearhop", version, infer_subcommands = true)]
#[command(after_help = "Exit status: 0 success, 1 an expectation failed, 2 wrong usage or \
    configuration, 3 the environment cannot do what was asked, 4 the watched router has ended.")]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a router in the foreground until SIGTERM; SIGHUP reloads its file.
    Run(RunArgs),
    /// Check configuration files, and show every error in them.
    Check(CheckArgs),
    /// Show a running router's state.
    Show(ShowArgs),
    /// Explain where packets to an address go, and why not elsewhere.
    Explain(ExplainArgs),
    /// Follow a running router's events.
    #[command(long_about = WATCH)]
    Watch(WatchArgs),
    /// Live rates by port, verdict, service and site.
    Top(TopArgs),
    /// Drain a site: its flows move to other sites, and it serves only where nobody else is left.
    #[command(long_about = DRAIN)]
    Drain(DrainArgs),
    /// Use a drained site again.
    #[command(long_about = UNDRAIN)]
    Undrain(UndrainArgs),
    /// Disable a site: its flows move to other sites, and it never serves until it is enabled.
    #[command(long_about = DISABLE)]
    Disable(TakeOutArgs),
    /// Use a disabled site again.
    #[command(long_about = ENABLE)]
    Enable(SiteArgs),
    /// Apply a playbook, or undo it: a named set of changes to announcements.
    Playbook(PlaybookArgs),
    /// Block a prefix: its packets are discarded here, and by neighbours that have blackhole = true.
    #[command(long_about = BLOCK)]
    Block(BlockArgs),
    /// Use the routes of a blocked prefix again.
    Unblock(UnblockArgs),
    /// Reset flap damping: sites held down only by damping are used at once.
    Undamp(UndampArgs),
    /// Begin the session with a BGP neighbor again, or ask it for all of its routes.
    Clear(ClearArgs),
    /// Reload a running router's configuration file, completely or not at all.
    Reload(ForceArgs),
    /// Look up addresses in a file of routes, without a router.
    #[command(long_about = LOOKUP)]
    Lookup(LookupArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page, or write one page per command into a directory.
    Man(ManArgs),
    /// Print the version.
    Version,
    /// Print the names that the last of some words could be, for a completion script.
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete(CompleteArgs),
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// The configuration.
    pub(super) file: PathBuf,
    /// File to create when the router is ready: ports open, routes installed, every site's first
    /// result known.
    #[arg(long, value_name = "PATH")]
    pub(super) ready_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) socket: SocketArgs,
    /// Forget the drained and disabled sites that state-dir keeps: no site is drained or disabled.
    #[arg(long)]
    pub(super) forget_overrides: bool,
    #[command(flatten)]
    pub(super) log: LogArgs,
    /// Delay carrier-loss events by this many milliseconds, to test failover measurements.
    #[arg(long, value_name = "MS", hide = true)]
    pub(super) test_carrier_delay_ms: Option<u32>,
    /// Make the control thread panic at SIGUSR1, to test what stays behind.
    #[arg(long, hide = true)]
    pub(super) test_panic: bool,
}

/// What the daemon writes to standard error.
#[derive(Args, Debug)]
pub(super) struct LogArgs {
    /// Log what is this severe or more. Overrides NEARHOP_LOG, which is a level or levels by module, such
    /// as `info,nearhop::run=debug`; without either it is info.
    #[arg(long, value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub(super) log_level: Option<String>,
    /// Format of log lines: json is an object a line with ts, level and message.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "NEARHOP_LOG_FORMAT",
        value_enum,
        default_value = "text"
    )]
    pub(super) log_format: LogFormat,
}

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// The configurations, each checked by itself; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Print the findings as JSON on standard output.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
#[command(infer_subcommands = true, disable_help_subcommand = true)]
pub(super) struct ShowArgs {
    #[command(subcommand)]
    pub(super) noun: ShowNoun,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

/// A noun of `show`, and what of it is asked for: a subcommand for each row of their table.
#[derive(Clone, Debug)]
pub(super) struct ShowNoun {
    /// The noun in `/v1/show/NOUN`.
    pub(super) noun: &'static Noun,
    /// All, if `None`.
    pub(super) only: Option<String>,
    /// Of `routes`: which of them.
    pub(super) of: Option<&'static str>,
    /// Of `routes`: those of this BGP neighbour.
    pub(super) neighbor: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// Destination address.
    pub(super) address: IpAddr,
    /// Source address of a flow, to show the flow's site and link too.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) from: Option<IpAddr>,
    /// The flow's protocol: tcp, udp, icmp, icmpv6 or a number.
    #[arg(long, value_parser = protocol)]
    pub(super) proto: Option<u8>,
    /// The flow's source port.
    #[arg(long, value_name = "PORT")]
    pub(super) sport: Option<u16>,
    /// The flow's destination port.
    #[arg(long, value_name = "PORT")]
    pub(super) dport: Option<u16>,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct WatchArgs {
    /// Begin with remembered events: those of the last while (10m), from a time in UTC on (07:31:05,
    /// 2026-11-30T07:31:05Z), or from an event's seq on (4711).
    #[arg(long, value_name = "DURATION|TIME|SEQ")]
    pub(super) since: Option<Since>,
    /// Only events of this kind; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(EventKind::NAMES))]
    pub(super) kind: Vec<String>,
    /// Print JSON lines on a terminal too.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) socket: SocketArgs,
}

#[derive(Args, Debug)]
pub(super) struct TopArgs {
    /// Seconds between two updates.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    pub(super) interval: f64,
    /// Number of updates; unlimited by default.
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct SiteArgs {
    /// Name of the site.
    pub(super) site: String,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct DrainArgs {
    /// Name of the site.
    #[arg(required_unless_present = "router")]
    pub(super) site: Option<String>,
    /// The router: all that it announces by BGP is deprioritised, and withdrawn after drain-wait in [bgp].
    #[arg(long, conflicts_with_all = ["site", "force"])]
    pub(super) router: bool,
    /// Also if that leaves a service without a site (last-site-guard in [router]).
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct UndrainArgs {
    /// Name of the site.
    #[arg(required_unless_present = "router")]
    pub(super) site: Option<String>,
    /// The router, which announces what is well again.
    #[arg(long, conflicts_with = "site")]
    pub(super) router: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct PlaybookArgs {
    #[command(subcommand)]
    pub(super) what: PlaybookCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum PlaybookCommand {
    /// Apply a playbook; announcements change as its steps say, until it is undone.
    Apply(PlayArgs),
    /// Undo a playbook.
    Undo(PlayArgs),
}

#[derive(Args, Debug)]
pub(super) struct PlayArgs {
    /// Name of the playbook.
    pub(super) playbook: String,
    /// Also if that withdraws a service from all neighbours (last-site-guard in [router]).
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct BlockArgs {
    /// The prefix, or an address.
    pub(super) prefix: String,
    /// Also if the router's own address, a neighbour's or a service's is in it.
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct UnblockArgs {
    /// The blocked prefix, or an address.
    pub(super) prefix: String,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct TakeOutArgs {
    #[command(flatten)]
    pub(super) site: SiteArgs,
    /// Also if that leaves a service without a site (last-site-guard in [router]).
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Args, Debug)]
pub(super) struct ForceArgs {
    /// Also if that leaves a service without a site (last-site-guard in [router]).
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct UndampArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct ClearArgs {
    /// What has sessions.
    #[arg(value_enum)]
    pub(super) what: ClearNoun,
    /// Name or address of the neighbor.
    pub(super) neighbor: String,
    /// The session goes on: both sides announce all of their routes once more.
    #[arg(long)]
    pub(super) soft: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

/// What has sessions.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ClearNoun {
    /// BGP.
    Bgp,
}

#[derive(Args, Debug)]
pub(super) struct LookupArgs {
    /// Routes: lines of PREFIX NEXTHOP, uncompressed, gzip or zstd; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) routes: PathBuf,
    /// Print a line of JSON for each address.
    #[arg(long)]
    pub(super) json: bool,
    /// Addresses; by default, one per line on standard input.
    #[arg(value_name = "ADDRESS")]
    pub(super) addresses: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell.
    pub(super) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(super) struct CompleteArgs {
    /// Those of the line behind the program's name; the last is to be completed.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) words: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Directory for the pages; created if absent.
    pub(super) dir: Option<PathBuf>,
}

/// How to reach a running router, and how to print its answer.
#[derive(Args, Debug)]
pub(super) struct ClientArgs {
    /// Print the JSON document instead of a table.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Print every column whole; on a terminal, those that do not fit are left out, which a line says.
    #[arg(long, global = true)]
    pub(super) wide: bool,
    #[command(flatten)]
    pub(super) socket: SocketArgs,
}

/// The path of the control socket.
#[derive(Args, Debug)]
pub(super) struct SocketArgs {
    /// The control socket; by default a client uses the only one found.
    #[arg(long, value_name = "PATH", env = "NEARHOP_SOCKET", global = true)]
    pub(super) socket: Option<PathBuf>,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected 0.1 to 3600 seconds".to_owned())
}

/// Parses a protocol name or IANA number.
fn protocol(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "icmp" => Ok(1),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "icmpv6" => Ok(58),
        number => number
            .parse()
            .map_err(|_| "expected tcp, udp, icmp, icmpv6 or a number from 0 to 255".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn unambiguous_prefixes_are_enough() {
        for words in [
            &["nearhop", "sh", "ser", "--json"][..],
            &["nearhop", "show", "--json", "fib"],
            &["nearhop", "show", "bgp", "uplink"],
            &["nearhop", "show", "bgp", "advertised", "uplink", "--json"],
            &["nearhop", "dr", "fra"],
            &["nearhop", "drain", "--router", "--json"],
            &["nearhop", "undrain", "--router"],
            &["nearhop", "playbook", "apply", "away", "--force"],
            &["nearhop", "playbook", "undo", "away", "--json"],
            &["nearhop", "block", "203.0.113.7", "--force"],
            &["nearhop", "ex", "198.51.100.53", "--proto", "UDP", "--dport", "53"],
        ] {
            assert!(Cli::try_parse_from(words).is_ok(), "{words:?}");
        }
        for words in [
            &["nearhop", "r", "x.toml"][..],
            &["nearhop", "drain"],
            &["nearhop", "drain", "fra", "--router"],
            &["nearhop", "drain", "--router", "--force"],
            &["nearhop", "show"],
            &["nearhop", "show", "bgp-advertised"],
            &["nearhop", "explain", "dns"],
            &["nearhop", "explain", "::", "--proto", "256"],
        ] {
            assert!(Cli::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
